/* SPDX-License-Identifier: MIT
 * Gathers the fields of one request in one piece of memory, in curl's notation: "Name: value",
 * "Name;" for an empty value, "Name:" for a field that is not to be sent. Called by upstream. */
#include "exchange/fields.h"

#include <stdlib.h>

enum {
  MOST_KEPT = 4096 /* bytes */
};

static void add_line(lw_fields *f, lw_span name, const char *separator, lw_span value) {
  size_t separator_n = strlen(separator), need = name.n + separator_n + value.n + 1;
  if (f->capacity - f->size < need) {
    f->capacity = LW_MAX(f->capacity * 2, f->size + need + 256);
    f->lines = lw_realloc(f->lines, f->capacity);
  }
  char *p = f->lines + f->size;
  memcpy(p, name.p, name.n);
  memcpy(p + name.n, separator, separator_n);
  if (value.n > 0) memcpy(p + name.n + separator_n, value.p, value.n);
  p[need - 1] = 0;
  f->size += need;
  f->count++;
}

lw_code lw_fields_add(lw_fields *f, lw_span name, lw_span value) {
  static const lw_headers none = {0};
  if (!lw_header_name_ok(name) || !lw_header_value_ok(value)) return LW_PROTOCOL;
  if (lw_header_is_hop_by_hop(&none, name) || lw_span_ieq(name, LW_SPAN("Host")) ||
      lw_span_ieq(name, LW_SPAN("Content-Length")) || lw_span_ieq(name, LW_SPAN("Expect"))) {
    return LW_OK;
  }
  f->has_accept |= lw_span_ieq(name, LW_SPAN("Accept"));
  f->has_content_type |= lw_span_ieq(name, LW_SPAN("Content-Type"));
  add_line(f, name, value.n ? ": " : ";", value);
  return LW_OK;
}

void lw_fields_copy(lw_fields *to, const lw_fields *from) {
  char *lines = to->lines;
  size_t capacity = to->capacity;
  if (capacity < from->size) lines = lw_realloc(lines, capacity = from->size + 256);
  if (from->size) memcpy(lines, from->lines, from->size);
  *to = *from;
  to->lines = lines;
  to->capacity = capacity;
}

void lw_fields_seal(lw_fields *f, bool with_body) {
  lw_span none = {0, 0};
  if (!f->has_accept) add_line(f, LW_SPAN("Accept"), ":", none);
  if (!with_body) return;
  add_line(f, LW_SPAN("Expect"), ":", none);
  if (!f->has_content_type) add_line(f, LW_SPAN("Content-Type"), ":", none);
}

void lw_fields_clear(lw_fields *f) {
  if (f->capacity > MOST_KEPT) lw_fields_fini(f);
  *f = (lw_fields){.lines = f->lines, .capacity = f->capacity};
}

void lw_fields_fini(lw_fields *f) {
  free(f->lines);
  *f = (lw_fields){0};
}
