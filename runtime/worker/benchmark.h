/* SPDX-License-Identifier: MIT
 * How much workload per second the model server does (protocol §5): taken from the script's
 * max_perf, from the cache file when the same script was measured with the same model, or measured
 * by a task of the script (lua/luaworker/benchmark.lua). */
#pragma once

#include "worker/route.h"

/* In the drain, once for each begin. error NULL: `max_perf` is good, `how` says where it came from
 * ("declared", "cached", "measured"); else what went wrong. */
typedef void lw_benchmark_done(double max_perf, const char *how, const char *error);

/* cache_file NULL: none is read or kept. Borrows the router. One at a time. */
void lw_benchmark_begin(lw_router *router, const char *cache_file, lw_benchmark_done *done);
/* The script's task says what it measured; ignored unless this router's is under way. */
void lw_benchmark_measured(lw_router *router, double max_perf, const char *error);
/* The task is cancelled, `done` is not called. Also when none is under way. */
void lw_benchmark_cancel(void);
bool lw_benchmark_running(void);
