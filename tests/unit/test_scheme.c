/* SPDX-License-Identifier: MIT
 * The schemes: which text each signs, lists of them, replays and their bounds, whose URL, and the
 * reasons that operators read. That the texts are Python's is test_canon.c's and the e2e ring's. */
#include "worker/scheme.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "floor/log.h"
#include "wire/doc.h"

#define URL "http://1.2.3.4:40001"

static struct {
  lw_signer *signer, *other;
  char *pem, *other_pem;
  lw_auth *auth;
  lw_scheme *scheme;
  const char *why;
  FILE *log;
} t;

static int make_keys(void **state) {
  (void)state;
  t.signer = lw_signer_new(2048);
  t.other = lw_signer_new(2048);
  t.pem = lw_signer_public_pem(t.signer);
  t.other_pem = lw_signer_public_pem(t.other);
  t.log = tmpfile();
  return t.signer && t.other && t.log ? 0 : -1;
}

static int free_keys(void **state) {
  (void)state;
  lw_signer_free(t.signer);
  lw_signer_free(t.other);
  free(t.pem);
  free(t.other_pem);
  fclose(t.log);
  lw_doc_drop_spares();
  lw_buf_drop_spares();
  return 0;
}

static void set_key(const char *pem) {
  const char *why;
  assert_int_equal(lw_auth_set_key(t.auth, lw_span_of(pem), &why), LW_OK);
}

static int begin(void **state) {
  (void)state;
  t.auth = lw_auth_new();
  t.scheme = lw_scheme_new(t.auth);
  set_key(t.pem);
  assert_int_equal(ftruncate(fileno(t.log), 0), 0);
  assert_int_equal(lseek(fileno(t.log), 0, SEEK_SET), 0);
  lw_log_setup(fileno(t.log), LW_LOG_DEBUG, LW_LOG_JSON);
  return 0;
}

static int end(void **state) {
  (void)state;
  lw_scheme_free(t.scheme);
  lw_auth_free(t.auth);
  return 0;
}

static const char *log_text(void) {
  static char text[262144];
  ssize_t n = pread(fileno(t.log), text, sizeof text - 1, 0);
  assert_true(n >= 0);
  text[n] = 0;
  return text;
}

static size_t count_in_log(const char *words) {
  size_t n = 0;
  for (const char *p = log_text(); (p = strstr(p, words)); p++) n++;
  return n;
}

static void use(const char *names) {
  assert_int_equal(lw_scheme_set(t.scheme, names, &t.why), LW_OK);
}

/* An auth_data whose text under `kind` was signed by `signer`. */
static char *signed_by(const lw_signer *signer, lw_scheme_kind kind, const char *fields) {
  char *bare = lw_printf_dup("{%s,\"signature\":\"\"}", fields);
  lw_doc *doc = lw_doc_parse_copy(bare, strlen(bare));
  lw_envelope e;
  lw_buf refusal;
  char text[LW_AUTH_MESSAGE_MAX];
  size_t n;
  lw_buf_init(&refusal, 0, 4096, 0);
  assert_int_equal(lw_envelope_read_auth(&doc->json, false, &e, &refusal), 0);
  assert_int_equal(lw_scheme_print(kind, &doc->json, &e, text, &n), LW_OK);
  char *signature = lw_signer_sign(signer, (lw_span){text, n});
  char *whole = lw_printf_dup("{%s,\"signature\":\"%s\"}", fields, signature);
  lw_buf_fini(&refusal);
  lw_doc_unref(doc);
  free(signature);
  free(bare);
  return whole;
}

static lw_code check(const char *auth_data, bool in_session) {
  lw_doc *doc = lw_doc_parse_copy(auth_data, strlen(auth_data));
  lw_envelope e;
  lw_buf refusal;
  lw_buf_init(&refusal, 0, 4096, 0);
  assert_int_equal(lw_envelope_read_auth(&doc->json, false, &e, &refusal), 0);
  e.has_session = in_session;
  lw_code code = lw_scheme_verify(t.scheme, &doc->json, &e, &t.why);
  assert_true((code == LW_OK) == (t.why == NULL));
  lw_buf_fini(&refusal);
  lw_doc_unref(doc);
  return code;
}

static char *fields_of(int64_t reqnum) {
  return lw_printf_dup("\"cost\":\"10.0\",\"endpoint\":\"e\",\"reqnum\":%" PRId64
                       ",\"request_idx\":7,\"url\":\"" URL "\"",
                       reqnum);
}

static lw_code check_number(lw_scheme_kind kind, int64_t reqnum, bool in_session) {
  char *fields = fields_of(reqnum), *auth_data = signed_by(t.signer, kind, fields);
  lw_code code = check(auth_data, in_session);
  free(fields);
  free(auth_data);
  return code;
}

static void assert_text(lw_scheme_kind kind, const char *auth_data, const char *wanted) {
  lw_doc *doc = lw_doc_parse_copy(auth_data, strlen(auth_data));
  lw_envelope e = {.auth = 0};
  char text[LW_AUTH_MESSAGE_MAX + 1];
  size_t n;
  assert_int_equal(lw_scheme_print(kind, &doc->json, &e, text, &n), LW_OK);
  text[n] = 0;
  assert_string_equal(text, wanted);
  lw_doc_unref(doc);
}

static void texts(void **state) {
  (void)state;
  static const char auth_data[] =
      "{\"url\":\"http:\\/\\/\xc3\xa9\",\"__request_id\":\"x\",\"signature\":\"s\",\"reqnum\":7,"
      "\"request_idx\":123456789012345678901234567890,\"cost\":3e2,\"endpoint\":\"\\ud800\"}";
  assert_text(LW_SCHEME_URL, auth_data, "{\n    \"url\": \"http://\\u00e9\"\n}");
  assert_text(LW_SCHEME_SORTED, auth_data,
              "{\n    \"cost\": 300.0,\n    \"endpoint\": \"\\ud800\",\n    \"reqnum\": 7,\n"
              "    \"request_idx\": 123456789012345678901234567890,\n"
              "    \"url\": \"http://\\u00e9\"\n}");
  assert_text(LW_SCHEME_LEGACY, auth_data,
              "{\n    \"cost\": 300.0,\n    \"endpoint\": \"\\ud800\",\n    \"reqnum\": 7,\n"
              "    \"url\": \"http://\\u00e9\"\n}");
  assert_text(LW_SCHEME_SORTED, "{\"url\":{\"b\":1,\"a\":[]}}",
              "{\n    \"url\": {\n        \"a\": [],\n        \"b\": 1\n    }\n}");
  assert_text(LW_SCHEME_LEGACY, "{\"url\":{\"b\":1,\"a\":[]}}",
              "{\n    \"url\": {\n        \"b\": 1,\n        \"a\": []\n    }\n}");
}

static void names(void **state) {
  (void)state;
  lw_scheme_kind kinds[LW_SCHEME_KINDS];
  const char *why;
  assert_int_equal(lw_scheme_parse("url", kinds, &why), 1);
  assert_int_equal(lw_scheme_parse(" legacy , sorted,url ", kinds, &why), 3);
  assert_int_equal(kinds[0], LW_SCHEME_LEGACY);
  assert_int_equal(kinds[1], LW_SCHEME_SORTED);
  assert_int_equal(kinds[2], LW_SCHEME_URL);
  static const char *const bad[] = {"",
                                    " ",
                                    ",",
                                    "url,",
                                    ",url",
                                    "url,,sorted",
                                    "URL",
                                    "url sorted",
                                    "urls",
                                    "url,url",
                                    "none",
                                    "sorted,url,legacy,sorted",
                                    "url,sorted,legacy,x"};
  for (size_t i = 0; i < LW_ARRAY_SIZE(bad); i++) {
    assert_int_equal(lw_scheme_parse(bad[i], kinds, &why), 0);
    assert_non_null(why);
    assert_int_equal(lw_scheme_set(t.scheme, bad[i], &why), LW_PROTOCOL);
  }
  assert_int_equal(check_number(LW_SCHEME_URL, 1, false), LW_OK); /* nothing changed */
}

static void request_idx_is_needed_but_for_legacy(void **state) {
  (void)state;
  static const struct {
    const char *names;
    bool needed;
  } cases[] = {{"url", true},
               {"sorted", true},
               {"legacy", false},
               {"legacy,url", true},
               {"sorted,legacy", true}};
  for (size_t i = 0; i < LW_ARRAY_SIZE(cases); i++) {
    use(cases[i].names);
    assert_int_equal(lw_scheme_needs_request_idx(t.scheme), cases[i].needed);
  }
}

static void each_scheme_takes_its_own_text_only(void **state) {
  (void)state;
  for (lw_scheme_kind tried = 0; tried < LW_SCHEME_KINDS; tried++) {
    use(lw_scheme_name(tried));
    for (lw_scheme_kind made = 0; made < LW_SCHEME_KINDS; made++) {
      lw_code wanted = made == tried ? LW_OK : LW_PROTOCOL;
      assert_int_equal(check_number(made, 1000 + made, false), wanted);
    }
  }
  use("legacy, url,sorted");
  for (lw_scheme_kind made = 0; made < LW_SCHEME_KINDS; made++) {
    assert_int_equal(check_number(made, 2000 + made, false), LW_OK);
  }
}

static void replays(void **state) {
  (void)state;
  use("sorted");
  assert_int_equal(check_number(LW_SCHEME_SORTED, 500, false), LW_OK);
  assert_int_equal(check_number(LW_SCHEME_SORTED, 500, false), LW_PROTOCOL);
  assert_string_equal(t.why, "replayed: reqnum 500 was here before, highest seen 500");
  assert_int_equal(check_number(LW_SCHEME_SORTED, 400, false), LW_OK);
  assert_int_equal(check_number(LW_SCHEME_SORTED, 399, false), LW_PROTOCOL);
  assert_string_equal(t.why, "replayed: reqnum 399 is too old, highest seen 500");
  assert_int_equal(check_number(LW_SCHEME_SORTED, INT64_MAX, false), LW_OK);
  assert_int_equal(check_number(LW_SCHEME_SORTED, 501, false), LW_PROTOCOL);
  assert_int_equal(check_number(LW_SCHEME_SORTED, INT64_MAX - 100, false), LW_OK);
  assert_int_equal(check_number(LW_SCHEME_SORTED, -1, false), LW_PROTOCOL);
  assert_non_null(strstr(t.why, "no whole number"));
  use("url");
  for (int i = 0; i < 3; i++) assert_int_equal(check_number(LW_SCHEME_URL, 1, false), LW_OK);
}

/* Numbers below the highest, each within its window: the message memory alone must tell. */
static void the_last_hundred_messages_are_known(void **state) {
  (void)state;
  use("sorted");
  assert_int_equal(check_number(LW_SCHEME_SORTED, 1100, false), LW_OK);
  for (int64_t n = 1001; n <= 1099; n++) {
    assert_int_equal(check_number(LW_SCHEME_SORTED, n, false), LW_OK);
  }
  for (int64_t n = 1001; n <= 1100; n++) {
    assert_int_equal(check_number(LW_SCHEME_SORTED, n, false), LW_PROTOCOL);
  }
  assert_int_equal(check_number(LW_SCHEME_SORTED, 1000, false), LW_OK); /* the first goes */
  assert_int_equal(check_number(LW_SCHEME_SORTED, 1001, false), LW_PROTOCOL);
  assert_int_equal(check_number(LW_SCHEME_SORTED, 1100, false), LW_OK);
}

static void only_what_verified_is_remembered(void **state) {
  (void)state;
  use("sorted,legacy");
  char *fields = fields_of(1000000), *forged = signed_by(t.other, LW_SCHEME_SORTED, fields);
  assert_int_equal(check(forged, false), LW_PROTOCOL);
  free(fields);
  free(forged);
  assert_int_equal(check_number(LW_SCHEME_SORTED, 5, false), LW_OK);
  assert_int_equal(check_number(LW_SCHEME_LEGACY, 200, false), LW_OK); /* one memory for both */
  assert_int_equal(check_number(LW_SCHEME_SORTED, 99, false), LW_PROTOCOL);
  assert_non_null(strstr(t.why, "highest seen 200"));
}

static void another_key_empties_the_memory(void **state) {
  (void)state;
  use("sorted");
  assert_int_equal(check_number(LW_SCHEME_SORTED, 5000, false), LW_OK);
  set_key(t.pem); /* the same one does not */
  assert_int_equal(check_number(LW_SCHEME_SORTED, 1, false), LW_PROTOCOL);
  set_key(t.other_pem);
  char *fields = fields_of(1), *fresh = signed_by(t.other, LW_SCHEME_SORTED, fields);
  assert_int_equal(check(fresh, false), LW_OK);
  assert_int_equal(check(fresh, false), LW_PROTOCOL);
  free(fields);
  free(fresh);
}

static void in_a_session_a_message_may_come_again(void **state) {
  (void)state;
  use("sorted");
  assert_int_equal(check_number(LW_SCHEME_SORTED, 5, false), LW_OK);
  assert_int_equal(check_number(LW_SCHEME_SORTED, 5, true), LW_OK);
  assert_int_equal(check_number(LW_SCHEME_SORTED, 1000, true), LW_OK);
  assert_int_equal(check_number(LW_SCHEME_SORTED, 1000, false), LW_PROTOCOL);
  assert_int_equal(check_number(LW_SCHEME_SORTED, 5, true), LW_OK);
  assert_int_equal(check_number(LW_SCHEME_SORTED, 5, false), LW_PROTOCOL);
  assert_int_equal(check_number(LW_SCHEME_LEGACY, 5, true), LW_PROTOCOL); /* not tried */
  for (int64_t n = 1; n <= 101; n++) { /* old ones push nothing out of the memory */
    assert_int_equal(check_number(LW_SCHEME_SORTED, 700 + n, true), LW_OK);
  }
  assert_int_equal(check_number(LW_SCHEME_SORTED, 1000, false), LW_PROTOCOL);
}

static void refused_for(const char *signature, const char *wanted) {
  char *auth_data = lw_printf_dup(
      "{\"signature\":\"%s\",\"url\":\"u\",\"cost\":1,\"endpoint\":\"\",\"reqnum\":1}", signature);
  assert_int_equal(check(auth_data, false), LW_PROTOCOL);
  assert_string_equal(t.why, wanted);
  free(auth_data);
}

static void reasons(void **state) {
  (void)state;
  use("url, legacy");
  refused_for("AAAA",
              "the signature has 4 characters of base64, one of the key's 2048 bits has 344"
              " (tried: url, legacy)");
  use("url");
  refused_for("", "the signature is empty (tried: url)");
  refused_for("A!A=", "the signature is not strict base64 (tried: url)");
  refused_for("AA=A", "the signature is not strict base64 (tried: url)");
  char *fields = fields_of(3), *forged = signed_by(t.other, LW_SCHEME_URL, fields);
  assert_int_equal(check(forged, false), LW_PROTOCOL);
  assert_string_equal(t.why, "the signature is not the autoscaler's for this text (tried: url)");
  free(fields);
  free(forged);
  lw_auth *keyless = lw_auth_new();
  lw_scheme *s = lw_scheme_new(keyless);
  lw_scheme *kept = t.scheme;
  t.scheme = s;
  assert_int_equal(check_number(LW_SCHEME_URL, 1, false), LW_BUSY);
  assert_string_equal(t.why, "there is no public key yet");
  t.scheme = kept;
  lw_scheme_free(s);
  lw_auth_free(keyless);
}

static void the_compared_bytes_are_logged(void **state) {
  (void)state;
  use("url,sorted");
  char *fields = fields_of(3), *forged = signed_by(t.other, LW_SCHEME_URL, fields);
  assert_int_equal(check(forged, false), LW_PROTOCOL);
  assert_int_equal(count_in_log("signature compared"), 2);
  assert_int_equal(
      count_in_log("\"scheme\":\"url\",\"text\":\"{\\n    \\\"url\\\": \\\"" URL "\\\"\\n}\""), 1);
  assert_int_equal(
      count_in_log("\"scheme\":\"sorted\",\"text\":\"{\\n    \\\"cost\\\": \\\"10.0\\\","), 1);
  assert_int_equal(count_in_log("\n"), 2);
  assert_int_equal(check_number(LW_SCHEME_URL, 3, false), LW_OK); /* what is good is not logged */
  assert_int_equal(count_in_log("\n"), 2);
  free(fields);
  free(forged);
}

static void what_is_too_long_is_refused_unsorted(void **state) {
  (void)state;
  use("sorted");
  size_t n = 3u << 20;
  char *text = lw_alloc(n + 200), *p = text;
  p +=
      sprintf(p, "{\"signature\":\"AAAA\",\"url\":\"u\",\"endpoint\":\"\",\"reqnum\":1,\"cost\":{");
  while ((size_t)(p - text) < n) p += sprintf(p, "\"a\":1,");
  sprintf(p, "\"a\":1}}");
  assert_int_equal(check(text, false), LW_PROTOCOL);
  assert_string_equal(t.why, "the signed text is too long (tried: sorted)");
  free(text);
}

static void check_url(const char *mode, const char *advertised) {
  assert_int_equal(lw_scheme_check_url(t.scheme, mode, advertised), LW_OK);
}

static lw_code check_signed_url(const char *url) {
  char *fields = lw_printf_dup(
      "\"cost\":1,\"endpoint\":\"e\",\"reqnum\":1,\"request_idx\":7,\"url\":\"%s\"", url);
  char *auth_data = signed_by(t.signer, LW_SCHEME_URL, fields);
  lw_code code = check(auth_data, false);
  free(fields);
  free(auth_data);
  return code;
}

static void whose_url(void **state) {
  (void)state;
  check_url("enforce", URL);
  assert_int_equal(check_signed_url(URL), LW_OK);
  assert_int_equal(check_signed_url(URL "/"), LW_OK);
  assert_int_equal(check_signed_url("http://5.6.7.8:1"), LW_PROTOCOL);
  assert_string_equal(t.why, "the signed url http://5.6.7.8:1 is not this worker's, " URL);
  check_url("enforce", URL "/");
  assert_int_equal(check_signed_url(URL), LW_OK);
  check_url("enforce", NULL);
  assert_int_equal(check_signed_url("http://5.6.7.8:1"), LW_OK);
  check_url("off", URL);
  assert_int_equal(check_signed_url("http://5.6.7.8:1"), LW_OK);
  assert_int_equal(lw_scheme_check_url(t.scheme, "loud", URL), LW_PROTOCOL);
  assert_int_equal(lw_scheme_check_url(t.scheme, "", URL), LW_PROTOCOL);
}

static void a_foreign_url_is_told_of_once(void **state) {
  (void)state;
  check_url("warn", URL);
  for (int i = 0; i < 5; i++) assert_int_equal(check_signed_url("http://5.6.7.8:1"), LW_OK);
  assert_int_equal(count_in_log("another worker's URL"), 1);
  assert_int_equal(count_in_log("http://5.6.7.8:1"), 1);
  for (int i = 0; i < 5; i++) { /* in the same second: later, if ever */
    char url[40];
    snprintf(url, sizeof url, "http://5.6.7.8:%d", 100 + i);
    assert_int_equal(check_signed_url(url), LW_OK);
  }
  assert_true(count_in_log("another worker's URL") < 5);
  assert_int_equal(check_signed_url(URL), LW_OK);
  assert_int_equal(count_in_log("signed_url\":\"" URL), 0);
}

static void the_url_scheme_stays_cached(void **state) {
  (void)state;
  for (int i = 0; i < 4; i++) assert_int_equal(check_signed_url(URL), LW_OK);
  assert_int_equal(lw_auth_rsa_verifications(t.auth), 1);
  assert_int_equal(lw_auth_cache_hits(t.auth), 3);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(texts),
      TEST(names),
      TEST(request_idx_is_needed_but_for_legacy),
      TEST(each_scheme_takes_its_own_text_only),
      TEST(replays),
      TEST(the_last_hundred_messages_are_known),
      TEST(only_what_verified_is_remembered),
      TEST(another_key_empties_the_memory),
      TEST(in_a_session_a_message_may_come_again),
      TEST(reasons),
      TEST(the_compared_bytes_are_logged),
      TEST(what_is_too_long_is_refused_unsorted),
      TEST(whose_url),
      TEST(a_foreign_url_is_told_of_once),
      TEST(the_url_scheme_stays_cached),
  };
  return cmocka_run_group_tests_name("scheme", tests, make_keys, free_keys);
}
