/* SPDX-License-Identifier: MIT
 * How many tokens a language model would make of a text: an estimate without a vocabulary, for
 * workloads. Pure and deterministic. */
#pragma once

#include "floor/base.h"

/* The rules, and how far off they are: see tokens.c. At most 64 KiB are looked at: of a longer text
 * the first, middle and last third of that, scaled to the whole. 0 for the empty text, else above
 * 0; not whole when scaled. */
double lw_tokens_count(lw_span text);
