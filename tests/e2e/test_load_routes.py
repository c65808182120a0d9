# SPDX-License-Identifier: MIT
"""Load tests and `call` by an autoscaler: routes, retries, sessions, keys, dead workers; the real one
with a real worker, and one that answers what the test says."""

import itertools
import json
import shlex
import ssl
import threading
import time

import pytest

from harness.autoscaler import Router
from harness.client import Client
from harness.load import BARE, ENVELOPED, LoadTester
from harness.message import request
from harness.model import FakeModel, answers, raw, refused_url, says, streams
from harness.ports import as_options, dev_ports, reserve_port
from harness.timing import PATIENCE, SLOW
from harness.tls import Authority
from harness.worker import ROOT, Program, run

HELLO = ROOT / "workers/hello_world.lua"
FEW = "-n 5 -rps 100"


@pytest.fixture
def router():
    server = Router()
    yield server
    server.stop()
    assert not server.complaints, server.complaints


@pytest.fixture
def tester(tmp_path):
    return LoadTester(tmp_path, ENVELOPED)


@pytest.fixture
def routed(tester, router, model):
    """routed("flags", ...): the result of a load test by the router, of the model as the worker."""
    model.on("/generate", says({"response": "hi"}))
    router.say(model.url)

    def go(*arguments, **options):
        return tester.result("--autoscaler", router.url, "-k KEY", *arguments, **options)

    return go


# -- routes --


def test_what_is_asked_and_what_is_sent(routed, router, model):
    result = routed("-n 3 -rps 100 -e my-endpoint")
    for body in router.asked:
        assert body == {
            **{"endpoint": "my-endpoint", "api_key": "KEY", "cost": 7},
            **{"request_idx": 0, "replay_timeout": 60},
        }
    asked = router.seen("/route/")
    assert all(e.headers.get("Authorization") == "Bearer KEY" for e in asked)
    sent = [e.json() for e in model.seen("/generate")]
    assert all(set(b) == {"auth_data", "payload"} for b in sent)
    assert sorted(b["auth_data"]["reqnum"] for b in sent) == [1, 2, 3]
    assert all(b["auth_data"]["__request_id"] == "r" for b in sent), "the reply goes along whole"
    assert result["latency"]["route"]["count"] == 3
    assert result["settings"]["endpoint"] == "my-endpoint"


def test_numbers_of_a_route_go_along_as_they_are_spelled(routed, router, model):
    text = '{"url": "%s", "cost": 10.0, "reqnum": 12345678901234567890}' % model.url
    router.say(answers(text.encode(), content_type="application/json"))
    routed(FEW)
    assert b'"cost": 10.0, "reqnum": 12345678901234567890}' in model.last().body


def test_the_endpoint_is_named_after_the_script(routed, router):
    routed(FEW)
    assert router.asked[0]["endpoint"] == "endpoint"


def test_a_bare_worker_gets_the_payload_alone(routed, tester, model):
    tester.script.write_text(BARE)
    routed(FEW)
    assert set(model.last().json()) == {"prompt"}


def test_while_no_worker_is_free_the_route_is_polled(routed, router, model):
    router.say("all are busy", "still busy", model.url)
    result = routed("-n 1 -rps 10")
    assert [b["request_idx"] for b in router.asked] == [0, 1, 1], "it keeps its place"
    assert result["outcomes"] == {"ok": 1}
    assert result["latency"]["route"]["min"] >= 2 and result["latency"]["ttft"]["min"] >= 2
    assert result["latency"]["e2e"]["max"] - result["latency"]["service"]["max"] >= 2
    assert any(second["waiting"] for second in result["timeline"])


def test_no_worker_ever(routed, router):
    router.say("none is there")
    result = routed("-n 3 -rps 100 --route-timeout 0", code=1)
    assert result["outcomes"] == {"route": 3}
    assert result["reached"]["sent"] == 0 and result["reached"]["ended"] == 3
    assert "none is there" in result["report"]


def test_an_autoscaler_that_refuses_or_is_not_there(routed, router, tester):
    router.say(answers(b"no such endpoint", status=404, reason="No"))
    result = routed(FEW, code=1)
    assert result["outcomes"] == {"route": 5} and "answered 404: no such" in result["report"]
    router.say(answers(b"[1"))
    assert "not a JSON object" in routed(FEW, code=1)["report"]
    gone = refused_url()
    result = tester.result("--autoscaler", gone, FEW, code=1)
    assert result["outcomes"] == {"route": 5} and "refused" in result["report"]


def test_an_autoscaler_with_too_much_to_do_is_asked_again(routed, router, model):
    busy = answers(b"slow down", status=429, headers=[("Retry-After", "0")], reason="Busy")
    router.say(busy, busy, model.url)
    assert routed("-n 1 -rps 10")["outcomes"] == {"ok": 1}


# -- retries --


def behave(*ways):
    """One way after the other, the last for ever."""
    each, lock = iter(ways), threading.Lock()

    def behaviour(exchange):
        with lock:
            way = next(each, ways[-1])
        way(exchange)

    return behaviour


def busy(after):
    headers = [("Retry-After", after)] if after else []
    return answers(b'{"error": "busy"}', status=429, headers=headers, reason="Busy")


def test_a_429_is_tried_again_after_the_time_that_it_says(routed, router, model):
    model.on("/generate", behave(busy("1"), busy(None), says({})))
    begun = time.monotonic()
    result = routed("-n 1 -rps 10")
    assert time.monotonic() - begun >= 2
    assert result["outcomes"] == {"ok": 1} and result["reached"]["retries"] == 2
    assert len(router.asked) == 3, "another worker may be free by then"
    assert result["reached"]["sent"] == 1 and result["latency"]["e2e"]["min"] >= 2
    assert "tried again 2 times" in result["report"]


def test_a_429_that_stays(routed, model):
    model.on("/generate", busy("3600"))
    result = routed("-n 2 -rps 10 --route-timeout 1s", code=1)
    assert result["outcomes"] == {"http 429": 2}


def test_straight_to_a_worker_a_429_is_an_outcome(tester, model):
    model.on("/generate", busy("0"))
    result = tester.result("--direct", model.url, FEW, code=1)
    assert result["outcomes"] == {"http 429": 5} and len(model.requests) == 5


def test_a_dead_worker_is_left_for_another_one(routed, router, model):
    router.say(refused_url(), model.url)
    result = routed("-n 1 -rps 10")
    assert result["outcomes"] == {"ok": 1} and result["reached"]["retries"] == 1
    assert result["workers"][0]["url"] == model.url


def test_only_dead_workers(routed, router):
    router.say(refused_url())
    result = routed("-n 1 -rps 10", code=1)
    assert result["outcomes"] == {"connect": 1} and result["reached"]["retries"] == 3


def test_an_answer_that_breaks_off_is_not_asked_for_again(routed, model):
    half = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", then="close")
    model.on("/generate", half)
    result = routed("-n 2 -rps 10", code=1)
    assert result["outcomes"] == {"broken": 2} and len(model.requests) == 2


# -- workers --


def test_requests_go_to_all_workers_and_each_is_shown(routed, router, model):
    other = FakeModel()
    try:
        other.on("/generate", says({}))
        router.words = itertools.cycle([model.url, model.url, other.url])
        result = routed("-n 6 -rps 100")
        assert [(w["url"], w["requests"]) for w in result["workers"]] == [
            (model.url, 4),
            (other.url, 2),
        ]
        assert other.url in result["report"]
    finally:
        other.stop()


def test_workers_that_can_take_work_over_time(routed, router):
    router.workers = ["Ready", "loading", "idle", "error"]
    result = routed("--duration 3s -rps 5")
    told = [second.get("workers_eligible") for second in result["timeline"]]
    assert told[-1] == 2 and set(told) <= {2, None}, "none was told at first"
    router.workers = None
    result = routed(FEW)
    assert "workers_eligible" not in result["timeline"][-1], "nobody tells"


# -- keys --


def endpoints(*names):
    return says(
        {
            "results": [
                {"id": 40 + i, "endpoint_name": n, "api_key": f"K{i}"} for i, n in enumerate(names)
            ]
        }
    )


def test_an_accounts_key_is_exchanged_for_the_endpoints(routed, router):
    router.on("/api/v0/endptjobs/", endpoints("other", "mine"))
    router.workers = []
    routed(FEW, "-e mine --console", router.url)
    asked = router.last("/api/v0/endptjobs/")
    assert asked.target == "/api/v0/endptjobs/?client_id=me"
    assert asked.headers.get("Authorization") == "Bearer KEY"
    assert {b["api_key"] for b in router.asked} == {"K1"}
    assert router.last("/get_endpoint_workers/").json() == {"id": 41, "api_key": "K1"}


def test_an_endpoint_that_the_key_does_not_have(tester, router):
    router.on("/api/v0/endptjobs/", endpoints("one", "two"))
    flags = ("--autoscaler", router.url, "--console", router.url, "-k", "X", "-n", 1, "-rps", 1)
    ended = tester.run(*flags, "-e", "three")
    assert ended.returncode == 1 and 'no endpoint "three"; it has one, two' in ended.stderr, ended
    router.on("/api/v0/endptjobs/", answers(b"forbidden", status=403))
    ended = tester.run(*flags)
    assert ended.returncode == 1 and "answered 403: forbidden" in ended.stderr, ended


def test_the_key_of_the_environment(tester, router, model):
    model.on("/generate", says({}))
    router.say(model.url)
    ended = tester.run(
        *("--autoscaler", router.url, "-n", 1, "-rps", 1), environment={"VAST_API_KEY": "E"}
    )
    assert ended.returncode == 0 and router.asked[0]["api_key"] == "E"


def test_l_is_the_autoscaler_of_this_machine(tester):
    """Whoever listens there, or nobody."""
    ended = tester.run("-l", "-n", 1, "-rps", 1, "--route-timeout", "0")
    assert "http://localhost:8081" in ended.stdout, ended


# -- TLS --


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def tls_worker(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue())
    server = FakeModel(tls=context)
    server.on("/generate", says({"response": "hi"}))
    yield server
    server.stop()


def test_workers_with_certificates_of_a_private_root(routed, router, tls_worker, authority):
    router.say(tls_worker.url)
    assert routed("-n 2 -rps 10", code=1)["outcomes"] == {"tls": 2}
    assert routed(FEW, "--ca", authority.certificate)["outcomes"] == {"ok": 5}
    assert routed(FEW, "--insecure")["outcomes"] == {"ok": 5}


def test_call_and_private_roots(tester, router, tls_worker, authority):
    router.say(tls_worker.url)
    flags = ("call", tester.script, "/generate", "--autoscaler", router.url)
    ended = run(*flags)
    assert ended.returncode == 1 and "authority that is not known" in ended.stderr, ended
    for more in (("--ca", authority.certificate), ("--insecure",)):
        ended = run(*flags, *more)
        assert ended.returncode == 0 and json.loads(ended.stdout) == {"response": "hi"}, ended


# -- sessions --


class SessionWorker(FakeModel):
    def __init__(self, port=0):
        super().__init__(port)
        self.opened, self.ended = [], []
        self.on("/session/create", self.create).on("/session/end", self.end)
        self.on("/generate", self.generate)
        self.broken = set()

    def create(self, exchange):
        self.opened.append(json.loads(exchange.read_body()))
        exchange.answer_json({"session_id": f"s{len(self.opened)}", "expiration": 1}, 201)

    def end(self, exchange):
        self.ended.append(json.loads(exchange.read_body()))
        exchange.answer_json({"ended": True})

    def generate(self, exchange):
        session = json.loads(exchange.read_body()).get("session_id")
        if session in self.broken:
            return exchange.answer(410, b'{"error": "invalid session"}', reason="Gone")
        return exchange.answer_json({})


@pytest.fixture
def session_worker(router):
    server = SessionWorker()
    router.say(server.url)
    yield server
    server.stop()
    assert not server.complaints, server.complaints


def test_a_session_has_all_requests(routed, router, session_worker):
    router.say(session_worker.url)
    result = routed(FEW, "--session")
    assert result["outcomes"] == {"ok": 5} and len(router.asked) == 1
    bodies = [e.json() for e in session_worker.seen("/generate")]
    assert {b["session_id"] for b in bodies} == {"s1"}
    auth = session_worker.opened[0]["auth_data"]
    assert all(b["auth_data"] == auth for b in bodies)
    assert session_worker.ended == [{"session_id": "s1", "session_auth": auth}]


def test_a_session_that_has_ended_is_followed_by_another(routed, router, session_worker):
    router.say(session_worker.url)
    session_worker.broken = {"s1"}
    result = routed("-n 10 -rps 100 --session")
    assert result["outcomes"] == {"ok": 10}
    assert len(session_worker.opened) == 2 and session_worker.ended[0]["session_id"] == "s2"


def test_a_session_whose_worker_dies(routed, router, session_worker):
    dying = SessionWorker(reserve_port())

    def last_words(exchange):
        exchange.read_body()
        dying.stop_listening()
        exchange.answer(200, b"{}", [("Connection", "close")]).close()

    router.say(dying.url, session_worker.url)
    dying.on("/generate", last_words)
    result = routed("-n 6 -rps 10 --session --max-concurrency 1")
    assert result["outcomes"] == {"ok": 6} and result["reached"]["retries"] >= 1
    assert len(session_worker.opened) == 1 and session_worker.ended
    dying.stop()


def test_a_session_that_is_refused(tester, router, model):
    router.say(model.url)
    model.on("/session/create", answers(b"too many sessions", status=429))
    ended = tester.run("--autoscaler", router.url, "-n", 1, "-rps", 1, "--session")
    assert ended.returncode == 1 and "no session" in ended.stderr, ended
    assert "429: too many sessions" in ended.stderr and not model.seen("/generate")


def test_a_session_for_bare_workers(tester, router):
    tester.script.write_text(BARE)
    ended = tester.run("--autoscaler", router.url, "-n", 1, "-rps", 1, "--session")
    assert ended.returncode == 1 and "takes no envelope" in ended.stderr, ended


# -- call --


def test_call_waits_and_says_so(tester, router, model):
    model.on("/generate", streams([b"data: 1\n\n", b"data: 2\n\n"]))
    router.say("all are busy", model.url)
    ended = run("call", tester.script, "/generate", "--autoscaler", router.url, "--stream")
    assert ended.returncode == 0 and ended.stdout == "data: 1\n\ndata: 2\n\n", ended
    assert "all are busy" in ended.stderr
    assert model.last().json()["payload"]["stream"] is True


def test_call_of_a_worker_with_too_much_to_do(tester, router, model):
    router.say(model.url)
    model.on("/generate", busy("17"))
    ended = run("call", tester.script, "/generate", "--autoscaler", router.url)
    assert ended.returncode == 1 and "come again in 17 s" in ended.stderr, ended


def test_call_with_an_accounts_key(tester, router, model):
    model.on("/generate", says({}))
    router.say(model.url).on("/api/v0/endptjobs/", endpoints("endpoint"))
    flags = ("--autoscaler", router.url, "--console", router.url, "-k", "ACCOUNT")
    ended = run("call", tester.script, "/generate", *flags)
    assert ended.returncode == 0 and router.asked[0]["api_key"] == "K0", ended
    assert router.asked[0]["cost"] == 7


def test_call_of_a_bare_worker(tmp_path, router, model):
    model.on("/generate", says({}))
    router.say(model.url)
    script = LoadTester(tmp_path, BARE).script
    ended = run("call", script, "/generate", "--autoscaler", router.url)
    assert ended.returncode == 0 and set(model.last().json()) == {"prompt"}, ended


@pytest.mark.parametrize(
    "flags, words",
    [
        (("--cloud",), "the cloud wants an API key"),
        (("--cloud", "--autoscaler", "http://x", "-k", "1"), "one of --cloud and --autoscaler"),
        (("--autoscaler", "nonsense"), "--autoscaler: expected an http://"),
        (("--autoscaler", ""), "--autoscaler needs a value"),
        (("-k", "a\nb"), "the API key has a byte in it"),
        (("--insecure", "--ca", "x"), "without --ca"),
        (("--stream", "--stream"), "--stream was given twice"),
    ],
)
def test_call_with_wrong_flags(tester, flags, words):
    none = {"API_KEY": None, "VAST_API_KEY": None}
    ended = run("call", tester.script, "/generate", *flags, environment=none)
    assert ended.returncode == 2 and words in ended.stderr and not ended.stdout, ended


def test_call_of_what_the_script_refuses(tester, router, model):
    model.on("/generate", answers(b"no", status=422))
    router.say(model.url)
    flags = ("--autoscaler", router.url, "--json", '{"prompt": 5}')
    ended = run("call", tester.script, "/generate", *flags)
    first = ended.stderr.splitlines()[0]
    assert ended.returncode == 1 and "prompt: expected string, got integer; sent all" in first, ended
    assert "WARN" not in ended.stderr and "@call" not in ended.stderr


def test_what_an_autoscaler_says_is_harmless(routed, router):
    evil = "\x1b[31m<script>\x9b"
    router.say(evil)
    result = routed("-n 1 -rps 1 --route-timeout 100ms", code=1)
    assert result["errors"][0]["text"] == "no worker is free: ?[31m<script>??", result["errors"]
    router.say(answers(b'{"status": {"a": 1}}'))
    result = routed("-n 1 -rps 1 --route-timeout 100ms", code=1)
    assert result["errors"][0]["text"] == "no worker is free"
    router.say("http://me:secret@127.0.0.1:1/\x1b[31m")
    result = routed("-n 1 -rps 1 --route-timeout 100ms", code=1)
    assert result["workers"][0]["url"] == "http://***@127.0.0.1:1"
    assert "\x1b" not in result["report"] + json.dumps(result["errors"])


# -- the real ones --


@pytest.fixture(scope="module")
def dev(tmp_path_factory):
    """{ worker, model, autoscaler }: URLs of a `luaworker dev` of hello_world."""
    ports = dev_ports()
    directory = tmp_path_factory.mktemp("dev")
    program = Program("dev", HELLO, *as_options(ports), "--rate", "500", directory=directory)
    try:
        program.wait_line("luaworker call")
        yield {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        program.stop()
    finally:
        program.kill()


def dev_test(dev, tmp_path, *arguments, code=0):
    program = ROOT / "examples/hello_world/test_load.lua"
    file = tmp_path / "result.json"
    flags = ("--autoscaler", dev["autoscaler-port"], "--json", file)
    ended = run("run", program, *arguments, *flags, timeout=60 * SLOW)
    assert ended.returncode == code, ended
    return json.loads(file.read_text()), ended


def test_the_original_command_line(dev, tmp_path):
    line = "-n 20 -rps 10 -k KEY -e hello_world"
    result, ended = dev_test(dev, tmp_path, *shlex.split(line))
    assert result["outcomes"] == {"ok": 20} and "endpoint hello_world" in ended.stdout
    assert result["throughput"]["workload_per_s"] > 0
    assert result["workers"][0]["url"] == dev["port"]
    assert result["timeline"][-1]["workers_eligible"] == 1


def test_streams_in_a_session_by_the_real_worker(dev, tmp_path):
    flags = ("--autoscaler", dev["autoscaler-port"], "--session", "--json", tmp_path / "r.json")
    ended = run("load", HELLO, "/generate_stream", "-n", 5, "-rps", 10, *flags)
    result = json.loads((tmp_path / "r.json").read_text())
    assert ended.returncode == 0 and result["outcomes"] == {"ok": 5}, ended
    assert result["throughput"]["tokens"] == 5 * 300 and "route" not in result["latency"]


def test_what_the_worker_adds(dev, tmp_path):
    result, _ = dev_test(dev, tmp_path, *shlex.split("-n 10 -rps 20 --compare"), dev["model-port"])
    assert result["compare"]["outcomes"] == {"ok": 10}
    assert set(result["compare"]["added"]) >= {"service", "e2e", "ttfb"}


def test_the_example_client(dev):
    program = ROOT / "examples/hello_world/client.lua"
    ended = run("run", program, "-k", "any", "--autoscaler", dev["autoscaler-port"])
    assert ended.returncode == 0, ended
    lines = ended.stdout.splitlines()
    assert len(lines) == 2 and all(len(line.split()) == 40 for line in lines)


def test_a_worker_that_comes_later(tmp_path, start, model):
    """The load test begins with no worker there; its requests wait for the first one."""
    scaler = Program("run", "@autoscaler", "--port", "0", "--endpoint", "endpoint")
    between, replies = FakeModel(), []

    def pass_on(exchange):
        client = Client(int(url.rsplit(":", 1)[1]))
        client.send(request("POST", exchange.target, exchange.read_body()))
        reply = client.read_response()
        client.close()
        replies.append(reply.body)
        exchange.answer(reply.status, reply.body)

    between.on("/route/", pass_on).on("/get_endpoint_workers/", pass_on)
    try:
        url = scaler.wait_line("http://").split()[-1]
        model.on("/generate", says({"response": "hi"}))
        results = []
        tester = LoadTester(tmp_path, ENVELOPED)
        test = threading.Thread(
            target=lambda: results.append(tester.result("--autoscaler", between.url, "-n 4 -rps 10"))
        )
        test.start()
        assert between.wait_seen(1, "/route/")[0].answered.wait(PATIENCE)
        assert not any(b'"url"' in reply for reply in replies)
        environment = {"REPORT_ADDR": url, "CONTAINER_ID": "7"}
        worker = start(ENVELOPED, environment=environment, unsecured=False)
        test.join(60 * SLOW)
        assert results[0]["outcomes"] == {"ok": 4}
        assert results[0]["latency"]["route"]["max"] >= 1, "one poll at least was in vain"
        assert results[0]["workers"][0]["url"] == f"http://127.0.0.1:{worker.port}"
        worker.wait_counters(success=4)
    finally:
        between.stop()
        scaler.kill()
