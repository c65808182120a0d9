# SPDX-License-Identifier: MIT
"""What the checks share: the project's files, C and Lua text without comments and strings, functions
with their lines, and how a check ends. A check prints its findings, one per line, and exits 1."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
LAYERS = ["floor", "wire", "loop", "exchange", "worker", "script", "program"]
EXCUSE = "long because"


def files(*folders, endings):
    """Paths relative to the root, sorted."""
    found = [p for folder in folders for p in (ROOT / folder).rglob("*")
             if p.is_file() and p.suffix in endings and "__pycache__" not in p.parts]
    return sorted(p.relative_to(ROOT) for p in found)


def read(path):
    return (ROOT / path).read_text(encoding="utf-8")


def end(findings):
    for finding in findings:
        print(finding)
    sys.exit(1 if findings else 0)


def blank(text):
    """The same number of lines, nothing else."""
    return re.sub(r"[^\n]", " ", text)


C_NOISE = re.compile(r"""//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])'""",
                     re.DOTALL)
DIRECTIVE = re.compile(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", re.MULTILINE)


def c_code(text, keep_directives=False):
    """C without comments and literals; positions and lines stay."""
    text = C_NOISE.sub(lambda m: blank(m.group()), text)
    return text if keep_directives else DIRECTIVE.sub(lambda m: blank(m.group()), text)


def line_of(text, position):
    return text.count("\n", 0, position) + 1


FUNCTION_HEAD = re.compile(r"(\w+)\s*\([^;{}]*\)[\s\w]*$", re.DOTALL)
TYPE_HEAD = re.compile(r"\b(namespace|extern|class|struct)\b[^()=]*$", re.DOTALL)


def c_functions(text):
    """(name, first line, last line) of each function of C or C++ text."""
    code = c_code(text)
    scopes = []
    start = 0  # of the declaration that is being read
    for m in re.finditer(r"[{};]", code):
        if m.group() == "{":
            head = code[start:m.start()]
            inside = any(kind != "open" for kind, *_ in scopes)
            function = None if inside or "=" in re.sub(r"\(.*\)", "", head, flags=re.DOTALL) \
                else FUNCTION_HEAD.search(head)
            if function:
                first = start + len(head) - len(head.lstrip())
                scopes.append(("function", function.group(1), line_of(code, first)))
            else:
                scopes.append(("open" if not inside and TYPE_HEAD.search(head) else "block",))
        elif m.group() == "}" and scopes:
            kind, *rest = scopes.pop()
            if kind == "function":
                yield rest[0], rest[1], line_of(code, m.start())
        start = m.end()


LUA_NOISE = re.compile(r"""--\[(=*)\[.*?\]\1\]|--[^\n]*|\[(=*)\[.*?\]\2\]|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'""",
                       re.DOTALL)


def lua_code(text):
    return LUA_NOISE.sub(lambda m: blank(m.group()), text)


def lua_functions(text):
    """(name or "function", first line, last line) of each function of Lua text."""
    code = lua_code(text)
    blocks = []
    for m in re.finditer(r"\b(function|if|do|repeat|end|until)\b", code):
        word = m.group()
        if word in ("end", "until"):
            kind, name, line = blocks.pop()
            if kind == "function":
                yield name, line, line_of(code, m.start())
        else:
            name = re.match(r"\s*([\w.:]*)", code[m.end():]).group(1) if word == "function" else ""
            blocks.append((word, name or "function", line_of(code, m.start())))
