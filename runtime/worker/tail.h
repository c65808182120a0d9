/* SPDX-License-Identifier: MIT
 * Follows a growing log file from its first byte: absent at first, rotated by rename or by copy and
 * truncation, replaced, pointed elsewhere by a symlink. Gives bytes, not lines; worker/markers makes
 * sense of them. */
#pragma once

#include "floor/base.h"

typedef struct lw_tail lw_tail;

typedef struct lw_tail_events {
  void (*on_bytes)(void *owner, lw_span bytes); /* in the drain; borrowed during the call */
  void (*on_file)(void *owner); /* what follows comes from the beginning of a file: a line that had
                                   no end yet ends here. Not before the first file. In the drain. */
} lw_tail_events;

/* Never NULL; the file need not exist. Bounded work in each turn of the loop. */
lw_tail *lw_tail_open(const char *path, const lw_tail_events *events, void *owner);
void lw_tail_close(lw_tail *t); /* also from within the callbacks; NULL is fine */

typedef struct lw_tail_figures {
  uint64_t bytes;       /* read in all */
  unsigned files;       /* begun: the first, and each after a rotation */
  unsigned truncations; /* of a file that was being read */
  const char *error;    /* why nothing can be read now, such as "No such file or directory"; NULL */
} lw_tail_figures;
lw_tail_figures lw_tail_look(const lw_tail *t);
