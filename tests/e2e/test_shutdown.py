# SPDX-License-Identifier: MIT
"""SIGTERM and SIGINT: no new work, what runs may end up to a deadline, a second signal ends it at
once, the exit status is 0."""

import signal
import time

import pytest

from harness.client import Client
from harness.message import post, request
from harness.model import echo, endless
from harness.timing import PATIENCE, PROMPT, SLOW, wait_until
from harness.worker import PLAIN, backend

from test_streaming import THROUGH_LUA

scripts = pytest.mark.parametrize("script", [PLAIN, THROUGH_LUA], ids=["plain", "lua"])


def refuses(worker):
    try:
        Client(worker.port).close()
    except ConnectionError:
        return True
    return False


def wait_refusing(worker):
    wait_until(lambda: refuses(worker), "new connections to be refused", PROMPT)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_idle_worker_ends_at_once(worker, number):
    began = time.monotonic()
    worker.signal(number)
    worker.expect_exit(0)
    assert time.monotonic() - began < PROMPT


def test_idle_connections_are_closed(worker):
    fresh = worker.connect()
    used = worker.connect().send(request("GET", "/ping"))
    used.read_response("GET")
    worker.signal(signal.SIGTERM)
    assert used.expect_end() == "eof"
    fresh.expect_end()
    worker.expect_exit(0)


@scripts
def test_a_running_stream_may_end(start, model, script):
    held = model.hold("/generate")
    worker = start(script, options=["--shutdown-timeout", 30])
    client = worker.start("/generate")
    exchange = held.next().stream_head().chunk(b"a")
    response = client.open_response()
    response.read_until(b"a")
    worker.signal(signal.SIGTERM)
    wait_refusing(worker)
    exchange.expect_alive()
    exchange.chunk(b"b")
    response.read_until(b"b")
    exchange.last_chunk()
    response.read_all()
    assert response.complete and response.body == b"ab"
    client.expect_end()
    worker.expect_exit(0)
    assert worker.request_lines()[-1]["outcome"] == "success"


def test_queued_requests_are_served_too(start, model):
    held = model.hold("/serial")
    worker = start(options=["--shutdown-timeout", 30])
    clients = []
    for n in range(3):
        clients.append(worker.start("/serial", {"n": n}))
        worker.wait_counters(in_flight=n + 1)
    worker.signal(signal.SIGTERM)
    wait_refusing(worker)
    for client in clients:
        held.next().answer_json({})
        assert client.read_response().status == 200
    worker.expect_exit(0)


def test_the_last_answer_says_close(start, model):
    held = model.hold("/generate")
    worker = start()
    client = worker.start("/generate")
    exchange = held.next()
    worker.signal(signal.SIGTERM)
    wait_refusing(worker)
    exchange.answer_json({})
    response = client.read_response()
    assert response.status == 200 and "close" in response.headers.tokens("Connection")
    client.expect_end()
    worker.expect_exit(0)


def test_pipelined_requests_behind_the_running_one_are_not_lost_silently(start, model):
    """The connection closes behind the running answer; nothing of the next one is begun."""
    held = model.hold("/generate")
    worker = start()
    client = worker.connect().send(post("/generate", {"n": 1}) + post("/generate", {"n": 2}))
    exchange = held.next()
    worker.signal(signal.SIGTERM)
    wait_refusing(worker)
    exchange.answer_json({})
    assert client.read_response().status == 200
    client.expect_end()
    worker.expect_exit(0)
    assert len(model.seen()) == 1


@scripts
def test_the_deadline_cuts_what_still_runs(start, model, script):
    held = model.hold("/generate")
    worker = start(script, options=["--shutdown-timeout", 0.5 * SLOW])
    client = worker.start("/generate")
    exchange = held.next().stream_head().chunk(b"a")
    response = client.open_response()
    response.read_until(b"a")
    began = time.monotonic()
    worker.signal(signal.SIGTERM)
    response.read_all()
    assert not response.complete and response.broken, "a cut stream must not look complete"
    exchange.expect_dropped()
    worker.expect_exit(0)
    assert 0.4 * SLOW < time.monotonic() - began < 0.5 * SLOW + PROMPT


@pytest.mark.parametrize(
    "state", ["before the first byte", "queued", "asleep", "half a request", "slow client"]
)
def test_the_deadline_in_other_states(start, model, state):
    held = model.hold("/serial")
    model.on("/generate", endless())
    model.on("/sleepy", echo)
    worker = start(
        backend(
            """
      worker.post("/serial", { allow_parallel_requests = false }),
      worker.post("/generate", { allow_parallel_requests = true }),
      worker.post("/sleepy", { allow_parallel_requests = true,
        generate_client_response = function() worker.log.info("asleep") worker.sleep(3600) end }),"""
        ),
        options=["--shutdown-timeout", 0.3],
    )
    if state in ("before the first byte", "queued"):
        worker.start("/serial")
        held.next()
    if state == "queued":
        worker.start("/serial")
        worker.wait_counters(queued=1)
    elif state == "asleep":
        worker.start("/sleepy")
        worker.log.wait("asleep")
    elif state == "half a request":
        worker.connect().send(post("/serial")[:-5])
        worker.wait_counters(connections=1)
    elif state == "slow client":
        worker.connect(receive_buffer=4096).send(post("/generate"))
        assert model.wait_seen(1, "/generate")[0].blocked.wait(PATIENCE)
    worker.signal(signal.SIGTERM)
    worker.expect_exit(0)


@scripts
def test_a_second_signal_cancels_at_once(start, model, script):
    held = model.hold("/generate")
    worker = start(script, options=["--shutdown-timeout", 3600])
    client = worker.start("/generate")
    exchange = held.next().stream_head().chunk(b"a")
    response = client.open_response()
    response.read_until(b"a")
    worker.signal(signal.SIGTERM)
    wait_refusing(worker)
    exchange.expect_alive()
    worker.signal(signal.SIGTERM)
    exchange.expect_dropped()
    assert not response.read_all().complete
    worker.expect_exit(0, PROMPT)


LINGERING = backend(
    """
    worker.post("/drained", { on_disconnect = "drain" }),
    worker.post("/drained_by_script", { on_disconnect = "drain",
      generate_client_response = function(_, answer) return answer:body() end }),
    worker.get("/answered", function()
      local stream = worker.stream()
      stream:write("all")
      stream:finish()
      worker.sleep(3600)
    end),
"""
)


@pytest.mark.parametrize("leaves", [True, False])
@pytest.mark.parametrize("target", ["/drained", "/drained_by_script", "/answered"])
def test_nothing_outlives_a_second_signal(start, model, target, leaves):
    """Calls to the model and scripts that go on although the request is over."""
    held = model.hold(target)
    worker = start(LINGERING, options=["--shutdown-timeout", 3600])
    if target == "/answered":
        assert worker.get(target).body == b"all"
    else:
        client = worker.start(target)
        exchange = held.next()
        if leaves:
            client.close()
            exchange.expect_alive()
    worker.signal(signal.SIGTERM)
    wait_refusing(worker)
    worker.signal(signal.SIGTERM)
    worker.expect_exit(0, PROMPT)
    if target != "/answered":
        exchange.expect_dropped()


def test_a_client_that_leaves_during_shutdown(start, model):
    held = model.hold("/generate")
    worker = start(options=["--shutdown-timeout", 3600])
    client = worker.start("/generate")
    exchange = held.next()
    worker.signal(signal.SIGTERM)
    wait_refusing(worker)
    client.close()
    exchange.expect_dropped()
    worker.expect_exit(0, PROMPT)


def test_reload_and_counters_during_shutdown_do_no_harm(start, model):
    held = model.hold("/generate")
    worker = start(options=["--shutdown-timeout", 3600])
    client = worker.start("/generate")
    exchange = held.next()
    worker.signal(signal.SIGTERM)
    wait_refusing(worker)
    worker.signal(signal.SIGHUP)
    worker.signal(signal.SIGUSR1)
    exchange.answer_json({})
    assert client.read_response().status == 200
    worker.expect_exit(0)


def test_spawned_tasks_do_not_keep_it_running(start):
    worker = start(
        backend(
            """
      worker.get("/x", function()
        worker.spawn(function() while true do worker.sleep(1) end end)
        return "x"
      end)"""
        ),
        options=["--shutdown-timeout", 0.5],
    )
    assert worker.get("/x").body == b"x"
    worker.wait_counters(tasks=1)
    worker.signal(signal.SIGTERM)
    worker.expect_exit(0)
