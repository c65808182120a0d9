/* SPDX-License-Identifier: MIT */
#include "worker/metrics.h"

void lw_metrics_note(const lw_work *w) { (void)w; }
void lw_metrics_register(const char *name, const char *help, bool counter, double (*read)(void)) {
  (void)name, (void)help, (void)counter, (void)read;
}
void lw_metrics_write(lw_body *out) { (void)out; }
void lw_metrics_fini(void) {}
