/* SPDX-License-Identifier: MIT
 * Unescapes JSON strings for the parser in json.cc, eight bytes a step between escapes; a pair of
 * surrogates becomes one character, a lone one U+FFFD. Owns nothing. */
#include "wire/json_unescape.h"

static int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  c = (char)(c | 0x20);
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The four hex digits at p, or -1. */
static int32_t hex4(const char *p, const char *end) {
  int32_t value = 0;
  if (end - p < 4) return -1;
  for (int i = 0; i < 4; i++) {
    int digit = hex_value(p[i]);
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

static char *put_utf8(char *out, uint32_t c) {
  if (c < 0x80) {
    *out++ = (char)c;
    return out;
  }
  if (c < 0x800) {
    *out++ = (char)(0xc0 | c >> 6);
  } else {
    if (c < 0x10000) {
      *out++ = (char)(0xe0 | c >> 12);
    } else {
      *out++ = (char)(0xf0 | c >> 18);
      *out++ = (char)(0x80 | (c >> 12 & 0x3f));
    }
    *out++ = (char)(0x80 | (c >> 6 & 0x3f));
  }
  *out++ = (char)(0x80 | (c & 0x3f));
  return out;
}

/* True when lw_json_escape would write the character c as these six bytes. */
static bool is_canonical(const char *six, uint32_t c) {
  bool has_short_form = c == '\b' || c == '\f' || c == '\n' || c == '\r' || c == '\t';
  return c < 0x20 && !has_short_form && (six[5] < 'A' || six[5] > 'F');
}

/* The \u escape whose backslash is at p; returns what follows it, NULL when it is none. */
static const char *unescape_u(const char *p, const char *end, char **out, bool *canonical) {
  int32_t unit = hex4(p + 2, end);
  if (unit < 0) return NULL;
  uint32_t c = (uint32_t)unit;
  if (!is_canonical(p, c)) *canonical = false;
  p += 6;
  if (c >= 0xd800 && c < 0xdc00 && end - p >= 6 && p[0] == '\\' && p[1] == 'u') {
    int32_t low = hex4(p + 2, end);
    if (low >= 0xdc00 && low < 0xe000) {
      c = 0x10000 + ((c - 0xd800) << 10) + ((uint32_t)low - 0xdc00);
      p += 6;
    }
  }
  if (c >= 0xd800 && c < 0xe000) c = 0xfffd;
  *out = put_utf8(*out, c);
  return p;
}

/* What follows the escape whose backslash is at p; NULL when there is no such escape. */
static const char *unescape_one(const char *p, const char *end, char **out, bool *canonical) {
  static const char letters[] = "\"\"\\\\//b\bf\fn\nr\rt\t";
  if (end - p < 2) return NULL;
  if (p[1] == 'u') return unescape_u(p, end, out, canonical);
  if (p[1] == '/') *canonical = false;
  for (size_t i = 0; i + 1 < sizeof letters; i += 2) {
    if (letters[i] != p[1]) continue;
    *(*out)++ = letters[i + 1];
    return p + 2;
  }
  return NULL;
}

/* Copies up to the next backslash or the end. */
static inline const char *copy_plain(const char *p, const char *end, char **out) {
  char *to = *out;
  uint64_t word, found = 0;
  while (p < end) {
    memcpy(&word, p, 8);
    memcpy(to, &word, 8);
    found = lw_json_find_backslash(word);
    if (found) break;
    p += 8;
    to += 8;
  }
  size_t step = found ? (size_t)__builtin_ctzll(found) / 8 : 0;
  p += step;
  to += step;
  if (p > end) { /* the last word was longer than the rest */
    to -= p - end;
    p = end;
  }
  *out = to;
  return p;
}

const char *lw_json_unescape(const char *p, const char *end, char **out, bool *canonical) {
  while ((p = copy_plain(p, end, out)) < end) {
    const char *next = unescape_one(p, end, out, canonical);
    if (!next) return p;
    p = next;
  }
  return p;
}
