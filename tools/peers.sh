#!/bin/bash
# SPDX-License-Identifier: MIT
# Installs the test peers of tests/peers/requirements.txt into build/venv; quick when they are there.
set -euo pipefail
cd "$(dirname "$0")/.."

wanted=tests/peers/requirements.txt
stamp=build/venv/requirements.txt
cmp -s "$wanted" "$stamp" && exit 0

echo "installing test peers: $(grep -v '^#' "$wanted" | xargs)"
mkdir -p build
rm -rf build/venv
/usr/bin/python3 -m venv build/venv
build/venv/bin/pip install --quiet --disable-pip-version-check --requirement "$wanted"
cp "$wanted" "$stamp"
