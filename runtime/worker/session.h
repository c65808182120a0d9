/* SPDX-License-Identifier: MIT
 * Sessions (protocol §6): a client opens one for several requests, each of which keeps it alive for
 * longer; it is closed by its client, by time, or with the worker. Then the requests that run in it
 * are dropped and the model server is told, if the client asked for that (on_close_route).
 *
 * session.c has the sessions and their life, session_routes.c what clients ask of them. Each is one
 * record in the account, from its opening to its closing. They are the process's, not the script's:
 * a reload keeps them. */
#pragma once

#include "worker/builtin.h"
#include "worker/service.h"
#include "worker/work.h"

enum {
  LW_SESSION_ID_SIZE = 13,
  LW_SESSION_TEXT_MAX = 65536, /* of auth_data, and of on_close_payload */
};

typedef struct lw_session {
  lw_list node;            /* private: among those open, in line for their call, or in it */
  struct lw_session *next; /* private: in its bucket */
  char id[LW_SESSION_ID_SIZE + 1];
  char lifetime_text[32]; /* as the client wrote it */
  char *auth_data, *on_close_route,
      *on_close_payload;                   /* JSON, path, JSON; the latter may be NULL */
  double lifetime, created_at, expiration; /* seconds, wall clock */
  double due_s, closed_s; /* by the monotonic clock, which nobody sets: what counts */
  bool closed;            /* nobody can join; it is here until the model server was told */
  lw_record record;
  lw_list requests;  /* lw_work.session_node */
  lw_upstream *call; /* to on_close_route */
  lw_wake wake;
  lw_request *ender; /* waits for that call's end; NULL: nobody does */
} lw_session;

/* What a client asked for, checked; all is copied. */
typedef struct lw_session_terms {
  lw_span auth_data, lifetime_text, on_close_route, on_close_payload; /* {0,0}: none */
  double lifetime, cost;
  int64_t reqnum, request_idx;
} lw_session_terms;

/* The present router of the site gives max_sessions and the model server; borrowed until stop. */
void lw_sessions_start(const lw_site *site);
/* Closes all at once, without their on_close calls; whoever waits for one is answered. May not have
 * begun. */
void lw_sessions_stop(void);
unsigned lw_sessions_count(void); /* open ones */
/* Closes those whose time is over at this moment of the monotonic clock: by itself every 5 s. */
void lw_sessions_expire(double now_s);

/* NULL with *why when too many are open (static text). */
lw_session *lw_session_open(const lw_session_terms *terms, const char **why);
lw_session *lw_session_find(lw_span id); /* also one that is closed, while it is here */
/* Of an open one. True: its model server is told now, it lives until then. False: it is freed. */
bool lw_session_close(lw_session *s);

/* The request joins the open session `id`, whose time is extended; false: there is none. It leaves
 * when it is over. */
bool lw_session_join(lw_work *w, lw_span id);
void lw_session_leave(lw_work *w); /* no-op for a request that is in none */
const char *lw_session_id(const lw_session *s);

/* The call that its ender waited for is over, or took too long. Answers; for session.c alone. */
void lw_session_answer_ended(lw_request *ender, const char *id);

extern const lw_builtin lw_session_builtins[]; /* /session/create, get, health, end */
extern const size_t lw_session_builtin_count;
extern const lw_builtin lw_session_end_builtin; /* for the internal port */
