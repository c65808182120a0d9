# SPDX-License-Identifier: MIT
"""Slow readers on either side: the fast side is slowed down, the worker's memory stays small, and
nobody else waits."""

import threading

import pytest

from harness.message import envelope, request
from harness.model import echo, endless
from harness.timing import PATIENCE, settle, wait_until
from harness.worker import PLAIN, is_sanitized

from test_streaming import THROUGH_LUA

MEGA = 1 << 20
# Loopback sockets of the kernel may hold some MB on either side; what is over is in the worker.
MOST_SENT = 32 * MEGA
MOST_GROWTH_KB = 8 * 1024


@pytest.mark.parametrize("chunked", [True, False], ids=["chunked", "length"])
@pytest.mark.parametrize("script", [PLAIN, THROUGH_LUA], ids=["plain", "lua"])
def test_a_client_that_does_not_read_slows_the_model(start, model, script, chunked):
    model.on("/generate", endless(chunked=chunked))
    worker = start(script)
    worker.post("/nothing")
    before = worker.memory_kb()
    client = worker.connect(receive_buffer=4096)
    client.send(request("POST", "/generate", envelope()))
    exchange = model.wait_seen()[0]
    assert exchange.blocked.wait(PATIENCE), "the model was never slowed down"
    sent = settle(lambda: exchange.sent)
    assert sent < MOST_SENT, f"the model could send {sent} bytes to nobody"
    grown = worker.memory_kb() - before
    if not is_sanitized():
        assert grown < MOST_GROWTH_KB, f"grew by {grown} kB"

    response = client.open_response()
    response.read_bytes(4 * MEGA)
    wait_until(lambda: exchange.sent > sent, "the model to go on once the client reads")
    assert set(response.body) == {ord("x")}
    client.close()
    exchange.expect_dropped()
    worker.wait_counters(cancelled=1, in_flight=0)


def test_memory_is_given_back_and_does_not_pile_up(start, model):
    model.on("/generate", endless())
    worker = start()
    grown = []
    for round_number in range(6):
        clients = []
        for _ in range(8):
            client = worker.connect(receive_buffer=4096)
            clients.append(client.send(request("POST", "/generate", envelope())))
        for exchange in model.wait_seen(8 * (round_number + 1))[-8:]:
            assert exchange.blocked.wait(PATIENCE)
        grown.append(worker.memory_kb())
        for client in clients:
            client.close()
        worker.wait_counters(in_flight=0, upstreams=0, connections=0)
    if not is_sanitized():
        assert grown[-1] < grown[1] + 4 * 1024, grown


def test_others_do_not_wait_for_a_slow_client(start, model):
    model.on("/generate", endless())
    model.on("/serial", echo)
    worker = start()
    slow = worker.connect(receive_buffer=4096).send(request("POST", "/generate", envelope()))
    assert model.wait_seen()[0].blocked.wait(PATIENCE)
    for _ in range(20):
        assert worker.post("/serial", {"a": 1}).json() == {"a": 1}
    slow.close()


def test_a_model_that_reads_slowly(start, model):
    """32 MB go out while the model takes its time; others go on; the bytes arrive."""
    gate = threading.Event()

    def slow(exchange):
        assert gate.wait(PATIENCE)
        body = exchange.read_body()
        exchange.answer_json({"bytes": len(body)})

    model.on("/generate", slow)
    model.on("/serial", echo)
    worker = start(options=["--max-body", 48 * MEGA])
    payload = b'{"image":"' + b"QUJD" * (8 * MEGA) + b'"}'
    client = worker.connect()
    client.send(request("POST", "/generate", envelope(payload)))
    model.wait_seen(1, "/generate")
    for _ in range(5):
        assert worker.post("/serial", {"a": 1}).json() == {"a": 1}
    assert worker.counters()["in_flight"] == 1
    gate.set()
    assert client.read_response(timeout=PATIENCE * 3).json() == {"bytes": len(payload)}
    assert model.seen("/generate")[0].body == payload


def test_a_client_that_leaves_while_the_model_reads_slowly(start, model):
    gate, gone = threading.Event(), threading.Event()

    def slow(exchange):
        assert gate.wait(PATIENCE)
        try:
            exchange.read_body()
        finally:
            gone.set()

    model.on("/generate", slow)
    worker = start(options=["--max-body", 48 * MEGA])
    client = worker.connect()
    client.send(
        request("POST", "/generate", envelope(b'{"image":"' + b"QUJD" * (8 * MEGA) + b'"}'))
    )
    model.wait_seen(1, "/generate")
    client.close()
    worker.wait_counters(in_flight=0, upstreams=0, cancelled=1)
    gate.set()
    assert gone.wait(PATIENCE)


def test_a_slow_uploader_holds_nothing_up(worker, model):
    model.on("/generate", echo)
    data = request("POST", "/generate", envelope({"text": "x" * 100_000}))
    slow = worker.connect().send(data[:50_000])
    for _ in range(5):
        assert worker.post("/generate", {"a": 1}).status == 200
    assert worker.counters()["in_flight"] == 0, "what has not come in whole is not counted"
    slow.send(data[50_000:])
    assert slow.read_response().status == 200
