/* SPDX-License-Identifier: MIT
 * What one loaded script offers: its routes and the settings that go with them, in C. Filled once
 * while the script loads, then read only. Counted: every request running on it holds a reference;
 * the last one gone, `retire` tells its owner. Knows nothing of Lua: tasks are started through
 * `ops`. */
#pragma once

#include "exchange/request.h"
#include "exchange/upstream.h"
#include "worker/markers.h"

typedef enum lw_route_kind {
  LW_KIND_HANDLER,
  LW_KIND_WORK,
  LW_KIND_FORWARD
} lw_route_kind;

typedef struct lw_route {
  struct lw_router *router;
  lw_route_kind kind;
  lw_h1_method method;
  char *method_name, *path;
  char *endpoint;  /* path at the model; NULL: the route's own */
  char *model_url; /* server URL and endpoint; made by lw_router_seal(); NULL without a model */
  int job;         /* names the handler or hooks to Lua */
  double parallel, payload_hook, response_hook; /* 0 or 1 */
  double max_queue_time;                        /* seconds; < 0: no limit */
  double connect, first_byte, idle, total;      /* seconds; 0: none */
  double workload;                              /* when no hook counts it */
  double drain_on_disconnect;
  struct lw_route_figures *figures; /* its counters in worker/metrics; set by lw_router_seal() */
  double bare; /* no envelope: the body is the payload, auth_data comes in a field */
} lw_route;

/* How the layer above runs a script's part of a request. */
typedef struct lw_task_ops {
  /* A new task for r (r->work is set), or for a job of the script's own (r NULL). Wakes it; it runs
   * in a later step of the drain. How such a job ended is told once, in the drain, to
   * lw_startup_started() or lw_startup_measured(); not when it was cancelled. The pointer is good
   * until then, or until it is cancelled. */
  struct lw_task *(*start)(struct lw_router *router, lw_request *r, int job);
  void (*cancel)(struct lw_task *task); /* its pending and later waits end with LW_CANCELLED */
  void (*wake)(struct lw_task *task);
} lw_task_ops;

typedef struct lw_router {
  lw_route **routes;
  size_t count;
  char *model_server_url, *model_log_file, *model_healthcheck_url;
  char *benchmark_route; /* the path of the route that is measured; NULL: none */
  double max_sessions, max_perf;
  double benchmark_job, start_job; /* jobs of the script's own; 0: none */
  lw_marker *markers;              /* log_actions */
  size_t marker_count;
  uint64_t digest; /* of the script's text and the files it loaded: is it the one measured? */
  const lw_task_ops *ops;
  void *owner; /* the generation */
  unsigned refs;
  void (*retire)(struct lw_router *router); /* refs fell to 0; may be NULL */
} lw_router;

lw_router *lw_router_new(void); /* refs = 1 */
lw_router *lw_router_ref(lw_router *r);
void lw_router_unref(lw_router *r);
void lw_router_free(lw_router *r); /* whatever refs says: the caller knows that none is used */

/* NULL with *why (static text) when the pair is taken or the method unknown. */
lw_route *lw_router_add(lw_router *r, lw_route_kind kind, lw_span method, lw_span path, int job,
                        const char **why);
/* By name; LW_MISUSE for an unknown name, LW_PROTOCOL for a bad value. */
lw_code lw_router_set_number(lw_router *r, const char *name, double value) LW_MUST_CHECK;
lw_code lw_router_set_text(lw_router *r, const char *name, lw_span value) LW_MUST_CHECK;
lw_code lw_route_set_number(lw_route *r, const char *name, double value) LW_MUST_CHECK;
lw_code lw_route_set_text(lw_route *r, const char *name, lw_span value) LW_MUST_CHECK;
/* LW_PROTOCOL for an empty text or a line end in it. */
lw_code lw_router_add_marker(lw_router *r, lw_marker_kind kind, lw_span text) LW_MUST_CHECK;
/* All is set: builds the URLs. */
void lw_router_seal(lw_router *r);

/* The route for a request. NULL with 404, or 405 and the Allow value written to `allow`. A HEAD
 * request finds the GET route. */
lw_route *lw_router_find(const lw_router *r, lw_h1_method method, lw_span path, int *status,
                         char *allow, size_t allow_size);
lw_upstream_timeouts lw_route_timeouts(const lw_route *r);
