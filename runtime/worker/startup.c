/* SPDX-License-Identifier: MIT */
#include "worker/startup.h"

static lw_router *present;

void lw_startup_begin(const lw_startup_settings *s, lw_router *router) {
  (void)s;
  present = router;
}
void lw_startup_replace(lw_router *router) { present = router; }
void lw_startup_stop(void) { present = NULL; }
void lw_startup_started(lw_router *router, const char *error) { (void)router, (void)error; }
void lw_startup_measured(lw_router *router, double max_perf, const char *error) {
  (void)router, (void)max_perf, (void)error;
}
void lw_startup_model_unreachable(void) {}
double lw_startup_max_perf(void) { return present ? present->max_perf : 0; }
