/* SPDX-License-Identifier: MIT */
#include "worker/health.h"

void lw_health_start(const lw_health_settings *s, const lw_health_events *events,
                     const lw_account *account) {
  (void)s, (void)events, (void)account;
}
void lw_health_probe(void) {}
void lw_health_stop(void) {}
uint64_t lw_health_checks(void) { return 0; }
uint64_t lw_health_failures(void) { return 0; }
