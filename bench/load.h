/* SPDX-License-Identifier: MIT
 * What load.c stands on: an HTTP/1.1 answer read piece by piece, and a histogram. Just enough for a
 * load generator: no trailers' meaning, no answers without length other than chunked ones. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef enum answer_phase {
  ANSWER_HEAD,
  ANSWER_LENGTH,     /* a body of known length */
  ANSWER_CHUNK_SIZE, /* the line before a chunk */
  ANSWER_CHUNK,
  ANSWER_CHUNK_END, /* the line break after it */
  ANSWER_TRAILER,
  ANSWER_DONE,
  ANSWER_BAD,
} answer_phase;

typedef void (*answer_body)(void *user, const char *p, size_t n);

typedef struct answer {
  answer_phase phase;
  int status;
  bool keeps_alive;
  size_t left; /* of the body or chunk; in lines: bytes seen */
  answer_body on_body;
  void *user;
  size_t head_n;
  char head[4096];
} answer;

static inline void answer_begin(answer *a, void *user) {
  a->phase = ANSWER_HEAD;
  a->status = 0;
  a->head_n = a->left = 0;
  a->user = user;
}

/* Returns how many of the bytes belong to the head. */
static inline size_t answer_head(answer *a, const char *p, size_t n) {
  size_t room = sizeof a->head - 1 - a->head_n, part = n < room ? n : room, before = a->head_n;
  memcpy(a->head + a->head_n, p, part);
  a->head_n += part;
  a->head[a->head_n] = 0;
  char *end = strstr(a->head, "\r\n\r\n");
  if (!end) {
    if (part == room) a->phase = ANSWER_BAD;
    return part;
  }
  end[2] = 0;
  a->status = a->head_n > 12 ? atoi(a->head + 9) : 0;
  a->keeps_alive = !strcasestr(a->head, "\r\nConnection: close");
  char *length = strcasestr(a->head, "\r\nContent-Length:");
  a->left = length ? strtoul(length + 17, NULL, 10) : 0;
  if (strcasestr(a->head, "\r\nTransfer-Encoding: chunked")) {
    a->phase = ANSWER_CHUNK_SIZE;
    a->left = 0;
  } else if (length) {
    a->phase = a->left ? ANSWER_LENGTH : ANSWER_DONE;
  } else {
    a->phase = ANSWER_BAD;
  }
  return (size_t)(end + 4 - a->head) - before;
}

static inline void answer_size_digit(answer *a, char c) {
  if (c == '\n') {
    a->phase = a->left ? ANSWER_CHUNK : ANSWER_TRAILER;
  } else if (c >= '0' && c <= '9') {
    a->left = a->left * 16 + (size_t)(c - '0');
  } else if ((c | 32) >= 'a' && (c | 32) <= 'f') {
    a->left = a->left * 16 + (size_t)((c | 32) - 'a' + 10);
  } else if (c != '\r') {
    a->phase = ANSWER_BAD;
  }
}

static inline size_t answer_body_part(answer *a, const char *p, size_t n) {
  size_t part = n < a->left ? n : a->left;
  a->on_body(a->user, p, part);
  a->left -= part;
  if (a->left == 0) a->phase = a->phase == ANSWER_CHUNK ? ANSWER_CHUNK_END : ANSWER_DONE;
  return part;
}

/* Bytes after the end are ignored: requests are not pipelined. */
static inline void answer_take(answer *a, const char *p, size_t n) {
  while (n > 0 && a->phase < ANSWER_DONE) {
    size_t part = 1;
    switch (a->phase) {
      case ANSWER_HEAD:
        part = answer_head(a, p, n);
        break;
      case ANSWER_LENGTH:
      case ANSWER_CHUNK:
        part = answer_body_part(a, p, n);
        break;
      case ANSWER_CHUNK_SIZE:
        answer_size_digit(a, *p);
        break;
      case ANSWER_CHUNK_END:
        if (*p == '\n') a->phase = ANSWER_CHUNK_SIZE;
        break;
      default: /* the trailer ends with an empty line */
        if (*p == '\n' && a->left == 0) a->phase = ANSWER_DONE;
        if (*p != '\r') a->left = *p == '\n' ? 0 : a->left + 1;
    }
    p += part;
    n -= part;
  }
}

/* Nanoseconds in buckets of 1/64 of their power of two: exact to 1.6 %. */
enum {
  HISTOGRAM_SUB = 64,
  HISTOGRAM_BUCKETS = 58 * HISTOGRAM_SUB
};
typedef struct histogram {
  uint64_t count, max, buckets[HISTOGRAM_BUCKETS];
} histogram;

static inline void histogram_add(histogram *h, uint64_t v) {
  unsigned shift = v < HISTOGRAM_SUB ? 0 : 63u - 6u - (unsigned)__builtin_clzll(v);
  unsigned i = shift * HISTOGRAM_SUB + (unsigned)(v >> shift);
  h->buckets[i < HISTOGRAM_BUCKETS ? i : HISTOGRAM_BUCKETS - 1]++;
  h->count++;
  if (v > h->max) h->max = v;
}

/* The value that a share of all do not exceed, 0 when there are none. */
static inline double histogram_at(const histogram *h, double share) {
  uint64_t rank = (uint64_t)(share * (double)h->count), seen = 0;
  for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
    seen += h->buckets[i];
    if (seen <= rank) continue;
    unsigned shift = i < 2 * HISTOGRAM_SUB ? 0 : i / HISTOGRAM_SUB - 1;
    return (double)((uint64_t)(i - shift * HISTOGRAM_SUB) << shift);
  }
  return (double)h->max;
}
