/* SPDX-License-Identifier: MIT */
#include "wire/json_equal.h"

bool lw_json_equal(const lw_json *a, uint32_t a_node, const lw_json *b, uint32_t b_node) {
  lw_span x = lw_json_text(a, a_node), y = lw_json_text(b, b_node);
  return lw_span_eq(x, y);
}
