/* SPDX-License-Identifier: MIT
 * What all requests of the process share: the key, the queue, the account, the settings; and the
 * server's events: which route a request takes, and what is refused before its body is read. */
#pragma once

#include "exchange/server.h"
#include "worker/account.h"
#include "worker/auth.h"
#include "worker/queue.h"
#include "worker/route.h"

typedef struct lw_service {
  lw_auth *auth;
  lw_queue *queue;
  lw_account *account;
  bool unsecured;        /* signatures are not checked */
  uint64_t max_body;     /* bytes of a request body */
  const char *model_url; /* overrides what scripts say; NULL: does not. Borrowed */
} lw_service;

void lw_service_init(const lw_queue_limits *queue_limits);
void lw_service_fini(void); /* asserts that no request is left */
lw_service *lw_service_get(void);

/* Who answers at one listening port: pass its address as the server's owner. `router` may be
 * replaced between two turns of the loop; requests that have begun keep the old one. */
typedef struct lw_site {
  lw_router *router;
} lw_site;
extern const lw_server_events lw_service_events;
