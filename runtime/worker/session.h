/* SPDX-License-Identifier: MIT
 * Sessions (protocol §6): created, asked for, kept alive by their requests, ended by their client,
 * by time, or with the worker. Owns the sessions; each is one record in the account. */
#pragma once

#include "worker/builtin.h"
#include "worker/work.h"

typedef struct lw_session lw_session;

void lw_sessions_start(void); /* the look for expired ones, every 5 s */
void lw_sessions_stop(void);  /* closes all at once, without their on_close calls; may not have begun */
unsigned lw_sessions_count(void);

/* The request joins the open session `id`, whose time is extended; false: there is none. It leaves
 * when it is over. */
bool lw_session_join(lw_work *w, lw_span id);
void lw_session_leave(lw_work *w); /* no-op for a request that is in none */
const char *lw_session_id(const lw_session *s);

extern const lw_builtin lw_session_builtins[]; /* /session/create, get, health, end */
extern const size_t lw_session_builtin_count;
extern const lw_builtin lw_session_end_builtin; /* for the internal port */
