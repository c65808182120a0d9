---@meta luaworker.testing
-- SPDX-License-Identifier: MIT
-- For editors, and the source of docs/api.md: what `require "luaworker.testing"` returns.
-- Compared with the library by tests/lua/testing_types_test.lua.

--- The words of tests: `local testing = require "luaworker.testing"`, in files named `*_test.lua`.
--- Nothing in a test touches a network, and its clock moves only when nothing else can happen, so
--- what waits for seconds takes none.
---@class luaworker.testing
local testing = {}

---@type luaworker.TestWord
testing.describe = nil
---@type luaworker.TestWord
testing.it = nil
---@type luaworker.testing.clock
testing.clock = nil

--- What must hold: `expect(value):to_equal(other)`, `expect(value).never:to_contain(other)`.
---@param value any
---@return luaworker.Expectation
function testing.expect(value) end

--- Run before each test of the `describe` that it stands in. May wait.
---@param f fun()
function testing.before_each(f) end

--- Run after each test of the `describe` that it stands in, also after one that failed. May wait.
---@param f fun()
function testing.after_each(f) end

--- Ends the running test here; it is told as skipped.
---@param reason? string
function testing.skip(reason) end

--- A worker script, taken in as `luaworker serve` does. Raises its mistakes.
---@param path string beside the test file, or from the current directory
---@param options? luaworker.LoadOptions
---@return luaworker.App
function testing.load(path, options) end

--- A fake model server: an answer, a text as its body, a function that returns one, or a table of
--- these by path (`["/health"]` or `["GET /health"]`).
---@param spec luaworker.FakeSpec
---@return luaworker.FakeServer
function testing.model(spec) end

--- Until the test is over, URLs that begin so are answered by this fake server.
---@param prefix string such as `https://example.com/`
---@param spec luaworker.FakeSpec
---@return luaworker.FakeServer
function testing.http(prefix, spec) end

--- Runs the functions at the same time and waits until all have returned.
---@param ... fun(): any
---@return any[] results what each returned first
function testing.parallel(...) end

--- All lines of the log since the test began, each as `level text`.
---@return string
function testing.log() end

--- The clock of the tests.
---@class luaworker.testing.clock
local clock = {}

--- Seconds since the run began.
---@return number
function clock.now() end

--- Seconds since 1970, as scripts see them; a run begins on 1 January 2026.
---@return number
function clock.wall() end

--- Lets so many seconds pass, and all that is due in them. Waits.
---@param seconds number
function clock.advance(seconds) end

--- `describe(name, f)` groups tests, `it(name, f)` is one; without `f` it is told as not written.
---@class luaworker.TestWord
---@overload fun(name: string, f?: fun())
local word = {}

--- Not run, and told as skipped: `it.skip(name, f)` or `it.skip(name, reason, f)`.
---@param name string
---@param reason? string | fun()
---@param f? fun()
function word.skip(name, reason, f) end

--- When there is one, nothing else is run.
---@param name string
---@param f fun()
function word.only(name, f) end

--- What `expect` returns: to be asked one thing.
---@class luaworker.Expectation
---@field never luaworker.Expectation the contrary of what is asked
local Expectation = {}

--- The same value, tables by what is in them.
---@param expected any
function Expectation:to_equal(expected) end

--- The very same table, or an equal plain value.
---@param expected any
function Expectation:to_be(expected) end

--- Neither nil nor false.
function Expectation:to_be_truthy() end

--- nil or false.
function Expectation:to_be_falsy() end

function Expectation:to_be_nil() end

--- Of this type, as `type` names it.
---@param kind string
function Expectation:to_be_a(kind) end

--- A string in which the pattern is found.
---@param pattern string
function Expectation:to_match(pattern) end

--- A string with this part, or a table in which a value equals this one.
---@param wanted any
function Expectation:to_contain(wanted) end

--- A string or list of this length.
---@param length integer
function Expectation:to_have_length(length) end

--- A number this near to another.
---@param wanted number
---@param tolerance? number default: 1e-9
function Expectation:to_be_near(wanted, tolerance) end

--- A number above this one.
---@param limit number
function Expectation:to_be_above(limit) end

--- A number below this one.
---@param limit number
function Expectation:to_be_below(limit) end

--- A function that raises, with a text in which the pattern is found.
---@param pattern? string
function Expectation:to_raise(pattern) end

--- A loaded script, asked by fake clients. Each asking waits until the request is over.
---@class luaworker.App
---@field path string the script's file
local App = {}

--- Any request. Raises when the script has no such route.
---@param options luaworker.AppRequest
---@return luaworker.AppAnswer
function App:request(options) end

---@param path string may have a query
---@param options? luaworker.AppRequest
---@return luaworker.AppAnswer
function App:get(path, options) end

---@param path string
---@param payload? any a table, or JSON text to be sent as it is
---@param options? luaworker.AppRequest
---@return luaworker.AppAnswer
function App:post(path, payload, options) end

--- A session, to be given with requests.
---@return luaworker.AppSession
function App:open_session() end

--- Runs the script's `start`: true, or nil and why it failed. Waits.
---@param options? luaworker.StartOptions
---@return boolean? ok
---@return string? err
function App:start(options) end

--- What one call of the script's benchmark carries. Waits.
---@return luaworker.BenchmarkPayload
function App:benchmark_payload() end

--- What came of a request.
---@class luaworker.AppAnswer
---@field status integer? nil when the client left before there was one
---@field headers table<string, string> names in lower case
---@field body string
---@field chunks string[] the pieces in which it came
---@field ended boolean it has come to its clean end
---@field broken boolean it was broken off
---@field left boolean the client had left before its end
---@field outcome string? what the autoscaler is told: `success`, `error` or `cancelled`
---@field workload number what it was counted as; nil when it never was
---@field source string? whose fault: `model`, `script` or `runtime`
---@field error string? why it failed
---@field logs luaworker.LogLine[] what the script has logged meanwhile
---@field log string the same as text
---@field model luaworker.FakeServer that has answered it; nil when there was none
---@field seconds number by the clock of the tests
---@field id string
local AppAnswer = {}

--- The body as JSON; raises when it is none.
---@return any
function AppAnswer:json() end

--- The body's server-sent events.
---@return luaworker.Event[]
function AppAnswer:events() end

--- A line of the log.
---@class luaworker.LogLine
---@field level "debug" | "info" | "warn" | "error"
---@field text string

--- A client's session.
---@class luaworker.AppSession
---@field id string
local AppSession = {}

--- Closes it: its requests are dropped.
function AppSession:close() end

--- A fake server, and what it was asked.
---@class luaworker.FakeServer
---@field requests luaworker.FakeRequest[] in the order in which they came
local FakeServer = {}

--- The latest request; nil before the first.
---@return luaworker.FakeRequest
function FakeServer:last() end

--- A request that a fake server has got.
---@class luaworker.FakeRequest
---@field method string
---@field url string
---@field path string
---@field query string
---@field headers table<string, string> names in lower case
---@field body string
---@field json any the body as JSON, nil when it is none
---@field at number when it came, by the clock of the tests
---@field closed boolean the caller has closed it before its end
---@field ended boolean the answer has come to its end

--- What one call of a benchmark carries.
---@class luaworker.BenchmarkPayload
---@field payload any
---@field body string what the model gets
---@field workload number

--- For `testing.load`.
---@class luaworker.LoadOptions
---@field env? table<string, string> all that `os.getenv` and `worker.env` see
---@field model? luaworker.FakeSpec answers where a request names none
---@field model_url? string in place of the script's `model_server_url`

--- For `app:start`.
---@class luaworker.StartOptions
---@field model? luaworker.FakeSpec

--- For `app:request`, `app:get` and `app:post`.
---@class luaworker.AppRequest
---@field path? string may have a query; must be there for `app:request`
---@field method? string default: `"GET"`
---@field query? string | table<string, string | number | boolean>
---@field headers? luaworker.Headers
---@field payload? any a table, or JSON text, put into a signed envelope
---@field json? any a body of JSON, where there is no payload
---@field body? string a body as it is
---@field model? luaworker.FakeSpec the model server of this request
---@field session? luaworker.AppSession
---@field leave_after? integer the client leaves after so many pieces of the answer
---@field leave_at? number the client leaves after so many seconds

--- One answer of a fake server. What it waits for passes on the clock of the tests.
---@class luaworker.FakeAnswer
---@field status? integer default: 200
---@field headers? luaworker.Headers
---@field content_type? string
---@field body? string
---@field json? any
---@field chunks? (string | number)[] pieces; a number is a pause of so many seconds before the next
--- server-sent events: `{ event, data, id }`, a text, or a table that is sent as JSON
---@field events? any[]
---@field delay? number seconds before the head
---@field interval? number seconds between two pieces
---@field breaks? boolean the connection ends before the head
---@field breaks_after? integer the connection breaks off after so many pieces
---@field hangs? boolean nothing ever comes
---@field hangs_after? integer nothing comes after so many pieces
---@field refuses? boolean the connection is refused
---@field sequence? luaworker.FakeSpec[] one answer for each request; the last one for all others

-- long because a type has no line breaks
--- What a fake server answers: a body, one answer, a function, or these by path.
---@alias luaworker.FakeSpec string | luaworker.FakeAnswer | table<string, any> | fun(request: luaworker.FakeRequest): any | luaworker.FakeServer

return testing
