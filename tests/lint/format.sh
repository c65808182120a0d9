#!/bin/bash
# SPDX-License-Identifier: MIT
# C and C++ as clang-format has it.
set -uo pipefail
find runtime tests bench tools \( -name '*.c' -o -name '*.h' -o -name '*.cc' \) -print0 | sort -z |
  xargs -0 -n 10 -P 2 clang-format --dry-run 2>&1 |
  awk -F: '/code should be clang-formatted/ { n[$1]++ }
    /error:/ { print; bad = 1 }
    END { for (f in n) { print f ": clang-format would change " n[f] " places"; bad = 1 } exit bad }'
