/* SPDX-License-Identifier: MIT
 * What the fuzzers of this folder share: the check that ends them, pseudo-random numbers, and the
 * arguments of their programs. Included once by each. */
#pragma once

#include <stdio.h>
#include <stdlib.h>

#include "floor/base.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

#define CHECK(condition) \
  ((condition) ? (void)0 : lw_die("%s:%d: not so: %s", __FILE__, __LINE__, #condition))

static uint64_t random_state = 1;

static inline uint64_t next_random(uint64_t below) { /* xorshift */
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state % below;
}

/* [rounds [seed]]: the rounds; from now on numbers are by the seed. */
static inline long read_rounds(int argc, char **argv) {
  random_state = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
  if (random_state == 0) random_state = 1;
  return argc > 1 ? strtol(argv[1], NULL, 10) : 20000;
}
