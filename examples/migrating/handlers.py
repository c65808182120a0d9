# SPDX-License-Identifier: MIT
"""A worker of the first kind: a payload class, a handler class for each endpoint, a Backend. Clients
send a text and get a summary; the model server speaks OpenAI's completions. handlers.lua is the same
worker for luaworker. (In the older repository the package is called `lib`.)"""

import dataclasses
import os

from aiohttp import web
from vastai.serverless.server.lib.backend import Backend
from vastai.serverless.server.lib.data_types import (
    ApiPayload,
    EndpointHandler,
    JsonDataException,
    LogAction,
)
from vastai.serverless.server.lib.server import start_server


@dataclasses.dataclass
class Summary(ApiPayload):
    text: str
    max_words: int

    @classmethod
    def for_test(cls):
        return cls(text="All is well that ends well. " * 20, max_words=30)

    @classmethod
    def from_json_msg(cls, json_msg):
        missing = {name: "missing parameter" for name in ("text", "max_words") if name not in json_msg}
        if missing:
            raise JsonDataException(missing)
        if json_msg["max_words"] > 500:
            raise JsonDataException({"max_words": "at most 500"})
        return cls(text=json_msg["text"], max_words=json_msg["max_words"])

    def generate_payload_json(self):
        return {"prompt": "Summarize: " + self.text, "max_tokens": self.max_words * 2}

    def count_workload(self):
        return float(self.max_words * 2)


@dataclasses.dataclass
class SummaryHandler(EndpointHandler[Summary]):
    benchmark_runs: int = 3
    concurrency: int = 4
    allow_parallel_requests: bool = True
    max_queue_time: float = 60.0

    @property
    def endpoint(self):
        return "/v1/completions"

    @property
    def healthcheck_endpoint(self):
        return None

    @classmethod
    def payload_cls(cls):
        return Summary

    def make_benchmark_payload(self):
        return Summary.for_test()

    async def call_remote_dispatch_function(self, params):
        raise NotImplementedError

    async def generate_client_response(self, client_request, model_response):
        if model_response.status != 200:
            return web.Response(status=model_response.status)
        answer = await model_response.json()
        return web.json_response({"summary": answer["choices"][0]["text"].strip()})


backend = Backend(
    model_server_url=os.environ["MODEL_SERVER_URL"],
    model_log_file=os.environ["MODEL_LOG"],
    benchmark_handler=SummaryHandler(),
    log_actions=[
        (LogAction.ModelLoaded, "Application startup complete."),
        (LogAction.ModelError, "Traceback (most recent call last):"),
        (LogAction.Info, "Loading weights"),
    ],
)


async def handle_ping(_):
    return web.Response(text="pong")


async def handle_models(_):
    answer = await backend.session.get("/v1/models")
    return web.Response(body=await answer.read(), status=answer.status)


routes = [
    web.post("/summary", backend.create_handler(SummaryHandler())),
    web.get("/ping", handle_ping),
    web.get("/models", handle_models),
]

if __name__ == "__main__":
    start_server(backend, routes)
