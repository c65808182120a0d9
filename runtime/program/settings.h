/* SPDX-License-Identifier: MIT
 * All that `luaworker serve` can be told, by options and the environment (protocol §1). */
#pragma once

#include "floor/base.h"

/* Texts are borrowed from argv and the environment; times in seconds. */
typedef struct lw_serve_settings {
  const char *script, *host, *port_file, *public_key, *model_url, *report_addr, *log_level,
      *log_format, *backend, *master_token, *public_ip, *ssl_cert, *ssl_key, *internal_addr,
      *internal_port_file, *auth_scheme, *auth_url_check, *model_log, *health_url, *benchmark_cache,
      *update_file, *model_ca;
  int64_t port, internal_port /* -1: the one after port */, max_connections, queue_count,
      container_id;
  double header_timeout, body_timeout, idle_timeout, write_timeout, shutdown_timeout, stall_timeout,
      model_keepalive, hook_time;
  uint64_t max_body, queue_bytes, script_memory;
  bool unsecured, use_ssl, watch, model_loaded;
} lw_serve_settings;

/* Fills *set and sets the log up. Wrong ones, and --help, end the process. */
void lw_serve_settings_read(lw_serve_settings *set, int argc, char **argv);
