# SPDX-License-Identifier: MIT
"""The harness against itself: its client and its model server must tell the truth, else nothing
that the other files say counts."""

import subprocess

import pytest

from harness.client import Client
from harness.http import BadMessage, BodyReader
from harness.message import chunked, envelope, post, request
from harness.model import Blackhole, FakeModel, echo, endless, raw, streams
from harness.signing import Signer
from harness.timing import PATIENCE, wait_until


@pytest.fixture
def server():
    model = FakeModel()
    yield model
    model.stop()


def test_echo_keeps_the_connection(server):
    server.on("/e", echo)
    client = Client(server.port)
    for body in (b"one", b"", b"\x00\xff" * 50000):
        response = client.send(request("POST", "/e", body)).read_response()
        assert (response.status, response.body, response.complete) == (200, body, True)
    assert len(server.connections) == 1
    assert server.seen("/e")[2].body == b"\x00\xff" * 50000


def test_chunked_request(server):
    server.on("/e", echo)
    fields = [("Transfer-Encoding", "chunked")]
    client = Client(server.port).send(request("POST", "/e", chunked(b"hello world", 4), fields))
    assert client.read_response().body == b"hello world"


def test_streamed_pieces_are_told_apart(server):
    server.on("/s", streams([b"a", b"bc"]))
    response = Client(server.port).send(request("GET", "/s")).read_response("GET")
    assert (response.pieces, response.complete, response.framing) == (
        [b"a", b"bc"],
        True,
        "chunked",
    )


@pytest.mark.parametrize("then,how", [("close", "eof"), ("reset", "reset")])
def test_broken_stream_is_not_a_clean_end(server, then, how):
    server.on("/s", raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n", then))
    response = Client(server.port).send(request("GET", "/s")).open_response("GET")
    assert response.read_until(b"a") == b"a"
    response.read_all()
    assert (response.complete, response.broken) == (False, how)


def test_short_body_is_not_a_clean_end(server):
    server.on("/s", raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", "close"))
    response = Client(server.port).send(request("GET", "/s")).read_response("GET")
    assert (response.complete, response.broken, response.body) == (False, "eof", b"abc")


def test_body_until_close_ends_well(server):
    server.on("/s", raw(b"HTTP/1.1 200 OK\r\n\r\nabc", "close"))
    response = Client(server.port).send(request("GET", "/s")).read_response("GET")
    assert (response.complete, response.framing, response.body) == (True, "close", b"abc")


def test_held_request_sees_the_client_leave(server):
    held = server.hold("/h")
    client = Client(server.port).send(request("POST", "/h", b"{}"))
    exchange = held.next()
    exchange.stream_head().chunk(b"x")
    client.open_response().read_until(b"x")
    exchange.expect_alive()
    client.close()
    exchange.expect_dropped()


def test_held_request_can_be_answered(server):
    held = server.hold("/h")
    client = Client(server.port).send(request("POST", "/h", b"{}"))
    held.next().answer_json({"a": 1})
    assert client.read_response().json() == {"a": 1}
    client.send(request("POST", "/h", b"{}"))
    held.next().stream_head().chunk(b"x").last_chunk()
    assert client.read_response().body == b"x"


def test_endless_blocks_on_a_reader_that_does_not_read(server):
    server.on("/x", endless())
    client = Client(server.port, receive_buffer=4096).send(request("GET", "/x"))
    exchange = server.wait_seen()[0]
    assert exchange.blocked.wait(PATIENCE)
    client.close()
    assert exchange.dropped.wait(PATIENCE)


def test_interim_answers_are_kept_apart(server):
    server.on(
        "/i",
        raw(
            b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        ),
    )
    response = Client(server.port).send(request("GET", "/i")).read_response("GET")
    assert response.status == 200 and response.interim[0][0] == 103


def test_blackhole_never_connects():
    hole = Blackhole()
    assert hole.attempts() == 0
    with pytest.raises(OSError):
        import socket

        sock = socket.socket()
        sock.settimeout(0.2)
        try:
            sock.connect(("127.0.0.1", hole.port))
        except OSError:
            assert hole.attempts() == 1
            raise
    sock.close()
    wait_until(lambda: hole.attempts() == 0, "the attempt to end")
    hole.stop()


@pytest.mark.parametrize("text", [b"g\r\n", b"5 \r\nhello\r\n", b"-1\r\n", b"1\r\nab\r\n", b"\r\n"])
def test_bad_chunks_are_refused(text):
    with pytest.raises(BadMessage):
        BodyReader("chunked").feed(bytearray(text))


def test_signature_is_what_openssl_makes(tmp_path):
    signer = Signer(tmp_path)
    message = tmp_path / "message"
    message.write_bytes(b'{\n    "url": "http://1.2.3.4:40001"\n}')
    made = subprocess.run(
        ["openssl", "dgst", "-sha256", "-sign", signer.key_file, message],
        capture_output=True,
        check=True,
    ).stdout
    import base64

    assert signer.sign(message.read_bytes()) == base64.b64encode(made).decode()
    assert signer.sign_url("http://1.2.3.4:40001") == signer.sign(message.read_bytes())


def test_envelope_keeps_payload_bytes():
    assert envelope(b'{"a" : 1.0}').endswith(b',"payload":{"a" : 1.0}}')
    assert b"\r\nContent-Length: %d\r\n" % len(envelope({})) in post("/x", {})
