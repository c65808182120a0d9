# SPDX-License-Identifier: MIT
"""Reports to the autoscaler: field by field, at once where it matters, complete at shutdown; and an
autoscaler that is away, slow or mad harms nobody, loses nothing and hears nothing twice."""

import signal
import time

import pytest

from harness.autoscaler import FakeAutoscaler
from harness.message import auth_data
from harness.model import answers, echo, raw, refused_url
from harness.ports import reserve_port
from harness.timing import QUIET, SLOW, wait_until
from harness.worker import backend, is_sanitized

FAST = {"LUAWORKER_TEST_PACE": "20"}  # looks every 50 ms, reports at least every 500 ms
WORK = backend(
    """
    worker.post("/generate", { allow_parallel_requests = true, max_queue_time = 100,
      benchmark = { max_perf = 50 } }),
    worker.post("/serial", { allow_parallel_requests = false, count_workload = 40,
      max_queue_time = 100 }),
    worker.get("/ping", function() return "pong" end),
"""
)


def environment(*autoscalers, **more):
    return {"REPORT_ADDR": ",".join(a.url for a in autoscalers), **FAST, **more}


def numbered(n, **changes):
    return auth_data(reqnum=n, request_idx=1000 + n, **changes)


def test_every_field(start, model, autoscaler):
    held = model.hold("/serial")
    worker = start(
        WORK,
        environment=environment(
            autoscaler,
            CONTAINER_ID="4711",
            MASTER_TOKEN='to"ken',
            PUBLIC_IPADDR="1.2.3.4",
        ),
    )
    loaded = autoscaler.wait_loaded()
    assert loaded["max_perf"] == 50
    for n in (1, 2):
        worker.start("/serial", auth=numbered(n))
        held.next() if n == 1 else worker.wait_counters(queued=1)
    seen = autoscaler.wait_report("two in flight", lambda r: r["num_requests_working"] == 2)
    disk = (seen.pop("disk_usage"), seen.pop("additional_disk_usage"))
    assert disk[0] > 0 and abs(disk[1]) < disk[0]
    assert seen.pop("loadtime") == loaded["loadtime"]
    assert seen.pop("new_load") in (80, 40)  # the first may have been told in a report of its own
    assert seen == {
        "id": 4711,
        "mtoken": 'to"ken',
        "version": "1.1.0",
        "cur_load": 80,
        "rej_load": 0,
        "max_perf": 50,
        "cur_perf": 0,
        "error_msg": "",
        "num_requests_working": 2,
        "num_requests_recieved": 2,
        "working_request_idxs": [1001, 1002],
        "cur_capacity": 0,
        "max_capacity": 0,
        "url": f"http://1.2.3.4:{worker.port}",
    }


def test_a_reload_that_takes_max_perf_away(start, autoscaler):
    worker = start(WORK, environment=environment(autoscaler))
    assert autoscaler.wait_loaded()["max_perf"] == 50
    worker.write_script(backend('worker.post("/generate", {}),'))
    worker.signal(signal.SIGHUP)
    autoscaler.wait_report("no max_perf", lambda r: r["max_perf"] == 0 and r["loadtime"] > 0)


def test_costs_that_nobody_signed_weigh_nothing(start, model, autoscaler):
    """Or a stranger could make the fleet grow."""
    model.on("/generate", echo)
    worker = start(WORK, unsecured=False, environment=environment(autoscaler))
    autoscaler.wait_loaded()
    seen = len(autoscaler.reports)
    forged = auth_data(cost=9e14, signature="A" * 342 + "==")
    for target in ("/generate", "/session/create"):
        assert worker.post(target, auth=forged).status == 401
    assert worker.counters()["rejected"] == 2
    later = len(autoscaler.reports)
    autoscaler.wait_report("two more", lambda r: len(autoscaler.reports) >= later + 2)
    assert all(r["rej_load"] == r["new_load"] == 0 for r in autoscaler.reports[seen:])


def test_sums_and_endings(start, model, autoscaler):
    model.on("/generate", echo)
    held = model.hold("/serial")
    before = time.time()
    worker = start(WORK, environment=environment(autoscaler))
    assert worker.post("/generate", auth=numbered(1)).status == 200
    model.on("/generate", answers(b"no", status=500))
    worker.post("/generate", auth=numbered(2))
    client = worker.start("/serial", auth=numbered(3))
    held.next()
    client.close()
    wait_until(lambda: len(autoscaler.ended) == 3, "three endings")
    by_idx = {e["request_idx"]: e for e in autoscaler.ended}
    assert [by_idx[i]["status"] for i in (1001, 1002, 1003)] == ["Success", "Error", "Cancelled"]
    assert [by_idx[i]["success"] for i in (1001, 1002, 1003)] == [True, False, True]
    for e in autoscaler.ended:
        times = [e["entered_queue_at"], e["work_started_at"], e["work_completed_at"]]
        assert before <= times[0] and times == sorted(times) and times[2] <= time.time()
    served = lambda: sum(r["cur_perf"] for r in list(autoscaler.reports))
    wait_until(lambda: served() > 0, "served workload")
    totals = worker.counters()
    assert (totals["success"], totals["error"], totals["cancelled"]) == (1, 1, 1)


def test_endings_in_the_older_form(start, model, autoscaler):
    model.on("/generate", echo)
    model.on("/serial", answers(b"", status=500))
    autoscaler.on("/delete_requests/", answers(b"{}"))
    worker = start(WORK, environment=environment(autoscaler, DELETE_REQUESTS_FORMAT="v1"))
    for n, target in ((1, "/generate"), (2, "/serial"), (3, "/generate")):
        worker.post(target, auth=numbered(n))
    worker.signal(signal.SIGTERM)
    worker.expect_exit(0)
    told = {True: [], False: []}
    for exchange in autoscaler.seen("/delete_requests/"):
        body = exchange.json()
        assert set(body) == {"worker_id", "mtoken", "request_idxs", "success"}, body
        told[body["success"]] += body["request_idxs"]
    assert told == {True: [1001, 1003], False: [1002]}


def test_the_advertised_url(start, autoscaler):
    """The host's port, where the cloud has mapped ours to another."""
    port = reserve_port()
    mapped = {f"VAST_TCP_PORT_{port}": "40123", f"VAST_TCP_PORT_{port + 1}": "40124"}
    where = environment(autoscaler, PUBLIC_IPADDR="1.2.3.4", **mapped)
    start(WORK, options=["--port", port, "--internal-port", 0], environment=where)
    assert autoscaler.wait_loaded()["url"] == "http://1.2.3.4:40123"


def test_errors_and_their_end_are_told_at_once(start, autoscaler, tmp_path):
    """No report is due for 10 s (real time here), and none is waited for."""
    log = tmp_path / "model.log"
    log.write_text("")
    script = backend(
        'worker.post("/generate", {}),',
        more=f"""model_log_file = "{log}",
  log_actions = {{ model_loaded = "has started", model_error = "Exception: no weights" }},""",
    )
    start(script, environment={"REPORT_ADDR": autoscaler.url})
    for text, reached in (
        ("has started\n", autoscaler.wait_loaded),
        ("oh Exception: no weights!\n", lambda **o: autoscaler.wait_error("no weights", **o)),
        ("has started\n", autoscaler.wait_loaded),
    ):
        seen, begun = len(autoscaler.reports), time.monotonic()
        with log.open("a") as out:
            out.write(text)
        report = reached(since=seen)
        assert time.monotonic() - begun < 8 * SLOW
    assert report["error_msg"] == ""
    assert [r["error_msg"] for r in autoscaler.reports if r["error_msg"]][0] == (
        "Exception: no weights"
    )


def test_what_is_untold_at_sigterm_is_told(start, model, autoscaler):
    model.on("/generate", echo)
    worker = start(WORK, environment={"REPORT_ADDR": autoscaler.url})  # looks once a second
    autoscaler.wait_loaded()
    for n in range(30):
        assert worker.post("/generate", auth=numbered(n)).status == 200
    worker.signal(signal.SIGTERM)
    worker.expect_exit(0)
    assert sorted(e["request_idx"] for e in autoscaler.ended) == [1000 + n for n in range(30)]
    assert autoscaler.reports[-1]["num_requests_recieved"] == 30
    assert autoscaler.reports[-1]["cur_load"] == 0


def silent(exchange):
    exchange.read_body()
    exchange.watch()


def slow(exchange):
    exchange.read_body()
    time.sleep(0.3)
    exchange.answer(500, b"")


FAULTS = {
    "500": answers(b"oops" * 1000, status=500),
    "redirect": answers(b"", status=302, headers=[("Location", "http://127.0.0.1:1/")]),
    "garbage": raw(b"\x00\xff not HTTP at all\r\n\r\n", then="close"),
    "reset": raw(b"HTTP/1.1 2", then="reset"),
    "slow": slow,
}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_an_outage_harms_nobody(start, model, autoscaler, fault):
    """Many report intervals long: clients see nothing of it, memory stays, nothing is lost or told
    twice, and it recovers by itself."""
    model.on("/generate", echo)
    worker = start(WORK, environment=environment(autoscaler))
    autoscaler.wait_loaded()
    autoscaler.fault = FAULTS[fault]
    count = 0

    def ask(times):
        nonlocal count
        for _ in range(times):
            assert worker.post("/generate", {"n": count}, auth=numbered(count)).status == 200
            count += 1

    ask(50)
    memory = worker.memory_kb()
    refused = autoscaler.refused
    while autoscaler.refused < refused + 12:
        ask(10)
        time.sleep(0.01)
    assert is_sanitized() or worker.memory_kb() < memory + 20000
    autoscaler.fault = None
    wait_until(lambda: len(autoscaler.ended) >= count, "all endings")
    time.sleep(QUIET)
    assert sorted(e["request_idx"] for e in autoscaler.ended) == [1000 + n for n in range(count)]
    told = lambda name: sum(r[name] for r in list(autoscaler.reports))
    wait_until(lambda: told("cur_perf") >= worker_load(worker) - 1e-6, "all load")
    assert told("cur_perf") == pytest.approx(worker_load(worker))
    assert told("new_load") == pytest.approx(worker_load(worker))


def worker_load(worker):
    """The workload of what was served: each request of /generate weighs the same."""
    return worker.counters()["success"] * 100.0


def test_an_autoscaler_that_never_answers(start, model, autoscaler):
    """It accepts and is silent: each post is given 10 s, clients none of it."""
    model.on("/generate", echo)
    autoscaler.fault = silent
    worker = start(WORK, environment=environment(autoscaler))
    wait_until(lambda: autoscaler.refused, "a post")
    for n in range(20):
        assert worker.post("/generate", auth=numbered(n)).status == 200
    autoscaler.fault = None
    wait_until(lambda: len(autoscaler.ended) == 20, "all endings", 40 * SLOW)
    autoscaler.wait_loaded(timeout=40 * SLOW)


def test_sigterm_while_the_autoscaler_is_silent(start, autoscaler):
    autoscaler.fault = silent
    worker = start(WORK, environment=environment(autoscaler))
    wait_until(lambda: autoscaler.refused, "a post")
    worker.signal(signal.SIGTERM)
    worker.expect_exit(0, timeout=8 * SLOW)  # 2 s, not that post's 10


def test_the_first_address_that_takes_it(start, model, autoscaler, signer):
    model.on("/generate", echo)
    second = FakeAutoscaler(signer.public_pem)
    try:
        addresses = f"{refused_url()},{autoscaler.url}/,{second.url}"
        worker = start(WORK, environment={"REPORT_ADDR": addresses, **FAST})
        autoscaler.wait_loaded()
        assert worker.post("/generate", auth=numbered(1)).status == 200
        wait_until(lambda: autoscaler.ended, "the ending")
        assert not second.reports and not second.ended
        autoscaler.fault = answers(b"", status=503)
        assert worker.post("/generate", auth=numbered(2)).status == 200
        wait_until(lambda: second.ended and second.reports, "both at the second")
        assert second.ended[0]["request_idx"] == 1002
    finally:
        second.stop()


def test_an_autoscaler_that_comes_up_late(start, signer):
    """Reports and the key: both are waited for, the worker serves from its first moment."""
    url = refused_url()
    worker = start(WORK, unsecured=False, environment={"REPORT_ADDR": url, **FAST})
    assert worker.get("/ping").status == 200
    worker.log.wait(level="warn")
    late = FakeAutoscaler(signer.public_pem, port=int(url.rsplit(":", 1)[1]))
    try:
        late.wait_loaded()
    finally:
        late.stop()
