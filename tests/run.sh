#!/bin/bash
# SPDX-License-Identifier: MIT
# Builds and tests. Without arguments: everything, in the release build and under the sanitizers.
#   tests/run.sh RING [PATTERN]    one ring of the release build: unit, lua, e2e, peers or lint
#   tests/run.sh asan [PATTERN]    all rings under AddressSanitizer and UndefinedBehaviorSanitizer
# PATTERN, a regular expression, picks tests by name. JOBS: how many at once (2).
set -uo pipefail
cd "$(dirname "$0")/.."
jobs=${JOBS:-2}

build() { # PRESET
  mkdir -p build
  if ! cmake --preset "$1" -Wno-dev > "build/configure-$1.log" 2>&1; then
    cat "build/configure-$1.log"
    return 1
  fi
  cmake --build --preset "$1" -j "$jobs"
}

check() { # PRESET [ctest options]: its closing lines are kept for the end
  local preset=$1
  shift
  ctest --test-dir "build/$preset" --output-on-failure --no-tests=error -j "$jobs" "$@" |
    tee "build/ctest-$preset.log"
}

sums() { # PRESET
  echo "== $1"
  sed -n '/tests passed/,$p' "build/ctest-$1.log" 2>/dev/null | grep -v '^$'
}

tools/install.sh test || exit 1
ring=${1:-all}
case $ring in peers | asan | all) tools/peers.sh || exit 1 ;; esac
pattern=(${2:+-R "$2"})
case $ring in
  unit | lua | e2e | peers | lint) build release && check release -L "^$ring\$" "${pattern[@]}" ;;
  asan) build asan && check asan "${pattern[@]}" ;;
  all)
    failed=0
    for preset in release asan; do
      rm -f "build/ctest-$preset.log"
      { build "$preset" && check "$preset"; } || failed=1
    done
    sums release
    sums asan
    exit $failed
    ;;
  *)
    echo "run.sh: no ring called $ring: unit, lua, e2e, peers, lint or asan" >&2
    exit 2
    ;;
esac
