/* SPDX-License-Identifier: MIT
 * Runs bytes through a parser as a connection would, and writes down what came of it, so that two
 * ways of feeding the same bytes can be compared as text. Used by test_h1_parse, test_h1_vectors
 * and fuzz_h1_parse.
 *
 *   POST /a?b path=/a query=b minor=1 keep expect chunked length=0
 *   [Host]=[x]
 *   body=[hello]
 *   ERROR 400 The ...          or:  HEAD, HEAD started, BODY (what was awaited at the end) */
#pragma once

#include <stdio.h>
#include <stdlib.h>

#include "wire/h1_parse.h"

#define TRACE_SPAN(s) (int)(s).n, (s).p

/* How many bytes the next feed gets, at least 1. */
typedef size_t h1_trace_piece(void *state);

static inline size_t h1_trace_whole(void *state) {
  (void)state;
  return SIZE_MAX;
}
/* state: size_t[2]: how many bytes the first feed gets, and how many each that follows. */
static inline size_t h1_trace_split(void *state) {
  size_t *sizes = state, first = sizes[0];
  sizes[0] = sizes[1];
  return first;
}

/* NULs are written as \0, so that the trace stays a C string. */
static inline void h1_trace_bytes(FILE *out, const char *before, lw_span s, const char *after) {
  fputs(before, out);
  for (size_t i = 0; i < s.n; i++) {
    if (s.p[i] == '\0') {
      fputs("\\0", out);
    } else {
      fputc(s.p[i], out);
    }
  }
  fputs(after, out);
}

static inline void h1_trace_head(FILE *out, const lw_h1_head *h) {
  h1_trace_bytes(out, "", h->method_text, " ");
  h1_trace_bytes(out, "", h->target, "");
  fprintf(out, " path=%.*s query=%.*s minor=%d%s%s%s%s length=%llu\n", TRACE_SPAN(h->path),
          TRACE_SPAN(h->query), h->minor, h->keep_alive ? " keep" : "",
          h->expect_continue ? " expect" : "", h->chunked ? " chunked" : "",
          h->has_length ? " sized" : "", (unsigned long long)h->length);
  for (size_t i = 0; i < h->headers.count; i++) {
    h1_trace_bytes(out, "[", h->headers.items[i].name, "]=");
    h1_trace_bytes(out, "[", h->headers.items[i].value, "]\n");
  }
}

/* Feeds one piece from a block of its own that is gone afterwards, so that a span into it shows. */
static inline size_t h1_trace_feed(lw_h1_parser *p, const char *bytes, size_t n) {
  char *copy = malloc(n ? n : 1);
  if (!copy) abort();
  memcpy(copy, bytes, n);
  size_t taken = lw_h1_feed(p, copy, n);
  if (taken > n) abort();
  memset(copy, '#', n);
  free(copy);
  return taken;
}

/* The trace, to be freed. The parser is left where the bytes end. Inlined, gcc 12 takes the memory
 * stream's text for the address of its variable (-Wdangling-pointer). */
__attribute__((noinline, unused)) static char *h1_trace(lw_h1_parser *p, const char *bytes,
                                                        size_t n, uint64_t max_body,
                                                        h1_trace_piece *piece, void *state) {
  char *text = NULL;
  size_t size = 0;
  FILE *out = open_memstream(&text, &size);
  if (!out) abort();
  lw_body *body = NULL;
  for (size_t at = 0;;) {
    lw_h1_state now = lw_h1_state_of(p);
    if (now == LW_H1_READY) {
      h1_trace_head(out, lw_h1_head_of(p));
      lw_body_unref(body);
      body = lw_body_new();
      lw_h1_begin_body(p, body, max_body);
    } else if (now == LW_H1_DONE) {
      h1_trace_head(out, lw_h1_head_of(p)); /* again: the spans must have stayed good */
      h1_trace_bytes(out, "body=[", (lw_span){body->p, body->n}, "]\n");
      lw_h1_next(p);
    } else if (now == LW_H1_ERROR) {
      fprintf(out, "ERROR %d %s\n", lw_h1_error_status(p), lw_h1_error_text(p));
      break;
    } else if (at == n) {
      fprintf(out, "%s%s\n", now == LW_H1_BODY ? "BODY" : "HEAD",
              now == LW_H1_HEAD && lw_h1_started(p) ? " started" : "");
      break;
    } else {
      size_t wanted = piece(state);
      size_t size_now = LW_MIN(wanted, n - at);
      size_t taken = h1_trace_feed(p, bytes + at, size_now);
      if (taken < size_now && lw_h1_state_of(p) == now && now != LW_H1_ERROR) abort();
      at += taken;
    }
  }
  lw_body_unref(body);
  fclose(out);
  return text;
}

/* The trace of a new parser that gets `first` bytes and then `rest` at a time. */
static inline char *h1_trace_new(const lw_h1_limits *limits, uint64_t max_body, const char *bytes,
                                 size_t n, size_t first, size_t rest) {
  lw_h1_parser *p = lw_h1_new(limits);
  size_t sizes[2] = {first, rest};
  char *text = h1_trace(p, bytes, n, max_body, h1_trace_split, sizes);
  lw_h1_free(p);
  return text;
}
/* Fed whole; ends the process when single bytes give another trace. */
static inline char *h1_trace_both(const lw_h1_limits *limits, uint64_t max_body, const char *bytes,
                                  size_t n) {
  char *whole = h1_trace_new(limits, max_body, bytes, n, SIZE_MAX, SIZE_MAX);
  char *single = h1_trace_new(limits, max_body, bytes, n, 1, 1);
  if (strcmp(whole, single) != 0) {
    fprintf(stderr, "whole\n%s\nand in single bytes\n%s\n", whole, single);
    abort();
  }
  free(single);
  return whole;
}

/* The status of the error in a trace, 0 when there is none. */
static inline int h1_trace_status(const char *text) {
  const char *error = strstr(text, "ERROR ");
  return error ? atoi(error + 6) : 0;
}

static inline bool h1_trace_ends(const char *text, const char *end) {
  size_t size = strlen(text), wanted = strlen(end);
  return size >= wanted && strcmp(text + size - wanted, end) == 0;
}

#define H1_AWAITS_MORE 1
/* 0 when all was taken and a request completed, else the status. */
static inline int h1_trace_verdict(const lw_h1_limits *limits, uint64_t max_body, const char *bytes,
                                   size_t n) {
  char *text = h1_trace_both(limits, max_body, bytes, n);
  int status = h1_trace_status(text);
  if (status == 0 && !h1_trace_ends(text, "]\nHEAD\n")) status = H1_AWAITS_MORE;
  free(text);
  return status;
}

/* The verdict on `before`, n times c, `after`. */
static inline int h1_trace_run_of(const lw_h1_limits *limits, uint64_t max_body, const char *before,
                                  char c, size_t n, const char *after) {
  size_t a = strlen(before), b = strlen(after);
  char *request = lw_alloc(a + n + b);
  memcpy(request, before, a);
  memset(request + a, c, n);
  memcpy(request + a + n, after, b);
  int status = h1_trace_verdict(limits, max_body, request, a + n + b);
  free(request);
  return status;
}
