# SPDX-License-Identifier: MIT
"""TLS on the client's side: a root and certificates made by the openssl command, and the raw client
with Python's ssl between it and the socket, so that a test sees whether an end was announced
(close_notify: "eof") or just came (FIN alone: "truncated"), and may leave half-way."""

import pathlib
import shutil
import socket
import ssl
import subprocess
import time

from .client import Client
from .timing import PATIENCE, QUIET

NAME = "worker.test"


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


class Authority:
    """Signs certificates for worker.test and 127.0.0.1. Keys are P-256 unless told otherwise."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.certificate, self.key = self.directory / "root.crt", self.directory / "root.key"
        self._request("/CN=root", self.certificate, self.key, 30)
        self.count = 0

    @staticmethod
    def _request(subject, certificate, key, days, *more):
        if "-newkey" not in more:
            more = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", *more)
        openssl(
            *("req", "-x509", "-nodes", "-subj", subject, "-days", days),
            *("-out", certificate, "-keyout", key, *more),
        )

    def issue(self, days=30, *more):
        """A new pair (certificate with chain, key); each has a subject of its own."""
        self.count += 1
        certificate = self.directory / f"{self.count}.crt"
        key = self.directory / f"{self.count}.key"
        self._request(
            *(f"/CN=number{self.count}", certificate, key, days),
            *("-CA", self.certificate, "-CAkey", self.key, *more),
            *("-addext", f"subjectAltName=DNS:{NAME},IP:127.0.0.1"),
        )
        certificate.write_bytes(certificate.read_bytes() + self.certificate.read_bytes())
        return certificate, key

    def context(self, **attributes):
        """What a client that trusts the root only uses."""
        context = ssl.create_default_context(cafile=self.certificate)
        for name, value in attributes.items():
            setattr(context, name, value)
        return context


class Pair:
    """The two files a worker is told of."""

    def __init__(self, directory, pair):
        self.certificate = pathlib.Path(directory) / "instance.crt"
        self.key = pathlib.Path(directory) / "instance.key"
        self.put(pair)

    def put(self, pair):
        self.put_certificate(pair[0])
        self.put_key(pair[1])

    def put_certificate(self, path):
        self._replace(path, self.certificate)

    def put_key(self, path):
        self._replace(path, self.key)

    @staticmethod
    def _replace(source, target):
        fresh = target.with_suffix(".new")
        shutil.copy(source, fresh)
        fresh.rename(target)

    def options(self):
        return ["--use-ssl", "--ssl-cert", self.certificate, "--ssl-key", self.key]


class TlsClient(Client):
    def __init__(self, port, context, shake=True, session=None, **options):
        super().__init__(port, **options)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_hostname=NAME, session=session)
        if shake:
            self.shake()

    def _push(self):
        data = self._out.read()
        if data:
            self.socket.sendall(data)

    def _pull(self, timeout):
        """Takes what the socket has; False at its end."""
        self.socket.settimeout(timeout)
        data = self.socket.recv(262144)
        self._in.write(data)
        return bool(data)

    def step(self):
        """Goes on with the handshake; its bytes are left in hand. True when it is done."""
        try:
            self.tls.do_handshake()
            return True
        except ssl.SSLWantReadError:
            return False

    def handshake_bytes(self):
        """The bytes of the next flight, not sent."""
        self.step()
        return self._out.read()

    def shake(self, timeout=None):
        while True:
            try:
                done = self.step()
            finally:
                self._push()
            if done:
                return self
            if not self._pull(PATIENCE if timeout is None else timeout):
                raise ConnectionError("the end came during the handshake")

    def subject(self):
        return dict(item[0] for item in self.tls.getpeercert()["subject"])["commonName"]

    def send(self, data):
        self.socket.settimeout(PATIENCE)
        view = memoryview(data)
        while view:
            view = view[self.tls.write(view[:65536]) :]
            self._push()
        return self

    def send_raw(self, data):
        self.socket.settimeout(PATIENCE)
        self.socket.sendall(data)
        return self

    def _decrypt(self):
        """Plain bytes that are there, or None; notes an announced end."""
        data = b""
        try:
            while piece := self.tls.read(262144):
                data += piece
            self.ended = "eof"
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = "eof"
        return data

    def fill(self, deadline):
        while not self.ended:
            data = self._decrypt()
            if data:
                self.buffer += data
                return True
            if self.ended:
                break
            left = deadline - time.monotonic()
            try:
                if left <= 0:
                    raise socket.timeout()
                if not self._pull(left):
                    self.ended = "truncated"
            except socket.timeout:
                raise AssertionError(
                    f"nothing came in time; buffer {bytes(self.buffer[:200])!r}"
                ) from None
            except ConnectionError:
                self.ended = "reset"
        return False

    def expect_silence(self, seconds=None):
        deadline = time.monotonic() + (QUIET if seconds is None else seconds)
        assert not self.buffer, f"unexpected {bytes(self.buffer)!r}"
        while time.monotonic() < deadline:
            data = self._decrypt()
            assert not data and not self.ended, f"unexpected {data or self.ended!r}"
            try:
                assert self._pull(max(deadline - time.monotonic(), 0.001)), "unexpected end"
            except socket.timeout:
                return

    def say_end(self):
        """close_notify: we send no more; nothing is said about reading."""
        try:
            self.tls.unwrap()
        except ssl.SSLError:
            pass  # the peer's own has not come, or the handshake was not done
        try:
            self._push()
        except OSError:
            pass
        return self

    def half_close(self):
        self.say_end()
        super().half_close()

    def close(self):
        if self.socket.fileno() >= 0:
            self.say_end()
        super().close()

    def drop(self):
        """FIN without a word. (Closing alone would send RST when unread bytes are there.)"""
        super().half_close()
        self.socket.close()
