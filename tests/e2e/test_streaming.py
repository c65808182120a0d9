# SPDX-License-Identifier: MIT
"""Streams: each piece reaches the client before the model has made the next one (the test holds the
next one back until then, so nothing may be batched), and ends are true ends."""

import pytest

from harness.message import envelope, post, request
from harness.model import streams
from harness.worker import PLAIN, backend

THROUGH_LUA = backend(
    """
  worker.post("/generate", {
    allow_parallel_requests = true,
    generate_client_response = function(_, model_response)
      local client = worker.stream { content_type = "text/event-stream" }
      for chunk in model_response:chunks() do client:write(chunk) end
      return client
    end,
  })"""
)

EVENTS_THROUGH_LUA = backend(
    """
  worker.post("/generate", {
    allow_parallel_requests = true,
    generate_client_response = function(_, model_response)
      local client = worker.stream { content_type = "text/event-stream" }
      for event in model_response:events() do client:write("data: " .. event.data .. "\\n\\n") end
      return client
    end,
  })"""
)

LINES_THROUGH_LUA = backend(
    """
  worker.post("/generate", {
    allow_parallel_requests = true,
    generate_client_response = function(_, model_response)
      local client = worker.stream { content_type = "text/event-stream" }
      for line in model_response:lines() do client:write(line .. "\\n") end
      return client
    end,
  })"""
)

ALL = {"plain": PLAIN, "lua": THROUGH_LUA, "events": EVENTS_THROUGH_LUA, "lines": LINES_THROUGH_LUA}
both = pytest.mark.parametrize("kind", ["plain", "lua"])


@pytest.mark.parametrize("kind", list(ALL))
def test_each_piece_arrives_before_the_next_is_made(start, model, kind):
    held = model.hold("/generate")
    worker = start(ALL[kind])
    client = worker.start("/generate")
    exchange = held.next().stream_head()
    response = None
    for n in range(20):
        event = b"data: token %d\n\n" % n
        exchange.chunk(event)
        response = response or client.open_response()
        assert response.read_until(event[:-1]).lstrip(b"\n") == event[:-1]
    exchange.last_chunk()
    response.read_all()
    assert response.complete and response.status == 200
    assert response.headers.get("Content-Type") == "text/event-stream"
    assert worker.wait_counters(success=1, in_flight=0)


@both
def test_the_head_does_not_wait_for_the_first_piece(start, model, kind):
    held = model.hold("/generate")
    worker = start(ALL[kind])
    client = worker.start("/generate")
    exchange = held.next().stream_head()
    if kind == "plain":
        assert client.open_response().status == 200
    exchange.chunk(b"x").last_chunk()


def test_an_answer_of_known_length_is_not_held_back_either(worker, model):
    held = model.hold("/generate")
    client = worker.start("/generate")
    exchange = held.next().head(200, [("Content-Length", "30")])
    response = client.open_response()
    for n in range(10):
        exchange.send(b"%03d" % n)
        response.read_until(b"%03d" % n)
    exchange.done()
    assert response.read_all().complete


@both
def test_a_stream_one_byte_a_chunk(start, model, kind):
    text = bytes(range(256)) * 8
    model.on("/generate", streams([text[i : i + 1] for i in range(len(text))]))
    response = start(ALL[kind]).post("/generate")
    assert response.complete and response.body == text


@both
def test_many_streams_at_once(start, model, kind):
    held = model.hold("/generate")
    worker = start(ALL[kind])
    clients = [worker.start("/generate", {"n": n}) for n in range(50)]
    exchanges = sorted((held.next() for _ in clients), key=lambda e: e.json()["n"])
    for exchange in exchanges:
        exchange.stream_head()
    responses = [None] * len(clients)
    for step in range(5):
        for n, exchange in enumerate(exchanges):
            exchange.chunk(b"<%d:%d>" % (n, step))
        for n, client in enumerate(clients):
            responses[n] = responses[n] or client.open_response()
            assert responses[n].read_until(b"<%d:%d>" % (n, step))
    for exchange in exchanges:
        exchange.last_chunk()
    for n, response in enumerate(responses):
        assert response.read_all().complete
        assert response.body == b"".join(b"<%d:%d>" % (n, step) for step in range(5))


@both
def test_the_connection_goes_on_after_a_stream(start, model, kind):
    model.on("/generate", streams([b"a", b"b"]))
    worker = start(ALL[kind])
    client = worker.connect()
    for _ in range(3):
        assert client.send(post("/generate")).read_response().body == b"ab"
    assert worker.counters()["connections"] == 1


@both
@pytest.mark.parametrize("how", ["close", "reset"])
def test_the_model_dies_in_the_stream(start, model, kind, how):
    held = model.hold("/generate")
    worker = start(ALL[kind])
    client = worker.start("/generate")
    exchange = held.next().stream_head().chunk(b"data: 1\n\n")
    response = client.open_response()
    response.read_until(b"data: 1\n\n")
    getattr(exchange, how)()
    response.read_all()
    assert not response.complete and response.broken, "a broken stream must not look complete"
    worker.wait_counters(error=1, in_flight=0)
    line = worker.wait_request_line(route="/generate")
    assert line["outcome"] == "error" and line["error"]


@both
def test_the_model_dies_inside_a_chunk(start, model, kind):
    held = model.hold("/generate")
    worker = start(ALL[kind])
    client = worker.start("/generate")
    exchange = held.next().stream_head().send(b"10\r\nabc")
    response = client.open_response()
    response.read_until(b"abc")
    exchange.close()
    assert not response.read_all().complete
    worker.wait_counters(error=1, in_flight=0)


@both
def test_garbage_in_the_models_chunks(start, model, kind):
    held = model.hold("/generate")
    worker = start(ALL[kind])
    client = worker.start("/generate")
    exchange = held.next().stream_head().chunk(b"good")
    response = client.open_response()
    response.read_until(b"good")
    exchange.send(b"zz\r\nbad\r\n0\r\n\r\n").done()
    assert not response.read_all().complete
    worker.wait_counters(error=1, in_flight=0)


@both
def test_a_broken_stream_to_http_1_0_is_at_least_counted(start, model, kind):
    held = model.hold("/generate")
    worker = start(ALL[kind])
    client = worker.connect().send(request("POST", "/generate", envelope(), version="1.0"))
    exchange = held.next().stream_head().chunk(b"x")
    response = client.open_response()
    response.read_until(b"x")
    exchange.close()
    response.read_all()
    assert response.broken == "reset" or not response.complete, "without chunks only a reset tells"
    worker.wait_counters(error=1, in_flight=0)


def test_head_of_a_stream_has_no_body(worker, model):
    model.on("/health", streams([b"a"]))
    client = worker.connect().send(request("HEAD", "/health"))
    assert client.read_response("HEAD").status == 200
    assert client.send(request("GET", "/ping")).read_response("GET").body == b"pong"
