# SPDX-License-Identifier: MIT
"""The model's log and what happens to it: rotated, emptied, replaced, huge, no file at all. The error
marker tells: each one that is found becomes the error of the reports."""

import os
import shutil
import threading

import pytest

from harness.timing import wait_until
from harness.worker import backend

LOG_SCRIPT = """
model_log_file = "{log}",
log_actions = {{ model_loaded = "has started", model_error = {{ {errors} }}, info = "Progress" }},
"""


def script(log, errors):
    return backend(
        'worker.get("/ping", function() return "pong" end),',
        "",
        LOG_SCRIPT.format(log=log, errors=", ".join(f'"{e}"' for e in errors)),
    )


@pytest.fixture
def log(tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    return folder / "model.log"


def write(log, text):
    with log.open("a") as out:
        out.write(text)


class Marks:
    """A worker whose error markers are E0, E1, ...; each is written once."""

    def __init__(self, start, autoscaler, log):
        self.autoscaler, self.log, self.count = autoscaler, log, 0
        errors = [f"E{i}: failed" for i in range(10)]
        environment = {"REPORT_ADDR": autoscaler.url, "LUAWORKER_TEST_PACE": "20"}
        self.worker = start(script(log, errors), environment=environment)

    def next(self):
        self.count += 1
        return f"E{self.count - 1}: failed"

    def seen(self, marker):
        self.autoscaler.wait_error(marker)


@pytest.fixture
def marks(start, autoscaler, log):
    return Marks(start, autoscaler, log)


def test_rotated_by_rename(marks, log):
    first, late, new = marks.next(), marks.next(), marks.next()
    write(log, f"x\n{first}\n")
    marks.seen(first)
    with log.open("a") as old:
        log.rename(log.with_suffix(".log.1"))
        old.write(late + "\n")
        old.flush()
        marks.seen(late)
        write(log, new + "\n")
        marks.seen(new)
        last = marks.next()
        old.write(last + "\n")  # the writer has not heard of the new file
        old.flush()
        marks.seen(last)


def test_emptied_after_a_copy(marks, log):
    first, second, third = marks.next(), marks.next(), marks.next()
    write(log, first + "\n")
    marks.seen(first)
    write(log, second + "\n")
    shutil.copy(log, str(log) + ".1")
    os.truncate(log, 0)
    marks.seen(second)
    write(log, third)  # no line end: it is found as soon as it is there
    marks.seen(third)


def test_a_symlink_to_each_runs_log(marks, log):
    first, second = marks.next(), marks.next()
    runs = [log.parent / "run1", log.parent / "run2"]
    log.symlink_to(runs[0])
    write(runs[0], first + "\n")
    marks.seen(first)
    next_link = log.parent / "next"
    next_link.symlink_to(runs[1])
    write(runs[1], second + "\n")
    next_link.rename(log)
    marks.seen(second)


def readyz(worker):
    return worker.ask_internal("GET", "/readyz").body.decode()


def test_what_is_no_file(marks, log):
    os.mkfifo(log)
    wait_until(lambda: "pipe" in readyz(marks.worker), "the pipe to be named")
    log.unlink()
    log.mkdir()
    wait_until(lambda: "Is a directory" in readyz(marks.worker), "the directory to be named")
    assert marks.worker.get("/ping").body == b"pong"
    log.rmdir()
    marker = marks.next()
    write(log, marker + "\n")
    marks.seen(marker)


def test_a_marker_after_a_gigabyte_that_is_not_there(marks, log):
    """A hole as it is left by an emptied log whose writer goes on where it was; then a long line."""
    first, second = marks.next(), marks.next()
    with log.open("wb") as out:
        out.seek(1 << 30)
        out.write(f"Progress {first}\n".encode())
        out.flush()
        marks.seen(first)
        assert marks.worker.log.wait("model log")["line"] == f"Progress {first}"
        for _ in range(64):
            out.write(b"x" * (1 << 20))
        out.write(second.encode())
    marks.seen(second)


def test_a_huge_log_holds_nobody_up(start, autoscaler, log):
    with log.open("wb") as out:
        for _ in range(400):
            out.write(b"a line of the log that says nothing of interest to anybody\n" * 17000)
        out.write(b"the model has started\n")
    worker = start(script(log, ["E0"]), environment={"REPORT_ADDR": autoscaler.url})
    loaded = threading.Event()
    waiter = threading.Thread(target=lambda: autoscaler.wait_loaded() and loaded.set())
    waiter.start()
    answered = 0
    while waiter.is_alive():
        assert worker.get("/ping").body == b"pong"
        answered += 1
    waiter.join()
    assert loaded.is_set() and answered > 0
