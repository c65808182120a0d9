/* SPDX-License-Identifier: MIT
 * Deadlines: many lw_timers over one uv timer. The functions that others use stand in loop/loop.h;
 * these two are for the loop itself. */
#pragma once

#include "loop/loop.h"

void lw_timers_open(uv_loop_t *uv);
void lw_timers_close(void); /* asserts nothing about timers left: they are only memory */
unsigned lw_timers_active(void);
