/* SPDX-License-Identifier: MIT
 * Coroutines at work. The drain calls task_resume() through each task's wake: the only place where
 * Lua is resumed. What a task opened ends with it. Owns tasks; their coroutines are the VM's and
 * are used again. */
#include "script/task.h"

#include <lauxlib.h>
#include <lua.h>
#include <stdlib.h>

#include "exchange/shot.h"
#include "floor/log.h"
#include "script/call.h"
#include "worker/complaint.h"
#include "worker/startup.h"
#include "worker/work.h"

enum {
  IDLE_COROUTINES = 1024,
  MOST_HURRIED = 16,
};

static lw_task *current;
static unsigned task_count;

lw_task *lw_task_current(void) { return current; }
unsigned lw_task_count(void) { return task_count; }

/* -- the end -- */

static void bury_task(lw_grave *g) {
  lw_task *t = LW_CONTAINER_OF(g, lw_task, grave);
  free(t->error);
  free(t);
}

static void close_calls(lw_task *t) {
  lw_list *node;
  while ((node = t->calls.next) != &t->calls) lw_call_free(LW_CONTAINER_OF(node, lw_call, node));
}

static void give_back_coroutine(lw_task *t, bool reusable) {
  lw_vm *vm = t->vm;
  if (reusable && vm->idle_count < IDLE_COROUTINES && !vm->closing) {
    vm->idle[vm->idle_count++] = t->ref;
  } else {
    luaL_unref(vm->L, LUA_REGISTRYINDEX, t->ref);
  }
}

static void cancel_children(lw_task *t) {
  if (!t->has_children) return;
  for (lw_list *node = t->vm->tasks.next; node != &t->vm->tasks; node = node->next) {
    lw_task *child = LW_CONTAINER_OF(node, lw_task, node);
    if (child->parent != t) continue;
    child->parent = NULL;
    lw_task_cancel(child);
  }
}

/* From the drain, when no Lua runs: what is told may start the next task. */
static void tell_result(lw_task *t) {
  if (!t->own_job || t->cancelled) return;
  lw_router *router = t->vm->published;
  const char *error = t->has_result ? t->error : "its task broke down, see the log";
  if (t->job == (int)router->benchmark_job) {
    lw_startup_measured(router, t->result, error);
  } else {
    lw_startup_started(router, error);
  }
}

static void end_task(lw_task *t, bool reusable) {
  cancel_children(t);
  close_calls(t);
  lw_shot_free_all(&t->shots);
  lw_wake_cancel(&t->wake);
  lw_timer_fini(&t->timer);
  lw_alarm_stop(&t->alarm);
  lw_list_remove(&t->waiter);
  lw_list_remove(&t->node);
  give_back_coroutine(t, reusable);
  task_count--;
  lw_vm *vm = t->vm;
  lw_request *r = t->request;
  lw_loop_bury(&t->grave, bury_task);
  if (r) {
    if (r->writer == &t->wake) r->writer = NULL;
    lw_work_task_done(lw_work_of(r));
  }
  tell_result(t);
  lw_heap_tidy(&vm->heap, vm->L);
  lw_vm_task_ended(vm);
}

/* -- resuming -- */

/* Only here, where no Lua runs: this may allocate in the state, and collect. */
static void take_coroutine(lw_task *t) {
  lw_vm *vm = t->vm;
  if (vm->idle_count) {
    t->ref = vm->idle[--vm->idle_count];
    lua_rawgeti(vm->L, LUA_REGISTRYINDEX, t->ref);
    t->L = lua_tothread(vm->L, -1);
    lua_pop(vm->L, 1);
    return;
  }
  t->L = lua_newthread(vm->L);
  t->ref = luaL_ref(vm->L, LUA_REGISTRYINDEX);
  lua_rawgeti(t->L, LUA_REGISTRYINDEX, vm->main_ref);
}

/* The last resort: the library has handled every error that a script can make before. */
static void break_down(lw_task *t, const char *text) {
  lw_request *r = t->request;
  lw_work *w = r ? lw_work_of(r) : NULL;
  lw_complain(&(lw_fold_line){.level = LW_LOG_ERROR,
                              .message = "a task failed outside of its hook",
                              .route = lw_span_of(w ? w->route->path : NULL),
                              .error = lw_span_of(text),
                              .request_id = lw_span_of(r ? r->id : NULL)});
  if (!w || lw_request_is_over(r)) return;
  char *told = lw_printf_dup("the worker script failed; its log says how, under request %s", r->id);
  lw_work_fail(w, 500, "script", told, lw_span_of(text));
  free(told);
}

static void enter(lw_task *t) {
  const char *path = t->request ? lw_work_of(t->request)->route->path : NULL;
  current = t;
  lw_budget_enter((lw_entry){t->L, &t->vm->heap, &t->stopped, path, false});
}

static uint64_t bit_of(const lw_task *t) { return (uint64_t)1 << ((unsigned)t->job % 64); }

static void leave(lw_task *t) {
  lw_budget_leave();
  if (lw_budget_took_long()) {
    t->vm->slow_jobs |= bit_of(t);
    lw_loop_took_long();
  }
  current = NULL;
}

/* The error of a stopped one may be no more than LuaJIT's "error in error handling". */
static const char *error_of(lw_task *t, int status) {
  lw_span why, traceback;
  lw_budget_text(&why, &traceback);
  const char *text = status == 0  ? "its main function returned"
                     : t->stopped ? why.p
                                  : lua_tostring(t->L, -1);
  return text ? text : "no message";
}

static void task_resume(lw_task *t) {
  if (!t->L) take_coroutine(t);
  lua_State *co = t->L;
  enter(t);
  int status = lua_resume(co, 0);
  leave(t);
  if (status == LUA_YIELD) {
    bool idle = lua_gettop(co) > 0 && lua_toboolean(co, -1);
    lua_settop(co, 0);
    if (idle) end_task(t, true);
    return;
  }
  break_down(t, error_of(t, status));
  end_task(t, false);
}

/* Of jobs that took long before, one or two run in a turn: streams and other routes go on. */
static void run_task(lw_wake *w) {
  lw_task *t = LW_CONTAINER_OF(w, lw_task, wake);
  if ((t->vm->slow_jobs & bit_of(t)) && lw_loop_hold_up(w)) return;
  task_resume(t);
}

static void on_timer(lw_timer *timer) {
  lw_task *t = LW_CONTAINER_OF(timer, lw_task, timer);
  t->timed = true;
  lw_loop_wake(&t->wake);
}

static void on_alarm(lw_alarm *alarm) {
  lw_task *t = LW_CONTAINER_OF(alarm, lw_task, alarm);
  t->timed = true;
  lw_loop_wake(&t->wake);
}

/* -- the beginning -- */

lw_task *lw_task_start(lw_vm *vm, lw_request *request, int job) {
  lw_task *t = lw_calloc(1, sizeof *t);
  t->vm = vm;
  t->request = request;
  t->job = job;
  if (!vm->idle) vm->idle = lw_calloc(IDLE_COROUTINES, sizeof *vm->idle);
  lw_list_init(&t->calls);
  lw_list_init(&t->shots);
  lw_list_init(&t->waiter);
  lw_wake_init(&t->wake, run_task);
  lw_timer_init(&t->timer, on_timer);
  lw_alarm_init(&t->alarm, on_alarm);
  lw_list_append(&vm->tasks, &t->node);
  vm->task_count++;
  task_count++;
  lw_loop_wake(&t->wake);
  return t;
}

lw_task *lw_task_start_child(lw_task *parent, int job) {
  lw_task *t = lw_task_start(parent->vm, NULL, job);
  t->parent = parent;
  parent->has_children = true;
  return t;
}

void lw_task_set_result(lw_task *t, double result, const char *error) {
  free(t->error);
  t->error = error ? lw_strdup(error) : NULL;
  t->result = result;
  t->has_result = true;
}

void lw_task_cancel(lw_task *t) {
  t->cancelled = true;
  cancel_children(t);
  for (lw_list *node = t->calls.next; node != &t->calls; node = node->next) {
    lw_call_stop(LW_CONTAINER_OF(node, lw_call, node));
  }
  lw_shot_cancel_all(&t->shots);
  lw_loop_wake(&t->wake);
}

/* -- waits -- */

/* Never too early: the clock's own millisecond has begun already. */
static uint64_t whole_ms(double seconds) {
  return seconds > 0 ? (uint64_t)(LW_MIN(seconds, 1e9) * 1000 + 1.999) : 0;
}

lw_code lw_task_sleep(lw_task *t, double seconds) {
  if (t->cancelled) {
    t->sleeping = false;
    lw_timer_stop(&t->timer);
    return LW_CANCELLED;
  }
  if (!t->sleeping) {
    t->sleeping = true;
    t->timed = false;
    lw_timer_start(&t->timer, whole_ms(seconds));
    return LW_AGAIN;
  }
  if (!t->timed) return LW_AGAIN;
  t->sleeping = false;
  return LW_OK;
}

lw_code lw_task_sleep_until(lw_task *t, uint64_t moment_ns) {
  if (t->cancelled) {
    t->sleeping = false;
    lw_alarm_stop(&t->alarm);
    return LW_CANCELLED;
  }
  if (!t->sleeping) {
    if (moment_ns <= lw_now_ns() && t->hurried++ < MOST_HURRIED) return LW_OK;
    t->hurried = 0;
    t->sleeping = true;
    t->timed = false;
    lw_alarm_start(&t->alarm, moment_ns);
    return LW_AGAIN;
  }
  if (!t->timed) return LW_AGAIN;
  t->sleeping = false;
  return LW_OK;
}

lw_code lw_task_wait_notify(lw_task *t, int key, double seconds) {
  if (!t->waiting_notify && !t->cancelled) {
    t->waiting_notify = true;
    lw_list_append(&t->vm->waiters, &t->waiter);
    t->notified = t->timed = false;
    t->notify_key = key;
    if (seconds >= 0) lw_timer_start(&t->timer, (uint64_t)(LW_MIN(seconds, 1e9) * 1000));
    return LW_AGAIN;
  }
  lw_code code = t->notified    ? LW_OK
                 : t->cancelled ? LW_CANCELLED
                 : t->timed     ? LW_TIMEOUT
                                : LW_AGAIN;
  if (code != LW_AGAIN) {
    t->waiting_notify = false;
    lw_list_remove(&t->waiter);
    lw_timer_stop(&t->timer);
  }
  return code;
}

void lw_task_notify(lw_vm *vm, int key) {
  for (lw_list *node = vm->waiters.next; node != &vm->waiters; node = node->next) {
    lw_task *t = LW_CONTAINER_OF(node, lw_task, waiter);
    if (t->notify_key != key) continue;
    t->notified = true;
    lw_loop_wake(&t->wake);
  }
}

/* -- for routers -- */

static lw_task *start_for_route(lw_router *router, lw_request *r, int job) {
  lw_task *t = lw_task_start(router->owner, r, job);
  t->own_job = !r;
  return t;
}
static void wake_task(lw_task *t) { lw_loop_wake(&t->wake); }

const lw_task_ops lw_task_route_ops = {start_for_route, lw_task_cancel, wake_task};
