/* SPDX-License-Identifier: MIT
 * The log: one line per event (a traceback on a terminal has more). Readable text on a terminal,
 * one JSON object a line otherwise. All values are escaped (control characters, invalid UTF-8) and
 * cut, so nothing from outside can forge a line. Times are UTC. A line is at most 32 KB and one
 * write(2), without allocation; to anything but a plain file a longer line goes in pieces of 4,096
 * bytes, since poll(2) promises no more room. It waits 50 ms at most for a reader that does not
 * read; then lines are dropped, and the next one that gets through says how many
 * (log_lines_dropped). Only the loop thread logs. */
#pragma once

#include "floor/base.h"

typedef enum lw_log_level {
  LW_LOG_DEBUG,
  LW_LOG_INFO,
  LW_LOG_WARN,
  LW_LOG_ERROR,
  LW_LOG_OFF
} lw_log_level;
typedef enum lw_log_format {
  LW_LOG_AUTO,
  LW_LOG_TEXT,
  LW_LOG_JSON
} lw_log_format;

/* AUTO: text when fd is a terminal. Call once at start, again to change. fd is borrowed. */
void lw_log_setup(int fd, lw_log_level level, lw_log_format format);
/* "debug" "info" "warn" "error" "off"; false when the name is none of these. */
bool lw_log_parse_level(const char *name, lw_log_level *level);
bool lw_log_enabled(lw_log_level level);

/* One typed field of a line. Text values longer than 2,048 bytes are cut and marked with "…",
 * tracebacks at 8,192. */
typedef enum lw_field_kind {
  LW_FIELD_TEXT,
  LW_FIELD_INT,
  LW_FIELD_NUMBER,
  LW_FIELD_BOOL,
  LW_FIELD_TRACEBACK
} lw_field_kind;
typedef struct lw_field {
  const char *key;
  lw_field_kind kind;
  lw_span text;
  int64_t integer;
  double number;
} lw_field;
static inline lw_field lw_field_span(const char *key, lw_span value) {
  return (lw_field){key, LW_FIELD_TEXT, value, 0, 0};
}
static inline lw_field lw_field_text(const char *key, const char *value) {
  return lw_field_span(key, lw_span_of(value));
}
static inline lw_field lw_field_int(const char *key, int64_t value) {
  return (lw_field){key, LW_FIELD_INT, {0, 0}, value, 0};
}
/* Printed with up to 3 decimals, trailing zeros dropped (milliseconds, workloads); not finite:
 * null. */
static inline lw_field lw_field_number(const char *key, double value) {
  return (lw_field){key, LW_FIELD_NUMBER, {0, 0}, 0, value};
}

static inline lw_field lw_field_bool(const char *key, bool value) {
  return (lw_field){key, LW_FIELD_BOOL, {0, 0}, value, 0};
}

/* Many lines; comes last. On a terminal each is a line of its own, indented, below the record; else
 * they stay within it: " | " for their breaks in text, \n in JSON. */
static inline lw_field lw_field_traceback(const char *key, lw_span value) {
  return (lw_field){key, LW_FIELD_TRACEBACK, value, 0, 0};
}

/* message: our own words, literal. Fields in the order given.
 *   text: 2026-01-02 03:04:05.678 INFO  request route=/generate status=200 total_ms=12.5
 *         (values that are not plain words are quoted; levels coloured on a terminal)
 *   json: {"time":"2026-01-02T03:04:05.678Z","level":"info","message":"request","route":...} */
void lw_log_fields(lw_log_level level, const char *message, const lw_field *fields, size_t n);
/* A formatted message without fields; the whole message is escaped and cut at 4,096 bytes
 * (16,384 at warn and error, for tracebacks: line breaks become " | " in text, \n in JSON). */
void lw_log(lw_log_level level, const char *format, ...) LW_PRINTF(2, 3);
#define lw_debug(...) (lw_log_enabled(LW_LOG_DEBUG) ? lw_log(LW_LOG_DEBUG, __VA_ARGS__) : (void)0)
#define lw_info(...) lw_log(LW_LOG_INFO, __VA_ARGS__)
#define lw_warn(...) lw_log(LW_LOG_WARN, __VA_ARGS__)
#define lw_error(...) lw_log(LW_LOG_ERROR, __VA_ARGS__)

/* For a signal handler that has interrupted this thread, wherever: no state is touched, nothing
 * waits. message: our own words; detail: cut at 256 bytes, what is not plain in it shown as "?". */
void lw_log_in_signal(lw_log_level level, const char *message, const char *detail);
