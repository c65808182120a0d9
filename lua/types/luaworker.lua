---@meta luaworker
-- SPDX-License-Identifier: MIT
-- For editors, and the source of docs/api.md (make api-docs): what `require "luaworker"` returns.
-- Never run; tests/lua/test_types.lua compares it with the library.

--- The words that a worker script is written in: `local worker = require "luaworker"`.
---
--- What **waits** lets others run meanwhile and returns when it is done. Only handlers, hooks,
--- `start` and spawned functions may wait, not the script itself while it is loaded. When the
--- client leaves, or the worker stops, a function that waits does not return: the task ends there.
---@class luaworker
local worker = {}

-- What a script returns ---------------------------------------------------------------------------

--- The worker: what the script returns. Mistakes in the table are told when the script is loaded,
--- all at once, by their path.
---@param options luaworker.BackendOptions
---@return luaworker.Backend
function worker.backend(options) end

--- A route for work: signed, weighed, queued, passed to the model, accounted. Without a table, all
--- defaults: payload and answer pass as they come.
---@param path string begins with `/`, matched letter by letter
---@param options? luaworker.RouteOptions
---@return luaworker.Route
function worker.post(path, options) end

--- A route that is answered by the function, or by the model with `worker.forward()`. It is not
--- signed, not weighed and not queued.
---@param path string begins with `/`, matched letter by letter
---@param what luaworker.Handler | luaworker.Forward
---@return luaworker.Route
function worker.get(path, what) end

--- A route of any method. Workers answer other methods than GET only with a table of hooks (POST);
--- programs that call `worker.http.serve` are free.
---@param method string in upper case
---@param path string begins with `/`, matched letter by letter
---@param what luaworker.Handler | luaworker.Forward | luaworker.RouteOptions
---@return luaworker.Route
function worker.route(method, path, what) end

--- For `worker.get`: the model server answers, at this path or the route's own, with the client's
--- query. Both arguments may be left out.
---@param path? string the model's path; the route's when absent
---@param options? luaworker.ForwardOptions
---@return luaworker.Forward
---@overload fun(options: luaworker.ForwardOptions): luaworker.Forward
function worker.forward(path, options) end

-- Payloads ----------------------------------------------------------------------------------------

--- A class of payloads. A field's type is `string`, `integer`, `number`, `boolean`, `object`,
--- `array` or `any`; with `?` behind it the field may be absent or null; `{ type, default = value
--- }` gives what stands for it then; a table of fields is an object with them. What a client sends
--- is checked: a field that is missing or of another type is answered 422.
---@param fields luaworker.PayloadFields
---@return luaworker.Payload
function worker.payload(fields) end

--- Refuses a payload: 422 `{"payload": {"field": "message"}}`. Return it from `from_json_msg` or
--- `request_parser`, or raise it in any payload hook.
---@param fields table<string, string> | string messages by field, or one for all of it
---@return luaworker.Invalid
function worker.invalid(fields) end

--- An estimate of the tokens in a text, without the model's tokenizer; quick for any length.
---@param text string
---@return integer
function worker.count_tokens(text) end

-- Answers -----------------------------------------------------------------------------------------

--- An answer of these bytes. Raises when the status is not from 200 to 599.
---@param options luaworker.ResponseOptions
---@return luaworker.Response
function worker.response(options) end

--- An answer piece by piece; its head is sent with the first `write`. One for each request.
---@param options? luaworker.StreamOptions
---@return luaworker.Stream
function worker.stream(options) end

-- Doing -------------------------------------------------------------------------------------------

--- Waits so many seconds. Raises when they are negative or no number.
---@param seconds number
function worker.sleep(seconds) end

--- Runs the function as a task of its own, which begins in a later turn and is not ended with the
--- request. An error in it is logged.
---@param f fun(...: any)
---@param ... any its arguments
function worker.spawn(f, ...) end

--- An environment variable, as the default's type when that is a number or a boolean (`true`,
--- `yes`, `on`, `1` and their opposites). Raises when the text is none of that type.
---@generic T: string | number | boolean
---@param name string
---@param default T what an unset or empty variable counts as
---@return T
---@overload fun(name: string): string?
function worker.env(name, default) end

---@type luaworker.json
worker.json = nil
---@type luaworker.model
worker.model = nil
---@type luaworker.http
worker.http = nil
---@type luaworker.log
worker.log = nil
---@type luaworker.base64
worker.base64 = nil
---@type luaworker.file
worker.file = nil

-- worker.json -------------------------------------------------------------------------------------

--- `worker.json(value, status)` is a JSON answer (status 200); the functions read and write JSON.
--- Decoded values are ordinary tables that keep what they were given: the order of keys, `[]` and
--- `{}`, `1.0`, integers of 64 bits (as cdata beyond 2^53).
---@class luaworker.json
---@overload fun(value: any, status?: integer): luaworker.Response
---@field null luaworker.Null JSON's null; equal only to itself, and true in a condition
local json = {}

--- The text of a value. Raises for what JSON can't say: functions, NaN, tables in themselves.
---@param value any
---@return string
function json.encode(value) end

--- The value of a text; nil and `message at byte N` when it is not JSON.
---@param text string
---@return any value
---@return string? err
function json.decode(text) end

--- Marks a table as an array, so that an empty one is written `[]`. Returns it.
---@generic T: table
---@param list T
---@return T
function json.array(list) end

--- Marks a table as an object, so that it is written `{}` even when it is empty or a list.
---@generic T: table
---@param fields T
---@return T
function json.object(fields) end

--- Whether the table would be written as an array.
---@param value any
---@return boolean
function json.is_array(value) end

-- worker.model, worker.http -----------------------------------------------------------------------

--- Calls to the model server, by path. Such a call is one more beside the request's own, which the
--- worker makes by itself.
---@class luaworker.model
local model = {}

--- GET a path. Waits for the answer's head; nil and one sentence when there is none.
---@param path string begins with `/`
---@param options? luaworker.CallOptions
---@return luaworker.ModelResponse? response
---@return string? err
function model.get(path, options) end

--- POST to a path. Waits for the answer's head; nil and one sentence when there is none.
---@param path string begins with `/`
---@param options? luaworker.CallOptions
---@return luaworker.ModelResponse? response
---@return string? err
function model.post(path, options) end

--- Any method: `options.method`, GET when absent. Waits for the answer's head; nil and one sentence
--- when there is none.
---@param path string begins with `/`
---@param options? luaworker.CallOptions
---@return luaworker.ModelResponse? response
---@return string? err
function model.request(path, options) end

--- Calls to any HTTP server, and being one in a program of `luaworker run`.
---@class luaworker.http
local http = {}

--- GET a URL. Waits for the answer's head; nil and one sentence when there is none.
---@param url string
---@param options? luaworker.CallOptions
---@return luaworker.ModelResponse? response
---@return string? err
function http.get(url, options) end

--- POST to a URL. Waits for the answer's head; nil and one sentence when there is none.
---@param url string
---@param options? luaworker.CallOptions
---@return luaworker.ModelResponse? response
---@return string? err
function http.post(url, options) end

--- Any method and URL. Waits for the answer's head; nil and one sentence when there is none.
---@param options luaworker.HttpRequest
---@return luaworker.ModelResponse? response
---@return string? err
function http.request(options) end

--- For programs of `luaworker run`: answers these routes at a port from now on. Raises when it
--- can't.
---@param options luaworker.ServeOptions
---@return luaworker.Server
function http.serve(options) end

-- worker.log --------------------------------------------------------------------------------------

--- Lines in the worker's own log. With values behind it the message is a format as string.format
--- takes it. What the log's level leaves out costs nothing.
---@class luaworker.log
local log = {}

--- For whoever looks for a mistake; not shown unless asked for.
---@param message any
---@param ... any
function log.debug(message, ...) end

--- What happened as it should.
---@param message any
---@param ... any
function log.info(message, ...) end

--- What somebody may want to change.
---@param message any
---@param ... any
function log.warn(message, ...) end

--- What has failed.
---@param message any
---@param ... any
function log.error(message, ...) end

-- worker.base64, worker.file ----------------------------------------------------------------------

--- Base64 with the alphabet `A-Za-z0-9+/` and padding.
---@class luaworker.base64
local base64 = {}

---@param bytes string
---@return string
function base64.encode(bytes) end

--- The bytes; nil and a sentence when the text is not base64.
---@param text string
---@return string? bytes
---@return string? err
function base64.decode(text) end

--- Files of the worker's own machine.
---@class luaworker.file
local file = {}

--- A file's bytes; nil and why not.
---@param path string
---@param options? luaworker.FileOptions
---@return string? bytes
---@return string? err
function file.read(path, options) end

return worker
