# SPDX-License-Identifier: MIT
"""POST /drain: new work is refused, what runs goes on to its end, and whoever asked is told when
nothing is left, when its patience is over, or when the program ends."""

import json
import re
import signal

import pytest

from harness.client import Client
from harness.message import AUTH, post, request
from harness.model import answers, echo
from harness.timing import QUIET, wait_until
from harness.worker import PLAIN, run


def start_drain(worker, query=""):
    """Sends the request; the client waits for the answer."""
    client = Client(worker.internal_port)
    worker.clients.append(client)
    return client.send(request("POST", "/drain" + query, b""))


def wait_draining(worker):
    wait_until(
        lambda: worker.ask_internal("GET", "/readyz").json()["draining"], "the worker to drain"
    )


@pytest.fixture
def streaming(start, model):
    """A worker with a stream under way: (worker, its client's response, the model's exchange)."""
    held = model.hold("/generate")
    worker = start()
    client = worker.start("/generate")
    exchange = held.next().stream_head().chunk(b"<1>")
    response = client.open_response()
    response.read_until(b"<1>")
    return worker, response, exchange


def test_an_idle_worker_is_drained_at_once(start, model):
    model.on("/generate", echo)
    worker = start()
    response = worker.ask_internal("POST", "/drain")
    assert response.status == 200
    seen = response.json()
    assert seen["drained"] is True and seen["in_flight"] == 0 and seen["seconds"] >= 0
    ready = worker.ask_internal("GET", "/readyz")
    assert ready.status == 503 and ready.json()["ready"] is False
    assert worker.ask_internal("GET", "/livez").status == 200
    refused = worker.post("/generate")
    assert refused.status == 503 and refused.headers.get("Retry-After")
    assert "draining" in refused.json()["error"]
    assert worker.get("/ping").status == 200, "handlers are no work: they go on"
    assert not model.seen("/generate")
    seen = worker.counters()
    assert seen["received"] == 0


def test_a_running_stream_ends_in_its_own_time(streaming):
    worker, response, exchange = streaming
    waiting = [start_drain(worker), start_drain(worker, "?timeout=600")]
    wait_draining(worker)
    for client in waiting:
        client.expect_silence(QUIET)
    exchange.chunk(b"<2>")
    response.read_until(b"<2>")
    exchange.chunk(b"<3>").last_chunk()
    response.read_all()
    assert response.body == b"<1><2><3>" and response.complete
    for client in waiting:
        answer = client.read_response()
        assert answer.status == 200 and answer.json()["drained"] is True
    worker.wait_counters(success=1, in_flight=0)


def test_the_wait_ends_with_its_timeout(streaming):
    worker, response, exchange = streaming
    answer = worker.ask_internal("POST", "/drain?timeout=0.2")
    assert answer.status == 202
    assert answer.json()["drained"] is False and answer.json()["in_flight"] == 1
    assert answer.json()["seconds"] >= 0.2
    answer = worker.ask_internal("POST", "/drain?timeout=0")
    assert answer.status == 202 and answer.json()["in_flight"] == 1
    exchange.chunk(b"<2>").last_chunk()
    response.read_all()
    assert response.complete
    assert worker.ask_internal("POST", "/drain").status == 200


def test_what_waits_in_the_queue_is_served(start, model):
    held = model.hold("/serial")
    worker = start()
    clients = [worker.start("/serial") for _ in range(3)]
    exchange = held.next()
    wait_until(lambda: worker.counters()["queued"] == 2, "two to wait")
    waiting = start_drain(worker)
    wait_draining(worker)
    exchange.answer_json({})
    for _ in range(2):
        held.next().answer_json({})
    for client in clients:
        assert client.read_response().status == 200
    assert waiting.read_response().json()["drained"] is True


def test_who_asked_may_leave(streaming):
    worker, response, exchange = streaming
    leaving, staying = start_drain(worker), start_drain(worker)
    wait_draining(worker)
    before = worker.wait_counters(requests=3)
    assert before["requests"] == 3
    leaving.reset()
    worker.wait_counters(requests=2)
    exchange.last_chunk()
    response.read_all()
    assert staying.read_response().status == 200


def test_a_client_that_leaves_ends_the_wait(streaming):
    worker, response, exchange = streaming
    waiting = start_drain(worker)
    wait_draining(worker)
    worker.clients[0].close()
    exchange.expect_dropped()
    assert waiting.read_response().json()["drained"] is True
    worker.wait_counters(cancelled=1)


def test_an_open_session_is_waited_for(start):
    worker = start()
    body = {"auth_data": AUTH, "payload": {"lifetime": 600.0}}
    created = worker.ask("POST", "/session/create", json.dumps(body).encode())
    assert created.status == 201
    answer = worker.ask_internal("POST", "/drain?timeout=0")
    assert answer.status == 202 and answer.json()["in_flight"] == 1
    waiting = start_drain(worker)
    worker.wait_counters(requests=1)
    ending = {"session_id": created.json()["session_id"], "session_auth": AUTH}
    ended = worker.ask_internal("POST", "/session/end", json.dumps(ending).encode())
    assert ended.status == 200
    assert waiting.read_response().json()["drained"] is True
    assert worker.ask("POST", "/session/create", json.dumps(body).encode()).status == 503


def test_then_sigterm(streaming):
    """As a preStop hook does it, but with a stream that outlives the hook's patience."""
    worker, response, exchange = streaming
    assert worker.ask_internal("POST", "/drain?timeout=0.1").status == 202
    waiting = start_drain(worker)
    worker.wait_counters(requests=2)
    worker.signal(signal.SIGTERM)
    wait_until(lambda: worker.log.find("SIGTERM: taking no new requests, 2 running"), "SIGTERM")
    exchange.chunk(b"<2>").last_chunk()
    response.read_all()
    assert response.body == b"<1><2>" and response.complete
    answer = waiting.read_response()
    assert answer.status == 200 and answer.json()["drained"] is True
    worker.expect_exit(0)


def test_sigterm_does_not_wait_for_those_who_wait(start):
    worker = start(options=["--shutdown-timeout", 600])
    client = Client(worker.internal_port)
    worker.clients.append(client)
    client.send(request("GET", "/livez"))
    client.read_response("GET")  # kept alive, idle
    assert start_drain(worker).read_response().status == 200
    worker.signal(signal.SIGTERM)
    worker.expect_exit(0)


def test_a_second_signal_breaks_it_off(streaming):
    worker, response, _ = streaming
    waiting = start_drain(worker)
    worker.wait_counters(requests=2)
    worker.signal(signal.SIGTERM)
    wait_until(lambda: worker.log.find("SIGTERM: taking no new requests, 2 running"), "SIGTERM")
    worker.signal(signal.SIGTERM)
    waiting.expect_end()
    response.read_all()
    assert not response.complete
    worker.expect_exit(0)


def test_the_autoscaler_is_told(start, model):
    model.on("/worker_status/", answers(b"{}"))
    worker = start(environment={"REPORT_ADDR": model.url})
    worker.ask_internal("POST", "/drain")

    def told():
        reports = [json.loads(e.body) for e in model.seen("/worker_status/")]
        return any("draining" in report["error_msg"] for report in reports)

    wait_until(told, "a report of the drain")


def test_a_body_that_was_on_its_way_is_still_served(start, model):
    """Its head came before the drain: it was promised an answer."""
    model.on("/generate", echo)
    worker = start(PLAIN)
    text = post("/generate", {"prompt": "x"})
    client = worker.connect().send(text[:-10])
    wait_until(lambda: worker.counters()["connections"] == 1, "the connection")
    client.expect_silence(QUIET)
    assert worker.ask_internal("POST", "/drain").status == 200
    client.send(text[-10:])
    assert client.read_response().status == 200


@pytest.mark.parametrize("value", ["", "x", "-1", "nan", "inf", "1e9", "1s"])
def test_timeouts_that_are_none(worker, value):
    response = worker.ask_internal("POST", f"/drain?timeout={value}")
    assert response.status == 400 and "timeout" in response.json()["error"]
    assert worker.ask_internal("GET", "/readyz").status == 200


# -- the command --


def drain_by_command(worker, *options):
    return run("drain", "--internal-addr", worker.internal_port, *options)


def test_command_waits_for_what_runs(start, model):
    held = model.hold("/generate")
    worker = start()
    client = worker.start("/generate")
    exchange = held.next()
    shown = drain_by_command(worker, "--timeout", "0.2")
    assert shown.returncode == 1 and shown.stdout == "not drained after 0.2 s: 1 in flight\n"
    assert worker.post("/generate").status == 503
    exchange.answer_json({"ok": 1})
    assert client.read_response().status == 200
    client.close()
    shown = drain_by_command(worker)
    assert shown.returncode == 0 and re.fullmatch(r"drained after \d+\.\d s\n", shown.stdout)


def test_command_by_environment_and_url(start):
    worker = start()
    shown = run("drain", environment={"WORKER_HTTP_PORT": str(worker.internal_port)})
    assert shown.returncode == 0
    shown = run("drain", f"http://127.0.0.1:{worker.internal_port}/drain")
    assert shown.returncode == 0


@pytest.mark.parametrize(
    "arguments, code, said",
    [
        (["--internal-addr", "127.0.0.1:1"], 3, "refused the connection"),
        (["--internal-addr", "127.0.0.1:x"], 2, "is no port"),
        (["--timeout", "-1"], 2, "must be at least 0"),
        (["--timeout", "soon"], 2, "expects a number"),
    ],
)
def test_command_says_what_is_wrong(arguments, code, said):
    shown = run("drain", *arguments)
    assert shown.returncode == code and said in shown.stderr


def test_command_at_the_wrong_port(start):
    worker = start()
    shown = run("drain", "--internal-addr", worker.port)
    assert shown.returncode == 3 and "404" in shown.stderr


def test_nobody_new_is_sent_to_a_worker_that_stops(streaming):
    worker, response, exchange = streaming
    worker.signal(signal.SIGTERM)
    wait_until(lambda: worker.ask_internal("GET", "/readyz").status == 503, "not ready any more")
    seen = worker.ask_internal("GET", "/readyz").json()
    assert seen["stopping"] is True and seen["draining"] is False
    shown = run("status", "--internal-addr", worker.internal_port)
    assert shown.returncode == 1 and shown.stdout.startswith("not ready: stopping")
    exchange.last_chunk()
    assert response.read_all().complete
    worker.expect_exit(0)
