/* SPDX-License-Identifier: MIT
 * The envelope of a client's request (protocol, "A client's request"):
 * {"auth_data": {...}, "payload": {...}, "session_id": ...}. Reads it out of parsed JSON or says
 * what is wrong in the words that clients expect. Pure. */
#pragma once

#include "floor/buf.h"
#include "wire/json.h"

typedef struct lw_envelope {
  lw_span url, signature, endpoint; /* unescaped; point into the document */
  double cost;
  int64_t reqnum, request_idx; /* -1: not a whole number */
  uint32_t auth, payload;      /* nodes */
  bool has_session;            /* session_id is there and not null */
  lw_span session;
} lw_envelope;

/* 0, or the status to answer with the JSON body appended to `refusal` (at most 1 KB).
 * needs_request_idx: false under the scheme that has none. */
int lw_envelope_read(const lw_json *j, bool needs_request_idx, lw_envelope *e, lw_buf *refusal);
/* The same for a document that is the auth_data itself. */
int lw_envelope_read_auth(const lw_json *j, bool needs_request_idx, lw_envelope *e,
                          lw_buf *refusal);
