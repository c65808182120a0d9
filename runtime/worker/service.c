/* SPDX-License-Identifier: MIT
 * The worker's shared state, and the decisions taken on a request's head alone. Called by
 * exchange/server through its events; hands complete requests to worker/work. */
#include "worker/service.h"

#include "loop/conn.h"
#include "worker/complaint.h"
#include "worker/metrics.h"
#include "worker/ready.h"
#include "worker/work.h"

enum {
  BUILTIN_BODY_MAX = 262144 /* two texts of a session, and room to write them at length */
};

static lw_service service;

lw_service *lw_service_get(void) { return &service; }

bool lw_service_is_ready(void) { return lw_ready_is() && !service.draining && !service.stopping; }

/* Whoever scans the port shall not fill the log. */
static void on_tls_failure(const char *remote, const char *error) {
  lw_complain(&(lw_fold_line){.level = LW_LOG_INFO,
                              .message = "a TLS connection failed",
                              .error = lw_span_of(error),
                              .remote = lw_span_of(remote)});
}

void lw_service_init(const lw_queue_limits *queue_limits) {
  lw_conn_tell_tls_failures(on_tls_failure);
  service = (lw_service){.max_body = 64u << 20};
  service.auth = lw_auth_new();
  service.scheme = lw_scheme_new(service.auth);
  service.account = lw_account_new();
  service.queue = lw_queue_new(queue_limits, lw_work_on_turn);
}

void lw_service_fini(void) {
  lw_conn_tell_tls_failures(NULL);
  lw_queue_free(service.queue);
  lw_account_free(service.account);
  lw_scheme_free(service.scheme);
  lw_auth_free(service.auth);
  lw_metrics_fini();
  service = (lw_service){0};
}

/* What answers a request: one of the two, or neither. */
typedef struct answerer {
  const lw_builtin *builtin;
  lw_route *route;
} answerer;

static bool fits(const lw_builtin *b, const lw_h1_head *head) {
  if (!lw_span_eq(head->path, lw_span_of(b->path))) return false;
  return b->method == head->method || (b->method == LW_H1_GET && head->method == LW_H1_HEAD_METHOD);
}

static const lw_builtin *find_builtin(const lw_site *site, const lw_h1_head *head) {
  const lw_builtin *const *b = site->builtins;
  while (b && *b && !fits(*b, head)) b++;
  return b ? *b : NULL;
}

static bool is_builtin_path(const lw_site *site, lw_span path, const char **allow) {
  for (const lw_builtin *const *b = site->builtins; b && *b; b++) {
    if (!lw_span_eq(path, lw_span_of((*b)->path))) continue;
    *allow = (*b)->method == LW_H1_GET ? "GET, HEAD" : "POST";
    return true;
  }
  return false;
}

/* Answers 404 or 405 when there is none. */
static answerer find_answerer(lw_site *site, lw_request *r) {
  static char allowed[128];
  const lw_h1_head *head = r->head;
  const char *allow = allowed;
  int status = 404;
  answerer a = {find_builtin(site, head), NULL};
  if (a.builtin) return a;
  if (is_builtin_path(site, head->path, &allow)) {
    status = 405;
  } else if (site->router) {
    a.route =
        lw_router_find(site->router, head->method, head->path, &status, allowed, sizeof allowed);
    if (a.route) return a;
  }
  if (status == 405) {
    lw_headers_add_borrowed(&r->answer, LW_SPAN("Allow"), lw_span_of(allow));
    lw_response_error(r, 405, NULL, "this path does not take that method");
  } else {
    lw_response_error(r, 404, NULL, "no such path");
  }
  return a;
}

static bool has_coding(const lw_headers *h) {
  lw_span coding;
  return lw_headers_get(h, LW_SPAN("content-encoding"), &coding) && coding.n &&
         !lw_span_ieq(coding, LW_SPAN("identity"));
}

static uint64_t on_head(void *owner, lw_request *r) {
  const lw_h1_head *head = r->head;
  bool has_body = head->chunked || head->has_length;
  answerer a = find_answerer(owner, r);
  if (lw_request_is_over(r)) return 0;
  if (has_coding(&head->headers)) {
    lw_response_refuse(r, 415, "the request body must not be compressed");
  } else if (!has_body && !a.builtin &&
             (head->method == LW_H1_POST || head->method == LW_H1_PUT ||
              head->method == LW_H1_PATCH)) {
    lw_response_error(r, 411, NULL, "a Content-Length or chunked body is required");
  } else if (service.draining && a.route && a.route->kind == LW_KIND_WORK) {
    lw_headers_add_borrowed(&r->answer, LW_SPAN("Retry-After"), LW_SPAN("1"));
    lw_response_refuse(r, 503, "the worker is draining");
  }
  return a.builtin ? LW_MIN(service.max_body, BUILTIN_BODY_MAX) : service.max_body;
}

/* Of a builtin. What only looks, probes and scrapers ask for every few seconds. */
static void finish(lw_request *r) {
  bool looks = r->head->method != LW_H1_POST;
  lw_request_note note = {.workload = -1, .queue_ms = -1, .quiet = looks};
  lw_request_log(r, &note);
  lw_request_release(r);
}

void lw_builtin_done(lw_request *r) { finish(r); }

static void on_complete(void *owner, lw_request *r) {
  answerer a = find_answerer(owner, r);
  if (a.route) {
    lw_work_begin(a.route, r);
    return;
  }
  if (a.builtin) a.builtin->answer(r);
  if (lw_request_is_over(r)) finish(r);
}

static void on_gone(void *owner, lw_request *r) {
  const lw_builtin *b = find_builtin(owner, r->head);
  if (!b) {
    lw_work_on_gone(r);
    return;
  }
  if (b->gone) b->gone(r);
  finish(r);
}

/* Builtins are done when they have answered. */
static void on_cut(void *owner, lw_request *r) {
  if (!find_builtin(owner, r->head)) lw_work_on_cut(r);
}

const lw_server_events lw_service_events = {on_head, on_complete, on_gone, on_cut};
