# SPDX-License-Identifier: MIT
"""gunicorn's request files, sent to the worker's socket. Invalid ones are answered 4xx, 501 or 505 and
the connection is closed, and nothing of them reaches the model; valid ones are understood.

The data is not part of the project: see LW_DATA in conftest.py."""

import re

import pytest

from conftest import data_folder
from harness.message import request
from harness.model import echo
from harness.worker import Worker, backend

FOLDER = data_folder("http-requests", "tests", "requests")
if FOLDER is None:
    pytest.skip("gunicorn's request files are not there (set LW_DATA)", allow_module_level=True)

# Files in invalid/ that hold nothing invalid for this program.
NOT_INVALID = {
    "011.http": "refused there for a limit of the test's own; '=' is legal in a host name (RFC 3986 §3.2.2)",
    "012.http": "as 011: a limit of the test's own",
    "041.http": "two Content-Types do not touch the framing; the field is not looked at",
    "limit_header_default_01.http": "8,190 bytes a field is gunicorn's limit; here the whole head has 64 KiB",
    "007.http": "gunicorn's limit of 8,190 bytes a field",
    "008.http": "gunicorn's limit of fields",
    "009.http": "gunicorn's limit of fields",
    "017.http": "gunicorn's limit of bytes a field (and no Host here)",
    "006.http": "gunicorn's limit of 4,094 bytes a request line",
}

# Files in valid/ that this program refuses, and the status.
REFUSED = {
    "009.http": (
        400,
        501,
        "Transfer-Encoding: identity is gone since RFC 7230, and with a Content-Length it is ambiguous",
    ),
    "025.http": (400, 501, "gzip as a transfer coding is not known here"),
    "025_line.http": (400, 501, "gzip as a transfer coding"),
    "rfc9112_smuggle_gzip_chunked_01.http": (400, 501, "gzip as a transfer coding"),
    "rfc9112_smuggle_te_identity_chunked_01.http": (400, 501, "identity as a transfer coding"),
    "029.http": (400, 501, "identity as a transfer coding"),
    "030.http": (400, 501, "identity as a transfer coding"),
    "028.http": (400, "a space before the colon (gunicorn's compatibility mode)"),
    "compat_obs_fold.http": (400, "folded fields (gunicorn's compatibility mode)"),
    "compat_obs_fold_huge.http": (400, "folded fields (gunicorn's compatibility mode)"),
    "040.http": (400, "a framing field spelled with an underscore (gunicorn's compatibility mode)"),
    "040_compat.http": (
        400,
        "a framing field spelled with an underscore (gunicorn's compatibility mode)",
    ),
    "pp_01.http": (400, "PROXY protocol is not spoken here"),
    "pp_02.http": (400, "PROXY protocol"),
    "pp_04.http": (400, "PROXY protocol"),
    "pp_05.http": (400, "PROXY protocol"),
    "031.http": (400, 501, "a method nobody here knows"),
    "031compat.http": (400, 501, "a method nobody here knows"),
    "031compat2.http": (400, 501, "a method nobody here knows"),
    "rfc9112_target_authority_connect_01.http": (400, 405, 501, "CONNECT is not offered"),
    "rfc9112_target_authority_ipv6_01.http": (400, 405, 501, "CONNECT is not offered"),
    "099.http": (400, 404, 408, "the file's body is shorter than its Content-Length here"),
    "014.http": (400, 404, "quotes in a target are not legal (RFC 3986 §2), yet harmless"),
    "027.http": (
        400,
        404,
        "letters beyond ASCII in a target are not legal (RFC 3986 §2), yet harmless",
    ),
    "005.http": (400, 404, "a fragment has no place in a target (RFC 9112 §3.2), yet harmless"),
}
PARSED = {200, 404, 405, 422}
INCOMPLETE = {
    "invalid/001.http",
    "invalid/rfc9112_chunked_missing_final_crlf_01.http",
    "valid/099.http",
}


def read(path):
    """The request's bytes: escapes undone, the file's own line ends dropped."""
    text = path.read_bytes().replace(b"\n", b"")
    for escape, byte in ((b"\\r", b"\r"), (b"\\n", b"\n"), (b"\\t", b"\t"), (b"\\0", b"\0")):
        text = text.replace(escape, byte)
    while b"\\x" in text:
        at = text.index(b"\\x")
        text = text[:at] + bytes([int(text[at + 2 : at + 4], 16)]) + text[at + 4 :]
    return text


def with_host(data):
    """gunicorn does not ask for a Host in HTTP/1.1; RFC 9112 §3.2 does."""
    line, end, rest = data.partition(b"\r\n")
    if line.endswith(b"HTTP/1.1") and b"\nhost:" not in b"\n" + rest.split(b"\r\n\r\n")[0].lower():
        return line + end + b"Host: worker.test\r\n" + rest
    return data


def routes_of_all_files():
    """A route for every target the files ask for, so that what is understood is also taken."""
    targets = set()
    for path in FOLDER.glob("*/*.http"):
        match = re.match(rb"^(GET|POST) (?:https?://[^/ ]+)?(/[!-~]*?)(?:[?#][!-~]*)? ", read(path))
        if match and len(match.group(2)) < 200 and b'"' not in match.group(2):
            targets.add((match.group(1).decode().lower(), match.group(2).decode()))
    return "\n".join(
        f'worker.{method}("{target}", worker.forward("/")),'
        if method == "get"
        else f'worker.{method}("{target}", {{ allow_parallel_requests = true, endpoint = "/" }}),'
        for method, target in sorted(targets)
    )


def serve(directory, model, deadline):
    """A worker that waits so many seconds for the rest of a request."""
    model.on("/", echo)
    options = ["--header-timeout", deadline, "--body-timeout", deadline]
    worker = Worker(directory, backend(routes_of_all_files()), model, options)
    yield worker
    try:
        worker.finish()
    finally:
        worker.kill()


@pytest.fixture(scope="module")
def impatient(tmp_path_factory, shared_model):
    """For what ends by its deadline."""
    yield from serve(tmp_path_factory.mktemp("impatient"), shared_model, 0.5)


@pytest.fixture(scope="module")
def vectors(tmp_path_factory, shared_model):
    """For what must not, however slow this machine is."""
    yield from serve(tmp_path_factory.mktemp("vectors"), shared_model, 600)


@pytest.fixture
def choose(vectors, impatient):
    return lambda name: impatient if name in INCOMPLETE else vectors


def names(kind):
    return sorted(path.name for path in (FOLDER / kind).glob("*.http"))


@pytest.mark.parametrize("name", names("invalid"))
def test_invalid(choose, shared_model, name):
    worker = choose(f"invalid/{name}")
    before = len(shared_model.seen())
    data = read(FOLDER / "invalid" / name)
    client = worker.connect()
    client.try_send(data)
    response = client.read_response(data.split(b" ")[0].decode("latin-1"))
    if name in NOT_INVALID:
        assert response.status in PARSED | {400}, (response.status, response.body)
    else:
        assert 400 <= response.status < 500 or response.status in (501, 505), (
            response.status,
            response.body,
        )
        assert response.status not in PARSED, f"{response.status}: it was understood"
        assert response.json()["error"]
        client.expect_end()
        assert len(shared_model.seen()) == before, "it reached the model"
    client.close()
    worker.expect_nothing_left()


@pytest.mark.parametrize("name", names("valid"))
def test_valid(choose, name):
    worker = choose(f"valid/{name}")
    data = with_host(read(FOLDER / "valid" / name))
    client = worker.connect()
    client.try_send(data)
    response = client.read_response(data.split(b" ")[0].decode("latin-1"))
    if name in REFUSED:
        assert response.status in REFUSED[name][:-1], (response.status, response.body)
    else:
        assert response.status in PARSED, (response.status, response.body)
    client.close()
    worker.expect_nothing_left()


def test_the_lists_name_files_that_exist():
    assert set(NOT_INVALID) <= set(names("invalid"))
    assert set(REFUSED) <= set(names("valid"))
    assert all((FOLDER / name).exists() for name in INCOMPLETE)


def test_the_workers_are_alive_after_all_that(vectors, impatient):
    for worker in (vectors, impatient):
        client = worker.connect().send(request("GET", "/nothing"))
        assert client.read_response("GET").status == 404
