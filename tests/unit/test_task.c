/* SPDX-License-Identifier: MIT
 * Tasks: beginning, sleeping, waiting for each other, being cancelled, ending; and their VM, which
 * closes once nothing runs in it. The programs are Lua texts in this file. */
#include "script/task.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "exchange/upstream.h"
#include "floor/log.h"
#include "script/call.h"
#include "turn.h"
#include "wire/doc.h"
#include "worker/service.h"

#define WORDS                                 \
  "local worker = require 'luaworker'\n"      \
  "local await = require 'luaworker.await'\n" \
  "local base = require 'luaworker.base'\n"

static lw_vm *vm; /* NULL once it was closed */
static int quiet, exits, exit_status;

static void on_quiet(lw_vm *v) {
  assert_ptr_equal(v, vm);
  assert_int_equal(v->task_count, 0);
  quiet++;
}
static void on_exit_asked(lw_vm *v, int status) {
  assert_ptr_equal(v, vm);
  exits++;
  exit_status = status;
}

static int begin(void **state) {
  (void)state;
  char *argv[] = {(char *)"test.lua", (char *)"first", NULL};
  lw_log_setup(STDERR_FILENO, LW_LOG_OFF, LW_LOG_TEXT);
  lw_loop_init();
  lw_service_init(&(lw_queue_limits){10, 10000});
  vm = lw_vm_new(LW_VM_RUN, 2, argv);
  vm->on_quiet = on_quiet;
  vm->on_exit = on_exit_asked;
  quiet = exits = 0;
  exit_status = -1;
  return 0;
}

static void close_vm(void) {
  lw_vm_close(vm);
  vm = NULL;
  TURN_UNTIL(lw_task_count() == 0);
}

static int end(void **state) {
  (void)state;
  if (vm) close_vm();
  turn_for(1);
  assert_int_equal(lw_upstream_open_count(), 0);
  lw_upstream_shutdown();
  lw_vm_free_rest();
  lw_loop_fini();
  lw_service_fini();
  lw_doc_drop_spares();
  lw_buf_drop_spares();
  return 0;
}

static void start(const char *text) {
  char *why = NULL, *whole = lw_printf_dup("%s%s", WORDS, text);
  if (lw_vm_load(vm, "test.lua", lw_span_of(whole), &why) != LW_OK) fail_msg("%s", why);
  free(whole);
  lw_task_start(vm, NULL, 0);
}
/* Runs until the program says how it went. */
static void expect_exit(const char *text, int status) {
  start(text);
  TURN_UNTIL(exits);
  assert_int_equal(exit_status, status);
}

/* -- beginning and ending -- */

static void a_program_runs_in_the_drain(void **state) {
  (void)state;
  start("os.exit(select('#', ...) == 1 and ... == 'first' and arg[0] == 'test.lua' and 7)");
  assert_int_equal(exits, 0);
  assert_int_equal(lw_task_count(), 1);
  assert_int_equal(vm->task_count, 1);
  TURN_UNTIL(exits);
  assert_int_equal(exit_status, 7);
  assert_int_equal(lw_task_count(), 0);
  assert_int_equal(quiet, 1);
  assert_null(lw_task_current());
}

static void a_mistake_ends_the_program(void **state) {
  (void)state;
  int told = dup(STDERR_FILENO), silent = open("/dev/null", O_WRONLY);
  dup2(silent, STDERR_FILENO); /* it says what went wrong */
  expect_exit("local x = nil; return x.y", 1);
  dup2(told, STDERR_FILENO);
  close(told);
  close(silent);
  assert_int_equal(quiet, 1);
}

static void what_does_not_compile_is_told(void **state) {
  (void)state;
  char *why = NULL;
  assert_int_equal(lw_vm_load(vm, "bad.lua", LW_SPAN("local = 5"), &why), LW_PROTOCOL);
  assert_non_null(strstr(why, "bad.lua:1:"));
  free(why);
  assert_int_equal(lw_vm_load(vm, "code.lua", LW_SPAN("\x1bLJ\x02"), &why), LW_PROTOCOL);
  assert_non_null(strstr(why, "code.lua"));
  free(why);
}

/* -- sleeping -- */

static void sleeping_takes_its_time(void **state) {
  (void)state;
  uint64_t begun = lw_now_ms();
  expect_exit("worker.sleep(0.05) worker.sleep(0) worker.sleep(0.05) os.exit(3)", 3);
  assert_true(lw_now_ms() - begun >= 100);
}

static void sleepers_wake_in_their_order(void **state) {
  (void)state;
  expect_exit(
      "local seen = {}\n"
      "for i = 5, 1, -1 do\n"
      "  worker.spawn(function(n) worker.sleep(n * 0.2) seen[#seen + 1] = n end, i)\n"
      "end\n"
      "worker.sleep(1.2)\n"
      "os.exit(table.concat(seen) == '12345' and 5 or 6)",
      5);
}

static void a_wake_without_reason_does_no_harm(void **state) {
  (void)state;
  start(
      "local begun = base.C.lw_api_now()\n"
      "worker.sleep(0.1)\n"
      "os.exit(base.C.lw_api_now() - begun >= 0.098 and 5 or 6)");
  turn_for(5);
  for (int i = 0; i < 10 && !exits; i++) {
    lw_task *t = LW_CONTAINER_OF(vm->tasks.next, lw_task, node);
    lw_loop_wake(&t->wake);
    turn_for(2);
  }
  TURN_UNTIL(exits);
  assert_int_equal(exit_status, 5);
}

static void sleeping_until_a_moment(void **state) {
  (void)state;
  expect_exit(
      "local now = base.C.lw_api_now\n"
      "local moment = now() + 0.03\n"
      "await.sleep_until(moment)\n"
      "local early = now() < moment\n"
      "for _ = 1, 100 do await.sleep_until(moment) await.sleep_until(0) end\n"
      "os.exit(early and 6 or 5)",
      5);
  assert_int_equal(lw_alarms_active(), 0);
}

/* One that is behind its schedule: it runs on, but sockets are polled again and again. */
static void moments_that_have_passed_let_the_loop_turn(void **state) {
  (void)state;
  start(
      "local over\n"
      "worker.spawn(function() worker.sleep(0.02) over = true end)\n"
      "while not over do await.sleep_until(0) end\n"
      "os.exit(5)");
  TURN_UNTIL(exits);
  assert_int_equal(exit_status, 5);
}

/* -- many -- */

static void spawned_tasks_begin_later_and_take_arguments(void **state) {
  (void)state;
  expect_exit(
      "local got\n"
      "worker.spawn(function(...) got = { select('#', ...), ... } end, 1, nil, 'x', nil)\n"
      "if got then os.exit(9) end\n"
      "worker.sleep(0.01)\n"
      "os.exit(got[1] == 4 and got[2] == 1 and got[3] == nil and got[4] == 'x' and 5 or 6)",
      5);
}

static void coroutines_are_used_again(void **state) {
  (void)state;
  expect_exit(
      "for round = 1, 20 do\n"
      "  for i = 1, 50 do worker.spawn(function() worker.sleep(0) end) end\n"
      "  worker.sleep(0.01)\n"
      "end\n"
      "os.exit(5)",
      5);
  TURN_UNTIL(lw_task_count() == 0);
  assert_in_range(vm->idle_count, 50, 200); /* of the 1,001 tasks */
  assert_int_equal(quiet, 1);
}

static void a_failing_task_ends_alone(void **state) {
  (void)state;
  expect_exit(
      "worker.spawn(function() error 'oh' end)\n"
      "worker.spawn(function() error({}) end)\n"
      "worker.spawn(function() local t = setmetatable({}, { __tostring = error }) error(t) end)\n"
      "worker.sleep(0.02) os.exit(5)",
      5);
  assert_int_equal(lw_task_count(), 0);
}

static void tasks_wait_for_each_other(void **state) {
  (void)state;
  expect_exit(
      "local woken = 0\n"
      "for i = 1, 3 do\n"
      "  worker.spawn(function() if await.notified(8, 60) then woken = woken + 1 end end)\n"
      "end\n"
      "local late = not await.notified(9, 0.02)\n"
      "await.notify(7)\n"
      "worker.sleep(0.01)\n"
      "local before = woken\n"
      "await.notify(8)\n"
      "worker.sleep(0.01)\n"
      "os.exit(late and before == 0 and woken == 3 and 5 or 6)",
      5);
}

/* -- being cancelled -- */

static void cancel_all(void) {
  for (lw_list *node = vm->tasks.next; node != &vm->tasks; node = node->next) {
    lw_task_cancel(LW_CONTAINER_OF(node, lw_task, node));
  }
}

static void a_cancelled_task_unwinds(void **state) {
  (void)state;
  start(
      "worker.spawn(function() await.notified(1) end)\n"
      "worker.spawn(function() await.cancelled() worker.spawn(function() os.exit(4) end) end)\n"
      "worker.spawn(function() await.sleep_until(base.C.lw_api_now() + 3600) os.exit(9) end)\n"
      "worker.sleep(1000)\n"
      "os.exit(9)");
  turn_for(10);
  assert_int_equal(lw_task_count(), 4);
  assert_int_equal(lw_alarms_active(), 1);
  cancel_all();
  TURN_UNTIL(exits);
  assert_int_equal(exit_status, 4);
  assert_int_equal(lw_task_count(), 0);
  assert_int_equal(lw_alarms_active(), 0);
}

static void closing_ends_all_tasks_and_frees_the_vm(void **state) {
  (void)state;
  start(
      "for i = 1, 20 do worker.spawn(function() worker.sleep(1000) end) end\n"
      "worker.sleep(1000)");
  turn_for(10);
  assert_int_equal(lw_task_count(), 21);
  close_vm();
  assert_int_equal(quiet, 0); /* its owner asked for it */
}

static void closing_an_idle_vm_frees_it(void **state) {
  (void)state;
  lw_vm_close(vm);
  vm = NULL;
  turn_for(1);
}

static void closing_before_the_first_step(void **state) {
  (void)state;
  start("worker.sleep(1000)");
  close_vm();
}

/* -- children -- */

#define JOB "local job = require 'luaworker.job'\n"

static void children_end_with_their_parent(void **state) {
  (void)state;
  expect_exit(JOB
              "local ended, left = 0, 0\n"
              "local function child(n)\n"
              "  if n > 1 then job.spawn_child(child, n - 1) end\n"
              "  await.cancelled()\n"
              "  ended = ended + 1\n"
              "end\n"
              "worker.spawn(function()\n"
              "  job.spawn_child(child, 3)\n"
              "  job.spawn_child(child, 1)\n"
              "  worker.spawn(function() worker.sleep(0.05) left = left + 1 end)\n"
              "  worker.sleep(0.02)\n"
              "end)\n"
              "for _ = 1, 2000 do\n"
              "  if ended == 4 and left == 1 then os.exit(5) end\n"
              "  worker.sleep(0.01)\n"
              "end\n"
              "os.exit(6)",
              5);
  TURN_UNTIL(lw_task_count() == 0);
}

static lw_task *first_task(void) { return LW_CONTAINER_OF(vm->tasks.next, lw_task, node); }

static void cancelling_a_parent_cancels_its_children(void **state) {
  (void)state;
  start(JOB
        "for i = 1, 10 do job.spawn_child(worker.sleep, 1000) end\n"
        "worker.sleep(1000)");
  TURN_UNTIL(lw_task_count() == 11);
  turn_for(5);
  lw_task_cancel(first_task());
  TURN_UNTIL(lw_task_count() == 0);
}

static void a_child_that_is_over_is_forgotten(void **state) {
  (void)state;
  expect_exit(JOB
              "for i = 1, 10 do job.spawn_child(function() end) end\n"
              "worker.sleep(0.02)\n"
              "job.spawn_child(worker.sleep, 1000)\n"
              "os.exit(5)",
              5);
  TURN_UNTIL(lw_task_count() == 0);
}

/* -- calls that a task leaves open -- */

static int open_silent_server(int *port) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in at = {.sin_family = AF_INET};
  socklen_t size = sizeof at;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
  assert_int_equal(listen(fd, 10), 0);
  getsockname(fd, (struct sockaddr *)&at, &size);
  *port = ntohs(at.sin_port);
  return fd;
}

static void calls_end_with_their_task(void **state) {
  (void)state;
  int port, fd = open_silent_server(&port);
  char *text = lw_printf_dup(
      "local url = 'http://127.0.0.1:%d/'\n"
      "worker.spawn(function() worker.http.get(url) end)\n"
      "worker.spawn(function()\n"
      "  local C, call = base.C, base.C.lw_api_call_open('GET', 3, url, #url)\n"
      "  C.lw_api_call_head(call)\n" /* started, then left behind */
      "end)\n"
      "worker.http.get(url)",
      port);
  start(text);
  free(text);
  turn_for(20);
  assert_int_equal(lw_task_count(), 2);
  assert_int_equal(lw_upstream_open_count(), 2);
  cancel_all();
  TURN_UNTIL(lw_task_count() == 0);
  assert_int_equal(lw_upstream_open_count(), 0);
  close(fd);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(a_program_runs_in_the_drain),
      TEST(a_mistake_ends_the_program),
      TEST(what_does_not_compile_is_told),
      TEST(sleeping_takes_its_time),
      TEST(sleepers_wake_in_their_order),
      TEST(sleeping_until_a_moment),
      TEST(moments_that_have_passed_let_the_loop_turn),
      TEST(a_wake_without_reason_does_no_harm),
      TEST(spawned_tasks_begin_later_and_take_arguments),
      TEST(coroutines_are_used_again),
      TEST(a_failing_task_ends_alone),
      TEST(tasks_wait_for_each_other),
      TEST(a_cancelled_task_unwinds),
      TEST(closing_ends_all_tasks_and_frees_the_vm),
      TEST(closing_an_idle_vm_frees_it),
      TEST(closing_before_the_first_step),
      TEST(calls_end_with_their_task),
      TEST(children_end_with_their_parent),
      TEST(cancelling_a_parent_cancels_its_children),
      TEST(a_child_that_is_over_is_forgotten),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
