/* SPDX-License-Identifier: MIT
 * Route tables and servers made by scripts. Called by script/api and by the programs that end a VM.
 * Owns both kinds; each lives as long as its VM. */
#include "script/made.h"

#include <stdlib.h>

#include "script/task.h"

typedef struct made_router {
  lw_list node;
  lw_router *router;
} made_router;

const lw_server_limits lw_server_limits_default = {
    .h1 = {.max_target = 8192, .max_head = 65536, .max_headers = 128},
    .max_connections = 16384,
    .header_timeout_ms = 30000,
    .body_timeout_ms = 60000,
    .idle_timeout_ms = 75000,
    .write_timeout_ms = 120000,
};

lw_router *lw_made_router(lw_vm *vm) {
  made_router *m = lw_calloc(1, sizeof *m);
  m->router = lw_router_new();
  m->router->ops = &lw_task_route_ops;
  m->router->owner = vm;
  lw_list_append(&vm->routers, &m->node);
  return m->router;
}

lw_made_server *lw_made_listen(lw_vm *vm, lw_router *router, const char *host, int port,
                               const char **why) {
  lw_made_server *m = lw_calloc(1, sizeof *m);
  m->vm = vm;
  m->site.router = router;
  m->server =
      lw_server_open(host, port, &lw_server_limits_default, &lw_service_events, &m->site, why);
  if (!m->server) {
    free(m);
    return NULL;
  }
  lw_router_seal(router);
  lw_list_append(&vm->servers, &m->node);
  return m;
}

bool lw_made_serving(const lw_vm *vm) {
  for (lw_list *node = vm->servers.next; node != &vm->servers; node = node->next) {
    lw_made_server *m = LW_CONTAINER_OF(node, lw_made_server, node);
    if (!lw_server_is_idle(m->server)) return true;
  }
  return false;
}

static void on_idle(void *owner) {
  lw_vm *vm = LW_CONTAINER_OF(owner, lw_made_server, site)->vm;
  if (!vm->task_count && vm->on_quiet) vm->on_quiet(vm);
}

void lw_made_stop_servers(lw_vm *vm) {
  for (lw_list *node = vm->servers.next; node != &vm->servers; node = node->next) {
    lw_server_stop(LW_CONTAINER_OF(node, lw_made_server, node)->server, on_idle);
  }
}

void lw_made_cut_servers(lw_vm *vm) {
  for (lw_list *node = vm->servers.next; node != &vm->servers; node = node->next) {
    lw_server_cut(LW_CONTAINER_OF(node, lw_made_server, node)->server);
  }
}

void lw_made_free_all(lw_vm *vm) {
  lw_list *node;
  while ((node = lw_list_pop(&vm->servers))) {
    lw_made_server *m = LW_CONTAINER_OF(node, lw_made_server, node);
    lw_server_free(m->server);
    free(m);
  }
  while ((node = lw_list_pop(&vm->routers))) {
    made_router *m = LW_CONTAINER_OF(node, made_router, node);
    lw_router_free(m->router);
    free(m);
  }
}
