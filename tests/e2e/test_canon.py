# SPDX-License-Identifier: MIT
"""What signatures are made over, against Python's own json module: random documents, byte for byte.
LW_CANON_DOCUMENTS says how many (`make canon`: a million), LW_SEED repeats a run."""

import json
import os
import pathlib
import random
import subprocess
import sys
import time

import pytest

from harness.documents import EDGE_NUMBERS, Documents
from harness.worker import BINARY, clean_environment, run

COUNT = int(os.environ.get("LW_CANON_DOCUMENTS", 6000))
SEED = int(os.environ.get("LW_SEED", time.time_ns() % 1000000))
BATCH = 2000
PEER = pathlib.Path(__file__).parent / "harness/canon.lua"


class Pipe:
    """canon.lua under luaworker."""

    def __init__(self):
        self.process = subprocess.Popen(
            [str(BINARY), "run", str(PEER)],
            env=clean_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def send(self, batch):
        lines = [b"%d" % len(batch)]
        lines += [b"%d %d" % (len(text), sort_keys) for text, sort_keys in batch]
        self.process.stdin.write(b"\n".join(lines) + b"\n" + b"".join(text for text, _ in batch))
        self.process.stdin.flush()

    def receive(self, count):
        sizes = [int(self.process.stdout.readline()) for _ in range(count)]
        return [self.process.stdout.read(size) if size >= 0 else None for size in sizes]

    def close(self):
        self.process.stdin.close()
        assert self.process.wait(60) == 0


@pytest.fixture
def pipe():
    pipe = Pipe()
    yield pipe
    pipe.close()


@pytest.fixture(autouse=True)
def deep_recursion():
    """Python's printer with an indent needs two frames a level."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(20000)
    yield
    sys.setrecursionlimit(before)


def python(text, sort_keys):
    return json.dumps(json.loads(text), indent=4, sort_keys=bool(sort_keys)).encode()


def compare(pipe, texts):
    batch = [(text.encode(), i & 1) for i, text in enumerate(texts)]
    pipe.send(batch)
    wanted = [python(text, sort_keys) for text, sort_keys in batch]
    for (text, sort_keys), want, got in zip(batch, wanted, pipe.receive(len(batch))):
        assert got == want, f"seed {SEED}, sort_keys={sort_keys}: {text!r}"


def test_edges(pipe):
    strings = ['""', '"\\ud800"', '"\\udc00\\ud800"', '"\\uD83D\\uDE00"', '"\x7f/\\/"', '"\\u007f"']
    keys = ["{}", '{"a":1,"a":2}', '{"b":1,"a":2,"b":[],"\\u0061":{}}', '{"":{}}']
    order = '{"\U00010000":1,"\uffff":2,"\\ud800":3,"\ue000":4,"\\ud800\\udc00":5,"\\ud800a":6,"z":7}'
    deep = ["[" * 511 + "]" * 511, '{"a":' * 511 + "1" + "}" * 511]
    texts = EDGE_NUMBERS + strings + keys + [order, "[]", "[[],{}]", " null "] + deep
    compare(pipe, [text for text in texts for _ in range(2)])
    compare(pipe, [f'{{"a":[{text}]}}' for text in texts for _ in range(2) if text not in deep])


def test_what_is_no_json_is_refused(pipe):
    bad = [b"", b"{", b"NaN", b"Infinity", b'"\\x"', b"01", b"1.", b"'a'", b'"\xff"', b"[" * 513]
    pipe.send([(text, 0) for text in bad])
    assert pipe.receive(len(bad)) == [None] * len(bad)


def test_random_documents(pipe):
    documents = Documents(random.Random(SEED))
    begun, size = time.time(), 0
    for left in range(COUNT, 0, -BATCH):
        texts = [documents.document() for _ in range(min(BATCH, left))]
        size += sum(map(len, texts))
        compare(pipe, texts)
    took = time.time() - begun
    print(f"{COUNT} documents, {size} characters, seed {SEED}: all equal, {took:.0f} s")


def test_a_printed_text_has_a_limit(tmp_path):
    """The indent of deep values makes a small text long; beyond 64 MB nothing is printed."""
    script = tmp_path / "long.lua"
    script.write_text(
        """
local base = require "luaworker.base"
local function code_of(text) return base.C.lw_api_canon(text, #text, 0, base.span) end
local deep = ("["):rep(500) .. ("1,"):rep(40000) .. "1" .. ("]"):rep(500)
print(code_of("[1]"), code_of(deep), code_of("["))
"""
    )
    ended = run("run", script)
    assert ended.stdout.split() == ["0", "6", "7"], ended.stderr
