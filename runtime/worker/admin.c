/* SPDX-License-Identifier: MIT
 * What the internal port answers. Called by program/serve; its requests come through
 * worker/service, as builtins of a site without routes. Owns that server and those who wait at
 * /drain for the last request to end. */
#include "worker/admin.h"

#include <math.h>
#include <stdlib.h>

#include "floor/log.h"
#include "worker/metrics.h"
#include "worker/ready.h"
#include "worker/report.h"
#include "worker/service.h"
#include "worker/session.h"
#include "worker/startup.h"

enum {
  CONNECTIONS = 64, /* probes, scrapers and people; the client port's limit is not theirs */
  DRAIN_POLL_MS = 50,
  DRAIN_DEFAULT_S = 25, /* within the 30 s that orchestrators give a preStop hook */
  DRAIN_MOST_S = 86400,
};

static struct {
  lw_server *server;
  void (*on_drain)(void);
  void (*add_status)(lw_body *json);
  void (*on_closed)(void);
  lw_list waiters;
  unsigned waiting;
  lw_timer poll;
  lw_wake look;
  uint64_t drain_ns; /* when draining began, monotonic and wall clock; 0: it has not */
  double drain_s;
} admin;

/* -- answers -- */

static void send_text(lw_request *r, int status, const char *type, lw_body *b) {
  lw_response_send(r, status, type, (lw_span){b->p, b->n});
  lw_body_unref(b);
}

static void send_json(lw_request *r, int status, lw_body *b) {
  lw_put(b, "}\n");
  lw_headers_add_borrowed(&r->answer, LW_SPAN("Cache-Control"), LW_SPAN("no-store"));
  send_text(r, status, "application/json", b);
}

static void put_key(lw_body *b, const char *key) {
  lw_put(b, ",\"");
  lw_put(b, key);
  lw_put(b, "\":");
}
static void put_bool(lw_body *b, const char *key, bool v) {
  put_key(b, key);
  lw_put_bool(b, v);
}
static void put_number(lw_body *b, const char *key, double v) {
  put_key(b, key);
  lw_put_number(b, v);
}
static void put_text(lw_body *b, const char *key, const char *text) {
  put_key(b, key);
  lw_put_text(b, text);
}
/* Seconds since the epoch, to the millisecond; null for never. */
static void put_moment(lw_body *b, const char *key, double at_s) {
  put_key(b, key);
  if (at_s > 0) {
    lw_put_number(b, round(at_s * 1000) / 1000);
  } else {
    lw_put(b, "null");
  }
}

static void put_gates(lw_body *b) {
  lw_put(b, ",\"gates\":[");
  for (int i = 0; i < LW_GATE_COUNT; i++) {
    lw_gate_view gate = lw_ready_gate((lw_gate)i);
    if (i) lw_put(b, ",");
    lw_put(b, "{\"name\":");
    lw_put_text(b, lw_gate_name((lw_gate)i));
    put_text(b, "state", lw_gate_state_name(gate.state));
    put_moment(b, "since", gate.since_s);
    put_text(b, "why", gate.why);
    lw_put(b, "}");
  }
  lw_put(b, "]");
}

static lw_body *begin_readiness(void) {
  lw_body *b = lw_body_new();
  lw_put(b, "{\"ready\":");
  lw_put_bool(b, lw_service_is_ready());
  put_moment(b, "since", admin.drain_ns ? admin.drain_s : lw_ready_since_s());
  put_moment(b, "now", lw_wall_s());
  put_text(b, "error", lw_ready_error());
  put_bool(b, "draining", lw_service_get()->draining);
  put_bool(b, "stopping", lw_service_get()->stopping);
  put_gates(b);
  return b;
}

static void answer_livez(lw_request *r) {
  lw_response_send(r, 200, "text/plain; charset=utf-8", LW_SPAN("ok\n"));
}

static void answer_readyz(lw_request *r) {
  send_json(r, lw_service_is_ready() ? 200 : 503, begin_readiness());
}

static void put_load(lw_body *b) {
  const lw_account *a = lw_service_get()->account;
  put_number(b, "in_flight", lw_account_in_flight(a));
  put_number(b, "queued", lw_queue_waiting(lw_service_get()->queue));
  put_number(b, "sessions", lw_sessions_count());
  put_number(b, "workload", lw_account_load(a));
  put_number(b, "max_perf", lw_startup_max_perf());
}

static void put_totals(lw_body *b) {
  const lw_totals *t = lw_account_totals(lw_service_get()->account);
  const struct {
    const char *name;
    uint64_t count;
    double workload;
  } totals[] = {
      {"received", t->received, t->received_workload},
      {"success", t->success, t->success_workload},
      {"error", t->error, t->error_workload},
      {"cancelled", t->cancelled, t->cancelled_workload},
      {"rejected", t->rejected, t->rejected_workload},
  };
  for (size_t i = 0; i < LW_ARRAY_SIZE(totals); i++) {
    lw_put(b, i ? "," : ",\"totals\":{");
    lw_put_text(b, totals[i].name);
    lw_put(b, ":{\"requests\":");
    lw_put_integer(b, (int64_t)totals[i].count);
    put_number(b, "workload", totals[i].workload);
    lw_put(b, "}");
  }
  lw_put(b, "}");
}

static void put_reports(lw_body *b) {
  lw_put(b, ",\"reports\":{\"taken\":");
  lw_put_integer(b, (int64_t)lw_report_taken());
  put_number(b, "failures", (double)lw_report_failures());
  put_moment(b, "last_taken", lw_report_taken_s());
  put_text(b, "error", lw_report_last_failure());
  lw_put(b, "}");
}

static void answer_status(lw_request *r) {
  const lw_service *s = lw_service_get();
  lw_body *b = begin_readiness();
  put_bool(b, "unsecured", s->unsecured);
  put_bool(b, "key_present", lw_auth_has_key(s->auth));
  put_load(b);
  put_totals(b);
  put_reports(b);
  if (admin.add_status) admin.add_status(b);
  send_json(r, 200, b);
}

static void answer_metrics(lw_request *r) {
  lw_body *b = lw_body_new();
  lw_metrics_write(b);
  send_text(r, 200, "text/plain; version=0.0.4; charset=utf-8", b);
}

/* -- draining -- */

typedef struct waiter {
  lw_list node;
  lw_request *request;
  uint64_t due_ns;
} waiter;

/* Requests of every kind, a session's pending end among them, but not those who wait here; and open
 * sessions, because their clients mean to come back. */
static unsigned busy_count(void) {
  return lw_request_count() - admin.waiting + lw_sessions_count();
}

static lw_request *dismiss(waiter *w) {
  lw_request *r = w->request;
  lw_list_remove(&w->node);
  admin.waiting--;
  r->work = NULL;
  free(w);
  return r;
}

static void send_drained(lw_request *r, unsigned busy) {
  lw_body *b = lw_body_new();
  lw_put(b, "{\"drained\":");
  lw_put_bool(b, busy == 0);
  put_number(b, "in_flight", busy);
  put_number(b, "seconds", round((double)(lw_now_ns() - admin.drain_ns) / 1e6) / 1000);
  send_json(r, busy == 0 ? 200 : 202, b);
}

/* Answers those whose wait is over; all of them when nothing is left to wait for, or `at_once`. */
static void answer_waiters(bool at_once) {
  unsigned busy = busy_count();
  uint64_t now = lw_now_ns();
  lw_list *next;
  for (lw_list *node = admin.waiters.next; node != &admin.waiters; node = next) {
    next = node->next;
    waiter *w = LW_CONTAINER_OF(node, waiter, node);
    if (busy && !at_once && now < w->due_ns) continue;
    lw_request *r = dismiss(w);
    send_drained(r, busy);
    lw_builtin_done(r);
  }
  if (admin.waiting) lw_timer_start(&admin.poll, DRAIN_POLL_MS);
}

static void run_look(lw_wake *w) {
  (void)w;
  answer_waiters(false);
}

static void on_poll(lw_timer *t) {
  (void)t;
  lw_loop_wake(&admin.look);
}

/* The query's timeout=SECONDS; the default when it says none, < 0 when it is wrong. */
static double read_timeout(lw_span query) {
  lw_span item, name = LW_SPAN("timeout=");
  double seconds = DRAIN_DEFAULT_S;
  while (lw_span_next(&query, '&', &item)) {
    if (item.n < name.n || memcmp(item.p, name.p, name.n) != 0) continue;
    char text[32] = "", *end = text;
    size_t n = item.n - name.n;
    if (n < sizeof text) memcpy(text, item.p + name.n, n);
    seconds = strtod(text, &end);
    if (end == text || *end || !(seconds >= 0 && seconds <= DRAIN_MOST_S)) return -1;
  }
  return seconds;
}

static void begin_drain(void) {
  if (admin.drain_ns) return;
  admin.drain_ns = lw_now_ns();
  admin.drain_s = lw_wall_s();
  lw_service_get()->draining = true;
  lw_info("draining: new work is refused until the program is started anew; %u in flight",
          busy_count());
  if (admin.on_drain) admin.on_drain();
}

static void answer_drain(lw_request *r) {
  double timeout_s = read_timeout(r->head->query);
  if (timeout_s < 0) {
    lw_response_error(r, 400, NULL, "timeout is a number of seconds, at most 86400");
    return;
  }
  waiter *w = lw_calloc(1, sizeof *w);
  w->request = r;
  w->due_ns = lw_now_ns() + (uint64_t)(timeout_s * 1e9);
  r->work = w;
  lw_list_append(&admin.waiters, &w->node);
  admin.waiting++;
  begin_drain();
  unsigned busy = busy_count();
  if (busy && timeout_s > 0) {
    lw_timer_start(&admin.poll, DRAIN_POLL_MS);
    return;
  }
  dismiss(w);
  send_drained(r, busy);
}

static void on_drain_gone(lw_request *r) { dismiss(r->work); }

/* -- the port -- */

static const lw_builtin own[] = {
    {LW_H1_GET, "/livez", answer_livez, NULL},
    {LW_H1_GET, "/readyz", answer_readyz, NULL},
    {LW_H1_GET, "/status", answer_status, NULL},
    {LW_H1_GET, "/metrics", answer_metrics, NULL},
    {LW_H1_POST, "/drain", answer_drain, on_drain_gone},
};
static const lw_builtin *const builtins[] = {
    &own[0], &own[1], &own[2], &own[3], &own[4], &lw_session_end_builtin, NULL,
};
static lw_site site = {.builtins = builtins};

bool lw_admin_open(const lw_admin_settings *s, const char **why) {
  lw_server_limits limits = *s->limits;
  limits.max_connections = CONNECTIONS;
  memset(&admin, 0, sizeof admin);
  admin.on_drain = s->on_drain;
  admin.add_status = s->add_status;
  admin.server = lw_server_open(s->host, s->port, &limits, &lw_service_events, &site, why);
  if (!admin.server) return false;
  lw_list_init(&admin.waiters);
  lw_timer_init(&admin.poll, on_poll);
  lw_wake_init(&admin.look, run_look);
  bool v6 = strchr(s->host, ':') != NULL;
  lw_info("internal port: http://%s%s%s:%d with /status, /metrics, /readyz, /livez, POST /drain",
          v6 ? "[" : "", s->host, v6 ? "]" : "", lw_admin_port());
  return true;
}

int lw_admin_port(void) { return lw_server_port(admin.server); }

static void on_idle(void *owner) {
  (void)owner;
  lw_wake_cancel(&admin.look);
  lw_timer_fini(&admin.poll);
  lw_server_free(admin.server);
  admin.server = NULL;
  if (admin.on_closed) admin.on_closed();
}

void lw_admin_close(void (*on_closed)(void)) {
  if (!admin.server) {
    if (on_closed) on_closed();
    return;
  }
  admin.on_closed = on_closed;
  answer_waiters(true);
  lw_server_stop(admin.server, on_idle);
}

void lw_admin_cut(void) {
  if (admin.server) lw_server_cut(admin.server);
}
