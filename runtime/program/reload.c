/* SPDX-License-Identifier: MIT
 * Takes a new generation of the script in, and lets the old one go. Called by program/serve for
 * SIGHUP and for an edit under --watch. Owns nothing: the present generation is in program/facts,
 * old ones free themselves after their last request. */
#include "program/reload.h"

#include "floor/log.h"
#include "program/facts.h"
#include "worker/complaint.h"
#include "worker/startup.h"

/* Each takes the memory of a Lua state, so there must be an end to it. */
static bool has_room(char **why) {
  unsigned n = lw_generation_count();
  if (n < LW_GENERATIONS_MAX) return true;
  *why = lw_printf_dup(
      "%u generations of the script are at work for their last requests, no more are taken in; "
      "reload again when some of those have ended",
      n);
  return false;
}

static void tell_crowd(void) {
  static bool told;
  unsigned n = lw_generation_count();
  if (n > LW_GENERATIONS_WARN && !told) {
    lw_warn(
        "%u generations of the script are at work for their last requests, each with its own "
        "memory; at %d no other is loaded",
        n, LW_GENERATIONS_MAX);
  }
  told = n > LW_GENERATIONS_WARN;
}

static void take_in(lw_generation *fresh, lw_site *site) {
  lw_facts *f = lw_facts_get();
  lw_generation *old = f->generation;
  f->generation = fresh;
  site->router = fresh->router;
  lw_startup_replace(fresh->router);
  lw_generation_retire(old);
}

void lw_reload(const char *script, lw_site *site) {
  unsigned now = lw_facts_get()->generation->number;
  char *why = NULL;
  uint64_t begun = lw_now_ns();
  lw_generation *fresh = has_room(&why) ? lw_generation_load(script, &why) : NULL;
  double seconds = (double)(lw_now_ns() - begun) / 1e9;
  if (fresh) {
    lw_complaint_reset(); /* what the new one gets wrong is told anew */
    lw_info("reloaded %s in %.1f ms: generation %u", script, seconds * 1000, fresh->number);
    take_in(fresh, site);
    tell_crowd();
  } else {
    lw_error("reload failed, generation %u goes on: %s", now, why);
  }
  lw_facts_note_reload(why, seconds);
}
