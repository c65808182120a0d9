/* SPDX-License-Identifier: MIT
 * What the lines of a request may hold (RFC 9110, RFC 9112): one line at a time, and then the
 * fields of a whole head together. Stricter than llhttp, which sees a head only after it passed
 * here. Private to h1_parse. Pure: no state, no allocation but the growth of the header list.
 *
 * Lines come without their CRLF. Every function is false when the line must be refused; *fault then
 * says how to answer. Spans put into *head point into the line. */
#pragma once

#include "wire/h1_parse.h"

typedef struct lw_h1_fault {
  int status;
  const char *text; /* static, one sentence */
} lw_h1_fault;

/* Sets method, target, path, query and minor. */
bool lw_h1_check_request_line(lw_span line, const lw_h1_limits *limits, lw_h1_head *head,
                              lw_h1_fault *fault) LW_MUST_CHECK;
/* Adds the field to head->headers. The line is not empty. */
bool lw_h1_check_field(lw_span line, const lw_h1_limits *limits, lw_h1_head *head,
                       lw_h1_fault *fault) LW_MUST_CHECK;
/* What only the fields together tell: Host, framing, Connection, Expect, what may stand there once
 * (RFC 9112 §3.2, §6, §9.3; RFC 9110 §10.1.1). Sets the rest of *head. */
bool lw_h1_check_head(lw_h1_head *head, lw_h1_fault *fault) LW_MUST_CHECK;

/* chunk-size [ chunk-ext ] (RFC 9112 §7.1). *digits: how many bytes the size takes; what follows is
 * to be ignored. */
bool lw_h1_check_chunk_line(lw_span line, size_t *digits, lw_h1_fault *fault) LW_MUST_CHECK;
/* A trailer field, not empty. Refused when its name would change framing or routing (RFC 9110
 * §6.5.1). */
bool lw_h1_check_trailer(lw_span line, lw_h1_fault *fault) LW_MUST_CHECK;
