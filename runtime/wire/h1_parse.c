/* SPDX-License-Identifier: MIT
 * One connection's requests, from bytes to heads and bodies. Gathers the head line by line into one
 * block, has every line checked by h1_check, and shows llhttp only what passed; llhttp, a second
 * reader that must agree, then does the body framing. Chunk lines are gathered and checked
 * likewise; extensions and trailers are dropped. Called by exchange/server for each read. Owns the
 * head block, the header array and the chunk line, and keeps them from request to request. */
#include "wire/h1_parse.h"

#include <stdlib.h>

#include "llhttp.h"
#include "wire/h1_check.h"

#define FIRST_BLOCK 768     /* holds nearly every head; every connection has one */
#define KEPT_BLOCK 8192     /* a larger one is given back after its request */
#define MAX_EMPTY_LINES 2   /* before a request line */
#define MAX_CHUNK_LINE 1024 /* a chunk line or trailer field, CRLF included */
#define MAX_EXTRA 16384     /* extensions and trailers of one body */

typedef enum chunk_part {
  PART_SIZE,
  PART_DATA,
  PART_TRAILER
} chunk_part;

struct lw_h1_parser {
  lw_h1_limits limits;
  lw_h1_state state;
  lw_h1_fault fault;
  lw_h1_head head;
  llhttp_t llhttp;
  bool complete; /* llhttp has seen the end of the request */

  char *block; /* the head; in READY and later `used` is its exact size */
  size_t used, capacity;
  size_t line_at;  /* where the line begins that is being gathered */
  size_t searched; /* no line end between line_at and here */
  bool has_request_line;
  int empty_lines;
  bool after_cr; /* of an empty line */

  lw_body *body;               /* borrowed from the caller */
  uint64_t max_body, promised; /* bytes of the chunks so far, the present one counted whole */
  chunk_part part;
  char *line; /* a chunk line that came in pieces; NULL until there is one */
  size_t line_used, extra;
};

static void refuse(lw_h1_parser *p, int status, const char *text) {
  p->fault = (lw_h1_fault){status, text};
  p->state = LW_H1_ERROR;
}

/* ---- llhttp's callbacks ---- */

static int on_headers_complete(llhttp_t *llhttp) {
  /* We never switch protocols; with this set, llhttp would stop after the request. */
  llhttp->upgrade = 0;
  return 0;
}

static int on_body(llhttp_t *llhttp, const char *bytes, size_t n) {
  lw_h1_parser *p = llhttp->data;
  lw_body_append(p->body, bytes, n);
  return 0;
}

static int on_chunk_header(llhttp_t *llhttp) {
  lw_h1_parser *p = llhttp->data;
  if (llhttp->content_length > p->max_body - p->promised) {
    refuse(p, 413, "The request body is too large.");
    return HPE_USER;
  }
  p->promised += llhttp->content_length;
  p->part = llhttp->content_length > 0 ? PART_DATA : PART_TRAILER;
  return 0;
}

static int on_chunk_complete(llhttp_t *llhttp) {
  lw_h1_parser *p = llhttp->data;
  if (p->part == PART_TRAILER) return 0;
  p->part = PART_SIZE;
  return HPE_PAUSED;
}

static int on_message_complete(llhttp_t *llhttp) {
  lw_h1_parser *p = llhttp->data;
  p->complete = true;
  return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_chunk_header = on_chunk_header,
    .on_chunk_complete = on_chunk_complete,
    .on_message_complete = on_message_complete,
};

/* Returns how many bytes llhttp took: fewer than n when a callback paused it. */
static size_t show(lw_h1_parser *p, const char *bytes, size_t n) {
  llhttp_errno_t code = llhttp_execute(&p->llhttp, bytes, n);
  if (code == HPE_OK) return n;
  if (code == HPE_PAUSED) {
    size_t taken = (size_t)(llhttp_get_error_pos(&p->llhttp) - bytes);
    assert(taken <= n);
    llhttp_resume(&p->llhttp);
    return taken;
  }
  if (p->state != LW_H1_ERROR) {
    refuse(p, 400,
           p->state == LW_H1_HEAD ? "The request head is malformed."
                                  : "The chunked request body is malformed.");
  }
  return n;
}

/* ---- the parser itself ---- */

static void start_request(lw_h1_parser *p) {
  lw_headers headers = p->head.headers;
  headers.count = 0;
  p->head = (lw_h1_head){.headers = headers};
  p->state = LW_H1_HEAD;
  p->complete = p->has_request_line = p->after_cr = false;
  p->used = p->line_at = p->searched = 0;
  p->empty_lines = 0;
  p->body = NULL;
}

static void resize_block(lw_h1_parser *p, size_t capacity) {
  p->capacity = LW_MIN(capacity, p->limits.max_head);
  p->block = lw_realloc(p->block, p->capacity);
}

lw_h1_parser *lw_h1_new(const lw_h1_limits *limits) {
  assert(limits->max_head > 0);
  lw_h1_parser *p = lw_calloc(1, sizeof *p);
  p->limits = *limits;
  lw_headers_init(&p->head.headers);
  resize_block(p, FIRST_BLOCK);
  start_request(p);
  return p;
}

void lw_h1_free(lw_h1_parser *p) {
  if (!p) return;
  lw_headers_fini(&p->head.headers);
  free(p->block);
  free(p->line);
  free(p);
}

lw_h1_state lw_h1_state_of(const lw_h1_parser *p) { return p->state; }
bool lw_h1_started(const lw_h1_parser *p) { return p->used > 0 || p->state != LW_H1_HEAD; }

const lw_h1_head *lw_h1_head_of(const lw_h1_parser *p) {
  assert(p->state == LW_H1_READY || p->state == LW_H1_BODY || p->state == LW_H1_DONE);
  return &p->head;
}

int lw_h1_error_status(const lw_h1_parser *p) {
  assert(p->state == LW_H1_ERROR);
  return p->fault.status;
}

const char *lw_h1_error_text(const lw_h1_parser *p) {
  assert(p->state == LW_H1_ERROR);
  return p->fault.text;
}

/* ---- the head ---- */

/* Both readers must have understood the same framing. */
static bool llhttp_agrees(const lw_h1_parser *p) {
  const lw_h1_head *head = &p->head;
  bool has_body = head->chunked || head->length > 0;
  return p->complete == !has_body && !(p->llhttp.flags & F_CHUNKED) == !head->chunked &&
         (head->chunked || p->llhttp.content_length == head->length);
}

static void complete_head(lw_h1_parser *p) {
  if (!lw_h1_check_head(&p->head, &p->fault)) {
    p->state = LW_H1_ERROR;
    return;
  }
  p->used = p->line_at;
  llhttp_init(&p->llhttp, HTTP_REQUEST, &settings);
  p->llhttp.data = p;
  size_t taken = show(p, p->block, p->used);
  if (p->state == LW_H1_ERROR) return;
  if (taken != p->used || !llhttp_agrees(p)) {
    refuse(p, 400, "The request head is ambiguous.");
    return;
  }
  p->state = LW_H1_READY;
}

static void take_head_line(lw_h1_parser *p, lw_span line) {
  bool ok;
  if (!p->has_request_line) {
    ok = lw_h1_check_request_line(line, &p->limits, &p->head, &p->fault);
    p->has_request_line = true;
  } else if (line.n > 0) {
    ok = lw_h1_check_field(line, &p->limits, &p->head, &p->fault);
  } else {
    complete_head(p);
    return;
  }
  if (!ok) p->state = LW_H1_ERROR;
}

/* Takes the complete lines of the block. */
static void scan_lines(lw_h1_parser *p) {
  while (p->state == LW_H1_HEAD) {
    char *end = memchr(p->block + p->searched, '\n', p->used - p->searched);
    if (!end) {
      p->searched = p->used;
      return;
    }
    char *start = p->block + p->line_at;
    if (end == start || end[-1] != '\r') {
      refuse(p, 400, "A line of the request head does not end with CR LF.");
      return;
    }
    p->line_at = p->searched = (size_t)(end + 1 - p->block);
    take_head_line(p, (lw_span){start, (size_t)(end - 1 - start)});
  }
}

/* The spans point into the block, so after a move the lines are taken again, from the first. */
static void grow_block(lw_h1_parser *p) {
  resize_block(p, p->capacity * 4);
  p->head.headers.count = 0;
  p->has_request_line = false;
  p->line_at = p->searched = 0;
  scan_lines(p);
}

static size_t skip_empty_lines(lw_h1_parser *p, const char *bytes, size_t n) {
  size_t i = 0;
  for (; i < n; i++) {
    if (p->after_cr) {
      if (bytes[i] != '\n') break;
      p->after_cr = false;
      p->empty_lines++;
    } else if (bytes[i] == '\r' && p->empty_lines < MAX_EMPTY_LINES) {
      p->after_cr = true;
    } else {
      break;
    }
  }
  /* Told by its first byte already, so that a TLS client on a plain port need not wait. */
  if (i < n && (p->after_cr || !lw_header_name_ok((lw_span){bytes + i, 1}))) {
    refuse(p, 400, "This is not an HTTP request.");
  }
  return i;
}

static size_t feed_head(lw_h1_parser *p, const char *bytes, size_t n) {
  size_t skipped = 0;
  if (p->used == 0) {
    skipped = skip_empty_lines(p, bytes, n);
    if (p->state != LW_H1_HEAD || skipped == n) return skipped;
  }
  if (p->used == p->capacity) {
    if (p->capacity == p->limits.max_head) {
      if (p->has_request_line) {
        refuse(p, 431, "The request head is too large.");
      } else {
        refuse(p, 414, "The request line is too long.");
      }
      return skipped;
    }
    grow_block(p);
  }
  /* More than the head may be copied, but no more than the block has room for: cheaper than to look
   * for the end first. */
  size_t before = p->used, taken = LW_MIN(n - skipped, p->capacity - before);
  memcpy(p->block + before, bytes + skipped, taken);
  p->used += taken;
  scan_lines(p);
  return skipped + (p->state == LW_H1_READY ? p->used - before : taken);
}

/* ---- the body ---- */

void lw_h1_begin_body(lw_h1_parser *p, lw_body *body, uint64_t max_body) {
  assert(p->state == LW_H1_READY);
  p->body = body;
  p->max_body = max_body;
  p->promised = 0;
  p->part = PART_SIZE;
  p->line_used = p->extra = 0;
  p->state = p->complete ? LW_H1_DONE : LW_H1_BODY;
  if (p->head.has_length && p->head.length > max_body) {
    refuse(p, 413, "The request body is too large.");
  }
}

static void take_chunk_line(lw_h1_parser *p, lw_span line) {
  size_t digits = 0;
  bool ok = true;
  if (p->part == PART_SIZE) {
    ok = lw_h1_check_chunk_line(line, &digits, &p->fault);
  } else if (line.n > 0) {
    ok = lw_h1_check_trailer(line, &p->fault);
  }
  if (!ok) {
    p->state = LW_H1_ERROR;
    return;
  }
  p->extra += line.n - digits;
  if (p->extra > MAX_EXTRA) {
    refuse(p, 400, "The chunk extensions and trailers are too large.");
    return;
  }
  if (p->part == PART_TRAILER && line.n > 0) return;
  if (digits > 0) show(p, line.p, digits);
  if (p->state == LW_H1_BODY) show(p, "\r\n", 2);
}

static void keep_piece(lw_h1_parser *p, const char *bytes, size_t n) {
  if (!p->line) p->line = lw_alloc(MAX_CHUNK_LINE);
  memcpy(p->line + p->line_used, bytes, n);
  p->line_used += n;
}

static size_t feed_chunk_line(lw_h1_parser *p, const char *bytes, size_t n) {
  size_t room = MAX_CHUNK_LINE - p->line_used;
  const char *end = memchr(bytes, '\n', LW_MIN(n, room));
  if (!end) {
    if (n >= room) {
      refuse(p, 400, "A chunk line or trailer field is too long.");
    } else {
      keep_piece(p, bytes, n);
    }
    return n;
  }
  size_t taken = (size_t)(end + 1 - bytes);
  lw_span line = {bytes, taken};
  if (p->line_used > 0) {
    keep_piece(p, bytes, taken);
    line = (lw_span){p->line, p->line_used};
    p->line_used = 0;
  }
  if (line.n < 2 || line.p[line.n - 2] != '\r') {
    refuse(p, 400, "A line of the chunked request body does not end with CR LF.");
    return taken;
  }
  take_chunk_line(p, (lw_span){line.p, line.n - 2});
  return taken;
}

static size_t feed_body(lw_h1_parser *p, const char *bytes, size_t n) {
  size_t taken =
      p->head.chunked && p->part != PART_DATA ? feed_chunk_line(p, bytes, n) : show(p, bytes, n);
  if (p->complete) p->state = LW_H1_DONE;
  return taken;
}

size_t lw_h1_feed(lw_h1_parser *p, const char *bytes, size_t n) {
  size_t taken = 0;
  while (taken < n) {
    if (p->state == LW_H1_HEAD) {
      taken += feed_head(p, bytes + taken, n - taken);
    } else if (p->state == LW_H1_BODY) {
      taken += feed_body(p, bytes + taken, n - taken);
    } else {
      break;
    }
  }
  return taken;
}

void lw_h1_next(lw_h1_parser *p) {
  assert(p->state == LW_H1_DONE);
  if (p->capacity > KEPT_BLOCK) resize_block(p, FIRST_BLOCK);
  start_request(p);
}
