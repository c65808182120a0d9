/* SPDX-License-Identifier: MIT
 * One call to a server over libcurl: response head, body buffer, deadlines, and the sentence that
 * says what went wrong. Called by the pipe, shots, the script API and the worker rooms. Does not
 * poll (loop/multi does) and never calls its owner back but through the wake, or a sink's.
 *
 * Calls are pooled together with their curl handle and what it was told (exchange/asking). Owns the
 * pool, and of each call the buffer and the head. */
#include "exchange/upstream.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>

#include "exchange/address.h"
#include "exchange/asking.h"
#include "exchange/fault.h"
#include "exchange/lane.h"
#include "exchange/trust.h"
#include "loop/multi.h"
#include "wire/h1_answer.h"

enum {
  LOW_WATER = 16 * 1024,
  HIGH_WATER = 64 * 1024,
  MOST_POOLED = 128, /* idle handles; load tests have more calls, but few end without the next */
  MOST_ATTEMPTS = 2,
  DEFAULT_KEEP_MS = 4000,
};

typedef enum phase {
  SETUP,
  CONNECTING,
  WAITING,   /* connected, the request is being sent */
  RECEIVING, /* the final head has begun */
  ENDED
} phase;

struct lw_upstream {
  lw_transfer transfer;
  lw_lane_call lane; /* in its place, when on_lane */
  bool on_lane;
  lw_list node; /* in the pool */
  lw_wake *wake;
  lw_upstream_sink *sink; /* NULL: the body goes into buf */
  lw_wake stop;           /* takes a transfer out whose deadline has passed */
  lw_timer timer;
  const char *role;
  bool of_model; /* counted */
  lw_trust *trust;
  phase phase;
  lw_code ending; /* LW_AGAIN until ENDED */
  char *error;    /* owned; NULL: nothing is wrong */

  lw_asking asking;
  int attempts;

  lw_upstream_timeouts timeouts;
  uint64_t started_ms, moved_ms; /* moved: when the last piece of the answer came */
  uint64_t started_ns, sent_ns, first_byte_ns, ended_ns; /* 0: not yet */
  bool overdue; /* a deadline had passed when the timer fired: sockets get one more look */

  lw_h1_answer answer;
  uint64_t received;
  const char *refused; /* why our callbacks refused the answer; static */
  lw_buf buf;
  bool paused;
  char curl_error[CURL_ERROR_SIZE];
};

static struct {
  lw_list idle;
  unsigned idle_count, open_count;
  uint64_t model_bytes, keep_ms;
  lw_trust of_model, of_servers, of_others;
} pool = {.idle = {&pool.idle, &pool.idle}, .keep_ms = DEFAULT_KEEP_MS};

/* -- failing -- */

static void end(lw_upstream *u, lw_code ending) {
  u->phase = ENDED;
  u->ending = ending;
  u->paused = false;
  u->ended_ns = lw_now_ns();
  lw_asking_drop_body(&u->asking);
  lw_timer_stop(&u->timer);
  lw_loop_wake(u->wake);
}

/* Ends the call. `what` continues the sentence "<role> <origin> ..."; it is freed. */
static void fail(lw_upstream *u, lw_code code, char *what) {
  lw_span server = lw_address_origin(lw_span_of(u->asking.url));
  u->error = lw_printf_dup("%s %.*s %s", u->role, (int)server.n, server.p, what);
  free(what);
  end(u, code);
}

static void fail_lost(lw_upstream *u) {
  fail(u, LW_CLOSED, lw_fault_lost(&u->answer, u->received));
}

static void fail_protocol(lw_upstream *u, const char *detail) {
  fail(u, LW_PROTOCOL, lw_fault_protocol(&u->answer, u->received, detail));
}

static void fail_connect(lw_upstream *u) {
  long os_errno = u->transfer.socket_errno;
  if (os_errno == 0) curl_easy_getinfo(u->transfer.easy, CURLINFO_OS_ERRNO, &os_errno);
  fail(u, LW_IO, lw_fault_unreachable((int)os_errno));
}

static void fail_trust(lw_upstream *u, const char *detail) {
  long verdict = 0;
  curl_easy_getinfo(u->transfer.easy, CURLINFO_SSL_VERIFYRESULT, &verdict);
  const char *remedy = u->trust == &pool.of_model ? ": name its certificate with --model-ca" : "";
  fail(u, LW_IO, lw_trust_explain(verdict, detail, remedy));
}

static void fail_by_curl(lw_upstream *u, CURLcode result) {
  const char *detail = u->curl_error[0] ? u->curl_error : curl_easy_strerror(result);
  if (u->refused) {
    fail_protocol(u, u->refused);
    return;
  }
  switch (result) {
    case CURLE_OK: /* ended before the head did */
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_PARTIAL_FILE:
    case CURLE_ABORTED_BY_CALLBACK: /* on_connected(): an attempt too many */
      fail_lost(u);
      return;
    case CURLE_RECV_ERROR: /* also what curl says of bad chunks */
      if (strstr(detail, "chunked-encod")) {
        fail_protocol(u, detail);
      } else {
        fail_lost(u);
      }
      return;
    case CURLE_COULDNT_CONNECT:
      fail_connect(u);
      return;
    case CURLE_COULDNT_RESOLVE_HOST:
      fail(u, LW_IO, lw_strdup("has a host name that can't be resolved"));
      return;
    case CURLE_OPERATION_TIMEDOUT:
      if (u->phase == CONNECTING && u->timeouts.connect_ms) {
        fail(u, LW_TIMEOUT, lw_fault_connect(u->timeouts.connect_ms));
      } else {
        fail(u, LW_TIMEOUT, lw_strdup("did not connect in time")); /* curl's own patience, 5 min */
      }
      return;
    case CURLE_PEER_FAILED_VERIFICATION:
      fail_trust(u, detail);
      return;
    case CURLE_SSL_CONNECT_ERROR:
      fail(u, LW_IO, lw_fault_handshake(detail));
      return;
    default:
      break;
  }
  if (u->attempts == 0) { /* a URL that curl does not take, or files for TLS */
    fail(u, LW_IO, lw_printf_dup("can't be called: %s", detail));
  } else {
    fail_protocol(u, result == CURLE_OUT_OF_MEMORY ? "a line of more than 100 KB" : detail);
  }
}

/* -- deadlines: one lazy timer; progress is a store, at which the timer looks when it fires -- */

static uint64_t deadline(const lw_upstream *u, uint64_t now) {
  const lw_upstream_timeouts *t = &u->timeouts;
  uint64_t due = t->total_ms ? u->started_ms + t->total_ms : UINT64_MAX;
  if (u->phase == CONNECTING && t->connect_ms) due = LW_MIN(due, u->started_ms + t->connect_ms);
  if (u->phase < RECEIVING && t->first_byte_ms) due = LW_MIN(due, u->started_ms + t->first_byte_ms);
  if (u->phase == RECEIVING && t->idle_ms) {
    due = LW_MIN(due, (u->paused ? now : u->moved_ms) + t->idle_ms);
  }
  return due;
}

static void start_timer(lw_upstream *u, uint64_t now) {
  uint64_t due = deadline(u, now);
  if (due != UINT64_MAX) lw_timer_start(&u->timer, due > now ? due - now : 0);
}

static char *lateness(const lw_upstream *u, uint64_t now) {
  const lw_upstream_timeouts *t = &u->timeouts;
  uint64_t waited = now - u->started_ms;
  if (u->phase == CONNECTING && t->connect_ms && waited >= t->connect_ms) {
    return lw_fault_connect(t->connect_ms);
  }
  if (t->total_ms && waited >= t->total_ms) {
    return u->phase == CONNECTING ? lw_fault_connect(t->total_ms) : lw_fault_total(t->total_ms);
  }
  if (u->phase < RECEIVING) return lw_fault_first_byte(t->first_byte_ms);
  return lw_fault_idle(t->idle_ms, u->received);
}

static void on_timer(lw_timer *timer) {
  lw_upstream *u = LW_CONTAINER_OF(timer, lw_upstream, timer);
  uint64_t now = lw_now_ms();
  if (deadline(u, now) > now) {
    u->overdue = false;
    start_timer(u, now);
  } else if (!u->overdue) { /* if the loop itself was late, the answer may wait in the socket */
    u->overdue = true;
    lw_timer_start(timer, 1);
  } else {
    lw_loop_wake(&u->stop);
  }
}

static void take_out(lw_upstream *u) {
  if (u->on_lane) {
    lw_lane_cancel(&u->lane);
  } else {
    lw_multi_remove(&u->transfer);
  }
}

static void run_stop(lw_wake *wake) {
  lw_upstream *u = LW_CONTAINER_OF(wake, lw_upstream, stop);
  if (u->phase == ENDED) return;
  take_out(u);
  fail(u, LW_TIMEOUT, lateness(u, lw_now_ms()));
}

/* -- curl's callbacks: they only append, note and wake -- */

static void begin_sending(lw_upstream *u) {
  u->attempts++;
  u->phase = WAITING;
  u->sent_ns = lw_now_ns();
}

/* curl sends once more, by itself, when a reused connection broke before any byte of the answer. It
 * would take another pooled connection, as stale as the first, up to five times: so the second
 * attempt has to be on a fresh one, on which curl never tries again. */
static int on_connected(void *user, char *their_ip, char *our_ip, int their_port, int our_port) {
  (void)their_ip;
  (void)our_ip;
  (void)their_port;
  (void)our_port;
  lw_upstream *u = user;
  if (!lw_multi_is_connected(&u->transfer)) return CURL_PREREQFUNC_ABORT;
  if (u->attempts == MOST_ATTEMPTS) return CURL_PREREQFUNC_ABORT;
  begin_sending(u);
  curl_easy_setopt(u->transfer.easy, CURLOPT_FRESH_CONNECT, 1L);
  return CURL_PREREQFUNC_OK;
}

static size_t refuse(lw_upstream *u, const char *why) {
  u->refused = why;
  return 0; /* curl ends the transfer with an error when less was taken than it gave */
}

/* Once the whole request is sent and the answer has begun, curl can't want the bytes again. */
static void drop_sent_body(lw_upstream *u) {
  curl_off_t sent = 0;
  if (!u->asking.body) return;
  if (u->on_lane) {
    if (lw_lane_is_sent(&u->lane)) lw_asking_drop_body(&u->asking);
    return;
  }
  curl_easy_getinfo(u->transfer.easy, CURLINFO_SIZE_UPLOAD_T, &sent);
  if ((uint64_t)sent >= u->asking.bytes.n) lw_asking_drop_body(&u->asking);
}

/* Four fifths of what the server says, or a request crosses its close on the wire. */
static void note_keep_alive(lw_upstream *u) {
  uint64_t seconds;
  if (!lw_h1_answer_keep_alive(&u->answer, &seconds)) return;
  if (seconds < u->transfer.keep_ms / 800) u->transfer.keep_ms = seconds * 800;
}

/* Called for every whole line of a head, of interim heads and of trailers. */
static size_t on_header(char *p, size_t size, size_t count, void *user) {
  lw_upstream *u = user;
  lw_h1_answer *a = &u->answer;
  bool begun = a->begun, complete = a->complete;
  if (u->of_model) pool.model_bytes += size * count;
  const char *wrong = lw_h1_answer_line(a, (lw_span){p, size * count});
  if (wrong) return refuse(u, wrong);
  if (a->begun && !begun) {
    u->first_byte_ns = lw_now_ns();
    u->moved_ms = u->first_byte_ns / 1000000;
    u->phase = RECEIVING;
    if (u->timeouts.idle_ms) start_timer(u, u->moved_ms);
  }
  if (a->complete && !complete) {
    note_keep_alive(u);
    drop_sent_body(u);
    if (!u->sink) lw_loop_wake(u->wake);
  }
  return size * count;
}

static size_t pour(lw_upstream *u, lw_span bytes) {
  uint64_t now = lw_now_ns();
  u->received += bytes.n;
  u->moved_ms = now / 1000000;
  drop_sent_body(u);
  u->sink->pour(u->sink, bytes, now);
  return bytes.n;
}

static size_t on_body(char *p, size_t size, size_t count, void *user) {
  lw_upstream *u = user;
  size_t n = size * count;
  if (!u->answer.complete) return refuse(u, "a body without a head");
  if (u->sink) return pour(u, (lw_span){p, n});
  if (lw_buf_is_high(&u->buf)) {
    u->paused = true; /* curl keeps this piece, and brings it again when it is resumed */
    return CURL_WRITEFUNC_PAUSE;
  }
  lw_buf_add(&u->buf, p, n);
  u->received += n;
  if (u->of_model) pool.model_bytes += n;
  if (u->timeouts.idle_ms) u->moved_ms = lw_now_ms();
  drop_sent_body(u);
  lw_loop_wake(u->wake);
  return n;
}

static void on_done(lw_transfer *transfer, CURLcode result) {
  lw_upstream *u = LW_CONTAINER_OF(transfer, lw_upstream, transfer);
  if (result == CURLE_OK && u->answer.complete) {
    end(u, LW_EOF);
  } else {
    fail_by_curl(u, result);
  }
}

/* -- a lane's callbacks: the same -- */

static lw_upstream *of_lane(lw_lane_call *c) { return LW_CONTAINER_OF(c, lw_upstream, lane); }

static void lane_sending(lw_lane_call *c) { begin_sending(of_lane(c)); }

static bool lane_line(lw_lane_call *c, lw_span line) {
  lw_upstream *u = of_lane(c);
  bool taken = on_header((char *)line.p, 1, line.n, u) == line.n;
  c->keep_ms = u->transfer.keep_ms;
  return taken;
}

static void lane_body(lw_lane_call *c, lw_span bytes) { pour(of_lane(c), bytes); }

static void lane_done(lw_lane_call *c, lw_code code, int os_errno, const char *why) {
  lw_upstream *u = of_lane(c);
  if (code == LW_EOF) end(u, code);
  if (code == LW_IO) fail(u, code, lw_fault_unreachable(os_errno));
  if (code == LW_CLOSED) fail_lost(u);
  if (code == LW_PROTOCOL) fail_protocol(u, why ? why : u->refused);
}

static const lw_lane_ops lane_ops = {lane_sending, lane_line, lane_body, lane_done};

static void start_on_lane(lw_upstream *u, const lw_lane_address *to) {
  u->transfer.keep_ms = pool.keep_ms;
  u->lane = (lw_lane_call){
      .ops = &lane_ops,
      .answer = &u->answer,
      .head = lw_asking_head(&u->asking, to->host, to->path),
      .body = u->asking.bytes,
      .to_head = lw_asking_is_head(&u->asking),
      .keep_ms = u->transfer.keep_ms,
  };
  lw_lane_start(&u->lane, to);
}

/* -- the pool -- */

static void set_callbacks(lw_upstream *u) {
  CURL *easy = u->transfer.easy;
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, u->curl_error);
  curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_connected);
  curl_easy_setopt(easy, CURLOPT_PREREQDATA, u);
  curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(easy, CURLOPT_HEADERDATA, u);
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, u);
}

/* A curl handle costs as much as some requests: those that go by lanes have none. */
static void prepare(lw_upstream *u) {
  if (u->transfer.easy) return;
  lw_multi_prepare(&u->transfer, on_done);
  lw_asking_bind(&u->asking, u->transfer.easy);
  set_callbacks(u);
}

static lw_upstream *make(void) {
  lw_upstream *u = lw_calloc(1, sizeof *u);
  lw_wake_init(&u->stop, run_stop);
  lw_timer_init(&u->timer, on_timer);
  lw_h1_answer_init(&u->answer);
  return u;
}

static void destroy(lw_upstream *u) {
  if (u->transfer.easy) lw_multi_discard(&u->transfer);
  lw_timer_fini(&u->timer);
  lw_asking_fini(&u->asking);
  free(u);
}

/* Forgets all that belonged to the call that has ended; only room and curl options stay. */
static void clear(lw_upstream *u) {
  lw_asking_clear(&u->asking);
  lw_buf_fini(&u->buf);
  lw_h1_answer_fini(&u->answer);
  free(u->error);
  u->error = NULL;
  u->wake = NULL;
  u->sink = NULL;
  u->overdue = u->paused = u->on_lane = false;
  u->attempts = 0;
  u->received = 0;
  u->started_ns = u->sent_ns = u->first_byte_ns = u->ended_ns = 0;
  u->refused = NULL;
  u->timeouts = (lw_upstream_timeouts){0};
}

/* -- the owner's side -- */

lw_upstream *lw_upstream_open(lw_span method, lw_span url, lw_wake *wake) {
  lw_upstream *u;
  if (lw_list_empty(&pool.idle)) {
    u = make();
  } else {
    u = LW_CONTAINER_OF(pool.idle.prev, lw_upstream, node); /* the last one used is still warm */
    lw_list_remove(&u->node);
    pool.idle_count--;
  }
  pool.open_count++;
  u->wake = wake;
  lw_upstream_set_role(u, "server");
  u->phase = SETUP;
  u->ending = LW_AGAIN;
  lw_buf_init(&u->buf, LOW_WATER, HIGH_WATER, 0);
  lw_asking_open(&u->asking, method, url);
  return u;
}

void lw_upstream_set_wake(lw_upstream *u, lw_wake *wake) { u->wake = wake; }
void lw_upstream_set_sink(lw_upstream *u, lw_upstream_sink *sink) { u->sink = sink; }

void lw_upstream_set_role(lw_upstream *u, const char *role) {
  u->role = role;
  u->of_model = strcmp(role, "model") == 0;
  u->trust = &pool.of_others;
  if (u->of_model || strcmp(role, "health check") == 0) u->trust = &pool.of_model;
  if (strcmp(role, "server") == 0) u->trust = &pool.of_servers;
}

lw_code lw_upstream_header(lw_upstream *u, lw_span name, lw_span value) {
  assert(u->phase == SETUP);
  return lw_fields_add(&u->asking.fields, name, value);
}

void lw_upstream_set_fields(lw_upstream *u, const lw_fields *fields) {
  assert(u->phase == SETUP);
  lw_fields_copy(&u->asking.fields, fields);
}

void lw_upstream_body(lw_upstream *u, lw_body *owner, lw_span bytes) {
  assert(u->phase == SETUP);
  lw_asking_set_body(&u->asking, owner, bytes);
}

void lw_upstream_set_timeouts(lw_upstream *u, const lw_upstream_timeouts *t) { u->timeouts = *t; }

void lw_upstream_start(lw_upstream *u) {
  assert(u->phase == SETUP);
  u->started_ns = lw_now_ns();
  u->started_ms = u->started_ns / 1000000;
  const char *mistake = lw_asking_mistake(&u->asking);
  if (mistake) {
    fail(u, LW_IO, lw_printf_dup("can't be called: %s", mistake));
    return;
  }
  lw_lane_address to;
  u->on_lane = u->sink && lw_lane_address_of(lw_span_of(u->asking.url), &to);
  u->phase = CONNECTING;
  start_timer(u, u->started_ms);
  if (u->on_lane) {
    start_on_lane(u, &to);
    return;
  }
  prepare(u);
  lw_asking_apply(&u->asking, &(lw_asking_terms){u->trust->ca_file, u->trust->insecure,
                                                 u->timeouts.connect_ms});
  u->transfer.keep_ms = pool.keep_ms;
  curl_easy_setopt(u->transfer.easy, CURLOPT_FRESH_CONNECT, 0L);
  lw_multi_add(&u->transfer);
}

lw_code lw_upstream_head(const lw_upstream *u) { return u->answer.complete ? LW_OK : u->ending; }
int lw_upstream_status(const lw_upstream *u) { return u->answer.complete ? u->answer.status : 0; }
const lw_headers *lw_upstream_headers(const lw_upstream *u) { return &u->answer.headers; }

bool lw_upstream_length(const lw_upstream *u, uint64_t *length) {
  if (u->answer.has_length) *length = u->answer.length;
  return u->answer.has_length;
}

lw_buf *lw_upstream_buf(lw_upstream *u) { return &u->buf; }

void lw_upstream_consumed(lw_upstream *u) {
  if (!u->paused || !lw_buf_is_low(&u->buf)) return;
  u->paused = false;
  u->moved_ms = lw_now_ms();
  lw_multi_resume(&u->transfer);
}

lw_code lw_upstream_ending(const lw_upstream *u) { return u->ending; }
const char *lw_upstream_error(const lw_upstream *u) { return u->error ? u->error : ""; }
uint64_t lw_upstream_first_byte_ns(const lw_upstream *u) { return u->first_byte_ns; }

void lw_upstream_close(lw_upstream *u) {
  if (u->phase != SETUP && u->phase != ENDED) take_out(u);
  lw_wake_cancel(&u->stop);
  lw_timer_stop(&u->timer);
  clear(u);
  pool.open_count--;
  if (pool.idle_count >= MOST_POOLED) {
    destroy(u);
    return;
  }
  pool.idle_count++;
  lw_list_append(&pool.idle, &u->node);
}

unsigned lw_upstream_open_count(void) { return pool.open_count; }

uint64_t lw_upstream_model_bytes(void) { return pool.model_bytes; }

static double seconds_until(lw_upstream *u, CURLINFO info) {
  curl_off_t us = 0;
  curl_easy_getinfo(u->transfer.easy, info, &us);
  return (double)us * 1e-6;
}

void lw_upstream_get_times(lw_upstream *u, lw_upstream_times *out) {
  long fresh = 0;
  *out = (lw_upstream_times){
      .started_ns = u->started_ns,
      .sent_ns = u->sent_ns,
      .first_byte_ns = u->first_byte_ns,
      .ended_ns = u->ended_ns,
      .retried = u->attempts > 1,
  };
  if (u->phase == SETUP) return;
  if (u->on_lane) {
    uint64_t connected_ns = u->lane.connected_ns;
    out->connected = connected_ns || u->sent_ns;
    out->reused = u->lane.reused && u->sent_ns;
    out->retried = u->lane.retried;
    if (connected_ns) out->connect_s = (double)(connected_ns - u->lane.dialled_ns) * 1e-9;
    return;
  }
  if (!u->transfer.easy) return;
  curl_easy_getinfo(u->transfer.easy, CURLINFO_NUM_CONNECTS, &fresh);
  out->connected = fresh > 0 || u->sent_ns != 0;
  out->reused = fresh == 0 && u->sent_ns != 0;
  if (out->reused) return;
  double found = seconds_until(u, CURLINFO_NAMELOOKUP_TIME_T);
  double connected = seconds_until(u, CURLINFO_CONNECT_TIME_T);
  double shaken = seconds_until(u, CURLINFO_APPCONNECT_TIME_T);
  out->dns_s = found;
  out->connect_s = LW_MAX(connected - found, 0);
  out->tls_s = LW_MAX(shaken - connected, 0);
}

/* -- for all calls -- */

char *lw_upstream_set_trust(const char *ca_file) {
  return lw_trust_set(&pool.of_model, ca_file, false);
}
char *lw_upstream_set_server_trust(const char *ca_file, bool insecure) {
  return lw_trust_set(&pool.of_servers, ca_file, insecure);
}

void lw_upstream_set_keepalive(double seconds) {
  assert(seconds > 0);
  pool.keep_ms = (uint64_t)LW_MIN(seconds * 1000, 1e9);
}

void lw_upstream_shutdown(void) {
  assert(pool.open_count == 0);
  while (!lw_list_empty(&pool.idle)) {
    destroy(LW_CONTAINER_OF(lw_list_pop(&pool.idle), lw_upstream, node));
  }
  pool.idle_count = 0;
  lw_lane_shutdown();
  lw_multi_close();
}
