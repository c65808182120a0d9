/* SPDX-License-Identifier: MIT
 * HTTP/1.1 response heads and chunk framing as bytes in a buf. Decides nothing about the answer
 * (status, framing and keep-alive are the caller's), but lets no illegal field out. Called by
 * request and pipe. Owns only the Date text of the current second. */
#include "wire/h1_write.h"

#include <stdio.h>
#include <time.h>

#define SMALL_CHUNK                                                             \
  512 /* up to here a chunk is put together on the stack: one append, not three \
       */

/* Gathers small pieces on the stack, so that a usual head is one append to the buf. */
typedef struct pen {
  lw_buf *out;
  size_t n;
  char bytes[2048];
} pen;

static void flush(pen *w) {
  lw_buf_add(w->out, w->bytes, w->n);
  w->n = 0;
}

static inline void put(pen *w, lw_span s) {
  if (s.n > sizeof w->bytes - w->n) {
    flush(w);
    if (s.n > sizeof w->bytes) {
      lw_buf_add_span(w->out, s);
      return;
    }
  }
  if (s.n > 0) memcpy(w->bytes + w->n, s.p, s.n);
  w->n += s.n;
}

static void put_decimal(pen *w, uint64_t value) {
  char digits[20];
  size_t at = sizeof digits;
  do {
    digits[--at] = (char)('0' + value % 10);
    value /= 10;
  } while (value > 0);
  put(w, (lw_span){digits + at, sizeof digits - at});
}

static void put_chunk_size(pen *w, size_t value) {
  char digits[18];
  size_t at = sizeof digits;
  digits[--at] = '\n';
  digits[--at] = '\r';
  do {
    digits[--at] = "0123456789abcdef"[value & 15];
    value >>= 4;
  } while (value > 0);
  put(w, (lw_span){digits + at, sizeof digits - at});
}

static const struct {
  int status;
  const char *reason;
} phrases[] = {
    {200, "OK"},
    {100, "Continue"},
    {101, "Switching Protocols"},
    {102, "Processing"},
    {103, "Early Hints"},
    {201, "Created"},
    {202, "Accepted"},
    {203, "Non-Authoritative Information"},
    {204, "No Content"},
    {205, "Reset Content"},
    {206, "Partial Content"},
    {207, "Multi-Status"},
    {300, "Multiple Choices"},
    {301, "Moved Permanently"},
    {302, "Found"},
    {303, "See Other"},
    {304, "Not Modified"},
    {307, "Temporary Redirect"},
    {308, "Permanent Redirect"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {402, "Payment Required"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {406, "Not Acceptable"},
    {407, "Proxy Authentication Required"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {411, "Length Required"},
    {412, "Precondition Failed"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {416, "Range Not Satisfiable"},
    {417, "Expectation Failed"},
    {421, "Misdirected Request"},
    {422, "Unprocessable Content"},
    {423, "Locked"},
    {424, "Failed Dependency"},
    {425, "Too Early"},
    {426, "Upgrade Required"},
    {428, "Precondition Required"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {451, "Unavailable For Legal Reasons"},
    {499, "Client Closed Request"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
    {507, "Insufficient Storage"},
    {511, "Network Authentication Required"},
};

const char *lw_h1_reason(int status) {
  for (size_t i = 0; i < LW_ARRAY_SIZE(phrases); i++) {
    if (phrases[i].status == status) return phrases[i].reason;
  }
  return "Unknown";
}

/* The whole field line in IMF-fixdate (RFC 9110 §5.6.7), made once a second. The names are written
 * out because a script may have changed the locale. */
static lw_span date_field(void) {
  static const char *const days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  static time_t made_for = -1;
  static char text[128];
  static size_t length;
  time_t now = time(NULL);
  if (now != made_for) {
    struct tm t;
    gmtime_r(&now, &t);
    int n = snprintf(text, sizeof text, "Date: %s, %02d %s %04d %02d:%02d:%02d GMT\r\n",
                     days[t.tm_wday], t.tm_mday, months[t.tm_mon], t.tm_year + 1900, t.tm_hour,
                     t.tm_min, t.tm_sec);
    assert(n > 0 && (size_t)n < sizeof text);
    length = (size_t)n;
    made_for = now;
  }
  return (lw_span){text, length};
}

static void put_status_line(pen *w, int status) {
  if (status == 200) {
    put(w, LW_SPAN("HTTP/1.1 200 OK\r\n"));
    return;
  }
  if (status < 100 || status > 999) status = 500;
  put(w, LW_SPAN("HTTP/1.1 "));
  put_decimal(w, (uint64_t)status);
  put(w, LW_SPAN(" "));
  put(w, lw_span_of(lw_h1_reason(status)));
  put(w, LW_SPAN("\r\n"));
}

/* Returns how many fields were illegal; *dated: whether a Date was among those written. */
static size_t put_fields(pen *w, const lw_headers *headers, bool *dated) {
  lw_span named;
  const lw_headers *naming =
      lw_headers_get(headers, LW_SPAN("Connection"), &named) ? headers : NULL;
  size_t illegal = 0;
  for (size_t i = 0; i < headers->count; i++) {
    lw_span name = headers->items[i].name, value = headers->items[i].value;
    if (!lw_header_name_ok(name) || !lw_header_value_ok(value)) {
      illegal++;
      continue;
    }
    if (lw_header_is_hop_by_hop(naming, name)) continue;
    if (lw_span_ieq(name, LW_SPAN("Content-Length"))) continue;
    if (lw_span_ieq(name, LW_SPAN("Date"))) *dated = true;
    put(w, name);
    put(w, LW_SPAN(": "));
    put(w, value);
    put(w, LW_SPAN("\r\n"));
  }
  return illegal;
}

size_t lw_h1_write_head(lw_buf *out, int status, int client_minor, const lw_headers *headers,
                        lw_h1_framing framing, uint64_t length, bool keep_alive) {
  assert(framing != LW_H1_CHUNKED || client_minor > 0);
  pen w;
  w.out = out;
  w.n = 0;
  put_status_line(&w, status);
  bool dated = false;
  size_t illegal = put_fields(&w, headers, &dated);
  if (framing == LW_H1_LENGTH) {
    put(&w, LW_SPAN("Content-Length: "));
    put_decimal(&w, length);
    put(&w, LW_SPAN("\r\n"));
  } else if (framing == LW_H1_CHUNKED) {
    put(&w, LW_SPAN("Transfer-Encoding: chunked\r\n"));
  }
  if (!keep_alive || framing == LW_H1_UNTIL_CLOSE)
    put(&w, LW_SPAN("Connection: close\r\n"));
  else if (client_minor == 0)
    put(&w, LW_SPAN("Connection: keep-alive\r\n"));
  if (!dated) put(&w, date_field());
  put(&w, LW_SPAN("\r\n"));
  flush(&w);
  return illegal;
}

void lw_h1_write_continue(lw_buf *out) {
  lw_buf_add_span(out, LW_SPAN("HTTP/1.1 100 Continue\r\n\r\n"));
}

void lw_h1_write_chunk(lw_buf *out, const void *p, size_t n) {
  assert(n > 0);
  pen w;
  w.out = out;
  w.n = 0;
  put_chunk_size(&w, n);
  put(&w, (lw_span){p, n});
  put(&w, LW_SPAN("\r\n"));
  flush(&w);
}

void lw_h1_write_chunk_from(lw_buf *out, lw_buf *from, size_t n) {
  lw_span first = lw_buf_peek(from);
  if (n <= SMALL_CHUNK && n <= first.n) {
    lw_h1_write_chunk(out, first.p, n);
    lw_buf_consume(from, n);
    return;
  }
  assert(n > 0);
  pen w;
  w.out = out;
  w.n = 0;
  put_chunk_size(&w, n);
  flush(&w);
  lw_buf_move(out, from, n);
  lw_buf_add_span(out, LW_SPAN("\r\n"));
}

void lw_h1_write_last_chunk(lw_buf *out) { lw_buf_add_span(out, LW_SPAN("0\r\n\r\n")); }
