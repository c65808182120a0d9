# SPDX-License-Identifier: MIT
"""Everything at once, at random: requests of each kind, sessions, clients that leave at any moment,
reloads with good and bad scripts, a model server that dies, errs and comes back, markers in its log.
Then all comes to rest, and every sum must agree: the counters, /status, and what the autoscaler was
told. LW_SEED repeats a run, LW_CHAOS_SECONDS makes it longer."""

import json
import os
import random
import signal
import threading
import time

import pytest

from harness.client import Client
from harness.message import auth_data, envelope, request
from harness.model import FakeModel
from harness.ports import reserve_port
from harness.timing import SLOW, wait_until
from harness.worker import LEFT, backend, expect_sums

SECONDS = float(os.environ.get("LW_CHAOS_SECONDS", "5"))
CLIENTS = 12
SEED = int(os.environ.get("LW_SEED", "0")) or random.randrange(1, 1 << 32)

ROUTES = """
    worker.post("/generate", { allow_parallel_requests = true, max_queue_time = 50%(benchmark)s }),
    worker.post("/serial", { max_queue_time = 0.2 }),
    worker.post("/drained", { on_disconnect = "drain", allow_parallel_requests = true, total = 1 }),
    worker.post("/drained_serial", { on_disconnect = "drain", total = 1 }),
    worker.post("/parsed", { allow_parallel_requests = true,
      count_workload = function(payload) return #payload.prompt end,
      request_parser = function(payload)
        if payload.prompt == "bad" then return worker.invalid { prompt = "is bad" } end
        worker.sleep(0.01)
        return payload
      end }),
    worker.post("/read", { generate_client_response = function(_, answer)
        local body = answer:body()
        if body and #body %% 7 == 0 then error("seven") end
        return worker.json { body = body }
      end }),
    worker.post("/read_drained", { on_disconnect = "drain", total = 1,
      generate_client_response = function(_, answer) return worker.json { body = answer:body() } end }),
    worker.post("/remote", { allow_parallel_requests = true, remote = function(payload)
        worker.sleep(0.02)
        local answer = worker.model.get("/health")
        return { status = answer and answer.status }
      end }),
    worker.post("/bare", { envelope = false, allow_parallel_requests = true }),
    worker.get("/ping", function() return "pong" end),
    worker.get("/stream", function()
      local stream = worker.stream()
      for i = 1, 20 do
        stream:write(("x"):rep(100))
        worker.sleep(0.002)
      end
    end),
    worker.get("/health", worker.forward()),
"""
WORK = [
    "/generate",
    "/serial",
    "/drained",
    "/drained_serial",
    "/parsed",
    "/read",
    "/read_drained",
    "/remote",
    "/bare",
]
BROKEN = ["return 1", "return {", "error('no')", backend('worker.post("x", 1)')]


def script(dice, log):
    """A version of the script: another benchmark, start(), health URL or list of markers."""
    benchmark = dice.choice(
        [
            "",
            ", benchmark = { max_perf = %d }" % dice.randrange(100, 9999),
            ", benchmark = { runs = 2, concurrency = 2, warmup = false, generator = function() "
            "return { prompt = 'b' } end }",
        ]
    )
    more = [
        'log_actions = { model_loaded = "up", model_error = "broken", info = "info" },',
        "max_sessions = %d," % dice.randrange(2, 20),
        f'model_log_file = "{log}",',
    ]
    more.append(dice.choice(["", 'model_healthcheck_url = "/health",']))
    more.append(
        dice.choice(
            [
                "",
                "start = function() worker.sleep(0.05) end,",
                "start = function() " "return worker.model.get '/health' end,",
            ]
        )
    )
    return backend(
        ROUTES % {"benchmark": benchmark}, more=" ".join(more) + f" -- {dice.random()}\n"
    )


class Model:
    """Stops and starts at the same port; answers in every way."""

    def __init__(self, dice):
        self.dice = dice
        self.server = FakeModel(reserve_port())
        self.url, self.port = self.server.url, self.server.port
        self._offer()

    def _offer(self):
        for path in [*WORK, "/health", "/close", "/"]:
            self.server.on(path, self.behave)

    def behave(self, exchange):
        exchange.read_body()
        how = self.dice.random()
        if how < 0.5:
            exchange.answer_json({"n": "x" * self.dice.randrange(40)})
        elif how < 0.7:
            exchange.stream_head()
            for _ in range(self.dice.randrange(20)):
                exchange.chunk(b"data: piece\n\n")
                time.sleep(self.dice.random() * 0.01)
            exchange.last_chunk()
        elif how < 0.8:
            time.sleep(self.dice.random() * 0.1)
            exchange.answer_json({"late": True})
        elif how < 0.87:
            exchange.answer_json({"error": "no"}, self.dice.choice([400, 429, 500, 503]))
        elif how < 0.92:
            exchange.stream_head().chunk(b"half")
            exchange.reset()
        elif how < 0.96:
            exchange.reset()
        else:
            deadline = time.monotonic() + 0.5 + self.dice.random()
            exchange.stream_head()
            while time.monotonic() < deadline:
                exchange.chunk(b"data: on and on\n\n")
                time.sleep(0.02)
            exchange.last_chunk()

    def die(self):
        self.server.stop()

    def come_back(self):
        self.server = FakeModel(self.port)
        self._offer()


class Chaos:
    def __init__(self, worker, model, log, seed):
        self.worker, self.model, self.log = worker, model, log
        self.seed = seed
        self.until = time.monotonic() + SECONDS * SLOW
        self.failures = []
        self.statuses = {}
        self.sessions = []  # all that were ever opened
        self.ending = False  # the worker was told to end: nobody need be answered any more
        self.reqnum = 0
        self.lock = threading.Lock()

    def next_auth(self, dice):
        with self.lock:
            self.reqnum += 1
            n = self.reqnum
        cost = dice.choice([1, "2.5", 40, -1, 1e300, None, [], "x", 0.1])
        return auth_data(reqnum=n, request_idx=n, cost=cost if cost is not None else "")

    def note(self, response):
        with self.lock:
            self.statuses[response.status] = self.statuses.get(response.status, 0) + 1

    def perhaps_leave(self, dice, client):
        """True: the client is gone."""
        if dice.random() > 0.25:
            return False
        time.sleep(dice.random() * 0.05)
        dice.choice([client.reset, client.close])()
        return True

    def one(self, dice, session):
        client = Client(self.worker.port)
        try:
            kind = dice.random()
            if kind < 0.15:
                message, method = (
                    request("GET", dice.choice(["/ping", "/stream", "/health"])),
                    "GET",
                )
            else:
                target = dice.choice(WORK)
                payload = {"prompt": dice.choice(["bad", "good", "x" * dice.randrange(3000)])}
                more = {"session_id": session["session_id"]} if session and kind < 0.6 else {}
                body = envelope(payload, self.next_auth(dice), **more)
                if target == "/bare":
                    body = json.dumps(payload).encode()
                message, method = request("POST", target, body), "POST"
            if dice.random() < 0.05:
                message = message[: dice.randrange(len(message))]
                client.try_send(message)
                client.reset()
                return
            client.try_send(message)
            if self.perhaps_leave(dice, client):
                return
            response = client.open_response(method)
            if self.perhaps_leave(dice, client):
                return
            self.note(response.read_all())
        finally:
            client.close()

    def about(self, dice, what, session, may_leave=True):
        body = {"session_id": session["session_id"], "session_auth": session["auth"]}
        port = self.worker.internal_port if what == "end" and dice.random() < 0.3 else None
        client = Client(port or self.worker.port)
        try:
            client.send(request("POST", f"/session/{what}", json.dumps(body).encode()))
            if not may_leave or not self.perhaps_leave(dice, client):
                self.note(client.read_response())
        finally:
            client.close()

    def open_session(self, dice):
        auth = self.next_auth(dice)
        terms = {"lifetime": dice.choice([0.1, 1, 3])}
        if dice.random() < 0.5:
            terms.update(on_close_route="/close", on_close_payload={"a": 1})
        client = Client(self.worker.port)
        try:
            client.send(request("POST", "/session/create", envelope(terms, auth)))
            response = client.read_response()
            self.note(response)
            if response.status != 201:
                return None
            self.sessions.append({**response.json(), "auth": auth})
            return self.sessions[-1]
        finally:
            client.close()

    def client(self, number):
        dice = random.Random(self.seed * 1000 + number)
        session = None
        try:
            while time.monotonic() < self.until:
                if session is None and dice.random() < 0.2:
                    session = self.open_session(dice)
                elif session and dice.random() < 0.15:
                    self.about(dice, dice.choice(["get", "health", "end"]), session)
                    session = session if dice.random() < 0.5 else None
                else:
                    self.one(dice, session)
        except (AssertionError, OSError) as error:  # told by the main thread
            if not self.ending:
                self.failures.append(repr(error))

    def disturb(self, dice):
        """One thing that the world does to a worker."""
        what = dice.random()
        if what < 0.5:
            text = dice.choice(BROKEN) if dice.random() < 0.3 else script(dice, self.log)
            self.worker.write_script(text)
            self.worker.signal(signal.SIGHUP)
        elif what < 0.75:
            with open(self.log, "a", encoding="utf-8") as log:
                log.write(dice.choice(["up\n", "up\n", "broken\n", "info x\n", "par", "\0\n"]))
        elif what < 0.8:
            self.log.write_text("up\n")
        elif what < 0.9:
            self.model.die()
            time.sleep(dice.random() * 0.2)
            self.model.come_back()
        else:
            self.worker.ask_internal("GET", dice.choice(["/status", "/metrics", "/readyz"]))
            self.worker.signal(signal.SIGUSR1)

    def run(self):
        """Until the time is over, or the worker shall end."""
        dice = random.Random(self.seed)
        threads = [threading.Thread(target=self.client, args=(i,)) for i in range(CLIENTS)]
        for thread in threads:
            thread.start()
        while time.monotonic() < self.until:
            time.sleep(dice.random() * 0.15 * SLOW)
            self.disturb(dice)
        return threads

    def join(self, threads):
        for thread in threads:
            thread.join()
        assert not self.failures, self.failures
        print(self.statuses)

    def end_sessions(self):
        dice = random.Random(self.seed)
        for session in self.sessions:
            self.about(dice, "end", session, may_leave=False)


def get_status(worker):
    return json.loads(worker.ask_internal("GET", "/status").body)


def expect_told(status, autoscaler):
    """What the autoscaler heard, in sum, is what the worker counted."""
    last = autoscaler.reports[-1]
    assert (last["cur_load"], last["num_requests_working"]) == (0, 0), last
    assert last["working_request_idxs"] == [], last
    told = {name: sum(r[name] for r in autoscaler.reports) for name in ("cur_perf", "rej_load")}
    totals = status["totals"]

    def close(a, b):
        return abs(a - b) <= 1e-6 * max(1, abs(a), abs(b))

    assert close(told["cur_perf"], totals["success"]["workload"]), (told, totals)
    assert close(told["rej_load"], totals["rejected"]["workload"]), (told, totals)
    whole = sum(totals[o]["workload"] for o in ("success", "error", "cancelled", "rejected"))
    assert close(totals["received"]["workload"], whole), totals
    numbers = [e["request_idx"] for e in autoscaler.ended]
    assert len(numbers) == len(set(numbers)), "a request's end was told twice"
    for entry in autoscaler.ended:
        assert entry["success"] == (entry["status"] in ("Success", "Cancelled")), entry


@pytest.fixture
def chaos(start, autoscaler, tmp_path):
    print(f"LW_SEED={SEED}")
    dice = random.Random(SEED)
    log = tmp_path / "model.log"
    log.write_text("up\n")
    model = Model(random.Random(SEED + 1))
    worker = start(
        script(dice, log),
        model=model.url,
        options=["--stall-timeout", 1, "--header-timeout", 2, "--shutdown-timeout", 1],
        environment={"REPORT_ADDR": autoscaler.url, "LUAWORKER_TEST_PACE": "20"},
        log_level="debug",
    )
    yield Chaos(worker, model, log, SEED)
    model.die()


def test_all_sums_agree_at_the_end(chaos, autoscaler):
    worker = chaos.worker
    chaos.join(chaos.run())
    chaos.end_sessions()
    wait_until(lambda: get_status(worker)["in_flight"] == 0, "all to end", 30 * SLOW)
    chaos.log.write_text("up\n")
    worker.write_script(script(random.Random(SEED), chaos.log))
    worker.signal(signal.SIGHUP)
    seen = worker.wait_counters("rest", 30 * SLOW, generations=1, **{name: 0 for name in LEFT})
    expect_sums(seen)
    status = get_status(worker)
    assert status["in_flight"] == status["sessions"] == status["workload"] == 0, status
    worker.finish()
    expect_told(status, autoscaler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_end_may_come_at_any_moment(chaos, autoscaler, number):
    """With a reload in the same turn, and half of the time a second signal."""
    worker = chaos.worker
    chaos.until = time.monotonic() + random.Random(SEED + number).random() * 2
    threads = chaos.run()
    chaos.until = time.monotonic() + 1
    chaos.ending = True
    worker.signal(signal.SIGHUP)
    worker.signal(number)
    if SEED & number:
        time.sleep(0.1)
        worker.signal(number)
    worker.expect_exit(0)
    chaos.join(threads)
    expect_sums(worker.log.find("counters")[-1])
    assert worker.log.find("counters")[-1]["in_flight"] == 0
    numbers = [e["request_idx"] for e in autoscaler.ended]
    assert len(numbers) == len(set(numbers)), "a request's end was told twice"
