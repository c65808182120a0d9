/* SPDX-License-Identifier: MIT
 * The order of things from start to ready. Called by program/serve, and by script/api with what the
 * script's tasks found. Owns the tail of the model's log with its markers, and start()'s task;
 * worker/benchmark and worker/health run on its behalf. */
#include "worker/startup.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "exchange/address.h"
#include "floor/log.h"
#include "worker/benchmark.h"
#include "worker/health.h"
#include "worker/pace.h"
#include "worker/ready.h"
#include "worker/service.h"
#include "worker/tail.h"

enum {
  TICK_MS = 1000,
  RETRY_MS = 60000,
  FIRST_REMIND_TICKS = 10, /* until a log line says why it is not ready, */
  REMIND_TICKS = 60,       /* and between two of them */
  INFO_LINES = 20,         /* of the model's log that are echoed in one tick */
};

static struct {
  lw_startup_settings set;
  lw_router *router; /* the present one; NULL: stopped */

  char *log_file;
  lw_marker *list; /* our copy, which the markers below borrow */
  size_t count, loaded_count;
  lw_tail *tail;
  lw_markers *markers;
  double log_read_at; /* wall clock: the last bytes */
  unsigned echoed, left_out;

  struct lw_task *starting; /* start()'s, until it has told */
  bool start_failed, measured, benchmark_failed;
  double max_perf;

  char *health_url, *probe_url;
  char *health_shown; /* health_url without its secrets */
  bool health_runs;

  lw_timer tick, retry;
  lw_wake wake;
  bool ticked, retry_due;
  unsigned ticks;
} startup;

static void go_on(void);

double lw_startup_max_perf(void) { return startup.max_perf; }

static bool is_open(lw_gate g) {
  lw_gate_state s = lw_ready_gate(g).state;
  return s == LW_GATE_UNUSED || s == LW_GATE_PASSED;
}

static bool has_passed(lw_gate g) { return lw_ready_gate(g).state == LW_GATE_PASSED; }

/* -- the model's log -- */

/* Answers "why does it not see the marker?" in one look. */
static void say_what_log_shows(void) {
  char marker[128], seen[160], at[32];
  const char *first = "";
  for (size_t i = startup.count; i-- > 0;) {
    if (startup.list[i].kind == LW_MARKER_LOADED) first = startup.list[i].text;
  }
  snprintf(marker, sizeof marker,
           startup.loaded_count > 1 ? "\"%.80s\" (or %zu others)" : "\"%.80s\"", first,
           startup.loaded_count - 1);
  lw_tail_figures f = lw_tail_look(startup.tail);
  time_t read_at = (time_t)startup.log_read_at;
  struct tm utc;
  strftime(at, sizeof at, "%H:%M:%SZ", gmtime_r(&read_at, &utc));
  if (f.error) {
    snprintf(seen, sizeof seen, "%s; %llu bytes read", f.error, (unsigned long long)f.bytes);
  } else if (f.bytes == 0) {
    snprintf(seen, sizeof seen, "nothing in it yet");
  } else {
    snprintf(seen, sizeof seen, "%llu bytes read, the last at %s", (unsigned long long)f.bytes, at);
  }
  lw_ready_set(LW_GATE_LOG, LW_GATE_WAITING, "waits for %s in %.200s: %s", marker, startup.log_file,
               seen);
}

static void on_bytes(void *owner, lw_span bytes) {
  (void)owner;
  startup.log_read_at = lw_wall_s();
  lw_markers_feed(startup.markers, bytes);
}

static void on_file(void *owner) {
  (void)owner;
  lw_markers_end_line(startup.markers);
}

static void on_marker(void *owner, const lw_marker *m) {
  (void)owner;
  if (m->kind == LW_MARKER_ERROR) {
    lw_ready_set(LW_GATE_LOG, LW_GATE_FAILED, "%s", m->text);
    return;
  }
  if (!has_passed(LW_GATE_LOG)) lw_info("the model's log says \"%s\"", m->text);
  lw_ready_set(LW_GATE_LOG, LW_GATE_PASSED, "found \"%.200s\" in %.200s", m->text,
               startup.log_file);
  startup.retry_due = startup.start_failed || startup.benchmark_failed;
  lw_loop_wake(&startup.wake); /* not from within the tail's call */
}

static void on_info(void *owner, lw_span line, uint64_t size) {
  (void)owner;
  if (startup.echoed == INFO_LINES) {
    startup.left_out++;
    return;
  }
  startup.echoed++;
  lw_field f[] = {lw_field_span("line", line), lw_field_int("size", (int64_t)size)};
  lw_log_fields(LW_LOG_INFO, "model log", f, size > line.n ? 2 : 1);
}

static void allow_more_lines(void) {
  if (startup.left_out) {
    lw_info("%u more lines of the model's log were left out", startup.left_out);
  }
  startup.echoed = startup.left_out = 0;
}

static bool has_markers_of(const lw_router *router) {
  if (startup.count != router->marker_count) return false;
  for (size_t i = 0; i < startup.count; i++) {
    if (startup.list[i].kind != router->markers[i].kind) return false;
    if (strcmp(startup.list[i].text, router->markers[i].text) != 0) return false;
  }
  return true;
}

static void take_markers(const lw_router *router) {
  static const lw_markers_events events = {on_marker, on_info};
  startup.count = router ? router->marker_count : 0;
  startup.list = lw_calloc(startup.count + 1, sizeof *startup.list);
  startup.loaded_count = 0;
  for (size_t i = 0; i < startup.count; i++) {
    startup.list[i] = (lw_marker){router->markers[i].kind, lw_strdup(router->markers[i].text)};
    startup.loaded_count += startup.list[i].kind == LW_MARKER_LOADED;
  }
  startup.markers = lw_markers_new(startup.list, startup.count, &events, NULL);
}

static void drop_markers(void) {
  lw_markers_free(startup.markers);
  startup.markers = NULL;
  for (size_t i = 0; i < startup.count; i++) free(startup.list[i].text);
  free(startup.list);
  startup.list = NULL;
  startup.count = 0;
}

static void drop_log(void) {
  lw_tail_close(startup.tail);
  startup.tail = NULL;
  free(startup.log_file);
  startup.log_file = NULL;
}

static const char *log_file_of(const lw_router *router) {
  const char *file = router->model_log_file;
  if (!file || !*file) file = startup.set.model_log;
  return file && *file && router->marker_count ? file : NULL;
}

/* A gate that was passed stays so: the model is the same. One that was not is decided by the whole
 * file again, since the new marker may stand in what was read already. */
static void take_log(lw_router *router) {
  static const lw_tail_events events = {on_bytes, on_file};
  const char *file = log_file_of(router);
  bool same_file =
      file ? startup.log_file && strcmp(file, startup.log_file) == 0 : !startup.log_file;
  bool same_markers = startup.markers && has_markers_of(router);
  bool is_stuck = !startup.loaded_count && !is_open(LW_GATE_LOG); /* no marker can clear it */
  if (same_file && same_markers && !is_stuck) return;
  bool keeps_place = same_file && has_passed(LW_GATE_LOG);
  drop_markers();
  take_markers(router);
  if (!keeps_place) {
    drop_log();
    if (file) {
      startup.log_file = lw_strdup(file);
      startup.log_read_at = 0;
      startup.tail = lw_tail_open(file, &events, NULL);
    }
  }
  if (!file || !startup.loaded_count) {
    lw_ready_set(LW_GATE_LOG, LW_GATE_UNUSED, "%s",
                 router->marker_count && !file ? "no log is named (MODEL_LOG)"
                                               : "the script names no model_loaded marker");
  } else if (startup.set.model_loaded && !has_passed(LW_GATE_LOG)) {
    lw_ready_set(LW_GATE_LOG, LW_GATE_UNUSED, "not waited for (--model-loaded)");
  } else if (!has_passed(LW_GATE_LOG)) {
    say_what_log_shows();
  }
}

/* -- start() -- */

static void retry_later(void) { lw_timer_start(&startup.retry, lw_pace_ms(RETRY_MS)); }

static void begin_start(void) {
  lw_router *r = startup.router;
  startup.start_failed = false;
  startup.starting = r->ops->start(r, NULL, (int)r->start_job);
}

static void cancel_start(void) {
  if (startup.starting) startup.router->ops->cancel(startup.starting);
  startup.starting = NULL;
  startup.start_failed = false;
}

void lw_startup_started(lw_router *router, const char *error) {
  if (!startup.router || router != startup.router || !startup.starting) return;
  startup.starting = NULL;
  if (error) {
    startup.start_failed = true;
    lw_ready_set(LW_GATE_START, LW_GATE_FAILED, "start() of the worker script failed: %s", error);
    retry_later();
    return;
  }
  lw_ready_set(LW_GATE_START, LW_GATE_PASSED, "start() has returned");
  lw_loop_wake(&startup.wake);
}

/* -- the benchmark -- */

static bool has_benchmark(const lw_router *r) { return r->benchmark_job > 0 || r->max_perf > 0; }

static void on_benchmark(double max_perf, const char *how, const char *error) {
  if (error) {
    startup.benchmark_failed = true;
    lw_ready_set(LW_GATE_BENCHMARK, LW_GATE_FAILED, "%s", error);
    retry_later();
    return;
  }
  startup.measured = true;
  startup.max_perf = max_perf;
  if (has_benchmark(startup.router)) {
    if (strcmp(how, "declared") == 0)
      lw_info("max_perf is %.6g a second, says the script", max_perf);
    lw_ready_set(LW_GATE_BENCHMARK, LW_GATE_PASSED, "%.3f a second, %s", max_perf, how);
  } else {
    lw_ready_set(LW_GATE_BENCHMARK, LW_GATE_UNUSED, "the script has none");
  }
  lw_loop_wake(&startup.wake);
}

/* A gate that has failed stays so until there is a result: it does not flap with every new try. */
static void begin_benchmark(void) {
  startup.benchmark_failed = false;
  if (lw_ready_gate(LW_GATE_BENCHMARK).state == LW_GATE_WAITING) {
    lw_ready_set(LW_GATE_BENCHMARK, LW_GATE_WAITING, "the benchmark runs");
  }
  lw_benchmark_begin(startup.router, startup.set.benchmark_cache, on_benchmark);
}

void lw_startup_measuring(const char *what) {
  if (!startup.router || !lw_benchmark_running()) return;
  if (lw_ready_gate(LW_GATE_BENCHMARK).state != LW_GATE_WAITING) return;
  lw_ready_set(LW_GATE_BENCHMARK, LW_GATE_WAITING, "%s", what);
}

void lw_startup_measured(lw_router *router, double max_perf, const char *error) {
  if (!startup.router || router != startup.router) return;
  lw_benchmark_measured(router, max_perf, error);
}

static void await_benchmark(const lw_router *r) {
  startup.measured = startup.benchmark_failed = false;
  if (!has_benchmark(r)) {
    startup.max_perf = 0; /* before the gate changes, which tells it */
    lw_ready_set(LW_GATE_BENCHMARK, LW_GATE_UNUSED, "the script has none");
  } else if (!has_passed(LW_GATE_BENCHMARK)) {
    lw_ready_set(LW_GATE_BENCHMARK, LW_GATE_WAITING, "comes after the log's marker and start()");
  }
}

/* -- health -- */

static void on_well(void) {
  lw_ready_set(LW_GATE_HEALTH, LW_GATE_PASSED, "%s",
               startup.health_url ? startup.health_shown : "the model answers again");
}

static void on_failed(const char *why) { lw_ready_set(LW_GATE_HEALTH, LW_GATE_FAILED, "%s", why); }

static void say_what_health_shows(void) {
  const char *last = lw_health_last();
  lw_ready_set(LW_GATE_HEALTH, LW_GATE_WAITING, "waits for status 200: %s%s",
               *last ? "" : "asking ", *last ? last : startup.health_shown);
}

/* NULL: none. A path stands at the model server. */
static char *full_health_url(const lw_router *r) {
  const char *url = r->model_healthcheck_url;
  if (!url || !*url) url = startup.set.health_url;
  if (!url || !*url) return NULL;
  if (!lw_address_mistake(lw_span_of(url))) return lw_strdup(url);
  const char *server = r->model_server_url ? r->model_server_url : "";
  if (*url == '/') return lw_address_join(server, url);
  char *path = lw_printf_dup("/%s", url), *full = lw_address_join(server, path);
  free(path);
  return full;
}

static bool same_text(const char *a, const char *b) { return a && b ? strcmp(a, b) == 0 : a == b; }

static void begin_health(void) {
  static const lw_health_events events = {on_well, on_failed, on_well};
  bool has_failed = lw_ready_gate(LW_GATE_HEALTH).state == LW_GATE_FAILED;
  bool is_well =
      startup.health_url ? has_passed(LW_GATE_HEALTH) : !(has_failed && startup.probe_url);
  lw_health_settings s = {startup.health_url, startup.probe_url, startup.set.stall_timeout_s,
                          is_well};
  startup.health_runs = true;
  if (startup.health_url && !is_well && !has_failed) {
    lw_ready_set(LW_GATE_HEALTH, LW_GATE_WAITING, "asking %s", startup.health_shown);
  } else if (!startup.health_url && is_well) {
    lw_ready_set(LW_GATE_HEALTH, LW_GATE_UNUSED, "no health URL; asked only when in doubt");
  }
  lw_health_start(&s, &events, lw_service_get()->account);
}

static void stop_health(void) {
  lw_health_stop();
  startup.health_runs = false;
  free(startup.health_url);
  free(startup.probe_url);
  free(startup.health_shown);
  startup.health_url = startup.probe_url = startup.health_shown = NULL;
}

static void take_health(const lw_router *r) {
  char *url = full_health_url(r);
  bool same =
      same_text(url, startup.health_url) && same_text(r->model_server_url, startup.probe_url);
  bool ran = startup.health_runs;
  if (same && ran) {
    free(url);
    return;
  }
  stop_health();
  startup.health_url = url;
  startup.health_shown = url ? lw_address_shown(lw_span_of(url)) : NULL;
  startup.probe_url = r->model_server_url ? lw_strdup(r->model_server_url) : NULL;
  if (ran) {
    begin_health();
  } else if (url) {
    lw_ready_set(LW_GATE_HEALTH, LW_GATE_WAITING, "comes after the benchmark: %s",
                 startup.health_shown);
  } else {
    lw_ready_set(LW_GATE_HEALTH, LW_GATE_UNUSED, "no health URL; asked only when in doubt");
  }
}

void lw_startup_model_unreachable(void) { lw_health_probe(); }

/* -- the order -- */

static void go_on(void) {
  bool started = !startup.starting && !startup.start_failed && is_open(LW_GATE_START);
  if (!started || !is_open(LW_GATE_LOG)) return;
  if (!startup.measured) {
    if (!lw_benchmark_running() && !startup.benchmark_failed) begin_benchmark();
    if (!startup.measured) return;
  }
  if (!startup.health_runs) begin_health();
}

static void try_again(void) {
  lw_timer_stop(&startup.retry);
  if (startup.start_failed) begin_start();
  startup.benchmark_failed = false;
}

static void remind(void) {
  for (int g = 0; g < LW_GATE_COUNT; g++) {
    lw_gate_view v = lw_ready_gate(g);
    bool told = v.state == LW_GATE_FAILED && startup.ticks == FIRST_REMIND_TICKS;
    if (is_open(g) || told) continue;
    lw_info("not ready, %s is %s for %.0f s: %s", lw_gate_name(g), lw_gate_state_name(v.state),
            lw_wall_s() - v.since_s, v.why);
  }
}

static void look_around(void) {
  allow_more_lines();
  if (lw_ready_gate(LW_GATE_LOG).state == LW_GATE_WAITING) say_what_log_shows();
  if (lw_ready_gate(LW_GATE_HEALTH).state == LW_GATE_WAITING && startup.health_runs) {
    say_what_health_shows();
  }
  if (++startup.ticks % REMIND_TICKS == 0 || startup.ticks == FIRST_REMIND_TICKS) remind();
}

static void run_startup(lw_wake *w) {
  (void)w;
  if (startup.ticked) look_around();
  startup.ticked = false;
  if (startup.retry_due) try_again();
  startup.retry_due = false;
  go_on();
}

static void on_tick(lw_timer *t) {
  lw_timer_start(t, TICK_MS);
  startup.ticked = true;
  lw_loop_wake(&startup.wake);
}

static void on_retry(lw_timer *t) {
  (void)t;
  startup.retry_due = true;
  lw_loop_wake(&startup.wake);
}

/* -- begin, replace, stop -- */

static void take_start(lw_router *r) {
  if (!(r->start_job > 0)) {
    lw_ready_set(LW_GATE_START, LW_GATE_UNUSED, "the script has none");
    return;
  }
  if (!has_passed(LW_GATE_START)) {
    lw_ready_set(LW_GATE_START, LW_GATE_WAITING, "the script's start() runs");
  }
  begin_start();
}

void lw_startup_begin(const lw_startup_settings *s, lw_router *router) {
  lw_startup_stop();
  memset(&startup, 0, sizeof startup);
  startup.set = *s;
  startup.router = router;
  lw_wake_init(&startup.wake, run_startup);
  lw_timer_init(&startup.tick, on_tick);
  lw_timer_init(&startup.retry, on_retry);
  lw_timer_start(&startup.tick, TICK_MS);
  take_log(router);
  take_start(router);
  await_benchmark(router);
  take_health(router);
  go_on();
}

void lw_startup_replace(lw_router *router) {
  lw_router *old = startup.router;
  if (!old) return;
  bool same_measure = old->digest == router->digest && old->max_perf == router->max_perf &&
                      same_text(old->model_server_url, router->model_server_url);
  cancel_start();
  lw_benchmark_cancel();
  lw_timer_stop(&startup.retry);
  startup.router = router;
  take_log(router);
  take_start(router);
  if (!same_measure || !startup.measured) await_benchmark(router);
  take_health(router);
  go_on();
}

void lw_startup_stop(void) {
  if (!startup.router) return;
  cancel_start();
  lw_benchmark_cancel();
  stop_health();
  drop_log();
  drop_markers();
  lw_timer_fini(&startup.tick);
  lw_timer_fini(&startup.retry);
  lw_wake_cancel(&startup.wake);
  startup.router = NULL;
}
