# SPDX-License-Identifier: MIT
"""The binary exports exactly the functions that the cdef declares. argv[1]: the binary."""

import re
import subprocess
import sys

from tree import ROOT, c_code, end, read

binary = sys.argv[1] if len(sys.argv) > 1 else ROOT / "build/release/luaworker"
HEADERS = ["runtime/script/api.h", "runtime/script/api_load.h"]
marks = re.compile(r"/\* cdef: begin \*/(.*)/\* cdef: end \*/", re.DOTALL)
cdef = "".join(marks.search(read(header)).group(1) for header in HEADERS)
declared = set(re.findall(r"\b(lw_\w+)\s*\(", c_code(cdef)))
nm = subprocess.run(["nm", "-D", "--defined-only", str(binary)], text=True, capture_output=True)
if nm.returncode != 0:
    end([nm.stderr.strip()])
exported = {line.split()[-1] for line in nm.stdout.splitlines() if re.search(r"\slw_\w+$", line)}

end([f"{name}: declared in the cdef, not exported" for name in sorted(declared - exported)] +
    [f"{name}: exported, not declared in the cdef" for name in sorted(exported - declared)])
