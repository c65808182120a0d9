/* SPDX-License-Identifier: MIT
 * Writing JSON. Called by the rooms that report: worker/report, admin, session. Keeps no state. */
#include "wire/json_put.h"

#include <stdio.h>
#include <stdlib.h>

#include "wire/json.h"

void lw_put(lw_body *b, const char *text) { lw_body_append(b, text, strlen(text)); }

void lw_put_integer(lw_body *b, int64_t v) {
  char text[24];
  lw_body_append(b, text, (size_t)snprintf(text, sizeof text, "%lld", (long long)v));
}

void lw_put_number(lw_body *b, double v) {
  char text[32];
  size_t n = lw_json_number_text(text, v);
  lw_body_append(b, n ? text : "0", n ? n : 1);
}

void lw_put_bool(lw_body *b, bool v) { lw_put(b, v ? "true" : "false"); }

void lw_put_string(lw_body *b, lw_span s) {
  char *escaped = lw_alloc(lw_json_escaped_size(s));
  lw_body_append(b, escaped, lw_json_escape(escaped, s));
  free(escaped);
}

void lw_put_text(lw_body *b, const char *text) { lw_put_string(b, lw_span_of(text)); }
