/* SPDX-License-Identifier: MIT
 * The parsing half of wire/json, the project's one C++ file. simdjson's first stage finds where
 * every token begins, and checks UTF-8, controls inside strings and that strings end; the walk here
 * checks all the rest of the grammar and writes the nodes. Its second stage is not used, because
 * its tape forgets where values stood in the text. Nothing here throws. Called by wire/doc and by
 * whoever reads JSON in C. One parser is shared by the process: it is needed only while a parse
 * runs. */
#include <simdjson.h>

#include <cassert>
#include <charconv>
#include <cmath>
#include <cstring>
#include <memory>
#include <type_traits>

#define _Noreturn [[noreturn]] /* C's spelling, in the headers below */
#define _Static_assert static_assert
extern "C" {
#include "wire/json_unescape.h"
}

static_assert(sizeof(lw_json_node) <= 32, "two nodes share a cache line");

namespace {

using stage_one = simdjson::internal::dom_parser_implementation;

constexpr uint32_t depth_limit = 512;
constexpr size_t small_text = 64 * 1024;  /* the shared parser starts with room for this */
constexpr size_t kept_text = 1024 * 1024; /* and is dropped after a parse when it outgrew this */
constexpr uint32_t kept_nodes = 4096;
constexpr size_t kept_arena = 64 * 1024;

std::unique_ptr<stage_one> shared_parser;

/* Behind lw_json.parser. */
struct store {
  uint32_t node_capacity;
  size_t arena_capacity;
  char *arena; /* unescaped strings */
};

struct fault {
  const char *text;
  size_t offset;
};

struct walk {
  const char *text;
  const uint32_t *at; /* where tokens begin; at[count] is the text's length */
  uint32_t token, token_count;
  lw_json_node *nodes;
  uint32_t count, capacity;
  lw_json *json;
  char *arena; /* where the next unescaped string goes; nullptr before the first */
  fault error;
  uint32_t depth;
  uint32_t open[depth_limit];
};

bool fail(walk *w, const char *text, size_t offset) {
  w->error = {text, offset};
  return false;
}

inline bool is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }
inline bool is_digit(char c) { return static_cast<unsigned char>(c - '0') < 10; }

/* The end of the token that begins at `start`, knowing where the next one begins. */
inline const char *token_end(const walk *w, const char *start) {
  const char *end = w->text + w->at[w->token + 1];
  while (end > start && is_space(end[-1])) end--;
  return end;
}

/* -- strings -- */

/* The arena, made at the first string that needs it: no text unescapes to more bytes than it has,
 * so room for the rest of the document is enough and never moves. */
char *arena_for(walk *w, size_t rest) {
  if (w->arena) return w->arena;
  store *s = static_cast<store *>(w->json->parser);
  if (s->arena_capacity < rest) {
    free(s->arena);
    s->arena_capacity = LW_MAX(rest, size_t{1024});
    s->arena = static_cast<char *>(lw_alloc(s->arena_capacity + LW_JSON_OVERRUN));
  }
  return s->arena;
}

bool unescape(walk *w, lw_json_node *node, const char *p, const char *end) {
  char *start = arena_for(w, static_cast<size_t>(w->text + w->json->text_length - p));
  char *out = start;
  bool canonical = true;
  const char *stop = lw_json_unescape(p, end, &out, &canonical);
  if (stop != end) return fail(w, "no such escape", static_cast<size_t>(stop - w->text));
  node->string = start;
  node->string_length = static_cast<uint32_t>(out - start);
  node->escaped = canonical ? 1 : 2;
  w->arena = out;
  return true;
}

inline bool has_backslash(const char *p, size_t n) {
  if (n > 48) return memchr(p, '\\', n) != nullptr;
  for (; n >= 8; p += 8, n -= 8) {
    uint64_t word;
    memcpy(&word, p, 8);
    if (lw_json_find_backslash(word)) return true;
  }
  uint64_t tail;
  memcpy(&tail, p, 8);
  return n > 0 && lw_json_find_backslash(tail & ~UINT64_C(0) >> (64 - 8 * n)) != 0;
}

inline bool read_string(walk *w, lw_json_node *node, const char *start) {
  const char *end = token_end(w, start);
  if (end - start < 2 || end[-1] != '"') {
    return fail(w, "string without an end", static_cast<size_t>(start - w->text));
  }
  size_t n = static_cast<size_t>(end - start) - 2;
  node->kind = LW_JSON_STRING;
  node->length = static_cast<uint32_t>(n + 2);
  node->string = start + 1;
  node->string_length = static_cast<uint32_t>(n);
  node->escaped = 0;
  return !has_backslash(start + 1, n) || unescape(w, node, start + 1, end - 1);
}

/* -- numbers -- */

/* A number's text, taken apart: value = digits * 10^exponent. */
struct decimal {
  uint64_t digits;     /* the significant ones, valid when they are at most 19 */
  int64_t significant; /* how many there are */
  int64_t exponent;    /* of the last one */
  bool negative, integral, has_exponent, ends_in_zero;
};

/* True when the 8 bytes are digits; then *value is moved up by them. */
inline bool take_eight_digits(const char *p, uint64_t *value) {
  uint64_t word;
  memcpy(&word, p, 8);
  uint64_t high = word & (word + 0x0606060606060606) & 0xf0f0f0f0f0f0f0f0;
  if (high != 0x3030303030303030) return false;
  word -= 0x3030303030303030;
  word = word * 10 + (word >> 8); /* pairs, then fours, then all eight */
  word = ((word & 0x000000ff000000ff) * 0x000f424000000064 +
          (word >> 16 & 0x000000ff000000ff) * 0x0000271000000001) >>
         32;
  *value = *value * 100000000 + word;
  return true;
}

inline const char *take_digits(const char *p, const char *end, uint64_t *value) {
  while (end - p >= 8 && take_eight_digits(p, value)) p += 8;
  for (; p < end && is_digit(*p); p++) *value = *value * 10 + static_cast<uint64_t>(*p - '0');
  return p;
}

bool read_exponent(decimal *d, const char **from, const char *end) {
  const char *p = *from + 1;
  bool negative = p < end && *p == '-';
  int64_t value = 0;
  if (p < end && (*p == '-' || *p == '+')) p++;
  if (p == end || !is_digit(*p)) return false;
  for (; p < end && is_digit(*p); p++) {
    if (value < INT64_C(100000000000)) value = value * 10 + (*p - '0');
  }
  d->exponent += negative ? -value : value;
  d->has_exponent = true;
  *from = p;
  return true;
}

/* RFC 8259 section 6, the whole of p..end. */
bool read_decimal(decimal *d, const char *p, const char *end) {
  if (*p == '-') {
    d->negative = true;
    p++;
  }
  if (p == end || !is_digit(*p)) return false;
  const char *first = p;
  d->integral = true;
  p = *p == '0' ? p + 1 : take_digits(p, end, &d->digits);
  int64_t point = 0;
  if (p < end && *p == '.') {
    const char *fraction = p + 1;
    p = take_digits(fraction, end, &d->digits);
    if (p == fraction) return false;
    d->integral = false;
    d->exponent = fraction - p;
    d->ends_in_zero = p[-1] == '0';
    point = 1;
  }
  d->significant = p - first - point;
  for (; first < p && (*first == '0' || *first == '.'); first++) d->significant -= *first == '0';
  if (p < end && (*p == 'e' || *p == 'E')) {
    d->integral = false;
    if (!read_exponent(d, &p, end)) return false;
  }
  return p == end;
}

double exact_power(int64_t exponent) {
  static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                  1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                  1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
  return powers[exponent];
}

/* The nearest double. */
double to_double(const decimal *d, const char *start, const char *end) {
  double value = 0;
  if (d->significant <= 19 && d->digits <= UINT64_C(1) << 53 && d->exponent >= -22 &&
      d->exponent <= 22) { /* both factors exact: one rounding, the right one */
    value = static_cast<double>(d->digits);
    value = d->exponent < 0 ? value / exact_power(-d->exponent) : value * exact_power(d->exponent);
    return d->negative ? -value : value;
  }
  if (std::from_chars(start, end, value).ec == std::errc()) return value;
  bool huge = d->exponent + d->significant > 0;
  value = d->significant > 0 && huge ? HUGE_VAL : 0.0;
  return d->negative ? -value : value;
}

/* Would lw_json_number_text print other bytes than these? */
bool differs_in_print(const decimal *d, double value, const char *start, size_t n) {
  int64_t magnitude = d->exponent + d->significant; /* 1 for 1..9 */
  if (d->ends_in_zero) return true;
  if (!d->has_exponent && d->significant > 0 && d->significant <= 15 && magnitude >= -3) {
    return false; /* up to 15 digits survive a double, and this is the printed form */
  }
  char text[32];
  size_t length = lw_json_number_text(text, value);
  return length != n || memcmp(text, start, n) != 0;
}

bool set_integer(lw_json_node *node, const decimal *d) {
  uint64_t value = d->digits;
  uint64_t limit = static_cast<uint64_t>(INT64_MAX) + (d->negative ? 1 : 0);
  if (value > limit && d->negative) return false;
  node->kind = value > limit ? LW_JSON_UINT : LW_JSON_INT;
  node->integer = static_cast<int64_t>(d->negative ? ~value + 1 : value);
  return true;
}

/* A twentieth digit may still fit. */
bool widen(decimal *d, const char *end) {
  if (d->significant <= 19) return true;
  if (d->significant > 20) return false;
  d->digits = 0;
  take_digits(end - 20, end - 1, &d->digits);
  if (__builtin_mul_overflow(d->digits, UINT64_C(10), &d->digits)) return false;
  return !__builtin_add_overflow(d->digits, static_cast<uint64_t>(end[-1] - '0'), &d->digits);
}

bool read_number(walk *w, lw_json_node *node, const char *start) {
  const char *end = token_end(w, start);
  decimal d = {};
  if (!read_decimal(&d, start, end)) {
    bool like_one = is_digit(*start) || *start == '-';
    return fail(w, like_one ? "not a number" : "not a value", static_cast<size_t>(start - w->text));
  }
  size_t n = static_cast<size_t>(end - start);
  node->length = static_cast<uint32_t>(n);
  node->string_length = 0;
  node->escaped = 0;
  bool minus_zero = d.negative && d.significant == 0;
  if (d.integral && !minus_zero && widen(&d, end) && set_integer(node, &d)) return true;
  double value = to_double(&d, start, end);
  bool lost = std::isinf(value) || (value == 0 && d.significant > 0);
  node->kind = lost || (d.integral && !minus_zero) ? LW_JSON_BIG : LW_JSON_NUMBER;
  node->number = value;
  if (node->kind == LW_JSON_BIG || differs_in_print(&d, value, start, n)) node->escaped = 2;
  return true;
}

/* -- the walk over the tokens -- */

bool read_literal(walk *w, lw_json_node *node, const char *start, lw_span word, uint32_t kind) {
  const char *end = token_end(w, start);
  if (!lw_span_eq({start, static_cast<size_t>(end - start)}, word)) {
    return fail(w, "not a value", static_cast<size_t>(start - w->text));
  }
  node->kind = kind;
  node->length = static_cast<uint32_t>(word.n);
  node->count = 0;
  node->string_length = 0;
  node->escaped = 0;
  return true;
}

inline lw_json_node *new_node(walk *w) {
  assert(w->count < w->capacity);
  lw_json_node *node = &w->nodes[w->count++];
  node->next = w->count;
  node->offset = w->at[w->token];
  return node;
}

bool open_container(walk *w, uint32_t kind) {
  if (w->depth == depth_limit) return fail(w, "nested too deep", w->at[w->token]);
  w->open[w->depth++] = w->count;
  lw_json_node *node = new_node(w);
  node->kind = kind;
  node->count = 0;
  node->string_length = 0;
  node->escaped = 0;
  w->token++;
  return true;
}

void close_container(walk *w) {
  lw_json_node *node = &w->nodes[w->open[--w->depth]];
  node->next = w->count;
  node->length = w->at[w->token] + 1 - node->offset;
  w->token++;
}

/* The character that the current token begins with; 0 at the end of the text (what lies in the
 * padding must not be taken for a token). */
char token_char(const walk *w) {
  return w->token < w->token_count ? w->text[w->at[w->token]] : '\0';
}

bool unexpected(walk *w, const char *text) {
  bool at_end = w->token >= w->token_count;
  return fail(w, at_end ? "the text ends too early" : text,
              at_end ? w->json->text_length : w->at[w->token]);
}

inline bool read_key(walk *w) {
  if (token_char(w) != '"') return unexpected(w, "expected a member's name");
  if (!read_string(w, new_node(w), w->text + w->at[w->token])) return false;
  w->token++;
  if (token_char(w) != ':') return unexpected(w, "expected ':'");
  w->token++;
  return true;
}

bool read_scalar(walk *w) {
  if (w->token >= w->token_count) return unexpected(w, "");
  const char *start = w->text + w->at[w->token];
  lw_json_node *node = new_node(w);
  bool good;
  switch (*start) {
    case '"':
      good = read_string(w, node, start);
      break;
    case 't':
      good = read_literal(w, node, start, LW_SPAN("true"), LW_JSON_TRUE);
      break;
    case 'f':
      good = read_literal(w, node, start, LW_SPAN("false"), LW_JSON_FALSE);
      break;
    case 'n':
      good = read_literal(w, node, start, LW_SPAN("null"), LW_JSON_NULL);
      break;
    default:
      good = read_number(w, node, start);
      break;
  }
  w->token++;
  return good;
}

/* The start of a value: a scalar whole, or a container's opening and, in an object, its first key.
 * *inside: a container was opened that is not empty. */
bool begin_value(walk *w, bool *inside) {
  char c = token_char(w);
  *inside = false;
  if (c != '{' && c != '[') return read_scalar(w);
  if (!open_container(w, c == '{' ? LW_JSON_OBJECT : LW_JSON_ARRAY)) return false;
  if (token_char(w) == (c == '{' ? '}' : ']')) {
    close_container(w);
    return true;
  }
  *inside = true;
  return c == '[' || read_key(w);
}

/* After a value: closes what ends here, up to a comma (and the key after it) or the root's end. */
bool end_value(walk *w) {
  while (w->depth > 0) {
    lw_json_node *parent = &w->nodes[w->open[w->depth - 1]];
    bool object = parent->kind == LW_JSON_OBJECT;
    parent->count++;
    char c = token_char(w);
    if (c == ',') {
      w->token++;
      return !object || read_key(w);
    }
    if (c != (object ? '}' : ']')) {
      return unexpected(w, object ? "expected ',' or '}'" : "expected ',' or ']'");
    }
    close_container(w);
  }
  return true;
}

bool read_document(walk *w) {
  bool inside;
  do {
    if (!begin_value(w, &inside)) return false;
    if (!inside && !end_value(w)) return false;
  } while (w->depth > 0);
  return w->token == w->token_count || unexpected(w, "more text after the document");
}

/* -- the first stage, memory -- */

/* Why the first stage refused. It does not say where, so look again, slowly. */
fault find_fault(const char *text, size_t n) {
  bool in_string = false;
  size_t opened = 0;
  size_t good = lw_json_utf8_prefix({text, n});
  if (good < n) return {"not UTF-8", good};
  for (size_t i = 0; i < n; i++) {
    if (text[i] == '\\' && i + 1 < n) {
      i++;
    } else if (text[i] == '"') {
      in_string = !in_string;
      opened = i;
    }
    if (in_string && static_cast<unsigned char>(text[i]) < 0x20) {
      return {"control character in a string", i};
    }
  }
  if (in_string) return {"string without an end", opened};
  return {"the text is empty", 0};
}

/* Runs simdjson's first stage; on success the parser holds where tokens begin. */
bool find_tokens(const char *text, size_t n) {
  size_t capacity = shared_parser ? shared_parser->capacity() : 0;
  if (capacity < n) {
    shared_parser.reset();
    capacity = n > kept_text / 2 ? LW_MAX(n, kept_text) : LW_MAX(2 * n, small_text);
    simdjson::error_code made =
        simdjson::get_active_implementation()->create_dom_parser_implementation(capacity, 1,
                                                                                shared_parser);
    if (made) lw_die("no memory to parse %zu bytes of JSON", n);
  }
  return shared_parser->stage1(reinterpret_cast<const uint8_t *>(text), n,
                               simdjson::stage1_mode::regular) == simdjson::SUCCESS;
}

/* Room for all nodes that `tokens` can make. A scalar, key or container needs a comma, a colon or
 * its closing besides itself, except for the root and the containers still open when an error ends
 * the walk. */
void reserve_nodes(lw_json *j, uint32_t tokens) {
  store *s = static_cast<store *>(j->parser);
  uint32_t needed = LW_MIN(tokens, tokens / 2 + depth_limit) + 2;
  if (s->node_capacity >= needed) return;
  free(j->nodes);
  s->node_capacity = LW_MAX(needed, 128u);
  j->nodes = static_cast<lw_json_node *>(lw_alloc(s->node_capacity * sizeof(lw_json_node)));
}

lw_code refuse(lw_json *j, fault f) {
  j->count = 0;
  j->error = f.text;
  j->error_offset = f.offset;
  return LW_PROTOCOL;
}

lw_code parse_tokens(lw_json *j) {
  walk w;
  w.text = j->text;
  w.at = shared_parser->structural_indexes.get();
  w.token = 0;
  w.token_count = shared_parser->n_structural_indexes;
  reserve_nodes(j, w.token_count);
  w.nodes = j->nodes;
  w.count = 0;
  w.capacity = static_cast<store *>(j->parser)->node_capacity;
  w.json = j;
  w.arena = nullptr;
  w.depth = 0;
  if (!read_document(&w)) return refuse(j, w.error);
  j->count = w.count;
  return LW_OK;
}

} // namespace

extern "C" {

void lw_json_init(lw_json *j) {
  memset(j, 0, sizeof *j);
  j->parser = lw_calloc(1, sizeof(store));
}

void lw_json_fini(lw_json *j) {
  store *s = static_cast<store *>(j->parser);
  if (s) free(s->arena);
  free(s);
  free(j->nodes);
  memset(j, 0, sizeof *j);
}

void lw_json_trim(lw_json *j) {
  store *s = static_cast<store *>(j->parser);
  if (s->node_capacity > kept_nodes) {
    free(j->nodes);
    j->nodes = nullptr;
    s->node_capacity = 0;
  }
  if (s->arena_capacity > kept_arena) {
    free(s->arena);
    s->arena = nullptr;
    s->arena_capacity = 0;
  }
  j->count = 0;
  j->text = nullptr;
  j->text_length = 0;
  j->error = nullptr;
}

lw_code lw_json_parse(lw_json *j, const char *text, size_t n) {
  j->text = text;
  j->text_length = n;
  j->count = 0;
  j->error = nullptr;
  j->error_offset = 0;
  if (n == 0) return refuse(j, {"the text is empty", 0});
  if (n >= UINT32_MAX - LW_JSON_PADDING) return refuse(j, {"the text is too long", 0});
  lw_code code = find_tokens(text, n) ? parse_tokens(j) : refuse(j, find_fault(text, n));
  if (shared_parser->capacity() > kept_text) shared_parser.reset();
  return code;
}

uint32_t lw_json_member(const lw_json *j, uint32_t object, lw_span key) {
  uint32_t found = 0;
  if (object >= j->count || j->nodes[object].kind != LW_JSON_OBJECT) return 0;
  for (uint32_t i = object + 1; i < j->nodes[object].next; i = j->nodes[i + 1].next) {
    if (lw_span_eq(lw_json_string(j, i), key)) found = i + 1;
  }
  return found;
}

size_t lw_json_number_text(char *out, double v) {
  if (!std::isfinite(v)) return 0;
  double magnitude = std::fabs(v);
  bool minus_zero = v == 0 && std::signbit(v);
  if (magnitude < 1e15 && v == std::trunc(v) && !minus_zero) {
    return static_cast<size_t>(std::to_chars(out, out + 32, static_cast<int64_t>(v)).ptr - out);
  }
  bool fixed = magnitude == 0 || (magnitude >= 1e-4 && magnitude < 1e16);
  auto form = fixed ? std::chars_format::fixed : std::chars_format::scientific;
  return static_cast<size_t>(std::to_chars(out, out + 32, v, form).ptr - out);
}
}
