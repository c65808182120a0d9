# SPDX-License-Identifier: MIT
"""`luaworker verify`: a saved envelope checked offline. Its verdicts are the worker's, its bytes
Python's, its exit status a script's."""

import json
import subprocess

import pytest

from harness.message import auth_data, envelope
from harness.timing import PATIENCE
from harness.worker import BINARY, clean_environment, run

SCHEMES = ("url", "sorted", "legacy")
URL = "http://1.2.3.4:40001"


@pytest.fixture
def verify(tmp_path, signer):
    """verify(bytes, option...) → the ended command."""

    def verify(text, *options, key=signer.public_file, environment=None):
        path = tmp_path / "envelope.json"
        path.write_bytes(text)
        keys = ["--public-key", key] if key else []
        return run("verify", *keys, *options, path, environment=environment)

    return verify


def signed(signer, scheme, **changes):
    return signer.sign_auth(auth_data(url=URL, **changes), scheme)


def verdicts(ended):
    """{scheme: "good" or why not}"""
    lines = [line.split(maxsplit=1) for line in ended.stdout.splitlines()]
    return {words[0]: words[1] for words in lines if words and words[0] in SCHEMES}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_verdict_of_each_scheme(verify, signer, scheme):
    auth = signed(signer, scheme, cost=300.0, endpoint="é")
    for text in (envelope({"a": 1}, auth), json.dumps(auth).encode()):
        ended = verify(text)
        assert ended.returncode == 0, ended
        for name, verdict in verdicts(ended).items():
            bad = "bad: the signature is not the autoscaler's for this text"
            assert verdict == ("good" if name == scheme else bad)
        assert len(verdicts(ended)) == 3


def test_what_was_checked_is_shown(verify, signer):
    out = verify(envelope({"a": 1}, signed(signer, "url", endpoint="é\n"))).stdout
    shown = json.loads(out[len("auth_data: ") : out.index("\n}") + 2])
    assert shown["url"] == URL and shown["endpoint"] == "é\n" and shown["reqnum"] == 1


def test_exact_bytes_on_demand(verify, signer):
    auth = signed(signer, "sorted", cost=1e16, endpoint="\U0001f600")
    message = {key: value for key, value in auth.items() if key != "signature"}
    text = json.dumps(message, indent=4, sort_keys=True)
    ended = verify(json.dumps(auth).encode(), "--auth-scheme", "sorted", "--verbose")
    assert f"its {len(text)} bytes:\n{text}\n" in ended.stdout
    assert "bytes" not in verify(json.dumps(auth).encode()).stdout


def test_only_the_named_schemes(verify, signer):
    text = json.dumps(signed(signer, "sorted")).encode()
    ended = verify(text, "--auth-scheme", "url, legacy")
    assert ended.returncode == 1 and list(verdicts(ended)) == ["url", "legacy"]
    ended = verify(text, environment={"AUTH_SCHEME": "sorted"})
    assert ended.returncode == 0 and verdicts(ended) == {"sorted": "good"}


def test_a_bad_signature(verify, signer, other_signer):
    ended = verify(json.dumps(signed(other_signer, "url")).encode())
    assert ended.returncode == 1 and "good" not in ended.stdout
    ended = verify(json.dumps(auth_data(signature="!")).encode())
    assert ended.returncode == 1 and "not strict base64" in verdicts(ended)["url"]
    ended = verify(json.dumps(signed(signer, "url")).encode(), key=other_signer.public_file)
    assert ended.returncode == 1


def test_legacy_alone_needs_no_request_idx(verify, signer):
    auth = signed(signer, "legacy")
    del auth["request_idx"]
    assert verify(json.dumps(auth).encode(), "--auth-scheme", "legacy").returncode == 0


def test_standard_input(signer):
    ended = subprocess.run(
        [str(BINARY), "verify", "--public-key", str(signer.public_file), "-"],
        input=envelope({}, signed(signer, "url")),
        capture_output=True,
        env=clean_environment(),
        timeout=PATIENCE,
    )
    assert ended.returncode == 0, ended


@pytest.mark.parametrize(
    "text,words",
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b'{"auth_data":{"url":"u"}}', '"signature":"missing parameter"'),
        (b'{"url":"u"}', '"signature":"missing parameter"'),
        (b'{"auth_data":5}', "not an object"),
        (b"[]", "not an object"),
    ],
)
def test_what_cannot_be_read(verify, text, words):
    ended = verify(text)
    assert ended.returncode == 2 and words in ended.stderr + ended.stdout, ended


def test_usage(tmp_path, verify, signer):
    good = json.dumps(signed(signer, "url")).encode()
    for ended, words in (
        (verify(good, key=None), "--public-key"),
        (verify(good, key=tmp_path / "absent.pem"), "absent.pem"),
        (verify(good, key=tmp_path / "envelope.json"), "PEM"),
        (verify(good, key=tmp_path), "directory"),
        (verify(good, "--auth-scheme", "rsa"), "url, sorted and legacy"),
        (verify(good, "--auth-scheme", ""), "url, sorted and legacy"),
        (verify(good, tmp_path / "another.json"), "one file"),
        (run("verify", "--public-key", signer.public_file), "which file"),
        (run("verify", "--public-key", signer.public_file, tmp_path / "absent.json"), "absent.json"),
    ):
        assert ended.returncode == 2 and words in ended.stderr, ended
    assert run("verify", "--help").returncode == 0
