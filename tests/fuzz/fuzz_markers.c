/* SPDX-License-Identifier: MIT
 * Fuzzes the search for markers (worker/markers.h): the input names markers and a log. In random
 * pieces the same must be found as by looking for each marker at each byte of the whole.
 * As a libFuzzer target, or with -DLW_FUZZ_MAIN a program that runs so many rounds:
 * fuzz_markers [rounds [seed]]. */
#include "worker/markers.h"

#include "fuzz.h"

enum {
  MOST = 12,       /* markers */
  BREAK = 0x1e,    /* in the log: here the line ends without a line feed */
  SEPARATOR = 0x1d /* between markers */
};

/* What was found, as text that can be compared. */
typedef struct story {
  char *text;
  size_t n, room;
} story;

static void tell(story *s, const void *p, size_t n) {
  while (s->n + n > s->room) s->text = lw_realloc(s->text, s->room = s->room * 2 + 256);
  if (n > 0) memcpy(s->text + s->n, p, n);
  s->n += n;
}

static void on_marker(void *owner, const lw_marker *marker) {
  tell(owner, "M", 1);
  tell(owner, &marker, sizeof marker);
}
static void on_info(void *owner, lw_span line, uint64_t size) {
  CHECK(line.n <= LW_MARKERS_LINE && line.n <= size);
  tell(owner, "I", 1);
  tell(owner, line.p, line.n);
  tell(owner, &size, sizeof size);
}
static const lw_markers_events events = {on_marker, on_info};

static bool ends_here(lw_span line, size_t at, const char *text) {
  size_t n = strlen(text);
  return n > 0 && !strchr(text, '\n') && n <= at && memcmp(line.p + at - n, text, n) == 0;
}

static void look_in_line(const lw_marker *list, size_t n, lw_span line, bool has_lf, story *s) {
  bool said[MOST] = {false}, informs = false;
  for (size_t at = 1; at <= line.n; at++) {
    for (size_t i = 0; i < n; i++) {
      if (said[i] || !ends_here(line, at, list[i].text)) continue;
      said[i] = true;
      if (list[i].kind == LW_MARKER_INFO) {
        informs = true;
      } else {
        on_marker(s, &list[i]);
      }
    }
  }
  if (has_lf && line.n > 0 && line.p[line.n - 1] == '\r') line.n--;
  if (informs) on_info(s, (lw_span){line.p, LW_MIN(line.n, (size_t)LW_MARKERS_LINE)}, line.n);
}

static void look_plainly(const lw_marker *list, size_t n, lw_span log, story *s) {
  size_t begin = 0;
  for (size_t i = 0; i <= log.n; i++) {
    if (i < log.n && log.p[i] != '\n' && log.p[i] != BREAK) continue;
    lw_span line = {log.p + begin, i - begin};
    look_in_line(list, n, line, i < log.n && log.p[i] == '\n', s);
    begin = i + 1;
  }
}

static void look_in_pieces(const lw_marker *list, size_t n, lw_span log, uint64_t most, story *s) {
  lw_markers *m = lw_markers_new(list, n, &events, s);
  while (log.n > 0) {
    const char *stop = memchr(log.p, BREAK, log.n);
    size_t size = stop ? (size_t)(stop - log.p) : log.n;
    size_t piece = next_random(most + 1);
    size = LW_MIN(size, piece);
    char *copy = lw_alloc(size + 1); /* of its own: a read beyond the piece is seen */
    memcpy(copy, log.p, size);
    copy = lw_realloc(copy, LW_MAX(size, 1));
    lw_markers_feed(m, (lw_span){copy, size});
    free(copy);
    log.p += size, log.n -= size;
    if (log.n > 0 && *log.p == BREAK) {
      lw_markers_end_line(m);
      log.p++, log.n--;
    }
  }
  lw_markers_end_line(m);
  lw_markers_free(m);
}

/* "marker SEPARATOR marker SEPARATOR ... NUL log"; a marker's kind is by its place. */
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
  lw_marker list[MOST];
  size_t count = 0;
  const uint8_t *end = n ? memchr(p, 0, n) : NULL;
  size_t size = end ? (size_t)(end - p) : n;
  lw_span rest = {(const char *)p, size};
  while (rest.n > 0 && count < MOST) {
    const char *stop = memchr(rest.p, SEPARATOR, rest.n);
    size_t length = stop ? (size_t)(stop - rest.p) : rest.n;
    list[count].kind = (lw_marker_kind)(count % LW_MARKER_KINDS);
    list[count++].text = lw_strdup_n(rest.p, length);
    rest.p += length + (stop != NULL), rest.n -= length + (stop != NULL);
  }
  lw_span log = end ? (lw_span){(const char *)end + 1, n - size - 1} : LW_SPAN("");
  story plain = {0};
  look_plainly(list, count, log, &plain);
  static const uint64_t most[] = {1, 3, 17, 1 << 20};
  for (size_t i = 0; i < LW_ARRAY_SIZE(most); i++) {
    story pieces = {0};
    look_in_pieces(list, count, log, most[i], &pieces);
    CHECK(lw_span_eq((lw_span){plain.text, plain.n}, (lw_span){pieces.text, pieces.n}));
    free(pieces.text);
  }
  free(plain.text);
  for (size_t i = 0; i < count; i++) free(list[i].text);
  return 0;
}

#ifdef LW_FUZZ_MAIN
/* Few letters, so that markers meet, overlap and nearly match. */
static size_t make_text(uint8_t *to, size_t most, const char *letters, size_t letter_count) {
  size_t n = next_random(most + 1);
  for (size_t i = 0; i < n; i++) to[i] = (uint8_t)letters[next_random(letter_count)];
  return n;
}

int main(int argc, char **argv) {
  long rounds = read_rounds(argc, argv);
  static const char letters[] = "ababababcd\xff\r\n\n\0\x1e";
  for (long i = 0; i < rounds; i++) {
    uint8_t text[MOST * 600 + 5000];
    size_t n = 0, few = 2 + next_random(sizeof letters - 2);
    size_t length = next_random(40) ? 1 + next_random(8) : 500;
    for (uint64_t k = next_random(MOST) + 1; k > 0; k--) {
      size_t size = make_text(text + n, length, letters, LW_MIN(few, (size_t)13));
      if (next_random(9) && size > 0) n += size;
      text[n++] = SEPARATOR;
    }
    text[n++] = 0;
    n += make_text(text + n, next_random(20) ? 60 : 5000, letters, few);
    LLVMFuzzerTestOneInput(text, n);
  }
  printf("fuzz_markers: %ld rounds\n", rounds);
  return 0;
}
#endif
