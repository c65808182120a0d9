/* SPDX-License-Identifier: MIT
 * Route tables and their options. Filled through script/api while a script loads; asked by
 * worker/service for each request. Owns its routes and their texts. */
#include "worker/route.h"

#include <stdio.h>
#include <stdlib.h>

#include "exchange/address.h"
#include "worker/metrics.h"

enum {
  MAX_ROUTES = 1024
};

static const char *const method_names[] = {
    [LW_H1_GET] = "GET",         [LW_H1_HEAD_METHOD] = "HEAD", [LW_H1_POST] = "POST",
    [LW_H1_PUT] = "PUT",         [LW_H1_DELETE] = "DELETE",    [LW_H1_PATCH] = "PATCH",
    [LW_H1_OPTIONS] = "OPTIONS",
};

typedef struct option {
  const char *name;
  size_t offset;
} option;

#define NUMBER(name) \
  { #name, offsetof(lw_route, name) }
static const option route_numbers[] = {
    NUMBER(parallel), NUMBER(payload_hook),        NUMBER(response_hook), NUMBER(max_queue_time),
    NUMBER(connect),  NUMBER(first_byte),          NUMBER(idle),          NUMBER(total),
    NUMBER(workload), NUMBER(drain_on_disconnect), NUMBER(bare),
};
static const option route_texts[] = {{"endpoint", offsetof(lw_route, endpoint)}};
static const option router_numbers[] = {
    {"max_sessions", offsetof(lw_router, max_sessions)},
    {"max_perf", offsetof(lw_router, max_perf)},
    {"benchmark_job", offsetof(lw_router, benchmark_job)},
    {"start_job", offsetof(lw_router, start_job)},
};
static const option router_texts[] = {
    {"model_server_url", offsetof(lw_router, model_server_url)},
    {"model_log_file", offsetof(lw_router, model_log_file)},
    {"model_healthcheck_url", offsetof(lw_router, model_healthcheck_url)},
    {"benchmark_route", offsetof(lw_router, benchmark_route)},
};

static void *field_of(void *object, const option *options, size_t n, const char *name) {
  for (size_t i = 0; i < n; i++) {
    if (strcmp(options[i].name, name) == 0) return (char *)object + options[i].offset;
  }
  return NULL;
}

static lw_code set_number(double *field, double value) {
  if (!field) return LW_MISUSE;
  if (!(value >= 0 && value < 1e15)) return LW_PROTOCOL;
  *field = value;
  return LW_OK;
}

static lw_code set_text(char **field, lw_span value) {
  if (!field) return LW_MISUSE;
  if (value.n && memchr(value.p, 0, value.n)) return LW_PROTOCOL;
  free(*field);
  *field = lw_span_dup(value);
  return LW_OK;
}

#define FIELD(object, options, name) field_of(object, options, LW_ARRAY_SIZE(options), name)
lw_code lw_router_set_number(lw_router *r, const char *name, double value) {
  return set_number(FIELD(r, router_numbers, name), value);
}
lw_code lw_router_set_text(lw_router *r, const char *name, lw_span value) {
  return set_text(FIELD(r, router_texts, name), value);
}
lw_code lw_route_set_number(lw_route *r, const char *name, double value) {
  return set_number(FIELD(r, route_numbers, name), value);
}
lw_code lw_route_set_text(lw_route *r, const char *name, lw_span value) {
  char **field = FIELD(r, route_texts, name);
  if (field && (value.n == 0 || value.p[0] != '/')) return LW_PROTOCOL;
  return set_text(field, value);
}

lw_router *lw_router_new(void) {
  lw_router *r = lw_calloc(1, sizeof *r);
  r->refs = 1;
  r->max_sessions = 10;
  return r;
}

lw_router *lw_router_ref(lw_router *r) {
  r->refs++;
  return r;
}

void lw_router_unref(lw_router *r) {
  assert(r->refs > 0);
  if (--r->refs == 0 && r->retire) r->retire(r);
}

void lw_router_free(lw_router *r) {
  for (size_t i = 0; i < r->count; i++) {
    lw_route *route = r->routes[i];
    free(route->method_name);
    free(route->path);
    free(route->endpoint);
    free(route->model_url);
    free(route);
  }
  free(r->routes);
  for (size_t i = 0; i < r->marker_count; i++) free(r->markers[i].text);
  free(r->markers);
  free(r->model_server_url);
  free(r->model_log_file);
  free(r->model_healthcheck_url);
  free(r->benchmark_route);
  free(r);
}

lw_code lw_router_add_marker(lw_router *r, lw_marker_kind kind, lw_span text) {
  if (text.n == 0 || memchr(text.p, '\n', text.n) || memchr(text.p, 0, text.n)) return LW_PROTOCOL;
  r->markers = lw_realloc(r->markers, (r->marker_count + 1) * sizeof *r->markers);
  r->markers[r->marker_count++] = (lw_marker){kind, lw_span_dup(text)};
  return LW_OK;
}

static bool parse_method(lw_span name, lw_h1_method *method) {
  for (size_t i = 0; i < LW_ARRAY_SIZE(method_names); i++) {
    if (lw_span_eq(name, lw_span_of(method_names[i]))) {
      *method = (lw_h1_method)i;
      return true;
    }
  }
  return false;
}

lw_route *lw_router_add(lw_router *r, lw_route_kind kind, lw_span method, lw_span path, int job,
                        const char **why) {
  lw_h1_method m;
  *why = !parse_method(method, &m)           ? "unknown method"
         : path.n == 0 || path.p[0] != '/'   ? "a path begins with /"
         : memchr(path.p, 0, path.n) != NULL ? "a path holds no NUL byte"
         : r->count >= MAX_ROUTES            ? "too many routes"
                                             : NULL;
  for (size_t i = 0; !*why && i < r->count; i++) {
    if (r->routes[i]->method == m && lw_span_eq(lw_span_of(r->routes[i]->path), path)) {
      *why = "the method and path are taken by an earlier route";
    }
  }
  if (*why) return NULL;
  lw_route *route = lw_calloc(1, sizeof *route);
  *route = (lw_route){.router = r,
                      .kind = kind,
                      .method = m,
                      .job = job,
                      .connect = 5,
                      .max_queue_time = -1,
                      .workload = 100};
  route->method_name = lw_span_dup(method);
  route->path = lw_span_dup(path);
  r->routes = lw_realloc(r->routes, (r->count + 1) * sizeof *r->routes);
  r->routes[r->count++] = route;
  return route;
}

void lw_router_seal(lw_router *r) {
  for (size_t i = 0; i < r->count; i++) {
    r->routes[i]->figures = lw_metrics_route(r->routes[i]->method_name, r->routes[i]->path);
  }
  if (!r->model_server_url) return;
  for (size_t i = 0; i < r->count; i++) {
    lw_route *route = r->routes[i];
    free(route->model_url);
    route->model_url =
        lw_address_join(r->model_server_url, route->endpoint ? route->endpoint : route->path);
  }
}

static void allow_method(char *allow, size_t size, const char *name) {
  if (strstr(allow, name)) return; /* no method's name is part of another's */
  size_t n = strlen(allow);
  snprintf(allow + n, size - n, "%s%s", n ? ", " : "", name);
}

lw_route *lw_router_find(const lw_router *r, lw_h1_method method, lw_span path, int *status,
                         char *allow, size_t allow_size) {
  lw_route *for_head = NULL; /* a GET route answers HEAD, unless there is one for HEAD itself */
  *status = 404;
  allow[0] = 0;
  for (size_t i = 0; i < r->count; i++) {
    lw_route *route = r->routes[i];
    if (!lw_span_eq(lw_span_of(route->path), path)) continue;
    if (route->method == method) return route;
    if (route->method == LW_H1_GET && method == LW_H1_HEAD_METHOD) for_head = route;
    *status = 405;
    allow_method(allow, allow_size, route->method_name);
    if (route->method == LW_H1_GET) allow_method(allow, allow_size, "HEAD");
  }
  return for_head;
}

lw_upstream_timeouts lw_route_timeouts(const lw_route *r) {
  return (lw_upstream_timeouts){lw_ms(r->connect), lw_ms(r->first_byte), lw_ms(r->idle),
                                lw_ms(r->total)};
}
