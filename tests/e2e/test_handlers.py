# SPDX-License-Identifier: MIT
"""Plain handlers and what they may do: answer, ask the model, ask others, sleep, forward."""

import json
import time

import pytest

from harness.message import request
from harness.model import answers, echo, refused_url, streams
from harness.worker import backend, run


def handler(body):
    return backend(f'worker.get("/x", function(request) {body} end)')


def test_a_string_is_text(start):
    response = start(handler('return "pong"')).get("/x")
    assert (response.status, response.body) == (200, b"pong")
    assert response.headers.get("Content-Type").startswith("text/plain")


def test_plain_routes_are_not_counted(start):
    worker = start(handler('return "pong"'))
    worker.get("/x")
    assert worker.counters()["received"] == 0
    line = worker.wait_request_line(route="/x")
    assert (line["outcome"], line["status"], line["method"]) == ("none", 200, "GET")


@pytest.mark.parametrize(
    "body,status,content_type,text",
    [
        ("return worker.json({ a = 1 })", 200, "application/json", b'{"a":1}'),
        ('return worker.json({ "x" }, 201)', 201, "application/json", b'["x"]'),
        ("return worker.json(worker.json.null)", 200, "application/json", b"null"),
        ('return worker.response { status = 418, body = "teapot" }', 418, "text/plain", b"teapot"),
        (
            'return worker.response { body = "<a>", content_type = "text/html" }',
            200,
            "text/html",
            b"<a>",
        ),
        (
            'return worker.response { body = "\\0\\255", headers = { ["Content-Type"] = "x/y" } }',
            200,
            "x/y",
            b"\0\xff",
        ),
        ("return worker.response { status = 204 }", 204, None, b""),
        ("return worker.response { status = 503 }", 503, None, b""),
        ('return ""', 200, "text/plain", b""),
    ],
)
def test_answers(start, body, status, content_type, text):
    response = start(handler(body)).get("/x")
    assert (response.status, response.body, response.complete) == (status, text, True)
    if content_type:
        assert response.headers.get("Content-Type").startswith(content_type)
        assert len(response.headers.all("Content-Type")) == 1


def test_fields_of_an_answer(start):
    response = start(
        handler(
            """
      return worker.response { body = "x", headers = { ["X-One"] = "1", ["Set-Cookie"] = { "a=1", "b=2" },
        ["Content-Length"] = "99", ["Transfer-Encoding"] = "chunked", ["Connection"] = "close" } }"""
        )
    ).get("/x")
    assert response.headers.get("X-One") == "1"
    assert response.headers.all("Set-Cookie") == ["a=1", "b=2"]
    assert (response.framing, response.body) == ("length", b"x"), "framing is ours alone"


def test_a_stream(start):
    response = start(
        handler(
            """
      local client = worker.stream { content_type = "text/event-stream", status = 202 }
      for i = 1, 5 do client:write("data: " .. i .. "\\n\\n") end
      return client"""
        )
    ).get("/x")
    assert (response.status, response.framing, response.complete) == (202, "chunked", True)
    assert response.body == b"".join(b"data: %d\n\n" % i for i in range(1, 6))


def test_pieces_leave_while_the_handler_sleeps(start):
    worker = start(
        handler(
            """
      local client = worker.stream {}
      client:write "first"
      worker.sleep(3600)"""
        )
    )
    client = worker.connect().send(request("GET", "/x"))
    client.open_response("GET").read_until(b"first")


def test_what_a_handler_sees(start):
    worker = start(
        handler(
            """
      return worker.json { method = request.method, path = request.path, query = request.query, id = request.id,
        header = request.headers["x-mine"], body = request:body(), json = request:json(),
        addr = request.remote_addr }"""
        )
    )
    got = worker.ask(
        "GET", "/x?a=1&b=%20c&d", b'{"k":[1]}', [("X-Mine", "v"), ("X-Request-Id", "abc-1")]
    ).json()
    assert got.pop("addr").startswith("127.0.0.1")
    assert got == {
        "method": "GET",
        "path": "/x",
        "query": {"a": "1", "b": " c", "d": ""},
        "id": "abc-1",
        "header": "v",
        "body": '{"k":[1]}',
        "json": {"k": [1]},
    }


@pytest.mark.parametrize(
    "route",
    [
        'worker.post("/x", function() return "x" end)',
        'worker.post("/x", worker.forward())',
        'worker.route("DELETE", "/x", function() return "x" end)',
        'worker.route("PUT", "/x", worker.forward())',
    ],
)
def test_unsigned_routes_of_a_worker_only_read(tmp_path, route):
    script = tmp_path / "w.lua"
    script.write_text(backend(route))
    ended = run(
        "serve", script, "--host", "127.0.0.1", "--port", "0", environment={"UNSECURED": "true"}
    )
    assert ended.returncode > 0 and "routes[1]" in ended.stderr and "signed" in ended.stderr


def test_head_runs_the_get_handler(start):
    worker = start(handler('return "pong"'))
    client = worker.connect().send(request("HEAD", "/x"))
    response = client.read_response("HEAD")
    assert response.status == 200 and response.headers.get("Content-Length") in ("4", None)


@pytest.mark.parametrize(
    "body",
    ['error "secret-detail"', "return nil", "return {}", "return 5", "local x = nil; return x.y"],
)
def test_a_failing_handler(start, body):
    worker = start(handler(body))
    response = worker.get("/x")
    assert response.status == 500 and response.json()["source"] == "script"
    assert b"secret-detail" not in response.body
    assert worker.log.wait(level="error")


# -- sleeping --


def test_sleep_takes_its_time(start):
    worker = start(handler('worker.sleep(0.5) return "rested"'))
    began = time.monotonic()
    naps = [worker.connect().send(request("GET", "/x")) for _ in range(20)]
    assert [client.read_response("GET").body for client in naps] == [b"rested"] * 20
    assert time.monotonic() - began >= 0.5
    worker.wait_counters(tasks=0)


def test_sleep_holds_nobody_up(start):
    worker = start(
        backend(
            """
      worker.get("/nap", function() worker.sleep(3600) end),
      worker.get("/ping", function() return "pong" end),"""
        )
    )
    naps = [worker.connect().send(request("GET", "/nap")) for _ in range(20)]
    worker.wait_counters(tasks=20)
    for _ in range(10):
        assert worker.get("/ping").body == b"pong"
    for client in naps:
        client.expect_silence(0.01)
    assert worker.counters()["tasks"] == 20


@pytest.mark.parametrize("argument", ["'1'", "-1", "0/0", "nil", ""])
def test_sleep_refuses_what_is_no_time(start, argument):
    response = start(handler(f"worker.sleep({argument}); return 'x'")).get("/x")
    assert response.status == 500


def test_sleep_zero(start):
    assert start(handler("for _ = 1, 100 do worker.sleep(0) end return 'x'")).get("/x").body == b"x"


# -- the model --


def test_model_get(start, model):
    model.on("/info", answers(b'{"v":1}', "application/json", headers=[("X-A", "b")]))
    worker = start(
        handler(
            """
      local info = worker.model.get("/info")
      return worker.json { status = info.status, header = info.headers["x-a"], type = info.content_type,
                           v = info:json().v }"""
        )
    )
    assert worker.get("/x").json() == {
        "status": 200,
        "header": "b",
        "type": "application/json",
        "v": 1,
    }
    assert model.last().method == "GET"


def test_model_get_returned_as_it_is(start, model):
    model.on("/info", answers(b"\0\1", "x/y", status=203, headers=[("X-A", "b")]))
    response = start(handler('return worker.model.get("/info")')).get("/x")
    assert (response.status, response.body, response.headers.get("X-A")) == (203, b"\0\1", "b")


def test_model_get_of_a_model_that_is_not_there(start):
    worker = start(handler('return worker.model.get("/info")'), model=refused_url())
    response = worker.get("/x")
    assert response.status == 502 and response.json()["source"] == "model"
    worker = start(
        handler(
            """
      local info, err = worker.model.get("/info")
      return worker.json { none = info == nil, err = err }"""
        ),
        model=refused_url(),
    )
    got = worker.get("/x").json()
    assert got["none"] is True and "refused" in got["err"]


def test_model_get_streams(start, model):
    model.on(
        "/s",
        streams(
            [
                b"data: a\n\n",
                b"data: b\nid: 7\n\n",
                b": comment\n\n",
                b"event: e\ndata: c\ndata: d\n\n",
            ]
        ),
    )
    worker = start(
        handler(
            """
      local out = {}
      for event in worker.model.get("/s"):events() do
        out[#out + 1] = { data = event.data, event = event.event, id = event.id }
      end
      return worker.json(out)"""
        )
    )
    got = worker.get("/x").json()
    assert [e["data"] for e in got] == ["a", "b", "c\nd"]
    assert got[2]["event"] == "e"


def test_several_calls_in_one_handler(start, model):
    for n in range(5):
        model.on(f"/{n}", answers(b"%d" % n))
    worker = start(
        handler(
            """
      local out = {}
      for i = 0, 4 do out[#out + 1] = worker.model.get("/" .. i):body() end
      return table.concat(out, ",")"""
        )
    )
    assert worker.get("/x").body == b"0,1,2,3,4"
    worker.wait_counters(upstreams=0)


def test_an_answer_left_unread_is_given_up(start, model):
    model.on("/big", answers(b"x" * 5_000_000))
    worker = start(handler('worker.model.get("/big"); return "done"'))
    for _ in range(10):
        assert worker.get("/x").body == b"done"
    worker.wait_counters(upstreams=0, tasks=0)


# -- others --


def test_http_get_and_post(start, model):
    model.on("/else", echo)
    model.on("/get", answers(b"got"))
    worker = start(
        handler(
            f"""
      local a = worker.http.get("{model.url}/get")
      local b = worker.http.post("{model.url}/else", {{ json = {{ k = 1 }}, headers = {{ ["X-H"] = "v" }} }})
      local c = worker.http.request {{ method = "PUT", url = "{model.url}/else", body = "raw" }}
      return worker.json {{ a = a:body(), b = b:json().k, c = c:body() }}"""
        )
    )
    assert worker.get("/x").json() == {"a": "got", "b": 1, "c": "raw"}
    seen = {e.method: e for e in model.seen()}
    assert set(seen) == {"GET", "POST", "PUT"}
    assert seen["POST"].headers.get("X-H") == "v"
    assert seen["POST"].headers.get("Content-Type") == "application/json"


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "gopher://127.0.0.1/", "ftp://127.0.0.1/", "nonsense", ""]
)
def test_http_speaks_http_only(start, url):
    worker = start(
        handler(
            f"""
      local response, err = worker.http.get("{url}")
      return worker.json {{ none = response == nil, err = err }}"""
        )
    )
    response = worker.get("/x")
    if response.status == 200:
        assert response.json()["none"] is True and response.json()["err"]
    else:
        assert response.status == 500
    assert b"root:" not in response.body


def test_http_timeouts(start, model):
    held = model.hold("/slow")
    worker = start(
        handler(
            f"""
      local response, err = worker.http.get("{model.url}/slow", {{ timeout = {{ first_byte = 0.2 }} }})
      return worker.json {{ none = response == nil, err = err }}"""
        )
    )
    got = worker.get("/x").json()
    assert got["none"] is True and got["err"]
    held.next().expect_dropped()


def test_proxy_variables_are_not_obeyed(start, model):
    model.on("/get", answers(b"got"))
    proxy = refused_url()
    worker = start(
        handler(f'return worker.http.get("{model.url}/get"):body()'),
        environment={
            "http_proxy": proxy,
            "HTTP_PROXY": proxy,
            "ALL_PROXY": proxy,
            "all_proxy": proxy,
        },
    )
    assert worker.get("/x").body == b"got"


# -- forwarding --


def test_forward_to_another_path(start, model):
    model.on("/inner", answers(b"in"))
    worker = start(backend('worker.get("/outer", worker.forward("/inner"))'))
    assert worker.get("/outer").body == b"in"
    assert model.last().path == "/inner"


def test_forward_passes_query_and_fields(start, model):
    model.on("/health", answers(b"in"))
    worker = start(backend('worker.get("/health", worker.forward())'))
    worker.get(
        "/health?deep=1&x=%20", headers=[("X-Mine", "v"), ("Connection", "X-Hop"), ("X-Hop", "1")]
    )
    seen = model.last()
    assert seen.target == "/health?deep=1&x=%20"
    assert seen.headers.get("X-Mine") == "v" and "X-Hop" not in seen.headers


def test_forward_passes_a_body(start, model):
    model.on("/raw", echo)
    worker = start(backend('worker.get("/raw", worker.forward())'))
    response = worker.ask("GET", "/raw", b"\0any bytes", [("Content-Type", "x/y")])
    assert (response.status, response.body) == (200, b"\0any bytes")
    assert model.last().headers.get("Content-Type") == "x/y"


def test_forward_when_the_model_is_not_there(start):
    worker = start(model=refused_url())
    response = worker.get("/health")
    assert response.status == 502 and response.json()["source"] == "model"


# -- the rest --


def test_spawn(start, model):
    model.on("/note", answers(b"ok"))
    worker = start(
        handler(
            """
      worker.spawn(function(a, b)
        worker.sleep(0.05)
        worker.model.get("/note?" .. a .. b)
      end, "x", 1)
      return "started"
      """
        )
    )
    assert worker.get("/x").body == b"started"
    assert model.wait_seen(1, "/note")[0].target == "/note?x1"
    worker.wait_counters(tasks=0)


def test_a_failing_spawned_task_is_logged(start):
    worker = start(handler('worker.spawn(function() error "kaboom" end) return "ok"'))
    assert worker.get("/x").body == b"ok"
    assert "kaboom" in json.dumps(worker.log.wait(level="error"))


def test_environment_base64_and_json(start):
    worker = start(
        handler(
            """
      return worker.json { env = worker.env("MY_VAR", "none"), fallback = worker.env("NOT_SET", "none"),
        encoded = worker.base64.encode("\\0\\255x"), decoded = worker.base64.decode("aGk="),
        round = worker.json.encode(worker.json.decode('{"b":[],"a":9007199254740993}')) }"""
        ),
        environment={"MY_VAR": "set"},
    )
    got = worker.get("/x").json()
    assert json.loads(got.pop("round")) == {"b": [], "a": 9007199254740993}
    assert got == {"env": "set", "fallback": "none", "encoded": "AP94", "decoded": "hi"}


def test_file_read_stays_below_its_directory(start, tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "a.txt").write_text("fine")
    (tmp_path / "secret.txt").write_text("secret")
    worker = start(
        backend(
            f"""
      worker.get("/read", function(request)
        local text, err = worker.file.read(request.query.p, {{ below = "{inside}" }})
        return worker.json {{ text = text, err = err and true or false }}
      end)"""
        )
    )
    assert worker.get("/read?p=a.txt").json() == {"text": "fine", "err": False}
    for path in ("../secret.txt", f"{tmp_path}/secret.txt", "a.txt/../../secret.txt", "absent"):
        assert b"secret" not in worker.get(f"/read?p={path}").body


@pytest.mark.parametrize(
    "code",
    [
        "os.exit(1)",
        "os.execute('true')",
        "io.popen('true')",
        "require('ffi')",
        "debug.getregistry()",
        "string.dump(print)",
    ],
)
def test_what_a_script_may_not_do(start, code):
    worker = start(
        backend(
            f"""
      worker.get("/try", function() {code} return "did" end),
      worker.get("/ping", function() return "pong" end),"""
        )
    )
    assert worker.get("/try").status == 500
    assert worker.get("/ping").body == b"pong"
