# SPDX-License-Identifier: MIT
"""`luaworker load` as tests use it: scripts to send payloads for, runs with their result, the
stand-in with known delays."""

import csv
import json
import pathlib
import re
import signal
import subprocess

from .timing import SLOW
from .worker import SANITIZER, backend, clean_environment, run

HERE = pathlib.Path(__file__).parent

# Sends its payloads as they are; what a model server understands.
BARE = backend(
    """
    worker.post("/generate", { envelope = false, payload = Input }),
    worker.post("/other", { envelope = false }),
    """,
    before="""
local Input = worker.payload { prompt = "string" }
local count = 0
function Input.for_test()
  count = count + 1
  return Input { prompt = count .. " " .. require("luaworker.words").random_word() .. " "
    .. math.random(1000000) }
end
function Input:count_workload() return 7 end
""",
)
ENVELOPED = BARE.replace("envelope = false, ", "")


class LoadTester:
    """Runs load tests of a script in a directory of its own."""

    def __init__(self, directory, script=BARE):
        self.directory = pathlib.Path(directory)
        self.script = self.directory / "endpoint.lua"
        self.script.write_text(script)
        self.json = self.directory / "result.json"

    def run(self, *arguments, route="/generate", command=None, **options):
        """A load test that ends by itself: the ended process."""
        options.setdefault("timeout", 60 * SLOW)
        command = command or ("load", self.script, route)
        ended = run(*command, *arguments, **options)
        assert not any(mark in ended.stderr for mark in SANITIZER), ended.stderr
        return ended

    def result(self, *arguments, code=0, **options):
        """The same, flags in one text, too: the result table of --json."""
        self.json.unlink(missing_ok=True)
        words = [w for a in arguments for w in (a.split() if str(a).startswith("-") else [a])]
        ended = self.run(*words, "--json", self.json, **options)
        assert ended.returncode == code, ended
        result = json.loads(self.json.read_text())
        result["report"], result["progress"] = ended.stdout, ended.stderr
        return result

    def rows(self, path):
        with open(path, newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))


class StandIn:
    """harness/stand_in.c: a server with known delays, and its record of what it did."""

    def __init__(self, program, directory, *mode):
        self.record = pathlib.Path(directory) / f"record-{'-'.join(map(str, mode))}"
        self.process = subprocess.Popen(
            [str(program), str(self.record), *map(str, mode)],
            env=clean_environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}"

    def stop(self):
        """{ name: [received, sent, ...] }, in seconds."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(10 * SLOW) == 0
        self.process.stdout.close()
        rows = [line.split() for line in self.record.read_text().splitlines()]
        return {int(row[0]): [int(n) / 1e9 for n in row[1:]] for row in rows}

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def compile_stand_in(directory):
    program = pathlib.Path(directory) / "stand_in"
    source = HERE / "stand_in.c"
    subprocess.run(
        ["cc", "-O2", "-D_GNU_SOURCE", "-o", program, source], check=True, capture_output=True
    )
    return program


def percentile(values, share):
    """What this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[
        min(len(ordered) - 1, max(0, -(-int(share * len(ordered) * 1e6) // 10**6) - 1))
    ]


def latencies_shown(report):
    """{ name: [cells] } of the closing report's first table."""
    lines = report.split("\n\n")[1].splitlines()
    return {m.group(1).strip(): m.group(2).split() for m in map(ROW.match, lines[1:]) if m}


ROW = re.compile(r"(\S[a-zA-Z ]*?)  +(\S.*)$")
