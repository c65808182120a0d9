# SPDX-License-Identifier: MIT
"""What goes wrong around a worker: models that are killed, clocks that jump, clients that are slow or
read nothing, while everyone else is served as before."""

import contextlib
import json
import os
import pathlib
import resource
import signal
import socket
import time

import pytest

from harness.message import AUTH, envelope, request
from harness.model import endless, says, streams
from harness.ports import reserve_port
from harness.timing import PATIENCE, SLOW, settle, wait_until
from harness.worker import backend, is_sanitized

FAKETIME = pathlib.Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
READY = """
    worker.post("/generate", { allow_parallel_requests = true }),
    worker.post("/serial", { allow_parallel_requests = false }),
    worker.post("/hooked", {
      allow_parallel_requests = true,
      generate_client_response = function(_, answer)
        local client = worker.stream { content_type = answer.content_type }
        for chunk in answer:chunks() do client:write(chunk) end
        return client
      end,
    }),
    worker.get("/ping", function() return "pong" end),
"""


class MortalModel:
    """A model server in a process of its own, on a port that stays: each life answers one request
    with the head and some pieces of a stream, and then waits to be killed."""

    def __init__(self):
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(64)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.pid = None

    def live(self):
        self.pid = os.fork()
        if self.pid:
            return
        try:
            connection, _ = self.listener.accept()
            self.listener.close()
            data = b""
            while b"\r\n\r\n" not in data:
                data += connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
            while True:
                time.sleep(60)
        finally:
            os._exit(1)

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.pid = None

    def stop(self):
        if self.pid:
            self.kill()
        self.listener.close()


@pytest.fixture
def mortal():
    model = MortalModel()
    yield model
    model.stop()


@pytest.mark.parametrize("route", ["/serial", "/hooked"])
def test_model_killed_mid_stream(start, mortal, route):
    """200 lives and deaths in all: each client sees an abnormal end, each error is counted once, and
    the slot is free for the next request."""
    deaths = 100
    worker = start(backend(READY), model=mortal.url)
    for i in range(deaths):
        mortal.live()
        client = worker.start(route)
        response = client.open_response()
        assert response.status == 200
        response.read_until(b"hello")
        mortal.kill()
        response.read_all()
        assert not response.complete and response.broken, f"death {i} looked like a clean end"
        client.close()
    seen = worker.wait_counters(error=deaths, in_flight=0, upstreams=0)
    assert seen["received"] == deaths and seen["success"] == 0


def test_model_that_comes_back_is_used_again(start):
    """Between two lives nobody listens: 502 with a reason, and then the next life serves."""
    port = reserve_port()
    worker = start(backend(READY), model=f"http://127.0.0.1:{port}")
    answer = worker.post("/generate")
    assert answer.status == 502 and "refused" in answer.json()["error"]
    with contextlib.closing(socket.create_server(("127.0.0.1", port))) as listener:
        client = worker.start("/generate")
        connection, _ = listener.accept()
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        assert client.read_response().body == b"ok"
        connection.close()


@pytest.mark.skipif(not FAKETIME.exists(), reason=f"{FAKETIME} (package faketime) is not there")
@pytest.mark.skipif(is_sanitized(), reason="AddressSanitizer must be the first library to load")
def test_clock_jumps(start, model, tmp_path):
    """The wall clock goes a day back and two days ahead: nothing hangs, ends early or is lost."""
    clock = tmp_path / "clock"
    clock.write_text("+0")
    model.on("/generate", streams([b"data: 1\n\n"]))
    held = model.hold("/serial")
    worker = start(
        backend(READY, more="max_sessions = 3,"),
        environment={
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
        },
    )
    session_id = worker.post("/session/create", {"lifetime": 60}).json()["session_id"]
    first = worker.start("/serial")
    exchange = held.next()
    second = worker.start("/serial")
    worker.wait_counters(queued=1)
    for offset in ("-86400", "+86400", "+0"):
        clock.write_text(offset)
        assert worker.post("/generate").body == b"data: 1\n\n"
        answer = worker.post("/generate", session_id=session_id)
        assert answer.status == 200, f"the clock at {offset} ended the session: {answer.body}"
        status = json.loads(worker.ask_internal("GET", "/status").body)
        assert 0 <= status["uptime"] < 3600, f"the clock at {offset}: {status}"
    clock.write_text("-86400")
    exchange.answer_json({"done": 1})
    assert first.read_response().json() == {"done": 1}
    held.next().answer_json({"done": 2})
    assert second.read_response().json() == {"done": 2}
    for line in worker.request_lines(route="/serial"):
        assert 0 <= line["queue_ms"] < 3600_000, line
    ended = worker.ask(
        "POST", "/session/end", json.dumps({"session_id": session_id, "session_auth": AUTH}).encode()
    )
    assert ended.status == 200
    worker.wait_counters(success=9)


def open_many(port, count):
    """Connections that have each sent the beginning of a request."""
    head = request("POST", "/generate", envelope({"prompt": "x"}))[:40]
    connections = []
    for _ in range(count):
        sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        sock.send(head)
        connections.append(sock)
    return connections


def test_slow_connections_do_not_matter(start, model):
    """5,000 clients that drip their requests; others are served meanwhile, and the slow ones end by
    their deadline."""
    model.on("/generate", says({"ok": 1}))
    count = 5000
    worker = start(backend(READY), options=["--header-timeout", str(60 * SLOW)])
    connections = open_many(worker.port, count)
    try:
        worker.wait_counters(connections=count)
        for round_number in range(4):
            for sock in connections[round_number::7]:
                sock.send(b"x")
            for _ in range(25):
                assert worker.post("/generate").status == 200
        assert worker.counters()["connections"] >= count * 0.9
    finally:
        for sock in connections:
            sock.close()


def test_stalled_readers_hold_bounded_memory(start, model):
    """1,000 clients that read nothing of an endless answer. What the kernel keeps for them is made small:
    gigabytes of it are in the way of tests beside this one."""
    model.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768)
    model.on("/generate", endless())
    model.on("/serial", says({"ok": 1}))
    count = 1000
    worker = start(backend(READY))
    before = worker.memory_kb()
    clients = [worker.connect(receive_buffer=4096, segment=1400) for _ in range(count)]
    for client in clients:
        client.send(request("POST", "/generate", envelope({"prompt": "x"})))
    worker.wait_counters(in_flight=count, timeout=PATIENCE * 4)

    def sent():
        return sum(exchange.sent for exchange in model.seen("/generate"))

    settle(sent, 1.0 * SLOW, PATIENCE * 6)  # much goes into the kernel's buffers first
    assert worker.post("/serial").status == 200
    grown = worker.memory_kb() - before
    if not is_sanitized():
        assert grown < count * 256, f"{grown / count:.0f} KB for each stalled reader"
    for client in clients:
        client.close()
    worker.wait_counters(in_flight=0, upstreams=0, timeout=PATIENCE * 4)


# -- no descriptors left --


def cpu_seconds(worker):
    """What it has used so far."""
    fields = pathlib.Path(f"/proc/{worker.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_without_descriptors_connections_are_turned_away(start, model):
    """Those that are open go on; the log says why others are not; the loop does not spin."""
    held = model.hold("/generate")
    worker = start()
    client = worker.start("/generate")
    exchange = held.next().stream_head()
    exchange.chunk(b"one")
    response = client.open_response()
    assert response.read_until(b"one")
    descriptors = len(os.listdir(f"/proc/{worker.process.pid}/fd"))
    old = resource.prlimit(worker.process.pid, resource.RLIMIT_NOFILE)
    few = (descriptors + 3, old[1])
    resource.prlimit(worker.process.pid, resource.RLIMIT_NOFILE, few)
    crowd = [socket.create_connection(("127.0.0.1", worker.port), PATIENCE) for _ in range(50)]
    wait_until(lambda: "turned away" in worker.log.text(), "a word of it")
    begun = cpu_seconds(worker)
    time.sleep(0.5)
    assert cpu_seconds(worker) - begun < 0.25
    exchange.chunk(b"two")
    exchange.last_chunk()
    assert response.read_all().complete
    for one in crowd:
        one.close()
    resource.prlimit(worker.process.pid, resource.RLIMIT_NOFILE, old)
    assert worker.get("/ping").status == 200
