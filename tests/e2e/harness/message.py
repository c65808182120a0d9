# SPDX-License-Identifier: MIT
"""Builds what clients send: envelopes with auth_data and payload, and request bytes."""

import json

AUTH = {
    "cost": "10.0",
    "endpoint": "test-endpoint",
    "reqnum": 1,
    "request_idx": 7,
    "signature": "bm90IGEgc2lnbmF0dXJl",
    "url": "http://127.0.0.1:40001",
}


def auth_data(**changes):
    """The autoscaler's reply. A change to None takes the key out."""
    data = {**AUTH, **changes}
    return {key: value for key, value in data.items() if value is not None}


def envelope(payload=None, auth=None, **more):
    """The JSON body of a signed request. payload: a value, or bytes that go in as they are."""
    auth_text = json.dumps(AUTH if auth is None else auth).encode()
    if payload is None:
        payload = {"prompt": "hello"}
    payload_text = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    text = b'{"auth_data":' + auth_text + b',"payload":' + payload_text
    for key, value in more.items():
        text += b"," + json.dumps(key).encode() + b":" + json.dumps(value).encode()
    return text + b"}"


def request(method, target, body=None, headers=(), version="1.1", host="worker.test"):
    """Request bytes with Content-Length, unless `headers` frame the body themselves."""
    fields = list(headers)
    names = {name.lower() for name, _ in fields}
    if host is not None and "host" not in names:
        fields.insert(0, ("Host", host))
    if body is not None and not names & {"content-length", "transfer-encoding"}:
        fields.append(("Content-Length", str(len(body))))
    head = f"{method} {target} HTTP/{version}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in fields) + "\r\n"
    return head.encode("latin-1") + (body or b"")


def post(target, payload=None, headers=(), auth=None, **more):
    """A POST with an envelope."""
    return request("POST", target, envelope(payload, auth, **more), headers)


def chunked(body, size=None):
    """The body in chunked framing, `size` bytes a chunk."""
    size = size or max(len(body), 1)
    out = b""
    for at in range(0, len(body), size):
        piece = body[at : at + size]
        out += b"%x\r\n" % len(piece) + piece + b"\r\n"
    return out + b"0\r\n\r\n"
