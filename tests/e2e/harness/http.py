# SPDX-License-Identifier: MIT
"""Just enough of HTTP/1.1 to read heads and bodies strictly. Bytes in, meaning out; no sockets."""

import re

TOKEN = re.compile(rb"^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$")
STATUS_LINE = re.compile(rb"^HTTP/1\.([01]) ([1-5][0-9][0-9]) ([\t \x21-\x7e\x80-\xff]*)$")


class BadMessage(AssertionError):
    """The peer wrote something that is not HTTP."""


class Headers:
    """Fields in order, duplicates kept; names compared in any case."""

    def __init__(self, items=()):
        self.items = list(items)

    def all(self, name):
        return [v for n, v in self.items if n.lower() == name.lower()]

    def get(self, name, default=None):
        values = self.all(name)
        return values[0] if values else default

    def tokens(self, name):
        return [t.strip().lower() for v in self.all(name) for t in v.split(",") if t.strip()]

    def __contains__(self, name):
        return bool(self.all(name))

    def __repr__(self):
        return repr(self.items)


def parse_fields(lines):
    fields = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not TOKEN.match(name):
            raise BadMessage(f"bad field line {line!r}")
        if re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", value):
            raise BadMessage(f"control character in {line!r}")
        fields.append((name.decode("ascii"), value.strip(b" \t").decode("latin-1")))
    return Headers(fields)


def take_head(buffer):
    """Removes a complete head from the bytearray and returns its lines, or None."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = bytes(buffer[:end])
    del buffer[: end + 4]
    lines = head.split(b"\r\n")
    for line in lines:
        if b"\n" in line or b"\r" in line:
            raise BadMessage(f"bare CR or LF in head: {line!r}")
    return lines


class BodyReader:
    """Decodes one body out of a bytearray. kind: "none", "length", "chunked" or "close"."""

    def __init__(self, kind, length=0):
        self.kind, self.left = kind, length
        self.data = bytearray()
        self.pieces = []  # as framed: one per chunk
        self.done = kind == "none" or (kind == "length" and length == 0)
        self.trailers = Headers()
        self._state = "size"

    def feed(self, buffer):
        """Takes what it can from the buffer. True when the body is complete."""
        if self.kind == "length":
            self._take(buffer, self.left)
            self.done = self.left == 0
        elif self.kind == "close":
            self._take(buffer, len(buffer))
        elif self.kind == "chunked":
            while not self.done and self._chunk_step(buffer):
                pass
        return self.done

    def _take(self, buffer, n):
        piece = bytes(buffer[:n])
        del buffer[: len(piece)]
        self.data += piece
        if self.kind == "length":
            self.left -= len(piece)
        return piece

    def _line(self, buffer):
        end = buffer.find(b"\r\n")
        if end < 0:
            if len(buffer) > 16384:
                raise BadMessage("endless line in chunked framing")
            return None
        line = bytes(buffer[:end])
        del buffer[: end + 2]
        return line

    def _chunk_step(self, buffer):
        if self._state == "size":
            line = self._line(buffer)
            if line is None:
                return False
            if not re.match(rb"^[0-9a-fA-F]{1,16}(;.*)?$", line):
                raise BadMessage(f"bad chunk size line {line!r}")
            self.left = int(line.split(b";")[0], 16)
            self._state = "data" if self.left else "trailers"
            self._trailer_lines = []
        elif self._state == "data":
            if len(buffer) < self.left + 2:
                return False
            piece = self._take(buffer, self.left)
            if bytes(buffer[:2]) != b"\r\n":
                raise BadMessage(f"chunk does not end in CRLF but {bytes(buffer[:2])!r}")
            del buffer[:2]
            self.pieces.append(piece)
            self._state = "size"
        else:
            line = self._line(buffer)
            if line is None:
                return False
            if line:
                self._trailer_lines.append(line)
            else:
                self.trailers = parse_fields(self._trailer_lines)
                self.done = True
        return True

    def end_of_input(self):
        """The connection was closed in an orderly way: that ends a body of kind "close"."""
        if self.kind == "close":
            self.done = True
        return self.done


def request_body_reader(headers):
    if "chunked" in headers.tokens("Transfer-Encoding"):
        return BodyReader("chunked")
    return BodyReader("length", int(headers.get("Content-Length", "0")))


def response_body_reader(status, headers, method):
    lengths = headers.all("Content-Length")
    chunked = headers.tokens("Transfer-Encoding")
    if len(lengths) > 1 or (lengths and chunked):
        raise BadMessage(f"ambiguous framing: {headers}")
    if lengths and not lengths[0].isdigit():
        raise BadMessage(f"bad Content-Length {lengths[0]!r}")
    if status < 200 or status in (204, 304):
        if chunked or (lengths and status != 304):
            raise BadMessage(f"framing fields on a {status}: {headers}")
        return BodyReader("none")
    if method == "HEAD":
        return BodyReader("none")
    if chunked:
        if chunked != ["chunked"]:
            raise BadMessage(f"transfer codings nobody asked for: {chunked}")
        return BodyReader("chunked")
    if lengths:
        return BodyReader("length", int(lengths[0]))
    return BodyReader("close")
