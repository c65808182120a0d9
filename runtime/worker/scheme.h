/* SPDX-License-Identifier: MIT
 * Which text the autoscaler signed (protocol §3: schemes `url`, `sorted`, `legacy`), and what else
 * makes a signed message good: not seen before, and meant for this worker's URL. The RSA work is
 * worker/auth's. */
#pragma once

#include "worker/auth.h"
#include "worker/envelope.h"

typedef struct lw_scheme lw_scheme; /* the schemes that are tried, and what they remember */

lw_scheme *lw_scheme_new(lw_auth *auth); /* `url` alone; auth is borrowed */
void lw_scheme_free(lw_scheme *s);
/* names: one of the three or a comma list, tried in order. LW_PROTOCOL with *why (static text). */
lw_code lw_scheme_set(lw_scheme *s, const char *names, const char **why) LW_MUST_CHECK;
/* mode "warn", "enforce" or "off"; advertised: this worker's URL (copied). */
lw_code lw_scheme_check_url(lw_scheme *s, const char *mode, const char *advertised) LW_MUST_CHECK;
/* False when only `legacy` is tried: it knows none. */
bool lw_scheme_needs_request_idx(const lw_scheme *s);
/* LW_OK; LW_BUSY: no key yet; LW_PROTOCOL: refused. *why says why (static text). `e` was read from
 * j's auth_data. Logs the compared bytes at debug level when it refuses. */
lw_code lw_scheme_verify(lw_scheme *s, const lw_json *j, const lw_envelope *e,
                         const char **why) LW_MUST_CHECK;
