# SPDX-License-Identifier: MIT
"""The benchmark: what the model is sent and when, which round counts, what is kept of it, and that
neither requests nor a reload nor the end of the process wait for it."""

import re
import signal
import subprocess
import threading
import time

import pytest
from harness.model import FakeModel, refused_url, says
from harness.timing import PATIENCE, QUIET, SLOW, wait_until
from harness.worker import backend, is_sanitized

RESULT = re.compile(
    r"benchmark: (\S+) workload/s, the best of (\d+) rounds of (\d+) calls to POST (\S+); "
    r"worst (\S+), median (\S+);"
)
NOT_COUNTED = {"received": 0, "success": 0, "error": 0, "cancelled": 0, "rejected": 0}


def script(benchmark="runs = 1, concurrency = 1, warmup = false", route="", before="", more=""):
    """A worker whose /generate is measured; payloads are numbered."""
    return backend(
        f"""
      worker.post("/generate", {{
        allow_parallel_requests = true,
        benchmark = {{ generator = numbered, {benchmark} }},
        {route}
      }}),
      worker.post("/other", {{ allow_parallel_requests = true }}),
      worker.get("/ping", function() return "pong" end)""",
        before=f"""
local count = 0
local function numbered()
  count = count + 1
  return {{ number = count }}
end
{before}""",
        more=more,
    )


def messages(worker, part):
    return [r for r in worker.log.records if part in r.get("message", "")]


def wait_message(worker, part, count=1):
    return wait_until(
        lambda: messages(worker, part)[count - 1 :], f"a log line with {part!r}", PATIENCE
    )[0]["message"]


def wait_result(worker, count=1):
    """{best, rounds, calls, path, worst, median} as logged."""
    found = RESULT.match(wait_message(worker, " workload/s, the best of ", count))
    names = ("best", "rounds", "calls", "path", "worst", "median")
    values = dict(zip(names, found.groups()))
    return {k: v if k == "path" else float(v) for k, v in values.items()}


def take(held, count):
    """So many calls at once at the model, and no more of them."""
    exchanges = [held.next() for _ in range(count)]
    held.expect_none()
    return exchanges


def answer_all(exchanges, status=200):
    for exchange in exchanges:
        exchange.answer_json({}, status)


# -- what the model is sent --


def test_a_warm_up_then_rounds_of_calls_side_by_side(start, model):
    held = model.hold("/generate")
    worker = start(script("runs = 2, concurrency = 4"), log_level="debug")
    warm_up = take(held, 1)
    answer_all(warm_up)
    first = take(held, 4)
    assert not messages(worker, "ready after")
    answer_all(first)
    second = take(held, 4)
    answer_all(second)
    found = wait_result(worker)
    assert (found["rounds"], found["calls"], found["path"]) == (2, 4, "/generate")
    wait_message(worker, "ready after")
    assert len(model.seen()) == 9
    everything = warm_up + first + second
    ids = [e.headers.get("X-Request-Id") for e in everything]
    assert sorted(ids) == sorted(f"benchmark-{n}" for n in range(1, 10))
    numbers = sorted(e.json()["number"] for e in everything)
    assert numbers == list(range(2, 11)), "the first was for the check at load"
    assert {e.headers.get("Content-Type") for e in everything} == {"application/json"}
    assert messages(worker, "benchmark call benchmark-9: 200, workload 100")
    seen = worker.counters()
    assert {name: seen[name] for name in NOT_COUNTED} == NOT_COUNTED
    assert not worker.request_lines()


def test_one_at_a_time_on_a_serial_route(start, model):
    held = model.hold("/generate")
    worker = start(script("runs = 2, concurrency = 4", "allow_parallel_requests = false"))
    for _ in range(3):
        answer_all(take(held, 1))
    assert wait_result(worker)["calls"] == 1


def test_payloads_go_through_the_hooks_of_requests(start, model):
    model.on("/v1/made", says({}))
    text = backend(
        """
      worker.post("/generate", {
        payload = Input, endpoint = "/v1/made",
        benchmark = { runs = 1, concurrency = 1, warmup = false },
      })""",
        before="""
local Input = worker.payload { prompt = "string", n = { "integer", default = 3 } }
function Input.for_test() return Input { prompt = "test" } end
function Input:count_workload() return self.n end
function Input:generate_payload_json() return { text = self.prompt, n = self.n } end
""",
    )
    worker = start(text)
    wait_result(worker)
    assert model.last("/v1/made").json() == {"text": "test", "n": 3}
    worker.post("/generate", {"prompt": "test"})
    assert model.last("/v1/made").json() == {"text": "test", "n": 3}


def test_the_dataset_goes_round(start, model):
    model.on("/generate", says({}))
    dataset = "{ { a = true }, { a = 1.5 }, { a = 'x' } }"
    route = f'worker.post("/generate", {{ benchmark = {{ runs = 4, dataset = {dataset} }} }})'
    worker = start(backend(route))
    wait_result(worker)
    assert [e.json()["a"] for e in model.seen("/generate")] == [True, 1.5, "x", True, 1.5]


def test_remote_functions_are_called_instead_of_the_model(start, model):
    model.on("/elsewhere", says({}))
    remote = """remote = function(payload, request)
      local answer = assert(worker.model.post("/elsewhere", { json = payload }))
      worker.log.info("remote got %s", request.id)
      return answer:json()
    end,"""
    worker = start(script("runs = 2, concurrency = 3", remote))
    assert wait_result(worker)["calls"] == 3
    assert len(model.seen("/elsewhere")) == 7 and not model.seen("/generate")
    assert len(messages(worker, "remote got benchmark-")) == 7


# -- the result --


def delays(*seconds):
    """One more delay for each call; the longest for all after."""
    left, lock = list(seconds), threading.Lock()

    def behaviour(exchange):
        exchange.read_body()
        with lock:
            delay = left.pop(0) if left else max(seconds)
        time.sleep(delay)
        exchange.answer_json({})

    return behaviour


def test_the_best_round_counts(start, model, tmp_path):
    model.on("/generate", delays(0, 2, 0.05, 2))
    autoscaler = FakeModel()
    autoscaler.on("/worker_status/", says({})).on("/delete_requests/", says({}))
    worker = start(
        script("runs = 3", "allow_parallel_requests = false, count_workload = 30"),
        options=["--report-addr", autoscaler.url],
    )
    found = wait_result(worker)
    assert found["best"] > found["median"] >= found["worst"] > 0
    assert found["best"] <= 30 / 0.05 and found["worst"] <= 30 / 2

    def reported():
        numbers = {e.json()["max_perf"] for e in autoscaler.seen("/worker_status/")}
        return max(numbers, default=0)

    wait_until(reported, "max_perf in a report")
    assert reported() == pytest.approx(found["best"], rel=1e-3)
    worker.finish()
    autoscaler.stop()


def test_only_answers_with_200_count(start, model):
    def half(exchange):
        number = exchange.read_body() and exchange.json()["number"]
        time.sleep(0.2)
        exchange.answer_json({}, 503 if number % 2 else 200)

    model.on("/generate", half)
    worker = start(
        script("runs = 1, concurrency = 4, warmup = false", "count_workload = 10"),
        log_level="debug",
    )
    assert wait_result(worker)["best"] <= 20 / 0.2
    assert "2 of 4 calls failed: the model answered 503: {}" in wait_message(worker, "calls failed")


def test_a_declared_value_is_used_and_nothing_measured(start, model):
    worker = start(script("max_perf = 12.5"))
    wait_message(worker, "ready after")
    assert not (worker.directory / "benchmark").exists()
    assert not model.seen()


def test_answers_are_read_to_their_end(start, model):
    held = model.hold("/generate")
    worker = start(script())
    exchange = held.next()
    exchange.stream_head().chunk(b"data: 1\n\n")
    time.sleep(QUIET)
    assert not messages(worker, "workload/s") and not exchange.dropped.is_set()
    exchange.chunk(b"data: [DONE]\n\n").last_chunk()
    wait_result(worker)


def test_a_cut_answer_does_not_count(start, model):
    def cut(exchange):
        exchange.read_body()
        exchange.stream_head().chunk(b"data: 1\n\n").close()

    model.on("/generate", cut)
    worker = start(script("runs = 8, concurrency = 1"))
    wait_message(worker, "No successful responses from benchmark: model http://")
    assert len(model.seen()) == 2


def test_long_answers_are_not_gathered(start, model):
    piece = b"x" * (1 << 20)

    def long(exchange):
        exchange.read_body()
        exchange.stream_head("application/octet-stream")
        for _ in range(96):
            exchange.chunk(piece)
        exchange.last_chunk()

    held = model.hold("/generate")
    worker = start(script("runs = 1, concurrency = 2"))
    warm_up = held.next()
    before = worker.memory_kb()
    model.on("/generate", long)
    warm_up.answer_json({})
    wait_result(worker)
    if not is_sanitized():
        assert worker.memory_kb() - before < 64 << 10


# -- when it fails --


def test_a_failing_model_is_an_error(start, model):
    model.on("/generate", says({"error": "out of memory"}, 500))
    worker = start(script("runs = 3, concurrency = 2"))
    wait_message(
        worker,
        "No successful responses from benchmark: the model answered 500: "
        '{"error": "out of memory"}',
    )
    assert worker.get("/ping").status == 200
    assert not messages(worker, "ready after")
    assert not (worker.directory / "benchmark").exists()
    assert len(model.seen()) == 3  # the warm-up, and one round
    worker.write_script(script())
    model.on("/generate", says({}))
    worker.signal(signal.SIGHUP)
    wait_message(worker, "ready after")


def test_a_model_that_starts_late_is_waited_for(start):
    url = refused_url()
    worker = start(script("runs = 1, concurrency = 3"), model=url)
    assert url in wait_message(worker, "trying again for a minute")
    gate = worker.ask_internal("GET", "/readyz").json()["gates"][2]
    assert gate["why"] == f"model {url} refused the connection; trying again"
    late = FakeModel(int(url.rsplit(":", 1)[1])).on("/generate", says({}))
    wait_message(worker, "ready after")
    assert len(late.seen()) == 4
    worker.finish()
    late.stop()


def test_a_model_that_never_starts(start):
    worker = start(script("runs = 2, timeout = 1.2"), model=refused_url())
    wait_message(worker, "No successful responses from benchmark: model http://127.0.0.1:")
    assert worker.get("/ping").status == 200


def test_a_hung_model_does_not_hold_it_up(start, model):
    held = model.hold("/generate")
    worker = start(script(f"runs = 2, concurrency = 3, timeout = {2 * SLOW}, warmup = false"))
    exchanges = [held.next() for _ in range(3)]
    exchanges[0].answer_json({})
    exchanges[1].stream_head().chunk(b"data: 1\n\n")
    wait_message(worker, "2 of 3 calls were not answered within")
    for exchange in exchanges[1:]:
        exchange.expect_dropped()
    assert worker.get("/ping").status == 200
    worker.wait_counters(tasks=0, upstreams=0)


def test_the_timeouts_of_the_route_hold(start, model):
    model.hold("/generate")
    worker = start(script("runs = 2, concurrency = 1, warmup = false", "first_byte = 0.1"))
    wait_message(worker, "No successful responses from benchmark: model http://")
    assert len(model.wait_seen()) == 1


def test_a_hook_that_fails_is_named(start, model):
    """(One that fails on the first payload is found at load: test_check.py.)"""
    route = """generate_payload_json = function(payload)
      return payload.number == 1 and payload or { n = payload.x.y }
    end,"""
    worker = start(script(route=route))
    message = wait_message(worker, "benchmark: hook generate_payload_json (")
    assert re.search(r"worker\.lua:\d+\): .*worker\.lua:\d+: attempt to index field 'x'", message)
    assert not model.seen()
    later = "function() count = count + 1 if count > 1 then error 'no data' end return {} end"
    worker.write_script(script(f"runs = 1, generator = {later}"))
    worker.signal(signal.SIGHUP)
    assert "no data" in wait_message(worker, "benchmark: hook generator (")


# -- others meanwhile --


def test_requests_are_served_meanwhile(start, model):
    held = model.hold("/generate")
    model.on("/other", says({}))
    worker = start(script("runs = 1, concurrency = 2, warmup = false"))
    exchanges = take(held, 2)
    assert worker.get("/ping").body == b"pong"
    assert worker.post("/other").status == 200
    client = worker.start("/generate", {"mine": True})
    mine = held.next()
    assert mine.json() == {"mine": True}
    mine.answer_json({})
    assert client.read_response().status == 200
    assert worker.counters()["received"] == 2
    answer_all(exchanges)
    wait_result(worker)


def test_it_takes_no_turn_from_a_serial_route(start, model):
    held = model.hold("/generate")
    worker = start(script("runs = 1, warmup = false", "allow_parallel_requests = false"))
    measured = held.next()
    client = worker.start("/generate", {"mine": True})
    mine = held.next()
    mine.answer_json({})
    assert client.read_response().status == 200
    answer_all([measured])
    wait_result(worker)


def test_the_end_of_the_process_does_not_wait(start, model):
    held = model.hold("/generate")
    worker = start(script("concurrency = 3, warmup = false, runs = 2"))
    exchanges = take(held, 3)
    worker.signal(signal.SIGTERM)
    worker.expect_exit(0)
    for exchange in exchanges:
        exchange.expect_dropped()
    assert not (worker.directory / "benchmark").exists()


def test_a_reload_measures_the_new_script_instead(start, model):
    held = model.hold("/generate")
    worker = start(script("runs = 2, concurrency = 2, warmup = false"))
    old = take(held, 2)
    worker.write_script(script("runs = 1, concurrency = 1, warmup = false", 'endpoint = "/new",'))
    fresh = model.hold("/new")
    worker.signal(signal.SIGHUP)
    exchange = fresh.next()
    for one in old:
        one.expect_dropped()
    held.expect_none()
    exchange.answer_json({})
    assert wait_result(worker)["calls"] == 1
    wait_message(worker, "ready after")
    worker.wait_counters(generations=1, tasks=0)


def test_a_remote_function_is_cancelled_with_it(start, model):
    held = model.hold("/elsewhere")
    remote = """remote = function(payload)
      pcall(worker.sleep, 1000)
      return worker.model.post("/elsewhere", { json = payload })
    end,"""
    worker = start(script("runs = 1, concurrency = 5, warmup = false", remote))
    worker.wait_counters(tasks=6)
    worker.write_script(script("max_perf = 3"))
    worker.signal(signal.SIGHUP)
    worker.wait_counters(tasks=0, generations=1)
    held.expect_none()


def test_a_ready_worker_stays_so_while_a_new_script_is_measured(start, model):
    held = model.hold("/generate")
    worker = start(script())
    answer_all(take(held, 1))
    wait_message(worker, "ready after")
    worker.write_script(script(before="-- new"))
    worker.signal(signal.SIGHUP)
    exchange = held.next()
    assert worker.get("/ping").status == 200
    assert not messages(worker, "not ready any more")
    exchange.answer_json({})
    wait_result(worker, 2)
    assert not messages(worker, "not ready any more")


def test_a_reload_of_the_same_script_measures_nothing(start, model):
    model.on("/generate", says({}))
    worker = start(script())
    wait_message(worker, "ready after")
    worker.signal(signal.SIGHUP)
    wait_message(worker, "reloaded ")
    time.sleep(QUIET)
    assert len(model.seen()) == 1


# -- what is kept --


@pytest.fixture
def measured(start, model, tmp_path):
    """measured(script, ...) → the calls to the model until a worker with this script is ready; all of
    them keep their results in one file, measured.file."""
    model.on("/generate", says({}))

    def run(text, **more):
        before = len(model.seen("/generate"))
        worker = start(text, options=["--benchmark-cache", run.file], **more)
        wait_message(worker, "ready after")
        run.worker = worker
        return len(model.seen("/generate")) - before

    run.file = tmp_path / "kept"
    return run


def test_the_result_is_kept(measured):
    assert measured(script()) == 1
    number, key = measured.file.read_text().splitlines()
    assert float(number) == pytest.approx(wait_result(measured.worker)["best"], rel=1e-5)
    assert key.startswith("luaworker script=")
    assert measured(script()) == 0
    assert str(measured.file) in wait_message(measured.worker, "workload/s, measured before, from ")
    assert not list(measured.file.parent.glob("kept.*"))


def test_another_script_is_measured_again(measured):
    assert measured(script()) == 1
    assert measured(script(before="-- changed")) == 1
    wait_message(measured.worker, "was measured with another version of the script")
    assert measured(script(before="-- changed")) == 0


def test_another_module_of_the_script_is_measured_again(measured):
    directory = measured.file.parent / "scripts"
    directory.mkdir()
    main, part = directory / "main.lua", directory / "part.lua"
    main.write_text(script(before='local part = require "part"'))
    part.write_text("return 1")
    assert measured(main) == 1
    assert measured(main) == 0
    part.write_text("return 2")
    assert measured(main) == 1
    wait_message(measured.worker, "was measured with another version of the script")


def test_another_model_server_is_measured_again(measured):
    other = FakeModel().on("/generate", says({}))
    assert measured(script()) == 1
    assert measured(script(), model=other) == 0
    wait_message(measured.worker, "was measured with another model server")
    assert len(other.seen()) == 1
    measured.worker.finish()
    other.stop()


@pytest.mark.parametrize(
    "text",
    ["", "512.75", "512.75\n", "nan\n", "-3\n", "1e300\n", "hello\nworld\n", "\0\0\0\0", "9" * 70000],
    ids=["empty", "bare", "reference", "nan", "negative", "huge", "words", "nul", "long"],
)
def test_a_file_that_is_not_ours_is_not_believed(measured, text):
    measured.file.write_text(text)
    assert measured(script()) == 1
    wait_message(measured.worker, f"benchmark: {measured.file} is not used: ")
    assert measured(script()) == 0


def test_numbers_that_are_none_behind_our_key(measured):
    assert measured(script()) == 1
    key = measured.file.read_text().splitlines()[1]
    for number in ("nan", "-1", "0", "inf", "1e300", "x"):
        measured.file.write_text(f"{number}\n{key}\n")
        assert measured(script()) == 1
    measured.file.write_text(f"77.5\n{key}\n")
    assert measured(script()) == 0
    assert "benchmark: 77.5 workload/s" in wait_message(measured.worker, "measured before")


@pytest.mark.parametrize("where", ["missing", "directory", "/dev/full", "/proc/kept"])
def test_where_nothing_can_be_kept_it_only_warns(measured, where):
    if where == "directory":
        measured.file.mkdir()
    elif where == "missing":
        measured.file = measured.file / "nowhere" / "kept"
    else:
        measured.file = where
    assert measured(script()) == 1
    wait_message(measured.worker, "the next start measures again")
    assert measured(script()) == 1


def test_a_full_disk_keeps_what_was_there(measured, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8k", "none", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no tiny disk: {mounted.stderr.decode().strip()}")
    try:
        measured.file = disk / "kept"
        assert measured(script()) == 1
        kept = measured.file.read_text()
        with pytest.raises(OSError):
            with open(disk / "filler", "wb", buffering=0) as filler:
                while filler.write(b"x" * 4096):
                    pass
        assert measured(script(before="-- changed")) == 1
        assert "No space left" in wait_message(measured.worker, "the next start measures again")
        assert measured.file.read_text() == kept
        assert measured(script()) == 0
        assert sorted(p.name for p in disk.iterdir()) == ["filler", "kept"]
    finally:
        subprocess.run(["umount", str(disk)], check=False)
