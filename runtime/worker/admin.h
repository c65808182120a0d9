/* SPDX-License-Identifier: MIT
 * The internal port, plain HTTP, loopback by default: /livez, /readyz, /metrics, /status, POST
 * /drain, and POST /session/end. Whoever reaches it can read all that and drain the worker: it must
 * not be exposed. */
#pragma once

#include "exchange/server.h"
#include "wire/json_put.h"

typedef struct lw_admin_settings {
  const char *host;
  int port;                          /* 0: any */
  const lw_server_limits *limits;    /* copied; but for the number of connections */
  void (*on_drain)(void);            /* POST /drain has begun it, once; may be NULL */
  void (*add_status)(lw_body *json); /* adds ,"name":value members to /status; may be NULL */
} lw_admin_settings;

bool lw_admin_open(const lw_admin_settings *s,
                   const char **why); /* false with *why (static text) */
int lw_admin_port(void);
/* Who waits at /drain is answered. on_closed (may be NULL) once no connection is left, at the
 * earliest in this call; also when it never opened. */
void lw_admin_close(void (*on_closed)(void));
void lw_admin_cut(void); /* what is still open there is broken off */
