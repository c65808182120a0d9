/* SPDX-License-Identifier: MIT
 * The table of gates. Written by worker/startup and program/serve; read by whoever asks whether the
 * worker is ready, and why not. Neither logs nor waits: who sets a gate does. */
#include "worker/ready.h"

#include <stdarg.h>
#include <stdio.h>

enum {
  WHY_MAX = 500
};

typedef struct gate {
  lw_gate_state state;
  double since_s;
  char why[WHY_MAX + 1];
} gate;

static gate gates[LW_GATE_COUNT];
static void (*changed)(void);
static bool ready;
static double ready_since_s;

const char *lw_gate_name(lw_gate g) {
  static const char *const names[] = {"log", "start", "benchmark", "health", "key"};
  assert(g < LW_GATE_COUNT);
  return names[g];
}

const char *lw_gate_state_name(lw_gate_state s) {
  static const char *const names[] = {"unused", "waiting", "passed", "failed"};
  assert(s < LW_ARRAY_SIZE(names));
  return names[s];
}

static bool is_open(const gate *g) {
  return g->state == LW_GATE_UNUSED || g->state == LW_GATE_PASSED;
}

static bool are_all_open(void) {
  for (int i = 0; i < LW_GATE_COUNT; i++) {
    if (!is_open(&gates[i])) return false;
  }
  return true;
}

void lw_ready_init(void (*on_change)(void)) {
  double now_s = lw_wall_s();
  memset(gates, 0, sizeof gates);
  for (int i = 0; i < LW_GATE_COUNT; i++) gates[i].since_s = now_s;
  changed = on_change;
  ready = true;
  ready_since_s = now_s;
}

/* A text that was cut may end in the middle of a UTF-8 character: without that rest. */
static void drop_half_character(char *text) {
  size_t n = strlen(text), back = 0;
  if (n < WHY_MAX) return;
  while (back < 3 && ((unsigned char)text[n - 1 - back] & 0xC0) == 0x80) back++;
  unsigned char lead = (unsigned char)text[n - 1 - back];
  size_t wanted = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
  if (wanted > back + 1) text[n - 1 - back] = 0;
}

void lw_ready_set(lw_gate which, lw_gate_state s, const char *why, ...) {
  assert(which < LW_GATE_COUNT);
  gate *g = &gates[which];
  char text[sizeof g->why];
  va_list args;
  va_start(args, why);
  vsnprintf(text, sizeof text, why, args);
  va_end(args);
  drop_half_character(text);
  bool is_new = g->state != s;
  if (!is_new && strcmp(text, g->why) == 0) return;
  memcpy(g->why, text, sizeof text);
  if (is_new) g->since_s = lw_wall_s();
  g->state = s;
  if (ready != are_all_open()) {
    ready = !ready;
    ready_since_s = lw_wall_s();
  }
  if (changed) changed();
}

lw_gate_view lw_ready_gate(lw_gate which) {
  assert(which < LW_GATE_COUNT);
  const gate *g = &gates[which];
  return (lw_gate_view){g->state, g->since_s, g->why};
}

bool lw_ready_is(void) { return are_all_open(); }

const char *lw_ready_error(void) {
  for (int i = 0; i < LW_GATE_COUNT; i++) {
    if (gates[i].state == LW_GATE_FAILED) return gates[i].why;
  }
  return "";
}

double lw_ready_since_s(void) { return ready_since_s; }
