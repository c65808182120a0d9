# SPDX-License-Identifier: MIT
"""A client on a raw socket. It sends any bytes in any pieces, reads answers strictly and tells a
clean end from an abnormal one."""

import json
import socket
import struct
import time

from .http import BadMessage, STATUS_LINE, parse_fields, response_body_reader, take_head
from .timing import PATIENCE, QUIET


class Response:
    """One answer: its head at once, its body as it comes."""

    def __init__(self, client, line, headers, method, interim):
        self._client = client
        match = STATUS_LINE.match(line)
        if not match:
            raise BadMessage(f"bad status line {line!r}")
        self.version = "1." + match.group(1).decode()
        self.status = int(match.group(2))
        self.reason = match.group(3).decode("latin-1")
        self.headers = headers
        self.interim = interim  # (status, headers) of the 1xx answers before it
        self._body = response_body_reader(self.status, headers, method)
        self.framing = self._body.kind
        self.broken = None  # how the connection ended, if before the body did
        self._read = 0

    @property
    def body(self):
        return bytes(self._body.data)

    @property
    def pieces(self):
        return self._body.pieces

    @property
    def trailers(self):
        return self._body.trailers

    @property
    def complete(self):
        return self._body.done

    def json(self):
        return json.loads(self.body)

    def _advance(self, deadline):
        """Takes more bytes; False when there is nothing more to come."""
        before = len(self._body.data)
        done = self._body.feed(self._client.buffer)
        if done or len(self._body.data) > before:
            return len(self._body.data) > before
        if self.broken:
            return False
        if not self._client.fill(deadline):
            if self._client.ended == "eof":
                self._body.end_of_input()
            if not self._body.done:
                self.broken = self._client.ended
            return False
        self._body.feed(self._client.buffer)
        return True

    def read_all(self, timeout=None):
        """Reads to the end, clean or not: see `complete` and `broken`."""
        deadline = time.monotonic() + (PATIENCE if timeout is None else timeout)
        while self._advance(deadline):
            pass
        return self

    def read_until(self, wanted, timeout=None):
        """Reads until `wanted` has arrived after what was read before; returns the bytes up to it."""
        deadline = time.monotonic() + (PATIENCE if timeout is None else timeout)
        while True:
            at = self._body.data.find(wanted, self._read)
            if at >= 0:
                piece = bytes(self._body.data[self._read : at + len(wanted)])
                self._read = at + len(wanted)
                return piece
            if not self._advance(deadline):
                if self._body.data.find(wanted, self._read) < 0:
                    raise AssertionError(
                        f"{wanted!r} never came; ended={self.broken}, got {self.body[self._read:]!r}"
                    )

    def read_bytes(self, count, timeout=None):
        """Reads until at least `count` body bytes are here in all."""
        deadline = time.monotonic() + (PATIENCE if timeout is None else timeout)
        while len(self._body.data) < count:
            if not self._advance(deadline) and len(self._body.data) < count:
                raise AssertionError(f"only {len(self._body.data)} of {count} bytes, {self.broken}")
        return self


class Client:
    def __init__(self, port, host="127.0.0.1", receive_buffer=None, segment=None):
        """segment: the most that the peer sends in one. By it the kernel sizes the buffer at that end,
        which is more than a megabyte on this machine's own network if nobody says less."""
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if segment:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, segment)
        self.socket.settimeout(PATIENCE)
        self.socket.connect((host, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()
        self.ended = None  # "eof" or "reset"

    def send(self, data):
        self.socket.settimeout(PATIENCE)
        self.socket.sendall(data)
        return self

    def try_send(self, data):
        """Sends although the peer may have closed already. True when it took everything."""
        try:
            self.send(data)
            return True
        except OSError:
            return False

    def fill(self, deadline):
        """Receives once into the buffer. False at the end; raises when the deadline passes."""
        if self.ended:
            return False
        left = deadline - time.monotonic()
        if left <= 0:
            raise AssertionError(f"nothing came in time; buffer {bytes(self.buffer[:200])!r}")
        self.socket.settimeout(left)
        try:
            data = self.socket.recv(262144)
        except socket.timeout:
            raise AssertionError(
                f"nothing came in time; buffer {bytes(self.buffer[:200])!r}"
            ) from None
        except ConnectionError:
            self.ended = "reset"
            return False
        if not data:
            self.ended = "eof"
            return False
        self.buffer += data
        return True

    def open_response(self, method="POST", timeout=None):
        """Reads the head of the next answer, passing over 1xx ones."""
        deadline = time.monotonic() + (PATIENCE if timeout is None else timeout)
        interim = []
        while True:
            lines = take_head(self.buffer)
            if lines is None:
                if not self.fill(deadline):
                    raise AssertionError(
                        f"connection {self.ended} before an answer, got {bytes(self.buffer)!r}"
                    )
                continue
            headers = parse_fields(lines[1:])
            response = Response(self, lines[0], headers, method, interim)
            if response.status >= 200 or response.status == 101:
                return response
            interim.append((response.status, headers))

    def read_response(self, method="POST", timeout=None):
        return self.open_response(method, timeout).read_all(timeout)

    def read_interim(self, timeout=None):
        """Reads one 1xx head and returns its status."""
        deadline = time.monotonic() + (PATIENCE if timeout is None else timeout)
        while True:
            lines = take_head(self.buffer)
            if lines is not None:
                response = Response(self, lines[0], parse_fields(lines[1:]), "GET", [])
                assert response.status < 200, f"a final {response.status} instead of a 1xx"
                return response.status
            assert self.fill(deadline), f"connection {self.ended} before a 1xx"

    def expect_silence(self, seconds=None):
        """Nothing may come, not even an end."""
        seconds = QUIET if seconds is None else seconds
        assert not self.buffer, f"unexpected {bytes(self.buffer)!r}"
        self.socket.settimeout(seconds)
        try:
            data = self.socket.recv(65536)
        except socket.timeout:
            return
        raise AssertionError(f"unexpected {'end' if not data else data!r}")

    def expect_end(self, timeout=None):
        """The peer closes, and nothing comes before that. Returns "eof" or "reset"."""
        deadline = time.monotonic() + (PATIENCE if timeout is None else timeout)
        while self.fill(deadline):
            pass
        assert not self.buffer, f"bytes before the end: {bytes(self.buffer)!r}"
        return self.ended

    def half_close(self):
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self):
        self.socket.close()
