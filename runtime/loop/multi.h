/* SPDX-License-Identifier: MIT
 * The bridge between curl's multi interface and the loop: sockets, timeouts, finished transfers.
 * Nothing of HTTP here. curl's callbacks run inside uv callbacks or the late part of the drain;
 * they must only mark. One multi for the process, made at first use. */
#pragma once

#include <curl/curl.h>

#include "floor/base.h"
#include "floor/list.h"

/* One transfer at a time of one easy handle: embed it, prepare it once, then add it as often as
 * wanted. */
typedef struct lw_transfer {
  CURL *easy; /* made by lw_multi_prepare(), cleaned up by the caller */
  /* The transfer has ended (well or not) and was taken out of the multi. Only mark in it. */
  void (*done)(struct lw_transfer *t, CURLcode result);
  int socket_errno; /* read-only: why socket(2) failed, when it did; 0 otherwise */
  int fd;           /* private: the socket curl asked to watch last, -1 when none */
  lw_list resume;   /* private */
} lw_transfer;

/* Makes t->easy; its options OPENSOCKET*, CLOSESOCKET* and PRIVATE are the bridge's. */
void lw_multi_prepare(lw_transfer *t, void (*done)(lw_transfer *t, CURLcode result));
/* Adds it and starts it in the late part of this drain. */
void lw_multi_add(lw_transfer *t);
/* Takes a running transfer out; its connection is closed unless it was idle. Not from within curl
 * callbacks. `done` is not called. */
void lw_multi_remove(lw_transfer *t);
/* Unpauses receiving in the late part of this drain (curl calls its write callback from within
 * curl_easy_pause, hence not at once). Cancelled by lw_multi_remove. */
void lw_multi_resume(lw_transfer *t);
unsigned lw_multi_running(void);
/* Closes the multi with its idle connections; asserts that nothing runs. The loop must run on once
 * more for the uv close callbacks. */
void lw_multi_close(void);
