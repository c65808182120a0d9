/* SPDX-License-Identifier: MIT
 * Figures for Prometheus. work.c notes each request when it is over: a few additions on the figures
 * that its route has pointed to since it was loaded. Everything else is read from its room when
 * /metrics is asked for, by worker/admin. Owns the figures of the routes, which stay over reloads,
 * and the list of those that higher layers registered. */
#include "worker/metrics.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "exchange/upstream.h"
#include "floor/histogram.h"
#include "loop/conn.h"
#include "wire/json_put.h"
#include "worker/health.h"
#include "worker/ready.h"
#include "worker/report.h"
#include "worker/service.h"
#include "worker/session.h"
#include "worker/startup.h"

enum {
  REGISTERED_MAX = 32
};

typedef enum ending {
  ENDING_SUCCESS,
  ENDING_ERROR,
  ENDING_CANCELLED,
  ENDING_REJECTED,
  ENDING_INVALID, /* answered 4xx and not counted in the account: the client's mistake */
  ENDINGS
} ending;
static const char *const ending_names[] = {"success", "error", "cancelled", "rejected", "invalid"};

typedef enum source {
  SOURCE_RUNTIME,
  SOURCE_MODEL,
  SOURCE_SCRIPT,
  SOURCES
} source;
static const char *const source_names[] = {"runtime", "model", "script"};

static const char *const hook_names[] = {
    "handler",
    "request_parser",
    "from_json_msg",
    "count_workload",
    "remote",
    "generate_payload_json",
    "generate_client_response",
    "start",
    "spawn",
    "benchmark",
    "other", /* stays the last */
};
enum {
  HOOKS = LW_ARRAY_SIZE(hook_names)
};

typedef struct lw_route_figures {
  char *route; /* as a label's value: escaped */
  uint64_t endings[ENDINGS], failures[SOURCES], hooks[HOOKS];
  lw_histogram first_byte, model, whole;
} lw_route_figures;

typedef struct figure {
  const char *name, *help;
  bool counter;
  double (*read)(void);
} figure;

static struct {
  lw_route_figures *routes[LW_METRICS_ROUTES + 1]; /* the last place is for "other" */
  size_t count;
  figure registered[REGISTERED_MAX];
  size_t registered_count;
  uint64_t hooks[HOOKS]; /* of no route */
} metrics;
static lw_histogram queue_wait = {.bounds = lw_histogram_long};

/* -- routes -- */

/* Backslash, quote and line end must be escaped; what is no printable ASCII is written as in a URL,
 * because a label's value has to be UTF-8 and a path need not be. */
static char *label_value(const char *method, const char *path) {
  char *out = lw_alloc(strlen(method) + 3 * strlen(path) + 2), *to = out;
  to += sprintf(to, "%s ", method);
  for (const char *p = path; *p; p++) {
    unsigned char c = (unsigned char)*p;
    if (c < 0x20 || c > 0x7e) {
      to += sprintf(to, "%%%02X", c);
    } else {
      if (c == '\\' || c == '"') *to++ = '\\';
      *to++ = *p;
    }
  }
  *to = 0;
  return out;
}

static lw_route_figures *add_route(char *route) {
  lw_route_figures *f = lw_calloc(1, sizeof *f);
  f->route = route;
  f->first_byte.bounds = f->model.bounds = f->whole.bounds = lw_histogram_long;
  return metrics.routes[metrics.count++] = f;
}

lw_route_figures *lw_metrics_route(const char *method, const char *path) {
  char *route = label_value(method, path);
  for (size_t i = 0; i < metrics.count; i++) {
    if (strcmp(metrics.routes[i]->route, route) != 0) continue;
    free(route);
    return metrics.routes[i];
  }
  if (metrics.count < LW_METRICS_ROUTES) return add_route(route);
  free(route);
  if (metrics.count == LW_METRICS_ROUTES) return add_route(lw_strdup("other"));
  return metrics.routes[LW_METRICS_ROUTES];
}

/* -- requests -- */

static ending ending_of(const lw_work *w) {
  const lw_request *r = w->request;
  if (w->counted) return (ending)(w->record.outcome - LW_SUCCESS);
  if (r->state == LW_REQUEST_GONE || w->dropped) return ENDING_CANCELLED;
  if (w->failed || r->status >= 500 || r->state == LW_REQUEST_CUT) return ENDING_ERROR;
  return r->status >= 400 ? ENDING_INVALID : ENDING_SUCCESS;
}

/* An answer of 5xx or a broken one that nobody reported is the model's if it gave one, else it was
 * a handler's own. */
static source source_of(const lw_work *w) {
  if (!w->source) return w->model_status >= 500 ? SOURCE_MODEL : SOURCE_SCRIPT;
  for (int i = 0; i < SOURCES; i++) {
    if (strcmp(w->source, source_names[i]) == 0) return (source)i;
  }
  return SOURCE_RUNTIME;
}

static void note_between(lw_histogram *h, uint64_t from_ns, uint64_t to_ns) {
  if (from_ns && to_ns >= from_ns) lw_histogram_note(h, to_ns - from_ns);
}

/* Refusals are quick and failures are slow: neither belongs in the times of what clients got. */
static void note_times(lw_route_figures *f, const lw_work *w, ending e) {
  const lw_request *r = w->request;
  if (e == ENDING_SUCCESS) note_between(&f->whole, r->begun_ns, lw_now_ns());
  if (e == ENDING_SUCCESS || e == ENDING_CANCELLED) {
    note_between(&f->first_byte, r->begun_ns, r->first_byte_ns);
  }
  note_between(&f->model, w->model_begun_ns, w->model_ended_ns);
  if (w->route->parallel > 0 || w->record.working_at <= 0) return;
  double waited_s = w->record.working_at - w->record.received_at; /* the clock may be set back */
  lw_histogram_note(&queue_wait, waited_s > 0 ? (uint64_t)(waited_s * 1e9) : 0);
}

void lw_metrics_note(const lw_work *w) {
  lw_route_figures *f = w->route->figures;
  if (!f) return;
  ending e = ending_of(w);
  f->endings[e]++;
  if (e == ENDING_ERROR) f->failures[source_of(w)]++;
  note_times(f, w, e);
}

void lw_metrics_note_hook(lw_route_figures *f, const char *hook) {
  size_t i = 0;
  while (i < HOOKS - 1 && strcmp(hook, hook_names[i]) != 0) i++;
  (f ? f->hooks : metrics.hooks)[i]++;
}

/* -- figures of other rooms -- */

static lw_account *account(void) { return lw_service_get()->account; }
static double in_flight(void) { return lw_account_in_flight(account()); }
static double queue_depth(void) { return lw_queue_waiting(lw_service_get()->queue); }
static double queue_bytes(void) { return (double)lw_queue_waiting_bytes(lw_service_get()->queue); }
static double load(void) { return lw_account_load(account()); }
static double max_perf(void) { return lw_startup_max_perf(); }
static double estimate(void) {
  return lw_queue_estimate_s(lw_account_wait_load(account()), lw_startup_max_perf());
}
static double ready(void) { return lw_service_is_ready(); }
static double draining(void) { return lw_service_get()->draining; }
static double key_present(void) { return lw_auth_has_key(lw_service_get()->auth); }
static double cache_hits(void) { return (double)lw_auth_cache_hits(lw_service_get()->auth); }
static double rsa_checks(void) { return (double)lw_auth_rsa_verifications(lw_service_get()->auth); }
static double reports(void) { return (double)lw_report_taken(); }
static double report_failures(void) { return (double)lw_report_failures(); }
static double health_checks(void) { return (double)lw_health_checks(); }
static double health_failures(void) { return (double)lw_health_failures(); }
static double sessions(void) { return lw_sessions_count(); }
static double connections(void) { return lw_conn_count(); }
static double upstreams(void) { return lw_upstream_open_count(); }

static double resident_bytes(void) {
  unsigned long pages = 0;
  FILE *f = fopen("/proc/self/statm", "r");
  bool ok = f && fscanf(f, "%*u %lu", &pages) == 1;
  if (f) fclose(f);
  return ok ? (double)pages * (double)sysconf(_SC_PAGESIZE) : NAN;
}

static double open_descriptors(void) {
  DIR *dir = opendir("/proc/self/fd");
  if (!dir) return NAN;
  int n = 0;
  while (readdir(dir)) n++;
  closedir(dir);
  return n - 3; /* ".", ".." and the directory itself */
}

static const figure figures[] = {
    {"in_flight", "Requests that were taken in and are not over, open sessions included.", false,
     in_flight},
    {"queue_depth", "Requests that wait for their turn at the model.", false, queue_depth},
    {"queue_bytes", "Bytes of their bodies.", false, queue_bytes},
    {"load", "Workload of the requests in flight.", false, load},
    {"max_perf", "Workload per second that the benchmark found; 0 before.", false, max_perf},
    {"estimated_wait_seconds", "How long a new request would wait: load over max_perf.", false,
     estimate},
    {"ready", "1 when all gates are passed and the worker is neither draining nor stopping.", false,
     ready},
    {"draining", "1 from POST /drain on.", false, draining},
    {"key_present", "1 when there is a key to check signatures with.", false, key_present},
    {"signature_cache_hits_total", "Signatures found among those checked before.", true,
     cache_hits},
    {"signature_checks_total", "Signatures checked with RSA.", true, rsa_checks},
    {"reports_total", "Posts that the autoscaler has taken.", true, reports},
    {"report_failures_total", "Posts that it has not taken, each attempt counted.", true,
     report_failures},
    {"health_checks_total", "Questions to the model server whether it is well.", true,
     health_checks},
    {"health_failures_total", "Of those, not answered well.", true, health_failures},
    {"sessions", "Open sessions.", false, sessions},
    {"connections", "Open connections of clients, at both ports.", false, connections},
    {"upstreams", "Calls to the model and other servers under way.", false, upstreams},
    {"resident_memory_bytes", "Memory of the process.", false, resident_bytes},
    {"open_descriptors", "Open files and sockets of the process.", false, open_descriptors},
};

void lw_metrics_register(const char *name, const char *help, bool counter, double (*read)(void)) {
  assert(metrics.registered_count < REGISTERED_MAX);
  metrics.registered[metrics.registered_count++] = (figure){name, help, counter, read};
}

/* -- the text form -- */

static void put_family(lw_body *b, const char *name, const char *help, const char *type) {
  char *text =
      lw_printf_dup("# HELP luaworker_%s %s\n# TYPE luaworker_%s %s\n", name, help, name, type);
  lw_put(b, text);
  free(text);
}

/* One sample; the label may be NULL. */
static void put_sample(lw_body *b, const char *name, const char *label, const char *value,
                       double sample) {
  lw_put(b, "luaworker_");
  lw_put(b, name);
  if (label) {
    lw_put(b, "{");
    lw_put(b, label);
    lw_put(b, "=\"");
    lw_put(b, value);
    lw_put(b, "\"}");
  }
  lw_put(b, " ");
  lw_put_number(b, sample);
  lw_put(b, "\n");
}

static void put_figures(lw_body *b, const figure *list, size_t n) {
  for (size_t i = 0; i < n; i++) {
    double value = list[i].read();
    if (isnan(value)) continue;
    put_family(b, list[i].name, list[i].help, list[i].counter ? "counter" : "gauge");
    put_sample(b, list[i].name, NULL, NULL, value);
  }
}

static void put_gates(lw_body *b) {
  put_family(b, "gate", "1 when this gate to readiness is passed or not in use.", "gauge");
  for (int i = 0; i < LW_GATE_COUNT; i++) {
    lw_gate_state state = lw_ready_gate((lw_gate)i).state;
    bool open = state == LW_GATE_PASSED || state == LW_GATE_UNUSED;
    put_sample(b, "gate", "gate", lw_gate_name((lw_gate)i), open);
  }
}

static void put_workloads(lw_body *b) {
  const lw_totals *t = lw_account_totals(account());
  const double sums[] = {t->success_workload, t->error_workload, t->cancelled_workload,
                         t->rejected_workload};
  put_family(b, "workload_total", "Workload of the requests that are over.", "counter");
  for (size_t i = 0; i < LW_ARRAY_SIZE(sums); i++) {
    put_sample(b, "workload_total", "outcome", ending_names[i], sums[i]);
  }
}

/* `labels`: a list without braces, or "". */
static void put_histogram(lw_body *b, const char *name, const char *labels, const lw_histogram *h) {
  uint64_t count = 0;
  const char *comma = *labels ? "," : "";
  size_t last = 0;
  while (h->bounds[last] != UINT64_MAX) last++;
  for (size_t i = 0; i <= last; i++) {
    char bound[32] = "+Inf";
    if (i < last) snprintf(bound, sizeof bound, "%g", (double)h->bounds[i] / 1e9);
    count += h->counts[i];
    char *line = lw_printf_dup("luaworker_%s_bucket{%s%sle=\"%s\"} %llu\n", name, labels, comma,
                               bound, (unsigned long long)count);
    lw_put(b, line);
    free(line);
  }
  const char *open = *labels ? "{" : "", *close = *labels ? "}" : "";
  char *lines =
      lw_printf_dup("luaworker_%s_sum%s%s%s %.9g\nluaworker_%s_count%s%s%s %llu\n", name, open,
                    labels, close, h->sum_s, name, open, labels, close, (unsigned long long)count);
  lw_put(b, lines);
  free(lines);
}

static void put_plain_histogram(lw_body *b, const char *name, const char *help,
                                const lw_histogram *h) {
  put_family(b, name, help, "histogram");
  put_histogram(b, name, "", h);
}

static void put_route_counters(lw_body *b, const char *name, const char *help, const char *label,
                               const char *const *values, size_t n, size_t offset) {
  put_family(b, name, help, "counter");
  for (size_t i = 0; i < metrics.count; i++) {
    const lw_route_figures *f = metrics.routes[i];
    const uint64_t *counts = (const uint64_t *)(const void *)((const char *)f + offset);
    for (size_t k = 0; k < n; k++) {
      char *line = lw_printf_dup("luaworker_%s{route=\"%s\",%s=\"%s\"} %llu\n", name, f->route,
                                 label, values[k], (unsigned long long)counts[k]);
      lw_put(b, line);
      free(line);
    }
  }
}

static void put_hook_errors(lw_body *b, const char *route, const uint64_t *counts) {
  for (size_t i = 0; i < HOOKS; i++) {
    if (counts[i] == 0) continue;
    char *line = lw_printf_dup("luaworker_hook_errors_total{route=\"%s\",hook=\"%s\"} %llu\n",
                               route, hook_names[i], (unsigned long long)counts[i]);
    lw_put(b, line);
    free(line);
  }
}

/* Those that never failed are left out: there are many, and it is the rule. */
static void put_hooks(lw_body *b) {
  put_family(b, "hook_errors_total", "Errors of the script's functions.", "counter");
  for (size_t i = 0; i < metrics.count; i++) {
    put_hook_errors(b, metrics.routes[i]->route, metrics.routes[i]->hooks);
  }
  put_hook_errors(b, "none", metrics.hooks);
}

/* A route without any is left out: most have no call to the model, and many are never used. */
static void put_route_histograms(lw_body *b, const char *name, const char *help, size_t offset) {
  bool any = false;
  for (size_t i = 0; i < metrics.count; i++) {
    const lw_route_figures *f = metrics.routes[i];
    const lw_histogram *h = (const lw_histogram *)(const void *)((const char *)f + offset);
    if (lw_histogram_count(h) == 0) continue;
    if (!any) put_family(b, name, help, "histogram");
    any = true;
    char *labels = lw_printf_dup("route=\"%s\"", f->route);
    put_histogram(b, name, labels, h);
    free(labels);
  }
}

static void put_routes(lw_body *b) {
  put_route_counters(b, "requests_total", "Requests of the script's routes that are over.",
                     "outcome", ending_names, ENDINGS, offsetof(lw_route_figures, endings));
  put_route_counters(b, "failures_total", "Of those with outcome error: who failed.", "source",
                     source_names, SOURCES, offsetof(lw_route_figures, failures));
  put_hooks(b);
  put_route_histograms(b, "time_to_first_byte_seconds",
                       "From a request's head to the first byte of its answer's body.",
                       offsetof(lw_route_figures, first_byte));
  put_route_histograms(b, "model_seconds", "From beginning a call to the model to its end.",
                       offsetof(lw_route_figures, model));
  put_route_histograms(b, "request_seconds",
                       "From a request's head to the end of its answer, of successes.",
                       offsetof(lw_route_figures, whole));
}

void lw_metrics_write(lw_body *b) {
  put_routes(b);
  put_plain_histogram(b, "queue_wait_seconds", "Until their turn, of routes that take turns.",
                      &queue_wait);
  put_plain_histogram(b, "chunk_gap_seconds", "Between two pieces of a streamed answer.",
                      lw_response_gaps());
  put_plain_histogram(b, "loop_lag_seconds", "How long one turn of the loop kept others waiting.",
                      lw_loop_lag());
  put_workloads(b);
  put_gates(b);
  put_figures(b, figures, LW_ARRAY_SIZE(figures));
  put_figures(b, metrics.registered, metrics.registered_count);
}

void lw_metrics_fini(void) {
  for (size_t i = 0; i < metrics.count; i++) {
    free(metrics.routes[i]->route);
    free(metrics.routes[i]);
  }
  memset(&metrics, 0, sizeof metrics);
  queue_wait = (lw_histogram){.bounds = lw_histogram_long};
}
