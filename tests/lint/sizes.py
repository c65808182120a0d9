# SPDX-License-Identifier: MIT
"""Sizes: C functions within 60 lines and files within 600, Lua 40 and 300, lines within 100 columns.
An exception says why: a comment with the words "long because" on the line above, for a file in its
first lines."""

from tree import EXCUSE, c_functions, end, files, lua_functions, read

COLUMNS = 100


def excused(lines, line):
    """Whether the comment that ends on the line above says so."""
    above = line - 2
    while above >= 0 and lines[above].lstrip().startswith(("/*", "*", "//", "--")):
        if EXCUSE in lines[above]:
            return True
        above -= 1
    return False


def check(path, functions, function_limit, file_limit):
    text = read(path)
    lines = text.splitlines()
    if len(lines) > file_limit and not any(EXCUSE in line for line in lines[:15]):
        yield f"{path}: {len(lines)} lines, at most {file_limit}"
    for name, first, last in functions(text):
        if last - first + 1 > function_limit and not excused(lines, first):
            yield f"{path}:{first}: {name}: {last - first + 1} lines, at most {function_limit}"
    for number, line in enumerate(lines, 1):
        if len(line) > COLUMNS and not excused(lines, number):
            yield f"{path}:{number}: {len(line)} columns, at most {COLUMNS}"


findings = []
for path in files("runtime", "tests", "bench", "tools", endings={".c", ".h", ".cc"}):
    findings += check(path, c_functions, 60, 600)
for path in files("lua", "workers", "examples", "tests", "bench", endings={".lua"}):
    findings += check(path, lua_functions, 40, 300)
end(findings)
