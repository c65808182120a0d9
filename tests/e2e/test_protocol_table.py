# SPDX-License-Identifier: MIT
"""Every row of the protocol's table "A client's request": the answer, and what is counted."""

import json

import pytest

from harness.message import AUTH, auth_data, envelope
from harness.model import answers, echo, refused_url, says
from harness.worker import backend, expect_sums


def totals(worker):
    seen = worker.counters()
    return {k: seen[k] for k in ("received", "success", "error", "cancelled", "rejected")}


NONE = {"received": 0, "success": 0, "error": 0, "cancelled": 0, "rejected": 0}


def expect_refusal(worker, body, status, answer):
    response = worker.ask("POST", "/generate", body)
    assert (response.status, response.json()) == (status, answer)
    assert response.headers.get("Content-Type", "").startswith("application/json")
    assert totals(worker) == NONE
    assert not worker.log.find("request", outcome="rejected")
    line = worker.wait_request_line(status=status)
    assert line["outcome"] == "none", line


@pytest.mark.parametrize(
    "body", [b"", b"{", b"hello", b'{"auth_data":{}', b"{}x", b"\xff{}", b"{'a':1}"]
)
def test_body_is_not_json(worker, body):
    expect_refusal(worker, body, 422, {"error": "invalid JSON"})


@pytest.mark.parametrize(
    "body,answer",
    [
        ({"payload": {}}, {"auth_data": "field missing"}),
        ({"auth_data": AUTH}, {"payload": "field missing"}),
        ({}, {"auth_data": "field missing", "payload": "field missing"}),
    ],
)
def test_auth_data_or_payload_is_absent(worker, body, answer):
    expect_refusal(worker, json.dumps(body).encode(), 422, answer)


@pytest.mark.parametrize("body", [b"[]", b"1", b'"x"', b"null", b"true"])
def test_json_that_is_not_an_object_lacks_both_or_is_invalid(worker, body):
    response = worker.ask("POST", "/generate", body)
    assert response.status == 422
    assert response.json() in (
        {"error": "invalid JSON"},
        {"auth_data": "field missing", "payload": "field missing"},
    )
    assert totals(worker) == NONE


@pytest.mark.parametrize(
    "keys",
    [
        ["signature"],
        ["url"],
        ["reqnum"],
        ["cost"],
        ["endpoint"],
        ["request_idx"],
        ["cost", "url"],
        list(AUTH),
    ],
)
def test_an_auth_data_key_is_absent(worker, keys):
    body = envelope(auth=auth_data(**{key: None for key in keys}))
    expect_refusal(worker, body, 422, {"auth_data": {key: "missing parameter" for key in keys}})


def test_more_auth_data_keys_are_ignored(worker, model):
    model.on("/generate", echo)
    auth = {**AUTH, "__request_id": "abc", "status": "ok", "nested": {"a": [1, None]}}
    assert worker.post("/generate", {"a": 1}, auth=auth).json() == {"a": 1}


@pytest.mark.parametrize("cost", [10, 10.5, "10.5", "1e3", 0])
def test_cost_may_be_a_number_or_a_string(worker, model, cost):
    model.on("/generate", echo)
    assert worker.post("/generate", {"a": 1}, auth=auth_data(cost=cost)).status == 200


def test_session_id_null_is_no_session(worker, model):
    model.on("/generate", echo)
    assert worker.post("/generate", {"a": 1}, session_id=None).status == 200
    assert totals(worker) == {**NONE, "received": 1, "success": 1}


def test_unknown_session_id(worker):
    response = worker.post("/generate", {}, session_id="abcdefghijklm")
    assert (response.status, response.json()) == (410, {"error": "invalid session"})
    assert totals(worker) == NONE


def test_the_payload_is_refused_by_the_worker(start):
    worker = start(
        backend(
            """
      worker.post("/generate", {
        allow_parallel_requests = true,
        payload = worker.payload { prompt = "string", count = "integer" },
      })"""
        )
    )
    body = envelope({"prompt": 5})
    response = worker.ask("POST", "/generate", body)
    assert response.status == 422
    answer = response.json()
    assert list(answer) == ["payload"] and set(answer["payload"]) == {"prompt", "count"}
    assert totals(worker) == NONE


def test_signature_wrong_is_rejected(start, signer):
    worker = start(options=["--public-key", signer.public_file], unsecured=False)
    response = worker.post("/generate", {})
    assert response.status == 401 and "error" in response.json()
    assert totals(worker) == {**NONE, "received": 1, "rejected": 1}
    assert worker.wait_request_line(status=401)["outcome"] == "rejected"


def test_no_public_key_yet_is_rejected(start):
    worker = start(unsecured=False, environment={"REPORT_ADDR": refused_url()})
    response = worker.post("/generate", {})
    assert response.status == 401 and "error" in response.json()
    assert totals(worker) == {**NONE, "received": 1, "rejected": 1}


def test_unverified_payloads_are_not_shown_to_the_script(start, signer):
    worker = start(
        backend(
            """
      worker.post("/generate", {
        allow_parallel_requests = true,
        payload = worker.payload { prompt = "string" },
      })"""
        ),
        options=["--public-key", signer.public_file],
        unsecured=False,
    )
    assert worker.post("/generate", {"prompt": 5}).status == 401


def test_estimated_wait_over_the_limit(start, model):
    held = model.hold("/generate")
    worker = start(
        backend(
            """
      worker.post("/generate", {
        allow_parallel_requests = true, max_queue_time = 5,
        count_workload = function() return 10 end,
        benchmark = { generator = function() return {} end, max_perf = 1 },
      })"""
        )
    )
    first = worker.start("/generate")
    exchange = held.next()
    response = worker.post("/generate")
    assert response.status == 429 and "error" in response.json()
    assert 1 <= int(response.headers.get("Retry-After")) <= 3600
    assert totals(worker) == {**NONE, "received": 2, "rejected": 1}
    exchange.answer_json({})
    assert first.read_response().status == 200
    again = worker.start("/generate")
    held.next().answer_json({})
    assert again.read_response().status == 200
    assert totals(worker) == {**NONE, "received": 3, "rejected": 1, "success": 2}


def test_the_client_goes_away_first(worker, model):
    held = model.hold("/generate")
    client = worker.start("/generate")
    exchange = held.next()
    client.close()
    exchange.expect_dropped()
    worker.wait_counters(in_flight=0, cancelled=1)
    line = worker.wait_request_line(route="/generate")
    assert (line["status"], line["outcome"]) == (499, "cancelled")


def test_the_model_cannot_be_reached(start):
    worker = start(model=refused_url())
    response = worker.post("/generate")
    assert response.status == 502
    assert response.json()["source"] in ("model", "runtime") and response.json()["error"]
    assert totals(worker) == {**NONE, "received": 1, "error": 1}


def test_the_model_answers(worker, model):
    model.on("/generate", says({"text": "hi"}))
    assert worker.post("/generate").json() == {"text": "hi"}
    assert totals(worker) == {**NONE, "received": 1, "success": 1}
    assert worker.wait_request_line(status=200)["outcome"] == "success"


@pytest.mark.parametrize(
    "status,outcome",
    [
        (200, "success"),
        (201, "success"),
        (400, "success"),
        (422, "success"),
        (500, "error"),
        (503, "error"),
    ],
)
def test_a_model_5xx_counts_as_an_error(worker, model, status, outcome):
    model.on("/generate", answers(b"model says", status=status))
    response = worker.post("/generate")
    assert (response.status, response.body) == (status, b"model says")
    assert totals(worker) == {**NONE, "received": 1, outcome: 1}
    assert worker.wait_request_line(status=status)["outcome"] == outcome


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/octet-stream",
        "multipart/form-data; boundary=x",
        None,
    ],
)
def test_the_content_type_is_not_checked(worker, model, content_type):
    model.on("/generate", echo)
    headers = [("Content-Type", content_type)] if content_type else []
    assert worker.post("/generate", {"a": 1}, headers=headers).json() == {"a": 1}


@pytest.mark.parametrize(
    "coding,status", [("gzip", 415), ("br", 415), ("identity", 200), ("gzip, identity", 415)]
)
def test_a_content_encoding_is_refused(worker, model, coding, status):
    model.on("/generate", echo)
    assert worker.post("/generate", headers=[("Content-Encoding", coding)]).status == status


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_on_a_post_route(worker, method):
    response = worker.ask(method, "/generate")
    assert response.status == 405
    assert "post" in response.headers.tokens("Allow")
    assert "error" in response.json()
    assert totals(worker) == NONE


@pytest.mark.parametrize(
    "path", ["/nothing", "/generate/", "/Generate", "//generate", "/generate/../generate", "/"]
)
def test_unknown_paths(worker, path):
    response = worker.post(path)
    assert response.status == 404 and "error" in response.json()
    assert totals(worker) == NONE


def test_sums_hold_while_requests_run(worker, model):
    held = model.hold("/generate")
    clients = [worker.start("/generate") for _ in range(3)]
    exchanges = [held.next() for _ in clients]
    seen = worker.counters()
    assert (seen["in_flight"], seen["requests"], seen["upstreams"]) == (3, 3, 3)
    expect_sums(seen)
    for exchange in exchanges:
        exchange.answer_json({})
    assert [client.read_response().status for client in clients] == [200] * 3
