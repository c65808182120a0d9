/* SPDX-License-Identifier: MIT
 * Admission: who may call the model now, who waits, who is refused. One strict FIFO with one slot
 * for all routes that do not allow parallel requests; parallel ones pass at once. Bounded in count
 * and in body bytes. Pure: the owner is told through a callback which entry's turn it is, never
 * from inside lw_queue_enter(). */
#pragma once

#include "floor/base.h"
#include "floor/list.h"

typedef struct lw_queue_entry {
  lw_list node;  /* private */
  size_t bytes;  /* private: body bytes held while waiting */
  uint8_t state; /* private */
} lw_queue_entry;

typedef struct lw_queue_limits {
  unsigned max_count;
  size_t max_bytes;
} lw_queue_limits;

typedef struct lw_queue lw_queue;
/* on_turn: the entry holds the slot now. It may call back into the queue (leave, enter). */
lw_queue *lw_queue_new(const lw_queue_limits *limits, void (*on_turn)(lw_queue_entry *entry));
void lw_queue_free(lw_queue *q); /* asserts that it is empty and the slot free */

void lw_queue_entry_init(lw_queue_entry *e);
/* LW_OK: it holds the slot at once. LW_AGAIN: it waits; on_turn will be called. LW_LIMIT: the queue
 * is full, nothing was changed. */
lw_code lw_queue_enter(lw_queue *q, lw_queue_entry *e, size_t bytes) LW_MUST_CHECK;
/* Leaves: a waiting entry goes out of the line, the holder gives up the slot and the next one's
 * on_turn is called. Does nothing for an entry that is not in. */
void lw_queue_leave(lw_queue *q, lw_queue_entry *e);
bool lw_queue_is_waiting(const lw_queue_entry *e);
unsigned lw_queue_waiting(const lw_queue *q);
size_t lw_queue_waiting_bytes(const lw_queue *q);

/* Protocol §2: seconds a new request would wait: load in flight / max(max_perf, 1e-5); 0 while
 * max_perf is not known (<= 0). */
double lw_queue_estimate_s(double load, double max_perf);
/* Whole seconds for a Retry-After field: the time until the estimate falls to max_queue_time, at
 * least 1, at most 3600. */
unsigned lw_queue_retry_after_s(double estimate_s, double max_queue_time_s);
