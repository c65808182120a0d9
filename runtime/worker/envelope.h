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
  uint32_t payload;            /* node */
  bool has_session;            /* session_id is there and not null */
  lw_span session;
} lw_envelope;

/* 0, or the status to answer with the JSON body appended to `refusal` (at most 1 KB). */
int lw_envelope_read(const lw_json *j, lw_envelope *e, lw_buf *refusal);
