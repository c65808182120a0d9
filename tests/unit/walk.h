/* SPDX-License-Identifier: MIT
 * For tests of a request's walk: a client, the worker's server and a model server, all on the loop
 * of the test. The test plays the model and, through the functions of work.h, the scripts. begin()
 * and end() are its setup and teardown; end() proves that nothing of any request is left. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "floor/log.h"
#include "loop/conn.h"
#include "turn.h"
#include "worker/ready.h"
#include "worker/service.h"
#include "worker/startup.h"
#include "worker/work.h"

#pragma GCC diagnostic ignored "-Wunused-function"

/* -- the model -- */

enum {
  MOST = 16
};
static struct {
  lw_server *server;
  lw_request *held[MOST]; /* unanswered ones, in the order they came */
  int count, gone;
  char last[256]; /* "METHOD path?query body" */
  char id[LW_REQUEST_ID_MAX + 1];
} model;

static uint64_t on_model_head(void *owner, lw_request *r) {
  (void)owner;
  (void)r;
  return 1 << 20;
}

static void on_model_complete(void *owner, lw_request *r) {
  (void)owner;
  snprintf(model.last, sizeof model.last, "%.*s %.*s%s%.*s %.*s", (int)r->head->method_text.n,
           r->head->method_text.p, (int)r->head->path.n, r->head->path.p,
           r->head->query.n ? "?" : "", (int)r->head->query.n,
           r->head->query.n ? r->head->query.p : "", (int)r->body->n, r->body->n ? r->body->p : "");
  strcpy(model.id, r->id); /* the server took the one that it was given */
  assert_true(model.count < MOST);
  model.held[model.count++] = r;
}

static void forget_held(lw_request *r) {
  int at = 0;
  while (model.held[at] != r) at++;
  memmove(model.held + at, model.held + at + 1,
          sizeof *model.held * (size_t)(model.count - at - 1));
  model.count--;
}

static void on_model_gone(void *owner, lw_request *r) {
  (void)owner;
  forget_held(r);
  model.gone++;
  lw_request_release(r);
}

static void model_answers(int status, const char *text) {
  TURN_UNTIL(model.count > 0);
  lw_request *r = model.held[0];
  forget_held(r);
  lw_response_send(r, status, "application/json", lw_span_of(text));
  lw_request_release(r);
}

/* -- tasks, played by the test -- */

typedef struct lw_task {
  lw_work *work;
  lw_request *request;
  int job, cancelled, woken;
} lw_task;
static lw_task task;
static int started;

static lw_task *start_task(lw_router *router, lw_request *r, int job) {
  (void)router;
  task = (lw_task){.work = lw_work_of(r), .request = r, .job = job};
  started++;
  return &task;
}
static void cancel_task(lw_task *t) { t->cancelled++; }
static void wake_task(lw_task *t) { t->woken++; }
static const lw_task_ops ops = {start_task, cancel_task, wake_task};

/* -- the worker -- */

static lw_server_limits limits = {
    .h1 = LW_H1_LIMITS_DEFAULT,
    .max_connections = 100,
    .header_timeout_ms = 60000,
    .body_timeout_ms = 60000,
    .idle_timeout_ms = 60000,
    .write_timeout_ms = 60000,
};
static lw_site site;
static lw_server *server;
static peer client;
static int retired;
static char *model_url;

static void on_retire(lw_router *r) {
  retired++;
  lw_router_free(r);
}

static lw_route *add(lw_route_kind kind, const char *method, const char *path, int job) {
  const char *why;
  lw_route *r = lw_router_add(site.router, kind, lw_span_of(method), lw_span_of(path), job, &why);
  assert_non_null(r);
  return r;
}
static void set(lw_route *r, const char *name, double value) {
  assert_int_equal(lw_route_set_number(r, name, value), LW_OK);
}

static void make_router(void) {
  site.router = lw_router_new();
  site.router->ops = &ops;
  site.router->retire = on_retire;
  if (model_url) {
    assert_int_equal(lw_router_set_text(site.router, "model_server_url", lw_span_of(model_url)),
                     LW_OK);
  }
  set(add(LW_KIND_WORK, "POST", "/go", 1), "parallel", 1);
  add(LW_KIND_WORK, "POST", "/serial", 2);
  lw_route *r = add(LW_KIND_WORK, "POST", "/hooked", 3);
  set(r, "payload_hook", 1);
  r = add(LW_KIND_WORK, "POST", "/answered", 4);
  set(r, "response_hook", 1);
  set(r, "parallel", 1);
  add(LW_KIND_HANDLER, "GET", "/ping", 5);
  add(LW_KIND_FORWARD, "GET", "/health", 0);
  lw_router_seal(site.router);
}

/* What a benchmark would have found: estimates of waits go by it. */
static void measured(double max_perf) {
  assert_int_equal(lw_router_set_number(site.router, "max_perf", max_perf), LW_OK);
  lw_ready_init(NULL);
  lw_startup_begin(&(lw_startup_settings){0}, site.router);
  TURN_UNTIL(lw_startup_max_perf() == max_perf);
}

static lw_route *route(const char *path) {
  for (size_t i = 0; i < site.router->count; i++) {
    if (strcmp(site.router->routes[i]->path, path) == 0) return site.router->routes[i];
  }
  fail_msg("no route %s", path);
  return NULL;
}

static int begin(void **state) {
  (void)state;
  static const lw_server_events model_events = {on_model_head, on_model_complete, on_model_gone,
                                                NULL};
  const char *why = NULL;
  lw_log_setup(STDERR_FILENO, LW_LOG_OFF, LW_LOG_TEXT);
  lw_loop_init();
  lw_service_init(&(lw_queue_limits){.max_count = 2, .max_bytes = 10000});
  lw_service_get()->unsecured = true;
  memset(&model, 0, sizeof model);
  model.server = lw_server_open("127.0.0.1", 0, &limits, &model_events, NULL, &why);
  model_url = lw_printf_dup("http://127.0.0.1:%d", lw_server_port(model.server));
  retired = started = 0;
  make_router();
  server = lw_server_open("127.0.0.1", 0, &limits, &lw_service_events, &site, &why);
  assert_non_null(server);
  peer_open(&client, lw_server_port(server));
  return 0;
}

/* Nothing of any request may be left. */
static int end(void **state) {
  (void)state;
  peer_close(&client, false);
  TURN_UNTIL(lw_server_connections(server) == 0);
  TURN_UNTIL(model.count == 0);
  lw_service *s = lw_service_get();
  assert_int_equal(lw_upstream_open_count(), 0);
  assert_int_equal(lw_request_count(), 0);
  assert_int_equal(lw_account_in_flight(s->account), 0);
  assert_int_equal(lw_queue_waiting(s->queue), 0);
  assert_true(lw_account_consistent(s->account));
  assert_int_equal(site.router->refs, 1);
  lw_startup_stop();
  lw_router_unref(site.router);
  assert_true(retired > 0);
  lw_server_stop(server, NULL);
  lw_server_stop(model.server, NULL);
  lw_upstream_shutdown();
  TURN_UNTIL(lw_server_is_idle(model.server));
  lw_server_free(server);
  lw_server_free(model.server);
  lw_loop_fini();
  lw_service_fini();
  lw_doc_drop_spares();
  lw_buf_drop_spares();
  free(model_url);
  return 0;
}

static void send_post(peer *p, const char *path, const char *body) {
  char *text = lw_printf_dup("POST %s HTTP/1.1\r\nHost: h\r\nContent-Length: %zu\r\n\r\n%s", path,
                             strlen(body), body);
  peer_send(p, text);
  free(text);
}
#define ENVELOPE(payload)                                                                        \
  "{\"auth_data\":{\"cost\":50,\"endpoint\":\"e\",\"reqnum\":7,\"request_idx\":9,\"signature\":" \
  "\"s\",\"url\":\"http://u\"},\"payload\":" payload "}"
static void ask(peer *p, const char *path) { send_post(p, path, ENVELOPE("{\"a\": 1.50}")); }

static void expect_counts(unsigned success, unsigned error, unsigned cancelled, unsigned rejected) {
  const lw_totals *t = lw_account_totals(lw_service_get()->account);
  char got[80], wanted[80];
  snprintf(got, sizeof got, "success %u error %u cancelled %u rejected %u", (unsigned)t->success,
           (unsigned)t->error, (unsigned)t->cancelled, (unsigned)t->rejected);
  snprintf(wanted, sizeof wanted, "success %u error %u cancelled %u rejected %u", success, error,
           cancelled, rejected);
  assert_string_equal(got, wanted);
}
#define ANSWERED(p, status, body) TURN_UNTIL(peer_has(p, "HTTP/1.1 " status) && peer_has(p, body))
