# SPDX-License-Identifier: MIT
"""The model refuses, stalls, lies about lengths, dies: what the client is told, whose fault it says
it was, and that it is counted as an error once."""

import pytest

from harness.message import envelope, post, request
from harness.model import Blackhole, answers, echo, endless, raw, refused_url
from harness.timing import PATIENCE
from harness.worker import PLAIN, backend, is_sanitized

from test_streaming import THROUGH_LUA

scripts = pytest.mark.parametrize("script", [PLAIN, THROUGH_LUA], ids=["plain", "lua"])


def expect_failure(worker, response, status, source="model"):
    assert response.status == status, (response.status, response.body)
    answer = response.json()
    assert answer["source"] == source and answer["error"], answer
    assert response.headers.get("Content-Type", "").startswith("application/json")
    seen = worker.wait_counters(in_flight=0, error=1, upstreams=0)
    assert seen["success"] == 0
    line = worker.wait_request_line(route="/generate")
    assert (line["status"], line["outcome"], line["source"]) == (status, "error", source), line
    assert line["error"]
    return answer["error"]


def with_timeouts(**timeouts):
    fields = "".join(f"{name} = {value}, " for name, value in timeouts.items())
    return backend("""worker.post("/generate", { allow_parallel_requests = true, %s })""" % fields)


@scripts
def test_refused(start, script):
    url = refused_url()
    worker = start(script, model=url)
    text = expect_failure(worker, worker.post("/generate"), 502)
    assert text == "the model refused the connection", "clients are not told where it stands"
    line = worker.wait_request_line(route="/generate")
    assert line["error"] == f"model {url} refused the connection", "operators are"


def test_the_connection_stays_good_after_a_failure(start, model):
    worker = start(model=refused_url())
    client = worker.connect()
    for _ in range(3):
        assert client.send(post("/generate")).read_response().status == 502
    assert client.send(request("GET", "/ping")).read_response("GET").body == b"pong"


@scripts
def test_a_url_whose_host_does_not_exist(start, script):
    worker = start(script, model="http://model.invalid:5001")
    expect_failure(worker, worker.post("/generate"), 502)


def test_connect_timeout(start):
    hole = Blackhole()
    try:
        worker = start(with_timeouts(connect=0.3), model=hole.url)
        expect_failure(worker, worker.post("/generate"), 504)
    finally:
        hole.stop()


def test_first_byte_timeout(start, model):
    held = model.hold("/generate")
    worker = start(with_timeouts(first_byte=0.3))
    response = worker.post("/generate")
    held.next().expect_dropped()
    expect_failure(worker, response, 504)


def test_first_byte_timeout_ends_with_the_first_byte(start, model):
    held = model.hold("/generate")
    worker = start(with_timeouts(first_byte=2))
    client = worker.start("/generate")
    exchange = held.next().stream_head(first=b"a")
    response = client.open_response()
    response.read_until(b"a")
    exchange.expect_alive(2.3)
    exchange.chunk(b"b").last_chunk()
    assert response.read_all().complete


def test_no_first_byte_timeout_by_default(worker, model):
    held = model.hold("/generate")
    client = worker.start("/generate")
    exchange = held.next()
    exchange.expect_alive(1.0)
    exchange.answer_json({})
    assert client.read_response().status == 200


def test_idle_timeout_in_a_stream(start, model):
    held = model.hold("/generate")
    worker = start(with_timeouts(idle=0.3))
    client = worker.start("/generate")
    exchange = held.next().stream_head(first=b"a")
    response = client.open_response()
    response.read_until(b"a")
    exchange.expect_dropped()
    assert not response.read_all().complete
    worker.wait_counters(error=1, in_flight=0)


def test_idle_timeout_does_not_run_while_the_client_is_slow(start, model):
    model.on("/generate", endless())
    worker = start(with_timeouts(idle=0.3))
    client = worker.connect(receive_buffer=4096)
    client.send(request("POST", "/generate", envelope()))
    exchange = model.wait_seen()[0]
    assert exchange.blocked.wait(PATIENCE)
    exchange.expect_alive(1.0)
    client.open_response().read_bytes(2 << 20)
    client.close()
    exchange.expect_dropped()


def test_total_timeout(start, model):
    held = model.hold("/generate")
    worker = start(with_timeouts(total=2))
    client = worker.start("/generate")
    exchange = held.next().stream_head(first=b"a")
    response = client.open_response()
    response.read_until(b"a")
    exchange.expect_dropped()
    assert not response.read_all().complete
    worker.wait_counters(error=1, in_flight=0)


NO_HTTP = {
    "bad length": b"HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\nhello",
    "negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "not HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "binary": bytes(range(256)) * 4,
    "half a head": b"HTTP/1.1 200 OK\r\nContent-",
    "half a status line": b"HTTP/1.1 2",
    "nothing": b"",
    "status too small": b"HTTP/1.1 0 X\r\nContent-Length: 0\r\n\r\n",
}


@scripts
@pytest.mark.parametrize("then", ["close", "reset"])
@pytest.mark.parametrize("name", list(NO_HTTP))
def test_heads_that_are_none(start, model, name, then, script):
    model.on("/generate", raw(NO_HTTP[name], then))
    worker = start(script)
    expect_failure(worker, worker.post("/generate"), 502)


def test_an_endless_head(start, model):
    def endless_head(exchange):
        exchange.read_body()
        exchange.send(b"HTTP/1.1 200 OK\r\n")
        while True:
            exchange.send(b"X-Endless: " + b"x" * 1000 + b"\r\n")

    model.on("/generate", endless_head)
    worker = start()
    expect_failure(worker, worker.post("/generate"), 502)
    assert model.last().dropped.wait(PATIENCE)


@pytest.mark.parametrize("how", ["close", "reset"])
def test_dies_inside_a_body_of_known_length(worker, model, how):
    held = model.hold("/generate")
    client = worker.start("/generate")
    exchange = held.next().head(200, [("Content-Length", "100")]).send(b"x" * 50)
    response = client.open_response()
    response.read_until(b"x" * 50)
    getattr(exchange, how)()
    response.read_all()
    assert not response.complete and len(response.body) == 50
    worker.wait_counters(error=1, in_flight=0)
    assert worker.wait_request_line(route="/generate")["outcome"] == "error"


def test_dies_while_a_hook_gathers_the_answer(start, model):
    """Nothing was sent yet, so the client can be told properly."""
    model.on("/generate", raw(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"half', "close"))
    worker = start(
        backend(
            """
      worker.post("/generate", {
        allow_parallel_requests = true,
        generate_client_response = function(_, model_response)
          return worker.json(model_response:json())
        end,
      })"""
        )
    )
    expect_failure(worker, worker.post("/generate"), 502)


def test_a_model_answer_that_is_not_json(start, model):
    model.on("/generate", answers(b"<html>"))
    worker = start(
        backend(
            """
      worker.post("/generate", {
        allow_parallel_requests = true,
        generate_client_response = function(_, model_response)
          return worker.json(model_response:json())
        end,
      })"""
        )
    )
    expect_failure(worker, worker.post("/generate"), 502)


def test_more_bytes_than_announced(worker, model):
    """The surplus belongs to no answer: it must not reach a client, now or with the next request."""
    model.on(
        "/generate",
        raw(
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\n"
            b"Content-Length: 6\r\n\r\npoison"
        ),
    )
    assert worker.post("/generate").body == b"hello"
    model.on("/generate", answers(b"right"))
    for _ in range(3):
        assert worker.post("/generate").body == b"right"


def test_an_answer_before_the_body_was_taken(start, model):
    """An early refusal by the model, whose connection then closes."""

    def early(exchange):
        exchange.answer(413, b"too large for me", reason="Content Too Large")

    model.on("/generate", early)
    worker = start(options=["--max-body", 48 << 20])
    response = worker.post("/generate", {"image": "x" * (1 << 20)})
    assert (response.status, response.body) == (413, b"too large for me")


def test_endless_body_of_a_gathering_hook_is_bounded(start, model):
    model.on("/generate", endless(b"x" * (1 << 20)))
    worker = start(
        backend(
            """
      worker.post("/generate", {
        allow_parallel_requests = true,
        generate_client_response = function(_, model_response)
          return worker.response { body = model_response:body() }
        end,
      })"""
        )
    )
    response = worker.post("/generate")
    assert response.status in (500, 502)
    worker.wait_counters(error=1, in_flight=0, upstreams=0)
    if not is_sanitized():
        assert worker.memory_kb() < 1 << 20


# -- connections kept alive --


def test_a_connection_closed_while_idle_is_not_used(worker, model):
    """The model closes right behind its answer, without saying so."""

    def answer_and_close(exchange):
        exchange.read_body()
        exchange.answer_json({"ok": 1})
        exchange.close()

    model.on("/generate", answer_and_close)
    for _ in range(20):
        assert worker.post("/generate").json() == {"ok": 1}
    assert worker.counters()["error"] == 0
    assert len(model.seen()) == 20


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_kept_connection_that_breaks_before_the_answer_is_tried_again_once(worker, model, how):
    """The race every keep-alive client knows: the request and the close crossed on the wire."""

    def only_first_requests(exchange):
        exchange.read_body()
        if sum(e.connection is exchange.connection for e in model.seen()) > 1:
            getattr(exchange, how)()
        else:
            exchange.answer_json({"connection": exchange.connection.number})

    model.on("/generate", only_first_requests)
    for n in range(5):
        response = worker.post("/generate")
        assert response.status == 200, (n, response.body)
        if n:
            assert response.json()["connection"] == n
    assert worker.wait_counters(success=5)["error"] == 0


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_new_connection_that_breaks_is_not_tried_again(worker, model, how):
    """The model may have begun to work on it: a second try could do the work twice."""
    held = model.hold("/generate")
    client = worker.start("/generate")
    getattr(held.next(), how)()
    assert client.read_response().status == 502
    assert len(model.seen()) == 1


def test_a_kept_connection_that_breaks_inside_the_answer_is_not_tried_again(worker, model):
    model.on("/generate", echo)
    assert worker.post("/generate").status == 200
    held = model.hold("/generate")
    client = worker.start("/generate")
    exchange = held.next()
    assert exchange.connection.number == 0, "the connection is used again"
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-").close()
    assert client.read_response().status == 502
    assert len(model.seen()) == 2


def test_connection_close_of_the_model_is_obeyed(worker, model):
    def closing(exchange):
        exchange.read_body()
        exchange.answer(200, b"{}", [("Connection", "close")])
        exchange.close()

    model.on("/generate", closing)
    for _ in range(3):
        assert worker.post("/generate").status == 200
    assert len(model.connections) == 3


def test_calls_to_the_model_are_not_capped(worker, model):
    """The client pool of the reference stops at 100 connections."""
    held = model.hold("/generate")
    clients = [worker.start("/generate") for _ in range(150)]
    exchanges = [held.next() for _ in clients]
    for exchange in exchanges:
        exchange.answer_json({})
    assert all(client.read_response().status == 200 for client in clients)
