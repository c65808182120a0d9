/* SPDX-License-Identifier: MIT
 * Any bytes into wire/json. What it takes is written out again, node by node, and must parse to the
 * same nodes; slices must nest. A libFuzzer entry; with -DLW_FUZZ_MAIN a program of its own that
 * mutates a built-in corpus: fuzz_json [rounds [seed]]. */
#include "fuzz.h"

#include "wire/json.h"

typedef struct writer {
  const lw_json *json;
  char *out;
  size_t n;
} writer;

static void put(writer *w, const char *p, size_t n) {
  memcpy(w->out + w->n, p, n);
  w->n += n;
}

static uint32_t write_value(writer *w, uint32_t i);

static void write_container(writer *w, uint32_t i) {
  const lw_json_node *node = &w->json->nodes[i];
  bool object = node->kind == LW_JSON_OBJECT;
  uint64_t count = 0;
  put(w, object ? "{" : "[", 1);
  for (uint32_t k = i + 1; k < node->next; count++) {
    if (count > 0) put(w, ",", 1);
    if (object) {
      CHECK(w->json->nodes[k].kind == LW_JSON_STRING);
      k = write_value(w, k);
      put(w, ":", 1);
    }
    const lw_json_node *child = &w->json->nodes[k];
    CHECK(child->offset > node->offset);
    CHECK(child->offset + child->length < node->offset + node->length);
    k = write_value(w, k);
  }
  CHECK(count == node->count);
  put(w, object ? "}" : "]", 1);
}

/* Writes the canonical print of the subtree; returns the node after it. */
static uint32_t write_value(writer *w, uint32_t i) {
  const lw_json_node *node = &w->json->nodes[i];
  lw_span slice = lw_json_text(w->json, i);
  size_t before = w->n;
  CHECK(node->next > i && node->next <= w->json->count);
  CHECK(node->length > 0 && node->offset + node->length <= w->json->text_length);
  switch (node->kind) {
    case LW_JSON_ARRAY:
    case LW_JSON_OBJECT:
      write_container(w, i);
      return node->next;
    case LW_JSON_STRING:
      w->n += lw_json_escape(w->out + w->n, lw_json_string(w->json, i));
      CHECK(w->n - before == lw_json_escaped_size(lw_json_string(w->json, i)));
      break;
    case LW_JSON_NUMBER:
      w->n += lw_json_number_text(w->out + w->n, node->number);
      break;
    default:
      put(w, slice.p, slice.n);
  }
  bool same = lw_span_eq((lw_span){w->out + before, w->n - before}, slice);
  CHECK(node->kind == LW_JSON_BIG || same == (node->escaped != 2));
  CHECK(node->next == i + 1);
  return node->next;
}

static void check_same(const lw_json *a, const lw_json *b) {
  CHECK(a->count == b->count);
  for (uint32_t i = 0; i < a->count; i++) {
    const lw_json_node *x = &a->nodes[i], *y = &b->nodes[i];
    bool whole = x->kind == LW_JSON_NUMBER && y->kind == LW_JSON_INT; /* 1.0 was printed as 1 */
    CHECK(x->next == y->next);
    CHECK(x->kind == y->kind || whole);
    if (x->kind == LW_JSON_STRING) {
      CHECK(lw_span_eq(lw_json_string(a, i), lw_json_string(b, i)));
    } else if (whole) {
      CHECK(x->number == (double)y->integer);
    } else {
      CHECK(x->count == y->count);
    }
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
  lw_json json, again;
  char *text = lw_alloc(n + LW_JSON_PADDING);
  if (n > 0) memcpy(text, p, n);
  memset(text + n, n % 2 ? '"' : '1', LW_JSON_PADDING);
  lw_json_init(&json);
  if (lw_json_parse(&json, text, n) != LW_OK) {
    CHECK(json.error != NULL && json.error_offset <= n);
  } else {
    CHECK(lw_json_utf8_prefix((lw_span){text, n}) == n);
    /* a lone surrogate's six bytes become three, a number's few become 24 at most */
    writer w = {&json, lw_alloc(24 * n + 64 + LW_JSON_PADDING), 0};
    CHECK(write_value(&w, 0) == json.count);
    lw_json_init(&again);
    CHECK(lw_json_parse(&again, w.out, w.n) == LW_OK);
    check_same(&json, &again);
    lw_json_fini(&again);
    free(w.out);
  }
  lw_json_fini(&json);
  free(text);
  return 0;
}

#ifdef LW_FUZZ_MAIN
#define CORPUS_LIMIT 512

static const lw_span corpus[] = {
    LW_SPAN("{\"auth_data\":{\"cost\":\"1.5\",\"reqnum\":7},\"payload\":{\"a\":[1,2.5,-3e-2]}}"),
    LW_SPAN("[null,true,false,0,-0,1.0,1e5,18446744073709551615,-9223372036854775809,1e400]"),
    LW_SPAN("[\"\\u00e9\\ud83d\\ude00\\\\\\/\\n\",\"caf\xc3\xa9 \xf0\x9f\x98\x80\",\"\\ud800\"]"),
    LW_SPAN("{\"\":{},\"k\":[[[[]]]],\"k\":\"\"}"),
    LW_SPAN(" [ 1 , \"a\\\"b\" , { \"x\" : 9007199254740993 } ] "),
    LW_SPAN(
        "[0.1,0.30000000000000004,123456789012345678901234567890,5e-324,1.7976931348623157e308]"),
};

static const char *const pieces[] = {
    "\"",   "\\",   "\\u",      "d800", "[",    "]",        "{",     "}",  ",",
    ":",    "0",    "9",        ".",    "e",    "-",        "1.",    "n",  "\n",
    "\x01", "\x80", "\xf0\x9f", "true", "null", "[[[[[[[[", "\"\":", "E+9"};

/* One small change somewhere; returns the new length. */
static size_t mutate(char *text, size_t n) {
  const char *piece = pieces[next_random(LW_ARRAY_SIZE(pieces))];
  size_t length = strlen(piece);
  size_t at = next_random(n + 1);
  switch (next_random(4)) {
    case 0: /* insert */
      if (n + length > CORPUS_LIMIT) return n;
      memmove(text + at + length, text + at, n - at);
      memcpy(text + at, piece, length);
      return n + length;
    case 1: /* remove */
      length = 1 + next_random(4);
      length = LW_MIN(length, n - at);
      memmove(text + at, text + at + length, n - at - length);
      return n - length;
    case 2: /* another byte */
      if (at < n) text[at] = (char)next_random(256);
      return n;
    default: /* repeat a part */
      length = next_random(24);
      length = LW_MIN(length, n - at);
      if (n + length > CORPUS_LIMIT) return n;
      memmove(text + at + length, text + at, n - at);
      return n + length;
  }
}

int main(int argc, char **argv) {
  long rounds = read_rounds(argc, argv);
  for (long i = 0; i < rounds; i++) {
    char text[CORPUS_LIMIT];
    lw_span seed = corpus[next_random(LW_ARRAY_SIZE(corpus))];
    size_t n = seed.n;
    memcpy(text, seed.p, n);
    for (uint64_t k = next_random(4); k > 0; k--) n = mutate(text, n);
    LLVMFuzzerTestOneInput((const uint8_t *)text, n);
  }
  printf("fuzz_json: %ld rounds\n", rounds);
  return 0;
}
#endif
