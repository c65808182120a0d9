# SPDX-License-Identifier: MIT
"""What passes between client and model: fields, content types, bodies of every framing and size."""

import os

import pytest

from harness.message import envelope, request
from harness.model import answers, echo, raw, streams
from harness.timing import PATIENCE
from harness.worker import backend

BIG = 32 << 20


def end_to_end(response, *but):
    own = {"date", "connection", "content-length", "transfer-encoding", "keep-alive", *but}
    return [(n, v) for n, v in response.headers.items if n.lower() not in own]


def test_end_to_end_fields_are_kept(worker, model):
    fields = [
        ("X-One", "1"),
        ("x-two", "a, b"),
        ("Set-Cookie", "a=b"),
        ("Set-Cookie", "c=d; Path=/"),
        ("Cache-Control", "no-store"),
        ("ETag", '"x"'),
        ("Server", "model/1.0"),
        ("X-Empty", ""),
        ("X-Text", 'caf\xe9 "quoted" \\ tab\there'),
    ]
    model.on("/generate", answers(b"ok", "text/x-special; charset=utf-16", headers=fields))
    response = worker.post("/generate")
    got = [(n.lower(), v) for n, v in end_to_end(response, "x-request-id")]
    assert got == [
        ("content-type", "text/x-special; charset=utf-16"),
        *((n.lower(), v) for n, v in fields),
    ]


def test_hop_by_hop_fields_are_dropped(worker, model):
    fields = [
        ("Connection", "X-Listed, keep-alive"),
        ("X-Listed", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("Proxy-Authenticate", "Basic"),
        ("TE", "trailers"),
        ("Trailer", "X-T"),
        ("Upgrade", "h2c"),
        ("X-Kept", "1"),
    ]
    model.on("/generate", answers(b"ok", headers=fields))
    response = worker.post("/generate")
    names = {n.lower() for n, _ in response.headers.items}
    assert "x-kept" in names
    assert not names & {
        "x-listed",
        "proxy-connection",
        "proxy-authenticate",
        "te",
        "trailer",
        "upgrade",
    }
    assert response.headers.get("Keep-Alive") != "timeout=5"
    assert "x-listed" not in response.headers.tokens("Connection")


def test_date_is_the_models_or_ours_and_there_is_one(worker, model):
    model.on("/generate", answers(b"ok", headers=[("Date", "Tue, 15 Nov 1994 08:12:31 GMT")]))
    assert worker.post("/generate").headers.all("Date") == ["Tue, 15 Nov 1994 08:12:31 GMT"]
    model.on("/generate", answers(b"ok"))
    assert len(worker.post("/generate").headers.all("Date")) == 1


def test_the_models_framing_is_not_copied_with_ours(worker, model):
    model.on("/generate", streams([b"a", b"b"]))
    response = worker.post("/generate")
    assert (response.framing, response.body) == ("chunked", b"ab")
    model.on("/generate", answers(b"abc"))
    response = worker.post("/generate")
    assert (response.framing, response.body) == ("length", b"abc")
    model.on(
        "/generate", raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil close", "close")
    )
    response = worker.post("/generate")
    assert response.complete and response.body == b"until close"


def test_http_1_0_model(worker, model):
    model.on("/generate", raw(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nold", "close"))
    assert worker.post("/generate").body == b"old"
    assert worker.post("/generate").body == b"old"


@pytest.mark.parametrize(
    "status,reason",
    [
        (200, "OK"),
        (201, "Created"),
        (202, "Accepted"),
        (299, "Custom"),
        (301, "Moved Permanently"),
        (400, "Bad Request"),
        (401, "Unauthorized"),
        (404, "Not Found"),
        (418, "I'm a teapot"),
        (429, "Too Many Requests"),
        (500, "Internal Server Error"),
        (503, "Service Unavailable"),
        (599, "X"),
    ],
)
def test_statuses_pass(worker, model, status, reason):
    model.on("/generate", answers(b'{"m":1}', "application/json", status=status, reason=reason))
    response = worker.post("/generate")
    assert (response.status, response.body) == (status, b'{"m":1}')


def test_redirects_are_not_followed(worker, model):
    model.on("/generate", answers(b"", status=302, headers=[("Location", f"{model.url}/other")]))
    response = worker.post("/generate")
    assert response.status == 302 and response.headers.get("Location") == f"{model.url}/other"
    assert not model.seen("/other")


@pytest.mark.parametrize(
    "answer,status",
    [
        (b"HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n", 204),
        (b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\n\r\n', 304),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\n\r\n", 304),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 200),
    ],
)
def test_answers_without_a_body(worker, model, answer, status):
    model.on("/generate", raw(answer))
    client = worker.connect()
    for _ in range(2):
        response = client.send(request("POST", "/generate", envelope())).read_response()
        assert (response.status, response.body, response.complete) == (status, b"", True)
    assert client.send(request("GET", "/ping")).read_response("GET").body == b"pong"


def test_binary_bodies(worker, model):
    body = bytes(range(256)) * 300 + b"\r\n0\r\n\r\n"
    model.on("/generate", answers(body, "image/png"))
    response = worker.post("/generate")
    assert response.body == body and response.headers.get("Content-Type") == "image/png"


def test_coded_bodies_pass_as_they_are(worker, model):
    body = b"\x1f\x8b not really gzip"
    model.on("/generate", answers(body, headers=[("Content-Encoding", "gzip")]))
    response = worker.post("/generate")
    assert response.body == body and response.headers.get("Content-Encoding") == "gzip"


def test_no_content_type_is_not_invented(worker, model):
    model.on("/generate", raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"))
    assert worker.post("/generate").headers.get("Content-Type") in (
        None,
        "application/octet-stream",
    )


def test_interim_answers_of_the_model_are_not_the_answer(worker, model):
    model.on(
        "/generate",
        raw(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfinal"
        ),
    )
    response = worker.post("/generate")
    assert (response.status, response.body) == (200, b"final")
    assert "Link" not in response.headers


def test_trailers_of_the_model_do_not_become_fields(worker, model):
    model.on(
        "/generate",
        raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-T: 1\r\n\r\n"),
    )
    response = worker.post("/generate")
    assert response.complete and response.body == b"hi" and "X-T" not in response.headers


def test_what_the_model_gets(worker, model):
    model.on("/generate", echo)
    worker.post(
        "/generate",
        {"a": 1},
        headers=[
            ("X-Mine", "1"),
            ("Connection", "X-Hop"),
            ("X-Hop", "1"),
            ("Cookie", "a=b"),
            ("Authorization", "Bearer client"),
        ],
    )
    seen = model.last()
    assert (seen.method, seen.target, seen.version) == ("POST", "/generate", "HTTP/1.1")
    assert seen.body == b'{"a": 1}', "the payload alone, its bytes untouched"
    assert seen.headers.all("Content-Length") == [str(len(seen.body))]
    assert seen.headers.all("Host") == [f"127.0.0.1:{model.port}"]
    assert seen.headers.get("Content-Type").startswith("application/json")
    for name in ("X-Hop", "Expect", "Transfer-Encoding"):
        assert name not in seen.headers
    assert b"signature" not in seen.raw_head


def test_the_endpoint_at_the_model(start, model):
    model.on("/v1/else", echo)
    worker = start(
        backend(
            """worker.post("/generate", { allow_parallel_requests = true, endpoint = "/v1/else" })"""
        )
    )
    assert worker.post("/generate", {"a": 1}).json() == {"a": 1}


def test_the_models_url_may_have_a_path(start, model):
    model.on("/base/generate", echo)
    worker = start(model=model.url + "/base")
    assert worker.post("/generate", {"a": 1}).json() == {"a": 1}
    worker = start(model=model.url + "/base/")
    assert worker.post("/generate", {"a": 1}).json() == {"a": 1}


def test_forwarded_get(worker, model):
    model.on("/health", answers(b"fine", headers=[("X-A", "b")]))
    response = worker.get("/health")
    assert (response.status, response.body, response.headers.get("X-A")) == (200, b"fine", "b")
    assert model.last().method == "GET"
    assert worker.wait_request_line(route="/health")["outcome"] == "none"


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_32_megabytes_from_the_model(worker, model, framing):
    block = os.urandom(1 << 20)
    body = block * 32
    model.on(
        "/generate", answers(body) if framing == "length" else streams([block] * 32, "image/x")
    )
    client = worker.start("/generate")
    response = client.read_response(timeout=PATIENCE * 3)
    assert response.complete and response.body == body
    assert worker.wait_request_line(route="/generate")["bytes_out"] == BIG


def test_32_megabytes_to_the_model(start, model):
    model.on("/generate", echo)
    worker = start(options=["--max-body", 48 << 20])
    payload = b'{"image":"' + b"QUJD" * (BIG // 4) + b'"}'
    client = worker.connect()
    client.send(request("POST", "/generate", envelope(payload)))
    response = client.read_response(timeout=PATIENCE * 3)
    assert response.status == 200 and response.body == payload
    assert model.last().body == payload
