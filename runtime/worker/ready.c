/* SPDX-License-Identifier: MIT */
#include "worker/ready.h"

#include <stdarg.h>
#include <stdio.h>

static struct {
  lw_gate_state state;
  double since_s;
  char why[501];
} gates[LW_GATE_COUNT];
static void (*changed)(void);
static double since_s;

const char *lw_gate_name(lw_gate g) {
  static const char *const names[] = {"log", "start", "benchmark", "health", "key"};
  return names[g];
}
const char *lw_gate_state_name(lw_gate_state s) {
  static const char *const names[] = {"unused", "waiting", "passed", "failed"};
  return names[s];
}
void lw_ready_init(void (*on_change)(void)) {
  memset(gates, 0, sizeof gates);
  changed = on_change;
  since_s = lw_wall_s();
}
void lw_ready_set(lw_gate g, lw_gate_state s, const char *why, ...) {
  bool was = lw_ready_is();
  va_list args;
  va_start(args, why);
  vsnprintf(gates[g].why, sizeof gates[g].why, why, args);
  va_end(args);
  gates[g].state = s;
  gates[g].since_s = lw_wall_s();
  if (was != lw_ready_is()) since_s = lw_wall_s();
  if (changed) changed();
}
lw_gate_view lw_ready_gate(lw_gate g) {
  return (lw_gate_view){gates[g].state, gates[g].since_s, gates[g].why};
}
bool lw_ready_is(void) {
  for (int i = 0; i < LW_GATE_COUNT; i++) {
    if (gates[i].state == LW_GATE_WAITING || gates[i].state == LW_GATE_FAILED) return false;
  }
  return true;
}
const char *lw_ready_error(void) {
  for (int i = 0; i < LW_GATE_COUNT; i++) {
    if (gates[i].state == LW_GATE_FAILED) return gates[i].why;
  }
  return "";
}
double lw_ready_since_s(void) { return since_s; }
