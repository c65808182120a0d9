# SPDX-License-Identifier: MIT
"""The figures of load tests against the truth: the record of a server with known delays
(harness/stand_in.c), which says when each request reached it and when it sent each answer.

Both sides read the same clock, but the client counts from the first request's intended moment. Where
that was, every request tells: it reached the server after it was sent, and its end came to the client
after the server sent it. So the moments of all rows (--csv) leave a span for the client's zero. It is
empty if one row alone says what can't be, and as narrow as the quickest request was under way unless
all rows are early or late; no other program on the machine can make it either. The percentiles must
be those of the rows. Whether they are also as near to the server's as to be expected is asked when the
machine was calm, which is when nearly all requests reached the server in time."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.load import ENVELOPED, LoadTester, StandIn, compile_stand_in, percentile
from harness.timing import SLOW

SHARES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
NEAR_S, NEAR_SHARE = 0.001 * SLOW, 0.02
BUCKET_SHARE = 0.008  # of a percentile: floor/quantile.h


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return compile_stand_in(tmp_path_factory.mktemp("stand_in"))


@pytest.fixture
def measured(program, tmp_path):
    """measured(mode, flags): the result of a load test, with its "rows", and the server's record."""

    def measure(mode, flags, name="run", **options):
        directory = tmp_path / name
        directory.mkdir(exist_ok=True)
        server = StandIn(program, directory, *mode)
        try:
            tester, csv = LoadTester(directory, ENVELOPED), directory / "rows.csv"
            flags = ("--direct", server.url, flags, "--quiet", "--csv", csv)
            result = tester.result(*flags, **options)
            result["rows"] = {int(row["index"]): numbers_of(row) for row in tester.rows(csv)}
            return result, server.stop()
        finally:
            server.kill()

    return measure


def numbers_of(row):
    """What the client says of a request, in seconds."""
    names = ("intended", "sent", "ended", "e2e", "service", "ttft", "longest_gap")
    return {name: float(row[name]) for name in names}


class Truth:
    """By the server's record of an open loop with constant arrivals."""

    def __init__(self, result, record, rps):
        self.rows, self.record, self.rps = result["rows"], record, rps
        assert set(self.rows) == set(record) and result["outcomes"] == {"ok": len(record)}
        self._check_rows()
        self.zero = self._find_zero()
        self.late = {n: e[0] - self._due(n) for n, e in record.items()}
        self.e2e = [e[-1] - self._due(n) for n, e in record.items()]
        self.ttft = [e[1] - self._due(n) for n, e in record.items()]
        self.service = [e[-1] - e[0] for e in record.values()]

    def _due(self, name):
        return self.zero + (name - 1) / self.rps

    def _check_rows(self):
        for name, row in self.rows.items():
            assert row["intended"] == pytest.approx((name - 1) / self.rps, abs=1e-6), name
            assert row["intended"] <= row["sent"] + 1e-9 and row["sent"] <= row["ended"]
            assert row["e2e"] == pytest.approx(row["ended"] - row["intended"], abs=1e-6), name
            assert row["service"] == pytest.approx(row["ended"] - row["sent"], abs=1e-6), name
            assert 0 < row["ttft"] <= row["e2e"] + 1e-6, name

    def _find_zero(self):
        rows = [(self.rows[name], entry) for name, entry in self.record.items()]
        latest = min(entry[0] - row["sent"] for row, entry in rows)
        ends = max(entry[-1] - row["ended"] for row, entry in rows)
        firsts = max(entry[1] - row["intended"] - row["ttft"] for row, entry in rows)
        print(f"\nthe quickest was under way for {(latest - ends) * 1e3:.3f} ms, to its first token"
              f" and back {(latest - firsts) * 1e3:.3f} ms")  # fmt: skip
        assert -1e-6 <= latest - ends < NEAR_S, "some end came before it was sent, or all came late"
        assert -1e-6 <= latest - firsts < NEAR_S
        return latest

    def is_calm(self, requests):
        """Nothing but the machine keeps these back, and it did so with few."""
        return percentile([self.late[n] for n in requests or self.late], 0.99) < NEAR_S

    def compare(self, result, names=("e2e", "ttft", "service"), requests=None):
        """The percentiles are those of the rows, and near to the server's. requests: those that no
        server's doing keeps back."""
        calm = self.is_calm(requests)
        for name in names:
            said = result["latency"][name]
            rows, true = [row[name] for row in self.rows.values()], getattr(self, name)
            print(f"{name}: reported, of the rows, true, in ms; calm: {calm}")
            for stat, share in SHARES.items():
                of_rows, of_server = percentile(rows, share), percentile(true, share)
                print(f"  {stat} {said[stat] * 1e3:9.3f} {of_rows * 1e3:9.3f} {of_server * 1e3:9.3f}")
                assert said[stat] == pytest.approx(of_rows, rel=BUCKET_SHARE, abs=1e-6), (name, stat)
                assert said[stat] > of_server * (1 - BUCKET_SHARE) - NEAR_S, (name, stat)
                if share <= 0.9 and calm:
                    assert said[stat] < of_server * (1 + NEAR_SHARE) + NEAR_S, (name, stat)
        return calm


def test_a_constant_delay(measured):
    result, record = measured(("constant", 20), "-rps 100 --duration 3s")
    truth = Truth(result, record, 100)
    assert len(record) == 300
    truth.compare(result)
    assert result["latency"]["service"]["min"] >= 0.02


def test_two_kinds_of_answers(measured):
    result, record = measured(("bimodal", 10, 100, 5), "-rps 100 --duration 3s")
    truth = Truth(result, record, 100)
    truth.compare(result)
    assert len(record) == 300 and result["latency"]["e2e"]["p90"] >= 0.1 * (1 - BUCKET_SHARE)
    slow = [row["service"] for name, row in truth.rows.items() if name % 5 == 0]
    assert min(slow) >= 0.1 and min(row["service"] for row in truth.rows.values()) < 0.1


def test_tokens(measured):
    result, record = measured(("stream", 15, 20), "-rps 20 --duration 2s --stream")
    truth = Truth(result, record, 20)
    calm = truth.compare(result, ("ttft", "e2e"))
    assert result["throughput"]["tokens"] == 40 * 20
    itl = result["latency"]["itl"]
    assert itl["count"] == 40 * 19
    streaming = sum(row["e2e"] - row["ttft"] for row in truth.rows.values())
    assert itl["mean"] * itl["count"] == pytest.approx(streaming, abs=40 * NEAR_S)
    assert itl["max"] == pytest.approx(max(r["longest_gap"] for r in truth.rows.values()), abs=1e-6)
    if calm:
        assert itl["p50"] == pytest.approx(0.015, abs=NEAR_S)


def test_a_freeze_is_seen_by_the_open_loop_and_hidden_by_a_closed_one(measured):
    """2 s in the middle of 6 s: a third of all requests were due meanwhile."""
    freeze = ("freeze", 5, 2000, 2000)
    with ThreadPoolExecutor() as both:
        by_open = both.submit(measured, freeze, "-rps 100 --duration 6s", "open")
        by_closed = both.submit(measured, freeze, "--concurrency 2 --duration 6s", "closed")
        (result, record), (closed, other) = by_open.result(), by_closed.result()
    truth = Truth(result, record, 100)
    assert len(record) == 600
    truth.compare(result, ("e2e", "ttft"), range(1, 151))
    rows = [
        (stat, closed["latency"]["e2e"][stat], result["latency"]["e2e"][stat])
        for stat in ("p50", "p90", "p95", "p99", "max")
    ]
    print("\nthe same freeze, end to end:   closed loop      open loop")
    for stat, by_closed, by_open in rows:
        print(f"  {stat:24} {by_closed * 1e3:12.1f} ms {by_open * 1e3:11.1f} ms")
    assert "CLOSED LOOP" in closed["report"]
    assert result["latency"]["e2e"]["p90"] > 0.5
    if len(other) > 1000:  # a slow machine's few requests hide less
        assert closed["latency"]["e2e"]["p99"] < result["latency"]["e2e"]["p90"] / 4


def test_a_client_that_does_not_keep_up_says_so(measured):
    """No machine sends so many."""
    result, _ = measured(("constant", 0), "-rps 1000000 -n 20000")
    reached = result["reached"]
    assert reached["saturated"] is True and "late" in reached["why"]
    assert "SATURATED CLIENT" in result["report"]
    assert result["latency"]["schedule_delay"]["p99"] > 0.01
    assert result["latency"]["e2e"]["p50"] > result["latency"]["service"]["p50"]
