/* SPDX-License-Identifier: MIT
 * The walk of one request (see work.h). Called by worker/service when a request is complete or its
 * client left, by script/api for what scripts ask, by the queue and the pipe. Owns each lw_work
 * from begin to settle, and through it the envelope, the model call and the record. The envelope's
 * own checks are in worker/envelope. */
#include "worker/work.h"

#include <stdio.h>
#include <stdlib.h>

#include "floor/log.h"
#include "wire/json.h"
#include "worker/envelope.h"
#include "worker/metrics.h"
#include "worker/service.h"
#include "worker/session.h"
#include "worker/startup.h"

static void settle_when_over(lw_work *w);

/* -- the end -- */

static lw_outcome outcome_of(const lw_work *w) {
  if (w->request->state == LW_REQUEST_GONE || w->dropped) return LW_CANCELLED_OUTCOME;
  if (w->admission == LW_ADMIT_REFUSED) return LW_REJECTED;
  bool error = w->failed || w->model_status >= 500 || w->request->state == LW_REQUEST_CUT;
  return error ? LW_ERROR : LW_SUCCESS;
}

static void close_account(lw_work *w) {
  if (w->counted && w->record.outcome == LW_RUNNING) {
    lw_account_end(lw_service_get()->account, &w->record, outcome_of(w));
  }
}

static void log_end(const lw_work *w) {
  char answered[48];
  lw_request_note note = {.route = w->route->path,
                          .workload = -1,
                          .queue_ms = -1,
                          .source = w->source,
                          .error = w->error};
  if (!w->source && w->model_status >= 500 && w->request->state != LW_REQUEST_GONE) {
    note.source = "model";
    snprintf(answered, sizeof answered, "the model answered with status %d", w->model_status);
    note.error = answered;
  }
  if (w->counted) {
    note.outcome = lw_outcome_name(w->record.outcome);
    note.workload = w->record.workload;
    if (w->record.working_at > 0) {
      note.queue_ms = (w->record.working_at - w->record.received_at) * 1000;
    }
  }
  lw_request_log(w->request, &note);
  lw_metrics_note(w);
}

static void note_model_end(lw_work *w) {
  if (w->model_begun_ns && !w->model_ended_ns) w->model_ended_ns = lw_now_ns();
}

static void stop_model(lw_work *w) {
  note_model_end(w);
  lw_pipe_stop(&w->pipe);
  if (w->upstream) lw_upstream_close(w->upstream);
  w->upstream = NULL;
}

static void drop_envelope(lw_work *w) {
  lw_doc_unref(w->doc);
  w->doc = NULL;
}

void lw_work_keep_little(lw_work *w) {
  drop_envelope(w);
  size_t offset = w->payload.n ? (size_t)(w->payload.p - w->request->body->p) : 0;
  lw_body_trim(w->request->body);
  if (w->payload.n) w->payload.p = w->request->body->p + offset;
}

static void settle_when_over(lw_work *w) {
  if (!lw_request_is_over(w->request) || w->task || !w->pipe.stopped) return;
  stop_model(w);
  lw_queue_leave(lw_service_get()->queue, &w->entry);
  close_account(w);
  log_end(w);
  lw_session_leave(w);
  lw_timer_fini(&w->queue_deadline);
  lw_wake_cancel(&w->wake);
  drop_envelope(w);
  lw_body_unref(w->model_body);
  free(w->error);
  lw_router *router = w->route->router;
  lw_request *r = w->request;
  free(w);
  lw_router_unref(router);
  lw_request_release(r);
}

static void count_in(lw_work *w, double workload) {
  w->counted = true;
  lw_account_receive(lw_service_get()->account, &w->record,
                     w->session || w->dropped ? LW_RECORD_IN_SESSION : LW_RECORD_REQUEST, w->reqnum,
                     w->request_idx, workload);
}

static void note_failure(lw_work *w, const char *source, lw_span text) {
  w->failed = true;
  w->source = source;
  if (!w->error) w->error = lw_span_dup(text);
}

/* "model http://10.0.0.7:5001 refused the connection": where it stands is nobody's business. */
static void answer_model_failure(lw_work *w, int status, const char *text) {
  lw_span rest = lw_span_of(text), word;
  bool has_address = lw_span_next(&rest, ' ', &word) && lw_span_eq(word, LW_SPAN("model")) &&
                     lw_span_next(&rest, ' ', &word) && memmem(word.p, word.n, ":/", 2);
  char *told = has_address ? lw_printf_dup("the model %.*s", (int)rest.n, rest.p) : lw_strdup(text);
  lw_response_error(w->request, status, "model", told);
  free(told);
}

void lw_work_fail(lw_work *w, int status, const char *source, const char *text, lw_span why) {
  note_failure(w, source, why.n ? why : lw_span_of(text));
  if (w->route->kind == LW_KIND_WORK && !w->counted) count_in(w, w->cost);
  stop_model(w);
  if (w->request->state == LW_REQUEST_WAITING) lw_headers_clear(&w->request->answer);
  if (strcmp(source, "model") == 0) {
    answer_model_failure(w, status, text);
  } else {
    lw_response_error(w->request, status, source, text);
  }
  settle_when_over(w);
}

void lw_work_task_done(lw_work *w) {
  w->task = NULL;
  bool passing = !w->pipe.stopped;
  if (!lw_request_is_over(w->request) && !passing) {
    lw_work_fail(w, 500, "script", "the worker script gave no answer", (lw_span){0, 0});
    return;
  }
  settle_when_over(w);
}

static void cancel_task(lw_work *w) {
  if (w->task) w->route->router->ops->cancel(w->task);
}

/* Gives up the model and the place in the queue. */
static void stop_work(lw_work *w) {
  stop_model(w);
  close_account(w);
  lw_queue_leave(lw_service_get()->queue, &w->entry);
}

/* Its client left. With on_disconnect = "drain" a call to the model that has begun goes on to its
 * end and holds its place and its load until then; all else stops now. */
void lw_work_on_gone(lw_request *r) {
  lw_work *w = r->work;
  cancel_task(w);
  if (w->upstream && w->route->drain_on_disconnect > 0) {
    lw_loop_wake(&w->pipe.wake);
  } else {
    stop_work(w);
  }
  settle_when_over(w);
}

void lw_work_on_cut(lw_request *r) {
  lw_work *w = r->work;
  cancel_task(w);
  stop_work(w);
  settle_when_over(w);
}

/* One that has its answer goes on: only its script may still be at work, for itself. */
void lw_work_drop(lw_work *w) {
  lw_request_state state = w->request->state;
  if (state == LW_REQUEST_ENDED || state == LW_REQUEST_CUT) return;
  w->dropped = true;
  cancel_task(w);
  if (state == LW_REQUEST_WAITING) lw_headers_clear(&w->request->answer);
  lw_response_error(w->request, 410, NULL, "the session was closed");
  stop_work(w);
  settle_when_over(w);
}

bool lw_work_drain(lw_work *w, lw_upstream *u) {
  if (w->request->state != LW_REQUEST_GONE || w->route->drain_on_disconnect <= 0) return false;
  w->upstream = u;
  lw_upstream_set_wake(u, &w->pipe.wake);
  lw_pipe_start(&w->pipe, u, w->request);
  return true;
}

/* -- the call to the model -- */

int lw_work_status_for(lw_code failure) { return failure == LW_TIMEOUT ? 504 : 502; }

void lw_work_note_model(lw_work *w, int status, lw_code failure, const char *error) {
  if (status) w->model_status = status;
  if (failure != LW_OK && failure != LW_CANCELLED) note_failure(w, "model", lw_span_of(error));
  if (failure == LW_IO) lw_startup_model_unreachable();
}

void lw_work_model_done(lw_work *w) {
  note_model_end(w);
  lw_queue_leave(lw_service_get()->queue, &w->entry);
}

static void on_piped(lw_pipe *p, lw_code result) {
  lw_work *w = LW_CONTAINER_OF(p, lw_work, pipe);
  if (p->head_sent) w->model_status = lw_upstream_status(w->upstream);
  if (result != LW_OK) {
    char text[400];
    snprintf(text, sizeof text, "%s", lw_upstream_error(w->upstream));
    if (result == LW_IO) lw_startup_model_unreachable();
    lw_work_fail(w, lw_work_status_for(result), "model", text, (lw_span){0, 0});
    return;
  }
  stop_model(w);
  settle_when_over(w);
}

static void begin_call(lw_work *w) {
  if (!w->model_begun_ns) w->model_begun_ns = lw_now_ns();
  if (w->counted && w->record.outcome == LW_RUNNING) {
    lw_account_working(lw_service_get()->account, &w->record);
  }
}

/* Fields from a parsed head and our own are legal already. */
static void send_field(lw_upstream *u, lw_span name, lw_span value) {
  if (lw_upstream_header(u, name, value) != LW_OK) lw_debug("a field was not sent to the model");
}

lw_upstream *lw_work_call(lw_work *w, lw_wake *wake) {
  lw_route *route = w->route;
  lw_upstream *u = lw_upstream_open(LW_SPAN("POST"), lw_span_of(route->model_url), wake);
  lw_upstream_set_role(u, "model");
  lw_upstream_timeouts timeouts = lw_route_timeouts(route);
  lw_upstream_set_timeouts(u, &timeouts);
  send_field(u, LW_SPAN("Content-Type"), LW_SPAN("application/json"));
  send_field(u, LW_SPAN("X-Request-Id"), lw_span_of(w->request->id));
  if (w->model_body) {
    lw_upstream_body(u, w->model_body, (lw_span){w->model_body->p, w->model_body->n});
    lw_body_unref(w->model_body); /* the upstream holds it until it is sent */
    w->model_body = NULL;
  } else {
    lw_upstream_body(u, w->request->body, w->payload);
  }
  begin_call(w);
  return u;
}

static bool has_model(lw_work *w) {
  if (w->route->model_url) return true;
  lw_work_fail(w, 500, "script", "the worker has no model_server_url", (lw_span){0, 0});
  return false;
}

/* The bytes to send are referenced by the upstream; nobody reads the rest of the request again. */
static void drop_bodies(lw_work *w) {
  drop_envelope(w);
  lw_request_drop_body(w->request);
}

void lw_work_forward(lw_work *w) {
  if (w->request->state != LW_REQUEST_WAITING || !has_model(w)) return;
  w->upstream = lw_work_call(w, &w->pipe.wake);
  drop_bodies(w);
  lw_pipe_start(&w->pipe, w->upstream, w->request);
  lw_upstream_start(w->upstream);
}

void lw_work_forward_answer(lw_work *w, lw_upstream *u) {
  if (w->request->state != LW_REQUEST_WAITING) {
    lw_upstream_close(u);
    return;
  }
  w->upstream = u;
  lw_upstream_set_wake(u, &w->pipe.wake);
  lw_pipe_start(&w->pipe, u, w->request);
}

/* A route that passes requests on unsigned: end-to-end fields, query and body go with it. */
static void forward_plain(lw_work *w) {
  lw_request *r = w->request;
  if (!has_model(w)) return;
  const lw_h1_head *head = r->head;
  char *url = lw_printf_dup("%s%s%.*s", w->route->model_url, head->query.n ? "?" : "",
                            (int)head->query.n, head->query.n ? head->query.p : "");
  lw_upstream *u = w->upstream =
      lw_upstream_open(head->method_text, lw_span_of(url), &w->pipe.wake);
  free(url);
  lw_upstream_set_role(u, "model");
  lw_upstream_timeouts timeouts = lw_route_timeouts(w->route);
  lw_upstream_set_timeouts(u, &timeouts);
  send_field(u, LW_SPAN("X-Request-Id"), lw_span_of(r->id));
  for (size_t i = 0; i < head->headers.count; i++) {
    const lw_header *h = &head->headers.items[i];
    if (lw_header_is_hop_by_hop(&head->headers, h->name)) continue;
    if (!lw_span_ieq(h->name, LW_SPAN("x-request-id"))) send_field(u, h->name, h->value);
  }
  if (r->body->n) lw_upstream_body(u, r->body, (lw_span){r->body->p, r->body->n});
  lw_pipe_start(&w->pipe, u, r);
  lw_upstream_start(u);
}

/* -- admission -- */

static void refuse_busy(lw_work *w, double estimate_s, const char *text) {
  char retry[16];
  double limit = LW_MAX(w->route->max_queue_time, 0);
  snprintf(retry, sizeof retry, "%u", lw_queue_retry_after_s(estimate_s, limit));
  w->admission = LW_ADMIT_REFUSED;
  close_account(w);
  lw_headers_add(&w->request->answer, LW_SPAN("Retry-After"), lw_span_of(retry));
  lw_response_error(w->request, 429, NULL, text);
}

static void begin_hook_or_forward(lw_work *w) {
  if (w->route->response_hook > 0) {
    w->task = w->route->router->ops->start(w->route->router, w->request, w->route->job);
  } else {
    lw_work_forward(w);
  }
}

static void run_turn(lw_wake *wake) {
  lw_work *w = LW_CONTAINER_OF(wake, lw_work, wake);
  if (lw_request_is_over(w->request)) return;
  if (w->turn) {
    w->admission = LW_ADMIT_GRANTED;
    lw_timer_stop(&w->queue_deadline);
  } else if (w->expired && w->admission == LW_ADMIT_QUEUED) {
    lw_queue_leave(lw_service_get()->queue, &w->entry);
    refuse_busy(w, 0, "the request waited longer than max_queue_time");
  } else {
    return;
  }
  if (w->task) {
    w->route->router->ops->wake(w->task);
  } else if (w->admission == LW_ADMIT_GRANTED) {
    begin_hook_or_forward(w);
  } else {
    settle_when_over(w);
  }
}

void lw_work_on_turn(lw_queue_entry *entry) {
  lw_work *w = LW_CONTAINER_OF(entry, lw_work, entry);
  w->turn = true;
  lw_loop_wake(&w->wake);
}

static void on_queue_deadline(lw_timer *t) {
  lw_work *w = LW_CONTAINER_OF(t, lw_work, queue_deadline);
  w->expired = true;
  lw_loop_wake(&w->wake);
}

static lw_code enter_queue(lw_work *w) {
  size_t bytes = w->request->body ? w->request->body->n : 0;
  lw_code code = lw_queue_enter(lw_service_get()->queue, &w->entry, bytes);
  if (code == LW_LIMIT) {
    refuse_busy(w, 0, "the queue is full");
    return LW_BUSY;
  }
  if (code == LW_OK) {
    w->admission = LW_ADMIT_GRANTED;
    return LW_OK;
  }
  w->admission = LW_ADMIT_QUEUED;
  if (w->route->max_queue_time >= 0) {
    lw_timer_start(&w->queue_deadline, lw_ms(w->route->max_queue_time));
  }
  return LW_AGAIN;
}

static lw_code ask_admission(lw_work *w, double workload) {
  lw_service *s = lw_service_get();
  double estimate = lw_queue_estimate_s(lw_account_wait_load(s->account), lw_startup_max_perf());
  count_in(w, workload);
  if (w->route->max_queue_time >= 0 && estimate > w->route->max_queue_time) {
    refuse_busy(w, estimate, "the worker is busy");
    return LW_BUSY;
  }
  if (w->route->parallel > 0) {
    w->admission = LW_ADMIT_GRANTED;
    return LW_OK;
  }
  return enter_queue(w);
}

lw_code lw_work_admit(lw_work *w, double workload) {
  bool refused = w->admission == LW_ADMIT_REFUSED && w->request->state == LW_REQUEST_ENDED;
  if (lw_request_is_over(w->request) && !refused) return LW_CANCELLED;
  switch (w->admission) {
    case LW_ADMIT_NOT_ASKED:
      return ask_admission(w, workload);
    case LW_ADMIT_QUEUED:
      return LW_AGAIN;
    case LW_ADMIT_GRANTED:
      return LW_OK;
    default:
      return LW_BUSY;
  }
}

void lw_work_set_model_body(lw_work *w, lw_span json) {
  lw_body_unref(w->model_body);
  w->model_body = lw_body_new();
  lw_work_add_model_body(w, json);
}

void lw_work_add_model_body(lw_work *w, lw_span json) {
  if (w->model_body) lw_body_append(w->model_body, json.p, json.n);
}

lw_code lw_work_invalid(lw_work *w, lw_span json) {
  if (w->request->state != LW_REQUEST_WAITING) return LW_MISUSE;
  lw_response_say(w->request, 422, json, LW_SPAN("the script refused the payload"));
  return LW_OK;
}

/* -- the beginning -- */

static void reject_signature(lw_work *w, const char *why) {
  w->counted = true;
  w->admission = LW_ADMIT_REFUSED;
  /* Its numbers and cost are not to be believed: anyone may have written them. */
  lw_account_reject(lw_service_get()->account, &w->record, -1, -1, 0);
  note_failure(w, "runtime", lw_span_of(why));
  lw_response_error(w->request, 401, NULL, "invalid signature");
}

/* The signature, and the session if it names one. 0, or the status with its body in `refusal`. */
static int check_auth(lw_work *w, const lw_json *j, const lw_envelope *e, lw_buf *refusal) {
  const char *why = NULL;
  lw_service *s = lw_service_get();
  w->reqnum = e->reqnum;
  w->request_idx = e->request_idx;
  w->cost = e->cost;
  if (!s->unsecured && lw_scheme_verify(s->scheme, j, e, &why) != LW_OK) {
    reject_signature(w, why);
    return 0;
  }
  if (!e->has_session || lw_session_join(w, e->session)) return 0;
  lw_buf_add_span(refusal, LW_SPAN("{\"error\":\"invalid session\"}"));
  return 410;
}

static int read_envelope(lw_work *w, lw_buf *refusal) {
  lw_envelope e;
  const lw_json *j = &w->doc->json;
  bool needs_idx = lw_scheme_needs_request_idx(lw_service_get()->scheme);
  int status = lw_envelope_read(j, needs_idx, &e, refusal);
  if (status) return status;
  w->payload_root = e.payload;
  w->payload = lw_json_text(j, e.payload);
  return check_auth(w, j, &e, refusal);
}

/* What a client of the model's own kind can send: auth_data as JSON or as its base64, in a field of
 * its own or in place of an API key. */
static lw_doc *auth_from_fields(const lw_headers *h) {
  lw_span text = {0, 0};
  if (!lw_headers_get(h, LW_SPAN("x-auth-data"), &text)) {
    lw_span bearer = LW_SPAN("Bearer ");
    if (!lw_headers_get(h, LW_SPAN("authorization"), &text) || text.n <= bearer.n) return NULL;
    if (!lw_span_ieq((lw_span){text.p, bearer.n}, bearer)) return NULL;
    text = lw_span_trim((lw_span){text.p + bearer.n, text.n - bearer.n});
  }
  if (text.n && text.p[0] == '{') return lw_doc_parse_copy(text.p, text.n);
  char *plain = lw_alloc(text.n + 1);
  size_t n = lw_auth_decode_base64(text, plain);
  lw_doc *doc = lw_doc_parse_copy(plain, n);
  free(plain);
  return doc;
}

/* Of a bare request. 0, or 401: what came may be an API key, and clients of that kind expect this
 * answer. Without signatures, what is not there or unreadable is nobody's fault. */
static int read_fields(lw_doc *auth, lw_envelope *e, lw_buf *refusal) {
  bool needs_idx = lw_scheme_needs_request_idx(lw_service_get()->scheme);
  lw_buf unsaid;
  if (lw_service_get()->unsecured) {
    lw_buf_init(&unsaid, 0, 65536, 0);
    if (auth) (void)lw_envelope_read_auth(&auth->json, needs_idx, e, &unsaid);
    lw_buf_fini(&unsaid);
    return 0;
  }
  if (!auth) {
    lw_buf_add_span(refusal, LW_SPAN("{\"auth_data\":\"field missing\"}"));
    return 401;
  }
  if (auth->json.error) {
    lw_buf_add_span(refusal, LW_SPAN("{\"auth_data\":\"neither JSON nor base64 of JSON\"}"));
    return 401;
  }
  return lw_envelope_read_auth(&auth->json, needs_idx, e, refusal) ? 401 : 0;
}

/* A bare route: the body is the payload. */
static int read_bare(lw_work *w, lw_buf *refusal) {
  const lw_json *payload = &w->doc->json;
  const lw_headers *fields = &w->request->head->headers;
  lw_envelope e = {.reqnum = -1, .request_idx = -1};
  if (payload->error || payload->nodes[0].kind != LW_JSON_OBJECT) {
    lw_buf_add_span(refusal, LW_SPAN("{\"error\":\"invalid JSON\"}"));
    return 422;
  }
  w->payload = lw_json_text(payload, 0);
  lw_doc *auth = auth_from_fields(fields);
  int status = read_fields(auth, &e, refusal);
  if (!status) {
    e.has_session = lw_headers_get(fields, LW_SPAN("x-session-id"), &e.session);
    status = check_auth(w, auth ? &auth->json : NULL, &e, refusal);
  }
  lw_doc_unref(auth);
  return status;
}

static bool check_envelope(lw_work *w) {
  lw_buf refusal;
  lw_buf_init(&refusal, 0, 65536, 0);
  w->doc = lw_doc_parse(w->request->body);
  int status = w->route->bare > 0 ? read_bare(w, &refusal) : read_envelope(w, &refusal);
  lw_span said = lw_buf_peek(&refusal);
  if (status) lw_response_say(w->request, status, said, said);
  lw_buf_fini(&refusal);
  return !lw_request_is_over(w->request);
}

static void begin_work(lw_work *w) {
  if (!check_envelope(w)) {
    settle_when_over(w);
    return;
  }
  if (w->route->payload_hook > 0) {
    w->task = w->route->router->ops->start(w->route->router, w->request, w->route->job);
    return;
  }
  drop_envelope(w);
  lw_code code = ask_admission(w, w->route->workload);
  if (code == LW_OK) {
    begin_hook_or_forward(w);
  } else if (code == LW_BUSY) {
    settle_when_over(w);
  }
}

void lw_work_begin(lw_route *route, lw_request *r) {
  lw_work *w = lw_calloc(1, sizeof *w);
  w->request = r;
  w->route = route;
  w->reqnum = w->request_idx = -1;
  r->work = w;
  lw_router_ref(route->router);
  lw_list_init(&w->record.node);
  lw_list_init(&w->session_node);
  lw_queue_entry_init(&w->entry);
  lw_timer_init(&w->queue_deadline, on_queue_deadline);
  lw_wake_init(&w->wake, run_turn);
  lw_pipe_init(&w->pipe, on_piped);
  switch (route->kind) {
    case LW_KIND_HANDLER:
      w->task = route->router->ops->start(route->router, r, route->job);
      break;
    case LW_KIND_FORWARD:
      forward_plain(w);
      break;
    case LW_KIND_WORK:
      begin_work(w);
      break;
  }
}
