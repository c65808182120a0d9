# SPDX-License-Identifier: MIT
"""From start to ready as the fleet sees it: log marker, start(), benchmark, health, each waited for in
turn; what fails, what clears it; reloads of a ready worker; SIGTERM in every phase."""

import json
import signal
import time

import pytest

from harness.model import answers, echo, says
from harness.timing import SLOW, wait_until
from harness.worker import backend

FAST = {"LUAWORKER_TEST_PACE": "20"}

BEFORE = """
local Input = worker.payload { prompt = "string" }
function Input.for_test() return Input { prompt = "hello" } end
function Input:count_workload() return 10 end
"""


def script(log=None, loaded="has started", measured=False, start=None, health=None):
    """A worker that waits for these things."""
    more = []
    if log:
        more.append(f'model_log_file = "{log}",')
    if loaded:
        more.append(
            f'log_actions = {{ model_loaded = "{loaded}", model_error = "Exception: no weights",'
            ' info = "Download" },'
        )
    if start:
        more.append(f"start = function() {start} end,")
    if health:
        more.append(f'model_healthcheck_url = "{health}",')
    benchmark = ", benchmark = { runs = 1, concurrency = 2 }" if measured else ""
    return backend(
        f"""
        worker.post("/generate", {{ payload = Input, allow_parallel_requests = true{benchmark} }}),
        worker.get("/ping", function() return "pong" end),
        """,
        BEFORE,
        "\n  ".join(more),
    )


@pytest.fixture
def log(tmp_path):
    return tmp_path / "model.log"


def write(log, text):
    with log.open("a") as out:
        out.write(text)


def readyz(worker):
    answer = worker.ask_internal("GET", "/readyz")
    return answer.status, answer.body.decode()


def wait_ready(worker, status=200):
    return wait_until(
        lambda: (lambda seen: seen if seen[0] == status else None)(readyz(worker)),
        f"/readyz to answer {status}",
    )[1]


def test_a_plain_worker_is_ready_at_once(start, autoscaler):
    worker = start(environment={"REPORT_ADDR": autoscaler.url})
    assert autoscaler.wait_loaded()["loadtime"] < 10 * SLOW
    wait_ready(worker)


def test_what_is_waited_for_is_logged_before_long(start, log):
    """The first time after 10 s: whoever looks on has not gone yet."""
    worker = start(script(log))
    words = f'waits for "has started" in {log}'

    def told():
        return [r for r in worker.log.records if "not ready, log is waiting" in r["message"]]

    assert words in wait_until(told, "the reason", 50 * SLOW)[0]["message"]


def test_a_model_that_is_loaded_already(start, model, log):
    """Whose log may have been rotated away, or says it in words of its own. What it says later
    counts all the same."""
    model.on("/generate", echo)
    worker = start(script(log, measured=True), options=["--model-loaded"])
    assert "--model-loaded" in wait_ready(worker)
    write(log, "Exception: no weights\n")
    wait_ready(worker, 503)
    write(log, "has started\n")
    wait_ready(worker)


def test_nothing_is_there_yet(start, model, autoscaler, log):
    """No log, no model, no benchmark: each comes in its turn, and /readyz says what it waits for."""
    model.on("/generate", answers(b"loading", status=503)).on("/health", says("no", status=503))
    text = script(log, measured=True, start="worker.sleep(0.2)", health="/health")
    worker = start(text, environment={"REPORT_ADDR": autoscaler.url, **FAST})
    assert worker.get("/ping").body == b"pong"  # it listens all the while
    wait_until(lambda: "No such file" in readyz(worker)[1], "the missing log to be named")
    assert str(log) in readyz(worker)[1] and "has started" in readyz(worker)[1]
    write(log, "loading\n")
    wait_until(lambda: "8 bytes" in readyz(worker)[1], "the log's size")
    assert not model.seen()
    model.on("/generate", echo)
    write(log, "the model has started\n")
    wait_until(lambda: "503" in readyz(worker)[1], "the health check to be named")
    assert len(model.seen("/generate")) >= 2  # it was measured first
    assert all(r["loadtime"] == 0 and r["max_perf"] == 0 for r in autoscaler.reports)
    model.on("/health", says("ok"))
    assert autoscaler.wait_loaded()["max_perf"] > 0
    wait_ready(worker)


def test_the_model_url_override_is_where_health_is_asked(start, model, autoscaler):
    """The script says port 1; --model-url says where the model is."""
    model.on("/health", says("ok"))
    worker = start(
        script(loaded=None),
        options=["--health-url", "/health"],
        environment={"REPORT_ADDR": autoscaler.url},
    )
    autoscaler.wait_loaded()
    assert model.last("/health").method == "GET"
    assert worker.get("/ping").status == 200


def test_the_environment_names_the_health_check(start, model, autoscaler):
    held = model.hold("/alive")
    start(environment={"REPORT_ADDR": autoscaler.url, "MODEL_HEALTH_ENDPOINT": "alive", **FAST})
    exchange = held.next()
    assert not [r for r in autoscaler.reports if r["loadtime"]]
    model.on("/alive", answers(b""))
    exchange.answer(200, b"")
    autoscaler.wait_loaded()


def test_the_scripts_log_goes_before_the_option(start, autoscaler, log, tmp_path):
    other = tmp_path / "other.log"
    other.write_text("has started\n")
    worker = start(
        script(log),
        options=["--model-log", other],
        environment={"REPORT_ADDR": autoscaler.url, **FAST},
    )
    wait_until(lambda: str(log) in readyz(worker)[1], "its own log")
    assert readyz(worker)[0] == 503
    write(log, "has started\n")
    autoscaler.wait_loaded()


def test_the_option_serves_a_script_that_names_none(start, autoscaler, log):
    log.write_text("has started\n")
    start(script(), options=["--model-log", log], environment={"REPORT_ADDR": autoscaler.url})
    autoscaler.wait_loaded()


def test_an_error_marker_and_its_end(start, autoscaler, log):
    start(script(log), environment={"REPORT_ADDR": autoscaler.url, **FAST})
    write(log, "RuntimeError\nException: no weights at /models\n")
    assert autoscaler.wait_error("weights")["error_msg"] == "Exception: no weights"
    seen = len(autoscaler.reports)
    write(log, "has started\n")
    autoscaler.wait_loaded(since=seen)


def test_info_lines_are_echoed_within_bounds(start, log):
    worker = start(script(log))
    write(log, "Download \x1b[31m1\x07 of 3\nnothing of interest\n")
    record = worker.log.wait("model log")
    assert record["line"] == "Download \x1b[31m1\x07 of 3"
    assert not any("\x1b" in line or "\x07" in line for line in worker.log.lines)  # escaped
    write(log, "".join(f"Download {i} {'x' * 5000}\n" for i in range(500)))
    wait_until(
        lambda: [r for r in worker.log.records if "were left out" in r.get("message", "")],
        "the number of those left out",
    )
    assert len(worker.log.find("model log")) < 200
    assert all(len(r["line"]) <= 2100 for r in worker.log.find("model log"))


def test_start_that_fails_and_then_does_not(start, autoscaler, tmp_path):
    flag = tmp_path / "flag"
    text = script(
        loaded=None,
        start=f'local f = io.open("{flag}") if not f then error "no flag" end f:close()',
    )
    start(text, environment={"REPORT_ADDR": autoscaler.url, "LUAWORKER_TEST_PACE": "200"})
    assert "no flag" in autoscaler.wait_error("start()")["error_msg"]
    seen = len(autoscaler.reports)
    flag.write_text("")
    autoscaler.wait_loaded(since=seen)  # it was tried again


def test_a_benchmark_that_fails_and_then_does_not(start, model, autoscaler):
    model.on("/generate", answers(b"", status=500))
    text = script(loaded=None, measured=True)
    worker = start(text, environment={"REPORT_ADDR": autoscaler.url, "LUAWORKER_TEST_PACE": "200"})
    autoscaler.wait_error("No successful responses from benchmark")
    seen = len(autoscaler.reports)
    model.on("/generate", echo)
    assert autoscaler.wait_loaded(since=seen)["max_perf"] > 0
    assert worker.get("/ping").status == 200


# -- reloads --


def reload(worker, text):
    worker.write_script(text)
    before = len(worker.log.records)
    worker.signal(signal.SIGHUP)
    wait_until(
        lambda: [r for r in worker.log.records[before:] if "reloaded" in r["message"]], "the reload"
    )


def test_a_reload_mends_a_marker(start, autoscaler, log):
    log.write_text("Server is up\n")
    worker = start(script(log), environment={"REPORT_ADDR": autoscaler.url, **FAST})
    wait_until(lambda: "13 bytes" in readyz(worker)[1], "the log to be read")
    reload(worker, script(log, loaded="Server is up"))
    autoscaler.wait_loaded()


def test_a_ready_worker_stays_ready_over_a_reload(start, model, autoscaler, log):
    model.on("/generate", echo)
    log.write_text("has started\n")
    worker = start(script(log, measured=True), environment={"REPORT_ADDR": autoscaler.url, **FAST})
    first = autoscaler.wait_loaded()["max_perf"]
    held = model.hold("/generate")
    reload(worker, script(log, loaded="other words", measured=True, start="worker.sleep(0.1)"))
    exchange = held.next()  # measured anew, and ready meanwhile
    assert readyz(worker)[0] == 200
    model.on("/generate", answers(b"{}"))
    time.sleep(0.3)
    assert autoscaler.reports[-1]["max_perf"] == first
    exchange.answer(200, b"{}")
    release(held)
    autoscaler.wait_report("the new max_perf", lambda r: r["max_perf"] not in (0, first))
    assert all(not r["error_msg"] for r in autoscaler.reports)
    assert not [r for r in worker.log.records if "not ready" in r["message"]]


def release(held):
    while not held.waiting.empty():
        held.waiting.get().answer(200, b"{}")


def test_a_bad_reload_changes_nothing(start, autoscaler):
    worker = start(environment={"REPORT_ADDR": autoscaler.url, **FAST})
    autoscaler.wait_loaded()
    worker.write_script("return 5")
    worker.signal(signal.SIGHUP)
    wait_until(
        lambda: [r for r in worker.log.records if "reload failed" in r["message"]], "the refusal"
    )
    assert readyz(worker)[0] == 200


# -- SIGTERM --


@pytest.mark.parametrize("phase", ["log", "start", "benchmark", "health", "key"])
def test_sigterm_in_every_phase(start, model, log, phase):
    held = model.hold("/generate")
    model.on("/health", says("no", status=503))
    environment = {"REPORT_ADDR": "http://127.0.0.1:1"} if phase == "key" else {}
    text = {
        "log": script(log),
        "start": script(loaded=None, start="worker.sleep(1000)"),
        "benchmark": script(loaded=None, measured=True),
        "health": script(loaded=None, health="/health"),
        "key": script(loaded=None),
    }[phase]
    worker = start(text, environment=environment, unsecured=phase != "key")
    if phase == "benchmark":
        held.next()
    if phase == "health":
        model.wait_seen(1, "/health")
    wait_until(lambda: phase in json.loads(readyz(worker)[1]).get("waiting", phase), "the phase")
    worker.signal(signal.SIGTERM)
    worker.expect_exit(0, timeout=6 * SLOW)
    left = worker.log.find("counters")[-1]
    assert all(left[name] == 0 for name in ("requests", "upstreams", "tasks", "generations")), left
