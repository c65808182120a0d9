/* SPDX-License-Identifier: MIT
 * Line by line through a stream, of which only the first bytes of the present line are kept: enough
 * to tell data from other fields, and `[DONE]` from data. Called by exchange/shot. */
#include "wire/events.h"

lw_events_kind lw_events_kind_of(lw_span content_type) {
  static const struct {
    const char *type;
    lw_events_kind kind;
  } known[] = {
      {"text/event-stream", LW_EVENTS_SSE},         {"application/x-ndjson", LW_EVENTS_LINES},
      {"application/ndjson", LW_EVENTS_LINES},      {"application/jsonl", LW_EVENTS_LINES},
      {"application/x-jsonl", LW_EVENTS_LINES},     {"application/jsonlines", LW_EVENTS_LINES},
      {"application/x-jsonlines", LW_EVENTS_LINES},
  };
  lw_span type;
  if (!lw_span_next(&content_type, ';', &type)) return LW_EVENTS_NONE;
  for (size_t i = 0; i < LW_ARRAY_SIZE(known); i++) {
    if (lw_span_ieq(type, lw_span_of(known[i].type))) return known[i].kind;
  }
  return LW_EVENTS_NONE;
}

void lw_events_init(lw_events *e, lw_events_kind kind) {
  *e = (lw_events){.kind = kind, .first = true};
}

static bool is_blank(char c) { return c == ' ' || c == '\t'; }

/* Whether the line, of which `start` is the beginning, carries data that counts. */
static bool has_data(lw_events *e) {
  lw_span line = {e->start, LW_MIN(e->line_n, (size_t)LW_EVENTS_LINE_START)};
  if (e->first && line.n >= 3 && memcmp(line.p, "\xef\xbb\xbf", 3) == 0) {
    line = (lw_span){line.p + 3, line.n - 3};
  }
  if (line.n < 5 || memcmp(line.p, "data:", 5) != 0) return false;
  line = lw_span_trim((lw_span){line.p + 5, line.n - 5});
  bool whole = e->line_n <= LW_EVENTS_LINE_START;
  if (whole && lw_span_eq(line, LW_SPAN("[DONE]"))) return false;
  return line.n > 0 || !whole;
}

static unsigned end_sse_line(lw_events *e) {
  if (e->line_n > 0) {
    e->with_data |= has_data(e);
    e->first = false;
    e->line_n = 0;
    return 0;
  }
  unsigned count = e->with_data;
  e->with_data = false;
  e->first = false;
  return count;
}

static unsigned end_line(lw_events *e) {
  if (e->kind == LW_EVENTS_SSE) return end_sse_line(e);
  unsigned count = e->with_data;
  e->with_data = false;
  return count;
}

static void take(lw_events *e, char c) {
  if (e->kind == LW_EVENTS_LINES) {
    e->with_data |= !is_blank(c);
    return;
  }
  if (e->line_n < LW_EVENTS_LINE_START) e->start[e->line_n] = c;
  e->line_n++;
}

unsigned lw_events_feed(lw_events *e, lw_span bytes) {
  unsigned count = 0;
  for (size_t i = 0; i < bytes.n; i++) {
    char c = bytes.p[i];
    if (c != '\n' && c != '\r') {
      take(e, c);
    } else if (c == '\r' || !e->after_cr) {
      count += end_line(e);
    }
    e->after_cr = c == '\r';
  }
  return count;
}

unsigned lw_events_end(lw_events *e) {
  unsigned count = 0;
  if (e->kind == LW_EVENTS_SSE && e->line_n > 0) count += end_line(e);
  return count + end_line(e);
}
