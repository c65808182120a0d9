# SPDX-License-Identifier: MIT
"""serve --watch: the script is loaded anew when one of its files was saved, however editors do that,
also when it is broken; and what is no change is none."""

import os
import time

from harness.ports import as_options, dev_ports
from harness.timing import QUIET, wait_until
from harness.worker import Program, backend
from test_reload_moments import lines, status

WATCH = ["--watch"]
MAIN = """
local worker = require "luaworker"
local part = require "part"
return worker.backend {
  model_server_url = "http://127.0.0.1:1",
  routes = { worker.get("/version", function() return part .. "%s" end) },
}
"""


def begin(start, part='return "a"', text=MAIN % "1"):
    """A worker of two files: worker.lua, which requires part.lua beside it."""
    worker = start(backend('worker.get("/version", function() return "first" end)'), options=WATCH)
    part_file(worker).write_text(part)
    worker.script_file.write_text(text)
    return worker


def part_file(worker):
    return worker.script_file.with_name("part.lua")


def wait_version(worker, text):
    wait_until(lambda: worker.get("/version").body == text, f"version {text}")


def tried(worker):
    seen = status(worker)
    return seen["reloads"] + seen["reload_failures"]


def test_written_in_place_and_by_rename(start):
    worker = begin(start)
    wait_version(worker, b"a1")
    worker.script_file.write_text(MAIN % "2")
    wait_version(worker, b"a2")
    worker.write_script(MAIN % "3")  # a new file takes its name
    wait_version(worker, b"a3")
    saved = worker.script_file.with_suffix(".lua~")
    worker.script_file.rename(saved)  # as vi does: the old one is the backup
    worker.script_file.write_text(MAIN % "4")
    wait_version(worker, b"a4")


def test_what_it_requires_is_watched_too(start):
    worker = begin(start)
    wait_version(worker, b"a1")
    part_file(worker).write_text('return "b"')
    wait_version(worker, b"b1")


def test_a_file_that_is_loaded_later(start):
    worker = begin(start, text=MAIN.replace("part ..", "dofile(LATER) ..") % "1")
    later = worker.directory / "later.lua"
    later.write_text('return "x"')
    text = MAIN.replace("part ..", f'dofile("{later}") ..') % "1"
    worker.write_script(text)
    wait_version(worker, b"x1")
    before = tried(worker)
    later.write_text('return "y"')
    wait_until(lambda: tried(worker) > before, "a reload for it")


def test_a_broken_file_is_watched_until_it_is_mended(start):
    worker = begin(start)
    wait_version(worker, b"a1")
    part_file(worker).write_text("return {")
    wait_until(lambda: status(worker)["reload_error"], "the failure")
    assert worker.get("/version").body == b"a1"
    part_file(worker).write_text('return "c"')
    wait_version(worker, b"c1")
    assert status(worker)["reload_error"] is None
    worker.script_file.write_text("error 'no'")
    wait_until(lambda: status(worker)["reload_error"], "the failure")
    worker.script_file.write_text(MAIN % "2")
    wait_version(worker, b"c2")


def test_a_file_that_is_missing_is_waited_for(start):
    worker = begin(start, text=MAIN.replace('"part"', '"lib.other"') % "1")
    wait_until(lambda: status(worker)["reload_error"], "the failure")
    assert "lib.other" in status(worker)["reload_error"]
    (worker.directory / "lib").mkdir()
    (worker.directory / "lib" / "other.lua").write_text('return "o"')
    wait_version(worker, b"o1")


def test_removed_and_written_again(start):
    worker = begin(start)
    wait_version(worker, b"a1")
    worker.script_file.unlink()
    wait_until(lambda: status(worker)["reload_error"], "the failure")
    worker.script_file.write_text(MAIN % "2")
    wait_version(worker, b"a2")


def test_a_symlink_that_is_turned_elsewhere(start, tmp_path):
    worker = begin(start)
    wait_version(worker, b"a1")
    for release in ("r1", "r2"):
        (tmp_path / release).mkdir()
        (tmp_path / release / "worker.lua").write_text(MAIN % release)
    worker.script_file.unlink()
    worker.script_file.symlink_to(tmp_path / "r1" / "worker.lua")
    wait_version(worker, b"ar1")
    fresh = worker.directory / "fresh"
    fresh.symlink_to(tmp_path / "r2" / "worker.lua")
    fresh.rename(worker.script_file)
    wait_version(worker, b"ar2")
    (tmp_path / "r2" / "worker.lua").write_text(MAIN % "r3")  # what it leads to
    wait_version(worker, b"ar3")


def test_a_burst_is_one_reload(start):
    worker = begin(start)
    wait_version(worker, b"a1")
    before = tried(worker)
    for n in range(20):
        worker.script_file.write_text(MAIN % f"x{n}")
        part_file(worker).write_text('return "b"')
    wait_version(worker, b"bx19")
    assert tried(worker) <= before + 3  # a busy machine may see it in pieces


def test_the_same_bytes_are_no_change(start):
    worker = begin(start)
    wait_version(worker, b"a1")
    before = tried(worker)
    worker.script_file.write_text(MAIN % "1")
    os.utime(part_file(worker))
    (worker.directory / "neighbour.lua").write_text("error 'not ours'")
    time.sleep(QUIET + 0.3)
    assert tried(worker) == before
    worker.script_file.write_text(MAIN % "2")
    wait_version(worker, b"a2")


def test_without_the_option_nothing_is_watched(start):
    worker = start(backend('worker.get("/version", function() return "1" end)'))
    worker.write_script(backend('worker.get("/version", function() return "2" end)'))
    time.sleep(QUIET + 0.3)
    assert worker.get("/version").body == b"1"


def test_more_files_than_are_watched(start):
    worker = begin(start)
    wait_version(worker, b"a1")
    for n in range(300):
        (worker.directory / f"m{n}.lua").write_text(f"return {n}")
    many = MAIN.replace("local part", 'for n = 0, 299 do require("m" .. n) end local part')
    worker.write_script(many % "2")
    wait_version(worker, b"a2")
    assert len(lines(worker, "more than 256 files")) == 1
    before = tried(worker)
    (worker.directory / "m5.lua").write_text("return 'changed'")
    wait_until(lambda: tried(worker) > before, "a file within the limit")
    assert worker.counters()["descriptors"] < 300, "a watch takes no descriptor of its own"


def test_dev_takes_edits_at_once(tmp_path):
    script = tmp_path / "mine.lua"
    text = backend('worker.get("/version", function() return "%s" end)')
    script.write_text(text % "1")
    dev = Program("dev", script, *as_options(dev_ports()), directory=tmp_path)
    try:
        dev.wait_line("loaded anew when you save it")
        script.write_text(text % "2")
        dev.wait_line("generation 2")
    finally:
        dev.stop(code=None)
