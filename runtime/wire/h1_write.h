/* SPDX-License-Identifier: MIT
 * HTTP/1.1 responses to bytes (RFC 9112 §4-7): status line, fields, framing. Pure: writes into an
 * lw_buf. What is written has been checked: a name or value that is not legal is dropped and
 * counted in the return value. */
#pragma once

#include "floor/buf.h"
#include "wire/headers.h"

typedef enum lw_h1_framing {
  LW_H1_LENGTH,      /* Content-Length: the body has exactly that many bytes */
  LW_H1_CHUNKED,     /* Transfer-Encoding: chunked; never to an HTTP/1.0 client */
  LW_H1_UNTIL_CLOSE, /* HTTP/1.0 client and unknown length: the connection's end ends the body */
  LW_H1_NO_BODY,     /* 1xx, 204, 304: neither length nor body */
} lw_h1_framing;

/* The reason phrase for a status, "Unknown" when there is none. */
const char *lw_h1_reason(int status);

/* Writes the status line; `headers` (end-to-end ones only: hop-by-hop fields and Content-Length are
 * left out, a Date given is kept); then the framing field, Connection (`close` when !keep_alive,
 * `keep-alive` for an HTTP/1.0 client), Date when absent, and the empty line. `length` counts only
 * with LW_H1_LENGTH. LW_H1_UNTIL_CLOSE implies !keep_alive. A status outside 100..999 goes out as
 * 500. Returns how many fields were dropped as illegal. */
size_t lw_h1_write_head(lw_buf *out, int status, int client_minor, const lw_headers *headers,
                        lw_h1_framing framing, uint64_t length, bool keep_alive);
void lw_h1_write_continue(lw_buf *out);
/* One chunk: size line, bytes moved out of `from`, CRLF. n > 0. */
void lw_h1_write_chunk_from(lw_buf *out, lw_buf *from, size_t n);
void lw_h1_write_chunk(lw_buf *out, const void *p, size_t n);
void lw_h1_write_last_chunk(lw_buf *out);
