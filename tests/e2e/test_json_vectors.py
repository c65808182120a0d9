# SPDX-License-Identifier: MIT
"""JSONTestSuite, each file as the payload and as the whole body: what must parse passes byte for byte,
what must be refused is refused, the rest must not hurt.

The data is not part of the project: see LW_DATA in conftest.py."""

import json

import pytest

from conftest import data_folder
from harness.message import AUTH, request
from harness.model import echo
from harness.worker import Worker, backend

FOLDER = data_folder("json-test-suite", "test_parsing")
if FOLDER is None:
    pytest.skip("JSONTestSuite is not there (set LW_DATA)", allow_module_level=True)

NAMES = sorted(path.name for path in FOLDER.glob("*.json"))
PREFIX = b'{"auth_data":' + json.dumps(AUTH).encode() + b',"payload":'

SCRIPT = backend(
    """
  worker.post("/generate", { allow_parallel_requests = true, endpoint = "/echo" }),
  worker.post("/hook", { allow_parallel_requests = true, endpoint = "/echo",
    generate_payload_json = function(payload) payload["added by the hook"] = true; return payload end }),"""
)


@pytest.fixture(scope="module")
def vectors(tmp_path_factory, shared_model):
    shared_model.on("/echo", echo)
    worker = Worker(tmp_path_factory.mktemp("vectors"), SCRIPT, shared_model)
    worker.steady = worker.connect()
    yield worker
    try:
        worker.finish()
    finally:
        worker.kill()


def ask(worker, path, body):
    """All on one connection: no vector may cost it."""
    response = worker.steady.send(request("POST", path, body)).read_response()
    assert response.complete
    return response


def is_object(data):
    return data.strip(b" \t\r\n").startswith(b"{")


@pytest.mark.parametrize("name", NAMES)
def test_vector(vectors, shared_model, name):
    data = (FOLDER / name).read_bytes()
    before = len(shared_model.seen())
    response = ask(vectors, "/generate", PREFIX + data + b"}")
    if name.startswith("y_"):
        expect_taken(response, data)
    elif name.startswith("n_"):
        assert (response.status, response.json()) == (422, {"error": "invalid JSON"})
        assert len(shared_model.seen()) == before
        whole = ask(vectors, "/generate", data)
        assert (whole.status, whole.json()) == (422, {"error": "invalid JSON"})
    else:
        assert response.status in (200, 422)
        assert ask(vectors, "/generate", data).status == 422
    seen = vectors.wait_counters(requests=0, upstreams=0, tasks=0, queued=0, in_flight=0)
    assert seen["received"] == seen["success"]


def expect_taken(response, data):
    if is_object(data):
        assert (response.status, response.body) == (200, data.strip(b" \t\r\n"))
    else:
        assert response.status == 422 and "payload" in response.json()


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith("y_")])
def test_values_pass_a_hook(vectors, name):
    """Wrapped into an object, through decode and encode in Lua."""
    data = (FOLDER / name).read_bytes()
    response = ask(vectors, "/hook", PREFIX + b'{"value":' + data + b"}}")
    assert response.status == 200, response.body
    got = json.loads(response.body)
    assert got["added by the hook"] is True
    assert got["value"] == json.loads(data)
    vectors.wait_counters(requests=0, upstreams=0, tasks=0, in_flight=0)
