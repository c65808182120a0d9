---@meta _
-- SPDX-License-Identifier: MIT
-- For editors, and the source of docs/api.md: the tables that scripts give to the library.

--- The deadlines of a call to the model, in seconds; 0: none. What passes one is answered 504, or
--- broken off when the answer has begun.
---@class luaworker.Timeouts
---@field connect? number for the connection, with TLS. Default 5
---@field first_byte? number until the answer's head. Default 0 (calls of a script: 600)
--- of silence between two pieces of the answer. Default 0 (calls of a script: 600)
---@field idle? number
---@field total? number for the whole answer. Default 0

--- For `worker.forward`.
---@class luaworker.ForwardOptions: luaworker.Timeouts
--- what becomes of the model's call when the client leaves: it is closed, or read to its end and
--- dropped. Default `"abort"`
---@field on_disconnect? "abort" | "drain"

--- What routes of `worker.post` say, and the backend for all of them; the route's own word counts.
---@class luaworker.SharedOptions: luaworker.ForwardOptions
--- false: one call to the model at a time, first come, first served. Default false
---@field allow_parallel_requests? boolean
---@field max_queue_time? number seconds; who would wait longer is answered 429. Default: no limit
--- how much work a payload is, in a unit of the script's own. Default: the class's method, else
--- 100. What is no number of at least 0 is logged and counted as 100
---@field count_workload? number | fun(payload: any): number
--- what comes before the class; returns the payload to go on with. May wait
---@field request_parser? fun(payload: any): any
--- makes the client's answer of the model's. Default: the model's answer as it comes
---@field generate_client_response? luaworker.ResponseHook
--- false: the body is the payload itself, without `auth_data` around it. Default true
---@field envelope? boolean

--- For `worker.post`.
---@class luaworker.RouteOptions: luaworker.SharedOptions
---@field payload? luaworker.Payload the class of its payloads. Without one any JSON object is taken
---@field endpoint? string the model's path. Default: the route's own
--- what the model gets: a table, or JSON text. Default: the class's method, else the fields;
--- without class and parser the client's own bytes. May wait
---@field generate_payload_json? fun(payload: any): table | string
---@field remote? luaworker.RemoteHook does the work in place of the call to the model
---@field benchmark? luaworker.BenchmarkOptions measures this route's speed; on one route only
--- a payload to measure with. Default: the class's `for_test`
---@field make_benchmark_payload? fun(): any

--- For `worker.backend`.
---@class luaworker.BackendOptions: luaworker.SharedOptions
--- where the model server is: `http://`, `https://` or `unix:`. `--model-url` goes before it
---@field model_server_url string
---@field routes luaworker.Route[] what is served
---@field model_log_file? string the model's log. Default: the variable `MODEL_LOG`
---@field log_actions? luaworker.LogActions what to look for in that log
--- a URL, or a path at the model: 200 says that it is well. Default: asked only in doubt
---@field model_healthcheck_url? string
---@field max_sessions? integer open sessions at most; 0: any number. Default 10
--- run before the benchmark; the worker is ready no sooner than it returns. An error, or nil and a
--- sentence, is reported and tried again after a minute. May wait
---@field start? fun(): any, string?

--- Substrings of the model's log lines: each one text, or a list of them.
---@class luaworker.LogActions
---@field model_loaded? string | string[] the model is loaded: the benchmark may begin
--- the model has failed: told to the autoscaler until `model_loaded` comes
---@field model_error? string | string[]
---@field info? string | string[] copied into the worker's own log

--- How a route's speed is measured. Payloads come from one of `generator`, `dataset` and the
--- route's `make_benchmark_payload`, else from the class's `for_test`.
---@class luaworker.BenchmarkOptions
---@field generator? fun(): any makes a payload for each call
---@field dataset? any[] payloads, gone through again and again
---@field runs? integer rounds, from 1 to 1000; the best one counts. Default 8
--- calls side by side in a round, from 1 to 10000, on routes that allow them. Default 10
---@field concurrency? integer
---@field warmup? boolean one call before, whose result is dropped. Default true
---@field timeout? number seconds that a round may take. Default 600
---@field max_perf? number the speed in workload per second, when it is known: nothing is measured

--- For `worker.payload`: types by field, and `extra`.
---@class luaworker.PayloadFields
--- what becomes of fields that are not named. Default `"drop"`
---@field extra? "drop" | "keep" | "error"
---@field [string] luaworker.FieldType a field's type

--- For `worker.response`.
---@class luaworker.ResponseOptions
---@field status? integer from 200 to 599. Default 200
---@field headers? luaworker.Headers
---@field content_type? string default: `text/plain; charset=utf-8` when there is a body
---@field body? string default: empty

--- For `worker.stream`.
---@class luaworker.StreamOptions
---@field status? integer from 200 to 599. Default 200
---@field headers? luaworker.Headers
---@field content_type? string default: `application/octet-stream`

--- For calls of `worker.model` and `worker.http`.
---@class luaworker.CallOptions
---@field method? string for `request`. Default `"GET"`
---@field headers? luaworker.Headers
---@field body? string
---@field json? any sent as JSON, in place of `body`
---@field timeout? luaworker.Timeouts

--- For `worker.http.request`.
---@class luaworker.HttpRequest: luaworker.CallOptions
---@field url string

--- For `worker.http.serve`.
---@class luaworker.ServeOptions
---@field routes luaworker.Route[] with functions; any method
---@field host? string an address of this machine. Default `"127.0.0.1"`
---@field port? integer 0: any free one. Default 0

--- For `worker.file.read`.
---@class luaworker.FileOptions
---@field below? string a directory that the path, which may come from a client, can't leave
---@field max? integer bytes at most. Default 67108864

--- Fields of HTTP by name; a list is sent as so many fields.
---@alias luaworker.Headers table<string, string | number | (string | number)[]>

--- A field of a payload: see `worker.payload`.
---@alias luaworker.FieldType string | table

--- What a handler or a hook answers with. A string is sent as plain text; a `ModelResponse` is
--- passed on as it comes. nil and a sentence, as `worker.model.get` returns them, is answered 502.
---@alias luaworker.Answer luaworker.Response | luaworker.Stream | luaworker.ModelResponse | string

--- Answers a request by itself. May wait.
---@alias luaworker.Handler fun(request: luaworker.Request): luaworker.Answer?, string?

-- long because a type has no line breaks
--- Makes the client's answer of the model's. May wait.
---@alias luaworker.ResponseHook fun(request: luaworker.Request, model_response: luaworker.ModelResponse): luaworker.Answer?, string?

--- Does a request's work in place of the model. An answer is sent as it is, any other value as
--- JSON: `{"result": value}`, nothing as null; nil and a message is a failure. May wait.
---@alias luaworker.RemoteHook fun(payload: any, request: luaworker.Request): any, string?

--- For `load.run`: a route and the flags of `luaworker load`, times as texts: `"500ms"`, `"30s"`.
---@class luaworker.LoadSettings
---@field script string a worker script
---@field route string the path of one of its POST routes
---@field n? integer requests in all
---@field rps? number requests a second
---@field duration? string how long to send; with `n`, what ends first
---@field stages? string rates in turn: `"10s:1,60s:1-20"`
---@field arrival? string `"constant"` (default), `"poisson"`, `"gamma"` or `"gamma:BURSTINESS"`
---@field concurrency? integer a closed loop of so many clients
---@field max_concurrency? integer open loop: at most so many at once
---@field warmup? string sends so long before measuring
---@field seed? string | number of arrivals and payloads. Default: 1
---@field timeout? string for each answer. Default: `"10m"`
---@field stream? boolean asks for a stream by `"stream": true` in the payload
---@field payload? string the payload as JSON, or @ and its file. Default: the script's samples
---@field key? string the API key. Default: `VAST_API_KEY`, `API_KEY`
---@field endpoint? string the endpoint's name. Default: the script's file name
---@field local? boolean asks the autoscaler of this machine, port 8081
---@field autoscaler? string asks the one at this URL
---@field console? string where an account's key is exchanged for the endpoint's
---@field route_timeout? string for a worker to become free. Default: `"10m"`
---@field session? boolean all requests in one session
---@field direct? string no autoscaler: the URL of a worker or model server
---@field compare? string the same schedule once more, straight to the model at this URL
---@field insecure? boolean certificates are not checked
---@field ca? string a file of PEM certificates to check with, besides the system's
---@field slo? string what a good request is: `"ttft:200ms,itl:50ms,e2e:2s"`
---@field threshold? string | string[] what a good run is: `{ "ttft.p95<200ms" }`
---@field json? string writes the result into this file
---@field csv? string writes one line for each request into this file
---@field html? string writes a report to look at into this file
