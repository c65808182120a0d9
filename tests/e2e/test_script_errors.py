# SPDX-License-Identifier: MIT
"""Errors of scripts that a person can act on: for every place where one may happen the log names
file:line, route, hook and request, the client gets JSON without internals, and the worker goes on."""

import pytest

from harness.message import post, request
from harness.model import answers, streams
from harness.prometheus import Metrics
from harness.timing import wait_until
from harness.worker import backend, is_sanitized

FAILED = "a hook of the worker script failed"
UNCOUNTED = "a workload was not counted, 100 is used"
JOB = "a job of the worker script failed"

# Where each case's hook is told to have failed: the line of this mark, or, where a script can't be
# blamed for one line (what it returned is wrong), the line on which the function begins.
MARK = "--<<"


def line_of_mark(script):
    return next(n for n, line in enumerate(script.split("\n"), 1) if MARK in line)


def place(worker, script):
    return f"{worker.script_file}:{line_of_mark(script)}"


def work(hooks, before=""):
    return backend(
        f"""worker.post("/go", {{ allow_parallel_requests = true, {hooks}\n }}),""", before
    )


def handler(body, before=""):
    return backend(f"""worker.get("/go", function(request)\n{body}\nend),""", before)


def told_client(response, hook):
    """The whole of what a client may know."""
    assert response.status == 500, (response.status, response.body)
    request_id = response.headers.get("X-Request-Id")
    text = f"the worker script failed in {hook}; its log says how, under request {request_id}"
    assert response.json() == {"error": text, "source": "script"}
    return request_id


def expect_alive(worker):
    worker.wait_counters(tasks=0, upstreams=0, requests=0, in_flight=0)
    assert worker.get("/nothing").status == 404


# -- hooks --

PAYLOAD = 'local Input = worker.payload { a = "integer" }'
HOOKS = {
    "request_parser": ("request_parser", "request_parser = function(m) return m.x.y end --<<"),
    "request_parser, nothing": ("request_parser", "request_parser = function() end --<<"),
    "count_workload": ("count_workload", "count_workload = function(p) return p.x.y end --<<"),
    "count_workload, NaN": ("count_workload", "count_workload = function() return 0/0 end --<<"),
    "count_workload, -1": ("count_workload", "count_workload = function() return -1 end --<<"),
    "count_workload, text": ("count_workload", 'count_workload = function() return "9" end --<<'),
    "count_workload, nil": ("count_workload", "count_workload = function() end --<<"),
    "generate_payload_json": (
        "generate_payload_json",
        "generate_payload_json = function(p) return p.x.y end --<<",
    ),
    "payload json, nothing": (
        "generate_payload_json",
        "generate_payload_json = function() end --<<",
    ),
    "payload json, function": (
        "generate_payload_json",
        "generate_payload_json = function() return { f = print } end --<<",
    ),
    "payload json, NaN": (
        "generate_payload_json",
        "generate_payload_json = function() return { a = { 0/0 } } end --<<",
    ),
    "payload json, cycle": (
        "generate_payload_json",
        "generate_payload_json = function() local t = {} t.t = t return t end --<<",
    ),
    "generate_client_response": (
        "generate_client_response",
        "generate_client_response = function(_, r) return r.x.y end --<<",
    ),
    "response, nothing": (
        "generate_client_response",
        "generate_client_response = function() end --<<",
    ),
    "response, number": (
        "generate_client_response",
        "generate_client_response = function() return 5 end --<<",
    ),
    "response, function in it": (
        "generate_client_response",
        "generate_client_response = function() return worker.json { print } end --<<",
    ),
    "response, illegal field": (
        "generate_client_response",
        'generate_client_response = function() return worker.response { headers = { ["a b"] = 1 } }'
        " end --<<",
    ),
    "response, read twice": (
        "generate_client_response",
        "generate_client_response = function(_, r) r:body() r:chunks() return r end --<<",
    ),
    "remote": ("remote", "remote = function(p) return p.x.y end --<<"),
    "remote, why not": ("remote", 'remote = function() return nil, "x" end --<<'),
    "from_json_msg": (
        "from_json_msg",
        "payload = (function() function Input.from_json_msg(m)"
        " return m.x.y end --<<\n return Input end)()",
    ),
    "method of the class": (
        "generate_payload_json",
        "payload = (function() function Input:generate_payload_json()"
        " return self.x.y end --<<\n return Input end)()",
    ),
}


@pytest.mark.parametrize("name", list(HOOKS))
def test_each_hook_is_named(start, model, name):
    hook, text = HOOKS[name]
    model.on("/go", answers(b"{}", "application/json"))
    script = work(text, PAYLOAD)
    worker = start(script)
    response = worker.post("/go", {"a": 1})
    counts = hook == "count_workload"
    if counts:
        assert response.status == 200
    else:
        told_client(response, hook)
    record = worker.log.wait(UNCOUNTED if counts else FAILED)
    assert record["level"] == ("warn" if counts else "error")
    assert (record["route"], record["hook"]) == ("POST /go", hook)
    assert record["at"] == place(worker, script)
    assert record["request_id"] == response.headers.get("X-Request-Id")
    assert record["error"] and "worker.lua" not in record["error"], "the place has its own field"
    assert "luaworker/" not in record.get("traceback", "")
    line = worker.wait_request_line(route="/go")
    if counts:
        assert line["workload"] == 100 and "error" not in line
    else:
        assert line["source"] == "script"
        assert line["error"] == f"{hook}: {record['at']}: {record['error']}"
    seen = Metrics(worker.ask_internal("GET", "/metrics").body)
    assert seen.get("hook_errors_total", route="POST /go", hook=hook) == 1
    expect_alive(worker)


def test_a_refused_payload_is_no_error_of_the_script(start):
    worker = start(work('request_parser = function() error(worker.invalid { a = "no" }) end'))
    response = worker.post("/go")
    assert (response.status, response.json()) == (422, {"payload": {"a": "no"}})
    assert not worker.log.find(FAILED)


# -- values and places --

INNER = """
local function inner(t)
  return t.x.y --<<
end
"""
VALUES = {
    "text": ('error("boom") --<<', "boom"),
    "without a place": ('error("boom", 0) --<<', "boom"),
    "of the caller": (
        'local function check() error("boom", 2) end\ncheck() --<<\nreturn "x"',
        "boom",
    ),
    "assert": ("assert(false) --<<", "assertion failed!"),
    "assert with a text": ('assert(nil, "no file") --<<', "no file"),
    "nothing": ("error() --<<", "an error without a message: the error value is nil"),
    "table": (
        'error { code = 5, why = "no" } --<<',
        'the error value is no text: table { code = number 5, why = string "no" }',
    ),
    "function": ("error(print) --<<", "the error value is no text: function"),
    "__tostring": (
        "error(setmetatable({}, { __tostring = function() return 'nice' end })) --<<",
        "nice",
    ),
    "failing __tostring": (
        "error(setmetatable({}, { __tostring = function() error 'x' end })) --<<",
        "the error value is a table whose __tostring fails",
    ),
    "wrong __tostring": (
        "error(setmetatable({}, { __tostring = function() return 5 end })) --<<",
        "the error value is a table whose __tostring fails",
    ),
    "rethrown": (
        'local ok, e = pcall(error, "inner", 0)\nerror("outer: " .. e) --<<',
        "outer: inner",
    ),
    "arithmetic": (
        "local t, s = {}, 0\nfor i = 1, 1000 do t[i] = i end\n"
        "for i = 1, 1001 do\n s = s + t[i] --<<\nend\nreturn tostring(s)",
        None,
    ),
    "C function": ("local s = string.rep() --<<\nreturn s", None),
    "library: sleep": ('worker.sleep("x") --<<\nreturn "x"', None),
    "library: http": ("local a = worker.http.get(5) --<<\nreturn a", None),
    "library: options": ('local a = worker.http.get("http://h", { b = 1 }) --<<\nreturn a', None),
    "library: json": ("local a = worker.json.decode(5) --<<\nreturn a", None),
    "library: base64": ("local a = worker.base64.encode(5) --<<\nreturn a", None),
    "library: file": ("local a = worker.file.read(5) --<<\nreturn a", None),
    "library: log": ('worker.log.info("%d", "x") --<<\nreturn "x"', None),
    "library: spawn": ('worker.spawn(5) --<<\nreturn "x"', None),
    "library: request": (
        "local a = request.bdy --<<\nreturn a",
        'request has no bdy, did you mean "body"?',
    ),
    "library: request's method": (
        "request:jsn() --<<\nreturn 'x'",
        'request has no jsn, did you mean "json"?',
    ),
    "library: env without a name": (
        'local a = worker.env() --<<\nreturn "x"',
        "worker.env: expected string, got nil",
    ),
    "library: env of another type": (
        'local a = worker.env("HOME", 5) --<<\nreturn "x"',
        "HOME: expected number, got another text",  # which may be a secret
    ),
    "library: status": ("local a = worker.response { status = 99 } --<<\nreturn a", None),
    "library: status text": ('local a = worker.response { status = "200" } --<<\nreturn a', None),
    "library: json status": ("local a = worker.json({}, 1000) --<<\nreturn a", None),
    "library: two answers": ('worker.stream {}\nworker.stream {} --<<\nreturn "x"', None),
    "library: write": ("local s = worker.stream {}\ns:write({}) --<<\nreturn s", None),
}


@pytest.mark.parametrize("name", list(VALUES))
def test_each_error_value_and_its_place(start, name):
    body, text = VALUES[name]
    script = handler(body)
    worker = start(script)
    response = worker.get("/go")
    told_client(response, "handler")
    record = worker.log.wait(FAILED)
    assert record["at"] == place(worker, script)
    assert text in (None, record["error"])
    assert "luaworker/" not in record["error"] and "worker.lua:" not in record["error"]
    expect_alive(worker)


STACKS = {
    "calls": "inner {}\nreturn 'x'",
    "callback": "table.sort({ 2, 1 }, function() local v = inner {} return v end)\nreturn 'x'",
    "wrap": "coroutine.wrap(function() inner {} end)()\nreturn 'x'",
    "resume": "local co = coroutine.create(function() inner {} end)\n"
    "local ok, why = coroutine.resume(co)\nif not ok then error(why, 0) end\nreturn 'x'",
    "coroutine in a coroutine": "coroutine.wrap(function()\n"
    "coroutine.wrap(function() inner {} end)() end)()\nreturn 'x'",
    "after a wait": "coroutine.wrap(function() worker.sleep(0.01) inner {} end)()\nreturn 'x'",
}


@pytest.mark.parametrize("name", list(STACKS))
def test_the_traceback_has_the_scripts_lines(start, name):
    script = handler(STACKS[name], INNER)
    worker = start(script)
    told_client(worker.get("/go"), "handler")
    record = worker.log.wait(FAILED)
    at = place(worker, script)
    lines = record["traceback"].split("\n")
    assert record["at"] == at and lines[0] == f"{at}: in inner", record
    assert lines[-1].startswith(f"{worker.script_file}:") and lines[-1].endswith(": in handler")
    assert all(l.startswith((str(worker.script_file), "[", "(")) for l in lines), lines
    expect_alive(worker)


def test_nothing_and_a_table(start):
    """The second of two results says why; as text it would be an address."""
    worker = start(handler("return nil, { 1 }"))
    told_client(worker.get("/go"), "handler")
    wanted = "returned no answer: the error value is no text: table { [number] = number 1 }"
    assert worker.log.wait(FAILED)["error"] == wanted


def test_an_overflow_is_not_told_by_the_trace_of_another(start):
    """For some depths no room is left to note the place; what was noted before is another's."""
    names = ", ".join(f"v{k}" for k in range(16))
    frames = [
        f"function f{n}() local {names[: 4 * n - 2]} return 1 + f{n}() end" for n in range(1, 10)
    ]
    routes = [f'worker.get("/{n}", function() return f{n}() .. "" end),' for n in range(1, 10)]
    worker = start(backend("\n".join(routes), before="\n".join(frames)))
    text = worker.script_file.read_text().splitlines()
    for n in range(1, 10):
        told_client(worker.get(f"/{n}"), "handler")
        record = worker.log.wait(FAILED, route=f"GET /{n}")
        line = int(record["at"].rsplit(":", 1)[1])
        assert f"f{n}()" in text[line - 1], record


def test_text_that_would_forge_a_record(start):
    worker = start(
        handler('error("a\\n{\\"level\\":\\"error\\",\\"message\\":\\"forged\\"}\\27[31m\\0x\\r")')
    )
    told_client(worker.get("/go"), "handler")
    record = worker.log.wait(FAILED)
    assert record["error"].startswith('a\n{"level"') and "\x1b" in record["error"]
    assert not worker.log.find("forged")


def test_errors_of_megabytes_are_cut(start):
    worker = start(handler('error(("x"):rep(10e6))'))
    told_client(worker.get("/go"), "handler")
    assert 1000 < len(worker.log.wait(FAILED)["error"]) < 3000
    assert len(worker.wait_request_line(route="/go")["error"]) < 1000


RECURSION = {
    "calls": "local function f(n) return 1 + f(n) end --<<\nreturn '' .. f(1)",
    "big frames": "local function f(n) local a, b, c, d = n, n, n, n return a + b + c + d + f(n) end"
    " --<<\nreturn '' .. f(1)",
    "metamethods": "local t --<<\n t = setmetatable({}, { __index = function(_, k)"
    " return t[k] .. '' end })\nreturn t.x .. ''",
}


@pytest.mark.parametrize("name", list(RECURSION))
def test_endless_recursion(start, name):
    script = handler(RECURSION[name])
    worker = start(script)
    for _ in range(3):
        told_client(worker.get("/go"), "handler")
    record = worker.log.wait(FAILED)
    assert "stack overflow" in record["error"]
    if name != "metamethods":  # of which LuaJIT keeps no trace then
        assert record["at"] == place(worker, script)
    assert len(record.get("traceback", "")) < 9000
    expect_alive(worker)


@pytest.mark.skipif(is_sanitized(), reason="frames of sanitized C are too big for the deepest stack")
def test_endless_recursion_through_c_functions(start):
    script = handler(
        "local function f(s) return (s:gsub('.', f)) .. '' end --<<\nreturn f('a') .. ''"
    )
    worker = start(script)
    told_client(worker.get("/go"), "handler")
    assert "stack overflow" in worker.log.wait(FAILED)["error"]
    expect_alive(worker)


def test_errors_in_the_handling_of_errors(start):
    script = handler(
        "local ok, e = xpcall(function() error 'a' end, function() error 'b' end)\nerror(e, 0) --<<"
    )
    worker = start(script)
    told_client(worker.get("/go"), "handler")
    record = worker.log.wait(FAILED)
    assert (record["error"], record["at"]) == ("error in error handling", place(worker, script))


# -- after the first byte --


def test_after_the_first_byte_the_answer_is_cut(start, model):
    model.on("/go", streams([b"a", b"b"]))
    script = work(
        """generate_client_response = function(_, model_response)
          local client = worker.stream {}
          for chunk in model_response:chunks() do
            client:write(chunk)
            error("midway") --<<
          end
        end"""
    )
    worker = start(script)
    response = worker.start("/go").read_response()
    assert response.status == 200 and not response.complete and response.broken
    assert b"error" not in response.body
    record = worker.log.wait(FAILED)
    assert (record["error"], record["at"]) == ("midway", place(worker, script))
    line = worker.wait_request_line(route="/go")
    assert (line["ending"], line["source"], line["outcome"]) == ("cut", "script", "error")
    assert record["request_id"] == line["request_id"]
    expect_alive(worker)


def test_writing_after_the_end_changes_nothing_for_the_client(start):
    script = handler(
        "local s = worker.stream {} s:write('all') s:finish()\ns:write('more') --<<\nreturn s"
    )
    worker = start(script)
    client = worker.connect().send(request("GET", "/go"))
    response = client.read_response("GET")
    assert (response.status, response.body, response.complete) == (200, b"all", True)
    assert worker.log.wait(FAILED)["at"] == place(worker, script)
    assert client.send(request("GET", "/nothing")).read_response("GET").status == 404


def test_an_answer_of_another_task(start, model):
    model.on("/a", answers(b"x"))
    script = handler(
        """
        if not kept.answer then kept.answer = worker.model.get("/a") worker.sleep(0.2) return "a" end
        local body = kept.answer:body() --<<
        return body""",
        "local kept = {}",
    )
    worker = start(script)
    first = worker.connect().send(request("GET", "/go"))
    wait_until(lambda: model.requests, "the first one's call")
    worker.wait_counters(tasks=1)
    told_client(worker.get("/go"), "handler")
    record = worker.log.wait(FAILED)
    assert "another task" in record["error"] and record["at"] == place(worker, script)
    assert first.read_response("GET").body == b"a"


# -- what is no request --


def test_a_spawned_task_names_the_request_that_began_it(start):
    script = handler(
        """worker.spawn(function()
          worker.spawn(function() worker.sleep(0.01) inner {} end)
          worker.sleep(0.01)
          inner {}
        end)
        return request.id""",
        INNER,
    )
    worker = start(script)
    request_id = worker.get("/go").body.decode()
    worker.log.wait(JOB)
    worker.wait_counters(tasks=0)
    records = worker.log.find(JOB)
    assert len(records) == 1, "the second is the same again"
    record = records[0]
    assert (record["hook"], record["route"], record["request_id"]) == (
        "spawn",
        "GET /go",
        request_id,
    )
    assert record["at"] == place(worker, script) and ": in spawn" in record["traceback"]
    seen = Metrics(worker.ask_internal("GET", "/metrics").body)
    assert seen.get("hook_errors_total", route="none", hook="spawn") == 2


def test_start_and_benchmark_are_named(start, model):
    model.on("/go", answers(b"{}", "application/json"))
    script = backend(
        'worker.post("/go", { allow_parallel_requests = true, payload = Input }),',
        'local Input = worker.payload { a = "integer" }',
        "start = function()\n inner {} end,",
    ).replace("local Input", INNER + "local Input")
    worker = start(script)
    record = worker.log.wait(JOB)
    assert record["hook"] == "start" and record["at"] == place(worker, script)
    assert "route" not in record and "request_id" not in record
    assert record["traceback"].count("\n") == 1
    assert worker.post("/go", {"a": 1}).status == 200


# -- models that fail --


def test_clients_are_not_told_where_the_model_is(start):
    url = "http://127.0.0.1:1"
    worker = start(
        backend(
            """
            worker.post("/plain", { allow_parallel_requests = true }),
            worker.post("/hook", { allow_parallel_requests = true,
              generate_client_response = function(_, r) return r end }),
            worker.get("/asked", function() return worker.model.get("/a") end),
            worker.get("/forward", worker.forward()),"""
        ),
        model=url,
    )
    for response in (
        worker.post("/plain"),
        worker.post("/hook"),
        worker.get("/asked"),
        worker.get("/forward"),
    ):
        assert response.status == 502
        assert response.json() == {"error": "the model refused the connection", "source": "model"}
    for line in wait_until(
        lambda: (lambda f: f if len(f) == 4 else None)(worker.request_lines(status=502)), "lines"
    ):
        assert line["error"] == f"model {url} refused the connection"
    assert not worker.log.find(FAILED)


def test_a_worker_in_trouble_serves_the_others(start, model):
    """Among failures of every kind, each sound request gets its answer."""
    model.on("/good", answers(b"{}", "application/json"))
    model.on("/bad", answers(b"{}", "application/json"))
    worker = start(
        backend(
            """
            worker.post("/good", { allow_parallel_requests = true }),
            worker.post("/bad", { allow_parallel_requests = true,
              count_workload = function() error {} end,
              generate_client_response = function() error() end }),"""
        )
    )
    client = worker.connect()
    for _ in range(30):
        told_client(client.send(post("/bad")).read_response(), "generate_client_response")
        assert client.send(post("/good")).read_response().status == 200
    assert worker.wait_counters(in_flight=0, success=30)["error"] == 30
