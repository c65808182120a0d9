# SPDX-License-Identifier: MIT
"""The cloud's own worker and ours side by side: the same requests and the same faults, answers and
every posted report compared field by field. What differs is listed in KNOWN with its reason, and in
docs/compatibility.md; a difference that is not listed fails, and so does one that is listed and gone."""

import http.server
import json
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from harness.client import Client
from harness.message import AUTH, request
from harness.ports import reserve_ports
from harness.timing import PATIENCE, wait_until
from harness.worker import BINARY, backend, clean_environment

HERE = pathlib.Path(__file__).parent
START_PATIENCE = PATIENCE * 6  # the other one imports for seconds, and looks every 10 s

SCRIPT = backend(
    """
    worker.post("/generate", {
      allow_parallel_requests = true,
      max_queue_time = 30,
      benchmark = {
        runs = 1, concurrency = 2, warmup = false,
        generator = function() return { n = 100, benchmark = true } end,
      },
    }),
    worker.post("/serial", { allow_parallel_requests = false, max_queue_time = 30 }),
    worker.post("/busy", { allow_parallel_requests = true, max_queue_time = 0 }),
""",
    more="""
  count_workload = function(payload) return payload.n or 10 end,
  model_healthcheck_url = "/health",
  max_sessions = 1,
  log_actions = { model_loaded = "model is up", model_error = "model is broken" },
""",
)


class Autoscaler:
    """Serves a key and keeps what is posted."""

    def __init__(self, public_pem):
        self.status = []  # bodies of worker_status
        self.ended = []  # of delete_requests, one entry per request
        self.raw = []  # (path, content type, body) of all
        autoscaler = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def reply(self, body, content_type):
                self.send_response(200)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                self.reply(public_pem, "text/plain")

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                autoscaler.raw.append((self.path, self.headers["Content-Type"], body))
                if self.path == "/worker_status/":
                    autoscaler.status.append(body)
                elif self.path == "/delete_requests/":
                    autoscaler.ended += body["requests"]
                self.reply(b"{}", "application/json")

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Peer:
    """One of the two workers, with an autoscaler and a log file of its own."""

    def __init__(self, name, directory, model, signer, port=None, program=None):
        """program: a file to run instead of the one with this module's routes."""
        self.name = name
        self.directory = directory
        directory.mkdir()
        self.autoscaler = Autoscaler(signer.public_pem)
        self.model_log = directory / "model.log"
        self.model_log.write_text("starting\n")
        self.port = port or reserve_ports(2)  # the client's and the internal one
        self.signer = signer
        self.url = f"http://10.1.2.3:{self.port + 1000}"
        environment = clean_environment(
            WORKER_PORT=str(self.port),
            REPORT_ADDR=self.autoscaler.url,
            CONTAINER_ID="4711",
            MASTER_TOKEN="secret-token",
            PUBLIC_IPADDR="10.1.2.3",
            MODEL_SERVER_URL=model.url,
            MODEL_LOG=str(self.model_log),
            **{f"VAST_TCP_PORT_{self.port}": str(self.port + 1000)},
        )
        if name == "reference":
            command = [sys.executable, str(program or HERE / "reference_worker.py")]
        else:
            if not program:
                program = directory / "worker.lua"
                program.write_text(SCRIPT)
            command = [str(BINARY), "serve", str(program), "--host", "127.0.0.1"]
            command += ["--model-url", model.url]
        with open(directory / "output", "wb") as output:
            self.process = subprocess.Popen(
                command, cwd=directory, env=environment, stdout=output, stderr=output
            )

    # -- reports --
    def last(self):
        return self.autoscaler.status[-1] if self.autoscaler.status else {}

    def wait_report(self, what, condition):
        """The first report since now that fulfils the condition."""
        begun = len(self.autoscaler.status)

        def found():
            assert self.process.poll() is None, self.output()
            return next((r for r in self.autoscaler.status[begun:] if condition(r)), None)

        return wait_until(found, f"{self.name}: {what}; last {self.last()}", START_PATIENCE)

    def wait_ended(self, request_idx):
        def found():
            return next((e for e in self.autoscaler.ended if e["request_idx"] == request_idx), None)

        return wait_until(found, f"{self.name}: request {request_idx} told", START_PATIENCE)

    def output(self):
        return (self.directory / "output").read_text()[-4000:]

    # -- requests --
    def auth(self, **changes):
        data = {**AUTH, "url": self.url, "signature": self.signer.sign_url(self.url), **changes}
        return {key: value for key, value in data.items() if value is not None}

    def send(self, target, body, headers=()):
        client = Client(self.port)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        client.send(request("POST", target, data, headers))
        return client

    def post(self, target, body, headers=()):
        client = self.send(target, body, headers)
        response = client.read_response()
        client.close()
        return response

    def work(self, target="/generate", payload=None, **changes):
        return self.post(target, self.envelope(payload, **changes))

    def envelope(self, payload=None, **changes):
        return {"auth_data": self.auth(**changes), "payload": {"n": 10} if payload is None else payload}

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()  # the other one does not always heed it
            self.process.wait()
        self.autoscaler.stop()


def answer_model(exchange):
    """/generate, /serial, /busy: says what it was told; {"wait": true} until the test lets it go."""
    exchange.read_body()
    payload = exchange.json()
    if payload.get("break"):
        exchange.head(200, [("Content-Type", "application/json"), ("Content-Length", "100")])
        exchange.send(b'{"half":')
        return exchange.reset()
    if payload.get("wait"):
        exchange.connection.model.waiting.append(exchange)
        return exchange.watch()
    return exchange.answer_json({"echo": payload}, payload.get("status", 200))


@pytest.fixture(scope="module")
def peers(tmp_path_factory, shared_model, signer):
    directory = tmp_path_factory.mktemp("peers")
    shared_model.waiting = []
    for path in ("/generate", "/serial", "/busy"):
        shared_model.on(path, answer_model)
    shared_model.on("/health", lambda x: (x.read_body(), x.answer_json({"ok": True})))
    both = [
        Peer(name, directory / name, shared_model, signer) for name in ("reference", "luaworker")
    ]
    yield both
    for peer in both:
        peer.stop()


@pytest.fixture(scope="module")
def ready(peers):
    """Both are past their log marker, benchmark and health check."""
    for peer in peers:
        peer.wait_report("a first report", lambda r: True)
    for peer in peers:
        with open(peer.model_log, "a") as log:
            log.write("INFO model is up\n")
    for peer in peers:
        peer.loaded = peer.wait_report("loaded", lambda r: r["loadtime"] > 0)
    return peers


def value_of(response):
    """What a client sees of an answer: status, and the body as JSON or text."""
    try:
        return response.status, json.loads(response.body)
    except ValueError:
        return response.status, response.body.decode() or None


def compare(ready, ask, known=None):
    """ask(peer) for both. Equal, or exactly the known pair (reference's, ours)."""
    seen = tuple(ask(peer) for peer in ready)
    if known is None:
        assert seen[0] == seen[1], f"reference {seen[0]}\nours      {seen[1]}"
    else:
        assert seen == known
    return seen


def test_report_before_loaded(peers):
    """Every field, its type, and its value where it does not depend on the machine."""
    reports = [peer.wait_report("a report", lambda r: True) for peer in peers]
    assert set(reports[0]) <= set(reports[1]), "a field of the reference is missing in ours"
    assert set(reports[1]) - set(reports[0]) == set()
    for field in reports[0]:
        kinds = [type(report[field]) for report in reports]
        number = {int, float}
        assert kinds[0] is kinds[1] or set(kinds) <= number, f"{field}: {kinds}"
    measured = {"additional_disk_usage", "disk_usage", "url", "loadtime", "max_perf"}
    for field in set(reports[0]) - measured:
        assert reports[0][field] == reports[1][field], field
    for peer, report in zip(peers, reports):
        assert report["url"] == peer.url
    assert abs(reports[0]["disk_usage"] - reports[1]["disk_usage"]) < 1


def test_content_types_of_reports(ready):
    kinds = [
        {(path, kind) for path, kind, _ in peer.autoscaler.raw if path == "/worker_status/"}
        for peer in ready
    ]
    assert kinds[0] == kinds[1]


def test_benchmark(ready, shared_model):
    for peer in ready:
        assert peer.loaded["max_perf"] > 0 and peer.loaded["error_msg"] == ""
    sent = [e for e in shared_model.seen("/generate") if e.json().get("benchmark")]
    assert len(sent) == 4, "2 calls from each"
    assert sorted(e.json()["n"] for e in sent) == [100] * 4
    numbers = [float((p.directory / ".has_benchmark").read_text().split()[0]) for p in ready]
    assert numbers == [pytest.approx(p.loaded["max_perf"]) for p in ready]


ANSWERS = {
    # name: (path, body or a function of the peer, known difference)
    "good": ("/generate", lambda p: p.envelope(), None),
    "good_serial": ("/serial", lambda p: p.envelope(), None),
    "model_400": ("/generate", lambda p: p.envelope({"status": 400}), None),
    "model_500": ("/generate", lambda p: p.envelope({"status": 500}), None),
    "not_json": ("/generate", lambda p: b"{", None),
    "no_auth": ("/generate", lambda p: {"payload": {}}, None),
    "no_payload": ("/generate", lambda p: {"auth_data": p.auth()}, None),
    "no_both": ("/generate", lambda p: {}, None),
    "no_signature": (
        "/generate",
        lambda p: {"auth_data": p.auth(signature=None), "payload": {}},
        None,
    ),
    "no_keys": ("/generate", lambda p: {"auth_data": {"cost": "1"}, "payload": {}}, None),
    "more_keys": ("/generate", lambda p: p.envelope(None, __request_id="x", more=[1]), None),
    "number_cost": ("/generate", lambda p: p.envelope(None, cost=10), None),
    "bad_signature": (
        "/generate",
        lambda p: p.envelope(None, signature=p.signer.sign(b"other")),
        ((401, None), (401, {"error": "invalid signature"})),
    ),
    "unknown_session": (
        "/generate",
        lambda p: {**p.envelope(), "session_id": "0123456789abc"},
        None,
    ),
    "null_session": ("/generate", lambda p: {**p.envelope(), "session_id": None}, None),
    "get_not_json": ("/session/get", lambda p: b"{", None),
    "get_no_id": ("/session/get", lambda p: {}, None),
    "get_unknown": ("/session/get", lambda p: {"session_id": "x", "session_auth": {}}, None),
    "health_unknown": ("/session/health", lambda p: {"session_id": "x", "session_auth": {}}, None),
    "end_no_id": ("/session/end", lambda p: {}, None),
    "end_unknown": (
        "/session/end",
        lambda p: {"session_id": "x", "session_auth": {}},
        (
            (400, {"error": "session with id x not found"}),
            (400, {"error": "session does not exist"}),
        ),
    ),
    "unknown_path": (
        "/nothing",
        lambda p: p.envelope(),
        ((404, "404: Not Found"), (404, {"error": "no such path"})),
    ),
    "update_unauthorized": ("/pyworker/update", lambda p: {}, None),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answer(ready, name):
    path, body, known = ANSWERS[name]
    compare(ready, lambda peer: value_of(peer.post(path, body(peer))), known)


def test_content_type_is_not_checked(ready):
    for kind in ("text/plain", "application/octet-stream"):
        compare(
            ready,
            lambda peer, kind=kind: value_of(
                peer.post("/generate", peer.envelope(), [("Content-Type", kind)])
            ),
        )


def hold(peer, shared_model, target, payload, **changes):
    """A request whose answer waits for the test: (client, exchange)."""
    shared_model.waiting.clear()
    client = peer.send(target, peer.envelope({"wait": True, **payload}, **changes))
    wait_until(lambda: shared_model.waiting, f"{peer.name}'s call at the model")
    return client, shared_model.waiting[0]


def test_report_of_a_request_in_flight(ready, shared_model):
    def ask(peer):
        peer.wait_report("all told", lambda r: r["new_load"] == 0 and r["cur_load"] == 0)
        begun = len(peer.autoscaler.status)
        client, exchange = hold(
            peer, shared_model, "/generate", {"n": 25}, request_idx=901, reqnum=77
        )
        report = peer.wait_report("a request at work", lambda r: r["num_requests_working"] == 1)
        exchange.answer_json({})
        assert client.read_response().status == 200
        client.close()
        ended = peer.wait_ended(901)
        peer.wait_report("all told", lambda r: r["cur_perf"] == 0 and r["cur_load"] == 0)
        assert ended["entered_queue_at"] <= ended["work_started_at"] <= ended["work_completed_at"]
        assert abs(ended["work_completed_at"] - time.time()) < 60
        told = peer.autoscaler.status[begun:]
        return (
            report["cur_load"], report["working_request_idxs"], report["num_requests_recieved"],
            sum(r["new_load"] for r in told), sum(r["cur_perf"] for r in told),
            sum(r["rej_load"] for r in told), told[-1]["working_request_idxs"],
            set(ended), ended["success"], ended["status"],
        )  # fmt: skip

    compare(ready, ask)


@pytest.mark.parametrize(
    "name, expected",
    [("leaves", ("Cancelled", True)), ("model_500", None), ("refused", ("Rejected", False))],
)
def test_outcomes_are_told(ready, shared_model, name, expected):
    """What delete_requests says of requests that did not go well."""

    def ask(peer):
        request_idx = {"leaves": 911, "model_500": 912, "refused": 913}[name]
        if name == "leaves":
            client, exchange = hold(peer, shared_model, "/generate", {}, request_idx=request_idx)
            client.close()
            exchange.expect_dropped()
        elif name == "model_500":
            peer.work(payload={"status": 500}, request_idx=request_idx)
        else:
            client, exchange = hold(peer, shared_model, "/generate", {}, request_idx=914)
            assert peer.work("/busy", request_idx=request_idx).status == 429
            exchange.answer_json({})
            client.read_response()
            client.close()
        ended = peer.wait_ended(request_idx)
        return ended["status"], ended["success"]

    if name == "model_500":
        compare(ready, ask, (("Success", True), ("Error", False)))  # facts: a 5xx is no success
    else:
        assert compare(ready, ask) == (expected, expected)


def test_broken_model_answer(ready):
    """The other one has the whole answer before it sends any, and then says 500; ours has begun to
    pass it on, and breaks it off where the model did."""

    def ask(peer):
        response = peer.work(payload={"break": True})
        return response.status, response.complete

    compare(ready, ask, ((500, True), (200, False)))


def test_session_life(ready):
    def ask(peer):
        auth = peer.auth(request_idx=931, cost=33)
        created = peer.post(
            "/session/create", {"auth_data": auth, "payload": {"lifetime": 20.0}}
        )
        session = created.json()
        assert abs(session["expiration"] - time.time() - 20) < 15
        report = peer.wait_report("the session's load", lambda r: r["cur_load"] == 33)
        full = peer.post("/session/create", {"auth_data": auth, "payload": {}}).status
        key = {"session_id": session["session_id"], "session_auth": auth}
        within = peer.post(
            "/generate", {**peer.envelope({"n": 1}, request_idx=932), "session_id": key["session_id"]}
        )
        got = peer.post("/session/get", key).json()
        extended = got.pop("expiration") > session["expiration"]
        got.pop("created_at"), got.pop("session_id"), got.pop("auth_data")
        wrong = peer.post("/session/get", {**key, "session_auth": {**auth, "cost": 1}})
        healthy = value_of(peer.post("/session/health", key))
        ended = peer.post("/session/end", key)
        told = peer.wait_ended(931)
        gone = value_of(peer.post("/session/end", key))
        return (
            created.status, set(session), len(session["session_id"]), full, within.status, got,
            extended, wrong.status, healthy, ended.status, set(ended.json()), told["status"],
            gone[0], report["num_requests_working"], report["working_request_idxs"],
        )  # fmt: skip

    compare(ready, ask)


def test_session_end_on_the_internal_port(ready):
    def ask(peer):
        client = Client(peer.port + 1)
        client.send(request("POST", "/session/end", json.dumps({"session_id": "x"}).encode()))
        response = client.read_response()
        client.close()
        return response.status

    compare(ready, ask)


def test_model_error_is_reported(ready):
    """Last: the error stays."""

    def ask(peer):
        with open(peer.model_log, "a") as log:
            log.write("ERROR model is broken: really\n")
        return peer.wait_report("the error", lambda r: r["error_msg"])["error_msg"]

    assert compare(ready, ask) == ("model is broken",) * 2


def test_failing_to_start_is_reported(tmp_path, shared_model, signer):
    """Both go on as a beacon when their port is taken."""
    reports = []
    for name in ("reference", "luaworker"):
        taken = socket.create_server(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        peer = Peer(name, tmp_path / name, shared_model, signer, port)
        try:
            report = peer.wait_report("the failure", lambda r: r["error_msg"])
            reports.append(report["error_msg"].split(":")[0])
        finally:
            peer.stop()
            taken.close()
    assert reports == ["Worker Server failed to launch"] * 2
