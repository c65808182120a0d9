# SPDX-License-Identifier: MIT
"""Requests that are refused before they mean anything: which status, that it is JSON, and what
becomes of the connection. And requests made to be read in two ways (smuggling)."""

import threading

import pytest

from harness.message import chunked, envelope, post, request
from harness.model import echo
from harness.timing import SLOW

CHUNKED = ("Transfer-Encoding", "chunked")


@pytest.fixture(autouse=True)
def echoing(model):
    model.on("/generate", echo)


def expect_error(client, status, closes, method="POST"):
    return expect_state(client, client.read_response(method), status, closes)


def expect_state(client, response, status, closes):
    """closes: whether the connection must close; None: as the answer says."""
    assert response.status == status, (response.status, response.body)
    assert response.complete
    answer = response.json()
    assert isinstance(answer["error"], str) and answer["error"]
    assert response.headers.get("Content-Type", "").startswith("application/json")
    announced = "close" in response.headers.tokens("Connection")
    if closes is None:
        closes = announced
    assert announced == closes
    if closes:
        client.expect_end()
    else:
        client.send(request("GET", "/ping"))
        assert client.read_response("GET").body == b"pong"
    return response


# -- the connection goes on --


def test_404_keeps_the_connection(worker):
    expect_error(worker.connect().send(request("GET", "/nothing")), 404, False)


@pytest.mark.parametrize(
    "target,fields,status",
    [
        ("/nothing", [], 404),
        ("/ping", [], 405),
        ("/generate", [("Content-Encoding", "gzip")], 415),
        ("/generate", [("Expect", "miracles")], 417),
        ("/nothing", [CHUNKED], 404),
    ],
)
@pytest.mark.parametrize("together", [True, False], ids=["body at once", "body after the answer"])
def test_refused_with_a_body_still_to_come(worker, target, fields, status, together):
    """Either the body is passed over and the connection goes on, or it closes and says so."""
    client = worker.connect()
    body = b"{}" if CHUNKED not in fields else b"2\r\n{}\r\n0\r\n\r\n"
    data = request("POST", target, body, fields)
    if together:
        expect_error(client.send(data), status, None)
        return
    response = client.send(data[: -len(body)]).read_response()
    client.try_send(body)
    expect_state(client, response, status, None)


def test_405_keeps_the_connection_and_names_the_methods(worker):
    response = expect_error(worker.connect().send(request("GET", "/generate")), 405, False)
    assert response.headers.tokens("Allow") == ["post"]
    response = expect_error(worker.connect().send(request("DELETE", "/ping")), 405, False)
    assert set(response.headers.tokens("Allow")) == {"get", "head"}


def test_422_keeps_the_connection(worker):
    expect_error(worker.connect().send(request("POST", "/generate", b"{")), 422, False)


def test_415_by_the_router(worker):
    client = worker.connect().send(post("/generate", {}, [("Content-Encoding", "gzip")]))
    response = client.read_response()
    assert response.status == 415 and "error" in response.json()


# -- deadlines --


def test_408_when_the_head_takes_too_long(start):
    worker = start(options=["--header-timeout", 0.3])
    client = worker.connect().send(b"POST /generate HTTP/1.1\r\nHos")
    expect_error(client, 408, True)


def test_408_although_bytes_trickle(start):
    """The deadline is for the whole head, not between two bytes."""
    worker = start(options=["--header-timeout", 0.5 * SLOW])
    client = worker.connect()
    stop = threading.Event()

    def trickle():
        client.try_send(b"GET /ping HTTP/1.1\r\nHost: x\r\nX: ")
        while not stop.wait(0.05) and client.try_send(b"x"):
            pass

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        response = client.open_response()
        assert response.status == 408
    finally:
        stop.set()
        thread.join()


def test_408_when_the_body_takes_too_long(start):
    worker = start(options=["--body-timeout", 0.3])
    data = post("/generate")
    expect_error(worker.connect().send(data[:-5]), 408, True)
    expect_error(
        worker.connect().send(request("POST", "/generate", chunked(envelope())[:-4], [CHUNKED])),
        408,
        True,
    )


def test_an_idle_connection_is_closed_quietly(start):
    worker = start(options=["--idle-timeout", 0.3, "--header-timeout", 0.3])
    fresh = worker.connect()
    used = worker.connect().send(request("GET", "/ping"))
    used.read_response("GET")
    assert used.expect_end() == "eof"
    assert fresh.expect_end() == "eof", "a connection that never sent a byte gets no 408"


def test_waiting_for_the_model_is_not_idle(start, model):
    held = model.hold("/generate")
    worker = start(options=["--idle-timeout", 0.2, "--header-timeout", 0.2, "--body-timeout", 0.2])
    client = worker.start("/generate")
    exchange = held.next()
    client.expect_silence(0.6)
    exchange.stream_head().chunk(b"a")
    response = client.open_response()
    response.read_until(b"a")
    client.expect_silence(0.6)
    exchange.chunk(b"b").last_chunk()
    assert response.read_all().body == b"ab"


# -- sizes --


def test_413_by_content_length_before_the_body_comes(start):
    worker = start(options=["--max-body", 1000])
    client = worker.connect()
    client.send(request("POST", "/generate", None, [("Content-Length", "1001")]))
    expect_error(client, 413, True)


def test_413_by_counting_chunks(start, model):
    worker = start(options=["--max-body", 1000])
    client = worker.connect()
    client.send(
        request("POST", "/generate", None, [CHUNKED])
        + b"1f4\r\n"
        + b"x" * 500
        + b"\r\n1f5\r\n"
        + b"x" * 501
    )
    expect_error(client, 413, True)
    assert not model.seen()


def test_a_body_of_exactly_the_limit(start):
    body = envelope({"a": "x" * 500})
    worker = start(options=["--max-body", len(body)])
    assert worker.ask("POST", "/generate", body).status == 200
    framed = worker.connect().send(request("POST", "/generate", chunked(body, 100), [CHUNKED]))
    assert framed.read_response().status == 200
    assert worker.ask("POST", "/generate", body + b" ").status == 413


def test_414_and_431(worker):
    def get(target="/ping", headers=()):
        return worker.connect().send(request("GET", target, headers=headers))

    assert get("/ping?" + "x" * 8000).read_response("GET").status == 200
    expect_error(get("/ping?" + "x" * 9000), 414, True, "GET")
    assert get(headers=[("X", "x" * 60000)]).read_response("GET").status == 200
    client = worker.connect()
    client.try_send(request("GET", "/ping", headers=[("X", "x" * 70000)]))
    response = client.read_response("GET")
    assert response.status == 431 and "error" in response.json()
    assert get(headers=[(f"X-{n}", "x") for n in range(100)]).read_response("GET").status == 200
    expect_error(get(headers=[(f"X-{n}", "x") for n in range(200)]), 431, True, "GET")


def test_an_endless_head_is_refused_while_it_comes(worker):
    client = worker.connect()
    client.try_send(b"GET /ping HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 20000)
    assert client.read_response("GET").status == 431


def test_an_endless_request_line_is_refused_while_it_comes(worker):
    client = worker.connect()
    client.try_send(b"GET /" + b"x" * 100_000)
    assert client.read_response("GET").status in (414, 431)


# -- the rest of the statuses --


def test_411_or_a_missing_body(worker):
    """A POST that announces no body has none (RFC 9112 §6.3): it is not JSON then."""
    client = worker.connect().send(request("POST", "/generate"))
    response = client.read_response()
    assert response.status in (411, 422) and "error" in response.json()


@pytest.mark.parametrize(
    "line,status",
    [
        (b"BREW /generate HTTP/1.1", 501),
        (b"CONNECT worker.test:80 HTTP/1.1", 501),
        (b"TRACE /ping HTTP/1.1", 501),
        (b"get /ping HTTP/1.1", 501),
        (b"PROPFIND /ping HTTP/1.1", 501),
    ],
)
def test_unknown_methods(worker, line, status):
    client = worker.connect().send(line + b"\r\nHost: worker.test\r\n\r\n")
    response = client.read_response("GET")
    assert response.status in (status, 400, 405) and "error" in response.json()


@pytest.mark.parametrize(
    "coding",
    [
        "gzip, chunked",
        "gzip",
        "identity",
        "chunked, gzip",
        "chunked, chunked",
        "xchunked",
        "chunked;q=1",
        '"chunked"',
    ],
)
def test_transfer_codings_nobody_here_knows(worker, model, coding):
    client = worker.connect()
    client.send(request("POST", "/generate", chunked(envelope()), [("Transfer-Encoding", coding)]))
    response = client.read_response()
    assert response.status in (400, 501) and "error" in response.json()
    client.expect_end()
    assert not model.seen()


@pytest.mark.parametrize(
    "version,status",
    [
        ("HTTP/2.0", 505),
        ("HTTP/3.0", 505),
        ("HTTP/1.2", 505),
        ("HTTP/0.9", 505),
        ("HTTP/1", 400),
        ("http/1.1", 400),
        ("HTTP/1.10", 400),
        ("HTTP/11", 400),
        ("HTTQ/1.1", 400),
    ],
)
def test_versions(worker, version, status):
    client = worker.connect().send(f"GET /ping {version}\r\nHost: x\r\n\r\n".encode())
    response = client.read_response("GET")
    assert response.status in (status, 400) and "error" in response.json()
    if status == 505:
        assert response.status == 505
    client.expect_end()


def test_http_0_9(worker):
    client = worker.connect().send(b"GET /ping\r\n\r\n")
    assert client.read_response("GET").status in (400, 505)
    client.expect_end()


def test_tls_on_the_plain_port(worker):
    client = worker.connect()
    client.try_send(bytes.fromhex("160301020001000001fc0303") + bytes(range(200)) + b"\r\n\r\n")
    assert client.read_response("GET").status == 400
    client.expect_end()


# -- one message, two readings --

HOST = b"Host: worker.test\r\n"
SMUGGLED = b"POST /generate HTTP/1.1\r\nHost: worker.test\r\nContent-Length: 2\r\n\r\n{}"


def smuggling():
    body = envelope()
    length = b"Content-Length: %d\r\n" % len(body)
    te = b"Transfer-Encoding: chunked\r\n"
    start = b"POST /generate HTTP/1.1\r\n"

    def with_fields(fields, data=body):
        return start + fields + b"\r\n" + data

    return {
        "length and chunked": with_fields(HOST + length + te, chunked(body)),
        "chunked and length": with_fields(HOST + te + length, chunked(body)),
        "two lengths": with_fields(HOST + length + b"Content-Length: 0\r\n"),
        "the same length twice": with_fields(HOST + length + length),
        "a list of lengths": with_fields(HOST + b"Content-Length: 5, 5\r\n", b"hello"),
        "negative length": with_fields(HOST + b"Content-Length: -1\r\n"),
        "length with a plus": with_fields(HOST + b"Content-Length: +5\r\n", b"hello"),
        "length in hex": with_fields(HOST + b"Content-Length: 0x5\r\n", b"hello"),
        "empty length": with_fields(HOST + b"Content-Length:\r\n"),
        "length beyond 64 bits": with_fields(
            HOST + b"Content-Length: 18446744073709551621\r\n", b"hello"
        ),
        "space before the colon": with_fields(HOST + b"Content-Length : 5\r\n", b"hello"),
        "space before the colon of te": with_fields(
            HOST + b"Transfer-Encoding : chunked\r\n" + length
        ),
        "tab before the colon of te": with_fields(
            HOST + b"Transfer-Encoding\t: chunked\r\n" + length
        ),
        "folded te": with_fields(HOST + b"Transfer-Encoding:\r\n chunked\r\n", chunked(body)),
        "folded field": with_fields(HOST + b"X: a\r\n b\r\n" + length),
        "space before the first field": with_fields(b" X: a\r\n" + HOST + length),
        "te twice": with_fields(HOST + te + te, chunked(body)),
        "te with a vertical tab": with_fields(
            HOST + b"Transfer-Encoding: \x0bchunked\r\n", chunked(body)
        ),
        "te behind a bare CR": with_fields(HOST + b"X: \rTransfer-Encoding: chunked\r\n" + length),
        "te behind a bare LF": with_fields(HOST + b"X: a\nTransfer-Encoding: chunked\r\n" + length),
        "bare LF line ends": start.replace(b"\r\n", b"\n") + HOST.replace(b"\r\n", b"\n") + b"\n",
        "bare CR line end": b"POST /generate HTTP/1.1\r" + HOST + length + b"\r\n" + body,
        "head ended by CR X": start + HOST + length + b"\rX" + body,
        "NUL in a value": with_fields(HOST + b"X: a\0b\r\n" + length),
        "NUL in a name": with_fields(HOST + b"X\0: a\r\n" + length),
        "BEL in a value": with_fields(HOST + b"X: a\x07b\r\n" + length),
        "DEL in a value": with_fields(HOST + b"X: a\x7fb\r\n" + length),
        "no name": with_fields(HOST + b": a\r\n" + length),
        "no colon": with_fields(HOST + b"X\r\n" + length),
        "space in a name": with_fields(HOST + b"X Y: a\r\n" + length),
        "letters beyond ASCII in a name": with_fields(HOST + b"X\xe9: a\r\n" + length),
        "no host": with_fields(length),
        "two hosts": with_fields(HOST + b"Host: other\r\n" + length),
        "the same host twice": with_fields(HOST + HOST + length),
        "two spaces in the request line": with_fields(HOST + length).replace(b"POST /", b"POST  /"),
        "tab in the request line": with_fields(HOST + length).replace(b"POST /", b"POST\t/"),
        "space in the target": with_fields(HOST + length).replace(b"/generate", b"/gen erate"),
        "space behind the version": with_fields(HOST + length).replace(b"1.1\r\n", b"1.1 \r\n", 1),
        "control in the target": with_fields(HOST + length).replace(b"/generate", b"/gen\x01erate"),
        "relative target": with_fields(HOST + length).replace(b"/generate", b"generate"),
        "asterisk target": with_fields(HOST + length).replace(b"/generate", b"*"),
        "chunked in HTTP/1.0": with_fields(HOST + te, chunked(body)).replace(
            b"HTTP/1.1", b"HTTP/1.0"
        ),
        "chunk size with a plus": with_fields(HOST + te, b"+5\r\nhello\r\n0\r\n\r\n"),
        "chunk size with 0x": with_fields(HOST + te, b"0x5\r\nhello\r\n0\r\n\r\n"),
        "chunk size with a space before": with_fields(HOST + te, b" 5\r\nhello\r\n0\r\n\r\n"),
        "chunk size beyond 64 bits": with_fields(
            HOST + te, b"10000000000000005\r\nhello\r\n0\r\n\r\n"
        ),
        "no chunk size": with_fields(HOST + te, b"\r\nhello\r\n0\r\n\r\n"),
        "chunk longer than its size": with_fields(HOST + te, b"5\r\nhello!\r\n0\r\n\r\n"),
        "chunk without its CRLF": with_fields(HOST + te, b"5\r\nhello0\r\n\r\n"),
        "chunk ended by a bare LF": with_fields(HOST + te, b"5\r\nhello\n0\r\n\r\n"),
        "chunk size ended by a bare LF": with_fields(HOST + te, b"5\nhello\r\n0\r\n\r\n"),
        "bare CR in a chunk extension": with_fields(HOST + te, b"5;a=\rb\r\nhello\r\n0\r\n\r\n"),
        "length in the trailer": with_fields(HOST + te, b"0\r\nContent-Length: 5\r\n\r\n"),
        "bad trailer": with_fields(HOST + te, b"0\r\nX Y: 5\r\n\r\n"),
    }


@pytest.mark.parametrize("name", list(smuggling()))
def test_ambiguous_requests_are_refused_and_the_connection_closed(worker, model, name):
    client = worker.connect()
    client.try_send(smuggling()[name] + SMUGGLED)
    response = client.read_response()
    assert response.status == 400, (response.status, response.body)
    assert "close" in response.headers.tokens("Connection")
    assert response.json()["error"]
    client.expect_end()
    assert not model.seen()
    seen = worker.counters()
    assert seen["received"] == 0


def test_endless_chunk_extensions_are_refused(worker, model):
    client = worker.connect()
    client.send(request("POST", "/generate", None, [CHUNKED]))
    piece = b"1;" + b"x" * 1000 + b"\r\n \r\n"
    for _ in range(500):
        if not client.try_send(piece):
            break
    assert client.read_response().status in (400, 413)
    assert not model.seen()


def test_tiny_chunks_are_bounded_or_served(worker):
    """One byte a chunk is legal; the overhead must not grow without bound."""
    body = envelope({"a": "x" * 2000})
    client = worker.connect()
    client.try_send(request("POST", "/generate", chunked(body, 1), [CHUNKED]))
    assert client.read_response().status in (200, 400)


def test_nothing_behind_an_error_is_read(worker, model):
    client = worker.connect()
    client.try_send(b"GET /ping HTTP/1.1\r\n\r\n" + post("/generate") * 3)
    assert client.read_response().status == 400
    client.expect_end()
    assert not model.seen()


def test_the_answer_survives_a_body_nobody_reads(start):
    """Refused early while the client still sends: the answer must not be lost to a reset."""
    worker = start(options=["--max-body", 1000])
    client = worker.connect()
    client.send(request("POST", "/generate", None, [("Content-Length", str(4 << 20))]))
    for _ in range(64):
        if not client.try_send(b"x" * 65536):
            break
    assert client.read_response().status == 413
