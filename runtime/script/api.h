/* SPDX-License-Identifier: MIT
 * Everything Lua may call, through the FFI. The text between the marks is the cdef, word for word.
 *
 * Rules of the boundary: no function here enters Lua, runs the loop or raises; none takes a
 * function pointer. Bytes given in are copied during the call. Spans handed out are valid until the
 * next call that names the same object. A function that would wait returns LW_AGAIN after noting
 * that the running task waits for it; Lua yields and makes the same call again. One pending wait
 * per task. When the task was cancelled (its client left, the program stops) every waiting call
 * returns LW_CANCELLED. Codes are lw_code as int. Times are seconds. */
#pragma once

#include "floor/base.h"
#include "wire/json.h"

#pragma GCC visibility push(default)
/* cdef: begin */
struct lw_request;
struct lw_call;
struct lw_router;
struct lw_route;
struct lw_doc;
struct lw_signer;

/* -- the running task -- */
/* The request this task answers; NULL for a program's main task and spawned ones. */
struct lw_request *lw_api_task_request(void);
/* The number given to lw_api_route_add (for a request) or lw_api_task_spawn; 0 for the main task.
 */
int lw_api_task_job(void);
/* Starts a task that will find `job` in lw_api_task_job(). LW_OK, LW_LIMIT; LW_CANCELLED when the
 * VM closes: no task of it could end the others then. */
int lw_api_task_spawn(int job);
/* The same, and it is cancelled when the running task ends or is cancelled. */
int lw_api_task_spawn_child(int job);
/* LW_AGAIN until `seconds` have passed since the first call, then LW_OK. */
int lw_api_task_sleep(double seconds);
/* LW_AGAIN until the task is cancelled (SIGTERM for a program), then LW_CANCELLED. */
int lw_api_task_wait_cancel(void);
/* LW_AGAIN until lw_api_task_notify(key) is called by another task of this VM after this wait
 * began. `seconds` < 0: no deadline; else LW_TIMEOUT after it. */
int lw_api_task_wait_notify(int key, double seconds);
void lw_api_task_notify(int key); /* wakes all that wait for key */
/* What a job of the script's own (start_job, benchmark_job) came to; the benchmark's result is
 * max_perf, failure a sentence. One of the two, before the task ends. */
void lw_api_job_done(double result);
void lw_api_job_failed(const char *p, size_t n);

/* Whether what runs was stopped for taking too much time or memory, then not 0: nothing may hold up
 * its end. Why and where, and a traceback ("" when there is none), of the last stop of all. */
int lw_api_stopped(void);
void lw_api_stop_text(lw_span *text, lw_span *traceback);
/* For programs that run scripts: what runs has its full time again, and was not stopped. */
void lw_api_stop_forget(void);

/* -- a client's request -- */
enum {
  LW_REQUEST_METHOD,
  LW_REQUEST_PATH,
  LW_REQUEST_QUERY,
  LW_REQUEST_BODY,
  LW_REQUEST_ID,
  LW_REQUEST_REMOTE_ADDR,
  LW_REQUEST_PAYLOAD,
  LW_REQUEST_SESSION,
};
/* PAYLOAD: the payload's JSON text as it came (POST routes of a backend), else empty. */
void lw_api_request_text(struct lw_request *r, int what, lw_span *out);
size_t lw_api_request_header_count(struct lw_request *r);
void lw_api_request_header_at(struct lw_request *r, size_t i, lw_span *name, lw_span *value);
/* 1 when there is such a field (any case). */
int lw_api_request_header(struct lw_request *r, const char *name, size_t n, lw_span *value);
/* The parsed envelope and the node of the payload in it: a new reference, release it with
 * lw_api_doc_unref. NULL when there is none. */
struct lw_doc *lw_api_request_doc(struct lw_request *r, uint32_t *payload_root);

/* The payload is refused: answers 422 with this JSON text as the body. Nothing was counted. */
int lw_api_request_invalid(struct lw_request *r, const char *json, size_t n);
/* What the model gets instead of the payload's own bytes (JSON text). Before admit. */
void lw_api_request_set_model_body(struct lw_request *r, const char *p, size_t n);
/* Adds to what was set. */
void lw_api_request_add_model_body(struct lw_request *r, const char *p, size_t n);
/* Asks for admission with this workload. LW_OK: go on. LW_AGAIN: in the queue. LW_BUSY: refused and
 * already answered (429). LW_CANCELLED. */
int lw_api_request_admit(struct lw_request *r, double workload);
/* Hands the admitted request over to C: the model is called and its answer passed through. The task
 * is done with the request. */
void lw_api_request_forward(struct lw_request *r);
/* Opens (does not wait for) the route's call to the model, for an admitted request. */
struct lw_call *lw_api_request_call(struct lw_request *r);
/* It failed: {"error": text, "source": source}, or the connection is cut when the answer has begun.
 * source: "script", "model" or "runtime"; status 0 means 500. `why`, if any, is what the request's
 * log line says instead of the text. */
void lw_api_request_fail(struct lw_request *r, int status, const char *source, const char *text,
                         size_t n, const char *why, size_t why_n);
enum {
  LW_FAILED_REQUEST,  /* a hook, which ends its request */
  LW_FAILED_WORKLOAD, /* a count_workload, after which the request goes on */
  LW_FAILED_JOB,      /* start, benchmark or spawn: in `hook` */
};
/* Something of the script failed: a log line (few, when it comes again and again) and a count.
 * route and request_id: of the running task's request, or of the one that started the task, or "".
 * `at`: file:line. traceback: a line for each of the script's functions, or "". */
void lw_api_hook_failed(int what, const char *route, const char *hook, const char *at,
                        const char *request_id, const char *text, size_t n, const char *traceback,
                        size_t traceback_n);

/* -- the answer to a client -- */
int lw_api_response_start(struct lw_request *r, int status); /* LW_MISUSE when already started */
/* Before the first body byte. LW_PROTOCOL when name or value are not legal. */
int lw_api_response_header(struct lw_request *r, const char *name, size_t name_n, const char *value,
                           size_t value_n);
/* The whole body at once, and the end. */
int lw_api_response_end(struct lw_request *r, const char *p, size_t n);
/* One piece of a stream. LW_AGAIN: the client reads too slowly, nothing was taken, wait. */
int lw_api_response_write(struct lw_request *r, const char *p, size_t n);
int lw_api_response_finish(struct lw_request *r); /* the clean end of a stream */
/* Answers with the call's answer: status, end-to-end fields, body, streamed in C. Takes the call
 * over (the handle is dead afterwards). Not when started. */
int lw_api_response_forward(struct lw_request *r, struct lw_call *call);
int lw_api_response_started(struct lw_request *r); /* 1 once the head can no longer change */

/* -- a call to an HTTP server -- */
/* Never NULL: what is wrong with the arguments comes out of lw_api_call_head. */
struct lw_call *lw_api_call_open(const char *method, size_t method_n, const char *url,
                                 size_t url_n);
void lw_api_call_header(struct lw_call *c, const char *name, size_t name_n, const char *value,
                        size_t value_n);
void lw_api_call_body(struct lw_call *c, const char *p, size_t n);
/* Each 0: none. */
void lw_api_call_timeouts(struct lw_call *c, double connect, double first_byte, double idle,
                          double total);
/* Errors speak of the model, and its bytes count as the model's progress. */
void lw_api_call_of_model(struct lw_call *c);
/* Starts it at the first call. LW_OK once the head of the answer is there. */
int lw_api_call_head(struct lw_call *c);
int lw_api_call_status(struct lw_call *c);
size_t lw_api_call_header_count(struct lw_call *c);
void lw_api_call_header_at(struct lw_call *c, size_t i, lw_span *name, lw_span *value);
int lw_api_call_header_get(struct lw_call *c, const char *name, size_t n, lw_span *value);
/* The whole body, gathered (at most max bytes, else LW_LIMIT): LW_OK, LW_AGAIN or an error. */
int lw_api_call_body_all(struct lw_call *c, size_t max, lw_span *out);
const char *lw_api_call_error(struct lw_call *c); /* one sentence, "" when none */
void lw_api_call_close(struct lw_call *c); /* stops it; the handle is dead. Calls left open by a
                                              task are closed when it ends. */

/* Programs of run: whom calls to servers trust, those begun afterwards. A PEM file of authorities,
 * "" for the system's; insecure 1: no certificate is looked at. LW_OK, LW_IO (the file can't be
 * used, see lw_api_error), LW_MISUSE. */
int lw_api_http_trust(const char *ca_file, size_t n, int insecure);
/* The same for authorities in memory. */
int lw_api_http_trust_text(const char *pem, size_t n);

/* -- JSON -- */
struct lw_doc *lw_api_doc_parse(const char *p, size_t n); /* copies p; never NULL */
const char *lw_api_doc_error(struct lw_doc *d);           /* NULL when it is JSON */
double lw_api_doc_error_offset(struct lw_doc *d);
const lw_json_node *lw_api_doc_nodes(struct lw_doc *d);
const char *lw_api_doc_text(struct lw_doc *d);
void lw_api_doc_unref(struct lw_doc *d);
size_t lw_api_json_escaped_size(const char *p, size_t n);
size_t lw_api_json_escape(char *out, const char *p, size_t n);
size_t lw_api_json_number(char *out, double v); /* out: 32 bytes; 0 for NaN and infinities */

/* JSON text as Python's json.dumps(json.loads(text), indent=4, sort_keys=sort_keys) prints it: what
 * signatures are made over. Span valid until the next call. LW_PROTOCOL: not JSON; LW_LIMIT: longer
 * than 64 MB. */
int lw_api_canon(const char *p, size_t n, int sort_keys, lw_span *out);

/* -- routes: what a script offers -- */
enum {
  LW_ROUTE_HANDLER, /* a task answers: the job number names the handler */
  LW_ROUTE_WORK,    /* a signed envelope; C does all that the script left out */
  LW_ROUTE_FORWARD, /* passed to the model server unsigned, in C */
};
struct lw_router *lw_api_router_new(void); /* belongs to the VM */
/* Names for numbers: max_sessions, max_perf, start_job and benchmark_job (as in lw_api_task_job,
 * run when worker/startup says so). For text: model_server_url, model_log_file,
 * model_healthcheck_url, benchmark_route (its path). LW_MISUSE: no such name; LW_PROTOCOL: bad
 * value (see lw_api_error). */
int lw_api_router_number(struct lw_router *r, const char *name, double value);
int lw_api_router_text(struct lw_router *r, const char *name, const char *p, size_t n);
enum {
  LW_LOG_MODEL_LOADED,
  LW_LOG_MODEL_ERROR,
  LW_LOG_INFO_LINE,
};
/* A substring to look for in the model's log. LW_PROTOCOL: empty, or more than a line. */
int lw_api_router_marker(struct lw_router *r, int kind, const char *p, size_t n);
/* NULL when method and path are taken or bad (see lw_api_error). GET routes answer HEAD too. */
struct lw_route *lw_api_route_add(struct lw_router *r, int kind, const char *method,
                                  size_t method_n, const char *path, size_t path_n, int job);
/* Numbers: parallel, payload_hook, response_hook, bare (0 or 1), max_queue_time, connect,
 * first_byte, idle, total, workload (a constant, when no hook counts it), drain_on_disconnect.
 * Text: endpoint (path at the model). */
int lw_api_route_number(struct lw_route *r, const char *name, double value);
int lw_api_route_text(struct lw_route *r, const char *name, const char *p, size_t n);
/* Where a route's requests go; empty before all routes are published. Valid for the router's life.
 */
void lw_api_route_url(struct lw_route *r, lw_span *out);
/* The model server's URL that the operator gave (--model-url); empty: the script's own counts. */
void lw_api_model_url(lw_span *out);
/* A file of the script was read; p NULL: it was looked for and can't be. While a script loads, the
 * digest of all of them tells whether it is the one measured. */
void lw_api_script_file(const char *path, size_t path_n, const char *p, size_t n);
/* While a benchmark runs: how far it is, or what holds it up. */
void lw_api_measuring(const char *p, size_t n);
/* serve: these routes are this script's worker. LW_MISUSE when called twice. */
int lw_api_router_publish(struct lw_router *r);
/* run: listens (port 0: any); *port_out gets the port. LW_OK, or LW_IO (see lw_api_error). */
int lw_api_router_listen(struct lw_router *r, const char *host, size_t n, int port, int *port_out);
const char *lw_api_error(void); /* what the last failing function of this group says */

/* -- signing, for a local autoscaler -- */
struct lw_signer *lw_api_signer_new(void); /* a new 2048-bit key; NULL on failure; release it */
void lw_api_signer_free(struct lw_signer *s);
/* Both: span valid until the next call for s. LW_OK or LW_IO. */
int lw_api_signer_public_pem(struct lw_signer *s, lw_span *out);
int lw_api_signer_sign(struct lw_signer *s, const char *p, size_t n, lw_span *out);

/* -- odds and ends -- */
enum {
  LW_LEVEL_DEBUG,
  LW_LEVEL_INFO,
  LW_LEVEL_WARN,
  LW_LEVEL_ERROR
};
void lw_api_log(int level, const char *p, size_t n);
int lw_api_log_enabled(int level);
double lw_api_now(void);                 /* monotonic */
double lw_api_wall(void);                /* since the epoch */
void lw_api_random(char *out, size_t n); /* from the system's generator */
double lw_api_count_tokens(const char *p, size_t n);
int lw_api_base64_encode(const char *p, size_t n, char *out, size_t out_size); /* length or -1 */
int lw_api_base64_decode(const char *p, size_t n, char *out, size_t out_size); /* length or -1 */
void lw_api_exit(int status); /* run: ends the program after this turn of the loop */
/* run: a text carried in the binary, such as "@template/image.lua". LW_EOF when there is none. */
int lw_api_embedded(const char *name, lw_span *out);
/* run: makes a directory and those above it. LW_OK also when it is there, or LW_IO (see
 * lw_api_error). */
int lw_api_make_directory(const char *path);
/* run: what is in a directory, in no order, hidden names left out: each name behind a kind ('d' a
 * directory, 'f' all else) and before a NUL byte. Span valid until the next call. LW_OK, or LW_IO
 * (see lw_api_error). */
int lw_api_directory(const char *path, size_t n, lw_span *out);
/* What opening or reading the file might wait for, and Lua with it: "a directory", "a pipe", "a
 * socket", "a device". NULL: an ordinary file, /dev/null, or nothing that can be looked at. */
const char *lw_api_path_hazard(const char *path);
/* 1: standard output is a terminal. */
int lw_api_stdout_is_terminal(void);
/* cdef: end */
#pragma GCC visibility pop
