# SPDX-License-Identifier: MIT
"""Every file begins by saying its licence; scripts that authors copy begin with a comment."""

import re

from tree import end, files, read

findings = []
paths = (files("runtime", "tests", "bench", "tools", endings={".c", ".h", ".cc", ".py"}) +
         files("lua", "tests", endings={".lua"}))
for path in paths:
    first = "\n".join(read(path).splitlines()[:2])  # a program's first line may name its interpreter
    if "SPDX-License-Identifier: MIT" not in first:
        findings.append(f"{path}: does not begin with the SPDX line")
for path in files("workers", "examples", "bench", endings={".lua"}):
    if not re.match(r"(#![^\n]*\n)?--", read(path)):
        findings.append(f"{path}: does not begin with a comment")
for path in files("runtime", endings={".c", ".cc"}):
    head = re.match(r"/\*.*?\*/|(?://[^\n]*\n)+", read(path), re.DOTALL)
    if not head or len(head.group().splitlines()) < 2:
        findings.append(f"{path}: does not begin by saying what the room does")
end(findings)
