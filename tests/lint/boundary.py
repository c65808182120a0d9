# SPDX-License-Identifier: MIT
"""The border between C and Lua: where each side is entered."""

import re

from tree import c_code, end, files, line_of, lua_code, read

findings = []


def only_in(name, pattern, texts, homes, times=None):
    """`pattern` stands only in `homes`, there `times` times (None: at least once)."""
    count = 0
    for path, text in texts:
        for m in re.finditer(pattern, text):
            if str(path) in homes:
                count += 1
            else:
                findings.append(f"{path}:{line_of(text, m.start())}: {name} belongs to {' '.join(homes)}")
    if count == 0 or times not in (None, count):
        findings.append(f"{' '.join(homes)}: {name} stands there {count} times, expected {times or 'some'}")


def cdef(header):
    m = re.search(r"/\* cdef: begin \*/(.*)/\* cdef: end \*/", read(header), re.DOTALL)
    return c_code(m.group(1)) if m else findings.append(f"{header}: no cdef marks") or ""


c = [(p, c_code(read(p))) for p in files("runtime", endings={".c", ".h", ".cc"})]
lua = [(p, lua_code(read(p))) for p in files("lua", "workers", "examples", endings={".lua"})]

only_in("lua_resume", r"\blua_resume\s*\(", c, ["runtime/script/task.c"], 1)
only_in("lua_pcall", r"\blua_c?pcall\s*\(", c, ["runtime/script/vm.c"])
only_in("coroutine.yield", r"\bcoroutine\s*\.\s*yield\b|\byield\s*=\s*coroutine\b", lua,
        ["lua/luaworker/await.lua"])
only_in("ffi.cdef", r"\bcdef\s*[({\[\"]?", [(p, re.sub(r"LW_CDEF", "       ", t)) for p, t in lua],
        ["lua/luaworker/base.lua"])
for path, text in c:
    for m in re.finditer(r"\blua_(call|yield|error)\s*\(|\bluaL_error\s*\(", text):
        if str(path) not in ("runtime/script/vm.c", "runtime/script/task.c", "runtime/script/budget.c"):
            findings.append(f"{path}:{line_of(text, m.start())}: {m.group().strip('( ')} outside of vm, task and budget")
for path, text in lua:
    for m in re.finditer(r"\bffi\s*\.\s*cast\s*\([^)]*\(\s*\*", read(path)):
        findings.append(f"{path}:{line_of(read(path), m.start())}: an FFI callback")
for header in ["runtime/script/api.h", "runtime/script/api_load.h"]:
    for m in re.finditer(r"\(\s*\*\s*\w*\s*\)\s*\(", cdef(header)):
        findings.append(f"{header}: a function pointer in the cdef: {m.group()}")

end(findings)
