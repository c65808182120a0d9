/* SPDX-License-Identifier: MIT
 * Alarms: never early, in order, moved and stopped at any time, against a plain array; and the
 * descriptor, which is quiet when nothing waits and gone with the loop. */
#include "loop/alarm.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "turn.h"

enum {
  MANY = 500,
  MS = 1000000
};

typedef struct bell {
  lw_alarm alarm;
  uint64_t due_ns, rang_ns;
  unsigned times, order;
} bell;

static unsigned rung;

static void ring(lw_alarm *a) {
  bell *b = LW_CONTAINER_OF(a, bell, alarm);
  assert_false(lw_alarm_active(a));
  b->rang_ns = lw_now_ns();
  b->times++;
  b->order = ++rung;
}

static void set(bell *b, uint64_t due_ns) {
  b->due_ns = due_ns;
  lw_alarm_start(&b->alarm, due_ns);
}

static int begin(void **state) {
  (void)state;
  rung = 0;
  lw_loop_init();
  return 0;
}
static int end(void **state) {
  (void)state;
  if (lw_alarms_active()) return -1;
  lw_loop_fini();
  return 0;
}

static unsigned descriptors(void) {
  unsigned n = 0;
  DIR *dir = opendir("/proc/self/fd");
  while (readdir(dir)) n++;
  closedir(dir);
  return n;
}

static void never_early_and_in_order(void **state) {
  (void)state;
  bell bells[3] = {0};
  uint64_t now = lw_now_ns();
  for (int i = 0; i < 3; i++) {
    lw_alarm_init(&bells[i].alarm, ring);
    set(&bells[i], now + (uint64_t)(3 - i) * 2 * MS + 300000);
  }
  assert_int_equal(lw_alarms_active(), 3);
  TURN_UNTIL(rung == 3);
  for (int i = 0; i < 3; i++) {
    assert_true(bells[i].rang_ns >= bells[i].due_ns);
    assert_int_equal(bells[i].order, 3 - i);
  }
  assert_int_equal(lw_alarms_active(), 0);
}

static void the_past_rings_in_the_next_poll(void **state) {
  (void)state;
  const uint64_t past[] = {0, 1, lw_now_ns()};
  for (size_t i = 0; i < LW_ARRAY_SIZE(past); i++) {
    bell b = {0};
    lw_alarm_init(&b.alarm, ring);
    set(&b, past[i]);
    assert_int_equal(b.times, 0);
    TURN_UNTIL(b.times);
    turn_for(5);
    assert_int_equal(b.times, 1);
  }
}

static void stopped_ones_stay_silent(void **state) {
  (void)state;
  bell a = {0}, b = {0};
  lw_alarm_init(&a.alarm, ring);
  lw_alarm_init(&b.alarm, ring);
  lw_alarm_stop(&a.alarm);
  set(&a, lw_now_ns() + 3600ull * 1000 * MS);
  turn_for(1); /* the descriptor waits for it */
  set(&a, lw_now_ns() + 2 * MS);
  set(&b, lw_now_ns() + 4 * MS);
  lw_alarm_stop(&a.alarm);
  lw_alarm_stop(&a.alarm);
  assert_false(lw_alarm_active(&a.alarm));
  TURN_UNTIL(b.times);
  assert_int_equal(a.times, 0);
  set(&a, lw_now_ns() + 1 * MS); /* gone off, but not served yet */
  usleep(3000);
  lw_alarm_stop(&a.alarm);
  turn_for(5);
  assert_int_equal(a.times, 0);
}

static void moved_ones_ring_once(void **state) {
  (void)state;
  bell a = {0};
  lw_alarm_init(&a.alarm, ring);
  set(&a, UINT64_MAX);
  turn_for(1);
  set(&a, lw_now_ns() + 3600ull * 1000 * MS);
  turn_for(1);
  set(&a, lw_now_ns() + 60ull * 1000 * MS);
  assert_int_equal(lw_alarms_active(), 1);
  turn_for(1);
  set(&a, lw_now_ns() + 20 * MS);
  set(&a, lw_now_ns() + 2 * MS); /* a poll may come later than both */
  TURN_UNTIL(a.times);
  turn_for(30);
  assert_int_equal(a.times, 1);
}

static uint64_t seed = 11;
static unsigned below(unsigned n) {
  seed = seed * 6364136223846793005u + 1442695040888963407u;
  return (unsigned)(seed >> 33) % n;
}

static void many_at_random(void **state) {
  (void)state;
  static bell bells[MANY];
  bool waits[MANY] = {false};
  unsigned waiting = 0;
  for (int i = 0; i < MANY; i++) {
    bells[i] = (bell){0};
    lw_alarm_init(&bells[i].alarm, ring);
  }
  for (int step = 0; step < 20000; step++) {
    unsigned i = below(MANY);
    waiting -= waits[i];
    waits[i] = below(3) != 0;
    waiting += waits[i];
    if (waits[i]) {
      set(&bells[i], lw_now_ns() + 60ull * 1000 * MS + below(20 * MS));
    } else {
      lw_alarm_stop(&bells[i].alarm);
    }
    assert_int_equal(lw_alarms_active(), waiting);
    assert_int_equal(lw_alarm_active(&bells[i].alarm), waits[i]);
  }
  uint64_t now = lw_now_ns();
  for (int i = 0; i < MANY; i++) {
    if (waits[i]) set(&bells[i], now + MS + below(20 * MS));
  }
  TURN_UNTIL(rung == waiting);
  uint64_t by_order[MANY + 1] = {0};
  for (int i = 0; i < MANY; i++) {
    assert_int_equal(bells[i].times, waits[i]);
    if (!waits[i]) continue;
    assert_true(bells[i].rang_ns >= bells[i].due_ns);
    by_order[bells[i].order] = bells[i].due_ns;
  }
  for (unsigned i = 1; i <= waiting; i++) assert_true(by_order[i] >= by_order[i - 1]);
}

/* The loop sleeps again after an alarm: a descriptor left readable would make it spin. */
static void the_descriptor_is_quiet_at_rest(void **state) {
  (void)state;
  bell b = {0};
  lw_alarm_init(&b.alarm, ring);
  set(&b, lw_now_ns() + MS);
  TURN_UNTIL(b.times);
  struct timespec before, after;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
  turn_for(300);
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
  int64_t spent = (after.tv_sec - before.tv_sec) * 1000000000 + after.tv_nsec - before.tv_nsec;
  assert_true(spent < 150 * MS);
}

static void the_descriptor_goes_with_the_loop(void **state) {
  (void)state;
  lw_loop_init();
  unsigned before = descriptors();
  bell b = {0}, late = {0};
  lw_alarm_init(&b.alarm, ring);
  lw_alarm_init(&late.alarm, ring);
  assert_int_equal(descriptors(), before);
  set(&b, 1);
  TURN_UNTIL(b.times);
  assert_int_equal(descriptors(), before + 1);
  set(&late, UINT64_MAX);
  lw_loop_fini();
  assert_false(lw_alarm_active(&late.alarm));
  lw_alarm_stop(&late.alarm);
  lw_loop_init(); /* and comes back with the next one */
  set(&b, 1);
  TURN_UNTIL(b.times == 2);
  assert_int_equal(descriptors(), before + 1);
  lw_loop_fini();
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void) {
  const struct CMUnitTest tests[] = {
      CASE(never_early_and_in_order),
      CASE(the_past_rings_in_the_next_poll),
      CASE(stopped_ones_stay_silent),
      CASE(moved_ones_ring_once),
      CASE(many_at_random),
      CASE(the_descriptor_is_quiet_at_rest),
      cmocka_unit_test(the_descriptor_goes_with_the_loop),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
