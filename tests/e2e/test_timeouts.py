# SPDX-License-Identifier: MIT
"""The deadlines of a route's calls to the model and on_disconnect, on each way an answer takes: piped
by C, through a hook, and forwarded unsigned."""

import pytest

from harness.message import request
from harness.model import Blackhole
from harness.worker import backend, run

THROUGH_A_HOOK = """
  generate_client_response = function(_, model_response)
    local client = worker.stream { content_type = "text/event-stream" }
    for chunk in model_response:chunks() do client:write(chunk) end
    return client
  end"""

# Each way: the route with these options, and how a client asks for it.
WAYS = {
    "plain": 'worker.post("/generate", { allow_parallel_requests = true, %s })',
    "hook": 'worker.post("/generate", { allow_parallel_requests = true, %s, '
    + THROUGH_A_HOOK
    + "})",
    "forward": 'worker.get("/generate", worker.forward("/generate", { %s }))',
    "forward, without a path": 'worker.get("/generate", worker.forward { %s })',
}
ways = pytest.mark.parametrize("way", list(WAYS))


def serve(start, way, options, **more):
    return start(backend(WAYS[way] % options), **more)


def ask(worker, way):
    if way.startswith("forward"):
        return worker.connect().send(request("GET", "/generate"))
    return worker.start("/generate")


def expect_504(worker, client, words):
    response = client.read_response()
    assert (response.status, response.json()["source"]) == (504, "model"), response.body
    assert words in response.json()["error"]
    worker.wait_counters(in_flight=0, upstreams=0)


def expect_cut(worker, client, exchange):
    response = client.open_response()
    response.read_until(b"a")
    exchange.expect_dropped()
    assert not response.read_all().complete
    worker.wait_counters(in_flight=0, upstreams=0)


@ways
def test_connect(start, way):
    hole = Blackhole()
    try:
        worker = serve(start, way, "connect = 0.3", model=hole.url)
        expect_504(worker, ask(worker, way), "did not connect within 300 ms")
    finally:
        hole.stop()


@ways
def test_first_byte(start, model, way):
    held = model.hold("/generate")
    worker = serve(start, way, "first_byte = 0.3")
    client = ask(worker, way)
    held.next().expect_dropped()
    expect_504(worker, client, "sent no answer within 300 ms")


@ways
def test_total_before_the_head(start, model, way):
    held = model.hold("/generate")
    worker = serve(start, way, "total = 0.3")
    client = ask(worker, way)
    held.next().expect_dropped()
    expect_504(worker, client, "did not finish its answer within 300 ms")


@ways
def test_idle(start, model, way):
    held = model.hold("/generate")
    worker = serve(start, way, "idle = 0.3")
    client = ask(worker, way)
    expect_cut(worker, client, held.next().stream_head(first=b"a"))


@ways
def test_total_in_the_body(start, model, way):
    held = model.hold("/generate")
    worker = serve(start, way, "total = 2, idle = 30")
    client = ask(worker, way)
    expect_cut(worker, client, held.next().stream_head(first=b"a"))


@ways
def test_0_is_no_deadline(start, model, way):
    held = model.hold("/generate")
    worker = serve(start, way, "connect = 0, first_byte = 0, idle = 0, total = 0")
    client = ask(worker, way)
    exchange = held.next()
    exchange.expect_alive(0.6)
    exchange.stream_head().chunk(b"a")
    exchange.expect_alive(0.6)
    exchange.last_chunk()
    assert client.read_response().body == b"a"


@ways
def test_all_routes_can_have_them_from_the_backend(start, model, way):
    held = model.hold("/generate")
    routes = WAYS[way] % ("idle = 30" if "path" not in way else "")
    worker = start(backend(routes, more="first_byte = 0.3,"))
    client = ask(worker, way)
    held.next().expect_dropped()
    expect_504(worker, client, "sent no answer within 300 ms")


@ways
@pytest.mark.parametrize("when", ["before the head", "in the body"])
@pytest.mark.parametrize("how", ["abort", "drain"])
def test_the_client_leaves(start, model, way, when, how):
    held = model.hold("/generate")
    worker = serve(start, way, f'on_disconnect = "{how}"')
    client = ask(worker, way)
    exchange = held.next()
    if when == "in the body":
        exchange.stream_head().chunk(b"a")
        client.open_response().read_until(b"a")
    client.close()
    if how == "abort":
        exchange.expect_dropped()
    else:
        exchange.expect_alive(0.5)
        if when == "before the head":
            exchange.stream_head()
        exchange.chunk(b"b").last_chunk()
    worker.wait_counters(in_flight=0, upstreams=0, tasks=0, connections=0)


@ways
def test_a_drained_call_still_has_its_deadlines(start, model, way):
    held = model.hold("/generate")
    worker = serve(start, way, 'on_disconnect = "drain", idle = 0.5')
    client = ask(worker, way)
    exchange = held.next().stream_head(first=b"a")
    client.open_response().read_until(b"a")
    client.close()
    exchange.expect_dropped()
    worker.wait_counters(in_flight=0, upstreams=0, tasks=0, connections=0)


def test_mistakes_in_the_options_of_forward(tmp_path):
    script = tmp_path / "worker.lua"
    script.write_text(backend('worker.get("/a", worker.forward { idel = 1, connect = -1 })'))
    ended = run("serve", script, "--port", "0", environment={"UNSECURED": "true"})
    assert ended.returncode == 1
    assert "routes[1].forward.connect" in ended.stderr and "idel" in ended.stderr, ended.stderr
