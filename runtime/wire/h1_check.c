/* SPDX-License-Identifier: MIT
 * The rules for a request's lines: request line, fields, chunk lines, trailers. Finds no line ends
 * and decodes no body; h1_parse does, and is the only caller. Owns nothing. Wherever two readers
 * could take a message differently (RFC 9112 §11.2), it is refused, not repaired. */
#include "wire/h1_check.h"

#define MAX_SIZE_DIGITS 16 /* of a chunk size: as many as 64 bits have, leading zeros included */

static bool refuse(lw_h1_fault *fault, int status, const char *text) {
  *fault = (lw_h1_fault){status, text};
  return false;
}

static lw_span from(lw_span s, size_t offset) { return (lw_span){s.p + offset, s.n - offset}; }

/* Offset of the first c, s.n when there is none. */
static size_t find(lw_span s, char c) {
  const char *at = s.n > 0 ? memchr(s.p, c, s.n) : NULL;
  return at ? (size_t)(at - s.p) : s.n;
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_hex(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* unreserved and sub-delims of RFC 3986 §2. */
static const bool host_char[256] = {
    ['a' ... 'z'] = true, ['A' ... 'Z'] = true, ['0' ... '9'] = true, ['-'] = true, ['.'] = true,
    ['_'] = true,         ['~'] = true,         ['!'] = true,         ['$'] = true, ['&'] = true,
    ['\''] = true,        ['('] = true,         [')'] = true,         ['*'] = true, ['+'] = true,
    [','] = true,         [';'] = true,         ['='] = true,
};

/* Bytes of the host at the front of s: an address in brackets or a reg-name, which may be empty.
 * SIZE_MAX when neither. */
static size_t host_length(lw_span s) {
  size_t i = 0;
  if (s.n > 0 && s.p[0] == '[') {
    for (i = 1; i < s.n && (is_hex(s.p[i]) || s.p[i] == ':' || s.p[i] == '.');) i++;
    return i > 1 && i < s.n && s.p[i] == ']' ? i + 1 : SIZE_MAX;
  }
  while (i < s.n) {
    if (host_char[(unsigned char)s.p[i]]) {
      i++;
    } else if (s.p[i] == '%' && s.n - i >= 3 && is_hex(s.p[i + 1]) && is_hex(s.p[i + 2])) {
      i += 3;
    } else {
      break;
    }
  }
  return i;
}

/* uri-host [ ":" port ] (RFC 9110 §7.2). */
static bool host_ok(lw_span s, bool may_be_empty) {
  size_t i = host_length(s);
  if (i > s.n || (i == 0 && !may_be_empty)) return false;
  if (i < s.n && s.p[i] == ':') {
    for (i++; i < s.n && is_digit(s.p[i]);) i++;
  }
  return i == s.n;
}

static bool find_method(lw_span text, lw_h1_method *method) {
  static const char *const names[] = {
      [LW_H1_GET] = "GET",         [LW_H1_HEAD_METHOD] = "HEAD", [LW_H1_POST] = "POST",
      [LW_H1_PUT] = "PUT",         [LW_H1_DELETE] = "DELETE",    [LW_H1_PATCH] = "PATCH",
      [LW_H1_OPTIONS] = "OPTIONS",
  };
  for (size_t i = 0; i < LW_ARRAY_SIZE(names); i++) {
    if (lw_span_eq(text, lw_span_of(names[i]))) {
      *method = (lw_h1_method)i;
      return true;
    }
  }
  return false;
}

static void split_query(lw_span s, lw_h1_head *head) {
  size_t mark = find(s, '?');
  head->path = (lw_span){s.p, mark};
  head->query = from(s, LW_MIN(mark + 1, s.n));
}

/* http://authority/path?query: the authority is checked and then left alone, for one worker answers
 * under every name. */
static bool split_absolute(lw_span target, lw_h1_head *head) {
  size_t scheme = 0;
  if (target.n > 7 && lw_span_ieq((lw_span){target.p, 7}, LW_SPAN("http://"))) scheme = 7;
  if (target.n > 8 && lw_span_ieq((lw_span){target.p, 8}, LW_SPAN("https://"))) scheme = 8;
  if (scheme == 0) return false;
  lw_span rest = from(target, scheme);
  size_t end = LW_MIN(find(rest, '/'), find(rest, '?'));
  lw_span authority = {rest.p, end};
  size_t at = find(authority, '@');
  if (!host_ok(at < authority.n ? from(authority, at + 1) : authority, false)) return false;
  split_query(from(rest, end), head);
  if (head->path.n == 0) head->path = LW_SPAN("/");
  return true;
}

static bool check_target(lw_h1_head *head, lw_h1_fault *fault) {
  lw_span target = head->target;
  bool bad = false;
  for (size_t i = 0; i < target.n; i++) { /* no early exit: so it is vectorised */
    unsigned char c = (unsigned char)target.p[i];
    bad |= (c <= 0x20) | (c >= 0x7f) | (c == '#');
  }
  if (bad) return refuse(fault, 400, "The request target holds a character that is not allowed.");
  if (target.n > 0 && target.p[0] == '/') {
    split_query(target, head);
  } else if (lw_span_eq(target, LW_SPAN("*"))) {
    if (head->method != LW_H1_OPTIONS) {
      return refuse(fault, 400, "The request target * goes with OPTIONS only.");
    }
    head->path = target;
    head->query = from(target, target.n);
  } else if (!split_absolute(target, head)) {
    return refuse(fault, 400, "The request target is neither a path nor an http URL.");
  }
  return true;
}

bool lw_h1_check_request_line(lw_span line, const lw_h1_limits *limits, lw_h1_head *head,
                              lw_h1_fault *fault) {
  size_t method_end = find(line, ' ');
  head->method_text = (lw_span){line.p, method_end};
  if (!lw_header_name_ok(head->method_text) || method_end == line.n) {
    return refuse(fault, 400, "The request line does not begin with a method and a space.");
  }
  lw_span rest = from(line, method_end + 1);
  size_t target_end = find(rest, ' ');
  head->target = (lw_span){rest.p, target_end};
  if (target_end == 0 || target_end == rest.n) {
    return refuse(fault, 400, "The request line does not hold method, target and version.");
  }
  lw_span version = from(rest, target_end + 1);
  if (version.n != 8 || memcmp(version.p, "HTTP/", 5) != 0 || !is_digit(version.p[5]) ||
      version.p[6] != '.' || !is_digit(version.p[7])) {
    return refuse(fault, 400, "The request line does not end with an HTTP version.");
  }
  if (version.p[5] != '1' || version.p[7] > '1') {
    return refuse(fault, 505, "Only HTTP/1.0 and HTTP/1.1 are spoken here.");
  }
  head->minor = version.p[7] - '0';
  if (target_end > limits->max_target) return refuse(fault, 414, "The request target is too long.");
  if (!find_method(head->method_text, &head->method)) {
    return refuse(fault, 501, "This method is not known here.");
  }
  return check_target(head, fault);
}

static bool split_field(lw_span line, lw_header *field, lw_h1_fault *fault) {
  if (line.p[0] == ' ' || line.p[0] == '\t') {
    return refuse(fault, 400, "A header field is folded over several lines.");
  }
  size_t colon = find(line, ':');
  if (colon == line.n) return refuse(fault, 400, "A header line has no colon.");
  field->name = (lw_span){line.p, colon};
  field->value = lw_span_trim(from(line, colon + 1));
  if (!lw_header_name_ok(field->name)) {
    bool spaced = colon > 0 && (line.p[colon - 1] == ' ' || line.p[colon - 1] == '\t');
    return refuse(fault, 400,
                  spaced ? "A header field has a space before its colon."
                         : "The name of a header field is not a token.");
  }
  if (!lw_header_value_ok(field->value)) {
    return refuse(fault, 400, "The value of a header field holds a control character.");
  }
  return true;
}

bool lw_h1_check_field(lw_span line, const lw_h1_limits *limits, lw_h1_head *head,
                       lw_h1_fault *fault) {
  lw_header field;
  if (head->headers.count == limits->max_headers) {
    return refuse(fault, 431, "The request has too many header fields.");
  }
  if (!split_field(line, &field, fault)) return false;
  lw_headers_add_borrowed(&head->headers, field.name, field.value);
  return true;
}

/* The fields that mean something here; each may stand in a head once, but for the last two. */
typedef enum field_kind {
  FIELD_HOST,
  FIELD_EXPECT,
  FIELD_CONTENT_TYPE,
  FIELD_CONTENT_LENGTH,
  FIELD_AUTHORIZATION,
  FIELD_SINGLE_END,
  FIELD_CONNECTION = FIELD_SINGLE_END,
  FIELD_TRANSFER_ENCODING,
  FIELD_OTHER,
} field_kind;

/* Equal but for case, and for underscores where `plain` has hyphens. */
static bool reads_as(lw_span name, const char *plain) {
  for (size_t i = 0; i < name.n; i++) {
    char c = name.p[i] == '_' ? '-' : name.p[i];
    if (c != plain[i] && (c | 0x20) != plain[i]) return false;
  }
  return true;
}

static field_kind kind_of(lw_span name) {
  switch (name.n) {
    case 4:
      return lw_span_ieq(name, LW_SPAN("host")) ? FIELD_HOST : FIELD_OTHER;
    case 6:
      return lw_span_ieq(name, LW_SPAN("expect")) ? FIELD_EXPECT : FIELD_OTHER;
    case 10:
      return lw_span_ieq(name, LW_SPAN("connection")) ? FIELD_CONNECTION : FIELD_OTHER;
    case 12:
      return lw_span_ieq(name, LW_SPAN("content-type")) ? FIELD_CONTENT_TYPE : FIELD_OTHER;
    case 13:
      return lw_span_ieq(name, LW_SPAN("authorization")) ? FIELD_AUTHORIZATION : FIELD_OTHER;
    case 14:
      return reads_as(name, "content-length") ? FIELD_CONTENT_LENGTH : FIELD_OTHER;
    case 17:
      return reads_as(name, "transfer-encoding") ? FIELD_TRANSFER_ENCODING : FIELD_OTHER;
    default:
      return FIELD_OTHER;
  }
}

/* What the fields of one head add up to. */
typedef struct field_sum {
  bool seen[FIELD_SINGLE_END];
  bool wants_close, wants_keep_alive;
  size_t encodings;          /* Transfer-Encoding fields */
  bool chunked, unsupported; /* what they list */
  bool exact;                /* the last one is `chunked` and nothing else */
} field_sum;

static bool add_encoding(field_sum *sum, lw_span value, lw_h1_fault *fault) {
  sum->encodings++;
  sum->exact = lw_span_ieq(value, LW_SPAN("chunked"));
  lw_span item;
  while (lw_span_next(&value, ',', &item)) {
    if (sum->chunked || !lw_header_name_ok(item)) {
      return refuse(fault, 400, "The Transfer-Encoding is malformed or chunked is not last.");
    }
    if (lw_span_ieq(item, LW_SPAN("chunked"))) {
      sum->chunked = true;
    } else {
      sum->unsupported = true;
    }
  }
  return true;
}

static void add_connection(field_sum *sum, lw_span value) {
  lw_span item;
  while (lw_span_next(&value, ',', &item)) {
    if (lw_span_ieq(item, LW_SPAN("close"))) sum->wants_close = true;
    if (lw_span_ieq(item, LW_SPAN("keep-alive"))) sum->wants_keep_alive = true;
  }
}

static bool add_field(field_sum *sum, lw_h1_head *head, const lw_header *field,
                      lw_h1_fault *fault) {
  field_kind kind = kind_of(field->name);
  if (kind < FIELD_SINGLE_END) {
    if (sum->seen[kind]) {
      return refuse(fault, 400, "A header field that may stand there once is repeated.");
    }
    sum->seen[kind] = true;
  }
  switch (kind) {
    case FIELD_HOST:
      return host_ok(field->value, true) || refuse(fault, 400, "The Host field is malformed.");
    case FIELD_EXPECT:
      head->expect_continue = lw_span_ieq(field->value, LW_SPAN("100-continue"));
      return head->expect_continue || refuse(fault, 417, "Only 100-continue may be expected.");
    case FIELD_CONTENT_LENGTH:
    case FIELD_TRANSFER_ENCODING:
      /* A server that turns hyphens into underscores, as CGI did, would take it for the real one.
       */
      if (find(field->name, '_') < field->name.n) {
        return refuse(fault, 400, "A framing field is spelled with an underscore.");
      }
      if (kind == FIELD_TRANSFER_ENCODING) return add_encoding(sum, field->value, fault);
      head->has_length = lw_header_parse_length(field->value, &head->length);
      return head->has_length || refuse(fault, 400, "The Content-Length is not a number.");
    case FIELD_CONNECTION:
      add_connection(sum, field->value);
      return true;
    default:
      return true;
  }
}

static bool check_framing(const field_sum *sum, lw_h1_head *head, lw_h1_fault *fault) {
  if (sum->encodings == 0) return true;
  if (head->minor == 0) {
    return refuse(fault, 400, "Transfer-Encoding does not exist in HTTP/1.0.");
  }
  if (head->has_length) {
    return refuse(fault, 400, "Content-Length and Transfer-Encoding exclude each other.");
  }
  if (sum->unsupported) {
    return refuse(fault, 501, "The only transfer coding known here is chunked.");
  }
  if (sum->encodings > 1 || !sum->exact) {
    return refuse(fault, 400, "The Transfer-Encoding is malformed.");
  }
  head->chunked = true;
  return true;
}

bool lw_h1_check_head(lw_h1_head *head, lw_h1_fault *fault) {
  field_sum sum = {0};
  for (size_t i = 0; i < head->headers.count; i++) {
    if (!add_field(&sum, head, &head->headers.items[i], fault)) return false;
  }
  if (head->minor == 1 && !sum.seen[FIELD_HOST]) {
    return refuse(fault, 400, "An HTTP/1.1 request must have a Host field.");
  }
  if (!check_framing(&sum, head, fault)) return false;
  head->keep_alive = !sum.wants_close && (head->minor == 1 || sum.wants_keep_alive);
  /* RFC 9110 §10.1.1: from an HTTP/1.0 client it is to be ignored, and without a body it says
   * nothing. */
  bool has_body = head->chunked || head->length > 0;
  head->expect_continue = head->expect_continue && head->minor == 1 && has_body;
  return true;
}

bool lw_h1_check_chunk_line(lw_span line, size_t *digits, lw_h1_fault *fault) {
  size_t i = 0;
  while (i < line.n && is_hex(line.p[i])) i++;
  if (i == 0 || i > MAX_SIZE_DIGITS) {
    return refuse(fault, 400, "A chunk size is not a hexadecimal number.");
  }
  *digits = i;
  lw_span extension = from(line, i);
  if (extension.n > 0 && (extension.p[0] != ';' || !lw_header_value_ok(extension))) {
    return refuse(fault, 400, "A chunk extension is malformed.");
  }
  return true;
}

bool lw_h1_check_trailer(lw_span line, lw_h1_fault *fault) {
  static const char *const forbidden[] = {
      "authorization",  "connection",        "content-encoding",
      "content-length", "content_length",    "expect",
      "host",           "transfer-encoding", "te",
      "trailer",        "upgrade",           "transfer_encoding"};
  lw_header field;
  if (!split_field(line, &field, fault)) return false;
  for (size_t i = 0; i < LW_ARRAY_SIZE(forbidden); i++) {
    if (lw_span_ieq(field.name, lw_span_of(forbidden[i]))) {
      return refuse(fault, 400, "A trailer field is not allowed in a trailer.");
    }
  }
  return true;
}
