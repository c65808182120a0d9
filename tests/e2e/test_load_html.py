# SPDX-License-Identifier: MIT
"""The page of `luaworker load --html` in a real browser, Debian's chromium without a window: light,
dark, on a phone; that it draws all, complains of nothing, asks nobody for anything, and takes texts
for texts. The pictures are left in the test's directory, to be looked at."""

import html
import json
import re
import shutil
import struct
import subprocess
import threading
import zlib

import pytest

from harness.autoscaler import Router
from harness.load import ENVELOPED, LoadTester
from harness.model import FakeModel, answers, says, streams
from harness.timing import SLOW

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed")

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> <!-- &amp; \x1b[31m"
DARK = "--blink-settings=preferredColorScheme=0"


def browse(directory, *arguments, page):
    """What chromium writes to standard output, and its console's lines."""
    ended = subprocess.run(
        [
            *(CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *("--force-device-scale-factor=1", "--enable-logging=stderr", "--disable-extensions"),
            *("--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={directory / 'profile'}"),
            *(*map(str, arguments), f"file://{page}"),
        ],
        capture_output=True,
        text=True,
        timeout=60 * SLOW,
        check=True,
    )
    return ended.stdout, [line for line in ended.stderr.splitlines() if "CONSOLE" in line]


class Picture:
    """A PNG of 8 bits for each colour, as chromium writes them."""

    def __init__(self, path):
        data = path.read_bytes()
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        at, packed = 8, b""
        while at < len(data):
            size, kind = struct.unpack(">I4s", data[at : at + 8])
            chunk = data[at + 8 : at + 8 + size]
            if kind == b"IHDR":
                self.width, self.height, depth, colour = struct.unpack(">IIBB", chunk[:10])
                assert depth == 8 and colour in (2, 6)
                self.bytes = 3 if colour == 2 else 4
            packed += chunk if kind == b"IDAT" else b""
            at += 12 + size
        self.rows = list(self._unpack(zlib.decompress(packed)))

    def _unpack(self, data):
        stride, step = self.width * self.bytes, self.bytes
        before = bytearray(stride)
        for y in range(self.height):
            kind, row = data[y * (stride + 1)], bytearray(data[y * (stride + 1) + 1 :][:stride])
            if kind == 2:
                row = bytearray((a + b) & 255 for a, b in zip(row, before))
            elif kind:
                for i in range(stride):
                    left = row[i - step] if i >= step else 0
                    up, corner = before[i], before[i - step] if i >= step else 0
                    row[i] = (row[i] + self._guess(kind, left, up, corner)) & 255
            before = row
            yield row

    @staticmethod
    def _guess(kind, left, up, corner):
        if kind == 1:
            return left
        if kind == 3:
            return (left + up) // 2
        guess = left + up - corner
        return min((left, up, corner), key=lambda v: abs(guess - v))

    def colours(self):
        """{ (r, g, b): pixels }, of every fourth row."""
        found = {}
        for row in self.rows[::4]:
            for i in range(0, len(row), self.bytes):
                colour = tuple(row[i : i + 3])
                found[colour] = found.get(colour, 0) + 1
        return found


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """(directory, page, result) of a load test with streams, failures of a hostile server, two
    workers, an SLO, thresholds and a comparison."""
    directory = tmp_path_factory.mktemp("report")
    events = [b'data: {"t":"a"}\n\n'] * 5
    refuses = answers(HOSTILE.encode(), status=500)
    ways, lock = iter(([streams(events)] * 5 + [refuses]) * 50), threading.Lock()

    def behaviour(exchange):
        with lock:
            way = next(ways)
        way(exchange)

    models, router = [FakeModel(), FakeModel()], Router()
    try:
        for model in models:
            model.on("/generate", behaviour)
        router.words = iter([models[0].url, models[1].url] * 50)
        router.workers = ["ready", "ready", "loading"]
        tester = LoadTester(directory, ENVELOPED)
        result = tester.result(
            *("--autoscaler", router.url, "-rps 20 --duration 2500ms --stream"),
            *("--slo e2e:5s,ttft:1s --threshold ttft.p95<5s,errors<1%", "--compare", models[0].url),
            *("-e", HOSTILE.split(" ", maxsplit=1)[0], "--html", directory / "report.html"),
            code=99,
        )
    finally:
        for server in (router, *models):
            server.stop()
    return directory, directory / "report.html", result


@pytest.fixture(scope="module")
def document(report):
    """The page after its script has run."""
    directory, page, _ = report
    text, console = browse(directory, "--dump-dom", "--virtual-time-budget=2000", page=page)
    return text, console


def test_it_is_one_file_that_asks_nobody(report):
    text = report[1].read_text(encoding="utf-8")
    assert not re.search(
        r"""(src|href)\s*=|@import|url\(|fetch\(|XMLHttp""",
        text.split("@RESULT@")[0].split('<script id="result"')[0],
    )
    assert "http-equiv" not in text and "<link" not in text
    assert text.count("</script>") == 2, "nothing in the result can end its element"


def test_the_result_is_in_it(report):
    text = report[1].read_text(encoding="utf-8")
    inner = re.search(r'<script id="result" type="application/json">(.*?)</script>', text, re.S)
    of_file = json.loads(inner.group(1))
    assert of_file == {k: v for k, v in report[2].items() if k not in ("report", "progress")}


def test_the_console_is_silent(document, report):
    assert document[1] == []
    directory, page, _ = report
    broken = directory / "broken.html"
    broken.write_text(
        page.read_text().replace("function tiles() {", "function tiles() { nothing();")
    )
    _, console = browse(directory, "--dump-dom", "--virtual-time-budget=2000", page=broken)
    assert any("nothing is not defined" in line for line in console), "a test that can fail"


def test_all_is_drawn(document):
    text = document[0]
    titles = [html.unescape(t) for t in re.findall(r"<h2>(.*?)</h2>", text)]
    assert titles[:3] == ["Thresholds", "Throughput", "End to end over time"]
    for title in (
        *("First token over time", "Outcomes", "At work", "End to end", "First token"),
        *("Between tokens", "End to end: percentiles", "Tokens", "Workers that can take work"),
        *("Latency in figures", "What the worker adds", "Workers", "Errors", "Settings"),
    ):
        assert title in titles, title
    pictures = re.findall(r"<svg.*?</svg>", text, re.S)
    assert len(pictures) >= 12
    for picture in pictures:
        assert "<path" in picture or "<rect" in picture, picture
        assert "NaN" not in picture and "undefined" not in picture and "Infinity" not in picture
    assert ">seed</td>" in text and ">nothing was measured<" not in text
    assert ">ttft 1 s</td>" in text.replace("e2e 5 s, ", "") and ">10 min</td>" in text


def test_texts_are_texts(document):
    text = document[0]
    body = text.split('<div class="tip"')[0]
    assert "<img" not in body and "<script" not in body.split("<main")[1]
    assert html.escape("</script><script>alert(1)</script><img src=x", quote=False) in body
    assert "\x1b" not in body


@pytest.fixture(scope="module")
def picture(report):
    directory, page, _ = report

    def take(name, width, height, *more):
        file = directory / f"{name}.png"
        size = f"--window-size={width},{height}"
        browse(directory, size, f"--screenshot={file}", *more, page=page)
        print(file)
        return Picture(file)

    return take


@pytest.mark.parametrize(
    "name, size, more, page, card",
    [
        ("light", (1000, 700), (), (0xF6, 0xF7, 0xF9), (0xFF, 0xFF, 0xFF)),
        ("dark", (1000, 700), (DARK,), (0x12, 0x15, 0x1B), (0x1B, 0x20, 0x29)),
        ("phone", (390, 900), (), (0xF6, 0xF7, 0xF9), (0xFF, 0xFF, 0xFF)),
    ],
)
def test_pictures(picture, name, size, more, page, card):
    seen = picture(name, *size, *more)
    assert (seen.width, seen.height) == size
    colours = seen.colours()
    total = sum(colours.values())
    assert colours.get(page, 0) > total * 0.05 and colours.get(card, 0) > total * 0.3
    drawn = total - colours.get(page, 0) - colours.get(card, 0)
    assert drawn > total * 0.02 and len(colours) > 50, "lines, bars and letters"


def test_nothing_is_wider_than_a_phone(report):
    """In a frame, since a window is no narrower than 500."""
    directory, page, _ = report
    measured = directory / "measured.html"
    measured.write_text(
        f"""<iframe src="{page.name}" width="360" height="900" style="border:0"></iframe><script>
        document.querySelector("iframe").addEventListener("load", (event) => {{
          const inner = event.target.contentDocument.documentElement;
          document.body.dataset.wide = inner.scrollWidth;
          document.body.dataset.pictures = inner.querySelectorAll("svg").length;
        }});</script>"""
    )
    flags = ("--allow-file-access-from-files", "--dump-dom", "--virtual-time-budget=2000")
    text, _ = browse(directory, *flags, page=measured)
    assert re.search(r'data-wide="(\d+)"', text).group(1) == "360", text
    assert int(re.search(r'data-pictures="(\d+)"', text).group(1)) >= 12


@pytest.mark.parametrize("kind", ["nothing good", "one request", "closed loop", "nothing due"])
def test_pages_of_unusual_runs(tmp_path, kind):
    model, page = FakeModel(), tmp_path / "report.html"
    try:
        model.on("/generate", answers(b"no", status=500) if kind == "nothing good" else says({}))
        flags = {
            "nothing good": "-n 3 -rps 100",
            "one request": "-n 1 -rps 1",
            "closed loop": "-n 20 --concurrency 4",
            "nothing due": "--duration 1ms -rps 0.01 --arrival poisson",
        }[kind]
        code = 1 if kind.startswith("nothing") else 0
        tester = LoadTester(tmp_path, ENVELOPED)
        tester.result("--direct", model.url, flags, "--html", page, code=code)
    finally:
        model.stop()
    text, console = browse(tmp_path, "--dump-dom", "--virtual-time-budget=2000", page=page)
    assert console == [] and "<h2>Settings</h2>" in text
    shown = text.split("<main")[1].split('<div class="tip"')[0]
    assert not re.search(r"NaN|undefined|Infinity", shown)
    if kind == "closed loop":
        assert "closed loop, 4 at once" in shown
    elif kind == "one request":
        assert "of 1 request good" in shown and not re.search(r"<text[^>]*>0\.5<", shown)
    elif kind == "nothing due":
        assert "no request was due" in shown and "Latency in figures" not in shown


def test_a_run_of_hours(tmp_path, report):
    """Thousands of seconds become some hundred points."""
    one = json.loads(
        re.search(r'application/json">(.*?)</script>', report[1].read_text(), re.S).group(1)
    )
    second = one["timeline"][0]
    one["timeline"] = [{**second, "t": t} for t in range(7200)]
    page = tmp_path / "long.html"
    head, tail = report[1].read_text().split('application/json">', 1)
    text = json.dumps(one).replace("<", "\\u003c")
    page.write_text(head + 'application/json">' + text + tail[tail.index("</script>") :])
    drawn, console = browse(tmp_path, "--dump-dom", "--virtual-time-budget=4000", page=page)
    assert console == [] and "Each point over time stands for 18 seconds" in drawn
    assert "2:00:00" in drawn or "120:00" in drawn or "100:00" in drawn
