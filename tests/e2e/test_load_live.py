# SPDX-License-Identifier: MIT
"""Load tests while they run: the view on a terminal, and signals to stop."""

import contextlib
import fcntl
import json
import os
import pathlib
import pty
import queue
import re
import signal
import struct
import subprocess
import termios
import threading

import pytest

from harness.autoscaler import Router
from harness.load import ENVELOPED, LoadTester
from harness.model import answers, says
from harness.timing import PATIENCE, SLOW, settle, wait_until
from harness.tls import Authority
from harness.worker import BINARY, SANITIZER, clean_environment, run

CONTROL = re.compile(r"\x1b\[(\d*)([A-Z])|(\r)|(\n)|([^\x1b\r\n]+)")


class Screen:
    """As much of a terminal as the view needs; nothing else may come."""

    def __init__(self, columns):
        self.columns, self.lines, self.row, self.column = columns, [""], 0, 0
        self.highest = 0  # how far up the cursor has gone
        self.most = 0  # lines that were in use at once

    def feed(self, text):
        at = 0
        for match in CONTROL.finditer(text):
            assert match.start() == at, f"unexpected {text[at:at + 20]!r}"
            at = match.end()
            count, letter, back, line_end, plain = match.groups()
            if plain:
                line = self.lines[self.row].ljust(self.column)
                self.lines[self.row] = (
                    line[: self.column] + plain + line[self.column + len(plain) :]
                )
                self.column += len(plain)
                assert self.column < self.columns, f"a line that wraps: {plain!r}"
            elif back:
                self.column = 0
            elif line_end:
                self.row += 1
                if self.row == len(self.lines):
                    self.lines.append("")
            elif letter == "F":
                self.row, self.column = self.row - int(count), 0
                assert self.row >= 0, "above the first line that was drawn"
            elif letter == "K":
                self.lines[self.row] = self.lines[self.row][: self.column]
            elif letter == "J":
                del self.lines[self.row + 1 :]
                self.lines[self.row] = self.lines[self.row][: self.column]
            else:
                raise AssertionError(f"unexpected {match.group()!r}")
            self.most = max(self.most, len(self.lines))
        assert at == len(text)

    def text(self):
        return "\n".join(self.lines).rstrip("\n")


class Terminal:
    """`luaworker load` with its standard error on a pseudo terminal."""

    def __init__(self, arguments, columns=100):
        master, slave = pty.openpty()
        self.master = master
        self.resize(columns)
        self.process = subprocess.Popen(
            [str(BINARY), *map(str, arguments)],
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=slave,
            text=True,
        )
        os.close(slave)
        self.seen = b""
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def resize(self, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))

    def read(self):
        while True:
            try:
                data = os.read(self.master, 65536)
            except OSError:  # the other side is closed
                return
            if not data:
                return
            self.seen += data

    def text(self):
        return self.seen.decode()

    def finish(self, code=0):
        try:
            out, _ = self.process.communicate(timeout=60 * SLOW)
        finally:
            self.process.kill()
        self.reader.join(PATIENCE)
        os.close(self.master)
        assert self.process.returncode == code, (self.process.returncode, self.text())
        return out


@pytest.fixture
def tester(tmp_path):
    return LoadTester(tmp_path, ENVELOPED)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


def frames_of(text):
    """What was drawn each time: it begins by going up over the last one."""
    return re.split(r"(?=\x1b\[\d+F)", text)


@pytest.mark.parametrize("columns", [100, 12])
def test_the_view_is_drawn_over_itself(tester, model, columns):
    model.on("/generate", says({}))
    arguments = ("load", tester.script, "/generate", "--direct", model.url)
    terminal = Terminal([*arguments, *"-rps 20 --duration 3s".split()], columns)
    report = terminal.finish()
    frames = frames_of(terminal.text())
    assert len(frames) >= 4
    screen, states = Screen(columns), []
    for frame in frames[:-1]:
        screen.feed(frame)
        assert screen.row == len(screen.lines) - 1 == 9, "always the same nine lines"
        states.append(screen.lines[0])
        if columns >= 100:
            shown = screen.text()
            assert "end to end" in shown and "in flight" in shown and "p99" in shown, shown
            assert "20/s asked" in shown
    if columns >= 100:
        assert re.search(r"\[#+\.*\]\s+\d+ %", screen.text()), screen.text()
        assert any(" left" in state for state in states) and "ok " in screen.text(), states
    screen.feed(frames[-1])
    assert screen.text() == "", "it makes room for the report"
    assert "outcomes: ok 60" in report


def test_each_picture_is_one_write(tmp_path):
    """Else it would flicker. `out` is the file that the view writes to."""
    program = tmp_path / "program.lua"
    program.write_text(
        """
        local live = require "luaworker.load_live"
        local quantile = require "luaworker.quantile"
        local recorder = require "luaworker.load_recorder"
        local writes = 0
        local out = { write = function(_, ...) writes = writes + select("#", ...) end,
          flush = function() end }
        local run = {
          settings = { n = 10, rps = 1 }, recorder = recorder.new({}, quantile.new()), begun = 3,
          elapsed = 3,
        }
        local view = live.open(out, function() return 80, 24 end)
        for i = 1, 5 do view:draw(run) end
        print(writes)
        """
    )
    assert run("run", program).stdout == "5\n"


def test_small_terminals_and_those_that_become_smaller(tmp_path):
    """What goes up counts the rows that the last picture has now; no picture is higher than the
    terminal."""
    program = tmp_path / "program.lua"
    program.write_text(
        r"""
        local live = require "luaworker.load_live"
        local quantile = require "luaworker.quantile"
        local recorder = require "luaworker.load_recorder"
        local columns, rows, shown
        local out = { write = function(_, ...) shown = table.concat { ... } end,
          flush = function() end }
        local run = {
          settings = { n = 10, rps = 1 }, recorder = recorder.new({}, quantile.new()), begun = 3,
          elapsed = 3,
        }
        local view = live.open(out, function() return columns, rows end)
        local function draw(c, r)
          columns, rows = c, r
          view:draw(run)
          local widest = 0
          for line in shown:gsub("\27%[%d*%a", ""):gmatch "[^\n]*" do
            widest = math.max(widest, #line)
          end
          print(shown:match "^\27%[(%d+)F" or 0, select(2, shown:gsub("\n", "")), widest < c)
        end
        draw(200, 50) draw(200, 50) draw(20, 50) draw(20, 5) draw(20, 1) draw(200, 50)
        """
    )
    seen = [line.split() for line in run("run", program).stdout.splitlines()]
    assert [row[1:] for row in seen] == [
        [lines, "true"] for lines in ("9", "9", "9", "4", "1", "9")
    ], seen
    up = [int(row[0]) for row in seen]
    assert up[:2] == [0, 9] and up[2] > 20 and up[3:] == [9, 4, 1], seen


def test_a_terminal_that_becomes_narrower(tester, model):
    model.on("/generate", says({}))
    arguments = ("load", tester.script, "/generate", "--direct", model.url)
    terminal = Terminal([*arguments, *"-rps 20 --duration 1h".split()])
    wait_until(lambda: terminal.text().count("\x1b[9F") >= 1, "a second picture")
    terminal.resize(30)
    seen = len(frames_of(terminal.text()))
    wait_until(lambda: len(frames_of(terminal.text())) > seen + 3, "more pictures")
    terminal.process.send_signal(signal.SIGINT)
    terminal.finish()
    later = frames_of(terminal.text())[seen + 1 : -1]
    assert later
    for frame in later:
        for line in re.sub(r"\x1b\[\d*[A-Z]", "", frame).split("\r\n"):
            assert len(line) < 30, line


def test_quiet_draws_nothing(tester, model):
    model.on("/generate", says({}))
    arguments = ("load", tester.script, "/generate", "--direct", model.url, "--quiet")
    terminal = Terminal([*arguments, "-n", "3", "-rps", "100"])
    assert "outcomes: ok 3" in terminal.finish() and terminal.text() == ""


# -- signals --


class Running:
    """`luaworker load`, to be interrupted."""

    def __init__(self, tester, *arguments):
        self.json = tester.json
        self.process = subprocess.Popen(
            [str(BINARY), "load", tester.script, "/generate", "--json", self.json]
            + [str(a) for a in arguments],
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def interrupt(self):
        """Returns when the program has taken it: two that wait at once are one."""
        self.process.send_signal(signal.SIGINT)
        wait_until(lambda: not self.has_pending(signal.SIGINT), "the signal to be taken")

    def has_pending(self, number):
        try:
            status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        except FileNotFoundError:
            return False
        masks = re.findall(r"^S[a-z]+Pnd:\s*([0-9a-f]+)$", status, re.IGNORECASE | re.MULTILINE)
        return any(int(mask, 16) >> (number - 1) & 1 for mask in masks)

    def answer_all(self, held):
        """Answers each request that comes, until the program ends. How many came."""
        count = 0
        while self.process.poll() is None:
            try:
                exchange = held.waiting.get(timeout=0.05)
            except queue.Empty:
                continue
            count += 1
            exchange.answer_json({})
        return count

    def finish(self, code):
        try:
            out, err = self.process.communicate(timeout=PATIENCE * 3)
        finally:
            self.process.kill()
        assert not any(mark in err for mark in SANITIZER), err
        assert self.process.returncode == code, (self.process.returncode, out, err)
        return out, err

    def result(self, code):
        out, _ = self.finish(code)
        return json.loads(self.json.read_text()), out


@pytest.fixture
def running(tester):
    started = []

    def start(*arguments):
        started.append(Running(tester, *arguments))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()


def test_ctrl_c_stops_sending_waits_and_reports(running, model):
    held = model.hold("/generate")
    test = running("--direct", model.url, "-rps", 50, "-n", 100000)
    model.wait_seen(5)
    test.interrupt()
    settle(lambda: len(model.seen()))
    assert test.process.poll() is None, "it waits for those that run"
    count = test.answer_all(held)
    result, report = test.result(0)
    assert result["interrupted"] is True and result["outcomes"] == {"ok": count}
    assert "INTERRUPTED" in report


def test_ctrl_c_twice_ends_at_once_and_leaves_no_file(running, model, authority):
    held, flags = model.hold("/generate"), ("--ca", authority.certificate)
    test = running("--direct", model.url, "-rps", 50, "-n", 1000, *flags)
    held.next()
    test.interrupt()
    assert not temporary_files_with(authority.certificate.read_bytes())
    test.interrupt()
    test.finish(130)


def temporary_files_with(data):
    """Those of other tests come and go."""
    found = []
    for path in pathlib.Path("/tmp").glob("lua_*"):
        with contextlib.suppress(OSError):
            found += [path] * (data in path.read_bytes())
    return found


def test_ctrl_c_in_a_closed_loop(running, model):
    held = model.hold("/generate")
    test = running("--direct", model.url, "--concurrency", 2, "-n", 100000)
    model.wait_seen(2)
    test.interrupt()
    count = test.answer_all(held)
    result, _ = test.result(0)
    assert result["outcomes"] == {"ok": count} and result["interrupted"] is True


def test_ctrl_c_in_the_warm_up_measures_nothing(running, model):
    model.on("/generate", says({}))
    test = running("--direct", model.url, "-rps", 20, "-n", 10, "--warmup", "60s")
    model.wait_seen(3)
    test.interrupt()
    result, _ = test.result(1)
    assert result["outcomes"] == {} and result["interrupted"] is True
    assert result["latency"] == {} and result["exit"] == 1


def test_ctrl_c_before_the_comparison_leaves_it_out(running, model):
    model.on("/generate", says({}))
    test = running("--direct", model.url, "-rps", 20, "-n", 1000, "--compare", model.url)
    model.wait_seen(3)
    test.interrupt()
    result, _ = test.result(0)
    assert "compare" not in result


def test_ctrl_c_while_requests_wait_for_a_worker(running):
    router = Router().say("none is free")
    try:
        test = running("--autoscaler", router.url, "-rps", 20, "-n", 5)
        router.wait_seen(5, "/route/")
        test.interrupt()
        result, _ = test.result(1)
        assert result["outcomes"] == {"cancelled": 5}
    finally:
        router.stop()


def test_ctrl_c_while_requests_wait_to_be_tried_again(running, model):
    router = Router().say(model.url)
    model.on("/generate", answers(b"", status=429, headers=[("Retry-After", "3000")]))
    try:
        test = running(*("--autoscaler", router.url, "-rps", 20, "-n", 3, "--route-timeout", "2h"))
        for exchange in model.wait_seen(3, "/generate"):
            assert exchange.answered.wait(PATIENCE)
            exchange.taken()
        test.interrupt()
        result, _ = test.result(1)
        assert result["outcomes"] == {"http 429": 3}
    finally:
        router.stop()
