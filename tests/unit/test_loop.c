/* SPDX-License-Identifier: MIT
 * The loop: in which order woken items, late ones, graves and deadlines run, and that none of them
 * starves the others. Deadlines (loop/timer.c) also against a plain array. */
#include "loop/loop.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "loop/timer.h"
#include "turn.h"

static char story[256]; /* a letter per event */

static void tell(char what) {
  size_t n = strlen(story);
  assert_true(n + 1 < sizeof story);
  story[n] = what;
  story[n + 1] = 0;
}

typedef struct item {
  lw_wake wake;
  lw_grave grave;
  lw_timer timer;
  char name;
  int times;                   /* how often it was run */
  void (*then)(struct item *); /* what it does besides */
  struct item *other;
} item;

static void run_item(lw_wake *w) {
  item *i = LW_CONTAINER_OF(w, item, wake);
  tell(i->name);
  i->times++;
  if (i->then) i->then(i);
}
static void bury_item(lw_grave *g) { tell((char)(LW_CONTAINER_OF(g, item, grave)->name - 32)); }
static void fire_item(lw_timer *t) {
  item *i = LW_CONTAINER_OF(t, item, timer);
  tell(i->name);
  i->times++;
  if (i->then) i->then(i);
}

static item make(char name, void (*then)(item *), item *other) {
  item i = {.name = name, .then = then, .other = other};
  return i;
}
static void prepare(item *i) {
  lw_wake_init(&i->wake, run_item);
  lw_timer_init(&i->timer, fire_item);
}
#define ITEM(var, name, then, other)  \
  item var = make(name, then, other); \
  prepare(&var)

static int open_loop(void **state) {
  (void)state;
  story[0] = 0;
  lw_loop_init();
  return 0;
}
static int close_loop(void **state) {
  (void)state;
  lw_loop_fini();
  return 0;
}

/* -- waking -- */

static void items_run_once_in_their_order(void **state) {
  (void)state;
  ITEM(a, 'a', NULL, NULL);
  ITEM(b, 'b', NULL, NULL);
  ITEM(c, 'c', NULL, NULL);
  lw_loop_wake(&b.wake);
  lw_loop_wake(&a.wake);
  lw_loop_wake(&b.wake);
  lw_loop_wake(&c.wake);
  lw_wake_cancel(&c.wake);
  lw_wake_cancel(&c.wake);
  assert_string_equal(story, ""); /* not before the drain */
  turn_for(1);
  assert_string_equal(story, "ba");
  lw_loop_wake(&c.wake);
  turn_for(1);
  assert_string_equal(story, "bac");
}

static void wake_other(item *i) { lw_loop_wake(&i->other->wake); }
static void cancel_other(item *i) { lw_wake_cancel(&i->other->wake); }
static void wake_itself_twice(item *i) {
  if (i->times < 3) lw_loop_wake(&i->wake);
}

static void items_woken_by_items_run_in_the_same_drain(void **state) {
  (void)state;
  ITEM(c, 'c', NULL, NULL);
  ITEM(b, 'b', wake_other, &c);
  ITEM(a, 'a', wake_other, &b);
  lw_loop_wake(&a.wake);
  turn_for(0);
  assert_string_equal(story, "abc");
}

static void items_run_again_when_they_wake_themselves(void **state) {
  (void)state;
  ITEM(a, 'a', wake_itself_twice, NULL);
  lw_loop_wake(&a.wake);
  turn_for(1);
  assert_string_equal(story, "aaa");
}

static void an_item_may_cancel_one_of_the_same_round(void **state) {
  (void)state;
  ITEM(b, 'b', NULL, NULL);
  ITEM(a, 'a', cancel_other, &b);
  lw_loop_wake(&a.wake);
  lw_loop_wake(&b.wake);
  turn_for(1);
  assert_string_equal(story, "a");
}

static void late_items_run_after_all_others(void **state) {
  (void)state;
  ITEM(late, 'l', NULL, NULL);
  ITEM(b, 'b', NULL, NULL);
  ITEM(a, 'a', wake_other, &b);
  lw_loop_wake_late(&late.wake);
  lw_loop_wake_late(&late.wake);
  lw_loop_wake(&a.wake);
  turn_for(1);
  assert_string_equal(story, "abl");
  lw_loop_wake_late(&late.wake);
  lw_wake_cancel(&late.wake);
  turn_for(1);
  assert_string_equal(story, "abl");
}

static void late_items_may_wake_others(void **state) {
  (void)state;
  ITEM(a, 'a', NULL, NULL);
  ITEM(late, 'l', wake_other, &a);
  lw_loop_wake_late(&late.wake);
  turn_for(0);
  assert_string_equal(story, "la");
}

static void bury(item *i) { lw_loop_bury(&i->grave, bury_item); }

static int rounds;
static void run_busy(lw_wake *w) {
  rounds++;
  lw_loop_wake(w);
}

/* Neither deadlines nor late items starve behind an item that is always ready. */
static void a_busy_item_does_not_stop_the_others(void **state) {
  (void)state;
  lw_wake busy;
  lw_wake_init(&busy, run_busy);
  rounds = 0;
  ITEM(late, 'l', NULL, NULL);
  ITEM(grave, 'g', bury, NULL);
  lw_loop_wake(&busy);
  lw_loop_wake(&grave.wake);
  lw_loop_wake_late(&late.wake);
  turn_for(5); /* comes back: its deadline had its turn */
  assert_string_equal(story, "glG");
  assert_true(rounds > 20); /* and was not waited for */
  lw_wake_cancel(&busy);
}

/* -- freeing -- */

static void bury_and_wake(item *i) {
  bury(i);
  lw_loop_wake(&i->other->wake);
}

static void graves_are_filled_at_the_end_of_the_drain(void **state) {
  (void)state;
  ITEM(late, 'l', NULL, NULL);
  ITEM(b, 'b', bury, NULL);
  ITEM(a, 'a', bury_and_wake, &b);
  lw_loop_wake_late(&late.wake);
  lw_loop_wake(&a.wake);
  turn_for(1);
  assert_string_equal(story, "ablAB");
}

static void bury_the_other(lw_grave *g) {
  item *i = LW_CONTAINER_OF(g, item, grave);
  bury_item(g);
  lw_loop_bury(&i->other->grave, bury_item);
}

static void a_burial_may_lead_to_another(void **state) {
  (void)state;
  ITEM(b, 'b', NULL, NULL);
  ITEM(a, 'a', NULL, &b);
  lw_loop_bury(&a.grave, bury_the_other);
  turn_for(1);
  assert_string_equal(story, "AB");
}

static void what_is_buried_at_the_end_is_still_freed(void **state) {
  (void)state;
  ITEM(a, 'a', bury, NULL);
  lw_loop_wake(&a.wake);
  lw_loop_fini();
  assert_string_equal(story, "aA");
  lw_loop_init();
}

/* -- deadlines -- */

static void deadlines_fire_in_their_order(void **state) {
  (void)state;
  ITEM(a, 'a', NULL, NULL);
  ITEM(b, 'b', NULL, NULL);
  ITEM(c, 'c', NULL, NULL);
  ITEM(d, 'd', NULL, NULL);
  lw_timer_start(&a.timer, 60);
  lw_timer_start(&b.timer, 20);
  lw_timer_start(&c.timer, 40);
  lw_timer_start(&d.timer, 0);
  assert_int_equal(lw_timers_active(), 4);
  uint64_t begun = lw_now_ms();
  TURN_UNTIL(strlen(story) == 4);
  assert_true(lw_now_ms() - begun >= 60);
  assert_string_equal(story, "dbca");
  assert_false(lw_timer_active(&a.timer));
  assert_int_equal(lw_timers_active(), 0);
}

static void deadlines_move_both_ways(void **state) {
  (void)state;
  ITEM(later, 'l', NULL, NULL);
  ITEM(sooner, 's', NULL, NULL);
  ITEM(middle, 'm', NULL, NULL);
  lw_timer_start(&later.timer, 10);
  lw_timer_start(&sooner.timer, 60000);
  lw_timer_start(&middle.timer, 300);
  lw_timer_start(&later.timer, 600);
  lw_timer_start(&sooner.timer, 20);
  TURN_UNTIL(later.times);
  assert_string_equal(story, "sml");
}

static void a_stopped_deadline_never_fires(void **state) {
  (void)state;
  ITEM(a, 'a', NULL, NULL);
  ITEM(b, 'b', NULL, NULL);
  ITEM(c, 'c', NULL, NULL);
  lw_timer_start(&a.timer, 10);
  lw_timer_start(&b.timer, 10);
  lw_timer_start(&c.timer, 20);
  lw_timer_stop(&a.timer);
  lw_timer_fini(&b.timer);
  lw_timer_fini(&b.timer);
  assert_false(lw_timer_active(&a.timer) || lw_timer_active(&b.timer));
  TURN_UNTIL(c.times);
  turn_for(5);
  assert_string_equal(story, "c");
  lw_timer_start(&a.timer, 1); /* stopped is not dead */
  TURN_UNTIL(a.times);
  lw_timer_fini(&a.timer);
}

static void start_again(item *i) {
  if (i->times < 3) lw_timer_start(&i->timer, 1);
}
static void stop_other(item *i) { lw_timer_fini(&i->other->timer); }

static void deadlines_may_be_changed_while_one_fires(void **state) {
  (void)state;
  ITEM(again, 'a', start_again, NULL);
  ITEM(victim, 'v', NULL, NULL);
  ITEM(killer, 'k', stop_other, &victim);
  lw_timer_start(&killer.timer, 1);
  lw_timer_start(&victim.timer, 2);
  lw_timer_start(&again.timer, 5);
  usleep(10000); /* all three are due at once */
  TURN_UNTIL(again.times == 3);
  assert_string_equal(story, "kaaa");
}

enum {
  MANY = 300
};
typedef struct many {
  lw_timer timer;
  uint64_t due_ms; /* 0: not running */
  int fired;
} many;
static many all[MANY];
static int wrong;

static void fire_many(lw_timer *t) {
  many *m = LW_CONTAINER_OF(t, many, timer);
  m->fired++;
  if (m->due_ms == 0 || lw_now_ms() < m->due_ms) wrong++;
  m->due_ms = 0;
}

static uint32_t random_below(uint32_t n) {
  static uint32_t x = 2463534242u;
  x ^= x << 13, x ^= x >> 17, x ^= x << 5;
  return x % n;
}

static void random_deadlines_agree_with_a_plain_array(void **state) {
  (void)state;
  wrong = 0;
  for (int i = 0; i < MANY; i++) {
    lw_timer_init(&all[i].timer, fire_many);
    all[i].due_ms = 0;
  }
  for (int step = 0; step < 20000; step++) {
    many *m = &all[random_below(MANY)];
    switch (random_below(4)) {
      case 0:
        m->due_ms = 0, lw_timer_stop(&m->timer);
        break;
      case 1:
        m->due_ms = 0, lw_timer_fini(&m->timer);
        break;
      default: {
        uint64_t delay = random_below(60);
        m->due_ms = lw_now_ms() + delay;
        lw_timer_start(&m->timer, delay);
      }
    }
    if (step % 500 == 0) turn_for(1);
  }
  unsigned running = 0;
  for (int i = 0; i < MANY; i++) running += all[i].due_ms != 0;
  assert_int_equal(lw_timers_active(), running);
  TURN_UNTIL(lw_timers_active() == 0);
  assert_int_equal(wrong, 0);
  for (int i = 0; i < MANY; i++) {
    assert_true(all[i].due_ms == 0); /* none was missed */
    lw_timer_fini(&all[i].timer);
  }
}

/* -- signals and the end -- */

static int caught;
static void on_signal(int signum) {
  caught = signum;
  tell('s');
}

static void signals_come_in_the_drain(void **state) {
  (void)state;
  caught = 0;
  lw_loop_on_signal(SIGUSR1, on_signal);
  lw_loop_on_signal(SIGUSR2, on_signal);
  raise(SIGUSR2);
  assert_int_equal(caught, 0);
  TURN_UNTIL(caught == SIGUSR2);
  raise(SIGUSR1);
  TURN_UNTIL(caught == SIGUSR1);
  assert_string_equal(story, "ss");
}

static void a_stop_before_the_run_holds(void **state) {
  (void)state;
  ITEM(a, 'a', NULL, NULL);
  lw_loop_stop();
  lw_loop_run(); /* returns */
  lw_loop_wake(&a.wake);
  turn_for(0);
  assert_string_equal(story, "a");
}

static void be_long(item *i) {
  if (lw_loop_hold_up(&i->wake)) {
    tell('-');
  } else {
    lw_loop_took_long();
  }
}

static void of_long_items_one_runs_before_the_others_of_a_turn_and_one_after(void **state) {
  (void)state;
  ITEM(a, 'a', be_long, NULL);
  ITEM(b, 'b', be_long, NULL);
  ITEM(c, 'c', be_long, NULL);
  ITEM(d, 'd', NULL, NULL);
  lw_loop_wake(&a.wake);
  lw_loop_wake(&b.wake);
  lw_loop_wake(&c.wake);
  lw_loop_wake(&d.wake);
  turn_for(0);
  assert_int_equal(strncmp(story, "ab-c-dbc-", 9), 0);
  assert_string_equal(story + 9, "c");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_loop, close_loop)
int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(items_run_once_in_their_order),
      TEST(items_woken_by_items_run_in_the_same_drain),
      TEST(items_run_again_when_they_wake_themselves),
      TEST(an_item_may_cancel_one_of_the_same_round),
      TEST(late_items_run_after_all_others),
      TEST(late_items_may_wake_others),
      TEST(a_busy_item_does_not_stop_the_others),
      TEST(of_long_items_one_runs_before_the_others_of_a_turn_and_one_after),
      TEST(graves_are_filled_at_the_end_of_the_drain),
      TEST(a_burial_may_lead_to_another),
      TEST(what_is_buried_at_the_end_is_still_freed),
      TEST(deadlines_fire_in_their_order),
      TEST(deadlines_move_both_ways),
      TEST(a_stopped_deadline_never_fires),
      TEST(deadlines_may_be_changed_while_one_fires),
      TEST(random_deadlines_agree_with_a_plain_array),
      TEST(signals_come_in_the_drain),
      TEST(a_stop_before_the_run_holds),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
