# SPDX-License-Identifier: MIT
"""start(): what a script does once its worker listens, and before it is ready."""

import signal

import pytest
from harness.model import FakeModel, says
from harness.timing import PATIENCE, wait_until
from harness.worker import backend


def script(start, more=""):
    """A worker with this body of start()."""
    return backend(
        f"""
      worker.post("/generate", {{ allow_parallel_requests = true, {more} }}),
      worker.get("/ping", function() return "pong" end)""",
        more=f"start = function()\n{start}\nend,",
    )


def messages(worker, part):
    return [r for r in worker.log.records if part in r.get("message", "")]


def wait_message(worker, part, count=1):
    return wait_until(
        lambda: messages(worker, part)[count - 1 :], f"a log line with {part!r}", PATIENCE
    )[0]["message"]


def reload(worker, text):
    worker.write_script(text)
    worker.signal(signal.SIGHUP)


def test_ready_when_it_returns(start, model):
    held = model.hold("/load")
    worker = start(
        script('assert(assert(worker.model.post("/load", { json = { model = "x" } })):json().fine)')
    )
    exchange = held.next()
    assert exchange.json() == {"model": "x"}
    assert worker.get("/ping").body == b"pong"
    assert not messages(worker, "ready after")
    exchange.answer_json({"fine": True})
    wait_message(worker, "ready after")


def test_it_may_sleep_call_others_and_leave_tasks_behind(start, model):
    other = FakeModel().on("/there", says({"n": 1}))
    held = model.hold("/later")
    worker = start(
        script(
            f"""
      worker.sleep(0.01)
      for _ = 1, 3 do assert(worker.http.get("{other.url}/there")):json() end
      worker.spawn(function()
        worker.log.info("the task got " .. worker.model.get("/later"):body())
      end)"""
        )
    )
    wait_message(worker, "ready after")
    assert len(other.seen("/there")) == 3
    held.next().answer(200, b"on")
    wait_message(worker, "the task got on")
    worker.finish()
    other.stop()


def test_the_benchmark_comes_after_it(start, model):
    held, measured = model.hold("/load"), model.hold("/generate")
    benchmark = "benchmark = { runs = 1, concurrency = 1, warmup = false, dataset = { {} } },"
    worker = start(script('assert(worker.model.get("/load")):body()', benchmark))
    exchange = held.next()
    measured.expect_none()
    exchange.answer_json({})
    measured.next().answer_json({})
    wait_message(worker, "ready after")


@pytest.mark.parametrize(
    "body, text",
    [
        ("\nerror 'no weights'", "worker.lua:8: no weights"),
        ("\nlocal x\nreturn x.y", "worker.lua:9: attempt to index local 'x' (a nil value)"),
        ("return nil, 'no weights'", "no weights"),
        ("return worker.model.get('/gone')", "model http://127.0.0.1:"),
        ("error(worker.invalid { a = 'b' })", "a: b"),
        ("error({ code = 7 })", "table { code = number 7 }"),
        ("error()", "nil"),
        ("worker.stream {}", "worker.stream: there is no request to answer"),
    ],
)
def test_an_error_of_it_is_told(start, body, text):
    worker = start(script(body), model="http://127.0.0.1:1")
    wait_until(
        lambda: [
            r
            for r in worker.log.records
            if "start" in r["message"] and text in r["message"] and r["level"] in ("error", "warn")
        ],
        f"an error with {text!r}",
    )
    assert worker.get("/ping").body == b"pong"
    assert not messages(worker, "ready after")
    worker.wait_counters(tasks=0)


def test_a_new_script_may_do_better(start, model):
    worker = start(script("error 'no weights'"))
    wait_message(worker, "no weights")
    reload(worker, script(""))
    wait_message(worker, "ready after")


def test_a_reload_cancels_it_and_runs_the_new_one(start, model):
    held, fresh = model.hold("/old"), model.hold("/new")
    worker = start(script('pcall(worker.model.get, "/old") worker.sleep(0) print "still here"'))
    old = held.next()
    reload(worker, script('worker.model.get("/new"):body()'))
    old.expect_dropped()
    exchange = fresh.next()
    assert not messages(worker, "ready after")
    exchange.answer_json({})
    wait_message(worker, "ready after")
    assert not messages(worker, "still here")
    worker.wait_counters(tasks=0, generations=1)


def test_the_end_of_the_process_cancels_it(start, model):
    held = model.hold("/load")
    worker = start(script('while true do pcall(worker.model.get, "/load") worker.sleep(1000) end'))
    exchange = held.next()
    worker.signal(signal.SIGTERM)
    worker.expect_exit(0)
    exchange.expect_dropped()


def test_the_end_of_the_process_while_it_sleeps(start):
    worker = start(script("worker.sleep(1e6)"))
    worker.wait_counters(tasks=1)
    worker.signal(signal.SIGTERM)
    worker.expect_exit(0)
