/* SPDX-License-Identifier: MIT
 * A request body in one block: as large as the first bytes that arrive, then doubling. Sets no
 * limit: h1_parse, which fills it, does. Shared by request, json and upstream, each with a counted
 * reference; the last one frees. */
#include "wire/body.h"

#include <stdlib.h>

#define LEAST_CAPACITY 256

/* What a body without bytes points to. */
static char nothing[LW_BODY_PADDING];

/* The bytes after the end are zeros, so that what a parser reads past it is always the same. */
static inline void clear_padding(lw_body *b) { memset(b->p + b->n, 0, LW_BODY_PADDING); }

lw_body *lw_body_new(void) {
  lw_body *b = lw_alloc(sizeof *b);
  *b = (lw_body){nothing, 0, 0, 1};
  return b;
}

lw_body *lw_body_ref(lw_body *b) {
  assert(b->refs > 0);
  b->refs++;
  return b;
}

void lw_body_unref(lw_body *b) {
  if (!b) return;
  assert(b->refs > 0);
  if (--b->refs > 0) return;
  if (b->capacity) free(b->p);
  free(b);
}

void lw_body_append(lw_body *b, const char *p, size_t n) {
  if (n == 0) return;
  if (n > b->capacity - b->n) {
    assert(n <= SIZE_MAX / 4 - b->n);
    size_t capacity = LW_MAX(LW_MAX(b->capacity * 2, b->n + n), (size_t)LEAST_CAPACITY);
    b->p = lw_realloc(b->capacity ? b->p : NULL, capacity + LW_BODY_PADDING);
    b->capacity = capacity;
  }
  memcpy(b->p + b->n, p, n);
  b->n += n;
  clear_padding(b);
}

void lw_body_trim(lw_body *b) {
  if (b->refs > 1 || b->n == 0 || b->capacity - b->n < LEAST_CAPACITY) return;
  b->p = lw_realloc(b->p, b->n + LW_BODY_PADDING);
  b->capacity = b->n;
}
