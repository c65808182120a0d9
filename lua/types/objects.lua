---@meta _
-- SPDX-License-Identifier: MIT
-- For editors, and the source of docs/api.md: what the library hands to scripts.

--- A client's request. It ends with the answer; what was not asked for before is gone then.
---@class luaworker.Request
---@field method string in upper case
---@field path string without the query
---@field query_string string as it came, without the `?`
---@field query table<string, string> the query's fields, unescaped; of a repeated one the last
---@field headers table<string, string> names in lower case; repeated ones joined with `, `
---@field payload any the payload as the client sent it, on routes of `worker.post`
---@field session string? the session's id, when there is one
---@field id string also in the log and in `X-Request-Id`
---@field remote_addr string the client's address and port
local Request = {}

--- The whole body as it came, with the envelope.
---@return string
function Request:body() end

--- The body as JSON; nil and what is wrong with it.
---@return any value
---@return string? err
function Request:json() end

--- The model's answer, or that of any server: its head is there, its body comes as it is read,
--- once. Reading one that breaks off raises, so that a cut answer is never taken for a whole one.
---@class luaworker.ModelResponse
---@field status integer
---@field headers table<string, string> names in lower case; repeated ones joined with `, `
---@field content_type string?
local ModelResponse = {}

--- The whole body. Waits for its end.
---@return string
function ModelResponse:body() end

--- The whole body as JSON. Waits for its end; raises when it is not JSON.
---@return any
function ModelResponse:json() end

--- An iterator over the body's pieces as they arrive. Each step waits.
---@return fun(self: luaworker.ModelResponse): string?
---@return luaworker.ModelResponse
function ModelResponse:chunks() end

--- An iterator over the body's lines, without their ends. Each step waits.
---@return fun(): string?
function ModelResponse:lines() end

--- An iterator over server-sent events. Each step waits.
---@return fun(): luaworker.Event?
function ModelResponse:events() end

--- Reads what is left of the body and drops it. Waits for its end.
function ModelResponse:read_to_end() end

--- Stops the call and drops the rest. Fine to call twice.
function ModelResponse:close() end

--- A server-sent event.
---@class luaworker.Event
---@field event string its name; `message` when it has none
---@field data string its lines of data, joined with newlines
---@field id string? of the latest event that had one

--- An answer that is written piece by piece: `worker.stream`. A handler that returns ends it.
---@class luaworker.Stream
---@field status integer
---@field headers luaworker.Headers? may be changed until the first `write`
---@field content_type string
local Stream = {}

--- Sends a piece. Waits while the client reads too slowly; does not return when it has left.
---@param piece string | number
function Stream:write(piece) end

--- The clean end, before the handler has returned. Does not wait.
function Stream:finish() end

--- An answer made by `worker.response` or `worker.json`: to be returned. What it holds may be
--- changed before.
---@class luaworker.Response
---@field status integer
---@field headers luaworker.Headers?
---@field content_type string?
---@field body string? the bytes, of `worker.response`
---@field value any what is sent as JSON, of `worker.json`

--- What `worker.backend` returns: for the script to return.
---@class luaworker.Backend

--- What `worker.post`, `worker.get` and `worker.route` return: for a list of routes.
---@class luaworker.Route

--- What `worker.forward` returns.
---@class luaworker.Forward

--- What `worker.invalid` returns.
---@class luaworker.Invalid
---@field fields table<string, string> | string

--- JSON's null, `worker.json.null`.
---@class luaworker.Null

--- What `worker.http.serve` returns.
---@class luaworker.Server
---@field port integer where it listens

--- A class of payloads, made by `worker.payload`, and each instance of it. Call the class to make
--- an instance of a table of fields: `Input { prompt = "a" }`; it raises what is wrong with them.
--- The methods below but `from_json_msg` are the script's to write.
---@class luaworker.Payload
---@field for_test? fun(): luaworker.Payload a payload for the benchmark and for `luaworker call`
--- how much work it is, in a unit of the script's own. Without it 100
---@field count_workload? fun(self: any): number
--- what the model gets. Without it the fields
---@field generate_payload_json? fun(self: any): table | string
---@overload fun(fields: table): luaworker.Payload
local Payload = {}

--- An instance of a decoded message, or what is wrong with it. A script may write its own, for
--- messages of another shape or with bounds; it refuses one by returning or raising
--- `worker.invalid`. May wait then.
---@param message any
---@return luaworker.Payload | luaworker.Invalid
function Payload.from_json_msg(message) end
