/* SPDX-License-Identifier: MIT
 * From start to ready (protocol §5), and what watches the model afterwards: orders the log tail,
 * the script's start(), the benchmark and the health checks, and sets their gates in worker/ready.
 *
 *   log marker ──┐
 *   start() ─────┴─► benchmark ──► health: the first 200 ──► ready (with the key, program/serve)
 *
 * A gate that the script does not ask for is unused. What failed is tried again: start() and the
 * benchmark every 60 s, when the model_loaded marker comes again, and at a reload; the log's error
 * is cleared by the next model_loaded marker. After readiness a bad health check, an error marker,
 * a failed start() or benchmark of a new script set their gate back to failed until they are well
 * again; nothing else does. */
#pragma once

#include "worker/route.h"

typedef struct lw_startup_settings { /* texts are borrowed for the process's life */
  const char *model_log;             /* when the script names no model_log_file; NULL: none */
  const char *health_url;            /* URL, or path at the model; when the script has none */
  const char *benchmark_cache;       /* file; NULL: none is kept */
  double stall_timeout_s; /* no byte from the model for so long while requests run; 0: off */
  bool model_loaded;      /* no model_loaded marker is waited for */
} lw_startup_settings;

/* Begins with this script's settings. Gates: log, start, benchmark, health. The router is borrowed
 * until it is replaced or all stops. */
void lw_startup_begin(const lw_startup_settings *s, lw_router *router);
/* The script was loaded anew, and the old router is still alive. Its start() runs, its log file,
 * markers and health URL are taken over, and it is measured when its text, its max_perf or the
 * model URL differs. Gates that had passed stay so meanwhile, and the old max_perf is kept until
 * there is a new one. */
void lw_startup_replace(lw_router *router);
void lw_startup_stop(void); /* also when it never began */

/* What the script's own tasks tell (through script/api), once for each; from a router that is no
 * longer the present one it is dropped. error NULL: well. */
void lw_startup_started(lw_router *router, const char *error);
void lw_startup_measured(lw_router *router, double max_perf, const char *error);
/* How far the benchmark is, or what holds it up; for the gate's text while it waits. */
void lw_startup_measuring(const char *what);
/* A call to the model could not connect: look at its health now. */
void lw_startup_model_unreachable(void);
/* The benchmark's result, workload/s; 0: not known yet. */
double lw_startup_max_perf(void);
