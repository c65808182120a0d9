# SPDX-License-Identifier: MIT
"""examples/start_worker.sh with a signing server of our own: key, request, certificate, the model's
log handed over, and the worker in its place."""

import http.client
import http.server
import os
import pathlib
import signal
import ssl
import subprocess
import threading

import pytest

from harness.timing import PATIENCE, wait_until
from harness.worker import BINARY, PLAIN, ROOT, clean_environment

LAUNCHER = ROOT / "examples/start_worker.sh"


class Authority:
    """Signs certificate requests posted to it, as the cloud does; or answers what it is told to."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.requests = []  # (path, content type, body)
        self.answer = None  # (status, body) instead of a certificate
        self.certificate = self.directory / "ca.crt"
        self._key = self.directory / "ca.key"
        self.openssl(
            *"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority".split(),
            "-keyout", self._key, "-out", self.certificate,
        )  # fmt: skip
        authority = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                authority.requests.append((self.path, self.headers["Content-Type"], body))
                status, answer = authority.answer or (200, authority.sign(body))
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/sign_cert/?instance_id=7"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @staticmethod
    def openssl(*arguments, data=None):
        return subprocess.run(
            ["openssl", *map(str, arguments)], input=data, capture_output=True, check=True
        ).stdout

    def sign(self, request, days=2):
        return self.openssl(
            *f"x509 -req -days {days} -copy_extensions copy -CAcreateserial".split(),
            "-CA", self.certificate, "-CAkey", self._key, data=request,
        )  # fmt: skip

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def authority(tmp_path):
    directory = tmp_path / "authority"
    directory.mkdir()
    one = Authority(directory)
    yield one
    one.stop()


class Launched:
    def __init__(self, directory, authority, **environment):
        self.directory = directory
        self.port_file = directory / "port"
        (directory / "worker.lua").write_text(PLAIN)
        settings = {
            "LUAWORKER": str(BINARY),
            "WORKER_SCRIPT": str(directory / "worker.lua"),
            "SSL_CERT": str(directory / "instance.crt"),
            "SSL_KEY": str(directory / "instance.key"),
            "SIGN_URL": authority.url,
            "MODEL_LOG": str(directory / "model.log"),
            "UNSECURED": "true",
            "REPORT_ADDR": "",
            "SIGN_RETRIES": "0",
            **environment,
        }
        options = "--host 127.0.0.1 --port 0 --port-file port --internal-port 0".split()
        self.process = subprocess.Popen(
            [str(LAUNCHER), *options],
            cwd=directory,
            env=clean_environment(**settings),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def port(self):
        def known():
            assert self.process.poll() is None, self.process.stdout.read().decode()
            text = self.port_file.read_text() if self.port_file.exists() else ""
            return int(text) if text.endswith("\n") else None

        return wait_until(known, "the port file")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        output, _ = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0, output.decode()
        return output.decode()


@pytest.fixture
def launch(tmp_path, authority):
    running = []

    def launch_worker(**environment):
        running.append(Launched(tmp_path, authority, **environment))
        return running[-1]

    yield launch_worker
    for one in running:
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait()
        one.process.stdout.close()


def get_ping(port, trust):
    context = ssl.create_default_context(cafile=trust)
    context.check_hostname = False  # it is made out to 0.0.0.0
    client = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=PATIENCE)
    client.request("GET", "/ping")
    answer = client.getresponse()
    body = answer.read()
    client.close()
    return answer.status, body


def test_certificate_is_made_and_served(launch, authority):
    one = launch()
    assert get_ping(one.port(), authority.certificate) == (200, b"pong")
    path, content_type, request = authority.requests[0]
    assert path == "/sign_cert/?instance_id=7"
    assert content_type == "application/octet-stream"
    text = authority.openssl("req", "-noout", "-text", "-verify", data=request).decode()
    assert "CN = pyworker.vast.ai" in text
    assert "IP Address:0.0.0.0" in text
    assert "(2048 bit)" in text
    assert os.stat(one.directory / "instance.key").st_mode & 0o777 == 0o600
    one.stop()


def test_model_log_is_handed_over(launch, tmp_path):
    log = tmp_path / "model.log"
    log.write_text("the last life\n")
    (tmp_path / "model.log.old").write_text("an earlier one\n")
    one = launch()
    one.port()
    assert log.read_text() == ""
    assert (tmp_path / "model.log.old").read_text() == "an earlier one\nthe last life\n"
    one.stop()


def test_plain_http_asks_for_no_certificate(launch, authority, tmp_path):
    one = launch(USE_SSL="false")
    one.port()
    assert not authority.requests and not (tmp_path / "instance.key").exists()
    one.stop()


@pytest.mark.parametrize(
    "answer", [(500, b"no"), (200, b"<html>sorry</html>"), (200, b"")], ids=["500", "html", "empty"]
)
def test_without_certificate_the_worker_says_why(launch, authority, answer):
    authority.answer = answer
    one = launch()
    output, _ = one.process.communicate(timeout=PATIENCE * 4)
    assert one.process.returncode == 1
    assert b"going on without one" in output
    assert b"instance.crt" in output


def test_without_room_for_the_key_none_is_made(launch, authority, tmp_path):
    """(`set -e` counts for nothing in a function that an `if` asks.)"""
    launched = launch(TMPDIR=str(tmp_path / "nowhere"))
    launched.process.wait(PATIENCE)
    output = launched.process.stdout.read().decode()
    assert "no room for a new key" in output and "/nowhere" in output, output
    assert not authority.requests and not pathlib.Path("/key").exists()


def test_blanks_in_paths_and_a_search_path_for_directories(launch, authority, tmp_path):
    directory = tmp_path / "a b"
    directory.mkdir()
    launched = launch(
        CDPATH=str(ROOT),
        SSL_CERT=str(directory / "the certificate"),
        SSL_KEY=str(directory / "the key"),
        MODEL_LOG=str(directory / "the log"),
        TMPDIR=str(directory),
    )
    assert get_ping(launched.port(), authority.certificate)
    assert [one.name for one in sorted(directory.iterdir())] == ["the certificate", "the key"]
    launched.stop()


def test_foreign_certificate_is_not_taken(launch, authority, tmp_path):
    """Signed well, but for another key."""
    key = tmp_path / "other.key"
    request = authority.openssl(
        "req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-keyout", key
    )
    authority.answer = (200, authority.sign(request))
    one = launch()
    output, _ = one.process.communicate(timeout=PATIENCE * 4)
    assert one.process.returncode == 1 and b"no certificate for our key" in output


def test_good_pair_outlives_a_failing_authority(launch, authority):
    one = launch()
    one.port()
    one.stop()
    one.port_file.unlink()
    authority.answer = (503, b"later")
    again = launch()
    assert get_ping(again.port(), authority.certificate) == (200, b"pong")
    assert "going on with the certificate that is there" in again.stop()


@pytest.mark.parametrize(
    "environment, said",
    [
        ({"WORKER_SCRIPT": None}, "which worker?"),
        ({"WORKER_SCRIPT": None, "BACKEND": "nothing_of_that_name"}, "nothing_of_that_name.lua"),
    ],
    ids=["none", "unknown"],
)
def test_wrong_settings_are_named(launch, environment, said):
    one = launch(USE_SSL="false", **environment)
    output, _ = one.process.communicate(timeout=PATIENCE)
    assert one.process.returncode == 1 and said in output.decode()
