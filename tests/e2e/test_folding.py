# SPDX-License-Identifier: MIT
"""Errors that come again and again: few lines in the log, and by their counts none is lost. The
windows in which they are counted, 10 s and more, pass faster by LUAWORKER_TEST_PACE."""

import re
import signal
import time

from harness.message import post, request
from harness.model import echo, refused_url
from harness.timing import wait_until
from harness.worker import backend
from test_sessions import create, end

FAILED = "a hook of the worker script failed"
AGAIN = FAILED + ", again"
UNCOUNTED = "a workload was not counted, 100 is used"

ROUTES = """
  worker.get("/a", function() error "one" end),
  worker.get("/b", function(request)
    if request.query.n then error("no user " .. request.query.n) end
    error("other: " .. request.query.text)
  end),
  worker.get("/ping", function() return "pong" end),
"""


def serve(start, pace, script=None, **more):
    return start(
        script or backend(ROUTES), environment={"LUAWORKER_TEST_PACE": str(pace)}, **more
    )


def fail(worker, target, times):
    """So many requests that fail, in pipelines of 100 on one connection."""
    client = worker.connect()
    while times:
        n = min(times, 100)
        client.send(request("GET", target) * n)
        for _ in range(n):
            assert client.read_response("GET").status == 500
        times -= n
    client.close()


def counted(worker, message=FAILED, **fields):
    """How many of these the log tells of, in lines of their own and in counts."""
    whole = worker.log.find(message, **fields)
    again = worker.log.find(message + ", again", **fields)
    return len(whole) + sum(r["times"] for r in again)


def timers_at_rest(worker):
    """How many there are while nothing is done."""
    wait_until(lambda: "ready after" in worker.log.text(), "it to be ready")
    return worker.wait_counters(connections=0)["timers"]


def stop(worker):
    """The end of the program, with its log whole."""
    worker.expect_nothing_left()
    worker.signal(signal.SIGTERM)
    worker.expect_exit(0)


def test_ten_thousand_errors_are_few_lines(start):
    worker = serve(start, pace=5)  # windows of 2 s, 4 s, 8 s and on
    fail(worker, "/a", 10_000)
    assert len(worker.log.find(FAILED)) == 1
    worker.log.wait(AGAIN)
    stop(worker)
    again = worker.log.find(AGAIN)
    assert 1 <= len(again) < 30 and counted(worker) == 10_000
    ids = [r["request_id"] for r in worker.request_lines(route="/a")]
    assert len(set(ids)) == 10_000, "every request still has its line"
    for record in again:
        assert (record["route"], record["hook"], record["error"]) == ("GET /a", "handler", "one")
        assert record["at"] == f"{worker.script_file}:9" and record["level"] == "error"
        assert record["request_id"] in ids and record["times"] > 0 and record["seconds"] >= 0
        assert "traceback" not in record
    assert again[-1]["request_id"] == ids[-1]


def test_what_differs_is_not_mixed(start):
    worker = serve(start, pace=1)
    for n in range(40):
        fail(worker, "/a", 1)
        fail(worker, f"/b?n={n}", 2)
        fail(worker, f"/b?text={'even' if n % 2 else 'odd'}", 1)
    stop(worker)
    assert len(worker.log.find(FAILED)) == 4
    assert counted(worker, route="GET /a", error="one") == 40
    assert counted(worker, error="other: odd") == counted(worker, error="other: even") == 20
    users = worker.log.find(AGAIN, error="no user 39")
    assert [r["times"] for r in users] == [79], "ids do not matter; the last one is shown"


def test_texts_of_all_kinds_from_one_place(start):
    """What a client may choose can't fill the log."""
    worker = serve(start, pace=1)
    for n in range(200):
        word = "".join(chr(97 + int(d)) for d in str(n))
        fail(worker, f"/b?text={word}", 1)
    stop(worker)
    assert len(worker.log.find(FAILED)) + len(worker.log.find(AGAIN)) < 20
    assert counted(worker) == 200


def test_uncounted_workloads_and_spawned_tasks_are_folded(start, model):
    model.on("/go", echo)
    worker = serve(
        start,
        1,
        backend(
            """
            worker.post("/go", { allow_parallel_requests = true,
              count_workload = function() return -1 end }),
            worker.get("/spawn", function()
              worker.spawn(function() error "later" end)
              return "x"
            end),"""
        ),
    )
    client = worker.connect()
    for _ in range(50):
        assert client.send(post("/go")).read_response().status == 200
        assert client.send(request("GET", "/spawn")).read_response("GET").status == 200
    stop(worker)
    assert counted(worker, UNCOUNTED, hook="count_workload") == 50
    assert counted(worker, "a job of the worker script failed", hook="spawn") == 50
    assert len(worker.log.find(level="error")) == 2


def test_closing_calls_that_fail_are_folded(start):
    """Whatever path each client has named for its session's end."""
    worker = start(model=refused_url())
    for n in range(40):
        end(worker, create(worker, on_close_route="/close/" + "abcdefghij"[n % 10]))
    worker.wait_counters(upstreams=0)
    stop(worker)
    message = "an on_close_route failed"
    assert len(worker.log.find(level="warn")) < 25
    assert counted(worker, message) == 40
    assert "/close/a: " in worker.log.find(message)[0]["error"]


def test_after_a_quiet_time_it_is_told_whole_again(start):
    worker = serve(start, pace=20)
    fail(worker, "/a", 2)
    worker.log.wait(AGAIN, times=1)
    time.sleep(1.3)  # at least the second window, of 1 s, from that line on
    fail(worker, "/a", 1)
    assert len(worker.log.find(FAILED)) == 2
    assert worker.log.find(FAILED)[1]["traceback"]


def test_a_new_script_is_told_of_whole(start):
    worker = serve(start, pace=1)
    fail(worker, "/a", 3)
    worker.signal(signal.SIGHUP)
    wait_until(lambda: "reloaded" in worker.log.text(), "the reload")
    assert [r["times"] for r in worker.log.find(AGAIN)] == [2], "told before the new one begins"
    fail(worker, "/a", 2)
    assert len(worker.log.find(FAILED)) == 2
    stop(worker)
    assert counted(worker) == 5


def test_no_timer_is_left_at_rest(start):
    worker = serve(start, pace=20)
    rest = timers_at_rest(worker)
    fail(worker, "/a", 1)
    worker.wait_counters(timers=rest)
    fail(worker, "/a", 5)
    worker.log.wait(AGAIN)
    worker.wait_counters(timers=rest, connections=0)


def test_the_text_form(start):
    worker = serve(start, pace=1, log_format="text")
    fail(worker, "/a", 3)
    worker.signal(signal.SIGTERM)
    worker.expect_exit(0)
    lines = [l for l in worker.log.lines if FAILED in l]
    at = re.escape(f'at={worker.script_file}:9 error=one request_id=')
    head = rf"^\S+ \S+ ERROR {FAILED}"
    assert len(lines) == 2
    assert re.search(rf'{head} route="GET /a" hook=handler {at}\S+ traceback="[^"]+"$', lines[0])
    assert re.search(
        rf'{head}, again times=2 seconds=[0-9.]+ route="GET /a" hook=handler {at}\S+$', lines[1]
    )
