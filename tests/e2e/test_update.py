# SPDX-License-Identifier: MIT
"""/pyworker/update: a file for the launcher, and only for those who know the master token."""

import os

import pytest

from harness.message import request
from harness.timing import wait_until


@pytest.fixture
def update(start, tmp_path):
    """start_update(token) → a worker and the path of its file."""

    def start_update(token="s3cret", file=None):
        file = file or tmp_path / "force_update"
        worker = start(options=["--update-file", file], environment={"MASTER_TOKEN": token})
        return worker, file

    return start_update


def ask(worker, token=None, body=None, scheme="Bearer"):
    fields = [] if token is None else [("Authorization", f"{scheme} {token}")]
    return worker.ask("POST", "/pyworker/update", body, fields)


def test_the_token_leaves_a_file(update):
    worker, file = update()
    for body in (None, b"", b"{}", b"anything"):
        response = ask(worker, "s3cret", body)
        assert (response.status, response.json()) == (200, {"ok": True})
        assert file.is_file()
        assert [f.name for f in file.parent.iterdir() if "force" in f.name] == [file.name]
        file.unlink()


WRONG = [None, "", "s3cre", "s3crets", "S3CRET", "s3cret s3cret"]


@pytest.mark.parametrize("token", WRONG, ids=range(len(WRONG)))
def test_others_do_not(update, token):
    worker, file = update()
    response = ask(worker, token)
    assert response.status == 401 and "error" in response.json()
    assert not file.exists()
    assert "s3cret" not in worker.log.text()


@pytest.mark.parametrize("token", [None, "", "x"])
def test_without_a_master_token_it_is_closed(update, token):
    for empty in ("", None):
        worker, file = update(empty)
        assert ask(worker, token).status == 401
        assert not file.exists()


def test_another_scheme(update):
    worker, file = update()
    assert ask(worker, "s3cret", scheme="Basic").status == 401
    assert ask(worker, "s3cret", scheme="bearer").status == 200


def test_a_file_that_cannot_be_written(update, tmp_path):
    file = tmp_path / "nowhere" / "file"
    worker, _ = update(file=file)
    response = ask(worker, "s3cret")
    assert response.status == 500 and "error" in response.json()
    assert str(file) not in response.body.decode()
    errors = lambda: [r for r in worker.log.find(level="error") if str(file) in r["message"]]
    assert os.strerror(2) in wait_until(errors, "a line in the log")[0]["message"]


def test_the_client_leaves(update):
    worker, file = update()
    whole = request("POST", "/pyworker/update", b"{}", [("Authorization", "Bearer s3cret")])
    worker.connect().send(whole[:-1]).reset()
    worker.wait_counters(connections=0)
    assert not file.exists()
    assert worker.get("/pyworker/update").status == 405
