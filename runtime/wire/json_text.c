/* SPDX-License-Identifier: MIT
 * The printing half of wire/json: strings to JSON text, and the UTF-8 check that it needs. Sixteen
 * bytes are looked at in one step, because most strings are long runs with nothing to escape.
 * Called by whoever writes JSON, and by Lua through script/api. Owns nothing. */
#include "wire/json.h"

#define BYTES(b) (UINT64_C(0x0101010101010101) * (b))

/* Length of the well-formed sequence at p (n > 0), or 0; then *skip is the length of the ill-formed
 * part to replace as one (Unicode 15, 3.9, "maximal subpart"). */
static size_t utf8_sequence(const unsigned char *p, size_t n, size_t *skip) {
  unsigned char c = p[0], low = 0x80, high = 0xbf;
  size_t length = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
  if (c < 0x80) return 1;
  *skip = 1;
  if (c < 0xc2 || c > 0xf4) return 0;
  if (c == 0xe0) low = 0xa0;
  if (c == 0xed) high = 0x9f;
  if (c == 0xf0) low = 0x90;
  if (c == 0xf4) high = 0x8f;
  for (size_t i = 1; i < length; i++) {
    if (i >= n || p[i] < low || p[i] > high) {
      *skip = i;
      return 0;
    }
    low = 0x80;
    high = 0xbf;
  }
  return length;
}

static inline uint64_t load8(const unsigned char *p) {
  uint64_t word;
  memcpy(&word, p, sizeof word);
  return word;
}

typedef unsigned char block __attribute__((vector_size(16)));

/* True when all 16 bytes at p are plain: ASCII without controls, quote, backslash. */
static inline bool is_plain_block(const unsigned char *p) {
  block bytes;
  uint64_t halves[2];
  memcpy(&bytes, p, sizeof bytes);
  block odd = (block)((bytes < 0x20) | (bytes == '"') | (bytes == '\\')) | (bytes & 0x80);
  memcpy(halves, &odd, sizeof halves);
  return (halves[0] | halves[1]) == 0;
}

/* Bytes from p on that stand in a JSON string as they are. */
static size_t plain_run(const unsigned char *p, size_t n) {
  size_t i = 0;
  while (i + 16 <= n && is_plain_block(p + i)) i += 16;
  while (i < n && p[i] >= 0x20 && p[i] < 0x80 && p[i] != '"' && p[i] != '\\') i++;
  return i;
}

size_t lw_json_utf8_prefix(lw_span s) {
  const unsigned char *p = (const unsigned char *)s.p;
  size_t i = 0, skip;
  while (i < s.n) {
    if (i + 8 <= s.n && (load8(p + i) & BYTES(0x80)) == 0) {
      i += 8;
      continue;
    }
    size_t length = utf8_sequence(p + i, s.n - i, &skip);
    if (length == 0) return i;
    i += length;
  }
  return i;
}

/* Writes what stands for the one control, quote or backslash. */
static size_t escape_ascii(char *out, unsigned char c) {
  static const char hex[] = "0123456789abcdef";
  char short_form = 0;
  switch (c) {
    case '"':
    case '\\':
      short_form = (char)c;
      break;
    case '\b':
      short_form = 'b';
      break;
    case '\f':
      short_form = 'f';
      break;
    case '\n':
      short_form = 'n';
      break;
    case '\r':
      short_form = 'r';
      break;
    case '\t':
      short_form = 't';
      break;
    default:
      break;
  }
  out[0] = '\\';
  if (short_form) {
    out[1] = short_form;
    return 2;
  }
  memcpy(out + 1, "u00", 3);
  out[4] = hex[c >> 4];
  out[5] = hex[c & 15];
  return 6;
}

/* Writes what stands for the bytes at p, which are not plain; *taken of them were used. */
static size_t escape_one(char *out, const unsigned char *p, size_t n, size_t *taken) {
  *taken = 1;
  if (p[0] < 0x80) return escape_ascii(out, p[0]);
  size_t length = utf8_sequence(p, n, taken);
  if (length == 0) {
    memcpy(out, "\xef\xbf\xbd", 3);
    return 3;
  }
  memcpy(out, p, length);
  *taken = length;
  return length;
}

size_t lw_json_escaped_size(lw_span s) {
  const unsigned char *p = (const unsigned char *)s.p;
  char scratch[6];
  size_t size = 2, i = 0, taken;
  while (i < s.n) {
    size_t run = plain_run(p + i, s.n - i);
    size += run;
    i += run;
    if (i == s.n) break;
    size += escape_one(scratch, p + i, s.n - i, &taken);
    i += taken;
  }
  return size;
}

size_t lw_json_escape(char *out, lw_span s) {
  const unsigned char *p = (const unsigned char *)s.p;
  char *to = out;
  size_t i = 0, taken;
  *to++ = '"';
  while (i < s.n) {
    size_t run = plain_run(p + i, s.n - i);
    memcpy(to, p + i, run);
    to += run;
    i += run;
    if (i == s.n) break;
    to += escape_one(to, p + i, s.n - i, &taken);
    i += taken;
  }
  *to++ = '"';
  return (size_t)(to - out);
}
