/* SPDX-License-Identifier: MIT
 * What a call asks for, and how curl is told: method, URL, fields, body, whom to trust. A handle is
 * used for many calls, mostly alike, so only what differs from the last one is told. */
#pragma once

#include "exchange/fields.h"
#include "wire/body.h"

struct curl_slist;

typedef struct lw_asking_method {
  int kind;
  char name[24];
} lw_asking_method;

typedef struct lw_asking {
  void *easy; /* the curl handle; borrowed; NULL: none is needed so far */
  lw_asking_method method, applied_method;
  char *url; /* read-only; kept for the next call, which often has the same */
  bool url_applied;
  bool single; /* the server has one address, known without looking up */
  char *applied_ca;
  bool applied_insecure;
  uint64_t applied_connect_ms;
  lw_fields fields;
  struct curl_slist *nodes; /* the same fields as curl wants them */
  size_t nodes_capacity;
  lw_body *body; /* NULL once it can't be needed any more */
  lw_span bytes; /* within it */
  char *head;
  size_t head_capacity;
} lw_asking;

typedef struct lw_asking_terms {
  const char *ca_file; /* NULL: the system's authorities */
  bool insecure;       /* no certificate is looked at */
  uint64_t connect_ms; /* 0: none */
} lw_asking_terms;

/* All zero to begin with. Before the first apply: the handle, with the options that hold for all
 * calls. */
void lw_asking_bind(lw_asking *a, void *easy);
void lw_asking_fini(lw_asking *a);
/* A new call. Copies both. */
void lw_asking_open(lw_asking *a, lw_span method, lw_span url);
/* Holds a reference to `owner`, in which `bytes` are, until drop_body or clear. */
void lw_asking_set_body(lw_asking *a, lw_body *owner, lw_span bytes);
void lw_asking_drop_body(lw_asking *a);
/* NULL, or why this can't be asked; static text. */
LW_MUST_CHECK const char *lw_asking_mistake(const lw_asking *a);
void lw_asking_apply(lw_asking *a, const lw_asking_terms *terms);
/* For a transport that is not curl, in place of apply: the request's head, until the next call. */
lw_span lw_asking_head(lw_asking *a, lw_span host, lw_span path);
bool lw_asking_is_head(const lw_asking *a); /* a HEAD request */
/* The call is over: forgets all of it that the next one does not share. */
void lw_asking_clear(lw_asking *a);
