# SPDX-License-Identifier: MIT
"""The signature schemes url, sorted and legacy, made by an independent signer: good, bad, replayed,
out of the window, lists of schemes, whose URL, another key, and what the log says of a refusal."""

import json
import shlex

import pytest

from harness.message import auth_data, envelope
from harness.model import FakeModel, answers, echo
from harness.ports import as_options, dev_ports
from harness.timing import SLOW, wait_until
from harness.worker import PLAIN, ROOT, Program, backend, run

SCHEMES = ("url", "sorted", "legacy")
URL = "http://127.0.0.1:40001"
HELLO = ROOT / "workers/hello_world.lua"


@pytest.fixture(autouse=True)
def echoing(model):
    model.on("/generate", echo)


@pytest.fixture
def serve(start, signer):
    """serve(names) → a worker that checks signatures under these schemes."""

    def serve(names, *options, script=PLAIN, environment=None, **more):
        options = ["--public-key", signer.public_file, "--auth-scheme", names, *options]
        environment = {"PUBLIC_IPADDR": "127.0.0.1", **(environment or {})}
        return start(script, options=options, unsecured=False, environment=environment, **more)

    return serve


def signed(signer, scheme, **changes):
    return signer.sign_auth(auth_data(url=URL, **changes), scheme)


def status(worker, auth, **more):
    return worker.post("/generate", {"a": 1}, auth=auth, **more).status


def reason(worker):
    """Why the last refused request was, as its line in the log says."""
    worker.counters()  # written after it, so it has been read
    return worker.request_lines(status=401)[-1]["error"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_each_scheme_takes_its_own_text_only(serve, signer, scheme):
    worker = serve(scheme)
    for i, made in enumerate(SCHEMES):
        wanted = 200 if made == scheme else 401
        assert status(worker, signed(signer, made, reqnum=10 + i)) == wanted, made
    assert reason(worker) == f"the signature is not the autoscaler's for this text (tried: {scheme})"
    assert worker.wait_counters(success=1)["rejected"] == 2


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    "values",
    [
        {"cost": 300.0},
        {"cost": "12.50"},
        {"cost": 1e16, "endpoint": "Größe \U0001f600 \x7f \"\\/\b"},
        {"cost": 1e-7, "request_idx": 12345678901234567890123},
        {"cost": -0.0, "endpoint": ""},
    ],
    ids=str,
)
def test_values_are_printed_as_they_came(serve, signer, scheme, values):
    auth = signed(signer, scheme, **values)
    backwards = dict(reversed(auth.items()))
    assert status(serve(scheme), backwards) == 200


@pytest.mark.parametrize("scheme", ("sorted", "legacy"))
def test_each_signed_field_counts(serve, signer, scheme):
    worker = serve(scheme)
    good = signed(signer, scheme)
    changes = {"cost": "11.0", "endpoint": "other", "reqnum": 2, "url": URL + "0"}
    if scheme == "sorted":
        changes["request_idx"] = 8
    for key, value in changes.items():
        assert status(worker, {**good, key: value}) == 401, key
    assert status(worker, {**good, "__request_id": "not signed", "more": [1]}) == 200


def test_names_may_stand_in_the_environment(start, signer):
    worker = start(
        options=["--public-key", signer.public_file],
        unsecured=False,
        environment={"AUTH_SCHEME": " sorted , url "},
    )
    assert status(worker, signed(signer, "sorted")) == 200
    assert status(worker, signed(signer, "url")) == 200


@pytest.mark.parametrize("names", ["", "url,", "rsa", "url,url", "URL", "sorted legacy"])
def test_names_that_are_none(tmp_path, signer, names):
    script = tmp_path / "w.lua"
    script.write_text(PLAIN)
    ended = run(
        "serve", script, "--port", "0", "--public-key", signer.public_file, "--auth-scheme", names
    )
    assert ended.returncode not in (0, None)
    assert "--auth-scheme" in ended.stderr and "sorted" in ended.stderr or "twice" in ended.stderr


# -- replays --


@pytest.mark.parametrize("scheme", ("sorted", "legacy"))
def test_replays_are_refused(serve, signer, scheme):
    worker = serve(scheme)
    first = signed(signer, scheme, reqnum=500)
    assert status(worker, first) == 200
    assert status(worker, first) == 401
    assert reason(worker) == "replayed: reqnum 500 was here before, highest seen 500"
    assert status(worker, signed(signer, scheme, reqnum=400)) == 200
    assert status(worker, signed(signer, scheme, reqnum=399)) == 401
    assert reason(worker) == "replayed: reqnum 399 is too old, highest seen 500"
    assert status(worker, signed(signer, scheme, reqnum=500, endpoint="another message")) == 200


def test_url_has_no_freshness(serve, signer):
    worker = serve("url")
    for reqnum in (500, 500, 1):
        assert status(worker, signed(signer, "url", reqnum=reqnum)) == 200


def test_a_forged_number_moves_no_window(serve, signer, other_signer):
    worker = serve("sorted")
    assert status(worker, signed(other_signer, "sorted", reqnum=10**9)) == 401
    assert status(worker, signed(signer, "sorted", reqnum=1)) == 200


def test_a_list_shares_one_memory(serve, signer):
    worker = serve("url, sorted, legacy")
    assert status(worker, signed(signer, "sorted", reqnum=500)) == 200
    assert status(worker, signed(signer, "legacy", reqnum=500)) == 200  # another message
    assert status(worker, signed(signer, "legacy", reqnum=399)) == 401
    assert status(worker, signed(signer, "sorted", reqnum=500)) == 401
    assert status(worker, signed(signer, "url", reqnum=1)) == 200
    assert status(worker, signed(signer, "sorted", reqnum=501)) == 200


def test_a_number_that_is_none(serve, signer):
    worker = serve("sorted")
    for number in ("7", 1.5, -1, None, 10**20):
        auth = signer.sign_auth({**auth_data(url=URL), "reqnum": number}, "sorted")
        assert status(worker, auth) == 401, number
        assert "reqnum is no whole number" in reason(worker)


def test_a_session_repeats_its_auth_data(serve, signer):
    """Its requests carry what created it; without the session the same text is a replay."""
    worker = serve("sorted", script=backend('worker.post("/generate", {}),', more="max_sessions = 2,"))
    auth = signed(signer, "sorted", reqnum=5)
    session_id = worker.post("/session/create", {"lifetime": 60}, auth=auth).json()["session_id"]
    assert worker.post("/session/create", {"lifetime": 60}, auth=auth).status == 401
    again = worker.post("/session/create", {"lifetime": 60}, auth=auth, session_id=session_id)
    assert again.status == 401
    for _ in range(3):
        assert status(worker, auth, session_id=session_id) == 200
    assert status(worker, auth) == 401
    assert status(worker, auth, session_id="unknown") == 410
    ended = worker.ask(
        "POST",
        "/session/end",
        json.dumps({"session_id": session_id, "session_auth": auth}).encode(),
    )
    assert ended.status == 200
    assert status(worker, auth, session_id=session_id) == 410


# -- request_idx --


def test_legacy_has_no_request_idx(serve, signer):
    auth = signed(signer, "legacy")
    del auth["request_idx"]
    assert status(serve("legacy"), auth) == 200
    answer = serve("legacy,sorted").post("/generate", {}, auth=auth)
    assert answer.status == 422
    assert answer.json() == {"auth_data": {"request_idx": "missing parameter"}}


# -- whose URL --


def own_url(worker):
    return f"http://127.0.0.1:{worker.port}"


def url_status(worker, signer, url, scheme="url", **changes):
    return status(worker, signer.sign_auth(auth_data(url=url, **changes), scheme))


def test_enforce_refuses_other_urls(serve, signer):
    worker = serve("url,sorted", "--auth-url-check", "enforce")
    ours = own_url(worker)
    assert url_status(worker, signer, ours) == 200
    assert url_status(worker, signer, ours + "/") == 200
    assert url_status(worker, signer, URL) == 401
    assert reason(worker) == f"the signed url {URL} is not this worker's, {ours}"
    assert url_status(worker, signer, URL, "sorted", reqnum=9) == 401
    assert url_status(worker, signer, ours, "sorted", reqnum=9) == 200


def warnings(worker):
    worker.counters()
    return worker.log.find("a signature is for another worker's URL")


def test_warn_tells_once(serve, signer):
    worker = serve("url")
    for _ in range(5):
        assert url_status(worker, signer, URL) == 200
    assert [(w["level"], w["signed_url"], w["our_url"]) for w in warnings(worker)] == [
        ("warn", URL, own_url(worker))
    ]
    assert url_status(worker, signer, own_url(worker)) == 200
    assert len(warnings(worker)) == 1


def test_off_says_nothing(serve, signer):
    worker = serve("url", environment={"AUTH_URL_CHECK": "off"})
    assert url_status(worker, signer, URL) == 200
    assert not warnings(worker)


def test_a_check_that_is_none(tmp_path, signer):
    script = tmp_path / "w.lua"
    script.write_text(PLAIN)
    ended = run("serve", script, "--port", "0", "--public-key", signer.public_file,
                "--auth-url-check", "loud")
    assert ended.returncode not in (0, None) and "enforce" in ended.stderr


# -- keys --


@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_key_yet(start, signer, scheme):
    autoscaler = FakeModel()
    autoscaler.on("/worker_status/", answers(b"{}"))
    autoscaler.on("/delete_requests/", answers(b"{}"))
    key = autoscaler.hold("/pubkey/")
    worker = start(
        options=["--auth-scheme", scheme],
        unsecured=False,
        environment={"REPORT_ADDR": autoscaler.url},
    )
    exchange = key.next()
    assert status(worker, signed(signer, scheme)) == 401
    assert reason(worker) == "there is no public key yet"
    exchange.answer(200, signer.public_pem)
    # What was refused for want of a key was not seen: it is still good.
    wait_until(lambda: status(worker, signed(signer, scheme)) == 200, "the key", 30 * SLOW)
    autoscaler.stop()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_worker_with_another_key(serve, signer, other_signer, scheme):
    """A restart with another key: what the old one signed is refused, all numbers begin anew."""
    worker = serve(scheme)
    assert status(worker, signed(signer, scheme, reqnum=5000)) == 200
    worker = serve(scheme, "--public-key", other_signer.public_file)
    assert status(worker, signed(signer, scheme, reqnum=5001)) == 401
    assert status(worker, signed(other_signer, scheme, reqnum=1)) == 200


# -- what the log says --


@pytest.mark.parametrize(
    "signature,wanted",
    [
        ("", "the signature is empty"),
        ("!" * 344, "the signature is not strict base64"),
        ("A" * 340 + "A===", "the signature is not strict base64"),
        ("é", "the signature is not strict base64"),
        ("AAAA", "the signature has 4 characters of base64, one of the key's 2048 bits has 344"),
        ("A" * 342 + "==", "the signature is not the autoscaler's for this text"),
    ],
)
def test_the_reason_is_told(serve, signature, wanted):
    worker = serve("url, legacy")
    answer = worker.post("/generate", {}, auth=auth_data(url=URL, signature=signature))
    assert answer.status == 401 and answer.json() == {"error": "invalid signature"}
    assert reason(worker) == wanted + " (tried: url, legacy)"


def test_debug_shows_the_compared_bytes(serve, signer, other_signer):
    worker = serve("url,sorted,legacy", log_level="debug")
    auth = signed(other_signer, "sorted", endpoint='line\nbreak "é"', cost=300.0)
    assert status(worker, auth) == 401
    worker.counters()
    records = worker.log.find("signature compared")
    assert [r["scheme"] for r in records] == ["url", "sorted", "legacy"]
    message = {k: v for k, v in auth.items() if k != "signature"}
    assert records[1]["text"] == json.dumps(message, indent=4, sort_keys=True)
    del message["request_idx"]
    in_order = {k: message[k] for k in ("cost", "endpoint", "reqnum", "url")}
    assert records[2]["text"] == json.dumps(in_order, indent=4)
    assert auth["signature"] not in worker.log.text()


def test_info_does_not_show_them(serve, other_signer):
    worker = serve("url")
    assert status(worker, signed(other_signer, "url")) == 401
    worker.counters()
    assert not worker.log.find("signature compared")


def test_a_text_that_is_too_long(serve, signer):
    worker = serve("sorted", log_level="debug")
    assert status(worker, {**signed(signer, "sorted"), "cost": "9" * 10000}) == 401
    assert reason(worker) == "the signed text is too long (tried: sorted)"
    deep = b"[" * 400 + b"]" * 400
    body = envelope({}, signed(signer, "sorted")).replace(b'"10.0"', deep, 1)
    assert worker.ask("POST", "/generate", body).status == 401
    many = b"{" + b'"a":1,' * 200000 + b'"a":1}'
    body = envelope({}, signed(signer, "sorted")).replace(b'"10.0"', many, 1)
    assert worker.ask("POST", "/generate", body).status == 401


# -- the local autoscaler --


@pytest.mark.parametrize("names", ["url", "sorted,url", "legacy"])
def test_the_whole_loop_on_one_machine(names):
    """The autoscaler signs, the built-in client passes its answer on, the worker checks; twice, since
    each request has a message of its own."""
    program = Program(
        "dev", HELLO, *as_options(dev_ports()), "--rate", "0", "--auth-scheme", names
    )
    try:
        words = shlex.split(program.wait_line("luaworker call"))
        for _ in range(2):
            ended = run(*words[1:])
            assert ended.returncode == 0, (ended, program.log.text())
        program.stop()
    finally:
        program.kill()


def test_the_local_autoscaler_knows_its_schemes():
    ended = run("run", "@autoscaler", "--port", "0", "--auth-scheme", "url,sorted")
    assert ended.returncode == 2 and "url, sorted or legacy" in ended.stderr
    ended = run("dev", "x.lua", "--auth-scheme", "none")
    assert ended.returncode == 2 and "url, sorted and legacy" in ended.stderr
