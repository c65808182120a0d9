/* SPDX-License-Identifier: MIT
 * One number. Set by program/serve and by unit tests; asked by report, health, startup, pubkey. */
#include "worker/pace.h"

static double pace = 1;

void lw_pace_set(double times_faster) { pace = times_faster >= 1 ? times_faster : 1; }

uint64_t lw_pace_ms(uint64_t ms) { return LW_MAX((uint64_t)((double)ms / pace), 1); }
