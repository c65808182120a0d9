# SPDX-License-Identifier: MIT
"""What can't start: with an autoscaler to tell it to, the process stays and reports why until SIGTERM
(or tries again at SIGHUP); without one it ends at once."""

import signal
import socket
import time

import pytest

from harness.client import Client
from harness.message import request
from harness.timing import wait_until
from harness.worker import PLAIN, Program, run

FAST = {"LUAWORKER_TEST_PACE": "20"}


@pytest.fixture
def taken_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        yield taken.getsockname()[1]


@pytest.fixture
def broken(tmp_path, taken_port):
    """name → (options of serve, environment, part of the message)"""
    good, bad = tmp_path / "good.lua", tmp_path / "bad.lua"
    good.write_text(PLAIN)
    bad.write_text("return 5")
    missing = tmp_path / "missing.pem"
    plain = {"UNSECURED": "true"}
    anywhere = ["--host", "127.0.0.1", "--port", "0", "--internal-port", "0"]
    return {
        "script": ([bad, *anywhere], plain, "worker.backend"),
        "no_script": ([tmp_path / "none.lua", *anywhere], plain, "none.lua"),
        "port": ([good, *anywhere, "--port", taken_port], plain, str(taken_port)),
        "internal_port": ([good, *anywhere, "--internal-port", taken_port], plain, str(taken_port)),
        "certificate": (
            [good, *anywhere, "--use-ssl", "--ssl-cert", missing, "--ssl-key", missing],
            plain,
            "missing.pem",
        ),
        "key": ([good, *anywhere, "--public-key", missing], {}, "missing.pem"),
    }


CAUSES = ["script", "no_script", "port", "internal_port", "certificate", "key"]


@pytest.mark.parametrize("cause", CAUSES)
def test_it_goes_on_reporting(broken, autoscaler, cause):
    options, environment, part = broken[cause]
    environment = {**environment, **FAST, "REPORT_ADDR": autoscaler.url, "CONTAINER_ID": "7"}
    program = Program("serve", *options, environment=environment)
    try:
        wait_until(lambda: len(autoscaler.reports) >= 3, "three reports")
        for report in list(autoscaler.reports):
            assert report["error_msg"].startswith("Worker Server failed to launch: "), report
            assert part in report["error_msg"], report
            assert report["id"] == 7 and report["loadtime"] == 0
        assert not autoscaler.seen("/pubkey/")[1:]
        program.stop(code=1)
    finally:
        program.kill()


@pytest.mark.parametrize("cause", CAUSES)
def test_without_an_autoscaler_it_ends(broken, cause):
    options, environment, part = broken[cause]
    ended = run("serve", *options, environment=environment)
    assert ended.returncode == 1 and part in ended.stderr, ended


def test_sighup_tries_again(tmp_path, autoscaler):
    script, port_file = tmp_path / "worker.lua", tmp_path / "port"
    script.write_text("return 5")
    program = Program(
        *("serve", script, "--host", "127.0.0.1", "--port", "0", "--internal-port", "0"),
        *("--port-file", port_file),
        environment={**FAST, "UNSECURED": "true", "REPORT_ADDR": autoscaler.url},
    )
    try:
        autoscaler.wait_error("failed to launch")
        program.process.send_signal(signal.SIGHUP)  # still bad
        program.wait_line("trying to start again")
        seen = len(autoscaler.reports)
        autoscaler.wait_error("failed to launch", since=seen + 1)
        script.write_text(PLAIN)
        program.process.send_signal(signal.SIGHUP)
        wait_until(lambda: port_file.exists() and port_file.read_text(), "the port")
        client = Client(int(port_file.read_text()))
        answer = client.send(request("GET", "/ping")).read_response("GET")
        client.close()
        assert answer.body == b"pong"
        autoscaler.wait_loaded()
        program.stop()
    finally:
        program.kill()


def test_signals_at_any_moment_of_a_new_try(tmp_path, autoscaler):
    """None is lost and none ends it but SIGTERM, also while one program gives way to the next."""
    script = tmp_path / "worker.lua"
    script.write_text("return 5")
    program = Program(
        *("serve", script, "--host", "127.0.0.1", "--port", "0", "--internal-port", "0"),
        environment={**FAST, "UNSECURED": "true", "REPORT_ADDR": autoscaler.url},
    )
    try:
        program.wait_line("reporting the failure")
        for i in range(600):
            program.process.send_signal(signal.SIGUSR1 if i % 3 == 0 else signal.SIGHUP)
            time.sleep(0.001 + i % 7 * 0.0003)
            assert program.process.poll() is None, program.log.text()[-2000:]
        program.process.send_signal(signal.SIGHUP)
        program.stop(code=1)
    finally:
        program.kill()


def test_an_autoscaler_that_is_away(tmp_path, autoscaler):
    """The one thing a beacon has to do may fail as well; SIGTERM still ends it at once."""
    script = tmp_path / "worker.lua"
    script.write_text("return 5")
    autoscaler.stop()
    program = Program(
        *("serve", script, "--host", "127.0.0.1", "--port", "0"),
        environment={**FAST, "UNSECURED": "true", "REPORT_ADDR": autoscaler.url},
    )
    try:
        program.wait_line("no address of REPORT_ADDR takes")
        program.stop(code=1)
    finally:
        program.kill()
