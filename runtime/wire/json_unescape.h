/* SPDX-License-Identifier: MIT
 * A JSON string's inside to the bytes it means. Private to wire/json. */
#pragma once

#include "wire/json.h"

/* Words are searched for their first backslash from the low byte up. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "little-endian machines only");

/* Non-zero when one of the word's bytes is a backslash; its lowest set bit is in the first such. */
static inline uint64_t lw_json_find_backslash(uint64_t word) {
  const uint64_t ones = UINT64_C(0x0101010101010101);
  word ^= ones * '\\';
  return (word - ones) & ~word & (ones * 0x80);
}

/* Unescapes p..end (between the quotes) to *out, which gets no more bytes than were there, and may
 * be written LW_JSON_OVERRUN bytes beyond that. Up to 7 bytes after `end` are read. Moves *out to
 * the end of what it wrote; *canonical becomes false when lw_json_escape would print another text.
 * Returns `end`, or the backslash of an escape that does not exist. */
#define LW_JSON_OVERRUN 8
const char *lw_json_unescape(const char *p, const char *end, char **out, bool *canonical);
