/* SPDX-License-Identifier: MIT
 * Prints what Python's json.dumps(value, indent=4) prints of what its json.loads made of the same
 * text, byte for byte: the texts that signatures are made over. Every non-ASCII code unit (and DEL)
 * as lower-case \uXXXX, integers of any size digit for digit, floats as Python's repr. Pure; keeps
 * no state. `make canon` compares it with Python itself. */
#pragma once

#include "floor/buf.h"
#include "wire/json.h"

/* The value at `node`. sort_keys: members in the order of their keys' code points, at every depth;
 * else as they came. Of equal keys the last value counts, at the first one's place. LW_LIMIT when
 * out's limit was reached; a part was written then. */
lw_code lw_canon_value(lw_buf *out, const lw_json *j, uint32_t node, bool sort_keys) LW_MUST_CHECK;
/* An object of the members of `object` that are called names[0..n), in this order; those that are
 * absent are passed over. sort_keys: within their values. n <= LW_CANON_MEMBERS. */
#define LW_CANON_MEMBERS 8
lw_code lw_canon_members(lw_buf *out, const lw_json *j, uint32_t object, const char *const *names,
                         size_t n, bool sort_keys) LW_MUST_CHECK;

/* The whole of a JSON text, NUL-terminated, at most `limit` bytes; caller frees. LW_PROTOCOL: it is
 * no JSON; LW_LIMIT. */
lw_code lw_canon_text(lw_span text, bool sort_keys, size_t limit, char **out) LW_MUST_CHECK;

/* s as Python's ensure_ascii string, quotes included. s is valid UTF-8 (it came out of the JSON
 * parser); `out` has no limit. */
void lw_canon_string(lw_buf *out, lw_span s);
/* {"url": url} with an indent of 4: the signed text of the `url` scheme. `out` has no limit. */
void lw_canon_url_message(lw_buf *out, lw_span url);
