# SPDX-License-Identifier: MIT
"""Debian's promtool and prometheus on /metrics: the text is sound, and a server that scrapes it finds
the figures of the requests that were made."""

import json
import subprocess
import urllib.parse
import urllib.request

import pytest

from harness.model import says, streams
from harness.ports import reserve_port
from harness.timing import PATIENCE, wait_until
from harness.worker import ROOT


# Where tools/peers.sh unpacks Debian's package.
PROGRAMS = ROOT / "build/prometheus/usr/bin"


@pytest.fixture
def busy_worker(start, model):
    """A worker that has seen one of each outcome."""
    model.on("/generate", streams([b"data: 1\n\n", b"data: 2\n\n"]))
    model.on("/serial", says({"error": "no"}, 500))
    worker = start()
    for _ in range(3):
        worker.post("/generate")
    worker.post("/serial")
    worker.get("/ping")
    worker.get("/nothing/there")
    return worker


def test_promtool_finds_no_fault(busy_worker):
    text = busy_worker.ask_internal("GET", "/metrics").body
    shown = subprocess.run(
        [PROGRAMS / "promtool", "check", "metrics"], input=text, capture_output=True, timeout=PATIENCE
    )
    assert shown.returncode == 0 and not shown.stderr + shown.stdout, shown.stderr.decode()


class Prometheus:
    def __init__(self, directory, target):
        config = directory / "prometheus.yml"
        config.write_text(
            json.dumps(
                {
                    "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
                    "scrape_configs": [
                        {"job_name": "luaworker", "static_configs": [{"targets": [target]}]}
                    ],
                }
            )
        )
        self.port = reserve_port()
        self.process = subprocess.Popen(
            [
                PROGRAMS / "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=open(directory / "log", "wb"),
        )

    def query(self, text):
        """The samples as {labels without the scrape's own: value}; None while it can't answer."""
        url = f"http://127.0.0.1:{self.port}/api/v1/query?query={urllib.parse.quote(text)}"
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
                found = json.load(answer)["data"]["result"]
        except OSError:
            return None
        own = ("__name__", "instance", "job")
        return {
            tuple(sorted((k, v) for k, v in one["metric"].items() if k not in own)): float(
                one["value"][1]
            )
            for one in found
        }

    def wait(self, text, condition):
        """Until the samples are such. (A scrape that took too long leaves none until the next.)"""
        seen = []

        def reached():
            seen[:] = [self.query(text)]
            return seen[0] is not None and condition(seen[0])

        try:
            wait_until(reached, text, PATIENCE * 3)
        except AssertionError as error:
            raise AssertionError(f"{error}; the last: {seen}") from None

    def stop(self):
        self.process.terminate()
        self.process.wait()


def test_prometheus_scrapes_what_happened(busy_worker, tmp_path):
    server = Prometheus(tmp_path, f"127.0.0.1:{busy_worker.internal_port}")
    try:
        server.wait("up", lambda seen: seen.get(()) == 1)
        generate = (("outcome", "success"), ("route", "POST /generate"))
        serial = (("outcome", "error"), ("route", "POST /serial"))
        server.wait(
            "sum by (route, outcome) (luaworker_requests_total)",
            lambda seen: seen.get(generate) == 3 and seen.get(serial) == 1,
        )
        server.wait("luaworker_ready", lambda seen: seen == {(): 1})
        server.wait(
            "histogram_quantile(0.9, sum by (le) (luaworker_time_to_first_byte_seconds_bucket))",
            lambda seen: 0 < seen.get((), 0) < 60,
        )
        busy_worker.post("/generate")
        server.wait(
            'sum(luaworker_requests_total{route="POST /generate"})', lambda seen: seen == {(): 4}
        )
    finally:
        server.stop()
