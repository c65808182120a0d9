# SPDX-License-Identifier: MIT
"""Real programs of others against the real binary. Runs under build/venv's Python (tools/peers.sh);
shares the harness and the fixtures of tests/e2e."""

import importlib.util
import pathlib

FILE = pathlib.Path(__file__).resolve().parents[1] / "e2e/conftest.py"
spec = importlib.util.spec_from_file_location("e2e_conftest", FILE)
fixtures = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fixtures)
globals().update({k: v for k, v in vars(fixtures).items() if not k.startswith("__")})
