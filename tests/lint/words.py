# SPDX-License-Identifier: MIT
"""Words that promise work instead of doing it."""

import re

from tree import end, files, read

UNWANTED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
paths = files("runtime", "lua", "workers", "examples", "bench",
              endings={".c", ".h", ".cc", ".lua", ".md", ".sh", ".py"})
end([f"{path}:{number}: {m.group()}" for path in paths
     for number, line in enumerate(read(path).splitlines(), 1) for m in UNWANTED.finditer(line)])
