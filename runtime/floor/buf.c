/* SPDX-License-Identifier: MIT
 * The chunk queue behind every stream: how bytes are laid out in chunks, which chunk sizes are
 * used, and the spare pool. Knows nothing of sockets or of who fills and drains; called by conn,
 * upstream, pipe, h1_write and the body readers of scripts. Owns the chunks of each buf and the
 * pool, which is shared by the process and touched by the loop thread only. */
#include "floor/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n) ((void)0)
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)0)
#endif

/* Chunks in a buf are never empty: 0 <= start < end <= capacity. */
struct lw_chunk {
  struct lw_chunk *next;
  uint32_t start, end, capacity;
  uint32_t kind; /* index into the pool */
  char bytes[];
};

/* Three sizes: a slow stream of tokens pends a few hundred bytes and must not hold more than 2 KB;
 * 16 KB is what curl and TLS deliver at once; 64 KB carries large bodies. */
enum {
  SMALL,
  MIDDLE,
  LARGE,
  KINDS
};
#define HELD_FOR_MIDDLE 65536 /* this much waiting: even small appends get a middle chunk */

static struct {
  struct lw_chunk *first;
  uint32_t count;
  const uint32_t most, capacity;
} pool[KINDS] = {
    [SMALL] = {NULL, 0, 64, 2048},
    [MIDDLE] = {NULL, 0, 16, 16384},
    [LARGE] = {NULL, 0, 4, 65536},
};

static struct lw_chunk *take_chunk(uint32_t kind) {
  struct lw_chunk *c = pool[kind].first;
  if (c) {
    pool[kind].first = c->next;
    pool[kind].count--;
    ASAN_UNPOISON_MEMORY_REGION(c->bytes, c->capacity);
  } else {
    c = lw_alloc(sizeof *c + pool[kind].capacity);
    c->capacity = pool[kind].capacity;
    c->kind = kind;
  }
  c->next = NULL;
  c->start = c->end = 0;
  return c;
}

static void release_chunk(struct lw_chunk *c) {
  if (pool[c->kind].count >= pool[c->kind].most) {
    free(c);
    return;
  }
  /* A span kept too long shall be found by the sanitizer although the memory is not freed. */
  ASAN_POISON_MEMORY_REGION(c->bytes, c->capacity);
  c->next = pool[c->kind].first;
  pool[c->kind].first = c;
  pool[c->kind].count++;
}

void lw_buf_drop_spares(void) {
  for (uint32_t kind = 0; kind < KINDS; kind++) {
    while (pool[kind].first) {
      struct lw_chunk *c = pool[kind].first;
      pool[kind].first = c->next;
      free(c);
    }
    pool[kind].count = 0;
  }
}

static inline size_t ready(const struct lw_chunk *c) { return c->end - c->start; }
static inline size_t room(const struct lw_chunk *c) { return c ? c->capacity - c->end : 0; }

static inline void link_tail(lw_buf *b, struct lw_chunk *c) {
  if (b->tail)
    b->tail->next = c;
  else
    b->head = c;
  b->tail = c;
}

static inline struct lw_chunk *unlink_head(lw_buf *b) {
  struct lw_chunk *c = b->head;
  b->head = c->next;
  if (!b->head) b->tail = NULL;
  c->next = NULL;
  return c;
}

void lw_buf_init(lw_buf *b, size_t low, size_t high, size_t limit) {
  *b = (lw_buf){.low = low, .high = high, .limit = limit};
}

void lw_buf_fini(lw_buf *b) {
  while (b->head) release_chunk(unlink_head(b));
  b->size = 0;
}

static uint32_t kind_for(const lw_buf *b, size_t n) {
  if (n > 2 * pool[MIDDLE].capacity) return LARGE;
  if (n > pool[SMALL].capacity || b->size >= HELD_FOR_MIDDLE) return MIDDLE;
  return SMALL;
}

static void append(lw_buf *b, const char *p, size_t n) {
  while (n > 0) {
    struct lw_chunk *c = b->tail;
    if (room(c) == 0) {
      c = take_chunk(kind_for(b, n));
      link_tail(b, c);
    }
    size_t part = LW_MIN(n, room(c));
    memcpy(c->bytes + c->end, p, part);
    c->end += (uint32_t)part;
    b->size += part;
    p += part;
    n -= part;
  }
}

lw_code lw_buf_append(lw_buf *b, const void *p, size_t n) {
  if (b->limit > 0 && (b->size > b->limit || n > b->limit - b->size)) return LW_LIMIT;
  append(b, p, n);
  return LW_OK;
}

void lw_buf_add(lw_buf *b, const void *p, size_t n) {
  assert(b->limit == 0);
  append(b, p, n);
}

void lw_buf_printf(lw_buf *b, const char *format, ...) {
  char text[512];
  va_list args, again;
  va_start(args, format);
  va_copy(again, args);
  int n = vsnprintf(text, sizeof text, format, args);
  va_end(args);
  if (n < 0) lw_die("lw_buf_printf: the format \"%s\" failed", format);
  if ((size_t)n < sizeof text) {
    lw_buf_add(b, text, (size_t)n);
  } else {
    char *longer = lw_alloc((size_t)n + 1);
    vsnprintf(longer, (size_t)n + 1, format, again);
    lw_buf_add(b, longer, (size_t)n);
    free(longer);
  }
  va_end(again);
}

lw_span lw_buf_peek(const lw_buf *b) {
  const struct lw_chunk *c = b->head;
  return c ? (lw_span){c->bytes + c->start, ready(c)} : (lw_span){NULL, 0};
}

size_t lw_buf_peek_many(const lw_buf *b, lw_span *spans, size_t max) {
  size_t count = 0;
  for (const struct lw_chunk *c = b->head; c && count < max; c = c->next)
    spans[count++] = (lw_span){c->bytes + c->start, ready(c)};
  return count;
}

void lw_buf_consume(lw_buf *b, size_t n) {
  assert(n <= b->size);
  b->size -= n;
  while (n > 0) {
    struct lw_chunk *c = b->head;
    if (n < ready(c)) {
      c->start += (uint32_t)n;
      return;
    }
    n -= ready(c);
    release_chunk(unlink_head(b));
  }
}

/* Handing a chunk over leaves the room of `to`'s tail unused, and carries the chunk's own emptiness
 * along. Both are bounded, so that a buf never holds many times the bytes that wait in it. */
static inline bool worth_handing_over(const struct lw_chunk *c, const lw_buf *to) {
  return ready(c) >= c->capacity / 4 && ready(c) >= room(to->tail) / 2;
}

size_t lw_buf_take_all(lw_buf *b, char *out) {
  size_t n = 0;
  while (b->size > 0) {
    lw_span part = lw_buf_peek(b);
    memcpy(out + n, part.p, part.n);
    n += part.n;
    lw_buf_consume(b, part.n);
  }
  return n;
}

void lw_buf_move(lw_buf *to, lw_buf *from, size_t n) {
  assert(to != from && to->limit == 0 && n <= from->size);
  while (n > 0) {
    struct lw_chunk *c = from->head;
    size_t part = LW_MIN(n, ready(c));
    if (part == ready(c) && worth_handing_over(c, to)) {
      link_tail(to, unlink_head(from));
      to->size += part;
      from->size -= part;
    } else {
      append(to, c->bytes + c->start, part);
      lw_buf_consume(from, part);
    }
    n -= part;
  }
}
