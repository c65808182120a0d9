/* SPDX-License-Identifier: MIT
 * The bridge between curl's multi interface and the loop: sockets, timeouts, finished transfers.
 * Nothing of HTTP here. curl's callbacks run inside uv callbacks or the late part of the drain;
 * they must only mark. One multi for the process, made at first use. */
#pragma once

#include <curl/curl.h>

#include "floor/base.h"
#include "floor/list.h"
#include "loop/loop.h"

/* One transfer at a time of one easy handle: embed it, prepare it once, then add it as often as
 * wanted. */
typedef struct lw_transfer {
  CURL *easy; /* made by lw_multi_prepare() */
  /* The transfer has ended (well or not) and was taken out of the multi. Only mark in it. */
  void (*done)(struct lw_transfer *t, CURLcode result);
  /* How long its connection may stay idle afterwards, in ms; set before it ends. */
  uint64_t keep_ms;
  int socket_errno;  /* read-only: why socket(2) failed, when it did; 0 otherwise */
  bool nudged;       /* private: to be run, though no event asks for it */
  bool full;         /* private: the backlog of the unix socket was; it is tried again */
  int unix_fd;       /* private: the unix socket just opened, -1 when none */
  lw_timer again;    /* private: runs while it waits for room in a unix socket's backlog */
  uint64_t added_ms; /* private */
  int fd;            /* private: the socket curl asked to watch last, -1 when none */
  lw_list resume;    /* private */
} lw_transfer;

/* Makes t->easy; its options OPENSOCKET*, CLOSESOCKET* and PRIVATE are the bridge's. */
void lw_multi_prepare(lw_transfer *t, void (*done)(lw_transfer *t, CURLcode result));
/* A transfer that does not run: cleans up what lw_multi_prepare() made. */
void lw_multi_discard(lw_transfer *t);
/* Adds it and starts it in the late part of this drain. */
void lw_multi_add(lw_transfer *t);
/* Takes a running transfer out; its connection is closed unless it was idle. Not from within curl
 * callbacks. `done` is not called. */
void lw_multi_remove(lw_transfer *t);
/* Unpauses receiving in the late part of this drain (curl calls its write callback from within
 * curl_easy_pause, hence not at once). Cancelled by lw_multi_remove. */
void lw_multi_resume(lw_transfer *t);
/* To be asked when curl believes that it is connected (CURLOPT_PREREQFUNCTION). False: the backlog
 * of a unix socket is full; the transfer has to be aborted then, and is tried again from here until
 * it is removed. */
bool lw_multi_is_connected(lw_transfer *t);
unsigned lw_multi_running(void);
/* Closes the multi with its idle connections; asserts that nothing runs. The loop must run on once
 * more for the uv close callbacks. */
void lw_multi_close(void);
