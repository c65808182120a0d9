/* SPDX-License-Identifier: MIT
 * Route tables: what may be added, options by name, which route a request takes, the model's URLs,
 * counting. */
#include "worker/route.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static lw_router *router;
static const char *why;
static int status;
static char allow[128];

static int begin(void **state) {
  (void)state;
  router = lw_router_new();
  return 0;
}
static int end(void **state) {
  (void)state;
  lw_router_free(router);
  return 0;
}

static lw_route *add(const char *method, const char *path) {
  return lw_router_add(router, LW_KIND_WORK, lw_span_of(method), lw_span_of(path), 7, &why);
}
static lw_route *find(lw_h1_method method, const char *path) {
  return lw_router_find(router, method, lw_span_of(path), &status, allow, sizeof allow);
}

static void a_new_route_has_the_defaults(void **state) {
  (void)state;
  lw_route *r = add("POST", "/generate");
  assert_non_null(r);
  assert_null(why);
  assert_ptr_equal(r->router, router);
  assert_int_equal(r->kind, LW_KIND_WORK);
  assert_int_equal(r->method, LW_H1_POST);
  assert_string_equal(r->method_name, "POST");
  assert_string_equal(r->path, "/generate");
  assert_int_equal(r->job, 7);
  assert_null(r->endpoint);
  assert_true(r->connect == 5 && r->first_byte == 0 && r->idle == 0 && r->total == 0);
  assert_true(r->max_queue_time == -1 && r->workload == 100 && r->parallel == 0);
  lw_upstream_timeouts t = lw_route_timeouts(r);
  assert_int_equal(t.connect_ms, 5000);
  assert_int_equal(t.first_byte_ms + t.idle_ms + t.total_ms, 0);
}

static void bad_pairs_say_why(void **state) {
  (void)state;
  assert_non_null(add("POST", "/a"));
  assert_null(add("POST", "/a"));
  assert_string_equal(why, "the method and path are taken by an earlier route");
  assert_null(add("FETCH", "/b"));
  assert_string_equal(why, "unknown method");
  assert_null(add("post", "/b"));
  assert_null(add("", "/b"));
  assert_null(add("GET", "b"));
  assert_string_equal(why, "a path begins with /");
  assert_null(add("GET", ""));
  assert_null(lw_router_add(router, LW_KIND_WORK, LW_SPAN("GET"), LW_SPAN("/a\0b"), 1, &why));
  assert_string_equal(why, "a path holds no NUL byte");
  assert_int_equal(router->count, 1);
  assert_non_null(add("GET", "/a")); /* another method is another route */
}

static void there_is_a_limit(void **state) {
  (void)state;
  char path[32];
  unsigned added = 0;
  for (; added < 5000; added++) {
    snprintf(path, sizeof path, "/%u", added);
    if (!add("GET", path)) break;
  }
  assert_int_equal(added, 1024);
  assert_string_equal(why, "too many routes");
  assert_string_equal(find(LW_H1_GET, "/1023")->path, "/1023");
}

static void every_method_is_known(void **state) {
  (void)state;
  static const char *const names[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"};
  static const lw_h1_method methods[] = {LW_H1_GET,    LW_H1_HEAD_METHOD, LW_H1_POST,   LW_H1_PUT,
                                         LW_H1_DELETE, LW_H1_PATCH,       LW_H1_OPTIONS};
  for (size_t i = 0; i < LW_ARRAY_SIZE(names); i++) {
    char path[8];
    snprintf(path, sizeof path, "/%zu", i);
    lw_route *r = add(names[i], path);
    assert_non_null(r);
    assert_int_equal(r->method, methods[i]);
    assert_ptr_equal(find(methods[i], path), r);
  }
}

static void a_request_finds_its_route(void **state) {
  (void)state;
  lw_route *get = add("GET", "/a"), *post = add("POST", "/a"), *other = add("GET", "/a/b");
  assert_ptr_equal(find(LW_H1_GET, "/a"), get);
  assert_ptr_equal(find(LW_H1_POST, "/a"), post);
  assert_ptr_equal(find(LW_H1_GET, "/a/b"), other);
  assert_ptr_equal(find(LW_H1_HEAD_METHOD, "/a"), get);
  static const char *const unknown[] = {"/", "/A", "/a/", "/a/c", "/aa", "", "//a"};
  for (size_t i = 0; i < LW_ARRAY_SIZE(unknown); i++) {
    assert_null(find(LW_H1_GET, unknown[i]));
    assert_int_equal(status, 404);
    assert_string_equal(allow, "");
  }
}

static void wrong_methods_are_told_the_right_ones(void **state) {
  (void)state;
  add("POST", "/p");
  add("GET", "/g");
  add("PUT", "/g");
  assert_null(find(LW_H1_GET, "/p"));
  assert_int_equal(status, 405);
  assert_string_equal(allow, "POST");
  assert_null(find(LW_H1_HEAD_METHOD, "/p"));
  assert_int_equal(status, 405);
  assert_null(find(LW_H1_DELETE, "/g"));
  assert_string_equal(allow, "GET, HEAD, PUT");
  assert_null(find(LW_H1_OPTIONS, "/g"));
  assert_int_equal(status, 405);
  assert_null(find(LW_H1_OPTIONS, "/x"));
  assert_int_equal(status, 404);
  for (int i = 0; i < 3; i++) find(LW_H1_DELETE, "/g"); /* does not pile up */
  assert_string_equal(allow, "GET, HEAD, PUT");
}

static void all_methods_of_a_path_fit(void **state) {
  (void)state;
  static const char *const names[] = {"GET", "POST", "PUT", "DELETE", "PATCH"};
  for (size_t i = 0; i < LW_ARRAY_SIZE(names); i++) add(names[i], "/a");
  assert_null(find(LW_H1_OPTIONS, "/a"));
  assert_string_equal(allow, "GET, HEAD, POST, PUT, DELETE, PATCH");
}

static void numbers_by_name(void **state) {
  (void)state;
  lw_route *r = add("POST", "/a");
  static const char *const names[] = {
      "parallel",   "payload_hook", "response_hook", "max_queue_time", "connect",
      "first_byte", "idle",         "total",         "workload",       "drain_on_disconnect"};
  double *fields[] = {&r->parallel, &r->payload_hook,       &r->response_hook, &r->max_queue_time,
                      &r->connect,  &r->first_byte,         &r->idle,          &r->total,
                      &r->workload, &r->drain_on_disconnect};
  for (size_t i = 0; i < LW_ARRAY_SIZE(names); i++) {
    assert_int_equal(lw_route_set_number(r, names[i], (double)i + 0.5), LW_OK);
    assert_true(*fields[i] == (double)i + 0.5);
  }
  assert_int_equal(lw_route_set_number(r, "job", 1), LW_MISUSE);
  assert_int_equal(lw_route_set_number(r, "", 1), LW_MISUSE);
  static const double bad[] = {-1, -0.001, 1e15, INFINITY, NAN};
  for (size_t i = 0; i < LW_ARRAY_SIZE(bad); i++) {
    assert_int_equal(lw_route_set_number(r, "idle", bad[i]), LW_PROTOCOL);
  }
  assert_true(r->idle == 6.5);
  assert_int_equal(lw_router_set_number(router, "max_sessions", 3), LW_OK);
  assert_int_equal(lw_router_set_number(router, "max_perf", 2.5), LW_OK);
  assert_int_equal(lw_router_set_number(router, "idle", 3), LW_MISUSE);
  assert_true(router->max_sessions == 3 && router->max_perf == 2.5);
}

static void timeouts_are_milliseconds(void **state) {
  (void)state;
  lw_route *r = add("POST", "/a");
  assert_int_equal(lw_route_set_number(r, "connect", 0.0015), LW_OK);
  assert_int_equal(lw_route_set_number(r, "first_byte", 0.1), LW_OK);
  assert_int_equal(lw_route_set_number(r, "idle", 0), LW_OK);
  assert_int_equal(lw_route_set_number(r, "total", 3600), LW_OK);
  lw_upstream_timeouts t = lw_route_timeouts(r);
  assert_int_equal(t.connect_ms, 2);
  assert_int_equal(t.first_byte_ms, 100);
  assert_int_equal(t.idle_ms, 0);
  assert_int_equal(t.total_ms, 3600000);
}

/* A time that nobody sees is not the same as none. */
static void the_shortest_timeout(void **state) {
  (void)state;
  lw_route *r = add("POST", "/a");
  assert_int_equal(lw_route_set_number(r, "connect", 1e-9), LW_OK);
  assert_int_equal(lw_route_timeouts(r).connect_ms, 1);
}

static void texts_by_name(void **state) {
  (void)state;
  lw_route *r = add("POST", "/a");
  assert_int_equal(lw_route_set_text(r, "endpoint", LW_SPAN("/x")), LW_OK);
  assert_int_equal(lw_route_set_text(r, "endpoint", LW_SPAN("/y")), LW_OK);
  assert_string_equal(r->endpoint, "/y");
  assert_int_equal(lw_route_set_text(r, "endpoint", LW_SPAN("y")), LW_PROTOCOL);
  assert_int_equal(lw_route_set_text(r, "endpoint", LW_SPAN("")), LW_PROTOCOL);
  assert_int_equal(lw_route_set_text(r, "endpoint", LW_SPAN("/\0")), LW_PROTOCOL);
  assert_int_equal(lw_route_set_text(r, "path", LW_SPAN("/x")), LW_MISUSE);
  assert_string_equal(r->endpoint, "/y");
  assert_int_equal(lw_router_set_text(router, "model_log_file", LW_SPAN("a.log")), LW_OK);
  assert_int_equal(lw_router_set_text(router, "model_healthcheck_url", LW_SPAN("/h")), LW_OK);
  assert_int_equal(lw_router_set_text(router, "endpoint", LW_SPAN("/h")), LW_MISUSE);
  assert_string_equal(router->model_log_file, "a.log");
  assert_string_equal(router->model_healthcheck_url, "/h");
}

static void sealing_builds_the_urls(void **state) {
  (void)state;
  static const char *const bases[] = {"http://m:1", "http://m:1/", "http://m:1//"};
  lw_route *plain = add("POST", "/a"), *mapped = add("POST", "/b");
  assert_int_equal(lw_route_set_text(mapped, "endpoint", LW_SPAN("/v1/b")), LW_OK);
  lw_router_seal(router);
  assert_null(plain->model_url); /* there is no model */
  for (size_t i = 0; i < LW_ARRAY_SIZE(bases); i++) {
    assert_int_equal(lw_router_set_text(router, "model_server_url", lw_span_of(bases[i])), LW_OK);
    lw_router_seal(router);
    assert_string_equal(plain->model_url, "http://m:1/a");
    assert_string_equal(mapped->model_url, "http://m:1/v1/b");
  }
}

static int retired;
static void on_retire(lw_router *r) {
  assert_ptr_equal(r, router);
  retired++;
}

static void the_last_reference_retires(void **state) {
  (void)state;
  retired = 0;
  router->retire = on_retire;
  assert_ptr_equal(lw_router_ref(router), router);
  lw_router_ref(router);
  lw_router_unref(router);
  lw_router_unref(router);
  assert_int_equal(retired, 0);
  lw_router_unref(router);
  assert_int_equal(retired, 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(a_new_route_has_the_defaults),
      TEST(bad_pairs_say_why),
      TEST(there_is_a_limit),
      TEST(every_method_is_known),
      TEST(a_request_finds_its_route),
      TEST(wrong_methods_are_told_the_right_ones),
      TEST(all_methods_of_a_path_fit),
      TEST(numbers_by_name),
      TEST(timeouts_are_milliseconds),
      TEST(the_shortest_timeout),
      TEST(texts_by_name),
      TEST(sealing_builds_the_urls),
      TEST(the_last_reference_retires),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
