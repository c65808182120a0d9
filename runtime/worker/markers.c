/* SPDX-License-Identifier: MIT
 * The search for many substrings at once in a stream: after Wu and Manber ("A fast algorithm for
 * multi-pattern searching", 1994), but with the markers' ends in line, not their beginnings, so
 * that they are found in the order in which they end, and never wait for a byte to come. It looks
 * at two bytes and skips as many as no marker can end in: with markers of 20 bytes, at a tenth of
 * the log. Lines are counted only where something was found. Called by worker/startup with what
 * worker/tail read. Owns the tables, the last bytes of the stream, and the head of the unfinished
 * line. */
#include "worker/markers.h"

#include <stdlib.h>

enum {
  KEYS = 4096,
  WINDOW_MAX = 255, /* how much of the markers' ends is in the tables: a skip fits in a byte */
  NONE = 0          /* no marker in a chain; the others are counted from 1 */
};

struct lw_markers {
  uint8_t skip[KEYS];   /* by two bytes: how many further no marker can end; 0: one may end here */
  uint32_t first[KEYS]; /* chains of the markers that end in two bytes with this key */
  struct entry {
    uint32_t next;
    size_t size;
    uint64_t said_in; /* the line in which it was found last; 0: none */
  } * entries;
  const lw_marker *list;
  lw_markers_events events;
  void *owner;
  size_t window; /* bytes of the shortest marker; 0: there is nothing to look for */
  size_t to_skip;
  char *past; /* the last bytes of earlier pieces, as many as the longest marker may need */
  size_t past_n, past_max;

  /* the line: */
  uint64_t line;   /* a name for it, not its number; from 1 */
  uint64_t before; /* bytes of it in earlier pieces */
  size_t begin;    /* where in this piece the line begins */
  size_t passed;   /* how far in this piece lines are counted */
  bool informs;    /* it has an INFO marker */
  size_t head_n;
  char head[LW_MARKERS_LINE]; /* its first bytes, of earlier pieces */
};

static unsigned key_of(unsigned char a, unsigned char b) { return (unsigned)a << 4 ^ b; }

static void enter(lw_markers *m, size_t i) {
  struct entry *e = &m->entries[i + 1];
  const unsigned char *end = (const unsigned char *)m->list[i].text + e->size;
  uint32_t *link = NULL;
  if (m->window == 1) {
    for (unsigned a = 0; a < 256; a++) m->skip[key_of((unsigned char)a, end[-1])] = 0;
  }
  for (size_t back = 0; back + 1 < m->window; back++) {
    unsigned key = key_of(end[-(ptrdiff_t)back - 2], end[-(ptrdiff_t)back - 1]);
    m->skip[key] = (uint8_t)LW_MIN(m->skip[key], back);
  }
  /* With a window of one byte any byte may stand before it: all are in one chain, the first. */
  unsigned key = m->window == 1 ? 0 : key_of(end[-2], end[-1]);
  for (link = &m->first[key]; *link != NONE; link = &m->entries[*link].next) {
  }
  *link = (uint32_t)i + 1;
}

lw_markers *lw_markers_new(const lw_marker *list, size_t n, const lw_markers_events *events,
                           void *owner) {
  lw_markers *m = lw_calloc(1, sizeof *m);
  m->list = list;
  m->events = *events;
  m->owner = owner;
  m->line = 1;
  m->entries = lw_calloc(n + 1, sizeof *m->entries);
  size_t shortest = SIZE_MAX;
  for (size_t i = 0; i < n; i++) {
    if (strchr(list[i].text, '\n')) continue;
    size_t size = m->entries[i + 1].size = strlen(list[i].text);
    if (size > 0) shortest = LW_MIN(shortest, size);
    m->past_max = LW_MAX(m->past_max, size);
  }
  if (m->past_max == 0) return m;
  m->past = lw_alloc(m->past_max);
  m->window = LW_MIN(shortest, (size_t)WINDOW_MAX);
  m->to_skip = m->window - 1;
  memset(m->skip, (int)LW_MAX(m->window - 1, 1), sizeof m->skip);
  for (size_t i = 0; i < n; i++) {
    if (m->entries[i + 1].size > 0) enter(m, i);
  }
  return m;
}

void lw_markers_free(lw_markers *m) {
  if (!m) return;
  free(m->entries);
  free(m->past);
  free(m);
}

/* The line goes to `to` in this piece: keeps what belongs to its head. */
static void add_to_head(lw_markers *m, lw_span piece, size_t to) {
  size_t n = LW_MIN(to - m->begin, sizeof m->head - m->head_n);
  if (n > 0) memcpy(m->head + m->head_n, piece.p + m->begin, n);
  m->head_n += n;
  m->before += to - m->begin;
}

static void begin_line(lw_markers *m, size_t at) {
  m->line++;
  m->begin = at;
  m->before = m->head_n = 0;
  m->informs = false;
}

/* An INFO line ends before `end` in this piece. */
static void give_line(lw_markers *m, lw_span piece, size_t end, bool with_lf) {
  char last = end > 0 ? piece.p[end - 1] : m->past_n > 0 ? m->past[m->past_n - 1] : 0;
  add_to_head(m, piece, end);
  uint64_t size = m->before - (with_lf && m->before > 0 && last == '\r');
  m->events.on_info(m->owner, (lw_span){m->head, (size_t)LW_MIN(m->head_n, size)}, size);
}

/* Lines that end before `to` are over. */
static void pass(lw_markers *m, lw_span piece, size_t to) {
  if (m->informs) {
    const char *lf = memchr(piece.p + m->passed, '\n', to - m->passed);
    if (lf) {
      m->passed = (size_t)(lf - piece.p) + 1;
      give_line(m, piece, m->passed - 1, true);
      begin_line(m, m->passed);
    }
  }
  if (!m->informs) {
    const char *lf = memrchr(piece.p + m->passed, '\n', to - m->passed);
    if (lf) begin_line(m, (size_t)(lf - piece.p) + 1);
  }
  m->passed = to;
}

/* Whether the marker's last byte is at `at` of this piece. */
static bool ends_at(const lw_markers *m, lw_span piece, size_t at, uint32_t entry) {
  const char *text = m->list[entry - 1].text;
  size_t size = m->entries[entry].size;
  if (size <= at + 1) return memcmp(piece.p + at + 1 - size, text, size) == 0;
  size_t earlier = size - at - 1;
  return earlier <= m->past_n && memcmp(piece.p, text + earlier, at + 1) == 0 &&
         memcmp(m->past + m->past_n - earlier, text, earlier) == 0;
}

static void tell_all_at(lw_markers *m, lw_span piece, size_t at, unsigned key) {
  for (uint32_t i = m->first[m->window == 1 ? 0 : key]; i != NONE; i = m->entries[i].next) {
    if (!ends_at(m, piece, at, i)) continue;
    pass(m, piece, at);
    if (m->entries[i].said_in == m->line) continue;
    m->entries[i].said_in = m->line;
    if (m->list[i - 1].kind == LW_MARKER_INFO) {
      m->informs = true;
    } else {
      m->events.on_marker(m->owner, &m->list[i - 1]);
    }
  }
}

static void keep_past(lw_markers *m, lw_span piece) {
  if (piece.n >= m->past_max) {
    memcpy(m->past, piece.p + piece.n - m->past_max, m->past_max);
    m->past_n = m->past_max;
    return;
  }
  size_t keep = LW_MIN(m->past_n, m->past_max - piece.n);
  memmove(m->past, m->past + m->past_n - keep, keep);
  memcpy(m->past + keep, piece.p, piece.n);
  m->past_n = keep + piece.n;
}

void lw_markers_feed(lw_markers *m, lw_span piece) {
  if (m->window == 0 || piece.n == 0) return;
  const unsigned char *p = (const unsigned char *)piece.p;
  size_t at = m->to_skip;
  if (at == 0) {
    unsigned key = key_of(m->past_n > 0 ? (unsigned char)m->past[m->past_n - 1] : 0, p[0]);
    if (m->skip[key] == 0) tell_all_at(m, piece, 0, key);
    at += LW_MAX(m->skip[key], 1);
  }
  while (at < piece.n) {
    unsigned key = key_of(p[at - 1], p[at]);
    if (m->skip[key] == 0) tell_all_at(m, piece, at, key);
    at += LW_MAX(m->skip[key], 1);
  }
  m->to_skip = at - piece.n;
  pass(m, piece, piece.n);
  add_to_head(m, piece, piece.n);
  keep_past(m, piece);
  m->begin = m->passed = 0;
}

void lw_markers_end_line(lw_markers *m) {
  if (m->window == 0) return;
  if (m->informs) give_line(m, LW_SPAN(""), 0, false);
  begin_line(m, 0);
  m->past_n = 0;
  m->to_skip = m->window - 1;
}
