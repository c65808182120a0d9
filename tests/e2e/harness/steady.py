# SPDX-License-Identifier: MIT
"""A steady load from one thread: requests sent when they are due, whether or not the worker is quick
(open loop), and so many streams open at any time. Each answer is handed to a check as soon as it is
over; what it finds wrong is kept, not raised."""

import heapq
import select
import socket
import time


class Answer:
    """What a request got: the body so far, and when its pieces came."""

    def __init__(self, kind, due, sent):
        self.kind, self.due, self.sent = kind, due, sent
        self.head, self.body = b"", bytearray()
        self.length = None  # None: chunked
        self.last_at, self.gap = None, 0.0
        self.complete = False


class Channel:
    """A connection with at most one request on it."""

    def __init__(self, load):
        self.load, self.answer, self.raw = load, None, b""
        self.socket = socket.create_connection(("127.0.0.1", load.port))
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        load.poll.register(self.socket, select.EPOLLIN)
        load.channels[self.socket.fileno()] = self

    def send(self, kind, due):
        self.answer = Answer(kind, due, time.monotonic())
        self.socket.send(kind.text)

    def close(self):
        self.load.poll.unregister(self.socket)
        del self.load.channels[self.socket.fileno()]
        self.socket.close()

    def receive(self):
        now = time.monotonic()
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._end("the connection was closed")
            return
        self.raw += data
        self._parse(now)

    def _parse(self, now):
        a = self.answer
        if a is None:
            self._end("bytes that nobody asked for")
            return
        if not a.head:
            end = self.raw.find(b"\r\n\r\n")
            if end < 0:
                return
            a.head, self.raw = self.raw[:end].lower(), self.raw[end + 4 :]
            found = a.head.find(b"content-length: ")
            if found >= 0:
                a.length = int(a.head[found + 16 :].split(b"\r\n")[0])
        if a.last_at:
            a.gap = max(a.gap, now - a.last_at)
        a.last_at = now
        if a.length is None:
            self._take_chunks()
        else:
            a.body += self.raw
            self.raw = b""
            a.complete = len(a.body) == a.length
        if a.complete:
            self._end(None)

    def _take_chunks(self):
        a = self.answer
        while True:
            line = self.raw.find(b"\r\n")
            if line < 0:
                return
            size = int(self.raw[:line], 16)
            if len(self.raw) < line + 4 + size:
                return
            a.body += self.raw[line + 2 : line + 2 + size]
            self.raw = self.raw[line + 4 + size :]
            if size == 0:
                a.complete = True
                return

    def _end(self, fault):
        a, self.answer = self.answer, None
        if fault is None and self.raw:
            fault = "bytes behind the answer"
        if fault:
            self.close()
        if a or fault:
            self.load.over(self, a, fault)


class Kind:
    """A request that is sent again and again. check(answer) returns what is wrong, or None."""

    def __init__(self, name, text, check):
        self.name, self.text, self.check = name, text, check


class Steady:
    """`kinds` are sent in turn, `rate` a second; `streams` of each of `stream_kinds` stay open."""

    def __init__(self, port, kinds, rate, stream_kinds, streams):
        self.port, self.kinds, self.rate = port, kinds, rate
        self.poll, self.channels, self.free = select.epoll(), {}, []
        self.stream_kinds, self.streams = stream_kinds, streams
        self.opening = []  # when streams are due, spread so that they do not end together
        self.faults, self.latencies, self.gaps = [], [], []
        self.done = {kind.name: 0 for kind in (*kinds, *stream_kinds)}
        self.open_streams, self.sent, self.stopping = 0, 0, False

    def begin(self, spread):
        now = time.monotonic()
        self.next_due = now
        for i in range(self.streams):
            kind = self.stream_kinds[i % len(self.stream_kinds)]
            heapq.heappush(self.opening, (now + spread * i / self.streams, i, kind))

    def over(self, channel, answer, fault):
        if answer is None:
            if not self.stopping:
                self.faults.append(fault)
            return
        wrong = fault or answer.kind.check(answer)
        if wrong and len(self.faults) < 20:
            self.faults.append(
                f"{answer.kind.name}: {wrong}: {answer.head!r} {bytes(answer.body)!r}"
            )
        self.done[answer.kind.name] += 1
        if answer.kind in self.stream_kinds:
            self.open_streams -= 1
            self.gaps.append(answer.gap)
            if not self.stopping:
                entry = (time.monotonic(), self.sent, answer.kind)
                heapq.heappush(self.opening, entry)
        else:
            self.latencies.append(time.monotonic() - answer.due)
        if not fault:
            self.free.append(channel)

    def _send(self, kind, due):
        channel = self.free.pop() if self.free else Channel(self)
        self.sent += 1
        channel.send(kind, due)

    def turn(self, wait=0.005):
        """One look at all that is due and all that has come."""
        now = time.monotonic()
        while not self.stopping and self.next_due <= now:
            self._send(self.kinds[self.sent % len(self.kinds)], self.next_due)
            self.next_due += 1 / self.rate
        while not self.stopping and self.opening and self.opening[0][0] <= now:
            due, _, kind = heapq.heappop(self.opening)
            self._send(kind, due)
            self.open_streams += 1
        for fd, _ in self.poll.poll(max(0, min(wait, self.next_due - time.monotonic()))):
            if fd in self.channels:
                self.channels[fd].receive()

    def run_for(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.turn()

    def run_until(self, condition, what, timeout):
        end = time.monotonic() + timeout
        while not condition():
            self.turn()
            assert time.monotonic() < end, f"waited in vain: {what}; {self.faults[:3]}"

    def finish(self, timeout):
        """Nothing new; all that runs ends; the connections are closed."""
        self.stopping = True
        busy = lambda: any(c.answer for c in self.channels.values())
        end = time.monotonic() + timeout
        while busy():
            self.turn()
            assert time.monotonic() < end, "answers that do not end"
        for channel in list(self.channels.values()):
            channel.close()
        self.free.clear()


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
