# SPDX-License-Identifier: MIT
"""workers/image.lua: what it takes and refuses, one picture at a time, and both kinds of answers."""

import base64
import json

import pytest

from harness.message import envelope, request
from harness.model import says
from harness.worker import ROOT

PATH = "/sdapi/v1/txt2img"
PNG = b"\x89PNG\r\n\x1a\nnot really"
ANSWER = {
    "images": [base64.b64encode(PNG).decode()],
    "parameters": {"prompt": "a cat", "override_settings": None},
    "info": json.dumps({"seed": 7, "all_seeds": [7]}),
}


@pytest.fixture
def image(start, tmp_path):
    """Never measured: its model's log stays empty."""
    log = tmp_path / "model.log"
    log.touch()

    def start_image(**environment):
        environment["MODEL_LOG"] = str(log)
        return start(ROOT / "workers/image.lua", environment=environment)

    return start_image


def test_the_answer_as_it_came(image, model):
    worker = image()
    model.on(PATH, says(ANSWER))
    response = worker.post(PATH, {"prompt": "a cat", "steps": 30, "width": 1024, "batch_size": 2})
    assert response.status == 200 and response.json() == ANSWER
    sent = model.last(PATH).json()
    assert sent["prompt"] == "a cat" and sent["steps"] == 30 and sent["height"] == 512
    assert sent["seed"] == -1 and "sampler_name" not in sent
    assert worker.wait_request_line(route=PATH)["workload"] == 30 * 2 * 2


def test_the_picture_itself(image, model):
    worker = image()
    model.on(PATH, says(ANSWER))
    response = worker.post(PATH, {"prompt": "a cat"}, [("Accept", "image/png")])
    assert response.status == 200 and response.body == PNG
    assert response.headers.get("content-type") == "image/png"
    assert response.headers.get("x-seed") == "7"


def test_no_picture(image, model):
    worker = image()
    model.on(PATH, says({"images": [], "info": "{}"}))
    response = worker.post(PATH, {"prompt": "a cat"}, [("Accept", "image/png")])
    assert response.status == 502 and "no picture" in response.json()["error"]


def test_the_servers_own_error(image, model):
    worker = image()
    model.on(PATH, says({"error": "OutOfMemoryError", "detail": ""}, status=500))
    response = worker.post(PATH, {"prompt": "a cat"}, [("Accept", "image/png")])
    assert response.status == 500 and response.json()["error"] == "OutOfMemoryError"


@pytest.mark.parametrize(
    "changes, wrong",
    [
        ({"prompt": None}, {"prompt": "missing parameter"}),
        ({"steps": 151}, {"steps": "expected 1 to 150"}),
        ({"steps": "20"}, {"steps": "expected integer, got string"}),
        ({"width": 516}, {"width": "expected a multiple of 8"}),
        (
            {"seed": -2, "height": 4096},
            {"seed": "expected -1 to 4294967295", "height": "expected 64 to 2048"},
        ),
        ({"batch_size": 9223372036854775807}, {"batch_size": "expected 1 to 8"}),
        ({"override_settings": {"x": 1}}, {"override_settings": "unknown parameter"}),
    ],
)
def test_what_it_refuses(image, model, changes, wrong):
    worker = image()
    payload = {k: v for k, v in {"prompt": "a cat", **changes}.items() if v is not None}
    response = worker.post(PATH, payload)
    assert response.status == 422 and response.json() == {"payload": wrong}
    assert not model.seen(PATH)


def test_one_picture_at_a_time(image, model):
    worker = image()
    held = model.hold(PATH)
    clients = [worker.start(PATH, {"prompt": str(i)}) for i in range(2)]
    first = held.next()
    held.expect_none()
    first.answer_json(ANSWER)
    held.next().answer_json(ANSWER)
    for client in clients:
        assert client.read_response().status == 200


def test_who_would_wait_too_long_is_sent_on(image, model):
    worker = image(MAX_QUEUE_TIME="0.2")
    held = model.hold(PATH)
    client = worker.start(PATH, {"prompt": "first"})
    first = held.next()
    assert worker.post(PATH, {"prompt": "second"}).status == 429
    first.answer_json(ANSWER)
    assert client.read_response().status == 200


def test_a_picture_whose_client_has_left_keeps_its_turn(image, model):
    worker = image()
    held = model.hold(PATH)
    worker.start(PATH, {"prompt": "first"}).close()
    first = held.next()
    client = worker.connect().send(request("POST", PATH, envelope({"prompt": "second"})))
    worker.wait_counters(received=2, queued=1)
    held.expect_none()
    first.answer_json(ANSWER)
    held.next().answer_json(ANSWER)
    assert client.read_response().status == 200
