/* SPDX-License-Identifier: MIT
 * Reading the envelope out of a parsed document. Called by worker/work for each signed request. */
#include "worker/envelope.h"

#include <stdlib.h>

enum {
  KEY_COUNT = 6
};
static const char *const keys[KEY_COUNT] = {"cost",        "endpoint",  "reqnum",
                                            "request_idx", "signature", "url"};
enum {
  COST,
  ENDPOINT,
  REQNUM,
  REQUEST_IDX,
  SIGNATURE,
  URL
};

static bool is_kind(const lw_json *j, uint32_t node, lw_json_kind kind) {
  return node && j->nodes[node].kind == (uint32_t)kind;
}

/* {"auth_data":"field missing"} and the like, one member per complaint. */
static void complain(lw_buf *out, bool first, const char *key, const char *text) {
  lw_buf_printf(out, "%s\"%s\":\"%s\"", first ? "{" : ",", key, text);
}

static int check_shape(const lw_json *j, uint32_t auth, uint32_t payload, lw_buf *out) {
  const char *auth_wrong = !auth                               ? "field missing"
                           : !is_kind(j, auth, LW_JSON_OBJECT) ? "not an object"
                                                               : NULL;
  const char *payload_wrong = !payload                               ? "field missing"
                              : !is_kind(j, payload, LW_JSON_OBJECT) ? "not an object"
                                                                     : NULL;
  if (!auth_wrong && !payload_wrong) return 0;
  if (auth_wrong) complain(out, true, "auth_data", auth_wrong);
  if (payload_wrong) complain(out, !auth_wrong, "payload", payload_wrong);
  lw_buf_add_span(out, LW_SPAN("}"));
  return 422;
}

static int check_keys(const lw_json *j, const uint32_t *values, bool needs_request_idx,
                      lw_buf *out) {
  bool first = true;
  for (int i = 0; i < KEY_COUNT; i++) {
    if (i == REQUEST_IDX && !values[i] && !needs_request_idx) continue;
    bool text = i == ENDPOINT || i == SIGNATURE || i == URL;
    const char *wrong = !values[i]                                       ? "missing parameter"
                        : text && !is_kind(j, values[i], LW_JSON_STRING) ? "not a string"
                                                                         : NULL;
    if (!wrong) continue;
    if (first) lw_buf_add_span(out, LW_SPAN("{\"auth_data\":"));
    complain(out, first, keys[i], wrong);
    first = false;
  }
  if (first) return 0;
  lw_buf_add_span(out, LW_SPAN("}}"));
  return 422;
}

/* The cost may be a number or a string of one; anything else weighs nothing. */
static double read_cost(const lw_json *j, uint32_t node) {
  double v = 0;
  char text[40] = "";
  switch (j->nodes[node].kind) {
    case LW_JSON_INT:
      v = (double)j->nodes[node].integer;
      break;
    case LW_JSON_NUMBER:
      v = j->nodes[node].number;
      break;
    case LW_JSON_STRING: {
      lw_span s = lw_json_string(j, node);
      if (s.n == 0 || s.n >= sizeof text) break;
      memcpy(text, s.p, s.n);
      char *end;
      v = strtod(text, &end);
      if (*end) v = 0;
      break;
    }
    default:
      break;
  }
  return v >= 0 && v < 1e15 ? v : 0;
}

static int64_t read_whole(const lw_json *j, uint32_t node) {
  const lw_json_node *n = &j->nodes[node];
  return n->kind == LW_JSON_INT && n->integer >= 0 ? n->integer : -1;
}

/* The fields of auth_data at node e->auth. */
static int read_auth(const lw_json *j, bool needs_request_idx, lw_envelope *e, lw_buf *refusal) {
  uint32_t values[KEY_COUNT];
  for (int i = 0; i < KEY_COUNT; i++) values[i] = lw_json_member(j, e->auth, lw_span_of(keys[i]));
  int status = check_keys(j, values, needs_request_idx, refusal);
  if (status) return status;
  e->url = lw_json_string(j, values[URL]);
  e->signature = lw_json_string(j, values[SIGNATURE]);
  e->endpoint = lw_json_string(j, values[ENDPOINT]);
  e->cost = read_cost(j, values[COST]);
  e->reqnum = read_whole(j, values[REQNUM]);
  if (values[REQUEST_IDX]) e->request_idx = read_whole(j, values[REQUEST_IDX]);
  return 0;
}

static int refuse_json(lw_buf *refusal) {
  lw_buf_add_span(refusal, LW_SPAN("{\"error\":\"invalid JSON\"}"));
  return 422;
}

int lw_envelope_read_auth(const lw_json *j, bool needs_request_idx, lw_envelope *e,
                          lw_buf *refusal) {
  *e = (lw_envelope){.reqnum = -1, .request_idx = -1};
  if (j->error) return refuse_json(refusal);
  if (j->nodes[0].kind != LW_JSON_OBJECT) {
    complain(refusal, true, "auth_data", "not an object");
    lw_buf_add_span(refusal, LW_SPAN("}"));
    return 422;
  }
  return read_auth(j, needs_request_idx, e, refusal);
}

int lw_envelope_read(const lw_json *j, bool needs_request_idx, lw_envelope *e, lw_buf *refusal) {
  *e = (lw_envelope){.reqnum = -1, .request_idx = -1};
  if (j->error) return refuse_json(refusal);
  bool object = j->nodes[0].kind == LW_JSON_OBJECT;
  e->auth = object ? lw_json_member(j, 0, LW_SPAN("auth_data")) : 0;
  e->payload = object ? lw_json_member(j, 0, LW_SPAN("payload")) : 0;
  int status = check_shape(j, e->auth, e->payload, refusal);
  if (!status) status = read_auth(j, needs_request_idx, e, refusal);
  if (status) return status;
  uint32_t session = lw_json_member(j, 0, LW_SPAN("session_id"));
  e->has_session = session && j->nodes[session].kind != LW_JSON_NULL;
  if (e->has_session && is_kind(j, session, LW_JSON_STRING))
    e->session = lw_json_string(j, session);
  return 0;
}
