/* SPDX-License-Identifier: MIT
 * The line before the one slot: order, bounds, leaving in every state, and a random walk against a
 * plain array that does the same. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "worker/queue.h"

typedef enum reaction {
  STAY,
  LEAVE,
  LEAVE_AND_ENTER_AGAIN,
  LEAVE_WITH_OTHER,
  FREE
} reaction;

typedef struct request {
  lw_queue_entry entry;
  int id;
  size_t bytes;
  reaction reaction;
  struct request *other;
} request;

static struct {
  lw_queue *queue;
  bool entering; /* a call of lw_queue_enter is on the stack */
  int turns[70000], turn_count;
  int depth, deepest;
} seen;

static lw_code enter(request *r) {
  bool outer = seen.entering;
  seen.entering = true;
  lw_code code = lw_queue_enter(seen.queue, &r->entry, r->bytes);
  seen.entering = outer;
  return code;
}

static void on_turn(lw_queue_entry *entry) {
  request *r = LW_CONTAINER_OF(entry, request, entry);
  assert_false(seen.entering);
  assert_false(lw_queue_is_waiting(entry));
  seen.turns[seen.turn_count++] = r->id;
  if (++seen.depth > seen.deepest) seen.deepest = seen.depth;
  if (r->reaction == LEAVE_WITH_OTHER) lw_queue_leave(seen.queue, &r->other->entry);
  if (r->reaction != STAY) lw_queue_leave(seen.queue, entry);
  if (r->reaction == LEAVE_AND_ENTER_AGAIN) {
    r->reaction = STAY;
    lw_code code = enter(r);
    assert_true(code == LW_OK || code == LW_AGAIN);
  }
  if (r->reaction == FREE) free(r);
  seen.depth--;
}

static void open_queue(unsigned max_count, size_t max_bytes) {
  memset(&seen, 0, sizeof(seen));
  seen.queue = lw_queue_new(&(lw_queue_limits){max_count, max_bytes}, on_turn);
}

static void close_queue(void) { lw_queue_free(seen.queue); }

static void init_requests(request *r, int n) {
  for (int i = 0; i < n; i++) {
    r[i] = (request){.id = i, .bytes = 10};
    lw_queue_entry_init(&r[i].entry);
  }
}

static void leave(request *r) { lw_queue_leave(seen.queue, &r->entry); }

static void first_takes_the_slot_and_the_rest_wait_in_order(void **state) {
  (void)state;
  request r[4];
  init_requests(r, 4);
  open_queue(10, 1000);
  assert_int_equal(enter(&r[0]), LW_OK);
  assert_false(lw_queue_is_waiting(&r[0].entry));
  assert_int_equal(lw_queue_waiting(seen.queue), 0);
  for (int i = 1; i < 4; i++) assert_int_equal(enter(&r[i]), LW_AGAIN);
  assert_true(lw_queue_is_waiting(&r[2].entry));
  assert_int_equal(lw_queue_waiting(seen.queue), 3);
  assert_int_equal(lw_queue_waiting_bytes(seen.queue), 30);
  assert_int_equal(seen.turn_count, 0);
  for (int i = 0; i < 4; i++) {
    leave(&r[i]);
    assert_int_equal(seen.turn_count, i < 3 ? i + 1 : 3);
  }
  for (int i = 0; i < 3; i++) assert_int_equal(seen.turns[i], i + 1);
  assert_int_equal(lw_queue_waiting_bytes(seen.queue), 0);
  assert_int_equal(enter(&r[2]), LW_OK);
  leave(&r[2]);
  close_queue();
}

static void a_waiting_entry_leaves_without_disturbing_the_line(void **state) {
  (void)state;
  request r[4];
  init_requests(r, 4);
  open_queue(10, 1000);
  assert_int_equal(enter(&r[0]), LW_OK);
  for (int i = 1; i < 4; i++) assert_int_equal(enter(&r[i]), LW_AGAIN);
  leave(&r[2]);
  assert_false(lw_queue_is_waiting(&r[2].entry));
  assert_int_equal(seen.turn_count, 0);
  assert_int_equal(lw_queue_waiting(seen.queue), 2);
  assert_int_equal(lw_queue_waiting_bytes(seen.queue), 20);
  leave(&r[2]);
  assert_int_equal(lw_queue_waiting(seen.queue), 2);
  leave(&r[0]);
  leave(&r[0]);
  assert_int_equal(seen.turn_count, 1);
  leave(&r[1]);
  assert_int_equal(seen.turns[1], 3);
  leave(&r[3]);
  close_queue();
}

static void a_full_line_refuses_and_changes_nothing(void **state) {
  (void)state;
  request r[5];
  init_requests(r, 5);
  open_queue(2, 25);
  r[0].bytes = 1 << 20; /* the holder's bytes are not the line's */
  assert_int_equal(enter(&r[0]), LW_OK);
  assert_int_equal(enter(&r[1]), LW_AGAIN);
  r[2].bytes = 16;
  assert_int_equal(enter(&r[2]), LW_LIMIT);
  r[2].bytes = SIZE_MAX;
  assert_int_equal(enter(&r[2]), LW_LIMIT);
  assert_int_equal(lw_queue_waiting(seen.queue), 1);
  assert_int_equal(lw_queue_waiting_bytes(seen.queue), 10);
  r[2].bytes = 15;
  assert_int_equal(enter(&r[2]), LW_AGAIN);
  r[3].bytes = 0;
  assert_int_equal(enter(&r[3]), LW_LIMIT);
  assert_false(lw_queue_is_waiting(&r[3].entry));
  leave(&r[3]);
  leave(&r[1]);
  assert_int_equal(enter(&r[3]), LW_AGAIN);
  for (int i = 0; i < 4; i++) leave(&r[i]);
  close_queue();

  open_queue(0, 0); /* nobody may wait; the slot still works */
  assert_int_equal(enter(&r[0]), LW_OK);
  r[1].bytes = 0;
  assert_int_equal(enter(&r[1]), LW_LIMIT);
  leave(&r[0]);
  close_queue();
}

static void a_turn_may_be_given_up_inside_on_turn(void **state) {
  (void)state;
  static request r[60000];
  const int n = (int)LW_ARRAY_SIZE(r);
  init_requests(r, n);
  open_queue((unsigned)n, SIZE_MAX);
  for (int i = 0; i < n; i++) {
    r[i].reaction = LEAVE;
    assert_int_equal(enter(&r[i]), i ? LW_AGAIN : LW_OK);
  }
  leave(&r[0]);
  assert_int_equal(seen.turn_count, n - 1);
  for (int i = 0; i < n - 1; i++) assert_int_equal(seen.turns[i], i + 1);
  assert_int_equal(seen.deepest, 1);
  assert_int_equal(lw_queue_waiting(seen.queue), 0);
  close_queue();
}

static void who_enters_inside_on_turn_stands_behind_the_line(void **state) {
  (void)state;
  request r[4];
  init_requests(r, 4);
  open_queue(10, 1000);
  for (int i = 0; i < 4; i++) assert_int_equal(enter(&r[i]), i ? LW_AGAIN : LW_OK);
  r[1].reaction = LEAVE_AND_ENTER_AGAIN; /* 2 and 3 stand before it */
  leave(&r[0]);
  assert_true(lw_queue_is_waiting(&r[1].entry));
  for (int i = 2; i < 4; i++) leave(&r[i]);
  const int expected[] = {1, 2, 3, 1};
  assert_int_equal(seen.turn_count, 4);
  for (int i = 0; i < 4; i++) assert_int_equal(seen.turns[i], expected[i]);
  assert_int_equal(enter(&r[0]), LW_AGAIN);
  r[0].reaction = LEAVE_AND_ENTER_AGAIN; /* alone: takes the slot again at once */
  leave(&r[1]);
  assert_false(lw_queue_is_waiting(&r[0].entry));
  assert_int_equal(enter(&r[2]), LW_AGAIN);
  leave(&r[2]);
  leave(&r[0]);
  close_queue();
}

static void others_may_leave_and_entries_be_freed_inside_on_turn(void **state) {
  (void)state;
  request r[4];
  init_requests(r, 4);
  open_queue(10, 1000);
  request *freed = malloc(sizeof(*freed));
  init_requests(freed, 1);
  freed->id = 9;
  freed->reaction = FREE;
  assert_int_equal(enter(&r[0]), LW_OK);
  assert_int_equal(enter(freed), LW_AGAIN);
  for (int i = 1; i < 4; i++) assert_int_equal(enter(&r[i]), LW_AGAIN);
  r[1].reaction = LEAVE_WITH_OTHER;
  r[1].other = &r[2];
  leave(&r[0]);
  assert_int_equal(seen.turn_count, 3);
  assert_int_equal(seen.turns[0], 9);
  assert_int_equal(seen.turns[1], 1);
  assert_int_equal(seen.turns[2], 3);
  leave(&r[3]);
  close_queue();
}

/* The same rules over an array of ids, moved by hand: shares no code with the queue. */
typedef struct model {
  int line[64], waiting, holder;
  size_t bytes;
  int turns;
} model;

static int model_drop(model *m, const request *r, int at) {
  int id = m->line[at];
  memmove(&m->line[at], &m->line[at + 1], (size_t)(m->waiting - at - 1) * sizeof(int));
  m->waiting--;
  m->bytes -= r[id].bytes;
  return id;
}

static void model_leave(model *m, const request *r, int id, int *expected_turns) {
  for (int i = 0; i < m->waiting; i++) {
    if (m->line[i] != id) continue;
    model_drop(m, r, i);
    return;
  }
  if (m->holder != id) return;
  m->holder = -1;
  while (m->holder < 0 && m->waiting) {
    int next = model_drop(m, r, 0);
    expected_turns[m->turns++] = next;
    if (r[next].reaction == STAY) m->holder = next;
  }
}

static lw_code model_enter(model *m, const request *r, int id, unsigned max_count,
                           size_t max_bytes) {
  if (m->holder < 0) {
    m->holder = id;
    return LW_OK;
  }
  if ((unsigned)m->waiting >= max_count || m->bytes + r[id].bytes > max_bytes) return LW_LIMIT;
  m->line[m->waiting++] = id;
  m->bytes += r[id].bytes;
  return LW_AGAIN;
}

static bool model_has(const model *m, int id) {
  for (int i = 0; i < m->waiting; i++) {
    if (m->line[i] == id) return true;
  }
  return m->holder == id;
}

static void random_walk_agrees_with_a_plain_array(void **state) {
  (void)state;
  enum {
    N = 24,
    MAX_COUNT = 12,
    MAX_BYTES = 400,
    STEPS = 40000
  };
  static int expected[70000];
  request r[N];
  init_requests(r, N);
  open_queue(MAX_COUNT, MAX_BYTES);
  model m = {.holder = -1};
  srand(20240917);
  int limited = 0;
  for (int step = 0; step < STEPS; step++) {
    int id = rand() % N;
    if (!model_has(&m, id) && rand() % 3) {
      r[id].bytes = (size_t)(rand() % 80);
      r[id].reaction = rand() % 4 ? STAY : LEAVE;
      lw_code want = model_enter(&m, r, id, MAX_COUNT, MAX_BYTES);
      assert_int_equal(enter(&r[id]), want);
      limited += want == LW_LIMIT;
    } else {
      if (rand() % 2 && m.holder >= 0) id = m.holder;
      model_leave(&m, r, id, expected);
      leave(&r[id]);
    }
    assert_int_equal(seen.turn_count, m.turns);
    assert_int_equal(lw_queue_waiting(seen.queue), m.waiting);
    assert_int_equal(lw_queue_waiting_bytes(seen.queue), m.bytes);
    for (int i = 0; i < N; i++) {
      assert_int_equal(lw_queue_is_waiting(&r[i].entry), model_has(&m, i) && m.holder != i);
    }
  }
  assert_memory_equal(seen.turns, expected, (size_t)m.turns * sizeof(int));
  assert_true(limited > 100 && m.turns > 1000); /* the walk went where the rules bite */
  while (m.holder >= 0) {
    int id = m.holder;
    model_leave(&m, r, id, expected);
    leave(&r[id]);
  }
  close_queue();
}

static void the_estimate_and_retry_after(void **state) {
  (void)state;
  assert_true(lw_queue_estimate_s(500, 100) == 5);
  assert_true(lw_queue_estimate_s(500, 0) == 0);
  assert_true(lw_queue_estimate_s(500, -1) == 0);
  assert_true(lw_queue_estimate_s(500, NAN) == 0);
  assert_true(lw_queue_estimate_s(0, 100) == 0);
  assert_true(lw_queue_estimate_s(1, 1e-9) == 1 / 1e-5);
  assert_int_equal(lw_queue_retry_after_s(35, 30), 5);
  assert_int_equal(lw_queue_retry_after_s(35.2, 30), 6);
  assert_int_equal(lw_queue_retry_after_s(30, 30), 1);
  assert_int_equal(lw_queue_retry_after_s(10, 30), 1);
  assert_int_equal(lw_queue_retry_after_s(1e9, 30), 3600);
  assert_int_equal(lw_queue_retry_after_s(INFINITY, 30), 3600);
  assert_int_equal(lw_queue_retry_after_s(5, INFINITY), 1);
  assert_int_equal(lw_queue_retry_after_s(NAN, 30), 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(first_takes_the_slot_and_the_rest_wait_in_order),
      cmocka_unit_test(a_waiting_entry_leaves_without_disturbing_the_line),
      cmocka_unit_test(a_full_line_refuses_and_changes_nothing),
      cmocka_unit_test(a_turn_may_be_given_up_inside_on_turn),
      cmocka_unit_test(who_enters_inside_on_turn_stands_behind_the_line),
      cmocka_unit_test(others_may_leave_and_entries_be_freed_inside_on_turn),
      cmocka_unit_test(random_walk_agrees_with_a_plain_array),
      cmocka_unit_test(the_estimate_and_retry_after),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
