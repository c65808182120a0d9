/* SPDX-License-Identifier: MIT
 * A parsed JSON document together with its text, counted: the request, and Lua if it kept a lazy
 * string, each hold a reference. Parsed documents are recycled, so that parsing a small request
 * allocates nothing. */
#pragma once

#include "wire/body.h"
#include "wire/json.h"

typedef struct lw_doc {
  lw_json json;
  lw_body *body; /* the text; owned reference */
  int refs;
} lw_doc;

/* Parses body's bytes (a new reference to body is taken). Never NULL; refs = 1. json.error tells
 * whether it is JSON. */
lw_doc *lw_doc_parse(lw_body *body);
/* The same over a copy of p. */
lw_doc *lw_doc_parse_copy(const char *p, size_t n);
lw_doc *lw_doc_ref(lw_doc *d);
void lw_doc_unref(lw_doc *d); /* NULL is fine */
void lw_doc_drop_spares(void);
