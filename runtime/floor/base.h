/* SPDX-License-Identifier: MIT
 * What every room stands on: result codes, byte spans, allocation that cannot fail, container_of.
 * No state, no libraries. */
#pragma once

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The one set of result codes. Lengths never travel in them; error text belongs to the object.
 * Text between `cdef: begin` and `cdef: end`, here, in wire/json.h and in script/api.h, is also
 * what the Lua library declares to the FFI: plain C without preprocessor lines. */
/* cdef: begin */
typedef enum lw_code {
  LW_OK = 0,
  LW_AGAIN = 1,     /* not yet: wait to be woken, then make the same call again */
  LW_EOF = 2,       /* the stream has ended well */
  LW_CANCELLED = 3, /* the request or task was cancelled, e.g. its client left */
  LW_TIMEOUT = 4,   /* a deadline passed */
  LW_CLOSED = 5,    /* the other side closed where it should not have */
  LW_LIMIT = 6,     /* a configured bound would be exceeded */
  LW_PROTOCOL = 7,  /* the peer broke the protocol */
  LW_IO = 8,        /* the operating system or the network refused */
  LW_BUSY = 9,      /* refused by admission */
  LW_MISUSE = 10,   /* the caller used the interface wrongly */
} lw_code;
/* cdef: end */

/* The code's name in lower case, e.g. "timeout". Static text. */
const char *lw_code_name(lw_code code);

#define LW_MUST_CHECK __attribute__((warn_unused_result))
#define LW_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define LW_EXPORT __attribute__((visibility("default"))) /* reachable from Lua's FFI */

#define LW_CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define LW_ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define LW_MIN(a, b) ((a) < (b) ? (a) : (b))
#define LW_MAX(a, b) ((a) > (b) ? (a) : (b))

/* cdef: begin */
/* Borrowed bytes: never owned through this type, may hold NULs. */
typedef struct lw_span {
  const char *p;
  size_t n;
} lw_span;
/* cdef: end */

#define LW_SPAN(literal) ((lw_span){"" literal, sizeof(literal) - 1})

static inline lw_span lw_span_of(const char *text) {
  return (lw_span){text, text ? strlen(text) : 0};
}
static inline bool lw_span_eq(lw_span a, lw_span b) {
  return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}
/* Equal but for ASCII case (field names, tokens). */
bool lw_span_ieq(lw_span a, lw_span b);
/* Without leading and trailing spaces and tabs (RFC 9110 OWS). */
lw_span lw_span_trim(lw_span s);
/* Takes the next `sep`-separated, trimmed item off the front of *rest; false at the end.
 * Empty items are passed over. */
bool lw_span_next(lw_span *rest, char sep, lw_span *item);

/* Allocation: out of memory ends the process with a message, so these never return NULL.
 * Sizes a peer chooses must have been checked against a limit before. */
void *lw_alloc(size_t n);                /* not cleared */
void *lw_calloc(size_t count, size_t n); /* cleared */
void *lw_realloc(void *p, size_t n);
char *lw_strdup_n(const char *p, size_t n); /* a NUL-terminated copy */
static inline char *lw_span_dup(lw_span s) { return lw_strdup_n(s.p, s.n); }
static inline char *lw_strdup(const char *text) { return lw_strdup_n(text, strlen(text)); }
char *lw_printf_dup(const char *format, ...) LW_PRINTF(1, 2);

/* Monotonic clock, nanoseconds and milliseconds since an arbitrary start. */
uint64_t lw_now_ns(void);
static inline uint64_t lw_now_ms(void) { return lw_now_ns() / 1000000; }
/* A wait given in seconds. 0 or less: 0, which is "none"; the least above it stays above it, and
 * what is longer than 31 years is as good as for ever, and safe to add to the clock. */
static inline uint64_t lw_ms(double seconds) {
  if (!(seconds > 0)) return 0;
  return seconds < 0.001 ? 1 : (uint64_t)(LW_MIN(seconds, 1e9) * 1000 + 0.5);
}
/* Wall clock, seconds since the epoch. */
double lw_wall_s(void);

/* Ends the process with a message: a broken promise of our own, or no memory. */
_Noreturn void lw_die(const char *format, ...) LW_PRINTF(1, 2);
