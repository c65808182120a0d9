/* SPDX-License-Identifier: MIT
 * `luaworker serve`: a worker. Loads the script, listens, fetches the key, reports; SIGHUP reloads,
 * SIGTERM and SIGINT end it in steps. Owns the server and the current generation. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "floor/log.h"
#include "loop/loop.h"
#include "program/program.h"
#include "program/settings.h"
#include "script/generation.h"
#include "script/made.h"
#include "worker/pubkey.h"
#include "worker/report.h"
#include "worker/service.h"

static struct {
  lw_serve_settings set;
  lw_site site;
  lw_server *server;
  lw_generation *generation;
  lw_timer deadline;
  uint64_t started_ns;
  int stops; /* signals to stop so far */
  bool ready;
} serve;

/* -- readiness and reports -- */

static void become_ready(void) {
  if (serve.ready) return;
  serve.ready = true;
  double seconds = (double)(lw_now_ns() - serve.started_ns) / 1e9;
  lw_info("ready after %.3f s", seconds);
  if (serve.set.report_addr) lw_report_loaded(seconds, serve.generation->router->max_perf);
}

static void on_key(void) {
  lw_report_error("");
  become_ready();
}

static char *advertised_url(int port) {
  char name[64];
  snprintf(name, sizeof name, "VAST_TCP_PORT_%d", port);
  const char *mapped = getenv(name);
  return lw_printf_dup("http://%s:%s", serve.set.public_ip ? serve.set.public_ip : "127.0.0.1",
                       mapped ? mapped : name + sizeof "VAST_TCP_PORT_" - 1);
}

static void start_reports(void) {
  const char *format = getenv("DELETE_REQUESTS_FORMAT");
  char *url = advertised_url(lw_server_port(serve.server));
  lw_report_settings settings = {
      .addresses = serve.set.report_addr,
      .worker_id = serve.set.container_id,
      .master_token = serve.set.master_token,
      .url = url,
      .delete_requests_v1 = format && strcmp(format, "v1") == 0,
  };
  if (serve.set.report_addr) lw_report_start(&settings, lw_service_get()->account);
  free(url);
}

static bool load_public_key(void) {
  size_t n = 0;
  char *why_read = NULL, *pem = lw_script_read(serve.set.public_key, &n, &why_read);
  const char *why = why_read;
  bool ok = pem && lw_auth_set_key(lw_service_get()->auth, (lw_span){pem, n}, &why) == LW_OK;
  if (!ok) lw_error("--public-key %s: %s", serve.set.public_key, why);
  free(pem);
  free(why_read);
  return ok;
}

static bool start_key(void) {
  lw_service *s = lw_service_get();
  if (s->unsecured) {
    lw_warn("UNSECURED: signatures are not checked, anyone who reaches the port is served");
    become_ready();
    return true;
  }
  if (serve.set.public_key) {
    if (!load_public_key()) return false;
    become_ready();
    return true;
  }
  if (serve.set.report_addr) {
    lw_pubkey_start(serve.set.report_addr, s->auth, on_key, lw_report_error);
    return true;
  }
  lw_error(
      "no key to check signatures with: give --public-key FILE, set REPORT_ADDR to the "
      "autoscaler's address, or set UNSECURED=true to serve everyone");
  return false;
}

/* -- signals -- */

static void on_reload(int signum) {
  (void)signum;
  if (serve.stops) return;
  char *why = NULL;
  uint64_t begun = lw_now_ns();
  lw_generation *fresh = lw_generation_load(serve.set.script, &why);
  if (!fresh) {
    lw_error("reload failed, generation %u goes on: %s", serve.generation->number, why);
    free(why);
    return;
  }
  lw_generation *old = serve.generation;
  serve.generation = fresh;
  serve.site.router = fresh->router;
  lw_info("reloaded %s in %.1f ms: generation %u", serve.set.script,
          (double)(lw_now_ns() - begun) / 1e6, fresh->number);
  lw_generation_retire(old);
}

static void on_server_idle(void *owner) {
  (void)owner;
  lw_timer_stop(&serve.deadline);
  lw_server_free(serve.server);
  serve.server = NULL;
  lw_pubkey_stop();
  lw_report_stop();
  lw_generation_retire(serve.generation);
  lw_program_stop_when_quiet();
}

static void on_shutdown_deadline(lw_timer *t) {
  (void)t;
  lw_warn("the shutdown deadline has passed: cancelling %u requests", lw_request_count());
  if (serve.server) lw_server_cut(serve.server);
}

static void on_stop(int signum) {
  if (!serve.server) return; /* it is ending already */
  if (++serve.stops > 1) {
    lw_warn("second signal: cancelling %u requests", lw_request_count());
    lw_server_cut(serve.server);
    return;
  }
  lw_info("%s: taking no new requests, %u running", signum == SIGTERM ? "SIGTERM" : "SIGINT",
          lw_request_count());
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
  lw_loop_on_signal(SIGHUP, on_reload);
  lw_loop_on_signal(SIGTERM, on_stop);
  lw_loop_on_signal(SIGINT, on_stop);
  lw_loop_on_signal(SIGUSR1, on_counters);
}

/* -- starting -- */

static bool write_port_file(int port) {
  if (!serve.set.port_file) return true;
  FILE *f = fopen(serve.set.port_file, "w");
  bool ok = f && fprintf(f, "%d\n", port) > 0;
  if (f && fclose(f) != 0) ok = false;
  if (!ok) lw_error("--port-file %s: %s", serve.set.port_file, strerror(errno));
  return ok;
}

static bool start_server(void) {
  const lw_serve_settings *set = &serve.set;
  lw_server_limits limits = lw_server_limits_default;
  limits.max_connections = (unsigned)set->max_connections;
  limits.header_timeout_ms = (uint64_t)(set->header_timeout * 1000);
  limits.body_timeout_ms = (uint64_t)(set->body_timeout * 1000);
  limits.idle_timeout_ms = (uint64_t)(set->idle_timeout * 1000);
  limits.write_timeout_ms = (uint64_t)(set->write_timeout * 1000);
  const char *why = NULL;
  serve.site.router = serve.generation->router;
  serve.server =
      lw_server_open(set->host, (int)set->port, &limits, &lw_service_events, &serve.site, &why);
  if (!serve.server) {
    lw_error("%s", why);
    return false;
  }
  int port = lw_server_port(serve.server);
  lw_info("%s listens on http://%s:%d", set->script, set->host, port);
  return write_port_file(port);
}

static bool load_first(void) {
  char *why = NULL;
  serve.generation = lw_generation_load(serve.set.script, &why);
  if (serve.generation) return true;
  lw_error("%s", why);
  free(why);
  return false;
}

static bool start_all(void) {
  if (!load_first()) return false;
  if (!start_server()) {
    lw_generation_retire(serve.generation);
    return false;
  }
  start_reports();
  return start_key();
}

static int serve_script(void) {
  serve.started_ns = lw_now_ns();
  lw_program_raise_limits();
  lw_loop_init();
  lw_service_init(&(lw_queue_limits){(unsigned)serve.set.queue_count, serve.set.queue_bytes});
  lw_service *s = lw_service_get();
  s->unsecured = serve.set.unsecured;
  s->max_body = serve.set.max_body;
  s->model_url = serve.set.model_url;
  lw_timer_init(&serve.deadline, on_shutdown_deadline);
  take_signals();
  bool ok = start_all();
  if (!ok && serve.server) {
    lw_server_stop(serve.server, on_server_idle);
  } else if (!ok) {
    lw_program_stop_when_quiet();
  }
  lw_loop_run();
  lw_timer_fini(&serve.deadline);
  if (ok) lw_program_log_counters();
  lw_program_close();
  return ok ? 0 : 1;
}

int lw_serve_main(int argc, char **argv) {
  lw_serve_settings_read(&serve.set, argc, argv);
  return serve_script();
}
