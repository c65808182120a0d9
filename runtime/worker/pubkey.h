/* SPDX-License-Identifier: MIT
 * Fetching the autoscaler's public key (protocol, "The signature"): GET <addr>/pubkey/ from each
 * report address in turn, 5 attempts with waits of 1, 2, 4, 8 s, then every 60 s until it is there.
 */
#pragma once

#include "worker/auth.h"

typedef struct lw_pubkey_events {    /* in the drain; each may be NULL */
  void (*on_key)(void);              /* once */
  void (*on_retry)(const char *why); /* an attempt has failed, another follows */
  /* After the fifth attempt, or 60 s: the text for reports. Once. */
  void (*on_failure)(const char *error_msg);
} lw_pubkey_events;

/* addresses: comma-separated base URLs, copied. Begins at once. `events` is copied. */
void lw_pubkey_start(const char *addresses, lw_auth *auth, const lw_pubkey_events *events);
void lw_pubkey_stop(void); /* also when it never started or is done */
