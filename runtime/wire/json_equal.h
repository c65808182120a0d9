/* SPDX-License-Identifier: MIT
 * Whether two JSON values are the same value, however they were written: member order and number
 * form do not count (1 equals 1.0, as in Python), array order does. */
#pragma once

#include "wire/json.h"

bool lw_json_equal(const lw_json *a, uint32_t a_node, const lw_json *b, uint32_t b_node);
