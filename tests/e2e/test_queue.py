# SPDX-License-Identifier: MIT
"""One call at a time, in the order of arrival, for all routes that do not allow parallel requests;
limits by count, bytes and time."""

import pytest

from harness.message import post
from harness.model import echo
from harness.timing import SLOW
from harness.worker import backend, expect_sums

TWO_ROUTES = backend(
    """
  worker.post("/a", { allow_parallel_requests = false, endpoint = "/serial" }),
  worker.post("/b", { allow_parallel_requests = false, endpoint = "/serial" }),
  worker.post("/free", { allow_parallel_requests = true }),"""
)


def expect_busy(response):
    assert response.status == 429, (response.status, response.body)
    assert response.json()["error"]
    assert 1 <= int(response.headers.get("Retry-After")) <= 3600


def test_strictly_one_at_a_time_in_order(start, model):
    held = model.hold("/serial")
    worker = start(TWO_ROUTES)
    clients = []
    for n in range(10):
        clients.append(worker.start("/b" if n % 3 else "/a", {"n": n}))
        worker.wait_counters(in_flight=n + 1)
    assert worker.counters()["queued"] == 9
    for n, client in enumerate(clients):
        exchange = held.next()
        assert exchange.json() == {"n": n}
        held.expect_none(0.05)
        exchange.answer_json({"n": n})
        assert client.read_response().json() == {"n": n}
    expect_sums(worker.counters())
    for line in worker.log.find("request"):
        assert (
            line["queue_ms"] >= 0
            and line["first_byte_ms"] >= 0
            and line["total_ms"] >= line["queue_ms"]
        )


def test_a_stream_holds_the_slot_until_its_end(worker, model):
    held = model.hold("/serial")
    first = worker.start("/serial", {"n": 1})
    exchange = held.next().stream_head().chunk(b"x")
    response = first.open_response()
    response.read_until(b"x")
    second = worker.start("/serial", {"n": 2})
    worker.wait_counters(queued=1)
    exchange.chunk(b"y")
    response.read_until(b"y")
    held.expect_none()
    exchange.last_chunk()
    held.next().answer_json({})
    assert second.read_response().status == 200


def test_parallel_routes_do_not_wait(start, model):
    serial, free = model.hold("/serial"), model.hold("/free")
    worker = start(TWO_ROUTES)
    first = worker.start("/a")
    exchange = serial.next()
    queued = worker.start("/b")
    worker.wait_counters(queued=1)
    others = [worker.start("/free") for _ in range(5)]
    for _ in others:
        free.next().answer_json({})
    assert all(client.read_response().status == 200 for client in others)
    exchange.answer_json({})
    serial.next().answer_json({})
    assert first.read_response().status == queued.read_response().status == 200


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_failing_call_frees_the_slot(worker, model, how):
    held = model.hold("/serial")
    clients = [worker.start("/serial", {"n": n}) for n in range(3)]
    worker.wait_counters(queued=2)
    getattr(held.next(), how)()
    getattr(held.next().stream_head().chunk(b"x"), how)()
    held.next().answer_json({})
    statuses = sorted(client.read_response().status for client in clients)
    assert statuses == [200, 200, 502]
    worker.wait_counters(error=2, success=1, in_flight=0)


def test_a_failing_hook_frees_the_slot(start, model):
    model.on("/serial", echo)
    worker = start(
        backend(
            """
      worker.post("/serial", {
        allow_parallel_requests = false,
        generate_client_response = function() error "no" end,
      })"""
        )
    )
    for _ in range(3):
        assert worker.post("/serial").status == 500


def test_the_queue_is_limited_by_count(start, model):
    held = model.hold("/serial")
    worker = start(options=["--queue-count", 2])
    clients = [worker.start("/serial", {"n": n}) for n in range(3)]
    worker.wait_counters(queued=2, in_flight=3)
    for _ in range(3):
        expect_busy(worker.post("/serial"))
    assert worker.counters()["rejected"] == 3
    assert worker.wait_request_line(status=429)["outcome"] == "rejected"
    for _ in clients:
        held.next().answer_json({})
    assert all(client.read_response().status == 200 for client in clients)


def test_a_refused_request_leaves_its_connection_good(start, model):
    held = model.hold("/serial")
    worker = start(options=["--queue-count", 1])
    clients = [worker.start("/serial") for _ in range(2)]
    worker.wait_counters(queued=1)
    refused = worker.start("/serial")
    expect_busy(refused.read_response())
    held.next().answer_json({})
    held.next().answer_json({})
    refused.send(post("/serial"))
    held.next().answer_json({})
    assert refused.read_response().status == 200
    assert all(client.read_response().status == 200 for client in clients)


def test_the_queue_is_limited_by_bytes(start, model):
    held = model.hold("/serial")
    worker = start(options=["--queue-bytes", 100_000])
    first = worker.start("/serial")
    exchange = held.next()
    second = worker.start("/serial", {"text": "x" * 60_000})
    worker.wait_counters(queued=1)
    expect_busy(worker.post("/serial", {"text": "x" * 60_000}))
    third = worker.start("/serial", {"text": "x" * 1000})
    worker.wait_counters(queued=2)
    exchange.answer_json({})
    held.next().answer_json({})
    held.next().answer_json({})
    assert [c.read_response().status for c in (first, second, third)] == [200] * 3


def test_waiting_longer_than_max_queue_time(start, model):
    held = model.hold("/serial")
    worker = start(
        backend(
            """
      worker.post("/serial", { allow_parallel_requests = false, max_queue_time = 0.4 })"""
        )
    )
    first = worker.start("/serial")
    exchange = held.next()
    expect_busy(worker.post("/serial"))
    assert worker.wait_counters(queued=0, in_flight=1)["rejected"] == 1
    exchange.expect_alive()
    exchange.answer_json({})
    assert first.read_response().status == 200
    assert len(model.seen()) == 1


def test_max_queue_time_does_not_end_what_has_begun(start, model):
    held = model.hold("/serial")
    worker = start(
        backend(
            """
      worker.post("/serial", { allow_parallel_requests = false, max_queue_time = 0.2 })"""
        )
    )
    client = worker.start("/serial")
    exchange = held.next()
    exchange.expect_alive(0.5 * SLOW)
    exchange.answer_json({})
    assert client.read_response().status == 200


ESTIMATED = """
  worker.post("/generate", {
    allow_parallel_requests = true, max_queue_time = 5,
    count_workload = function(payload) return payload.work end,
    %s
  })"""
WITH_PERF = (
    ESTIMATED % "benchmark = { generator = function() return { work = 1 } end, max_perf = 10 },"
)


def test_the_estimate_is_load_over_perf(start, model):
    """max_perf 10: 5 s are 50 units of work in flight."""
    held = model.hold("/generate")
    worker = start(backend(WITH_PERF))
    clients, exchanges = [], []
    for work in (25, 25, 10):  # before the last: 50 / 10 is not over 5
        clients.append(worker.start("/generate", {"work": work}))
        exchanges.append(held.next())
    response = worker.post("/generate", {"work": 0})
    expect_busy(response)
    exchanges[0].answer_json({})
    assert clients[0].read_response().status == 200
    worker.wait_counters(in_flight=2)
    clients.append(worker.start("/generate", {"work": 0}))
    exchanges.append(held.next())
    for exchange in exchanges[1:]:
        exchange.answer_json({})
    for client in clients[1:]:
        assert client.read_response().status == 200
    assert worker.wait_request_line(status=429)["outcome"] == "rejected"


def test_nothing_is_refused_by_the_estimate_while_max_perf_is_unknown(start, model):
    held = model.hold("/generate")
    worker = start(backend(ESTIMATED % ""))
    clients = [worker.start("/generate", {"work": 1e9}) for _ in range(3)]
    for exchange in [held.next() for _ in clients]:
        exchange.answer_json({})
    assert all(client.read_response().status == 200 for client in clients)


def test_workload_is_in_the_log_line(start, model):
    model.on("/generate", echo)
    worker = start(backend(WITH_PERF))
    worker.post("/generate", {"work": 12.5})
    assert worker.wait_request_line(route="/generate")["workload"] == 12.5


@pytest.mark.parametrize(
    "result", ["error 'x'", "return 0/0", "return -1", "return 'many'", "return nil", "return {}"]
)
def test_a_workload_that_is_none_counts_as_100(start, model, result):
    model.on("/generate", echo)
    worker = start(
        backend(
            """
      worker.post("/generate", {
        allow_parallel_requests = true, count_workload = function() %s end })"""
            % result
        )
    )
    assert worker.post("/generate").status == 200
    assert worker.wait_request_line(route="/generate")["workload"] == 100
    assert worker.log.find(level="warn") or worker.log.find(level="error")


def test_bodies_of_waiting_requests_reach_the_model_whole(start, model):
    held = model.hold("/serial")
    worker = start()
    bodies = [{"n": n, "text": chr(97 + n) * 200_000} for n in range(5)]
    clients = []
    for n, body in enumerate(bodies):
        clients.append(worker.start("/serial", body))
        worker.wait_counters(in_flight=n + 1)
    for body, client in zip(bodies, clients):
        exchange = held.next()
        assert exchange.json() == body
        exchange.answer(200, exchange.body)
        assert client.read_response().json() == body
