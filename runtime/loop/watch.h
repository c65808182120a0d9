/* SPDX-License-Identifier: MIT
 * Notices that a file may have changed: by inotify on its directory where that works, and by a look
 * every so often in any case (network and overlay file systems tell nothing). Says only "look
 * again"; what has changed is the owner's to find out. */
#pragma once

#include "loop/loop.h"

typedef struct lw_watch lw_watch;

/* Wakes `wake` (borrowed; cancel it yourself after the close) soon after every change to the file
 * at `path`, to what a symlink there leads to (over three links at most), or to the name itself,
 * and every poll_ms (> 0) besides. The file and its directory need not exist; a directory that
 * appears, or is replaced, is noticed within poll_ms. Not before the first turn of the loop. Never
 * NULL. */
lw_watch *lw_watch_open(const char *path, uint64_t poll_ms, lw_wake *wake);
void lw_watch_close(lw_watch *w); /* NULL is fine */
