/* SPDX-License-Identifier: MIT
 * The gates to readiness, each with its state, since when, and why: the one place that knows
 * whether the worker is ready, and what to say when somebody asks why not. Pure bookkeeping. */
#pragma once

#include "floor/base.h"

typedef enum lw_gate {
  LW_GATE_LOG,       /* the model_loaded marker in its log */
  LW_GATE_START,     /* the script's start() has returned */
  LW_GATE_BENCHMARK, /* max_perf is known */
  LW_GATE_HEALTH,    /* the model answers */
  LW_GATE_KEY,       /* signatures can be checked */
  LW_GATE_COUNT
} lw_gate;
const char *lw_gate_name(lw_gate g); /* "log" "start" "benchmark" "health" "key" */

typedef enum lw_gate_state {
  LW_GATE_UNUSED,  /* nothing to wait for; also counts as passed */
  LW_GATE_WAITING, /* not yet */
  LW_GATE_PASSED,
  LW_GATE_FAILED /* an error; may be set to anything else later, when it clears */
} lw_gate_state;
const char *lw_gate_state_name(lw_gate_state s); /* "unused" "waiting" "passed" "failed" */

typedef struct lw_gate_view {
  lw_gate_state state;
  double since_s;  /* wall clock: when it came into this state */
  const char *why; /* what it waits for, how it passed or why it failed; "" */
} lw_gate_view;

/* All gates UNUSED. on_change (may be NULL) is called from within lw_ready_set() when a gate's
 * state or text has changed. */
void lw_ready_init(void (*on_change)(void));
/* The text is copied, at most 500 bytes of it. Setting what is set already changes nothing but the
 * text. */
void lw_ready_set(lw_gate g, lw_gate_state s, const char *why, ...) LW_PRINTF(3, 4);
lw_gate_view lw_ready_gate(lw_gate g);
bool lw_ready_is(void);           /* every gate passed or unused */
const char *lw_ready_error(void); /* why of the first failed gate; "" when none has failed */
double lw_ready_since_s(void);    /* wall clock: when lw_ready_is() last changed */
