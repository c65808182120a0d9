#!/bin/bash
# SPDX-License-Identifier: MIT
# Checks the shipped workers against lua/types with a checker that reads annotations, from crates.io
# into build/types (some minutes, once). Needs a cargo that is not older than 1.85: Debian 12's is.
set -euo pipefail
cd "$(dirname "$0")/.."

version=0.25.1
checker=build/types/bin/emmylua_check
if ! "$checker" --version 2> /dev/null | grep -qF "$version"; then
  command -v cargo > /dev/null || { echo "types.sh: needs cargo, the package manager of Rust" >&2; exit 1; }
  echo "installing emmylua_check $version"
  mkdir -p build/types
  cargo install --quiet --locked --root build/types emmylua_check --version "$version"
fi

"$checker" --warnings-as-errors .

# It must see the types: this slip is found, in a project as `luaworker init` writes it.
slip=build/types/slip
mkdir -p "$slip"
cp -r lua/types "$slip/.luaworker"
trap 'rm -rf "$slip"' EXIT
echo '{ "runtime.version": "LuaJIT", "workspace.library": [".luaworker"] }' > "$slip/.luarc.json"
echo 'require("luaworker").slep(1)' > "$slip/slip.lua"
if ! "$checker" "$slip" 2>&1 | grep -qF 'Undefined field `slep`'; then
  echo "types.sh: the checker did not find a slip: it does not see lua/types" >&2
  exit 1
fi
echo "a slip is found"
