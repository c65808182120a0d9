/* SPDX-License-Identifier: MIT
 * Python's json.dumps, as far as signatures need it: ensure_ascii strings and the `url` message.
 * Called by worker/auth, which checks signatures over the printed text. Keeps no state. */
#include "wire/canon.h"

#include "wire/json.h"

static bool is_plain(unsigned char c) { return c >= 0x20 && c < 0x7f && c != '"' && c != '\\'; }

/* Takes the character at s[*i], which begins a well-formed sequence; U+FFFD should it not. */
static uint32_t take_character(lw_span s, size_t *i) {
  const unsigned char *p = (const unsigned char *)s.p + *i;
  size_t length = p[0] < 0x80 ? 1 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
  if (length > s.n - *i || lw_json_utf8_prefix((lw_span){s.p + *i, length}) < length) {
    *i += 1;
    return 0xfffd;
  }
  uint32_t c = length == 1 ? p[0] : p[0] & (0x7fU >> length);
  for (size_t k = 1; k < length; k++) c = c << 6 | (p[k] & 0x3fU);
  *i += length;
  return c;
}

static void put_unit(lw_buf *out, uint32_t unit) { lw_buf_printf(out, "\\u%04x", (unsigned)unit); }

static void put_escaped(lw_buf *out, uint32_t c) {
  static const char letters[] = "\"\"\\\\\bb\ff\nn\rr\tt";
  for (size_t i = 0; i + 1 < sizeof letters; i += 2) {
    if (c != (unsigned char)letters[i]) continue;
    lw_buf_add(out, (const char[2]){'\\', letters[i + 1]}, 2);
    return;
  }
  if (c < 0x10000) {
    put_unit(out, c);
    return;
  }
  put_unit(out, 0xd800 + ((c - 0x10000) >> 10));
  put_unit(out, 0xdc00 + ((c - 0x10000) & 0x3ff));
}

void lw_canon_string(lw_buf *out, lw_span s) {
  lw_buf_add(out, "\"", 1);
  for (size_t i = 0; i < s.n;) {
    size_t start = i;
    while (i < s.n && is_plain((unsigned char)s.p[i])) i++;
    if (i > start) lw_buf_add(out, s.p + start, i - start);
    if (i < s.n) put_escaped(out, take_character(s, &i));
  }
  lw_buf_add(out, "\"", 1);
}

void lw_canon_url_message(lw_buf *out, lw_span url) {
  lw_buf_add_span(out, LW_SPAN("{\n    \"url\": "));
  lw_canon_string(out, url);
  lw_buf_add_span(out, LW_SPAN("\n}"));
}
