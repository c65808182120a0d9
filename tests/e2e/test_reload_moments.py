# SPDX-License-Identifier: MIT
"""A reload at an awkward moment: while requests arrive, wait or stream, while start() or the benchmark
runs, while the worker drains or ends, and with many generations alive. What each does is a rule of
docs/operating.md."""

import json
import os
import signal

from harness.client import Client
from harness.message import AUTH, envelope, request
from harness.model import FakeModel, echo, says
from harness.timing import PATIENCE, wait_until
from harness.worker import backend


def script(version, routes="", more="", before=""):
    return backend(
        f"""
      worker.get("/version", function() return "{version}" end),
      worker.post("/generate", {{
        allow_parallel_requests = true,
        generate_client_response = function(_, answer)
          local client = worker.stream {{}}
          for chunk in answer:chunks() do client:write("{version}:" .. chunk) end
          return client
        end,
      }}),
      worker.post("/serial", {{
        generate_client_response = function(_, answer)
          return worker.json {{ version = "{version}", n = answer:json().n }}
        end,
      }}), {routes}""",
        more=more,
        before=before,
    )


def status(worker):
    return worker.ask_internal("GET", "/status").json()


def reload(worker, text, count=1):
    """Writes the script, signals, and waits until so many reloads more have been tried."""
    seen = status(worker)
    wanted = seen["reloads"] + seen["reload_failures"] + count
    worker.write_script(text)
    worker.signal(signal.SIGHUP)

    def tried():
        seen = status(worker)
        return seen["reloads"] + seen["reload_failures"] >= wanted

    wait_until(tried, "the reload")


def generations(worker):
    return status(worker)["generations"]


def lines(worker, part):
    return [r for r in worker.log.records if part in r["message"]]


def test_a_body_that_is_still_coming_is_served_by_the_new_script(start, model):
    model.on("/generate", says({}))
    worker = start(script("1"))
    whole = request("POST", "/generate", envelope())
    client = worker.connect().send(whole[:-5])
    worker.wait_counters(connections=1)
    reload(worker, script("2"))
    response = client.send(whole[-5:]).read_response()
    assert response.status == 200 and response.body.startswith(b"2:")
    assert generations(worker) == 1


def test_a_route_that_goes_while_its_body_comes(start):
    worker = start(script("1", 'worker.post("/old", {})'))
    whole = request("POST", "/old", envelope())
    client = worker.connect().send(whole[:-5])
    worker.wait_counters(connections=1)
    reload(worker, script("2"))
    assert client.send(whole[-5:]).read_response().status == 404
    assert client.send(request("GET", "/version")).read_response("GET").body == b"2"


def test_requests_wait_in_the_queue_across_two_reloads(start, model):
    held = model.hold("/serial")
    worker = start(script("1"), options=["--queue-count", "2"])
    waiting = []
    for n in range(3):
        waiting.append(worker.start("/serial", {"n": n}))
        worker.wait_counters(in_flight=n + 1)
    full = worker.post("/serial", {"n": 9})
    assert full.status == 429 and "full" in full.json()["error"]
    reload(worker, script("2"))
    reload(worker, script("3"))
    assert worker.post("/serial", {"n": 9}).status == 429, "the queue is one for all generations"
    assert generations(worker) == 2, "1, which waits, and 3; 2 had nothing to do"
    for n, client in enumerate(waiting):
        held.next().answer_json({"n": n})
        assert client.read_response().json() == {"version": "1", "n": n}
    wait_until(lambda: generations(worker) == 1, "the first generation gone")
    later = worker.start("/serial", {"n": 5})
    held.next().answer_json({"n": 5})
    assert later.read_response().json() == {"version": "3", "n": 5}


def test_a_broken_script_while_the_queue_is_full(start, model):
    held = model.hold("/serial")
    worker = start(script("1"), options=["--queue-count", "1"])
    clients = []
    for n in range(2):
        clients.append(worker.start("/serial", {"n": n}))
        worker.wait_counters(in_flight=n + 1)
    reload(worker, "return {")
    for n, client in enumerate(clients):
        held.next().answer_json({"n": n})
        assert client.read_response().json() == {"version": "1", "n": n}
    assert status(worker)["reload_failures"] == 1 and generations(worker) == 1


def test_while_draining(start, model):
    held = model.hold("/generate")
    worker = start(script("1"))
    client = worker.start("/generate")
    exchange = held.next().stream_head().chunk(b"a")
    response = client.open_response()
    response.read_until(b"1:a")
    drain = Client(worker.internal_port)
    worker.clients.append(drain)
    drain.send(request("POST", "/drain", b""))
    wait_until(
        lambda: worker.ask_internal("GET", "/readyz").json()["draining"], "the worker to drain"
    )
    reload(worker, script("2"))
    assert worker.post("/generate").status == 503, "a reload does not end the drain"
    assert worker.get("/version").body == b"2"
    exchange.chunk(b"b").last_chunk()
    assert response.read_all().complete and response.body.endswith(b"1:b")
    assert drain.read_response().json()["drained"] is True


def test_while_stopping(start, model):
    held = model.hold("/generate")
    worker = start(script("1"))
    client = worker.start("/generate")
    exchange = held.next().stream_head().chunk(b"a")
    response = client.open_response()
    response.read_until(b"1:a")
    worker.write_script(script("2"))
    worker.signal(signal.SIGTERM)
    worker.log.wait("SIGTERM: taking no new requests, 1 running")
    worker.signal(signal.SIGHUP)
    worker.log.wait("the worker is ending: nothing is loaded anew")
    exchange.chunk(b"b").last_chunk()
    assert response.read_all().complete
    worker.expect_exit(0)
    assert not lines(worker, "reloaded")


def test_while_the_benchmark_runs(start, model):
    held = model.hold("/measured")
    route = """worker.post("/measured", {
      allow_parallel_requests = true,
      benchmark = { runs = 1, concurrency = 1, warmup = false, dataset = { {} } } }),"""
    worker = start(script("1", route))
    first = held.next()
    reload(worker, script("2", route))
    first.expect_dropped()
    held.next().answer_json({})
    worker.log.wait("benchmark: measuring POST /measured", count=2)
    wait_until(lambda: status(worker)["ready"], "ready")
    assert status(worker)["max_perf"] > 0
    reload(worker, script("2", route))
    held.expect_none()  # the same text: nothing to measure


def test_while_start_runs(start, model):
    held = model.hold("/load")
    worker = start(script("1", more='start = function() worker.model.get("/load"):body() end,'))
    first = held.next()
    reload(worker, script("2", more='start = function() worker.model.get("/load"):body() end,'))
    first.expect_dropped()
    assert not status(worker)["ready"]
    held.next().answer_json({})
    wait_until(lambda: status(worker)["ready"], "ready")
    reload(worker, script("3", more="start = function() worker.sleep(3600) end,"))
    assert status(worker)["ready"], "a gate that has passed stays so while the new start() runs"
    reload(worker, script("4"))
    wait_until(lambda: worker.counters()["tasks"] == 0, "that start() is cancelled")


def test_while_the_model_is_down(start):
    worker = start(script("1"), model="http://127.0.0.1:1")
    assert worker.post("/generate").status == 502
    reload(worker, script("2"))
    assert worker.post("/generate").status == 502
    assert worker.get("/version").body == b"2"


def test_another_model_server(start, model):
    """--model-url goes before the script's, so this worker is started without."""
    other = FakeModel().on("/generate", says({"other": True}))
    held = model.hold("/generate")
    worker = start(script("1").replace("http://127.0.0.1:1", model.url), model=None)
    client = worker.start("/generate")
    exchange = held.next().stream_head().chunk(b"a")
    response = client.open_response()
    response.read_until(b"1:a")
    reload(worker, script("2").replace("http://127.0.0.1:1", other.url))
    assert worker.post("/generate").body == b'2:{"other": true}'
    assert status(worker)["model_url"] == other.url
    exchange.last_chunk()
    assert response.read_all().complete
    worker.finish()
    other.stop()


def open_session(worker):
    """Its id, and the body that ends it."""
    created = worker.post("/session/create", {"lifetime": 60})
    assert created.status == 201
    number = created.json()["session_id"]
    return number, json.dumps({"session_id": number, "session_auth": AUTH}).encode()


def test_settings_of_the_new_script_take_effect(start, model, tmp_path):
    held = model.hold("/well")
    log = tmp_path / "model.log"
    log.write_text("up\n")
    worker = start(script("1", more="max_sessions = 1,"))
    wait_until(lambda: status(worker)["ready"], "ready")
    more = f"""max_sessions = 2, model_healthcheck_url = "/well", model_log_file = "{log}",
      log_actions = {{ model_loaded = "up", model_error = "down" }},"""
    endings = [open_session(worker)[1]]
    assert worker.post("/session/create", {"lifetime": 60}).status == 429
    reload(worker, script("2", more=more))
    endings.append(open_session(worker)[1])
    assert worker.post("/session/create", {"lifetime": 60}).status == 429
    held.next().answer_json({})
    wait_until(lambda: status(worker)["ready"], "ready")
    with log.open("a") as out:
        out.write("down\n")
    wait_until(lambda: not status(worker)["ready"], "the error marker")
    errors = [r["message"] for r in worker.log.records if r["level"] == "error"]
    assert errors == ["not ready: log: down"], "told once"
    reload(worker, script("3"))
    wait_until(lambda: status(worker)["ready"], "no log, no health check any more")
    for ending in endings:
        assert worker.ask("POST", "/session/end", ending).status == 200


def test_a_session_goes_on_with_the_new_script(start, model):
    model.on("/serial", echo)
    worker = start(script("1"))
    session, ending = open_session(worker)
    answer = worker.post("/serial", {"n": 1}, session_id=session).json()
    assert answer["version"] == "1"
    reload(worker, script("2"))
    assert generations(worker) == 1, "a session alone keeps no generation"
    answer = worker.post("/serial", {"n": 1}, session_id=session).json()
    assert answer["version"] == "2"
    assert worker.ask("POST", "/session/end", ending).status == 200


SPAWNS = """
local function forever()
  worker.log.info("spawned")
  while true do worker.sleep(3600) end
end"""


def test_what_the_old_script_spawned_ends_with_its_last_request(start, model):
    held = model.hold("/generate")
    worker = start(script("1", more="start = function() worker.spawn(forever) end,", before=SPAWNS))
    worker.log.wait("spawned")
    client = worker.start("/generate")
    exchange = held.next().stream_head().chunk(b"a")
    response = client.open_response()
    response.read_until(b"1:a")
    reload(worker, script("2"))
    seen = worker.counters()
    assert (seen["tasks"], seen["generations"]) == (2, 2), "the request and what was spawned"
    exchange.last_chunk()
    assert response.read_all().complete
    worker.wait_counters(tasks=0, generations=1)


def test_the_client_of_an_old_generation_leaves(start, model):
    held = model.hold("/generate")
    worker = start(script("1"))
    client = worker.start("/generate")
    exchange = held.next().stream_head().chunk(b"a")
    client.open_response().read_until(b"1:a")
    reload(worker, script("2"))
    assert generations(worker) == 2
    client.close()
    exchange.expect_dropped()
    worker.wait_counters(generations=1, tasks=0)


def test_fifty_signals_at_once(start):
    worker = start(script("1"))
    worker.write_script(script("2"))
    for _ in range(50):
        worker.signal(signal.SIGHUP)
    wait_until(lambda: worker.get("/version").body == b"2", "version 2")
    worker.wait_counters(generations=1)
    assert status(worker)["reload_failures"] == 0


def test_generations_are_bounded(start, model):
    """Each has an open stream. 100 are alive at most; the refusal is told, and the next reload works
    once one of them has ended."""
    held = model.hold("/generate")
    worker = start(script("1"))
    open_streams = []
    for n in range(1, 101):
        client = worker.start("/generate")
        exchange = held.next().stream_head().chunk(b"a")
        response = client.open_response()
        response.read_until(b"%d:a" % n)
        open_streams.append((exchange, response))
        reload(worker, script(str(n + 1)))
    seen = status(worker)
    assert (seen["generations"], seen["reload_failures"]) == (100, 1)
    assert "100 generations" in seen["reload_error"]
    assert (
        len(lines(worker, "generations of the script are at work")) == 2
    ), "warned of once, refused"
    assert worker.get("/version").body == b"100"
    exchange, response = open_streams.pop(0)
    exchange.last_chunk()
    assert response.read_all().complete
    wait_until(lambda: generations(worker) == 99, "the first generation gone")
    reload(worker, script("101"))
    assert worker.get("/version").body == b"101" and status(worker)["reload_error"] is None
    for exchange, response in open_streams:
        exchange.last_chunk()
        assert response.read_all().complete
    wait_until(lambda: generations(worker) == 1, "all old ones gone", PATIENCE)


def test_a_failure_is_told_everywhere_but_to_the_autoscaler(start, model, autoscaler):
    worker = start(script("1"), environment={"REPORT_ADDR": autoscaler.url})
    autoscaler.wait_loaded()
    reload(worker, backend('worker.post("/a", { max_queue_time = "3" })', more="max_sesions = 1,"))
    failed = [r for r in worker.log.records if r["message"].startswith("reload failed")]
    assert len(failed) == 1 and failed[0]["level"] == "error"
    assert "max_sesions" in failed[0]["message"] and "max_queue_time" in failed[0]["message"]
    assert worker.ask_internal("GET", "/readyz").status == 200
    assert "max_sesions" in status(worker)["reload_error"]
    metrics = worker.ask_internal("GET", "/metrics").body.decode()
    assert "\nluaworker_reload_failed 1\n" in metrics
    assert "\nluaworker_reload_failures_total 1\n" in metrics
    reload(worker, script("2"))
    assert status(worker)["reload_error"] is None
    metrics = worker.ask_internal("GET", "/metrics").body.decode()
    assert "\nluaworker_reload_failed 0\n" in metrics
    assert not any(report["error_msg"] for report in autoscaler.reports)


def test_a_pipe_is_not_waited_for(start):
    worker = start(script("1"))
    worker.script_file.unlink()
    os.mkfifo(worker.script_file)
    worker.signal(signal.SIGHUP)
    wait_until(lambda: status(worker)["reload_failures"] == 1, "the failed reload")
    assert "not a regular file" in status(worker)["reload_error"]


def test_a_big_script_is_freed_bit_by_bit(start):
    """A heap that takes tens of milliseconds to free holds nobody up for so long. The time of one
    turn is not asserted, only that all comes back."""
    big = "local big = {} for i = 1, 100000 do big[i] = { i, tostring(i) } end"
    worker = start(script("1", before=big))
    worker.wait_counters(connections=0)
    idle = worker.counters()["timers"]
    reload(worker, script("2"))
    worker.wait_counters(generations=1, timers=idle)
    assert worker.get("/version").body == b"2"
    reload(worker, script("3", before=big))
    reload(worker, script("4", before=big))  # it may end with some still to be freed
