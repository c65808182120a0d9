# SPDX-License-Identifier: MIT
"""Real programs of others against the real binary. Runs under build/venv's Python (tools/peers.sh);
shares the harness and fixtures of tests/e2e."""

import pathlib
import sys

E2E = pathlib.Path(__file__).resolve().parents[1] / "e2e"
sys.path.insert(0, str(E2E))

from conftest import *  # noqa: E402,F401,F403
