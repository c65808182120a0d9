# SPDX-License-Identifier: MIT
"""Measured requests of load tests, through the real binary: moments against those of the server (both
sides read CLOCK_MONOTONIC), events over all cuts of the bytes, the name of each failure, thousands of
streams, and that nothing is left when they are stopped."""

import json
import re
import resource
import select
import signal
import socket
import threading
import time

import pytest

from harness.model import FakeModel, answers, raw, refused_url
from harness.timing import PATIENCE, SLOW, wait_until
from harness.tls import Authority
from harness.worker import ROOT, Program, run

SHOTS = ROOT / "tests/e2e/harness/shots.lua"
HELD_S = 0.03  # between two pieces


@pytest.fixture
def fire(tmp_path):
    """fire(shot, ..., trust=..., at_once=...) → the results, each with .gaps_of_all."""

    def fire_all(*shots, **plan):
        path = tmp_path / "plan.json"
        path.write_text(json.dumps({"shots": shots, **plan}))
        ended = run("run", SHOTS, path, timeout=PATIENCE * 6)
        assert ended.returncode == 0 and not ended.stderr, ended
        *results, gaps = map(json.loads, ended.stdout.splitlines())
        assert len(results) == len(shots), ended
        return sorted(results, key=lambda r: r["number"]), gaps

    return fire_all


def hold(exchange):
    """What comes next is another piece, by HELD_S later."""
    exchange.taken()
    time.sleep(HELD_S)


def ordered(result, *names):
    moments = [result[name] for name in names]
    assert moments == sorted(moments) and moments[0] > 0, result


# -- good answers --


def test_a_whole_answer(fire, model):
    """The name takes another way through the resolver than the number."""
    model.on("/a", answers(b"hello"))
    for host in ("127.0.0.1", "localhost"):
        begun = time.monotonic()
        shots = [{"url": f"http://{host}:{model.port}/a", "body": "x" * 5000}] * 3
        results, gaps = fire(*shots)
        for i, r in enumerate(results):
            assert r["outcome"] == "ok" and r["status"] == 200 and r["text"] == "hello", r
            assert (r["bytes"], r["events"], r["gaps"], r["longest_gap"]) == (5, 1, 0, 0), r
            assert not r["is_stream"] and not r["retried"] and "error" not in r
            ordered(r, "started", "sent", "head", "first", "last", "ended")
            assert begun < r["started"] and r["ended"] < time.monotonic()
            assert r["reused"] == (i > 0) and (r["connect_s"] > 0) == (i == 0), r
            assert r["tls_s"] == 0 and r["connect_s"] + r["dns_s"] <= r["sent"] - r["started"]
        assert gaps["count"] == 0
    assert all(e.headers.get("Content-Type") == "application/json" for e in model.seen())
    assert all(len(e.body) == 5000 for e in model.seen())


def test_methods_and_fields(fire, model):
    model.on("/a", answers(b"hello", headers=[("Retry-After", "9")], status=429))
    results, _ = fire(
        {"method": "GET", "url": model.url + "/a?b=c d".replace(" ", "%20")},
        {"url": model.url + "/a", "options": {"headers": {"X-One": "1", "Host": "nobody"}}},
        {"method": "HEAD", "url": model.url + "/a"},
        {"url": model.url + "/a"},
    )
    assert [r["status"] for r in results] == [429] * 4
    assert [r["text"] for r in results] == ["hello", "hello", "", "hello"]
    assert [r["retry_after"] for r in results] == ["9"] * 4
    get, post, head, empty = model.seen()
    assert get.target == "/a?b=c%20d" and "Content-Length" not in get.headers
    assert post.headers.get("X-One") == "1" and post.headers.all("Host") == [
        f"127.0.0.1:{model.port}"
    ]
    assert head.method == "HEAD" and empty.headers.get("Content-Length") == "0"
    assert {e.connection.number for e in model.seen()} == {0}


@pytest.mark.parametrize(
    "text, length",
    [(b"HTTP/1.1 204 None\r\n\r\n", 0), (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 0)]
    + [
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 2),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;ext=1\r\nhi\r\n0\r\nX: y\r\n\r\n",
            2,
        ),
        (b"HTTP/1.1 304 Same\r\nContent-Length: 70\r\n\r\n", 0),
    ],
)
def test_framings_that_keep_the_connection(fire, model, text, length):
    model.on("/a", raw(text))
    results, _ = fire(*[{"url": model.url + "/a"}] * 3)
    for r in results:
        assert r["outcome"] == "ok" and r["bytes"] == length, r
        assert r["events"] == (1 if length else 0) and (r["first"] > 0) == (length > 0)
    assert len(model.connections) == 1


@pytest.mark.parametrize(
    "text",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\n\r\nhi",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    ],
)
def test_framings_that_end_it(fire, model, text):
    model.on("/a", raw(text, then="close"))
    results, _ = fire(*[{"url": model.url + "/a"}] * 3)
    for r in results:
        assert (r["outcome"], r["text"], r["reused"], r["retried"]) == ("ok", "hi", False, False), r
    assert len(model.connections) == 3


# -- streams --


def test_moments_of_a_stream(fire, model):
    """Each moment lies between what the server did before and what it did after."""
    told = {}

    def behaviour(exchange):
        told["got"] = time.monotonic()
        exchange.read_body()
        time.sleep(HELD_S)
        told["head"] = time.monotonic()
        exchange.stream_head()
        for i in range(5):
            hold(exchange)
            told[i] = time.monotonic()
            exchange.chunk(b'data: {"i":%d}\n\n' % i)
        hold(exchange)
        exchange.chunk(b"data: [DONE]\n\n")
        hold(exchange)
        told["end"] = time.monotonic()
        exchange.last_chunk()

    model.on("/s", behaviour)
    (r,), gaps = fire({"url": model.url + "/s", "body": "{}"})
    assert r["outcome"] == "ok" and r["is_stream"] and r["events"] == 5 and r["gaps"] == 4, r
    assert r["started"] < told["got"] and r["head"] > told["head"] and r["first"] > told[0]
    assert r["last"] > told[4] + HELD_S * 0.9 and r["ended"] > told["end"]
    assert r["first"] - r["head"] > HELD_S / 2 and r["last"] - r["first"] > 4 * HELD_S
    assert r["longest_gap"] >= HELD_S * 0.9
    assert gaps["count"] == 4 and gaps["zeros"] == 0 and gaps["sum"] > 3.5 * HELD_S
    assert abs(gaps["max"] - r["longest_gap"]) < 1e-6 and r["text"].endswith("data: [DONE]\n\n")


STORY = b': hi\n\ndata: {"a": 1}\r\n\r\nevent: x\ndata: 2\ndata: 3\n\n\n\ndata:\n\ndata: 4\n\ndata: [DONE]\n\n'


def test_events_however_they_are_cut(fire, model):
    def cut_at(*places):
        def behaviour(exchange):
            exchange.read_body()
            exchange.stream_head()
            for begin, end in zip((0, *places), (*places, len(STORY))):
                exchange.chunk(STORY[begin:end])
                time.sleep(0.001)
            exchange.last_chunk()

        return behaviour

    paths = []
    for place in range(1, len(STORY)):
        paths.append(f"/{place}")
        model.on(paths[-1], cut_at(place))
    model.on("/bytes", cut_at(*range(1, len(STORY))))
    results, gaps = fire(*[{"url": model.url + path} for path in [*paths, "/bytes"]])
    assert {r["events"] for r in results} == {3}
    assert {r["text"] for r in results} == {STORY.decode()}
    assert gaps["count"] == 2 * len(results)


def test_frames_however_they_are_cut(fire, model):
    """The bytes on the wire, head and chunk sizes too, one at a time and in pairs of pieces."""
    text = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"b;x=y\r\ndata: 1\n\nda\r\n00007\r\nta: 2\n\n\r\n0\r\nTrailer: x\r\n\r\n"
    )

    def cut_at(*places):
        def behaviour(exchange):
            exchange.read_body()
            for begin, end in zip((0, *places), (*places, len(text))):
                exchange.send(text[begin:end])
                time.sleep(0.0005)
            exchange.done()

        return behaviour

    places = range(1, len(text))
    for place in places:
        model.on(f"/{place}", cut_at(place))
    model.on("/bytes", cut_at(*places))
    results, _ = fire(*[{"url": f"{model.url}/{p}"} for p in [*places, "bytes"]])
    assert {(r["outcome"], r["events"], r["bytes"]) for r in results} == {("ok", 2, 18)}
    assert len(model.connections) == 1


def test_kinds_of_streams(fire, model):
    def pieces(content_type, *texts):
        def behaviour(exchange):
            exchange.read_body()
            exchange.stream_head(content_type)
            for text in texts:
                exchange.chunk(text)
                hold(exchange)
            exchange.last_chunk()

        return behaviour

    model.on("/lines", pieces("application/x-ndjson", b'{"a":', b"1}\n{}\n\n", b"{}"))
    model.on("/plain", pieces("text/plain", b"one ", b"two ", b"three"))
    model.on("/json", pieces("application/json", b"[1,", b"2]"))
    expected = {"stream": True}
    results, _ = fire(
        {"url": model.url + "/lines"},
        {"url": model.url + "/plain", "options": expected},
        {"url": model.url + "/plain"},
        {"url": model.url + "/json", "options": expected},
    )
    assert [r["is_stream"] for r in results] == [True, True, False, False]
    assert [r["events"] for r in results] == [3, 3, 1, 1]


def test_the_end_of_a_long_answer_is_kept(fire, model):
    text = b"".join(b"%07d\n" % i for i in range(20000))
    model.on("/a", answers(text))
    (r,), _ = fire({"url": model.url + "/a"})
    assert r["bytes"] == len(text) and r["text"].encode() == text[-16384:]


# -- failures --


def test_who_can_not_be_reached(fire):
    results, _ = fire(
        {"url": refused_url()},
        {"url": "http://no-such-host.invalid/"},
        {"url": "nonsense://x"},
        {"url": "unix:/nowhere/at/all.sock"},
        {"url": ""},
        {"url": "http://127.0.0.1:99999/"},
        {"url": "http://[::1/"},
    )
    for r in results:
        assert r["outcome"] == "connect" and r["error"].startswith("server "), r
        assert r["sent"] == r["head"] == 0 and r["status"] == 0 and r["ended"] >= r["started"] > 0
    assert "refused the connection" in results[0]["error"]


def test_deadlines(fire, model):
    def halts(*pieces):
        def behaviour(exchange):
            exchange.read_body()
            for piece in pieces:
                exchange.send(piece)
            exchange.watch()

        return behaviour

    half = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"
    model.on("/silent", halts())
    model.on("/half", halts(half))
    results, _ = fire(
        {"url": model.url + "/silent", "options": {"timeout": {"first_byte": 2}}},
        {"url": model.url + "/silent", "options": {"timeout": 2}},
        {"url": model.url + "/half", "options": {"timeout": {"idle": 2}}},
        {"url": model.url + "/half", "options": {"timeout": 2}},
        at_once=True,
    )
    for r in results:
        assert r["outcome"] == "timeout" and r["ended"] - r["started"] >= 2 and r["sent"] > 0, r
    assert [r["text"] for r in results] == ["", "", "half", "half"]
    for exchange in model.seen():
        exchange.expect_dropped()


def test_no_connection_in_time(fire):
    """A backlog that is full lets the SYNs of others fall."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        results, _ = fire(
            {"url": url, "options": {"timeout": {"connect": 0.1}}},
            {"url": url, "options": {"timeout": 0.1}},
        )
        for filler in fillers:
            filler.close()
    for r in results:
        assert r["outcome"] == "connect" and r["sent"] == 0 and r["ended"] - r["started"] >= 0.1, r


@pytest.mark.parametrize("then", ["close", "reset"])
def test_answers_that_break_off(fire, model, then):
    texts = {
        "/none": b"",
        "/head": b"HTTP/1.1 200 OK\r\nContent-Len",
        "/length": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        "/chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nhalf",
        "/chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    }

    def breaks(text):
        def behaviour(exchange):
            exchange.read_body()
            exchange.send(text).taken()  # a reset overtakes what was sent
            exchange.close() if then == "close" else exchange.reset()

        return behaviour

    for path, text in texts.items():
        model.on(path, breaks(text))
    results, _ = fire(*[{"url": model.url + path} for path in texts])
    for path, r in zip(texts, results):
        assert r["outcome"] == "broken" and r["error"], (path, r)
        assert not r["retried"], r
        if path not in ("/none", "/head"):
            assert r["text"] == "half" and r["head"] > 0 and r["status"] == 200, (path, r)


def test_answers_that_are_not_http(fire, model):
    texts = {
        "/noise": b"\x00\x01\x02\r\n\r\n",
        "/field": b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "/folded": b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n",
        "/lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "/length": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "/coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "/size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "/huge": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        "/switch": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n",
        "/long": b"HTTP/1.1 200 OK\r\n" + b"A: %s\r\n" % (b"x" * 200000),
    }
    for path, text in texts.items():
        model.on(path, raw(text, then="close"))
    results, _ = fire(*[{"url": model.url + path} for path in texts])
    for path, r in zip(texts, results):
        assert r["outcome"] == "protocol" and r["error"], (path, r)


def test_answers_without_a_line_that_are_not_http(fire, model):
    """Who speaks something else, TLS above all, may wait for more: nothing is to be waited for."""
    model.on("/tls", raw(b"\x15\x03\x03\x00\x02\x02\x28"))
    model.on("/ssh", raw(b"SSH-2.0-OpenSSH"))
    for host in ("127.0.0.1", "localhost"):
        urls = [f"http://{host}:{model.port}/{path}" for path in ("tls", "ssh")]
        results, _ = fire(*[{"url": url, "options": {"timeout": 10 * SLOW}} for url in urls])
        assert [r["outcome"] for r in results] == ["protocol"] * 2, results


OK = b"HTTP/1.1 200 OK\r\n"
HI = OK + b"Content-Length: 2\r\n\r\nhi"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
EVENTS = OK + b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
ODD = {
    "interim": b"HTTP/1.1 100 C\r\nContent-Length: 5\r\n\r\n" * 3 + HI,
    "interim without end": b"HTTP/1.1 102 P\r\n\r\n" * 8000,
    "204 with a length": b"HTTP/1.1 204 N\r\nContent-Length: 2\r\n\r\nhi",
    "304 in chunks": b"HTTP/1.1 304 N\r\nTransfer-Encoding: chunked\r\n\r\n",
    "205": b"HTTP/1.1 205 R\r\nContent-Length: 2\r\n\r\nhi",
    "redirect": b"HTTP/1.1 302 F\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 2\r\n\r\nhi",
    "401": b"HTTP/1.1 401 U\r\nWWW-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n",
    "417": b"HTTP/1.1 417 E\r\nContent-Length: 2\r\n\r\nhi",
    "426": b"HTTP/1.1 426 U\r\nUpgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 0\r\n\r\n",
    "999": b"HTTP/1.1 999 X\r\nContent-Length: 2\r\n\r\nhi",
    "chunks and a length": OK
    + b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "codings": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "chunked twice": OK + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n0\r\n\r\n",
    "no coding": OK + b"Transfer-Encoding:\r\n\r\nhi",
    "lengths": OK + b"Content-Length: 2\r\n" * 2 + b"\r\nhi",
    "a list of lengths": OK + b"Content-Length: 2, 2\r\n\r\nhi",
    "a long length": OK + b"Content-Length: 9223372036854775807\r\n\r\nhi",
    "too long a length": OK + b"Content-Length: 9223372036854775808\r\n\r\nhi",
    "an extension": CHUNKED + b"2;" + b"a" * 4000 + b"\r\nhi\r\n0;b\r\n\r\n",
    "trailers": CHUNKED + b"2\r\nhi\r\n0\r\nContent-Length: 9\r\nA: b\r\n\r\n",
    "a trailer that is none": CHUNKED + b"2\r\nhi\r\n0\r\nnonsense\r\n\r\n",
    "trailers without end": CHUNKED + b"2\r\nhi\r\n0\r\n" + b"A: b\r\n" * 20000,
    "no last line": CHUNKED + b"2\r\nhi\r\n0\r\n",
    "a negative chunk": CHUNKED + b"-2\r\nhi\r\n",
    "a chunk with zeros": CHUNKED + b"0000000000000002\r\nhi\r\n0\r\n\r\n",
    "a chunk with too many": CHUNKED + b"00000000000000002\r\nhi\r\n0\r\n\r\n",
    "the longest chunk": CHUNKED + b"7fffffffffffffff\r\nhi",
    "too long a chunk": CHUNKED + b"ffffffffffffffff\r\nhi",
    "a chunk with more": CHUNKED + b"2\r\nhih\r\n0\r\n\r\n",
    "line feeds": (CHUNKED + b"2\r\nhi\r\n0\r\n\r\n").replace(b"\r", b""),
    "carriage returns": HI.replace(b"\n", b""),
    "a blank line first": b"\r\n" + HI,
    "a NUL": OK + b"A: \0\r\n\r\n",
    "no name": OK + b": x\r\n\r\n",
    "250 fields": OK + b"A: x\r\n" * 250 + b"\r\n",
    "260 fields": OK + b"A: x\r\n" * 260 + b"\r\n",
    "a long field": OK + b"A: " + b"x" * 60000 + b"\r\n\r\n",
    "too long a field": OK + b"A: " + b"x" * 66000 + b"\r\n\r\n",
    "no reason": b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nhi",
    "two digits": b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nhi",
    "four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nhi",
    "a page": b"<html>hi</html>",
    "more behind it": HI + HI,
    "an event in CR": EVENTS + b"12\r\ndata: 1\r\rdata: 2\r\r\n0\r\n\r\n",
    "events cut off": EVENTS + b"a\r\ndata: 1\n\nd\r\n",
    "a long event": EVENTS + b"%x\r\ndata: %s\n\n\r\n0\r\n\r\n" % (3000008, b"x" * 3000000),
    "many events": EVENTS + b"%x\r\n%s\r\n0\r\n\r\n" % (900000, b"data: 1\n\n" * 100000),
}


def test_both_ways_read_odd_answers_alike(fire, model):
    """A server's number takes the short way (exchange/lane), its name that of curl."""
    for i, text in enumerate(ODD.values()):
        model.on(f"/{i}", raw(text, then="close"))
    seen = {}
    for host in ("127.0.0.1", "localhost"):
        shots = [{"url": f"http://{host}:{model.port}/{i}"} for i in range(len(ODD))]
        keys = ("outcome", "status", "bytes", "events", "gaps", "is_stream", "text")
        results, _ = fire(*shots, at_once=True)  # each has a connection of its own
        seen[host] = [{k: r.get(k) for k in keys} for r in results]
    for name, short, long in zip(ODD, seen["127.0.0.1"], seen["localhost"]):
        for read in (short, long):
            if read["is_stream"]:  # how many reads it took
                del read["text"]
        assert short == long, name
    outcomes = [r["outcome"] for r in seen["localhost"]]
    assert {o: outcomes.count(o) for o in set(outcomes)}.keys() == {"ok", "protocol", "broken"}


def test_bytes_behind_an_answer_spoil_the_connection(fire, model):
    """They are nobody's: the next request must not take them for its answer."""
    ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
    model.on("/a", raw(ok + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"))
    results, _ = fire(*[{"url": model.url + "/a"}] * 5)
    assert [(r["outcome"], r["text"]) for r in results] == [("ok", "hi")] * 5


def test_a_second_try_is_told(fire, model):
    """The server ends the connection when it sees the second request on it."""

    def behaviour(exchange):
        exchange.read_body()
        if exchange.connection.number == 0 and len(model.seen()) > 1:
            exchange.close()
        else:
            exchange.answer(200, b"hi")

    model.on("/a", behaviour)
    results, _ = fire(*[{"url": model.url + "/a", "body": "abc"}] * 3)
    assert [r["outcome"] for r in results] == ["ok"] * 3
    assert [r["retried"] for r in results] == [False, True, False]
    assert [r["reused"] for r in results] == [False, False, True]
    assert [e.body for e in model.seen()] == [b"abc"] * 4


# -- TLS --


@pytest.fixture(scope="module")
def tls_model(tmp_path_factory):
    import ssl

    authority = Authority(tmp_path_factory.mktemp("authority"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue())
    server = FakeModel(tls=context)
    server.authority = authority
    server.on("/a", answers(b"secret"))
    yield server
    server.stop()


def test_trust(fire, tls_model):
    shot = {"url": tls_model.url + "/a"}
    (r,), _ = fire(shot)
    assert r["outcome"] == "tls" and r["sent"] == 0 and "authority" in r["error"], r
    for trust in ({"ca": str(tls_model.authority.certificate)}, {"insecure": True}):
        results, _ = fire(shot, shot, trust=trust)
        assert [(x["outcome"], x["text"]) for x in results] == [("ok", "secret")] * 2, results
        first, second = results
        assert first["tls_s"] > 0 and first["connect_s"] > 0 and not first["reused"]
        assert second["tls_s"] == 0 and second["reused"]
        ordered(first, "started", "sent", "head", "first", "last", "ended")
    (r,), _ = fire(
        {"url": f"https://localhost:{tls_model.port}/a"},
        trust={"ca": str(tls_model.authority.certificate)},
    )
    assert r["outcome"] == "tls", r


def test_trust_in_a_file_that_is_none(tmp_path):
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps({"shots": [], "trust": {"ca": str(plan)}}))
    ended = run("run", SHOTS, plan)
    assert ended.returncode == 3 and "no PEM certificate" in ended.stderr, ended


def test_a_server_that_speaks_no_tls(fire, model):
    (r,), _ = fire({"url": f"https://127.0.0.1:{model.port}/", "options": {"timeout": 2}})
    assert r["outcome"] == "tls" and r["sent"] == 0, r


# -- many, and being stopped --


class Crowd:
    """Streams for thousands: one thread, level-triggered epoll; each gets its events in steps that the
    test releases."""

    def __init__(self):
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(4096)
        self.port = self.listener.getsockname()[1]
        self.connections, self.waiting, self.stopping = {}, {}, False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        poller = select.epoll()
        poller.register(self.listener, select.EPOLLIN)
        while not self.stopping:
            for fd, _ in poller.poll(0.1):
                if fd == self.listener.fileno():
                    connection, _ = self.listener.accept()
                    self.connections[connection.fileno()] = connection
                    poller.register(connection, select.EPOLLIN)
                    continue
                connection = self.connections.get(fd)
                data = connection.recv(65536) if connection else b""
                if not data:
                    poller.unregister(fd)
                    self.connections.pop(fd).close()
                    self.waiting.pop(fd, None)
                elif data.endswith(b"\r\n\r\n"):
                    self.waiting[fd] = connection

    def each(self, data):
        for connection in list(self.waiting.values()):
            connection.sendall(data)

    def stop(self):
        self.stopping = True
        self.thread.join()
        for connection in self.connections.values():
            connection.close()
        self.listener.close()


@pytest.fixture
def crowd():
    server = Crowd()
    yield server
    server.stop()


MANY = """
local worker = require "luaworker"
local shot = require "luaworker.shot"
local count, url = tonumber(arg[1]), arg[2]
local over, sums = 0, {}
for i = 1, count do
  worker.spawn(function()
    local r = shot.request("GET", url, nil, { timeout = 600 })
    local key = ("%s events=%d gaps=%d bytes=%d"):format(r.outcome, r.events, r.gaps, r.bytes)
    sums[key] = (sums[key] or 0) + 1
    over = over + 1
  end)
end
while over < count do worker.sleep(0.02) end
for key, n in pairs(sums) do print(n, key) end
"""


def room_for(count):
    """So many connections have two descriptors each, in this process and in the other."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < count + 200:
        print(f"only {hard} descriptors: {hard - 200} streams instead of {count}")
    return min(count, hard - 200)


def test_thousands_of_streams_at_once(crowd, tmp_path):
    count = room_for(5000)
    script = tmp_path / "many.lua"
    script.write_text(MANY)
    program = Program("run", script, count, f"http://127.0.0.1:{crowd.port}/")
    try:
        wait_until(lambda: len(crowd.waiting) == count, f"{count} streams", PATIENCE * 6)
        crowd.each(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for i in range(10):
            crowd.each(b"9\r\ndata: %d\n\n\r\n" % i)
        crowd.each(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
        program.process.wait(PATIENCE * 6)
        wait_until(lambda: program.output.lines, "its sums")
        assert program.output.lines == [f"{count}\tok events=10 gaps=9 bytes=104"]
    finally:
        program.kill()


def test_stopped_in_the_middle(crowd, tmp_path):
    script = tmp_path / "many.lua"
    script.write_text(MANY)
    program = Program("run", script, 50, f"http://127.0.0.1:{crowd.port}/")
    try:
        wait_until(lambda: len(crowd.waiting) == 50, "the requests")
        crowd.each(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        program.process.send_signal(signal.SIGTERM)
        program.process.wait(PATIENCE)
        assert program.process.returncode == 128 + signal.SIGTERM
        wait_until(lambda: not crowd.connections, "all connections ended")
        assert program.log.lines == []
    finally:
        program.kill()


LEFT = """
local worker = require "luaworker"
local base = require "luaworker.base"
local C, url = base.C, arg[1]
local plan = C.lw_api_plan_new("GET", 3)
local q = C.lw_api_quantile_new()
C.lw_api_plan_note_gaps(plan, q)
worker.spawn(function() -- fires, and ends at once
  for _ = 1, 3 do C.lw_api_shot_fire(plan, url, #url, nil, 0) end
  worker.sleep(0.2)
end)
worker.spawn(function() -- stops one of two itself
  local a = C.lw_api_shot_fire(plan, url, #url, "x", 1)
  local b = C.lw_api_shot_fire(plan, url, #url, nil, 0)
  worker.sleep(0.2)
  C.lw_api_shot_cancel(a)
  assert(C.lw_api_shot_wait(a) == base.OK)
  assert(C.lw_api_shot_result(a).outcome == C.LW_SHOT_CANCELLED)
  C.lw_api_shot_free(b)
end)
worker.sleep(0.05)
C.lw_api_plan_free(plan)
C.lw_api_quantile_free(q)
worker.sleep(1)
print "over"
io.stdout:flush()
worker.sleep(600)
"""


def test_shots_end_with_their_task(crowd, tmp_path):
    script = tmp_path / "left.lua"
    script.write_text(LEFT)
    program = Program("run", script, f"http://127.0.0.1:{crowd.port}/")
    try:
        program.wait_line("over")
        wait_until(lambda: not crowd.connections, "all connections ended")
        program.process.send_signal(signal.SIGUSR1)
        counters = program.wait_line("counters")
        values = dict(re.findall(r'"?(\w+)"?[=:] ?(\d+)', counters))
        assert values["upstreams"] == "0" and values["tasks"] == "1", counters
    finally:
        program.kill()


# -- a schedule --

BUSY = """
local worker = require "luaworker"
local base = require "luaworker.base"
local await = require "luaworker.await"
local shot = require "luaworker.shot"
local now, url = base.C.lw_api_now, arg[1]
local over
worker.spawn(function()
  local r = shot.post(url, "{}", { timeout = 600 })
  over = r.outcome
end)
local first = now()
local rounds = 0
while not over and now() - first < 60 do -- late with all of it: every moment has passed
  await.sleep_until(first)
  rounds = rounds + 1
end
print(over, rounds > 20)
local early, moment = 0, now()
for i = 1, 200 do
  moment = moment + 0.0005
  await.sleep_until(moment)
  if now() < moment then early = early + 1 end
end
print(early)
"""


def test_a_task_behind_its_schedule_starves_nobody(model, tmp_path):
    def behaviour(exchange):
        exchange.read_body()
        time.sleep(0.2)
        exchange.answer(200, b"hi")

    model.on("/a", behaviour)
    script = tmp_path / "busy.lua"
    script.write_text(BUSY)
    ended = run("run", script, model.url + "/a", timeout=60 * SLOW + PATIENCE)
    assert ended.stdout.splitlines() == ["ok\ttrue", "0"], ended
