/* SPDX-License-Identifier: MIT
 * The figures of the command `serve`. Called by program/serve; asked by worker/admin and metrics. */
#include "program/facts.h"

#include <stdlib.h>

static lw_facts facts;

lw_facts *lw_facts_get(void) { return &facts; }

void lw_facts_register(void) {}

void lw_facts_write(lw_body *json) {
  lw_put(json, ",\"script\":");
  lw_put_text(json, facts.script);
}

void lw_facts_note_reload(char *error) {
  facts.reloads += error == NULL;
  facts.reload_failures += error != NULL;
  free(facts.reload_error);
  facts.reload_error = error;
}

void lw_facts_fini(void) { lw_facts_note_reload(NULL); }
