# SPDX-License-Identifier: MIT
"""The workers of examples/migrating, each written for the cloud's own worker and for ours: the same
requests get the same answers, and the model gets the same bodies."""

import json

import pytest

from harness.client import Client
from harness.message import request
from test_vastai_server import HERE, Peer, value_of

EXAMPLES = HERE.parents[1] / "examples/migrating"
LOADED = "INFO Application startup complete.\n"


def complete(exchange):
    exchange.read_body()
    body = exchange.json()
    exchange.connection.model.bodies.append(body)
    if body["prompt"] == "fail":
        return exchange.answer_json({"error": "no"}, 503)
    text = f" {body['max_tokens']} tokens of it "
    return exchange.answer_json({"choices": [{"text": text}], "usage": {"completion_tokens": 3}})


@pytest.fixture(scope="module", params=["handlers", "config"])
def pair(request, tmp_path_factory, shared_model, signer):
    """Both are ready, past their benchmarks."""
    directory = tmp_path_factory.mktemp(request.param)
    shared_model.bodies = []
    shared_model.on("/v1/completions", complete)
    shared_model.on("/v1/models", lambda x: (x.read_body(), x.answer_json({"data": ["m"]})))
    peers = [
        Peer(name, directory / name, shared_model, signer, program=EXAMPLES / (request.param + ending))
        for name, ending in (("reference", ".py"), ("luaworker", ".lua"))
    ]
    for peer in peers:
        peer.wait_report("a first report", lambda r: True)
    for peer in peers:
        with open(peer.model_log, "a") as log:
            log.write(LOADED)
    for peer in peers:
        peer.loaded = peer.wait_report("loaded", lambda r: r["loadtime"] > 0)
        assert peer.loaded["max_perf"] > 0
    peers[0].kind = request.param
    yield peers
    for peer in peers:
        peer.stop()


CASES = {
    "handlers": [
        ("/summary", {"text": "It was so.", "max_words": 20}),
        ("/summary", {"text": "It was so.", "max_words": 501}),
        ("/summary", {"text": "It was so."}),
        ("/summary", {}),
        ("/summary", {"text": "naïve 語", "max_words": 1, "more": [1]}),
    ],
    "config": [
        ("/v1/completions", {"prompt": "once", "max_tokens": 5}),
        ("/v1/completions", {"prompt": "once"}),
        ("/v1/completions", {"prompt": "fail"}),
        ("/count", {"text": "one two three"}),
        ("/count", {}),
    ],
}


def test_answers_and_bodies_are_equal(pair, shared_model):
    for route, payload in CASES[pair[0].kind]:
        seen = []
        for peer in pair:
            before = len(shared_model.bodies)
            answer = value_of(peer.work(route, payload))
            seen.append((answer, shared_model.bodies[before:]))
        assert seen[0] == seen[1], f"{route} {json.dumps(payload)}"


def get(peer, path):
    client = Client(peer.port)
    client.send(request("GET", path))
    answer = client.read_response("GET")
    client.close()
    return answer


def test_plain_routes_are_equal(pair):
    paths = {"handlers": ("/ping", "/models"), "config": ("/unknown",)}[pair[0].kind]
    for path in paths:
        seen = [value_of(get(peer, path)) for peer in pair]
        assert seen[0][0] == seen[1][0], path
        assert seen[0][0] == 404 or seen[0] == seen[1], path
