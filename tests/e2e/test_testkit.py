# SPDX-License-Identifier: MIT
"""`luaworker test` and luaworker.testing: what passes, what fails and how that is told, exit codes, TAP,
the fakes, and that tests do not reach each other. That the fakes tell the truth is shown by
test_testkit_truth.py."""

import os
import pty
import re
import shutil
import signal
import subprocess

import pytest
from harness.timing import SLOW
from harness.worker import BINARY, Program, backend, run

HEAD = """
local testing = require "luaworker.testing"
local worker = require "luaworker"
local describe, it, expect = testing.describe, testing.it, testing.expect
"""


def write(directory, script=None, **tests):
    """worker.lua and the files NAME_test.lua."""
    if script:
        (directory / "worker.lua").write_text(script)
    for name, text in tests.items():
        (directory / f"{name}_test.lua").write_text(HEAD + text)
    return directory


def outcome(directory, text, *options, script=None, code=None):
    """Runs one test file; its output."""
    done = run("test", *options, directory=write(directory, script, x=text))
    assert "Sanitizer" not in done.stderr, done.stderr
    if code is not None:
        assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def passes(directory, text, script=None):
    out = outcome(directory, text, script=script, code=0)
    assert " 0 failed" in out, out
    return out


def fails(directory, text, *lines, script=None, options=()):
    """The test fails, and each of these lines is told."""
    out = outcome(directory, text, *options, script=script, code=1)
    for line in lines:
        assert line in out, out
    return out


# -- the command --


def test_exit_codes_and_summary(tmp_path):
    out = outcome(tmp_path, 'it("a", function() expect(1):to_equal(1) end)', code=0)
    assert re.search(r"^1 passed, 0 failed \(\d+\.\d\d s\)$", out, re.M)
    out = outcome(tmp_path, 'it("a", function() expect(1):to_equal(2) end)', code=1)
    assert "0 passed, 1 failed" in out
    assert outcome(tmp_path, 'it.skip("a", "no time")', code=2).count("a: no time") == 1
    outcome(tmp_path, "", code=2)


@pytest.mark.parametrize(
    "options, said",
    [
        (["missing_test.lua"], "missing_test.lua: No such file"),
        (["--filter", "["], "--filter"),
        (["--filter", "nothing"], "no test was run"),
        (["--nonsense"], "unknown option --nonsense"),
        (["--timeout", "0"], "--timeout must be at least"),
    ],
)
def test_used_wrongly(tmp_path, options, said):
    done = run("test", *options, directory=write(tmp_path, x='it("a", function() end)'))
    assert done.returncode == 2 and said in done.stderr, done.stderr


def test_nothing_to_run(tmp_path):
    done = run("test", directory=tmp_path)
    assert done.returncode == 2 and "no test files" in done.stderr


def test_a_worker_is_no_file_of_tests(tmp_path):
    write(tmp_path, 'return require("luaworker").backend {}')
    done = run("test", "worker.lua", directory=tmp_path)
    assert done.returncode == 2, done
    assert "no test was run: no describe or it in worker.lua" in done.stderr, done


def test_help(tmp_path):
    done = run("test", "--help", directory=tmp_path)
    assert done.returncode == 0
    for option in ("--filter", "--list", "--tap", "--fail-fast", "--timeout", "--hook-time"):
        assert option in done.stdout
    for option in ("--forbid-only", "--no-color"):
        assert option in done.stdout


def test_finds_files_below(tmp_path):
    for name in ("a_test.lua", "b_spec.lua", "c.lua", "sub/deep/d_test.lua", ".hid/e_test.lua"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(HEAD + f'it("in {name}", function() end)')
    done = run("test", "--list", directory=tmp_path)
    assert done.returncode == 0
    found = re.findall("in (.*)", done.stdout)
    assert found == ["a_test.lua", "b_spec.lua", "sub/deep/d_test.lua"]
    done = run("test", "--list", "sub", "b_spec.lua", directory=tmp_path)
    assert re.findall("in (.*)", done.stdout) == ["sub/deep/d_test.lua", "b_spec.lua"]
    assert "sub/deep/d_test.lua:5: in" in done.stdout


def test_filter_only_skip_and_fail_fast(tmp_path):
    three = """
    describe("group", function()
      it("one", function() end)
      it("two", function() error "no" end)
      it("three", function() end)
    end)"""
    out = outcome(tmp_path, three, "--filter", "group > t?w?one", code=0)
    assert "2 not run because of --filter (" in out
    out = outcome(tmp_path, three, "--fail-fast", code=1)
    assert "ok      one" in out and "three" not in out
    assert "1 not run because of --fail-fast (" in out
    out = outcome(tmp_path, three.replace('it("three"', 'it.only("three"'), code=0)
    assert "1 passed" in out and "2 not run because of .only (" in out
    out = outcome(tmp_path, three.replace("describe(", "describe.skip("), code=2)
    assert "3 skipped" in out
    out = outcome(tmp_path, 'it("now", function() testing.skip "no GPU" end) it("later")', code=2)
    assert "now: no GPU" in out and "later: not written yet" in out


@pytest.mark.parametrize("text", ['it.only("a", function() end)', 'describe.only("g", function()\nit("a", function() end) end)'])
def test_an_only_that_was_left_behind_is_told(tmp_path, text):
    """The tests that it leaves out may fail, and none would know."""
    write(tmp_path, x=text + ' it("b", function() error "no" end)')
    done = run("test", directory=tmp_path)
    told = "luaworker test: x_test.lua:5: .only: nothing else was run\n"
    assert (done.returncode, done.stderr) == (0, told), done
    done = run("test", "--forbid-only", directory=tmp_path)
    assert (done.returncode, done.stderr) == (1, told), done
    write(tmp_path, x='it("a", function() end)')
    done = run("test", "--forbid-only", directory=tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done


def test_list_tells_of_files_that_do_not_load(tmp_path):
    done = run("test", "--list", directory=write(tmp_path, x='it("a", function() end)', y="x = = 1"))
    assert done.returncode == 1 and "x_test.lua:5: a\n" in done.stdout, done
    assert done.stderr.startswith("luaworker test: y_test.lua:5: unexpected symbol"), done


def test_a_name_is_one_line(tmp_path):
    text = """describe("a\\nb", function()
      it("c\\r\\n1) d", function() error "no" end)
      it.skip("e", "f\\ng")
    end)"""
    out = outcome(tmp_path, text, code=1)
    assert "  a\\nb\n" in out and "FAILED  c\\13\\n1) d\n" in out and "e: f\\ng\n" in out, out
    assert "1) x_test.lua: a\\nb > c\\13\\n1) d\n" in out, out


@pytest.mark.parametrize(
    "text, said",
    [
        ("testing.descripe()", 'testing has no descripe, did you mean "describe"?'),
        ("it.olny('a')", 'it has no olny, did you mean "only"?'),
        ("testing.clock.avance(1)", 'testing.clock has no avance, did you mean "advance"?'),
    ],
)
def test_a_misspelt_word_has_a_hint(tmp_path, text, said):
    fails(tmp_path, text, "x_test.lua:5:", said)


@pytest.mark.parametrize(
    "text, said",
    [
        ("app:get('/a', { model = 'x' }).staus", 'an answer has no staus, did you mean "status"?'),
        ("app:get('/a', { model = { evnts = {} } })", 'model: evnts: unknown key, did you mean "events"?'),
        ("testing.load('worker.lua', { model = { evnts = {} } })", "testing.load: model: evnts: unknown key"),
    ],
)
def test_a_misspelt_name_is_told_at_the_tests_line(tmp_path, text, said):
    """Not as nil, which may be what is expected."""
    text = f"local app = testing.load 'worker.lua'\nit('t', function()\nlocal _ = {text} end)"
    script = backend('worker.get("/a", function() return "x" end)')
    fails(tmp_path, text, "   x_test.lua:7:\n     " + said, script=script)


def test_an_answer_without_some_things(tmp_path):
    text = """local answer = testing.load "worker.lua"
    it("t", function()
      local answer = testing.load("worker.lua"):get("/a")
      for _, name in ipairs { "error", "source", "model", "outcome" } do
        expect(answer[name]):to_be_nil()
      end
    end)"""
    passes(tmp_path, text, backend('worker.get("/a", function() return "x" end)'))


def test_colour_only_on_a_terminal(tmp_path):
    write(tmp_path, x='it("a", function() end)')
    assert "\x1b[" not in run("test", directory=tmp_path).stdout

    def on_terminal(*options):
        master, slave = pty.openpty()
        done = subprocess.Popen([BINARY, "test", *options], stdout=slave, cwd=tmp_path)
        os.close(slave)
        out = b""
        while True:
            try:
                out += (piece := os.read(master, 4096))
            except OSError:
                piece = b""
            if not piece:
                break
        os.close(master)
        assert done.wait() == 0
        return out

    assert b"\x1b[32m" in on_terminal()
    assert b"\x1b[" not in on_terminal("--no-color")


def test_sigint_ends_a_run(tmp_path):
    long = "for i = 1, 20000 do it('t' .. i, function() for _ = 1, 1e5 do end end) end"
    write(tmp_path, x=long)
    program = Program("test", directory=tmp_path)
    try:
        program.wait_line("t100")
        program.process.send_signal(signal.SIGINT)
        assert program.process.wait(30) == 128 + signal.SIGINT
    finally:
        program.kill()


# -- failures --


@pytest.mark.parametrize(
    "expectation, line",
    [
        ("expect(1):to_equal(2)", "expected 2, got 1"),
        ('expect("1"):to_equal(1)', 'expected 1, got "1"'),
        (
            "expect({ a = { 1, { b = 2 } } }):to_equal { a = { 1, { b = 3 } } }",
            "at a[2].b: expected 3, got 2",
        ),
        ("expect({ 1, 2 }):to_equal { 1 }", "at [2]: expected nil, got 2"),
        ("expect({}):to_equal { x = 1 }", "at x: expected 1, got nil"),
        ('expect(worker.json.decode "[null]"):to_equal { 1 }', "expected 1, got json.null"),
        (
            'expect(("a"):rep(99) .. "b"):to_equal(("a"):rep(99) .. "c")',
            "the texts part at byte 100",
        ),
        ("expect({}):to_be({})", "to be {}"),
        ("expect(nil):to_be_truthy()", "expected nil to be true"),
        ("expect(0):to_be_falsy()", "expected 0 to be false or nil"),
        ("expect(1):to_be_nil()", "expected 1 to be nil"),
        ('expect(1):to_be_a("string")', "to be a string"),
        ('expect("abc"):to_match("^b")', 'to match the pattern "^b"'),
        ('expect("a.c"):to_contain("abc")', 'expected "a.c" to contain "abc"'),
        ("expect({ 1 }):to_contain(2)", "to contain 2"),
        ("expect({ 1 }):to_have_length(2)", "to have the length 2, it has 1"),
        ("expect(1):to_be_near(1.2, 0.1)", "to be within 0.1 of 1.2"),
        ("expect(1):to_be_above(1)", "to be above 1"),
        ("expect(1):to_be_below(1)", "to be below 1"),
        ("expect(function() end):to_raise()", "expected an error, got none"),
        ('expect(function() error "ab" end):to_raise "b$c"', "expected an error that matches"),
        ("expect(1).never:to_equal(1)", "expected anything but 1"),
        ('expect("ab").never:to_match("a")', 'expected "ab" not to match'),
        ("expect(1).to_equal(1)", "call it with a colon"),
        ("expect(1):to_eqal(1)", 'expect has no to_eqal, did you mean "to_equal"?'),
        ("expect(1)", "expect(...) without a question"),
        ("local t = nil; t.x = 1", "attempt to index local 't' (a nil value)"),
        ('error "plain"', "plain"),
        ("error { 1 }", "the error value is no text: table { [number] = number 1 }"),
        ("error()", "an error without a message: the error value is nil"),
        (
            "error(setmetatable({}, { __tostring = function() error 'x' end }))",
            "the error value is a table whose __tostring fails",
        ),
        ("os.exit(0)", "os.exit: a test does not end the run"),
    ],
)
def test_what_does_not_hold_fails_at_its_line(tmp_path, expectation, line):
    fails(tmp_path, f'it("t", function()\n{expectation}\nend)', "x_test.lua:6:", line)


@pytest.mark.parametrize(
    "expectation",
    [
        'expect(worker.json.decode [[{"a":[1,null],"b":{}}]]):to_equal { '
        "a = { 1, worker.json.null }, b = {} }",
        "local t = {}; t.t = t; local u = {}; u.t = u; expect(t):to_equal(u)",
        "expect(0/0):to_equal(0/0)",
        "expect(2^53):to_equal(9007199254740992)",
        'expect(worker.json.decode "12345678901234567890"):to_equal(12345678901234567890ULL)',
        "expect({ { a = 1 } }):to_contain { a = 1 }",
        "expect(0.1 + 0.2):to_be_near(0.3)",
        'expect(function() error "x y" end):to_raise "x y"',
        "expect(nil).never:to_be_truthy()",
        'expect(function() worker.invalid(3) end):to_raise "worker.invalid"',
    ],
)
def test_what_holds_passes(tmp_path, expectation):
    passes(tmp_path, f'it("t", function() {expectation} end)')


def test_helpers_of_the_test_are_named_too(tmp_path):
    text = """
local function check(value)
  expect(value):to_equal(1)
end
it("t", function()
  check(2)
end)"""
    fails(tmp_path, text, "x_test.lua:7:", "called from x_test.lua:10")


def test_a_file_that_does_not_load(tmp_path):
    fails(tmp_path, "it(", "x_test.lua:", "FAILED  the file itself")
    fails(tmp_path, 'error "at load"', "x_test.lua:5:", "at load")
    fails(tmp_path, 'testing.load "missing.lua"', "testing.load: no file missing.lua")
    bad = backend('worker.post("/a", { payloads = 1 })')
    fails(tmp_path, 'testing.load "worker.lua"', "did you mean", script=bad)
    # Others are run all the same.
    write(tmp_path, y='it("fine", function() end)')
    done = run("test", directory=tmp_path)
    assert "ok      fine" in done.stdout and done.returncode == 1


def test_an_error_in_a_hook_shows_its_line(tmp_path):
    script = backend("""worker.get("/x", function()
        local t = nil
        return t.field
    end)""")
    text = """local app = testing.load "worker.lua"
    it("t", function() expect(app:get("/x").status):to_equal(200) end)"""
    line = script[: script.index("t.field")].count("\n") + 1
    fails(tmp_path, text, "expected 200, got 500", f"worker.lua:{line}:", script=script)


LOOPS = backend("""
    worker.get("/loop", function() while true do pcall(function() while true do end end) end end),
    worker.get("/sleeps", function() while true do worker.sleep(1) end end),
    worker.get("/waits", function()
      return worker.model.get("/x", { timeout = { first_byte = 0 } })
    end)""")


@pytest.mark.parametrize("path", ["/loop", "/sleeps"])
def test_what_never_ends_is_stopped(tmp_path, path):
    text = f"""local app = testing.load "worker.lua"
    it("never", function() app:get("{path}") end)
    it("next", function() end)"""
    out = fails(
        tmp_path,
        text,
        "ran for more than 0.5 s: stopped",
        "x_test.lua:6",
        script=LOOPS,
        options=["--timeout", "0.5"],
    )
    assert "ok      next" in out


def test_what_runs_the_tests_is_never_stopped(tmp_path):
    """The limit may be noticed between two turns of a test that sleeps for ever."""
    text = """local app = testing.load "worker.lua"
    for n = 1, 60 do it("never " .. n, function() app:get("/sleeps") end) end"""
    out = outcome(tmp_path, text, "--timeout", "0.05", script=LOOPS, code=1)
    assert re.search(r"^0 passed, \d+ failed", out, re.MULTILINE), out


HOOKS = backend("""worker.get("/loop", function()
      while true do pcall(error) end
    end),
    worker.get("/coroutine", function()
      coroutine.wrap(function() while true do end end)()
    end),
    worker.post("/count", { count_workload = function() while true do end end }),
    worker.get("/rests", function()
      for _ = 1, 4 do
        local begun = os.clock()
        while os.clock() - begun < 0.15 do end
        worker.sleep(1)
      end
      return "well"
    end)""")


def test_a_hook_that_never_ends_fails_its_request(tmp_path):
    """As by serve: no pcall holds it up, the log names the line, and what is next goes on. What
    waits in between begins anew. (Tests of their own have --timeout.)"""
    text = """local app = testing.load "worker.lua"
    local function stopped(answer, place)
      expect(answer.status):to_equal(500)
      expect(answer.source):to_equal("script")
      expect(answer.log):to_contain(place .. ": ran for more than 0.3 s without waiting (--hook-time)")
    end
    it("loop", function() stopped(app:get("/loop"), "worker.lua:8") end)
    it("coroutine", function() stopped(app:get("/coroutine"), "worker.lua:11") end)
    it("payload hook", function() stopped(app:post("/count", {}), "worker.lua:13") end)
    it("rests", function() expect(app:get("/rests").body):to_equal("well") end)
    it("own", function()
      local begun = os.clock()
      while os.clock() - begun < 0.5 do end
    end)"""
    write(tmp_path, HOOKS)
    first = next(i for i, line in enumerate(HOOKS.splitlines(), 1) if "pcall(error)" in line)
    text = re.sub(r"worker\.lua:(\d+)", lambda m: f"worker.lua:{int(m[1]) - 8 + first}", text)
    outcome(tmp_path, text, "--hook-time", "0.3", "--timeout", str(60 * SLOW), script=HOOKS, code=0)


def test_without_a_hook_time_the_test_is_stopped(tmp_path):
    text = """local app = testing.load "worker.lua"
    it("never", function() app:get("/loop") end)"""
    options = ["--timeout", "0.5", "--hook-time", "0"]
    fails(tmp_path, text, "ran for more than 0.5 s: stopped", script=HOOKS, options=options)


def test_a_test_that_never_ends_is_stopped(tmp_path):
    text = 'it("t", function()\nwhile true do pcall(function() end) end\nend)'
    fails(tmp_path, text, "stopped", "x_test.lua:6", options=["--timeout", "0.5"])


def test_a_wait_that_nothing_can_end_fails_at_once(tmp_path):
    text = """local app = testing.load "worker.lua"
    it("t", function() app:get("/waits", { model = { hangs = true } }) end)"""
    fails(tmp_path, text, "GET /waits: nothing can end this wait", "x_test.lua:6", script=LOOPS)


def test_what_has_no_fake_fails_the_test(tmp_path):
    script = backend("""
      worker.post("/model", {}),
      worker.get("/http", function()
        worker.http.get "https://example.com/a"
        return "went on"
      end)""")
    app = 'local app = testing.load "worker.lua"\n'
    fails(
        tmp_path,
        app + 'it("t", function() app:post("/model", {}) end)',
        "but there is no fake one",
        "x_test.lua:6",
        script=script,
    )
    fails(
        tmp_path,
        app + 'it("t", function() expect(app:get("/http").body):to_equal("went on") end)',
        "no server of the test answers there",
        "worker.lua:11",
        script=script,
    )
    fails(
        tmp_path,
        app + 'it("t", function() app:post("/model", {}, { model = { ["/other"] = "" } }) end)',
        "has no answer for POST /model",
        script=script,
    )
    fails(
        tmp_path,
        app + 'it("t", function() app:post("/nope", {}) end)',
        "has no route POST /nope; it has POST /model, GET /http",
        script=script,
    )
    fails(
        tmp_path,
        app + 'it("t", function() app:get("/http", { modle = {} }) end)',
        'modle: unknown key, did you mean "model"?',
        script=script,
    )
    fails(
        tmp_path,
        'it("t", function() testing.model { jsn = 1 } end)',
        'jsn: unknown key, did you mean "json"?',
        "x_test.lua:5",
    )


def test_expectations_within_a_fake_model_fail_the_test(tmp_path):
    script = backend('worker.post("/a", { generate_client_response = function() return "x" end })')
    text = """local app = testing.load "worker.lua"
    it("t", function()
      app:post("/a", {}, { model = function(request)
        expect(request.path):to_equal("/b")
      end })
    end)"""
    fails(tmp_path, text, "x_test.lua:8:", 'expected "/b", got "/a"', script=script)


# -- TAP --


def test_tap(tmp_path):
    text = """
    it("fine # 1", function() end)
    it("wrong", function() expect("a"):to_equal('b"\\n') end)
    it.skip("left", "because")"""
    out = outcome(tmp_path, text, "--tap", code=1)
    lines = out.splitlines()
    assert lines[0] == "TAP version 13" and lines[-1] == "1..3"
    assert "ok 1 - x_test.lua: fine \\# 1" in lines
    assert "not ok 2 - x_test.lua: wrong" in lines
    assert '  message: "expected \\"b\\\\\\"\\\\n\\", got \\"a\\""' in lines
    assert '  at: "x_test.lua:7"' in lines
    assert lines.count("  ---") == lines.count("  ...") == 1
    assert "ok 3 - x_test.lua: left # SKIP because" in lines


def test_tap_is_understood_by_prove(tmp_path):
    if not shutil.which("prove"):
        pytest.skip("no prove here")
    write(tmp_path, a='it("a", function() end)', b='it("b", function() error "x: y" end)')
    command = ["prove", "-e", f"{BINARY} test --tap", "a_test.lua"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "Result: PASS" in done.stdout, done.stdout + done.stderr
    done = subprocess.run(
        [*command, "b_test.lua"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "Failed test:  1" in done.stdout and "Parse errors" not in done.stdout, done.stdout


# -- hooks of tests, and what they share --


def test_hooks_run_around_each_test(tmp_path):
    text = """
    local seen = {}
    local function note(word) return function() seen[#seen + 1] = word end end
    testing.before_each(note "b0")
    testing.after_each(note "a0")
    describe("g", function()
      testing.before_each(note "b1")
      testing.after_each(note "a1")
      it("fails", function() error "here" end)
      it("second", function()
        expect(table.concat(seen, " ")):to_equal "b0 b1 a1 a0 b0 b1"
      end)
    end)
    it("last", function() expect(seen[#seen]):to_equal "b0" end)"""
    out = fails(tmp_path, text, "here")
    assert "ok      second" in out and "ok      last" in out


def test_a_failing_hook_fails_its_test(tmp_path):
    text = """
    testing.before_each(function() error "before" end)
    it("t", function() error "not run" end)"""
    assert "not run" not in fails(tmp_path, text, "x_test.lua:6:", "before")
    fails(tmp_path, 'testing.after_each(function() error "after" end) it("t", function() end)', "after")


STATE = """
count = 0
""" + backend("""worker.get("/count", function()
    local seen = STATE.n
    STATE.n = seen + 1
    return tostring(seen)
  end)""", before="local STATE = { n = 0 }")


def test_files_and_apps_do_not_reach_each_other(tmp_path):
    one = """
    leaked = "from the first"
    string.leaked = true
    local app, other = testing.load "worker.lua", testing.load "worker.lua"
    it("each load is a fresh worker", function()
      expect(app:get("/count").body):to_equal("0")
      expect(app:get("/count").body):to_equal("1")
      expect(other:get("/count").body):to_equal("0")
    end)"""
    two = """
    it("nothing of the other file", function()
      expect(leaked):to_be_nil()
      expect(string.leaked):to_be_nil()
      expect(testing.load("worker.lua"):get("/count").body):to_equal("0")
    end)"""
    done = run("test", directory=write(tmp_path, STATE, a=one, b=two))
    assert done.returncode == 0, done.stdout


def test_tasks_of_a_test_end_with_it(tmp_path):
    script = backend("""
      worker.get("/spawn", function()
        worker.spawn(function() while true do worker.sleep(60) ticks = ticks + 1 end end)
        return "ok"
      end),
      worker.get("/ticks", function() return tostring(ticks) end)""", before="ticks = 0")
    script = script.replace("ticks = 0", "local ticks = 0")
    text = """
    local app = testing.load "worker.lua"
    it("runs with the test's clock", function()
      app:get("/spawn")
      testing.clock.advance(300)
      expect(app:get("/ticks").body):to_equal("5")
    end)
    it("and no longer", function()
      testing.clock.advance(300)
      expect(app:get("/ticks").body):to_equal("5")
    end)"""
    passes(tmp_path, text, script)


def test_what_the_file_started_outlasts_its_tests(tmp_path):
    script = backend(
        'worker.get("/ticks", function() return tostring(ticks) end)',
        before="local ticks = 0",
        more="""start = function()
          worker.spawn(function() while true do worker.sleep(60) ticks = ticks + 1 end end)
        end,""",
    )
    text = """
    local app = testing.load "worker.lua"
    app:start()
    for i = 1, 2 do
      it("after " .. i .. " minutes", function()
        testing.clock.advance(60)
        expect(app:get("/ticks").body):to_equal(tostring(i))
      end)
    end"""
    passes(tmp_path, text, script)


# -- the fakes --

WORKER = """
local worker = require "luaworker"
local started
return worker.backend {
  model_server_url = "http://model:1",
  start = function()
    worker.log.info("loading %s", worker.env("NAME", "nothing"))
    local loaded, err = worker.model.post("/load", { json = { name = worker.env("NAME", "nothing") } })
    if not loaded then return nil, err end
    worker.sleep(100)
    if loaded:json().bad then error "bad" end
  end,
  routes = {
    worker.post("/slow", { first_byte = 30, idle = 10, total = 100 }),
    worker.post("/work", { count_workload = function(p) return p.n end,
      generate_client_response = function(request, model)
        worker.log.warn("for %s", request.session or "nobody")
        return worker.json { session = request.session, body = model:body() }
      end,
      benchmark = { generator = function() return { n = 42 } end } }),
    worker.get("/env", function()
      return worker.json { home = os.getenv "HOME", name = worker.env("NAME", "none"),
        number = worker.env("NUMBER", 3) }
    end),
    worker.get("/time", function()
      local time, text = os.time(), os.date("!%Y")
      worker.sleep(3600)
      return worker.json { os.time() - time, text }
    end),
    worker.get("/api", function(request)
      local found, err = worker.http.get("https://api.example.com/" .. request.query.path)
      return found and found:body() or worker.response { status = 502, body = err }
    end),
    worker.get("/retry", function()
      for i = 1, 5 do
        local found = worker.model.get "/try"
        if found and found.status == 200 then return tostring(i) end
        worker.sleep(2 ^ i)
      end
      return "gave up"
    end),
  },
}
"""
APP = 'local app = testing.load "worker.lua"\n'


@pytest.mark.parametrize(
    "body",
    [
        # time passes at once
        """local before = testing.clock.now()
        expect(app:get("/time"):json()):to_equal { 3600, "2026" }
        expect(testing.clock.now() - before):to_equal(3600)""",
        # deadlines
        """local answer = app:post("/slow", {}, { model = { hangs = true } })
        expect(answer.status):to_equal(504)
        expect(answer.seconds):to_equal(30)""",
        """local answer = app:post("/slow", {}, { model = { chunks = { "a", 9, "b", 11, "c" } } })
        expect(answer.body):to_equal("ab")
        expect(answer.broken):to_be(true)
        expect(answer.error):to_match("nothing more for 10 s, after 2 bytes")""",
        """local answer = app:post("/slow", {}, { model = { body = "x", delay = 29 } })
        expect(answer.status):to_equal(200)
        expect(answer.seconds):to_equal(29)""",
        """local chunks = {}
        for i = 1, 30 do chunks[i] = "x" end
        local model = testing.model { chunks = chunks, interval = 5 }
        local answer = app:post("/slow", {}, { model = model })
        expect(answer.error):to_match("did not finish its answer within 100 s")
        expect(model.requests[1].ended):to_be(false)""",
        # what the model says
        """local model = testing.model { status = 201, headers = { ["X-A"] = { "1", "2" } },
          content_type = "text/x", body = "b" }
        local answer = app:post("/slow", { n = 1 }, { model = model })
        expect(answer.status):to_equal(201)
        expect(answer.headers["x-a"]):to_equal("1, 2")
        expect(answer.headers["content-type"]):to_equal("text/x")
        expect(answer.model):to_be(model)
        expect(model:last().headers["content-type"]):to_equal("application/json")""",
        """local model = testing.model(function(request) return { json = { got = request.json.n } } end)
        expect(app:post("/slow", { n = 5 }, { model = model }):json()):to_equal { got = 5 }""",
        """local model = testing.model { sequence = { { status = 503 }, { refuses = true }, "ok" } }
        expect(app:get("/retry", { model = model }).body):to_equal("3")
        expect(model.requests[3].at - model.requests[1].at):to_equal(6)""",
        """local model = { ["GET /try"] = { status = 500 } }
        expect(app:get("/retry", { model = model }).body):to_equal("gave up")""",
        """local answer = app:post("/slow", {}, { model = { events = {
          "one", { event = "e", id = "7", data = { x = 1 } }, { y = 2 } } } })
        expect(answer:events()):to_equal {
          { event = "message", data = "one" }, { event = "e", id = "7", data = '{"x":1}' },
          { event = "message", id = "7", data = '{"y":2}' } }""",
        # servers
        """local api = testing.http("https://api.example.com/", { ["/a"] = "A", ["/b"] = "B" })
        testing.http("https://api.example.com/a", "closer")
        expect(app:get("/api?path=a").body):to_equal("closer")
        expect(app:get("/api", { query = { path = "b" } }).body):to_equal("B")
        expect(#api.requests):to_equal(1)""",
        """testing.http("https://api.example.com", { refuses = true })
        local answer = app:get("/api?path=a")
        expect(answer.status):to_equal(502)
        expect(answer.body):to_equal("server https://api.example.com refused the connection")""",
        # the environment
        """expect(app:get("/env"):json()):to_equal { name = "none", number = 3 }
        local other = testing.load("worker.lua", { env = { NAME = "n", NUMBER = "4" } })
        expect(other:get("/env"):json()):to_equal { name = "n", number = 4 }""",
        # sessions
        """local session = app:open_session()
        local answer = app:post("/work", { n = 1 }, { session = session, model = "m" })
        expect(answer:json()):to_equal { session = session.id, body = "m" }
        session:close()
        expect(app:post("/work", { n = 1 }, { session = session, model = "m" }).status):to_equal(410)""",
        """local session = app:open_session()
        local results = testing.parallel(function()
          return app:post("/work", { n = 1 }, { session = session, model = { delay = 50, body = "" } })
        end, function()
          worker.sleep(10)
          session:close()
          return "closed"
        end)
        expect(results[2]):to_equal("closed")
        expect(results[1].status):to_equal(410)
        expect(results[1].seconds):to_equal(10)
        expect(results[1].outcome):to_equal("cancelled")""",
        # the log
        """local answer = app:post("/work", { n = 7 }, { model = "m" })
        expect(answer.logs):to_equal { { level = "warn", text = "for nobody" } }
        expect(answer.log):to_equal("warn for nobody\\n")
        expect(testing.log()):to_equal(answer.log)
        expect(answer.workload):to_equal(7)""",
        # start and benchmark
        """local model = testing.model { json = {} }
        expect(app:start { model = model }):to_be(true)
        expect(model:last().json):to_equal { name = "nothing" }
        expect(testing.log()):to_contain("info loading nothing")""",
        """local ok, err = app:start { model = { json = { bad = true } } }
        expect(ok):to_be_nil()
        expect(err):to_match("bad")
        ok, err = app:start { model = { refuses = true } }
        expect(err):to_match("refused the connection")""",
        """local made = app:benchmark_payload()
        expect(made.payload):to_equal { n = 42 }
        expect(made.workload):to_equal(42)
        expect(made.body):to_equal('{"n":42}')""",
        # clients that leave
        """local model = testing.model { chunks = { "a", 1, "b", 1, "c" } }
        local answer = app:post("/slow", {}, { model = model, leave_after = 2 })
        expect(answer.chunks):to_equal { "a", "b" }
        expect(answer.left):to_be(true)
        expect(model.requests[1].closed):to_be(true)""",
        """local model = testing.model { hangs = true }
        local answer = app:post("/work", { n = 1 }, { model = model, leave_at = 5 })
        expect(answer.status):to_be_nil()
        expect(answer.outcome):to_equal("cancelled")
        expect(answer.seconds):to_equal(5)
        expect(model.requests[1].closed):to_be(true)""",
        # payloads that C refuses
        """expect(app:post("/work", "[1]").status):to_equal(422)
        expect(app:post("/work", "no json"):json()):to_equal { error = "invalid JSON" }
        expect(function() app:post("/work", "[1]"):events() end).never:to_raise()""",
        # many at once
        """local results = testing.parallel(
          function() return app:get("/time").seconds end,
          function() worker.sleep(1) return app:get("/time").seconds end)
        expect(results):to_equal { 3600, 3600 }
        expect(function() testing.parallel(function() error "one of them" end) end)
          :to_raise "one of them" """,
    ],
)
def test_fakes(tmp_path, body):
    passes(tmp_path, APP + f'it("t", function()\n{body}\nend)', WORKER)


def test_only_in_a_test_run(tmp_path):
    (tmp_path / "x.lua").write_text('require "luaworker.testing"')
    done = run("run", "x.lua", directory=tmp_path)
    assert done.returncode != 0 and "luaworker test" in done.stderr


def test_tests_take_no_real_time_and_no_network(tmp_path):
    text = APP + """
    for i = 1, 200 do
      it("t" .. i, function() app:get("/time") end)
    end"""
    out = passes(tmp_path, text, WORKER)
    assert "200 passed" in out


def test_the_shipped_workers(tmp_path):
    from harness.worker import ROOT

    done = run("test", "workers", directory=ROOT)
    assert done.returncode == 0, done.stdout
    assert "workers/hello_world_test.lua" in done.stdout
