/* SPDX-License-Identifier: MIT
 * h1_parse under random bytes: whatever comes, feeding it whole, in single bytes and in uneven
 * pieces must give the same trace, and what was taken must look legal. With libFuzzer, or with
 * -DLW_FUZZ_MAIN alone: `fuzz_h1_parse FILE...` runs files, `fuzz_h1_parse [COUNT [SEED]]` runs
 * COUNT mutations of the seeds below. */
#include "../unit/h1_trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t mix(uint64_t *state) { /* splitmix64 */
  uint64_t z = (*state += 0x9e3779b97f4a7c15u);
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

static size_t uneven_piece(void *state) {
  uint64_t r = mix(state);
  return 1 + (size_t)(r >> 8) % (r % 4 == 0 ? 3000 : 9);
}

static char *run(const char *bytes, size_t size, const lw_h1_limits *limits, uint64_t max_body,
                 h1_trace_piece *piece, void *state) {
  lw_h1_parser *p = lw_h1_new(limits);
  char *text = h1_trace(p, bytes, size, max_body, piece, state);
  lw_h1_free(p);
  return text;
}

static void require(bool good, const char *what, const char *one, const char *other) {
  if (good) return;
  fprintf(stderr, "%s:\n%s\n--- and\n%s\n", what, one, other);
  abort();
}

/* What must hold for every head that is shown to the caller. */
static void check_heads(const char *bytes, size_t size, const lw_h1_limits *limits) {
  lw_h1_parser *p = lw_h1_new(limits);
  size_t taken = lw_h1_feed(p, bytes, size);
  if (lw_h1_state_of(p) == LW_H1_READY) {
    const lw_h1_head *h = lw_h1_head_of(p);
    require(taken >= 4 && memcmp(bytes + taken - 4, "\r\n\r\n", 4) == 0, "head's end", "", "");
    require(h->target.n <= limits->max_target && h->headers.count <= limits->max_headers &&
                taken <= limits->max_head + 4,
            "limits", "", "");
    require(h->path.n > 0 && (h->path.p[0] == '/' || h->path.p[0] == '*'), "path", "", "");
    require(!(h->chunked && (h->has_length || h->minor == 0)), "framing", "", "");
    size_t hosts = lw_headers_count(&h->headers, LW_SPAN("host"));
    require(hosts == 1 || (hosts == 0 && h->minor == 0), "host", "", "");
    for (size_t i = 0; i < h->headers.count; i++) {
      require(lw_header_name_ok(h->headers.items[i].name) &&
                  lw_header_value_ok(h->headers.items[i].value),
              "field", "", "");
    }
  }
  lw_h1_free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const lw_h1_limits all_limits[] = {
      {8192, 65536, 128}, {8192, 65536, 128}, {20, 120, 4}, {100, 3000, 16}};
  uint64_t seed = size;
  for (size_t i = 0; i < size; i++) seed = seed * 31 + data[i];
  const lw_h1_limits *limits = &all_limits[mix(&seed) % LW_ARRAY_SIZE(all_limits)];
  uint64_t max_body = mix(&seed) % 4 ? 1 << 20 : 12;
  const char *bytes = (const char *)data;
  size_t singles[2] = {1, 1};
  char *whole = run(bytes, size, limits, max_body, h1_trace_whole, NULL);
  char *single = run(bytes, size, limits, max_body, h1_trace_split, singles);
  char *uneven = run(bytes, size, limits, max_body, uneven_piece, &seed);
  require(strcmp(whole, single) == 0, "whole and single bytes differ", whole, single);
  require(strcmp(whole, uneven) == 0, "whole and pieces differ", whole, uneven);
  free(whole);
  free(single);
  free(uneven);
  check_heads(bytes, size, limits);
  return 0;
}

#ifdef LW_FUZZ_MAIN
#define MAX_INPUT 8192

static const char *const seeds[] = {
    "GET /a?b HTTP/1.1\r\nHost: h\r\nAccept: */*\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: h:80\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\n"
    "helloGET / HTTP/1.0\r\n\r\n",
    "POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
    "5;a=\"b\"\r\nhello\r\n6\r\n world\r\n0;c\r\nX: y\r\n\r\nOPTIONS * HTTP/1.1\r\nHost:\r\n\r\n",
    "\r\nPUT http://u@[::1]:8/p?q HTTP/1.1\r\nhost: x\r\nConnection: Upgrade, close\r\n"
    "Upgrade: h2c\r\nContent-Length: 3\r\n\r\nabc\r\n\r\n",
    "DELETE /a HTTP/1.0\r\nConnection: keep-alive\r\nAuthorization: Bearer x\r\n\r\n",
};
static const char *const words[] = {
    "\r\n",
    "\r",
    "\n",
    "\r\n\r\n",
    " ",
    "\t",
    ":",
    ";",
    ",",
    "0\r\n",
    "1\r\na\r\n",
    "\r\n ",
    "FFFFFFF",
    "_",
    "Host: h\r\n",
    "HTTP/1.1",
    "HTTP/1.0",
    "Content-Length: ",
    "chunked",
    "gzip",
    "POST ",
    "Transfer-Encoding: chunked\r\n",
    "Connection: Upgrade\r\nUpgrade: x\r\n",
    "Expect: 100-continue\r\n",
    "0\r\n\r\n",
    "http://h/",
    "X: y\r\n",
    "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
};

/* Puts n bytes in place of `gone` bytes at `at`. */
static size_t splice(char *buffer, size_t size, size_t at, size_t gone, const char *p, size_t n) {
  if (size - gone + n > MAX_INPUT) return size;
  memmove(buffer + at + n, buffer + at + gone, size - at - gone);
  memcpy(buffer + at, p, n);
  return size - gone + n;
}

static size_t mutate(char *buffer, size_t size, uint64_t *state) {
  char piece[4096];
  size_t at = size ? mix(state) % size : 0, left = size - at;
  uint64_t kind = mix(state) % 7;
  if (kind == 0 && left > 0) {
    buffer[at] = (char)(buffer[at] ^ 1 << mix(state) % 8);
  } else if (kind == 1 && left > 0) {
    buffer[at] = (char)mix(state);
  } else if (kind == 2) {
    return splice(buffer, size, at, mix(state) % (LW_MIN(left, (size_t)8) + 1), "", 0);
  } else if (kind <= 4) {
    const char *word = words[mix(state) % LW_ARRAY_SIZE(words)];
    return splice(buffer, size, at, mix(state) % (LW_MIN(left, (size_t)3) + 1), word, strlen(word));
  } else if (kind == 5) { /* double a run */
    size_t n = mix(state) % (LW_MIN(left, (size_t)64) + 1);
    memcpy(piece, buffer + at, n);
    return splice(buffer, size, at, 0, piece, n);
  } else { /* a long run of one byte, seldom */
    size_t n = mix(state) % 16 ? 1 : mix(state) % sizeof piece;
    memset(piece, "a 0;\r"[mix(state) % 5], n);
    return splice(buffer, size, at, 0, piece, n);
  }
  return size;
}

static void run_mutations(unsigned long count, uint64_t state) {
  char buffer[MAX_INPUT];
  for (unsigned long i = 0; i < count; i++) {
    size_t size = 0;
    for (size_t parts = 1 + mix(&state) % 2; parts > 0; parts--) {
      const char *seed = seeds[mix(&state) % LW_ARRAY_SIZE(seeds)];
      size = splice(buffer, size, size, 0, seed, strlen(seed));
    }
    for (size_t changes = mix(&state) % 6; changes > 0; changes--) {
      size = mutate(buffer, size, &state);
    }
    char *exact = lw_alloc(size); /* so that a read past the end shows */
    memcpy(exact, buffer, size);
    LLVMFuzzerTestOneInput((const uint8_t *)exact, size);
    free(exact);
  }
}

static int run_file(const char *path) {
  FILE *file = fopen(path, "rb");
  if (!file) {
    perror(path);
    return 1;
  }
  lw_body *bytes = lw_body_new();
  char piece[4096];
  for (size_t n; (n = fread(piece, 1, sizeof piece, file)) > 0;) lw_body_append(bytes, piece, n);
  fclose(file);
  LLVMFuzzerTestOneInput((const uint8_t *)bytes->p, bytes->n);
  lw_body_unref(bytes);
  return 0;
}

int main(int argc, char **argv) {
  char *end = "";
  unsigned long count = argc > 1 ? strtoul(argv[1], &end, 10) : 10000;
  if (*end == '\0') {
    run_mutations(count, argc > 2 ? strtoull(argv[2], NULL, 10) : 1);
    printf("%lu inputs\n", count);
    return 0;
  }
  int failed = 0;
  for (int i = 1; i < argc; i++) failed |= run_file(argv[i]);
  return failed;
}
#endif
