# SPDX-License-Identifier: MIT
"""Layers point down: a file under runtime/<layer>/ includes only headers of its own layer or lower
ones, and each library is known to few files."""

import re

from tree import LAYERS, c_code, end, files, line_of, read

# Who may include a library's headers, and those of ours that show them.
KNOWN_TO = {
    r"uv\.h$|uv/": r"loop/\w+\.c$",
    r"curl/": r"loop/\w+\.[ch]$|exchange/(upstream|asking)\.c$",
    r"loop/multi\.h$": r"loop/\w+\.c$|exchange/upstream\.c$|program/program\.c$",
    r"lua\.h$|lauxlib\.h$|lualib\.h$|luajit\.h$": r"script/(task|vm|generation|budget|direct)\.c$",
    r"llhttp\.h$": r"wire/h1_parse\.c$",
    r"simdjson": r"wire/json\.cc$",
}


def check(path):
    layer = path.parts[1]
    text = read(path)
    if layer not in LAYERS:
        yield f"{path}: runtime/{layer} is not a layer"
        return
    directives = re.finditer(r'^[ \t]*#[ \t]*include[ \t]*["<]([^">]+)[">]', text, re.MULTILINE)
    code = c_code(text, keep_directives=True)
    for m in directives:
        if "#" not in code[m.start():m.end()]:
            continue  # in a comment
        header, line = m.group(1), line_of(text, m.start())
        owner = header.split("/")[0]
        if owner in LAYERS and LAYERS.index(owner) > LAYERS.index(layer):
            yield f"{path}:{line}: {layer} may not include {header}, which is above it"
        for library, friends in KNOWN_TO.items():
            if re.match(library, header) and not re.search(friends, str(path)):
                yield f"{path}:{line}: only {friends} may include {header}"


end([finding for path in files("runtime", endings={".c", ".h", ".cc"}) for finding in check(path)])
