/* SPDX-License-Identifier: MIT
 * What /metrics says after requests of every ending: exact counts, labels that any parser reads,
 * and no more routes than are allowed. The whole text is parsed strictly in
 * tests/e2e/test_metrics.py. */
#include "worker/metrics.h"

#include <math.h>

#include "walk.h"

static char *text;

static const char *written(void) {
  lw_body *b = lw_body_new();
  lw_metrics_write(b);
  free(text);
  text = lw_strdup_n(b->p, b->n);
  lw_body_unref(b);
  return text;
}

/* The value of the sample luaworker_<name>, labels included; fails when there is none. */
static double sample(const char *name) {
  char *line = lw_printf_dup("\nluaworker_%s ", name);
  const char *at = strstr(written(), line);
  if (!at) fail_msg("no sample %s in:\n%s", name, text);
  double value = strtod(at + strlen(line), NULL);
  free(line);
  return value;
}

static int finish(void **state) {
  free(text);
  text = NULL;
  return end(state);
}

#define OUTCOME(route, outcome) \
  sample("requests_total{route=\"" route "\",outcome=\"" outcome "\"}")
#define FAILURES(route, source) sample("failures_total{route=\"" route "\",source=\"" source "\"}")

static void each_ending_is_counted_once(void **state) {
  (void)state;
  ask(&client, "/go");
  model_answers(200, "{}");
  ANSWERED(&client, "200 OK", "{}");
  peer_clear(&client);
  ask(&client, "/go");
  model_answers(503, "{}");
  ANSWERED(&client, "503 ", "{}");
  peer_clear(&client);
  send_post(&client, "/go", "nonsense");
  ANSWERED(&client, "422 ", "invalid JSON");
  lw_service_get()->unsecured = false;
  peer_clear(&client);
  ask(&client, "/go");
  ANSWERED(&client, "401 ", "invalid signature");
  lw_service_get()->unsecured = true;
  ask(&client, "/go");
  TURN_UNTIL(model.count == 1);
  peer_close(&client, false);
  TURN_UNTIL(model.gone == 1);
  assert_true(OUTCOME("POST /go", "success") == 1);
  assert_true(OUTCOME("POST /go", "error") == 1);
  assert_true(OUTCOME("POST /go", "invalid") == 1);
  assert_true(OUTCOME("POST /go", "rejected") == 1);
  assert_true(OUTCOME("POST /go", "cancelled") == 1);
  assert_true(FAILURES("POST /go", "model") == 1);
  assert_true(FAILURES("POST /go", "script") == 0);
  assert_true(sample("workload_total{outcome=\"success\"}") == 100);
  assert_true(sample("request_seconds_count{route=\"POST /go\"}") == 1);
  assert_true(sample("model_seconds_count{route=\"POST /go\"}") == 3);
  assert_true(sample("time_to_first_byte_seconds_count{route=\"POST /go\"}") == 1);
  assert_true(sample("queue_wait_seconds_count") == 0); /* this route takes no turns */
  assert_null(strstr(text, "request_seconds_count{route=\"GET /ping\"}"));
}

static void what_is_no_fault_of_the_model(void **state) {
  (void)state;
  ask(&client, "/answered");
  TURN_UNTIL(started == 1);
  lw_work *w = task.work;
  lw_work_fail(w, 500, "script", "oops", (lw_span){0, 0});
  lw_work_task_done(w);
  ANSWERED(&client, "500 ", "oops");
  assert_true(FAILURES("POST /answered", "script") == 1);
  assert_true(FAILURES("POST /answered", "model") == 0);
}

static void only_routes_with_turns_wait(void **state) {
  (void)state;
  ask(&client, "/serial");
  model_answers(200, "{}");
  ANSWERED(&client, "200 OK", "{}");
  assert_true(sample("queue_wait_seconds_count") == 1);
  assert_true(sample("queue_wait_seconds_bucket{le=\"+Inf\"}") == 1);
}

static void present_figures(void **state) {
  (void)state;
  ask(&client, "/serial");
  TURN_UNTIL(model.count == 1);
  peer second;
  peer_open(&second, lw_server_port(server));
  ask(&second, "/serial");
  TURN_UNTIL(sample("queue_depth") == 1);
  assert_true(sample("in_flight") == 2);
  assert_true(sample("load") == 200);
  assert_true(sample("queue_bytes") > 0);
  assert_true(sample("connections") >= 2);
  assert_true(sample("upstreams") == 1);
  assert_true(sample("resident_memory_bytes") > 1e6);
  assert_true(sample("open_descriptors") > 4);
  model_answers(200, "{}");
  TURN_UNTIL(model.count == 1);
  model_answers(200, "{}");
  ANSWERED(&second, "200 OK", "{}");
  TURN_UNTIL(sample("queue_depth") == 0 && sample("in_flight") == 0 && sample("load") == 0);
  peer_close(&second, false);
}

static void paths_without_a_route_make_no_label(void **state) {
  (void)state;
  size_t before = strlen(written());
  peer_send(&client, "GET /no/such/path HTTP/1.1\r\nHost: h\r\n\r\n");
  ANSWERED(&client, "404 ", "no such path");
  assert_null(strstr(written(), "/no/such/path"));
  assert_true(strlen(text) < before + 200); /* some numbers may have grown */
}

static void labels_are_escaped(void **state) {
  (void)state;
  assert_ptr_equal(lw_metrics_route("GET", "/a\"b\\c\n\xc3\xa9 d"),
                   lw_metrics_route("GET", "/a\"b\\c\n\xc3\xa9 d"));
  assert_ptr_not_equal(lw_metrics_route("GET", "/a"), lw_metrics_route("POST", "/a"));
  assert_non_null(strstr(written(), "{route=\"GET /a\\\"b\\\\c%0A%C3%A9 d\",outcome="));
}

static void routes_beyond_the_limit_share_one(void **state) {
  (void)state;
  char path[32];
  struct lw_route_figures *first = lw_metrics_route("GET", "/0"), *last = NULL;
  for (int i = 1; i < LW_METRICS_ROUTES; i++) {
    snprintf(path, sizeof path, "/%d", i);
    last = lw_metrics_route("GET", path);
  }
  struct lw_route_figures *other = lw_metrics_route("GET", "/beyond");
  assert_ptr_equal(other, lw_metrics_route("GET", "/further"));
  assert_ptr_equal(other, last); /* the routes of the test's own worker came before */
  assert_ptr_equal(first, lw_metrics_route("GET", "/0"));
  assert_true(OUTCOME("other", "success") == 0);
  assert_null(strstr(text, "/beyond"));
}

/* A script that is loaded anew goes on with the figures of its paths. */
static void figures_stay_over_reloads(void **state) {
  (void)state;
  struct lw_route_figures *before = route("/go")->figures;
  lw_router *old = site.router;
  make_router();
  assert_ptr_equal(route("/go")->figures, before);
  lw_router_unref(old);
}

static double seven(void) { return 7; }
static double nothing(void) { return NAN; }

static void registered_ones(void **state) {
  (void)state;
  lw_metrics_register("sevens_total", "Sevens.", true, seven);
  lw_metrics_register("nothing", "Is left out.", false, nothing);
  assert_true(sample("sevens_total") == 7);
  assert_non_null(
      strstr(text, "# HELP luaworker_sevens_total Sevens.\n# TYPE luaworker_sevens_total counter"));
  assert_null(strstr(text, "luaworker_nothing"));
}

static void streams_have_gaps(void **state) {
  (void)state;
  double before = sample("chunk_gap_seconds_count");
  peer_send(&client, "GET /health HTTP/1.1\r\nHost: h\r\n\r\n");
  TURN_UNTIL(model.count == 1);
  lw_request *r = model.held[0];
  forget_held(r);
  lw_response_head(r, 200, LW_LENGTH_UNKNOWN);
  const char *pieces[] = {"one", "two", "three"};
  for (size_t i = 0; i < LW_ARRAY_SIZE(pieces); i++) {
    lw_response_body(r, pieces[i], strlen(pieces[i]));
    TURN_UNTIL(peer_has(&client, pieces[i]));
  }
  lw_response_end(r);
  lw_request_release(r);
  TURN_UNTIL(peer_has(&client, "\r\n0\r\n"));
  assert_true(sample("chunk_gap_seconds_count") == before + 2); /* the worker's, not the model's */
  assert_true(sample("loop_lag_seconds_count") > 0);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, finish)
  const struct CMUnitTest tests[] = {
      TEST(each_ending_is_counted_once),
      TEST(what_is_no_fault_of_the_model),
      TEST(only_routes_with_turns_wait),
      TEST(present_figures),
      TEST(paths_without_a_route_make_no_label),
      TEST(labels_are_escaped),
      TEST(routes_beyond_the_limit_share_one),
      TEST(figures_stay_over_reloads),
      TEST(registered_ones),
      TEST(streams_have_gaps),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
