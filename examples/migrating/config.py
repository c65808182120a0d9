# SPDX-License-Identifier: MIT
"""A worker of the second kind: one WorkerConfig, functions where something is special. A model server
that speaks OpenAI's completions, passed through; /count answers by a function, without the model.
config.lua is the same worker for luaworker."""

import os

from vastai.serverless.server.worker import (
    BenchmarkConfig,
    HandlerConfig,
    LogActionConfig,
    Worker,
    WorkerConfig,
)


def parse_request(payload):
    payload.setdefault("max_tokens", 64)
    return payload


def workload(payload):
    return payload.get("max_tokens", 0)


def benchmark_payload():
    return {"prompt": "Tell a story.", "max_tokens": 32}


async def count_words(text=""):
    return {"words": len(text.split())}


url, _, port = os.environ["MODEL_SERVER_URL"].rpartition(":")

config = WorkerConfig(
    model_server_url=url,
    model_server_port=int(port),
    model_log_file=os.environ["MODEL_LOG"],
    log_action_config=LogActionConfig(
        on_load=["Application startup complete."],
        on_error=["Traceback (most recent call last):"],
        on_info=["Loading weights"],
    ),
    handlers=[
        HandlerConfig(
            route="/v1/completions",
            allow_parallel_requests=True,
            max_queue_time=60.0,
            request_parser=parse_request,
            workload_calculator=workload,
            benchmark_config=BenchmarkConfig(generator=benchmark_payload, runs=3, concurrency=4),
        ),
        HandlerConfig(
            route="/count",
            allow_parallel_requests=True,
            is_remote_dispatch=True,
            remote_function=count_words,
            workload_calculator=lambda payload: 1,
        ),
    ],
    max_sessions=4,
)

if __name__ == "__main__":
    Worker(config).run()
