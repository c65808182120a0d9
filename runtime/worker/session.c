/* SPDX-License-Identifier: MIT
 * The sessions, by id, and their life: opened, joined by requests, closed by their client or by
 * time. What follows a closing is a call to the model server, a few of them at once and the others
 * in line. Called by session_routes, work and the look for expired ones. Owns sessions, their
 * records and these calls. */
#include "worker/session.h"

#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>

#include "exchange/address.h"
#include "floor/log.h"
#include "wire/json_put.h"
#include "worker/complaint.h"

enum {
  BUCKETS = 4096,
  LOOK_MS = 5000,
  CALLS_MAX = 32,     /* on_close calls at once */
  WAITING_MAX = 1000, /* more that wait for theirs */
  CALL_MS = 10000,    /* one takes no longer, nor does a client wait longer for its beginning */
  HERE_MAX = 100000,  /* sessions, also when max_sessions says nothing */
};
#define TEXT_SUM_MAX ((size_t)256 << 20) /* bytes of all that clients gave us to keep */

static struct {
  const lw_site *site; /* NULL: not begun, or stopped */
  lw_session *buckets[BUCKETS];
  lw_list open, line, calling;
  unsigned open_count, line_count, call_count, here;
  size_t text_sum;
  lw_timer look;
  lw_wake wake;
} sessions;

unsigned lw_sessions_count(void) { return sessions.open_count; }
const char *lw_session_id(const lw_session *s) { return s->id; }

static double now_s(void) { return (double)lw_now_ns() / 1e9; }

/* -- by id -- */

static lw_session **bucket_of(lw_span id) {
  uint32_t h = 2166136261u; /* ids are random, and ours: any hash does */
  for (size_t i = 0; i < id.n; i++) h = (h ^ (unsigned char)id.p[i]) * 16777619u;
  return &sessions.buckets[(h ^ h >> 16) % BUCKETS];
}

lw_session *lw_session_find(lw_span id) {
  if (id.n != LW_SESSION_ID_SIZE) return NULL;
  lw_session *s = *bucket_of(id);
  while (s && memcmp(s->id, id.p, id.n) != 0) s = s->next;
  return s;
}

static lw_span id_of(const lw_session *s) { return (lw_span){s->id, LW_SESSION_ID_SIZE}; }

/* Letters and digits, each as likely as the others. */
static void make_id(char *id) {
  static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
  enum {
    SIGNS = sizeof alphabet - 1
  };
  size_t n = 0;
  while (n < LW_SESSION_ID_SIZE) {
    unsigned char dice[2 * LW_SESSION_ID_SIZE];
    if (RAND_bytes(dice, sizeof dice) != 1) lw_die("the system gives no random bytes");
    for (size_t i = 0; i < sizeof dice && n < LW_SESSION_ID_SIZE; i++) {
      if (dice[i] < 256 / SIGNS * SIGNS) id[n++] = alphabet[dice[i] % SIGNS];
    }
  }
  id[n] = 0;
}

static size_t text_size(const lw_session *s) {
  return strlen(s->auth_data) + (s->on_close_route ? strlen(s->on_close_route) : 0) +
         (s->on_close_payload ? strlen(s->on_close_payload) : 0);
}

static void free_session(lw_session *s) {
  lw_session **at = bucket_of(id_of(s));
  while (*at != s) at = &(*at)->next;
  *at = s->next;
  sessions.here--;
  sessions.text_sum -= text_size(s);
  lw_list_remove(&s->node);
  lw_wake_cancel(&s->wake);
  free(s->auth_data);
  free(s->on_close_route);
  free(s->on_close_payload);
  free(s);
}

/* -- telling the model server -- */

static void start_calls(void);

/* An object gets the id as one more member, anything else becomes `payload` beside it. */
static lw_body *closing_body(const lw_session *s) {
  lw_body *out = lw_body_new();
  const char *payload = s->on_close_payload;
  lw_doc *doc = payload ? lw_doc_parse_copy(payload, strlen(payload)) : NULL;
  const lw_json *j = doc ? &doc->json : NULL;
  bool object = j && j->nodes[0].kind == LW_JSON_OBJECT;
  if (object && lw_json_member(j, 0, LW_SPAN("session_id"))) {
    lw_put(out, payload);
  } else {
    if (object) {
      lw_body_append(out, payload, strlen(payload) - 1); /* all but its } */
      lw_put(out, j->nodes[0].count ? "," : "");
    } else {
      lw_put(out, "{");
      if (payload) lw_put(out, "\"payload\":"), lw_put(out, payload), lw_put(out, ",");
    }
    lw_put(out, "\"session_id\":");
    lw_put_text(out, s->id);
    lw_put(out, "}");
  }
  lw_doc_unref(doc);
  return out;
}

/* It is over for everyone; whoever waited is answered last, as that may end the process. */
static void forget(lw_session *s) {
  lw_request *ender = s->ender;
  char id[LW_SESSION_ID_SIZE + 1];
  memcpy(id, s->id, sizeof id);
  free_session(s);
  start_calls();
  if (ender) lw_session_answer_ended(ender, id);
}

static void end_call(lw_session *s) {
  lw_upstream_close(s->call);
  sessions.call_count--;
  forget(s);
}

/* Its length for the log: without the query, where clients may put keys. */
static int shown_size(const char *route) { return (int)strcspn(route, "?"); }

/* A model server that is away fails all of them, and clients choose the paths. */
static void complain(const lw_session *s, const char *why) {
  char *error = lw_printf_dup("session %s, %.*s: %s", s->id, shown_size(s->on_close_route),
                              s->on_close_route, why);
  lw_complain(&(lw_fold_line){
      .level = LW_LOG_WARN, .message = "an on_close_route failed", .error = lw_span_of(error)});
  free(error);
}

static void note_end(const lw_session *s, lw_code code) {
  int status = code == LW_EOF ? lw_upstream_status(s->call) : 0;
  char answer[32];
  snprintf(answer, sizeof answer, "was answered %d", status);
  if (status >= 200 && status < 300) {
    lw_debug("session %s: on_close_route %.*s was called", s->id, shown_size(s->on_close_route),
             s->on_close_route);
  } else {
    complain(s, status ? answer : lw_upstream_error(s->call));
  }
}

static void run_call(lw_wake *w) {
  lw_session *s = LW_CONTAINER_OF(w, lw_session, wake);
  lw_code code = lw_upstream_skip_body(s->call);
  if (code == LW_AGAIN) return;
  note_end(s, code);
  end_call(s);
}

static void call_route(lw_session *s) {
  /* Without a server, after a reload: no URL, as will be logged. */
  const char *server = sessions.site->router->model_server_url;
  char *url = lw_address_join(server ? server : "", s->on_close_route);
  s->call = lw_upstream_open(LW_SPAN("POST"), lw_span_of(url), &s->wake);
  free(url);
  lw_upstream_set_role(s->call, "model");
  lw_upstream_set_timeouts(s->call,
                           &(lw_upstream_timeouts){.connect_ms = 5000, .total_ms = CALL_MS});
  if (lw_upstream_header(s->call, LW_SPAN("Content-Type"), LW_SPAN("application/json")) != LW_OK) {
    lw_debug("a field was not sent to the model");
  }
  lw_body *body = closing_body(s);
  lw_upstream_body(s->call, body, (lw_span){body->p, body->n});
  lw_body_unref(body);
  lw_upstream_start(s->call);
}

static void start_calls(void) {
  while (sessions.call_count < CALLS_MAX && sessions.line_count) {
    lw_session *s = LW_CONTAINER_OF(lw_list_pop(&sessions.line), lw_session, node);
    sessions.line_count--;
    sessions.call_count++;
    lw_list_append(&sessions.calling, &s->node);
    call_route(s);
  }
}

static bool line_up(lw_session *s) {
  if (!s->on_close_route || !sessions.site) return false;
  if (!sessions.site->router->model_server_url || sessions.line_count >= WAITING_MAX) {
    complain(s, sessions.line_count >= WAITING_MAX
                    ? "not called, too many wait for theirs"
                    : "not called, the worker has no model_server_url");
    return false;
  }
  lw_list_append(&sessions.line, &s->node);
  sessions.line_count++;
  start_calls();
  return true;
}

/* -- opening and closing -- */

static const char *check_room(const lw_session_terms *t) {
  double most = sessions.site->router->max_sessions; /* 0: no limit of the script's */
  if (most > 0 && sessions.open_count >= most) return "too many sessions are open";
  size_t size = t->auth_data.n + t->on_close_route.n + t->on_close_payload.n;
  bool full = sessions.here >= HERE_MAX || size > TEXT_SUM_MAX - sessions.text_sum;
  return full ? "the worker can keep no more sessions" : NULL;
}

static void set_times(lw_session *s, const lw_session_terms *t) {
  s->lifetime = t->lifetime;
  s->created_at = lw_wall_s();
  s->expiration = s->created_at + t->lifetime;
  s->due_s = now_s() + t->lifetime;
  if (t->lifetime_text.n && t->lifetime_text.n < sizeof s->lifetime_text) {
    memcpy(s->lifetime_text, t->lifetime_text.p, t->lifetime_text.n);
  } else {
    s->lifetime_text[lw_json_number_text(s->lifetime_text, t->lifetime)] = 0;
  }
}

lw_session *lw_session_open(const lw_session_terms *t, const char **why) {
  *why = sessions.site ? check_room(t) : "the worker takes no sessions";
  if (*why) return NULL;
  lw_session *s = lw_calloc(1, sizeof *s);
  do make_id(s->id);
  while (lw_session_find(id_of(s)));
  s->auth_data = lw_span_dup(t->auth_data);
  s->on_close_route = t->on_close_route.n ? lw_span_dup(t->on_close_route) : NULL;
  s->on_close_payload = t->on_close_payload.n ? lw_span_dup(t->on_close_payload) : NULL;
  set_times(s, t);
  lw_list_init(&s->node);
  lw_list_init(&s->requests);
  lw_wake_init(&s->wake, run_call);
  lw_session **bucket = bucket_of(id_of(s));
  s->next = *bucket;
  *bucket = s;
  sessions.here++;
  sessions.text_sum += text_size(s);
  lw_list_append(&sessions.open, &s->node);
  sessions.open_count++;
  lw_account_receive(lw_service_get()->account, &s->record, LW_RECORD_SESSION, t->reqnum,
                     t->request_idx, t->cost);
  if (!lw_timer_active(&sessions.look)) lw_timer_start(&sessions.look, LOOK_MS);
  return s;
}

bool lw_session_close(lw_session *s) {
  assert(!s->closed);
  s->closed = true;
  s->closed_s = now_s();
  lw_list_remove(&s->node);
  sessions.open_count--;
  lw_account_end(lw_service_get()->account, &s->record, LW_SUCCESS);
  lw_list *node;
  while ((node = lw_list_pop(&s->requests))) {
    lw_work *w = LW_CONTAINER_OF(node, lw_work, session_node);
    w->session = NULL;
    lw_work_drop(w);
  }
  if (line_up(s)) return true;
  free_session(s);
  return false;
}

bool lw_session_join(lw_work *w, lw_span id) {
  lw_session *s = lw_session_find(id);
  if (!s || s->closed) return false;
  s->expiration += s->lifetime;
  s->due_s += s->lifetime;
  w->session = s;
  lw_list_append(&s->requests, &w->session_node);
  return true;
}

void lw_session_leave(lw_work *w) {
  lw_list_remove(&w->session_node);
  w->session = NULL;
}

/* -- time -- */

/* They have left the lists before the first of them is closed: what a closing brings about may stop
 * us all. */
static void close_due(double now_s) {
  lw_list due, *node, *next;
  lw_list_init(&due);
  for (node = sessions.open.next; node != &sessions.open; node = next) {
    next = node->next;
    if (LW_CONTAINER_OF(node, lw_session, node)->due_s > now_s) continue;
    lw_list_remove(node);
    lw_list_append(&due, node);
  }
  while ((node = lw_list_pop(&due))) {
    lw_session *s = LW_CONTAINER_OF(node, lw_session, node);
    lw_info("session %s has expired", s->id);
    lw_session_close(s);
  }
}

/* Who waits for a call that has not even begun after so long. */
static lw_session *next_impatient(double now_s) {
  for (lw_list *node = sessions.line.next; node != &sessions.line; node = node->next) {
    lw_session *s = LW_CONTAINER_OF(node, lw_session, node);
    if (s->ender && now_s - s->closed_s >= CALL_MS / 1000) return s;
  }
  return NULL;
}

static void answer_impatient(double now_s) {
  lw_session *s;
  while (sessions.site && (s = next_impatient(now_s))) {
    char id[sizeof s->id];
    memcpy(id, s->id, sizeof id);
    lw_request *ender = s->ender;
    s->ender = NULL;
    lw_session_answer_ended(ender, id);
  }
}

void lw_sessions_expire(double now_s) {
  if (!sessions.site) return;
  close_due(now_s);
  answer_impatient(now_s);
}

static void on_look(lw_timer *t) {
  (void)t;
  lw_loop_wake(&sessions.wake);
}

static void run_look(lw_wake *w) {
  (void)w;
  lw_sessions_expire(now_s());
  if (sessions.site && sessions.here) lw_timer_start(&sessions.look, LOOK_MS);
}

void lw_sessions_start(const lw_site *site) {
  assert(!sessions.site && !sessions.here);
  lw_list_init(&sessions.open);
  lw_list_init(&sessions.line);
  lw_list_init(&sessions.calling);
  lw_timer_init(&sessions.look, on_look);
  lw_wake_init(&sessions.wake, run_look);
  sessions.site = site;
}

void lw_sessions_stop(void) {
  if (!sessions.site) return;
  sessions.site = NULL;
  lw_timer_fini(&sessions.look);
  lw_wake_cancel(&sessions.wake);
  lw_list *node;
  while ((node = sessions.open.next) != &sessions.open) {
    lw_session_close(LW_CONTAINER_OF(node, lw_session, node));
  }
  while ((node = lw_list_pop(&sessions.line))) { /* before a call's end lets the next one begin */
    sessions.line_count--;
    forget(LW_CONTAINER_OF(node, lw_session, node));
  }
  while ((node = lw_list_pop(&sessions.calling))) {
    end_call(LW_CONTAINER_OF(node, lw_session, node));
  }
}
