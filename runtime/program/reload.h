/* SPDX-License-Identifier: MIT
 * Loading the script anew while its worker serves: new requests use it at once, those that run end
 * on the generation that they began with. */
#pragma once

#include "worker/service.h"

enum {
  LW_GENERATIONS_WARN = 10, /* more of them at once are told */
  LW_GENERATIONS_MAX = 100  /* with so many no other is loaded */
};

/* In the drain. Loads and checks the script; a good one takes its place in `site` and in the facts,
 * a bad one changes nothing but what is told of it: the log, the counters, /status. In two turns of
 * the loop, so that neither takes long; done() is called in the second. While one is under way
 * another is the same one. Borrows both. */
void lw_reload(const char *script, lw_site *site, void (*done)(void));
void lw_reload_cancel(void); /* one that is under way is not done; also when there is none */
