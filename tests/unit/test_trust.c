/* SPDX-License-Identifier: MIT
 * Files of authorities, good and bad, and the words for certificates that are not believed. The
 * certificates are made here. */
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "exchange/trust.h"

static char path[64];

/* A file of `count` certificates, text around them, and what else is given. */
static void write_file(int count, const char *more) {
  EVP_PKEY *key = EVP_EC_gen("P-256");
  FILE *out = fopen(path, "w");
  fputs("# authorities\n", out);
  for (int i = 0; i < count; i++) {
    X509 *x = X509_new();
    X509_set_pubkey(x, key);
    X509_gmtime_adj(X509_getm_notBefore(x), 0);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    assert_true(X509_sign(x, key, EVP_sha256()) > 0);
    PEM_write_X509(out, x);
    X509_free(x);
  }
  fputs(more, out);
  fclose(out);
  EVP_PKEY_free(key);
}

static void expect_mistake(const char *wanted) {
  char *why = lw_trust_mistake(path), text[200];
  snprintf(text, sizeof text, "%s: %s", path, wanted);
  assert_non_null(why);
  assert_string_equal(why, text);
  free(why);
}

static void files(void **state) {
  (void)state;
  sprintf(path, "/tmp/luaworker-trust-%d.pem", (int)getpid());
  write_file(1, "");
  assert_null(lw_trust_mistake(path));
  write_file(3, "\nthe end\n");
  assert_null(lw_trust_mistake(path));
  write_file(0, "");
  expect_mistake("no PEM certificate in it");
  write_file(0, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
  expect_mistake("no PEM certificate in it");
  write_file(1, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
  expect_mistake("certificate 2 in it is damaged");
  write_file(1, "-----BEGIN CERTIFICATE-----\nMIIB");
  expect_mistake("certificate 2 in it is damaged");
  unlink(path);
  expect_mistake("No such file or directory");
  strcpy(path, "/tmp");
  expect_mistake("Is a directory");
}

static void expect(long verdict, const char *detail, const char *wanted) {
  char *text = lw_trust_explain(verdict, detail, ": do this");
  assert_string_equal(text, wanted);
  free(text);
}

static void words(void **state) {
  (void)state;
  expect(X509_V_ERR_CERT_HAS_EXPIRED, "",
         "has a certificate that has expired, or this machine's clock is wrong");
  expect(X509_V_ERR_CERT_NOT_YET_VALID, "",
         "has a certificate that is not valid yet, or this machine's clock is wrong");
  expect(X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, "",
         "has a certificate of an authority that is not known here (self-signed certificate)"
         ": do this");
  expect(X509_V_ERR_UNSPECIFIED,
         "SSL: no alternative certificate subject name matches target host name 'x'",
         "has a certificate for another host (SSL: no alternative certificate subject name matches "
         "target host name 'x')");
  expect(X509_V_OK, "odd", "has a certificate that can't be checked: odd");
  expect(X509_V_ERR_CERT_REVOKED, "",
         "has a certificate that is not accepted: certificate revoked");
}

static void expect_file(const char *path_of_it, const char *text) {
  char read[64] = "";
  FILE *in = fopen(path_of_it, "r");
  assert_non_null(in);
  assert_int_equal(fread(read, 1, sizeof read - 1, in), strlen(text));
  fclose(in);
  assert_string_equal(read, text);
}

static void files_without_a_name(void **state) {
  (void)state;
  char *first = lw_trust_file_of(LW_SPAN("one"));
  expect_file(first, "one");
  expect_file(first, "one"); /* as often as one likes */
  char *second = lw_trust_file_of(LW_SPAN(""));
  expect_file(second, "");
  char target[64] = "";
  assert_true(readlink(second, target, sizeof target - 1) > 0);
  assert_non_null(strstr(target, "(deleted)"));
  assert_int_not_equal(access(first, F_OK), 0);
  free(first);
  free(second);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(files),
      cmocka_unit_test(words),
      cmocka_unit_test(files_without_a_name),
  };
  return cmocka_run_group_tests_name("trust", tests, NULL, NULL);
}
