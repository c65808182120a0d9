/* SPDX-License-Identifier: MIT
 * How much workload per second the model server does (protocol §5): taken from the script's
 * max_perf, from the cache file when the same script was measured with the same model, or measured
 * by a task of the script (lua/luaworker/benchmark.lua). docs/benchmark.md tells it to users.
 *
 * The cache file: the first line is the number, as the reference worker writes it; the second names
 * what was measured: `luaworker script=HEX model=HEX route=HEX`. A file without a second line, or
 * with another one, or with anything that is no number is not used, and the log says why. */
#pragma once

#include "worker/route.h"

/* In the drain, once for each begin. error NULL: `max_perf` is good, `how` says where it came from
 * ("declared", "cached", "measured", or "none": the script has no benchmark, 0); else what went
 * wrong, a whole sentence. Arguments are good during the call. */
typedef void lw_benchmark_done(double max_perf, const char *how, const char *error);

/* cache_file NULL or "": none is read or kept. Borrows the router and the text. One at a time.
 * `done` may be called before this returns. */
void lw_benchmark_begin(lw_router *router, const char *cache_file, lw_benchmark_done *done);
/* The script's task says what it measured; ignored unless this router's is under way. */
void lw_benchmark_measured(lw_router *router, double max_perf, const char *error);
/* The task is cancelled, with its calls to the model, and `done` is not called. Also when none is
 * under way. */
void lw_benchmark_cancel(void);
bool lw_benchmark_running(void);

/* A digest of all texts given so far, for lw_router.digest: FNV-1a over lengths and bytes. It tells
 * versions of a script apart, not forgeries. */
#define LW_BENCHMARK_DIGEST_START 0xcbf29ce484222325u
uint64_t lw_benchmark_digest(uint64_t so_far, lw_span text);
