# SPDX-License-Identifier: MIT
"""One noun, one room: every .c of the runtime has its unit test, or a reason here why it has none."""

from tree import ROOT, end, files

REASONS = {
    "runtime/wire/h1_answer.c": "tests/unit/test_upstream.c: every answer of a model passes it",
    "runtime/wire/h1_check.c": "tests/unit/test_h1_parse.c: the parser's own validator",
    "runtime/wire/json_text.c": "tests/unit/test_json.c: the second half of wire/json.h",
    "runtime/wire/json_unescape.c": "tests/unit/test_json.c: strings",
    "runtime/exchange/asking.c": "tests/unit/test_upstream.c, test_upstream_reach.c: every call is asked by it",
    "runtime/loop/timer.c": "tests/unit/test_loop.c: deadlines are part of loop/loop.h",
    "runtime/worker/pace.c": "tests/unit/test_health.c, test_startup.c, test_report_flush.c: one number",
    "runtime/script/vm.c": "tests/unit/test_task.c and test_generation.c: both kinds of it",
    "runtime/script/call.c": "tests/unit/test_task.c, tests/e2e/test_handlers.py",
    "runtime/script/direct.c": "tests/e2e: every stream with a hook; tests/lua/test_handlers.lua: wrong handles",
    "runtime/script/made.c": "tests/unit/test_generation.c, tests/lua: every test that listens",
    "runtime/script/api.c": "adapters without logic: tests/lua and tests/e2e call every one",
    "runtime/script/api_load.c": "adapters without logic: tests/lua/test_shots.lua, tests/e2e/test_shots.py",
    "runtime/program/main.c": "tests/e2e/test_commands.py",
    "runtime/program/program.c": "tests/e2e: every case ends by its counters",
    "runtime/program/facts.c": "tests/e2e/test_admin.py, test_metrics.py: all that it shows",
    "runtime/program/notify.c": "tests/e2e/test_systemd.py",
    "runtime/program/settings.c": "tests/e2e/test_commands.py",
    "runtime/program/run.c": "tests/lua: every test is run by it",
    "runtime/program/serve.c": "tests/e2e: every case starts it",
    "runtime/program/reload.c": "tests/e2e/test_reload*.py",
    "runtime/program/verify.c": "tests/e2e/test_verify.py",
    "runtime/program/dev.c": "tests/e2e/test_commands.py",
}

rooms = {str(path): path.stem for path in files("runtime", endings={".c", ".cc"})}
findings = []
for path, room in rooms.items():
    tested = (ROOT / f"tests/unit/test_{room}.c").exists()
    if not tested and path not in REASONS:
        findings.append(f"{path}: no tests/unit/test_{room}.c and no reason in tests/lint/rooms.py")
    if tested and path in REASONS:
        findings.append(f"{path}: has a test now; its reason in tests/lint/rooms.py can go")
findings += [f"{path}: is gone; its reason in tests/lint/rooms.py can go" for path in REASONS
             if path not in rooms]
end(findings)
