# SPDX-License-Identifier: MIT
"""The program under test as a process: started with a script given inline, its log read line by
line, its counters asked for by SIGUSR1, and at the end the proof that nothing is left."""

import json
import os
import pathlib
import select
import signal
import subprocess
import threading
import time

from .client import Client
from .message import envelope, request
from .timing import PATIENCE, SLOW, wait_until

ROOT = pathlib.Path(__file__).resolve().parents[3]
BINARY = pathlib.Path(os.environ.get("LUAWORKER_BIN", ROOT / "build/release/luaworker")).absolute()
OURS = (
    "WORKER_",
    "MODEL_",
    "REPORT_ADDR",
    "UNSECURED",
    "USE_SSL",
    "CONTAINER_ID",
    "PUBLIC_IPADDR",
    "MASTER_TOKEN",
    "BACKEND",
    "AUTH_",
    "VAST_",
    "DELETE_REQUESTS",
)
SANITIZER = (
    "AddressSanitizer",
    "LeakSanitizer",
    "runtime error:",
    "UndefinedBehaviorSanitizer",
    "Assertion `",
    "ERROR: ",
)
LEFT = ("requests", "upstreams", "tasks", "queued", "in_flight", "connections")


def is_sanitized():
    """Whether the binary is an AddressSanitizer build (its memory figures mean little)."""
    return b"__asan_init" in BINARY.read_bytes()


def backend(routes, before="", more=""):
    """A worker script with these routes."""
    return f"""
local worker = require "luaworker"
{before}
return worker.backend {{
  model_server_url = "http://127.0.0.1:1",
  {more}
  routes = {{
    {routes}
  }},
}}
"""


PLAIN = backend(
    """
    worker.post("/generate", { allow_parallel_requests = true }),
    worker.post("/serial", { allow_parallel_requests = false }),
    worker.get("/ping", function() return "pong" end),
    worker.get("/health", worker.forward()),
"""
)


def clean_environment(**changes):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(OURS)}
    environment.update({k: v for k, v in changes.items() if v is not None})
    return environment


class Log:
    """A stream's lines. A thread reads them, so that the writer never waits; who looks for a line
    first reads all that is written by then."""

    def __init__(self, stream):
        self._lines = []  # text, as written
        self._records = []  # those that are JSON objects
        self._stream = stream
        self._rest = b""  # of a line whose end is still to come
        self._lock = threading.Lock()
        os.set_blocking(stream.fileno(), False)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        poll = select.poll()
        poll.register(self._stream, select.POLLIN)
        while self._catch_up():
            poll.poll()

    def _catch_up(self):
        """Takes in what is there; False once the stream has ended."""
        with self._lock:
            while True:
                try:
                    data = os.read(self._stream.fileno(), 1 << 16)
                except BlockingIOError:
                    return True
                if not data:
                    if self._rest:
                        self._take(self._rest.decode("utf-8", "backslashreplace"))
                    self._rest = b""
                    return False
                *lines, self._rest = (self._rest + data).split(b"\n")
                for line in lines:
                    self._take(line.decode("utf-8", "backslashreplace"))

    def _take(self, line):
        self._lines.append(line)
        try:
            record = json.loads(line)
        except ValueError:
            return
        if isinstance(record, dict):
            self._records.append(record)

    @property
    def lines(self):
        self._catch_up()
        return list(self._lines)

    @property
    def records(self):
        self._catch_up()
        return list(self._records)

    def find(self, message=None, since=0, **fields):
        return [
            r
            for r in self.records[since:]
            if (message is None or r.get("message") == message)
            and all(r.get(k) == v for k, v in fields.items())
        ]

    def wait(self, message=None, since=0, count=1, **fields):
        """Waits for `count` such records and returns the last of them."""
        found = wait_until(
            lambda: (lambda f: f if len(f) >= count else None)(self.find(message, since, **fields)),
            f"log record {message} {fields}",
        )
        return found[count - 1]

    def text(self):
        return "\n".join(self.lines)

    def join(self):
        self._thread.join(PATIENCE)


class Worker:
    make_client = Client  # what connect() uses

    def __init__(
        self,
        directory,
        script=PLAIN,
        model=None,
        options=(),
        environment=None,
        unsecured=True,
        log_level="info",
        log_format="json",
    ):
        self.directory = pathlib.Path(directory)
        self.script_file = self.directory / "worker.lua"
        self.clients = []
        self.finished = False
        self.log_format = log_format
        if isinstance(script, pathlib.Path):
            self.script_file = script
        else:
            self.write_script(script)
        port_file = self.directory / "port"
        port_file.unlink(missing_ok=True)
        self.command = [
            str(BINARY),
            "serve",
            str(self.script_file),
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--port-file",
            str(port_file),
            "--internal-port-file",
            str(self.directory / "internal_port"),
            "--log-level",
            log_level,
            "--log-format",
            log_format,
            "--benchmark-cache",
            str(self.directory / "benchmark"),
        ]
        url = model if model is None or isinstance(model, str) else model.url
        if url:
            self.command += ["--model-url", url]
        self.command += [str(option) for option in options]
        changes = {"UNSECURED": "true" if unsecured else None, **(environment or {})}
        self.process = subprocess.Popen(
            self.command,
            cwd=self.directory,
            env=clean_environment(**changes),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.output = Log(self.process.stdout)
        self.log = Log(self.process.stderr)
        self.port = self._wait_port(port_file)

    def _wait_port(self, port_file):
        def ready():
            if self.process.poll() is not None:
                self.log.join()
                raise AssertionError(f"exit {self.process.returncode} at start:\n{self.log.text()}")
            try:
                text = port_file.read_text()
            except FileNotFoundError:
                return None
            return int(text) if text.endswith("\n") or text.strip().isdigit() else None

        try:
            return wait_until(ready, "the port file")
        except AssertionError:
            self.kill()
            raise

    def write_script(self, text):
        fresh = self.script_file.with_suffix(".new")
        fresh.write_text(text)
        fresh.rename(self.script_file)

    # -- talking to it --
    def connect(self, **options):
        client = self.make_client(self.port, **options)
        self.clients.append(client)
        return client

    def ask(self, method, target, body=None, headers=(), **options):
        """One request on a connection of its own, answered whole."""
        client = self.connect()
        client.send(request(method, target, body, headers, **options))
        response = client.read_response(method)
        client.close()
        return response

    @property
    def internal_port(self):
        path = self.directory / "internal_port"
        return int(wait_until(lambda: path.exists() and path.read_text(), "the internal port"))

    def ask_internal(self, method, target, body=None):
        """One request to the internal port, answered whole."""
        client = Client(self.internal_port)
        self.clients.append(client)
        client.send(request(method, target, body))
        response = client.read_response(method)
        client.close()
        return response

    def get(self, target, headers=()):
        return self.ask("GET", target, headers=headers)

    def post(self, target, payload=None, headers=(), auth=None, **more):
        return self.ask("POST", target, envelope(payload, auth, **more), headers)

    def start(self, target="/generate", payload=None, headers=(), **more):
        """Sends a POST with an envelope and returns the client without reading."""
        return self.connect().send(request("POST", target, envelope(payload, **more), headers))

    def signal(self, number):
        self.process.send_signal(number)

    # -- looking inside --
    def counters(self, timeout=None):
        before = len(self.log.find("counters"))
        self.signal(signal.SIGUSR1)

        def found():
            assert self.is_running(), f"it ended with {self.process.returncode}"
            return self.log.find("counters")[before:]

        return wait_until(found, "counters after SIGUSR1", timeout)[0]

    def wait_counters(self, what=None, timeout=None, **wanted):
        """Waits until these counters have these values; returns all of them."""
        seen = {}

        def reached():
            nonlocal seen
            seen = self.counters(max(timeout or 0, PATIENCE))
            return seen if all(seen.get(k) == v for k, v in wanted.items()) else None

        try:
            return wait_until(reached, what or f"counters {wanted}", timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}; last: {seen}") from None

    def request_lines(self, **fields):
        return self.log.find("request", **fields)

    def wait_request_line(self, count=1, **fields):
        return self.log.wait("request", count=count, **fields)

    def memory_kb(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(l for l in status.splitlines() if l.startswith("VmRSS")).split()[1])

    def is_running(self):
        return self.process.poll() is None

    # -- ending --
    def expect_nothing_left(self):
        """Clients closed: no request, upstream, task, connection is left, and the sums agree."""
        for client in self.clients:
            client.close()
        self.clients.clear()
        seen = self.wait_counters("nothing left", **{name: 0 for name in LEFT})
        expect_sums(seen)
        return seen

    def wait_exit(self, timeout=None):
        try:
            code = self.process.wait(PATIENCE if timeout is None else timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running; log:\n{self.log.text()[-4000:]}") from None
        self.log.join()
        self.output.join()
        return code

    def expect_exit(self, code=0, timeout=None):
        """Waits for the end of the process; nothing but log lines may have been written."""
        self.finished = True
        seen = self.wait_exit(timeout)
        self.expect_sane_log()
        assert seen == code, f"exit {seen}; log:\n{self.log.text()[-4000:]}"

    def expect_sane_log(self):
        for line in list(self.log.lines):
            assert not any(mark in line for mark in SANITIZER), self.log.text()[-12000:]
        if self.log_format == "json":
            assert len(self.log.records) == len(
                self.log.lines
            ), f"not JSON: {[l for l in self.log.lines if not l.startswith('{')][:3]}"

    def finish(self):
        """What ends every case."""
        if self.finished:
            return
        if not self.is_running():
            self.finished = True
            self.log.join()
            raise AssertionError(
                f"it died with {self.process.returncode}; log:\n{self.log.text()[-12000:]}"
            )
        self.expect_nothing_left()
        self.signal(signal.SIGTERM)
        self.expect_exit(0)

    def kill(self):
        self.finished = True
        for client in self.clients:
            client.close()
        if self.is_running():
            self.process.kill()
        self.process.wait()
        self.log.join()


def expect_sums(seen):
    """Each request that was received has exactly one outcome, or is in flight."""
    ended = seen["success"] + seen["error"] + seen["cancelled"] + seen["rejected"]
    assert seen["received"] == ended + seen["in_flight"], seen


def run(*arguments, environment=None, directory=None, timeout=None, text=True):
    """A command that ends by itself."""
    return subprocess.run(
        [str(BINARY), *map(str, arguments)],
        env=clean_environment(**(environment or {})),
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=text,
        timeout=timeout or PATIENCE * 2,
        check=False,
    )


class Program:
    """A command that runs until it is told to end (run, dev), its output read line by line."""

    def __init__(self, *arguments, environment=None, directory=None):
        self.process = subprocess.Popen(
            [str(BINARY), *map(str, arguments)],
            env=clean_environment(**(environment or {})),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.output = Log(self.process.stdout)
        self.log = Log(self.process.stderr)

    def wait_line(self, wanted, where=None):
        def found():
            streams = [where] if where else [self.output, self.log]
            for stream in streams:
                for line in list(stream.lines):
                    if wanted in line:
                        return line
            if self.process.poll() is not None:
                time.sleep(0.05 * SLOW)
                raise AssertionError(
                    f"exit {self.process.returncode}: {self.output.text()}\n{self.log.text()}"
                )
            return None

        return wait_until(found, f"{wanted!r} in the output")

    def stop(self, code=0):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            seen = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"did not end: {self.log.text()[-4000:]}") from None
        self.log.join()
        for line in self.log.lines:
            assert not any(mark in line for mark in SANITIZER), self.log.text()[-12000:]
        if code is not None:
            assert seen == code, f"exit {seen}: {self.output.text()}\n{self.log.text()}"
        return seen

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
