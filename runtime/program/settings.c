/* SPDX-License-Identifier: MIT
 * The settings of `luaworker serve`: one table says names, defaults, environment and help. Called
 * once by program/serve. */
#include "program/settings.h"

#include <stdio.h>
#include <stdlib.h>

#include "program/options.h"

static lw_serve_settings settings = {.host = "0.0.0.0",
                                     .log_level = "info",
                                     .log_format = "auto",
                                     .master_token = "",
                                     .ssl_cert = "/etc/instance.crt",
                                     .ssl_key = "/etc/instance.key",
                                     .internal_addr = "127.0.0.1",
                                     .auth_scheme = "url",
                                     .auth_url_check = "warn",
                                     .benchmark_cache = ".has_benchmark",
                                     .update_file = "/.force_update",
                                     .stall_timeout = 300,
                                     .model_keepalive = 4,
                                     .hook_time = 1,
                                     .port = 3000,
                                     .internal_port = -1,
                                     .max_connections = 8192,
                                     .queue_count = 1024,
                                     .header_timeout = 30,
                                     .body_timeout = 60,
                                     .idle_timeout = 75,
                                     .write_timeout = 120,
                                     .shutdown_timeout = 30,
                                     .max_body = 64u << 20,
                                     .queue_bytes = 256u << 20,
                                     .script_memory = 256u << 20};

#define TEXT(name, field, arg, help, env) \
  { name, LW_OPTION_TEXT, &settings.field, arg, help, env, 0, 0 }
#define NUMBER(name, field, help, env, min, max) \
  { name, LW_OPTION_NUMBER, &settings.field, "N", help, env, min, max }
#define SECONDS(name, field, help) \
  { name, LW_OPTION_SECONDS, &settings.field, "S", help, NULL, 0, 0 }
#define BYTES(name, field, help) \
  { name, LW_OPTION_BYTES, &settings.field, "BYTES", help, NULL, 0, 0 }

#define HEADING(text) \
  { text, LW_OPTION_HEADING, NULL, NULL, NULL, NULL, 0, 0 }
#define FLAG(name, field, help, env) \
  { name, LW_OPTION_FLAG, &settings.field, NULL, help, env, 0, 0 }

static const lw_option options[] = {
    HEADING("The model server"),
    TEXT("model-url", model_url, "URL", "where it is, whatever the script says", NULL),
    TEXT("model-log", model_log, "FILE", "its log, when the script names none", "MODEL_LOG"),
    FLAG("model-loaded", model_loaded, "it is loaded already: no marker in its log is waited for",
         NULL),
    TEXT("health-url", health_url, "URL", "health check, when the script has none: URL or path",
         "MODEL_HEALTH_ENDPOINT"),
    SECONDS("stall-timeout", stall_timeout,
            "no byte from a busy model for so long: check it; 0: off"),
    TEXT("benchmark-cache", benchmark_cache, "FILE", "where the benchmark's result is kept", NULL),
    TEXT("model-ca", model_ca, "FILE", "PEM certificates that an https model is checked with",
         NULL),
    SECONDS("model-keepalive", model_keepalive, "idle connections to the model are kept so long"),
    HEADING("The clients' port"),
    TEXT("host", host, "ADDR", "address to listen on", NULL),
    NUMBER("port", port, "port to listen on, 0 for any", "WORKER_PORT", 0, 65535),
    TEXT("port-file", port_file, "FILE", "write the port here once listening", NULL),
    FLAG("use-ssl", use_ssl, "TLS on the port", "USE_SSL"),
    TEXT("ssl-cert", ssl_cert, "FILE", "certificate chain, PEM; loaded anew when it changes",
         "SSL_CERT"),
    TEXT("ssl-key", ssl_key, "FILE", "its key, PEM", "SSL_KEY"),
    BYTES("max-body", max_body, "largest request body; more: 413"),
    NUMBER("max-connections", max_connections, "connections at once; more: 503", NULL, 1, 1000000),
    SECONDS("header-timeout", header_timeout, "for a request's head"),
    SECONDS("body-timeout", body_timeout, "for progress of a request's body"),
    SECONDS("idle-timeout", idle_timeout, "between two requests"),
    SECONDS("write-timeout", write_timeout, "for a client that takes no bytes"),
    HEADING("Signatures"),
    TEXT("public-key", public_key, "FILE",
         "PEM key that they are checked with; else the autoscaler's /pubkey/", NULL),
    FLAG("unsecured", unsecured, "do not check them", "UNSECURED"),
    TEXT("auth-scheme", auth_scheme, "NAMES", "url, sorted, legacy, or a comma list tried in order",
         "AUTH_SCHEME"),
    TEXT("auth-url-check", auth_url_check, "MODE",
         "a signed URL that is not ours: warn, enforce (401) or off", "AUTH_URL_CHECK"),
    HEADING("The autoscaler"),
    TEXT("report-addr", report_addr, "URLS", "where to report, comma-separated base URLs",
         "REPORT_ADDR"),
    NUMBER("container-id", container_id, "reported as id", "CONTAINER_ID", 0, 0),
    TEXT("master-token", master_token, "TEXT", "reported as mtoken; guards /pyworker/update",
         "MASTER_TOKEN"),
    TEXT("public-ip", public_ip, "ADDR", "address in the advertised URL", "PUBLIC_IPADDR"),
    TEXT("update-file", update_file, "FILE", "written by POST /pyworker/update", NULL),
    HEADING("The queue of routes that serve one request at a time"),
    NUMBER("queue-count", queue_count, "requests that may wait; more: 429", NULL, 0, 1000000),
    BYTES("queue-bytes", queue_bytes, "bytes of their bodies; more: 429"),
    HEADING("The internal port (/status /metrics /readyz /livez /drain)"),
    TEXT("internal-addr", internal_addr, "ADDR", "address to listen on", NULL),
    NUMBER("internal-port", internal_port, "-1: port + 1, 0: any", "WORKER_HTTP_PORT", -1, 65535),
    TEXT("internal-port-file", internal_port_file, "FILE", "write it here once listening", NULL),
    HEADING("The script"),
    SECONDS("hook-time", hook_time,
            "processor time of a hook between two waits; more ends its request; 0: any"),
    BYTES("script-memory", script_memory, "what the script's Lua objects may take; 0: any"),
    FLAG("watch", watch, "load the script anew when a file of it changes, for development", NULL),
    HEADING("The program"),
    TEXT("log-level", log_level, "LEVEL", "debug, info, warn, error or off", "LOG_LEVEL"),
    TEXT("log-format", log_format, "FORMAT", "text, json, or auto: text on a terminal",
         "LOG_FORMAT"),
    SECONDS("shutdown-timeout", shutdown_timeout, "for running requests after SIGTERM"),
    TEXT("backend", backend, "NAME", "serve workers/NAME.lua when no script is given", "BACKEND"),
};

static const lw_command command = {
    "serve",
    "SCRIPT [options]",
    "Serves the worker that SCRIPT describes. SIGHUP loads the script anew; SIGTERM ends after "
    "the\n"
    "running requests, a second one at once; SIGUSR1 logs the counters. `luaworker status` says\n"
    "why it is not ready.",
    options,
    LW_ARRAY_SIZE(options),
    false};

static const char *script_of_backend(const char *backend) {
  static char path[256];
  if (!backend) lw_usage_error("serve", "which worker script?");
  snprintf(path, sizeof path, "workers/%s.lua", backend);
  return path;
}

void lw_serve_settings_read(lw_serve_settings *set, int argc, char **argv) {
  int first = lw_options_parse(&command, argc, argv);
  lw_options_setup_log("serve", settings.log_level, settings.log_format);
  if (argc - first > 1) lw_usage_error("serve", "one script, not also %s", argv[first + 1]);
  settings.script = first < argc ? argv[first] : script_of_backend(settings.backend);
  *set = settings;
}
