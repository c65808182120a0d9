/* SPDX-License-Identifier: MIT
 * For tests: whether a log line is one line, valid UTF-8, free of what steers a terminal, and (in
 * its JSON form) one object of plain members. Strict where a reader of logs would be. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* Past the character at p; NULL when it is not well formed, or a C1 control. */
static inline const char *utf8_char(const char *p) {
  unsigned char c = (unsigned char)p[0];
  int more = c < 0x80 ? 0 : c >= 0xc2 && c < 0xe0 ? 1 : c >= 0xe0 && c < 0xf0 ? 2 : 3;
  if ((c >= 0x80 && c < 0xc2) || c > 0xf4) return NULL;
  for (int i = 1; i <= more; i++)
    if (((unsigned char)p[i] & 0xc0) != 0x80) return NULL;
  unsigned char d = (unsigned char)p[1];
  if ((c == 0xe0 && d < 0xa0) || (c == 0xed && d > 0x9f) || (c == 0xf0 && d < 0x90) ||
      (c == 0xf4 && d > 0x8f))
    return NULL;
  if (c == 0xc2 && d < 0xa0) return NULL; /* C1 controls: well formed, but not wanted in a line */
  return p + 1 + more;
}

static inline const char *json_string(const char *p) {
  if (*p++ != '"') return NULL;
  while (*p != '"') {
    if ((unsigned char)*p < 0x20 || *p == 0x7f) return NULL;
    if (*p != '\\') {
      p = utf8_char(p);
      if (!p) return NULL;
    } else if (p[1] == 'u') {
      if (strspn(p + 2, "0123456789abcdef") < 4) return NULL;
      p += 6;
    } else {
      if (!p[1] || !strchr("\"\\nrtbf/", p[1])) return NULL;
      p += 2;
    }
  }
  return p + 1;
}

static inline const char *json_value(const char *p) {
  if (*p == '"') return json_string(p);
  static const char *const words[] = {"true", "false", "null"};
  for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
    if (strncmp(p, words[i], strlen(words[i])) == 0) return p + strlen(words[i]);
  if (*p == '-') p++;
  size_t n = strspn(p, "0123456789");
  if (n == 0 || (n > 1 && *p == '0')) return NULL;
  p += n;
  if (*p != '.') return p;
  n = strspn(p + 1, "0123456789");
  return n > 0 ? p + 1 + n : NULL;
}

static inline bool is_json_line(const char *p) {
  if (*p++ != '{') return false;
  for (;;) {
    if (!(p = json_string(p)) || *p++ != ':' || !(p = json_value(p))) return false;
    if (*p == '}') return p[1] == '\n' && p[2] == '\0';
    if (*p++ != ',') return false;
  }
}

/* One line, valid UTF-8, nothing that steers a terminal. */
static inline bool is_text_line(const char *p) {
  while (*p && *p != '\n') {
    if ((unsigned char)*p < 0x20 || *p == 0x7f || !(p = utf8_char(p))) return false;
  }
  return p[0] == '\n' && p[1] == '\0';
}
