/* SPDX-License-Identifier: MIT
 * The order from start to ready, with real log files, a script's tasks played by the test, and a
 * model server on this same loop; then what happens to a ready worker: errors, their end, reloads.
 */
#include "worker/startup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "exchange/server.h"
#include "exchange/upstream.h"
#include "floor/log.h"
#include "turn.h"
#include "worker/pace.h"
#include "worker/ready.h"
#include "worker/service.h"

/* -- the model: answers /health with `status` -- */

static lw_server *server;
static int status, asked;
static char model_url[50];

static uint64_t on_head(void *owner, lw_request *r) {
  (void)owner;
  (void)r;
  return 1000;
}
static void on_complete(void *owner, lw_request *r) {
  (void)owner;
  asked++;
  lw_response_send(r, status, "text/plain", lw_span_of("so it is"));
  lw_request_release(r);
}
static void on_gone(void *owner, lw_request *r) {
  (void)owner;
  lw_request_release(r);
}

static void open_model(int port) {
  static const lw_server_events events = {on_head, on_complete, on_gone, NULL};
  static const lw_server_limits limits = {.h1 = LW_H1_LIMITS_DEFAULT,
                                          .max_connections = 100,
                                          .header_timeout_ms = 60000,
                                          .body_timeout_ms = 60000,
                                          .idle_timeout_ms = 60000,
                                          .write_timeout_ms = 60000};
  const char *problem;
  server = lw_server_open("127.0.0.1", port, &limits, &events, NULL, &problem);
  assert_non_null(server);
}

static void close_model(void) {
  lw_server_stop(server, NULL);
  lw_upstream_shutdown();
  TURN_UNTIL(lw_server_is_idle(server));
  lw_server_free(server);
  turn_for(1);
}

/* -- the script: its tasks are numbers, and the test tells what they found -- */

enum {
  START_JOB = 1,
  BENCHMARK_JOB = 2
};
static int starts, benchmarks, cancels;
static char tasks[2];
static struct lw_task *start_task(lw_router *router, lw_request *r, int job) {
  (void)router;
  assert_null(r);
  if (job == START_JOB) starts++;
  if (job == BENCHMARK_JOB) benchmarks++;
  return (void *)&tasks[job == BENCHMARK_JOB];
}
static void cancel_task(struct lw_task *task) {
  assert_true((char *)task == &tasks[0] || (char *)task == &tasks[1]);
  cancels++;
}
static void wake_task(struct lw_task *task) { (void)task; }
static const lw_task_ops ops = {start_task, cancel_task, wake_task};

static lw_router *routers[4];
static size_t router_count;
static lw_router *make_router(void) {
  lw_router *r = routers[router_count++] = lw_router_new();
  r->ops = &ops;
  assert_int_equal(lw_router_set_text(r, "model_server_url", lw_span_of(model_url)), LW_OK);
  return r;
}

static char directory[64], log_file[96], cache_file[96];

static void add_marker(lw_router *r, lw_marker_kind kind, const char *text) {
  assert_int_equal(lw_router_add_marker(r, kind, lw_span_of(text)), LW_OK);
}
static lw_router *make_watching(void) { /* looks into the log */
  lw_router *r = make_router();
  assert_int_equal(lw_router_set_text(r, "model_log_file", lw_span_of(log_file)), LW_OK);
  add_marker(r, LW_MARKER_LOADED, "server has started");
  add_marker(r, LW_MARKER_ERROR, "Exception: corrupted");
  add_marker(r, LW_MARKER_INFO, "Download");
  return r;
}

static void write_log(const char *text) {
  FILE *f = fopen(log_file, "a");
  assert_non_null(f);
  fputs(text, f);
  fclose(f);
}

static lw_startup_settings settings;
static int changes;
static void on_change(void) { changes++; }

static int begin(void **state) {
  (void)state;
  lw_log_setup(STDERR_FILENO, LW_LOG_OFF, LW_LOG_TEXT);
  snprintf(directory, sizeof directory, "/tmp/test_startup-XXXXXX");
  assert_non_null(mkdtemp(directory));
  snprintf(log_file, sizeof log_file, "%s/model.log", directory);
  snprintf(cache_file, sizeof cache_file, "%s/cache", directory);
  lw_loop_init();
  lw_service_init(&(lw_queue_limits){10, 1000});
  open_model(0);
  snprintf(model_url, sizeof model_url, "http://127.0.0.1:%d", lw_server_port(server));
  status = 200;
  asked = starts = benchmarks = cancels = 0;
  settings = (lw_startup_settings){0};
  lw_ready_init(on_change);
  lw_pace_set(50);
  return 0;
}

static int end(void **state) {
  (void)state;
  lw_startup_stop();
  lw_startup_stop(); /* also when it is done */
  assert_int_equal(lw_upstream_open_count(), 0);
  close_model();
  lw_pace_set(1);
  while (router_count) lw_router_free(routers[--router_count]);
  lw_loop_fini();
  lw_service_fini();
  lw_buf_drop_spares();
  unlink(log_file);
  unlink(cache_file);
  rmdir(directory);
  return 0;
}

static lw_gate_state state_of(lw_gate g) { return lw_ready_gate(g).state; }
#define ASSERT_WHY(gate, part)                                          \
  do {                                                                  \
    const char *why = lw_ready_gate(gate).why;                          \
    if (!strstr(why, part)) fail_msg("no \"%s\" in \"%s\"", part, why); \
  } while (0)

/* -- from start to ready -- */

static void a_plain_script_is_ready_at_once(void **state) {
  (void)state;
  lw_startup_begin(&settings, make_router());
  TURN_UNTIL(lw_ready_is());
  for (int g = 0; g < LW_GATE_COUNT; g++) assert_int_equal(state_of(g), LW_GATE_UNUSED);
}

static void a_declared_max_perf_is_taken(void **state) {
  (void)state;
  lw_router *r = make_router();
  r->max_perf = 125;
  lw_startup_begin(&settings, r);
  TURN_UNTIL(lw_ready_is());
  assert_int_equal(state_of(LW_GATE_BENCHMARK), LW_GATE_PASSED);
  ASSERT_WHY(LW_GATE_BENCHMARK, "125");
  assert_true(lw_startup_max_perf() == 125);
}

static void each_step_waits_for_the_one_before(void **state) {
  (void)state;
  lw_router *r = make_watching();
  r->start_job = START_JOB;
  r->benchmark_job = BENCHMARK_JOB;
  settings.health_url = "/health";
  lw_startup_begin(&settings, r);
  assert_int_equal(starts, 1);
  assert_int_equal(state_of(LW_GATE_START), LW_GATE_WAITING);
  TURN_UNTIL(strstr(lw_ready_gate(LW_GATE_LOG).why, "No such file"));
  ASSERT_WHY(LW_GATE_LOG, "server has started");
  ASSERT_WHY(LW_GATE_LOG, log_file);
  write_log("nothing yet\n");
  TURN_UNTIL(strstr(lw_ready_gate(LW_GATE_LOG).why, "12 bytes"));
  write_log("the server has started now\n");
  TURN_UNTIL(state_of(LW_GATE_LOG) == LW_GATE_PASSED);
  turn_for(50);
  assert_int_equal(benchmarks, 0); /* start() has not returned */
  lw_startup_started(r, NULL);
  TURN_UNTIL(benchmarks == 1);
  assert_int_equal(state_of(LW_GATE_START), LW_GATE_PASSED);
  assert_int_equal(state_of(LW_GATE_BENCHMARK), LW_GATE_WAITING);
  turn_for(50);
  assert_int_equal(asked, 0);
  status = 503;
  lw_startup_measured(r, 42.5, NULL);
  TURN_UNTIL(asked >= 2);
  assert_true(lw_startup_max_perf() == 42.5);
  assert_false(lw_ready_is());
  TURN_UNTIL(strstr(lw_ready_gate(LW_GATE_HEALTH).why, "503"));
  ASSERT_WHY(LW_GATE_HEALTH, "/health");
  status = 200;
  TURN_UNTIL(lw_ready_is());
  assert_string_equal(lw_ready_error(), "");
}

static void what_failed_is_tried_again(void **state) {
  (void)state;
  lw_router *r = make_router();
  r->start_job = START_JOB;
  r->benchmark_job = BENCHMARK_JOB;
  lw_pace_set(600); /* a minute is 100 ms */
  lw_startup_begin(&settings, r);
  lw_startup_started(r, "no weights");
  assert_int_equal(state_of(LW_GATE_START), LW_GATE_FAILED);
  assert_non_null(strstr(lw_ready_error(), "no weights"));
  TURN_UNTIL(starts == 2);
  assert_int_equal(state_of(LW_GATE_START), LW_GATE_FAILED); /* until it is well */
  lw_startup_started(r, NULL);
  TURN_UNTIL(benchmarks == 1);
  lw_startup_measured(r, 0, "No successful responses from benchmark");
  TURN_UNTIL(*lw_ready_error());
  assert_string_equal(lw_ready_error(), "No successful responses from benchmark");
  TURN_UNTIL(benchmarks == 2);
  assert_int_equal(state_of(LW_GATE_BENCHMARK), LW_GATE_FAILED);
  lw_startup_measured(r, 7, NULL);
  TURN_UNTIL(lw_ready_is());
  assert_true(lw_startup_max_perf() == 7);
  turn_for(300);
  assert_int_equal(starts, 2);
  assert_int_equal(benchmarks, 2);
}

static void the_marker_again_tries_again_at_once(void **state) {
  (void)state;
  lw_router *r = make_watching();
  r->benchmark_job = BENCHMARK_JOB;
  lw_pace_set(1);
  lw_startup_begin(&settings, r);
  write_log("server has started\n");
  TURN_UNTIL(benchmarks == 1);
  lw_startup_measured(r, 0, "it fell over");
  TURN_UNTIL(*lw_ready_error());
  write_log("again: server has started\n");
  TURN_UNTIL(benchmarks == 2);
  lw_startup_measured(r, 7, NULL);
  TURN_UNTIL(lw_ready_is());
  write_log("and again: server has started\n"); /* measured already */
  turn_for(200);
  assert_int_equal(benchmarks, 2);
}

static void nothing_found_is_an_error_only_late(void **state) {
  (void)state;
  lw_router *r = make_router();
  settings.health_url = "http://127.0.0.1:1/health";
  lw_pace_set(3000); /* 300 s are 100 ms */
  lw_startup_begin(&settings, r);
  TURN_UNTIL(state_of(LW_GATE_HEALTH) == LW_GATE_FAILED);
  assert_non_null(strstr(lw_ready_error(), "within 300 s"));
  assert_non_null(strstr(lw_ready_error(), "127.0.0.1:1"));
}

/* -- a ready worker -- */

static void an_error_marker_is_an_error_until_it_has_loaded_again(void **state) {
  (void)state;
  lw_startup_begin(&settings, make_watching());
  write_log("Download 1 of 3\nserver has started\n");
  TURN_UNTIL(lw_ready_is());
  write_log("then Exception: corrupted model file\n");
  TURN_UNTIL(!lw_ready_is());
  assert_string_equal(lw_ready_error(), "Exception: corrupted"); /* the marker itself */
  write_log("server has started\n");
  TURN_UNTIL(lw_ready_is());
  assert_string_equal(lw_ready_error(), "");
}

static void a_loaded_models_log_is_not_waited_for(void **state) {
  (void)state;
  lw_router *first = make_watching(), *second = make_watching();
  settings.model_loaded = true;
  lw_startup_begin(&settings, first);
  TURN_UNTIL(lw_ready_is());
  assert_int_equal(state_of(LW_GATE_LOG), LW_GATE_UNUSED);
  ASSERT_WHY(LW_GATE_LOG, "--model-loaded");
  add_marker(second, LW_MARKER_LOADED, "another");
  lw_startup_replace(second);
  assert_int_equal(state_of(LW_GATE_LOG), LW_GATE_UNUSED);
  write_log("Exception: corrupted\n");
  TURN_UNTIL(state_of(LW_GATE_LOG) == LW_GATE_FAILED);
  write_log("another\n");
  TURN_UNTIL(state_of(LW_GATE_LOG) == LW_GATE_PASSED);
}

static void health_comes_and_goes(void **state) {
  (void)state;
  settings.health_url = "health"; /* a path without its slash */
  lw_startup_begin(&settings, make_router());
  TURN_UNTIL(lw_ready_is());
  status = 500;
  TURN_UNTIL(!lw_ready_is());
  assert_non_null(strstr(lw_ready_error(), "500"));
  status = 200;
  TURN_UNTIL(lw_ready_is());
}

static void a_model_that_dies_without_health_url(void **state) {
  (void)state;
  lw_startup_begin(&settings, make_router());
  TURN_UNTIL(lw_ready_is());
  int port = lw_server_port(server);
  status = 404; /* any answer */
  lw_startup_model_unreachable();
  TURN_UNTIL(asked == 1);
  turn_for(50);
  assert_true(lw_ready_is()); /* it lives: a connection may be refused once */
  close_model();
  lw_startup_model_unreachable();
  TURN_UNTIL(!lw_ready_is());
  assert_non_null(strstr(lw_ready_error(), model_url));
  open_model(port);
  TURN_UNTIL(lw_ready_is());
}

/* -- reloads -- */

static void a_reload_with_the_same_changes_nothing(void **state) {
  (void)state;
  lw_router *r = make_watching(), *fresh = make_watching();
  r->benchmark_job = fresh->benchmark_job = BENCHMARK_JOB;
  r->digest = fresh->digest = 77;
  lw_startup_begin(&settings, r);
  write_log("server has started\n");
  TURN_UNTIL(benchmarks == 1);
  lw_startup_measured(r, 5, NULL);
  TURN_UNTIL(lw_ready_is());
  changes = 0;
  lw_startup_replace(fresh);
  turn_for(100);
  assert_int_equal(changes, 0);
  assert_int_equal(benchmarks, 1);
  write_log("Exception: corrupted\n"); /* and it goes on reading */
  TURN_UNTIL(!lw_ready_is());
}

static void a_changed_script_is_measured_while_ready(void **state) {
  (void)state;
  lw_router *r = make_router(), *fresh = make_router();
  r->benchmark_job = fresh->benchmark_job = BENCHMARK_JOB;
  r->start_job = fresh->start_job = START_JOB;
  fresh->digest = 78;
  lw_startup_begin(&settings, r);
  lw_startup_started(r, NULL);
  TURN_UNTIL(benchmarks == 1);
  lw_startup_measured(r, 5, NULL);
  TURN_UNTIL(lw_ready_is());
  lw_startup_replace(fresh);
  assert_int_equal(starts, 2);
  turn_for(20);
  assert_int_equal(benchmarks, 1);   /* after its start() */
  lw_startup_started(r, "too late"); /* the old one's */
  lw_startup_measured(r, 99, NULL);
  assert_true(lw_ready_is());
  lw_startup_started(fresh, NULL);
  TURN_UNTIL(benchmarks == 2);
  assert_true(lw_ready_is());
  assert_true(lw_startup_max_perf() == 5);
  lw_startup_measured(fresh, 6, NULL);
  TURN_UNTIL(lw_startup_max_perf() == 6);
  assert_true(lw_ready_is());
}

static void a_reload_mends_what_the_script_had_wrong(void **state) {
  (void)state;
  lw_router *r = make_watching(), *fresh = make_watching();
  fresh->markers[0].text[0] = 'S'; /* "Server has started" */
  r->start_job = START_JOB;
  settings.health_url = "/health";
  lw_startup_begin(&settings, r);
  write_log("Server has started\n"); /* not what it looks for */
  TURN_UNTIL(strstr(lw_ready_gate(LW_GATE_LOG).why, "19 bytes"));
  lw_startup_replace(fresh); /* without start(), and the marker stands in what was read already */
  assert_int_equal(cancels, 1);
  TURN_UNTIL(lw_ready_is());
  lw_startup_started(r, "cancelled");
  assert_true(lw_ready_is());
}

static void a_health_url_is_taken_over(void **state) {
  (void)state;
  lw_router *r = make_router(), *fresh = make_router(), *third = make_router();
  assert_int_equal(lw_router_set_text(fresh, "model_healthcheck_url", LW_SPAN("/health")), LW_OK);
  lw_startup_begin(&settings, r);
  TURN_UNTIL(lw_ready_is());
  status = 500;
  lw_startup_replace(fresh);
  TURN_UNTIL(state_of(LW_GATE_HEALTH) == LW_GATE_FAILED || asked > 3);
  assert_false(lw_ready_is());
  lw_startup_replace(third); /* none any more: any answer shows life */
  TURN_UNTIL(lw_ready_is());
}

static void stopping_in_every_phase(void **state) {
  (void)state;
  lw_startup_stop(); /* before it ever began */
  lw_startup_model_unreachable();
  lw_router *r = make_watching();
  r->start_job = START_JOB;
  r->benchmark_job = BENCHMARK_JOB;
  settings.health_url = "/health";
  status = 503;
  for (int phase = 0; phase < 5; phase++) {
    unlink(log_file);
    int benchmarked = benchmarks, was_asked = asked;
    lw_startup_begin(&settings, r);
    if (phase >= 1) write_log("server has started\n");
    if (phase >= 2) lw_startup_started(r, NULL);
    if (phase >= 2) TURN_UNTIL(benchmarks == benchmarked + 1);
    if (phase == 3) lw_startup_measured(r, 0, "bad");
    if (phase == 4) lw_startup_measured(r, 3, NULL);
    if (phase == 4) TURN_UNTIL(asked > was_asked);
    turn_for(5);
    lw_startup_stop();
    lw_startup_started(r, NULL);
    lw_startup_measured(r, 1, NULL);
    lw_startup_replace(r);
  }
  assert_int_equal(cancels, 3); /* two times start(), one benchmark */
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(a_plain_script_is_ready_at_once),
      TEST(a_declared_max_perf_is_taken),
      TEST(each_step_waits_for_the_one_before),
      TEST(what_failed_is_tried_again),
      TEST(the_marker_again_tries_again_at_once),
      TEST(nothing_found_is_an_error_only_late),
      TEST(an_error_marker_is_an_error_until_it_has_loaded_again),
      TEST(a_loaded_models_log_is_not_waited_for),
      TEST(health_comes_and_goes),
      TEST(a_model_that_dies_without_health_url),
      TEST(a_reload_with_the_same_changes_nothing),
      TEST(a_changed_script_is_measured_while_ready),
      TEST(a_reload_mends_what_the_script_had_wrong),
      TEST(a_health_url_is_taken_over),
      TEST(stopping_in_every_phase),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
