/* SPDX-License-Identifier: MIT
 * Whether two JSON values are the same value, however they were written: member order, number form
 * (1 equals 1.0, as in Python) and escapes in strings do not count; the order of an array does. Of
 * two members with the same name the last one counts. Pure. */
#pragma once

#include "wire/json.h"

/* Takes n log n of the larger object's members; as deep as the parser lets documents be. Numbers
 * beyond 64 bits are compared as doubles, and by their text when they are beyond these as well. */
bool lw_json_equal(const lw_json *a, uint32_t a_node, const lw_json *b, uint32_t b_node);
