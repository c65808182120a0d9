# SPDX-License-Identifier: MIT
"""Sessions from a client's side and the model server's: opened, used, kept alive, ended by their
client, by time and with the worker; what each of these does to requests that run in them."""

import json
import re
import signal
import threading
import time

import pytest

from harness.client import Client
from harness.message import AUTH, auth_data, envelope, request
from harness.model import FakeModel, answers, echo, refused_url
from harness.timing import PATIENCE, SLOW, settle, wait_until
from harness.worker import PLAIN, backend, is_sanitized, run

URL = "http://127.0.0.1:40001"


def create(worker, auth=None, **payload):
    """Opens a session and returns what the worker said of it."""
    response = worker.post("/session/create", payload, auth=auth)
    assert response.status == 201, response.body
    return response.json()


def about(worker, what, session, auth=None):
    body = {"session_id": session["session_id"], "session_auth": AUTH if auth is None else auth}
    return worker.ask("POST", f"/session/{what}", json.dumps(body).encode())


def end(worker, session, auth=None):
    response = about(worker, "end", session, auth)
    assert response.status == 200, response.body
    assert response.json() == {"ended": True, "removed_session": session["session_id"]}


def in_session(worker, session, target="/generate", **more):
    """Sends a request of the session and returns the client without reading."""
    return worker.start(target, session_id=session["session_id"], **more)


# -- one life --


def test_from_create_to_end(worker, model):
    model.on("/generate", echo)
    before = time.time()
    session = create(worker, lifetime=60.0, on_close_payload={"a": [1.0]})
    assert set(session) == {"session_id", "expiration"}
    assert re.fullmatch("[0-9A-Za-z]{13}", session["session_id"])
    assert before + 59 < session["expiration"] < time.time() + 61
    assert about(worker, "health", session).json() == {"ok": True}
    seen = about(worker, "get", session).json()
    assert seen == {
        "session_id": session["session_id"],
        "auth_data": AUTH,
        "lifetime": 60.0,
        "expiration": session["expiration"],
        "created_at": pytest.approx(session["expiration"] - 60, abs=0.01),
        "on_close_route": None,
        "on_close_payload": {"a": [1.0]},
    }
    answer = worker.post("/generate", {"x": 1}, session_id=session["session_id"])
    assert answer.json() == {"x": 1}
    assert worker.counters()["in_flight"] == 1
    end(worker, session)
    assert about(worker, "health", session).json() == {"ok": False}
    assert about(worker, "get", session).status == 400
    assert about(worker, "end", session).status == 400
    assert worker.wait_counters(in_flight=0, success=2)["received"] == 2


def test_an_end_on_the_internal_port(worker, model):
    """Where the model server ends them: the same answers, and none of the other routes."""
    held = model.hold("/close")
    session = create(worker, on_close_route="/close")
    body = json.dumps({"session_id": session["session_id"], "session_auth": AUTH}).encode()

    def ask(what):
        client = Client(worker.internal_port)
        worker.clients.append(client)
        return client.send(request("POST", f"/session/{what}", body))

    assert ask("get").read_response().status == 404
    client = ask("end")
    exchange = held.next()
    assert ask("end").read_response().status == 410
    exchange.answer(200, b"{}")
    assert client.read_response().json()["removed_session"] == session["session_id"]
    assert ask("end").read_response().status == 400
    other = create(worker, on_close_route="/close")
    body = body.replace(session["session_id"].encode(), other["session_id"].encode())
    client = ask("end")
    held.next()
    worker.signal(signal.SIGTERM)  # who waits is answered, not waited for
    assert client.read_response().status == 200
    worker.expect_exit(0)


def test_requests_keep_it_alive(worker, model):
    model.on("/generate", echo)
    session = create(worker, lifetime=30)
    for i in range(1, 4):
        assert worker.post("/generate", {}, session_id=session["session_id"]).status == 200
        expiration = about(worker, "get", session).json()["expiration"]
        assert expiration == pytest.approx(session["expiration"] + 30 * i, abs=0.001)
    end(worker, session)


def test_a_request_keeps_it_past_the_look(worker, model):
    """Two seconds and one more by each of six requests: there after the look at five seconds."""
    model.on("/generate", echo)
    short, kept = create(worker, lifetime=1.5), create(worker, lifetime=1.5)
    for _ in range(20):
        assert worker.post("/generate", {}, session_id=kept["session_id"]).status == 200
    wait_until(
        lambda: not about(worker, "health", short).json()["ok"], "the other's end", 15 * SLOW
    )
    assert about(worker, "health", kept).json()["ok"]
    end(worker, kept)


def test_a_script_sees_it(start, model):
    model.on("/generate", echo)
    worker = start(
        backend(
            """worker.post("/generate", { generate_client_response = function(request, answer)
              return worker.json { session = request.session or "none" }
            end })"""
        )
    )
    session = create(worker)
    seen = worker.post("/generate", {}, session_id=session["session_id"]).json()
    assert seen == {"session": session["session_id"]}
    assert worker.post("/generate", {}).json() == {"session": "none"}
    end(worker, session)


# -- on_close --


@pytest.mark.parametrize(
    "payload,wanted",
    [
        (None, {}),
        ({"a": {"b": 1.5}}, {"a": {"b": 1.5}}),
        ([1, 2], {"payload": [1, 2]}),
        ("text", {"payload": "text"}),
        (0, {"payload": 0}),
    ],
)
def test_on_close_tells_the_model_server(worker, model, payload, wanted):
    held = model.hold("/close")
    session = create(worker, on_close_route="/close?x=1", on_close_payload=payload)
    client = worker.connect().send(
        request(
            "POST",
            "/session/end",
            json.dumps({"session_id": session["session_id"], "session_auth": AUTH}).encode(),
        )
    )
    exchange = held.next()
    assert (exchange.method, exchange.target) == ("POST", "/close?x=1")
    assert exchange.headers.get("Content-Type") == "application/json"
    assert exchange.json() == {**wanted, "session_id": session["session_id"]}
    client.expect_silence()  # the answer waits
    again = about(worker, "end", session)
    assert (again.status, again.json()) == (410, {"error": "session already closed"})
    late = worker.post("/generate", {}, session_id=session["session_id"])
    assert (late.status, late.json()) == (410, {"error": "invalid session"})
    exchange.answer(200, b"{}")
    assert client.read_response().json()["ended"] is True
    held.expect_none()
    assert about(worker, "end", session).status == 400


@pytest.mark.parametrize("how", ["status", "reset", "absent", "nothing"])
def test_on_close_may_fail(start, model, how):
    def break_off(exchange):
        exchange.read_body()
        exchange.reset()

    if how == "status":
        model.on("/close", answers(b"no", status=500))
    elif how == "reset":
        model.on("/close", break_off)
    worker = start(model=refused_url()) if how == "nothing" else start()
    session = create(worker, on_close_route="/close")
    end(worker, session)
    lines = wait_until(
        lambda: worker.log.find("an on_close_route failed", level="warn"), "a line in the log"
    )
    assert lines[0]["error"].startswith(f"session {session['session_id']}, /close: "), lines


def test_the_ender_leaves_and_the_model_is_told(worker, model):
    held = model.hold("/close")
    session = create(worker, on_close_route="/close")
    body = json.dumps({"session_id": session["session_id"], "session_auth": AUTH}).encode()
    client = worker.connect().send(request("POST", "/session/end", body))
    exchange = held.next()
    client.reset()
    worker.wait_counters(requests=0)
    exchange.expect_alive()
    exchange.answer(200, b"{}")
    worker.wait_counters(upstreams=0)
    assert about(worker, "end", session).status == 400


# -- by time --


def test_expiry_drops_what_runs(worker, model):
    """A stream is cut, an unanswered request gets 410, the model stops, and it is told."""
    held, closes = model.hold("/generate"), model.hold("/close")
    session = create(worker, lifetime=0.1, on_close_route="/close", on_close_payload={"k": "v"})
    streaming = in_session(worker, session)
    stream = held.next()
    silent = in_session(worker, session)
    waiting = held.next()
    stream.stream_head().chunk(b"data: one\n\n")
    response = streaming.open_response()
    response.read_until(b"one\n\n")
    outside = worker.start()
    unhurt = held.next()
    exchange = closes.next(15 * SLOW)
    assert exchange.json() == {"k": "v", "session_id": session["session_id"]}
    exchange.answer(200, b"{}")
    response.read_all()
    assert response.broken and not response.complete
    answer = silent.read_response()
    assert (answer.status, answer.json()) == (410, {"error": "the session was closed"})
    stream.expect_dropped()
    waiting.expect_dropped()
    assert worker.post("/generate", {}, session_id=session["session_id"]).status == 410
    unhurt.answer(200, b"{}")
    assert outside.read_response().status == 200
    seen = worker.wait_counters(in_flight=0)
    assert (seen["success"], seen["cancelled"], seen["error"]) == (2, 2, 0)


def test_an_end_drops_what_waits(worker, model):
    held = model.hold("/serial")
    session = create(worker)
    first = in_session(worker, session, "/serial")
    running = held.next()
    second = in_session(worker, session, "/serial")
    worker.wait_counters(queued=1)
    third = worker.start("/serial")
    worker.wait_counters(queued=2)
    end(worker, session)
    assert [c.read_response().status for c in (first, second)] == [410, 410]
    running.expect_dropped()
    held.next().answer(200, b"third")
    assert third.read_response().body == b"third"
    assert worker.wait_counters(in_flight=0)["cancelled"] == 2


HOOKED = backend(
    """
    worker.post("/reading", { generate_client_response = function(_, answer)
      return worker.json(answer:json())
    end }),
    worker.post("/stubborn", { generate_client_response = function(_, answer)
      for _ = 1, 3 do pcall(answer.body, answer) end
      pcall(worker.sleep, 0.01)
      return worker.json { done = true }
    end }),
    worker.post("/asleep", { request_parser = function(payload)
      worker.sleep(3600)
      return payload
    end }),
"""
)


@pytest.mark.parametrize("target", ["/reading", "/stubborn", "/asleep"])
def test_an_end_drops_scripts(start, model, target):
    worker = start(HOOKED)
    held = model.hold(target)
    session = create(worker)
    client = in_session(worker, session, target)
    exchange = None if target == "/asleep" else held.next()
    worker.wait_counters(tasks=1)
    end(worker, session)
    assert client.read_response().status == 410
    worker.wait_counters(tasks=0, requests=0, upstreams=0)
    if exchange:
        exchange.expect_dropped()


# -- clients that leave --


def test_a_client_that_leaves_leaves_the_session(worker, model):
    held = model.hold("/generate")
    session = create(worker)
    for leave in ("close", "reset"):
        client = in_session(worker, session)
        exchange = held.next()
        getattr(client, leave)()
        exchange.expect_dropped()
    worker.wait_counters(requests=0, in_flight=1)
    assert about(worker, "health", session).json() == {"ok": True}
    end(worker, session)
    assert worker.wait_counters(in_flight=0)["cancelled"] == 2


def test_leaving_at_every_byte_of_a_create(worker):
    body = request("POST", "/session/create", envelope({"lifetime": 0.05}))
    for size in range(0, len(body), 7):
        worker.connect().send(body[:size]).reset()
    assert worker.wait_counters(connections=0)["received"] == 0
    whole = worker.connect().send(body)
    whole.reset()  # it may have been opened: time closes it
    worker.wait_counters(timeout=15 * SLOW, in_flight=0, connections=0)


def test_two_ends_at_once(worker, model):
    """One of many ends it; the others are told so, each in one of the ways."""
    model.on("/close", answers(b"{}"))
    for _ in range(10):
        session = create(worker, on_close_route="/close")
        found = []
        threads = [
            threading.Thread(target=lambda: found.append(about(worker, "end", session).status))
            for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found.count(200) == 1 and set(found) <= {200, 400, 410}, found
    assert len(model.seen("/close")) == 10


# -- limits --


def limited(count):
    return backend('worker.post("/generate", {}),', more=f"max_sessions = {count},")


def test_max_sessions(start):
    worker = start(limited(2))
    sessions = [create(worker), create(worker)]
    response = worker.post("/session/create", {})
    assert response.status == 429 and "error" in response.json()
    assert int(response.headers.get("Retry-After")) > 0
    end(worker, sessions.pop())
    sessions.append(create(worker))
    assert worker.post("/session/create", {}).status == 429
    assert worker.counters()["rejected"] == 2
    for session in sessions:
        end(worker, session)


def test_ten_sessions_without_a_setting(worker):
    sessions = [create(worker) for _ in range(10)]
    assert worker.post("/session/create", {}).status == 429
    for session in sessions:
        end(worker, session)


def test_a_thousand_sessions_leave_nothing(start, model):
    worker = start(limited(0))
    client = worker.connect()

    def ask(target, body):
        return client.send(request("POST", target, body)).read_response()

    def cycle(count):
        opened = []
        for i in range(count):
            payload = {"lifetime": 600, "on_close_payload": {"n": i, "text": "x" * 1000}}
            opened.append(ask("/session/create", envelope(payload)).json()["session_id"])
        assert worker.counters()["in_flight"] == count
        for name in opened:
            body = json.dumps({"session_id": name, "session_auth": AUTH}).encode()
            assert ask("/session/end", body).status == 200

    cycle(1000)
    before = worker.memory_kb()
    for _ in range(3):
        cycle(1000)
    assert worker.wait_counters(in_flight=0)["success"] == 4000
    if is_sanitized():
        print("memory is not looked at: a sanitizer build keeps what was freed")
    else:
        assert worker.memory_kb() - before < 1500
    assert not model.seen()


def test_many_expire_at_once_and_few_calls_are_made(start, model):
    """300 sessions end in one look; the model server never sees more than 32 calls at a time."""
    state = {"now": 0, "most": 0, "ids": []}
    lock = threading.Lock()

    def close(exchange):
        with lock:
            state["now"] += 1
            state["most"] = max(state["most"], state["now"])
        state["ids"].append(json.loads(exchange.read_body())["session_id"])
        time.sleep(0.01)
        with lock:
            state["now"] -= 1
        exchange.answer(200, b"{}")

    model.on("/close", close)
    worker = start(limited(0))
    ids = [create(worker, lifetime=0.01, on_close_route="/close")["session_id"] for _ in range(300)]
    wait_until(lambda: len(state["ids"]) == 300, "300 calls", 60 * SLOW)
    assert sorted(state["ids"]) == sorted(ids)
    assert 1 < state["most"] <= 32
    worker.wait_counters(in_flight=0, upstreams=0)


@pytest.mark.parametrize(
    "payload,field",
    [
        ({"lifetime": 0}, "lifetime"),
        ({"lifetime": "60"}, "lifetime"),
        ({"lifetime": 2592001}, "lifetime"),
        ({"on_close_route": "http://169.254.169.254/"}, "on_close_route"),
        ({"on_close_route": "close"}, "on_close_route"),
        ({"on_close_route": 5}, "on_close_route"),
        ({"on_close_payload": "x" * 70000}, "on_close_payload"),
    ],
)
def test_a_payload_that_is_refused(worker, payload, field):
    response = worker.post("/session/create", payload)
    assert response.status == 422 and list(response.json()["payload"]) == [field]
    assert worker.counters()["received"] == 0


# -- signatures --


def test_signatures(start, model, signer):
    model.on("/generate", echo)
    worker = start(options=["--public-key", signer.public_file], unsecured=False)
    good = auth_data(url=URL, signature=signer.sign_url(URL))
    response = worker.post("/session/create", {"lifetime": 0}, auth=auth_data(url=URL))
    assert (response.status, response.json()) == (401, {"error": "invalid signature"})
    assert worker.counters()["rejected"] == 1
    session = create(worker, auth=good)
    assert about(worker, "get", session, good).json()["auth_data"] == good
    for what in ("get", "health", "end"):
        assert about(worker, what, session, AUTH).status == 401
    named = {"session_id": session["session_id"]}
    assert worker.post("/generate", {}, auth=AUTH, **named).status == 401
    assert worker.post("/generate", {}, auth=good, **named).status == 200
    assert worker.post("/generate", {}, auth=good, session_id="0123456789abc").status == 410
    end(worker, session, json.loads(json.dumps(dict(reversed(list(good.items()))))))


# -- what the autoscaler is told --


class Autoscaler:
    def __init__(self):
        self.server = FakeModel()
        self.reports, self.deleted = [], []
        self.server.on("/worker_status/", self.take_report)
        self.server.on("/delete_requests/", self.take_deleted)

    def take_report(self, exchange):
        self.reports.append(json.loads(exchange.read_body()))
        exchange.answer(200, b"{}")

    def take_deleted(self, exchange):
        self.deleted += json.loads(exchange.read_body())["requests"]
        exchange.answer(200, b"{}")

    def wait_report(self, what, fits):
        since = len(self.reports)
        return wait_until(
            lambda: next((r for r in self.reports[since:] if fits(r)), None), what, 20 * SLOW
        )

    def wait_deleted(self, *idxs):
        wait_until(
            lambda: {r["request_idx"] for r in self.deleted} >= set(idxs), f"{idxs} told", 20 * SLOW
        )
        return [(r["request_idx"], r["status"], r["success"]) for r in self.deleted]


@pytest.fixture
def autoscaler():
    told = Autoscaler()
    yield told
    told.server.stop()


def test_what_the_autoscaler_is_told(start, model, autoscaler):
    held = model.hold("/generate")
    worker = start(limited(1), environment={"REPORT_ADDR": autoscaler.server.url})
    session = create(worker, auth=auth_data(cost=40, reqnum=1, request_idx=11))
    seen = autoscaler.wait_report("the session", lambda r: r["num_requests_working"] == 1)
    assert (seen["cur_load"], seen["working_request_idxs"]) == (40, [11])
    inside = in_session(worker, session, auth=auth_data(reqnum=2, request_idx=12))
    exchange = held.next()
    seen = autoscaler.wait_report("its request's load", lambda r: r["cur_load"] == 140)
    assert (seen["num_requests_working"], seen["working_request_idxs"]) == (1, [11])
    assert seen["num_requests_recieved"] == 1
    refused = worker.post("/session/create", {}, auth=auth_data(request_idx=13))
    assert refused.status == 429
    assert autoscaler.wait_deleted(13) == [(13, "Rejected", False)]
    exchange.answer(200, b"{}")
    assert inside.read_response().status == 200
    end(worker, session, auth_data(cost=40, reqnum=1, request_idx=11))
    assert autoscaler.wait_deleted(11)[1:] == [(11, "Success", True)]
    told = next(r for r in autoscaler.deleted if r["request_idx"] == 11)
    assert 0 < told["entered_queue_at"] <= told["work_started_at"] <= told["work_completed_at"]
    seen = autoscaler.wait_report("its end", lambda r: r["num_requests_working"] == 0)
    assert (seen["cur_load"], seen["working_request_idxs"]) == (0, [])


def test_sessions_delay_nobody(start, model):
    """A session of a huge cost does not make the estimate refuse a request."""
    model.on("/generate", echo)
    worker = start(
        backend(
            """worker.post("/generate", { allow_parallel_requests = true, max_queue_time = 1,
              benchmark = { generator = function() return {} end, max_perf = 10 } }),"""
        )
    )
    session = create(worker, auth=auth_data(cost=1000000))
    assert worker.post("/generate", {}).status == 200
    end(worker, session, auth_data(cost=1000000))


# -- reload and the end of the worker --


def test_a_reload_keeps_them(start, model):
    model.on("/close", answers(b"{}"))
    held = model.hold("/generate")
    worker = start(limited(2))
    sessions = [create(worker, on_close_route="/close"), create(worker)]
    client = in_session(worker, sessions[0])
    exchange = held.next()
    worker.write_script(limited(1))
    worker.signal(signal.SIGHUP)
    wait_until(lambda: "generation 2" in worker.log.text(), "the reload")
    assert [about(worker, "health", s).json()["ok"] for s in sessions] == [True, True]
    exchange.answer(200, b"still here")
    assert client.read_response().body == b"still here"
    again = in_session(worker, sessions[0])
    held.next().answer(200, b"{}")
    assert again.read_response().status == 200
    end(worker, sessions[0])
    assert len(model.seen("/close")) == 1
    assert worker.post("/session/create", {}).status == 429  # the new limit
    end(worker, sessions[1])
    end(worker, create(worker))


def test_sigterm_does_not_wait_for_them(start, model, autoscaler):
    worker = start(limited(0), environment={"REPORT_ADDR": autoscaler.server.url})
    for idx in (21, 22, 23):
        create(worker, auth=auth_data(request_idx=idx), lifetime=3600, on_close_route="/close")
    worker.signal(signal.SIGTERM)
    worker.expect_exit(0, timeout=PATIENCE)
    told = {(r["request_idx"], r["status"]) for r in autoscaler.deleted}
    assert told == {(21, "Success"), (22, "Success"), (23, "Success")}
    assert not model.seen()
    seen = worker.log.find("counters")[-1]
    assert (seen["in_flight"], seen["received"], seen["success"]) == (0, 3, 3)


def test_sigterm_lets_its_requests_end(start, model):
    held = model.hold("/generate")
    worker = start()
    client = in_session(worker, create(worker, lifetime=3600))
    exchange = held.next()
    worker.signal(signal.SIGTERM)
    exchange.expect_alive()
    exchange.answer(200, b"done")
    assert client.read_response().body == b"done"
    worker.expect_exit(0)


def test_scripts_may_not_take_their_paths(tmp_path):
    script = tmp_path / "w.lua"
    script.write_text(backend('worker.post("/session/create", {}), worker.post("/a", {})'))
    ended = run("serve", script, "--host", "127.0.0.1", "--port", "0")
    assert ended.returncode > 0
    assert "routes[1].path: the worker itself answers at /session/create" in ended.stderr


def test_the_log_keeps_their_credentials(worker, model):
    model.on("/close", answers(b"{}"))
    session = create(worker, on_close_route="/close", on_close_payload={"secret": "payload-marker"})
    end(worker, session)
    settle(lambda: len(worker.log.lines))
    for secret in ("payload-marker", AUTH["signature"]):
        assert secret not in worker.log.text()
