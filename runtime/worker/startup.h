/* SPDX-License-Identifier: MIT
 * From start to ready (protocol §5), and what watches the model afterwards: orders the log tail, the
 * script's start(), the benchmark and the health checks, and sets their gates in worker/ready. */
#pragma once

#include "worker/route.h"

typedef struct lw_startup_settings { /* texts are borrowed for the process's life */
  const char *model_log;             /* when the script names no model_log_file; NULL: none */
  const char *health_url;            /* URL, or path at the model; when the script has none */
  const char *benchmark_cache;       /* file; NULL: none is kept */
  double stall_timeout_s;            /* no byte from the model for so long while requests run; 0: off */
} lw_startup_settings;

/* Begins with this script's settings. Gates: log, start, benchmark, health. */
void lw_startup_begin(const lw_startup_settings *s, lw_router *router);
/* The script was loaded anew: what differs (log file, markers, health URL, model URL, benchmark)
 * takes effect; a worker that is ready stays so meanwhile. */
void lw_startup_replace(lw_router *router);
void lw_startup_stop(void); /* also when it never began */

/* What the script's own tasks tell (through script/api); from a router that is no longer the present
 * one it is dropped. error NULL: well. */
void lw_startup_started(lw_router *router, const char *error);
void lw_startup_measured(lw_router *router, double max_perf, const char *error);
/* A call to the model could not connect: look at its health now. */
void lw_startup_model_unreachable(void);
/* The benchmark's result, workload/s; 0: not known yet. */
double lw_startup_max_perf(void);
