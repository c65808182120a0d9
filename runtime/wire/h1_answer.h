/* SPDX-License-Identifier: MIT
 * The head of an HTTP/1 answer, from its lines. Interim heads (1xx) are checked and dropped,
 * trailers only counted. Framing is not done here: the transport does it; what it announces is
 * checked, so that both sides of a proxy mean the same. Pure: no I/O, no callbacks. */
#pragma once

#include "floor/base.h"
#include "wire/headers.h"

enum {
  LW_H1_ANSWER_MAX_BYTES = 64 * 1024,
  LW_H1_ANSWER_MAX_FIELDS = 256
};

typedef struct lw_h1_answer { /* read-only; valid as far as `begun` and `complete` say */
  lw_headers headers;         /* of the final head, owned */
  int status;                 /* once begun */
  bool begun;                 /* the final status line came */
  bool complete;              /* the final head's empty line came */
  bool has_length;            /* it has a Content-Length, and no Transfer-Encoding to override it */
  uint64_t length;
  bool inside;  /* between a status line and the empty line */
  size_t bytes; /* of all lines, interim heads and trailers too */
} lw_h1_answer;

void lw_h1_answer_init(lw_h1_answer *a);
void lw_h1_answer_fini(lw_h1_answer *a);

/* Takes one line with its line end (CRLF, or LF alone). Returns NULL, or what is wrong with it as a
 * noun phrase ("a folded header field"; static text), after which no more may be given. Refused
 * are: a status line other than HTTP/1.x with three digits, 101, folded fields (obs-fold), illegal
 * names and values, Content-Lengths that are no number or differ, a Transfer-Encoding other than
 * chunked (nobody would decode it), and more than the limits above. */
LW_MUST_CHECK const char *lw_h1_answer_line(lw_h1_answer *a, lw_span line);
/* Its Keep-Alive field's timeout: how long the server keeps the connection when it is idle. False:
 * it does not say. */
bool lw_h1_answer_keep_alive(const lw_h1_answer *a, uint64_t *seconds);
