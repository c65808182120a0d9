/* SPDX-License-Identifier: MIT
 * What `luaworker serve` itself knows and shows in /status and /metrics: its script, generations,
 * reloads, certificate. */
#pragma once

#include "script/generation.h"
#include "wire/json_put.h"

typedef struct lw_facts {
  const char *script;        /* borrowed */
  char *report_addr;         /* without its secrets; NULL: reports to nobody. Owned */
  lw_generation *generation; /* the present one; NULL: none */
  double started_s;          /* wall clock */
  uint64_t started_ns;       /* monotonic */
  uint64_t reloads, reload_failures;
  char *url;          /* as advertised. Owned */
  char *reload_error; /* why the last reload failed; NULL: it did not. Owned */
  double reload_s;    /* how long that held the loop, in two turns; 0: there was none */
} lw_facts;

lw_facts *lw_facts_get(void);
void lw_facts_register(void);       /* its metrics */
void lw_facts_write(lw_body *json); /* its members of /status */
/* error: taken over; NULL: well. */
void lw_facts_note_reload(char *error, double seconds);
void lw_facts_fini(void);
