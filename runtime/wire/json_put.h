/* SPDX-License-Identifier: MIT
 * Small JSON documents of our own, written piece by piece onto a body. */
#pragma once

#include "wire/body.h"

void lw_put(lw_body *b, const char *text); /* as it is: punctuation, keys */
void lw_put_integer(lw_body *b, int64_t v);
void lw_put_number(lw_body *b, double v); /* 0 for NaN and infinities */
void lw_put_bool(lw_body *b, bool v);
void lw_put_string(lw_body *b, lw_span s); /* escaped and quoted */
void lw_put_text(lw_body *b, const char *text);
