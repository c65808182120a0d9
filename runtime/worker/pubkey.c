/* SPDX-License-Identifier: MIT
 * The fetch of the public key, with its retries. Called by program/serve; gives the key to
 * worker/auth. Owns its one call at a time. */
#include "worker/pubkey.h"

#include <stdio.h>
#include <stdlib.h>

#include "exchange/address.h"
#include "exchange/upstream.h"
#include "floor/log.h"
#include "worker/pace.h"

enum {
  ATTEMPTS = 5, /* before it counts as an error */
  SLOW_RETRY_MS = 60000,
  PATIENCE_MS = 60000, /* also an error: so long without a key, however slow the answers are */
  ANSWER_MS = 10000,
  KEY_MAX = 65536,
};

static struct {
  char *addresses;
  lw_span rest; /* of addresses, in this attempt */
  lw_auth *auth;
  lw_pubkey_events events;
  lw_upstream *call;
  lw_wake wake, late;
  lw_timer retry, patience;
  unsigned attempt;
  char error[300];
  bool running, failed;
} fetch;

static void ask_next(void);

static void end_call(void) {
  if (fetch.call) lw_upstream_close(fetch.call);
  fetch.call = NULL;
  lw_wake_cancel(&fetch.wake); /* or what is left of it would count as the end of a wait */
}

static void tell_failure(void) {
  if (fetch.failed) return;
  fetch.failed = true;
  lw_timer_stop(&fetch.patience);
  char *shown = lw_address_shown_all(fetch.addresses);
  char *text = lw_printf_dup("Failed to get Serverless public key from %s: %s", shown,
                             *fetch.error ? fetch.error : "no answer yet");
  free(shown);
  lw_error("%s", text);
  if (fetch.events.on_failure) fetch.events.on_failure(text);
  free(text);
}

static void retry_later(void) {
  fetch.attempt++;
  bool slow = fetch.attempt >= ATTEMPTS;
  uint64_t wait_ms = slow ? SLOW_RETRY_MS : 1000u << (fetch.attempt - 1);
  lw_warn("no public key yet: %s; asking again in %u s", fetch.error, (unsigned)(wait_ms / 1000));
  lw_timer_start(&fetch.retry, lw_pace_ms(wait_ms));
  if (slow) tell_failure();
  if (fetch.events.on_retry) fetch.events.on_retry(fetch.error);
}

static void take_key(lw_span pem) {
  const char *why = NULL;
  if (lw_auth_set_key(fetch.auth, pem, &why) != LW_OK) {
    snprintf(fetch.error, sizeof fetch.error, "the answer is not a usable key: %s", why);
    end_call();
    ask_next();
    return;
  }
  end_call();
  fetch.failed = false;
  fetch.running = false;
  lw_timer_stop(&fetch.patience);
  lw_wake_cancel(&fetch.late); /* or an end of patience in this very turn would fail it after all */
  lw_info("got the public key from the autoscaler");
  if (fetch.events.on_key) fetch.events.on_key();
}

/* The whole (small) answer is waited for in the upstream's buffer. */
static void run_fetch(lw_wake *w) {
  (void)w;
  if (!fetch.call) {
    ask_next();
    return;
  }
  lw_code code = lw_upstream_head(fetch.call);
  if (code == LW_AGAIN) return;
  if (code == LW_OK && lw_upstream_status(fetch.call) == 200) {
    lw_code ending = lw_upstream_ending(fetch.call);
    lw_buf *in = lw_upstream_buf(fetch.call);
    if (ending == LW_AGAIN && in->size < KEY_MAX) return;
    if (ending == LW_EOF && in->size < KEY_MAX) {
      char pem[KEY_MAX];
      size_t n = 0;
      while (in->size) {
        lw_span piece = lw_buf_peek(in);
        memcpy(pem + n, piece.p, piece.n);
        n += piece.n;
        lw_buf_consume(in, piece.n);
      }
      take_key((lw_span){pem, n});
      return;
    }
    code = LW_PROTOCOL;
  }
  if (*lw_upstream_error(fetch.call)) {
    snprintf(fetch.error, sizeof fetch.error, "%s", lw_upstream_error(fetch.call));
  } else if (code == LW_OK) {
    snprintf(fetch.error, sizeof fetch.error, "status %d", lw_upstream_status(fetch.call));
  } else {
    snprintf(fetch.error, sizeof fetch.error, "the answer is too long for a key");
  }
  end_call();
  ask_next();
}

static void ask_next(void) {
  lw_span address;
  if (!lw_span_next(&fetch.rest, ',', &address)) {
    fetch.rest = lw_span_of(fetch.addresses);
    retry_later();
    return;
  }
  while (address.n && address.p[address.n - 1] == '/') address.n--;
  char *url = lw_printf_dup("%.*s/pubkey/", (int)address.n, address.p);
  fetch.call = lw_upstream_open(LW_SPAN("GET"), lw_span_of(url), &fetch.wake);
  free(url);
  lw_upstream_set_role(fetch.call, "autoscaler");
  lw_upstream_set_timeouts(fetch.call,
                           &(lw_upstream_timeouts){.connect_ms = 5000, .total_ms = ANSWER_MS});
  lw_upstream_start(fetch.call);
}

static void on_retry(lw_timer *t) {
  (void)t;
  lw_loop_wake(&fetch.wake);
}

static void on_patience(lw_timer *t) {
  (void)t;
  lw_loop_wake(&fetch.late);
}

static void run_late(lw_wake *w) {
  (void)w;
  tell_failure();
}

void lw_pubkey_start(const char *addresses, lw_auth *auth, const lw_pubkey_events *events) {
  assert(!fetch.running);
  fetch.addresses = lw_strdup(addresses);
  fetch.rest = lw_span_of(fetch.addresses);
  fetch.auth = auth;
  fetch.events = *events;
  fetch.attempt = 0;
  fetch.running = true;
  fetch.failed = false;
  fetch.error[0] = 0;
  lw_wake_init(&fetch.wake, run_fetch);
  lw_wake_init(&fetch.late, run_late);
  lw_timer_init(&fetch.retry, on_retry);
  lw_timer_init(&fetch.patience, on_patience);
  lw_timer_start(&fetch.patience, lw_pace_ms(PATIENCE_MS));
  ask_next();
}

void lw_pubkey_stop(void) {
  if (!fetch.addresses) return;
  end_call();
  lw_wake_cancel(&fetch.wake);
  lw_wake_cancel(&fetch.late);
  lw_timer_fini(&fetch.retry);
  lw_timer_fini(&fetch.patience);
  free(fetch.addresses);
  fetch.addresses = NULL;
  fetch.running = fetch.failed = false;
}
