/* SPDX-License-Identifier: MIT
 * `luaworker serve`: a worker. Loads the script, listens, fetches the key, reports; SIGHUP reloads,
 * SIGTERM and SIGINT end it in steps. What can't start goes on reporting why. Owns the server and
 * the current generation. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "exchange/address.h"
#include "floor/log.h"
#include "loop/loop.h"
#include "program/certificate.h"
#include "program/facts.h"
#include "program/notify.h"
#include "program/program.h"
#include "program/reload.h"
#include "program/settings.h"
#include "program/watcher.h"
#include "script/budget.h"
#include "script/made.h"
#include "worker/admin.h"
#include "worker/pace.h"
#include "worker/pubkey.h"
#include "worker/ready.h"
#include "worker/report.h"
#include "worker/service.h"
#include "worker/session.h"
#include "worker/startup.h"
#include "worker/update.h"

static struct {
  lw_serve_settings set;
  lw_site site;
  const lw_builtin *builtins[8]; /* NULL-terminated */
  lw_server *server;
  lw_timer deadline;
  char *failure;                        /* why it could not start */
  double loadtime_s, told_perf;         /* as reported; 0: not yet */
  int stops;                            /* signals to stop so far */
  char told_errors[LW_GATE_COUNT][512]; /* logged: why each gate has failed */
  bool started, was_ready, beacon;      /* beacon: only reports why it could not start */
  bool again;                           /* the beacon's SIGHUP: start anew as a fresh program */
} serve;

/* -- readiness and reports -- */

static const char *present_error(void) {
  return lw_service_get()->draining ? "the worker is draining" : lw_ready_error();
}

static void tell_loaded(void) {
  if (serve.loadtime_s == 0) {
    serve.loadtime_s = (double)(lw_now_ns() - lw_facts_get()->started_ns) / 1e9;
    lw_info("ready after %.3f s", serve.loadtime_s);
  } else if (!serve.was_ready) {
    lw_info("ready again");
  }
  if (serve.was_ready && serve.told_perf == lw_startup_max_perf()) return;
  serve.told_perf = lw_startup_max_perf();
  lw_report_loaded(serve.loadtime_s, serve.told_perf);
}

static void tell_errors(void) {
  for (lw_gate g = 0; g < LW_GATE_COUNT; g++) {
    lw_gate_view v = lw_ready_gate(g);
    const char *error = v.state == LW_GATE_FAILED ? v.why : "";
    char *told = serve.told_errors[g];
    if (strcmp(error, told) == 0) continue;
    snprintf(told, sizeof serve.told_errors[g], "%s", error);
    if (*error) lw_error("not ready: %s: %s", lw_gate_name(g), error);
  }
  lw_report_error(present_error());
}

static void tell_systemd(bool ready) {
  const char *mistake = lw_facts_get()->reload_error;
  char text[600] = "ready";
  if (mistake) snprintf(text, sizeof text, "ready; the last reload failed: %s", mistake);
  for (lw_gate g = 0; !ready && g < LW_GATE_COUNT; g++) {
    lw_gate_view v = lw_ready_gate(g);
    if (v.state != LW_GATE_WAITING && v.state != LW_GATE_FAILED) continue;
    snprintf(text, sizeof text, "%s %s: %s", lw_gate_name(g), lw_gate_state_name(v.state), v.why);
    break;
  }
  lw_notify_status(text);
  if (ready) lw_notify_ready();
}

static void on_ready_change(void) {
  if (!serve.started) return;
  bool ready = lw_ready_is();
  if (ready) tell_loaded();
  serve.was_ready = ready;
  tell_errors();
  tell_systemd(ready);
}

static void on_drain(void) { lw_report_error(present_error()); }

static char *advertised_url(int port) {
  char name[64];
  snprintf(name, sizeof name, "VAST_TCP_PORT_%d", port);
  const char *mapped = getenv(name);
  return lw_printf_dup("http%s://%s:%s", serve.set.use_ssl ? "s" : "",
                       serve.set.public_ip ? serve.set.public_ip : "127.0.0.1",
                       mapped ? mapped : name + sizeof "VAST_TCP_PORT_" - 1);
}

static void start_reports(int port) {
  const char *format = getenv("DELETE_REQUESTS_FORMAT");
  lw_facts *facts = lw_facts_get();
  free(facts->url);
  facts->url = advertised_url(port);
  lw_report_settings settings = {
      .addresses = serve.set.report_addr,
      .worker_id = serve.set.container_id,
      .master_token = serve.set.master_token,
      .url = facts->url,
      .delete_requests_v1 = format && strcmp(format, "v1") == 0,
  };
  if (serve.set.report_addr && !serve.set.public_ip) {
    lw_warn("without PUBLIC_IPADDR (--public-ip) clients are told %s: only this machine reaches it",
            facts->url);
  }
  if (serve.set.report_addr) lw_report_start(&settings, lw_service_get()->account);
}

/* -- what can go wrong at the start -- */

static bool fail_start(char *why) {
  lw_error("%s", why);
  free(serve.failure);
  serve.failure = why;
  return false;
}

static bool set_scheme(void) {
  lw_service *s = lw_service_get();
  const char *why = NULL;
  if (lw_scheme_set(s->scheme, serve.set.auth_scheme, &why) != LW_OK) {
    return fail_start(lw_printf_dup("--auth-scheme %s: %s", serve.set.auth_scheme, why));
  }
  return true;
}

static bool set_url_check(void) {
  lw_service *s = lw_service_get();
  char *url = advertised_url(lw_server_port(serve.server));
  lw_code code = lw_scheme_check_url(s->scheme, serve.set.auth_url_check, url);
  free(url);
  if (code == LW_OK) return true;
  return fail_start(lw_printf_dup("--auth-url-check is warn, enforce or off, not \"%s\"",
                                  serve.set.auth_url_check));
}

/* -- the key -- */

static void on_key(void) { lw_ready_set(LW_GATE_KEY, LW_GATE_PASSED, "from the autoscaler"); }

static void on_key_retry(const char *why) {
  if (lw_ready_gate(LW_GATE_KEY).state != LW_GATE_WAITING) return;
  lw_ready_set(LW_GATE_KEY, LW_GATE_WAITING, "asking %s for it: %s", lw_facts_get()->report_addr,
               why);
}

static void on_key_failure(const char *why) {
  lw_ready_set(LW_GATE_KEY, LW_GATE_FAILED, "%s", why);
}

static bool load_public_key(void) {
  size_t n = 0;
  char *why_read = NULL, *pem = lw_script_read(serve.set.public_key, &n, &why_read);
  const char *why = why_read;
  bool ok = pem && lw_auth_set_key(lw_service_get()->auth, (lw_span){pem, n}, &why) == LW_OK;
  if (ok) {
    lw_ready_set(LW_GATE_KEY, LW_GATE_PASSED, "from %s", serve.set.public_key);
  } else {
    fail_start(why_read ? lw_printf_dup("--public-key %s", why_read)
                        : lw_printf_dup("--public-key %s: %s", serve.set.public_key, why));
  }
  free(pem);
  free(why_read);
  return ok;
}

static bool start_key(void) {
  lw_service *s = lw_service_get();
  if (s->unsecured) {
    lw_warn("UNSECURED: signatures are not checked, anyone who reaches the port is served");
    lw_ready_set(LW_GATE_KEY, LW_GATE_UNUSED, "UNSECURED");
    return true;
  }
  if (serve.set.public_key) return load_public_key();
  if (serve.set.report_addr) {
    lw_ready_set(LW_GATE_KEY, LW_GATE_WAITING, "asking %s for it", lw_facts_get()->report_addr);
    lw_pubkey_start(serve.set.report_addr, s->auth,
                    &(lw_pubkey_events){on_key, on_key_retry, on_key_failure});
    return true;
  }
  return fail_start(
      lw_strdup("no key to check signatures with: give --public-key FILE, set REPORT_ADDR to the "
                "autoscaler's address, or set UNSECURED=true to serve everyone"));
}

/* -- signals -- */

static void on_reload(int signum);
static void on_stop(int signum);
static void on_counters(int signum);

static const struct {
  int number;
  void (*act)(int signum);
} signals[] = {{SIGHUP, on_reload}, {SIGTERM, on_stop}, {SIGINT, on_stop}, {SIGUSR1, on_counters}};

static void end_program(void) {
  lw_timer_stop(&serve.deadline);
  lw_report_stop();
  lw_program_stop_when_quiet();
}

/* SIG_BLOCK: they wait, through an execution of the program anew; SIG_UNBLOCK. */
static void hold_signals(int how) {
  sigset_t held;
  sigemptyset(&held);
  for (size_t i = 0; i < LW_ARRAY_SIZE(signals); i++) sigaddset(&held, signals[i].number);
  sigprocmask(how, &held, NULL);
}

/* What was missing may be there now. All is closed first, then the program is executed anew, and
 * that one acts on the signals that come meanwhile. */
static void start_anew(void) {
  lw_info("trying to start again");
  lw_watcher_close();
  hold_signals(SIG_BLOCK);
  serve.again = true;
  serve.stops++;
  end_program();
}

static void on_reloaded(void) { tell_systemd(lw_ready_is()); }

static void on_reload(int signum) {
  (void)signum;
  if (serve.beacon && !serve.stops) {
    start_anew();
    return;
  }
  if (serve.stops || !serve.server) {
    lw_info("the worker is ending: nothing is loaded anew");
    return;
  }
  lw_certificate_reload();
  lw_reload(serve.set.script, &serve.site, on_reloaded);
}

static void on_edit(const char *path) {
  lw_info("%s has changed", path);
  on_reload(SIGHUP);
}

static void on_admin_closed(void) { lw_report_flush(end_program); }

/* What could not start stays to report why, so that the fleet sees it (protocol §4). */
static void become_beacon(void) {
  char *text = lw_printf_dup("Worker Server failed to launch: %s", serve.failure);
  lw_info("reporting the failure to the autoscaler until SIGTERM; SIGHUP starts anew");
  start_reports((int)serve.set.port);
  lw_report_error(text);
  lw_notify_status(text);
  free(text);
  serve.beacon = true;
  if (serve.set.watch) lw_watcher_open(on_edit);
}

static void take_down(void) {
  lw_sessions_stop();
  lw_certificate_close();
  lw_watcher_close();
  lw_reload_cancel();
  lw_pubkey_stop();
  lw_startup_stop();
  lw_facts *f = lw_facts_get();
  if (f->generation) lw_generation_retire(f->generation);
  f->generation = NULL;
  bool stays = serve.failure && serve.set.report_addr && !serve.stops;
  lw_admin_close(stays ? become_beacon : on_admin_closed);
}

static void on_server_idle(void *owner) {
  (void)owner;
  lw_server_free(serve.server);
  serve.server = NULL;
  take_down();
}

static void on_shutdown_deadline(lw_timer *t) {
  (void)t;
  lw_warn("the shutdown deadline has passed: cancelling %u requests", lw_request_count());
  if (serve.server) lw_server_cut(serve.server);
  lw_admin_cut();
}

static void on_stop(int signum) {
  serve.again = false;
  lw_watcher_close();
  lw_reload_cancel();
  if (++serve.stops == 1 && serve.beacon) end_program();
  if (!serve.server) return; /* it is ending already */
  if (serve.stops > 1) {
    lw_warn("second signal: cancelling %u requests", lw_request_count());
    lw_server_cut(serve.server);
    lw_admin_cut();
    return;
  }
  lw_info("%s: taking no new requests, %u running", signum == SIGTERM ? "SIGTERM" : "SIGINT",
          lw_request_count());
  lw_notify_stopping();
  lw_service_get()->stopping = true;
  lw_startup_stop(); /* nobody needs it to become ready any more */
  lw_timer_start(&serve.deadline, (uint64_t)(serve.set.shutdown_timeout * 1000));
  lw_server_stop(serve.server, on_server_idle);
}

static void on_counters(int signum) {
  (void)signum;
  lw_program_log_counters();
}

/* Before anybody can know of the process: a signal without its handler would end it. They are acted
 * on in the loop, when all has started. */
static void take_signals(void) {
  for (size_t i = 0; i < LW_ARRAY_SIZE(signals); i++) {
    lw_loop_on_signal(signals[i].number, signals[i].act);
  }
  hold_signals(SIG_UNBLOCK);
}

/* -- starting -- */

static bool write_port_file(const char *option, const char *path, int port) {
  if (!path) return true;
  FILE *f = fopen(path, "w");
  bool ok = f && fprintf(f, "%d\n", port) > 0;
  if (f && fclose(f) != 0) ok = false;
  return ok || fail_start(lw_printf_dup("%s %s: %s", option, path, strerror(errno)));
}

static lw_server_limits server_limits(void) {
  const lw_serve_settings *set = &serve.set;
  lw_server_limits limits = lw_server_limits_default;
  limits.max_connections = (unsigned)set->max_connections;
  limits.header_timeout_ms = (uint64_t)(set->header_timeout * 1000);
  limits.body_timeout_ms = (uint64_t)(set->body_timeout * 1000);
  limits.idle_timeout_ms = (uint64_t)(set->idle_timeout * 1000);
  limits.write_timeout_ms = (uint64_t)(set->write_timeout * 1000);
  return limits;
}

static void set_site(void) {
  size_t n = 0;
  for (; n < lw_session_builtin_count; n++) serve.builtins[n] = &lw_session_builtins[n];
  serve.builtins[n] = &lw_update_builtin;
  serve.site.builtins = serve.builtins;
  serve.site.router = lw_facts_get()->generation->router;
  lw_update_set(serve.set.master_token, serve.set.update_file);
}

static bool open_certificate(void) {
  const lw_serve_settings *set = &serve.set;
  char *why = NULL;
  if (!set->use_ssl || lw_certificate_open(serve.server, set->ssl_cert, set->ssl_key, &why)) {
    return true;
  }
  fail_start(lw_printf_dup("%s (--ssl-cert, --ssl-key)", why));
  free(why);
  return false;
}

static bool start_server(void) {
  const lw_serve_settings *set = &serve.set;
  lw_server_limits limits = server_limits();
  const char *why = NULL;
  set_site();
  serve.server =
      lw_server_open(set->host, (int)set->port, &limits, &lw_service_events, &serve.site, &why);
  if (!serve.server) return fail_start(lw_printf_dup("%s (--host, --port)", why));
  int port = lw_server_port(serve.server);
  if (!open_certificate() || !set_url_check()) return false;
  bool v6 = strchr(set->host, ':') != NULL;
  lw_info("%s listens on http%s://%s%s%s:%d", set->script, set->use_ssl ? "s" : "", v6 ? "[" : "",
          set->host, v6 ? "]" : "", port);
  return write_port_file("--port-file", set->port_file, port);
}

static bool start_admin(void) {
  const lw_serve_settings *set = &serve.set;
  lw_server_limits limits = server_limits();
  int port = set->internal_port >= 0 ? (int)set->internal_port : set->port ? (int)set->port + 1 : 0;
  if (port > 65535) {
    return fail_start(lw_strdup("the internal port would be 65536: name one with --internal-port"));
  }
  const char *why = NULL;
  lw_admin_settings settings = {set->internal_addr, port, &limits, on_drain, lw_facts_write};
  if (!lw_admin_open(&settings, &why)) {
    return fail_start(
        lw_printf_dup("the internal port: %s (--internal-addr, --internal-port)", why));
  }
  return write_port_file("--internal-port-file", set->internal_port_file, lw_admin_port());
}

static bool set_trust(void) {
  char *why = lw_upstream_set_trust(serve.set.model_ca);
  if (!why) return true;
  fail_start(lw_printf_dup("--model-ca %s", why));
  free(why);
  return false;
}

static bool load_first(void) {
  char *why = NULL;
  lw_generation *g = lw_facts_get()->generation = lw_generation_load(serve.set.script, &why);
  return g || fail_start(why);
}

static void start_watching(void) {
  const lw_serve_settings *set = &serve.set;
  lw_startup_settings settings = {set->model_log, set->health_url, set->benchmark_cache,
                                  set->stall_timeout, set->model_loaded};
  lw_sessions_start(&serve.site);
  lw_startup_begin(&settings, serve.site.router);
  if (set->watch) lw_watcher_open(on_edit);
  serve.started = true;
  on_ready_change();
}

static bool start_all(void) {
  lw_ready_init(on_ready_change);
  if (!set_scheme() || !set_trust() || !load_first()) return false;
  if (!start_server() || !start_admin() || !start_key()) return false;
  start_reports(lw_server_port(serve.server));
  start_watching();
  return true;
}

static void give_up(void) {
  if (serve.server) {
    lw_server_stop(serve.server, on_server_idle);
  } else {
    take_down();
  }
}

static void setup_service(void) {
  const lw_serve_settings *set = &serve.set;
  lw_service_init(&(lw_queue_limits){(unsigned)set->queue_count, set->queue_bytes});
  lw_service *s = lw_service_get();
  s->unsecured = set->unsecured;
  s->max_body = set->max_body;
  s->model_url = set->model_url;
  lw_budget_set(set->hook_time, set->script_memory, true);
  if (set->model_keepalive > 0) lw_upstream_set_keepalive(set->model_keepalive);
}

static int serve_script(void) {
  lw_facts *f = lw_facts_get();
  f->script = serve.set.script;
  if (serve.set.report_addr) f->report_addr = lw_address_shown_all(serve.set.report_addr);
  f->started_s = lw_wall_s();
  f->started_ns = lw_now_ns();
  lw_program_raise_limits();
  lw_loop_init();
  setup_service();
  lw_facts_register();
  lw_notify_open();
  lw_timer_init(&serve.deadline, on_shutdown_deadline);
  take_signals();
  bool ok = start_all();
  if (!ok) give_up();
  lw_loop_run();
  lw_timer_fini(&serve.deadline);
  lw_notify_close();
  if (ok) lw_program_log_counters();
  lw_program_close();
  lw_facts_fini();
  free(serve.failure);
  return ok ? 0 : 1;
}

/* For the tests of what takes minutes. */
static void set_pace(void) {
  const char *pace = getenv("LUAWORKER_TEST_PACE");
  if (!pace) return;
  lw_pace_set(strtod(pace, NULL));
  lw_warn("LUAWORKER_TEST_PACE: waits between reports and checks pass %s times as fast", pace);
}

static void execute_again(int argc, char **argv) {
  char **whole = lw_calloc((size_t)argc + 2, sizeof *whole);
  whole[0] = "luaworker";
  for (int i = 0; i < argc; i++) whole[i + 1] = argv[i];
  execv("/proc/self/exe", whole);
  lw_error("can't start again: %s", strerror(errno));
  free(whole);
}

int lw_serve_main(int argc, char **argv) {
  lw_serve_settings_read(&serve.set, argc, argv);
  set_pace();
  int status = serve_script();
  if (serve.again) execute_again(argc, argv);
  return status;
}
