/* SPDX-License-Identifier: MIT
 * `serve --watch`: tells when a file that the script was made of has changed, so that an edit takes
 * effect when it is saved. A burst of changes is told once; a file that was written anew with the
 * same bytes has not changed. */
#pragma once

#include "script/sources.h"

/* Begins with the files of the last load (script/sources), and follows them: after another load,
 * and when the script loads more of them while it runs. changed() is called in the drain, 100 ms
 * after the last change of a burst, when some file's bytes differ from those that were loaded; its
 * path is good during the call. It is expected to load the script. */
void lw_watcher_open(void (*changed)(const char *path));
void lw_watcher_close(void); /* also when it is not open */
