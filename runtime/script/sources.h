/* SPDX-License-Identifier: MIT
 * The files that the script was made of: its own, and those that it required, loaded or looked for
 * in vain, in the order in which they were met, whether or not it loaded well. For who watches
 * them. One list for the process: that of the last load. */
#pragma once

#include "loop/loop.h"

enum {
  LW_SOURCES_MAX = 256
};

typedef struct lw_source {
  char *path;      /* as the script said it */
  uint64_t digest; /* of its bytes; 0: there was no such file */
} lw_source;

/* A script is about to be loaded: the list is empty. */
void lw_sources_begin(void);
/* text NULL: it could not be read. A file that is in the list keeps its place and gets the new
 * digest. One beyond the most that are noted is only counted. */
void lw_sources_note(lw_span path, const lw_span *text);
size_t lw_sources_count(void);
const lw_source *lw_sources_at(size_t i); /* good until the next load, or note */
size_t lw_sources_left_out(void);
/* Woken (borrowed; NULL: nobody) when a file has come to the list. */
void lw_sources_tell(lw_wake *wake);
/* What `digest` is made by; never 0. */
uint64_t lw_source_digest(lw_span text);
