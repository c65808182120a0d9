# SPDX-License-Identifier: MIT
"""What the documentation says is so: links and anchors, scripts, commands and options, and the answers
that README.md and docs/writing-workers.md show."""

import functools
import re

import pytest

from harness.worker import ROOT, run

FOLDERS = ("docs", "examples", "tests", "runtime")
PAGES = sorted(ROOT.glob("*.md")) + sorted(p for folder in FOLDERS for p in (ROOT / folder).rglob("*.md"))
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]

FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@functools.cache
def text_of(page):
    return page.read_text(encoding="utf-8")


def blocks(page, language):
    return [m.group(3) for m in FENCE.finditer(text_of(page)) if m.group(2) == language]


def prose(page):
    """The page without its blocks of code."""
    return FENCE.sub("", text_of(page))


@functools.cache
def anchors(page):
    """The names that a heading gets: in lower case, without punctuation, spaces as hyphens."""
    found = set()
    for heading in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE):
        shown = LINK.sub(lambda m: m.group(0)[1:].split("](")[0], heading)
        name = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        more = 1
        while name in found:
            name, more = f"{name}-{more}", more + 1
        found.add(name)
    return found


def broken_links(page):
    for link in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists():
            yield f"{link}: there is no {path}"
        elif anchor and anchor not in anchors(target):
            yield f"{link}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page):
    assert list(broken_links(page)) == []


COMPILES = """
for _, path in ipairs(arg) do
  local text = assert(io.open(path)):read "*a"
  local whole, wrong = load(text, "@" .. path)
  local part = not whole and load("return {" .. text .. "}") -- entries of a table
  if not whole and not part then print(wrong) end
end
"""


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "lua")], ids=lambda p: p.name)
def test_scripts_are_good(page, tmp_path):
    """All of them compile, and check finds no mistake in whole ones."""
    program = tmp_path / "compiles.lua"
    program.write_text(COMPILES)
    written = []
    for i, block in enumerate(blocks(page, "lua"), 1):
        written.append(tmp_path / f"block{i}.lua")
        written[-1].write_text(block)
    ended = run("run", program, *written)
    assert (ended.returncode, ended.stdout) == (0, ""), ended
    whole = [p for p in written if p.read_text().startswith('local worker = require "luaworker"\n')]
    if whole:
        checked = run("check", *whole)
        assert checked.returncode == 0, checked.stdout


def commands():
    listed = run("--help").stdout.split("Commands:\n")[1].split("\n\n")[0]
    return re.findall(r"^ +(\w+) ", listed, re.MULTILINE)


@functools.cache
def helps():
    return {command: run(command, "--help").stdout for command in commands()}


def table_below(heading):
    """The rows of a section of README.md."""
    section = text_of(ROOT / "README.md").split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^\| `([^`]*)`.*$", section, re.MULTILINE)


def test_readme_has_every_command():
    named = [m.group(1) for m in (re.match(r"luaworker (\w+)", row) for row in table_below("Commands")) if m]
    assert sorted(named) == sorted(commands())


def test_options_that_are_named_exist():
    """Words like `--hook-time`, or `--from openai`, are some command's."""
    known = set(re.findall(r"(?<![\w-])(--[a-z][\w-]*)", " ".join(helps().values())))
    for page in PAGES:
        if page.parent.name == "docs" or page == ROOT / "README.md":
            named = re.findall(r"`(--[a-z][\w-]*)[^`]*`", prose(page))
            assert set(named) <= known, page.name


def test_the_ports_in_migrating_are_the_files():
    page = ROOT / "docs/migrating.md"
    for ending, language in (("py", "python"), ("lua", "lua")):
        files = [p.read_text() for p in sorted((ROOT / "examples/migrating").glob(f"*.{ending}"))]
        assert len(files) == 2
        for block in blocks(page, language):
            assert any(block in text for text in files), block


def test_the_mistakes_in_readme_are_what_check_says(tmp_path):
    script = blocks(ROOT / "README.md", "lua")[0].splitlines()
    script.insert(3, "  allow_parallel_request = true,")
    script.insert(8, '      benchmark = { runs = "3" },')
    (tmp_path / "worker.lua").write_text("\n".join(script))
    said = run("check", "worker.lua", directory=tmp_path).stdout
    assert said.splitlines()[:2] == blocks(ROOT / "README.md", "")[0].splitlines(), said


# -- docs/writing-workers.md --

GUIDE = ROOT / "docs/writing-workers.md"
HOOK = "  return worker.json(model_response:json())\n"
SLIPS = (
    ("answer.response", "anwser.response"),
    ("self.prompt", "self.promt"),
    ("allow_parallel_requests", "allow_parallel_request"),
)


def shown_after(command):
    """What the guide shows of this command's answer: its parts between marks of what was left out."""
    for block in blocks(GUIDE, "console"):
        for said in re.split(r"^\$ ", block, flags=re.MULTILINE):
            if said.startswith(command + "\n"):
                yield re.split(r"^\.\.\.\n", said.partition("\n")[2], flags=re.MULTILINE)


def expect_shown(command, said):
    said = re.sub(r"\(\d+\.\d+ s\)", "(0 s)", said)
    for parts in shown_after(command):
        if all(re.sub(r"\(\d+\.\d+ s\)", "(0 s)", part) in said for part in parts):
            return
    raise AssertionError(f"{command}: the guide shows something else than\n{said}")


def changed(text):
    """mine.lua, with what the guide writes into it and without its slips."""
    written = next(b for b in blocks(GUIDE, "lua") if "count_words" in b)
    counting, _, rest = written.partition("\nlocal function generate")
    hook = rest[rest.index("  local answer") :].removesuffix("end\n")
    assert HOOK in text and "-- What the client gets" in text
    text = text.replace(HOOK, hook.replace("anwser", "answer"))
    return text.replace("-- What the client gets", counting + "\n-- What the client gets", 1)


def test_the_guide_shows_what_is_said(tmp_path):
    def ask(*arguments):
        return run(*arguments, directory=tmp_path).stdout

    expect_shown("luaworker init mine", ask("init", "mine"))
    script, tests = tmp_path / "mine.lua", tmp_path / "mine_test.lua"
    good = changed(script.read_text())
    bad = good
    for right, wrong in SLIPS:
        bad = bad.replace(right, wrong)
    script.write_text(bad)
    expect_shown("luaworker check mine.lua", ask("check", "mine.lua"))
    script.write_text(good)
    expect_shown("luaworker check mine.lua", ask("check", "mine.lua"))
    expect_shown("luaworker test", ask("test"))

    own = next(b for b in blocks(GUIDE, "lua") if b.startswith("it("))
    own = "".join(f"  {line}\n" for line in own.splitlines())
    before, found, after = tests.read_text().partition('to_equal { response = "hi", tokens = 1 }')
    place = "  it(\"passes the model's status on"
    assert found and place in after
    after = after.replace(place, own + "\n" + place, 1)
    tests.write_text(before + found.replace("1 }", "1, words = 1 }") + after)
    expect_shown("luaworker test --filter '/generate '", ask("test", "--filter", "/generate "))
    counted = "answer.words = count_words(answer.response)"
    script.write_text(good.replace(counted, f"if answer.response then {counted} end"))
    expect_shown("luaworker test", ask("test"))
