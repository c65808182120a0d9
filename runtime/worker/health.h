/* SPDX-License-Identifier: MIT
 * Asks the model server whether it is well (protocol §5): at start until the first 200, then every
 * 10 s; and a watchdog on forward progress: requests at work and no byte for too long, or a refused
 * connection, call for a check at once.
 *
 *   with url     every 2 s until the first 200 and while it fails, every 10 s while it is well;
 * only a 200 is good without      nothing is asked until somebody is in doubt (probe, watchdog);
 * any HTTP answer at probe_url is good; after a bad one every 2 s until a good one
 *
 * A check takes 10 s at most. One that times out while the model sends bytes to requests proves
 * nothing and changes nothing: a model that computes may be slow to answer. */
#pragma once

#include "worker/account.h"

typedef struct lw_health_settings {
  const char *url;        /* full URL of the check; NULL: only probed when in doubt, at probe_url */
  const char *probe_url;  /* any answer there shows life; used when url is NULL. May be NULL too */
  double stall_timeout_s; /* 0: no watchdog */
  /* The model is known to be well. Else, with url: a first good check is awaited; without: it is
   * known not to be well, and asked until it is. */
  bool is_well;
} lw_health_settings;

typedef struct lw_health_events { /* in the drain; each may stop or start health anew */
  void (*on_first)(void);         /* the first good check (only with url, and not when is_well) */
  /* Was well and is not; or 300 s have passed without a first; and again when the reason changed.
   */
  void (*on_failed)(const char *why);
  void (*on_well)(void); /* well again */
} lw_health_events;

/* Texts are copied. The account says how many requests are at work. Ends what ran before. */
void lw_health_start(const lw_health_settings *s, const lw_health_events *events,
                     const lw_account *account);
/* Somebody is in doubt: look now. No-op while a check is under way, none runs, or the model is not
 * known to be well: then it is looked at every 2 s. */
void lw_health_probe(void);
void lw_health_stop(void); /* also when it never started */
/* What the last check found, such as "health check http://... answered with status 503"; "" before
 * the first has ended. */
const char *lw_health_last(void);
uint64_t lw_health_checks(void); /* made; for metrics */
uint64_t lw_health_failures(void);
