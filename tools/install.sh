#!/bin/bash
# Installs the Debian packages that a part of the project needs: build, test, lint or bench (each
# includes build). Asks nothing; uses sudo only when not root; quick when nothing is missing.
set -euo pipefail

build="build-essential cmake ninja-build pkg-config libuv1-dev node-llhttp libcurl4-openssl-dev
  libluajit-5.1-dev libssl-dev libsimdjson-dev libcmocka-dev"
declare -A extra=(
  [build]=""
  [test]="python3 python3-pytest python3-venv faketime systemd openssl curl git luajit lua-check clang-format
    chromium fonts-dejavu-core"
  [lint]="python3 git luajit lua-check clang-format"
  [bench]="python3 openssl nginx-light hey wrk"
)
part=${1:?which part: build, test, lint or bench}
[ -v "extra[$part]" ] || { echo "install.sh: no part called $part" >&2; exit 2; }

missing=()
for package in $build ${extra[$part]}; do
  status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$status" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

sudo=""
[ "$(id -u)" -eq 0 ] || sudo=sudo
echo "installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -qq
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null
