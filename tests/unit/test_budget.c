/* SPDX-License-Identifier: MIT
 * Programs that take too much time or memory: each is stopped, whatever it does with errors, and
 * what runs beside and after it goes on. The programs are Lua texts in this file, taken in as those
 * of a worker script are. */
#include "script/budget.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "exchange/upstream.h"
#include "floor/log.h"
#include "script/task.h"
#include "turn.h"
#include "wire/doc.h"
#include "worker/service.h"

#define HOOK_S 0.05
#define MB ((uint64_t)1 << 20)
#define MEMORY (16 * MB)

static lw_vm *vm;
static int exits, exit_status;

static void on_exit_asked(lw_vm *v, int status) {
  assert_ptr_equal(v, vm);
  if (!exits++) exit_status = status;
}

static void open_vm(double hook_time_s, uint64_t memory) {
  char *argv[] = {(char *)"test.lua", NULL};
  lw_budget_set(hook_time_s, memory, true);
  vm = lw_vm_new(LW_VM_RUN, 1, argv);
  vm->on_exit = on_exit_asked;
  exits = 0;
  exit_status = -1;
}

static int begin(void **state) {
  (void)state;
  lw_log_setup(STDERR_FILENO, LW_LOG_OFF, LW_LOG_TEXT);
  lw_loop_init();
  lw_service_init(&(lw_queue_limits){10, 10000});
  open_vm(HOOK_S, MEMORY);
  return 0;
}

static void close_vm(void) {
  lw_vm_close(vm);
  TURN_UNTIL(lw_task_count() == 0);
  turn_for(1);
}

static int end(void **state) {
  (void)state;
  close_vm();
  lw_budget_fini();
  lw_upstream_shutdown();
  lw_vm_free_rest();
  lw_loop_fini();
  lw_service_fini();
  lw_doc_drop_spares();
  lw_buf_drop_spares();
  return 0;
}

/* The text of worker script `bad` runs as a task of its own; then the program exits with 5 when
 * the next task runs well; with 9 when the bad one came to its end, 8 when it failed by itself. */
static void run(const char *bad) {
  char *why = NULL;
  exits = 0;
  char *text = lw_printf_dup(
      "local worker = require 'luaworker'\n"
      "local sandbox = require 'luaworker.sandbox'\n"
      "local f = assert(sandbox.compile('bad.lua', [==[\n%s]==], 'serve'))\n"
      "local begun, fine\n"
      "worker.spawn(function()\n"
      "  begun = true\n"
      "  local ok, err = pcall(f)\n"
      "  if not ok then print(err) end\n"
      "  os.exit(ok and 9 or 8)\n"
      "end)\n"
      "worker.spawn(function() fine = #('x'):rep(1000) == 1000 and #{ 1, 2, {} } == 3 end)\n"
      "while fine == nil or not begun do worker.sleep(0) end\n"
      "os.exit(fine and 5 or 6)",
      bad);
  if (lw_vm_load(vm, "test.lua", lw_span_of(text), &why) != LW_OK) fail_msg("%s", why);
  free(text);
  lw_task_start(vm, NULL, 0);
  TURN_UNTIL(exits);
}

static void expect_stop(const char *bad, lw_stop expected) {
  uint64_t before[] = {0, lw_budget_stops(LW_STOP_TIME), lw_budget_stops(LW_STOP_MEMORY)};
  run(bad);
  if (exit_status != 5) fail_msg("exit %d after %s", exit_status, bad);
  if (lw_budget_stops(expected) == before[expected]) fail_msg("not stopped: %s", bad);
}

/* -- time -- */

static void loops_of_all_kinds_are_stopped(void **state) {
  (void)state;
  static const char *const bad[] = {
      "while true do end",
      "for i = 1, math.huge do end",
      "repeat local x = {} until false",
      "goto again ::again:: goto again",
      "local function f() return f() end f()",
      "local function f(n) return n + 1 end local n = 0 while true do n = f(n) end",
      "while true do math.floor(1.5) end",
      "while true do tostring(5) end",
      "local t = setmetatable({}, { __index = function(t, k) return k end }) "
      "while true do local x = t.x end",
      "local t = setmetatable({}, { __index = function() while true do end end }) local x = t.x",
      "local t = setmetatable({}, { __tostring = function() while true do end end }) tostring(t)",
      "local t = setmetatable({}, { __add = function() while true do end end }) local x = t + t",
      "local t = setmetatable({}, { __newindex = function() while true do end end }) t.x = 1",
      "local t = setmetatable({}, { __call = function() while true do end end }) t()",
      "('x'):gsub('x', function() while true do end end)",
      "table.sort({ 3, 2, 1 }, function() while true do end end)",
      "for _ in function() return 1 end do end",
      "load('while true do end')()",
      "assert(loadstring 'while true do end')()",
      "local words = require 'luaworker.words' while true do words.random_word() end",
      "local json = require 'luaworker'.json while true do json.encode { 1, { a = 'x' } } end",
      "require 'luaworker'.json.encode(setmetatable({}, { __index = error, __len = error })) "
      "while true do require 'luaworker'.json.decode '[1, 2]' end",
  };
  for (size_t i = 0; i < LW_ARRAY_SIZE(bad); i++) {
    close_vm();
    open_vm(HOOK_S, MEMORY);
    expect_stop(bad[i], LW_STOP_TIME);
  }
}

static void nothing_of_the_script_holds_a_stop_up(void **state) {
  (void)state;
  static const char *const bad[] = {
      "while true do pcall(function() while true do end end) end",
      "while true do xpcall(function() while true do end end, function() while true do end end) "
      "end",
      "while true do xpcall(error, function() while true do end end) end",
      "local function f() return pcall(f) end while true do f() end",
      "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
      "while true do pcall(coroutine.wrap(function() while true do end end)) end",
      "local co = coroutine.wrap(function() while true do coroutine.yield() end end) "
      "while true do co() end",
      "while true do pcall(coroutine.wrap(function() pcall(function() while true do end end) "
      "while true do end end)) end",
      "local t = setmetatable({}, { __tostring = function() while true do end end }) "
      "while true do pcall(error, t) pcall(tostring, t) end",
      "local t = setmetatable({}, { __tostring = function() while true do end end }) error(t)",
      "while true do xpcall(function() error 'x' end, function() error 'y' end) end",
      "while true do pcall(string.gsub, 'x', '.', function() while true do end end) end",
      "while true do pcall(table.sort, { 3, 2, 1 }, function() while true do end end) end",
      "local f f = function() pcall(f) while true do end end f()",
  };
  for (size_t i = 0; i < LW_ARRAY_SIZE(bad); i++) {
    close_vm();
    open_vm(HOOK_S, MEMORY);
    expect_stop(bad[i], LW_STOP_TIME);
  }
}

static void who_waits_has_full_time_again(void **state) {
  (void)state;
  uint64_t before = lw_budget_stops(LW_STOP_TIME);
  run("local worker, clock = require 'luaworker', os.clock\n"
      "for _ = 1, 10 do\n"
      "  local until_s = clock() + 0.02\n"
      "  while clock() < until_s do end\n"
      "  worker.sleep(0)\n"
      "end\n");
  TURN_UNTIL(lw_task_count() == 0);
  assert_int_equal(lw_budget_stops(LW_STOP_TIME), before);
}

static void without_a_budget_nothing_is_stopped(void **state) {
  (void)state;
  close_vm();
  open_vm(0, 0);
  assert_int_equal(vm->heap.limit, 0);
  run("local clock = os.clock local until_s = clock() + 0.3 while clock() < until_s do end");
  assert_int_equal(exit_status, 9);
}

/* Compiled loops of the library run no hooks: what a script could make endless has bounds. */
static void loops_of_the_library_have_bounds(void **state) {
  (void)state;
  run("local words = require 'luaworker.words' words.sample(1e12)");
  assert_int_equal(exit_status, 8);
  run("local words = require 'luaworker.words' words.sample(0 / 0)");
  assert_int_equal(exit_status, 8);
  expect_stop("for _ in require 'luaworker.lines'.each(tostring, '') do end", LW_STOP_TIME);
}

/* Processor time that passes outside of Lua counts for nobody, and an idle process has no ticks. */
static void only_time_in_lua_counts(void **state) {
  (void)state;
  uint64_t before = lw_budget_stops(LW_STOP_TIME);
  struct timespec begun, now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begun);
  do {
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  } while ((double)(now.tv_sec - begun.tv_sec) + (double)(now.tv_nsec - begun.tv_nsec) / 1e9 <
           5 * HOOK_S);
  run("return");
  assert_int_equal(exit_status, 9);
  assert_int_equal(lw_budget_stops(LW_STOP_TIME), before);
}

static void the_place_is_told(void **state) {
  (void)state;
  lw_span text, traceback;
  expect_stop("\nlocal function inner()\n  while true do end\nend\ninner()", LW_STOP_TIME);
  lw_budget_text(&text, &traceback);
  assert_memory_equal(text.p, "bad.lua:3: ran for more than 0.05 s", 35);
  assert_non_null(strstr(traceback.p, "bad.lua:3: in function 'inner'"));
  assert_non_null(strstr(traceback.p, "bad.lua:5:"));
}

static void a_coroutine_tells_where_it_was_resumed(void **state) {
  (void)state;
  lw_span text, traceback;
  expect_stop("local co = coroutine.wrap(function()\n  while true do end\nend)\n\nco()",
              LW_STOP_TIME);
  lw_budget_text(&text, &traceback);
  assert_memory_equal(text.p, "bad.lua:2:", 10);
  assert_non_null(strstr(traceback.p, "bad.lua:5:"));
}

static void loading_has_its_budget(void **state) {
  (void)state;
  char *why = NULL;
  char *argv[] = {(char *)"bad.lua", NULL};
  close_vm();
  vm = lw_vm_new(LW_VM_SERVE, 1, argv);
  assert_int_equal(lw_vm_load(vm, "bad.lua", LW_SPAN("\nwhile true do end"), &why), LW_PROTOCOL);
  assert_non_null(strstr(why, "bad.lua:2: "));
  assert_non_null(strstr(why, "ran for more than 0.5 s while the script was loaded"));
  free(why);
  assert_int_equal(
      lw_vm_load(vm, "bad.lua",
                 LW_SPAN("local t = {} while true do t[#t + 1] = ('x'):rep(1e5) .. #t end"), &why),
      LW_PROTOCOL);
  assert_non_null(strstr(why, "the script's Lua objects take more than 16 MB"));
  assert_non_null(strstr(why, "bad.lua:1: "));
  free(why);
  assert_int_equal(lw_vm_load(vm, "bad.lua",
                              LW_SPAN("return setmetatable({}, { __index = "
                                      "function() while true do end end })"),
                              &why),
                   LW_PROTOCOL);
  free(why);
}

/* -- memory -- */

static void bombs_of_all_kinds_are_stopped(void **state) {
  (void)state;
  static const char *const bad[] = {
      "local t = {} while true do t[#t + 1] = ('x'):rep(1000) .. #t end",
      "local t = {} while true do t = { t, ('x'):rep(1000) .. #t } end",
      "local s = ('x'):rep(1000) while true do s = s .. s end",
      "local s = ('x'):rep(1e9)",
      "local s = table.concat({ ('x'):rep(1e6) }, '') s = s:rep(100)",
      "local s = ('x'):rep(1e5):gsub('x', ('y'):rep(1000))",
      "local t = {} for i = 1, 1e9 do t[i] = i end",
      "require 'table.new'(1e8, 0)",
      "local t = {} while true do t[#t + 1] = require 'luaworker'.json.array() end",
      "local t = {} while true do t[#t + 1] = function() return t end end",
      "local t = {} while true do t[#t + 1] = coroutine.create(print) end",
      "local t = {} while true do pcall(function() t[#t + 1] = ('x'):rep(1000) .. #t end) end",
      "local t = {} while true do pcall(string.rep, 'x', 1e9) end",
      "while true do coroutine.wrap(function() return ('x'):rep(1e9) end)() end",
      "local t = { ('x'):rep(1e6) } for i = 1, 100 do t[#t + 1] = t[1] end "
      "require 'luaworker'.json.encode(t)",
      "local t = {} for i = 1, 40 do t = { t, t } end require 'luaworker'.json.encode(t)",
      "require 'luaworker'.base64.encode(('x'):rep(15e6))",
  };
  for (size_t i = 0; i < LW_ARRAY_SIZE(bad); i++) {
    close_vm();
    open_vm(10, MEMORY);
    expect_stop(bad[i], LW_STOP_MEMORY);
    if (vm->heap.used > MEMORY) fail_msg("%u bytes after %s", (unsigned)vm->heap.used, bad[i]);
    assert_int_equal(vm->heap.used, lw_vm_heap_bytes(vm));
  }
}

static void garbage_does_not_count(void **state) {
  (void)state;
  close_vm();
  open_vm(10, MEMORY);
  uint64_t before = lw_budget_stops(LW_STOP_MEMORY);
  run("local kept = ('x'):rep(6e6)\n"
      "for i = 1, 300 do local s = ('x'):rep(1e6) .. i end\n"
      "for i = 1, 1e6 do local t = { {}, {} } end\n"
      "return kept");
  assert_int_equal(exit_status, 9);
  assert_int_equal(lw_budget_stops(LW_STOP_MEMORY), before);
}

static void the_memory_can_be_taken_again(void **state) {
  (void)state;
  close_vm();
  open_vm(10, MEMORY);
  expect_stop("local t = {} while true do t[#t + 1] = ('x'):rep(1000) .. #t end", LW_STOP_MEMORY);
  run("local t = {} for i = 1, 8000 do t[#t + 1] = ('x'):rep(1000) .. #t end");
  assert_int_equal(exit_status, 9);
}

/* All that C allocates in the state between two entries is given, or the process would end. */
static void outside_of_lua_nothing_is_refused(void **state) {
  (void)state;
  vm->heap.limit = 1000;
  for (int i = 0; i < 100; i++) lw_task_start(vm, NULL, 77 + i);
  TURN_UNTIL(lw_task_count() == 0);
  vm->heap.limit = MEMORY;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(loops_of_all_kinds_are_stopped),
      TEST(nothing_of_the_script_holds_a_stop_up),
      TEST(who_waits_has_full_time_again),
      TEST(without_a_budget_nothing_is_stopped),
      TEST(loops_of_the_library_have_bounds),
      TEST(only_time_in_lua_counts),
      TEST(the_place_is_told),
      TEST(a_coroutine_tells_where_it_was_resumed),
      TEST(loading_has_its_budget),
      TEST(bombs_of_all_kinds_are_stopped),
      TEST(garbage_does_not_count),
      TEST(the_memory_can_be_taken_again),
      TEST(outside_of_lua_nothing_is_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
