# SPDX-License-Identifier: MIT
"""Reload after reload, with broken scripts in between, under a steady load and open streams: no
request fails, no byte is another than its generation gives, and the memory comes back.

LW_RELOADS, LW_RELOAD_RATE (requests a second) and LW_RELOAD_STREAMS make it larger; the figures are
printed (pytest -s)."""

import os
import re
import signal
import time

from harness.message import envelope, request
from harness.steady import Kind, Steady, percentile
from harness.timing import PATIENCE, SLOW, wait_until
from harness.worker import Program, is_sanitized

RELOADS = int(os.environ.get("LW_RELOADS", "150"))
RATE = float(os.environ.get("LW_RELOAD_RATE", "100")) / SLOW
STREAMS = int(os.environ.get("LW_RELOAD_STREAMS", "50"))
CHUNKS, INTERVAL = 8, 0.2  # of a stream
PAUSE = 0.05  # between two reloads

MODEL = """
local worker = require "luaworker"
local server = require "luaworker.backend"
local function stream()
  local client = worker.stream { content_type = "text/plain" }
  for i = 1, %d do
    client:write("piece " .. i .. "\\n")
    worker.sleep(%g)
  end
  return client
end
local port = assert(server.listen { routes = {
  worker.route("POST", "/answer", function(request) return worker.json(request:json()) end),
  worker.route("POST", "/stream", stream),
  worker.route("POST", "/plain", stream),
} })
print("port " .. port)
io.stdout:flush()
""" % (
    CHUNKS,
    INTERVAL,
)

# Each generation says its own number in all that it makes, and holds some memory of its own.
SCRIPT = """
local worker = require "luaworker"
local VERSION = %d
local ballast = {}
for i = 1, 2000 do ballast[i] = { VERSION, tostring(i) } end
return worker.backend {
  model_server_url = "http://127.0.0.1:1",
  routes = {
    worker.get("/version", function() return tostring(ballast[2000][1]) end),
    worker.post("/answer", {
      allow_parallel_requests = true,
      generate_client_response = function(_, answer)
        return worker.json { version = VERSION, answer = answer:json() }
      end,
    }),
    worker.post("/stream", {
      allow_parallel_requests = true,
      generate_client_response = function(_, answer)
        local client = worker.stream { content_type = "text/plain" }
        for line in answer:lines() do client:write(VERSION .. " " .. line .. "\\n") end
        return client
      end,
    }),
    worker.post("/plain", { allow_parallel_requests = true }),
  },
}
"""
BROKEN = ["return worker.backend {", "error 'broken'", "return 5", "", "require 'nowhere'"]


class Versions:
    """Which generations may have answered: from the one that was known to serve when the request
    was sent to the last one written."""

    def __init__(self):
        self.written = self.seen = 1
        self.since = [(0.0, 1)]  # when it was known that a version serves

    def note(self, version):
        self.since.append((time.monotonic(), version))

    def fault(self, version, sent):
        self.seen = max(self.seen, version)
        least = next(v for at, v in reversed(self.since) if at <= sent)
        if not least <= version <= self.written:
            return f"version {version}, not {least} to {self.written}"
        return None


def check_with(versions):
    plain = b"".join(b"piece %d\n" % i for i in range(1, CHUNKS + 1))

    def check_answer(a):
        m = re.fullmatch(rb'\{"answer":\{"prompt":"hello"\},"version":(\d+)\}', bytes(a.body))
        return versions.fault(int(m[1]), a.sent) if m else "another body"

    def check_stream(a):
        m = re.match(rb"\d+", bytes(a.body))
        if not m or a.body != b"".join(m[0] + b" " + l + b"\n" for l in plain.splitlines()):
            return "another body"
        return versions.fault(int(m[0]), a.sent)

    def check_plain(a):
        return None if a.body == plain else "another body"

    def check_version(a):
        return versions.fault(int(a.body), a.sent) if a.body.isdigit() else "another body"

    def with_status(check):
        return lambda a: check(a) if a.head.startswith(b"http/1.1 200 ") else "not 200"

    def kind(target, check):
        text = request("POST", target, envelope()) if check is not check_version else None
        return Kind(target, text or request("GET", target), with_status(check))

    requests = [kind("/answer", check_answer), kind("/version", check_version)]
    return requests, [kind("/stream", check_stream), kind("/plain", check_plain)]


class Soak:
    def __init__(self, worker, load, versions):
        self.worker, self.load, self.versions = worker, load, versions
        self.broken, self.seconds = 0, []

    def metrics(self, *names):
        text = self.worker.ask_internal("GET", "/metrics").body.decode()
        find = lambda name: re.search(rf"^luaworker_{re.escape(name)} (\S+)$", text, re.M)[1]
        return [float(find(name)) for name in names]

    def metric(self, name):
        return self.metrics(name)[0]

    def slow_turns(self):
        """Turns of the worker's loop so far that took longer than 10, 25 and 100 ms."""
        buckets = [f'loop_lag_seconds_bucket{{le="{s}"}}' for s in ("0.01", "0.025", "0.1", "+Inf")]
        *within, total = self.metrics(*buckets)
        return [int(total - n) for n in within]

    def reload_well(self):
        """Writes and signals, and goes on loading until a request was answered by the new one."""
        versions = self.versions
        versions.written += 1
        self.worker.write_script(SCRIPT % versions.written)
        self.worker.signal(signal.SIGHUP)
        self.load.run_until(
            lambda: versions.seen == versions.written, f"version {versions.written}", PATIENCE
        )
        versions.note(versions.written)
        self.seconds.append(self.metric("reload_duration_seconds"))

    def reload_badly(self):
        self.worker.write_script(BROKEN[self.broken % len(BROKEN)])
        self.worker.signal(signal.SIGHUP)
        self.broken += 1
        while self.metric("reload_failures_total") < self.broken:
            self.load.run_for(0.02)

    def reload_often(self, count):
        for n in range(count):
            self.reload_well()
            self.load.run_for(PAUSE * SLOW)
            if n % 10 == 9:
                self.reload_badly()


def test_reloads_under_load(start, tmp_path):
    (tmp_path / "model.lua").write_text(MODEL)
    model = Program("run", "--log-level", "error", tmp_path / "model.lua")
    port = int(model.wait_line("port ").split()[-1])
    kept = ["--idle-timeout", "3600"]  # of the load's connections some are used seldom
    worker = start(SCRIPT % 1, model=f"http://127.0.0.1:{port}", options=kept)
    versions = Versions()
    requests, streams = check_with(versions)
    load = Steady(worker.port, requests, RATE, streams, STREAMS)
    soak = Soak(worker, load, versions)
    load.begin(spread=CHUNKS * INTERVAL)
    load.run_until(lambda: load.open_streams == STREAMS, "all streams", PATIENCE)
    load.run_for(2)
    calm, calm_gaps, calm_turns = load.latencies, load.gaps, soak.slow_turns()
    soak.reload_often(max(10, RELOADS // 5))  # warm: spare buffers, coroutines, curl's pool
    warm_kb = worker.memory_kb()
    load.latencies, load.gaps = [], []
    soak.reload_often(RELOADS)
    shaken, shaken_gaps, last_kb = load.latencies, load.gaps, worker.memory_kb()
    load.finish(PATIENCE)
    assert not load.faults, load.faults[:5]
    wait_until(lambda: soak.metric("generations") == 1, "one generation")
    assert soak.metric("generation") == versions.written
    assert soak.metric("reload_failures_total") == soak.broken
    assert soak.metric("lua_heap_bytes") < 4e6
    end_kb, slow_turns = worker.memory_kb(), soak.slow_turns()
    p = lambda values, share: f"{percentile(values, share) * 1000:.1f}"
    print(
        f"\n{versions.written - 1} reloads, {soak.broken} broken; {load.done}; RSS KB: warm {warm_kb},"
        f" last {last_kb}, end {end_kb}; load ms p50/p99/max: {p(soak.seconds, .5)}/"
        f"{p(soak.seconds, .99)}/{p(soak.seconds, 1)}; request ms p50/p99/max: calm {p(calm, .5)}/{p(calm, .99)}/{p(calm, 1)},"
        f" reloading {p(shaken, .5)}/{p(shaken, .99)}/{p(shaken, 1)}; longest gap of streams ms"
        f" (p50/max, {INTERVAL * 1000:.0f} are meant): calm {p(calm_gaps, .5)}/{p(calm_gaps, 1)},"
        f" reloading {p(shaken_gaps, .5)}/{p(shaken_gaps, 1)}"
        f"; turns of the loop over 10, 25, 100 ms: calm {calm_turns}, in all {slow_turns}"
    )
    if not is_sanitized():
        assert end_kb < warm_kb + 4 * 1024, (warm_kb, last_kb, end_kb)
    model.stop()
