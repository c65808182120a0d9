/* SPDX-License-Identifier: MIT
 * `luaworker verify`: a saved envelope checked offline, under each scheme, with the exact bytes on
 * demand: why does the worker answer 401? Uses the rooms that the worker uses; no loop, no network,
 * and no memory of replays, so a good one may still be refused for not being fresh. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "program/options.h"
#include "program/program.h"
#include "wire/canon.h"
#include "wire/doc.h"
#include "worker/auth.h"
#include "worker/scheme.h"

enum {
  GOOD = 0,
  BAD = 1,
  UNREADABLE = 2
};
#define INPUT_MAX (64u << 20)

static struct {
  const char *public_key, *schemes;
  bool verbose;
} set = {NULL, "url,sorted,legacy", false};

/* A sentence on stderr. */
static bool complain(const char *format, ...) LW_PRINTF(1, 2);
static bool complain(const char *format, ...) {
  va_list args;
  fputs("luaworker verify: ", stderr);
  va_start(args, format);
  vfprintf(stderr, format, args);
  va_end(args);
  fputc('\n', stderr);
  return false;
}

/* The whole file, or standard input for "-"; NULL after a complaint. */
static lw_body *read_input(const char *path) {
  FILE *in = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
  char piece[65536];
  size_t n;
  if (!in) {
    complain("%s: %s", path, strerror(errno));
    return NULL;
  }
  lw_body *body = lw_body_new();
  while (body->n <= INPUT_MAX && (n = fread(piece, 1, sizeof piece, in)) > 0) {
    lw_body_append(body, piece, n);
  }
  bool good = !ferror(in) || complain("%s: %s", path, strerror(errno));
  if (good && body->n > INPUT_MAX) good = complain("%s is longer than 64 MB", path);
  if (in != stdin) fclose(in);
  if (good) return body;
  lw_body_unref(body);
  return NULL;
}

static bool load_key(lw_auth *auth) {
  const char *why = NULL;
  lw_body *pem = read_input(set.public_key);
  if (!pem) return false;
  bool good = lw_auth_set_key(auth, (lw_span){pem->p, pem->n}, &why) == LW_OK;
  lw_body_unref(pem);
  return good || complain("%s: %s", set.public_key, why);
}

/* The auth_data in the file, as a document of its own; NULL after a complaint. */
static lw_doc *read_auth_data(const char *path) {
  lw_body *body = read_input(path);
  if (!body) return NULL;
  lw_doc *doc = lw_doc_parse(body);
  lw_body_unref(body);
  uint32_t inner = doc->json.error ? 0 : lw_json_member(&doc->json, 0, LW_SPAN("auth_data"));
  if (doc->json.error) {
    complain("%s is not JSON: %s at byte %zu", path, doc->json.error, doc->json.error_offset);
    lw_doc_unref(doc);
    return NULL;
  }
  if (!inner) return doc;
  lw_span text = lw_json_text(&doc->json, inner);
  lw_doc *auth_data = lw_doc_parse_copy(text.p, text.n);
  lw_doc_unref(doc);
  return auth_data;
}

static void print_buf(lw_buf *b) {
  while (b->size) {
    lw_span part = lw_buf_peek(b);
    fwrite(part.p, 1, part.n, stdout);
    lw_buf_consume(b, part.n);
  }
}

static void print_fields(const lw_doc *doc) {
  static const char *const names[] = {"url",    "endpoint",    "cost",
                                      "reqnum", "request_idx", "signature"};
  lw_buf text;
  lw_buf_init(&text, 0, 0, 4 * LW_AUTH_MESSAGE_MAX);
  if (lw_canon_members(&text, &doc->json, 0, names, LW_ARRAY_SIZE(names), false) == LW_OK) {
    fputs("auth_data: ", stdout);
    print_buf(&text);
    fputc('\n', stdout);
  }
  lw_buf_fini(&text);
}

static bool check_scheme(lw_auth *auth, lw_scheme_kind kind, const lw_doc *doc,
                         const lw_envelope *e) {
  char text[LW_AUTH_MESSAGE_MAX];
  size_t n = 0;
  const char *why = "the signed text is too long";
  lw_code code = lw_scheme_print(kind, &doc->json, e, text, &n);
  if (code == LW_OK) code = lw_auth_verify(auth, (lw_span){text, n}, e->signature, &why);
  printf("%-7s %s%s\n", lw_scheme_name(kind),
         code == LW_OK ? "good" : "bad: ", code == LW_OK ? "" : why);
  if (set.verbose && n) printf("        its %zu bytes:\n%.*s\n", n, (int)n, text);
  return code == LW_OK;
}

static int check_all(lw_auth *auth, const lw_doc *doc, const lw_scheme_kind *kinds, size_t count) {
  lw_envelope e;
  lw_buf refusal;
  bool needs_idx = count != 1 || kinds[0] != LW_SCHEME_LEGACY, good = false;
  lw_buf_init(&refusal, 0, 65536, 0);
  if (lw_envelope_read_auth(&doc->json, needs_idx, &e, &refusal)) {
    fputs("the worker would refuse it before it looks at the signature: ", stdout);
    print_buf(&refusal);
    fputc('\n', stdout);
    lw_buf_fini(&refusal);
    return UNREADABLE;
  }
  lw_buf_fini(&refusal);
  print_fields(doc);
  for (size_t i = 0; i < count; i++) good |= check_scheme(auth, kinds[i], doc, &e);
  return good ? GOOD : BAD;
}

static int run_checks(const char *path, const lw_scheme_kind *kinds, size_t count) {
  lw_auth *auth = lw_auth_new();
  lw_doc *doc = load_key(auth) ? read_auth_data(path) : NULL;
  int status = doc ? check_all(auth, doc, kinds, count) : UNREADABLE;
  lw_doc_unref(doc);
  lw_auth_free(auth);
  lw_doc_drop_spares();
  lw_buf_drop_spares();
  return status;
}

int lw_verify_main(int argc, char **argv) {
  const lw_option options[] = {
      {"public-key", LW_OPTION_TEXT, &set.public_key, "FILE", "the autoscaler's key, PEM", NULL, 0,
       0},
      {"auth-scheme", LW_OPTION_TEXT, &set.schemes, "NAMES", "url, sorted, legacy, or a comma list",
       "AUTH_SCHEME", 0, 0},
      {"verbose", LW_OPTION_FLAG, &set.verbose, NULL, "print the exact bytes of each signed text",
       NULL, 0, 0},
  };
  const lw_command command = {
      "verify",
      "--public-key FILE [options] ENVELOPE.json",
      "Checks the signature of a saved request body, or of its auth_data alone, offline; '-' "
      "reads\n"
      "standard input. The key: curl AUTOSCALER/pubkey/. Ends with 0 when the signature is good\n"
      "under one of the schemes, 1 when it is bad, 2 when something can't be read.",
      options,
      LW_ARRAY_SIZE(options),
      false};
  lw_scheme_kind kinds[LW_SCHEME_KINDS];
  const char *why = NULL;
  int first = lw_options_parse(&command, argc, argv);
  if (first >= argc) lw_usage_error("verify", "which file? '-' is standard input");
  if (argc - first > 1) lw_usage_error("verify", "one file, not also %s", argv[first + 1]);
  if (!set.public_key) lw_usage_error("verify", "--public-key FILE is missing");
  size_t count = lw_scheme_parse(set.schemes, kinds, &why);
  if (!count) lw_usage_error("verify", "--auth-scheme %s: %s", set.schemes, why);
  return run_checks(argv[first], kinds, count);
}
