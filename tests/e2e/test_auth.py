# SPDX-License-Identifier: MIT
"""Signatures: good, wrong, missing key, and the key that the autoscaler serves, sooner or later."""

import base64
import json

import pytest

from harness.message import AUTH, auth_data
from harness.model import FakeModel, answers, echo, refused_url
from harness.timing import SLOW, wait_until
from harness.worker import PLAIN, run

URL = "http://127.0.0.1:40001"


@pytest.fixture
def secured(start, model, signer):
    model.on("/generate", echo)
    return start(options=["--public-key", signer.public_file], unsecured=False)


def ask(worker, signature, url=URL, **changes):
    return worker.post(
        "/generate", {"a": 1}, auth=auth_data(url=url, signature=signature, **changes)
    )


def test_good_signature(secured, signer):
    for _ in range(3):
        assert ask(secured, signer.sign_url(URL)).json() == {"a": 1}
    assert secured.wait_counters(success=3)["rejected"] == 0


def test_good_signature_of_any_url(secured, signer):
    for url in (
        "https://1.2.3.4:443/x?a=b&c=%20",
        "http://bücher.example/ü",
        'http://a/"\\\x7f',
        "",
    ):
        assert ask(secured, signer.sign_url(url), url).status == 200, url


def test_the_other_auth_fields_are_not_signed(secured, signer):
    assert (
        ask(secured, signer.sign_url(URL), cost=1, reqnum=99, endpoint="else", request_idx=5).status
        == 200
    )


def bad_signatures(signer, other):
    good = signer.sign_url(URL)
    raw = bytearray(base64.b64decode(good))
    flipped = raw[:]
    flipped[100] ^= 1
    encode = lambda data: base64.b64encode(bytes(data)).decode()
    return {
        "another key": other.sign_url(URL),
        "another url": signer.sign_url(URL + "0"),
        "one bit flipped": encode(flipped),
        "cut": encode(raw[:-1]),
        "a byte too long": encode(raw + b"\0"),
        "zero before": encode(b"\0" + raw),
        "empty": "",
        "not base64": "!" + good[1:],
        "space within": good[:10] + " " + good[10:],
        "line end behind": good + "\n",
        "no padding": good.rstrip("="),
        "other alphabet": good.replace("+", "-").replace("/", "_")
        if set(good) & set("+/")
        else "-" + good[1:],
        "something behind": good + "AAAA",
        "all zeros": encode(bytes(256)),
        "one": encode(bytes(255) + b"\1"),
    }


def test_bad_signatures(secured, signer, other_signer, model):
    bad = bad_signatures(signer, other_signer)
    for name, signature in bad.items():
        response = ask(secured, signature)
        assert response.status == 401, name
        assert "error" in response.json()
    assert not model.seen()
    assert secured.wait_counters(rejected=len(bad))["received"] == len(bad)


@pytest.mark.parametrize("signature", [5, None, ["x"], {"a": "b"}, True])
def test_signature_of_another_type(secured, signature):
    auth = {**AUTH, "url": URL, "signature": signature}
    body = b'{"auth_data":' + json.dumps(auth).encode() + b',"payload":{}}'
    assert secured.ask("POST", "/generate", body).status in (401, 422)


def test_url_of_another_type(secured, signer):
    assert ask(secured, signer.sign_url(URL), url=5).status in (401, 422)


def test_a_verified_signature_is_not_good_for_another_url(secured, signer):
    good = signer.sign_url(URL)
    assert ask(secured, good).status == 200
    assert ask(secured, good, URL + "1").status == 401
    assert ask(secured, good).status == 200


def test_a_refused_signature_says_nothing_of_the_payload(secured):
    response = secured.post(
        "/generate", {"secret": "payload-marker"}, auth=auth_data(signature="bm8=")
    )
    assert b"payload-marker" not in response.body
    assert "payload-marker" not in secured.log.text()


def test_unsecured_skips_the_check(start, model):
    model.on("/generate", echo)
    assert ask(start(), "bm8=").status == 200


@pytest.mark.parametrize(
    "value,status",
    [
        ("true", 200),
        ("1", 200),
        ("yes", 200),
        ("on", 200),
        ("y", 200),
        ("t", 200),
        ("TRUE", 200),
        ("false", 401),
        ("", 401),
        ("0", 401),
        ("nope", 401),
    ],
)
def test_values_of_unsecured(start, model, value, status):
    model.on("/generate", echo)
    worker = start(unsecured=False, environment={"UNSECURED": value, "REPORT_ADDR": refused_url()})
    assert ask(worker, "bm8=").status == status


# -- the key from the autoscaler --


@pytest.fixture
def autoscaler():
    server = FakeModel()
    server.on("/worker_status/", answers(b'{"ok":true}'))
    server.on("/delete_requests/", answers(b'{"ok":true}'))
    yield server
    server.stop()


def wait_accepted(worker, signer):
    wait_until(
        lambda: ask(worker, signer.sign_url(URL)).status == 200, "the key to arrive", 30 * SLOW
    )


def test_key_from_the_report_address(start, model, signer, autoscaler):
    model.on("/generate", echo)
    autoscaler.on("/pubkey/", answers(signer.public_pem))
    worker = start(unsecured=False, environment={"REPORT_ADDR": autoscaler.url})
    wait_accepted(worker, signer)
    assert autoscaler.last("/pubkey/").method == "GET"
    assert ask(worker, "bm8=").status == 401


def test_key_from_the_second_address(start, model, signer, autoscaler):
    model.on("/generate", echo)
    autoscaler.on("/pubkey/", answers(signer.public_pem))
    worker = start(
        unsecured=False, environment={"REPORT_ADDR": f"{refused_url()},{autoscaler.url}"}
    )
    wait_accepted(worker, signer)


def test_key_from_a_server_that_comes_up_late(start, model, signer, autoscaler):
    """The first two tries fail, each in its own way; requests meanwhile are refused, not kept."""
    model.on("/generate", echo)
    state = {"tries": 0}

    def late(exchange):
        exchange.read_body()
        state["tries"] += 1
        if state["tries"] == 1:
            exchange.answer(503, b"not yet", reason="Service Unavailable")
        elif state["tries"] == 2:
            exchange.answer(200, b"<html>starting</html>")
        else:
            exchange.answer(200, signer.public_pem)

    autoscaler.on("/pubkey/", late)
    worker = start(unsecured=False, environment={"REPORT_ADDR": autoscaler.url})
    autoscaler.wait_seen(1, "/pubkey/")
    assert ask(worker, signer.sign_url(URL)).status == 401
    wait_accepted(worker, signer)
    assert state["tries"] == 3
    assert worker.log.find(level="warn") or worker.log.find(level="error")


def test_a_key_that_never_comes_is_reported(start, autoscaler):
    """After five attempts, 1 + 2 + 4 + 8 s, the fleet is told why this worker is not ready."""
    told = []

    def status(exchange):
        told.append(json.loads(exchange.read_body()))
        exchange.answer(200, b"{}")

    autoscaler.on("/pubkey/", answers(b"not here", status=404))
    autoscaler.on("/worker_status/", status)
    start(unsecured=False, environment={"REPORT_ADDR": autoscaler.url})
    wait_until(
        lambda: told and told[-1]["error_msg"].startswith("Failed to get Serverless public key"),
        "a report of the missing key",
        timeout=60,
    )
    assert len(autoscaler.seen("/pubkey/")) == 5
    assert told[0]["error_msg"] == "" and told[-1]["loadtime"] == 0


def test_without_any_way_to_a_key_it_says_so(tmp_path):
    script = tmp_path / "w.lua"
    script.write_text(PLAIN)
    ended = run("serve", script, "--host", "127.0.0.1", "--port", "0")
    assert ended.returncode > 0
    for word in ("--public-key", "REPORT_ADDR", "UNSECURED"):
        assert word in ended.stderr


def test_key_file_that_is_not_a_key(tmp_path, model):
    script = tmp_path / "w.lua"
    script.write_text(PLAIN)
    bad = tmp_path / "bad.pem"
    bad.write_text("-----BEGIN PUBLIC KEY-----\nnonsense\n-----END PUBLIC KEY-----\n")
    for path in (bad, tmp_path / "absent.pem"):
        ended = run("serve", script, "--host", "127.0.0.1", "--port", "0", "--public-key", path)
        assert ended.returncode not in (0, None) and ended.returncode > 0
        assert path.name in ended.stderr
