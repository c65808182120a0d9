#!/bin/bash
# SPDX-License-Identifier: MIT
# Runs the checks of this folder, one line each, findings below it. Names as arguments run only those:
# tests/lint/run.sh layers sizes. LUAWORKER_BIN names the binary for `exports`.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
export PYTHONDONTWRITEBYTECODE=1
bin=${LUAWORKER_BIN:-build/release/luaworker}

checks=(layers boundary exports sizes heads words rooms format luacheck)
[ $# -eq 0 ] || checks=("$@")
failed=0
for check in "${checks[@]}"; do
  if [ -f "$here/$check.py" ]; then command=(python3 "$here/$check.py"); else command=("$here/$check.sh"); fi
  [ "$check" = exports ] && command+=("$bin")
  if findings=$("${command[@]}" 2>&1); then
    echo "ok    $check"
  else
    echo "FAIL  $check: $(printf '%s\n' "$findings" | wc -l) findings"
    printf '%s\n' "$findings" | sed 's/^/      /'
    failed=1
  fi
done
exit $failed
