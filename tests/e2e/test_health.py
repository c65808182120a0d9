# SPDX-License-Identifier: MIT
"""A model that falls ill, dies and comes back, hangs at work, or is only slow: what the fleet is told,
and that it is not told what is not so."""

import re
import time

from harness.message import post
from harness.model import FakeModel, answers, echo, refused_url, says
from harness.ports import reserve_port
from harness.timing import SLOW, wait_until
from harness.worker import PLAIN

FAST = {"LUAWORKER_TEST_PACE": "20"}  # a check every 500 ms when well, every 100 ms when not


def environment(autoscaler):
    return {"REPORT_ADDR": autoscaler.url, **FAST}


def test_failing_checks_are_told_and_their_end(start, model, autoscaler):
    model.on("/health", says("ok"))
    start(PLAIN, options=["--health-url", "/health"], environment=environment(autoscaler))
    autoscaler.wait_loaded()
    model.on("/health", answers(b"CUDA error", status=500))
    report = autoscaler.wait_error("/health")
    assert "500" in report["error_msg"]
    seen = len(autoscaler.reports)
    model.on("/health", says("ok"))
    autoscaler.wait_loaded(since=seen)
    assert len(model.seen("/health")) >= 3


def test_keys_in_urls_are_told_to_nobody(start, model, autoscaler):
    """Not in the log, not in /status, not to the autoscaler; the model server gets them."""
    model.on("/health", answers(b"", status=503))
    url = model.url.replace("http://", "http://user:hidden@")
    worker = start(
        PLAIN,
        model=url,
        options=["--health-url", url + "/health?key=hidden"],
        environment=environment(autoscaler),
    )

    def statuses():
        texts = [worker.ask_internal("GET", target).body for target in ("/status", "/readyz")]
        assert all(b"hidden" not in text for text in texts), texts
        return texts[0]

    wait_until(lambda: b"status 503" in statuses(), "the bad check in /status")
    model.on("/health", says("ok"))
    autoscaler.wait_loaded()
    assert model.url.encode() + b"/health" in statuses()
    model.on("/health", answers(b"", status=500))
    autoscaler.wait_error("/health?...")
    statuses()
    assert "hidden" not in str(autoscaler.reports) + worker.log.text()
    assert model.last("/health").target == "/health?key=hidden"


def test_a_model_that_dies_and_comes_back(start, autoscaler):
    """Without a health URL: the refused connection of a request is what starts the questions."""
    model = FakeModel(reserve_port()).on("/generate", echo)
    worker = start(PLAIN, model=model, environment=environment(autoscaler))
    autoscaler.wait_loaded()
    assert worker.post("/generate").status == 200
    assert not model.seen("/")
    model.stop()
    assert worker.post("/generate").status == 502
    autoscaler.wait_error(model.url)
    assert worker.get("/ping").status == 200
    seen = len(autoscaler.reports)
    again = FakeModel(model.port).on("/generate", echo)
    try:
        autoscaler.wait_loaded(since=seen)
        assert worker.post("/generate").status == 200
    finally:
        again.stop()


def test_many_refused_requests_are_few_checks(start, autoscaler):
    """Once the model is known to be ill it is looked at in its time, not for each request."""
    worker = start(PLAIN, model=refused_url(), environment={"REPORT_ADDR": autoscaler.url})
    client = worker.connect()
    for _ in range(100):
        client.send(post("/generate"))
        assert client.read_response().status == 502
    text = worker.ask_internal("GET", "/metrics").body.decode()
    checks = re.search(r"^luaworker_health_checks_total (\d+)$", text, re.M)
    assert int(checks.group(1)) < 20, checks


def test_a_model_that_is_never_there(start, autoscaler):
    """No health URL, no marker: ready at once, and in error from the first request on."""
    worker = start(PLAIN, model=refused_url(), environment=environment(autoscaler))
    autoscaler.wait_loaded()
    assert worker.post("/generate").status == 502
    autoscaler.wait_error("refused")


def test_silence_at_work_is_looked_into(start, model, autoscaler):
    """A long silent generation is legal: while the model answers, that is a warning and no error."""
    held = model.hold("/generate")
    worker = start(PLAIN, options=["--stall-timeout", "0.5"], environment=environment(autoscaler))
    autoscaler.wait_loaded()
    client = worker.start("/generate")
    exchange = held.next()
    model.wait_seen(1, "/")
    wait_until(lambda: [r for r in worker.log.records if "no byte" in r["message"]], "the warning")
    assert not any(r["error_msg"] for r in autoscaler.reports)
    exchange.answer(200, b"{}")
    assert client.read_response("POST").status == 200


def test_silence_and_no_answer_is_an_error(start, autoscaler):
    model = FakeModel(reserve_port())
    held = model.hold("/generate")
    worker = start(
        PLAIN, model=model, options=["--stall-timeout", "0.5"], environment=environment(autoscaler)
    )
    autoscaler.wait_loaded()
    client = worker.start("/generate")
    exchange = held.next()
    model.stop_listening()  # what runs stays silent
    try:
        for connection in model.open_connections():
            if connection is not exchange.connection:
                connection.finish()
        report = autoscaler.wait_error("no byte")
        assert "0.5 s" in report["error_msg"] and "refused" in report["error_msg"]
    finally:
        client.close()
        model.stop()


def test_a_slow_stream_is_no_silence(start, model, autoscaler):
    """Pieces come far apart, yet the longest pause is shorter than the timeout."""
    held = model.hold("/generate")
    worker = start(PLAIN, options=["--stall-timeout", "3"], environment=environment(autoscaler))
    autoscaler.wait_loaded()
    client = worker.start("/generate")
    exchange = held.next()
    exchange.stream_head()
    began = time.monotonic()
    while time.monotonic() - began < 6:
        exchange.chunk(b"data: x\n\n")
        time.sleep(0.2)
    exchange.last_chunk()
    assert client.read_response("POST").status == 200
    assert not model.seen("/")
    assert not [r for r in worker.log.records if "no byte" in r["message"]]
    assert not any(r["error_msg"] for r in autoscaler.reports)


def test_a_check_that_times_out_at_work_proves_nothing(start, model, autoscaler):
    """The model streams, and is too busy to answer its health check in time: no error."""
    model.on("/health", says("ok"))
    worker = start(PLAIN, options=["--health-url", "/health"], environment=environment(autoscaler))
    autoscaler.wait_loaded()
    health, held = model.hold("/health"), model.hold("/generate")
    client = worker.start("/generate")
    exchange = held.next()
    exchange.stream_head()
    health.next()
    began = time.monotonic()
    while not [r for r in worker.log.records if "proves nothing" in r["message"]]:
        assert time.monotonic() - began < 30 * SLOW
        exchange.chunk(b"data: x\n\n")
        time.sleep(0.1)
    exchange.last_chunk()
    assert client.read_response("POST").status == 200
    assert not any(r["error_msg"] for r in autoscaler.reports)
    model.on("/health", says("ok"))
    release(health)


def release(held):
    while not held.waiting.empty():
        held.waiting.get().answer(200, b"{}")
