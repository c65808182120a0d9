/* SPDX-License-Identifier: MIT
 * gunicorn's request files against h1_parse: invalid ones must be refused before any request
 * completes, valid ones taken to their end. Where we mean to differ, the table of waivers says what
 * must happen instead, and why. Skipped when the files are not there (LW_DATA, ../shared/data). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <glob.h>

#include "h1_trace.h"

/* MIXED: some request completed, and then came an error. */
typedef enum verdict {
  REFUSED,
  TAKEN,
  AWAITS,
  MIXED
} verdict;
static const char *const verdict_names[] = {"refused", "taken", "awaiting more", "mixed"};

typedef struct waiver {
  const char *file, *reason;
  verdict wanted;
  int status;          /* when refused; 0: any */
  lw_h1_limits limits; /* absent: ours */
  bool as_is;          /* add no Host */
} waiver;

/* Most valid files are HTTP/1.1 without Host, which gunicorn lets pass and RFC 9112 §3.2 does not:
 * so they are run with a Host added; the invalid ones also without. */
static const waiver waivers[] = {
    /* Invalid by a limit that gunicorn was given for the file; ours is set to refuse it too. */
    {"invalid/006", "a long request line", REFUSED, 414, {4094, 65536, 128}, false},
    {"invalid/007", "a large field", REFUSED, 431, {8192, 8190, 128}, false},
    {"invalid/008", "large fields", REFUSED, 431, {8192, 8190, 128}, false},
    {"invalid/009", "many fields", REFUSED, 431, {8192, 65536, 100}, false},
    {"invalid/010", "a large field", REFUSED, 431, {8192, 20, 128}, false},
    {"invalid/011", "many fields", REFUSED, 431, {8192, 65536, 2}, false},
    {"invalid/012", "a large field", REFUSED, 431, {8192, 98, 128}, false},
    {"invalid/017", "a large field", REFUSED, 431, {8192, 8190, 128}, false},
    {"invalid/limit_header_default_01", "a large field", REFUSED, 431, {8192, 8190, 128}, false},
    /* Invalid because they end too early: nothing completes, and the end of the connection ends it
     */
    {"invalid/001", "the head lacks its end", AWAITS, 0, {0}, false},
    {"invalid/rfc9112_chunked_missing_final_crlf_01", "so does the body", AWAITS, 0, {0}, false},
    {"invalid/019", "X-Forwarded-* fields mean nothing here", TAKEN, 0, {0}, false},

    {"valid/005", "a fragment is no part of a target (RFC 9112 §3.2)", REFUSED, 400, {0}, false},
    {"valid/009", "a fragment, too", REFUSED, 400, {0}, false},
    {"valid/020", "the second request is the first one's body", TAKEN, 0, {0}, true},
    {"valid/025", "no coding but chunked is known here", REFUSED, 501, {0}, false},
    {"valid/025_line", "no coding but chunked", REFUSED, 501, {0}, false},
    {"valid/027", "a target is ASCII (RFC 3986 §2)", REFUSED, 400, {0}, false},
    {"valid/028", "space before a colon (RFC 9112 §5.1)", REFUSED, 400, {0}, false},
    {"valid/029", "identity is no coding any more", REFUSED, 501, {0}, false},
    {"valid/030", "identity", REFUSED, 501, {0}, false},
    {"valid/031", "a method that nobody routes", REFUSED, 501, {0}, false},
    {"valid/031compat", "such a method", REFUSED, 501, {0}, false},
    {"valid/031compat2", "such a method", REFUSED, 501, {0}, false},
    {"valid/040", "framing fields spelled with underscores", REFUSED, 400, {0}, false},
    {"valid/040_compat", "the same", REFUSED, 400, {0}, false},
    {"valid/099", "the file is shorter than its Content-Length", AWAITS, 0, {0}, false},
    {"valid/compat_obs_fold", "a folded field (RFC 9112 §5.2)", REFUSED, 400, {0}, false},
    {"valid/compat_obs_fold_huge", "a folded field", REFUSED, 400, {0}, false},
    {"valid/pp_01", "the PROXY protocol is not spoken here", REFUSED, 400, {0}, false},
    {"valid/pp_02", "PROXY protocol", REFUSED, 400, {0}, false},
    {"valid/pp_04", "PROXY protocol", REFUSED, 400, {0}, false},
    {"valid/pp_05", "PROXY protocol", REFUSED, 400, {0}, false},
    {"valid/rfc9112_smuggle_gzip_chunked_01", "no coding but chunked", REFUSED, 501, {0}, false},
    {"valid/rfc9112_smuggle_te_identity_chunked_01", "identity", REFUSED, 501, {0}, false},
    {"valid/rfc9112_target_authority_connect_01", "this is no proxy", REFUSED, 501, {0}, false},
    {"valid/rfc9112_target_authority_ipv6_01", "this is no proxy", REFUSED, 501, {0}, false},
};

static const waiver *find_waiver(const char *name) {
  for (size_t i = 0; i < LW_ARRAY_SIZE(waivers); i++) {
    if (strcmp(waivers[i].file, name) == 0) return &waivers[i];
  }
  return NULL;
}

static lw_body *read_file(const char *path) {
  lw_body *bytes = lw_body_new();
  char piece[4096];
  FILE *file = fopen(path, "rb");
  assert_non_null(file);
  for (size_t n; (n = fread(piece, 1, sizeof piece, file)) > 0;) lw_body_append(bytes, piece, n);
  fclose(file);
  return bytes;
}

static unsigned hex(char c) { return (unsigned)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10); }

/* Line ends in the file do not count; \r \n \t \0 and \xNN stand for bytes. */
static lw_body *unescape(const lw_body *text) {
  lw_body *bytes = lw_body_new();
  for (size_t i = 0; i < text->n; i++) {
    char c = text->p[i];
    if (c == '\n' || c == '\r') continue;
    if (c == '\\' && i + 1 < text->n) {
      switch (text->p[++i]) {
        case 'r':
          c = '\r';
          break;
        case 'n':
          c = '\n';
          break;
        case 't':
          c = '\t';
          break;
        case '0':
          c = '\0';
          break;
        case 'x':
          assert_true(i + 2 < text->n);
          c = (char)(hex(text->p[i + 1]) << 4 | hex(text->p[i + 2]));
          i += 2;
          break;
        default:
          fail_msg("unknown escape \\%c", text->p[i]);
      }
    }
    lw_body_append(bytes, &c, 1);
  }
  return bytes;
}

/* A Host after every HTTP/1.1 request line, unless there is one somewhere; *added tells. */
static lw_body *add_host(const lw_body *bytes, bool *added) {
  static const char line_end[] = " HTTP/1.1\r\n", field[] = "Host: added\r\n";
  lw_body *result = lw_body_new();
  bool has_host = memmem(bytes->p, bytes->n, "\nHost:", 6) != NULL;
  *added = false;
  for (size_t at = 0; at < bytes->n;) {
    const char *end = memmem(bytes->p + at, bytes->n - at, line_end, sizeof line_end - 1);
    size_t next = end && !has_host ? (size_t)(end - bytes->p) + sizeof line_end - 1 : bytes->n;
    lw_body_append(result, bytes->p + at, next - at);
    at = next;
    if (!end || has_host) continue;
    lw_body_append(result, field, sizeof field - 1);
    *added = true;
  }
  return result;
}

static char *trace_of(const lw_body *bytes, const waiver *w, size_t size) {
  lw_h1_limits limits = w && w->limits.max_head > 0 ? w->limits : LW_H1_LIMITS_DEFAULT;
  lw_h1_parser *p = lw_h1_new(&limits);
  size_t sizes[2] = {size, size};
  char *text = h1_trace(p, bytes->p, bytes->n, 1 << 20, h1_trace_split, sizes);
  lw_h1_free(p);
  return text;
}

static verdict verdict_of(const char *text) {
  bool completed = strstr(text, "\nbody=[") != NULL, error = strstr(text, "ERROR ") != NULL;
  size_t n = strlen(text);
  if (error) return completed ? MIXED : REFUSED;
  return completed && strcmp(text + n - 6, "\nHEAD\n") == 0 ? TAKEN : AWAITS;
}

/* Whether the bytes got the verdict, whole and byte by byte. */
static bool judge(const char *name, const lw_body *bytes, const waiver *w, verdict wanted,
                  int status) {
  char *whole = trace_of(bytes, w, SIZE_MAX), *single = trace_of(bytes, w, 1);
  const char *error = strstr(whole, "ERROR ");
  bool good = verdict_of(whole) == wanted && strcmp(whole, single) == 0 &&
              (status == 0 || (error && atoi(error + 6) == status));
  if (!good) {
    print_error("%s: wanted %s %d, got\n%s\nand in single bytes\n%s\n", name, verdict_names[wanted],
                status, whole, single);
  }
  free(whole);
  free(single);
  return good;
}

static bool check_file(const char *path, const char *name, verdict usual) {
  const waiver *w = find_waiver(name);
  lw_body *text = read_file(path), *bytes = unescape(text);
  bool added;
  lw_body *hosted = add_host(bytes, &added);
  bool as_is = w && w->as_is;
  bool good = judge(name, as_is ? bytes : hosted, w, w ? w->wanted : usual, w ? w->status : 0);
  if (added && !as_is && usual == REFUSED && !w) good = good && judge(name, bytes, w, REFUSED, 0);
  lw_body_unref(hosted);
  lw_body_unref(bytes);
  lw_body_unref(text);
  return good;
}

static void check_folder(const char *folder, verdict usual) {
  const char *data = getenv("LW_DATA");
  char *pattern = lw_printf_dup("%s/http-requests/tests/requests/%s/*.http",
                                data ? data : "../shared/data", folder);
  glob_t files;
  if (glob(pattern, 0, NULL, &files) != 0) {
    print_message("skipped: no files %s (set LW_DATA)\n", pattern);
    free(pattern);
    skip();
  }
  free(pattern);
  size_t bad = 0;
  for (size_t i = 0; i < files.gl_pathc; i++) {
    const char *path = files.gl_pathv[i], *file = strrchr(path, '/') + 1;
    char *name = lw_printf_dup("%s/%.*s", folder, (int)(strlen(file) - 5), file);
    bad += !check_file(path, name, usual);
    free(name);
  }
  print_message("%zu %s files, %zu with the wrong verdict\n", files.gl_pathc, folder, bad);
  globfree(&files);
  assert_int_equal(bad, 0);
}

static void invalid_files_are_refused(void **state) {
  (void)state;
  check_folder("invalid", REFUSED);
}
static void valid_files_are_taken(void **state) {
  (void)state;
  check_folder("valid", TAKEN);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(invalid_files_are_refused),
      cmocka_unit_test(valid_files_are_taken),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
