/* SPDX-License-Identifier: MIT
 * Where the body of an HTTP/1 answer lies in the bytes behind its head, and where it ends (RFC 9112
 * §6): by its length, in chunks, with the connection, or there is none. Pure: no I/O, keeps no
 * bytes. */
#pragma once

#include "wire/h1_answer.h"

typedef struct lw_h1_frames { /* private */
  int state;
  unsigned digits;
  uint64_t left;
  size_t line, total;
  bool colon; /* in the line of a trailer */
} lw_h1_frames;

/* `a` is complete. to_head: it answers a HEAD request, so no body follows. */
void lw_h1_frames_init(lw_h1_frames *f, const lw_h1_answer *a, bool to_head);
/* Takes bytes off the front of *in. LW_OK: *body are some of the body, and there may be more in
 * *in; LW_AGAIN: *in is used up; LW_EOF: the answer is complete, *in is what lies behind it;
 * LW_PROTOCOL: *why says what is wrong (a noun phrase, static). */
LW_MUST_CHECK lw_code lw_h1_frames_next(lw_h1_frames *f, lw_span *in, lw_span *body,
                                        const char **why);
/* No more bytes will come: whether the answer is complete. */
bool lw_h1_frames_may_end(const lw_h1_frames *f);
