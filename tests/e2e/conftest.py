# SPDX-License-Identifier: MIT
"""Fixtures: a model server, workers, a signer. Every worker a case starts is ended by proving that
nothing is left of its requests (Worker.finish); after a failure it is only killed and its log shown."""

import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from harness.autoscaler import FakeAutoscaler  # noqa: E402
from harness.model import FakeModel  # noqa: E402
from harness.signing import Signer  # noqa: E402
from harness.worker import BINARY, ROOT, Worker  # noqa: E402


@pytest.hookimpl(tryfirst=True, hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.when == "call":
        item.failed = report.failed


skipped_files = []


def pytest_collectreport(report):
    if report.skipped:
        skipped_files.append(report)


def pytest_sessionfinish(session, exitstatus):
    """A file that is skipped as a whole, its reason printed, is no failure of the run."""
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and skipped_files:
        session.exitstatus = pytest.ExitCode.OK


def pytest_collection_modifyitems(items):
    if BINARY.exists():
        return
    skip = pytest.mark.skip(reason=f"{BINARY} is not built (LUAWORKER_BIN names another)")
    for item in items:
        if "test_harness" not in item.nodeid:
            item.add_marker(skip)


def end_workers(workers, failed):
    for worker in workers:
        if failed:
            worker.kill()
            print("\n".join(worker.log.lines[-60:]))
            continue
        try:
            worker.finish()
        finally:
            worker.kill()


@pytest.fixture
def model():
    server = FakeModel()
    yield server
    server.stop()
    assert not server.complaints, server.complaints


@pytest.fixture
def autoscaler(signer):
    """Takes reports; serves the signer's key. Workers get it as REPORT_ADDR=autoscaler.url."""
    server = FakeAutoscaler(signer.public_pem)
    yield server
    server.stop()
    assert not server.complaints, server.complaints


@pytest.fixture
def start(request, tmp_path, model):
    """start(script, options=[...], ...) → Worker in front of `model`."""
    workers = []

    def start_worker(*arguments, **options):
        directory = tmp_path / f"worker{len(workers)}"
        directory.mkdir()
        options.setdefault("model", model)
        worker = Worker(directory, *arguments, **options)
        workers.append(worker)
        return worker

    yield start_worker
    end_workers(workers, getattr(request.node, "failed", True))


@pytest.fixture
def worker(start):
    """The plain worker: /generate parallel, /serial one at a time, /ping, /health forwarded."""
    return start()


@pytest.fixture(scope="module")
def shared_model():
    server = FakeModel()
    yield server
    server.stop()
    assert not server.complaints, server.complaints


@pytest.fixture(scope="session")
def signer(tmp_path_factory):
    return Signer(tmp_path_factory.mktemp("signer"))


@pytest.fixture(scope="session")
def other_signer(tmp_path_factory):
    return Signer(tmp_path_factory.mktemp("signer"), "other")


def data_folder(*names):
    """A folder of others' test data, or None."""
    base = pathlib.Path(os.environ.get("LW_DATA", ROOT.parent / "shared/data"))
    folder = base.joinpath(*names)
    return folder if folder.is_dir() else None
