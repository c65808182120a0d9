# SPDX-License-Identifier: MIT
"""What systemd is told over its notification socket (sd_notify(3)): ready when the worker is, what it
waits for until then, that the loop turns, and that it stops."""

import os
import signal
import socket

import pytest

from harness.model import says
from harness.timing import PATIENCE
from harness.worker import Program, backend

ROUTES = """
    worker.post("/generate", { allow_parallel_requests = true }),
    worker.get("/ping", function() return "pong" end),
"""
LOGGING = 'model_log_file = "model.log", log_actions = { model_loaded = "is up" },'


class Systemd:
    """The other end of $NOTIFY_SOCKET."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(PATIENCE)
        self.said = []

    def wait(self, wanted):
        """Reads on until a message fulfils wanted(message)."""
        while True:
            try:
                self.said.append(self.socket.recv(4096).decode())
            except socket.timeout:
                raise AssertionError(f"never said; only {self.said}") from None
            if wanted(self.said[-1]):
                return self.said[-1]


@pytest.fixture(params=["path", "abstract"])
def systemd(request, tmp_path):
    name = str(tmp_path / "notify") if request.param == "path" else f"@luaworker-{os.getpid()}"
    one = Systemd(name.replace("@", "\0"))
    one.address = name
    yield one
    one.socket.close()


def test_ready_is_said_when_the_model_is(start, systemd):
    worker = start(backend(ROUTES, more=LOGGING), environment={"NOTIFY_SOCKET": systemd.address})
    status = systemd.wait(lambda said: said.startswith("STATUS=log waiting"))
    assert "is up" in status, "the marker it waits for"
    assert "READY=1" not in systemd.said
    (worker.directory / "model.log").write_text("the model is up\n")
    systemd.wait(lambda said: said == "READY=1")
    worker.signal(signal.SIGTERM)
    systemd.wait(lambda said: said == "STOPPING=1")
    worker.expect_exit(0)


def test_ready_is_said_once(start, systemd, model):
    model.on("/health", says({}))
    worker = start(
        backend(ROUTES, more='model_healthcheck_url = "/health",'),
        environment={"NOTIFY_SOCKET": systemd.address, "LUAWORKER_TEST_PACE": "50"},
    )
    systemd.wait(lambda said: said == "READY=1")
    model.on("/health", says({}, 500))
    systemd.wait(lambda said: said.startswith("STATUS=health failed"))
    model.on("/health", says({}))
    systemd.wait(lambda said: said == "STATUS=ready")
    worker.signal(signal.SIGTERM)
    systemd.wait(lambda said: said == "STOPPING=1")
    assert systemd.said.count("READY=1") == 1
    worker.expect_exit(0)


@pytest.mark.parametrize(
    "text", ["\u00e9" * 500, "x" + "\u00e9" * 500, "x\\255x"], ids=["even", "odd", "latin-1"]
)
def test_a_status_is_utf8_wherever_it_is_cut(tmp_path, systemd, autoscaler, text):
    """Or systemd would not take it."""
    script = tmp_path / "worker.lua"
    script.write_text(f'error("{text}")')
    program = Program(
        *("serve", script, "--host", "127.0.0.1", "--port", "0"),
        environment={"NOTIFY_SOCKET": systemd.address, "REPORT_ADDR": autoscaler.url},
    )
    try:
        systemd.wait(lambda said: "failed to launch" in said)
        program.stop(code=1)
    finally:
        program.kill()


def test_watchdog_is_fed(start, systemd):
    start(
        backend(ROUTES),
        environment={"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "200000"},
    )
    for _ in range(3):
        systemd.wait(lambda said: said == "WATCHDOG=1")


def test_watchdog_of_another_process_is_not_ours(start, systemd):
    worker = start(
        backend(ROUTES),
        environment={
            "NOTIFY_SOCKET": systemd.address,
            "WATCHDOG_USEC": "1000",
            "WATCHDOG_PID": "1",
        },
    )
    worker.signal(signal.SIGTERM)
    systemd.wait(lambda said: said == "STOPPING=1")
    assert "WATCHDOG=1" not in systemd.said
    worker.expect_exit(0)


@pytest.mark.parametrize("address", ["nonsense", "/no/such/socket", "/" + "x" * 200, "@"])
def test_unreachable_socket_is_said_and_harmless(start, address):
    worker = start(backend(ROUTES), environment={"NOTIFY_SOCKET": address})
    assert worker.get("/ping").body == b"pong"
    assert any("NOTIFY_SOCKET" in line for line in worker.log.lines)


def test_nobody_is_there_to_listen_any_more(start, systemd):
    worker = start(
        backend(ROUTES),
        environment={"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "20000"},
    )
    systemd.wait(lambda said: said == "WATCHDOG=1")
    systemd.socket.close()
    assert worker.get("/ping").body == b"pong"
    assert worker.get("/ping").body == b"pong"
