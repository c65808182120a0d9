# SPDX-License-Identifier: MIT
"""TLS on the client port: everything that the plain port does, the handshake's own deadlines and
failures, and certificates that change while the worker runs."""

import os
import signal
import ssl
import subprocess
import threading
import time

import pytest

from harness.message import chunked, envelope, post, request
from harness.model import answers, echo, endless, raw, says, streams
from harness.timing import PATIENCE, PROMPT, SLOW, settle, wait_until
from harness.tls import Authority, Pair, TlsClient, openssl
from harness.worker import PLAIN, is_sanitized, run

MEGA = 1 << 20


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def first_pair(authority):
    return authority.issue()


@pytest.fixture
def pair(tmp_path, first_pair):
    return Pair(tmp_path, first_pair)


@pytest.fixture
def start_tls(start, authority, pair):
    """A worker with TLS; its connect(), ask(), post() speak TLS."""

    def start_worker(*arguments, options=(), **more):
        worker = start(*arguments, options=[*pair.options(), *options], **more)
        worker.make_client = lambda port, **o: TlsClient(
            port, o.pop("context", None) or authority.context(), **o
        )
        return worker

    return start_worker


@pytest.fixture
def worker(start_tls):
    return start_tls()


# -- what the plain port does --


def test_json_both_ways(worker, model):
    model.on("/generate", echo)
    response = worker.post("/generate", {"a": 1})
    assert response.status == 200 and response.json() == {"a": 1}
    assert worker.log.wait("request", status=200)["outcome"] == "success"


def test_a_stream_arrives_piece_by_piece(worker, model):
    held = model.hold("/generate")
    client = worker.start("/generate")
    exchange = held.next().stream_head()
    response = None
    for n in range(20):
        event = b"data: token %d\n\n" % n
        exchange.chunk(event)
        response = response or client.open_response()
        assert response.read_until(event).endswith(event)
    exchange.last_chunk()
    assert response.read_all().complete


def test_large_bodies_both_ways(worker, model):
    model.on("/generate", echo)
    payload = b'{"image":"' + os.urandom(5 * MEGA + MEGA // 2).hex().encode() + b'"}'
    for _ in range(2):
        response = worker.post("/generate", payload)
        assert response.status == 200 and response.body == payload


def test_keep_alive_and_its_end(start_tls, model):
    model.on("/generate", echo)
    worker = start_tls(options=["--idle-timeout", "3"])
    client = worker.connect()
    for n in range(30):
        client.send(post("/generate", {"n": n}))
        assert client.read_response().json() == {"n": n}
    assert client.expect_end() == "eof", "an idle connection is ended with close_notify"


def test_pipelined_requests_are_answered_in_order(worker, model):
    model.on("/generate", echo)
    client = worker.connect()
    client.send(b"".join(post("/generate", {"n": n, "pad": "x" * 500}) for n in range(40)))
    for n in range(40):
        assert client.read_response().json()["n"] == n


def test_one_byte_a_record(worker, model):
    model.on("/generate", echo)
    client = worker.connect()
    for byte in post("/generate", {"a": 1}):
        client.send(bytes([byte]))
    assert client.read_response().json() == {"a": 1}


def test_expect_continue_and_chunked(worker, model):
    model.on("/generate", echo)
    client = worker.connect()
    head = [("Transfer-Encoding", "chunked"), ("Expect", "100-continue")]
    client.send(request("POST", "/generate", headers=head))
    assert client.read_interim() == 100
    client.send(chunked(envelope({"a": "x" * 50000}), 999))
    assert client.read_response().json() == {"a": "x" * 50000}


def test_an_early_answer_reaches_a_client_that_still_sends(start_tls):
    worker = start_tls(options=["--max-body", "1000"])
    client = worker.connect()
    client.send(request("POST", "/generate", headers=[("Content-Length", "900000")]))
    client.try_send(b"x" * 500000)
    response = client.read_response()
    assert response.status == 413 and response.complete
    assert client.expect_end() == "eof"


def test_a_cut_answer_is_no_end(worker, model):
    """The model dies in an answer that ends with the connection: the client must not take it."""
    model.on("/generate", raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", "reset"))
    client = worker.connect()
    client.send(request("POST", "/generate", envelope(), version="1.0"))
    response = client.read_response()
    assert not response.complete and response.broken, response.framing


def test_too_many_connections_are_told_so(start_tls):
    worker = start_tls(options=["--max-connections", "1"])
    first = worker.connect()
    second = worker.connect()
    response = second.read_response("GET")
    assert response.status == 503 and response.headers.get("Retry-After")
    assert second.expect_end() == "eof"
    first.send(request("GET", "/ping"))
    assert first.read_response("GET").status == 200


def test_a_slow_reader_slows_the_model(worker, model):
    model.on("/generate", endless())
    worker.post("/nothing")
    before = worker.memory_kb()
    client = worker.connect(receive_buffer=4096)
    client.send(request("POST", "/generate", envelope()))
    exchange = model.wait_seen()[0]
    assert exchange.blocked.wait(PATIENCE), "the model was never slowed down"
    sent = settle(lambda: exchange.sent)
    assert sent < 32 * MEGA
    grown = worker.memory_kb() - before
    assert is_sanitized() or grown < 8 * 1024, f"grew by {grown} kB"
    response = client.open_response()
    response.read_bytes(2 * MEGA)
    wait_until(lambda: exchange.sent > sent, "the model to go on once the client reads")
    assert set(response.body) == {ord("x")}
    client.close()
    exchange.expect_dropped()


def test_a_reader_that_takes_nothing_is_given_up(start_tls, model):
    model.on("/generate", endless())
    worker = start_tls(options=["--write-timeout", "1"])
    worker.connect(receive_buffer=4096).send(request("POST", "/generate", envelope()))
    model.wait_seen()[0].expect_dropped(PATIENCE)
    worker.wait_counters(cancelled=1, in_flight=0, connections=0)


def test_a_stream_is_finished_while_the_worker_ends(worker, model):
    held = model.hold("/generate")
    client = worker.start("/generate")
    exchange = held.next().stream_head()
    exchange.chunk(b"one")
    response = client.open_response()
    response.read_until(b"one")
    idle = worker.connect()
    worker.signal(signal.SIGTERM)
    assert idle.expect_end() == "eof"
    exchange.chunk(b"two").last_chunk()
    assert response.read_all().complete and response.body == b"onetwo"
    assert client.expect_end() == "eof"
    client.close()
    worker.expect_exit(0)


# -- who speaks it --


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_versions_that_are_spoken(worker, authority, version):
    number = ssl.TLSVersion[version]
    context = authority.context(minimum_version=number, maximum_version=number)
    client = worker.connect(context=context)
    assert client.tls.version() == version.replace("_", ".")
    client.send(request("GET", "/ping"))
    assert client.read_response("GET").body == b"pong"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tls_1_1_is_refused(worker, authority):
    context = authority.context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        worker.connect(context=context)
    line = worker.log.wait("a TLS connection failed", error="unsupported protocol")
    assert line["level"] == "info" and line["remote"].startswith("127.0.0.1:")


def test_sessions_are_resumed(worker):
    client = worker.connect()
    client.send(request("GET", "/ping"))
    client.read_response("GET")
    context, session = client.tls.context, client.tls.session
    client.close()
    again = worker.connect(context=context, session=session)
    assert again.tls.session_reused
    again.send(request("GET", "/ping"))
    assert again.read_response("GET").status == 200


def test_http_1_1_is_agreed_on(worker, authority):
    context = authority.context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    assert worker.connect(context=context).tls.selected_alpn_protocol() == "http/1.1"


def test_curl(worker, authority, model):
    model.on("/generate", echo)
    url = f"https://worker.test:{worker.port}/generate"
    ended = subprocess.run(
        ["curl", "-sS", "--cacert", authority.certificate, "--data-binary", "@-", url]
        + ["--resolve", f"worker.test:{worker.port}:127.0.0.1", "-H", "Content-Type: text/json"],
        input=envelope({"a": 1}),
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode == 0 and ended.stdout == b'{"a": 1}', ended


def test_the_advertised_url_is_https(start, model, pair):
    model.on("/worker_status/", says({}))
    reported = {"REPORT_ADDR": model.url, "PUBLIC_IPADDR": "192.0.2.7", "USE_SSL": "true"}
    files = {"SSL_CERT": str(pair.certificate), "SSL_KEY": str(pair.key)}
    worker = start(environment={**reported, **files})
    told = model.wait_seen(1, "/worker_status/")[0].json()
    assert told["url"] == f"https://192.0.2.7:{worker.port}"
    assert any("listens on https://" in line for line in worker.log.lines)


# -- clients that leave --

LEAVE = {
    "close": lambda c: c.close(),
    "drop": lambda c: c.drop(),
    "reset": lambda c: c.reset(),
    "half-close": lambda c: c.half_close(),
    "close-notify": lambda c: c.say_end(),
}
leaving = pytest.mark.parametrize("leave", list(LEAVE))


def expect_left(worker):
    worker.wait_counters(connections=0, in_flight=0, upstreams=0, tasks=0, timeout=PATIENCE)


@leaving
@pytest.mark.parametrize("sent", [0, 1, 100, None], ids=["nothing", "a byte", "some", "a flight"])
def test_leaving_in_the_handshake(worker, leave, sent):
    client = worker.connect(shake=False)
    client.send_raw(client.handshake_bytes()[:sent])
    worker.wait_counters(connections=1)
    LEAVE[leave](client)
    if leave == "close-notify":  # nothing to say yet: the socket alone must tell
        client.drop()
    expect_left(worker)


@leaving
def test_leaving_between_requests(worker, leave):
    client = worker.connect()
    client.send(request("GET", "/ping"))
    client.read_response("GET")
    LEAVE[leave](client)
    expect_left(worker)


@leaving
@pytest.mark.parametrize("part", [10, 120, 1000, 40000])
def test_leaving_in_the_head_or_the_body(worker, model, leave, part):
    """What was cut off is never taken for a request."""
    client = worker.connect()
    client.send(post("/generate", {"text": "x" * 50000})[:part])
    worker.wait_counters(connections=1)
    LEAVE[leave](client)
    expect_left(worker)
    assert not model.seen("/generate") and worker.counters()["received"] == 0


@leaving
def test_leaving_while_the_model_works(worker, model, leave):
    held = model.hold("/generate")
    client = worker.start("/generate")
    exchange = held.next()
    LEAVE[leave](client)
    exchange.expect_dropped()
    worker.wait_counters(in_flight=0, upstreams=0, cancelled=1, timeout=PROMPT)
    assert worker.wait_request_line(route="/generate")["status"] == 499


@leaving
def test_leaving_in_the_stream(worker, model, leave):
    held = model.hold("/generate")
    client = worker.start("/generate")
    exchange = held.next().stream_head().chunk(b"one")
    client.open_response().read_until(b"one")
    exchange.expect_alive()
    LEAVE[leave](client)
    exchange.expect_dropped()
    worker.wait_counters(in_flight=0, upstreams=0, cancelled=1, timeout=PROMPT)


@leaving
def test_leaving_without_having_read(worker, model, leave):
    model.on("/generate", endless())
    client = worker.connect(receive_buffer=4096)
    client.send(request("POST", "/generate", envelope()))
    exchange = model.wait_seen()[0]
    assert exchange.blocked.wait(PATIENCE)
    LEAVE[leave](client)
    exchange.expect_dropped(PATIENCE)
    expect_left(worker)


# -- handshakes that come to nothing --


def test_a_stalled_handshake_is_closed(start_tls):
    worker = start_tls(options=["--header-timeout", "1"])
    silent, half = worker.connect(shake=False), worker.connect(shake=False)
    half.send_raw(half.handshake_bytes()[:50])
    for client in (silent, half):
        assert client.expect_end() in ("truncated", "reset")
    worker.wait_counters(connections=0)


def test_a_dripping_handshake_is_closed(start_tls):
    worker = start_tls(options=["--header-timeout", "1"])
    client = worker.connect(shake=False)
    hello = client.handshake_bytes()
    begun, sent = time.monotonic(), 0
    try:
        for byte in hello[:-1]:
            client.socket.sendall(bytes([byte]))
            sent += 1
            client.expect_silence(0.05)
    except (AssertionError, OSError):
        pass
    assert sent < len(hello) - 1, "it was let drip to its end"
    assert time.monotonic() - begun < PATIENCE
    worker.wait_counters(connections=0)


def test_a_finished_handshake_without_a_request_is_closed(start_tls):
    worker = start_tls(options=["--header-timeout", "1"])
    assert worker.connect().expect_end() == "eof"


@pytest.mark.parametrize("size", [0, 200000])
def test_plain_http_is_told_so(worker, size):
    data = request("POST", "/generate", b"y" * size)
    make_client, worker.make_client = worker.make_client, type(worker).make_client
    client = worker.connect()
    client.try_send(data)
    response = client.read_response()
    assert response.status == 400 and "TLS" in response.json()["error"]
    assert client.expect_end() == "eof"
    worker.make_client = make_client
    assert worker.get("/ping").status == 200


def test_garbage_is_refused_and_logged_seldom(worker):
    for n in range(60):
        client = worker.connect(shake=False)
        client.send_raw(os.urandom(1 + 37 * n))
        client.half_close() if n % 2 else client.drop()
    assert worker.get("/ping").status == 200
    worker.wait_counters(connections=0)
    worker.expect_nothing_left()
    worker.signal(signal.SIGTERM)
    worker.expect_exit(0)
    lines = worker.log.find("a TLS connection failed")
    again = worker.log.find("a TLS connection failed, again")
    assert 1 <= len(lines) + len(again) <= 20 * SLOW, (len(lines), len(again))
    assert len(lines) + sum(line["times"] for line in again) > 20, "none is lost"
    assert {line["level"] for line in lines} == {"info"}


def test_a_damaged_record_ends_the_connection(worker, model):
    held = model.hold("/generate")
    client = worker.start("/generate")
    exchange = held.next().stream_head().chunk(b"one")
    client.open_response().read_until(b"one")
    client.send_raw(b"\x17\x03\x03\x00\x30" + os.urandom(48))
    exchange.expect_dropped()
    worker.wait_counters(in_flight=0, cancelled=1)
    assert worker.log.wait("a TLS connection failed")["error"]


# -- certificates --


def served(worker):
    client = worker.connect()
    subject = client.subject()
    client.close()
    return subject


def wait_served(worker, subject):
    wait_until(lambda: served(worker) == subject, f"{subject} to be served", 2 * PATIENCE)


def subject_of(pair):
    return f"number{pair[0].stem}"


def errors(worker):
    return [r["message"] for r in worker.log.find(level="error")]


def test_a_renewed_certificate_while_streams_run(worker, model, authority, pair, first_pair):
    held = model.hold("/generate")
    client = worker.start("/generate")
    exchange = held.next().stream_head().chunk(b"one")
    response = client.open_response()
    response.read_until(b"one")
    assert served(worker) == subject_of(first_pair)
    fresh = authority.issue()
    pair.put(fresh)
    wait_served(worker, subject_of(fresh))
    exchange.chunk(b"two").last_chunk()
    assert response.read_all().body == b"onetwo" and response.complete
    assert client.subject() == subject_of(first_pair)
    assert not errors(worker)


def test_sighup_reloads_the_certificate(worker, authority, pair):
    fresh = authority.issue()
    pair.put(fresh)
    worker.signal(signal.SIGHUP)
    wait_served(worker, subject_of(fresh))
    worker.signal(signal.SIGHUP)
    wait_until(lambda: "TLS certificate unchanged" in worker.log.text(), "it to be told")


BAD = {
    "key of another": lambda p, fresh, _: p.put_key(fresh[1]),
    "certificate of another": lambda p, fresh, _: p.put_certificate(fresh[0]),
    "not PEM": lambda p, _, __: p.certificate.write_text("nothing\n"),
    "empty key": lambda p, _, __: p.key.write_text(""),
    "no certificate": lambda p, _, __: p.certificate.unlink(),
    "no key": lambda p, _, __: p.key.unlink(),
    "a folder": lambda p, _, __: (p.key.unlink(), p.key.mkdir()),
    "a pipe": lambda p, _, __: (p.key.unlink(), os.mkfifo(p.key)),
    "huge": lambda p, _, __: p.key.write_bytes(b"x" * (2 * MEGA)),
}


@pytest.mark.parametrize("kind", list(BAD))
def test_a_bad_renewal_keeps_the_old(worker, authority, pair, first_pair, kind):
    fresh = authority.issue()
    BAD[kind](pair, fresh, authority)
    wait_until(lambda: errors(worker), "the refusal to be logged", 2 * PATIENCE)
    assert "the old pair stays in use" in errors(worker)[0]
    assert str(pair.certificate) in errors(worker)[0] or str(pair.key) in errors(worker)[0]
    assert served(worker) == subject_of(first_pair)
    assert len(errors(worker)) == 1, errors(worker)
    worker.signal(signal.SIGHUP)
    wait_until(lambda: len(errors(worker)) == 2, "a signal to be answered")
    if kind == "a folder":
        pair.key.rmdir()
    pair.put(fresh)
    wait_served(worker, subject_of(fresh))


def test_a_pair_put_in_two_steps_is_no_error(worker, authority, pair):
    """Within a second. (This program may stand still for longer in between.)"""
    longest = 0
    for _ in range(3):
        fresh, begun = authority.issue(), time.monotonic()
        pair.put_key(fresh[1])
        time.sleep(0.1)
        pair.put_certificate(fresh[0])
        longest = max(longest, time.monotonic() - begun)
        wait_served(worker, subject_of(fresh))
    assert longest >= 1 or not errors(worker), errors(worker)


def test_a_renewal_by_a_symlink(start, authority, tmp_path, first_pair):
    """As a mounted secret does it: the folder that both names lead through is exchanged."""
    live, link = tmp_path / "live", tmp_path / "data"
    for number, issued in enumerate([first_pair, authority.issue()]):
        (tmp_path / f"v{number}").mkdir()
        Pair(tmp_path / f"v{number}", issued)
        last = issued
    link.symlink_to("v0")
    live.mkdir()
    for name in ("instance.crt", "instance.key"):
        (live / name).symlink_to(f"../data/{name}")
    files = ["--ssl-cert", live / "instance.crt", "--ssl-key", live / "instance.key"]
    worker = start(options=["--use-ssl", *files])
    worker.make_client = lambda port, **o: TlsClient(port, authority.context(), **o)
    assert served(worker) == subject_of(first_pair)
    fresh = tmp_path / "fresh"
    fresh.symlink_to("v1")
    fresh.rename(link)
    wait_served(worker, subject_of(last))


@pytest.mark.parametrize(
    "kind", ["encrypted", "missing key", "missing certificate", "mismatch", "swapped"]
)
def test_a_start_with_a_bad_pair_says_why(tmp_path, authority, first_pair, kind):
    certificate, key = first_pair
    if kind == "encrypted":
        key = tmp_path / "locked.key"
        openssl("pkcs8", "-topk8", "-in", first_pair[1], "-out", key, "-passout", "pass:secret")
    elif kind == "missing key":
        key = tmp_path / "none.key"
    elif kind == "missing certificate":
        certificate = tmp_path / "none.crt"
    elif kind == "mismatch":
        key = authority.issue()[1]
    else:
        certificate, key = key, certificate
    script = tmp_path / "worker.lua"
    script.write_text(PLAIN)
    options = ["--use-ssl", "--ssl-cert", certificate, "--ssl-key", key]
    ended = run("serve", script, "--port", "0", *options, environment={"UNSECURED": "true"})
    assert ended.returncode == 1, ended
    wrong = {
        "encrypted": "the key is encrypted",
        "missing key": f"key {key} can't be read: No such file",
        "missing certificate": f"certificate {certificate} can't be read: No such file",
        "mismatch": "the key does not belong to the certificate",
        "swapped": "holds no PEM certificate",
    }[kind]
    assert wrong in ended.stderr, ended.stderr
    assert str(certificate) in ended.stderr or str(key) in ended.stderr, ended.stderr


def test_the_usual_places_are_named_when_nothing_is_there(tmp_path):
    if os.path.exists("/etc/instance.crt"):
        pytest.skip("this machine has a certificate at /etc/instance.crt")
    script = tmp_path / "worker.lua"
    script.write_text(PLAIN)
    wanted = {"UNSECURED": "true", "USE_SSL": "true"}
    ended = run("serve", script, "--port", "0", environment=wanted)
    assert ended.returncode == 1 and "/etc/instance.crt" in ended.stderr, ended


@pytest.mark.parametrize("days", [3, 30])
def test_an_early_end_is_warned_of(start, authority, tmp_path, days):
    pair = Pair(tmp_path, authority.issue(days))
    worker = start(options=pair.options())
    warnings = [r["message"] for r in worker.log.find(level="warn")]
    assert any("expires in" in text for text in warnings) == (days < 7), warnings


def test_many_connections_at_once(worker, model, authority):
    model.on("/generate", answers(b"{}", "application/json"))
    model.on("/serial", streams([b"data: x\n\n"] * 20))
    failures = []
    context = authority.context()

    def client(number):
        try:
            for n in range(5):
                connection = TlsClient(worker.port, context)
                for target in ("/generate", "/serial"):
                    connection.send(post(target, {"n": n}))
                    assert connection.read_response(timeout=3 * PATIENCE).complete
                (connection.close, connection.drop, connection.reset)[(number + n) % 3]()
        except Exception as error:  # noqa: BLE001 - the main thread reports it
            failures.append(error)

    threads = [threading.Thread(target=client, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[:3]
    assert worker.wait_counters(in_flight=0, connections=0)["success"] == 80
