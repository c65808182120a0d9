/* SPDX-License-Identifier: MIT
 * The figures of the command `serve`. Called by program/serve; asked by worker/admin and metrics.
 * Owns the text of the last reload's failure. */
#include "program/facts.h"

#include <math.h>
#include <stdlib.h>

#include "exchange/address.h"
#include "program/certificate.h"
#include "script/budget.h"
#include "worker/metrics.h"
#include "worker/service.h"

#ifndef LW_VERSION
#define LW_VERSION "unknown"
#endif

static lw_facts facts;

lw_facts *lw_facts_get(void) { return &facts; }

/* -- metrics; NaN: there is none -- */

static double generation(void) { return facts.generation ? facts.generation->number : NAN; }
static double generations(void) { return lw_generation_count(); }
static double reloads(void) { return (double)facts.reloads; }
static double reload_failures(void) { return (double)facts.reload_failures; }
static double reload_failed(void) { return facts.reload_error != NULL; }
static double reload_seconds(void) { return facts.reload_s > 0 ? facts.reload_s : NAN; }
static double heap_bytes(void) {
  return facts.generation ? (double)lw_vm_heap_bytes(facts.generation->vm) : NAN;
}
static double over_time(void) { return (double)lw_budget_stops(LW_STOP_TIME); }
static double over_memory(void) { return (double)lw_budget_stops(LW_STOP_MEMORY); }
static double started(void) { return facts.started_s; }
static double expiry(void) {
  double at_s = lw_certificate_expiry_s();
  return at_s > 0 ? at_s : NAN;
}
static double certificate_failures(void) {
  return lw_certificate_expiry_s() > 0 ? (double)lw_certificate_failures() : NAN;
}

void lw_facts_register(void) {
  lw_metrics_register("generation", "Which loading of the script new requests use.", false,
                      generation);
  lw_metrics_register("generations", "Loaded scripts: old ones stay for their last requests.",
                      false, generations);
  lw_metrics_register("reloads_total", "Reloads of the script that took effect.", true, reloads);
  lw_metrics_register("reload_failures_total", "Reloads that changed nothing: see /status.", true,
                      reload_failures);
  lw_metrics_register("reload_failed", "1: the last reload did, and the script before it serves.",
                      false, reload_failed);
  lw_metrics_register("reload_duration_seconds",
                      "How long the last reload held the loop, in two turns.", false,
                      reload_seconds);
  lw_metrics_register("lua_heap_bytes", "Memory of the present script's Lua objects.", false,
                      heap_bytes);
  lw_metrics_register("script_over_time_total", "Hooks and loads stopped after --hook-time.", true,
                      over_time);
  lw_metrics_register("script_over_memory_total",
                      "Hooks and loads stopped for what --script-memory allows.", true,
                      over_memory);
  lw_metrics_register("start_time_seconds", "When the program started, since the epoch.", false,
                      started);
  lw_metrics_register("certificate_expiry_timestamp_seconds",
                      "Until when the certificate is good, since the epoch. Only with TLS.", false,
                      expiry);
  lw_metrics_register("certificate_failures_total",
                      "New certificates that were refused. Only with TLS.", true,
                      certificate_failures);
}

/* -- /status -- */

static void put_text_or_null(lw_body *b, const char *key, const char *text) {
  lw_put(b, key);
  if (text) {
    lw_put_text(b, text);
  } else {
    lw_put(b, "null");
  }
}

static void put_model_url(lw_body *b) {
  const char *given = lw_service_get()->model_url;
  const char *url = given              ? given
                    : facts.generation ? facts.generation->router->model_server_url
                                       : NULL;
  char *shown = url ? lw_address_shown(lw_span_of(url)) : NULL;
  put_text_or_null(b, ",\"model_url\":", shown);
  free(shown);
}

void lw_facts_write(lw_body *b) {
  double expiry_s = lw_certificate_expiry_s();
  lw_put(b, ",\"version\":\"" LW_VERSION "\"");
  put_text_or_null(b, ",\"script\":", facts.script);
  put_model_url(b);
  put_text_or_null(b, ",\"url\":", facts.url);
  put_text_or_null(b, ",\"report_addr\":", facts.report_addr);
  lw_put(b, ",\"uptime\":");
  lw_put_number(b, round((double)(lw_now_ns() - facts.started_ns) / 1e6) / 1000);
  lw_put(b, ",\"generation\":");
  lw_put_integer(b, facts.generation ? facts.generation->number : 0);
  lw_put(b, ",\"generations\":");
  lw_put_integer(b, lw_generation_count());
  lw_put(b, ",\"reloads\":");
  lw_put_integer(b, (int64_t)facts.reloads);
  lw_put(b, ",\"reload_failures\":");
  lw_put_integer(b, (int64_t)facts.reload_failures);
  put_text_or_null(b, ",\"reload_error\":", facts.reload_error);
  lw_put(b, ",\"certificate_expiry\":");
  if (expiry_s > 0) {
    lw_put_number(b, expiry_s);
  } else {
    lw_put(b, "null");
  }
}

void lw_facts_note_reload(char *error, double seconds) {
  facts.reload_s = seconds;
  facts.reloads += error == NULL;
  facts.reload_failures += error != NULL;
  free(facts.reload_error);
  facts.reload_error = error;
}

void lw_facts_fini(void) {
  free(facts.reload_error);
  free(facts.report_addr);
  free(facts.url);
  facts = (lw_facts){0};
}
