# SPDX-License-Identifier: MIT
"""The command line: serve's options and refusals, run, call, dev, and hello_world from end to end with
the project's own worker, model stand-in and autoscaler."""

import json
import re
import shlex
import signal
import socket
import subprocess

import pytest

from harness.client import Client
from harness.message import request
from harness.model import answers, echo
from harness.ports import as_options, dev_ports, reserve_port
from harness.timing import wait_until
from harness.worker import BINARY, PLAIN, ROOT, Program, Worker, backend, run

HELLO = ROOT / "workers/hello_world.lua"


@pytest.fixture
def programs():
    started = []
    yield started.append
    for program in started:
        program.kill()


@pytest.fixture
def script(tmp_path):
    def write(text, name="script.lua"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_a_low_soft_limit_of_open_files_is_raised(script):
    program = script('print((io.open("/proc/self/limits"):read "*a"):match "Max open files +(%d+) +(%d+)")')
    ended = subprocess.run(
        ["sh", "-c", f"ulimit -Sn 64; exec {shlex.quote(str(BINARY))} run {shlex.quote(str(program))}"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    soft = ended.stdout.split()[:1]
    assert soft and int(soft[0]) > 64, ended


def test_an_unknown_scheme_of_signatures_is_refused():
    """(TLS without its files is test_tls.py's.)"""
    environment = {"AUTH_SCHEME": "nonsense", "UNSECURED": "true"}
    ended = run("serve", HELLO, "--port", "0", environment=environment)
    assert ended.returncode == 1 and "nonsense" in ended.stderr, ended


def test_version():
    ended = run("--version")
    assert ended.returncode == 0 and re.search(r"luaworker \d+\.\d+", ended.stdout), ended


def test_help():
    ended = run("--help")
    assert ended.returncode == 0
    for command in ("serve", "run", "call", "dev"):
        assert command in ended.stdout
        one = run(command, "--help")
        assert one.returncode == 0 and command in one.stdout, command


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nonsense",),
        ("serve",),
        ("serve", "--nonsense", "x.lua"),
        ("run",),
        ("serve", "--port", "x", "y.lua"),
        ("serve", "--port"),
        ("serve", "--log-level", "loud", "x.lua"),
        ("call",),
    ],
)
def test_misuse_is_told_on_stderr(arguments):
    ended = run(*arguments)
    assert ended.returncode == 2, ended
    assert ended.stderr.strip()


def test_misspelt_command_has_a_hint():
    assert "serve" in run("serv", "x.lua").stderr


# -- serve --


def test_the_port_comes_from_the_environment(script):
    port = reserve_port()
    program = Program(
        "serve",
        script(PLAIN),
        "--host",
        "127.0.0.1",
        "--internal-port",
        "0",  # the next one may be somebody else's
        environment={"WORKER_PORT": str(port), "UNSECURED": "true"},
    )
    try:

        def answers_ping():
            try:
                client = Client(port)
            except ConnectionError:
                return False
            answer = client.send(request("GET", "/ping")).read_response("GET").body
            client.close()
            return answer == b"pong"

        wait_until(answers_ping, "the port of WORKER_PORT")
        program.stop()
    finally:
        program.kill()


def test_addresses_of_ipv6_are_shown_as_urls(script):
    options = "--host ::1 --port 0 --internal-addr ::1 --internal-port 0 --unsecured".split()
    program = Program("serve", script(PLAIN), *options)
    try:
        program.wait_line("listens on http://[::1]:")
        program.wait_line("internal port: http://[::1]:")
        program.stop()
    finally:
        program.kill()


def test_a_port_in_use(script):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        ended = run("serve", script(PLAIN), "--host", "127.0.0.1", "--port", port)
    assert ended.returncode > 0 and str(port) in ended.stderr


def test_the_models_url_from_the_environment(tmp_path, model):
    model.on("/generate", echo)
    text = PLAIN.replace(
        '"http://127.0.0.1:1"', 'os.getenv "MODEL_SERVER_URL" or "http://127.0.0.1:1"'
    )
    worker = Worker(tmp_path, text, environment={"MODEL_SERVER_URL": model.url})
    try:
        assert worker.post("/generate", {"a": 1}).json() == {"a": 1}
        worker.finish()
    finally:
        worker.kill()


def test_several_workers_do_not_disturb_each_other(start, model):
    model.on("/generate", echo)
    workers = [start() for _ in range(3)]
    assert len({worker.port for worker in workers}) == 3
    assert all(worker.post("/generate", {"a": 1}).status == 200 for worker in workers)


MISTAKES = """
local worker = require "luaworker"
return worker.backend {
  model_server_url = 5,
  modle_log_file = "x",
  routes = {
    worker.post("/a", { allow_parallel_requests = "yes", benchmark = { runs = "3", generator = print } }),
    worker.post("b", {}),
    worker.post("/c", { generate_client_respond = function() end }),
  },
}
"""


def test_all_mistakes_of_a_script_are_told_at_once_by_path(script):
    path = script(MISTAKES)
    ended = run("serve", path, "--host", "127.0.0.1", "--port", "0")
    assert ended.returncode > 0
    text = ended.stderr
    for wanted in (
        "model_server_url",
        "modle_log_file",
        "model_log_file",
        "routes[1].allow_parallel_requests",
        "routes[1].benchmark.runs: expected integer, got string",
        "routes[2].path",
        "routes[3].generate_client_respond",
        "generate_client_response",
    ):
        assert wanted in text, (wanted, text)


@pytest.mark.parametrize(
    "text,wanted",
    [
        ("return worker.backend {", "script.lua"),
        ('error "kaboom"', "kaboom"),
        ("return 5", "backend"),
        ("local x = nil\nreturn x.y", "script.lua:2"),
        ("", "backend"),
        ("while true do end", "--hook-time"),
        ('require "nowhere"', "nowhere"),
        ("\x1bLJ bytecode", "script.lua"),
    ],
)
def test_scripts_that_do_not_load(script, text, wanted):
    ended = run("serve", script(text), "--host", "127.0.0.1", "--port", "0", "--hook-time", "0.1")
    assert ended.returncode > 0 and wanted in ended.stderr, ended


def test_a_script_that_is_not_there():
    ended = run("serve", "/nonexistent/x.lua", "--port", "0")
    assert ended.returncode > 0 and "/nonexistent/x.lua" in ended.stderr


def test_a_script_may_require_files_next_to_it(start, tmp_path):
    (tmp_path / "worker0").mkdir(exist_ok=True)
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/helper.lua").write_text('return { text = "from a file" }')
    path = tmp_path / "lib/w.lua"
    path.write_text(
        backend(
            'worker.get("/x", function() return helper.text end)', 'local helper = require "helper"'
        )
    )
    (tmp_path / "worker0").rmdir()
    assert start(path).get("/x").body == b"from a file"


# -- run --


def test_run_prints_and_ends_with_its_status(script):
    ended = run(
        "run", script('print("hello", ...) io.stderr:write("err\\n")'), "a", "b c", "--flag", "-x"
    )
    assert (ended.returncode, ended.stdout) == (0, "hello\ta\tb c\t--flag\t-x\n")
    assert "err" in ended.stderr


@pytest.mark.parametrize(
    "code,status",
    [
        ("os.exit(0)", 0),
        ("os.exit(3)", 3),
        ("os.exit(true)", 0),
        ("os.exit(false)", 1),
        ("error 'kaboom'", 1),
        ("local x = nil; return x.y", 1),
        ("return", 0),
    ],
)
def test_run_status(script, code, status):
    ended = run("run", script(code))
    assert ended.returncode == status, ended
    if "kaboom" in code:
        assert "kaboom" in ended.stderr and "script.lua:1" in ended.stderr


def test_run_may_wait_and_speak_http(script, model):
    model.on("/x", answers(b"got"))
    ended = run(
        "run",
        script(
            f"""
      local worker = require "luaworker"
      worker.sleep(0.01)
      print(worker.http.get("{model.url}/x"):body())"""
        ),
    )
    assert (ended.returncode, ended.stdout) == (0, "got\n"), ended


def test_run_can_serve_until_it_is_told_to_end(script, programs):
    program = Program(
        "run",
        script(
            """
      local worker = require "luaworker"
      local http = require "luaworker.http"
      local server = http.serve { host = "127.0.0.1", port = 0, routes = {
        worker.get("/ping", function() return "pong" end),
        worker.post("/echo", function(request) return worker.json(request:json()) end),
      } }
      print("port " .. server.port)
      io.stdout:flush()"""
        ),
    )
    programs(program)
    port = int(program.wait_line("port ").split()[-1])
    client = Client(port)
    assert client.send(request("GET", "/ping")).read_response("GET").body == b"pong"
    assert client.send(request("POST", "/echo", b'{"a":[]}')).read_response().body == b'{"a":[]}'
    client.close()
    program.stop()


def test_run_of_a_file_that_is_not_there():
    ended = run("run", "/nonexistent/x.lua")
    assert ended.returncode > 0 and "/nonexistent/x.lua" in ended.stderr


def test_run_of_an_unknown_program():
    ended = run("run", "@nonsense")
    assert ended.returncode > 0 and "nonsense" in ended.stderr


# -- hello_world --

PROMPT = {"prompt": "Once upon a time", "max_response_tokens": 12}


def port_of(line):
    return int(re.search(r"http://[^:/ ]+:(\d+)", line).group(1))


@pytest.fixture
def stand_in(programs, tmp_path):
    program = Program(
        "run", "@model_server", "--port", "0", "--rate", "0", "--log", tmp_path / "model.log"
    )
    programs(program)
    program.port = port_of(program.wait_line("http://"))
    wait_until(
        lambda: "server has started" in (tmp_path / "model.log").read_text(), "the stand-in to load"
    )
    return program


def test_hello_world_with_the_stand_in(start, stand_in, tmp_path):
    worker = start(
        HELLO,
        model=f"http://127.0.0.1:{stand_in.port}",
        environment={"MODEL_LOG": str(tmp_path / "model.log")},
    )
    assert worker.get("/ping").body == b"pong"
    assert worker.get("/healthcheck").json() == {"status": "ok"}
    answer = worker.post("/generate", PROMPT)
    assert answer.status == 200 and answer.json()["tokens"] == 12 and answer.json()["response"]
    stream = worker.post("/generate_stream", PROMPT)
    assert stream.complete and stream.headers.get("Content-Type").startswith("text/event-stream")
    events = [line[6:] for line in stream.body.decode().splitlines() if line.startswith("data: ")]
    assert len(events) == 13 and events[-1] == "[DONE]"
    words = "".join(json.loads(event)["token"] for event in events[:-1]).split()
    assert len(words) == 12
    refused = worker.post("/generate", {"prompt": 5})
    assert refused.status == 422 and set(refused.json()["payload"]) == {
        "prompt",
        "max_response_tokens",
    }
    worker.wait_counters(success=2, in_flight=0)
    worker.expect_nothing_left()
    worker.signal(signal.SIGTERM)
    worker.expect_exit(0)
    stand_in.stop()


def test_hello_world_passes_a_model_error_on(start, model):
    model.on("/generate", answers(b"no", status=503))
    model.on("/generate_stream", answers(b"no", status=503))
    worker = start(HELLO)
    for path in ("/generate", "/generate_stream"):
        assert worker.post(path, PROMPT).status == 503
    worker.wait_counters(error=2)


def test_a_client_that_leaves_stops_the_stand_in(start, programs, tmp_path):
    slow = Program(
        "run", "@model_server", "--port", "0", "--rate", "5", "--log", tmp_path / "slow.log"
    )
    programs(slow)
    port = port_of(slow.wait_line("http://"))
    wait_until(
        lambda: "server has started" in (tmp_path / "slow.log").read_text(), "the stand-in to load"
    )
    worker = start(
        HELLO,
        model=f"http://127.0.0.1:{port}",
        environment={"MODEL_LOG": str(tmp_path / "silent.log")},  # keeps the benchmark waiting
    )
    client = worker.start("/generate_stream", {"prompt": "x", "max_response_tokens": 4000})
    client.open_response().read_until(b"token")
    client.close()
    worker.wait_counters(cancelled=1, in_flight=0, upstreams=0)


def test_autoscaler_call_and_worker_together(start, stand_in, programs):
    """The autoscaler signs, the worker fetches its key and verifies, `call` prints the answer."""
    autoscaler = Program("run", "@autoscaler", "--port", "0")
    programs(autoscaler)
    scaler_port = port_of(autoscaler.wait_line("http://"))
    scaler_url = f"http://127.0.0.1:{scaler_port}"
    worker = start(
        HELLO,
        model=f"http://127.0.0.1:{stand_in.port}",
        unsecured=False,
        environment={"REPORT_ADDR": scaler_url, "CONTAINER_ID": "7"},
    )
    ask = {"endpoint": "hello_world", "cost": 1, "request_idx": 0, "api_key": "any"}
    route = wait_until(
        lambda: (lambda r: "url" in r and r)(ask_json(scaler_port, "/route/", ask)),
        "the worker to report that it is ready",
    )
    assert route["url"] == f"http://127.0.0.1:{worker.port}"
    assert worker.post("/generate", PROMPT, auth=route).status == 200
    forged = {**route, "url": route["url"] + "0"}
    assert worker.post("/generate", PROMPT, auth=forged).status == 401

    def call(path, payload):
        return run("call", HELLO, path, "--json", json.dumps(payload), "--autoscaler", scaler_url)

    ended = call("/generate", PROMPT)
    assert ended.returncode == 0, ended
    assert json.loads(ended.stdout)["tokens"] == 12
    ended = call("/generate_stream", PROMPT)
    assert ended.returncode == 0 and ended.stdout.rstrip().endswith("data: [DONE]"), ended
    ended = run("call", HELLO, "/generate", "--autoscaler", scaler_url)
    assert (
        ended.returncode == 0 and json.loads(ended.stdout)["tokens"] == 300
    ), "the script's own for_test"
    ended = call("/generate", {"prompt": 5})
    assert (
        ended.returncode == 1 and "422" in ended.stderr and "max_response_tokens" in ended.stdout
    ), ended
    worker.wait_counters(success=4, rejected=1, in_flight=0)
    worker.expect_nothing_left()
    worker.signal(signal.SIGTERM)
    worker.expect_exit(0)
    autoscaler.stop()


def ask_json(port, path, value):
    client = Client(port)
    response = client.send(request("POST", path, json.dumps(value).encode())).read_response()
    client.close()
    assert response.status == 200, response.body
    return response.json()


def test_call_without_an_autoscaler():
    ended = run("call", HELLO, "/generate", "--json", "{}", "--autoscaler", "http://127.0.0.1:1")
    assert ended.returncode == 1 and "127.0.0.1:1" in ended.stderr


def test_call_of_what_is_no_json():
    ended = run("call", HELLO, "/generate", "--json", "{", "--autoscaler", "http://127.0.0.1:1")
    assert ended.returncode != 0 and "JSON" in ended.stderr


# -- dev --


def test_dev_runs_a_worker_without_the_cloud(programs):
    """Worker, model stand-in and autoscaler on one machine, and the command that it prints works."""
    ports = dev_ports()
    program = Program("dev", HELLO, *as_options(ports), "--rate", "0")
    programs(program)
    line = program.wait_line("luaworker call")
    words = shlex.split(line)
    ended = run(*words[1:])
    assert ended.returncode == 0 and ended.stdout.rstrip().endswith("data: [DONE]"), ended
    program.stop()
    for port in ports.values():
        with pytest.raises(ConnectionError):
            Client(port)


def test_dev_reloads_on_sighup(programs, script):
    text = """
      local worker = require "luaworker"
      return worker.backend { model_server_url = os.getenv "MODEL_SERVER_URL", routes = {
        worker.post("/generate", { allow_parallel_requests = true }),
        worker.get("/version", function() return "1" end) } }"""
    path, ports = script(text), dev_ports()
    program = Program("dev", path, *as_options(ports))
    programs(program)
    program.wait_line("kill -HUP")

    def version():
        client = Client(ports["port"])
        body = client.send(request("GET", "/version")).read_response("GET").body
        client.close()
        return body

    assert version() == b"1"
    path.write_text(text.replace('"1"', '"2"'))
    program.process.send_signal(signal.SIGHUP)
    wait_until(lambda: version() == b"2", "the new script")
    program.stop()


ELSEWHERE = """local worker = require "luaworker"
return worker.backend {
  model_server_url = "http://127.0.0.1:1",
  model_log_file = "/nonexistent/model.log",
  log_actions = { model_loaded = "a line that no stand-in logs" },
  routes = { worker.post("/v1/completions", {
    benchmark = { runs = 1, generator = function() return { prompt = "hi", max_tokens = 1 } end },
  }) },
}
"""


def is_ready(dev):
    """Whether its worker is, by the command that it prints."""
    words = shlex.split(dev.wait_line("luaworker status").split(": ")[-1])
    return lambda: run(*words[1:]).returncode == 0


def test_dev_puts_the_stand_in_where_the_script_names_a_model(programs, script):
    """Its URL, its log and what is waited for in it are those of the machine that it is made for."""
    dev = Program("dev", script(ELSEWHERE), *as_options(dev_ports()))
    programs(dev)
    wait_until(is_ready(dev), "the worker of dev", 60)
    dev.stop()


def test_dev_beside_a_model_server_of_ones_own(programs, script, model):
    model.on("/v1/completions", answers(b"{}"))
    ports = dev_ports()
    path = script(ELSEWHERE.replace('"/nonexistent/model.log"', "nil"))
    dev = Program("dev", path, *as_options(ports), "--model-url", model.url)
    programs(dev)
    wait_until(is_ready(dev), "the worker of dev", 60)
    with pytest.raises(ConnectionError):
        Client(ports["model-port"])
    dev.stop()


def test_dev_needs_three_ports(script):
    """One that two of them share seems to be there as soon as the first of the two is."""
    ended = run("dev", script(ELSEWHERE), "--port", "9", "--model-port", "9")
    assert ended.returncode == 2 and "--model-port and --port are both 9" in ended.stderr, ended


def test_dev_ends_all_when_one_cannot_start(script):
    ports = dev_ports()
    ended = run("dev", script("return 5"), *as_options(ports))
    assert ended.returncode == 1 and "backend" in ended.stderr
    for port in ports.values():
        with pytest.raises(ConnectionError):
            Client(port)


def test_a_number_that_no_integer_holds(script):
    shown = run("serve", script(PLAIN), "--container-id", "9" * 23)
    assert shown.returncode == 2 and "--container-id takes a whole number" in shown.stderr
