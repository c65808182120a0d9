# SPDX-License-Identifier: MIT
"""Worker scripts made from a seed, which call functions of the API at random (monkey.lua does, in
the hooks that are put here), and volleys of requests for them, many of which leave in the middle."""

import json
import pathlib
import random
import select
import socket
import time

from .message import envelope, request

MODULES = [pathlib.Path(__file__).with_name(name) for name in ("monkey.lua", "monkey_values.lua")]

HOOKS = (
    "request_parser",
    "count_workload",
    "generate_payload_json",
    "generate_client_response",
)
CLASSES = (
    '{ prompt = "string?", n = "integer?", extra = "keep" }',
    '{ prompt = { "string", default = "x" }, inner = { a = "any?" } }',
    '{ list = "array?", extra = "error" }',
)


def route_of(choose, number, acts):
    """A route with random hooks: its text."""
    kind = choose.random()
    if kind < 0.25:
        return f'worker.get("/get{number}", monkey.hook("handler", {acts}))'
    if kind < 0.3:
        return f'worker.get("/get{number}", worker.forward("/stream", {{ total = 1 }}))'
    fields = [f"allow_parallel_requests = {str(choose.random() < 0.7).lower()}"]
    hooks = [name for name in HOOKS if choose.random() < 0.4]
    of_model = [f'endpoint = "{choose.choice(PATHS)}"', f"total = {choose.choice([0.2, 1, 2])}"]
    if choose.random() < 0.25:  # in place of the model: with what is only for that, it is refused
        hooks = [name for name in hooks if not name.startswith("generate_")] + ["remote"]
        of_model = of_model if choose.random() < 0.05 else []
    fields += of_model
    fields += [f'{name} = monkey.hook("{name}", {acts})' for name in hooks]
    if choose.random() < 0.4:
        fields.append(f"payload = classes[{choose.randint(1, len(CLASSES))}]")
    if choose.random() < 0.3:
        fields.append(f"max_queue_time = {choose.choice([0, 0.01, 10])}")
    if choose.random() < 0.2:
        fields.append('on_disconnect = "drain"')
    return f'worker.post("/post{number}", {{ {", ".join(fields)} }})'


def script_of(seed, model_url, loops=False):
    """The text of the script that this seed makes, and its paths, (method, path) each."""
    choose = random.Random(seed)
    acts = choose.choice([2, 6, 15])
    routes = [route_of(choose, number, acts) for number in range(choose.randint(2, 5))]
    more = []
    if choose.random() < 0.3:
        more.append(f'start = monkey.hook("start", {acts})')
    if choose.random() < 0.3:
        more.append('generate_client_response = monkey.hook("generate_client_response", 3)')
    paths = []
    for route in routes:
        method = "GET" if route.startswith("worker.get") else "POST"
        paths.append((method, route.split('"')[1]))
    text = f"""
local worker = require "luaworker"
local monkey = require "monkey"
monkey.begin({choose.randrange(1 << 31)}, "{model_url}", {str(loops).lower()})
monkey.run({choose.choice([0, 0, 5, 20])}) -- while the script loads
local classes = {{ {", ".join(f"worker.payload {one}" for one in CLASSES)} }}
for _, class in ipairs(classes) do
  function class:count_workload() monkey.run(2) return 1 end
end
return worker.backend {{
  model_server_url = "{model_url}",
  {"".join(field + ", " for field in more)}
  routes = {{ {", ".join(routes)} }},
}}
"""
    return text, paths


PATHS = ("/echo", "/stream", "/events", "/cut", "/slow", "/absent")


def cut(exchange):
    """Breaks the answer off."""
    exchange.read_body()
    exchange.stream_head("text/plain").chunk(b"begun")
    exchange.reset()


def slow(exchange):
    """Answers a little late, unless the worker has left."""
    exchange.read_body()
    if not exchange.connection.closed.wait(0.05):
        exchange.answer(200, b'{"slow":true}')


def payload_of(choose):
    return choose.choice(
        [
            {},
            {"prompt": "hello", "n": 3},
            {"prompt": 5, "list": [], "inner": {"a": None}},
            {"inner": {}, "list": [1, 2.0, {"deep": [[[]]]}]},
            {"prompt": "y" * 200_000, "n": 2**60, "inner": {"a": "z" * 70_000}},
        ]
    )


class Volley:
    """Requests sent side by side; some clients leave at once, some read a little, some all."""

    def __init__(self, port, choose, paths, count):
        self.seen = []
        self.sockets = {}
        for _ in range(count):
            method, path = choose.choice(paths)
            body = envelope(payload_of(choose)) if method == "POST" else None
            data = request(method, path + choose.choice(["", "?a=b&c=%41"]), body)
            if choose.random() < 0.05:
                data = data[: len(data) // 2]
            self._send(port, data, choose.choice([0, 0.005, 0.02, None, None, None]))

    def _send(self, port, data, patience):
        connection = socket.create_connection(("127.0.0.1", port), 10)
        connection.sendall(data)
        if patience == 0:
            connection.close()
            return
        connection.setblocking(False)
        now = time.monotonic()
        self.sockets[connection] = [bytearray(), now + (0.25 if patience is None else patience)]

    def _read(self, connection):
        """False when there is no more to wait for."""
        data, _ = self.sockets[connection]
        try:
            piece = connection.recv(1 << 18)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if piece and not data:
            self.seen.append(piece[9:12].decode("latin-1"))
        data += piece[:64]
        return bool(piece) and b"\r\n0\r\n\r\n" not in piece and b"Content-Length" not in piece

    def finish(self):
        """Reads until each has its answer, or no patience left."""
        while self.sockets:
            ready, _, _ = select.select(list(self.sockets), [], [], 0.01)
            now = time.monotonic()
            for connection in list(self.sockets):
                reads_on = connection not in ready or self._read(connection)
                if not reads_on or now > self.sockets[connection][1]:
                    connection.close()
                    del self.sockets[connection]
        return self.seen


def note(seen, statuses):
    for status in statuses:
        seen[status] = seen.get(status, 0) + 1


def describe(seen):
    return json.dumps(dict(sorted(seen.items())))
