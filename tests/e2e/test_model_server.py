# SPDX-License-Identifier: MIT
"""The model stand-in, @model_server: the three kinds of servers that it answers for."""

import base64
import json
import struct
import zlib

import pytest

from harness.client import Client
from harness.message import request
from harness.timing import wait_until
from harness.worker import Program


@pytest.fixture
def ask(tmp_path):
    """ask(method, path, value) → the answer; ask.log: what it has logged."""
    log = tmp_path / "model.log"
    options = ["--port", "0", "--rate", "0", "--step-ms", "0", "--log", str(log)]
    program = Program("run", "--log-level", "warn", "@model_server", *options)
    port = int(program.wait_line("model server on").rsplit(":", 1)[1])

    def answer(method, path, value=None):
        client = Client(port)
        body = None if value is None else json.dumps(value).encode()
        response = client.send(request(method, path, body)).read_response(method)
        client.close()
        return response

    answer.log = log
    wait_until(lambda: answer("GET", "/healthcheck").status == 200, "the stand-in to have loaded")
    yield answer
    program.stop()


def events(response):
    assert response.status == 200 and response.headers.get("content-type") == "text/event-stream"
    *parts, done, rest = response.body.decode().split("\n\n")
    assert done == "data: [DONE]" and rest == ""
    return [json.loads(part.removeprefix("data: ")) for part in parts]


def pixels(png):
    """Width, height and the first pixel of a PNG; its checksums are checked."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        kind, content = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", png, at + 8 + length)[0] == zlib.crc32(kind + content)
        chunks[kind] = content
        at += 12 + length
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    width, height, depth, colour = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    rows = zlib.decompress(chunks[b"IDAT"])
    assert (depth, colour) == (8, 2) and len(rows) == height * (1 + 3 * width)
    return width, height, tuple(rows[1:4])


def test_it_says_what_each_kind_of_server_says_when_it_is_ready(ask):
    markers = ("server has started", "Application startup complete.", "Startup time: ")
    wait_until(lambda: all(m in ask.log.read_text() for m in markers), "the markers")


def test_a_completion(ask):
    answer = ask("POST", "/v1/completions", {"model": "m", "prompt": "hello", "max_tokens": 7}).json()
    assert answer["object"] == "text_completion" and answer["model"] == "m"
    assert len(answer["choices"][0]["text"].split()) == 7
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 7
    assert answer["usage"]["total_tokens"] == 7 + answer["usage"]["prompt_tokens"]


@pytest.mark.parametrize("with_usage", [False, True])
def test_a_chat_that_streams(ask, with_usage):
    asked = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 3, "stream": True}
    if with_usage:
        asked["stream_options"] = {"include_usage": True}
    got = events(ask("POST", "/v1/chat/completions", asked))
    if with_usage:
        last = got.pop()
        assert last["choices"] == [] and last["usage"]["completion_tokens"] == 3
    assert all("usage" not in event for event in got)
    assert [e["choices"][0]["finish_reason"] for e in got] == [None, None, None, "length"]
    assert all(e["object"] == "chat.completion.chunk" for e in got)
    text = "".join(e["choices"][0]["delta"]["content"] for e in got)
    asked["stream"] = False
    whole = ask("POST", "/v1/chat/completions", asked).json()["choices"][0]["message"]["content"]
    assert text.split() == whole.split()  # the same prompt, the same words


def test_embeddings_and_models(ask):
    answer = ask("POST", "/v1/embeddings", {"model": "m", "input": ["a", "b"]}).json()
    assert [one["index"] for one in answer["data"]] == [0, 1]
    assert ask("GET", "/v1/models").json()["data"][0]["object"] == "model"


def test_pictures(ask):
    path = "/sdapi/v1/txt2img"
    asked = {"prompt": "a cat", "seed": 4294967295, "batch_size": 2, "steps": 3, "width": 64}
    answer = ask("POST", path, asked).json()
    first, second = [pixels(base64.b64decode(image, validate=True)) for image in answer["images"]]
    assert first[:2] == second[:2] == (8, 8) and first[2] != second[2]
    assert answer["parameters"] == asked
    assert json.loads(answer["info"])["all_seeds"] == [4294967295, 4294967296]
    again = ask("POST", path, {**asked, "batch_size": 1}).json()
    assert again["images"] == answer["images"][:1]
    chosen = json.loads(ask("POST", path, {"prompt": "a cat"}).json()["info"])["seed"]
    assert 0 <= chosen <= 4294967295


@pytest.mark.parametrize(
    "path, value, status",
    [
        ("/generate", {"prompt": 5}, 422),
        ("/v1/completions", {"prompt": 5}, 400),
        ("/v1/chat/completions", {"messages": []}, 400),
        ("/v1/chat/completions", "text", 422),
        ("/sdapi/v1/txt2img", 5, 422),
    ],
)
def test_what_it_refuses(ask, path, value, status):
    response = ask("POST", path, value)
    assert response.status == status and response.json()["error"]
