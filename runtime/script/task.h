/* SPDX-License-Identifier: MIT
 * A task is one coroutine at work: a request's hooks, a handler, a spawned function, a program's
 * main chunk. It runs only when the drain resumes it (task_resume, the one lua_resume), waits by
 * yielding, and is woken by what it waits for. Being woken without reason does no harm: it asks
 * again. */
#pragma once

#include "exchange/request.h"
#include "floor/list.h"
#include "loop/alarm.h"
#include "script/vm.h"

typedef struct lw_task {
  lw_list node; /* in vm->tasks */
  lw_vm *vm;
  struct lua_State *L; /* its coroutine */
  int ref;             /* which keeps it from the collector */
  lw_wake wake;
  lw_grave grave;
  lw_request *request; /* NULL: not a request's */
  int job;
  struct lw_task *parent; /* cancelled with it; NULL: nobody's child, or an orphan */
  bool has_children;
  bool own_job; /* start() or the benchmark: how it ended is told to worker/startup */
  bool has_result;
  double result;
  char *error; /* owned; NULL: it went well */
  bool cancelled;
  int stopped;   /* lw_stop: it took too much */
  lw_list calls; /* struct lw_call: closed when it ends */
  lw_list shots; /* of exchange/shot: the same */
  lw_timer timer;
  lw_alarm alarm;
  unsigned hurried;    /* sleeps in a row that were over before they began */
  lw_list waiter;      /* in vm->waiters while waiting_notify */
  bool sleeping;       /* a sleep was begun and not yet reported as over */
  bool timed;          /* the timer has fired */
  bool waiting_notify; /* the same for notifications */
  bool notified;
  int notify_key;
} lw_task;

/* Takes an idle coroutine or makes one; the task runs in a later step of the drain. */
lw_task *lw_task_start(lw_vm *vm, lw_request *request, int job);
/* The same, and when `parent` ends or is cancelled, so is this one. */
lw_task *lw_task_start_child(lw_task *parent, int job);
/* Stops its calls now; its waits end with LW_CANCELLED. So with its children. */
void lw_task_cancel(lw_task *t);
/* What a job of the script's own came to, told when the task has ended. error NULL: well; copied.
 */
void lw_task_set_result(lw_task *t, double result, const char *error);
lw_task *lw_task_current(void); /* NULL outside of a task */
unsigned lw_task_count(void);

/* Waits, to be repeated until they no longer return LW_AGAIN. */
lw_code lw_task_sleep(lw_task *t, double seconds);
/* Until a moment of the monotonic clock. One that has passed is no wait, but after some in a row
 * the loop polls its sockets. */
lw_code lw_task_sleep_until(lw_task *t, uint64_t moment_ns);
lw_code lw_task_wait_notify(lw_task *t, int key, double seconds);
void lw_task_notify(lw_vm *vm, int key);

extern const lw_task_ops lw_task_route_ops; /* for routers of a script */
