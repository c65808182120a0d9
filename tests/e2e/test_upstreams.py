# SPDX-License-Identifier: MIT
"""The way to the model: over unix sockets, over TLS with certificates good and bad, over connections
that are kept just long enough, and a thousand at once."""

import random
import resource
import socket
import ssl
import threading
import time

import pytest

from harness.message import envelope, request
from harness.model import FakeModel, answers, echo, streams
from harness.timing import PATIENCE, SLOW, wait_until
from harness.tls import Authority, openssl
from harness.worker import PLAIN, backend, run

from test_streaming import THROUGH_LUA

scripts = pytest.mark.parametrize("script", [PLAIN, THROUGH_LUA], ids=["plain", "lua"])


@pytest.fixture
def make_model():
    """make_model(path=..., tls=...) → FakeModel, stopped at the end."""
    models = []

    def make(**how):
        models.append(FakeModel(**how))
        return models[-1]

    yield make
    for one in models:
        one.stop()
        assert not one.complaints, one.complaints


# -- unix sockets --


@pytest.fixture
def unix_model(make_model, tmp_path):
    return make_model(path=tmp_path / "model.sock")


@scripts
def test_a_model_at_a_unix_socket(start, unix_model, script):
    unix_model.on("/generate", echo)
    worker = start(script, model=unix_model)
    for n in range(3):
        assert worker.post("/generate", {"n": n}).json() == {"n": n}
    assert unix_model.last().headers.all("Host") == ["localhost"]
    assert len(unix_model.connections) == 1, "the connection is kept"


def test_a_stream_and_a_forwarded_get_over_a_unix_socket(start, unix_model):
    unix_model.on("/generate", streams([b"a" * 100_000, b"b"]))
    unix_model.on("/health", answers(b"fine"))
    worker = start(model=unix_model)
    assert worker.post("/generate").body == b"a" * 100_000 + b"b"
    assert worker.get("/health?x=1").body == b"fine"
    assert unix_model.last().target == "/health?x=1"


@pytest.mark.parametrize("tail", [":/base", ":/base/", ":", ":/"])
def test_a_path_behind_a_unix_socket(start, unix_model, tail):
    base = "/base" if "base" in tail else ""
    unix_model.on(base + "/generate", echo)
    unix_model.on(base + "/asked", answers(b"told"))
    script = backend(
        """worker.post("/generate", { allow_parallel_requests = true }),
        worker.get("/ask", function() return worker.model.get("/asked"):body() end)"""
    )
    worker = start(script, model=unix_model.url + tail)
    assert worker.post("/generate", {"n": 1}).json() == {"n": 1}
    assert worker.get("/ask").body == b"told"


def test_scripts_name_unix_sockets(start, unix_model):
    unix_model.on("/generate", echo)
    unix_model.on("/a", answers(b"asked"))
    script = backend(
        f"""worker.post("/generate", {{ allow_parallel_requests = true }}),
        worker.get("/ask", function() return worker.http.get("{unix_model.url}:/a"):body() end)"""
    ).replace("http://127.0.0.1:1", unix_model.url)
    worker = start(script, model=None)
    assert worker.post("/generate", {"n": 1}).json() == {"n": 1}
    assert worker.get("/ask").body == b"asked"


@scripts
def test_a_unix_socket_where_nobody_is(start, tmp_path, script):
    url = f"unix:{tmp_path}/none.sock"
    worker = start(script, model=url)
    response = worker.post("/generate")
    assert (response.status, response.json()["source"]) == (502, "model")
    assert response.json()["error"] == "the model can't be reached: No such file or directory"
    line = worker.wait_request_line(route="/generate")
    assert line["error"] == f"model {url} can't be reached: No such file or directory"


@pytest.mark.parametrize(
    "url,mistake",
    [
        ("unix:model.sock", "expected unix:/path/of/socket"),
        ("unix:/m.sock:base", "expected unix:/path/of/socket"),
        ("unix:/" + "x" * 107, "at most 107 bytes, this one 108"),
        ("ftp://a", "expected an http://, https:// or unix: URL"),
    ],
)
def test_bad_addresses_are_found_when_the_script_is_loaded(tmp_path, url, mistake):
    script = tmp_path / "worker.lua"
    for text, options in [
        (PLAIN.replace("http://127.0.0.1:1", url), []),
        (PLAIN, ["--model-url", url]),
    ]:
        script.write_text(text)
        ended = run("serve", script, "--port", "0", *options, environment={"UNSECURED": "true"})
        assert ended.returncode == 1 and mistake in ended.stderr, ended.stderr


def test_leaving_drops_a_call_over_a_unix_socket(start, unix_model):
    held = unix_model.hold("/generate")
    worker = start(model=unix_model)
    client = worker.start("/generate")
    exchange = held.next().stream_head().chunk(b"one")
    client.open_response().read_until(b"one")
    client.close()
    exchange.expect_dropped()
    worker.wait_counters(cancelled=1, in_flight=0, upstreams=0)


def test_drain_over_a_unix_socket(start, unix_model):
    held = unix_model.hold("/generate")
    worker = start(
        backend(
            """worker.post("/generate",
            { allow_parallel_requests = true, on_disconnect = "drain" })"""
        ),
        model=unix_model,
    )
    client = worker.start("/generate")
    exchange = held.next().stream_head().chunk(b"one")
    client.open_response().read_until(b"one")
    client.close()
    exchange.expect_alive(0.5)
    exchange.chunk(b"two").last_chunk()
    worker.wait_counters(in_flight=0, upstreams=0, connections=0)


# -- many at once --


class Farm:
    """Answers every request with a head and one chunk; finish() ends all of them. A thread, a
    thousand connections."""

    def __init__(self, listener, url):
        self.listener, self.url = listener, url
        self.open = []
        self.stopping = False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.stopping:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            sock.settimeout(PATIENCE)
            data = b""
            while b"\r\n\r\n" not in data or not data.endswith(b"}"):
                data += sock.recv(65536)
            sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
            self.open.append(sock)

    def finish(self):
        for sock in self.open:
            sock.sendall(b"3\r\ntwo\r\n0\r\n\r\n")

    def stop(self):
        self.stopping = True
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        for sock in [self.listener, *self.open]:
            sock.close()


def farm_listener(kind, tmp_path):
    if kind == "tcp":
        listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        return listener, f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "farm.sock"))
    listener.listen(4)  # far fewer than come at once: the others wait their turn
    return listener, f"unix:{tmp_path}/farm.sock"


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_thousand_streams_at_once(start, tmp_path, kind):
    count = 1000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4 * count:
        pytest.skip(f"only {hard} files may be open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4 * count)), hard))
    listener, url = farm_listener(kind, tmp_path)
    farm = Farm(listener, url)
    script = PLAIN.replace("parallel_requests = true", "parallel_requests = true, connect = 60")
    worker = start(script, model=url)
    clients = [worker.start("/generate") for _ in range(count)]
    answered = [client.open_response() for client in clients]
    for response in answered:
        response.read_until(b"one")
    assert worker.counters()["upstreams"] == count
    farm.finish()
    for response in answered:
        response.read_all()
        assert response.complete and response.body == b"onetwo"
    for client in clients:
        client.close()
    farm.stop()


# -- connections kept alive --


class Impatient:
    """A model server that closes connections which were idle for `limit` seconds, or says how long
    that is and closes after it; counts connections."""

    def __init__(self, limit, field=""):
        self.limit, self.field = limit, field
        self.connections = self.requests = 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=[sock], daemon=True).start()

    def _serve(self, sock):
        data = b""
        sock.settimeout(self.limit)
        try:
            while True:
                while not data.endswith(b"}"):
                    piece = sock.recv(65536)
                    if not piece:
                        return
                    data += piece
                data = b""
                self.requests += 1
                sock.sendall(f"HTTP/1.1 200 OK\r\n{self.field}Content-Length: 2\r\n\r\nhi".encode())
        except OSError:
            pass
        finally:
            sock.close()

    def stop(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listener.close()


def ask_with_gaps(worker, lanes, rounds, gap):
    """The statuses of requests in bursts of `lanes`; between two bursts all connections idle for
    gap() seconds."""
    statuses, gaps = [], [gap() for _ in range(rounds)]

    def lane():
        client = worker.connect()
        for seconds in gaps:
            client.send(request("POST", "/generate", envelope()))
            statuses.append(client.read_response().status)
            time.sleep(seconds)

    threads = [threading.Thread(target=lane) for _ in range(lanes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


def test_idle_gaps_around_the_keep_alive_of_the_model(start):
    """A twentieth of what is usual: the model closes after 0.25 s, the worker keeps for 0.2 s."""
    dice = random.Random(1)
    model = Impatient(0.25)
    worker = start(model=model.url, options=["--model-keepalive", "0.2"])
    statuses = ask_with_gaps(worker, 20, 40, lambda: dice.uniform(0.12, 0.3))
    assert statuses == [200] * 800
    assert model.requests == 800, "each came once"
    assert model.connections < 800, "connections are used again"
    model.stop()


def test_the_models_own_word_counts_when_it_is_shorter(start):
    model = Impatient(1.0, "Keep-Alive: timeout=1, max=100\r\n")
    worker = start(model=model.url)
    statuses = ask_with_gaps(worker, 8, 4, lambda: random.uniform(0.9, 1.1))
    assert statuses == [200] * 32
    assert model.requests == 32
    model.stop()


def test_an_idle_connection_is_ended_by_the_worker(start, model):
    model.on("/generate", echo)
    worker = start(options=["--model-keepalive", "0.2"])
    worker.post("/generate")
    wait_until(lambda: not model.open_connections(), "the connection to end")
    worker.post("/generate")
    assert len(model.connections) == 2


# -- TLS --


class Certificates:
    """Pairs of files for a server at 127.0.0.1, signed by a root of their own."""

    def __init__(self, directory):
        self.directory = directory
        self.root = Authority(directory)

    def pair(self, name, days=3, subject="IP:127.0.0.1"):
        files = {kind: self.directory / f"{name}.{kind}" for kind in ("key", "csr", "crt")}
        openssl(
            *("req", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-subj", "/CN=model", "-addext", f"subjectAltName={subject}"),
            *("-keyout", files["key"], "-out", files["csr"]),
        )
        openssl(
            *("x509", "-req", "-in", files["csr"], "-copy_extensions", "copy", "-days", days),
            *("-CA", self.root.certificate, "-CAkey", self.root.key, "-CAcreateserial"),
            *("-out", files["crt"]),
        )
        return files["crt"], files["key"]

    def context(self, *arguments, **options):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.pair(*arguments, **options))
        return context


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certificates"))


@scripts
def test_a_model_over_tls(start, make_model, certificates, script):
    model = make_model(tls=certificates.context("good"))
    model.on("/generate", echo)
    worker = start(script, model=model, options=["--model-ca", certificates.root.certificate])
    payload = {"text": "x" * 3_000_000}
    for _ in range(3):
        assert worker.post("/generate", payload).json() == payload
    assert len(model.connections) == 1, "the connection is kept"


def test_the_models_authority_is_for_the_model_alone(start, make_model, certificates):
    model = make_model(tls=certificates.context("good2"))
    model.on("/a", answers(b"told"))
    script = backend(
        f"""worker.get("/model", function() return worker.model.get("/a"):body() end),
        worker.get("/any", function()
          local found, why = worker.http.get("{model.url}/a")
          return why or "believed"
        end)"""
    )
    worker = start(script, model=model, options=["--model-ca", certificates.root.certificate])
    assert worker.get("/model").body == b"told"
    assert b"of an authority that is not known here" in worker.get("/any").body


@pytest.mark.parametrize(
    "name,options,with_ca,wrong",
    [
        ("expired", {"days": -1}, True, "has a certificate that has expired"),
        ("other", {"subject": "DNS:other.test"}, True, "has a certificate for another host"),
        ("unknown", {}, False, "has a certificate of an authority that is not known here"),
    ],
)
def test_certificates_that_are_not_believed(
    start, make_model, certificates, name, options, with_ca, wrong
):
    model = make_model(tls=certificates.context(name, **options))
    model.on("/generate", echo)
    more = ["--model-ca", certificates.root.certificate] if with_ca else []
    worker = start(model=model, options=more)
    response = worker.post("/generate")
    assert (response.status, response.json()["source"]) == (502, "model")
    text = response.json()["error"]
    assert text.startswith(f"the model {wrong}"), text
    assert f"model {model.url} {wrong}" in worker.wait_request_line(route="/generate")["error"]
    assert ("--model-ca" in text) == (not with_ca)
    assert not model.requests


def test_an_https_url_of_a_server_without_tls(start):
    listener = socket.create_server(("127.0.0.1", 0))

    def refuse():
        sock, _ = listener.accept()
        sock.recv(1)
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        sock.recv(65536)
        sock.close()

    threading.Thread(target=refuse, daemon=True).start()
    worker = start(model=f"https://127.0.0.1:{listener.getsockname()[1]}")
    text = worker.post("/generate").json()["error"]
    assert text.endswith("does not speak TLS: is it an http:// server?"), text
    listener.close()


@pytest.mark.parametrize(
    "content,mistake",
    [
        (None, "No such file or directory"),
        ("nothing\n", "no PEM certificate in it"),
        ("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n", "1 in it is damaged"),
    ],
)
def test_a_bad_file_of_authorities_ends_the_start(tmp_path, content, mistake):
    file, script = tmp_path / "ca.pem", tmp_path / "worker.lua"
    script.write_text(PLAIN)
    if content:
        file.write_text(content)
    ended = run(
        *("serve", script, "--port", "0", "--model-ca", file), environment={"UNSECURED": "true"}
    )
    assert ended.returncode == 1
    assert f"--model-ca {file}: " in ended.stderr and mistake in ended.stderr, ended.stderr


# -- names --


def test_localhost_is_the_address_that_answers(start, model):
    """The model listens at 127.0.0.1 only; ::1 may come first."""
    model.on("/generate", echo)
    worker = start(model=f"http://localhost:{model.port}")
    assert worker.post("/generate", {"a": 1}).json() == {"a": 1}


# -- odd answers --


def test_a_dripping_head(worker, model):
    def drip(exchange):
        exchange.read_body()
        for byte in b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Length: 2\r\n\r\nhi":
            exchange.send(bytes([byte]))
            time.sleep(0.001)
        exchange.done()

    model.on("/generate", drip)
    for _ in range(2):
        assert worker.post("/generate").body == b"hi"


def test_head_of_a_forwarded_get(worker, model):
    model.on("/health", answers(b"12345"))
    client = worker.connect()
    for _ in range(2):
        response = client.send(request("HEAD", "/health")).read_response("HEAD")
        assert (response.status, response.body) == (200, b"")
        assert response.headers.get("Content-Length") == "5"
    assert model.last().method == "HEAD"


def test_a_switch_of_protocols_is_refused(worker, model):
    def switch(exchange):
        exchange.read_body()
        exchange.send(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nxyz")
        exchange.done()

    model.on("/generate", switch)
    response = worker.post("/generate")
    assert response.status == 502 and "another protocol" in response.json()["error"]


def test_an_early_answer_to_a_large_body(worker, model):
    """The model refuses after the first bytes of 11 MB, and reads no more."""

    def early(exchange):
        exchange.send(b"HTTP/1.1 413 Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")
        time.sleep(0.2 * SLOW)
        exchange.reset()

    model.on("/generate", early)
    response = worker.post("/generate", {"image": "x" * (11 << 20)})
    assert (response.status, response.body) == (413, b"no")
