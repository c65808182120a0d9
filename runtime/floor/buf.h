/* SPDX-License-Identifier: MIT
 * A bounded byte queue made of chunks: append at the tail, peek and consume at the head.
 *
 *   head chunk            next chunk            tail chunk
 *   [ sent | ready.... ] → [ ready......... ] → [ ready.. | room... ]
 *          ^ peek starts here                             ^ append goes here
 *
 * `high` and `low` are water marks for whoever fills it: stop filling once lw_buf_is_high(), start
 * again at lw_buf_is_low(). They do not refuse bytes. `limit` does: an append beyond it returns
 * LW_LIMIT and changes nothing. Emptied chunks go to a small spare pool shared by the process (the
 * runtime has one loop thread); an empty buf holds no memory. Never calls back. */
#pragma once

#include "floor/base.h"

struct lw_chunk;

typedef struct lw_buf {
  struct lw_chunk *head, *tail; /* private */
  size_t size;                  /* bytes ready; read-only */
  size_t low, high, limit;
} lw_buf;

/* limit 0: no hard bound (only for buffers whose filler obeys the water marks). */
void lw_buf_init(lw_buf *b, size_t low, size_t high, size_t limit);
void lw_buf_fini(lw_buf *b); /* drops what is left; may be called twice */

lw_code lw_buf_append(lw_buf *b, const void *p, size_t n) LW_MUST_CHECK;
/* For bytes whose amount the caller bounds by the water marks; asserts that no limit is set. */
void lw_buf_add(lw_buf *b, const void *p, size_t n);
static inline void lw_buf_add_span(lw_buf *b, lw_span s) { lw_buf_add(b, s.p, s.n); }
void lw_buf_printf(lw_buf *b, const char *format, ...) LW_PRINTF(2, 3);

/* The first contiguous bytes; n = 0 when empty. Valid until the next append, consume or fini. */
lw_span lw_buf_peek(const lw_buf *b);
/* Up to `max` spans from the head, for writev; returns how many. Same validity. */
size_t lw_buf_peek_many(const lw_buf *b, lw_span *spans, size_t max);
/* Drops n bytes from the head; n <= size. */
void lw_buf_consume(lw_buf *b, size_t n);
/* Moves all bytes to `out`, which has room for b->size of them; returns how many. */
size_t lw_buf_take_all(lw_buf *b, char *out);
/* Moves the first n bytes of `from` (n <= from->size) to the end of `to`: whole large chunks change
 * hands without a copy, small pieces are copied so that chunks stay filled. `to` must have no
 * limit. */
void lw_buf_move(lw_buf *to, lw_buf *from, size_t n);

static inline bool lw_buf_is_high(const lw_buf *b) { return b->size >= b->high; }
static inline bool lw_buf_is_low(const lw_buf *b) { return b->size <= b->low; }

/* Frees the spare pool (at exit, so that leak checkers see a clean heap). */
void lw_buf_drop_spares(void);
