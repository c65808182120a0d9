/* SPDX-License-Identifier: MIT
 * One slot and the line before it. Entries belong to their requests; the queue only links them.
 * Called by the server when a request wants to call the model and when it is done or gone. Knows
 * neither time nor requests: how long somebody waited is the owner's to say. */
#include "worker/queue.h"

#include <math.h>
#include <stdlib.h>

enum {
  OUT,
  WAITING,
  HOLDING
};

struct lw_queue {
  lw_queue_limits limits;
  void (*on_turn)(lw_queue_entry *entry);
  lw_list line;
  lw_queue_entry *holder;
  unsigned waiting;
  size_t waiting_bytes;
  bool handing_on; /* inside hand_on(): a nested leave only gives up the slot */
};

lw_queue *lw_queue_new(const lw_queue_limits *limits, void (*on_turn)(lw_queue_entry *entry)) {
  lw_queue *q = lw_calloc(1, sizeof(*q));
  q->limits = *limits;
  q->on_turn = on_turn;
  lw_list_init(&q->line);
  return q;
}

void lw_queue_free(lw_queue *q) {
  if (!q) return;
  assert(!q->holder && lw_list_empty(&q->line) && !q->handing_on);
  free(q);
}

void lw_queue_entry_init(lw_queue_entry *e) {
  lw_list_init(&e->node);
  e->bytes = 0;
  e->state = OUT;
}

lw_code lw_queue_enter(lw_queue *q, lw_queue_entry *e, size_t bytes) {
  assert(e->state == OUT);
  /* A free slot with a line before it exists only inside hand_on(): those in line go first. */
  if (!q->holder && lw_list_empty(&q->line)) {
    q->holder = e;
    e->state = HOLDING;
    return LW_OK;
  }
  if (q->waiting >= q->limits.max_count) return LW_LIMIT;
  if (bytes > q->limits.max_bytes - q->waiting_bytes) return LW_LIMIT;
  e->bytes = bytes;
  e->state = WAITING;
  lw_list_append(&q->line, &e->node);
  q->waiting++;
  q->waiting_bytes += bytes;
  return LW_AGAIN;
}

static void step_out_of_line(lw_queue *q, lw_queue_entry *e) {
  lw_list_remove(&e->node);
  q->waiting--;
  q->waiting_bytes -= e->bytes;
  e->bytes = 0;
}

/* A loop and not a recursion: when a whole line leaves as its turns come, the stack stays flat. An
 * entry may be freed inside its own on_turn, so it is not touched afterwards. */
static void hand_on(lw_queue *q) {
  if (q->handing_on) return;
  q->handing_on = true;
  while (!q->holder && !lw_list_empty(&q->line)) {
    lw_queue_entry *next = LW_CONTAINER_OF(q->line.next, lw_queue_entry, node);
    step_out_of_line(q, next);
    next->state = HOLDING;
    q->holder = next;
    q->on_turn(next);
  }
  q->handing_on = false;
}

void lw_queue_leave(lw_queue *q, lw_queue_entry *e) {
  if (e->state == WAITING) {
    step_out_of_line(q, e);
    e->state = OUT;
  } else if (e->state == HOLDING) {
    assert(q->holder == e);
    q->holder = NULL;
    e->state = OUT;
    hand_on(q);
  }
}

bool lw_queue_is_waiting(const lw_queue_entry *e) { return e->state == WAITING; }
unsigned lw_queue_waiting(const lw_queue *q) { return q->waiting; }
size_t lw_queue_waiting_bytes(const lw_queue *q) { return q->waiting_bytes; }

double lw_queue_estimate_s(double load, double max_perf) {
  if (!(max_perf > 0) || !(load > 0)) return 0;
  return load / LW_MAX(max_perf, 1e-5);
}

unsigned lw_queue_retry_after_s(double estimate_s, double max_queue_time_s) {
  /* The estimate is work ahead over speed, so it falls by one second a second. */
  double wait_s = ceil(estimate_s - max_queue_time_s);
  if (!(wait_s > 1)) return 1;
  return wait_s < 3600 ? (unsigned)wait_s : 3600;
}
