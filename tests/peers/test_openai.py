# SPDX-License-Identifier: MIT
"""The `openai` client through workers/openai.lua without an envelope: signed by its API key, which is
then the autoscaler's auth_data, or unsigned."""

import base64
import json
import threading

import openai
import pytest

from harness.message import auth_data
from harness.model import says
from harness.timing import PATIENCE, wait_until
from harness.worker import ROOT

SCRIPT = ROOT / "workers/openai.lua"
WORKER_URL = "http://127.0.0.1:3000"


def completion(text):
    return {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop",
                     "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    }  # fmt: skip


def piece(text):
    value = {
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}],
    }  # fmt: skip
    return f"data: {json.dumps(value)}\n\n".encode()


def chat(exchange):
    """What an OpenAI server answers: echoes the last message, streamed word by word if asked."""
    exchange.read_body()
    asked = exchange.json()
    text = asked["messages"][-1]["content"]
    if not asked.get("stream"):
        return exchange.answer_json(completion(text))
    exchange.stream_head()
    for word in text.split():
        exchange.chunk(piece(word + " "))
    exchange.chunk(b"data: [DONE]\n\n")
    return exchange.last_chunk()


@pytest.fixture
def open_worker(start, model, tmp_path):
    """open_worker(**Worker's options): ready, its benchmark declared by a cache of its own."""
    model.on("/v1/chat/completions", chat)
    model.on("/v1/completions", says({"choices": []}))

    def open_one(**options):
        environment = {"ENVELOPE": "false", "MODEL_NAME": "m"}
        return start(SCRIPT, environment=environment, **options)

    return open_one


@pytest.fixture
def client_of(start):
    """client_of(worker, key) → a client without retries; closed at the end, before the workers."""
    clients = []

    def make(worker, key="none", **options):
        options = {"max_retries": 0, "timeout": PATIENCE, **options}
        url = f"http://127.0.0.1:{worker.port}/v1"
        clients.append(openai.OpenAI(base_url=url, api_key=key, **options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def signed_key(signer, **changes):
    data = auth_data(url=WORKER_URL, signature=signer.sign_url(WORKER_URL), **changes)
    return base64.b64encode(json.dumps(data).encode()).decode()


def ask(client, text="hello there", **options):
    messages = [{"role": "user", "content": text}]
    return client.chat.completions.create(model="m", messages=messages, **options)


def test_whole_answer_unsigned(open_worker, client_of):
    worker = open_worker()
    answer = ask(client_of(worker), "grüße 🙂", max_tokens=7)
    assert answer.choices[0].message.content == "grüße 🙂"
    assert answer.usage.total_tokens == 3
    line = worker.wait_request_line(route="/v1/chat/completions")
    assert line["outcome"] == "success" and line["workload"] == 7


def test_stream_unsigned(open_worker, client_of):
    words = [
        chunk.choices[0].delta.content for chunk in ask(client_of(open_worker()), stream=True)
    ]
    assert words == ["hello ", "there "]


def test_api_key_carries_the_signature(open_worker, client_of, signer, model):
    worker = open_worker(unsecured=False, options=["--public-key", signer.public_file])
    client = client_of(worker, signed_key(signer))
    assert ask(client).choices[0].message.content == "hello there"
    assert len(list(ask(client, stream=True))) == 2
    for exchange in model.seen("/v1/chat/completions"):
        assert "Authorization" not in exchange.headers, "the key reached the model"


def test_field_of_its_own_carries_the_signature(open_worker, client_of, signer):
    worker = open_worker(unsecured=False, options=["--public-key", signer.public_file])
    data = auth_data(url=WORKER_URL, signature=signer.sign_url(WORKER_URL))
    client = client_of(worker, default_headers={"X-Auth-Data": json.dumps(data)})
    assert ask(client).choices[0].message.content == "hello there"


@pytest.mark.parametrize("key", ["sk-proj-abc", "%%%", base64.b64encode(b"{}").decode()])
def test_other_keys_are_refused_as_the_client_expects(open_worker, client_of, signer, model, key):
    worker = open_worker(unsecured=False, options=["--public-key", signer.public_file])
    with pytest.raises(openai.AuthenticationError):
        ask(client_of(worker, key))
    with pytest.raises(openai.AuthenticationError):
        ask(client_of(worker, signed_key(signer)[:-40] + "A" * 40))
    assert not model.seen("/v1/chat/completions")


def test_models_own_errors_come_through(open_worker, client_of, model):
    worker = open_worker()
    model.on("/v1/chat/completions", says({"error": {"message": "bad"}}, 400))
    with pytest.raises(openai.BadRequestError, match="bad"):
        ask(client_of(worker))


def test_broken_stream_is_an_error_to_the_client(open_worker, client_of, model):
    worker = open_worker()

    def break_off(exchange):
        exchange.read_body()
        exchange.stream_head()
        exchange.chunk(piece("half "))
        exchange.reset()

    model.on("/v1/chat/completions", break_off)
    stream = iter(ask(client_of(worker), stream=True))
    assert next(stream).choices[0].delta.content == "half "
    with pytest.raises(Exception) as caught:
        list(stream)
    assert not isinstance(caught.value, StopIteration)
    worker.wait_counters(error=1)


def test_client_that_closes_its_stream_frees_the_model(open_worker, client_of, model):
    worker = open_worker()
    held = model.hold("/v1/chat/completions")
    answers = []
    thread = threading.Thread(target=lambda: answers.append(ask(client_of(worker), stream=True)))
    thread.start()
    exchange = held.next()
    exchange.stream_head()
    exchange.chunk(piece("one "))
    thread.join(PATIENCE)
    wait_until(lambda: answers, "the stream")
    assert next(iter(answers[0])).choices[0].delta.content == "one "
    answers[0].close()
    exchange.expect_dropped()
    worker.wait_counters(cancelled=1)


def test_many_at_once(open_worker, client_of):
    worker = open_worker()
    client = client_of(worker)
    results = []

    def one(i):
        words = [c.choices[0].delta.content for c in ask(client, f"a{i} b{i}", stream=True)]
        results.append(words == [f"a{i} ", f"b{i} "])

    threads = [threading.Thread(target=one, args=(i,)) for i in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert results == [True] * 50
