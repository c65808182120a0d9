/* SPDX-License-Identifier: MIT
 * `luaworker run`: any Lua program on the runtime, such as servers, clients and load tests. The
 * script is the main task; the program ends when it has returned and nothing else runs or listens.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "floor/log.h"
#include "loop/loop.h"
#include "program/options.h"
#include "program/program.h"
#include "script/budget.h"
#include "script/made.h"
#include "script/task.h"
#include "worker/service.h"

enum {
  STOP_DEADLINE_MS = 5000,
  CHECK_SECONDS = 10,
  SCRIPT_BYTES = 256 << 20
};

static struct {
  lw_vm *vm;
  lw_timer deadline;
  int status;
  bool ending;
} run;

static void finish(void) {
  if (run.ending) return;
  run.ending = true;
  lw_vm_close(run.vm);
  lw_program_stop_when_quiet();
}

/* The last task has ended: with nothing listening, nothing can happen any more. */
static void on_quiet(lw_vm *vm) {
  if (!lw_made_serving(vm)) finish();
}

static void cancel_tasks(void) {
  for (lw_list *node = run.vm->tasks.next; node != &run.vm->tasks; node = node->next) {
    lw_task *t = LW_CONTAINER_OF(node, lw_task, node);
    if (!t->request) lw_task_cancel(t);
  }
}

static void on_deadline(lw_timer *t) {
  (void)t;
  lw_made_cut_servers(run.vm);
}

static void begin_stop(bool at_once) {
  lw_made_stop_servers(run.vm);
  cancel_tasks();
  if (at_once) {
    lw_made_cut_servers(run.vm);
  } else {
    lw_timer_start(&run.deadline, STOP_DEADLINE_MS);
  }
  if (!run.vm->task_count) on_quiet(run.vm);
}

static void on_exit_asked(lw_vm *vm, int status) {
  (void)vm;
  run.status = status;
  begin_stop(true);
}

static void on_stop_signal(int signum) {
  static int count;
  if (run.ending) return;
  if (run.vm->stop_key) {
    int key = run.vm->stop_key;
    run.vm->stop_key = 0;
    lw_task_notify(run.vm, key);
    return;
  }
  if (count == 0 && !lw_made_serving(run.vm)) run.status = 128 + signum;
  begin_stop(++count > 1);
}

static void on_counters(int signum) {
  (void)signum;
  lw_program_log_counters();
}

static char *read_program(const char *program, size_t *size) {
  char *why = NULL;
  if (program[0] == '@') {
    const char *text = lw_embedded_find(program, size);
    if (text) return lw_strdup_n(text, *size);
    why = lw_printf_dup("%s: no program of that name is in the binary", program);
  } else {
    char *text = lw_script_read(program, size, &why);
    if (text) return text;
  }
  fprintf(stderr, "luaworker run: %s\n", why);
  free(why);
  return NULL;
}

static int run_program(lw_vm_mode mode, const char *program, int argc, char **argv) {
  size_t size = 0;
  char *text = read_program(program, &size), *why = NULL;
  if (!text) return 1;
  lw_program_raise_limits();
  lw_loop_init();
  lw_service_init(&(lw_queue_limits){1024, 64u << 20});
  argv[0] = (char *)program;
  run.vm = lw_vm_new(mode, argc, argv);
  run.vm->on_quiet = on_quiet;
  run.vm->on_exit = on_exit_asked;
  lw_timer_init(&run.deadline, on_deadline);
  if (lw_vm_load(run.vm, program, (lw_span){text, size}, &why) == LW_OK) {
    lw_task_start(run.vm, NULL, 0);
    lw_loop_on_signal(SIGTERM, on_stop_signal);
    lw_loop_on_signal(SIGINT, on_stop_signal);
    lw_loop_on_signal(SIGUSR1, on_counters);
  } else {
    fprintf(stderr, "%s\n", why);
    run.status = 1;
    finish();
  }
  free(text);
  free(why);
  lw_loop_run();
  lw_timer_fini(&run.deadline);
  lw_program_close();
  return run.status;
}

int lw_run_program(const char *program, int argc, char **argv) {
  return run_program(LW_VM_RUN, program, argc, argv);
}

int lw_run_main(int argc, char **argv) {
  const char *level = "info", *format = "auto";
  const lw_option options[] = {
      {"log-level", LW_OPTION_TEXT, &level, "LEVEL", "debug, info, warn, error or off", NULL, 0, 0},
      {"log-format", LW_OPTION_TEXT, &format, "FORMAT", "auto, text or json", NULL, 0, 0},
  };
  const lw_command command = {
      "run",
      "[options] PROGRAM [arguments]",
      "Runs a Lua program on the runtime: a server, a client, a load test.\n"
      "PROGRAM is a file, or one carried in the binary: @autoscaler, @model_server.",
      options,
      LW_ARRAY_SIZE(options),
      true};
  int first = lw_options_parse(&command, argc, argv);
  lw_options_setup_log("run", level, format);
  if (first >= argc) lw_usage_error("run", "which program?");
  return lw_run_program(argv[first], argc - first, argv + first);
}

int lw_call_main(int argc, char **argv) { return lw_run_program("@call", argc, argv); }
int lw_status_main(int argc, char **argv) { return lw_run_program("@status", argc, argv); }

/* These run scripts that may be wrong: one that never ends, or takes all memory, shall not keep
 * them. Tests have a time of their own (lua/luaworker/testing_kernel.lua). */
int lw_check_main(int argc, char **argv) {
  lw_budget_set(CHECK_SECONDS, SCRIPT_BYTES, false);
  return lw_run_program("@check", argc, argv);
}
int lw_test_main(int argc, char **argv) {
  lw_budget_set(0, SCRIPT_BYTES, false);
  return run_program(LW_VM_TEST, "@test", argc, argv);
}
int lw_init_main(int argc, char **argv) { return lw_run_program("@init", argc, argv); }
int lw_load_main(int argc, char **argv) { return lw_run_program("@load", argc, argv); }
int lw_drain_main(int argc, char **argv) { return lw_run_program("@drain", argc, argv); }
