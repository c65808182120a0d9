/* SPDX-License-Identifier: MIT
 * The worker's shared state, and the decisions taken on a request's head alone. Called by
 * exchange/server through its events; hands complete requests to worker/work. */
#include "worker/service.h"

#include "worker/work.h"

static lw_service service;

lw_service *lw_service_get(void) { return &service; }

void lw_service_init(const lw_queue_limits *queue_limits) {
  service = (lw_service){.max_body = 64u << 20};
  service.auth = lw_auth_new();
  service.account = lw_account_new();
  service.queue = lw_queue_new(queue_limits, lw_work_on_turn);
}

void lw_service_fini(void) {
  lw_queue_free(service.queue);
  lw_account_free(service.account);
  lw_auth_free(service.auth);
  service = (lw_service){0};
}

static lw_route *find_route(lw_site *site, lw_request *r) {
  static char allow[128];
  int status;
  lw_route *route =
      lw_router_find(site->router, r->head->method, r->head->path, &status, allow, sizeof allow);
  if (route) return route;
  if (status == 405) {
    lw_headers_add_borrowed(&r->answer, LW_SPAN("Allow"), lw_span_of(allow));
    lw_response_error(r, 405, NULL, "this path does not take that method");
  } else {
    lw_response_error(r, 404, NULL, "no such path");
  }
  return NULL;
}

static bool has_coding(const lw_headers *h) {
  lw_span coding;
  return lw_headers_get(h, LW_SPAN("content-encoding"), &coding) && coding.n &&
         !lw_span_ieq(coding, LW_SPAN("identity"));
}

static uint64_t on_head(void *owner, lw_request *r) {
  const lw_h1_head *head = r->head;
  bool has_body = head->chunked || head->has_length;
  if (!find_route(owner, r)) return 0;
  if (has_coding(&head->headers)) {
    lw_response_refuse(r, 415, "the request body must not be compressed");
  } else if (!has_body && (head->method == LW_H1_POST || head->method == LW_H1_PUT ||
                           head->method == LW_H1_PATCH)) {
    lw_response_error(r, 411, NULL, "a Content-Length or chunked body is required");
  }
  return service.max_body;
}

static void on_complete(void *owner, lw_request *r) {
  lw_site *site = owner;
  lw_route *route = find_route(site, r);
  if (route) {
    lw_work_begin(route, r);
    return;
  }
  lw_request_note note = {.workload = -1, .queue_ms = -1};
  lw_request_log(r, &note);
  lw_request_release(r);
}

static void on_gone(void *owner, lw_request *r) {
  (void)owner;
  lw_work_on_gone(r);
}

const lw_server_events lw_service_events = {on_head, on_complete, on_gone};
