# SPDX-License-Identifier: MIT
"""Deadlines. LW_TEST_SLOW=3 makes all of them three times as long (sanitizer builds, busy machines)."""

import os
import time

SLOW = float(os.environ.get("LW_TEST_SLOW", "1"))
PATIENCE = 30.0 * SLOW  # for what must happen: only a failing test waits so long
PROMPT = 5.0 * SLOW  # for what must happen promptly, e.g. a model call that is dropped
QUIET = 0.15 * SLOW  # how long we look when nothing may happen


def wait_until(condition, what, timeout=None):
    """Polls until condition() is true and returns its value."""
    deadline = time.monotonic() + (PATIENCE if timeout is None else timeout)
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain: {what}")
        time.sleep(0.005)


def settle(measure, quiet=None, timeout=None):
    """Waits until measure() stays the same for `quiet` seconds and returns it."""
    quiet = 0.3 * SLOW if quiet is None else quiet
    deadline = time.monotonic() + (PATIENCE if timeout is None else timeout)
    last, since = measure(), time.monotonic()
    while time.monotonic() - since < quiet:
        time.sleep(0.02)
        now = measure()
        if now != last:
            last, since = now, time.monotonic()
        if time.monotonic() > deadline:
            raise AssertionError(f"never came to rest: {last}")
    return last
