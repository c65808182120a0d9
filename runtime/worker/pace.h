/* SPDX-License-Identifier: MIT
 * How fast the worker's own long waits pass: between reports, health checks, retries at start. 1;
 * tests of hours of them set more (LUAWORKER_TEST_PACE). Time-outs of calls and all that a client
 * sees keep real time. */
#pragma once

#include "floor/base.h"

void lw_pace_set(double times_faster); /* below 1 and NaN count as 1 */
/* So many real milliseconds, at least 1. */
uint64_t lw_pace_ms(uint64_t ms);
