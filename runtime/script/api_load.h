/* SPDX-License-Identifier: MIT
 * What Lua may call to load others and measure them: moments, measured requests, percentiles. The
 * second part of the cdef; the rules of script/api.h hold here too. */
#pragma once

#include "exchange/shot.h"

#pragma GCC visibility push(default)
/* cdef: begin */
struct lw_body;
struct lw_shot;
struct lw_shot_plan;
struct lw_quantile;

/* -- moments -- */
/* LW_AGAIN until lw_api_now() has come to `moment`, to some microseconds; then LW_OK. One that has
 * passed is no wait, but now and then the loop gets its turn all the same. */
int lw_api_task_sleep_until(double moment);

/* -- request bodies, shared by many shots without a copy -- */
struct lw_body *lw_api_body_new(const char *p, size_t n);
void lw_api_body_free(struct lw_body *b); /* shots that have it keep it */

/* -- measured requests -- */
/* What many of them have in common; to be freed, at any time. */
struct lw_shot_plan *lw_api_plan_new(const char *method, size_t n);
/* LW_PROTOCOL: not a legal field. Host, Content-Length and such are ignored. */
int lw_api_plan_header(struct lw_shot_plan *p, const char *name, size_t name_n, const char *value,
                       size_t value_n);
/* Seconds, each 0: none. */
void lw_api_plan_timeouts(struct lw_shot_plan *p, double connect, double first_byte, double idle,
                          double total);
/* A body of a media type that says nothing of events is counted by the pieces in which it comes. */
void lw_api_plan_expect_stream(struct lw_shot_plan *p);
/* Gaps between events are noted in q (several events at once: one gap, then zeros). */
void lw_api_plan_note_gaps(struct lw_shot_plan *p, struct lw_quantile *q);
void lw_api_plan_free(struct lw_shot_plan *p);

/* Sends a request. It is the running task's, which is woken by it and with which it is stopped and
 * freed; NULL outside of a task. What is wrong with the URL comes out of the result. The body is
 * copied; NULL: none. */
struct lw_shot *lw_api_shot_fire(struct lw_shot_plan *p, const char *url, size_t url_n,
                                 const char *body, size_t body_n);
/* The same with a body that is shared. */
struct lw_shot *lw_api_shot_fire_body(struct lw_shot_plan *p, const char *url, size_t url_n,
                                      struct lw_body *body);
/* LW_AGAIN until it is over, then LW_OK; LW_CANCELLED when the task was, and the shot with it. */
int lw_api_shot_wait(struct lw_shot *s);
/* At any time; after lw_api_shot_wait the final one. Valid for the shot's life. */
const lw_shot_result *lw_api_shot_result(struct lw_shot *s);
const char *lw_api_shot_error(struct lw_shot *s);       /* one sentence, "" when none */
void lw_api_shot_tail(struct lw_shot *s, lw_span *out); /* the body, of a long one the last 16 KB */
/* 1 when the answer has such a field (any case). */
int lw_api_shot_header_get(struct lw_shot *s, const char *name, size_t n, lw_span *value);
void lw_api_shot_cancel(struct lw_shot *s); /* stops it; its result stays */
void lw_api_shot_free(struct lw_shot *s);   /* stops it; the handle is dead */

/* -- durations, in seconds, for percentiles: exact count, sum, least and most -- */
typedef struct lw_quantile_bucket {
  double lower, upper, count; /* lower <= duration < upper */
} lw_quantile_bucket;
struct lw_quantile *lw_api_quantile_new(void);
void lw_api_quantile_free(struct lw_quantile *q); /* shots that note in it keep it */
void lw_api_quantile_clear(struct lw_quantile *q);
void lw_api_quantile_note(struct lw_quantile *q, double seconds); /* below 0: as 0 */
/* What `fraction` (0 to 1) of all do not exceed, within 0.4 %; 0 of none. So min and max. */
double lw_api_quantile_at(struct lw_quantile *q, double fraction);
double lw_api_quantile_count(struct lw_quantile *q);
double lw_api_quantile_sum(struct lw_quantile *q);
double lw_api_quantile_min(struct lw_quantile *q);
double lw_api_quantile_max(struct lw_quantile *q);
void lw_api_quantile_merge(struct lw_quantile *to, struct lw_quantile *from);
/* The next bucket that is not empty, from *cursor on (begin with 0), which is moved: 1, or 0. */
int lw_api_quantile_next(struct lw_quantile *q, size_t *cursor, lw_quantile_bucket *out);

/* -- the program and its terminal -- */
/* The first signal to stop (SIGTERM, SIGINT) only notifies `key` (see lw_api_task_notify); the next
 * one ends the program as ever. */
void lw_api_on_stop(int key);
/* How wide and high the terminal at standard error is; 0: it is none. */
int lw_api_stderr_columns(void);
int lw_api_stderr_rows(void);
const char *lw_api_version(void);
/* cdef: end */
#pragma GCC visibility pop
