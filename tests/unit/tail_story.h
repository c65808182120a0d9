/* SPDX-License-Identifier: MIT
 * For tests of the tail: what it gives, as one text. */
#pragma once

#include "floor/log.h"
#include "logs.h"
#include "worker/tail.h"

static lw_tail *tail;
static char story[8192]; /* what came; "|" for on_file */
static size_t story_n, close_at = SIZE_MAX;

static void tell(lw_span text) {
  size_t n = LW_MIN(text.n, sizeof story - 1 - story_n);
  memcpy(story + story_n, text.p, n);
  story_n += n;
  story[story_n] = 0;
  if (story_n < close_at) return;
  lw_tail_close(tail);
  tail = NULL;
  close_at = SIZE_MAX;
}
static void on_bytes(void *owner, lw_span bytes) {
  assert_ptr_equal(owner, story);
  assert_true(bytes.n > 0);
  tell(bytes);
}
static void on_file(void *owner) {
  assert_ptr_equal(owner, story);
  tell(LW_SPAN("|"));
}
static const lw_tail_events events = {on_bytes, on_file};

static int set_up(void **state) {
  (void)state;
  lw_log_setup(1, LW_LOG_OFF, LW_LOG_TEXT);
  logs_make_folder();
  lw_loop_init();
  story[story_n = 0] = 0;
  tail = NULL;
  return 0;
}

/* Root may read everything: then these tests run as nobody. */
static bool was_root;
static void leave_root(void) {
  if (geteuid() != 0) return;
  was_root = true;
  chmod(logs_folder, 0755);
  assert_int_equal(seteuid(65534), 0);
}
static void be_root_again(void) {
  if (was_root) assert_int_equal(seteuid(0), 0);
  was_root = false;
}

static int tear_down(void **state) {
  (void)state;
  be_root_again();
  lw_tail_close(tail);
  lw_loop_fini();
  assert_int_equal(logs_open_files(), 0);
  return logs_remove_folder();
}

static void follow(const char *name) { tail = lw_tail_open(at(name), &events, story); }

static void wait_for(const char *text) {
  uint64_t end = lw_now_ms() + PATIENCE_MS;
  while (story_n < strlen(text) && lw_now_ms() < end) turn_for(1);
}
#define EXPECT(text)                  \
  do {                                \
    wait_for(text);                   \
    assert_string_equal(story, text); \
  } while (0)

static const char *error(void) {
  const char *why = lw_tail_look(tail).error;
  return why ? why : "";
}
