/* SPDX-License-Identifier: MIT
 * Fetching the autoscaler's public key (protocol, "The signature"): GET <addr>/pubkey/ from each
 * report address in turn, 5 attempts with waits of 1, 2, 4, 8 s, then every 60 s until it is there.
 */
#pragma once

#include "worker/auth.h"

/* addresses: comma-separated base URLs, copied. Begins at once. Both callbacks come in the drain
 * and may be NULL: on_failure once, after the fifth attempt, with the text for reports; on_key
 * once. */
void lw_pubkey_start(const char *addresses, lw_auth *auth, void (*on_key)(void),
                     void (*on_failure)(const char *error_msg));
void lw_pubkey_stop(void); /* also when it never started or is done */
