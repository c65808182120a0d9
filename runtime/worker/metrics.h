/* SPDX-License-Identifier: MIT
 * What /metrics shows, in Prometheus' text form: counters and histograms of requests, kept here,
 * and gauges read when asked, from the rooms that have them. docs/metrics.md lists the names. */
#pragma once

#include "wire/body.h"
#include "worker/work.h"

enum {
  LW_METRICS_ROUTES = 200 /* have figures of their own; those beyond share the route "other" */
};

/* The figures of a route, the same ones each time: they outlive routers. Never NULL. */
struct lw_route_figures *lw_metrics_route(const char *method, const char *path);
/* A request of a route (not of a builtin) is over: its record, times and outcome are final. */
void lw_metrics_note(const lw_work *w);
/* A hook failed; figures NULL: none of a route's, but start, benchmark or spawn. */
void lw_metrics_note_hook(struct lw_route_figures *figures, const char *hook);
/* A figure of a higher layer; texts static. counter: only grows. A NaN is left out. */
void lw_metrics_register(const char *name, const char *help, bool counter, double (*read)(void));
void lw_metrics_write(lw_body *out);
void lw_metrics_fini(void);
