/* SPDX-License-Identifier: MIT
 * Framing of answers for our own transport (exchange/lane); what comes through curl is framed
 * there. Line ends may be LF alone, as they may for curl. */
#include "wire/h1_frames.h"

enum {
  MOST_DIGITS = 16,  /* with leading zeros */
  MOST_SHIFTED = 59, /* bits of a size that takes one more digit: it stays below 2^63 */
  MOST_EXTENSION = 4096,
  MOST_TRAILERS = 65536
};

enum {
  DONE,
  UNTIL_END,
  LENGTH,
  SIZE,      /* digits of a chunk's size */
  EXTENSION, /* the rest of that line */
  DATA,
  DATA_END, /* the line end behind a chunk */
  TRAILERS
};

void lw_h1_frames_init(lw_h1_frames *f, const lw_h1_answer *a, bool to_head) {
  *f = (lw_h1_frames){.state = UNTIL_END};
  if (to_head || a->status == 204 || a->status == 304) {
    f->state = DONE;
  } else if (a->has_length) {
    f->state = a->length ? LENGTH : DONE;
    f->left = a->length;
  } else if (lw_headers_count(&a->headers, LW_SPAN("Transfer-Encoding"))) {
    f->state = SIZE;
  }
}

static const char *take_digit(lw_h1_frames *f, char c) {
  unsigned value = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                   : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                   : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A') + 10
                                          : 16;
  if (value < 16) {
    if (++f->digits > MOST_DIGITS || f->left >> MOST_SHIFTED) return "a chunk that is too long";
    f->left = f->left * 16 + value;
    return NULL;
  }
  if (f->digits == 0) return "a chunk without a size";
  if (c != '\r' && c != ';' && c != ' ' && c != '\t') return "a chunk size that is no number";
  f->state = EXTENSION;
  f->line = 0;
  return NULL;
}

static const char *take_trailer(lw_h1_frames *f, char c) {
  if (++f->total > MOST_TRAILERS) return "more than 64 KB of trailers";
  if (c == ':') f->colon = true;
  if (c != '\n') {
    f->line += c != '\r';
    return NULL;
  }
  if (f->line == 0) f->state = DONE;
  if (f->line > 0 && !f->colon) return "a trailer without a colon";
  f->line = 0;
  f->colon = false;
  return NULL;
}

static void begin_chunk(lw_h1_frames *f) {
  f->state = f->left ? DATA : TRAILERS;
  f->digits = 0;
  f->line = 0;
}

/* What lies between pieces of the body. */
static const char *take(lw_h1_frames *f, char c) {
  switch (f->state) {
    case SIZE:
      if (c != '\n' || f->digits == 0) return take_digit(f, c);
      begin_chunk(f);
      return NULL;
    case EXTENSION:
      if (c == '\n') {
        begin_chunk(f);
        return NULL;
      }
      return ++f->line > MOST_EXTENSION ? "a chunk extension without an end" : NULL;
    case DATA_END:
      if (c == '\n') {
        f->state = SIZE;
      } else if (c != '\r' || f->line++ > 0) {
        return "a chunk that is longer than its size";
      }
      return NULL;
    default:
      return take_trailer(f, c);
  }
}

lw_code lw_h1_frames_next(lw_h1_frames *f, lw_span *in, lw_span *body, const char **why) {
  for (; f->state != DONE && in->n > 0; in->p++, in->n--) {
    if (f->state != UNTIL_END && f->state != LENGTH && f->state != DATA) {
      *why = take(f, *in->p);
      if (*why) return LW_PROTOCOL;
      continue;
    }
    size_t n = f->state == UNTIL_END ? in->n : (size_t)LW_MIN((uint64_t)in->n, f->left);
    *body = (lw_span){in->p, n};
    *in = (lw_span){in->p + n, in->n - n};
    if (f->state == UNTIL_END) return LW_OK;
    f->left -= n;
    if (f->left == 0) f->state = f->state == LENGTH ? DONE : DATA_END;
    return LW_OK;
  }
  return f->state == DONE ? LW_EOF : LW_AGAIN;
}

bool lw_h1_frames_may_end(const lw_h1_frames *f) {
  return f->state == DONE || f->state == UNTIL_END;
}
