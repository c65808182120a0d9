# SPDX-License-Identifier: MIT
"""The cloud's own client (PyPI's vastai) against our local autoscaler and workers: requests, streams,
sessions, retries after 429 and after a worker that died."""

import asyncio
import json
import re
import signal

import pytest
from vastai.serverless.client.client import CoroutineServerless
from vastai.serverless.client.endpoint import Endpoint

from harness.model import says
from harness.timing import PATIENCE
from harness.worker import Program, backend

ENDPOINT = "peers"
SCRIPT = backend(
    """
    worker.post("/generate", { allow_parallel_requests = true, benchmark = BENCHMARK }),
    worker.post("/busy", { allow_parallel_requests = true, max_queue_time = 1 }),
    worker.post("/serial", { allow_parallel_requests = false }),
""",
    before="""
local BENCHMARK = { max_perf = 10, generator = function() return {} end }
""",
)


class Client(CoroutineServerless):
    """Everything as it is shipped, but that the cloud's root certificate is not fetched from the
    cloud: the workers here speak plain HTTP."""

    async def get_ssl_context(self):
        return False


@pytest.fixture
def autoscaler():
    program = Program("run", "@autoscaler", "--port", "0", "--endpoint", ENDPOINT, "--verbose")
    line = program.wait_line("autoscaler of endpoint")
    program.url = re.search(r"http://\S+", line).group(0)
    yield program
    program.stop()


@pytest.fixture
def workers(autoscaler, start):
    """workers() → one more worker, reported as ready to the autoscaler."""

    def one(script=SCRIPT, **options):
        worker = start(
            script,
            unsecured=False,
            environment={"REPORT_ADDR": autoscaler.url, "MASTER_TOKEN": "t"},
            **options,
        )
        worker.url = f"http://127.0.0.1:{worker.port}"
        return worker

    return one


def with_client(autoscaler, talk):
    """Runs talk(client, endpoint) and returns what it returns."""

    async def main():
        options = {"autoscaler_url": autoscaler.url, "webserver_url": autoscaler.url}
        async with Client("key", max_poll_interval=0.2, **options) as client:
            endpoint = Endpoint(client, name=ENDPOINT, id=1, api_key="key")
            return await asyncio.wait_for(talk(client, endpoint), PATIENCE * 3)

    return asyncio.run(main())


def test_endpoint_is_found_by_name(autoscaler):
    async def talk(client, _):
        found = await client.get_endpoint(ENDPOINT)
        return found.name, found.api_key

    assert with_client(autoscaler, talk) == (ENDPOINT, "local")


def test_request_and_answer(autoscaler, workers, model):
    model.on("/generate", says({"text": "grüße", "n": 12345678901234567890}))
    worker = workers()

    async def talk(_, endpoint):
        return await endpoint.request("/generate", {"prompt": "hello", "k": [1.0, None]}, cost=7)

    result = with_client(autoscaler, talk)
    assert result["ok"] and result["status"] == 200
    assert result["response"] == {"text": "grüße", "n": 12345678901234567890}
    assert result["url"] == worker.url
    assert model.last("/generate").json() == {"prompt": "hello", "k": [1.0, None]}
    autoscaler.wait_line(f"request {result['request_idx']} ended: Success")


def test_client_polls_until_a_worker_is_ready(autoscaler, workers, model):
    model.on("/generate", says({"ok": 1}))

    async def talk(_, endpoint):
        asked = asyncio.ensure_future(endpoint.request("/generate", {}))
        await asyncio.sleep(0.3)
        assert not asked.done()
        await asyncio.to_thread(workers)
        return await asked

    assert with_client(autoscaler, talk)["response"] == {"ok": 1}


def test_stream(autoscaler, workers, model):
    workers()
    held = model.hold("/generate")

    async def talk(_, endpoint):
        result = asyncio.ensure_future(endpoint.request("/generate", {}, stream=True))
        exchange = await asyncio.to_thread(held.next)
        exchange.stream_head()
        stream = (await result)["response"]
        seen = []
        for i in range(5):  # each piece is read before the next is sent
            exchange.chunk(b"data: " + json.dumps({"token": i}).encode() + b"\n\n")
            seen.append(await stream.__anext__())
        exchange.last_chunk()
        return seen + [one async for one in stream]

    assert with_client(autoscaler, talk) == [{"token": i} for i in range(5)]


def test_worker_list(autoscaler, workers):
    worker = workers()
    autoscaler.wait_line('"loadtime":')

    async def talk(client, endpoint):
        while True:
            found = await client.get_endpoint_workers(endpoint)
            if found and found[0].status == "ready":
                return found

    assert len(with_client(autoscaler, talk)) == 1
    assert worker.is_running()


def test_refused_request_is_retried(autoscaler, workers, model):
    """429 while 100 s of work are before it; served once that is done."""
    worker = workers()
    held = model.hold("/generate")
    model.on("/busy", says({"ok": 1}))

    async def talk(_, endpoint):
        first = asyncio.ensure_future(endpoint.request("/generate", {}))
        exchange = await asyncio.to_thread(held.next)
        second = asyncio.ensure_future(endpoint.request("/busy", {}))
        await asyncio.to_thread(worker.wait_request_line, status=429)
        assert not second.done()
        exchange.answer_json({"ok": 0})
        return (await first)["response"], (await second)["response"]

    assert with_client(autoscaler, talk) == ({"ok": 0}, {"ok": 1})
    assert worker.counters()["rejected"] >= 1


def test_dead_worker_is_passed_over(autoscaler, workers, model):
    model.on("/generate", says({"ok": 1}))
    dead, living = workers(), workers()

    async def talk(client, endpoint):
        while len(await client.get_endpoint_workers(endpoint)) < 2:
            await asyncio.sleep(0.05)
        dead.signal(signal.SIGKILL)
        await asyncio.to_thread(dead.process.wait)
        return [(await endpoint.request("/generate", {}))["url"] for _ in range(4)]

    assert with_client(autoscaler, talk) == [living.url] * 4
    dead.finished = True


def test_cancelled_request_stops_the_model(autoscaler, workers, model):
    worker = workers()
    held = model.hold("/generate")

    async def talk(_, endpoint):
        asked = asyncio.ensure_future(endpoint.request("/generate", {}))
        exchange = await asyncio.to_thread(held.next)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        return exchange

    with_client(autoscaler, talk).expect_dropped()
    worker.wait_counters(cancelled=1)


def test_session(autoscaler, workers, model):
    model.on("/generate", says({"ok": 1}))
    model.on("/closed", says({}))
    worker = workers()

    async def talk(client, endpoint):
        session = await client.start_endpoint_session(
            endpoint, cost=5, lifetime=30, on_close_route="/closed", on_close_payload={"a": 1}
        )
        assert await session.is_open()
        for _ in range(3):
            assert (await session.request("/generate", {}))["response"] == {"ok": 1}
        again = await client.get_endpoint_session(endpoint, session.session_id, session.auth_data)
        assert again.lifetime == 30 and again.expiration > session.expiration
        await session.close()
        with pytest.raises(Exception, match="session does not exist"):
            await session.is_open()
        session.open = True
        with pytest.raises(ValueError, match="closed session"):
            await session.request("/generate", {}, retry=False)
        return session.session_id

    session_id = with_client(autoscaler, talk)
    assert re.fullmatch(r"[A-Za-z0-9]{13}", session_id)
    assert model.wait_seen(1, "/closed")[0].json() == {"a": 1, "session_id": session_id}
    worker.wait_counters(in_flight=0, success=4)


def test_session_within_a_context(autoscaler, workers, model):
    """`async with` closes it; parallel requests share it."""
    model.on("/serial", says({"ok": 1}))
    workers()

    async def talk(client, endpoint):
        async with await client.start_endpoint_session(endpoint, cost=1) as session:
            answers = await asyncio.gather(*(session.request("/serial", {}) for _ in range(20)))
        return [one["response"] for one in answers], session.open

    assert with_client(autoscaler, talk) == ([{"ok": 1}] * 20, False)


def test_hundred_at_once(autoscaler, workers, model):
    model.on("/generate", says({"ok": 1}))
    for _ in range(2):
        workers()

    async def talk(_, endpoint):
        answers = await asyncio.gather(*(endpoint.request("/generate", {"i": i}) for i in range(100)))
        return [one["status"] for one in answers]

    assert with_client(autoscaler, talk) == [200] * 100
