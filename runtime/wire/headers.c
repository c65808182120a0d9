/* SPDX-License-Identifier: MIT
 * Header field lists and the single-field rules of RFC 9110: what a name and a value may hold,
 * which fields end with a connection, how a length is read. Does not parse or print messages:
 * h1_parse and h1_write do, and call this, as upstream and the script API do. Owns each list's
 * array and arena. */
#include "wire/headers.h"

#include <stdlib.h>

#define FIRST_ITEMS 8
#define BLOCK_BYTES 248

/* Copies are cut from the newest block; a block is never moved, so spans into it stay good. */
struct lw_headers_block {
  struct lw_headers_block *older;
  size_t used, capacity;
  char bytes[];
};

void lw_headers_init(lw_headers *h) { *h = (lw_headers){0}; }

void lw_headers_clear(lw_headers *h) {
  while (h->arena) {
    struct lw_headers_block *block = h->arena;
    h->arena = block->older;
    free(block);
  }
  h->count = 0;
}

void lw_headers_fini(lw_headers *h) {
  lw_headers_clear(h);
  free(h->items);
  lw_headers_init(h);
}

void lw_headers_add_borrowed(lw_headers *h, lw_span name, lw_span value) {
  if (h->count == h->capacity) {
    h->capacity = h->capacity ? h->capacity * 2 : FIRST_ITEMS;
    h->items = lw_realloc(h->items, h->capacity * sizeof *h->items);
  }
  h->items[h->count++] = (lw_header){name, value};
}

static char *arena_room(lw_headers *h, size_t n) {
  struct lw_headers_block *block = h->arena;
  if (!block || block->capacity - block->used < n) {
    size_t capacity = LW_MAX(n, (size_t)BLOCK_BYTES);
    block = lw_alloc(sizeof *block + capacity);
    block->older = h->arena;
    block->used = 0;
    block->capacity = capacity;
    h->arena = block;
  }
  char *p = block->bytes + block->used;
  block->used += n;
  return p;
}

void lw_headers_add(lw_headers *h, lw_span name, lw_span value) {
  char *p = arena_room(h, name.n + value.n);
  if (name.n > 0) memcpy(p, name.p, name.n);
  if (value.n > 0) memcpy(p + name.n, value.p, value.n);
  lw_headers_add_borrowed(h, (lw_span){p, name.n}, (lw_span){p + name.n, value.n});
}

bool lw_headers_get(const lw_headers *h, lw_span name, lw_span *value) {
  for (size_t i = 0; i < h->count; i++) {
    if (lw_span_ieq(h->items[i].name, name)) {
      *value = h->items[i].value;
      return true;
    }
  }
  *value = (lw_span){0, 0};
  return false;
}

size_t lw_headers_count(const lw_headers *h, lw_span name) {
  size_t count = 0;
  for (size_t i = 0; i < h->count; i++) count += lw_span_ieq(h->items[i].name, name);
  return count;
}

bool lw_headers_has_token(const lw_headers *h, lw_span name, lw_span token) {
  for (size_t i = 0; i < h->count; i++) {
    if (!lw_span_ieq(h->items[i].name, name)) continue;
    lw_span rest = h->items[i].value, item;
    while (lw_span_next(&rest, ',', &item)) {
      if (lw_span_ieq(item, token)) return true;
    }
  }
  return false;
}

/* tchar = "!" / "#" / "$" / "%" / "&" / "'" / "*" / "+" / "-" / "." / "^" / "_" / "`" / "|" / "~"
 *       / DIGIT / ALPHA: a bit for each, 64 bytes values a word. */
static const uint64_t tchar[4] = {0x03ff6cfa00000000u, 0x57ffffffc7fffffeu, 0, 0};

bool lw_header_name_ok(lw_span name) {
  for (size_t i = 0; i < name.n; i++) {
    unsigned char c = (unsigned char)name.p[i];
    if (!(tchar[c >> 6] >> (c & 63) & 1)) return false;
  }
  return name.n > 0;
}

static inline bool is_value_byte(unsigned char c) { return (c >= 0x20 || c == '\t') && c != 0x7f; }

/* Whether one of the eight bytes is below 0x20, or is 0x7f. */
static inline bool has_control(uint64_t eight) {
  const uint64_t ones = 0x0101010101010101u, tops = ones * 0x80;
  uint64_t less = (eight - ones * 0x20) & ~eight;
  uint64_t zero_if_del = eight ^ ones * 0x7f;
  uint64_t del = (zero_if_del - ones) & ~zero_if_del;
  return ((less | del) & tops) != 0;
}

bool lw_header_value_ok(lw_span value) {
  size_t i = 0;
  for (; value.n - i >= 8; i += 8) {
    uint64_t eight;
    memcpy(&eight, value.p + i, 8);
    if (!has_control(eight)) continue;
    for (size_t j = i; j < i + 8; j++) { /* it may be a tab, which is fine */
      if (!is_value_byte((unsigned char)value.p[j])) return false;
    }
  }
  for (; i < value.n; i++) {
    if (!is_value_byte((unsigned char)value.p[i])) return false;
  }
  return lw_span_trim(value).n == value.n;
}

static bool is_connection_field(lw_span name) {
  switch (name.n) {
    case 2:
      return lw_span_ieq(name, LW_SPAN("TE"));
    case 7:
      return lw_span_ieq(name, LW_SPAN("Trailer")) || lw_span_ieq(name, LW_SPAN("Upgrade"));
    case 10:
      return lw_span_ieq(name, LW_SPAN("Connection")) || lw_span_ieq(name, LW_SPAN("Keep-Alive"));
    case 16:
      return lw_span_ieq(name, LW_SPAN("Proxy-Connection"));
    case 17:
      return lw_span_ieq(name, LW_SPAN("Transfer-Encoding"));
    case 18:
      return lw_span_ieq(name, LW_SPAN("Proxy-Authenticate"));
    case 19:
      return lw_span_ieq(name, LW_SPAN("Proxy-Authorization"));
    default:
      return false;
  }
}

bool lw_header_is_hop_by_hop(const lw_headers *all, lw_span name) {
  if (is_connection_field(name)) return true;
  return all && lw_headers_has_token(all, LW_SPAN("Connection"), name);
}

bool lw_header_parse_length(lw_span value, uint64_t *length) {
  uint64_t total = 0;
  for (size_t i = 0; i < value.n; i++) {
    unsigned digit = (unsigned)(unsigned char)value.p[i] - '0';
    if (digit > 9 || total > ((uint64_t)INT64_MAX - digit) / 10) return false;
    total = total * 10 + digit;
  }
  if (value.n == 0) return false;
  *length = total;
  return true;
}
