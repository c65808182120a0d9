/* SPDX-License-Identifier: MIT
 * The few functions of base.h that are not inline: code names, span helpers, allocation that ends
 * the process instead of failing, the clocks. Called by every room; keeps no state. */
#include "floor/base.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

const char *lw_code_name(lw_code code) {
  static const char *const names[] = {
      [LW_OK] = "ok",           [LW_AGAIN] = "again",
      [LW_EOF] = "eof",         [LW_CANCELLED] = "cancelled",
      [LW_TIMEOUT] = "timeout", [LW_CLOSED] = "closed",
      [LW_LIMIT] = "limit",     [LW_PROTOCOL] = "protocol",
      [LW_IO] = "io",           [LW_BUSY] = "busy",
      [LW_MISUSE] = "misuse",
  };
  return (size_t)code < LW_ARRAY_SIZE(names) ? names[code] : "unknown";
}

static inline unsigned char lower(unsigned char c) {
  return (unsigned char)(c - 'A') < 26 ? (unsigned char)(c | 0x20) : c;
}

bool lw_span_ieq(lw_span a, lw_span b) {
  if (a.n != b.n) return false;
  for (size_t i = 0; i < a.n; i++) {
    unsigned char x = (unsigned char)a.p[i], y = (unsigned char)b.p[i];
    if (x != y && lower(x) != lower(y)) return false;
  }
  return true;
}

lw_span lw_span_trim(lw_span s) {
  while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t')) s.p++, s.n--;
  while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t')) s.n--;
  return s;
}

bool lw_span_next(lw_span *rest, char sep, lw_span *item) {
  while (rest->n > 0) {
    const char *end = memchr(rest->p, sep, rest->n);
    size_t length = end ? (size_t)(end - rest->p) : rest->n;
    *item = lw_span_trim((lw_span){rest->p, length});
    size_t taken = end ? length + 1 : length;
    rest->p += taken;
    rest->n -= taken;
    if (item->n > 0) return true;
  }
  *item = (lw_span){0, 0};
  return false;
}

static void *checked(void *p, size_t n) {
  if (!p) lw_die("out of memory: %zu bytes refused", n);
  return p;
}

/* malloc(0) may be NULL, and nobody above wants to tell that from a failure. */
void *lw_alloc(size_t n) { return checked(malloc(n ? n : 1), n); }

void *lw_calloc(size_t count, size_t n) {
  if (count == 0 || n == 0) count = n = 1;
  return checked(calloc(count, n), count * n);
}

void *lw_realloc(void *p, size_t n) { return checked(realloc(p, n ? n : 1), n); }

char *lw_strdup_n(const char *p, size_t n) {
  char *copy = lw_alloc(n + 1);
  if (n > 0) memcpy(copy, p, n);
  copy[n] = '\0';
  return copy;
}

char *lw_printf_dup(const char *format, ...) {
  char *text = NULL;
  va_list args;
  va_start(args, format);
  int n = vasprintf(&text, format, args);
  va_end(args);
  if (n < 0) lw_die("out of memory: a formatted text was refused");
  return text;
}

uint64_t lw_now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

double lw_wall_s(void) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

void lw_die(const char *format, ...) {
  char line[1024];
  va_list args;
  va_start(args, format);
  int n = vsnprintf(line, sizeof line - 1, format, args);
  va_end(args);
  size_t length = n < 0 ? 0 : LW_MIN((size_t)n, sizeof line - 2);
  line[length++] = '\n';
  /* Straight to the descriptor: there may be no memory left for stdio. */
  ssize_t ignored = write(STDERR_FILENO, line, length);
  (void)ignored;
  abort();
}
