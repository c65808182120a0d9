/* SPDX-License-Identifier: MIT
 * Which text the autoscaler signed (protocol §3: schemes `url`, `sorted`, `legacy`), and what else
 * makes a signed message good: not seen before, and meant for this worker's URL. The RSA work is
 * worker/auth's. */
#pragma once

#include "worker/auth.h"
#include "worker/envelope.h"

typedef enum lw_scheme_kind {
  LW_SCHEME_URL,
  LW_SCHEME_SORTED,
  LW_SCHEME_LEGACY,
  LW_SCHEME_KINDS
} lw_scheme_kind;

const char *lw_scheme_name(lw_scheme_kind kind);
/* names: one of the three or a comma list (spaces allowed), in order, into kinds. How many; 0 with
 * *why (static text). */
size_t lw_scheme_parse(const char *names, lw_scheme_kind kinds[LW_SCHEME_KINDS], const char **why);
/* The text that is signed under `kind` into out[LW_AUTH_MESSAGE_MAX], *n bytes; `e` was read from
 * j's auth_data. LW_LIMIT when it does not fit. */
lw_code lw_scheme_print(lw_scheme_kind kind, const lw_json *j, const lw_envelope *e, char *out,
                        size_t *n) LW_MUST_CHECK;

typedef struct lw_scheme lw_scheme; /* the schemes that are tried, and what they remember */

lw_scheme *lw_scheme_new(lw_auth *auth); /* `url` alone; auth is borrowed */
void lw_scheme_free(lw_scheme *s);
/* Tries these, in order. LW_PROTOCOL with *why (static text); then nothing changes. */
lw_code lw_scheme_set(lw_scheme *s, const char *names, const char **why) LW_MUST_CHECK;
/* mode "warn", "enforce" or "off"; advertised: this worker's URL (copied). NULL or "": it is not
 * known, so nothing is checked. */
lw_code lw_scheme_check_url(lw_scheme *s, const char *mode, const char *advertised) LW_MUST_CHECK;
/* False when only `legacy` is tried: it knows none. */
bool lw_scheme_needs_request_idx(const lw_scheme *s);

/* LW_OK; LW_BUSY: no key yet; LW_PROTOCOL: refused. *why says why (good until the next call; NULL
 * with LW_OK). `e` was read from j's auth_data. Logs the compared bytes at debug level when it
 * refuses.
 *
 * `sorted` and `legacy` refuse replays. They share one memory, since their numbers come from one
 * counter: the highest reqnum that verified, and the last 100 messages that did; another key
 * empties it. A message with e->has_session may come again: a session's requests carry the
 * auth_data that created it, and the session's id vouches for them (unknown ones get 410). */
#define LW_SCHEME_WINDOW 100
lw_code lw_scheme_verify(lw_scheme *s, const lw_json *j, const lw_envelope *e,
                         const char **why) LW_MUST_CHECK;
