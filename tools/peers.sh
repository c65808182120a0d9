#!/bin/bash
# SPDX-License-Identifier: MIT
# Gets the test peers: those of tests/peers/requirements.txt from PyPI into build/venv, and Debian's
# prometheus with promtool into build/prometheus, unpacked and not installed: the package starts a
# daemon. Quick when they are there.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p build

if [ ! -x build/prometheus/usr/bin/promtool ]; then
  echo "unpacking Debian's prometheus"
  download=$(mktemp -d)
  trap 'rm -rf "$download"' EXIT
  # A build that finds all packages installed has no lists to download by.
  (cd "$download" && { apt-get download -qq prometheus || { apt-get update -qq && apt-get download -qq prometheus; } }) \
    > "$download/said" 2>&1 || { cat "$download/said" >&2; exit 1; }
  dpkg -x "$download"/prometheus_*.deb build/prometheus
fi

wanted=tests/peers/requirements.txt
stamp=build/venv/requirements.txt
cmp -s "$wanted" "$stamp" && exit 0

echo "installing test peers: $(grep -v '^#' "$wanted" | xargs)"
rm -rf build/venv
/usr/bin/python3 -m venv build/venv
build/venv/bin/pip install --quiet --disable-pip-version-check --requirement "$wanted"
cp "$wanted" "$stamp"
