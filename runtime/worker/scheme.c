/* SPDX-License-Identifier: MIT
 * What is signed under each scheme, which replays are refused, and whose URL a signature is for.
 * Called by worker/work and worker/session for each signed request, and by program/verify. Owns the
 * memory of what was seen: LW_SCHEME_WINDOW messages, and the foreign URLs that the log has told
 * of. Does no RSA and parses no JSON. */
#include "worker/scheme.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "floor/log.h"
#include "wire/canon.h"

enum {
  FOREIGN_MAX = 32,           /* URLs that are told of */
  FOREIGN_INTERVAL_MS = 1000, /* between two such lines */
  SHOWN_URL = 200,            /* bytes of a URL in a reason */
  /* Of auth_data's text, for one byte of the signed text: an escape and some white space. Beyond
   * that nobody's values are sorted and printed to find out whether they would fit. */
  TEXT_PER_BYTE = 8
};

typedef enum url_check {
  CHECK_OFF,
  CHECK_WARN,
  CHECK_ENFORCE
} url_check;

struct lw_scheme {
  lw_auth *auth;
  lw_scheme_kind tried[LW_SCHEME_KINDS];
  size_t count;
  char names[32]; /* of those, for reasons */
  char why[512];
  struct {
    unsigned key_number; /* whose messages these are */
    int64_t highest;     /* -1: none yet */
    char *messages[LW_SCHEME_WINDOW];
    size_t sizes[LW_SCHEME_WINDOW];
    size_t next;
  } seen;
  url_check check;
  char *advertised;
  size_t advertised_n;
  char *foreign[FOREIGN_MAX];
  size_t foreign_count;
  uint64_t foreign_at_ms;
};

static const struct {
  const char *name;
  size_t count;
  const char *keys[5]; /* in the order in which they are printed */
} table[LW_SCHEME_KINDS] = {
    [LW_SCHEME_URL] = {"url", 1, {"url"}},
    [LW_SCHEME_SORTED] = {"sorted", 5, {"cost", "endpoint", "reqnum", "request_idx", "url"}},
    [LW_SCHEME_LEGACY] = {"legacy", 4, {"cost", "endpoint", "reqnum", "url"}},
};

const char *lw_scheme_name(lw_scheme_kind kind) { return table[kind].name; }

/* -- names -- */

static bool find_kind(lw_span name, lw_scheme_kind *kind) {
  for (size_t k = 0; k < LW_SCHEME_KINDS; k++) {
    *kind = (lw_scheme_kind)k;
    if (lw_span_eq(name, lw_span_of(table[k].name))) return true;
  }
  return false;
}

size_t lw_scheme_parse(const char *names, lw_scheme_kind kinds[LW_SCHEME_KINDS], const char **why) {
  size_t count = 0;
  *why = NULL;
  for (const char *p = names; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL) {
    lw_span name = lw_span_trim((lw_span){p, strcspn(p, ",")});
    lw_scheme_kind kind = LW_SCHEME_KINDS;
    if (!name.n) *why = "a name is missing; the schemes are url, sorted and legacy";
    if (name.n && !find_kind(name, &kind)) *why = "the schemes are url, sorted and legacy";
    for (size_t i = 0; i < count; i++) {
      if (kinds[i] == kind) *why = "a scheme is named twice";
    }
    if (*why) return 0;
    kinds[count++] = kind;
  }
  return count;
}

/* -- what is signed -- */

static bool is_reasonably_short(const lw_json *j, uint32_t auth, lw_scheme_kind kind) {
  size_t n = 0;
  for (size_t i = 0; i < table[kind].count; i++) {
    uint32_t value = lw_json_member(j, auth, lw_span_of(table[kind].keys[i]));
    if (value) n += lw_json_text(j, value).n;
  }
  return n <= LW_AUTH_MESSAGE_MAX * (size_t)TEXT_PER_BYTE;
}

lw_code lw_scheme_print(lw_scheme_kind kind, const lw_json *j, const lw_envelope *e, char *out,
                        size_t *n) {
  *n = 0;
  if (!is_reasonably_short(j, e->auth, kind)) return LW_LIMIT;
  lw_buf text;
  lw_buf_init(&text, 0, 0, LW_AUTH_MESSAGE_MAX);
  bool sort_keys = kind == LW_SCHEME_SORTED;
  lw_code code =
      lw_canon_members(&text, j, e->auth, table[kind].keys, table[kind].count, sort_keys);
  if (code == LW_OK) *n = lw_buf_take_all(&text, out);
  lw_buf_fini(&text);
  return code;
}

/* -- replays -- */

static void forget_seen(lw_scheme *s) {
  for (size_t i = 0; i < LW_SCHEME_WINDOW; i++) free(s->seen.messages[i]);
  memset(&s->seen, 0, sizeof s->seen);
  s->seen.highest = -1;
}

static bool is_seen(const lw_scheme *s, lw_span message) {
  for (size_t i = 0; i < LW_SCHEME_WINDOW; i++) {
    if (!s->seen.messages[i]) continue;
    if (lw_span_eq((lw_span){s->seen.messages[i], s->seen.sizes[i]}, message)) return true;
  }
  return false;
}

static void note_seen(lw_scheme *s, lw_span message, int64_t reqnum) {
  s->seen.highest = LW_MAX(s->seen.highest, reqnum);
  free(s->seen.messages[s->seen.next]);
  s->seen.messages[s->seen.next] = lw_span_dup(message);
  s->seen.sizes[s->seen.next] = message.n;
  s->seen.next = (s->seen.next + 1) % LW_SCHEME_WINDOW;
}

/* A message that verified. NULL, and it is noted; or why it is not fresh. */
static const char *fault_of_freshness(lw_scheme *s, lw_span message, const lw_envelope *e) {
  if (s->seen.key_number != lw_auth_key_number(s->auth)) {
    forget_seen(s);
    s->seen.key_number = lw_auth_key_number(s->auth);
  }
  if (e->reqnum < 0) return "its reqnum is no whole number, so a replay could not be told";
  bool seen = is_seen(s, message);
  bool old = s->seen.highest >= 0 && e->reqnum < s->seen.highest - LW_SCHEME_WINDOW;
  if ((seen || old) && !e->has_session) {
    snprintf(s->why, sizeof s->why, "replayed: reqnum %" PRId64 " %s, highest seen %" PRId64,
             e->reqnum, seen ? "was here before" : "is too old", s->seen.highest);
    return s->why;
  }
  if (!seen && !old) note_seen(s, message, e->reqnum);
  return NULL;
}

/* -- whose URL -- */

static lw_span without_slash(lw_span url) {
  if (url.n && url.p[url.n - 1] == '/') url.n--;
  return url;
}

static bool is_told(const lw_scheme *s, lw_span url) {
  for (size_t i = 0; i < s->foreign_count; i++) {
    if (lw_span_eq(lw_span_of(s->foreign[i]), url)) return true;
  }
  return false;
}

static void tell_of_foreign(lw_scheme *s, lw_span url) {
  uint64_t now = lw_now_ms();
  bool soon = s->foreign_count && now - s->foreign_at_ms < FOREIGN_INTERVAL_MS;
  url.n = LW_MIN(url.n, SHOWN_URL);
  if (soon || s->foreign_count == FOREIGN_MAX || is_told(s, url)) return;
  s->foreign[s->foreign_count++] = lw_span_dup(url);
  s->foreign_at_ms = now;
  lw_field f[] = {lw_field_span("signed_url", url), lw_field_text("our_url", s->advertised)};
  lw_log_fields(LW_LOG_WARN, "a signature is for another worker's URL", f, LW_ARRAY_SIZE(f));
  if (s->foreign_count == FOREIGN_MAX) lw_warn("more URLs of other workers are not told of");
}

/* NULL when the signed URL is ours or may be another. */
static const char *fault_of_url(lw_scheme *s, lw_span url) {
  if (s->check == CHECK_OFF || !s->advertised_n) return NULL;
  lw_span ours = {s->advertised, s->advertised_n};
  if (lw_span_eq(url, ours) || lw_span_eq(without_slash(url), without_slash(ours))) return NULL;
  if (s->check == CHECK_WARN) {
    tell_of_foreign(s, url);
    return NULL;
  }
  snprintf(s->why, sizeof s->why, "the signed url %.*s is not this worker's, %.*s",
           (int)LW_MIN(url.n, SHOWN_URL), url.p, SHOWN_URL, s->advertised);
  return s->why;
}

/* -- the check -- */

/* LW_OK and the signed text in *message (empty for `url`, whose text is not printed when it is
 * remembered), or as lw_auth_verify. */
static lw_code verify_under(lw_scheme *s, lw_scheme_kind kind, const lw_json *j,
                            const lw_envelope *e, char *text, lw_span *message, const char **why) {
  *message = (lw_span){text, 0};
  if (kind == LW_SCHEME_URL) return lw_auth_verify_url(s->auth, e->url, e->signature, why);
  if (lw_scheme_print(kind, j, e, text, &message->n) != LW_OK) {
    *why = "the signed text is too long";
    return LW_PROTOCOL;
  }
  return lw_auth_verify(s->auth, *message, e->signature, why);
}

/* Not the signature itself: under another scheme or key it may be good, and logs are read by many.
 */
static void log_compared(lw_scheme_kind kind, const lw_json *j, const lw_envelope *e,
                         const char *why) {
  char text[LW_AUTH_MESSAGE_MAX];
  size_t n;
  if (!lw_log_enabled(LW_LOG_DEBUG)) return;
  if (lw_scheme_print(kind, j, e, text, &n) != LW_OK) n = 0;
  lw_field f[] = {lw_field_text("scheme", table[kind].name),
                  lw_field_span("text", (lw_span){text, n}), lw_field_text("why", why)};
  lw_log_fields(LW_LOG_DEBUG, "signature compared", f, LW_ARRAY_SIZE(f));
}

/* A signature that is the autoscaler's. */
static lw_code judge_verified(lw_scheme *s, lw_scheme_kind kind, lw_span message,
                              const lw_envelope *e, const char **why) {
  *why = fault_of_url(s, e->url);
  if (!*why && kind != LW_SCHEME_URL) *why = fault_of_freshness(s, message, e);
  return *why ? LW_PROTOCOL : LW_OK;
}

lw_code lw_scheme_verify(lw_scheme *s, const lw_json *j, const lw_envelope *e, const char **why) {
  char text[LW_AUTH_MESSAGE_MAX];
  lw_span message;
  for (size_t i = 0; i < s->count; i++) {
    lw_scheme_kind kind = s->tried[i];
    lw_code code = verify_under(s, kind, j, e, text, &message, why);
    bool verified = code == LW_OK;
    if (verified) code = judge_verified(s, kind, message, e, why);
    if (code == LW_OK || code == LW_BUSY) return code;
    log_compared(kind, j, e, *why);
    if (verified) return code;
  }
  lw_span reason = lw_span_of(*why);
  *why = s->why;
  snprintf(s->why, sizeof s->why, "%.*s (tried: %s)", (int)reason.n, reason.p, s->names);
  return LW_PROTOCOL;
}

/* -- settings -- */

lw_code lw_scheme_set(lw_scheme *s, const char *names, const char **why) {
  lw_scheme_kind kinds[LW_SCHEME_KINDS];
  size_t count = lw_scheme_parse(names, kinds, why);
  if (!count) return LW_PROTOCOL;
  memcpy(s->tried, kinds, sizeof kinds);
  s->count = count;
  s->names[0] = 0;
  for (size_t i = 0; i < count; i++) {
    size_t n = strlen(s->names);
    snprintf(s->names + n, sizeof s->names - n, "%s%s", n ? ", " : "", table[kinds[i]].name);
  }
  return LW_OK;
}

lw_code lw_scheme_check_url(lw_scheme *s, const char *mode, const char *advertised) {
  static const char *const modes[] = {"off", "warn", "enforce"};
  for (size_t i = 0; i < LW_ARRAY_SIZE(modes); i++) {
    if (strcmp(mode, modes[i]) != 0) continue;
    s->check = (url_check)i;
    free(s->advertised);
    s->advertised = lw_strdup(advertised ? advertised : "");
    s->advertised_n = strlen(s->advertised);
    return LW_OK;
  }
  return LW_PROTOCOL;
}

bool lw_scheme_needs_request_idx(const lw_scheme *s) {
  return s->count != 1 || s->tried[0] != LW_SCHEME_LEGACY;
}

lw_scheme *lw_scheme_new(lw_auth *auth) {
  lw_scheme *s = lw_calloc(1, sizeof *s);
  const char *why = NULL;
  s->auth = auth;
  s->seen.highest = -1;
  lw_code code = lw_scheme_set(s, "url", &why);
  assert(code == LW_OK);
  return s;
}

void lw_scheme_free(lw_scheme *s) {
  if (!s) return;
  forget_seen(s);
  for (size_t i = 0; i < s->foreign_count; i++) free(s->foreign[i]);
  free(s->advertised);
  free(s);
}
