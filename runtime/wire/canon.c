/* SPDX-License-Identifier: MIT
 * Python's json.dumps(json.loads(text), indent=4), printed from the parsed nodes and, where those
 * have lost something (lone surrogates, long integers), from the original text. Called by
 * worker/auth and worker/scheme, which check signatures over the printed text, and by Lua through
 * script/api. Owns nothing that outlives a call. */
#include "wire/canon.h"

#include <math.h>
#include <stdlib.h>

#include "wire/doc.h"

typedef struct printer {
  lw_buf *out;
  const lw_json *j;
  bool sort_keys;
  lw_code code; /* once not LW_OK, nothing more is written */
} printer;

/* One member to print. Nodes are in document order, so the key's is also its place. */
typedef struct member {
  uint32_t key, value;
} member;

static void put(printer *p, const char *bytes, size_t n) {
  if (p->code == LW_OK) p->code = lw_buf_append(p->out, bytes, n);
}

static void put_span(printer *p, lw_span s) { put(p, s.p, s.n); }

/* -- strings -- */

static bool is_plain(unsigned char c) { return c >= 0x20 && c < 0x7f && c != '"' && c != '\\'; }

/* Takes the character that begins a well-formed sequence off *s; U+FFFD should it not. */
static uint32_t take_utf8(lw_span *s) {
  const unsigned char *p = (const unsigned char *)s->p;
  size_t length = p[0] < 0x80 ? 1 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
  uint32_t c = 0xfffd;
  if (length > s->n || lw_json_utf8_prefix((lw_span){s->p, length}) < length) {
    length = 1;
  } else {
    c = length == 1 ? p[0] : p[0] & (0x7fU >> length);
    for (size_t k = 1; k < length; k++) c = c << 6 | (p[k] & 0x3fU);
  }
  *s = (lw_span){s->p + length, s->n - length};
  return c;
}

static uint32_t hex4(const char *p) {
  uint32_t value = 0;
  for (int i = 0; i < 4; i++) {
    uint32_t c = (unsigned char)p[i];
    value = value << 4 | (c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
  }
  return value;
}

/* Takes one \u escape off *s when its unit is within low..high; else takes nothing and says so. */
static bool take_unit(lw_span *s, uint32_t low, uint32_t high, uint32_t *unit) {
  if (s->n < 6 || s->p[0] != '\\' || s->p[1] != 'u') return false;
  *unit = hex4(s->p + 2);
  if (*unit < low || *unit > high) return false;
  *s = (lw_span){s->p + 6, s->n - 6};
  return true;
}

/* Takes a code point off the inside of a JSON string that the parser has accepted. Like Python's,
 * it may be a lone surrogate. */
static uint32_t take_point(lw_span *s) {
  static const char letters[] = "\"\"\\\\//b\bf\fn\nr\rt\t";
  uint32_t c, low;
  if (s->p[0] != '\\') return take_utf8(s);
  if (take_unit(s, 0, 0xffff, &c)) {
    bool pair = c >= 0xd800 && c < 0xdc00 && take_unit(s, 0xdc00, 0xdfff, &low);
    return pair ? 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00) : c;
  }
  size_t i = 0;
  while (letters[i] != s->p[1]) i += 2;
  *s = (lw_span){s->p + 2, s->n - 2};
  return (unsigned char)letters[i + 1];
}

static void put_unit(printer *p, uint32_t unit) {
  static const char digits[] = "0123456789abcdef";
  char text[6] = {'\\', 'u'};
  for (int i = 0; i < 4; i++) text[2 + i] = digits[unit >> (12 - 4 * i) & 15];
  put(p, text, sizeof text);
}

static void put_point(printer *p, uint32_t c) {
  static const char letters[] = "\"\"\\\\\bb\ff\nn\rr\tt";
  if (c < 0x80 && is_plain((unsigned char)c)) {
    put(p, (const char[1]){(char)c}, 1);
    return;
  }
  for (size_t i = 0; i + 1 < sizeof letters; i += 2) {
    if (c != (unsigned char)letters[i]) continue;
    put(p, (const char[2]){'\\', letters[i + 1]}, 2);
    return;
  }
  if (c < 0x10000) {
    put_unit(p, c);
    return;
  }
  put_unit(p, 0xd800 + ((c - 0x10000) >> 10));
  put_unit(p, 0xdc00 + ((c - 0x10000) & 0x3ff));
}

/* take: how a character is read that does not stand for itself. */
static void print_string(printer *p, lw_span s, uint32_t (*take)(lw_span *)) {
  put(p, "\"", 1);
  while (s.n && p->code == LW_OK) {
    size_t run = 0;
    while (run < s.n && is_plain((unsigned char)s.p[run])) run++;
    put(p, s.p, run);
    s = (lw_span){s.p + run, s.n - run};
    if (s.n) put_point(p, take(&s));
  }
  put(p, "\"", 1);
}

/* What stands between the quotes. */
static lw_span inside(const lw_json *j, uint32_t node) {
  lw_span s = lw_json_text(j, node);
  return (lw_span){s.p + 1, s.n - 2};
}

/* As Python compares str: by code points, lone surrogates among them. */
static int compare_strings(const lw_json *j, uint32_t a, uint32_t b) {
  lw_span x = inside(j, a), y = inside(j, b);
  if (!j->nodes[a].escaped && !j->nodes[b].escaped) { /* UTF-8 sorts by code points */
    int order = memcmp(x.p, y.p, LW_MIN(x.n, y.n));
    return order ? order : (x.n > y.n) - (x.n < y.n);
  }
  while (x.n && y.n) {
    uint32_t c = take_point(&x), d = take_point(&y);
    if (c != d) return c < d ? -1 : 1;
  }
  return (x.n > 0) - (y.n > 0);
}

/* -- numbers -- */

static void print_number(printer *p, uint32_t node) {
  lw_span text = lw_json_text(p->j, node);
  bool is_float =
      memchr(text.p, '.', text.n) || memchr(text.p, 'e', text.n) || memchr(text.p, 'E', text.n);
  if (!is_float) { /* an int of Python's knows no -0 and has no bounds */
    put_span(p, lw_span_eq(text, LW_SPAN("-0")) ? LW_SPAN("0") : text);
    return;
  }
  char out[32];
  double v = p->j->nodes[node].number;
  size_t n = lw_json_number_text(out, v);
  if (isinf(v)) {
    put_span(p, v < 0 ? LW_SPAN("-Infinity") : LW_SPAN("Infinity"));
    return;
  }
  put(p, out, n);
  if (!memchr(out, '.', n) && !memchr(out, 'e', n)) put(p, ".0", 2);
}

/* -- containers -- */

static void put_line(printer *p, unsigned depth) {
  static const char spaces[] = "                                                                ";
  put(p, "\n", 1);
  for (size_t left = 4u * depth, part; left && p->code == LW_OK; left -= part) {
    part = LW_MIN(left, sizeof spaces - 1);
    put(p, spaces, part);
  }
}

static void print_value(printer *p, uint32_t node, unsigned depth);

static void print_array(printer *p, uint32_t array, unsigned depth) {
  const lw_json_node *nodes = p->j->nodes;
  put(p, "[", 1);
  for (uint32_t i = array + 1; i < nodes[array].next && p->code == LW_OK; i = nodes[i].next) {
    if (i > array + 1) put(p, ",", 1);
    put_line(p, depth + 1);
    print_value(p, i, depth + 1);
  }
  if (nodes[array].count) put_line(p, depth);
  put(p, "]", 1);
}

static void print_members(printer *p, const member *members, size_t n, unsigned depth) {
  put(p, "{", 1);
  for (size_t i = 0; i < n && p->code == LW_OK; i++) {
    if (i) put(p, ",", 1);
    put_line(p, depth + 1);
    print_string(p, inside(p->j, members[i].key), take_point);
    put(p, ": ", 2);
    print_value(p, members[i].value, depth + 1);
  }
  if (n) put_line(p, depth);
  put(p, "}", 1);
}

static int by_place(const void *a, const void *b) {
  const member *x = a, *y = b;
  return (x->key > y->key) - (x->key < y->key);
}

static int by_key(const void *a, const void *b, void *json) {
  const member *x = a, *y = b;
  int order = compare_strings(json, x->key, y->key);
  return order ? order : by_place(a, b);
}

/* Each key once, with its last value at its first place; how many are left. */
static size_t unite_equal(const lw_json *j, member *members, size_t n) {
  size_t kept = 0;
  for (size_t i = 0; i < n; i++) {
    if (kept && compare_strings(j, members[kept - 1].key, members[i].key) == 0) {
      members[kept - 1].value = members[i].value;
    } else {
      members[kept++] = members[i];
    }
  }
  return kept;
}

static void print_object(printer *p, uint32_t object, unsigned depth) {
  const lw_json_node *nodes = p->j->nodes;
  size_t n = 0;
  member *members = lw_alloc((nodes[object].count + 1) * sizeof *members);
  for (uint32_t i = object + 1; i < nodes[object].next; i = nodes[i + 1].next) {
    members[n++] = (member){i, i + 1};
  }
  if (n > 1) {
    qsort_r(members, n, sizeof *members, by_key, (void *)p->j);
    n = unite_equal(p->j, members, n);
    if (!p->sort_keys) qsort(members, n, sizeof *members, by_place);
  }
  print_members(p, members, n, depth);
  free(members);
}

/* As deep as the parser allows, 512. */
static void print_value(printer *p, uint32_t node, unsigned depth) {
  switch (p->j->nodes[node].kind) {
    case LW_JSON_OBJECT:
      print_object(p, node, depth);
      break;
    case LW_JSON_ARRAY:
      print_array(p, node, depth);
      break;
    case LW_JSON_STRING:
      print_string(p, inside(p->j, node), take_point);
      break;
    case LW_JSON_NULL:
    case LW_JSON_FALSE:
    case LW_JSON_TRUE:
      put_span(p, lw_json_text(p->j, node));
      break;
    default:
      print_number(p, node);
      break;
  }
}

lw_code lw_canon_value(lw_buf *out, const lw_json *j, uint32_t node, bool sort_keys) {
  printer p = {out, j, sort_keys, LW_OK};
  print_value(&p, node, 0);
  return p.code;
}

lw_code lw_canon_members(lw_buf *out, const lw_json *j, uint32_t object, const char *const *names,
                         size_t n, bool sort_keys) {
  printer p = {out, j, sort_keys, LW_OK};
  member members[LW_CANON_MEMBERS];
  size_t found = 0;
  assert(n <= LW_ARRAY_SIZE(members));
  for (size_t i = 0; i < n; i++) {
    uint32_t value = lw_json_member(j, object, lw_span_of(names[i]));
    if (value) members[found++] = (member){value - 1, value};
  }
  print_members(&p, members, found, 0);
  return p.code;
}

lw_code lw_canon_text(lw_span text, bool sort_keys, size_t limit, char **out) {
  lw_buf printed;
  lw_buf_init(&printed, 0, 0, limit);
  lw_doc *doc = lw_doc_parse_copy(text.p, text.n);
  lw_code code = LW_PROTOCOL;
  if (!doc->json.error) code = lw_canon_value(&printed, &doc->json, 0, sort_keys);
  *out = NULL;
  if (code == LW_OK) {
    *out = lw_alloc(printed.size + 1);
    (*out)[lw_buf_take_all(&printed, *out)] = 0;
  }
  lw_buf_fini(&printed);
  lw_doc_unref(doc);
  return code;
}

void lw_canon_string(lw_buf *out, lw_span s) {
  printer p = {.out = out, .code = LW_OK};
  print_string(&p, s, take_utf8);
}

void lw_canon_url_message(lw_buf *out, lw_span url) {
  lw_buf_add_span(out, LW_SPAN("{\n    \"url\": "));
  lw_canon_string(out, url);
  lw_buf_add_span(out, LW_SPAN("\n}"));
}
