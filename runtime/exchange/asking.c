/* SPDX-License-Identifier: MIT
 * Sets the options of a curl handle for one call after the other. Called by upstream, of which it
 * is the half that sends. Owns the URL, the fields and a reference to the body. */
#include "exchange/asking.h"

#include <curl/curl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "exchange/address.h"

enum {
  RECEIVE_BUFFER =
      4 * 1024, /* held by every open stream; larger ones save CPU only on long answers */
  SEND_BUFFER = 32 * 1024, /* held only by calls whose body was over 64 KB */
  TCP_PROBE_S = 30,        /* an idle connection asks its peer so often whether it is still there */
};

enum {
  UNSET,
  WITHOUT_BODY,
  WITH_BODY,
  HEAD
};

void lw_asking_bind(lw_asking *a, void *easy) {
  a->easy = easy;
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
  curl_easy_setopt(easy, CURLOPT_HTTP09_ALLOWED, 0L);
  curl_easy_setopt(easy, CURLOPT_HTTP_CONTENT_DECODING, 0L);
  curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(easy, CURLOPT_PROXY, "");
  curl_easy_setopt(easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
  curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L); /* else a close would wait for the resolver */
  curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
  curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
  curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, (long)TCP_PROBE_S);
  curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, (long)TCP_PROBE_S / 2);
  curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN,
                   LONG_MAX);                   /* multi ends idle connections, to the ms */
  curl_easy_setopt(easy, CURLOPT_CAPATH, NULL); /* with a directory curl keeps no authorities */
  curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, (long)RECEIVE_BUFFER);
  curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, (long)SEND_BUFFER);
}

void lw_asking_fini(lw_asking *a) {
  free(a->url);
  free(a->applied_ca);
  free(a->head);
  lw_fields_fini(&a->fields);
  free(a->nodes);
}

void lw_asking_open(lw_asking *a, lw_span method, lw_span url) {
  bool method_ok = lw_header_name_ok(method) && method.n < sizeof a->method.name;
  snprintf(a->method.name, sizeof a->method.name, "%.*s", method_ok ? (int)method.n : 0, method.p);
  if (a->url && lw_span_eq(url, lw_span_of(a->url))) return;
  free(a->url);
  a->url = memchr(url.p, 0, url.n) ? lw_strdup("") : lw_span_dup(url);
  a->url_applied = false;
}

void lw_asking_set_body(lw_asking *a, lw_body *owner, lw_span bytes) {
  assert(!a->body);
  a->body = lw_body_ref(owner);
  a->bytes = bytes;
}

void lw_asking_drop_body(lw_asking *a) {
  lw_body_unref(a->body);
  a->body = NULL;
}

const char *lw_asking_mistake(const lw_asking *a) {
  const char *mistake = lw_address_mistake(lw_span_of(a->url));
  if (mistake) return mistake;
  if (a->method.name[0] && strcmp(a->method.name, "CONNECT") != 0) return NULL;
  return "not a usable method";
}

static int kind_of(const lw_asking *a) {
  const char *name = a->method.name;
  if (strcmp(name, "HEAD") == 0) return HEAD;
  if (a->bytes.n > 0 || strcmp(name, "POST") == 0 || strcmp(name, "PUT") == 0 ||
      strcmp(name, "PATCH") == 0) {
    return WITH_BODY;
  }
  return WITHOUT_BODY;
}

static void apply_method(lw_asking *a) {
  CURL *easy = a->easy;
  a->method.kind = kind_of(a);
  if (a->method.kind != a->applied_method.kind ||
      strcmp(a->method.name, a->applied_method.name) != 0) {
    const char *usual[] = {[WITHOUT_BODY] = "GET", [WITH_BODY] = "POST", [HEAD] = "HEAD"};
    bool special = strcmp(a->method.name, usual[a->method.kind]) != 0;
    curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
    if (a->method.kind == HEAD) curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, special ? a->method.name : NULL);
    a->applied_method = a->method;
  }
  if (a->method.kind == WITH_BODY) { /* POSTFIELDS also makes it a POST */
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)a->bytes.n);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, a->bytes.n ? a->bytes.p : "");
  }
}

static void apply_fields(lw_asking *a) {
  lw_fields *f = &a->fields;
  lw_fields_seal(f, a->method.kind == WITH_BODY);
  if (f->count > a->nodes_capacity) {
    a->nodes_capacity = f->count + 8;
    a->nodes = lw_realloc(a->nodes, a->nodes_capacity * sizeof *a->nodes);
  }
  char *p = f->lines;
  for (size_t i = 0; i < f->count; i++) {
    a->nodes[i] = (struct curl_slist){p, &a->nodes[i + 1]};
    p += strlen(p) + 1;
  }
  if (f->count) a->nodes[f->count - 1].next = NULL;
  curl_easy_setopt(a->easy, CURLOPT_HTTPHEADER, f->count ? a->nodes : NULL);
}

static void apply_url(lw_asking *a) {
  if (a->url_applied) return;
  lw_span address = lw_span_of(a->url), socket = lw_address_socket(address);
  char *path = socket.n ? lw_span_dup(socket) : NULL, *url = lw_address_url(address);
  curl_easy_setopt(a->easy, CURLOPT_UNIX_SOCKET_PATH, path);
  curl_easy_setopt(a->easy, CURLOPT_URL, url);
  free(path);
  free(url);
  a->single = lw_address_is_single(address);
  a->url_applied = true;
}

static bool same(const char *a, const char *b) { return a == b || (a && b && strcmp(a, b) == 0); }

static void apply_trust(lw_asking *a, const lw_asking_terms *terms) {
  if (!same(a->applied_ca, terms->ca_file)) {
    curl_easy_setopt(a->easy, CURLOPT_CAINFO, terms->ca_file);
    free(a->applied_ca);
    a->applied_ca = terms->ca_file ? lw_strdup(terms->ca_file) : NULL;
  }
  if (a->applied_insecure != terms->insecure) {
    curl_easy_setopt(a->easy, CURLOPT_SSL_VERIFYPEER, terms->insecure ? 0L : 1L);
    curl_easy_setopt(a->easy, CURLOPT_SSL_VERIFYHOST, terms->insecure ? 0L : 2L);
    a->applied_insecure = terms->insecure;
  }
}

/* curl must know the time it has for connecting: of several addresses each gets its part. For a
 * single one our own deadline does, and curl keeps no timer that it would pass by at each event of
 * any transfer. */
static void apply_patience(lw_asking *a, uint64_t wanted_ms) {
  uint64_t connect_ms = a->single ? 0 : LW_MIN(wanted_ms, (uint64_t)LONG_MAX);
  if (connect_ms == a->applied_connect_ms) return;
  curl_easy_setopt(a->easy, CURLOPT_CONNECTTIMEOUT_MS, (long)connect_ms);
  a->applied_connect_ms = connect_ms;
}

void lw_asking_apply(lw_asking *a, const lw_asking_terms *terms) {
  apply_method(a);
  apply_fields(a);
  apply_url(a);
  apply_trust(a, terms);
  apply_patience(a, terms->connect_ms);
}

static char *put(char *out, const char *p, size_t n) {
  memcpy(out, p, n);
  return out + n;
}

/* A line in curl's notation as it goes out; "Name;" stands for an empty value. */
static char *put_line(char *out, const char *line) {
  size_t n = strlen(line);
  out = put(out, line, n);
  if (n > 0 && line[n - 1] == ';' && !memchr(line, ':', n)) out[-1] = ':';
  return put(out, "\r\n", 2);
}

lw_span lw_asking_head(lw_asking *a, lw_span host, lw_span path) {
  const lw_fields *f = &a->fields;
  size_t most = sizeof a->method.name + path.n + host.n + f->size + 2 * f->count + 100;
  if (most > a->head_capacity) {
    a->head_capacity = most + 256;
    a->head = lw_realloc(a->head, a->head_capacity);
  }
  char *out = put(a->head, a->method.name, strlen(a->method.name));
  out = put(out, " ", 1);
  out = put(out, path.p, path.n);
  out = put(out, " HTTP/1.1\r\nHost: ", 17);
  out = put(out, host.p, host.n);
  out = put(out, "\r\n", 2);
  const char *line = f->lines;
  for (size_t i = 0; i < f->count; i++, line += strlen(line) + 1) out = put_line(out, line);
  if (kind_of(a) == WITH_BODY) out += sprintf(out, "Content-Length: %zu\r\n", a->bytes.n);
  out = put(out, "\r\n", 2);
  return (lw_span){a->head, (size_t)(out - a->head)};
}

bool lw_asking_is_head(const lw_asking *a) { return kind_of(a) == HEAD; }

void lw_asking_clear(lw_asking *a) {
  if (a->applied_method.kind == WITH_BODY) {
    curl_easy_setopt(a->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)0);
    curl_easy_setopt(a->easy, CURLOPT_POSTFIELDS, "");
  }
  lw_asking_drop_body(a);
  lw_fields_clear(&a->fields);
  a->bytes = (lw_span){0, 0};
}
