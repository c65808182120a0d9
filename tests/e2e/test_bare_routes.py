# SPDX-License-Identifier: MIT
"""Routes with `envelope = false`: the body is the payload itself, the signature comes in a field, as
a client of the model's own kind can send it."""

import base64
import json

import pytest

from harness.message import auth_data, envelope
from harness.model import echo
from harness.worker import backend

URL = "http://127.0.0.1:40001"
PAYLOAD = b' {"model": "m", "seed": 9007199254740993, "f": 1.0, "stop":[]}\n'
BARE = backend('worker.post("/v1/chat", { envelope = false, allow_parallel_requests = true }),',
               more="max_sessions = 2,")
HOOKED = backend(
    """
    worker.post("/v1/chat", {
      envelope = false,
      payload = worker.payload { model = "string" },
      count_workload = function(payload) return #payload.model end,
      generate_payload_json = function(payload) return { got = payload.model } end,
    }),
"""
)


@pytest.fixture(autouse=True)
def echoing(model):
    model.on("/v1/chat", echo)


@pytest.fixture
def secured(start, signer):
    def secured(script=BARE, scheme="url"):
        options = ["--public-key", signer.public_file, "--auth-scheme", scheme]
        return start(script, options=options, unsecured=False)

    return secured


def signed(signer, scheme="url", **changes):
    return json.dumps(signer.sign_auth(auth_data(url=URL, **changes), scheme))


def b64(text):
    return base64.b64encode(text.encode()).decode()


def ask(worker, *fields, body=PAYLOAD):
    return worker.ask("POST", "/v1/chat", body, fields)


def carriers(auth):
    """The ways in which auth_data may come."""
    url_safe = base64.urlsafe_b64encode(auth.encode()).decode()
    return {
        "JSON": ("X-Auth-Data", auth),
        "base64": ("x-auth-data", b64(auth)),
        "url-safe base64 without padding": ("X-Auth-Data", url_safe.rstrip("=")),
        "bearer": ("Authorization", "Bearer " + b64(auth)),
        "bearer in small letters": ("authorization", "bearer  " + b64(auth)),
    }


def test_each_carrier(secured, signer, model):
    worker = secured()
    for name, field in carriers(signed(signer, endpoint="é?>")).items():
        answer = ask(worker, field)
        assert (answer.status, answer.body) == (200, PAYLOAD.strip()), name
    assert worker.wait_counters(success=5)["rejected"] == 0


def test_the_field_goes_before_the_api_key(secured, signer):
    worker = secured()
    field = ("X-Auth-Data", signed(signer))
    assert ask(worker, ("Authorization", "Bearer sk-something"), field).status == 200
    bad = ("X-Auth-Data", signed(signer).replace(URL, URL + "0"))
    assert ask(worker, ("Authorization", "Bearer " + b64(signed(signer))), bad).status == 401


def test_wrong_signatures(secured, signer, other_signer, model):
    worker = secured()
    wrong = list(carriers(signed(other_signer)).values())
    for field in wrong:
        answer = ask(worker, field)
        assert answer.status == 401 and answer.json() == {"error": "invalid signature"}
    assert worker.wait_counters(rejected=len(wrong))["received"] == len(wrong)
    assert not model.seen()


@pytest.mark.parametrize(
    "fields,text",
    [
        ([], "field missing"),
        ([("Authorization", "Basic dTpw")], "field missing"),
        ([("Authorization", "Bearer")], "field missing"),
        ([("Authorization", "Bearer sk-proj-0123456789")], "neither JSON nor base64"),
        ([("X-Auth-Data", "")], "neither JSON nor base64"),
        ([("X-Auth-Data", "{")], "neither JSON nor base64"),
        ([("X-Auth-Data", "{}")], "missing parameter"),
        ([("X-Auth-Data", b64("[]"))], "not an object"),
        ([("X-Auth-Data", b64("5"))], "not an object"),
        ([("X-Auth-Data", "A" * 20000)], "neither JSON nor base64"),
    ],
    ids=lambda value: None if isinstance(value, str) else str(value)[:40],
)
def test_missing_or_unreadable(secured, model, fields, text):
    worker = secured()
    answer = ask(worker, *fields)
    assert answer.status == 401 and text in json.dumps(answer.json()), answer.body
    assert not model.seen()
    assert worker.wait_counters(in_flight=0)["received"] == 0


def test_a_body_that_is_no_object(secured, signer):
    worker = secured()
    for body in (b"", b"nonsense", b"[1]", b"5", b'"x"'):
        answer = ask(worker, ("X-Auth-Data", signed(signer)), body=body)
        assert answer.status == 422 and answer.json() == {"error": "invalid JSON"}, body


def test_an_envelope_is_just_a_payload_here(secured, signer):
    body = envelope({"a": 1}, json.loads(signed(signer)))
    worker = secured()
    assert ask(worker, body=body).status == 401
    assert ask(worker, ("X-Auth-Data", signed(signer)), body=body).body == body


def test_other_routes_do_not_look_at_fields(start, signer):
    script = backend('worker.post("/v1/chat", {}),')
    worker = start(script, options=["--public-key", signer.public_file], unsecured=False)
    assert ask(worker, ("X-Auth-Data", signed(signer))).status == 422


def test_the_auth_fields_never_reach_the_model(secured, signer, model):
    worker = secured()
    for field in carriers(signed(signer)).values():
        assert ask(worker, field, ("X-Session-Id-Not", "x")).status == 200
        seen = model.last("/v1/chat")
        assert "x-auth-data" not in seen.headers and "authorization" not in seen.headers
        assert signer.sign_url(URL) not in repr(seen.raw_head) + repr(seen.body)


def test_unsecured_needs_none(start):
    worker = start(BARE)
    for fields in ([], [("Authorization", "Bearer sk-x")], [("X-Auth-Data", "{")],
                   [("X-Auth-Data", json.dumps(auth_data()))]):
        assert ask(worker, *fields).body == PAYLOAD.strip()


def test_hooks_see_the_payload(secured, signer, model):
    worker = secured(HOOKED)
    field = ("X-Auth-Data", signed(signer))
    assert ask(worker, field).json() == {"got": "m"}
    assert worker.wait_request_line(route="/v1/chat", status=200)["workload"] == 1
    answer = ask(worker, field, body=b"{}")
    assert answer.status == 422 and answer.json() == {"payload": {"model": "missing parameter"}}
    assert ask(worker, body=b"{}").status == 401  # a stranger's payload is not looked at


def test_replays_of_sorted(secured, signer):
    worker = secured(scheme="sorted")
    field = ("X-Auth-Data", signed(signer, "sorted", reqnum=5))
    assert ask(worker, field).status == 200
    assert ask(worker, field).status == 401


def test_legacy_without_request_idx(secured, signer):
    auth = json.loads(signed(signer, "legacy"))
    del auth["request_idx"]
    assert ask(secured(scheme="legacy"), ("X-Auth-Data", json.dumps(auth))).status == 200
    assert ask(secured(scheme="url"), ("X-Auth-Data", json.dumps(auth))).status == 401


@pytest.mark.parametrize("scheme", ("url", "sorted"))
def test_within_a_session(secured, signer, model, scheme):
    worker = secured(scheme=scheme)
    auth = signed(signer, scheme)
    created = worker.post("/session/create", {"lifetime": 60}, auth=json.loads(auth))
    session_id = created.json()["session_id"]
    field = ("X-Auth-Data", auth)
    for _ in range(2):
        assert ask(worker, field, ("X-Session-Id", session_id)).status == 200
    assert "x-session-id" not in model.last("/v1/chat").headers
    answer = ask(worker, field, ("X-Session-Id", "unknown"))
    assert answer.status == 410 and answer.json() == {"error": "invalid session"}
    assert ask(worker, ("X-Session-Id", session_id)).status == 401
    body = json.dumps({"session_id": session_id, "session_auth": json.loads(auth)}).encode()
    assert worker.ask("POST", "/session/end", body).status == 200
    assert ask(worker, field, ("X-Session-Id", session_id)).status == 410


def test_a_client_that_leaves(secured, signer, model):
    held = model.hold("/v1/chat")
    worker = secured()
    fields = (("X-Auth-Data", signed(signer)), ("Content-Length", str(len(PAYLOAD))))
    client = worker.connect()
    head = "POST /v1/chat HTTP/1.1\r\nHost: h\r\n" + "".join(f"{n}: {v}\r\n" for n, v in fields)
    client.send(head.encode() + b"\r\n" + PAYLOAD)
    exchange = held.next()
    client.close()
    exchange.expect_dropped()
    assert worker.wait_counters(in_flight=0, cancelled=1)["success"] == 0
