/* SPDX-License-Identifier: MIT
 * What Lua may call (see api.h): adapters of a few lines over the rooms that do the work. Called
 * only through the FFI, from a running task or while a script loads. Owns nothing but the last
 * error text. */
#include "script/api.h"

#include <dirent.h>
#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "exchange/trust.h"
#include "floor/log.h"
#include "script/budget.h"
#include "script/call.h"
#include "script/made.h"
#include "script/sources.h"
#include "script/task.h"
#include "wire/canon.h"
#include "wire/doc.h"
#include "worker/auth.h"
#include "worker/benchmark.h"
#include "worker/complaint.h"
#include "worker/metrics.h"
#include "worker/session.h"
#include "worker/startup.h"
#include "worker/tokens.h"
#include "worker/work.h"

static char last_error[256];

static lw_span span(const char *p, size_t n) { return (lw_span){p, n}; }
static lw_task *task(void) { return lw_task_current(); }
static lw_vm *this_vm(void) { return task() ? task()->vm : lw_vm_loading(); }

/* -- the running task -- */

struct lw_request *lw_api_task_request(void) {
  return task() ? task()->request : NULL;
}
int lw_api_task_job(void) { return task() ? task()->job : 0; }

int lw_api_task_spawn(int job) {
  enum {
    TASKS_MAX = 100000
  };
  lw_vm *vm = this_vm();
  if (vm->closing) return LW_CANCELLED;
  if (vm->task_count >= TASKS_MAX) return LW_LIMIT;
  lw_task_start(vm, NULL, job);
  return LW_OK;
}

int lw_api_task_spawn_child(int job) {
  return task() && lw_task_start_child(task(), job) ? LW_OK : LW_MISUSE;
}

void lw_api_job_done(double result) {
  if (task()) lw_task_set_result(task(), result, NULL);
}
void lw_api_job_failed(const char *p, size_t n) {
  char *text = lw_strdup_n(p, n);
  if (task()) lw_task_set_result(task(), 0, text);
  free(text);
}

int lw_api_task_sleep(double seconds) {
  return task() ? (int)lw_task_sleep(task(), seconds) : LW_MISUSE;
}
int lw_api_task_wait_cancel(void) {
  if (!task()) return LW_MISUSE;
  return task()->cancelled ? LW_CANCELLED : LW_AGAIN;
}
int lw_api_task_wait_notify(int key, double seconds) {
  return task() ? (int)lw_task_wait_notify(task(), key, seconds) : LW_MISUSE;
}
void lw_api_task_notify(int key) { lw_task_notify(this_vm(), key); }

int lw_api_stopped(void) { return (int)lw_budget_stopped(); }
void lw_api_stop_text(lw_span *text, lw_span *traceback) { lw_budget_text(text, traceback); }
void lw_api_stop_forget(void) { lw_budget_restart(); }

/* -- a client's request -- */

void lw_api_request_text(struct lw_request *r, int what, lw_span *out) {
  lw_work *w = lw_work_of(r);
  *out = span("", 0);
  switch (what) {
    case LW_REQUEST_METHOD:
      *out = r->head->method_text;
      break;
    case LW_REQUEST_PATH:
      *out = r->head->path;
      break;
    case LW_REQUEST_QUERY:
      *out = r->head->query;
      break;
    case LW_REQUEST_BODY:
      if (r->body) *out = span(r->body->p, r->body->n);
      break;
    case LW_REQUEST_ID:
      *out = lw_span_of(r->id);
      break;
    case LW_REQUEST_REMOTE_ADDR:
      *out = lw_span_of(r->remote);
      break;
    case LW_REQUEST_PAYLOAD:
      if (r->body) *out = w->payload;
      break;
    case LW_REQUEST_SESSION:
      if (w->session) *out = lw_span_of(lw_session_id(w->session));
      break;
    default:
      break;
  }
  if (!out->p) *out = span("", 0);
}

size_t lw_api_request_header_count(struct lw_request *r) { return r->head->headers.count; }

static void header_at(const lw_headers *h, size_t i, lw_span *name, lw_span *value) {
  *name = i < h->count ? h->items[i].name : span("", 0);
  *value = i < h->count ? h->items[i].value : span("", 0);
}
void lw_api_request_header_at(struct lw_request *r, size_t i, lw_span *name, lw_span *value) {
  header_at(&r->head->headers, i, name, value);
}
int lw_api_request_header(struct lw_request *r, const char *name, size_t n, lw_span *value) {
  return lw_headers_get(&r->head->headers, span(name, n), value);
}

struct lw_doc *lw_api_request_doc(struct lw_request *r, uint32_t *payload_root) {
  lw_work *w = lw_work_of(r);
  if (!w->doc) return NULL;
  *payload_root = w->payload_root;
  return lw_doc_ref(w->doc);
}

int lw_api_request_invalid(struct lw_request *r, const char *json, size_t n) {
  return lw_work_invalid(lw_work_of(r), span(json, n));
}
void lw_api_request_set_model_body(struct lw_request *r, const char *p, size_t n) {
  lw_work_set_model_body(lw_work_of(r), span(p, n));
}
void lw_api_request_add_model_body(struct lw_request *r, const char *p, size_t n) {
  lw_work_add_model_body(lw_work_of(r), span(p, n));
}
int lw_api_request_admit(struct lw_request *r, double workload) {
  return lw_work_admit(lw_work_of(r), workload);
}
void lw_api_request_forward(struct lw_request *r) { lw_work_forward(lw_work_of(r)); }

struct lw_call *lw_api_request_call(struct lw_request *r) {
  lw_work *w = lw_work_of(r);
  lw_work_keep_little(w);
  return lw_call_new(task(), lw_work_call(w, &task()->wake), w);
}

void lw_api_request_fail(struct lw_request *r, int status, const char *source, const char *text,
                         size_t n, const char *why, size_t why_n) {
  static const char *const sources[] = {"script", "model", "runtime"};
  const char *known = sources[0];
  for (size_t i = 0; i < LW_ARRAY_SIZE(sources); i++) {
    if (strcmp(source, sources[i]) == 0) known = sources[i];
  }
  char *copy = lw_strdup_n(text, n);
  lw_work_fail(lw_work_of(r), status ? status : 500, known, copy, span(why, why_n));
  free(copy);
}

void lw_api_hook_failed(int what, const char *route, const char *hook, const char *at,
                        const char *request_id, const char *text, size_t n, const char *traceback,
                        size_t traceback_n) {
  static const char *const messages[] = {
      [LW_FAILED_REQUEST] = "a hook of the worker script failed",
      [LW_FAILED_WORKLOAD] = "a workload was not counted, 100 is used",
      [LW_FAILED_JOB] = "a job of the worker script failed",
  };
  struct lw_request *r = lw_api_task_request();
  lw_metrics_note_hook(r ? lw_work_of(r)->route->figures : NULL, hook);
  lw_complain(&(lw_fold_line){
      .level = what == LW_FAILED_WORKLOAD ? LW_LOG_WARN : LW_LOG_ERROR,
      .message = messages[what >= 0 && what <= LW_FAILED_JOB ? what : LW_FAILED_REQUEST],
      .route = lw_span_of(route),
      .hook = lw_span_of(hook),
      .at = lw_span_of(at),
      .error = span(text, n),
      .request_id = lw_span_of(request_id),
      .traceback = span(traceback, traceback_n)});
}

/* -- the answer to a client -- */

int lw_api_response_start(struct lw_request *r, int status) {
  if (lw_request_is_over(r)) return LW_CANCELLED;
  if (r->state != LW_REQUEST_WAITING || r->status || status < 200 || status > 599) return LW_MISUSE;
  r->status = status;
  return LW_OK;
}

int lw_api_response_header(struct lw_request *r, const char *name, size_t name_n, const char *value,
                           size_t value_n) {
  if (r->state != LW_REQUEST_WAITING) return LW_MISUSE;
  if (!lw_header_name_ok(span(name, name_n)) || !lw_header_value_ok(span(value, value_n))) {
    return LW_PROTOCOL;
  }
  lw_headers_add(&r->answer, span(name, name_n), span(value, value_n));
  return LW_OK;
}

int lw_api_response_end(struct lw_request *r, const char *p, size_t n) {
  if (lw_request_is_over(r)) return LW_CANCELLED;
  if (r->state != LW_REQUEST_WAITING || !r->status) return LW_MISUSE;
  lw_response_head(r, r->status, n);
  lw_response_body(r, p, n);
  lw_response_end(r);
  return LW_OK;
}

static int begin_stream(struct lw_request *r) {
  if (lw_request_is_over(r)) return LW_CANCELLED;
  if (r->state == LW_REQUEST_ANSWERING) return LW_OK;
  if (!r->status) return LW_MISUSE;
  lw_response_head(r, r->status, LW_LENGTH_UNKNOWN);
  return LW_OK;
}

int lw_api_response_write(struct lw_request *r, const char *p, size_t n) {
  int code = begin_stream(r);
  if (code != LW_OK) return code;
  if (lw_response_is_full(r)) {
    r->writer = &task()->wake;
    return LW_AGAIN;
  }
  lw_response_body(r, p, n);
  return LW_OK;
}

int lw_api_response_finish(struct lw_request *r) {
  int code = begin_stream(r);
  if (code == LW_OK) lw_response_end(r);
  return code;
}

int lw_api_response_forward(struct lw_request *r, struct lw_call *call) {
  if (r->state != LW_REQUEST_WAITING) return lw_request_is_over(r) ? LW_CANCELLED : LW_MISUSE;
  if (!call->upstream) return LW_CANCELLED;
  lw_call_start(call);
  r->status = 0;
  lw_work_forward_answer(lw_work_of(r), lw_call_take(call));
  return LW_OK;
}

int lw_api_response_started(struct lw_request *r) { return r->state > LW_REQUEST_WAITING; }

/* -- a call to an HTTP server -- */

struct lw_call *lw_api_call_open(const char *method, size_t method_n, const char *url,
                                 size_t url_n) {
  lw_upstream *u = lw_upstream_open(span(method, method_n), span(url, url_n), &task()->wake);
  return lw_call_new(task(), u, NULL);
}

void lw_api_call_header(struct lw_call *c, const char *name, size_t name_n, const char *value,
                        size_t value_n) {
  if (!c->upstream ||
      lw_upstream_header(c->upstream, span(name, name_n), span(value, value_n)) == LW_OK) {
    return;
  }
  lw_call_set_error(c, "a header field of the call is not legal");
}

void lw_api_call_body(struct lw_call *c, const char *p, size_t n) {
  if (!c->upstream) return;
  lw_body *body = lw_body_new();
  lw_body_append(body, p, n);
  lw_upstream_body(c->upstream, body, span(body->p, body->n));
  lw_body_unref(body);
}

void lw_api_call_timeouts(struct lw_call *c, double connect, double first_byte, double idle,
                          double total) {
  c->timeouts =
      (lw_upstream_timeouts){lw_ms(connect), lw_ms(first_byte), lw_ms(idle), lw_ms(total)};
}

void lw_api_call_of_model(struct lw_call *c) {
  if (c->upstream) lw_upstream_set_role(c->upstream, "model");
}

int lw_api_call_head(struct lw_call *c) { return lw_call_head(c); }
int lw_api_call_status(struct lw_call *c) {
  return c->upstream ? lw_upstream_status(c->upstream) : 0;
}

static const lw_headers *call_headers(const struct lw_call *c) {
  static const lw_headers none;
  return c->upstream ? lw_upstream_headers(c->upstream) : &none;
}
size_t lw_api_call_header_count(struct lw_call *c) { return call_headers(c)->count; }
void lw_api_call_header_at(struct lw_call *c, size_t i, lw_span *name, lw_span *value) {
  header_at(call_headers(c), i, name, value);
}
int lw_api_call_header_get(struct lw_call *c, const char *name, size_t n, lw_span *value) {
  return lw_headers_get(call_headers(c), span(name, n), value);
}

int lw_api_call_body_all(struct lw_call *c, size_t max, lw_span *out) {
  return lw_call_body_all(c, max, out);
}
const char *lw_api_call_error(struct lw_call *c) { return c->error ? c->error : ""; }
void lw_api_call_close(struct lw_call *c) { lw_call_free(c); }

/* -- JSON -- */

struct lw_doc *lw_api_doc_parse(const char *p, size_t n) {
  return lw_doc_parse_copy(p, n);
}
const char *lw_api_doc_error(struct lw_doc *d) { return d->json.error; }
double lw_api_doc_error_offset(struct lw_doc *d) { return (double)d->json.error_offset; }
const lw_json_node *lw_api_doc_nodes(struct lw_doc *d) { return d->json.nodes; }
const char *lw_api_doc_text(struct lw_doc *d) { return d->json.text; }
void lw_api_doc_unref(struct lw_doc *d) { lw_doc_unref(d); }
size_t lw_api_json_escaped_size(const char *p, size_t n) {
  return lw_json_escaped_size(span(p, n));
}
size_t lw_api_json_escape(char *out, const char *p, size_t n) {
  return lw_json_escape(out, span(p, n));
}
size_t lw_api_json_number(char *out, double v) { return lw_json_number_text(out, v); }

/* -- routes -- */

static int fail_with(lw_code code, const char *text) {
  snprintf(last_error, sizeof last_error, "%s", text);
  return code;
}

static int option_result(lw_code code, const char *name) {
  if (code == LW_OK) return LW_OK;
  snprintf(last_error, sizeof last_error, "%s: %s", name,
           code == LW_MISUSE ? "no such option" : "value out of range");
  return code;
}

struct lw_router *lw_api_router_new(void) {
  return lw_made_router(this_vm());
}
int lw_api_router_number(struct lw_router *r, const char *name, double value) {
  return option_result(lw_router_set_number(r, name, value), name);
}
int lw_api_router_text(struct lw_router *r, const char *name, const char *p, size_t n) {
  return option_result(lw_router_set_text(r, name, span(p, n)), name);
}
int lw_api_route_number(struct lw_route *r, const char *name, double value) {
  return option_result(lw_route_set_number(r, name, value), name);
}
int lw_api_route_text(struct lw_route *r, const char *name, const char *p, size_t n) {
  return option_result(lw_route_set_text(r, name, span(p, n)), name);
}

struct lw_route *lw_api_route_add(struct lw_router *r, int kind, const char *method,
                                  size_t method_n, const char *path, size_t path_n, int job) {
  const char *why = NULL;
  lw_route *route =
      lw_router_add(r, (lw_route_kind)kind, span(method, method_n), span(path, path_n), job, &why);
  if (!route) fail_with(LW_PROTOCOL, why);
  return route;
}

void lw_api_route_url(struct lw_route *r, lw_span *out) {
  *out = r->model_url ? lw_span_of(r->model_url) : span("", 0);
}
void lw_api_model_url(lw_span *out) {
  const char *url = lw_service_get()->model_url;
  *out = url ? lw_span_of(url) : span("", 0);
}

int lw_api_router_marker(struct lw_router *r, int kind, const char *p, size_t n) {
  if (lw_router_add_marker(r, (lw_marker_kind)kind, span(p, n)) == LW_OK) return LW_OK;
  return fail_with(LW_PROTOCOL, "is empty or more than one line");
}

void lw_api_script_file(const char *path, size_t path_n, const char *p, size_t n) {
  lw_vm *vm = lw_vm_loading();
  lw_span text = span(p, n);
  if (vm && p) vm->digest = lw_benchmark_digest(vm->digest, text);
  lw_sources_note(span(path, path_n), p ? &text : NULL);
}

void lw_api_measuring(const char *p, size_t n) {
  char *text = lw_strdup_n(p, n);
  lw_startup_measuring(text);
  free(text);
}

int lw_api_router_publish(struct lw_router *r) {
  lw_vm *vm = this_vm();
  if (vm->mode != LW_VM_SERVE || vm->published) return LW_MISUSE;
  vm->published = r;
  return LW_OK;
}

int lw_api_router_listen(struct lw_router *r, const char *host, size_t n, int port, int *port_out) {
  char *name = lw_strdup_n(host, n);
  const char *why = NULL;
  lw_made_server *m =
      this_vm()->mode == LW_VM_RUN ? lw_made_listen(this_vm(), r, name, port, &why) : NULL;
  free(name);
  if (!m) return fail_with(LW_IO, why ? why : "only programs started by luaworker run may listen");
  *port_out = lw_server_port(m->server);
  return LW_OK;
}

int lw_api_http_trust(const char *ca_file, size_t n, int insecure) {
  if (this_vm()->mode == LW_VM_SERVE) return LW_MISUSE;
  char *file = lw_strdup_n(ca_file, n);
  char *why = lw_upstream_set_server_trust(n ? file : NULL, insecure != 0);
  int code = why ? fail_with(LW_IO, why) : LW_OK;
  free(file);
  free(why);
  return code;
}

int lw_api_http_trust_text(const char *pem, size_t n) {
  if (this_vm()->mode == LW_VM_SERVE) return LW_MISUSE;
  char *file = lw_trust_file_of(span(pem, n));
  if (!file) return fail_with(LW_IO, strerror(errno));
  int code = lw_api_http_trust(file, strlen(file), 0);
  free(file);
  return code;
}

const char *lw_api_error(void) { return last_error; }

/* -- signing -- */

static int give_text(char *text, lw_span *out) {
  static char *kept;
  free(kept);
  kept = text;
  *out = text ? lw_span_of(text) : span("", 0);
  return text ? LW_OK : LW_IO;
}

struct lw_signer *lw_api_signer_new(void) {
  return lw_signer_new(2048);
}
void lw_api_signer_free(struct lw_signer *s) { lw_signer_free(s); }
int lw_api_signer_public_pem(struct lw_signer *s, lw_span *out) {
  return give_text(lw_signer_public_pem(s), out);
}
int lw_api_signer_sign(struct lw_signer *s, const char *p, size_t n, lw_span *out) {
  return give_text(lw_signer_sign(s, span(p, n)), out);
}

int lw_api_canon(const char *p, size_t n, int sort_keys, lw_span *out) {
  char *text = NULL;
  lw_code code = lw_canon_text(span(p, n), sort_keys, 64u << 20, &text);
  give_text(text, out);
  return code;
}

/* -- odds and ends -- */

void lw_api_log(int level, const char *p, size_t n) {
  if (lw_log_enabled((lw_log_level)level))
    lw_log((lw_log_level)level, "%.*s", (int)LW_MIN(n, 65536), p);
}
int lw_api_log_enabled(int level) { return lw_log_enabled((lw_log_level)level); }
double lw_api_now(void) { return (double)lw_now_ns() / 1e9; }
double lw_api_wall(void) { return lw_wall_s(); }
void lw_api_random(char *out, size_t n) {
  for (size_t got = 0; got < n;) { /* not OpenSSL's: to set that up takes a fifth of a start */
    ssize_t more = getrandom(out + got, n - got, 0);
    if (more < 0 && errno != EINTR) lw_die("the system gives no random bytes");
    if (more > 0) got += (size_t)more;
  }
}
double lw_api_count_tokens(const char *p, size_t n) { return lw_tokens_count(span(p, n)); }

int lw_api_base64_encode(const char *p, size_t n, char *out, size_t out_size) {
  if (n > INT32_MAX / 2 || (n + 2) / 3 * 4 + 1 > out_size) return -1;
  return EVP_EncodeBlock((unsigned char *)out, (const unsigned char *)p, (int)n);
}

int lw_api_base64_decode(const char *p, size_t n, char *out, size_t out_size) {
  if (n % 4 || n > INT32_MAX || n / 4 * 3 > out_size) return -1;
  int size = EVP_DecodeBlock((unsigned char *)out, (const unsigned char *)p, (int)n);
  for (size_t i = n; size > 0 && i > n - LW_MIN(n, 2) && p[i - 1] == '='; i--) size--;
  return size;
}

void lw_api_exit(int status) {
  lw_vm *vm = this_vm();
  if (vm->on_exit) vm->on_exit(vm, status);
}

int lw_api_embedded(const char *name, lw_span *out) {
  size_t n = 0;
  const char *text = lw_embedded_find(name, &n);
  *out = span(text ? text : "", n);
  return text ? LW_OK : LW_EOF;
}

int lw_api_make_directory(const char *path) {
  char *name = lw_strdup_n(path, strlen(path));
  int failed = 0;
  for (char *p = name + 1; !failed && p[-1]; p++) {
    if (*p && *p != '/') continue;
    char end = *p;
    *p = 0;
    if (mkdir(name, 0777) != 0 && errno != EEXIST) failed = errno;
    *p = end;
  }
  struct stat st;
  if (!failed && (stat(name, &st) != 0 || !S_ISDIR(st.st_mode))) failed = ENOTDIR;
  free(name);
  return failed ? fail_with(LW_IO, strerror(failed)) : LW_OK;
}

static void add_entry(lw_body *to, const char *directory, const char *name) {
  struct stat s;
  char *path = lw_printf_dup("%s/%s", directory, name);
  bool is_directory = stat(path, &s) == 0 && S_ISDIR(s.st_mode);
  free(path);
  lw_body_append(to, is_directory ? "d" : "f", 1);
  lw_body_append(to, name, strlen(name) + 1);
}

int lw_api_directory(const char *path, size_t n, lw_span *out) {
  static lw_body *listed;
  *out = span("", 0);
  char *name = lw_strdup_n(path, n);
  DIR *directory = opendir(name);
  int os_errno = errno;
  if (directory) {
    lw_body_unref(listed);
    listed = lw_body_new();
    struct dirent *entry;
    while ((entry = readdir(directory)) != NULL) {
      if (entry->d_name[0] != '.') add_entry(listed, name, entry->d_name);
    }
    closedir(directory);
    *out = span(listed->p, listed->n);
  }
  free(name);
  return directory ? LW_OK : fail_with(LW_IO, strerror(os_errno));
}

const char *lw_api_path_hazard(const char *path) {
  struct stat st, null;
  if (stat(path, &st) != 0 || S_ISREG(st.st_mode)) return NULL;
  if (S_ISDIR(st.st_mode)) return "a directory";
  if (S_ISFIFO(st.st_mode)) return "a pipe";
  if (S_ISSOCK(st.st_mode)) return "a socket";
  bool is_null = stat("/dev/null", &null) == 0 && st.st_rdev == null.st_rdev;
  return S_ISCHR(st.st_mode) && is_null ? NULL : "a device";
}

int lw_api_stdout_is_terminal(void) { return isatty(STDOUT_FILENO); }
