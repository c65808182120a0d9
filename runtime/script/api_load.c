/* SPDX-License-Identifier: MIT
 * Adapters for load tests (see api_load.h), as those of script/api.c. Called only through the FFI.
 */
#include "script/api_load.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include "script/task.h"

static lw_span span(const char *p, size_t n) { return (lw_span){p, n}; }

static uint64_t whole_ns(double seconds) {
  if (!(seconds > 0)) return 0;
  return seconds < 9e9 ? (uint64_t)(seconds * 1e9 + 0.5) : (uint64_t)INT64_MAX;
}

int lw_api_task_sleep_until(double moment) {
  lw_task *t = lw_task_current();
  return t ? (int)lw_task_sleep_until(t, whole_ns(moment)) : LW_MISUSE;
}

/* -- bodies -- */

struct lw_body *lw_api_body_new(const char *p, size_t n) {
  lw_body *b = lw_body_new();
  lw_body_append(b, p, n);
  return b;
}
void lw_api_body_free(struct lw_body *b) { lw_body_unref(b); }

/* -- shots -- */

struct lw_shot_plan *lw_api_plan_new(const char *method, size_t n) {
  return lw_shot_plan_new(span(method, n));
}
int lw_api_plan_header(struct lw_shot_plan *p, const char *name, size_t name_n, const char *value,
                       size_t value_n) {
  return lw_shot_plan_header(p, span(name, name_n), span(value, value_n));
}
void lw_api_plan_timeouts(struct lw_shot_plan *p, double connect, double first_byte, double idle,
                          double total) {
  lw_upstream_timeouts t = {lw_ms(connect), lw_ms(first_byte), lw_ms(idle), lw_ms(total)};
  lw_shot_plan_set_timeouts(p, &t);
}
void lw_api_plan_expect_stream(struct lw_shot_plan *p) { lw_shot_plan_expect_stream(p); }
void lw_api_plan_note_gaps(struct lw_shot_plan *p, struct lw_quantile *q) {
  lw_shot_plan_note_gaps(p, q);
}
void lw_api_plan_free(struct lw_shot_plan *p) { lw_shot_plan_free(p); }

struct lw_shot *lw_api_shot_fire_body(struct lw_shot_plan *p, const char *url, size_t url_n,
                                      struct lw_body *body) {
  lw_task *t = lw_task_current();
  return t ? lw_shot_fire(p, &t->shots, &t->wake, span(url, url_n), body) : NULL;
}

struct lw_shot *lw_api_shot_fire(struct lw_shot_plan *p, const char *url, size_t url_n,
                                 const char *body, size_t body_n) {
  lw_body *b = body ? lw_api_body_new(body, body_n) : NULL;
  struct lw_shot *s = lw_api_shot_fire_body(p, url, url_n, b);
  lw_body_unref(b);
  return s;
}

int lw_api_shot_wait(struct lw_shot *s) {
  lw_code code = lw_shot_wait(s);
  lw_task *t = lw_task_current();
  bool cancelled = lw_shot_look(s)->outcome == LW_SHOT_CANCELLED;
  if (t && t->cancelled && (cancelled || code == LW_AGAIN)) return LW_CANCELLED;
  return code;
}

const lw_shot_result *lw_api_shot_result(struct lw_shot *s) { return lw_shot_look(s); }
const char *lw_api_shot_error(struct lw_shot *s) { return lw_shot_error(s); }
void lw_api_shot_tail(struct lw_shot *s, lw_span *out) { *out = lw_shot_tail(s); }
int lw_api_shot_header_get(struct lw_shot *s, const char *name, size_t n, lw_span *value) {
  return lw_shot_get_header(s, span(name, n), value);
}
void lw_api_shot_cancel(struct lw_shot *s) { lw_shot_cancel(s); }
void lw_api_shot_free(struct lw_shot *s) { lw_shot_free(s); }

/* -- durations -- */

struct lw_quantile *lw_api_quantile_new(void) {
  return lw_quantile_new();
}
void lw_api_quantile_free(struct lw_quantile *q) { lw_quantile_unref(q); }
void lw_api_quantile_clear(struct lw_quantile *q) { lw_quantile_clear(q); }
void lw_api_quantile_note(struct lw_quantile *q, double seconds) {
  lw_quantile_note(q, whole_ns(seconds));
}
double lw_api_quantile_at(struct lw_quantile *q, double fraction) {
  return lw_quantile_at(q, fraction) / 1e9;
}
double lw_api_quantile_count(struct lw_quantile *q) { return (double)q->count; }
double lw_api_quantile_sum(struct lw_quantile *q) { return q->sum_ns / 1e9; }
double lw_api_quantile_min(struct lw_quantile *q) { return lw_quantile_at(q, 0) / 1e9; }
double lw_api_quantile_max(struct lw_quantile *q) { return lw_quantile_at(q, 1) / 1e9; }
void lw_api_quantile_merge(struct lw_quantile *to, struct lw_quantile *from) {
  lw_quantile_merge(to, from);
}

int lw_api_quantile_next(struct lw_quantile *q, size_t *cursor, lw_quantile_bucket *out) {
  lw_quantile_range r;
  if (!lw_quantile_next(q, cursor, &r)) return 0;
  out->lower = (double)r.lower_ns / 1e9;
  out->upper = (double)r.upper_ns / 1e9;
  out->count = (double)r.count;
  return 1;
}

/* -- the program and its terminal -- */

void lw_api_on_stop(int key) {
  lw_task *t = lw_task_current();
  if (t) t->vm->stop_key = key;
}

static struct winsize stderr_size(void) {
  struct winsize size = {0};
  if (!isatty(STDERR_FILENO)) return size;
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0) size = (struct winsize){0};
  if (!size.ws_col) size.ws_col = 80;
  if (!size.ws_row) size.ws_row = 24;
  return size;
}
int lw_api_stderr_columns(void) { return stderr_size().ws_col; }
int lw_api_stderr_rows(void) { return stderr_size().ws_row; }

const char *lw_api_version(void) { return LW_VERSION; }
