# SPDX-License-Identifier: MIT
"""The client leaves, in each state a request can be in: the model sees its connection drop promptly,
the request counts as cancelled, the log says 499, and nothing is left."""

import random
import signal
import time

import pytest

from harness.message import envelope, post, request
from harness.model import Blackhole, echo
from harness.timing import PROMPT, wait_until
from harness.worker import PLAIN, backend

from test_streaming import THROUGH_LUA

LEAVE = {
    "close": lambda c: c.close(),
    "reset": lambda c: c.reset(),
    "half-close": lambda c: c.half_close(),
}
leaving = pytest.mark.parametrize("leave", list(LEAVE))
scripts = pytest.mark.parametrize("script", [PLAIN, THROUGH_LUA], ids=["plain", "lua"])


def expect_cancelled(worker, count=1, route="/generate"):
    worker.wait_counters(in_flight=0, upstreams=0, tasks=0, cancelled=count, timeout=PROMPT)
    line = worker.wait_request_line(count=count, route=route)
    assert (line["status"], line["outcome"]) == (499, "cancelled"), line


@leaving
@scripts
def test_before_the_first_byte(start, model, script, leave):
    held = model.hold("/generate")
    worker = start(script)
    client = worker.start("/generate")
    exchange = held.next()
    LEAVE[leave](client)
    exchange.expect_dropped()
    expect_cancelled(worker)


@leaving
@scripts
def test_in_the_stream(start, model, script, leave):
    held = model.hold("/generate")
    worker = start(script)
    client = worker.start("/generate")
    exchange = held.next().stream_head().chunk(b"one")
    client.open_response().read_until(b"one")
    exchange.expect_alive()
    LEAVE[leave](client)
    exchange.expect_dropped()
    expect_cancelled(worker)


@leaving
@scripts
def test_in_a_whole_answer(start, model, script, leave):
    held = model.hold("/generate")
    worker = start(script)
    client = worker.start("/generate")
    exchange = held.next().head(200, [("Content-Length", "100")]).send(b"half")
    client.open_response().read_until(b"half")
    LEAVE[leave](client)
    exchange.expect_dropped()
    expect_cancelled(worker)


@leaving
def test_while_the_hook_gathers_a_whole_answer(start, model, leave):
    """Not streaming: the client gets nothing until the model has finished."""
    held = model.hold("/generate")
    worker = start(
        backend(
            """
      worker.post("/generate", {
        allow_parallel_requests = true,
        generate_client_response = function(_, model_response)
          return worker.json(model_response:json())
        end,
      })"""
        )
    )
    client = worker.start("/generate")
    exchange = held.next().head(200, [("Content-Length", "100")]).send(b'{"half":')
    client.expect_silence()
    LEAVE[leave](client)
    exchange.expect_dropped()
    expect_cancelled(worker)


@leaving
def test_while_queued(worker, model, leave):
    held = model.hold("/serial")
    first = worker.start("/serial", {"n": 1})
    exchange = held.next()
    second = worker.start("/serial", {"n": 2})
    worker.wait_counters(queued=1)
    third = worker.start("/serial", {"n": 3})
    worker.wait_counters(queued=2)
    LEAVE[leave](second)
    worker.wait_counters(queued=1, in_flight=2, cancelled=1, timeout=PROMPT)
    exchange.expect_alive()
    exchange.answer_json({})
    assert first.read_response().status == 200
    after = held.next()
    assert after.json() == {"n": 3}, "the model never sees the one that left"
    after.answer_json({})
    assert third.read_response().status == 200
    assert worker.wait_request_line(route="/serial", status=499)["outcome"] == "cancelled"
    assert len(model.seen("/serial")) == 2


def test_the_one_at_the_model_leaves_and_the_next_gets_its_turn(worker, model):
    held = model.hold("/serial")
    first = worker.start("/serial", {"n": 1})
    exchange = held.next()
    second = worker.start("/serial", {"n": 2})
    worker.wait_counters(queued=1)
    first.close()
    exchange.expect_dropped()
    after = held.next()
    assert after.json() == {"n": 2}
    after.answer_json({})
    assert second.read_response().status == 200


@leaving
def test_while_connecting(start, leave):
    hole = Blackhole()
    try:
        worker = start(model=hole.url)
        client = worker.start("/generate")
        wait_until(lambda: hole.attempts() == 1, "the worker to try")
        assert worker.counters()["upstreams"] == 1
        LEAVE[leave](client)
        expect_cancelled(worker)
        wait_until(lambda: hole.attempts() == 0, "the try to be given up", PROMPT)
    finally:
        hole.stop()


@leaving
def test_while_the_hook_sleeps(start, model, leave):
    model.on("/generate", echo)
    worker = start(
        backend(
            """
      worker.post("/generate", {
        allow_parallel_requests = true,
        generate_client_response = function(_, model_response)
          worker.log.info("asleep")
          worker.sleep(3600)
          return worker.json { late = true }
        end,
      })"""
        )
    )
    client = worker.start("/generate")
    worker.log.wait("asleep")
    LEAVE[leave](client)
    expect_cancelled(worker)


@leaving
def test_while_the_payload_hook_waits(start, model, leave):
    worker = start(
        backend(
            """
      worker.post("/generate", {
        allow_parallel_requests = true,
        request_parser = function(msg)
          worker.log.info("asleep")
          worker.sleep(3600)
          return msg
        end,
      })"""
        )
    )
    client = worker.start("/generate")
    worker.log.wait("asleep")
    LEAVE[leave](client)
    worker.wait_counters(in_flight=0, tasks=0, requests=0, timeout=PROMPT)
    assert not model.seen()
    assert worker.wait_request_line(route="/generate")["status"] == 499


@leaving
def test_while_a_handler_sleeps(start, leave):
    worker = start(
        backend(
            """
      worker.get("/nap", function()
        worker.log.info("asleep")
        worker.sleep(3600)
        return "late"
      end)"""
        )
    )
    client = worker.connect().send(request("GET", "/nap"))
    worker.log.wait("asleep")
    LEAVE[leave](client)
    worker.wait_counters(tasks=0, requests=0, timeout=PROMPT)
    assert worker.wait_request_line(route="/nap")["status"] == 499


@leaving
def test_while_a_handler_asks_the_model(start, model, leave):
    held = model.hold("/slow")
    worker = start(
        backend(
            """
      worker.get("/ask", function()
        return worker.model.get("/slow"):body()
      end)"""
        )
    )
    client = worker.connect().send(request("GET", "/ask"))
    exchange = held.next()
    LEAVE[leave](client)
    exchange.expect_dropped()
    worker.wait_counters(tasks=0, requests=0, upstreams=0, timeout=PROMPT)


@leaving
def test_while_a_get_is_forwarded(worker, model, leave):
    held = model.hold("/health")
    client = worker.connect().send(request("GET", "/health"))
    exchange = held.next()
    LEAVE[leave](client)
    exchange.expect_dropped()
    worker.wait_counters(requests=0, upstreams=0, timeout=PROMPT)


@leaving
@pytest.mark.parametrize(
    "part", [10, 60, -3], ids=["in the request line", "in the head", "in the body"]
)
def test_before_the_request_is_complete(worker, model, leave, part):
    client = worker.connect().send(post("/generate")[:part])
    wait_until(lambda: worker.counters()["connections"] == 1, "the connection")
    LEAVE[leave](client)
    worker.wait_counters(connections=0, requests=0, received=0, timeout=PROMPT)
    assert not model.seen()


def test_a_hook_may_tidy_up_but_not_go_on(start, model):
    """The waits of a cancelled hook end at once; what it would do afterwards does not happen."""
    held = model.hold("/generate")
    worker = start(
        backend(
            """
      worker.post("/generate", {
        allow_parallel_requests = true,
        generate_client_response = function(_, model_response)
          local body = model_response:body()
          worker.log.info("went on")
          return worker.json { body = body }
        end,
      })"""
        )
    )
    client = worker.start("/generate")
    exchange = held.next().stream_head().chunk(b"x")
    exchange.expect_alive()
    client.close()
    exchange.expect_dropped()
    expect_cancelled(worker)
    assert not worker.log.find("went on")
    assert not worker.log.find(level="error")


def test_pipelined_bytes_do_not_hide_that_the_client_left(worker, model):
    held = model.hold("/generate")
    client = worker.connect().send(post("/generate") + post("/generate"))
    exchange = held.next()
    client.close()
    exchange.expect_dropped()
    worker.wait_counters(in_flight=0, connections=0, cancelled=1, received=1)
    assert len(model.seen()) == 1


def test_a_client_that_left_with_answers_unread(worker, model):
    """The socket holds bytes the client never read: its close is a reset."""
    held = model.hold("/generate")
    client = worker.start("/generate")
    exchange = held.next().stream_head().chunk(b"x" * 1000)
    client.open_response()
    exchange.chunk(b"y" * 1000)
    client.close()
    exchange.expect_dropped()
    expect_cancelled(worker)


def test_drain_lets_the_model_finish(start, model):
    held = model.hold("/generate")
    worker = start(
        backend(
            """
      worker.post("/generate", { allow_parallel_requests = true, on_disconnect = "drain" })"""
        )
    )
    client = worker.start("/generate")
    exchange = held.next().stream_head().chunk(b"one")
    client.open_response().read_until(b"one")
    client.close()
    exchange.expect_alive(0.5)
    exchange.chunk(b"two").last_chunk()
    worker.wait_counters(in_flight=0, upstreams=0, connections=0)


HOLDS_ON = [
    "while true do pcall(function() worker.sleep(60) end) end",
    "while true do xpcall(function() worker.sleep(60) end, tostring) end",
    "while true do coroutine.resume(coroutine.create(function() worker.sleep(60) end)) end",
]


@pytest.mark.parametrize("loop", HOLDS_ON, ids=["pcall", "xpcall", "coroutine"])
def test_no_loop_of_the_script_outlives_its_client(start, loop):
    worker = start(
        backend(f'''worker.get("/x", function() {loop} end),
          worker.get("/ping", function() return "pong" end)''')
    )
    client = worker.connect()
    client.send(request("GET", "/x"))
    worker.wait_counters(tasks=1)
    client.close()
    worker.wait_counters(tasks=0, requests=0, timeout=PROMPT)
    assert worker.get("/ping").body == b"pong"


@pytest.mark.parametrize("loop", HOLDS_ON, ids=["pcall", "xpcall", "coroutine"])
def test_no_spawned_loop_outlives_its_generation(start, loop):
    worker = start(
        backend(f'''worker.get("/x", function()
            worker.spawn(function() {loop} end)
            return "spawned"
          end)''')
    )
    assert worker.get("/x").body == b"spawned"
    worker.wait_counters(tasks=1)
    worker.signal(signal.SIGHUP)
    worker.wait_counters(tasks=0, generations=1, timeout=PROMPT)


def test_a_crowd_leaves(start, model):
    """Half before the first byte, half in the stream, some queued; descriptors are given back."""
    held = model.hold("/generate")
    serial = model.hold("/serial")
    worker = start()
    worker.get("/ping")
    before = worker.wait_counters(connections=0)["descriptors"]
    clients = [worker.start("/generate") for _ in range(60)]
    exchanges = [held.next() for _ in clients]
    for exchange in exchanges[::2]:
        exchange.stream_head().chunk(b"x")
    queued = [worker.start("/serial") for _ in range(20)]
    exchanges.append(serial.next())
    worker.wait_counters(queued=19, in_flight=80)
    for number, client in enumerate(clients + queued):
        LEAVE["reset" if number % 3 else "close"](client)
    for exchange in exchanges:
        exchange.expect_dropped()
    worker.wait_counters(in_flight=0, queued=0, upstreams=0, connections=0, cancelled=80)
    wait_until(
        lambda: worker.counters()["descriptors"] <= before + 2, "descriptors to be given back"
    )


def test_leaving_at_every_moment(start, model):
    """A whole life, cut at a random moment each time; the sums must hold in the end."""
    dice = random.Random(7)

    def slowish(exchange):
        exchange.read_body()
        exchange.stream_head()
        for _ in range(3):
            time.sleep(0.001)
            exchange.chunk(b"x" * 100)
        exchange.last_chunk()

    model.on("/generate", slowish)
    model.on("/serial", slowish)
    worker = start(
        THROUGH_LUA.replace(
            "routes = {",
            """routes = {
        worker.post("/serial", { allow_parallel_requests = false }),""",
        )
    )
    for _ in range(150):
        path = dice.choice(["/generate", "/serial"])
        client = worker.connect()
        client.try_send(request("POST", path, envelope()))
        time.sleep(dice.random() * 0.006)
        LEAVE[dice.choice(list(LEAVE))](client)
        if dice.random() < 0.3:
            assert worker.counters()["in_flight"] <= 150
    worker.expect_nothing_left()
