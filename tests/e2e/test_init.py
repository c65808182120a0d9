# SPDX-License-Identifier: MIT
"""luaworker init: what it writes runs at once (check, test, dev, call), and it never writes over what
is there."""

import json
import os
import shlex

import pytest

from harness.ports import as_options, dev_ports
from harness.timing import wait_until
from harness.worker import ROOT, Program, run

TRY = {
    "hello_world": ("/generate", lambda answer: answer["tokens"] == 300),
    "openai": ("/v1/completions", lambda answer: answer["usage"]["completion_tokens"] == 500),
    "image": ("/sdapi/v1/txt2img", lambda answer: len(answer["images"]) == 1),
}
TYPES = ["luaworker.lua", "luaworker/testing.lua", "luaworker/words.lua", "objects.lua", "options.lua"]


def init(directory, *arguments):
    return run("init", *arguments, directory=directory)


@pytest.fixture
def programs():
    started = []
    yield started.append
    for program in started:
        program.kill()


@pytest.mark.parametrize("template", TRY)
def test_a_new_worker_is_checked_and_tested_without_a_word(tmp_path, template):
    assert init(tmp_path, "mine", "--from", template).returncode == 0
    checked = run("check", "mine.lua", directory=tmp_path)
    assert checked.returncode == 0 and "warning" not in checked.stdout + checked.stderr, checked
    tested = run("test", "mine_test.lua", directory=tmp_path)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "mine.lua" in (tmp_path / "mine_test.lua").read_text()


@pytest.mark.parametrize("template", TRY)
def test_a_new_worker_becomes_ready_and_answers(tmp_path, template, programs):
    """What `init` says to do next, on ports of its own."""
    assert init(tmp_path, "mine", "--from", template).returncode == 0
    ports = dev_ports()
    dev = Program("dev", "mine.lua", *as_options(ports), directory=tmp_path)
    programs(dev)
    internal = dev.wait_line("luaworker status").split()[-1]
    wait_until(lambda: run("status", internal).returncode == 0, "the worker to be ready")
    path, is_right = TRY[template]
    autoscaler = f"http://127.0.0.1:{ports['autoscaler-port']}"
    called = run("call", "mine.lua", path, "--autoscaler", autoscaler, directory=tmp_path)
    assert called.returncode == 0 and is_right(json.loads(called.stdout)), called
    dev.stop()


def test_the_template_is_the_shipped_worker(tmp_path):
    for template in TRY:
        assert init(tmp_path, f"of_{template}", "--from", template).returncode == 0
        for ending in (".lua", "_test.lua"):
            shipped = (ROOT / f"workers/{template}{ending}").read_text()
            written = (tmp_path / f"of_{template}{ending}").read_text()
            assert written == shipped.replace(f"{template}.lua", f"of_{template}.lua")


def test_without_from_it_is_hello_world(tmp_path):
    said = init(tmp_path, "mine")
    assert said.returncode == 0 and "hello_world" in said.stdout and not said.stderr
    assert (tmp_path / "mine.lua").read_text() == (ROOT / "workers/hello_world.lua").read_text()
    for command in ("check mine.lua", "test mine_test.lua", "dev mine.lua", "call mine.lua /generate"):
        assert f"luaworker {command}" in said.stdout


def test_editors_get_the_types(tmp_path):
    assert init(tmp_path, "mine").returncode == 0
    settings = json.loads((tmp_path / ".luarc.json").read_text())
    library = tmp_path / settings["workspace.library"][0]
    assert settings["runtime.version"] == "LuaJIT"
    for name in TYPES:
        assert (library / name).read_text() == (ROOT / "lua/types" / name).read_text()
    (tmp_path / ".luarc.json").write_text('{"mine": true}')
    (library / "objects.lua").write_text("-- of an older release")
    assert init(tmp_path, "other").returncode == 0
    assert (tmp_path / ".luarc.json").read_text() == '{"mine": true}'
    assert (library / "objects.lua").read_text() == (ROOT / "lua/types/objects.lua").read_text()


@pytest.mark.parametrize("name", ["a/b/mine", "a/b/mine.lua", "./a/b/mine.lua"])
def test_a_directory_is_made(tmp_path, name):
    assert init(tmp_path, name).returncode == 0
    there = sorted(path.name for path in (tmp_path / "a/b").iterdir())
    assert there == [".luarc.json", ".luaworker", "mine.lua", "mine_test.lua"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_comes_next_can_be_typed(tmp_path):
    (tmp_path / "it's mine").mkdir()
    out = init(tmp_path, "it's mine/a").stdout
    assert "wrote it's mine/a.lua, " in out
    line = next(line for line in out.splitlines() if line.startswith("  luaworker check "))
    assert shlex.split(line) == ["luaworker", "check", "it's mine/a.lua"]


@pytest.mark.parametrize("there", ["mine.lua", "mine_test.lua"])
def test_it_does_not_write_over_what_is_there(tmp_path, there):
    (tmp_path / there).write_text("precious")
    said = init(tmp_path, "mine")
    assert said.returncode == 1
    assert said.stderr == f"luaworker init: {there} is there already; --force writes over it\n"
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "precious"
    assert init(tmp_path, "mine", "--force").returncode == 0
    assert (tmp_path / there).read_text() != "precious"


@pytest.mark.parametrize(
    "arguments, part",
    [
        ([], "NAME is missing"),
        (["mine", "other"], "unexpected argument"),
        (["mine", "--from", "imag"], 'did you mean "image"?'),
        (["mine", "--fron", "image"], 'did you mean "from"?'),
        (["a b"], "letters, digits"),
        (["mine/"], "letters, digits"),
        ([".lua"], "letters, digits"),
        (["luaworker"], "the library"),
        (["mine_test"], "a file of tests"),
    ],
)
def test_what_is_used_wrongly(tmp_path, arguments, part):
    said = init(tmp_path, *arguments)
    assert said.returncode == 2 and part in said.stderr and "--help" in said.stderr
    assert not said.stdout and not list(tmp_path.iterdir())


def test_what_can_not_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    said = init(tmp_path, "file/mine")
    assert said.returncode == 1 and "file/: Not a directory" in said.stderr
    (tmp_path / "mine.lua").mkdir()
    said = init(tmp_path, "mine")
    assert said.returncode == 1 and "mine.lua: Is a directory" in said.stderr
    if os.geteuid() == 0:
        return  # whom no permissions keep from writing
    (tmp_path / "closed").mkdir(mode=0o500)
    said = init(tmp_path, "closed/mine")
    assert said.returncode == 1 and "Permission denied" in said.stderr
