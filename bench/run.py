#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""luaworker and nginx side by side before one model stand-in: requests, streams, memory, start and
large bodies. Prints one table and writes build/bench/result.json; docs/performance.md tells how to
read them. Peers take turns, so that all see the same minutes of the machine.

  bench/run.py [--quick]
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

sys.dont_write_bytecode = True
import peers

PROXIES = ("nginx", "hooks", "plain")
CONNECTIONS = (1, 64, 512)
STREAMS, RATE = 500, 50
UPLOAD_STREAMS = 100
MOST_OTHERS_PERCENT = 10

problems = []


def expect(holds, text):
    if not holds and text not in problems:
        problems.append(text)
        print(f"WRONG: {text}", file=sys.stderr)


def column(got, key, scale=1):
    """{peer: its figure of each round}"""
    return {name: [row[key] * scale for row in rows] for name, rows in got.items()}


class Machine:
    """How much of the machine went to other things since this was made: other processes, and what a
    hypervisor took. Interrupts are left out, for those of the loopback are ours."""

    def __init__(self):
        self.all, self.used = self.look()

    def look(self):
        text = pathlib.Path("/proc/stat").read_text().split("\n", 1)[0]
        user, nice, system, idle, wait, irq, soft, steal = map(int, text.split()[1:9])
        used = user + nice + system + steal
        return used + idle + wait + irq + soft, used

    def others_percent(self):
        """To be asked when all that was started has been waited for."""
        passed, used = (now - before for now, before in zip(self.look(), (self.all, self.used)))
        own = sum(os.times()[:4]) / peers.TICK_S
        return max(0, 100 * (used - own) / max(passed, 1))


class Bench:
    def __init__(self, quick):
        self.rounds = 1 if quick else 5
        self.stream_rounds = 1 if quick else 3
        self.seconds = 0.5 if quick else 1.0
        self.starts = 3 if quick else 11
        self.tokens = 100 if quick else 200
        self.uploads = 2 if quick else 5
        self.model = peers.start_model(self.tokens, RATE)
        self.rows = []  # (measure, {peer: value}, target)

    def add(self, measure, values, direction="", hooks=None, plain=None, ratio=True,
            compare=True):
        """`values`: {peer: its figure of each round}. Targets are for the ratio to nginx when
        `ratio`, else for the figures themselves. `compare`: whether a ratio means anything, which
        it does not for differences near 0."""
        self.rows.append({"measure": measure, "rounds": values, "better": direction,
                          "values": {n: statistics.median(v) for n, v in values.items()},
                          "targets": {"hooks": hooks, "plain": plain}, "of_ratio": ratio,
                          "compare": compare})

    def port(self, proxy):
        return (proxy or self.model).port

    # -- start and rest --

    def measure_start(self):
        times, rest = {n: [] for n in PROXIES}, {n: [] for n in PROXIES}
        for turn in range(self.starts):
            for name in PROXIES:
                proxy = peers.start(name, self.model)
                times[name].append(proxy.start_ms)
                if turn == 0:
                    time.sleep(0.5)
                    rest[name].append(proxy.memory_kb("VmRSS") / 1024)
                proxy.stop()
        self.add("start to listening, ms", times, "less", 30, 30, ratio=False)
        self.add("memory at rest, MB", rest, "less", 16, 16, ratio=False)

    # -- JSON requests --

    def check_answers(self, proxies):
        _, wanted = peers.post(self.model.port, "/generate", b"{}")
        for name, proxy in proxies.items():
            body = peers.small_body(proxy.port)
            status, text = peers.post(proxy.port, "/generate", body)
            expect(status == 200 and json.loads(text) == json.loads(wanted),
                   f"{name}: /generate answers {status} with other than the model's JSON")
            if name != "nginx":
                forged = body.replace(b'"signature": "', b'"signature": "AAAA')
                expect(peers.post(proxy.port, "/generate", forged)[0] == 401,
                       f"{name}: a forged signature is not refused with 401")

    def load_json(self, name, proxy, connections):
        port = self.port(proxy)
        file = peers.write_request("json", "/generate", peers.small_body(port))
        before = proxy.cpu_s() if proxy else 0
        row = peers.load("json", port, connections, self.seconds, file)
        if proxy:
            row["cpu_us"] = (proxy.cpu_s() - before) * 1e6 / max(row["answered"], 1)
        expect(row["bad"] == 0 and row["good"] > 0,
               f"{name}: {row['bad']} of {row['good']} JSON requests failed")
        return row

    def measure_json(self):
        proxies = {name: peers.start(name, self.model) for name in PROXIES}
        self.check_answers(proxies)
        for connections in CONNECTIONS:
            got = {"direct": [self.load_json("direct", None, connections)]}
            for _ in range(self.rounds):
                for name, proxy in proxies.items():
                    got.setdefault(name, []).append(self.load_json(name, proxy, connections))
            label = f"JSON, {connections} connection{'s' if connections > 1 else ''}"
            self.add(f"{label}: requests/s", column(got, "per_s"), "more", 0.3, 0.4)
            for key in ("p50", "p99"):
                self.add(f"{label}: {key}, us", column(got, f"{key}_us"), "less")
            del got["direct"]
            self.add(f"{label}: CPU per request, us", column(got, "cpu_us"), "less")
        for proxy in proxies.values():
            proxy.stop()

    # -- streams --

    def load_streams(self, name, streams, *upload):
        proxy = None if name == "direct" else peers.start(name, self.model)
        if proxy:
            time.sleep(0.3)
        port = self.port(proxy)
        file = peers.write_request("stream", "/generate_stream", peers.small_body(port))
        if upload:
            upload = (peers.write_request("image", "/generate", peers.image_body(port)), *upload)
        before = (proxy.cpu_s(), proxy.memory_kb("VmRSS")) if proxy else None
        row = self.watch(proxy, ["streams", port, streams, 1.0, file, *upload], before)
        if proxy:
            row["cpu_us"] = (proxy.cpu_s() - before[0]) * 1e6 / max(row["tokens"], 1)
            row["peak_mb"] = proxy.memory_kb("VmHWM") / 1024
            proxy.stop()
        expect(row["good"] == streams and row["tokens"] == streams * self.tokens,
               f"{name}: {row['good']} of {streams} streams whole, {row['tokens']} tokens")
        return row

    def watch(self, proxy, arguments, before):
        """Runs load; looks at the memory when all streams are open."""
        child = subprocess.Popen([str(a) for a in [peers.OUT / "load", *arguments]],
                                 stdout=subprocess.PIPE)
        time.sleep(1.0 + (self.tokens / RATE - 1.0) / 2)
        open_kb = proxy.memory_kb("VmRSS") if proxy else 0
        row = json.loads(child.communicate()[0])
        if proxy:
            row["stream_kb"] = (open_kb - before[1]) / int(arguments[2])
        return row

    def measure_streams(self):
        got = {name: [] for name in ("direct", *PROXIES)}
        for _ in range(self.stream_rounds):
            for name, rows in got.items():
                rows.append(self.load_streams(name, STREAMS))
        direct = got.pop("direct")
        label = f"{STREAMS} streams"
        self.add(f"{label}: CPU per token, us", column(got, "cpu_us"), "less", 1.2, 1.2)
        for key, text in (("p50_us", "p50"), ("p99_us", "p99"), ("p999_us", "p99.9")):
            own = [row[key] / 1e3 for row in direct]
            floor = statistics.median(own)
            added = {n: [v - floor for v in values] for n, values in column(got, key, 1e-3).items()}
            self.add(f"{label}: added delay {text}, ms", {"direct": own, **added}, "less",
                     compare=False)
        self.add(f"{label}: first token p50, ms",
                 column({"direct": direct, **got}, "first_p50_ms"), "less")
        self.add(f"{label}: peak memory, MB", column(got, "peak_mb"), "less")
        self.add("memory per open stream, KB", column(got, "stream_kb"), "less", 24, 24,
                 ratio=False)

    # -- large bodies --

    def measure_uploads(self):
        got = {"direct": [self.load_streams("direct", UPLOAD_STREAMS, self.uploads, 0.6)]}
        for _ in range(self.stream_rounds):
            for name in PROXIES:
                row = self.load_streams(name, UPLOAD_STREAMS, self.uploads, 0.6)
                got.setdefault(name, []).append(row)
        uploads = {n: [u for row in rows for u in row["uploads"]] for n, rows in got.items()}
        for name, rows in uploads.items():
            expect(rows and all(u["status"] == 200 for u in rows),
                   f"{name}: 11 MB bodies are answered {[u['status'] for u in rows]}")
        for key, text in (("took_ms", "answered after"), ("busy_ms", "others' worst token"),
                          ("quiet_ms", "worst token without it")):
            self.add(f"11 MB body: {text}, ms", column(uploads, key), "less")
        delays = {n: [u["busy_ms"] - u["quiet_ms"] for u in rows] for n, rows in uploads.items()}
        self.add("11 MB body: delays others' tokens by, ms", delays, "less", 10, 10, ratio=False,
                 compare=False)


# -- the table --

def number(value):
    if value is None:
        return ""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def judge(row):
    """Fills in ratios and verdicts. Ratios are taken round by round, between neighbours in time."""
    nginx = row["rounds"]["nginx"]
    row["ratios"], row["verdicts"] = {}, {}
    for name in ("hooks", "plain"):
        if row["compare"] and min(nginx) > 0:
            pairs = zip(row["rounds"][name], nginx)
            row["ratios"][name] = statistics.median(own / other for own, other in pairs)
        target = row["targets"][name]
        if target is not None:
            figure = row["ratios"].get(name, 0) if row["of_ratio"] else row["values"][name]
            holds = figure >= target if row["better"] == "more" else figure <= target
            row["verdicts"][name] = "pass" if holds else "FAIL"


def target_text(row):
    sign = ">=" if row["better"] == "more" else "<="
    both = [t for t in row["targets"].values() if t is not None]
    if not both:
        return "", ""
    text = f"{sign} {both[0]}" if both[0] == both[1] else f"{sign} {both[0]}, {sign} {both[1]}"
    return text + (" of nginx" if row["of_ratio"] else ""), ", ".join(row["verdicts"].values())


def print_table(rows):
    lines = [["", "direct", "nginx", "hooks", "plain", "hooks / nginx", "plain / nginx", "target",
              "hooks, plain"]]
    for row in rows:
        cells = [number(row["values"].get(n)) for n in ("direct", "nginx", "hooks", "plain")]
        ratios = [number(row["ratios"].get(n)) for n in ("hooks", "plain")]
        lines.append([row["measure"], *cells, *ratios, *target_text(row)])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    lines.insert(1, ["-" * w if i == 0 or i > 6 else "-" * (w - 1) + ":"
                     for i, w in enumerate(widths)])
    for line in lines:
        cells = [c.ljust(w) if i == 0 or i > 6 else c.rjust(w)
                 for i, (c, w) in enumerate(zip(line, widths))]
        print("| " + " | ".join(cells) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="under a minute instead of three")
    quick = parser.parse_args().quick
    if not peers.LUAWORKER.exists():
        raise SystemExit(f"{peers.LUAWORKER} is missing: make build")
    peers.compile_tools()
    peers.make_key()
    machine = Machine()
    bench = Bench(quick)
    begun = time.monotonic()
    try:
        for measure in (bench.measure_start, bench.measure_json, bench.measure_streams,
                        bench.measure_uploads):
            measure()
            print(f"{measure.__name__[8:]} measured after {time.monotonic() - begun:.0f} s",
                  file=sys.stderr)
    finally:
        bench.model.stop()
    others = machine.others_percent()
    for row in bench.rows:
        judge(row)
    print_table(bench.rows)
    result = {"date": time.strftime("%Y-%m-%d"), "quick": quick, "cores": os.cpu_count(),
              "others_percent": round(others, 1), "problems": problems, "rows": bench.rows}
    (peers.OUT / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    failed = [r["measure"] for r in bench.rows if "FAIL" in r["verdicts"].values()]
    print(f"\n{others:.0f} % of the machine went to other things"
          + (": don't trust these figures" if others > MOST_OTHERS_PERCENT else ""))
    print(f"{len(problems)} wrong answers, {len(failed)} missed targets")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
