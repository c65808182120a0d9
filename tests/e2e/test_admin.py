# SPDX-License-Identifier: MIT
"""The internal port: what it answers, to whom, and in which state of the worker; and `luaworker
status`, which asks it for a person."""

import json
import re
import signal
import socket

import pytest

from harness.client import Client
from harness.message import request
from harness.model import answers, echo, says
from harness.ports import reserve_port, reserve_ports
from harness.timing import wait_until
from harness.worker import PLAIN, Program, backend, run

GATES = ["log", "start", "benchmark", "health", "key"]
WATCHED = backend(
    'worker.post("/generate", { allow_parallel_requests = true }),',
    more='model_healthcheck_url = "/health",',
)


def internal(worker, path):
    return worker.ask_internal("GET", path)


def status_of(worker):
    response = internal(worker, "/status")
    assert response.status == 200 and response.headers.get("Content-Type") == "application/json"
    return response.json()


def gate(seen, name):
    return next(g for g in seen["gates"] if g["name"] == name)


# -- the routes --


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/status", "/metrics"])
def test_get_head_and_what_else(worker, path):
    response = internal(worker, path)
    assert response.status == 200 and response.body
    head = worker.ask_internal("HEAD", path)
    assert head.status == 200 and head.body == b""
    assert int(head.headers.get("Content-Length")) > 0
    refused = worker.ask_internal("POST", path, b"{}")
    assert refused.status == 405 and refused.headers.get("Allow") == "GET, HEAD"
    assert internal(worker, path + "?x=1").status == 200


def test_paths_that_are_not_there(worker):
    for path in ("/", "/ping", "/generate", "/Status", "/status/", "/session/create"):
        assert internal(worker, path).status == 404, path
    refused = internal(worker, "/drain")
    assert refused.status == 405 and refused.headers.get("Allow") == "POST"
    for path in ("/livez", "/readyz", "/status", "/metrics", "/drain"):
        assert worker.get(path).status == 404, f"{path} on the client port"


def test_probes_keep_their_connection_and_the_log_quiet(worker):
    client = Client(worker.internal_port)
    worker.clients.append(client)
    for _ in range(20):
        for path in ("/livez", "/readyz", "/metrics"):
            client.send(request("GET", path))
            assert client.read_response("GET").status == 200
    assert worker.ask_internal("POST", "/session/end", b"{}").status == 422
    worker.wait_request_line(route="/session/end")
    assert len(worker.request_lines()) == 1
    client.close()


def test_it_is_on_the_loopback_alone(worker):
    with pytest.raises(ConnectionError):
        Client(worker.internal_port, host="127.0.0.2")


def test_another_address(start):
    worker = start(options=["--internal-addr", "127.0.0.2"])
    client = Client(worker.internal_port, host="127.0.0.2")
    worker.clients.append(client)
    client.send(request("GET", "/livez"))
    assert client.read_response("GET").body == b"ok\n"
    assert worker.log.find(f"internal port: http://127.0.0.2:{worker.internal_port} "
                           "with /status, /metrics, /readyz, /livez, POST /drain")  # fmt: skip


def test_a_port_that_is_taken(tmp_path):
    (tmp_path / "worker.lua").write_text(PLAIN)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run(
            *("serve", tmp_path / "worker.lua", "--port", 0, "--host", "127.0.0.1"),
            *("--internal-port", port),
            environment={"UNSECURED": "true"},
        )
    assert ended.returncode == 1 and f"{port}" in ended.stderr and "in use" in ended.stderr


def test_by_default_it_is_the_next_port(tmp_path):
    """WORKER_PORT + 1, or WORKER_HTTP_PORT; `luaworker status` finds it the same way."""
    (tmp_path / "worker.lua").write_text(PLAIN)
    port = reserve_ports(3)
    other = port + 2
    for environment, expected in (
        ({"WORKER_PORT": str(port)}, port + 1),
        ({"WORKER_PORT": str(port), "WORKER_HTTP_PORT": str(other)}, other),
    ):
        environment["UNSECURED"] = "true"
        program = Program("serve", tmp_path / "worker.lua", environment=environment)
        try:
            program.wait_line(f"internal port: http://127.0.0.1:{expected} ")
            wait_until(lambda: run("status", environment=environment).returncode == 0, "ready")
            program.stop()
        finally:
            program.kill()


# -- readiness --


def test_readiness_turns_with_the_model(start, model):
    model.on("/health", says({}, 503))
    worker = start(WATCHED)
    wait_until(lambda: "503" in gate(status_of(worker), "health")["why"], "a bad check")
    response = internal(worker, "/readyz")
    seen = response.json()
    assert response.status == 503 and seen["ready"] is False and seen["draining"] is False
    assert [g["name"] for g in seen["gates"]] == GATES
    assert gate(seen, "health")["state"] == "waiting"
    assert internal(worker, "/livez").status == 200
    model.on("/health", says({}))
    wait_until(lambda: internal(worker, "/readyz").status == 200, "ready")
    seen = internal(worker, "/readyz").json()
    assert seen["ready"] is True and gate(seen, "health")["state"] == "passed"
    assert 0 <= seen["now"] - seen["since"] < 3600


def test_status_says_all(start, model):
    model.on("/generate", echo)
    held = model.hold("/serial")
    worker = start()
    for _ in range(2):
        worker.post("/generate")
    clients = [worker.start("/serial") for _ in range(2)]
    exchange = held.next()
    wait_until(lambda: status_of(worker)["queued"] == 1, "one to wait")
    seen = status_of(worker)
    assert seen["in_flight"] == 2 and seen["workload"] == 200 and seen["max_perf"] == 0
    assert seen["totals"]["received"] == {"requests": 4, "workload": 400}
    assert seen["totals"]["success"] == {"requests": 2, "workload": 200}
    assert {k for k, v in seen["totals"].items() if not v["requests"]} == {
        "error", "cancelled", "rejected"
    }  # fmt: skip
    assert seen["ready"] is True and seen["error"] == "" and seen["draining"] is False
    assert seen["script"] == str(worker.script_file) and seen["generation"] == 1
    assert seen["model_url"] == model.url and seen["unsecured"] is True
    assert seen["key_present"] is False and seen["sessions"] == 0
    assert seen["report_addr"] is None and seen["reports"]["last_taken"] is None
    assert seen["certificate_expiry"] is None and 0 <= seen["uptime"] < 3600
    assert re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+", seen["version"])
    assert (seen["reloads"], seen["reload_failures"], seen["reload_error"]) == (0, 0, None)
    exchange.answer_json({})
    held.next().answer_json({})
    for client in clients:
        client.read_response()


def test_status_of_reloads(start):
    worker = start()
    worker.write_script("this is no Lua")
    worker.signal(signal.SIGHUP)
    wait_until(lambda: status_of(worker)["reload_failures"] == 1, "the bad reload")
    assert "worker.lua:1:" in status_of(worker)["reload_error"]
    worker.write_script(PLAIN)
    worker.signal(signal.SIGHUP)
    wait_until(lambda: status_of(worker)["generation"] == 2, "the good reload")
    seen = status_of(worker)
    assert (seen["reloads"], seen["reload_failures"], seen["reload_error"]) == (1, 1, None)


def test_status_of_reports(start, model):
    model.on("/worker_status/", answers(b"{}"))
    worker = start(environment={"REPORT_ADDR": model.url})
    wait_until(lambda: status_of(worker)["reports"]["taken"] >= 1, "a report")
    seen = status_of(worker)
    assert seen["report_addr"] == model.url and seen["reports"]["last_taken"] <= seen["now"]
    assert seen["url"] == f"http://127.0.0.1:{worker.port}"
    assert f"advertised {seen['url']}" in ask_status(worker).stdout


def test_texts_are_escaped(start, model):
    """What the model says stands in the reasons; it must not break the JSON or the terminal."""
    directory = '/he"al\\th'
    worker = start(backend('worker.get("/ping", function() return "" end),',
                           more="model_healthcheck_url = %s," % json.dumps(directory)))  # fmt: skip
    wait_until(lambda: directory in gate(status_of(worker), "health")["why"], "the reason")


# -- luaworker status --


def ask_status(worker, *arguments, **options):
    return run("status", "--internal-addr", f"127.0.0.1:{worker.internal_port}", *arguments, **options)


def test_command_ready(start, model):
    model.on("/generate", echo)
    worker = start()
    worker.post("/generate")
    ended = ask_status(worker)
    assert ended.returncode == 0 and ended.stderr == ""
    lines = ended.stdout.splitlines()
    assert re.fullmatch(r"ready since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d \(\d+\.\d s\)", lines[0])
    assert [line.split()[0] for line in lines[1:6]] == GATES
    assert len({re.match(r"  \w+ +", line).end() for line in lines[1:6]}) == 1, "aligned"
    assert "0 in flight" in lines[6] and "1 received: 1 success" in lines[7]
    assert ended.stdout.count(str(worker.script_file)) == 1


def test_command_not_ready(start, model):
    model.on("/health", says({}, 503))
    worker = start(WATCHED)
    wait_until(lambda: "503" in gate(status_of(worker), "health")["why"], "a bad check")
    ended = ask_status(worker)
    assert ended.returncode == 1 and ended.stderr == ""
    assert re.match(r"not ready: health: .*503", ended.stdout), ended.stdout
    assert re.search(r"^  health +waiting +\d+\.\d s +.*503", ended.stdout, re.MULTILINE)


def test_command_names_every_closed_gate(start, tmp_path):
    log = tmp_path / "none.log"
    more = f'model_log_file = "{log}", log_actions = {{ model_loaded = {{ "up" }} }},'
    worker = start(backend('worker.get("/ping", function() return "" end),',
                           more=more + 'model_healthcheck_url = "/health",'))  # fmt: skip
    first = ask_status(worker).stdout.splitlines()[0]
    assert re.fullmatch(rf'not ready: log: .*"up".*{log}.*; also health', first), first


def test_command_draining_and_reload_error(worker):
    worker.write_script("this is no Lua")
    worker.signal(signal.SIGHUP)
    wait_until(lambda: status_of(worker)["reload_failures"] == 1, "the bad reload")
    assert re.search(r"^reload +failed: .*worker.lua:1:", ask_status(worker).stdout, re.MULTILINE)
    worker.ask_internal("POST", "/drain")
    ended = ask_status(worker)
    assert ended.returncode == 1 and ended.stdout.startswith("not ready: draining for ")


def test_command_json(worker):
    ended = ask_status(worker, "--json")
    assert ended.returncode == 0
    assert set(json.loads(ended.stdout)) == set(status_of(worker))
    worker.ask_internal("POST", "/drain")
    assert ask_status(worker, "--json").returncode == 1


def test_the_autoscalers_address_is_shown_without_its_secrets(start):
    address = "http://user:secret1@127.0.0.1:1/base?key=secret2"
    environment = {"REPORT_ADDR": address, "LUAWORKER_TEST_PACE": "20"}
    worker = start(environment=environment, unsecured=False)
    wait_until(lambda: "refused" in gate(status_of(worker), "key")["why"], "no key")
    assert status_of(worker)["report_addr"] == "http://127.0.0.1:1/base?..."
    wait_until(lambda: gate(status_of(worker), "key")["state"] == "failed", "giving up")
    for text in (str(status_of(worker)), ask_status(worker).stdout, worker.log.text()):
        assert "127.0.0.1:1" in text and "secret" not in text, text


def test_command_takes_several_forms_of_the_address(worker):
    port = worker.internal_port
    for address in (
        f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port}/", f"http://127.0.0.1:{port}/status",
        f"127.0.0.1:{port}", f"localhost:{port}", f":{port}", f"{port}",
    ):  # fmt: skip
        assert run("status", address).returncode == 0, address
        assert run("status", f"--internal-addr={address}").returncode == 0, address
    assert run("status", "127.0.0.1", environment={"WORKER_HTTP_PORT": str(port)}).returncode == 0


def test_command_finds_nobody(model):
    port = reserve_port()
    ended = run("status", port)
    assert ended.returncode == 3 and ended.stdout == ""
    assert f"http://127.0.0.1:{port}/status" in ended.stderr and "refused" in ended.stderr
    assert "--internal-addr" in ended.stderr and ended.stderr.count("\n") == 1
    model.on("/status", says({"gates": "none"}))
    ended = run("status", model.url)
    assert ended.returncode == 3 and "no worker's internal port" in ended.stderr
    ended = run("status", model.url + "/other")
    assert ended.returncode == 3 and "404" in ended.stderr


@pytest.mark.parametrize(
    "said",
    [
        *("[]", "null", "", "no json", '{"gates": [1]}', '{"gates": []}'),
        *('{"ready": true, "gates": []}', '{"ready": true, "now": 1, "since": "x", "gates": []}'),
        *('{"drained": true}', '{"drained": true, "seconds": "x", "in_flight": 0}'),
    ],
)
@pytest.mark.parametrize("command", ["status", "drain"])
def test_commands_at_another_server(model, command, said):
    """Not 1, which says something of a worker; in one line, not half a table."""
    model.on("/" + command, answers(said.encode()))
    ended = run(command, model.url)
    assert ended.returncode == 3 and ended.stdout == "", ended
    assert "no worker's internal port" in ended.stderr and ended.stderr.count("\n") == 1, ended


@pytest.mark.parametrize("command", ["status", "drain"])
def test_what_another_server_says_does_not_reach_the_terminal_raw(model, command):
    model.on("/" + command, answers(b"\x1b[31mred\x07\n", status=500))
    ended = run(command, model.url)
    assert ended.returncode == 3 and "red" in ended.stderr and "\x1b" not in ended.stderr, ended


@pytest.mark.parametrize(
    "arguments",
    [["--bogus"], ["127.0.0.1:x"], ["127.0.0.1:70000"], ["::1"], ["a b"], ["one", "two"]],
    ids=" ".join,
)
def test_command_used_wrongly(arguments):
    ended = run("status", *arguments)
    assert ended.returncode == 2 and ended.stdout == "" and ended.stderr.startswith("luaworker status: ")


def test_command_help():
    ended = run("status", "--help")
    assert ended.returncode == 0 and "--internal-addr HOST:PORT" in ended.stdout
    ended = run("status", environment={"WORKER_PORT": "many"})
    assert ended.returncode == 2 and "WORKER_PORT" in ended.stderr
