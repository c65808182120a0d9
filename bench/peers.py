# SPDX-License-Identifier: MIT
"""What the benchmark starts and signs: the model stand-in, nginx, luaworker; and what /proc says
about them. Measures nothing itself."""
import base64
import http.client
import json
import os
import pathlib
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
HERE = ROOT / "bench"
OUT = ROOT / "build" / "bench"
LUAWORKER = pathlib.Path(os.environ.get("LUAWORKER", ROOT / "build" / "release" / "luaworker"))
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
JSON_SIZE = 1800
IMAGE_SIZE = 11_000_000

# Nothing of the caller's worker settings may reach the processes that are measured. The model's log
# never says that it is loaded: the worker's own benchmark would share the machine with ours.
ENVIRONMENT = {"PATH": os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin", "LC_ALL": "C",
               "MODEL_LOG": str(OUT / "never-written.log")}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def run(*command, **more):
    return subprocess.run([str(c) for c in command], check=True, capture_output=True, **more).stdout


def compile_tools():
    OUT.mkdir(parents=True, exist_ok=True)
    for name in ("model", "load"):
        run(os.environ.get("CC", "cc"), "-std=gnu11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra",
            HERE / f"{name}.c", "-o", OUT / name)


class Process:
    """One started program. `figures` is the process that does its work."""

    def __init__(self, command, port):
        self.port = port
        self.begun = time.monotonic()
        with open(OUT / f"{pathlib.Path(command[0]).name}.log", "ab") as log:
            self.child = subprocess.Popen([str(c) for c in command], env=ENVIRONMENT, cwd=ROOT,
                                          stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.start_ms = self.await_listening() * 1e3
        self.figures = self.child.pid

    def await_listening(self):
        while time.monotonic() < self.begun + 10:
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", self.port)) == 0:
                    return time.monotonic() - self.begun
            if self.child.poll() is not None:
                break
            time.sleep(0.0002)
        self.stop()
        raise SystemExit(f"{self.child.args[0]} does not listen; see the logs in {OUT}")

    def stop(self):
        self.child.terminate()
        try:
            self.child.wait(5)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()

    def cpu_s(self):
        text = pathlib.Path(f"/proc/{self.figures}/stat").read_text()
        fields = text.rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) * TICK_S

    def memory_kb(self, name):
        for line in pathlib.Path(f"/proc/{self.figures}/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1])
        raise SystemExit(f"/proc shows no {name}")


def start_model(tokens, rate):
    port = free_port()
    return Process([OUT / "model", port, tokens, rate], port)


def start_nginx(model):
    port = free_port()
    text = (HERE / "nginx.conf").read_text()
    for name, value in (("@PORT@", port), ("@MODEL@", model.port), ("@DIR@", OUT)):
        text = text.replace(name, str(value))
    (OUT / "nginx.conf").write_text(text)
    nginx = Process(["nginx", "-e", OUT / "nginx.error.log", "-c", OUT / "nginx.conf"], port)
    children = pathlib.Path(f"/proc/{nginx.child.pid}/task/{nginx.child.pid}/children")
    until = time.monotonic() + 5
    while not children.read_text() and time.monotonic() < until:
        time.sleep(0.001)
    nginx.figures = int(children.read_text().split()[0])
    return nginx


def start_luaworker(model, script):
    port = free_port()
    return Process([LUAWORKER, "serve", script, "--host", "127.0.0.1", "--port", port,
                    "--internal-port", 0, "--public-key", OUT / "public.pem", "--log-level", "warn",
                    "--model-url", f"http://127.0.0.1:{model.port}"], port)


def start(name, model):
    if name == "nginx":
        return start_nginx(model)
    script = {"hooks": ROOT / "workers" / "hello_world.lua", "plain": HERE / "pass.lua"}[name]
    return start_luaworker(model, script)


def make_key():
    run("openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048",
        "-out", OUT / "private.pem")
    run("openssl", "pkey", "-in", OUT / "private.pem", "-pubout", "-out", OUT / "public.pem")


def auth_data(port):
    url = f"http://127.0.0.1:{port}"
    message = json.dumps({"url": url}, indent=4).encode()
    signature = run("openssl", "dgst", "-sha256", "-sign", OUT / "private.pem", input=message)
    return {"cost": 300, "endpoint": "bench", "reqnum": 1, "request_idx": 1, "url": url,
            "signature": base64.b64encode(signature).decode()}


def request_body(port, prompt):
    payload = {"prompt": prompt, "max_response_tokens": 300}
    return json.dumps({"auth_data": auth_data(port), "payload": payload}).encode()


def small_body(port):
    words = "a plain sentence that a model could answer, repeated to a usual length; " * 40
    return request_body(port, words[:JSON_SIZE - len(request_body(port, ""))])


def image_body(port):
    return request_body(port, base64.b64encode(os.urandom(IMAGE_SIZE * 3 // 4)).decode())


def write_request(name, path, body):
    """The bytes of a whole request, in a file for load."""
    head = (f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n")
    file = OUT / f"{name}.http"
    file.write_bytes(head.encode() + body)
    return file


def post(port, path, body):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("POST", path, body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    status, text = answer.status, answer.read()
    connection.close()
    return status, text


def load(*arguments):
    return json.loads(run(OUT / "load", *arguments))
