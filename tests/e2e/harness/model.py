# SPDX-License-Identifier: MIT
"""A model server that does what the test tells it, and records what it saw: each request's raw
bytes, and the moment its connection was dropped.

Per path there is one behaviour, a function of the exchange, run in the connection's thread. Or the
path is held: then the test itself takes the exchange and answers piece by piece."""

import json
import queue
import select
import socket
import ssl
import struct
import sys
import threading
import time

from .http import parse_fields, request_body_reader, take_head
from .ports import reserve_port
from .timing import PATIENCE, PROMPT, QUIET, wait_until


NONE = "00000000"  # bytes in a queue of /proc/net/tcp


class Dropped(Exception):
    """The worker closed the connection while we were answering."""


class Exchange:
    """One request and its answer."""

    def __init__(self, connection, lines, headers, raw_head):
        self.connection = connection
        self.method, self.target, self.version = lines[0].decode("latin-1").split(" ")
        self.path = self.target.split("?")[0]
        self.headers = headers
        self.raw_head = raw_head
        self.body = b""
        self.dropped = threading.Event()
        self.answered = threading.Event()
        self.blocked = threading.Event()  # a send found the pipe full
        self.sent = 0  # body bytes, of endless()
        self._reader = request_body_reader(headers)

    def __repr__(self):
        return f"<{self.method} {self.target} {len(self.body)} bytes>"

    # -- receiving --
    def read_body(self):
        while not self._reader.feed(self.connection.buffer):
            self.connection.receive()
        self.body = bytes(self._reader.data)
        if self.connection.buffer:
            self.connection.model.complaints.append(
                f"{self}: bytes came behind it, before its answer"
            )
        return self.body

    def json(self):
        return json.loads(self.body)

    # -- answering --
    def send(self, data):
        """Sends bytes as they are; notes when the other side does not take them."""
        sock = self.connection.socket
        view = memoryview(data)
        while view:
            try:
                sock.settimeout(QUIET)
                view = view[sock.send(view) :]
                self.blocked.clear()
            except socket.timeout:
                self.blocked.set()
                if self.connection.model.stopping:
                    raise Dropped() from None
            except OSError:
                self.dropped.set()
                raise Dropped() from None
        return self

    def head(self, status=200, headers=(), reason="OK", body=b""):
        text = (
            f"HTTP/1.1 {status} {reason}\r\n"
            + "".join(f"{n}: {v}\r\n" for n, v in headers)
            + "\r\n"
        )
        return self.send(text.encode("latin-1") + body)

    def stream_head(self, content_type="text/event-stream", headers=(), first=None):
        """first: a chunk that goes along, so that no deadline passes between the two."""
        fields = [("Content-Type", content_type), ("Transfer-Encoding", "chunked"), *headers]
        return self.head(200, fields, body=b"" if first is None else chunk_of(first))

    def chunk(self, data):
        return self.send(chunk_of(data))

    def last_chunk(self):
        self.send(b"0\r\n\r\n")
        return self.done()

    def answer(
        self, status=200, body=b"", headers=(), reason="OK", content_type="application/json"
    ):
        fields = [("Content-Type", content_type)] if content_type else []
        self.head(status, [*fields, *headers, ("Content-Length", str(len(body)))], reason)
        if self.method != "HEAD":
            self.send(body)
        return self.done()

    def answer_json(self, value, status=200):
        return self.answer(status, json.dumps(value).encode())

    def taken(self):
        """Waits until the other program has read all that was sent, so that what follows is another
        piece to it. Over TCP on this machine."""
        sock = self.connection.socket
        ours, theirs = in_proc(sock.getsockname()), in_proc(sock.getpeername())

        def is_read():
            queues = {row[:2]: row[3].split(":") for row in sockets()}
            unsent, _ = queues.get((ours, theirs), (NONE, NONE))
            _, unread = queues.get((theirs, ours), (NONE, NONE))
            return unsent == unread == NONE

        wait_until(is_read, f"what was sent of {self} to be read")
        return self

    def done(self):
        """The answer is complete; the connection waits for the next request."""
        self.answered.set()
        return self

    def close(self):
        """Ends the connection with FIN."""
        self.connection.finish()
        return self.done()

    def reset(self):
        """Ends the connection with RST."""
        self.connection.socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        self.connection.closed.set()
        self.connection.socket.close()
        return self.done()

    # -- what the other side does --
    def watch(self):
        """Until answered: notices that the worker has left."""
        sock = self.connection.socket
        while not self.answered.is_set() and not self.connection.model.stopping:
            poller = select.poll()
            try:
                poller.register(sock, select.POLLIN | select.POLLRDHUP)
            except (ValueError, OSError):
                return
            if not poller.poll(20):
                continue
            try:
                sock.settimeout(1)
                if sock.recv(1, socket.MSG_PEEK):
                    time.sleep(0.02)
                    continue
            except socket.timeout:
                continue
            except (OSError, ValueError):
                pass
            if not self.answered.is_set():
                self.dropped.set()
            return

    def expect_dropped(self, timeout=None):
        assert self.dropped.wait(
            PROMPT if timeout is None else timeout
        ), f"the call to {self.target} was not dropped in time"

    def expect_alive(self, seconds=None):
        assert not self.dropped.wait(
            QUIET if seconds is None else seconds
        ), f"the call to {self.target} was dropped"


def sockets():
    """(local, remote, state, unsent:unread) of each TCP socket of this machine, as the kernel has it."""
    with open("/proc/net/tcp", encoding="ascii") as table:
        return [tuple(row.split()[1:5]) for row in table.readlines()[1:]]


def in_proc(address):
    """An IPv4 address as it stands there."""
    number = int.from_bytes(socket.inet_aton(address[0]), sys.byteorder)
    return f"{number:08X}:{address[1]:04X}"


def chunk_of(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


class Connection:
    def __init__(self, model, sock, number):
        self.model, self.socket, self.number = model, sock, number
        self.buffer = bytearray()
        self.closed = threading.Event()

    def receive(self):
        while True:
            if self.model.stopping:
                raise Dropped()
            try:
                self.socket.settimeout(0.2)
                data = self.socket.recv(262144)
                break
            except socket.timeout:
                continue
            except OSError:
                raise Dropped() from None
        if not data:
            raise Dropped()
        self.buffer += data

    def finish(self):
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        self.closed.set()
        self.socket.close()

    def read_request(self):
        while b"\r\n\r\n" not in self.buffer:
            self.receive()
        raw_head = bytes(self.buffer[: self.buffer.find(b"\r\n\r\n") + 4])
        lines = take_head(self.buffer)
        return Exchange(self, lines, parse_fields(lines[1:]), raw_head)

    def shake_hands(self):
        if not self.model.tls:
            return
        try:
            self.socket.settimeout(PATIENCE)
            self.socket = self.model.tls.wrap_socket(self.socket, server_side=True)
        except (OSError, ssl.SSLError):  # the worker does not believe us
            raise Dropped() from None

    def serve(self):
        try:
            self.shake_hands()
            while not self.model.stopping and not self.closed.is_set():
                exchange = self.read_request()
                self.model.handle(exchange)
        except Dropped:
            pass
        except AssertionError as error:
            self.model.complaints.append(str(error))
        finally:
            self.closed.set()
            self.socket.close()


class Held:
    """A path whose requests the test answers by hand."""

    def __init__(self, model, path):
        self.model, self.path = model, path
        self.waiting = queue.Queue()

    def next(self, timeout=None):
        """The next request, its body read."""
        try:
            return self.waiting.get(timeout=PATIENCE if timeout is None else timeout)
        except queue.Empty:
            raise AssertionError(f"no request for {self.path} reached the model") from None

    def expect_none(self, seconds=None):
        try:
            exchange = self.waiting.get(timeout=QUIET if seconds is None else seconds)
        except queue.Empty:
            return
        raise AssertionError(f"the model got {exchange}")

    def __call__(self, exchange):
        exchange.read_body()
        self.waiting.put(exchange)
        exchange.watch()


class FakeModel:
    """path → behaviour; unknown paths get 404. Listens at a port, at the unix socket `path`, or speaks
    TLS with the context `tls`."""

    def __init__(self, port=0, path=None, tls=None):
        self.tls = tls
        if path:
            self.port, self.url = None, f"unix:{path}"
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(str(path))
        else:
            self.listener = socket.socket()
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.listener.bind(("127.0.0.1", port))
            self.port = self.listener.getsockname()[1]
            self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        self.listener.listen(256)
        self.behaviours = {}
        self.requests = []  # every exchange, in order of arrival
        self.connections = []
        self.complaints = []  # what was not HTTP
        self.closing = self.stopping = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self):
        while not self.closing:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            if self.port:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                connection = Connection(self, sock, len(self.connections))
                self.connections.append(connection)
            threading.Thread(target=connection.serve, daemon=True).start()

    def on(self, path, behaviour):
        self.behaviours[path] = behaviour
        return self

    def hold(self, path):
        held = Held(self, path)
        self.behaviours[path] = held
        return held

    def handle(self, exchange):
        with self._lock:
            self.requests.append(exchange)
        behaviour = self.behaviours.get(exchange.path, not_found)
        behaviour(exchange)

    def seen(self, path=None):
        with self._lock:
            return [e for e in self.requests if path is None or e.path == path]

    def wait_seen(self, count=1, path=None):
        wait_until(
            lambda: len(self.seen(path)) >= count, f"{count} requests at the model for {path}"
        )
        return self.seen(path)

    def last(self, path=None):
        return self.seen(path)[-1]

    def stop_listening(self):
        """Only what is connected goes on. The thread has ended before the descriptor's number is free:
        it must not accept at another's listener."""
        self.closing = True
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._thread.join()
        self.listener.close()

    def open_connections(self):
        with self._lock:
            return [c for c in self.connections if not c.closed.is_set()]

    def stop(self):
        self.stop_listening()
        self.stopping = True
        with self._lock:
            connections = list(self.connections)
        for connection in connections:
            try:
                connection.socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


# -- behaviours --


def not_found(exchange):
    exchange.read_body()
    exchange.answer(404, b'{"error":"model: no such path"}', reason="Not Found")


def echo(exchange):
    """Answers with the body it got."""
    body = exchange.read_body()
    exchange.answer(200, body, content_type=exchange.headers.get("Content-Type"))


def says(value, status=200, headers=()):
    def behaviour(exchange):
        exchange.read_body()
        exchange.answer(status, json.dumps(value).encode(), headers)

    return behaviour


def answers(body, content_type="text/plain", status=200, headers=(), reason="OK"):
    def behaviour(exchange):
        exchange.read_body()
        exchange.answer(status, body, headers, reason, content_type)

    return behaviour


def streams(pieces, content_type="text/event-stream"):
    """The pieces in chunked framing, as fast as they go."""

    def behaviour(exchange):
        exchange.read_body()
        exchange.stream_head(content_type)
        for piece in pieces:
            exchange.chunk(piece)
        exchange.last_chunk()

    return behaviour


def raw(data, then="keep"):
    """These bytes. then: "keep" the connection, "close" or "reset" it."""

    def behaviour(exchange):
        exchange.read_body()
        exchange.send(data)
        if then == "close":
            exchange.close()
        elif then == "reset":
            exchange.reset()
        else:
            exchange.done()

    return behaviour


def endless(piece=b"x" * 65536, chunked=True):
    """Never stops by itself; .sent counts, .blocked tells that nobody takes it."""

    def behaviour(exchange):
        exchange.read_body()
        if chunked:
            exchange.stream_head("application/octet-stream")
        else:
            exchange.head(200, [("Content-Length", str(1 << 50))])
        while True:
            if chunked:
                exchange.chunk(piece)
            else:
                exchange.send(piece)
            exchange.sent += len(piece)

    return behaviour


def refused_url():
    """The URL of a port where nobody listens but who is told to."""
    return f"http://127.0.0.1:{reserve_port()}"


class Blackhole:
    """A port where connecting never ends: its backlog is full and nobody accepts, so the kernel
    drops further SYNs. (One queued connection fits a backlog of 0; the second try proves it full.)
    """

    def __init__(self):
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(0)
        self.port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.fillers = []
        for _ in range(8):
            filler = socket.socket()
            filler.settimeout(0.2)
            self.fillers.append(filler)
            try:
                filler.connect(("127.0.0.1", self.port))
            except socket.timeout:
                return
        raise AssertionError("the backlog never filled")

    def attempts(self):
        """Sockets of this machine that are trying to connect to the port, but for our fillers."""
        wanted = in_proc(("127.0.0.1", self.port))
        trying = [row for row in sockets() if row[1] == wanted and row[2] == "02"]  # SYN_SENT
        return len(trying) - 1  # the filler that timed out still tries

    def stop(self):
        for sock in [*self.fillers, self.listener]:
            sock.close()
