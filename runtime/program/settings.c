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
                                     .port = 3000,
                                     .max_connections = 8192,
                                     .queue_count = 1024,
                                     .header_timeout = 30,
                                     .body_timeout = 60,
                                     .idle_timeout = 75,
                                     .write_timeout = 120,
                                     .shutdown_timeout = 30,
                                     .max_body = 64u << 20,
                                     .queue_bytes = 256u << 20};

#define TEXT(name, field, arg, help, env) \
  { name, LW_OPTION_TEXT, &settings.field, arg, help, env, 0, 0 }
#define NUMBER(name, field, help, env, min, max) \
  { name, LW_OPTION_NUMBER, &settings.field, "N", help, env, min, max }
#define SECONDS(name, field, help) \
  { name, LW_OPTION_SECONDS, &settings.field, "S", help, NULL, 0, 0 }
#define BYTES(name, field, help) \
  { name, LW_OPTION_BYTES, &settings.field, "BYTES", help, NULL, 0, 0 }

static const lw_option options[] = {
    TEXT("host", host, "ADDR", "address to listen on", NULL),
    NUMBER("port", port, "port to listen on, 0 for any", "WORKER_PORT", 0, 65535),
    TEXT("port-file", port_file, "FILE", "write the port here once listening", NULL),
    TEXT("public-key", public_key, "FILE", "PEM key that signatures are checked with", NULL),
    TEXT("model-url", model_url, "URL", "model server, instead of the script's", NULL),
    TEXT("report-addr", report_addr, "URLS", "autoscaler base URLs, comma-separated",
         "REPORT_ADDR"),
    {"unsecured", LW_OPTION_FLAG, &settings.unsecured, NULL, "do not check signatures", "UNSECURED",
     0, 0},
    BYTES("max-body", max_body, "largest request body"),
    NUMBER("max-connections", max_connections, "client connections at once", NULL, 1, 1000000),
    NUMBER("queue-count", queue_count, "requests that may wait", NULL, 0, 1000000),
    BYTES("queue-bytes", queue_bytes, "bodies that may wait"),
    SECONDS("header-timeout", header_timeout, "for a request's head"),
    SECONDS("body-timeout", body_timeout, "for progress of a request's body"),
    SECONDS("idle-timeout", idle_timeout, "between two requests"),
    SECONDS("write-timeout", write_timeout, "for a client that takes no bytes"),
    SECONDS("shutdown-timeout", shutdown_timeout, "for running requests after SIGTERM"),
    TEXT("log-level", log_level, "LEVEL", "debug, info, warn, error or off", "LOG_LEVEL"),
    TEXT("log-format", log_format, "FORMAT", "auto, text or json", "LOG_FORMAT"),
    NUMBER("container-id", container_id, "reported as id", "CONTAINER_ID", 0, 0),
    TEXT("master-token", master_token, "TEXT", "reported as mtoken", "MASTER_TOKEN"),
    TEXT("public-ip", public_ip, "ADDR", "address in the advertised URL", "PUBLIC_IPADDR"),
    TEXT("backend", backend, "NAME", "serve workers/NAME.lua", "BACKEND"),
};

static const lw_command command = {
    "serve",
    "SCRIPT [options]",
    "Serves the worker that SCRIPT describes. SIGHUP loads the script anew; SIGTERM ends after "
    "the\n"
    "running requests, a second one at once; SIGUSR1 logs the counters.",
    options,
    LW_ARRAY_SIZE(options),
    false};

static const char *script_of_backend(const char *backend) {
  static char path[256];
  if (!backend) lw_usage_error("serve", "which worker script?");
  snprintf(path, sizeof path, "workers/%s.lua", backend);
  return path;
}

/* Settings of the protocol that would change what is served, and are not built: better no worker
 * than one that quietly does something else. */
static void refuse_what_is_missing(void) {
  const char *schemes = getenv("AUTH_SCHEME");
  lw_span rest = lw_span_of(schemes), scheme;
  bool known = !schemes || !*schemes;
  while (lw_span_next(&rest, ',', &scheme)) known = known || lw_span_eq(scheme, LW_SPAN("url"));
  if (!known) {
    lw_usage_error("serve", "AUTH_SCHEME is \"%s\", but only the scheme url is supported", schemes);
  }
  if (lw_text_is_true(getenv("USE_SSL"))) {
    lw_usage_error("serve",
                   "USE_SSL is set, but TLS on the client port is not supported yet: "
                   "end it in front of the worker and unset USE_SSL");
  }
}

void lw_serve_settings_read(lw_serve_settings *set, int argc, char **argv) {
  int first = lw_options_parse(&command, argc, argv);
  refuse_what_is_missing();
  lw_options_setup_log("serve", settings.log_level, settings.log_format);
  if (argc - first > 1) lw_usage_error("serve", "one script, not also %s", argv[first + 1]);
  settings.script = first < argc ? argv[first] : script_of_backend(settings.backend);
  *set = settings;
}
