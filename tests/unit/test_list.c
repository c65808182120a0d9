/* SPDX-License-Identifier: MIT
 * floor/list: order, removal from anywhere and twice, splicing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "floor/base.h"
#include "floor/list.h"

typedef struct item {
  int value;
  lw_list node;
} item;

static void fill(lw_list *l, item *items, int count, int first) {
  lw_list_init(l);
  for (int i = 0; i < count; i++) {
    items[i].value = first + i;
    lw_list_init(&items[i].node);
    lw_list_append(l, &items[i].node);
  }
}

/* The list holds exactly these values, read forwards and backwards. */
static void assert_holds(const lw_list *l, const int *values, int count) {
  const lw_list *node = l->next;
  for (int i = 0; i < count; i++, node = node->next) {
    assert_ptr_not_equal(node, l);
    assert_int_equal(LW_CONTAINER_OF(node, item, node)->value, values[i]);
  }
  assert_ptr_equal(node, l);
  node = l->prev;
  for (int i = count - 1; i >= 0; i--, node = node->prev)
    assert_int_equal(LW_CONTAINER_OF(node, item, node)->value, values[i]);
  assert_ptr_equal(node, l);
}

static void test_append_and_pop(void **state) {
  (void)state;
  lw_list l;
  item items[3];
  fill(&l, items, 3, 1);
  assert_false(lw_list_empty(&l));
  assert_holds(&l, (int[]){1, 2, 3}, 3);
  assert_ptr_equal(lw_list_pop(&l), &items[0].node);
  assert_false(lw_list_linked(&items[0].node));
  assert_true(lw_list_linked(&items[1].node));
  assert_holds(&l, (int[]){2, 3}, 2);
  assert_ptr_equal(lw_list_pop(&l), &items[1].node);
  assert_ptr_equal(lw_list_pop(&l), &items[2].node);
  assert_null(lw_list_pop(&l));
  assert_true(lw_list_empty(&l));
}

static void test_remove(void **state) {
  (void)state;
  lw_list l;
  item items[4];
  fill(&l, items, 4, 1);
  lw_list_remove(&items[1].node);
  lw_list_remove(&items[1].node);
  assert_holds(&l, (int[]){1, 3, 4}, 3);
  lw_list_remove(&items[3].node);
  lw_list_remove(&items[0].node);
  assert_holds(&l, (int[]){3}, 1);
  lw_list_append(&l, &items[0].node);
  assert_holds(&l, (int[]){3, 1}, 2);
}

static void test_splice(void **state) {
  (void)state;
  lw_list a, b, empty;
  item in_a[2], in_b[3];
  fill(&a, in_a, 2, 1);
  fill(&b, in_b, 3, 10);
  lw_list_init(&empty);
  lw_list_splice(&a, &empty);
  assert_holds(&a, (int[]){1, 2}, 2);
  lw_list_splice(&a, &b);
  assert_holds(&a, (int[]){1, 2, 10, 11, 12}, 5);
  assert_true(lw_list_empty(&b));
  lw_list_splice(&empty, &a);
  assert_holds(&empty, (int[]){1, 2, 10, 11, 12}, 5);
  assert_true(lw_list_empty(&a));
  lw_list_remove(&in_b[0].node);
  assert_holds(&empty, (int[]){1, 2, 11, 12}, 4);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_append_and_pop),
      cmocka_unit_test(test_remove),
      cmocka_unit_test(test_splice),
  };
  return cmocka_run_group_tests_name("list", tests, NULL, NULL);
}
