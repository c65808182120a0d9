# SPDX-License-Identifier: MIT
"""What a script may not do, and what it is told to do instead: each refusal while it loads and in a
hook, modules, the lock on globals, waits and coroutines out of place. Nothing of it ends the process."""

import os
import signal

import pytest

from harness.message import envelope, request
from harness.timing import wait_until
from harness.worker import backend

NOT_OFFERED = {
    'os.execute "true"': "os.execute is not offered to workers: it would stop all requests until the "
    "command ends: ask a server by worker.http, or run the command beside the worker",
    'io.popen "true"': "io.popen is not offered to workers: it would stop all requests until",
    "os.exit(1)": "os.exit is not offered to workers: a worker ends by SIGTERM",
    'os.setlocale "C"': "os.setlocale is not offered to workers: it would change how numbers are read",
    "io.read()": "io.read is not offered to workers: a worker has no standard input",
    "io.lines()": "io.lines without a file is not offered to workers: a worker has no standard input",
    "io.stdin:read()": "io.stdin is not offered to workers: a worker has no standard input",
    'io.write "x"': "io.write is not offered to workers: a worker's output is its log: print",
    'io.stdout:write "x"': "io.stdout is not offered to workers: a worker's output is its log: print",
    'io.stderr:write "x"': "io.stderr is not offered to workers: a worker's output is its log: "
    "worker.log.error",
    "io.close()": "io.close without a file is not offered to workers",
    "string.dump(print)": "string.dump is not offered to workers: bytecode is never loaded",
    "debug.getinfo(1)": "debug.getinfo is not offered to workers: it would reach into the library",
    "debug.sethook()": "debug.sethook is not offered to workers",
    "collectgarbage()": "collectgarbage() is not offered to workers: the collector works by itself",
    'collectgarbage "stop"': 'collectgarbage("stop") is not offered to workers',
    'package.loadlib("x", "y")': "package.loadlib is not offered to workers: only Lua can be loaded",
    'module "x"': "module is not offered to workers: end the file with `return` and a table",
    'require "ffi"': "module 'ffi' is not offered to workers: it would reach into the process's memory",
    'require "jit"': "module 'jit' is not offered to workers",
    'require "socket"': "module 'socket' is not offered to workers: it would stop all requests while "
    "it waits; worker.http",
    'require "cjson"': "module 'cjson' is not offered to workers: worker.json is here",
    'require "string.buffer"': "module 'string.buffer' is not offered to workers",
    'require "luaworker.await"': "module 'luaworker.await' is not offered to workers: it is the "
    "library's inside",
    'load("x", "x", "t", 5)': "load: expected a table of globals, got number 5",
    "worker.joson {}": 'luaworker has no joson, did you mean "json"?',
    "worker.log.wran 'x'": 'worker.log has no wran, did you mean "warn"?',
    "setmetatable(_G, {})": "cannot change a protected metatable",
    "assert(load(('\\27LJ\\2') .. 'x'))": "it is bytecode, and only text is loaded",
}


def said(worker, since=0):
    """What a probe has printed."""
    record = wait_until(
        lambda: [r for r in worker.log.records[since:] if r["message"].startswith("probe: ")],
        "the probe's line",
    )
    return record[-1]["message"]


def get_text(worker, target):
    return worker.get(target).body.decode()


@pytest.mark.parametrize("code", NOT_OFFERED)
def test_a_refusal_names_the_alternative(start, code):
    """While the script loads, and in a hook; its place is the script's line."""
    probe = f'print("probe: " .. tostring(select(2, pcall(function()\nlocal _ = {code} end))))'
    if " " in code and not code.startswith(("worker.joson", "require", "load", "assert", "set")):
        probe = probe.replace("local _ = ", "")
    worker = start(
        backend(
            f"""worker.get("/try", function() {probe} return "on it goes" end)""", before=probe
        )
    )
    assert NOT_OFFERED[code] in said(worker)
    since = len(worker.log.records)
    assert worker.get("/try").body == b"on it goes"
    text = said(worker, since)
    assert NOT_OFFERED[code] in text
    own = ("assert", "setmetatable")  # raised by a function of C: the place is not told
    assert code.startswith(own) or "worker.lua:" in text, text


@pytest.mark.parametrize("name", ["getfenv", "setfenv", "newproxy", "jit", "gcinfo"])
def test_what_libraries_ask_for_is_absent(start, name):
    worker = start(backend(f'worker.get("/is", function() return tostring({name}) end)'))
    assert worker.get("/is").body == b"nil"


ALLOWED = """
  assert(collectgarbage "count" > 0)
  assert(require "string" == string and require "bit".band(3, 2) == 2)
  assert(load("return 1 + ...")(2) == 3 and load("return x", "x", "t", { x = 4 })() == 4)
  local name = os.tmpname()
  local file = assert(io.open(name, "w"))
  file:write("one\\ntwo\\n")
  file:close()
  local lines = {}
  for line in io.lines(name) do lines[#lines + 1] = line end
  assert(table.concat(lines, ",") == "one,two")
  assert(io.open(name):read "*a" == "one\\ntwo\\n" and os.remove(name))
  assert(io.open "/absent/file" == nil and io.open("/dev/null", "w"):write "x")
  local wrapped = coroutine.wrap(function(a) local b = coroutine.yield(a + 1) return b * 2 end)
  assert(wrapped(1) == 2 and wrapped(5) == 10)
  assert(setmetatable({}, { __index = string }).format("%d", 1) == "1")
  assert(require("luaworker.words").sample(3) and #require("luaworker.words").list > 1000)
"""


def test_what_is_offered_works(start):
    worker = start(
        backend(f'worker.get("/try", function() {ALLOWED} return "fine" end)', before=ALLOWED)
    )
    assert worker.get("/try").body == b"fine"


def test_nothing_but_files_is_opened(start, tmp_path):
    """A pipe nobody writes to would stop the worker for ever; it is not even looked into."""
    os.mkfifo(tmp_path / "fifo")
    worker = start(
        backend(
            """
      worker.get("/open", function(request)
        local path = request.query.path
        local told = { select(2, io.open(path)), select(2, io.open(path, "w")),
          select(2, pcall(io.lines, path)), select(2, worker.file.read(path)),
          select(2, loadfile(path)) }
        return table.concat(told, "\\n")
      end)"""
        )
    )
    kinds = {"/dev/zero": "a device", str(tmp_path): "a directory", f"{tmp_path}/fifo": "a pipe"}
    for path, kind in kinds.items():
        told = get_text(worker, f"/open?path={path}").split("\n")
        wanted = f"{path} is {kind}, and a worker opens files only: what may have to be waited for "
        assert len(told) == 5 and all(wanted in one for one in told), told


# -- modules --


def test_modules_that_require_each_other(start):
    routes = """worker.get("/try", function()
      return tostring(select(2, pcall(require, "a")))
    end)"""
    worker = start(backend(routes))
    for name, other in (("a", "b"), ("b", "c"), ("c", "a")):
        (worker.directory / f"{name}.lua").write_text(f'local x = require "{other}"\nreturn x')
    for _ in range(2):  # what failed is tried again
        assert "modules require each other: a -> b -> c -> a" in get_text(worker, "/try")
    (worker.directory / "b.lua").write_text(
        'local ok, err = pcall(require, "c")\nassert(err:find "each other") return require "d"'
    )
    (worker.directory / "d.lua").write_text('return "the end"')
    assert get_text(worker, "/try") == "the end"


def test_a_module_that_fails_is_tried_again(start):
    routes = """worker.get("/try", function()
      local ok, value = pcall(require, "late")
      return tostring(value)
    end)"""
    worker = start(backend(routes))
    module = worker.directory / "late.lua"
    assert "module 'late' not found:\n\tno file '" in get_text(worker, "/try")
    module.mkdir()
    assert "late.lua is a directory, and a worker opens files only" in get_text(worker, "/try")
    module.rmdir()
    module.write_text("local t = nil\nt.x = 1")
    assert "late.lua:2: attempt to index local 't' (a nil value)" in get_text(worker, "/try")
    module.write_text("x = = 1")
    assert "late.lua:1: unexpected symbol near '='" in get_text(worker, "/try")
    module.write_text("return 'there'")
    assert get_text(worker, "/try") == "there"


def test_a_late_module_may_not_define_globals(start):
    worker = start(
        backend('worker.get("/try", function() return tostring(select(2, pcall(require, "m"))) end)')
    )
    (worker.directory / "m.lua").write_text("local M = {}\nfunction helper() end\nreturn M")
    assert "m.lua:2: assignment to the global 'helper' after the" in get_text(worker, "/try")


# -- globals --

LOCK = """
limit = 3
function double(n) return 2 * n end
"""


@pytest.mark.parametrize(
    "code, name",
    [
        ("counter = (counter or 0) + 1", "counter"),
        ("limit = 4", "limit"),
        ("_G.limit = nil", "limit"),
        ("function helper() end", "helper"),
        ("string = {}", "string"),
        ("pcall(load 'hidden = 1') load('shown = 1')()", "shown"),
        ("coroutine.wrap(function() inner = 1 end)()", "inner"),
    ],
)
def test_globals_are_locked_after_the_load(start, code, name):
    worker = start(
        backend(
            f"""
      worker.get("/set", function()
        {code}
        return "set"
      end),
      worker.get("/read", function() return tostring(double(limit)) end)""",
            before=LOCK,
        )
    )
    assert worker.get("/set").status == 500
    line = worker.log.wait("a hook of the worker script failed")
    assert (
        f"assignment to the global '{name}' after the script was loaded: make it local above the "
        f"functions that use it (local {name})" in line["error"]
    )
    assert worker.get("/read").body == b"6", "what the load defined is there as it was"


def test_globals_may_be_defined_by_modules_that_the_script_requires(start, tmp_path):
    (tmp_path / "old.lua").write_text("function old_style() return 'old' end")
    worker = start(
        backend(
            'worker.get("/old", function() return old_style() end)',
            before=f'package.path = "{tmp_path}/?.lua" require "old"',
        )
    )
    assert worker.get("/old").body == b"old"


def test_the_library_is_not_changed_by_a_script(start):
    """Tables of the standard library and of ours are the script's own copies."""
    worker = start(
        backend(
            """worker.get("/try", function(request)
        return worker.json { path = request.path, log = worker.log.info == print }
      end)""",
            before="""
      string.format, table.concat, table.insert, math.floor = nil, nil, nil, nil
      string.gsub = error
      for name in pairs(worker.log) do worker.log[name] = print end
      for name in pairs(worker.http) do worker.http[name] = nil end
      local json = require "luaworker.json"
      for name in pairs(json) do json[name] = nil end
      """,
        )
    )
    assert worker.get("/try?a=b").json() == {"path": "/try", "log": True}


# -- waiting and coroutines out of place --


@pytest.mark.parametrize(
    "code",
    [
        "table.sort({ 3, 1, 2 }, function(a, b) worker.sleep(0.01) return a < b end)",
        "('a'):gsub('a', function() worker.http.get('http://127.0.0.1:1') end)",
    ],
)
def test_a_wait_inside_a_callback_of_c_is_refused(start, code):
    worker = start(
        backend(
            f"""
      worker.get("/try", function()
        local _, err = pcall(function() {code} end)
        local before = os.time()
        worker.sleep(0.05)
        return tostring(err)
      end)"""
        )
    )
    assert (
        "this waits, so it can't be called inside a function that table.sort, string.gsub or the "
        "like calls" in get_text(worker, "/try")
    )


@pytest.mark.parametrize("value", ["", "true", "{}", "worker"])
def test_a_hook_that_yields_gets_an_error(start, value):
    """It would have hung, or ended its task with the request still in it."""
    worker = start(
        backend(
            f"""
      worker.get("/yield", function() coroutine.yield({value}) return "resumed" end),
      worker.get("/ping", function() return "pong" end)"""
        )
    )
    assert worker.get("/yield").status == 500
    line = worker.log.wait("a hook of the worker script failed")
    assert "coroutine.yield: this is no coroutine of the script's own" in line["error"]
    assert worker.get("/ping").body == b"pong"


def test_coroutines_of_other_requests_are_left_alone(start):
    """The one that a request runs in, and one that waits in another request."""
    worker = start(
        backend(
            """
      worker.get("/wait", function()
        kept.ours = coroutine.create(function()
          while not kept.go do worker.sleep(0.02) end
          return "went"
        end)
        kept.thread = coroutine.running()
        return select(2, coroutine.resume(kept.ours))
      end),
      worker.get("/resume", function()
        local told = {}
        for i, name in ipairs { "thread", "ours" } do
          if not kept[name] then return "not yet" end
          told[i] = tostring(select(2, coroutine.resume(kept[name])))
        end
        kept.go = true
        return table.concat(told, "|")
      end)""",
            before="local kept = {}",
        )
    )
    waiting = worker.connect().send(request("GET", "/wait"))
    told = wait_until(
        lambda: (lambda t: t if t.startswith("this coroutine") else None)(get_text(worker, "/resume")),
        "the first request to wait",
    )
    assert told == (
        "this coroutine is a request's or a task's own: only the worker resumes it|"
        "this coroutine waits in another task"
    )
    assert waiting.read_response("GET").body == b"went"


# -- handles after their end --

AFTER = """
local kept = {}
local function copy(object)
  local out = {}
  for key, value in pairs(object) do out[key] = value end
  return setmetatable(out, getmetatable(object))
end
local function look()
  local out = {}
  for i, f in ipairs(kept) do out[i] = tostring(select(2, pcall(f))) end
  return table.concat(out, "\\n")
end
"""


def test_handles_of_an_ended_request_say_so(start, model):
    model.on("/echo", lambda exchange: exchange.answer(200, exchange.read_body()))
    worker = start(
        backend(
            """
      worker.post("/echo", { generate_client_response = function(request, answer)
        local twin, other = copy(request), copy(answer)
        local stream = worker.stream {}
        local next_chunk, state = answer:chunks()
        kept = {
          function() return request:body() end, function() return twin.path end,
          function() return answer:body() end, function() return other:json() end,
          function() return next_chunk(state) end, function() return answer:close() end,
          function() return stream:write "late" end, function() return copy(stream):finish() end,
          function() return request.body(answer) end, function() return answer.body(request) end,
          function() return stream.write(request, "x") end, function() return answer.chunks {} end,
        }
        stream:write "now"
        return stream
      end }),
      worker.get("/look", look)""",
            before=AFTER,
        )
    )
    assert worker.ask("POST", "/echo", envelope({"a": 1})).body == b"now"
    lines = get_text(worker, "/look").split("\n")
    ended = "the request has ended"
    wanted = [ended] * 5 + ["nil"] + [ended] * 2
    wanted += ["expected a request, got table", "expected an answer of a server"]
    wanted += ["expected a stream, got table", "expected an answer of a server"]
    assert len(lines) == len(wanted)
    for line, text in zip(lines, wanted):
        assert line.endswith(text), lines


@pytest.mark.parametrize("hook", ["request_parser", "count_workload", "generate_payload_json"])
@pytest.mark.parametrize("parallel", ["true", "false"])
def test_only_hooks_that_answer_may_stream(start, model, hook, parallel):
    """The model's answer comes after them: there would be two."""
    model.on("/do", lambda exchange: exchange.answer(200, exchange.read_body()))
    worker = start(
        backend(
            f"""worker.post("/do", {{
        allow_parallel_requests = {parallel},
        {hook} = function(payload)
          local ok, err = pcall(function() worker.stream {{}}:write "x" end)
          print("probe: " .. err)
          return {"1" if hook == "count_workload" else "payload"}
        end }})"""
        )
    )
    for _ in range(2):
        assert worker.post("/do", {"a": 1}).json() == {"a": 1}
    assert f"worker.stream: {hook} comes before the answer; a handler, remote and" in said(worker)


def test_an_error_that_cannot_be_told_ends_its_request_only(start):
    """Values whose text fails, and refusals that are no JSON, in every place that shows them."""
    errors = (
        "setmetatable({}, { __tostring = function() return {} end })",
        "setmetatable({}, { __tostring = function() error {} end })",
        "worker.invalid { f = print }",
        "worker.invalid(setmetatable({}, { __index = error }))",
        "nil",
        "{}",
        "coroutine.create(print)",
    )
    routes = "".join(
        f"""
      worker.get("/get{i}", function(r) kept[#kept + 1] = function() return r.id end error({e}) end),
      worker.post("/post{i}", {{ request_parser = function() error({e}) end }}),
      worker.get("/spawn{i}", function() worker.spawn(function() error({e}) end) return "ok" end),"""
        for i, e in enumerate(errors)
    )
    worker = start(backend(routes + 'worker.get("/look", look)', before=AFTER))
    for i in range(len(errors)):
        assert worker.get(f"/get{i}").status == 500
        assert worker.post(f"/post{i}").status in (422, 500)
        assert worker.get(f"/spawn{i}").body == b"ok"
    lines = get_text(worker, "/look").split("\n")
    assert len(lines) == len(errors)
    assert all(line.endswith("the request has ended") for line in lines), lines


def test_a_task_that_starts_itself_again_ends_with_its_script(start):
    worker = start(
        backend(
            """
      worker.get("/begin", function()
        local function tick() worker.spawn(tick) end
        tick()
        return "begun"
      end)"""
        )
    )
    assert worker.get("/begin").body == b"begun"
    worker.write_script(backend('worker.get("/new", function() return "new" end)'))
    worker.signal(signal.SIGHUP)
    wait_until(lambda: worker.get("/new").body == b"new", "the new script")
    worker.wait_counters("the old script to be gone", generations=1, tasks=0)
