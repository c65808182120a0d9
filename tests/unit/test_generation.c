/* SPDX-License-Identifier: MIT
 * Loaded worker scripts: what a good one becomes in C, what is said of bad ones, and that an old
 * one goes with its last request, not before. */
#include "script/generation.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <lauxlib.h>
#include <lualib.h>

#include "floor/log.h"
#include "script/embedded.h"
#include "script/task.h"
#include "turn.h"
#include "wire/doc.h"
#include "worker/ready.h"
#include "worker/service.h"
#include "worker/startup.h"

static char path[] = "/tmp/lw_generation_XXXXXX";
static char *why;

static int begin(void **state) {
  (void)state;
  strcpy(path + sizeof path - 7, "XXXXXX");
  int fd = mkstemp(path);
  assert_true(fd >= 0);
  close(fd);
  lw_log_setup(STDERR_FILENO, LW_LOG_OFF, LW_LOG_TEXT);
  lw_loop_init();
  lw_service_init(&(lw_queue_limits){10, 10000});
  why = NULL;
  return 0;
}
static int end(void **state) {
  (void)state;
  turn_for(1);
  assert_int_equal(lw_generation_count(), 0);
  assert_int_equal(lw_task_count(), 0);
  lw_upstream_shutdown();
  lw_vm_free_rest();
  lw_loop_fini();
  lw_service_fini();
  lw_doc_drop_spares();
  lw_buf_drop_spares();
  unlink(path);
  free(why);
  return 0;
}

static void write_script(const char *text, size_t n) {
  FILE *f = fopen(path, "wb");
  assert_non_null(f);
  assert_int_equal(fwrite(text, 1, n, f), n);
  assert_int_equal(fclose(f), 0);
}

static lw_generation *load(const char *text) {
  free(why);
  why = NULL;
  write_script(text, strlen(text));
  return lw_generation_load(path, &why);
}

#define SMALL                                                             \
  "local worker = require 'luaworker'\n"                                  \
  "return worker.backend { model_server_url = 'http://m:1/', routes = { " \
  "worker.post('/a', { allow_parallel_requests = true, endpoint = '/b' }) } }"

/* -- good scripts -- */

static void a_script_becomes_routes(void **state) {
  (void)state;
  lw_generation *g = load(
      "local worker = require 'luaworker'\n"
      "return worker.backend {\n"
      "  model_server_url = 'http://m:1/', max_sessions = 3,\n"
      "  max_queue_time = 30,\n"
      "  routes = {\n"
      "    worker.post('/a', { allow_parallel_requests = true, endpoint = '/b',\n"
      "      max_queue_time = 2.5 }),\n"
      "    worker.post('/c', { count_workload = function() return 1 end }),\n"
      "    worker.get('/ping', function() return 'pong' end),\n"
      "    worker.get('/health', worker.forward()),\n"
      "  } }");
  if (!g) fail_msg("%s", why);
  assert_int_equal(lw_generation_count(), 1);
  lw_router *r = g->router;
  assert_int_equal(r->count, 4);
  assert_int_equal(r->refs, 1);
  assert_true(r->max_sessions == 3);
  lw_route **route = r->routes;
  assert_string_equal(route[0]->model_url, "http://m:1/b");
  assert_true(route[0]->kind == LW_KIND_WORK && route[0]->parallel == 1);
  assert_true(route[0]->max_queue_time == 2.5 && route[0]->payload_hook == 0);
  assert_true(route[1]->parallel == 0 && route[1]->payload_hook == 1 &&
              route[1]->max_queue_time == 30);
  assert_true(route[2]->kind == LW_KIND_HANDLER && route[2]->job > 0);
  assert_true(route[3]->kind == LW_KIND_FORWARD);
  assert_string_equal(route[3]->model_url, "http://m:1/health");
  lw_generation_retire(g);
}

static void generations_are_numbered(void **state) {
  (void)state;
  lw_generation *first = load(SMALL), *second = load(SMALL);
  assert_int_equal(second->number, first->number + 1);
  assert_int_equal(lw_generation_count(), 2);
  assert_ptr_not_equal(first->vm, second->vm);
  lw_generation_retire(first);
  lw_generation_retire(second);
}

/* -- bad ones -- */

static void bad_scripts_say_why(void **state) {
  (void)state;
  static const struct {
    const char *text, *part;
  } cases[] = {
      {"return worker.backend {", ":1:"},
      {"error 'kaboom'", "kaboom"},
      {"return 5", "backend"},
      {"", "backend"},
      {"local x\nreturn x.y", ":2:"},
      {"require 'nowhere'", "nowhere"},
      {"local worker = require 'luaworker' worker.sleep(1) return 5", "waits"},
      {"return require('luaworker').backend { routes = { 5 } }", "routes[1]"},
      {"return require('luaworker').backend { rutes = {} }", "did you mean \"routes\"?"},
  };
  for (size_t i = 0; i < LW_ARRAY_SIZE(cases); i++) {
    assert_null(load(cases[i].text));
    assert_non_null(why);
    if (!strstr(why, cases[i].part)) fail_msg("\"%s\" is not in: %s", cases[i].part, why);
    assert_int_equal(lw_generation_count(), 0);
  }
}

static void files_that_are_none(void **state) {
  (void)state;
  assert_null(lw_generation_load("/nonexistent/script.lua", &why));
  assert_string_equal(why, "/nonexistent/script.lua: No such file or directory");
  free(why);
  why = NULL;
  assert_null(lw_generation_load("/tmp", &why));
  assert_non_null(why);
}

static void files_of_any_size(void **state) {
  (void)state;
  enum {
    TOO_MUCH = (16 << 20) + 1
  };
  char *text = lw_alloc(TOO_MUCH);
  memset(text, ' ', TOO_MUCH);
  write_script(text, TOO_MUCH);
  assert_null(lw_generation_load(path, &why));
  assert_non_null(strstr(why, "longer than 16 MB"));
  free(why);
  why = NULL;
  memset(text, '\n', 3000000);
  memcpy(text, SMALL, sizeof SMALL - 1);
  write_script(text, 3000000);
  lw_generation *g = lw_generation_load(path, &why);
  if (!g) fail_msg("%s", why);
  lw_generation_retire(g);
  free(text);
}

/* -- going -- */

static void it_stays_while_a_request_holds_it(void **state) {
  (void)state;
  lw_generation *g = load(SMALL);
  lw_router *r = lw_router_ref(g->router);
  lw_generation_retire(g);
  turn_for(5);
  assert_int_equal(lw_generation_count(), 1);
  assert_string_equal(r->routes[0]->path, "/a"); /* still there */
  lw_router_unref(r);
  assert_int_equal(lw_generation_count(), 0);
}

static void reloads_leave_nothing(void **state) {
  (void)state;
  lw_generation *now = load(SMALL);
  for (int i = 0; i < 30; i++) {
    lw_generation *next = load(i % 3 == 2 ? "return 5" : SMALL);
    assert_true((next != NULL) == (i % 3 != 2));
    if (!next) continue;
    lw_generation_retire(now);
    now = next;
    turn_for(0);
    assert_int_equal(lw_generation_count(), 1);
  }
  lw_generation_retire(now);
}

/* A script may not be kept alive by what it spawned: it is told, and goes. */
static void what_it_spawned_is_cancelled(void **state) {
  (void)state;
  lw_generation *g = load(SMALL);
  lw_task_start(g->vm, NULL, 12345); /* fails at once: there is no such job */
  turn_for(5);
  lw_generation_retire(g);
  TURN_UNTIL(lw_task_count() == 0);
}

/* -- jobs of its own -- */

#define WITH_START(body)                                                  \
  "local worker = require 'luaworker'\n"                                  \
  "return worker.backend { model_server_url = 'http://m:1/', routes = { " \
  "worker.post('/a', {}) }, start = function()\n" body "\nend }"

static void expect_start(const char *text, double job, lw_gate_state state, const char *part) {
  static const lw_startup_settings settings;
  lw_ready_init(NULL);
  lw_generation *g = load(text);
  if (!g) fail_msg("%s", why);
  if (job > 0) assert_int_equal(lw_router_set_number(g->router, "start_job", job), LW_OK);
  lw_startup_begin(&settings, g->router);
  assert_int_equal(lw_ready_gate(LW_GATE_START).state, LW_GATE_WAITING);
  TURN_UNTIL(lw_ready_gate(LW_GATE_START).state != LW_GATE_WAITING);
  lw_gate_view seen = lw_ready_gate(LW_GATE_START);
  assert_int_equal(seen.state, state);
  if (!strstr(seen.why, part)) fail_msg("%s", seen.why);
  lw_startup_stop();
  lw_generation_retire(g);
  TURN_UNTIL(lw_task_count() == 0);
}

static void how_its_start_ended_is_told(void **state) {
  (void)state;
  expect_start(WITH_START("worker.sleep(0.01)"), 0, LW_GATE_PASSED, "");
  expect_start(WITH_START("worker.sleep(0.01) return false"), 0, LW_GATE_PASSED, "");
  expect_start(WITH_START("worker.sleep(0.01) error 'no luck'"), 0, LW_GATE_FAILED, ": no luck");
  expect_start(WITH_START("return nil, 'no luck'"), 0, LW_GATE_FAILED, "no luck");
}

/* There is no job of this number: the task ends without a word. */
static void a_job_that_breaks_down_is_told(void **state) {
  (void)state;
  expect_start(WITH_START(""), 12345, LW_GATE_FAILED, "broke down");
}

static void a_cancelled_job_tells_nothing(void **state) {
  (void)state;
  static const lw_startup_settings settings;
  lw_ready_init(NULL);
  lw_generation *g = load(WITH_START("worker.sleep(1000)"));
  lw_startup_begin(&settings, g->router);
  turn_for(5);
  lw_startup_replace(g->router); /* the same script once more */
  assert_int_equal(lw_task_count(), 2);
  TURN_UNTIL(lw_task_count() == 1);
  assert_int_equal(lw_ready_gate(LW_GATE_START).state, LW_GATE_WAITING);
  lw_startup_stop();
  TURN_UNTIL(lw_task_count() == 0);
  assert_int_equal(lw_ready_gate(LW_GATE_START).state, LW_GATE_WAITING);
  lw_generation_retire(g);
}

static uint64_t digest_of(const char *text) {
  lw_generation *g = load(text);
  if (!g) fail_msg("%s", why);
  uint64_t digest = g->router->digest;
  lw_generation_retire(g);
  return digest;
}

static void digests_follow_the_text(void **state) {
  (void)state;
  uint64_t small = digest_of(SMALL);
  assert_true(digest_of(SMALL) == small);
  assert_true(digest_of(SMALL "\n") != small);
  char *part = lw_printf_dup("%s.part", path);
  char *text = lw_printf_dup("dofile '%s'\n%s", part, SMALL);
  uint64_t seen[3];
  for (int i = 0; i < 3; i++) {
    FILE *f = fopen(part, "wb");
    assert_non_null(f);
    fprintf(f, "return %d", i / 2); /* the first two are the same */
    assert_int_equal(fclose(f), 0);
    seen[i] = digest_of(text);
  }
  assert_true(seen[0] == seen[1] && seen[1] != seen[2]);
  unlink(part);
  free(part);
  free(text);
}

/* Else each start compiles its text, and nobody is told. */
static void the_library_is_compiled(void **state) {
  (void)state;
  lua_State *L = luaL_newstate();
  luaL_openlibs(L);
  for (size_t i = 0; i < lw_embedded_count; i++) {
    const lw_embedded_text *t = &lw_embedded[i];
    if (strncmp(t->name, "luaworker", 9) != 0) {
      assert_null(t->code);
      continue;
    }
    assert_int_equal(luaL_loadbuffer(L, t->code, (size_t)(t->code_end - t->code), "other"), 0);
    lua_Debug of;
    assert_true(lua_getinfo(L, ">SL", &of));
    assert_string_equal(of.source + 1, t->file);
    lua_pushnil(L);
    assert_true(lua_next(L, -2)); /* lines are known */
    lua_settop(L, 0);
  }
  lua_close(L);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(a_script_becomes_routes),
      TEST(generations_are_numbered),
      TEST(bad_scripts_say_why),
      TEST(files_that_are_none),
      TEST(files_of_any_size),
      TEST(it_stays_while_a_request_holds_it),
      TEST(reloads_leave_nothing),
      TEST(what_it_spawned_is_cancelled),
      TEST(how_its_start_ended_is_told),
      TEST(a_job_that_breaks_down_is_told),
      TEST(a_cancelled_job_tells_nothing),
      TEST(digests_follow_the_text),
      cmocka_unit_test(the_library_is_compiled),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
