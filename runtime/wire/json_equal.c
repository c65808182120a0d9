/* SPDX-License-Identifier: MIT
 * Comparing JSON values. Called by worker/session for the credentials that a client shows. Members
 * are sorted before they are compared, so that an object of thousands costs no more than reading
 * it.
 */
#include "wire/json_equal.h"

#include <math.h>
#include <stdlib.h>

typedef struct member {
  lw_span key;
  uint32_t value;
} member;

/* By name; of the same name in the order they came, which is that of their nodes. */
static int compare_members(const void *x, const void *y) {
  const member *a = x, *b = y;
  size_t n = LW_MIN(a->key.n, b->key.n);
  int order = n ? memcmp(a->key.p, b->key.p, n) : 0;
  if (order) return order;
  if (a->key.n != b->key.n) return a->key.n < b->key.n ? -1 : 1;
  return a->value < b->value ? -1 : 1;
}

/* The members that count, sorted; returns how many. The caller frees *out. */
static size_t sort_members(const lw_json *j, uint32_t object, member **out) {
  const lw_json_node *o = &j->nodes[object];
  member *m = lw_alloc((size_t)o->count * sizeof *m + 1);
  size_t n = 0, kept = 0;
  for (uint32_t key = object + 1; key < o->next; key = j->nodes[key + 1].next) {
    m[n++] = (member){lw_json_string(j, key), key + 1};
  }
  qsort(m, n, sizeof *m, compare_members);
  for (size_t i = 0; i < n; i++) {
    if (i + 1 == n || !lw_span_eq(m[i].key, m[i + 1].key)) m[kept++] = m[i];
  }
  *out = m;
  return kept;
}

static bool objects_equal(const lw_json *a, uint32_t a_node, const lw_json *b, uint32_t b_node) {
  member *of_a, *of_b;
  size_t n = sort_members(a, a_node, &of_a);
  bool same = sort_members(b, b_node, &of_b) == n;
  for (size_t i = 0; same && i < n; i++) {
    same =
        lw_span_eq(of_a[i].key, of_b[i].key) && lw_json_equal(a, of_a[i].value, b, of_b[i].value);
  }
  free(of_a);
  free(of_b);
  return same;
}

static bool arrays_equal(const lw_json *a, uint32_t a_node, const lw_json *b, uint32_t b_node) {
  uint32_t x = a_node + 1, y = b_node + 1;
  if (a->nodes[a_node].count != b->nodes[b_node].count) return false;
  while (x < a->nodes[a_node].next) {
    if (!lw_json_equal(a, x, b, y)) return false;
    x = a->nodes[x].next;
    y = b->nodes[y].next;
  }
  return true;
}

static bool is_whole(const lw_json_node *n) {
  return n->kind == LW_JSON_INT || n->kind == LW_JSON_UINT;
}

static double as_double(const lw_json_node *n) {
  if (n->kind == LW_JSON_INT) return (double)n->integer;
  return n->kind == LW_JSON_UINT ? (double)(uint64_t)n->integer : n->number;
}

/* Exactly: 2^53 + 1 is not the double beside it. */
static bool whole_equals_double(const lw_json_node *whole, double d) {
  if (as_double(whole) != d) return false;
  if (whole->kind == LW_JSON_UINT) return d < 0x1p64 && (uint64_t)d == (uint64_t)whole->integer;
  return d >= -0x1p63 && d < 0x1p63 && (int64_t)d == whole->integer;
}

/* Beyond doubles: nothing of the value is left in the node. */
static bool is_lost(const lw_json_node *n) {
  return n->kind == LW_JSON_BIG && (isinf(n->number) || n->number == 0);
}

static bool numbers_equal(const lw_json *a, uint32_t a_node, const lw_json *b, uint32_t b_node) {
  const lw_json_node *x = &a->nodes[a_node], *y = &b->nodes[b_node];
  if (is_lost(x) || is_lost(y)) return lw_span_eq(lw_json_text(a, a_node), lw_json_text(b, b_node));
  if (is_whole(x) && is_whole(y)) return x->kind == y->kind && x->integer == y->integer;
  if (is_whole(x)) return whole_equals_double(x, y->number);
  if (is_whole(y)) return whole_equals_double(y, x->number);
  return x->number == y->number;
}

static bool is_number(const lw_json_node *n) {
  return n->kind >= LW_JSON_INT && n->kind <= LW_JSON_BIG;
}

bool lw_json_equal(const lw_json *a, uint32_t a_node, const lw_json *b, uint32_t b_node) {
  const lw_json_node *x = &a->nodes[a_node], *y = &b->nodes[b_node];
  if (is_number(x) && is_number(y)) return numbers_equal(a, a_node, b, b_node);
  if (x->kind != y->kind) return false;
  switch (x->kind) {
    case LW_JSON_STRING:
      return lw_span_eq(lw_json_string(a, a_node), lw_json_string(b, b_node));
    case LW_JSON_ARRAY:
      return arrays_equal(a, a_node, b, b_node);
    case LW_JSON_OBJECT:
      return objects_equal(a, a_node, b, b_node);
    default:
      return true;
  }
}
