# SPDX-License-Identifier: MIT
"""`luaworker load` straight to a model server: its flags, what it sends and when, what it measures
and says, its files and exit statuses. (Autoscalers and workers: test_load_routes.py; terminals and
signals: test_load_live.py; the figures against a known truth: test_load_truth.py.)"""

import json
import re
import shlex
import socket
import statistics
import subprocess
import threading
import time

import pytest

from harness.load import BARE, ENVELOPED, StandIn, LoadTester, compile_stand_in, latencies_shown
from harness.model import FakeModel, answers, raw, refused_url, says, streams
from harness.timing import SLOW
from harness.tls import Authority
from harness.worker import BINARY, ROOT, is_sanitized, run

FEW = "-n 5 -rps 100"


@pytest.fixture
def tester(tmp_path):
    return LoadTester(tmp_path)


@pytest.fixture
def direct(tester, model):
    """direct("flags", ...): the result of a load test of the model."""
    model.on("/generate", says({"response": "hi"}))

    def go(*arguments, **options):
        return tester.result("--direct", model.url, *arguments, **options)

    return go


@pytest.fixture(scope="module")
def stand_in_program(tmp_path_factory):
    return compile_stand_in(tmp_path_factory.mktemp("stand_in"))


@pytest.fixture
def stand_in(stand_in_program, tmp_path):
    started = []

    def start(*mode):
        started.append(StandIn(stand_in_program, tmp_path, *mode))
        return started[-1]

    yield start
    for one in started:
        one.kill()


# -- what is sent --


def test_a_plain_run(direct, model):
    result = direct("-n 20 -rps 200")
    assert len(model.seen("/generate")) == 20
    assert all(e.headers.get("Content-Type") == "application/json" for e in model.seen())
    assert result["outcomes"] == {"ok": 20}
    assert result["asked"]["requests"] == 20 and result["asked"]["rps"] == 200
    assert result["reached"]["sent"] == result["reached"]["ended"] == 20
    assert result["exit"] == 0 and result["interrupted"] is False
    assert result["throughput"]["workload"] == 140
    assert result["version"] == 1 and result["program"].startswith("luaworker ")


def test_what_the_result_holds(direct):
    result = direct("-n 20 -rps 200 --slo e2e:10s --threshold errors<=0")
    assert set(result) >= {
        *("version", "program", "settings", "asked", "reached", "outcomes", "latency"),
        *("throughput", "goodput", "workers", "timeline", "histograms", "curves", "errors"),
        *("thresholds", "interrupted", "exit"),
    }
    for name in ("schedule_delay", "queue", "connect", "ttfb", "ttft", "e2e", "service"):
        one = result["latency"][name]
        assert set(one) == {*"count mean min p50 p90 p95 p99 p99_9 max".split()}, name
        assert one["min"] <= one["p50"] <= one["p90"] <= one["p95"] <= one["p99"], name
        assert one["p99"] <= one["p99_9"] <= one["max"] and one["min"] <= one["mean"], name
    assert result["latency"]["e2e"]["count"] == 20
    assert result["latency"]["e2e"]["min"] >= result["latency"]["service"]["min"]
    assert sum(count for _, count in result["histograms"]["e2e"]) == 20
    shares = [share for share, _ in result["curves"]["e2e"]]
    assert shares == sorted(shares) and shares[-1] == 1
    assert sum(second["asked"] for second in result["timeline"]) == 20
    assert sum(second["ended"] for second in result["timeline"]) == 20
    assert result["goodput"]["good"] == 20 and result["goodput"]["share"] == 1
    assert result["thresholds"] == [{"text": "errors<=0", "value": 0, "ok": True}]
    assert result["workers"][0]["requests"] == 20


def test_the_closing_report(direct):
    result = direct("-n 20 -rps 200")
    assert "open loop: 20 requests, 200/s asked (constant)" in result["report"]
    assert "outcomes: ok 20" in result["report"] and "seed 1" in result["report"]
    rows = latencies_shown(result["report"])
    assert {"sent late by", "connect", "first byte", "end to end"} <= set(rows)


def test_the_progress_on_no_terminal_is_plain_lines_on_stderr(direct):
    progress = direct(FEW)["progress"]
    assert "100/s asked" in progress and "\x1b" not in progress
    assert direct(FEW, "--quiet")["progress"] == ""


def test_payloads_come_from_the_script_each_another_one(direct, model):
    direct("-n 10 -rps 200")
    prompts = [e.json()["prompt"] for e in model.seen("/generate")]
    assert len(set(prompts)) == 10


def test_a_payload_of_ones_own(direct, model, tmp_path):
    direct(FEW, "--payload", json.dumps({"prompt": "mine", "n": 12345678901234567}))
    assert b'"n":12345678901234567' in model.last().body
    file = tmp_path / "payload.json"
    file.write_text('{"prompt": "from a file"}')
    result = direct(FEW, "--payload", f"@{file}")
    assert model.last().json() == {"prompt": "from a file"}
    assert result["settings"]["payloads"] == 1


def test_an_envelope_for_workers_that_check_no_signature(tmp_path, model):
    model.on("/generate", says({}))
    LoadTester(tmp_path, ENVELOPED).result("--direct", model.url, FEW)
    bodies = sorted((e.json() for e in model.seen()), key=lambda b: b["auth_data"]["reqnum"])
    assert [b["auth_data"]["request_idx"] for b in bodies] == [1, 2, 3, 4, 5]
    assert bodies[0]["auth_data"]["cost"] == 7 and "prompt" in bodies[0]["payload"]


def test_stream_asks_for_one(direct, model):
    direct(FEW, "--stream")
    assert model.last().json()["stream"] is True


def test_a_unix_socket(tester, tmp_path):
    model = FakeModel(path=tmp_path / "model.sock")
    try:
        model.on("/generate", says({})).on("/base/generate", says({}))
        result = tester.result("--direct", model.url, FEW)
        assert result["outcomes"] == {"ok": 5} and len(model.seen("/generate")) == 5
        assert result["workers"][0]["url"] == model.url
        tester.result("--direct", model.url + ":/base", FEW)
        assert len(model.seen("/base/generate")) == 5
    finally:
        model.stop()


# -- when --


def test_seeds_choose_the_schedule_and_the_payloads(direct, model, tester, tmp_path):
    def moments(*arguments):
        before = len(model.seen())
        csv = tmp_path / "rows.csv"
        direct("-n 30 -rps 300 --arrival gamma:0.5", *arguments, "--csv", csv)
        rows = sorted(tester.rows(csv), key=lambda row: int(row["index"]))
        prompts = {e.json()["prompt"].split(" ", 1)[1] for e in model.seen()[before:]}
        return [row["intended"] for row in rows], prompts

    first = moments("--seed 7")
    assert moments("--seed 7") == first
    other = moments("--seed 8")
    assert other[0] != first[0] and other[1] != first[1]


@pytest.mark.parametrize(
    "arrival, spread", [("constant", 0), ("poisson", 1), ("gamma:4", 0.5), ("gamma:0.25", 2)]
)
def test_kinds_of_arrival(direct, tester, tmp_path, arrival, spread):
    csv = tmp_path / "rows.csv"
    direct("-n 400 -rps 400 --arrival", arrival, "--csv", csv)
    moments = sorted(float(row["intended"]) for row in tester.rows(csv))
    gaps = [b - a for a, b in zip(moments, moments[1:])]
    assert statistics.mean(gaps) == pytest.approx(1 / 400, rel=0.3)
    seen = statistics.stdev(gaps) / statistics.mean(gaps)
    assert seen == pytest.approx(spread, rel=0.35, abs=0.01)


def test_stages(direct, tester, tmp_path):
    csv = tmp_path / "rows.csv"
    result = direct("--stages 500ms:40,1s:0-80,200ms:0", "--csv", csv)
    moments = sorted(float(row["intended"]) for row in tester.rows(csv))
    assert len([m for m in moments if m < 0.5]) == 20
    rising = [m for m in moments if 0.5 <= m < 1.5]
    assert len(rising) == 40 and not [m for m in moments if m >= 1.5]
    assert len([m for m in rising if m < 1.0]) == 10
    assert result["asked"]["seconds"] == pytest.approx(1.7)


def test_a_duration_and_what_ends_first(direct):
    assert direct("-rps 50 --duration 400ms")["asked"]["requests"] == 20
    assert direct("-rps 50 --duration 10s -n 4")["asked"]["requests"] == 4


def test_the_original_rate_below_one_a_second(direct):
    timeline = direct("-n 2 -rps 0.8")["timeline"]
    assert [second["asked"] for second in timeline[:2]] == [1, 1]
    assert sum(second["asked"] for second in timeline) == 2


def test_an_open_loop_does_not_wait_for_answers(tester, model):
    held = model.hold("/generate")
    answer = threading.Thread(target=lambda: [e.answer_json({}) for e in take(held, 10)])
    answer.start()
    result = tester.result("--direct", model.url, "-n 10 -rps 200")
    answer.join()
    assert result["outcomes"] == {"ok": 10}
    assert max(second["in_flight"] for second in result["timeline"]) <= 10


def take(held, count):
    """That many requests, each there before the first is answered."""
    return [held.next() for _ in range(count)]


def test_a_closed_loop_is_said_to_be_one(direct, model):
    result = direct("-n 30 --concurrency 3")
    assert "CLOSED LOOP: 3 clients" in result["report"]
    assert "closed loop" in result["progress"]
    assert result["outcomes"] == {"ok": 30} and result["settings"]["concurrency"] == 3
    assert len(model.connections) <= 3


def test_a_closed_loop_has_so_many_at_once(tester, model):
    held, rounds = model.hold("/generate"), []

    def answer():
        for _ in range(3):
            rounds.append(take(held, 4))
            held.expect_none()
            for exchange in rounds[-1]:
                exchange.answer_json({})

    answering = threading.Thread(target=answer)
    answering.start()
    result = tester.result("--direct", model.url, "-n 12 --concurrency 4")
    answering.join()
    assert result["outcomes"] == {"ok": 12} and len(rounds) == 3


def test_max_concurrency_holds_back_and_that_counts(stand_in, tmp_path):
    tester = LoadTester(tmp_path, ENVELOPED)
    server = stand_in("constant", 50)
    result = tester.result("--direct", server.url, "-n 10 -rps 100 --max-concurrency 1")
    assert result["latency"]["e2e"]["max"] > 0.35, "10 times 50 ms in line, due within 100 ms"
    assert result["latency"]["service"]["p50"] < result["latency"]["e2e"]["p50"]
    assert result["reached"]["saturated"] and "held back" in result["reached"]["why"]
    assert "SATURATED CLIENT" in result["report"]
    record = server.stop()
    assert all(
        record[i + 1][0] >= record[i][1] for i in range(1, 10)
    ), "the next came only when the one before was answered"


def test_warm_up_is_left_out_of_everything(direct, model, tester, tmp_path):
    csv = tmp_path / "rows.csv"
    result = direct("-n 10 -rps 100 --warmup 300ms", "--csv", csv)
    assert len(model.seen("/generate")) == 40
    assert result["outcomes"] == {"ok": 10} and result["reached"]["sent"] == 10
    assert result["latency"]["e2e"]["count"] == 10 and len(tester.rows(csv)) == 10
    assert sum(second["asked"] for second in result["timeline"]) == 10
    assert result["throughput"]["workload"] == 70
    assert "warming up" in result["progress"]


def test_warm_up_of_a_closed_loop_and_of_stages(direct):
    assert direct("-n 5 --concurrency 2 --warmup 200ms")["outcomes"] == {"ok": 5}
    assert direct("--stages 100ms:0,100ms:50 --warmup 200ms")["outcomes"] == {"ok": 5}


# -- what came of them --


def test_outcomes_by_class(tester, model):
    kinds = iter(
        [
            *(answers(b'{"error": "slow down, request 1"}', status=500, reason="No"),) * 2,
            answers(b"not found", status=404, reason="No"),
            raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", then="close"),
            raw(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", then="reset"
            ),
            raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", then="close"),
            *(says({}),) * 4,
        ]
    )
    lock = threading.Lock()

    def behaviour(exchange):
        with lock:
            kind = next(kinds)
        kind(exchange)

    model.on("/generate", behaviour)
    result = tester.result("--direct", model.url, "-n 10 -rps 20")
    assert result["outcomes"] == {
        "ok": 4,
        "http 500": 2,
        "http 404": 1,
        "broken": 2,
        "protocol": 1,
    }
    assert result["latency"]["e2e"]["count"] == 4, "latency is of good answers"
    errors = {e["class"]: e for e in result["errors"]}
    assert errors["http 500"]["count"] == 2 and "slow down" in errors["http 500"]["text"]
    assert "slow down" in result["report"] and "2x http 500" in result["report"]
    assert result["workers"][0] == {
        **result["workers"][0],
        "requests": 10,
        "ok": 4,
        "failed": 6,
    }


def test_a_late_request_of_few_is_no_saturated_client(tmp_path):
    program = tmp_path / "program.lua"
    program.write_text(
        """
        local quantile = require "luaworker.quantile"
        local recorder = require "luaworker.load_recorder"
        local results = require "luaworker.load_result"
        local function reached(late)
          local one = recorder.new({}, quantile.new())
          return results.of {
            settings = { n = 2, rps = 50 }, recorder = one, begun = 2, cpu_share = 0.1,
            first_due = 5, last_due = 5.02, last_begun = 5.02 + late,
          }.reached
        end
        print(reached(0.003).saturated, reached(0.003).rps < 50, reached(0.05).saturated)
        """
    )
    assert run("run", program).stdout.split() == ["false", "true", "true"]


def test_nothing_was_due(tester, model):
    flags = "--duration 1ms -rps 0.01 --arrival poisson"
    result = tester.result("--direct", model.url, flags, code=1)
    assert "NOTHING WAS SENT" in result["report"] and result["outcomes"] == {}


def test_nobody_listens(tester):
    result = tester.result("--direct", refused_url(), FEW, code=1)
    assert result["outcomes"] == {"connect": 5} and result["exit"] == 1
    assert "refused" in result["errors"][0]["text"]
    assert not {"e2e", "connect"} & set(result["latency"])


def test_a_server_that_never_answers(tester, model):
    model.on("/generate", lambda e: (e.read_body(), e.watch()))
    result = tester.result("--direct", model.url, FEW, "--timeout 300ms", code=1)
    assert result["outcomes"] == {"timeout": 5}


def test_errors_that_differ_in_numbers_only_are_one(tester, model):
    count = iter(range(1000))
    model.on(
        "/generate",
        lambda e: answers(b"request %d failed" % next(count), status=503, reason="No")(e),
    )
    result = tester.result("--direct", model.url, "-n 30 -rps 200", code=1)
    assert [e["count"] for e in result["errors"]] == [30]


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def tls_model(authority):
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue())
    server = FakeModel(tls=context)
    server.on("/generate", says({"response": "hi"}))
    yield server
    server.stop()


def test_tls(tester, tls_model, authority):
    result = tester.result("--direct", tls_model.url, FEW, code=1)
    assert result["outcomes"] == {"tls": 5}
    assert "authority that is not known" in result["report"]
    result = tester.result("--direct", tls_model.url, FEW, "--ca", authority.certificate)
    assert result["outcomes"] == {"ok": 5}
    assert result["latency"]["tls"]["count"] >= 1 and result["latency"]["tls"]["min"] > 0
    result = tester.result("--direct", tls_model.url, FEW, "--insecure")
    assert result["outcomes"] == {"ok": 5}


def test_a_file_of_authorities_that_is_none(tester, model, tmp_path):
    nothing = tmp_path / "nothing.pem"
    nothing.write_text("hello")
    ended = tester.run("--direct", model.url, "-n", 1, "-rps", 1, "--ca", nothing)
    assert ended.returncode == 1 and "no PEM certificate" in ended.stderr, ended
    ended = tester.run("--direct", model.url, "-n", 1, "-rps", 1, "--ca", tmp_path / "gone")
    assert ended.returncode == 1 and "gone" in ended.stderr, ended


# -- tokens --


def event(**fields):
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def test_tokens_are_events_of_the_stream(direct, model):
    model.on("/generate", streams([event(t="a")] * 6 + [b"data: [DONE]\n\n"]))
    result = direct(FEW, "--stream")
    assert result["throughput"]["tokens"] == 30
    assert result["throughput"]["tokens_from"] == "events"
    assert result["latency"]["itl"]["count"] == 25
    assert "counted by events" in result["report"]


def test_tokens_are_the_models_usage_where_it_tells(direct, model):
    usage = {"prompt_tokens": 5, "completion_tokens": 40, "completion_tokens_details": {"r": 1}}
    stream = [event(t="a", usage=None)] * 3 + [event(choices=[], usage=usage), b"data: [DONE]\n\n"]
    model.on("/generate", streams(stream))
    result = direct(FEW, "--stream")
    assert result["throughput"]["tokens"] == 200
    assert (
        result["throughput"]["tokens_from"] == "usage" and "the model's usage" in result["report"]
    )
    model.on("/generate", says({"text": 'say "usage": {}', "usage": {"output_tokens": 12}}))
    assert direct(FEW)["throughput"]["tokens"] == 60


def test_tokens_of_both_kinds_are_said_to_be(direct, model):
    ways = iter([streams([event(t="a")] * 3), says({"usage": {"completion_tokens": 9}})] * 3)
    lock = threading.Lock()

    def behaviour(exchange):
        with lock:
            way = next(ways)
        way(exchange)

    model.on("/generate", behaviour)
    result = direct("-n 6 -rps 50")
    assert result["throughput"]["tokens"] == 36
    assert result["throughput"]["tokens_from"] == "mixed"


def test_an_answer_without_a_body(direct, model):
    model.on("/generate", answers(b"", content_type=None))
    result = direct(FEW, "--slo ttft:10s")
    assert result["outcomes"] == {"ok": 5} and result["goodput"]["good"] == 5
    assert result["throughput"]["tokens_from"] == "none"


# -- verdicts --


def test_goodput_counts_failures_against_it(tester, model):
    kinds = iter(
        [says({}), answers(b"no", status=500), says({}), says({}), answers(b"", status=503)]
    )
    lock = threading.Lock()

    def behaviour(exchange):
        with lock:
            kind = next(kinds)
        kind(exchange)

    model.on("/generate", behaviour)
    result = tester.result("--direct", model.url, FEW, "--slo ttft:10s,itl:10s,e2e:10s")
    assert result["goodput"]["good"] == 3 and result["goodput"]["share"] == pytest.approx(0.6)
    assert "goodput: 60 %" in result["report"]


def test_goodput_under_a_limit_that_is_missed(stand_in, tmp_path):
    tester = LoadTester(tmp_path, ENVELOPED)
    server = stand_in("bimodal", 1, 1500, 5)
    result = tester.result("--direct", server.url, "-n 20 -rps 50 --slo e2e:1s")
    slow = [e for name, e in server.stop().items() if name % 5 == 0]
    assert len(slow) == 4 and result["goodput"]["good"] <= 16


@pytest.mark.parametrize(
    "threshold, code",
    [
        ("e2e.p95<10s", 0),
        ("e2e.p50<1us", 99),
        ("errors<1%,ok>=99%,rps>0.1", 0),
        ("e2e.max<10s,errors>50%", 99),
        ("tls.p50<1s", 99),  # not measured
    ],
)
def test_thresholds(direct, threshold, code):
    result = direct(FEW, "--threshold", threshold, code=code)
    assert [t["text"] for t in result["thresholds"]] == threshold.split(",")
    assert result["exit"] == code
    assert ("MISSED" in result["report"]) == (code == 99)


def test_thresholds_may_be_repeated(direct):
    result = direct(FEW, "--threshold e2e.p95<10s --threshold", "ttft.mean<=10s")
    assert len(result["thresholds"]) == 2


# -- compare --


COMPARED = """
local worker = require "luaworker"
local Input = worker.payload { prompt = "string" }
function Input.for_test() return Input { prompt = "hello" } end
function Input:generate_payload_json() return { text = self.prompt } end
return worker.backend {
  model_server_url = "http://127.0.0.1:1",
  routes = {
    worker.post("/generate", { envelope = false, payload = Input, endpoint = "/v1/make" }),
    worker.post("/own", { envelope = false, payload = Input, remote = function() return {} end }),
  },
}
"""


def test_compare_sends_the_same_schedule_to_the_model(stand_in, tmp_path, model):
    tester = LoadTester(tmp_path, COMPARED)
    slow = stand_in("constant", 60)
    model.on("/v1/make", says({}))
    result = tester.result("--direct", slow.url, "-n 12 -rps 60 --compare", model.url)
    assert [e.json() for e in model.seen("/v1/make")] == [{"text": "hello"}] * 12
    assert result["compare"]["outcomes"] == {"ok": 12} and result["outcomes"] == {"ok": 12}
    assert result["compare"]["url"] == model.url
    added = result["compare"]["added"]["service"]
    ours, theirs = (r["latency"]["service"] for r in (result, result["compare"]))
    assert added["p50"] == pytest.approx(ours["p50"] - theirs["p50"])
    assert "what the worker adds" in result["report"]
    assert "comparing" in result["progress"]


def test_compare_without_a_model_behind_the_route(tmp_path, model):
    tester = LoadTester(tmp_path, COMPARED)
    ended = tester.run(
        *("--direct", model.url, "--compare", model.url, "-n", 1, "-rps", 1), route="/own"
    )
    assert ended.returncode == 1 and "--compare" in ended.stderr, ended


# -- files --


def test_the_csv_file(tester, model, tmp_path):
    ways = iter([says({"usage": {"completion_tokens": 4}}), answers(b'"a",\r\nb', status=500)] * 2)
    model.on("/generate", lambda e: next(ways)(e))
    csv = tmp_path / "rows.csv"
    in_order = "--max-concurrency 1"
    tester.result("--direct", model.url, "-n 4 -rps 20", in_order, "--csv", csv)
    rows = sorted(tester.rows(csv), key=lambda row: int(row["index"]))
    assert [row["class"] for row in rows] == ["ok", "http 500"] * 2
    assert [row["status"] for row in rows] == ["200", "500"] * 2
    assert rows[0]["tokens"] == "4" and rows[0]["tokens_from"] == "usage"
    assert rows[1]["error"] == '"a", b' and rows[0]["error"] == ""
    assert [float(row["intended"]) for row in rows] == pytest.approx([0, 0.05, 0.1, 0.15])
    for row in rows:
        assert float(row["sent"]) >= float(row["intended"])
        assert float(row["e2e"]) == pytest.approx(float(row["ended"]) - float(row["intended"]))
        assert row["worker"] == model.url


def test_what_servers_say_is_harmless(tester, model, tmp_path):
    """No terminal obeys it, no spreadsheet calculates it, no byte of it is no UTF-8."""
    said = b"=cmd|' /C calc'!A0 \x1b[31m\x9b\xc2\x9b5m\x00\x07 \xff" + "é".encode() * 200
    model.on("/generate", answers(said, status=500))
    csv = tmp_path / "rows.csv"
    result = tester.result("--direct", model.url, "-n 1 -rps 1", "--csv", csv, code=1)
    shown = result["errors"][0]["text"]
    assert shown.startswith("=cmd|' /C calc'!A0 ?[31m???5m?? ?é") and shown in result["report"]
    assert tester.rows(csv)[0]["error"] == "'" + shown
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", result["report"] + csv.read_text())
    model.on("/generate", answers(b"", status=503))
    result = tester.result("--direct", model.url, "-n 1 -rps 1", code=1)
    assert result["errors"][0]["text"] == "(an empty body)"


def test_files_stay_as_they_are_when_nothing_can_begin(tester, model, tmp_path):
    old, new = tmp_path / "old.csv", tmp_path / "new.html"
    old.write_text("kept")
    flags = ("--direct", model.url, "-n", 1, "-rps", 1, "--csv", old, "--html", new)
    assert tester.run(*flags, route="/gone").returncode == 1
    assert old.read_text() == "kept" and not new.exists()


def test_files_to_standard_output(tester, model):
    model.on("/generate", says({}))
    arguments = ("--direct", model.url, "-n", 3, "-rps", 100)
    ended = tester.run(*arguments, "--json", "-")
    assert json.loads(ended.stdout)["outcomes"] == {"ok": 3} and "outcomes: ok 3" in ended.stderr
    ended = tester.run(*arguments, "--csv", "-", "--quiet")
    assert len(ended.stdout.splitlines()) == 4
    ended = tester.run(*arguments, "--html", "-", "--quiet")
    assert ended.stdout.startswith("<!doctype html>")


@pytest.mark.parametrize("flag", ["--json", "--csv", "--html"])
def test_a_file_that_cannot_be_written_is_told_before_anything_is_sent(tester, model, flag):
    ended = tester.run("--direct", model.url, "-n", 1, "-rps", 1, flag, "/nonexistent/x")
    assert ended.returncode == 2 and flag in ended.stderr and "/nonexistent/x" in ended.stderr
    assert not model.requests


def test_a_full_disk_is_told(tester, model):
    model.on("/generate", says({}))
    ended = tester.run("--direct", model.url, "-n", 1, "-rps", 1, "--json", "/dev/full")
    assert ended.returncode == 1 and "No space" in ended.stderr, ended
    ended = tester.run("--direct", model.url, "-n", 1, "-rps", 1, "--csv", "/dev/full")
    assert ended.returncode == 1 and "No space" in ended.stderr, ended


def test_the_key_is_in_no_file(direct, tmp_path):
    html = tmp_path / "report.html"
    result = direct(FEW, "-k", "SECRET", "--html", html)
    assert "SECRET" not in json.dumps(result) and "SECRET" not in html.read_text()
    assert "-k ***" in result["settings"]["command"]
    assert "SECRET" not in json.dumps(direct(FEW, "--key=SECRET"))


def test_the_command_can_be_pasted_again(direct):
    command = direct(FEW, "--payload", '{"a": "it\'s"}')["settings"]["command"]
    assert """--payload '{"a": "it'\\''s"}'""" in command


# -- wrong use --


MODEL = ("--direct", "http://127.0.0.1:1")


@pytest.mark.parametrize(
    "arguments, words",
    [
        ((*MODEL, "-n", "0", "-rps", "1"), "-n must be at least 1"),
        ((*MODEL, "-n", "1.5", "-rps", "1"), "an integer"),
        ((*MODEL, "-n", "5", "-rps", "-1"), "-rps must be above 0"),
        ((*MODEL, "-n", "5", "-rps", "0"), "-rps must be above 0"),
        ((*MODEL, "-n", "5"), "how many requests a second"),
        ((*MODEL, "-rps", "5"), "how many?"),
        ((*MODEL, "-rpss", "5"), 'did you mean "rps"'),
        ((*MODEL, "--duration", "soon", "-rps", "1"), "--duration expects a time"),
        ((*MODEL, "--duration", "0", "-rps", "1"), "--duration is too short"),
        ((*MODEL, "--timeout", "0s", "-n", "1", "-rps", "1"), "--timeout is too short"),
        ((*MODEL, "--warmup", "-1s", "-n", "1", "-rps", "1"), "--warmup expects a time"),
        ((*MODEL, "--arrival", "random", "-n", "1", "-rps", "1"), "--arrival is constant, poisson"),
        ((*MODEL, "--arrival", "gamma:0", "-n", "1", "-rps", "1"), "from 0.01 to 1000"),
        ((*MODEL, "--arrival", "gamma:", "-n", "1", "-rps", "1"), "--arrival is constant"),
        ((*MODEL, "--arrival", "poisson:2", "-n", "1", "-rps", "1"), "--arrival is constant"),
        ((*MODEL, "--stages", "10s"), "DURATION:RATE"),
        ((*MODEL, "--stages", "10s:5-"), "DURATION:RATE"),
        ((*MODEL, "--stages", "10s:0"), "no rate in it is above 0"),
        ((*MODEL, "--stages", "1s:1", "-rps", "2"), "without -rps"),
        ((*MODEL, "--concurrency", "2"), "-n or --duration"),
        ((*MODEL, "--concurrency", "2", "-n", "5", "-rps", "2"), "closed loop: it has no -rps"),
        ((*MODEL, "--concurrency", "2", "-n", "5", "--arrival", "poisson"), "no --arrival"),
        ((*MODEL, "--concurrency", "2", "-n", "5", "--max-concurrency", "2"), "no --max-conc"),
        ((*MODEL, "-l", "-n", "1", "-rps", "1"), "one of --direct, -l and --autoscaler"),
        (("--direct", "localhost:80", "-n", "1", "-rps", "1"), "--direct: expected an http://"),
        (("--direct", "http://x:99999", "-n", "1", "-rps", "1"), "--direct: expected an http://"),
        (("--direct", "http://x/?y", "-n", "1", "-rps", "1"), "without ? and #"),
        (("--direct", "unix:/", "-n", "1", "-rps", "1"), "expected unix:/path/of/socket"),
        (("--compare", "x", *MODEL, "-n", "1", "-rps", "1"), "--compare: expected an http://"),
        ((*MODEL, "--session", "-n", "1", "-rps", "1"), "--session needs an autoscaler"),
        ((*MODEL, "--route-timeout", "1s", "-n", "1", "-rps", "1"), "needs an autoscaler"),
        ((*MODEL, "--insecure", "--ca", "x", "-n", "1", "-rps", "1"), "without --ca"),
        ((*MODEL, "-n", "1", "-n", "2", "-rps", "1"), "-n was given twice"),
        ((*MODEL, "-n", "1e99", "-rps", "1"), "-n must be at most"),
        ((*MODEL, "-n", "1", "-rps", "1e400"), "-rps expects a number"),
        ((*MODEL, "-n", "1", "-rps", "1e99"), "-rps must be at most"),
        ((*MODEL, "-n", "1", "-rps", "1e-99"), "at least one in 168h"),
        ((*MODEL, "-n", "1", "--concurrency", "1e99"), "--concurrency must be at most"),
        ((*MODEL, "--duration", "9999999h", "-rps", "1"), "--duration is too long"),
        ((*MODEL, "--stages", "1s:99999999999"), "at most 168h and 1000000 a second"),
        ((*MODEL, "-n", "1", "-rps", "1", "-k", "a\nb"), "the API key has a byte in it"),
        ((*MODEL, "-n", "1", "-rps", "1", "-k", ""), "-k needs a value"),
        ((*MODEL, "--csv", "x", "--json", "x", "-n", "1", "-rps", "1"), "can't both be x"),
        ((*MODEL, "--slo", "ttft:200", "-n", "1", "-rps", "1"), "with a unit"),
        ((*MODEL, "--slo", "p95:1s", "-n", "1", "-rps", "1"), "--slo: expected ttft:TIME"),
        ((*MODEL, "--threshold", "ttft<1s", "-n", "1", "-rps", "1"), "--threshold: expected"),
        ((*MODEL, "--threshold", "ttft.p12<1s", "-n", "1", "-rps", "1"), "--threshold: expected"),
        ((*MODEL, "--threshold", "goodput>1%", "-n", "1", "-rps", "1"), "needs --slo"),
        ((*MODEL, "--payload", "[1]", "-n", "1", "-rps", "1"), "not a JSON object"),
        ((*MODEL, "--payload", "{", "-n", "1", "-rps", "1"), "not a JSON object"),
        ((*MODEL, "--payload", "@/nonexistent", "-n", "1", "-rps", "1"), "/nonexistent"),
        ((*MODEL, "--json", "-", "--csv", "-", "-n", "1", "-rps", "1"), "standard output"),
        (("-n", "1", "-rps", "1"), "the cloud wants an API key"),
    ],
)
def test_wrong_flags_end_with_2_and_a_sentence(tester, arguments, words):
    ended = tester.run(*arguments, environment={"API_KEY": None, "VAST_API_KEY": None})
    assert ended.returncode == 2 and words in ended.stderr, ended
    assert ended.stdout == "" and "traceback" not in ended.stderr


def test_operands():
    assert run("load").returncode == 2
    assert "ROUTE is missing" in run("load", "x.lua").stderr
    assert run("load", "--help").returncode == 0


def test_scripts_that_cannot_be_used(tester, tmp_path):
    flags = (*MODEL, "-n", "1", "-rps", "1")
    ended = tester.run(*flags, route="/gone")
    assert (
        ended.returncode == 1 and "no POST route /gone" in ended.stderr and "/other" in ended.stderr
    )
    ended = tester.run(*flags, route="/other")
    assert ended.returncode == 1 and "no sample payload" in ended.stderr
    ended = tester.run(*flags, command=("load", tmp_path / "gone.lua", "/generate"))
    assert ended.returncode == 1 and "gone.lua" in ended.stderr
    tester.script.write_text(BARE.replace("count = count + 1", 'error "no luck"'))
    ended = tester.run(*flags)
    assert ended.returncode == 1 and "no luck" in ended.stderr
    tester.script.write_text("return 5")
    ended = tester.run(*flags)
    assert ended.returncode == 1 and "backend" in ended.stderr


def test_no_open_files_left_is_the_clients_own_fault(tester, model):
    model.on("/generate", lambda e: (time.sleep(0.5), e.read_body(), e.answer_json({})))
    words = [BINARY, "load", tester.script, "/generate", "--direct", model.url, "--quiet"]
    words += ["-n", "60", "-rps", "1000"]
    ended = subprocess.run(
        ["sh", "-c", f"ulimit -n 45; exec {shlex.join(map(str, words))}"],
        capture_output=True,
        text=True,
        timeout=60 * SLOW,
    )
    assert ended.returncode == 0, ended
    assert re.search(r"SATURATED CLIENT: \d+ requests failed within this machine", ended.stdout)
    assert re.search(r"x client, .*Too many open files", ended.stdout), ended.stdout


# -- in programs --


def test_a_test_load_of_two_lines(tester, model, tmp_path):
    model.on("/generate", says({}))
    program = tmp_path / "tests" / "test_load.lua"
    program.parent.mkdir()
    program.write_text(
        'local load = require "luaworker.load"\nload.main("../endpoint.lua", "generate")'
    )
    flags = ("--direct", model.url, "-n", 4, "-rps", 100)
    ended = tester.run(*flags, command=("run", program))
    assert ended.returncode == 0 and "outcomes: ok 4" in ended.stdout, ended
    ended = tester.run("--nonsense", command=("run", program))
    assert ended.returncode == 2 and "test_load.lua" in ended.stderr


def test_a_run_from_lua(tester, model, tmp_path):
    model.on("/generate", says({}))
    program = tmp_path / "program.lua"
    program.write_text(
        f"""
        local load = require "luaworker.load"
        local result = load.run {{
          script = "{tester.script}", route = "/generate", direct = "{model.url}",
          n = 4, rps = 100, slo = "e2e:10s", threshold = {{ "errors<1%", "ok>99%" }},
          json = "{tester.json}", stream = false,
        }}
        print(result.outcomes.ok, result.goodput.good, result.exit)
        """
    )
    ended = tester.run(command=("run", program))
    assert ended.stdout.split() == ["4", "4", "0"], ended
    assert len(json.loads(tester.json.read_text())["thresholds"]) == 2


@pytest.mark.parametrize(
    "call, words",
    [
        ('load.run { script = "x", route = "/y", direct = "http://x", rpss = 1 }', 'mean "rps"'),
        ('load.run { script = "x", route = "/y", direct = "http://x", n = "a" }', "an integer"),
        ('load.run { script = "x", route = "/y", direct = "http://x", n = 1 }', "how many requests"),
        ("load.run { n = 1 }", "expected a table with script and route"),
        ('load.main "x.lua"', "expected a script and a route"),
    ],
)
def test_mistakes_in_lua_are_told(tmp_path, call, words):
    program = tmp_path / "program.lua"
    program.write_text(f'local load = require "luaworker.load"\n{call}')
    ended = run("run", program)
    assert ended.returncode in (1, 2) and words in ended.stderr, ended


def test_a_payload_that_the_script_refuses_is_told_of_once(tester, model):
    model.on("/generate", answers(b"no", status=422))
    result = tester.result("--direct", model.url, FEW, "--payload", '{"prompt": 5}', code=1)
    lines = [line for line in result["progress"].splitlines() if "invalid payload" in line]
    assert len(lines) == 1 and lines[0].endswith(
        "invalid payload: prompt: expected string, got integer; sent all the same, "
        "with a workload of 100"
    ), result["progress"]


@pytest.mark.parametrize("name", ["hello_world", "openai", "image"])
def test_the_shipped_load_tests(name, model):
    model.behaviours = {path: says({}) for path in ("/generate", "/v1/completions")}
    model.on("/sdapi/v1/txt2img", says({}))
    program = ROOT / "examples" / name / "test_load.lua"
    ended = run("run", program, "--direct", model.url, "-n", 3, "-rps", 100)
    assert ended.returncode == 0 and "outcomes: ok 3" in ended.stdout, ended
    assert len(program.read_text().rstrip().splitlines()) <= 10
    assert all("payload" in e.json() for e in model.seen())


# -- much --


def peak_memory_kb(ended_stderr):
    return int(re.search(r"PEAK (\d+)", ended_stderr).group(1))


def test_memory_stays_bounded(tester, stand_in, tmp_path):
    """Ten times as many requests, the same memory."""
    server = stand_in("constant", 0)
    program = tmp_path / "program.lua"
    program.write_text(
        f"""
        local load = require "luaworker.load"
        load.run {{
          script = "{tester.script}", route = "/generate", direct = "{server.url}",
          n = tonumber(arg[1]), concurrency = 32, payload = '{{"prompt":"x"}}',
        }}
        local status = io.open("/proc/self/status"):read "*a"
        io.stderr:write("PEAK ", status:match "VmHWM:%s+(%d+)")
        """
    )
    many = 20000 if is_sanitized() else 100000
    few, much = (
        peak_memory_kb(tester.run(n, command=("run", program), timeout=120 * SLOW).stderr)
        for n in (many // 10, many)
    )
    print(f"{many} requests: {much} KB, a tenth of them: {few} KB")
    if not is_sanitized():
        assert much < few + 12 * 1024


def test_a_listener_that_is_full(tester):
    """More connections than anybody accepts: no crash, each has an outcome."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        result = tester.result("--direct", url, "-n 20 -rps 200 --timeout 500ms", code=1)
    assert sum(result["outcomes"].values()) == 20
    assert set(result["outcomes"]) <= {"connect", "timeout"}
