/* SPDX-License-Identifier: MIT
 * The fields of a request that is sent: which may go, and their lines as the transport wants them.
 * Pure: no I/O. */
#pragma once

#include "wire/headers.h"

typedef struct lw_fields { /* all zero: none */
  char *lines;             /* read-only: one behind the other, each ended by NUL */
  size_t count;            /* read-only */
  size_t size, capacity;   /* private */
  bool has_accept, has_content_type;
} lw_fields;

/* LW_PROTOCOL (and adds nothing) when name or value are illegal. Hop-by-hop fields, Host,
 * Content-Length and Expect are the transport's own: dropped, LW_OK. */
LW_MUST_CHECK lw_code lw_fields_add(lw_fields *f, lw_span name, lw_span value);
/* `to` holds what `from` does, in memory of its own. */
void lw_fields_copy(lw_fields *to, const lw_fields *from);
/* No more will be added: forbids the transport to add Accept, Expect and Content-Type itself. */
void lw_fields_seal(lw_fields *f, bool with_body);
/* Forgets them; keeps room for a few, for the next call. */
void lw_fields_clear(lw_fields *f);
void lw_fields_fini(lw_fields *f);
