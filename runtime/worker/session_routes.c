/* SPDX-License-Identifier: MIT
 * What clients ask of sessions: POST /session/create, get, health and end (protocol §6). Reads and
 * checks their bodies, answers. Called by worker/service; the sessions are session.c's. Owns
 * nothing.
 *
 * An end answers when the model server was told (on_close_route), or at once when there is nothing
 * to tell. Meanwhile the session is closed: another end gets 410, its requests 410, get 400. */
#include <math.h>

#include "wire/json_equal.h"
#include "wire/json_put.h"
#include "worker/session.h"

enum {
  ROUTE_MAX = 2048
};
#define LIFETIME_DEFAULT 60.0
#define LIFETIME_MAX 2592000.0 /* 30 days */

static void answer_json(lw_request *r, int status, lw_body *json) {
  lw_response_send(r, status, "application/json", (lw_span){json->p, json->n});
  lw_body_unref(json);
}

/* A body that is JSON, or the answer 422 and NULL. */
static lw_doc *read_body(lw_request *r) {
  lw_doc *doc = r->body->n ? lw_doc_parse(r->body) : NULL;
  if (doc && !doc->json.error) return doc;
  lw_doc_unref(doc);
  lw_response_error(r, 422, NULL, "invalid JSON");
  return NULL;
}

/* -- create -- */

/* 422 {"payload":{"<field>":"<text>"}} */
static void refuse_payload(lw_request *r, const char *field, const char *text) {
  lw_body *out = lw_body_new();
  lw_put(out, "{\"payload\":{");
  lw_put_text(out, field);
  lw_put(out, ":");
  lw_put_text(out, text);
  lw_put(out, "}}");
  answer_json(r, 422, out);
}

/* The member, or 0 when it is absent or null. */
static uint32_t given(const lw_json *j, uint32_t object, lw_span key) {
  uint32_t node = lw_json_member(j, object, key);
  return node && j->nodes[node].kind != LW_JSON_NULL ? node : 0;
}

static double read_lifetime(const lw_json *j, uint32_t node) {
  const lw_json_node *n = &j->nodes[node];
  if (!node) return LIFETIME_DEFAULT;
  if (n->kind == LW_JSON_INT) return (double)n->integer;
  return n->kind == LW_JSON_NUMBER ? n->number : -1;
}

/* What may stand in a request line, from its / on. */
static bool is_path(lw_span s) {
  if (s.n == 0 || s.n > ROUTE_MAX || s.p[0] != '/') return false;
  for (size_t i = 0; i < s.n; i++) {
    if (s.p[i] <= ' ' || s.p[i] >= 0x7f || s.p[i] == '#') return false;
  }
  return true;
}

/* False: answered. */
static bool read_terms(lw_request *r, const lw_json *j, const lw_envelope *e,
                       lw_session_terms *out) {
  uint32_t lifetime = given(j, e->payload, LW_SPAN("lifetime"));
  uint32_t route = given(j, e->payload, LW_SPAN("on_close_route"));
  uint32_t payload = given(j, e->payload, LW_SPAN("on_close_payload"));
  *out = (lw_session_terms){.auth_data = lw_json_text(j, e->auth),
                            .lifetime = read_lifetime(j, lifetime),
                            .cost = e->cost,
                            .reqnum = e->reqnum,
                            .request_idx = e->request_idx};
  if (lifetime) out->lifetime_text = lw_json_text(j, lifetime);
  if (payload) out->on_close_payload = lw_json_text(j, payload);
  if (route && j->nodes[route].kind == LW_JSON_STRING)
    out->on_close_route = lw_json_string(j, route);
  if (!(out->lifetime > 0 && out->lifetime <= LIFETIME_MAX)) {
    refuse_payload(r, "lifetime", "expected seconds: a number above 0, at most 2592000");
  } else if (route && !is_path(out->on_close_route)) {
    refuse_payload(r, "on_close_route", "expected a path on the model server: /...");
  } else if (out->on_close_payload.n > LW_SESSION_TEXT_MAX) {
    refuse_payload(r, "on_close_payload", "longer than 65536 bytes");
  }
  return !lw_request_is_over(r);
}

/* False: answered, and counted as rejected. As for any request, what was not verified weighs
 * nothing and is not told to the autoscaler. */
static bool check_signature(lw_request *r, const lw_json *j, const lw_envelope *e) {
  lw_service *s = lw_service_get();
  const char *why = NULL;
  if (s->unsecured || lw_scheme_verify(s->scheme, j, e, &why) == LW_OK) return true;
  lw_record record;
  lw_account_reject(s->account, &record, -1, -1, 0);
  lw_response_say(r, 401, LW_SPAN("{\"error\":\"invalid signature\"}"), lw_span_of(why));
  return false;
}

static void refuse_full(lw_request *r, const lw_session_terms *t, const char *why) {
  lw_record record;
  lw_account_reject(lw_service_get()->account, &record, t->reqnum, t->request_idx, t->cost);
  lw_headers_add_borrowed(&r->answer, LW_SPAN("Retry-After"), LW_SPAN("5"));
  lw_response_error(r, 429, NULL, why);
}

static void open_session(lw_request *r, const lw_session_terms *t) {
  const char *why = NULL;
  lw_session *s = lw_session_open(t, &why);
  if (!s) {
    refuse_full(r, t, why);
    return;
  }
  lw_body *out = lw_body_new();
  lw_put(out, "{\"session_id\":");
  lw_put_text(out, s->id);
  lw_put(out, ",\"expiration\":");
  lw_put_number(out, s->expiration);
  lw_put(out, "}");
  answer_json(r, 201, out);
}

/* The envelope of a signed request; false: answered. */
static bool read_envelope(lw_request *r, const lw_json *j, lw_envelope *e) {
  lw_buf refusal;
  lw_buf_init(&refusal, 0, 65536, 0);
  bool needs_idx = lw_scheme_needs_request_idx(lw_service_get()->scheme);
  int status = lw_envelope_read(j, needs_idx, e, &refusal);
  e->has_session = false; /* no session vouches for it: what came before is a replay */
  if (status) {
    lw_response_send(r, status, "application/json", lw_buf_peek(&refusal));
  } else if (lw_json_text(j, e->auth).n > LW_SESSION_TEXT_MAX) {
    lw_response_send(r, 422, "application/json",
                     LW_SPAN("{\"auth_data\":\"longer than 65536 bytes\"}"));
  }
  lw_buf_fini(&refusal);
  return !lw_request_is_over(r);
}

static void answer_create(lw_request *r) {
  if (lw_service_get()->draining) {
    lw_headers_add_borrowed(&r->answer, LW_SPAN("Retry-After"), LW_SPAN("1"));
    lw_response_error(r, 503, NULL, "the worker is draining");
    return;
  }
  lw_doc *doc = read_body(r);
  if (!doc) return;
  const lw_json *j = &doc->json;
  lw_envelope e;
  lw_session_terms terms;
  if (read_envelope(r, j, &e) && check_signature(r, j, &e) && read_terms(r, j, &e, &terms)) {
    open_session(r, &terms);
  }
  lw_doc_unref(doc);
}

/* -- get, health, end -- */

static bool has_auth(const lw_session *s, const lw_json *j) {
  uint32_t auth = lw_json_member(j, 0, LW_SPAN("session_auth"));
  if (!auth) return false;
  lw_doc *own = lw_doc_parse_copy(s->auth_data, strlen(s->auth_data));
  bool same = !own->json.error && lw_json_equal(&own->json, 0, j, auth);
  lw_doc_unref(own);
  return same;
}

/* The session that the body names and has the auth_data of: 0, or the status that refuses it. */
static int find_named(const lw_json *j, lw_session **s) {
  bool object = j->nodes[0].kind == LW_JSON_OBJECT;
  uint32_t id = object ? lw_json_member(j, 0, LW_SPAN("session_id")) : 0;
  if (!id || j->nodes[id].kind != LW_JSON_STRING) return 422;
  *s = lw_session_find(lw_json_string(j, id));
  if (!*s) return 400;
  if (!has_auth(*s, j)) return 401;
  return (*s)->closed ? 410 : 0;
}

static void refuse(lw_request *r, int status) {
  const char *text = status == 422   ? "missing session_id"
                     : status == 400 ? "session does not exist"
                     : status == 401 ? "session_auth is not valid"
                                     : "session already closed";
  lw_response_error(r, status, NULL, text);
}

/* Finds the session that r asks for, which may have been answered then: *status tells why not. */
static lw_session *take_named(lw_request *r, int *status) {
  lw_session *s = NULL;
  lw_doc *doc = read_body(r);
  if (!doc) return NULL;
  *status = find_named(&doc->json, &s);
  lw_doc_unref(doc);
  return *status ? NULL : s;
}

static lw_body *describe(const lw_session *s) {
  lw_body *out = lw_body_new();
  lw_put(out, "{\"session_id\":");
  lw_put_text(out, s->id);
  lw_put(out, ",\"auth_data\":");
  lw_put(out, s->auth_data);
  lw_put(out, ",\"lifetime\":");
  lw_put(out, s->lifetime_text);
  lw_put(out, ",\"expiration\":");
  lw_put_number(out, s->expiration);
  lw_put(out, ",\"created_at\":");
  lw_put_number(out, s->created_at);
  lw_put(out, ",\"on_close_route\":");
  if (s->on_close_route) {
    lw_put_text(out, s->on_close_route);
  } else {
    lw_put(out, "null");
  }
  lw_put(out, ",\"on_close_payload\":");
  lw_put(out, s->on_close_payload ? s->on_close_payload : "null");
  lw_put(out, "}");
  return out;
}

static void answer_get(lw_request *r) {
  int status = 0;
  lw_session *s = take_named(r, &status);
  if (s) {
    answer_json(r, 200, describe(s));
  } else {
    refuse(r, status == 410 ? 400 : status);
  }
}

static void answer_health(lw_request *r) {
  int status = 0;
  lw_session *s = take_named(r, &status);
  if (s) {
    lw_response_send(r, 200, "application/json", LW_SPAN("{\"ok\":true}"));
  } else if (status == 400 || status == 410) {
    lw_response_send(r, 200, "application/json", LW_SPAN("{\"ok\":false}"));
  } else {
    refuse(r, status);
  }
}

static void answer_ended(lw_request *r, const char *id) {
  lw_body *out = lw_body_new();
  lw_put(out, "{\"ended\":true,\"removed_session\":");
  lw_put_text(out, id);
  lw_put(out, "}");
  answer_json(r, 200, out);
}

void lw_session_answer_ended(lw_request *ender, const char *id) {
  answer_ended(ender, id);
  lw_builtin_done(ender);
}

static void answer_end(lw_request *r) {
  int status = 0;
  lw_session *s = take_named(r, &status);
  if (!s) {
    refuse(r, status);
    return;
  }
  char id[sizeof s->id];
  memcpy(id, s->id, sizeof id);
  if (lw_session_close(s)) {
    s->ender = r;
    r->work = s;
  } else {
    answer_ended(r, id);
  }
}

/* The call to the model server goes on. */
static void on_ender_gone(lw_request *r) { ((lw_session *)r->work)->ender = NULL; }

const lw_builtin lw_session_builtins[] = {
    {LW_H1_POST, "/session/create", answer_create, NULL},
    {LW_H1_POST, "/session/get", answer_get, NULL},
    {LW_H1_POST, "/session/health", answer_health, NULL},
    {LW_H1_POST, "/session/end", answer_end, on_ender_gone},
};
const size_t lw_session_builtin_count = LW_ARRAY_SIZE(lw_session_builtins);
const lw_builtin lw_session_end_builtin = {LW_H1_POST, "/session/end", answer_end, on_ender_gone};
