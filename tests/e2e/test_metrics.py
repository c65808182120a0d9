# SPDX-License-Identifier: MIT
"""GET /metrics: text that any scraper reads, figures that are exact after known traffic, and a
number of labels that nobody outside can make grow."""

import re
import signal

import pytest

from harness.message import auth_data
from harness.model import answers, echo
from harness.prometheus import BadText, Metrics
from harness.timing import wait_until
from harness.tls import Authority
from harness.worker import PLAIN, ROOT, backend

OUTCOMES = ("success", "error", "cancelled", "rejected", "invalid")


def metrics(worker):
    response = worker.ask_internal("GET", "/metrics")
    assert response.status == 200
    assert response.headers.get("Content-Type") == "text/plain; version=0.0.4; charset=utf-8"
    return Metrics(response.body)


def outcomes(seen, route):
    return {o: seen.get("requests_total", route=route, outcome=o) for o in OUTCOMES}


def expect_outcomes(worker, route, **wanted):
    """These, and none of the others."""
    wanted = {**dict.fromkeys(OUTCOMES, 0), **wanted}
    seen = {}

    def reached():
        seen.update(outcomes(metrics(worker), route))
        return seen == wanted

    wait_until(reached, f"outcomes of {route}: {wanted}, last {seen}")


# -- the reader itself: a test that takes anything proves nothing --


@pytest.mark.parametrize(
    "text",
    [
        "x 1",
        "x 1\n",
        "# HELP x y\nx 1\n",
        "# HELP x y\n# TYPE x counter\nx 1\n",
        "# HELP x y\n# TYPE x gauge\ny 1\n",
        "# HELP x y\n# TYPE x gauge\nx 1\nx 1\n",
        "# HELP x y\n# TYPE x gauge\nx one\n",
        '# HELP x y\n# TYPE x gauge\nx{a="\\t"} 1\n',
        '# HELP x y\n# TYPE x gauge\nx{a="1",a="2"} 1\n',
        '# HELP x y\n# TYPE x histogram\nx_bucket{le="1"} 1\nx_sum 1\nx_count 1\n',
        '# HELP x y\n# TYPE x histogram\nx_bucket{le="1"} 2\nx_bucket{le="+Inf"} 1\n'
        "x_sum 1\nx_count 1\n",
        '# HELP x y\n# TYPE x histogram\nx_bucket{le="+Inf"} 1\nx_sum 1\nx_count 2\n',
    ],
)
def test_the_reader_is_strict(text):
    with pytest.raises(BadText):
        Metrics(text.encode())


# -- known traffic --


def test_every_ending_is_counted_once(start, model):
    model.on("/good", echo)
    model.on("/script", echo)
    model.on("/bad", answers(b"{}", "application/json", 500, reason="Internal Server Error"))
    held = model.hold("/held")
    parallel = "{ allow_parallel_requests = true, count_workload = %d }"
    worker = start(
        backend(
            f"""
            worker.post("/good", {parallel % 10}),
            worker.post("/bad", {parallel % 20}),
            worker.post("/held", {parallel % 40}),
            worker.post("/script", {{
              allow_parallel_requests = true,
              generate_client_response = function() error "oops" end,
            }}),
            worker.get("/oops", function() error "oops" end),
            worker.post("/turns", {{ allow_parallel_requests = false, count_workload = 80 }}),
            worker.get("/ping", function() return "pong" end),
            """
        ),
        options=["--queue-count", 0],
    )
    turns = model.hold("/turns")
    for _ in range(3):
        assert worker.post("/good").status == 200
    assert worker.ask("POST", "/good", b"no JSON").status == 422
    assert worker.post("/bad").status == 500
    client = worker.start("/held")
    held.next()
    client.close()
    assert worker.post("/script").status == 500
    assert worker.get("/oops").status == 500
    first = worker.start("/turns")
    exchange = turns.next()
    assert worker.post("/turns").status == 429
    exchange.answer_json({})
    assert first.read_response().status == 200
    for _ in range(4):
        assert worker.get("/ping").status == 200
    assert worker.get("/nowhere").status == 404

    expect_outcomes(worker, "POST /good", success=3, invalid=1)
    expect_outcomes(worker, "POST /bad", error=1)
    expect_outcomes(worker, "POST /held", cancelled=1)
    expect_outcomes(worker, "POST /script", error=1)
    expect_outcomes(worker, "GET /oops", error=1)
    expect_outcomes(worker, "POST /turns", success=1, rejected=1)
    expect_outcomes(worker, "GET /ping", success=4)
    seen = metrics(worker)
    assert seen.get("failures_total", route="POST /bad", source="model") == 1
    assert seen.get("failures_total", route="POST /script", source="script") == 1
    assert seen.get("failures_total", route="GET /oops", source="script") == 1
    assert seen.get("failures_total", route="POST /good", source="model") == 0
    hook = "generate_client_response"
    assert seen.get("hook_errors_total", route="POST /script", hook=hook) == 1
    assert seen.get("hook_errors_total", route="GET /oops", hook="handler") == 1
    assert seen.get("workload_total", outcome="success") == 3 * 10 + 80
    assert seen.get("workload_total", outcome="cancelled") == 40
    assert seen.get("workload_total", outcome="rejected") == 80
    assert seen.get("request_seconds_count", route="POST /good") == 3
    assert seen.get("time_to_first_byte_seconds_count", route="POST /good") == 3
    assert seen.get("model_seconds_count", route="POST /good") == 3
    assert seen.get("request_seconds_count", route="POST /bad") is None
    assert seen.get("model_seconds_count", route="POST /bad") == 1
    assert seen.get("model_seconds_count", route="GET /ping") is None
    assert seen.get("queue_wait_seconds_count") == 1
    assert seen.get("in_flight") == seen.get("load") == seen.get("queue_depth") == 0


def test_times_fall_into_their_buckets(start, model):
    """A model that takes 60 ms puts nothing below 50 ms, in any of the three times."""
    held = model.hold("/generate")
    worker = start()
    client = worker.start("/generate")
    exchange = held.next()
    client.expect_silence(0.06)
    exchange.answer_json({})
    client.read_response()
    wait_until(
        lambda: metrics(worker).get("request_seconds_count", route="POST /generate"), "the figures"
    )
    seen = metrics(worker)
    for name in ("request_seconds", "time_to_first_byte_seconds", "model_seconds"):
        assert seen.get(f"{name}_bucket", route="POST /generate", le="0.05") == 0, name
        assert seen.get(f"{name}_bucket", route="POST /generate", le="600") == 1, name
        assert 0.06 <= seen.get(f"{name}_sum", route="POST /generate") < 600, name


def test_what_waits_is_seen(start, model):
    held = model.hold("/serial")
    worker = start()
    clients = [worker.start("/serial", {"prompt": "x" * 1000}) for _ in range(3)]
    exchange = held.next()
    wait_until(lambda: metrics(worker).get("queue_depth") == 2, "two to wait")
    seen = metrics(worker)
    assert seen.get("in_flight") == 3 and seen.get("load") == 300
    assert seen.get("queue_bytes") > 2000
    assert seen.get("upstreams") == 1 and seen.get("connections") >= 4
    exchange.answer_json({})
    for _ in range(2):
        held.next().answer_json({})
    for client in clients:
        client.read_response()
    wait_until(lambda: metrics(worker).get("in_flight") == 0, "the end of all")
    seen = metrics(worker)
    assert seen.get("queue_wait_seconds_count") == 3
    assert seen.get("queue_depth") == seen.get("queue_bytes") == seen.get("load") == 0


def test_gaps_of_a_stream(start, model):
    held = model.hold("/generate")
    worker = start()
    client = worker.start("/generate")
    exchange = held.next().stream_head()
    pieces = [b"<%d>" % i for i in range(6)]
    response = None
    for piece in pieces:
        exchange.chunk(piece)
        response = response or client.open_response()
        response.read_until(piece)
    exchange.last_chunk()
    response.read_all()
    worker.post("/nowhere")
    assert metrics(worker).get("chunk_gap_seconds_count") == len(pieces) - 1


def test_an_answer_of_known_length_has_no_gaps(start, model):
    held = model.hold("/generate")
    worker = start()
    client = worker.start("/generate")
    exchange = held.next().head(200, [("Content-Length", "2")])
    exchange.send(b"a")
    response = client.open_response().read_bytes(1)
    exchange.send(b"b").done()
    response.read_all()
    assert metrics(worker).get("chunk_gap_seconds_count") == 0


def test_a_script_that_computes_is_seen_as_lag(start):
    worker = start(
        backend(
            """worker.get("/busy", function()
                 local till = os.clock() + 0.15
                 while os.clock() < till do end
                 return "done"
               end),"""
        )
    )
    before = metrics(worker)
    assert before.get("loop_lag_seconds_bucket", le="+Inf") > 0
    assert worker.get("/busy").body == b"done"

    def slow(seen):
        whole = seen.get("loop_lag_seconds_count")
        return whole - seen.get("loop_lag_seconds_bucket", le="0.1")

    assert slow(metrics(worker)) >= slow(before) + 1


# -- the worker's own state --


def test_the_process(worker):
    seen = metrics(worker)
    assert seen.get("ready") == 1 and seen.get("draining") == 0
    assert all(seen.get("gate", gate=g) == 1 for g in seen.label_values("gate"))
    assert seen.label_values("gate") == {"log", "start", "benchmark", "health", "key"}
    assert seen.get("resident_memory_bytes") / 1024 == pytest.approx(worker.memory_kb(), rel=0.3)
    assert 1e5 < seen.get("lua_heap_bytes") < 1e8
    assert seen.get("open_descriptors") >= 8
    assert seen.get("start_time_seconds") > 1.7e9
    assert seen.get("generation") == seen.get("generations") == 1
    assert seen.get("key_present") == 0
    assert seen.get("certificate_expiry_timestamp_seconds") is None


def test_signatures(start, model, signer):
    model.on("/generate", echo)
    worker = start(unsecured=False, options=["--public-key", signer.public_file])
    auth = auth_data(signature=signer.sign_url(auth_data()["url"]))
    for _ in range(3):
        assert worker.post("/generate", auth=auth).status == 200
    forged = auth_data(signature=signer.sign_url("http://elsewhere"))
    assert worker.post("/generate", auth=forged).status == 401
    expect_outcomes(worker, "POST /generate", success=3, rejected=1)
    seen = metrics(worker)
    assert seen.get("key_present") == 1
    assert seen.get("signature_cache_hits_total") == 2
    assert seen.get("signature_checks_total") == 2


def test_reports_are_counted(start, model):
    model.on("/worker_status/", answers(b"{}"))
    worker = start(environment={"REPORT_ADDR": model.url})
    wait_until(lambda: metrics(worker).get("reports_total") >= 1, "a report")
    assert metrics(worker).get("report_failures_total") == 0


# -- labels --


def test_labels_survive_reloads(start, model):
    model.on("/generate", echo)
    script = backend('worker.post("/generate", { allow_parallel_requests = true }),')
    worker = start(script)
    worker.post("/generate")
    worker.write_script(script)
    worker.signal(signal.SIGHUP)
    wait_until(lambda: metrics(worker).get("generation") == 2, "the reload")
    worker.post("/generate")
    expect_outcomes(worker, "POST /generate", success=2)
    worker.write_script("return nonsense")
    worker.signal(signal.SIGHUP)
    wait_until(lambda: metrics(worker).get("reload_failures_total") == 1, "the bad reload")
    seen = metrics(worker)
    assert seen.get("reloads_total") == 1 and seen.get("generation") == 2


def test_odd_paths_are_escaped(start):
    worker = start(
        backend(
            r"""worker.get("/a\"b\\c", function() return "" end),
                worker.get("/caf%C3%A9", function() return "" end),"""
        )
    )
    routes = metrics(worker).label_values("route")
    assert routes == {'GET /a"b\\c', "GET /caf%C3%A9"}


def test_strangers_make_no_labels(worker):
    size = len(worker.ask_internal("GET", "/metrics").body)
    for i in range(30):
        assert worker.get(f"/nowhere/{i}").status == 404
        assert worker.ask("DELETE", "/ping").status == 405
        assert worker.ask("POST", "/generate", b"x", [("X-A", f"b{i}")]).status == 422
    again = worker.ask_internal("GET", "/metrics").body
    assert b"nowhere" not in again
    assert metrics(worker).label_values("route") == {
        "POST /generate", "POST /serial", "GET /ping", "GET /health"
    }  # fmt: skip
    assert len(again) < size + 3000  # the histograms of /ping may have come


def test_the_number_of_routes_is_bounded(start):
    """250 at first, 100 others after a reload: 200 have labels, all others share one."""

    def script(prefix, count):
        return backend(
            f"""(function()
                 local all = {{}}
                 for i = 1, {count} do
                   all[i] = worker.get("/{prefix}" .. i, function() return "x" end)
                 end
                 return unpack(all)
               end)()"""
        )

    worker = start(script("first", 250))
    assert worker.get("/first250").status == 200
    assert worker.get("/first1").status == 200
    worker.write_script(script("second", 100))
    worker.signal(signal.SIGHUP)
    wait_until(lambda: metrics(worker).get("generation") == 2, "the reload")
    assert worker.get("/second1").status == 200
    expect_outcomes(worker, "other", success=2)
    expect_outcomes(worker, "GET /first1", success=1)
    assert len(metrics(worker).label_values("route")) == 201


# -- the page about it --


def test_every_name_is_documented_and_exists(start, model, tmp_path):
    """docs/metrics.md and the program agree, also on type and labels."""
    (tmp_path / "ca").mkdir()
    certificate, key = Authority(tmp_path / "ca").issue()
    plain = start(PLAIN.replace('"pong"', 'error "no"'))
    model.on("/serial", echo)
    plain.post("/serial")
    assert plain.get("/ping").status == 500  # for the errors of hooks
    plain.signal(signal.SIGHUP)  # for the duration of a reload
    plain.wait_counters(generations=1)
    wait_until(lambda: "luaworker_reload_duration_seconds" in metrics(plain).families, "a reload")
    secure = start(options=["--use-ssl", "--ssl-cert", certificate, "--ssl-key", key])
    families = {**metrics(secure).families, **metrics(plain).families}
    expiry = metrics(secure).get("certificate_expiry_timestamp_seconds")
    assert expiry > metrics(secure).get("start_time_seconds")
    shown = {
        name: (
            family.type,
            tuple(sorted({n for _, ls in family.samples for n, _ in ls if n != "le"})),
        )
        for name, family in families.items()
    }
    page = (ROOT / "docs/metrics.md").read_text()
    rows = re.findall(r"^\| `(luaworker_\w+)` \| (\w+) \|([^|]*)\| \S.* \|$", page, re.MULTILINE)
    written = {name: (kind, tuple(sorted(re.findall(r"`(\w+)`", ls)))) for name, kind, ls in rows}
    assert len(rows) == len(written), "a name twice"
    assert written == shown
