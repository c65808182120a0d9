#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""`luaworker load` beside hey and wrk: how many requests a second one core of the client makes, all
three in a closed loop with 64 connections, in turn, before the same stand-in; and 5,000 streams open at
once, which only the first can measure. Prints a table; docs/load-testing.md tells how to read it.

  bench/load_tools.py [--quick]
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time

sys.dont_write_bytecode = True
import peers

CONNECTIONS, STREAMS = 64, 5000
GOAL_PER_CORE_S = 20000
PAYLOAD = json.dumps({"prompt": "a plain sentence that a model could answer " * 8})
SCRIPT = """
local worker = require "luaworker"
return worker.backend { model_server_url = "http://127.0.0.1:1", routes = {
  worker.post("/generate", { envelope = false }),
  worker.post("/generate_stream", { envelope = false }),
} }
"""
WRK = """
wrk.method, wrk.body = "POST", [[%s]]
wrk.headers["Content-Type"] = "application/json"
"""


def measured(command):
    """Runs a client on the last core of the machine: its output, CPU seconds and peak memory."""
    cores = sorted(os.sched_getaffinity(0))
    child = subprocess.Popen([str(c) for c in command], env=peers.ENVIRONMENT,
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL,
                             preexec_fn=lambda: os.sched_setaffinity(0, cores[-1:]))
    text = child.stdout.read().decode()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = status
    if status != 0:
        raise SystemExit(f"{command[0]} ended with {status}: {text}")
    return text, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def number_in(pattern, text):
    found = re.search(pattern, text)
    if not found:
        raise SystemExit(f"no {pattern} in: {text}")
    return float(found.group(1))


class Tools:
    def __init__(self, seconds):
        self.seconds = seconds
        self.script = peers.OUT / "load_tools.lua"
        self.script.write_text(SCRIPT)
        self.wrk_script = peers.OUT / "wrk.lua"
        self.wrk_script.write_text(WRK % PAYLOAD)
        self.result = peers.OUT / "load_tools.json"

    def load(self, url, route, *flags):
        text, cpu_s, peak_mb = measured(
            [peers.LUAWORKER, "load", self.script, route, "--direct", url, "--payload", PAYLOAD,
             "--quiet", "--json", self.result, *flags])
        return json.loads(self.result.read_text()), cpu_s, peak_mb

    def luaworker(self, url):
        result, cpu_s, _ = self.load(url, "/generate", "--concurrency", CONNECTIONS, "--duration",
                                     f"{self.seconds}s")
        assert set(result["outcomes"]) == {"ok"}, result["outcomes"]
        latency = result["latency"]["e2e"]
        count = result["outcomes"]["ok"]
        return count, result["reached"]["seconds"], cpu_s, latency["p50"], latency["p99"]

    def hey(self, url):
        text, cpu_s, _ = measured(
            ["hey", "-z", f"{self.seconds}s", "-c", CONNECTIONS, "-cpus", "1", "-m", "POST", "-T",
             "application/json", "-d", PAYLOAD, f"{url}/generate"])
        return (number_in(r"\[200\]\s+(\d+)", text), number_in(r"Total:\s+([\d.]+)", text), cpu_s,
                number_in(r"50% in ([\d.]+)", text), number_in(r"99% in ([\d.]+)", text))

    def wrk(self, url):
        text, cpu_s, _ = measured(
            ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{self.seconds}s", "--latency", "-s",
             self.wrk_script, f"{url}/generate"])
        units = {"us": 1e-6, "ms": 1e-3, "s": 1}

        def share(percent):
            value, unit = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s)", text).groups()
            return float(value) * units[unit]
        return (number_in(r"(\d+) requests in", text), number_in(r"requests in ([\d.]+)s", text),
                cpu_s, share(50), share(99))


def measure_requests(tools, rounds):
    model = peers.start_model(1, 1)
    os.sched_setaffinity(model.child.pid, sorted(os.sched_getaffinity(0))[:1])
    rows = {"luaworker": [], "hey": [], "wrk": []}
    try:
        for _ in range(rounds):
            for name, got in rows.items():
                count, seconds, cpu_s, p50, p99 = getattr(tools, name)(
                    f"http://127.0.0.1:{model.port}")
                got.append((count / seconds, count / cpu_s, cpu_s / count * 1e6, p50 * 1e3,
                            p99 * 1e3))
    finally:
        model.stop()
    return {name: [statistics.median(column) for column in zip(*got)]
            for name, got in rows.items()}


def measure_streams(tools, tokens):
    model = peers.start_model(tokens, 2)
    try:
        result, cpu_s, peak_mb = tools.load(f"http://127.0.0.1:{model.port}", "/generate_stream",
                                            "-n", STREAMS, "-rps", STREAMS / 2, "--stream")
    finally:
        model.stop()
    return {
        "outcomes": result["outcomes"], "tokens": result["throughput"]["tokens"],
        "most": max(second["in_flight"] for second in result["timeline"]),
        "cpu_us": cpu_s * 1e6 / max(result["throughput"]["tokens"], 1), "peak_mb": peak_mb,
        "kb": peak_mb * 1024 / STREAMS, "itl": result["latency"]["itl"],
        "connect": result["latency"]["connect"],
    }


def print_requests(rows):
    print(f"\n| closed loop, {CONNECTIONS} connections | requests/s | for each core-second "
          "| CPU per request, us | p50, ms | p99, ms |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, (per_s, per_core, cpu, p50, p99) in rows.items():
        print(f"| {name} | {per_s:,.0f} | {per_core:,.0f} | {cpu:.1f} | {p50:.2f} | {p99:.2f} |")
    holds = rows["luaworker"][1] >= GOAL_PER_CORE_S
    print(f"\nluaworker load on one core: {'pass' if holds else 'FAIL'} "
          f"(at least {GOAL_PER_CORE_S:,} requests for each core-second)")
    return holds


def print_streams(row, tokens):
    good = row["outcomes"] == {"ok": STREAMS} and row["tokens"] == STREAMS * tokens
    print(f"{STREAMS:,} streams of {tokens} tokens, 2 a second: {row['outcomes']}, "
          f"{row['tokens']:,} tokens, at most {row['most']:,} open; {row['cpu_us']:.1f} us CPU per "
          f"token, {row['peak_mb']:.0f} MB in all, {row['kb']:.1f} KB for each; between tokens p50 "
          f"{row['itl']['p50'] * 1e3:.1f} ms, p99 {row['itl']['p99'] * 1e3:.1f} ms: "
          f"{'pass' if good else 'FAIL'}")
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="10 seconds instead of a minute")
    quick = parser.parse_args().quick
    if not peers.LUAWORKER.exists():
        raise SystemExit(f"{peers.LUAWORKER} is missing: make build")
    peers.compile_tools()
    tools, tokens = Tools(1 if quick else 3), 10 if quick else 30
    begun = time.monotonic()
    good = print_requests(measure_requests(tools, 1 if quick else 5))
    good = print_streams(measure_streams(tools, tokens), tokens) and good
    print(f"measured in {time.monotonic() - begun:.0f} s; load of the machine "
          f"{os.getloadavg()[0]:.1f}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
