/* SPDX-License-Identifier: MIT
 * A request body: contiguous, growing as bytes arrive (never by what a length field promises), with
 * LW_BODY_PADDING readable bytes after the end for the JSON parser. Counted references: a body may
 * outlive its request while its bytes are being sent on. */
#pragma once

#include "floor/base.h"

#define LW_BODY_PADDING 64
typedef struct lw_body {
  char *p;
  size_t n, capacity;
  int refs;
} lw_body;
lw_body *lw_body_new(void); /* refs = 1 */
lw_body *lw_body_ref(lw_body *b);
void lw_body_unref(lw_body *b); /* NULL is fine */
/* Gives spare room back; the bytes may move. Does nothing while others hold references. */
void lw_body_trim(lw_body *b);
void lw_body_append(lw_body *b, const char *p, size_t n);
