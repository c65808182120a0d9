/* SPDX-License-Identifier: MIT
 * The table of kinds of lines (see fold.h). Called by worker/complaint, in the loop thread. Owns a
 * copy of the last line of each kind. */
#include "floor/fold.h"

#include <stdio.h>
#include <stdlib.h>

enum {
  ERROR_MOST = 512,  /* of a repeated error */
  SHAPE_MOST = 2048, /* what of an error is compared */
  ID_MOST = 128
};

typedef struct kind {
  uint64_t hash;       /* of what makes lines one kind; 0: a free place */
  uint64_t place_hash; /* the same without the error */
  lw_log_level level;
  const char *message;
  char *route, *hook, *at, *error; /* owned; error: the last one's */
  char request_id[ID_MOST + 1];    /* the last one's */
  uint64_t count;                  /* not told yet */
  uint64_t begun_ms, window_ms;
  uint64_t used; /* grows: the lowest was not seen for longest */
} kind;

static kind kinds[LW_FOLD_KINDS];
static uint64_t uses, first_window_ms = LW_FOLD_WINDOW_MS;

void lw_fold_set_window(uint64_t first_ms) { first_window_ms = LW_MAX(first_ms, 1); }

/* -- what makes lines one kind -- */

#define HASH_SEED 0xcbf29ce484222325u

static uint64_t hash_byte(uint64_t hash, unsigned char c) {
  return (hash ^ c) * 0x100000001b3u; /* FNV-1a */
}

/* With its end, so that neighbours can't flow into one another. */
static uint64_t hash_text(uint64_t hash, lw_span s) {
  for (size_t i = 0; i < s.n; i++) hash = hash_byte(hash, (unsigned char)s.p[i]);
  return hash_byte(hash_byte(hash, 0), (unsigned char)(s.n & 0xff));
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_of_word(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Each word with a digit in it counts as the same one. */
static uint64_t hash_shape(uint64_t hash, lw_span s) {
  s.n = LW_MIN(s.n, SHAPE_MOST);
  for (size_t i = 0; i < s.n;) {
    size_t end = i;
    bool digits = false;
    for (; end < s.n && is_of_word(s.p[end]); end++) digits = digits || is_digit(s.p[end]);
    if (end == i) end++;
    if (digits) {
      hash = hash_byte(hash, '#');
    } else {
      for (size_t k = i; k < end; k++) hash = hash_byte(hash, (unsigned char)s.p[k]);
    }
    i = end;
  }
  return hash_byte(hash, 0);
}

static uint64_t hash_place(const lw_fold_line *line) {
  uint64_t hash = hash_byte(HASH_SEED, (unsigned char)line->level);
  hash = hash_text(hash, lw_span_of(line->message));
  hash = hash_text(hash, line->route);
  hash = hash_text(hash, line->hook);
  return hash_text(hash, line->at);
}

/* -- lines -- */

static size_t put(lw_field *f, size_t n, const char *key, lw_span value) {
  if (value.n) f[n++] = lw_field_span(key, value);
  return n;
}

static void log_whole(const lw_fold_line *line) {
  lw_field f[7];
  size_t n = put(f, 0, "route", line->route);
  n = put(f, n, "hook", line->hook);
  n = put(f, n, "at", line->at);
  n = put(f, n, "error", line->error);
  n = put(f, n, "request_id", line->request_id);
  n = put(f, n, "remote", line->remote);
  if (line->traceback.n) f[n++] = lw_field_traceback("traceback", line->traceback);
  lw_log_fields(line->level, line->message, f, n);
}

static void tell(kind *k, uint64_t now_ms) {
  if (k->count == 0) return;
  char message[160];
  snprintf(message, sizeof message, "%s, again", k->message);
  double seconds = (double)((now_ms - k->begun_ms + 50) / 100) / 10;
  lw_field f[7] = {lw_field_int("times", (int64_t)k->count), lw_field_number("seconds", seconds)};
  size_t n = put(f, 2, "route", lw_span_of(k->route));
  n = put(f, n, "hook", lw_span_of(k->hook));
  n = put(f, n, "at", lw_span_of(k->at));
  n = put(f, n, "error", lw_span_of(k->error));
  n = put(f, n, "request_id", lw_span_of(k->request_id));
  lw_log_fields(k->level, message, f, n);
  k->count = 0;
}

/* -- kinds -- */

static uint64_t end_of(const kind *k) { return k->begun_ms + k->window_ms; }

static bool is_over(const kind *k, uint64_t now_ms) {
  return k->hash == 0 || (k->count == 0 && now_ms >= end_of(k));
}

static void forget(kind *k) {
  free(k->route);
  free(k->hook);
  free(k->at);
  free(k->error);
  *k = (kind){0};
}

static kind *find(uint64_t hash) {
  for (kind *k = kinds; k < kinds + LW_FOLD_KINDS; k++) {
    if (k->hash == hash) return k;
  }
  return NULL;
}

static unsigned count_of_place(uint64_t place_hash, uint64_t now_ms) {
  unsigned n = 0;
  for (kind *k = kinds; k < kinds + LW_FOLD_KINDS; k++) {
    n += k->place_hash == place_hash && !is_over(k, now_ms);
  }
  return n;
}

static kind *make_room(uint64_t now_ms) {
  kind *oldest = kinds;
  for (kind *k = kinds; k < kinds + LW_FOLD_KINDS; k++) {
    if (k->used < oldest->used) oldest = k;
    if (!is_over(k, now_ms)) continue;
    oldest = k;
    break;
  }
  tell(oldest, now_ms);
  forget(oldest);
  return oldest;
}

static void keep_last(kind *k, const lw_fold_line *line) {
  size_t n = LW_MIN(line->request_id.n, ID_MOST);
  if (n) memcpy(k->request_id, line->request_id.p, n);
  k->request_id[n] = 0;
  free(k->error);
  k->error = lw_strdup_n(line->error.p, LW_MIN(line->error.n, ERROR_MOST));
}

static void begin(uint64_t hash, uint64_t place_hash, const lw_fold_line *line, uint64_t now_ms) {
  kind *k = make_room(now_ms);
  *k = (kind){.hash = hash,
              .place_hash = place_hash,
              .level = line->level,
              .message = line->message,
              .route = lw_span_dup(line->route),
              .hook = lw_span_dup(line->hook),
              .at = lw_span_dup(line->at),
              .begun_ms = now_ms,
              .window_ms = first_window_ms,
              .used = ++uses};
}

static void tell_when_due(kind *k, uint64_t now_ms) {
  if (k->count == 0 || now_ms < end_of(k)) return;
  tell(k, now_ms);
  k->begun_ms = now_ms;
  k->window_ms = LW_MIN(k->window_ms * 2, first_window_ms * LW_FOLD_GROWTH);
}

void lw_fold_note(const lw_fold_line *line, uint64_t now_ms) {
  if (!lw_log_enabled(line->level)) return;
  uint64_t place_hash = hash_place(line);
  uint64_t hash = hash_shape(place_hash, line->error) | 1;
  kind *k = find(hash);
  if (!k && count_of_place(place_hash, now_ms) >= LW_FOLD_KINDS_OF_PLACE) {
    hash = hash_byte(place_hash, 1) | 1;
    k = find(hash);
  }
  if (k) tell_when_due(k, now_ms);
  if (k && is_over(k, now_ms)) {
    forget(k);
    k = NULL;
  }
  if (!k) {
    log_whole(line);
    begin(hash, place_hash, line, now_ms);
    return;
  }
  k->count++;
  k->used = ++uses;
  keep_last(k, line);
}

uint64_t lw_fold_due_ms(void) {
  uint64_t due = UINT64_MAX;
  for (kind *k = kinds; k < kinds + LW_FOLD_KINDS; k++) {
    if (k->count) due = LW_MIN(due, end_of(k));
  }
  return due;
}

void lw_fold_tell(uint64_t now_ms) {
  for (kind *k = kinds; k < kinds + LW_FOLD_KINDS; k++) tell_when_due(k, now_ms);
}

void lw_fold_reset(uint64_t now_ms) {
  for (kind *k = kinds; k < kinds + LW_FOLD_KINDS; k++) {
    tell(k, now_ms);
    forget(k);
  }
}
