/* SPDX-License-Identifier: MIT
 * Intrusive doubly linked list. A list head is a node that points to itself when empty; a node that
 * is in no list points to itself as well, so lw_list_remove() may be called twice. */
#pragma once

#include <stdbool.h>

typedef struct lw_list {
  struct lw_list *next, *prev;
} lw_list;

static inline void lw_list_init(lw_list *l) { l->next = l->prev = l; }
static inline bool lw_list_empty(const lw_list *l) { return l->next == l; }
static inline bool lw_list_linked(const lw_list *node) { return node->next != node; }

static inline void lw_list_append(lw_list *l, lw_list *node) {
  node->prev = l->prev;
  node->next = l;
  l->prev->next = node;
  l->prev = node;
}
static inline void lw_list_remove(lw_list *node) {
  node->prev->next = node->next;
  node->next->prev = node->prev;
  lw_list_init(node);
}
/* Unlinks and returns the first node, NULL when empty. */
static inline lw_list *lw_list_pop(lw_list *l) {
  if (lw_list_empty(l)) return 0;
  lw_list *node = l->next;
  lw_list_remove(node);
  return node;
}
/* Moves all of `from` to the end of `to`. */
static inline void lw_list_splice(lw_list *to, lw_list *from) {
  if (lw_list_empty(from)) return;
  from->next->prev = to->prev;
  to->prev->next = from->next;
  from->prev->next = to;
  to->prev = from->prev;
  lw_list_init(from);
}
