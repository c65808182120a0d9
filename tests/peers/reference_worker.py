# SPDX-License-Identifier: MIT
"""The worker as the cloud ships it (vastai.serverless.server), with the routes of test_vastai_server.
Started as a program: everything else comes from the environment."""

import os

from vastai.serverless.server.worker import (
    BenchmarkConfig,
    HandlerConfig,
    LogActionConfig,
    Worker,
    WorkerConfig,
)


def workload(payload):
    return float(payload.get("n", 10))


def handler(route, **options):
    return HandlerConfig(route=route, workload_calculator=workload, **options)


host, port = os.environ["MODEL_SERVER_URL"].rsplit(":", 1)
benchmark = BenchmarkConfig(
    generator=lambda: {"n": 100, "benchmark": True}, runs=1, concurrency=2, do_warmup=False
)
Worker(
    WorkerConfig(
        model_server_url=host,
        model_server_port=int(port),
        model_log_file=os.environ["MODEL_LOG"],
        model_healthcheck_url="/health",
        max_sessions=1,
        log_action_config=LogActionConfig(on_load=["model is up"], on_error=["model is broken"]),
        handlers=[
            handler("/generate", allow_parallel_requests=True, benchmark_config=benchmark),
            handler("/serial", allow_parallel_requests=False),
            handler("/busy", allow_parallel_requests=True, max_queue_time=0.0),
        ],
    )
).run()
