# SPDX-License-Identifier: MIT
"""Payloads: bytes nobody touched pass untouched, JSON keeps its fidelity through hooks, what is
missing or of the wrong type is refused with its text, and hooks that fail end their request only."""

import json

import pytest

from harness.message import envelope, post, request
from harness.model import answers, echo, streams
from harness.worker import backend

FIDELITY = (
    b'{ "stop":[], "seed":9007199254740993,"x":{},"n":null,"f":1.0,\t"e":1e5,"neg":-0,\n'
    b'"z":1,"a":2, "text":"\\u00e9\xc3\xa9\\/\\ud83d\\ude00\\u0000", "big":18446744073709551615,'
    b'"long":0.1000000000000000055511151231257827, "nested":{"b":[[],{},[null]],"a":{"":[]}} }'
)


@pytest.fixture(autouse=True)
def echoing(model):
    model.on("/generate", echo)


def hooked(hooks, before=""):
    return backend(
        'worker.post("/generate", { allow_parallel_requests = true, %s })' % hooks, before
    )


def pairs(text):
    """As a list of pairs, so that order and duplicates show."""
    return json.loads(text, object_pairs_hook=list, parse_float=lambda t: ("float", t))


def test_untouched_payload_is_the_same_bytes(worker, model):
    assert worker.post("/generate", FIDELITY).body == FIDELITY.strip()
    assert model.last().body == FIDELITY.strip()


def test_untouched_although_hooks_looked_at_it(start):
    worker = start(
        hooked(
            """
      count_workload = function(payload)
        local n = 0
        for key, value in pairs(payload) do n = n + 1 end
        return payload.z + #payload.stop + n
      end"""
        )
    )
    assert worker.post("/generate", FIDELITY).body == FIDELITY.strip()
    assert worker.wait_request_line(route="/generate")["workload"] == 1 + len(json.loads(FIDELITY))


def test_a_hook_that_changes_one_field_keeps_the_others(start):
    worker = start(
        hooked(
            """
      generate_payload_json = function(payload)
        payload.z = "changed"
        return payload
      end"""
        )
    )
    got = pairs(worker.post("/generate", FIDELITY).body)
    want = [(k, "changed" if k == "z" else v) for k, v in pairs(FIDELITY)]
    assert sorted(map(repr, got)) == sorted(map(repr, want))
    assert b'"stop":[]' in worker.post("/generate", FIDELITY).body.replace(b" ", b"")


def test_a_hook_that_changes_one_field_keeps_the_order(start):
    worker = start(
        hooked("generate_payload_json = function(payload) payload.z = 'c'; return payload end")
    )
    got = [k for k, _ in pairs(worker.post("/generate", FIDELITY).body)]
    assert got == [k for k, _ in pairs(FIDELITY)]


def test_a_hook_that_changes_deep_inside(start):
    worker = start(
        hooked(
            """
      generate_payload_json = function(payload)
        payload.nested.b[3][1] = 5
        payload.nested.a.new = { 1, 2 }
        payload.stop[#payload.stop + 1] = "END"
        return payload
      end"""
        )
    )
    want = json.loads(FIDELITY)
    want["nested"]["b"][2][0] = 5
    want["nested"]["a"]["new"] = [1, 2]
    want["stop"] = ["END"]
    assert json.loads(worker.post("/generate", FIDELITY).body) == want


def test_values_a_hook_makes(start):
    worker = start(
        hooked(
            """
      generate_payload_json = function()
        local null, array, object = worker.json.null, worker.json.array, worker.json.object
        return { a = array {}, b = object {}, c = null, d = { 1, "x", true }, e = 2^53, f = 0.1, g = "\\0\\"\\\\\\n" }
      end"""
        )
    )
    assert worker.post("/generate", {}).json() == {
        "a": [],
        "b": {},
        "c": None,
        "d": [1, "x", True],
        "e": 2**53,
        "f": 0.1,
        "g": '\0"\\\n',
    }


def test_a_request_parser_that_wraps(start):
    worker = start(
        hooked(
            "request_parser = function(msg) return { input = msg, stream = false } end,"
            "generate_payload_json = function(payload) return payload end"
        )
    )
    got = worker.post("/generate", FIDELITY).json()
    assert got == {"input": json.loads(FIDELITY), "stream": False}


def test_a_decoded_payload_is_ordinary_tables(start, model):
    worker = start(
        hooked(
            """
      generate_payload_json = function(p)
        local keys = {}
        for key in pairs(p) do keys[#keys + 1] = key end
        local list = {}
        for i, item in ipairs(p.list) do list[i] = item * 2 end
        table.sort(list, function(a, b) return a > b end)
        return { keys = table.concat(keys, ","), list = list, len = #p.list, next = next(p.empty) == nil,
                 null = p.none == worker.json.null, absent = p.absent == nil, kind = type(p.list) }
      end"""
        )
    )
    got = worker.post("/generate", {"list": [1, 2, 3], "empty": {}, "none": None}).json()
    assert sorted(got.pop("keys").split(",")) == ["empty", "list", "none"]
    assert got == {
        "list": [6, 4, 2],
        "len": 3,
        "next": True,
        "null": True,
        "absent": True,
        "kind": "table",
    }


# -- declared payloads --

DECLARED = hooked(
    "payload = Input",
    """
local Input = worker.payload {
  prompt = "string", count = "integer", ratio = "number", flag = "boolean", list = "array", map = "object",
  anything = "any", maybe = "string?", defaulted = { "integer", default = 7 }, inner = { depth = "integer" },
}
""",
)
GOOD = {
    "prompt": "p",
    "count": 3,
    "ratio": 0.5,
    "flag": True,
    "list": [],
    "map": {},
    "anything": None,
    "inner": {"depth": 1},
}


def test_a_declared_payload_is_taken_and_completed(start):
    worker = start(DECLARED)
    got = worker.post("/generate", {**GOOD, "unknown": 1}).json()
    assert got == {**GOOD, "defaulted": 7}, "unknown fields are dropped, defaults filled in"
    got = worker.post("/generate", {**GOOD, "maybe": "m", "defaulted": 8}).json()
    assert got == {**GOOD, "maybe": "m", "defaulted": 8}


def test_integers_may_be_numbers_and_keep_64_bits(start):
    worker = start(DECLARED)
    got = worker.post("/generate", {**GOOD, "count": 9007199254740993, "ratio": 5}).json()
    assert (got["count"], got["ratio"]) == (9007199254740993, 5)


@pytest.mark.parametrize(
    "field,value",
    [
        ("prompt", 5),
        ("prompt", None),
        ("prompt", ["x"]),
        ("count", "3"),
        ("count", 3.5),
        ("count", True),
        ("ratio", "0.5"),
        ("flag", 1),
        ("flag", "true"),
        ("list", {}),
        ("list", "x"),
        ("map", []),
        ("map", "x"),
        ("maybe", 5),
        ("defaulted", "7"),
        ("inner", []),
        ("inner", "x"),
    ],
)
def test_a_field_of_the_wrong_type(start, field, value):
    worker = start(DECLARED)
    response = worker.post("/generate", {**GOOD, field: value})
    assert response.status == 422, response.body
    answer = response.json()
    assert list(answer) == ["payload"] and list(answer["payload"]) == [field]
    assert isinstance(answer["payload"][field], str) and answer["payload"][field]
    assert worker.counters()["received"] == 0


@pytest.mark.parametrize("field", list(GOOD))
def test_a_field_is_missing(start, field):
    worker = start(DECLARED)
    payload = {k: v for k, v in GOOD.items() if k != field}
    response = worker.post("/generate", payload)
    if field == "anything":
        assert response.status in (200, 422)
        return
    assert response.status == 422
    assert response.json() == {"payload": {field: "missing parameter"}}


def test_a_nested_field_is_named_by_its_path(start):
    worker = start(DECLARED)
    response = worker.post("/generate", {**GOOD, "inner": {"depth": "x"}})
    assert response.status == 422
    assert list(response.json()["payload"]) == ["inner.depth"]


def test_all_mistakes_are_told_at_once(start):
    worker = start(DECLARED)
    response = worker.post("/generate", {**GOOD, "prompt": 1, "count": "x", "flag": None})
    assert set(response.json()["payload"]) == {"prompt", "count", "flag"}


@pytest.mark.parametrize("how", ["return", "error"])
def test_worker_invalid(start, how):
    refuse = 'worker.invalid { prompt = "too \\"long\\"" }'
    refuse = f"return {refuse}" if how == "return" else f"error({refuse})"
    worker = start(hooked("request_parser = function(msg) %s end" % refuse))
    response = worker.post("/generate", {"prompt": "x"})
    assert (response.status, response.json()) == (422, {"payload": {"prompt": 'too "long"'}})
    assert worker.counters()["received"] == 0


@pytest.mark.parametrize("payload", [b"[]", b"1", b'"x"', b"null", b"true"])
def test_a_payload_that_is_no_object(worker, payload):
    response = worker.post("/generate", payload)
    assert response.status == 422 and "payload" in response.json()


def test_methods_of_a_payload(start, model):
    worker = start(
        hooked(
            "payload = Input",
            """
local Input = worker.payload { prompt = "string" }
function Input:count_workload() return #self.prompt end
function Input:generate_payload_json() return { text = self.prompt:upper(), n = 1 } end
function Input.for_test() return Input { prompt = "test" } end
""",
        )
    )
    assert worker.post("/generate", {"prompt": "hello"}).json() == {"text": "HELLO", "n": 1}
    assert worker.wait_request_line(route="/generate")["workload"] == 5


def test_from_json_msg(start):
    worker = start(
        hooked(
            "payload = Input",
            """
local Input = worker.payload { prompt = "string" }
function Input.from_json_msg(msg)
  if not msg.input then return worker.invalid { input = "missing parameter" } end
  return Input { prompt = msg.input.text }
end
""",
        )
    )
    assert worker.post("/generate", {"input": {"text": "deep"}}).json() == {"prompt": "deep"}
    response = worker.post("/generate", {"prompt": "x"})
    assert (response.status, response.json()) == (422, {"payload": {"input": "missing parameter"}})


# -- hooks that fail --

HOOKS = {
    "request_parser": 'request_parser = function() error("secret-detail") end',
    "parser returns nothing": "request_parser = function() end",
    "parser indexes nil": "request_parser = function(msg) return msg.a.b.c end",
    "generate_payload_json": 'generate_payload_json = function() error("secret-detail") end',
    "payload json returns nothing": "generate_payload_json = function() end",
    "payload json cannot be encoded": "generate_payload_json = function() return { f = print } end",
    "generate_client_response": 'generate_client_response = function() error("secret-detail") end',
    "response returns nothing": "generate_client_response = function() end",
    "response returns a table": "generate_client_response = function() return {} end",
    "response returns a number": "generate_client_response = function() return 5 end",
    "error with a table": "generate_client_response = function() error { a = 1 } end",
    "error with nil": "generate_client_response = function() error() end",
    "bad field": 'generate_client_response = function() return worker.response { headers = { ["a b"] = "c" } } end',
    "field with a line end": "generate_client_response = function() return "
    'worker.response { headers = { x = "a\\r\\nSet-Cookie: b" } } end',
    "status out of range": "generate_client_response = function() return worker.response { status = 9 } end",
    "stack overflow": "generate_client_response = function() local function f() return 1 + f() end return f() end",
}


@pytest.mark.parametrize("name", list(HOOKS))
def test_a_failing_hook_is_a_500_of_the_script(start, name):
    worker = start(hooked(HOOKS[name]))
    client = worker.connect().send(post("/generate"))
    response = client.read_response()
    assert response.status == 500, response.body
    answer = response.json()
    assert answer["source"] == "script" and answer["error"]
    assert b"secret-detail" not in response.body, "details are for the log"
    assert "Set-Cookie" not in response.headers
    after = client.send(request("GET", "/nothing")).read_response("GET")
    assert after.status == 404, "the connection goes on"
    line = worker.wait_request_line(route="/generate")
    assert (line["status"], line["source"]) == (500, "script"), line
    details = worker.log.find(level="error")
    assert any(
        "/generate" in json.dumps(d)
        and "worker.lua:" in json.dumps(d)
        or "returned" in json.dumps(d)
        or "header" in json.dumps(d)
        for d in details
    ), details
    assert any(d.get("request_id") == line["request_id"] for d in details)


def test_a_traceback_names_file_line_and_hook(start):
    worker = start(
        hooked(
            """
      generate_client_response = function()
        local inner = function() error("kaboom") end
        inner()
      end"""
        )
    )
    worker.post("/generate")
    text = json.dumps(worker.log.wait(level="error"))
    assert "kaboom" in text and "generate_client_response" in text and "/generate" in text
    assert "worker.lua:" in text and "traceback" in text


def test_an_error_after_the_first_byte_cuts_the_answer(start, model):
    model.on("/generate", streams([b"a", b"b"]))
    worker = start(
        hooked(
            """
      generate_client_response = function(_, model_response)
        local client = worker.stream {}
        for chunk in model_response:chunks() do
          client:write(chunk)
          error("kaboom")
        end
      end"""
        )
    )
    response = worker.start("/generate").read_response()
    assert response.status == 200 and not response.complete and response.broken
    worker.wait_counters(error=1, in_flight=0)
    line = worker.wait_request_line(route="/generate")
    assert (line["outcome"], line["source"]) == ("error", "script")


def test_a_failing_hook_fails_only_its_own_request(start, model):
    worker = start(
        hooked(
            """
      generate_client_response = function(request, model_response)
        local body = model_response:json()
        if body.bad then error("kaboom") end
        return worker.json(body)
      end"""
        )
    )
    clients = [worker.start("/generate", {"n": n, "bad": n % 3 == 0}) for n in range(30)]
    statuses = [client.read_response().status for client in clients]
    assert statuses == [500 if n % 3 == 0 else 200 for n in range(30)]
    assert worker.wait_counters(in_flight=0, success=20)["error"] == 10


def test_a_hook_that_never_reads_the_model_answer(start, model):
    model.on("/generate", answers(b"x" * 5_000_000))
    worker = start(
        hooked("generate_client_response = function() return worker.json { short = true } end")
    )
    for _ in range(5):
        assert worker.post("/generate").json() == {"short": True}
    worker.wait_counters(upstreams=0, in_flight=0)


def test_a_hook_that_passes_the_answer_on(start, model):
    model.on("/generate", answers(b"image", "image/png", status=201, headers=[("X-A", "b")]))
    worker = start(
        hooked("generate_client_response = function(_, model_response) return model_response end")
    )
    response = worker.post("/generate")
    assert (response.status, response.body, response.headers.get("X-A")) == (201, b"image", "b")
    assert response.headers.get("Content-Type") == "image/png"


def test_a_local_of_the_script_is_shared_by_its_requests(start):
    worker = start(
        hooked(
            """
      generate_client_response = (function()
        local counter = 0
        return function()
          counter = counter + 1
          return worker.json { counter = counter }
        end
      end)()"""
        )
    )
    assert [worker.post("/generate").json()["counter"] for _ in range(3)] == [1, 2, 3]


def test_large_strings_pass_a_hook(start):
    worker = start(
        hooked(
            """
      generate_payload_json = function(p) p.n = #p.image; return p end"""
        ),
        options=["--max-body", 32 << 20],
    )
    image = "QUJD" * 2_000_000
    got = worker.post("/generate", {"image": image, "tail": [1]}).json()
    assert got == {"image": image, "tail": [1], "n": len(image)}


def test_response_hooks_see_the_payload_as_it_was_sent(start, model):
    model.on("/generate", answers(b"{}", "application/json"))
    worker = start(
        backend(
            """
      worker.post("/generate", {
        allow_parallel_requests = true,
        payload = Input,
        generate_client_response = function(request)
          return worker.json { prompt = request.payload.prompt, dropped = request.payload.more }
        end,
      })""",
            before='local Input = worker.payload { prompt = "string" }',
        )
    )
    response = worker.post("/generate", {"prompt": "hi", "more": [1]})
    assert response.json() == {"prompt": "hi", "dropped": [1]}


LONG = "a\\/b\\u00e9" * 30_000  # as JSON text, with escapes that nobody would write


@pytest.mark.parametrize(
    "hook, sent",
    [
        ("", LONG),
        ("function Input:count_workload() return #self.prompt end", LONG),
        (
            "function Input:generate_payload_json() self.prompt = 'x' .. self.prompt return self end",
            "x" + "a/b\u00e9" * 30_000,
        ),
    ],
    ids=["unread", "read", "changed"],
)
def test_a_long_string_reaches_the_model(start, model, hook, sent):
    model.on("/generate", answers(b"{}", "application/json"))
    worker = start(
        backend(
            """
      worker.post("/generate", { allow_parallel_requests = true, payload = Input })""",
            before=f"""local Input = worker.payload {{ prompt = "string", n = "integer" }}
      {hook}""",
        )
    )
    body = envelope({"prompt": "@", "n": 7}).replace(b"@", LONG.encode())
    assert worker.ask("POST", "/generate", body).status == 200
    assert model.last().body == f'{{"prompt":"{sent}","n":7}}'.encode()


@pytest.mark.parametrize(
    "returned, status, body",
    [
        ("{ words = #p.a }", 200, b'{"result":{"words":2}}'),
        ("5", 200, b'{"result":5}'),
        ("nil", 200, b'{"result":null}'),
        ("worker.json({ as = 'it is' }, 201)", 201, b'{"as":"it is"}'),
    ],
)
def test_what_a_remote_returns(start, returned, status, body):
    worker = start(backend(f'worker.post("/go", {{ remote = function(p) return {returned} end }})'))
    response = worker.post("/go", {"a": "xy"})
    assert (response.status, response.body) == (status, body)
