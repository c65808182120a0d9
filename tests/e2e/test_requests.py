# SPDX-License-Identifier: MIT
"""Reading requests: any splitting, keep-alive, pipelining, chunked bodies, Expect, HEAD, HTTP/1.0."""

import threading

import pytest

from harness.message import chunked, envelope, post, request
from harness.model import answers, echo
from harness.timing import wait_until

CHUNKED = [("Transfer-Encoding", "chunked")]


@pytest.fixture(autouse=True)
def echoing(model):
    model.on("/generate", echo)
    model.on("/health", answers(b"fine"))


def let_it_read(prober):
    """After this answer the worker's loop has turned, so it has read what was sent before."""
    prober.send(request("GET", "/ping"))
    assert prober.read_response("GET").body == b"pong"


def requests_to_split():
    plain = post("/generate", {"a": [1, "é"]})
    in_chunks = request("POST", "/generate", chunked(envelope({"a": [1, "é"]}), 30), CHUNKED)
    return {"length": plain, "chunked": in_chunks, "pipelined": plain + in_chunks}


@pytest.mark.parametrize("kind", ["length", "chunked"])
def test_split_at_every_byte(worker, model, kind):
    data = requests_to_split()[kind]
    prober, client = worker.connect(), worker.connect()
    for at in range(1, len(data)):
        client.send(data[:at])
        let_it_read(prober)
        client.send(data[at:])
        response = client.read_response()
        assert response.status == 200 and response.json() == {"a": [1, "é"]}, f"split at {at}"
    assert len(model.seen("/generate")) == len(data) - 1


@pytest.mark.parametrize("kind", ["length", "chunked", "pipelined"])
def test_byte_by_byte(worker, kind):
    data = requests_to_split()[kind]
    prober, client = worker.connect(), worker.connect()
    for at in range(len(data)):
        client.send(data[at : at + 1])
        if at % 3 == 0:
            let_it_read(prober)
    for _ in range(2 if kind == "pipelined" else 1):
        assert client.read_response().json() == {"a": [1, "é"]}


def test_keep_alive_uses_one_connection_on_both_sides(worker, model):
    client = worker.connect()
    for n in range(20):
        response = client.send(post("/generate", {"n": n})).read_response()
        assert response.json() == {"n": n}
        assert "close" not in response.headers.tokens("Connection")
    assert worker.counters()["connections"] == 1
    assert len(model.connections) == 1


def test_connection_close_is_obeyed(worker):
    client = worker.connect()
    response = client.send(post("/generate", {}, [("Connection", "close")])).read_response()
    assert response.status == 200
    assert "close" in response.headers.tokens("Connection")
    assert client.expect_end() == "eof"


def test_pipelined_requests_are_answered_in_order(worker, model):
    client = worker.connect()
    client.send(b"".join(post("/generate", {"n": n}) for n in range(10)) + request("GET", "/ping"))
    for n in range(10):
        assert client.read_response().json() == {"n": n}
    assert client.read_response("GET").body == b"pong"


def test_pipelined_requests_wait_for_the_answer_before(worker, model):
    held = model.hold("/generate")
    client = worker.connect()
    client.send(post("/generate", {"n": 1}) + request("GET", "/ping") + post("/generate", {"n": 2}))
    first = held.next()
    client.expect_silence()
    held.expect_none()
    first.answer_json({"first": True})
    assert client.read_response().json() == {"first": True}
    assert client.read_response("GET").body == b"pong"
    held.next().answer_json({"second": True})
    assert client.read_response().json() == {"second": True}


def test_pipelined_behind_a_close_is_not_read(worker, model):
    client = worker.connect()
    client.send(post("/generate", {}, [("Connection", "close")]) + post("/generate", {"n": 2}))
    assert client.read_response().status == 200
    client.expect_end()
    assert len(model.seen()) == 1


def test_a_large_pipeline(worker):
    """More than any buffer holds: reading stops and goes on."""
    client = worker.connect()
    body = {"text": "x" * 50_000}
    sender = threading.Thread(
        target=client.try_send, args=(post("/generate", body) * 100,), daemon=True
    )
    sender.start()
    for _ in range(100):
        assert client.read_response().json() == body
    sender.join()


def test_expect_100_continue(worker):
    body = envelope({"a": 1})
    client = worker.connect()
    client.send(
        request(
            "POST",
            "/generate",
            None,
            [("Expect", "100-continue"), ("Content-Length", str(len(body)))],
        )
    )
    assert client.read_interim() == 100
    client.send(body)
    assert client.read_response().json() == {"a": 1}


def test_expect_100_continue_in_any_case_and_chunked(worker):
    client = worker.connect()
    client.send(request("POST", "/generate", None, [("Expect", "100-Continue"), *CHUNKED]))
    assert client.read_interim() == 100
    client.send(chunked(envelope({"a": 1}), 10))
    assert client.read_response().json() == {"a": 1}


def test_expect_with_the_body_at_once(worker):
    client = worker.connect()
    client.send(post("/generate", {"a": 1}, [("Expect", "100-continue")]))
    response = client.read_response()
    assert response.json() == {"a": 1}
    assert all(status == 100 for status, _ in response.interim)


def test_expect_is_not_answered_when_the_request_is_refused(worker):
    for path, status in (("/nothing", 404), ("/generate", 413)):
        client = worker.connect()
        client.send(
            request(
                "POST", path, None, [("Expect", "100-continue"), ("Content-Length", "99999999999")]
            )
        )
        response = client.read_response()
        assert response.status == status and not response.interim
        client.expect_end()


def test_expect_is_not_answered_to_http_1_0(worker):
    body = envelope({"a": 1})
    client = worker.connect()
    client.send(request("POST", "/generate", body, [("Expect", "100-continue")], version="1.0"))
    response = client.read_response()
    assert response.status in (200, 417) and not response.interim


def test_other_expectations_are_refused(worker):
    response = worker.post("/generate", headers=[("Expect", "miracles")])
    assert response.status == 417 and "error" in response.json()


@pytest.mark.parametrize("size", [1, 7, 1000, 100_000])
def test_chunked_request(worker, model, size):
    payload = {"text": "y" * 20_000}
    client = worker.connect()
    client.send(request("POST", "/generate", chunked(envelope(payload), size), CHUNKED))
    assert client.read_response().json() == payload
    seen = model.last()
    assert seen.headers.get("Content-Length") == str(len(seen.body)), "the length is known by then"


def test_chunk_extensions_and_trailers_are_dropped(worker, model):
    body = envelope({"a": 1})
    framed = b'%x;name=value;other="q"\r\n%s\r\n0;last\r\nX-Trailer: t\r\n\r\n' % (len(body), body)
    client = worker.connect()
    client.send(request("POST", "/generate", framed, CHUNKED))
    assert client.read_response().json() == {"a": 1}
    assert "X-Trailer" not in model.last().headers
    assert client.send(request("GET", "/ping")).read_response("GET").body == b"pong"


def test_empty_lines_before_a_request(worker):
    client = worker.connect()
    client.send(b"\r\n\r\n" + post("/generate", {"a": 1}))
    assert client.read_response().json() == {"a": 1}
    client.send(b"\r\n" + post("/generate", {"a": 2}))
    assert client.read_response().json() == {"a": 2}


@pytest.mark.parametrize("path,length", [("/ping", 4), ("/health", 4), ("/nothing", None)])
def test_head_is_get_without_a_body(worker, path, length):
    client = worker.connect()
    response = client.send(request("HEAD", path)).read_response("HEAD")
    assert response.status == (200 if length else 404)
    if length:
        assert response.headers.get("Content-Length") in (str(length), None)
    after = client.send(request("GET", "/ping")).read_response("GET")
    assert (after.status, after.body) == (200, b"pong"), "no body bytes were left in between"


def test_http_1_0_closes_unless_asked(worker):
    client = worker.connect()
    client.send(request("POST", "/generate", envelope({"a": 1}), version="1.0"))
    response = client.read_response()
    assert (response.status, response.json()) == (200, {"a": 1})
    assert client.expect_end() == "eof"


def test_http_1_0_keep_alive(worker):
    client = worker.connect()
    for n in range(3):
        client.send(
            request(
                "POST",
                "/generate",
                envelope({"n": n}),
                [("Connection", "keep-alive")],
                version="1.0",
            )
        )
        response = client.read_response()
        assert response.json() == {"n": n}
        assert "keep-alive" in response.headers.tokens("Connection")


def test_http_1_0_needs_no_host(worker):
    client = worker.connect()
    client.send(request("GET", "/ping", version="1.0", host=None))
    assert client.read_response("GET").body == b"pong"


def test_http_1_0_stream_ends_with_the_connection(worker, model):
    held = model.hold("/generate")
    client = worker.connect()
    client.send(
        request("POST", "/generate", envelope(), [("Connection", "keep-alive")], version="1.0")
    )
    exchange = held.next().stream_head()
    exchange.chunk(b"one")
    response = client.open_response()
    assert (response.framing, response.status) == ("close", 200)
    response.read_until(b"one")
    exchange.chunk(b"two").last_chunk()
    response.read_all()
    assert response.complete and response.body == b"onetwo"


def test_absolute_form_target(worker):
    client = worker.connect()
    assert (
        client.send(request("GET", "http://worker.test/ping")).read_response("GET").body == b"pong"
    )
    client.send(request("POST", "http://worker.test/generate", envelope({"a": 1})))
    assert client.read_response().json() == {"a": 1}


def test_query_is_not_part_of_the_route(worker):
    assert worker.get("/ping?x=1&y=%20").body == b"pong"
    assert worker.post("/generate?x=1", {"a": 1}).json() == {"a": 1}


def test_a_get_may_have_a_body(worker):
    client = worker.connect()
    client.send(request("GET", "/ping", b"ignored") + request("GET", "/ping"))
    assert [client.read_response("GET").body for _ in range(2)] == [b"pong", b"pong"]


def test_many_connections_at_once(worker, model):
    clients = [worker.connect() for _ in range(100)]
    for n, client in enumerate(clients):
        client.send(post("/generate", {"n": n}))
    assert [client.read_response().json()["n"] for client in clients] == list(range(100))
    assert worker.counters()["connections"] == 100


def test_connections_over_the_limit_are_told(start):
    worker = start(options=["--max-connections", 3])
    kept = [worker.connect() for _ in range(3)]
    for client in kept:
        assert client.send(request("GET", "/ping")).read_response("GET").status == 200
    refused = worker.connect()
    refused.try_send(request("GET", "/ping"))
    response = refused.read_response("GET")
    assert response.status == 503 and "close" in response.headers.tokens("Connection")
    refused.expect_end()
    kept[0].close()
    wait_until(lambda: worker.counters()["connections"] == 2, "the closed one to be noticed")
    assert worker.get("/ping").status == 200
