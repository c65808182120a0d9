/* SPDX-License-Identifier: MIT
 * One request's walk through the worker, from the complete request to its one end:
 *
 *   envelope → signature → [task: payload hooks] → admission → wait for the turn
 *     → call the model → [task: response hook | pipe] → end: account, log line, release
 *
 * A plain handler's request begins at its task, a forwarded one at its call. Scripts act on it only
 * through the functions below; each checks that its call makes sense in the present state. */
#pragma once

#include "exchange/pipe.h"
#include "wire/doc.h"
#include "worker/account.h"
#include "worker/queue.h"
#include "worker/route.h"

typedef enum lw_admission {
  LW_ADMIT_NOT_ASKED,
  LW_ADMIT_QUEUED,
  LW_ADMIT_GRANTED,
  LW_ADMIT_REFUSED
} lw_admission;

typedef struct lw_work {
  lw_request *request;
  lw_route *route;
  struct lw_task *task; /* NULL: none runs */
  lw_record record;
  bool counted; /* the record is in the account */
  lw_admission admission;
  lw_queue_entry entry;
  lw_timer queue_deadline;
  lw_wake wake; /* its turn has come, or its time in the queue is over */
  bool turn, expired;
  lw_doc *doc; /* the envelope, while a hook may ask for it */
  uint32_t payload_root;
  lw_span payload;     /* within request->body */
  lw_body *model_body; /* what a hook made of it; NULL: the payload as it came */
  int64_t reqnum, request_idx;
  double cost;
  lw_upstream *upstream; /* the piped call to the model */
  lw_pipe pipe;
  int model_status;
  struct lw_session *session;              /* which it is in; NULL: none */
  lw_list session_node;                    /* private to worker/session */
  bool dropped;                            /* its session was closed: it counts as cancelled */
  uint64_t model_begun_ns, model_ended_ns; /* monotonic; 0: not yet */
  bool failed;                             /* it counts as an error */
  const char *source;                      /* who failed: static text */
  char *error;                             /* for the log line */
} lw_work;

/* r is complete and its owner from now on. */
void lw_work_begin(lw_route *route, lw_request *r);
void lw_work_on_gone(lw_request *r); /* its client left */
/* The program ends: what goes on for a request that is over, a drained call, its script, stops. */
void lw_work_on_cut(lw_request *r);
void lw_work_on_turn(lw_queue_entry *entry);
/* Its session was closed: answers 410 if nothing was sent yet, else cuts; the model call stops. */
void lw_work_drop(lw_work *w);

/* -- for scripts; all in the drain -- */
static inline lw_work *lw_work_of(const lw_request *r) { return r->work; }
/* 422 with this JSON body. */
lw_code lw_work_invalid(lw_work *w, lw_span json);
void lw_work_set_model_body(lw_work *w, lw_span json); /* copies */
void lw_work_add_model_body(lw_work *w, lw_span json); /* to what was set */
/* LW_OK, LW_AGAIN (its task is woken), LW_BUSY (answered), LW_CANCELLED. */
lw_code lw_work_admit(lw_work *w, double workload);
void lw_work_forward(lw_work *w); /* model's answer passed through */
/* Passes on the answer of an upstream that a script opened and started. Takes it over. */
void lw_work_forward_answer(lw_work *w, lw_upstream *u);
/* Opens, not yet started, the route's call to the model with the payload or model body. */
lw_upstream *lw_work_call(lw_work *w, lw_wake *wake);
/* What came of a script's call to the model: decides success or error at the end. */
void lw_work_note_model(lw_work *w, int status, lw_code failure, const char *error);
/* A script calls the model: gives back what is not needed while the answer comes (the parsed
 * envelope, spare room of the body). */
void lw_work_keep_little(lw_work *w);
/* Its script's call to the model is cancelled: takes the upstream over when the client left and the
 * route lets the model finish; false: the caller closes it. */
bool lw_work_drain(lw_work *w, lw_upstream *u);
/* The model is done with this request: the queue's slot goes to the next. */
void lw_work_model_done(lw_work *w);
/* It failed: answers {"error": text, "source": source} or cuts. source is static text. why, for the
 * request's log line: what the client is not told; {0,0}: nothing else than text. A text about the
 * model goes to the client without the address. */
void lw_work_fail(lw_work *w, int status, const char *source, const char *text, lw_span why);
void lw_work_task_done(lw_work *w); /* its task has ended */

int lw_work_status_for(lw_code failure); /* 504 for a silent model, else 502 */
