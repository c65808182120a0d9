/* SPDX-License-Identifier: MIT
 * Follows a growing log file from its first byte: absent at first, rotated by rename or by copy and
 * truncation, replaced, pointed elsewhere by a symlink. Gives bytes, not lines, but never mixes
 * those of two files within a line; worker/markers makes sense of them.
 *
 * Rotated by rename: the old file is read to its end, and on until the new one has bytes and the
 * old had none for 5 s: a writer may take its time to open the new one. Several rotations between
 * two looks: the files between are found beside it, by their birth (names that begin with the
 * file's own and one of . - _ and do not end like a compressed file's). 16 files are open at most.
 * Truncated: seen by its size, and by the last 256 bytes before the place that was read to. What it
 * held is then looked for in a copy beside it. A hole that a writer without O_APPEND leaves at the
 * beginning is passed over.
 *
 * Lost is only what nobody could find: bytes that were written between the copy and the truncation;
 * those truncated, unlinked or compressed before the loop had a turn, unless a copy was made for
 * them (text appended to an older file is none, nor is a second copy in the same turn). A
 * truncation can't be noticed of a file that was empty at the last look, or that has grown beyond
 * the place again with the very same 256 bytes before it. A writer of the old file that was quiet
 * for 5 s while the new one already grew is no longer heard. Read twice are edited copies that
 * replace the log, and a copy that somebody else made beside it just before a rotation by rename.
 * Files are read in the loop's thread: a network file system that hangs, hangs the loop. */
#pragma once

#include "floor/base.h"

typedef struct lw_tail lw_tail;

typedef struct lw_tail_events {
  void (*on_bytes)(void *owner, lw_span bytes); /* in the drain; borrowed during the call */
  void (*on_file)(
      void *owner); /* what follows does not go on with what came: it is the beginning of
                       a file, or another file's. A line that had no end yet ends here: one
                       that did not grow for 1 s, while another file has bytes. Not before
                       the first bytes, nor twice without bytes between. In the drain. */
} lw_tail_events;

/* Never NULL; the file need not exist. At most 256 KB in each turn of the loop, and the loop is not
 * called back before this returns. */
lw_tail *lw_tail_open(const char *path, const lw_tail_events *events, void *owner);
void lw_tail_close(lw_tail *t); /* also from within the callbacks; NULL is fine */

typedef struct lw_tail_figures {
  uint64_t bytes;       /* read in all */
  unsigned files;       /* begun: the first, and each after a rotation */
  unsigned truncations; /* of a file that was being read */
  const char *error;    /* why nothing can be read, or nothing new, such as "No such file or
                           directory"; static text; NULL: all is well. Logged when it changes, but
                           not that the file is away for a while. */
} lw_tail_figures;
lw_tail_figures lw_tail_look(const lw_tail *t);
