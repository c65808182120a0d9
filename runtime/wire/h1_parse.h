/* SPDX-License-Identifier: MIT
 * HTTP/1.1 requests from bytes (RFC 9112). The head is gathered whole, checked by our own validator
 * and only then shown to llhttp (built strict), which does the body framing. Pure: no I/O, no
 * callbacks to the caller; the caller feeds bytes and asks for the state.
 *
 *   feed → HEAD (more bytes wanted) → [head complete] → caller decides → BODY → DONE → next
 *                                   ↘ ERROR (status and text say what to answer; framing is lost)
 *
 * One parser serves one connection; lw_h1_next() starts the next request after DONE. */
#pragma once

#include "floor/base.h"
#include "wire/body.h"
#include "wire/headers.h"

typedef enum lw_h1_state {
  LW_H1_HEAD,  /* gathering the head */
  LW_H1_READY, /* head complete: look at ->head, then call lw_h1_begin_body() */
  LW_H1_BODY,  /* gathering the body */
  LW_H1_DONE,  /* request complete; bytes after it were not consumed */
  LW_H1_ERROR, /* answer ->error_status with ->error_text and close */
} lw_h1_state;

typedef struct lw_h1_limits {
  size_t max_target;  /* bytes of the request target; over → 414 */
  size_t max_head;    /* bytes of the whole head; over → 431 */
  size_t max_headers; /* number of fields; over → 431 */
} lw_h1_limits;
#define LW_H1_LIMITS_DEFAULT \
  ((lw_h1_limits){.max_target = 8192, .max_head = 65536, .max_headers = 128})

typedef enum lw_h1_method {
  LW_H1_GET,
  LW_H1_HEAD_METHOD,
  LW_H1_POST,
  LW_H1_PUT,
  LW_H1_DELETE,
  LW_H1_PATCH,
  LW_H1_OPTIONS,
} lw_h1_method;

typedef struct lw_h1_head {
  lw_span method_text;
  lw_h1_method method;
  lw_span target; /* as received (origin-form, or absolute-form's text) */
  lw_span path,
      query; /* query without '?', empty when absent; path of absolute-form after the authority */
  int minor; /* HTTP/1.minor: 0 or 1 */
  lw_headers headers; /* borrowed from the parser's head block: valid until lw_h1_next/fini */
  bool keep_alive;    /* what the client wants, by version and Connection */
  bool expect_continue;
  bool chunked, has_length; /* neither: no body */
  uint64_t length;          /* when has_length */
} lw_h1_head;

typedef struct lw_h1_parser lw_h1_parser;

lw_h1_parser *lw_h1_new(const lw_h1_limits *limits); /* limits are copied */
void lw_h1_free(lw_h1_parser *p);

/* Takes bytes; returns how many were consumed (all, unless the state became READY, DONE or ERROR:
 * then the rest belongs to what follows and must be fed again). In READY, DONE and ERROR nothing is
 * consumed. Empty lines before a request line are skipped (RFC 9112 §2.2), two at most. */
size_t lw_h1_feed(lw_h1_parser *p, const char *bytes, size_t n);
lw_h1_state lw_h1_state_of(const lw_h1_parser *p);
/* Whether any byte of a request has arrived since new/next (tells 408 from a quiet close). */
bool lw_h1_started(const lw_h1_parser *p);
const lw_h1_head *lw_h1_head_of(const lw_h1_parser *p); /* READY, BODY, DONE */

/* READY → BODY, or DONE at once when the request has no body. Body bytes are decoded and appended
 * by lw_h1_feed() to *body, which the caller owns; more than max_body decoded bytes → ERROR 413
 * (a Content-Length or a chunk's size over it: at once). Chunk extensions and trailers are checked,
 * bounded (→ ERROR 400) and dropped. */
void lw_h1_begin_body(lw_h1_parser *p, lw_body *body, uint64_t max_body);
/* DONE → HEAD. */
void lw_h1_next(lw_h1_parser *p);

/* In ERROR: 400 408 411 413 414 415 417 431 501 505, and one sentence for the client. */
int lw_h1_error_status(const lw_h1_parser *p);
const char *lw_h1_error_text(const lw_h1_parser *p);
