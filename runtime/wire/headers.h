/* SPDX-License-Identifier: MIT
 * A list of header fields, and what RFC 9110 says about single fields: names, lists, hop-by-hop.
 * Two ways to hold bytes: borrowed (lw_headers_add_borrowed: the caller's block outlives the list)
 * or owned (lw_headers_add copies into the list's arena). Order and duplicates are kept. */
#pragma once

#include "floor/base.h"

typedef struct lw_header {
  lw_span name, value; /* value without surrounding whitespace */
} lw_header;

typedef struct lw_headers {
  lw_header *items; /* read-only; `count` of them */
  size_t count, capacity;
  struct lw_headers_block *arena; /* private: copies made by lw_headers_add */
} lw_headers;

void lw_headers_init(lw_headers *h);
void lw_headers_fini(lw_headers *h);
void lw_headers_clear(lw_headers *h); /* empties it; keeps the array for the next use */
void lw_headers_add_borrowed(lw_headers *h, lw_span name, lw_span value);
void lw_headers_add(lw_headers *h, lw_span name, lw_span value);
/* First field of that name (any case); false when there is none, *value is then {0,0}. */
bool lw_headers_get(const lw_headers *h, lw_span name, lw_span *value);
/* How many fields have that name. */
size_t lw_headers_count(const lw_headers *h, lw_span name);
/* Whether any field of that name lists `token` (comma-separated, any case). */
bool lw_headers_has_token(const lw_headers *h, lw_span name, lw_span token);

/* RFC 9110 §5.6.2 token, not empty. */
bool lw_header_name_ok(lw_span name);
/* RFC 9110 §5.5: VCHAR, obs-text, SP and HTAB, no leading or trailing whitespace; CR, LF, NUL and
 * other controls refused. May be empty. */
bool lw_header_value_ok(lw_span value);
/* Fields that concern one connection only (RFC 9110 §7.6.1): Connection and what it lists,
 * Keep-Alive, Proxy-Connection, Proxy-Authenticate, Proxy-Authorization, TE, Trailer,
 * Transfer-Encoding, Upgrade. `all` is the list the field stands in; NULL: judged by name alone. */
bool lw_header_is_hop_by_hop(const lw_headers *all, lw_span name);
/* A decimal Content-Length: digits only, <= INT64_MAX (RFC 9110 §8.6). */
bool lw_header_parse_length(lw_span value, uint64_t *length);
