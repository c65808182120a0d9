/* SPDX-License-Identifier: MIT
 * What a script has made through the API and its VM owns: route tables and, for programs, servers.
 */
#pragma once

#include "exchange/server.h"
#include "script/vm.h"
#include "worker/service.h"

typedef struct lw_made_server {
  lw_list node;
  lw_site site;
  lw_server *server;
  lw_vm *vm;
} lw_made_server;

lw_vm *lw_vm_loading(void); /* the VM whose script is being loaded now, or NULL */

/* A route table whose tasks run in vm; its memory is the VM's. refs = 1, for whoever answers by it.
 */
lw_router *lw_made_router(lw_vm *vm);
/* Listens with default limits. NULL with *why. */
lw_made_server *lw_made_listen(lw_vm *vm, lw_router *router, const char *host, int port,
                               const char **why);
/* Stops all servers of vm; on_idle (of vm) is asked once the last one has no connection. */
void lw_made_stop_servers(lw_vm *vm);
void lw_made_cut_servers(lw_vm *vm);
bool lw_made_serving(const lw_vm *vm);
void lw_made_free_all(lw_vm *vm); /* every server stopped and idle */
extern const lw_server_limits lw_server_limits_default;
