# SPDX-License-Identifier: MIT
"""SIGHUP: a good script serves what comes next, what runs ends on the old one, a bad one changes
nothing. No request fails or waits because of it."""

import json
import signal
import threading

import pytest

from harness.message import post, request
from harness.model import echo
from harness.timing import wait_until
from harness.worker import backend, is_sanitized


def version(n, more=""):
    return backend(
        f"""
      worker.get("/version", function() return "{n}" end),
      worker.post("/generate", {{
        allow_parallel_requests = true,
        generate_client_response = function(_, model_response)
          local client = worker.stream {{}}
          for chunk in model_response:chunks() do client:write("{n}:" .. chunk) end
          return client
        end,
      }}), {more}"""
    )


def reload(worker, script):
    worker.write_script(script)
    worker.signal(signal.SIGHUP)


def wait_version(worker, n):
    wait_until(lambda: worker.get("/version").body == n.encode(), f"version {n}")


def test_new_requests_use_the_new_script(start):
    worker = start(version("1"))
    assert worker.get("/version").body == b"1"
    for n in ("2", "3", "4"):
        reload(worker, version(n))
        wait_version(worker, n)


def test_routes_come_and_go(start):
    worker = start(version("1", 'worker.get("/old", function() return "o" end)'))
    assert worker.get("/old").status == 200
    reload(worker, version("2", 'worker.get("/new", function() return "n" end)'))
    wait_version(worker, "2")
    assert (worker.get("/old").status, worker.get("/new").status) == (404, 200)


def test_an_open_connection_gets_the_new_script(start):
    worker = start(version("1"))
    client = worker.connect().send(request("GET", "/version"))
    assert client.read_response("GET").body == b"1"
    reload(worker, version("2"))
    wait_version(worker, "2")
    assert client.send(request("GET", "/version")).read_response("GET").body == b"2"


def test_a_running_stream_ends_well_on_the_old_script(start, model):
    held = model.hold("/generate")
    worker = start(version("1"))
    old = worker.start("/generate")
    old_exchange = held.next().stream_head().chunk(b"a")
    old_response = old.open_response()
    old_response.read_until(b"1:a")
    reload(worker, version("2"))
    wait_version(worker, "2")
    new = worker.start("/generate")
    new_exchange = held.next().stream_head().chunk(b"x")
    new_response = new.open_response()
    new_response.read_until(b"2:x")
    old_exchange.chunk(b"b")
    old_response.read_until(b"1:b")
    old_exchange.last_chunk()
    new_exchange.last_chunk()
    assert old_response.read_all().complete and new_response.read_all().complete
    worker.wait_counters(success=2, in_flight=0)


def test_a_plain_forwarded_stream_ends_well(start, model):
    held = model.hold("/plain")
    routes = 'worker.post("/plain", { allow_parallel_requests = true })'
    worker = start(version("1", routes))
    client = worker.start("/plain")
    exchange = held.next().stream_head().chunk(b"a")
    response = client.open_response()
    response.read_until(b"a")
    reload(worker, version("2"))
    wait_version(worker, "2")
    exchange.chunk(b"b").last_chunk()
    assert response.read_all().complete and response.body == b"ab"


def test_queued_requests_live_through_it(start, model):
    held = model.hold("/serial")
    routes = 'worker.post("/serial", { allow_parallel_requests = false })'
    worker = start(version("1", routes))
    clients = []
    for n in range(3):
        clients.append(worker.start("/serial", {"n": n}))
        worker.wait_counters(in_flight=n + 1)
    reload(worker, version("2", routes))
    wait_version(worker, "2")
    clients.append(worker.start("/serial", {"n": 3}))
    worker.wait_counters(in_flight=4)
    for n, client in enumerate(clients):
        exchange = held.next()
        assert exchange.json() == {"n": n}, "one order across both scripts"
        exchange.answer_json({})
        assert client.read_response().status == 200


BROKEN = {
    "syntax": "return worker.backend {",
    "runtime": 'error "kaboom"',
    "no backend": "return 5",
    "unknown key": backend(
        'worker.get("/version", function() return "x" end)', more="modle_log_file = 'x',"
    ),
    "wrong type": backend(
        'worker.get("/version", function() return "x" end), worker.post("/g", { max_queue_time = "3" })'
    ),
    "the same route twice": backend('worker.get("/version", function() return "x" end),' * 2),
    "empty": "",
}


@pytest.mark.parametrize("name", list(BROKEN))
def test_a_broken_script_changes_nothing_and_says_why(start, name):
    worker = start(version("1"))
    before = len(worker.log.records)
    reload(worker, BROKEN[name])
    record = worker.log.wait(level="error", since=before)
    assert "worker.lua" in json.dumps(record)
    for _ in range(3):
        assert worker.get("/version").body == b"1"
    reload(worker, version("2"))
    wait_version(worker, "2")


def test_a_script_that_is_gone_changes_nothing(start):
    worker = start(version("1"))
    before = len(worker.log.records)
    worker.script_file.unlink()
    worker.signal(signal.SIGHUP)
    worker.log.wait(level="error", since=before)
    assert worker.get("/version").body == b"1"


def test_no_request_fails_while_scripts_change(start, model):
    model.on("/generate", echo)
    worker = start(version("0"))
    stop, failures, count = threading.Event(), [], [0]

    def hammer():
        client = worker.connect()
        while not stop.is_set():
            response = client.send(post("/generate", {"n": 1})).read_response()
            count[0] += 1
            if response.status != 200 or not response.complete:
                failures.append((response.status, response.body))

    threads = [threading.Thread(target=hammer) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for n in range(1, 21):
            reload(worker, version(str(n)))
            wait_version(worker, str(n))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures and count[0] > 20


def test_many_signals_at_once(start):
    worker = start(version("1"))
    worker.write_script(version("2"))
    for _ in range(20):
        worker.signal(signal.SIGHUP)
    wait_version(worker, "2")


def test_memory_of_old_scripts_is_given_back(start):
    big = 'local ballast = {} for i = 1, 20000 do ballast[i] = ("x"):rep(50) .. i end'
    text = version("%s")
    worker = start(
        text.replace("%s", "0").replace("return worker.backend", big + " return worker.backend")
    )
    sizes = []
    for n in range(1, 16):
        reload(
            worker,
            text.replace("%s", str(n)).replace(
                "return worker.backend", big + " return worker.backend"
            ),
        )
        wait_version(worker, str(n))
        sizes.append(worker.memory_kb())
    if not is_sanitized():
        wait_until(lambda: worker.memory_kb() < sizes[4] + 6 * 1024, f"memory back: {sizes}")
