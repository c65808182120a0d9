/* SPDX-License-Identifier: MIT
 * Takes a new generation of the script in, and lets the old one go. Called by program/serve for
 * SIGHUP and for an edit under --watch. Owns the reload under way; the present generation is in
 * program/facts, old ones free themselves after their last request. */
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

static struct {
  const char *script;
  lw_site *site;
  void (*done)(void); /* NULL: none is under way */
  lw_timer timer;
  lw_wake wake;
  uint64_t preparing_ns;
} reload;

static void load(void) {
  unsigned now = lw_facts_get()->generation->number;
  char *why = NULL;
  uint64_t begun = lw_now_ns();
  lw_generation *fresh = has_room(&why) ? lw_generation_load(reload.script, &why) : NULL;
  double seconds = (double)(lw_now_ns() - begun + reload.preparing_ns) / 1e9;
  if (fresh) {
    lw_complaint_reset(); /* what the new one gets wrong is told anew */
    lw_info("reloaded %s in %.1f ms: generation %u", reload.script, seconds * 1000, fresh->number);
    take_in(fresh, reload.site);
    tell_crowd();
  } else {
    lw_error("reload failed, generation %u goes on: %s", now, why);
  }
  lw_facts_note_reload(why, seconds);
}

static void run_load(lw_wake *w) {
  (void)w;
  void (*done)(void) = reload.done;
  load();
  lw_reload_cancel();
  done();
}

static void on_timer(lw_timer *t) {
  (void)t;
  lw_loop_wake(&reload.wake);
}

void lw_reload(const char *script, lw_site *site, void (*done)(void)) {
  if (reload.done) return;
  uint64_t begun = lw_now_ns();
  lw_generation_prepare(script);
  reload.script = script;
  reload.site = site;
  reload.done = done;
  reload.preparing_ns = lw_now_ns() - begun;
  lw_wake_init(&reload.wake, run_load);
  lw_timer_init(&reload.timer, on_timer);
  lw_timer_start(&reload.timer, 1); /* what came meanwhile goes first */
}

void lw_reload_cancel(void) {
  if (!reload.done) return;
  lw_timer_fini(&reload.timer);
  lw_wake_cancel(&reload.wake);
  lw_generation_forget();
  reload.done = NULL;
}
