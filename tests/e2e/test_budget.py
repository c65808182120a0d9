# SPDX-License-Identifier: MIT
"""Hooks that loop or take all memory: each ends its own request with 500 and a line that names it,
whatever it does with errors; streams beside go on, and what comes after is served."""

import json
import signal

import pytest

from harness.model import says
from harness.timing import PATIENCE, wait_until
from harness.worker import backend, is_sanitized, run

TIME, MEMORY = 0.2, "32M"
LIMITS = ["--hook-time", TIME, "--script-memory", MEMORY]
OVER_TIME = "ran for more than 0.2 s without waiting (--hook-time)"
OVER_MEMORY = "the script's Lua objects take more than 32 MB (--script-memory)"

# What a hook does when the request asks for it, and what is said of it.
BAD = {
    "loop": ("while true do end", OVER_TIME),
    "pcall": ("while true do pcall(function() while true do end end) end", OVER_TIME),
    "xpcall": ("while true do xpcall(error, function() while true do end end) end", OVER_TIME),
    "tail": ("local function f() return f() end f()", OVER_TIME),
    "coroutine": (
        "while true do pcall(coroutine.wrap(function() while true do end end)) end",
        OVER_TIME,
    ),
    "index": (
        "local t = setmetatable({}, { __index = function() while true do end end }) return t.x",
        OVER_TIME,
    ),
    "tostring": (
        "local t = setmetatable({}, { __tostring = function() while true do end end }) error(t)",
        OVER_TIME,
    ),
    "gsub": ("return (('x'):gsub('x', function() while true do end end))", OVER_TIME),
    "sort": ("table.sort({ 3, 2, 1 }, function() while true do end end)", OVER_TIME),
    "load": ("while true do load(function() while true do end end) end", OVER_TIME),
    "library": ("while true do worker.json.decode(worker.json.encode { 1, 'x' }) end", OVER_TIME),
    "words": ("while true do require('luaworker.words').sample(1e4) end", OVER_TIME),
    "tables": ("local t = {} while true do t[#t + 1] = ('x'):rep(1e5) .. #t end", OVER_MEMORY),
    "caught": (
        "local t = {} while true do pcall(function() t[#t + 1] = ('x'):rep(1e5) .. #t end) end",
        OVER_MEMORY,
    ),
    "text": ("local s = ('x'):rep(1e9)", OVER_MEMORY),
    "json": (
        "local t = {} for i = 1, 400 do t[i] = ('x'):rep(1e6) end worker.json.encode(t)",
        OVER_MEMORY,
    ),
}

INPUT = """
local Input = worker.payload {}
function Input.from_json_msg(p) spoil(p.how) return p end
function Input.count_workload() return 1 end
function Input.generate_payload_json(p) return p end
"""
SPOIL = "local bad = {\n%s\n}\nlocal function spoil(how) if bad[how] then bad[how]() end end\n" % (
    "\n".join(f"  {name} = function() {code} end," for name, (code, _) in BAD.items())
)

HOOKS = {
    "handler": 'worker.get("/bad", function(request) spoil(request.query.how) return "fine" end)',
    "request_parser": 'worker.post("/bad", { request_parser = function(p) spoil(p.how) return p end })',
    "from_json_msg": 'worker.post("/bad", { payload = Input })',
    "count_workload": """worker.post("/bad", {
      count_workload = function(p) spoil(p.how) return 1 end })""",
    "generate_payload_json": """worker.post("/bad", {
      generate_payload_json = function(p) spoil(p.how) return p end })""",
    "generate_client_response": """worker.post("/bad", {
      generate_client_response = function(request, answer)
        spoil(request.payload.how)
        return answer
      end })""",
    "remote": """worker.post("/bad", {
      remote = function(p) spoil(p.how) return worker.json { ok = true } end })""",
}


def script(hook, before=""):
    routes = f"""
      {HOOKS[hook]},
      worker.post("/stream", {{ allow_parallel_requests = true }}),
      worker.get("/ping", function() return "pong" end)"""
    return backend(routes, before=SPOIL + INPUT + before)


def ask(worker, hook, how):
    if hook == "handler":
        return worker.get(f"/bad?how={how}")
    return worker.post("/bad", {"how": how})


def open_stream(worker, model):
    held = model.hold("/stream")
    client = worker.start("/stream")
    exchange = held.next()
    exchange.stream_head()
    exchange.chunk(b"one")
    response = client.open_response()
    response.read_until(b"one")
    return exchange, response


def failures(worker):
    return worker.log.find("a hook of the worker script failed")


def expect_stopped(worker, hook, how, response):
    assert response.status == 500, (how, response.status, response.body)
    assert response.json()["source"] == "script"
    record = failures(worker)[-1]
    said = BAD[how][1]
    assert said in json.dumps(record), (how, record)
    assert record["hook"] == hook, (how, record)
    trace = record.get("traceback")  # a tail call leaves none
    assert trace is None or trace.endswith(f": in {hook}"), (how, record)


@pytest.mark.parametrize("hook", HOOKS)
def test_each_hook_is_stopped_and_nothing_else(start, model, hook):
    model.on("/bad", says({"ok": True}))
    worker = start(script(hook), options=LIMITS)
    exchange, stream = open_stream(worker, model)
    for how in BAD:
        expect_stopped(worker, hook, how, ask(worker, hook, how))
        assert ask(worker, hook, "not").status == 200, how
        exchange.chunk(how.encode())
        stream.read_until(how.encode())
    exchange.last_chunk()
    assert stream.read_all() and stream.complete
    assert all("worker.lua:" in r["at"] for r in failures(worker)), "each names its line"


def test_an_answer_that_has_begun_is_cut(start):
    worker = start(
        backend(
            """worker.get("/x", function()
              local client = worker.stream {}
              client:write("first")
              while true do end
            end)"""
        ),
        options=LIMITS,
    )
    response = worker.get("/x")
    assert (response.status, response.body, response.complete) == (200, b"first", False)


def test_who_waits_may_run_for_as_long_as_it_likes(start):
    worker = start(
        backend(
            """worker.get("/x", function()
              local begun = os.clock()
              while os.clock() - begun < 0.6 do
                local turn = os.clock()
                while os.clock() - turn < 0.05 do end
                worker.sleep(0)
              end
              return "done"
            end)"""
        ),
        options=LIMITS,
    )
    assert worker.get("/x").body == b"done"
    assert not failures(worker)


def test_spawned_tasks(start):
    worker = start(
        backend(
            """worker.get("/x", function(request)
              local how = request.query.how
              worker.spawn(function() spoil(how) end)
              return "spawned"
            end)""",
            before=SPOIL,
        ),
        options=LIMITS,
    )
    for how, said in (("pcall", OVER_TIME), ("tables", OVER_MEMORY)):
        assert worker.get(f"/x?how={how}").body == b"spawned"
        wait_until(lambda: said in worker.log.text(), said, PATIENCE)
        assert worker.get("/x?how=not").status == 200


@pytest.mark.parametrize("how", ["pcall", "tables"])
def test_start(start, how):
    worker = start(
        backend(
            'worker.get("/ping", function() return "pong" end)',
            before=SPOIL,
            more=f'start = function() spoil "{how}" end,',
        ),
        options=LIMITS,
    )
    wait_until(lambda: BAD[how][1] in worker.log.text(), "start() was stopped", PATIENCE)
    assert worker.get("/ping").body == b"pong"
    assert BAD[how][1] in worker.ask_internal("GET", "/status").body.decode()


@pytest.mark.parametrize("how", ["pcall", "tables"])
@pytest.mark.parametrize("source", ["generator", "for_test"])
def test_what_the_benchmark_calls(start, how, source):
    # The second call: the first is the check's, while the script loads.
    spoiled = f'function() calls = calls + 1 if calls > 1 then spoil "{how}" end return {{}} end'
    more = "payload = Input, benchmark = {}"
    if source == "generator":
        more = f"benchmark = {{ generator = {spoiled} }}"
    worker = start(
        backend(
            f"""worker.post("/generate", {{ {more} }}),
            worker.get("/ping", function() return "pong" end)""",
            before=f"{SPOIL} local calls = 0 local Input = worker.payload {{}} Input.for_test = {spoiled}",
        ),
        options=LIMITS,
    )
    wait_until(lambda: BAD[how][1] in worker.log.text(), "it was stopped", PATIENCE)
    assert worker.get("/ping").body == b"pong"
    status = worker.ask_internal("GET", "/status").body.decode()
    assert source in status and BAD[how][1] in status


LOADING = {
    "while true do end": "ran for more than 1 s while the script was loaded",
    "local t = {} while true do t[#t + 1] = ('x'):rep(1e5) .. #t end": OVER_MEMORY,
}


@pytest.mark.parametrize("text", LOADING)
@pytest.mark.parametrize("where", ["script", "module"])
def test_loading(tmp_path, text, where):
    (tmp_path / "part.lua").write_text("\n\n" + text)
    script_file = tmp_path / "bad.lua"
    script_file.write_text('\n\nrequire "part"' if where == "module" else "\n\n" + text)
    ended = run(
        "serve",
        script_file,
        "--port",
        "0",
        "--hook-time",
        "0.1",
        "--script-memory",
        MEMORY,
        environment={"UNSECURED": "true"},
        directory=tmp_path,
    )
    assert ended.returncode == 1
    assert LOADING[text] in ended.stderr
    assert ("part.lua:3" if where == "module" else "bad.lua:3") in ended.stderr


@pytest.mark.parametrize("text", LOADING)
def test_a_reload_that_is_stopped_changes_nothing(start, text):
    good = script("handler")
    worker = start(good, options=["--hook-time", "0.1", "--script-memory", MEMORY])
    worker.write_script(text)
    worker.signal(signal.SIGHUP)
    wait_until(lambda: LOADING[text] in worker.log.text(), "the reload's failure", PATIENCE)
    assert worker.get("/ping").body == b"pong"
    assert json.loads(worker.ask_internal("GET", "/status").body)["reload_failures"] == 1


def test_signals_are_served_after_the_budget(start):
    worker = start(script("handler"), options=["--hook-time", "1"])
    client = worker.connect().send(b"GET /bad?how=pcall HTTP/1.1\r\nHost: x\r\n\r\n")
    worker.signal(signal.SIGHUP)
    assert client.read_response("GET").status == 500
    wait_until(lambda: "reloaded" in worker.log.text(), "the reload", PATIENCE)
    client.send(b"GET /bad?how=loop HTTP/1.1\r\nHost: x\r\n\r\n")
    worker.signal(signal.SIGTERM)
    worker.expect_exit(0)


def test_many_at_once_each_pay_for_themselves(start):
    worker = start(script("handler"), options=LIMITS)
    bad = [
        worker.connect().send(b"GET /bad?how=%s HTTP/1.1\r\nHost: x\r\n\r\n" % how)
        for how in (b"loop", b"tables", b"caught", b"pcall")
    ]
    good = [worker.connect().send(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(20)]
    assert [c.read_response("GET").status for c in bad] == [500] * 4
    assert [c.read_response("GET").body for c in good] == [b"pong"] * 20


def test_other_routes_are_served_between_those_that_loop(start):
    worker = start(script("handler"), options=LIMITS)
    many = 30
    bad = [
        worker.connect().send(b"GET /bad?how=loop HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(many)
    ]
    assert worker.get("/ping").body == b"pong"
    metrics = worker.ask_internal("GET", "/metrics").body.decode()
    line = next(l for l in metrics.splitlines() if l.startswith("luaworker_script_over_time_total"))
    assert int(line.split()[1]) < many
    assert {c.read_response("GET").status for c in bad} == {500}


def test_memory_that_a_script_keeps(start):
    """Who fills a global pays; so does everyone after, until what is kept has gone."""
    worker = start(
        backend(
            """worker.get("/keep", function()
              while true do kept[#kept + 1] = ("x"):rep(1e6) .. #kept end
            end),
            worker.get("/drop", function()
              for i = #kept, 1, -1 do kept[i] = nil end
              return "dropped"
            end),
            worker.get("/use", function() return tostring(#("x"):rep(8e6)) end)""",
            before="local kept = {}",
        ),
        options=LIMITS,
    )
    assert worker.get("/use").body == b"8000000"
    assert worker.get("/keep").status == 500
    assert worker.get("/use").status == 500
    assert worker.get("/drop").body == b"dropped"
    assert worker.get("/use").body == b"8000000"


def heap_bytes(worker):
    text = worker.ask_internal("GET", "/metrics").body.decode()
    line = next(l for l in text.splitlines() if l.startswith("luaworker_lua_heap_bytes "))
    return float(line.split()[1])


def test_the_memory_of_what_was_stopped_comes_back(start):
    worker = start(script("handler"), options=LIMITS[2:])
    worker.get("/bad?how=not")
    before = heap_bytes(worker)
    for _ in range(10):
        assert worker.get("/bad?how=tables").status == 500
        assert worker.get("/bad?how=text").status == 500
        assert heap_bytes(worker) < before + 2e6
    if not is_sanitized():
        assert worker.memory_kb() < 128 * 1024


def test_a_text_that_was_being_read_is_freed(start):
    """Stopped in the library, which holds a document that Lua's collector does not know."""
    worker = start(
        backend(
            """worker.get("/x", function()
              local text = "[" .. ("1,"):rep(1e6) .. "1]"
              while true do worker.json.decode(text) end
            end)"""
        ),
        options=["--hook-time", "0.02"],
    )
    for _ in range(20):
        assert worker.get("/x").status == 500
    if not is_sanitized():
        assert worker.memory_kb() < 400 * 1024


def test_one_call_that_does_not_come_back_is_told(start):
    worker = start(
        backend(
            """worker.get("/slow", function()
              local text = ("a"):rep(120)
              return tostring(text:find(("a*"):rep(4) .. "b"))
            end)"""
        ),
        options=["--hook-time", "0.05"],
    )
    client = worker.connect().send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
    line = wait_until(
        lambda: [r for r in worker.log.records if "that can't be stopped" in r.get("message", "")],
        "the warning",
        PATIENCE,
    )
    assert line[0]["level"] == "warn" and "/slow" in line[0]["message"]
    assert client.read_response("GET").status == 500
    assert len(line) == 1


def test_without_budgets(start):
    worker = start(
        backend(
            """worker.get("/x", function()
              local begun, t = os.clock(), {}
              while os.clock() - begun < 1.5 do t[1] = ("x"):rep(3e8) end
              return tostring(#t[1])
            end)"""
        ),
        options=["--hook-time", "0", "--script-memory", "0"],
    )
    assert worker.get("/x").body == b"300000000"


def test_stops_are_counted(start):
    worker = start(script("handler"), options=LIMITS)
    for how in ("loop", "tables", "text", "pcall", "sort"):
        assert worker.get(f"/bad?how={how}").status == 500
    metrics = worker.ask_internal("GET", "/metrics").body.decode()
    assert "luaworker_script_over_time_total 3\n" in metrics
    assert "luaworker_script_over_memory_total 2\n" in metrics


@pytest.mark.parametrize(
    "text", ["while true do end", "local t = {} while true do t[#t + 1] = {} end"]
)
def test_check_ends_as_well(tmp_path, text):
    script_file = tmp_path / "bad.lua"
    script_file.write_text("\n" + text + "\n")
    ended = run("check", script_file, directory=tmp_path, timeout=PATIENCE * 10)
    assert ended.returncode == 1
    said = ended.stdout + ended.stderr
    assert "bad.lua:2" in said and ("more than 10 s" in said or "more than 256 MB" in said)
