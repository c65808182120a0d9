/* SPDX-License-Identifier: MIT
 * Asks the model server whether it is well (protocol §5): at start until the first 200, then every
 * 10 s; and a watchdog on forward progress: requests at work and no byte for too long, or a refused
 * connection, call for a check at once. */
#pragma once

#include "worker/account.h"

typedef struct lw_health_settings {
  const char *url;        /* full URL of the check; NULL: only probed when in doubt, at probe_url */
  const char *probe_url;  /* any answer there shows life; used when url is NULL. May be NULL too */
  double stall_timeout_s; /* 0: no watchdog */
} lw_health_settings;

typedef struct lw_health_events { /* in the drain */
  void (*on_first)(void);         /* the first good check (only with url) */
  void (*on_failed)(const char *why); /* was well and is not; or 300 s have passed without a first */
  void (*on_well)(void);              /* well again */
} lw_health_events;

/* Texts are copied. The account says how many requests are at work. */
void lw_health_start(const lw_health_settings *s, const lw_health_events *events,
                     const lw_account *account);
void lw_health_probe(void); /* look now; no-op while a check is under way or none runs */
void lw_health_stop(void);  /* also when it never started */
uint64_t lw_health_checks(void); /* made; for metrics */
uint64_t lw_health_failures(void);
