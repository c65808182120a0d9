/* SPDX-License-Identifier: MIT
 * What all requests of the process share: the key, the queue, the account, the settings; and the
 * server's events: which route a request takes, and what is refused before its body is read. */
#pragma once

#include "exchange/server.h"
#include "worker/account.h"
#include "worker/auth.h"
#include "worker/builtin.h"
#include "worker/queue.h"
#include "worker/route.h"
#include "worker/scheme.h"

typedef struct lw_service {
  lw_auth *auth;
  lw_scheme *scheme;
  lw_queue *queue;
  lw_account *account;
  bool unsecured;        /* signatures are not checked */
  bool draining;         /* new work is answered 503 */
  bool stopping;         /* SIGTERM has come: not ready for anybody new */
  uint64_t max_body;     /* bytes of a request body */
  const char *model_url; /* overrides what scripts say; NULL: does not. Borrowed */
} lw_service;

void lw_service_init(const lw_queue_limits *queue_limits);
void lw_service_fini(void); /* asserts that no request is left */
lw_service *lw_service_get(void);
bool lw_service_is_ready(void); /* every gate is passed, and new work is taken */

/* Who answers at one listening port: pass its address as the server's owner. `router` (NULL: none)
 * may be replaced between two turns of the loop; requests that have begun keep the old one.
 * Builtins go before its routes. */
typedef struct lw_site {
  lw_router *router;
  const lw_builtin *const *builtins; /* NULL-terminated; NULL: none */
} lw_site;
extern const lw_server_events lw_service_events;
