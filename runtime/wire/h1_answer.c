/* SPDX-License-Identifier: MIT
 * The head of an HTTP/1 answer: status line, fields, and whether its Content-Length can be
 * believed. Called by upstream for each line that curl hands over. Owns the list of fields. */
#include "wire/h1_answer.h"

void lw_h1_answer_init(lw_h1_answer *a) { *a = (lw_h1_answer){0}; }
void lw_h1_answer_fini(lw_h1_answer *a) {
  lw_headers_fini(&a->headers);
  lw_h1_answer_init(a);
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static const char *take_status(lw_h1_answer *a, lw_span line) {
  const char *p = line.p, *wrong = "a status line that makes no sense";
  if (line.n < 12 || memcmp(p, "HTTP/1.", 7) != 0 || !is_digit(p[7]) || p[8] != ' ') return wrong;
  if (!is_digit(p[9]) || !is_digit(p[10]) || !is_digit(p[11])) return wrong;
  if (line.n > 12 && p[12] != ' ') return wrong;
  a->status = (p[9] - '0') * 100 + (p[10] - '0') * 10 + (p[11] - '0');
  if (a->status < 100) return wrong;
  if (a->status == 101) return "a switch to another protocol";
  a->inside = true;
  a->begun = a->status >= 200;
  return NULL;
}

static const char *take_field(lw_h1_answer *a, lw_span line) {
  if (line.p[0] == ' ' || line.p[0] == '\t') return "a folded header field";
  const char *colon = memchr(line.p, ':', line.n);
  if (!colon) return "a header field without a colon";
  lw_span name = {line.p, (size_t)(colon - line.p)};
  lw_span value = lw_span_trim((lw_span){colon + 1, line.n - name.n - 1});
  if (!lw_header_name_ok(name) || !lw_header_value_ok(value)) return "an illegal header field";
  if (!a->begun) return NULL;
  if (a->headers.count >= LW_H1_ANSWER_MAX_FIELDS) return "more than 256 header fields";
  lw_headers_add(&a->headers, name, value);
  return NULL;
}

static const char *end_head(lw_h1_answer *a) {
  a->inside = false;
  if (!a->begun) return NULL;
  bool chunked = false;
  for (size_t i = 0; i < a->headers.count; i++) {
    const lw_header *h = &a->headers.items[i];
    uint64_t length;
    if (lw_span_ieq(h->name, LW_SPAN("Transfer-Encoding"))) {
      if (chunked || !lw_span_ieq(h->value, LW_SPAN("chunked")))
        return "an unknown transfer coding";
      chunked = true;
    } else if (lw_span_ieq(h->name, LW_SPAN("Content-Length"))) {
      if (!lw_header_parse_length(h->value, &length)) return "a Content-Length that is no number";
      if (a->has_length && length != a->length) return "two Content-Lengths that differ";
      a->has_length = true;
      a->length = length;
    }
  }
  if (chunked) a->has_length = false;
  a->complete = true;
  return NULL;
}

const char *lw_h1_answer_line(lw_h1_answer *a, lw_span line) {
  a->bytes += line.n;
  if (a->bytes > LW_H1_ANSWER_MAX_BYTES) return "more than 64 KB of header fields";
  if (a->complete) return NULL; /* a trailer */
  if (line.n > 0 && line.p[line.n - 1] == '\n') line.n--;
  if (line.n > 0 && line.p[line.n - 1] == '\r') line.n--;
  if (!a->inside) return take_status(a, line);
  return line.n > 0 ? take_field(a, line) : end_head(a);
}

bool lw_h1_answer_keep_alive(const lw_h1_answer *a, uint64_t *seconds) {
  const lw_span wanted = LW_SPAN("timeout=");
  lw_span value;
  if (!lw_headers_get(&a->headers, LW_SPAN("Keep-Alive"), &value)) return false;
  for (; value.n > wanted.n; value.p++, value.n--) {
    if (!lw_span_ieq((lw_span){value.p, wanted.n}, wanted)) continue;
    size_t n = wanted.n;
    while (n < value.n && is_digit(value.p[n])) n++;
    return lw_header_parse_length((lw_span){value.p + wanted.n, n - wanted.n}, seconds);
  }
  return false;
}
