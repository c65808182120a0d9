# SPDX-License-Identifier: MIT
"""The log: one line a request with all its figures, ids that can be followed, nothing secret in it,
and nothing from outside that could forge a line."""

import re
import signal

import pytest

from harness.message import auth_data, envelope, post, request
from harness.model import answers, echo, raw, refused_url, streams
from harness.timing import wait_until
from harness.worker import backend

KEYS = {
    "message",
    "method",
    "route",
    "status",
    "outcome",
    "workload",
    "queue_ms",
    "first_byte_ms",
    "total_ms",
    "bytes_in",
    "bytes_out",
    "request_id",
    "remote",
}


def test_one_line_per_request_with_all_figures(worker, model):
    model.on("/generate", answers(b"12345"))
    body = envelope({"a": 1})
    for _ in range(5):
        worker.ask("POST", "/generate", body)
    wait_until(lambda: len(worker.request_lines()) >= 5, "five lines")
    assert len(worker.request_lines()) == 5
    line = worker.request_lines()[0]
    assert KEYS <= set(line), KEYS - set(line)
    assert (line["method"], line["route"], line["status"], line["outcome"]) == (
        "POST",
        "/generate",
        200,
        "success",
    )
    assert (line["bytes_in"], line["bytes_out"]) == (len(body), 5)
    assert 0 <= line["queue_ms"] <= line["first_byte_ms"] <= line["total_ms"] < 60_000
    assert line["remote"].startswith("127.0.0.1")
    assert line["level"] == "info" and re.match(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$", line["time"]
    )


def test_times_are_those_of_the_request(start, model):
    held = model.hold("/serial")
    worker = start()
    first = worker.start("/serial", {"n": 1})
    exchange = held.next()
    second = worker.start("/serial", {"n": 2})
    worker.wait_counters(queued=1)
    exchange.expect_alive(0.3)
    exchange.answer_json({})
    first.read_response()
    exchange = held.next()
    exchange.expect_alive(0.2)
    exchange.stream_head().chunk(b"x")
    response = second.open_response()
    response.read_until(b"x")
    exchange.expect_alive(0.2)
    exchange.last_chunk()
    response.read_all()
    line = worker.wait_request_line(count=2, route="/serial")
    assert line["queue_ms"] >= 280 and line["first_byte_ms"] >= line["queue_ms"] + 180
    assert line["total_ms"] >= line["first_byte_ms"] + 180


@pytest.mark.parametrize(
    "request_id", ["abc", "A-1_b.c:d", "0" * 64, "550e8400-e29b-41d4-a716-446655440000"]
)
def test_a_sane_request_id_is_kept(worker, model, request_id):
    model.on("/generate", echo)
    response = worker.post("/generate", headers=[("X-Request-Id", request_id)])
    assert response.headers.all("X-Request-Id") == [request_id]
    assert model.last().headers.all("X-Request-Id") == [request_id]
    assert worker.wait_request_line(route="/generate")["request_id"] == request_id


@pytest.mark.parametrize(
    "request_id", ["", "a b", 'a"b', "x" * 500, "caf\xe9", "a\tb", "a\\b", "<script>", "a,b;c{d}"]
)
def test_an_odd_request_id_is_replaced(worker, model, request_id):
    model.on("/generate", echo)
    response = worker.post("/generate", headers=[("X-Request-Id", request_id)])
    fresh = response.headers.get("X-Request-Id")
    if request_id in ("a,b;c{d}",) and fresh == request_id:
        return  # printable and harmless: either is fine
    assert fresh and fresh != request_id and re.match(r"^[A-Za-z0-9_.:-]{6,128}$", fresh)
    assert model.last().headers.get("X-Request-Id") == fresh
    assert worker.wait_request_line(route="/generate")["request_id"] == fresh


def test_two_request_ids_are_one(worker, model):
    model.on("/generate", echo)
    response = worker.post("/generate", headers=[("X-Request-Id", "one"), ("X-Request-Id", "two")])
    assert len(response.headers.all("X-Request-Id")) == 1
    assert len(model.last().headers.all("X-Request-Id")) == 1


def test_request_ids_are_made_and_differ(worker, model):
    model.on("/generate", echo)
    ids = {worker.post("/generate").headers.get("X-Request-Id") for _ in range(20)}
    ids |= {
        worker.get("/ping").headers.get("X-Request-Id"),
        worker.get("/nothing").headers.get("X-Request-Id"),
    }
    assert len(ids) == 22 and None not in ids


def test_the_models_request_id_does_not_double_ours(worker, model):
    model.on("/generate", answers(b"x", headers=[("X-Request-Id", "from-model")]))
    response = worker.post("/generate", headers=[("X-Request-Id", "mine")])
    assert response.headers.all("X-Request-Id") == ["mine"]


def test_no_payload_and_no_signature_in_the_log(start, model, signer):
    """Through all that can go wrong, at the most talkative level."""
    model.on("/generate", answers(b"MODEL-MARK", status=500))
    model.on("/serial", streams([b"MODEL-MARK"]))
    worker = start(
        log_level="debug",
        unsecured=False,
        options=["--public-key", signer.public_file],
        script=backend(
            """
      worker.post("/generate", { allow_parallel_requests = true }),
      worker.post("/serial", { allow_parallel_requests = false }),
      worker.post("/hook", { allow_parallel_requests = true, endpoint = "/generate",
        payload = worker.payload { prompt = "string" },
        generate_client_response = function() error "x" end }),"""
        ),
    )
    url = "http://127.0.0.1:40001"
    good = auth_data(url=url, signature=signer.sign_url(url))
    bad = auth_data(url=url, signature="U0lHTkFUVVJFLU1BUks=")
    secret = {"prompt": "PAYLOAD-MARK", "PAYLOAD-MARK": 1}
    headers = [("Authorization", "Bearer HEADER-MARK"), ("Cookie", "HEADER-MARK")]
    for path in ("/generate", "/serial", "/hook", "/nothing"):
        worker.post(path, secret, headers, good)
        worker.post(path, secret, headers, bad)
    worker.post("/hook", {"prompt": ["PAYLOAD-MARK"]}, headers, good)
    worker.ask("POST", "/generate", b'{"payload":{"PAYLOAD-MARK', headers)
    worker.post("/generate?token=QUERY-MARK", secret, headers, good)
    text = worker.log.text()
    for mark in (
        "PAYLOAD-MARK",
        "MODEL-MARK",
        "HEADER-MARK",
        "QUERY-MARK",
        "U0lHTkFUVVJF",
        good["signature"][:20],
    ):
        assert mark not in text, next(l for l in worker.log.lines if mark in l)


def test_nothing_from_outside_forges_a_line(worker, model):
    """Every line must still be one JSON object (finish() checks that too)."""
    model.on("/generate", echo)
    evil = '"},{"message":"request","outcome":"forged"}'
    worker.post("/generate", {"a": evil}, headers=[("X-Request-Id", evil), ("User-Agent", evil)])
    worker.connect().send(request("GET", '/%0a"message":"forged"')).read_response("GET")
    client = worker.connect()
    client.try_send(b'GET /"\\{}\x7f\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n')
    client.read_response("GET")
    client = worker.connect()
    client.try_send(b'\x1b[31mGET\x1b[0m / HTTP/1.1\r\nHost: "\\n{}\r\n\r\n')
    client.read_response("GET")
    worker.post(
        "/generate",
        {},
        auth=auth_data(url='x\n{"message":"forged"}', endpoint="\u0000\u001b[2J\u2028"),
    )
    worker.counters()
    assert not worker.log.find("forged") and not worker.log.find(outcome="forged")
    assert "\x1b" not in worker.log.text()
    worker.expect_sane_log()


def test_script_log_lines_cannot_forge_either(start, model):
    worker = start(
        backend(
            r"""
      worker.get("/x", function(request)
        worker.log.info("line one\n{\"message\":\"forged\"}\r\27[31m")
        worker.log.warn("%s and %d", "text", 5)
        print("printed", nil, 1)
        return "x"
      end)"""
        )
    )
    worker.get("/x")
    worker.wait_request_line(route="/x")
    assert not worker.log.find("forged")
    assert worker.log.find("text and 5", level="warn")
    assert worker.log.find("printed\tnil\t1")
    worker.expect_sane_log()


def test_model_text_cannot_forge_either(start, model):
    model.on("/generate", raw(b'HTTP/1.1 \x1b[31m\n{"message":"forged"}\n\r\n\r\n', "close"))
    worker = start()
    assert worker.post("/generate").status == 502
    worker.counters()
    assert not worker.log.find("forged")
    worker.expect_sane_log()


def test_text_format_is_one_line_per_event(start, model):
    model.on("/generate", echo)
    worker = start(log_format="text")
    worker.post("/generate", headers=[("X-Request-Id", "one-id")])
    wait_until(lambda: [l for l in worker.log.lines if "one-id" in l], "the line")
    line = next(l for l in worker.log.lines if "one-id" in l)
    for part in (
        "INFO",
        "request",
        "route=/generate",
        "status=200",
        "outcome=success",
        "request_id=one-id",
    ):
        assert part in line
    assert "\x1b[" not in line, "no colours when it is not a terminal"
    worker.signal(signal.SIGTERM)
    worker.expect_exit(0)


@pytest.mark.parametrize(
    "level,shown", [("debug", True), ("info", True), ("warn", False), ("error", False)]
)
def test_levels(start, model, level, shown):
    model.on("/generate", echo)
    worker = start(log_level=level)
    assert worker.post("/generate").status == 200
    worker.signal(signal.SIGTERM)
    worker.expect_exit(0)
    assert bool(worker.request_lines()) == shown


def test_every_failure_says_whose_it_was(start):
    worker = start(model=refused_url())
    worker.post("/generate", headers=[("X-Request-Id", "failing")])
    line = worker.wait_request_line(route="/generate")
    assert (
        line["source"] == "model" and "refused" in line["error"] and line["request_id"] == "failing"
    )


def test_refused_requests_have_a_line_too(worker):
    worker.post("/nothing")
    worker.ask("POST", "/generate", b"{")
    client = worker.connect()
    client.try_send(b"GET / HTTP/1.1\r\n\r\n")
    client.read_response("GET")
    for status, reason in ((404, "no such path"), (422, '{"error":"invalid JSON"}')):
        line = worker.wait_request_line(status=status)
        assert (line["outcome"], line["error"], line["level"]) == ("none", reason, "info")


def test_the_models_own_errors_are_told_as_its(worker, model):
    model.on("/generate", answers(b"no", status=503))
    worker.post("/generate")
    line = worker.wait_request_line(status=503)
    assert (line["source"], line["error"]) == ("model", "the model answered with status 503")
    worker.post("/nothing")
    model.on("/generate", answers(b"yes"))
    worker.post("/generate")
    assert "error" not in worker.wait_request_line(status=200)


def test_pipelined_requests_have_a_line_each(worker, model):
    model.on("/generate", echo)
    client = worker.connect().send(b"".join(post("/generate", {"n": n}) for n in range(5)))
    for _ in range(5):
        client.read_response()
    worker.wait_request_line(count=5, route="/generate")
    ids = {line["request_id"] for line in worker.request_lines()}
    assert len(ids) == 5
