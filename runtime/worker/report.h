/* SPDX-License-Identifier: MIT
 * Reports to the autoscaler (protocol, "Reports to the autoscaler"): worker_status and
 * delete_requests. Looked at every second, sent when due; never in a request's way. */
#pragma once

#include "worker/account.h"

typedef struct lw_report_settings {
  const char *addresses;          /* comma-separated base URLs; copied, as all texts here */
  int64_t worker_id;              /* CONTAINER_ID */
  const char *master_token, *url; /* url: the advertised one */
  bool delete_requests_v1;        /* the older form of delete_requests */
} lw_report_settings;

void lw_report_start(const lw_report_settings *s, lw_account *account);
/* The worker became ready after `loadtime_s`, or is in error ("" clears it): sent at once, or
 * right after the post that is under way. No-ops while no reports run. */
void lw_report_loaded(double loadtime_s, double max_perf);
void lw_report_error(const char *error_msg);
/* Tells once more what has not been told, for at most 2 s and without retries, then calls on_done
 * (in the drain; at once when there is nothing to tell or no reports run). From then on nothing is
 * sent any more. */
void lw_report_flush(void (*on_done)(void));
/* No further reports; a running post is given up. */
void lw_report_stop(void);
/* Posts that were taken, and that were not, each attempt counted. */
uint64_t lw_report_taken(void);
uint64_t lw_report_failures(void);
double lw_report_taken_s(void);           /* wall clock: the last that was taken; 0: none */
const char *lw_report_last_failure(void); /* why a post is not taken at present; "" when it is */
