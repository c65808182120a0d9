# SPDX-License-Identifier: MIT
"""Scripts that call the API at random, in every hook, with handles of other requests and of none,
while their clients leave and the next script is loaded: whatever they do, the process lives, answers
its internal port, and has nothing left in the end. LW_FUZZ_SCRIPTS=N and LW_SEED=S choose how many
and which; a failure names the script's own seed, which LW_SEED=S LW_FUZZ_FIRST=I begins with."""

import os
import random
import shutil
import signal

from harness.model import answers, echo, streams
from harness.script_fuzz import MODULES, Volley, cut, describe, note, script_of, slow
from harness.timing import PATIENCE, wait_until
from harness.worker import PLAIN, is_sanitized

SEED = os.environ.get("LW_SEED", "1")
FIRST = int(os.environ.get("LW_FUZZ_FIRST", "0"))
SCRIPTS = int(os.environ.get("LW_FUZZ_SCRIPTS", "60" if is_sanitized() else "250"))
EVENTS = [b"data: one\n\ndata: two\r\n\r\n", b"event: x\nid: 1\ndata: 3\n\n", b"data: [DONE]\n\n"]


def prepare(model):
    model.on("/echo", echo)
    model.on("/stream", streams([b"piece %d\n" % i for i in range(20)], "text/plain"))
    model.on("/events", streams(EVENTS))
    model.on("/cut", cut)
    model.on("/slow", slow)
    model.on("/json", answers(b'{"a":[1,2,{"b":null}]}', "application/json"))




def load(worker, text):
    """Has the script loaded; True when it is taken."""
    records = worker.log.records
    since = len(records)
    worker.write_script(text)
    worker.signal(signal.SIGHUP)

    def told():
        assert worker.is_running(), f"exit {worker.process.returncode}"
        for record in worker.log.records[since:]:
            message = record.get("message", "")
            if message.startswith("reloaded "):
                return "taken"
            if message.startswith("reload failed"):
                return "refused"
        return None

    return wait_until(told, "the script to be loaded", 4 * PATIENCE) == "taken"


def run_script(worker, model, number, flying, seen):
    """Loads the script of this number and sends it requests; those of the script before may still be
    at work then, and these may be left at work. Whether it was taken, and the volley left."""
    seed = f"{SEED}-{number}"
    text, paths = script_of(seed, model.url, loops=number % 8 == 7)
    choose = random.Random(f"requests {seed}")
    try:
        taken = load(worker, text)
        note(seen, flying.finish())
        volley = Volley(worker.port, choose, paths, choose.randint(2, 14))
        if choose.random() < 0.6:
            note(seen, volley.finish())
        assert worker.is_running(), f"exit {worker.process.returncode}"
    except BaseException:
        print(f"script {number} of LW_SEED={SEED}:\n{text}")
        raise
    return taken, volley


def test_random_scripts_do_no_harm(start, model):
    prepare(model)
    limits = ["--hook-time", "0.05", "--script-memory", "48M", "--shutdown-timeout", "5"]
    worker = start(PLAIN, options=limits)
    for module in MODULES:
        shutil.copy(module, worker.directory)
    seen, count = {}, 0
    volley = Volley(worker.port, random.Random(SEED), [("GET", "/ping")], 1)
    for number in range(FIRST, FIRST + SCRIPTS):
        taken, volley = run_script(worker, model, number, volley, seen)
        count += taken
        if number % 20 == 0:
            assert worker.ask_internal("GET", "/livez").status == 200
    note(seen, volley.finish())
    assert load(worker, PLAIN), "after all of them, a script is loaded as ever"
    wait_until(lambda: worker.get("/ping").body == b"pong", "the plain script to answer")
    worker.wait_counters("the old scripts to be gone", generations=1)
    worker.expect_nothing_left()
    print(f"{count} of {SCRIPTS} scripts were taken; answers: {describe(seen)}")
    if SCRIPTS < 50:
        return
    assert count > SCRIPTS / 2, "most scripts load, or little is tried"
    assert {"200", "500"} <= set(seen), f"some succeed and some fail: {describe(seen)}"
