# SPDX-License-Identifier: MIT
"""luaworker.testing tells the truth: the same script is asked the same things by its fake client,
before its fake model, and by a real client before a real worker and a model on a socket. Status, body,
pieces, fields, outcome, workload and what the model was asked must be the same."""

import json
import re

import pytest
from harness.message import auth_data, envelope, request
from harness.model import Dropped, FakeModel, refused_url
from harness.worker import ROOT, run

SCRIPT = """
local worker = require "luaworker"
local Input = worker.payload { prompt = "string", n = { "integer", default = 1 } }
function Input:count_workload() return #self.prompt end
function Input:generate_payload_json() return { text = self.prompt, n = self.n } end
local function respond(f) return { generate_client_response = f } end
local function stream(f)
  return respond(function(request, model)
    local out = worker.stream { content_type = "text/event-stream" }
    f(out, model, request)
    return out
  end)
end
return worker.backend {
  model_server_url = "http://127.0.0.1:1",
  allow_parallel_requests = true,
  routes = {
    worker.post("/plain", {}),
    worker.post("/endpoint", { endpoint = "/other/path", count_workload = 7 }),
    worker.post("/bare", { envelope = false }),
    worker.post("/class", { payload = Input }),
    worker.post("/refuse", { payload = Input, request_parser = function(payload)
      if payload.bad then return worker.invalid { bad = "is set" } end
      if payload.worse then error(worker.invalid "all of it") end
      payload.prompt = payload.prompt or "made"
      return payload
    end }),
    worker.post("/late", { payload = Input, generate_payload_json = function()
      error(worker.invalid { late = "but not too late" })
    end }),
    worker.post("/count_bad", { count_workload = function() return "much" end }),
    worker.post("/count_raise", { count_workload = function(p) return p.a.b end }),
    worker.post("/parser_raise", { request_parser = function(p) return p.a.b end }),
    worker.post("/generate_bad", { payload = Input, generate_payload_json = function() return 3 end }),
    worker.post("/generate_text", { payload = Input, generate_payload_json = function()
      return '{"own":1.0}' end }),
    worker.post("/json", respond(function(_, model) return worker.json(model:json(), 201) end)),
    worker.post("/same", respond(function(_, model) return model end)),
    worker.post("/text", respond(function(request) return request.payload.prompt end)),
    worker.post("/whole", respond(function(_, model)
      return worker.response { status = 203, body = model:body():upper(), headers = {
        ["X-Own"] = { "a", "b" }, ["Content-Type"] = "text/x-own" } }
    end)),
    worker.post("/nothing", respond(function() end)),
    worker.post("/table", respond(function() return {} end)),
    worker.post("/raise", respond(function() error "on purpose" end)),
    worker.post("/raise_object", respond(function() error { 1 } end)),
    worker.post("/header_bad", respond(function()
      return worker.response { body = "x", headers = { ["a b"] = "c" } }
    end)),
    worker.post("/read_twice", respond(function(_, model)
      model:body()
      for _ in model:chunks() do end
      return "never"
    end)),
    worker.post("/chunks", stream(function(out, model)
      for chunk in model:chunks() do out:write("<" .. chunk .. ">") end
    end)),
    worker.post("/lines", stream(function(out, model)
      for line in model:lines() do out:write(line .. "|") end
    end)),
    worker.post("/events", stream(function(out, model)
      for event in model:events() do out:write(event.event .. "=" .. event.data .. ";") end
    end)),
    worker.post("/stream_raise", stream(function(out)
      out:write "begun"
      error "in the midst"
    end)),
    worker.post("/stream_nothing", stream(function() end)),
    worker.post("/remote", { payload = Input, remote = function(payload)
      return { got = payload.prompt, list = worker.json.array {} }
    end }),
    worker.post("/remote_model", { remote = function()
      local found, err = worker.model.get "/found"
      return { status = found and found.status, body = found and found:body(), err = err }
    end }),
    worker.post("/deadline", { first_byte = 0.3 }),
    worker.post("/hook_deadline", { first_byte = 0.3, generate_client_response = function(_, m)
      return m end }),
    worker.post("/drain", { on_disconnect = "drain" }),
    worker.get("/ping", function(request)
      return worker.json { query = request.query, agent = request.headers["x-agent"],
        path = request.path, method = request.method }
    end),
    worker.post("/echo", { envelope = false, remote = function(_, request)
      return worker.response { body = request:body(), content_type = "text/x-echo" }
    end }),
    worker.get("/teapot", function() return worker.response { status = 418 } end),
    worker.get("/forward", worker.forward "/there"),
    worker.get("/pass", function() return worker.model.get "/passed" end),
    worker.get("/other", function()
      local found, err = worker.http.post(worker.env "OTHER" .. "/api?x=1", { json = { a = 1 } })
      return worker.json { status = found and found.status, text = found and found:body(), err = err }
    end),
  },
}
"""

AUTH = auth_data(cost="100")  # what the kit's clients say
JSON = "application/json"
SSE = "text/event-stream"
TEXT = "text/plain"


class Case:
    """What is asked, and what the model says: a status, fields, pieces, and how it ends."""

    def __init__(self, path, payload=None, pieces=None, **more):
        self.path, self.payload, self.pieces = path, payload, pieces
        self.method = more.get("method", "POST")
        self.body = more.get("body")  # instead of an envelope
        self.headers = {"X-Request-Id": "the-id", **more.get("headers", {})}
        self.status = more.get("status", 200)
        self.model_type = more.get("model_type", JSON)
        self.chunked = more.get("chunked", False)
        self.ending = more.get("ending", "end")  # or break, headless, hang
        self.steps = more.get("steps", False)  # the client reads each piece before the next is sent
        self.leave_after = more.get("leave_after")
        self.name = more.get("name") or path[1:]

    def __repr__(self):
        return self.name

    def model_spec(self):
        if self.ending == "headless":
            return {"breaks": True}
        if self.ending == "hang":
            return {"hangs": True}
        spec = {"status": self.status, "content_type": self.model_type}
        if self.chunked:
            spec["chunks"] = self.pieces
        else:
            spec["body"] = "".join(self.pieces or [])
        if self.ending == "break":
            spec["breaks_after"] = len(self.pieces)
        return spec


def said(path, payload=None, text='{"ok":true}', **more):
    if payload is None and more.get("method") != "GET":
        payload = {"prompt": "hi"}
    return Case(path, payload, [text], **more)


def streamed(path, *pieces, **more):
    more.setdefault("model_type", SSE)
    return Case(path, {"prompt": "hi"}, list(pieces), chunked=True, **more)


CASES = [
    said("/plain"),
    said("/plain", status=404, model_type=TEXT, text="not here", name="plain_404"),
    said("/plain", status=500, text='{"e":1}', name="plain_500"),
    said("/plain", text="", name="plain_empty"),
    said("/endpoint"),
    said("/bare", body='{"prompt": "raw",  "n":1.0}'),
    said("/class", {"prompt": "four", "n": 3, "extra": True}),
    said("/class", {"n": "x"}, name="class_refused"),
    said("/class", {}, name="class_empty"),
    said("/refuse", {"other": 1}),
    said("/refuse", {"bad": 1}, name="refuse_returned"),
    said("/refuse", {"worse": 1}, name="refuse_raised"),
    said("/late"),
    said("/count_bad"),
    said("/count_raise"),
    said("/parser_raise"),
    said("/generate_bad"),
    said("/generate_text"),
    said("/json", text='{"a": 1.0, "list": [], "none": null}'),
    said("/json", text="no json", model_type=TEXT, name="json_bad"),
    streamed("/json", '{"a"', ending="break", name="json_cut"),
    said("/same", text="as it came", model_type="text/x-came"),
    said("/text"),
    said("/whole", text="abc"),
    said("/nothing"),
    said("/table"),
    said("/raise"),
    said("/raise_object"),
    said("/header_bad"),
    said("/read_twice"),
    said("/stream_raise"),
    said("/stream_nothing"),
    said("/remote", {"prompt": "far"}),
    said("/remote_model", text="found"),
    streamed("/plain", "data: a\n\n", "data: b\n\n", steps=True, name="plain_stream"),
    streamed("/plain", "half", ending="break", steps=True, name="plain_cut"),
    said("/plain", ending="headless", name="plain_headless"),
    said("/json", ending="headless", name="json_headless"),
    streamed("/chunks", "one", "two", steps=True),
    streamed("/chunks", "one", ending="break", steps=True, name="chunks_cut"),
    streamed("/lines", "a\r\nb", "c\nd", name="lines"),
    streamed("/events", "data: 1\n\nevent: e\nda", "ta: 2\ndata: 3\n\n", name="events"),
    streamed("/plain", "x1", "x2", leave_after=1, name="plain_left"),
    streamed("/chunks", "x1", "x2", leave_after=1, name="chunks_left"),
    streamed("/drain", "x1", "x2", leave_after=1, name="drain_left"),
    said("/deadline", ending="hang"),
    said("/hook_deadline", ending="hang"),
    Case("/ping?a=1&b=%20x", method="GET", headers={"X-Agent": "me"}),
    Case("/echo", body='{"a" : 1.0}'),
    Case("/teapot", method="GET"),
    said("/forward?q=1", text="there", method="GET", model_type=TEXT, status=202),
    said("/pass", text="passed", method="GET", model_type=TEXT),
    Case("/other", method="GET"),
]
NAMES = [case.name for case in CASES]
assert len(set(NAMES)) == len(NAMES)
MODEL_PATHS = {"/endpoint": "/other/path", "/forward": "/there", "/pass": "/passed"}

RUNNER = """
local testing = require "luaworker.testing"
local worker = require "luaworker"
local data = worker.json.decode(worker.file.read "cases.json")
local app = testing.load("worker.lua", { model_url = data.model_url, env = { OTHER = data.other } })
testing.http(data.other, { status = 203, body = "other" })
for _, case in ipairs(data.cases) do
  testing.it(case.name, function()
    local model = testing.model(case.model)
    local answer = app:request {
      method = case.method, path = case.path, payload = case.payload, body = case.body,
      headers = case.headers, model = model, leave_after = case.leave_after,
    }
    local asked = model.requests[1]
    print("RESULT " .. worker.json.encode {
      name = case.name, status = answer.status, body = answer.body, pieces = answer.chunks,
      type = answer.headers["content-type"], own = answer.headers["x-own"],
      complete = answer.ended, outcome = answer.outcome, workload = answer.workload,
      asked = asked and { method = asked.method, path = asked.path, query = asked.query,
        body = asked.body, type = asked.headers["content-type"], agent = asked.headers["x-agent"] },
    })
  end)
end
"""


def tell_kit(case):
    told = {"name": case.name, "method": case.method, "path": case.path, "headers": case.headers}
    told["model"] = case.model_spec()
    if case.body is not None:
        told["body"] = case.body
    elif case.method == "POST":
        told["payload"] = json.dumps(case.payload)
    if case.leave_after:
        told["leave_after"] = case.leave_after
    return told


def run_kit(directory, cases, model_url, other_url):
    directory.mkdir()
    (directory / "worker.lua").write_text(SCRIPT)
    (directory / "worker_test.lua").write_text(RUNNER)
    data = {"model_url": model_url, "other": other_url, "cases": [tell_kit(c) for c in cases]}
    (directory / "cases.json").write_text(json.dumps(data))
    done = run("test", directory=directory)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    lines = [line[7:] for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    return {result["name"]: result for result in map(json.loads, lines)}


# -- the same by sockets --


def say(case, exchange, between):
    """Answers as the case says; between() after each piece."""
    if case.ending == "hang":
        return
    if case.ending == "headless":
        exchange.close()
        return
    if not case.chunked:
        body = "".join(case.pieces or []).encode()
        exchange.answer(case.status, body, content_type=case.model_type)
        return
    exchange.stream_head(case.model_type)
    for i, piece in enumerate(case.pieces):
        exchange.chunk(piece.encode())
        if not between(i):
            return
    exchange.close() if case.ending == "break" else exchange.last_chunk()


def ask_really(case, worker, model):
    path = case.path.split("?")[0]
    model_path = "/found" if path == "/remote_model" else MODEL_PATHS.get(path, path)
    held = model.hold(model_path)
    body = envelope(case.payload, AUTH) if case.method == "POST" else None
    fields = list(case.headers.items())
    client = worker.connect()
    seen = len(worker.log.find("request"))
    client.send(request(case.method, case.path, case.body.encode() if case.body else body, fields))
    response, asked = None, None
    if case.name in WITHOUT_MODEL:
        response = client.read_response(case.method)
    else:
        asked = held.next()

        def between(i):
            nonlocal response
            if not case.steps and (not case.leave_after or i >= case.leave_after):
                return True
            response = response or client.open_response(case.method)
            read = len(response.body)
            response.read_bytes(read + 1)
            if case.leave_after == i + 1:
                client.close()
                if case.path == "/drain":
                    asked.expect_alive()
                    return True
                asked.expect_dropped()
                asked.done()
                return False
            return True

        try:
            say(case, asked, between)
        except Dropped: # the script did not want it all
            pass
        if not case.leave_after:
            response = response or client.open_response(case.method)
            response.read_all()
    if asked:
        asked.done()
    client.close()
    record = worker.log.wait("request", count=seen + 1)
    return result_of(case, response, asked, record)


def result_of(case, response, asked, record):
    found = {
        "name": case.name,
        "status": response.status,
        "body": response.body.decode(),
        "pieces": [piece.decode() for piece in response.pieces],
        "type": response.headers.get("Content-Type"),
        "own": ", ".join(response.headers.all("X-Own")) or None,
        "complete": response.complete and not case.leave_after,
        "outcome": None if record["outcome"] == "none" else record["outcome"],
        "workload": record.get("workload"),
    }
    if asked:
        target = asked.target.partition("?")
        found["asked"] = {
            "method": asked.method,
            "path": target[0],
            "query": target[2],
            "body": asked.body.decode(),
            "type": asked.headers.get("Content-Type"),
            "agent": asked.headers.get("X-Agent"),
        }
    return found


# Those that never come as far as the model.
WITHOUT_MODEL = {
    "class_refused",
    "class_empty",
    "refuse_returned",
    "refuse_raised",
    "late",
    "parser_raise",
    "generate_bad",
    "remote",
    "ping?a=1&b=%20x",
    "echo",
    "teapot",
    "other",
}


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    """By name: what the kit says and what is so."""
    from harness.worker import Worker

    directory = tmp_path_factory.mktemp("truth")
    model, other = FakeModel(), FakeModel()
    other.on("/api", lambda e: (e.read_body(), e.answer(203, b"other", content_type=TEXT)))
    kit = run_kit(directory / "kit", CASES, model.url, other.url)
    worker = Worker(directory, SCRIPT, model=model, environment={"OTHER": other.url})
    yield kit, lambda case: ask_really(case, worker, model)
    try:
        worker.finish()
    finally:
        worker.kill()
        model.stop()
        other.stop()


def comparable(result, case):
    """Without what the way of the bytes decides: pieces only where each is read before the next."""
    result = {key: value for key, value in result.items() if value is not None}
    asked = {k: v for k, v in (result.pop("asked", None) or {}).items() if v not in (None, "")}
    if not case.steps:
        result.pop("pieces")
    return {**result, **{"asked " + key: value for key, value in asked.items()}}


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_the_kit_says_what_is_so(truth, case):
    kit, ask = truth
    told, found = comparable(kit[case.name], case), comparable(ask(case), case)
    differing = [key for key in {**told, **found} if told.get(key) != found.get(key)]
    assert not differing, [(key, told.get(key), found.get(key)) for key in differing]


def test_a_model_that_is_not_there(tmp_path, start):
    url = refused_url()
    cases = [said("/plain"), said("/json"), said("/remote_model"), said("/pass", method="GET")]
    kit = run_kit_refusing(tmp_path / "kit", cases, url)
    worker = start(SCRIPT, model=url)
    for case in cases:
        told = kit[case.name]
        response = worker.ask(
            case.method, case.path, envelope(case.payload, AUTH) if case.payload else None
        )
        found = (response.status, response.body.decode())
        assert (told["status"], told["body"]) == found, case
    assert {kit[c.name]["outcome"] for c in cases[:2]} == {"error"}


def test_nothing_of_a_request_reaches_c():
    """All that takes a request, a call or the running task has its fake: C would take it for memory."""
    declared = (ROOT / "runtime/script/api.h").read_text()
    wanted = set(re.findall(r"(lw_api_\w+)\([^)]*struct lw_(?:request|call) \*", declared))
    wanted |= set(re.findall(r"(lw_api_(?:task|job|call)_\w+)\(", declared))
    fakes = "".join(p.read_text() for p in (ROOT / "lua/luaworker").glob("testing_*.lua"))
    assert len(wanted) > 30
    assert not [name for name in sorted(wanted) if f"function C.{name}(" not in fakes]


def run_kit_refusing(directory, cases, url):
    for case in cases:
        case.model_spec = lambda: {"refuses": True}
    return run_kit(directory, cases, url, "http://other.test")
