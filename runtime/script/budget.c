/* SPDX-License-Identifier: MIT
 * Stopping what runs too long or takes too much memory. The timer's signal and the allocator only
 * set the hook; on_hook() collects, decides and raises. Called by vm and task. Owns the timer, the
 * entry under way and the text of the last stop. */
#include "script/budget.h"

#include <errno.h>
#include <lauxlib.h>
#include <lua.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "floor/log.h"
#include "script/embedded.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

enum {
  TICKS = 10, /* in the time of a hook, as far as the bounds allow */
  LEVELS = 12,
  PATIENCE = 20000, /* instructions: some milliseconds */
  LEAST = 200,      /* of them, after a long call of C: what it gave is put where it is freed */
  SILENT_TIMES = 5  /* so many times over it, the hook has not fired: tell */
};

/* What the signal handler reads is volatile: it interrupts the thread that writes it. */
static struct {
  lw_entry entry;
  lua_State *volatile L; /* NULL: no Lua runs */
  volatile sig_atomic_t ticks, stop_after, warn_after;
  volatile sig_atomic_t armed;
  int patience;     /* how often the hook may still find itself in the library */
  bool over_memory; /* found so by the hook, which waits for a better place */
  struct other_hook {
    lua_Hook call;
    int mask, count;
  } other;      /* of luaworker test: it stands again when ours has fired */
  bool timed;   /* the timer runs */
  bool options; /* there are such */
  timer_t timer;
  int hook_ticks;
  double hook_time_s;
  uint64_t memory;
  uint64_t stops[LW_STOP_MEMORY + 1];
  char text[512];
  char traceback[4096];
} at;

static void on_hook(lua_State *L, lua_Debug *ar);

/* The two may meet half done, when the signal comes inside of LuaJIT's own switch of its dispatch
 * tables: so first off, which makes the next switch a whole one. */
static void arm(void) {
  if (!at.armed) {
    at.patience = PATIENCE;
    at.other =
        (struct other_hook){lua_gethook(at.L), lua_gethookmask(at.L), lua_gethookcount(at.L)};
  }
  at.armed = 1;
  lua_sethook(at.L, NULL, 0, 0);
  lua_sethook(at.L, on_hook, LUA_MASKCALL | LUA_MASKRET | LUA_MASKCOUNT, 1);
}

static void disarm(lua_State *L) {
  at.armed = 0;
  lua_sethook(L, at.other.call, at.other.mask, at.other.count);
}

/* -- what is told -- */

static bool is_library(const lua_Debug *ar) {
  if (ar->source[0] != '@') return false;
  for (size_t i = 0; i < lw_embedded_count; i++) {
    if (strcmp(ar->source + 1, lw_embedded[i].file) == 0) return true;
  }
  return false;
}

/* Of the innermost LEVELS functions the first of Lua, then the first after it that is not the
 * library's: "file:line: ". True when the library's own runs. More would take its time: a stack may
 * be deep, and each level is counted from the top. */
static bool find_place(lua_State *L, char *place, size_t size) {
  lua_Debug ar;
  bool any = false, inside_library = false;
  *place = '\0';
  for (int level = 0; level < LEVELS && lua_getstack(L, level, &ar); level++) {
    if (!lua_getinfo(L, "Sl", &ar) || ar.currentline <= 0) continue;
    bool library = is_library(&ar);
    if (!any) inside_library = library;
    any = true;
    if (library) continue;
    snprintf(place, size, "%s:%d: ", ar.short_src, ar.currentline);
    break;
  }
  return inside_library;
}

static void put_traceback(lua_State *L) {
  luaL_traceback(L, L, NULL, 0);
  int n = snprintf(at.traceback, sizeof at.traceback, "%s", lua_tostring(L, -1));
  lua_pop(L, 1);
  if (L == at.L || n < 0 || n >= (int)sizeof at.traceback) return;
  /* Inside a coroutine of the script's own: also where it was resumed. */
  luaL_traceback(L, at.L, NULL, 0);
  const char *lines = strchr(lua_tostring(L, -1), '\n');
  snprintf(at.traceback + n, sizeof at.traceback - (size_t)n, "%s", lines ? lines : "");
  lua_pop(L, 1);
}

static void put_text(lw_stop why, const char *place) {
  double seconds = at.hook_time_s * (at.entry.loading ? LW_LOADING_FACTOR : 1);
  if (why == LW_STOP_MEMORY) {
    snprintf(at.text, sizeof at.text, "%sthe script's Lua objects take more than %.4g MB%s", place,
             (double)at.entry.heap->limit / (1 << 20), at.options ? " (--script-memory)" : "");
  } else if (at.entry.loading) {
    snprintf(at.text, sizeof at.text, "%sran for more than %.3g s while the script was loaded%s",
             place, seconds, at.options ? " (10 times --hook-time)" : "");
  } else {
    snprintf(at.text, sizeof at.text, "%sran for more than %.3g s without waiting%s", place,
             seconds, at.options ? " (--hook-time)" : "");
  }
}

static void note_stop(lw_stop why, const char *place) {
  put_text(why, place);
  if (why == LW_STOP_MEMORY) at.entry.heap->full = true;
  *at.entry.stopped = (int)why;
  at.stops[why]++;
}

/* -- the hook -- */

static void stop(lua_State *L, lw_stop why) {
  char place[LUA_IDSIZE + 16];
  find_place(L, place, sizeof place);
  note_stop(why, place);
  put_traceback(L);
  lua_pushstring(L, at.text);
  lua_error(L);
}

/* Garbage alone shall not count: it is collected first. */
static void look_at_memory(lua_State *L) {
  lw_heap *h = at.entry.heap;
  if (!h->limit || h->used <= h->mark) return;
  lua_gc(L, LUA_GCCOLLECT, 0);
  h->mark = LW_MAX(h->limit / 2, LW_MAX((h->used + h->limit) / 2, h->used + h->limit / 16));
  at.over_memory = h->used > h->limit;
}

/* A function of the library may hold what only C frees: it goes on until it is back in the
 * script's, but not for ever. */
static bool may_go_on(lua_State *L) {
  char place[LUA_IDSIZE + 16];
  const lw_heap *h = at.entry.heap;
  if (at.timed && at.ticks > 2 * at.stop_after && at.patience < PATIENCE - LEAST) return false;
  if (h->used > h->limit + h->limit / 2 || (at.over_memory && !at.patience)) return false;
  return find_place(L, place, sizeof place);
}

static void on_hook(lua_State *L, lua_Debug *ar) {
  (void)ar;
  if (!at.L) return;
  look_at_memory(L);
  bool over_time = at.timed && at.ticks > at.stop_after;
  bool over = over_time || at.over_memory;
  if (over && may_go_on(L)) {
    if (!at.patience--) disarm(L); /* until the next tick: each instruction costs a hook */
    return;
  }
  lw_stop why = at.over_memory ? LW_STOP_MEMORY : LW_STOP_TIME;
  at.over_memory = false;
  if (over_time) at.ticks = 0; /* as long again for what unwinds */
  disarm(L);
  if (over) stop(L, why);
}

/* -- the timer -- */

/* The hook has had its time to fire: something in C, or compiled, does not come back. */
static void on_silence(void) {
  const lw_entry *e = &at.entry;
  lw_log_in_signal(LW_LOG_WARN,
                   "the script is inside of one long call that can't be stopped, such as a pattern "
                   "match, and nobody is served meanwhile",
                   e->path ? e->path : "a task");
}

static void on_tick(int signum) {
  (void)signum;
  if (!at.L) return;
  int saved = errno;
  int ticks = ++at.ticks;
  if (ticks > at.stop_after) arm();
  if (ticks == at.warn_after) on_silence();
  errno = saved;
}

/* On the CPU clock of the calling thread, and its signals go to this thread alone. */
static bool start_timer(void) {
  struct sigaction action = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
  struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGVTALRM};
  event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
  double interval_s = LW_MIN(LW_MAX(at.hook_time_s / TICKS, 0.01), 0.1);
  at.hook_ticks = (int)LW_MIN(ceil(at.hook_time_s / interval_s), 1e7);
  struct timespec interval = {(time_t)interval_s, (long)(interval_s * 1e9)};
  struct itimerspec when = {interval, interval};
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGVTALRM);
  if (sigaction(SIGVTALRM, &action, NULL) != 0) return false;
  if (timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &at.timer) != 0) return false;
  at.timed = true;
  return timer_settime(at.timer, 0, &when, NULL) == 0 &&
         pthread_sigmask(SIG_UNBLOCK, &set, NULL) == 0;
}

void lw_budget_set(double hook_time_s, uint64_t script_memory, bool options) {
  lw_budget_fini();
  at.hook_time_s = hook_time_s;
  at.memory = script_memory;
  at.options = options;
  if (hook_time_s <= 0 || start_timer()) return;
  lw_warn("no timer for --hook-time (%s): a script that loops is not stopped", strerror(errno));
  lw_budget_fini();
}

void lw_budget_fini(void) {
  if (at.timed) timer_delete(at.timer);
  at.timed = false;
  at.hook_time_s = 0;
  at.memory = 0;
}

/* -- memory -- */

/* Up to twice the limit is given, and the hook collects then and looks again: so garbage never
 * stands in the way of what would fit, and the error knows its place. What was stopped needs some
 * more to unwind. */
static bool refuses(const lw_heap *h, size_t more) {
  uint64_t most = 2 * h->limit + (*at.entry.stopped ? h->limit / 4 : 0);
  return h->used + more > most;
}

/* What would pass the mark while Lua runs. */
static bool may_grow(lw_heap *h, size_t more) {
  if (!at.L || at.entry.heap != h) return true;
  if (refuses(h, more)) {
    note_stop(LW_STOP_MEMORY, "");
    at.traceback[0] = '\0';
    return false;
  }
  if (!at.armed) arm();
  return true;
}

static void *count_allocation(void *owner, void *old, size_t had, size_t wanted) {
  lw_heap *h = owner;
  uint64_t used = h->used - had + wanted;
  if (used > h->mark && wanted > had && !may_grow(h, wanted - had)) return NULL;
  void *p = h->base(h->base_owner, old, had, wanted);
  if (p || !wanted) h->used = used;
  return p;
}

void lw_heap_open(lw_heap *h, lua_State *L) {
  *h = (lw_heap){.limit = at.memory, .mark = at.memory / 2};
  if (!h->limit) return;
  h->base = lua_getallocf(L, &h->base_owner);
  h->used =
      ((uint64_t)lua_gc(L, LUA_GCCOUNT, 0) << 10) + (uint64_t)(unsigned)lua_gc(L, LUA_GCCOUNTB, 0);
  lua_setallocf(L, count_allocation, h);
}

void lw_heap_close(lw_heap *h, lua_State *L) {
  if (h->limit) lua_setallocf(L, h->base, h->base_owner);
}

void lw_heap_tidy(lw_heap *h, lua_State *L) {
  if (!h->full) return;
  h->full = false;
  lua_gc(L, LUA_GCCOLLECT, 0);
}

/* -- entering -- */

void lw_budget_enter(lw_entry entry) {
  assert(!at.L);
  at.entry = entry;
  at.stop_after = at.hook_ticks * (entry.loading ? LW_LOADING_FACTOR : 1);
  at.warn_after = at.stop_after * SILENT_TIMES;
  at.ticks = 0;
  at.over_memory = false;
  at.L = entry.L;
}

void lw_budget_leave(void) {
  lua_State *L = at.L;
  at.L = NULL;
  if (at.armed) disarm(L);
}

bool lw_budget_took_long(void) { return at.ticks > 1 || *at.entry.stopped != LW_STOP_NONE; }

/* -- for Lua -- */

lw_stop lw_budget_stopped(void) { return at.L ? (lw_stop)*at.entry.stopped : LW_STOP_NONE; }

void lw_budget_text(lw_span *text, lw_span *traceback) {
  *text = lw_span_of(at.text);
  *traceback = lw_span_of(at.traceback);
}

void lw_budget_restart(void) {
  if (!at.L) return;
  at.ticks = 0;
  *at.entry.stopped = LW_STOP_NONE;
}

uint64_t lw_budget_stops(lw_stop why) { return at.stops[why]; }
