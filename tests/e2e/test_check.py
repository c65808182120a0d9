# SPDX-License-Identifier: MIT
"""`luaworker check`: every kind of mistake with its file, line and path, all of them at once; what
serve refuses by the same lines; its exit statuses and its JSON."""

import json
import re
import signal
import time

import pytest

from harness.timing import SLOW
from harness.worker import ROOT, backend, run

NO_BENCHMARK = "warning: routes: none has a benchmark: max_perf 0 is reported"
BENCHMARK = "benchmark = { max_perf = 1 }"


@pytest.fixture
def write(tmp_path):
    def write_file(text, name="w.lua"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write_file


def check(*arguments, status=0, environment=None, timeout=None):
    """What it says, a list of lines. Nothing of a good check stands on standard error."""
    ended = run("check", *arguments, environment=environment, timeout=timeout)
    assert ended.returncode == status, ended
    assert status == 2 or not ended.stderr, ended
    return ended.stdout.splitlines()


def found(path, text, **more):
    """The mistakes of a script, without the path of its file and the summary; nor that it has no
    benchmark, which most have not."""
    path.write_text(text)
    lines = [line.replace(f"{path}:", "") for line in check(path, **more)[:-1]]
    return [line for line in lines if NO_BENCHMARK not in line]


def work(fields, before=""):
    """A script of one route, whose table begins on line 7."""
    return f"""local worker = require "luaworker"
{before}
return worker.backend {{
  model_server_url = "http://127.0.0.1:1",
  routes = {{
    worker.post("/g", {{
      {fields}
    }}),
  }},
}}
"""


# -- good ones --


SHIPPED = sorted(
    path
    for folder in ("workers", "examples/migrating")
    for path in (ROOT / folder).glob("*.lua")
    if not path.name.endswith("_test.lua")
)


@pytest.mark.parametrize("script", SHIPPED, ids=lambda p: p.name)
def test_the_workers_that_come_with_it_are_clean(script):
    lines = check(script, "--strict")
    assert len(lines) == 1 and lines[0].startswith(f"{script}: good: "), lines


def test_examples_in_the_documents_are_clean(write):
    """Every block of Lua that returns a backend."""
    blocks = []
    for document in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        blocks += re.findall(r"```lua\n(.*?)```", document.read_text(), re.DOTALL)
    whole = [one for one in blocks if "return worker.backend" in one and "  ...\n" not in one]
    assert whole
    for number, block in enumerate(whole):
        if "require" not in block:
            block = 'local worker = require "luaworker"\n' + block
        check(write(block, f"block{number}.lua"))


def test_a_good_script_is_summed_up(write):
    path = write(work(f"{BENCHMARK},"))
    assert check(path) == [f"{path}: good: 1 route, benchmark on POST /g"]


# -- tables --

TABLES = """local worker = require "luaworker"
local helper = require "helper"
-- a comment: max_sessions = 1, runs = 5
local Input = worker.payload {
  prompt = "string",
  seed = "integr",
}
local text = [[
  modle_log_file = 1
]]
return worker.backend {
  model_server_url = "ftp://x",
  modle_log_file = text,
  max_sessions = -1,
  log_actions = {
    modl_loaded = "x",
    info = {
      "a",
      "",
    },
  },
  routes = {
    worker.post("/a", {
      payload = Input,
      benchmark = {
        generator = function()
          local runs, rnus = 1, { runs = 1 }
          return { runs = runs, rnus }
        end,
        runs = "3",
        ["rnus"] = 5,
      },
    }),
    helper.route,
    helper.make("/c"),
    5,
    worker.get("ping", function() return "pong" end),
    worker.get("/f", worker.forward("/x", {
      idel = 5 })),
  },
}
"""
HELPER = """local worker = require "luaworker"
local helper = {}
helper.route = worker.post("/b", {
  -- endpont = "/x"
  endpont = "/y",
})
function helper.make(path)
  local route = worker.post(path, {
    max_queue_time = "3" })
  return route
end
return helper
"""


def test_all_mistakes_of_two_files_at_once(write, tmp_path):
    path, helper = write(TABLES), write(HELPER, "helper.lua")
    lines = check(path, status=1)
    assert lines == [
        f'{path}:6: routes[1].payload.seed: unknown type "integr", did you mean "integer"?',
        f"{path}:12: model_server_url: expected an http://, https:// or unix: URL, "
        'got string "ftp://x"',
        f'{path}:13: modle_log_file: unknown key, did you mean "model_log_file"?',
        f"{path}:14: max_sessions: expected integer of at least 0, got number -1",
        f'{path}:16: log_actions.modl_loaded: unknown key, did you mean "model_loaded"?',
        f'{path}:19: log_actions.info[2]: expected non-empty string, got string ""',
        f'{path}:30: routes[1].benchmark.runs: expected integer, got string "3"',
        f'{path}:31: routes[1].benchmark.rnus: unknown key, did you mean "runs"?',
        f"{path}:36: routes[4]: expected worker.get, worker.post or the like, got number 5",
        f'{path}:37: routes[5].path: expected a path that begins with /, got string "ping"',
        f'{path}:39: routes[6].forward.idel: unknown key, did you mean "idle"?',
        f'{helper}:5: routes[2].endpont: unknown key, did you mean "endpoint"?',
        f'{helper}:9: routes[3].max_queue_time: expected number, got string "3"',
        f"{path}: 13 errors",
    ]


def test_serve_refuses_by_the_same_lines(write):
    path = write(TABLES)
    write(HELPER, "helper.lua")
    told = check(path, status=1)[:-1]
    ended = run("serve", path, "--host", "127.0.0.1", "--port", "0", environment={"UNSECURED": "true"})
    assert ended.returncode == 1
    for line in told:
        assert line in json.loads(ended.stderr.splitlines()[0])["message"].split("\n"), (line, ended)


def test_tables_that_were_made_before(write):
    text = """local worker = require "luaworker"
local bench = {
  runs = 0 }
local routes = {
  worker.post("/a", { benchmark = bench,
    endpoint = 1 }),
  6,
}
local config = { model_server_url = "http://127.0.0.1:1",
  routes = routes,
  strat = 5 }
return worker.backend(config)
"""
    lines = [line.split(":")[:2] for line in found(write(""), text, status=1)]
    assert lines == [
        ["3", " routes[1].benchmark.runs"],
        ["5", " routes[1].benchmark"],  # has no payloads
        ["6", " routes[1].endpoint"],
        ["7", " routes[2]"],
        ["11", " strat"],
    ]


ODD = """local worker = require "luaworker"
local list = {}
for i = 1, 2 do
  list[i] = worker.post("/" .. i, { max_queue_time = 1e15 * i,
    [5] = 1 })
end
return worker.backend { model_server_url = "http://x\\0y", [true] = 1,
  ["a.b"] = 2, model_log_file = "a\\0b", routes = list }
"""


def test_what_the_routes_in_c_would_refuse(write):
    assert found(write(""), ODD, status=1) == [
        '4: routes[1].max_queue_time: expected number below 1e15, got number 1e+15',
        '4: routes[2].max_queue_time: expected number below 1e15, got number 2e+15',
        "5: routes[1][5]: unknown key",
        "5: routes[2][5]: unknown key",
        "7: a.b: unknown key",  # no way to tell it from b in a
        '7: model_server_url: expected an http://, https:// or unix: URL, got string "http://x\\0y"',
        "7: [true]: unknown key",
        "8: model_log_file: holds a NUL byte",
    ]


@pytest.mark.parametrize("opts", ["5", "{}", "{ routes = 5 }", "{ routes = {}, connect = {} }"])
def test_backends_of_any_kind_are_told_apart(write, opts):
    path = write(f'return require("luaworker").backend({opts})')
    lines = check(path, status=1)
    assert all(line.startswith(f"{path}:1: ") for line in lines[:-1]) and len(lines) > 1, lines


def test_what_no_request_could_reach(write):
    routes = """
      worker.post("/a b"), worker.post("/a?x=1"), worker.post("/\u00fc"), worker.post("/a#b"),
      worker.get("/b", worker.forward), worker.get("/c", worker.forward("/c d")),
      worker.get("/d", worker.forward("/c?d=1")), worker.post("/e", { endpoint = "/e\\n" }),
      worker.route("PUT", "/f", function() end)"""
    lines = found(write(""), backend(routes), status=1)
    no_space = "a path holds no white space and no #: write %20 or the like, got string"
    assert lines == [
        f'9: routes[1].path: {no_space} "/a b"',
        "9: routes[2].path: no request would match it: what is behind ? is in request.query",
        "9: routes[3].path: no request would match it: clients send such letters as %XX, "
        "write them so",
        f'9: routes[4].path: {no_space} "/a#b"',
        "10: routes[5]: worker.forward is to be called: worker.forward()",
        f'10: routes[6].forward: {no_space} "/c d"',
        f'11: routes[8].endpoint: {no_space} "/e\\n"',
        "12: routes[9]: PUT with a function or worker.forward() would serve requests that nobody "
        "signed: only GET and POST can be here",
    ]


@pytest.mark.parametrize(
    "url",
    ["http://x y", "http://x:99999", "http://x:0", "http://x:abc", "http://[::1", "http://:80"]
    + ["http://x/a?b=1", "http://x#a", "http://x/\\n", "http://a@"],
)
def test_urls_that_lead_nowhere(write, url):
    text = work(f"{BENCHMARK},").replace("http://127.0.0.1:1", url)
    [line] = found(write(""), text, status=1)
    assert line.startswith("4: model_server_url: expected ") and " URL" in line, line


@pytest.mark.parametrize(
    "url", ["HTTPS://x", "http://u:p@x:80/base/", "http://[::1]:8000", "http://[fe80::1]", "http://x:"]
)
def test_urls_that_lead_somewhere(write, url):
    text = work(f"{BENCHMARK},").replace("http://127.0.0.1:1", url)
    assert found(write(""), text) == []


def test_a_list_that_ends_early(write):
    """By a name that is nothing, say: what follows would be lost without a word."""
    first = f'worker.post("/a", {{ {BENCHMARK} }}),'
    assert found(write(""), backend(f"{first} nil, worker.post('/c')"), status=1) == [
        "8: routes[3]: expected a list without holes"
    ]
    data = "benchmark = { dataset = { {}, nil, {} } },"
    assert found(write(""), work(data), status=1) == [
        "7: routes[1].benchmark.dataset[3]: expected a list without holes"
    ]


@pytest.mark.parametrize(
    "table", ["setmetatable({}, { __index = function(_, key) error(key) end })", "worker.payload {}"]
)
def test_tables_with_metatables(write, table):
    """Of which parts would be read here and not there."""
    plain = "expected a plain table: of one with a metatable its own keys only count"
    path = write("")
    assert found(path, backend(f'worker.post("/a", {table})'), status=1) == [
        f"8: routes[1]: {plain}"
    ]
    assert found(path, backend(f'worker.post("/a", {{ benchmark = {table} }})'), status=1) == [
        f"8: routes[1].benchmark: {plain}"
    ]
    text = f'local worker = require "luaworker"\nreturn worker.backend({table})'
    assert found(path, text, status=1) == [f"2: {plain}"]


def test_fields_that_are_no_types(write):
    before = """
local own = {}
own.own = own
local P = worker.payload {
  part = worker.payload { x = "string" },
  own = own,
  kind = "uuid", line = "str\\ning",
  extra = "kep",
}"""
    lines = found(write(""), work(f"payload = P, {BENCHMARK},", before), status=1)
    no_plain = "expected a type or a plain table of fields: what worker.payload returns is neither"
    assert lines == [
        f"6: routes[1].payload.part: {no_plain}, write its fields here",
        "7: routes[1].payload.own" + ".own" * 32 + ": tables of fields are nested too deeply, or "
        "hold themselves",
        '8: routes[1].payload.kind: unknown type "uuid": expected any, array, boolean, integer, '
        "number, object or string",
        '8: routes[1].payload.line: unknown type "str\\ning", did you mean "string"?',
        '9: routes[1].payload.extra: unknown type "kep", did you mean "keep"?',
    ]


CLASSES = f"""local worker = require "luaworker"
local P = worker.payload {{ seed = "integr" }}
local Unused = worker.payload {{
  part = {{ n = "strin" }} }}
return worker.backend {{ model_server_url = "http://127.0.0.1:1", routes = {{
  worker.post("/a", {{ payload = P }}), worker.post("/b", {{ payload = P }}),
  worker.post("/c", {{ payload = P, {BENCHMARK} }}) }} }}
"""


def test_each_payload_class_is_told_of_once(write):
    """However many routes have it; one that none has may be used by hooks."""
    assert found(write(""), CLASSES, status=1) == [
        '2: routes[1].payload.seed: unknown type "integr", did you mean "integer"?',
        '4: worker.payload.part.n: unknown type "strin", did you mean "string"?',
    ]


def test_a_class_of_several_routes_is_bad_for_each(write):
    """No hook is tried with it, so that each mistake is told once."""
    before = 'local P = worker.payload { n = "int" }\nfunction P.for_test() return P { n = {} .. 1 } end'
    routes = "payload = P }), worker.post('/h', { payload = P, benchmark = {},"
    lines = found(write(""), work(routes, before), status=1)
    assert len(lines) == 1 and lines[0].startswith("2: routes[1].payload.n: unknown type"), lines


UNUSED = [
    (
        "benchmark = { generator = function() return {} end,\n dataset = { {} } },",
        "8: routes[1].benchmark.dataset: is not used beside benchmark.generator: leave out one of them",
    ),
    (
        "benchmark = { dataset = { {} } },\n make_benchmark_payload = function() return {} end,",
        "8: routes[1].make_benchmark_payload: is not used beside benchmark.dataset: "
        "leave out one of them",
    ),
]
UNUSED += [
    (
        f"remote = function() return 1 end, {BENCHMARK},\n {key} = {value},",
        f"8: routes[1].{key}: is not used beside remote, which stands in place of the model",
    )
    for key, value in {
        "endpoint": '"/x"',
        "generate_payload_json": "function(p) return p end",
        "first_byte": "5",
    }.items()
]


@pytest.mark.parametrize("fields,wanted", UNUSED)
def test_what_would_not_be_used(write, fields, wanted):
    assert found(write(""), work(fields), status=1) == [wanted]


def test_types_by_the_names_of_other_languages(write):
    types = {"int": "integer", "float": "number", "bool": "boolean", "list": "array", "dict": "object"}
    for name, meant in types.items():
        lines = found(write(""), work(f"payload = P, {BENCHMARK},", f"local P = worker.payload {{ x = '{name}?' }}"), status=1)
        assert lines == [f'2: routes[1].payload.x: unknown type "{name}?", did you mean "{meant}"?']


@pytest.mark.parametrize(
    "routes,wanted",
    [
        ("worker.post('/a')", "one route: put it in { }"),
        ("{ ['/a'] = worker.post('/a') }", "a table with keys: a route has its path in it"),
        ("{}", "an empty one"),
    ],
)
def test_routes_that_are_no_list(write, routes, wanted):
    text = work("").split("  routes")[0] + f"  routes = {routes},\n}}\n"
    assert found(write(""), text, status=1) == [f"5: routes: expected a list of routes, got {wanted}"]


def test_bytecode_is_told(write):
    path = write("")
    path.write_bytes(b"\x1bLJ\x02")
    assert check(path, status=1)[0] == f"{path}: it is bytecode, and only text is loaded"


def test_keys_of_any_bytes_are_told_on_one_line(write):
    fields = f'["a\\nb"] = 1, ["\\0"] = 2, [{{}}] = 3, {BENCHMARK},'
    lines = found(write(""), work(fields), status=1)
    assert lines == [f"6: routes[1]{key}: unknown key" for key in (".\\0", ".a\\nb", "[table]")]


# -- text that does not load --


@pytest.mark.parametrize(
    "text,wanted",
    [
        ("local x\nreturn worker.backend {", "2: unexpected symbol near '<eof>'"),
        ("local t\n\nt.x = 1", "3: attempt to index local 't' (a nil value)"),
        ("local function f()\n  error('kaboom')\nend\nf()", "2: kaboom"),
        ("error({})", None),
        ("return 5", "1: expected the script to return worker.backend { ... }, got number 5"),
        (
            "",
            " expected the script to return worker.backend { ... }, got nil: is the word return "
            "missing before it?",
        ),
        (
            "require 'luaworkr'",
            "1: module 'luaworkr' not found: no file '{0}/luaworkr.lua' no file './luaworkr.lua', "
            'did you mean "luaworker"?',
        ),
        (
            'local w = require "luaworker"\nw.sleep(1)',
            "2: this waits, so it can't be called while the script is loaded",
        ),
    ],
)
def test_a_text_that_does_not_load(write, text, wanted):
    path = write(text)
    lines = check(path, status=1)
    assert wanted is None or lines[0] == f"{path}:{wanted.replace('{0}', str(path.parent))}", lines
    assert lines[-1] == f"{path}: 1 error"


def test_a_file_of_tests_is_no_worker(write):
    lines = check(write('local testing = require "luaworker.testing"', "a_test.lua"), status=1)
    assert lines[0].endswith(
        "a_test.lua:1: module 'luaworker.testing' is not offered to workers: it is for tests: "
        "`luaworker test` runs them"
    ), lines


def test_an_error_in_a_module_is_told_there(write):
    helper = write("local x\n\nreturn = 5", "helper.lua")
    lines = check(write('require "helper"'), status=1)
    assert lines[0] == f"{helper}:3: unexpected symbol near '='", lines


YIELD = "coroutine.yield: this is no coroutine of the script's own; to wait, call worker.sleep"


def test_a_text_or_hook_that_yields(start, write):
    """It would end the check, as if all were well."""
    path = write('local worker = require "luaworker"\ncoroutine.yield(1)')
    lines = check(path, status=1)
    assert lines[0] == f"{path}:2: {YIELD}"
    hook = "count_workload = function()\n coroutine.yield(1) end, benchmark = { dataset = { {} } },"
    assert found(path, work(hook), status=1) == [
        f"8: routes[1].count_workload: POST /g, with the payload of dataset: {YIELD}"
    ]
    worker = start(work(f"{BENCHMARK},"))
    worker.write_script('local worker = require "luaworker"\ncoroutine.yield(1)')
    worker.signal(signal.SIGHUP)
    assert YIELD in json.dumps(worker.log.wait(level="error"))


def test_a_text_that_calls_itself_without_end(write):
    path = write("local function f()\n  local a, b, c\n  return 1 + f()\nend\nf()")
    lines = check(path, status=1)
    assert lines[0] == f"{path}:3: stack overflow", lines


def test_line_ends_of_any_kind(write):
    text = work(f"\n nope = 1, {BENCHMARK},")
    for line_end in ["\r\n", "\r"]:
        path = write("")
        path.write_bytes(text.replace("\n", line_end).encode())
        assert check(path, status=1)[0] == f"{path}:8: routes[1].nope: unknown key"


def test_an_endless_hook_is_one_mistake(write):
    hook = "count_workload = function()\n while true do end end, benchmark = { dataset = { {} } },"
    path, other = write(work(hook)), write(work("endpoint = 5"), "other.lua")
    lines = check(path, other, status=1, timeout=120 * SLOW)
    assert lines[0].startswith(f"{path}:8: routes[1].count_workload: POST /g"), lines
    assert "ran for more than" in lines[0] and lines[1] == f"{path}: 1 error"
    assert lines[3].startswith(f"{other}:7: routes[1].endpoint: "), "the next one has its own time"


# -- routes --


def test_routes_that_clash(write):
    routes = 'worker.get("/a", worker.forward()),\n worker.post("/a"),\n worker.get("/a", worker.forward()),'
    assert found(write(""), backend(routes), status=1)[0] == (
        "10: routes[3]: GET /a is taken by routes[1] (line 8)"
    )


def test_routes_of_the_workers_own_and_unknown_methods(write):
    routes = 'worker.post("/session/end"),\n worker.get("/pyworker/update", worker.forward()),\n'
    routes += 'worker.route("GTE", "/x", worker.forward()), worker.route(nil, "/y", {})'
    lines = found(write(""), backend(routes), status=1)
    assert lines[0].startswith("8: routes[1].path: the worker itself answers at /session/end")
    assert lines[1].startswith("9: routes[2].path: the worker itself answers at /pyworker/update")
    assert '10: routes[3]: unknown method: string "GTE"' in lines
    assert "10: routes[4]: unknown method: nil" in lines


def test_two_benchmarks_and_none(write):
    two = f'worker.post("/a", {{ {BENCHMARK} }}),\n worker.post("/b", {{\n {BENCHMARK} }})'
    assert found(write(""), backend(two), status=1) == [
        "10: routes[2].benchmark: only one route can have it, and routes[1] (line 8) does"
    ]
    path = write(backend('worker.post("/a")'))
    lines = check(path)
    assert len(lines) == 2 and lines[0].startswith(f"{path}:7: {NO_BENCHMARK}"), lines
    path = write(backend('worker.get("/a", worker.forward())'))
    assert check(path) == [f"{path}: good: 1 route"], "nothing to measure"


# -- hooks --

CLASS = """local I = worker.payload { n = "integer" }
function I.for_test() return I { n = 1 } end
"""
HOOKS = [
    (
        "payload = I, count_workload = function(p)\n return p.x.y end,",
        CLASS,
        "10: routes[1].count_workload: POST /g, with the payload of for_test: "
        "attempt to index field 'x' (a nil value)",
    ),
    (
        "payload = I, count_workload = function() return 0/0 end,",
        CLASS,
        "9: routes[1].count_workload: POST /g, with the payload of for_test: "
        "expected a number of at least 0, got number nan",
    ),
    (
        "payload = I,",
        CLASS + "function I:count_workload() return -self.n end",
        "4: routes[1].payload.count_workload: POST /g, with the payload of for_test: "
        "expected a number of at least 0, got number -1",
    ),
    (
        "payload = I,",
        CLASS + "function I:generate_payload_json() return '{' .. self.n end",
        "4: routes[1].payload.generate_payload_json: POST /g, with the payload of for_test: "
        "returned a text that is not JSON: ",
    ),
    (
        "generate_payload_json = function(p) return { print } end,\n"
        " make_benchmark_payload = function() return {} end",
        "",
        "7: routes[1].generate_payload_json: POST /g, with the payload of make_benchmark_payload: ",
    ),
    (
        "payload = I, request_parser = function(p)\n error 'no way' end, make_benchmark_payload = "
        "function() return { n = 1 } end,",
        CLASS,
        "10: routes[1].request_parser: POST /g, with the payload of make_benchmark_payload: no way",
    ),
    (
        "payload = I, benchmark = { generator = function() return { m = 1 } end },",
        CLASS,
        "9: routes[1].benchmark.generator: POST /g: invalid payload: n: missing parameter",
    ),
    (
        "payload = I, benchmark = { dataset = {\n { n = 1 },\n { n = 'x' } } },",
        CLASS,
        "11: routes[1].benchmark.dataset[2]: POST /g: invalid payload: n: expected integer, "
        "got string",
    ),
    (
        "payload = I, benchmark = {},",
        'local I = worker.payload { n = "integer" }\nfunction I.for_test()\n return I {} end',
        "3: routes[1].payload.for_test: POST /g: invalid payload: n: missing parameter",
    ),
    (
        "make_benchmark_payload = function() return 5 end,",
        "",
        "7: routes[1].make_benchmark_payload: POST /g: expected a payload, got number 5",
    ),
    (
        "payload = I,",
        CLASS + "function I:count_workload() runs = 1 return 1 end",
        "4: warning: the global runs is assigned in a function",
    ),
]


@pytest.mark.parametrize("fields,before,wanted", HOOKS)
def test_hooks_that_fail_on_their_own_payloads(write, fields, before, wanted):
    lines = found(write(""), work(fields, before), status=1)
    assert any(line.startswith(wanted) for line in lines), lines


def test_serve_refuses_hooks_that_fail_and_keeps_the_old_script(start):
    worker = start(backend('worker.get("/x", function() return "old" end), worker.post("/g")'))
    fields, before, wanted = HOOKS[0]
    worker.write_script(work(fields, before))
    worker.signal(signal.SIGHUP)
    record = worker.log.wait(level="error")
    assert wanted in json.dumps(record)
    assert worker.get("/x").body == b"old"


def test_a_hook_that_waits_is_no_mistake(write):
    waits = 'pcall(worker.http.get, "http://127.0.0.1:1/")\n error "not reached"'
    fields = f"benchmark = {{ dataset = {{ {{}} }} }}, count_workload = function()\n {waits} end,"
    begun = time.monotonic()
    lines = found(write(""), work(fields))
    assert len(lines) == 1 and lines[0].startswith("6: note: routes[1]: POST /g: a hook waits"), lines
    assert time.monotonic() - begun < 30 * SLOW
    check(write(work(fields)), "--strict")


def test_nothing_listens(write):
    listens = 'local server = worker.http.serve { routes = { worker.get("/a", function() end) } }'
    lines = found(write(""), work(f"{BENCHMARK},", listens), status=1)
    assert lines[0] == "2: only programs started by luaworker run may listen", lines


def test_what_start_makes_may_be_missing(write):
    text = work(
        "benchmark = { generator = function() return { n = table_of.n } end },",
        "local table_of\nlocal function start() table_of = { n = 1 } end",
    ).replace("  routes", "  start = start,\n  routes")
    lines = found(write(""), text)
    assert len(lines) == 1 and lines[0].startswith("9: warning: routes[1].benchmark.generator: "), lines
    assert "start() has not run" in lines[0]


def test_without_a_benchmark_no_payload_is_needed(write):
    text = work("payload = worker.payload { n = 'integer' },")
    assert found(write(""), text) == []


# -- globals --

GLOBALS = f"""local worker = require "luaworker"
limit = 5
local function count(payload)
  counter = (counter or 0) + 1
  return math.max(payload.n, limmit, limit)
end
local function tell()
  wroker.log.info("x")
  return undefined_thing and tostring(1)
end
return worker.backend {{
  model_server_url = "http://127.0.0.1:1",
  routes = {{ worker.post("/g", {{ count_workload = count, {BENCHMARK} }}),
    worker.get("/t", tell) }},
}}
"""
GLOBAL_LINES = [
    "4: warning: the global counter is assigned in a function, which fails once the script is "
    "loaded: make it local",
    '5: warning: the global limmit is defined nowhere, so it is nil, did you mean "limit"?',
    "8: warning: the global wroker is defined nowhere, so it is nil",
    "9: warning: the global undefined_thing is defined nowhere, so it is nil",
]


def test_globals(write):
    path = write(GLOBALS)
    assert found(path, GLOBALS) == GLOBAL_LINES
    assert check(path)[-1] == f"{path}: good: 2 routes, benchmark on POST /g, 4 warnings"
    assert check(path, "--strict", status=1)[-1] == f"{path}: not good by --strict, 4 warnings"
    told = json.loads(check(path, "--strict", "--json", status=1)[0])
    assert (told["ok"], told["errors"], told["warnings"]) == (False, 0, 4)


def test_modules_for_several_luas_may_ask_which_it_is(write):
    text = """
if jit then print(1) end
local set = setfenv and 1, utf8 and utf8.char
if not rawlen or bit32 == nil then return_ = 1 end
local x = ngx
"""
    assert found(write(""), work(f"{BENCHMARK},", text)) == [
        "6: warning: the global ngx is defined nowhere, so it is nil"
    ]


def test_serve_logs_warnings_and_goes_on(start):
    worker = start(GLOBALS)
    for line in GLOBAL_LINES:
        told = line.replace("warning: ", "")
        assert any(told in record["message"] for record in worker.log.records), line


# -- the environment --


def test_a_missing_variable_is_a_warning(write):
    text = work("benchmark = { runs = 'x', max_perf = 1 },", 'local dir = os.getenv "NO_DIR" .. "/x"')
    path = write(text)
    assert found(path, text, status=1) == [
        "2: warning: attempt to concatenate a nil value (not set here: NO_DIR; checked with stand-ins)",
        '7: routes[1].benchmark.runs: expected integer, got string "x"',
    ]
    lines = check(path, status=1, environment={"NO_DIR": "/tmp"})
    assert len(lines) == 2 and "NO_DIR" not in lines[0], lines


def test_the_url_may_come_from_the_operator(write):
    path = write(work(f"{BENCHMARK},").replace('"http://127.0.0.1:1"', 'os.getenv "MODEL_SERVER_URL"'))
    lines = check(path)
    assert lines[0].startswith(f"{path}:4: warning: model_server_url: is missing"), lines
    assert "MODEL_SERVER_URL" in lines[0]
    assert len(check(path, "--model-url", "http://127.0.0.1:5")) == 1
    assert len(check(path, environment={"MODEL_SERVER_URL": "http://127.0.0.1:5"})) == 1
    assert "--model-url" in check(path, "--model-url", "nonsense", status=1)[0]
    path.write_text(work(f"{BENCHMARK},").replace('model_server_url = "http://127.0.0.1:1",', ""))
    assert check(path, status=1)[0] == f"{path}:3: model_server_url: is missing"


# -- the command --


def test_json_for_each_script(write):
    bad, good = write(work("endpoint = 5,")), write(work(f"{BENCHMARK},"), "good.lua")
    lines = [json.loads(line) for line in check("--json", bad, good, status=1)]
    assert lines == [
        {
            "script": str(bad),
            "ok": False,
            "errors": 1,
            "warnings": 1,
            "mistakes": [
                {
                    "file": str(bad),
                    "line": 5,
                    "path": "routes",
                    "message": lines[0]["mistakes"][0]["message"],
                    "severity": "warning",
                },
                {
                    "file": str(bad),
                    "line": 7,
                    "path": "routes[1].endpoint",
                    "message": "expected a path that begins with /, got number 5",
                    "severity": "error",
                },
            ],
        },
        {"script": str(good), "ok": True, "errors": 0, "warnings": 0, "mistakes": []},
    ]


def test_what_a_script_prints_does_not_spoil_it(write):
    path = write('print "loading"\n' + work(f"{BENCHMARK},"))
    ended = run("check", "--json", path)
    assert ended.returncode == 0 and json.loads(ended.stdout)["ok"], ended
    assert "loading" in ended.stderr


def test_exit_statuses_of_misuse(write):
    path = write(work(f"{BENCHMARK},"))
    for arguments in ([], ["--nonsense", path], ["--model-url"]):
        assert run("check", *arguments).returncode == 2, arguments
    ended = run("check", "/nonexistent/x.lua", path)
    assert ended.returncode == 2 and "/nonexistent/x.lua" in ended.stderr
    assert ended.stdout.startswith(f"{path}: good"), "the others are checked all the same"
    assert "--strict" in run("check", "--help").stdout


def test_dev_ends_at_once_with_the_mistakes(write):
    path = write(work("endpoint = 5,"))
    ended = run("dev", path, "--port", "1", "--model-port", "2", "--autoscaler-port", "3")
    assert ended.returncode == 1
    assert f"{path}:7: routes[1].endpoint: " in ended.stderr
    assert "model stand-in" not in ended.stderr and "did not start" not in ended.stderr, ended
