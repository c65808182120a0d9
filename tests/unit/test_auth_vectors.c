/* SPDX-License-Identifier: MIT
 * The Wycheproof vectors for RSA PKCS#1 v1.5 with SHA-256, through the room's own door: PEM text
 * in, base64 text in, verdict out. `valid` must be accepted, `invalid` and `acceptable` refused. */
#include <libgen.h>
#include <openssl/evp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "wire/json.h"
#include "worker/auth.h"

#define VECTORS "wycheproof/testvectors_v1"

/* LW_DATA, else ../shared/data seen from the project root, which is two folders above this file. */
static char *path_of(const char *name) {
  const char *given = getenv("LW_DATA");
  if (given && given[0]) return lw_printf_dup("%s/" VECTORS "/%s", given, name);
  char *self = lw_strdup(__FILE__);
  char *path = lw_printf_dup("%s/../../../shared/data/" VECTORS "/%s", dirname(self), name);
  free(self);
  return path;
}

/* The file with the parser's padding behind it; NULL when it is not there. */
static char *read_file(const char *path, size_t *n) {
  FILE *file = fopen(path, "rb");
  if (!file) return NULL;
  char *text = NULL;
  size_t room = 0, got;
  *n = 0;
  do {
    room += 1 << 20;
    text = lw_realloc(text, room + LW_JSON_PADDING);
    got = fread(text + *n, 1, room - *n, file);
    *n += got;
  } while (got > 0);
  assert_int_equal(ferror(file), 0);
  fclose(file);
  memset(text + *n, 0, LW_JSON_PADDING);
  return text;
}

static uint32_t member(const lw_json *j, uint32_t object, const char *key, lw_json_kind kind) {
  uint32_t node = lw_json_member(j, object, lw_span_of(key));
  if (!node || j->nodes[node].kind != kind) fail_msg("the vectors have no usable \"%s\"", key);
  return node;
}

static lw_span text_member(const lw_json *j, uint32_t object, const char *key) {
  return lw_json_string(j, member(j, object, key, LW_JSON_STRING));
}

static unsigned char *bytes_of_hex(lw_span hex, size_t *n) {
  unsigned char *bytes = lw_alloc(hex.n / 2 + 1);
  assert_int_equal(hex.n % 2, 0);
  for (*n = 0; *n < hex.n / 2; ++*n) {
    unsigned byte;
    assert_int_equal(sscanf((char[3]){hex.p[*n * 2], hex.p[*n * 2 + 1], 0}, "%2x", &byte), 1);
    bytes[*n] = (unsigned char)byte;
  }
  return bytes;
}

typedef struct tally {
  unsigned accepted, refused;
} tally;

static void check_vector(lw_auth *a, const lw_json *j, uint32_t test, tally *t) {
  size_t message_n, signature_n;
  unsigned char *message = bytes_of_hex(text_member(j, test, "msg"), &message_n);
  unsigned char *signature = bytes_of_hex(text_member(j, test, "sig"), &signature_n);
  char *text = lw_alloc((signature_n + 2) / 3 * 4 + 1);
  EVP_EncodeBlock((unsigned char *)text, signature, (int)signature_n);
  lw_span result = text_member(j, test, "result");
  bool valid = lw_span_eq(result, LW_SPAN("valid"));
  const char *why = NULL;
  for (int twice = 0; twice < 2; twice++) { /* the second time may come from the cache */
    lw_code code = lw_auth_verify(a, (lw_span){(char *)message, message_n}, lw_span_of(text), &why);
    if (code == (valid ? LW_OK : LW_PROTOCOL)) continue;
    lw_span comment = text_member(j, test, "comment");
    fail_msg("test %lld (%.*s) is %.*s, but: %s, %s",
             (long long)j->nodes[member(j, test, "tcId", LW_JSON_INT)].integer, (int)comment.n,
             comment.p, (int)result.n, result.p, lw_code_name(code), why ? why : "verified");
  }
  t->accepted += valid;
  t->refused += !valid;
  free(text);
  free(signature);
  free(message);
}

static void check_group(const lw_json *j, uint32_t group, tally *t) {
  lw_auth *a = lw_auth_new();
  const char *why = NULL;
  lw_code code = lw_auth_set_key(a, text_member(j, group, "publicKeyPem"), &why);
  int64_t bits = j->nodes[member(j, group, "keySize", LW_JSON_INT)].integer;
  if (bits < 2048 || bits > 8192) {
    assert_int_equal(code, LW_PROTOCOL);
    lw_auth_free(a);
    return;
  }
  if (code != LW_OK) fail_msg("a key of %lld bits was refused: %s", (long long)bits, why);
  uint32_t tests = member(j, group, "tests", LW_JSON_ARRAY);
  for (uint32_t i = tests + 1; i < j->nodes[tests].next; i = j->nodes[i].next) {
    check_vector(a, j, i, t);
  }
  lw_auth_free(a);
}

static void check_file(const char *name) {
  char *path = path_of(name);
  size_t n = 0;
  char *text = read_file(path, &n);
  if (!text) {
    print_message("skipped: no test vectors at %s (LW_DATA names another folder)\n", path);
    free(path);
    skip();
  }
  free(path);
  lw_json j;
  lw_json_init(&j);
  if (lw_json_parse(&j, text, n) != LW_OK) fail_msg("%s: %s", name, j.error);
  tally t = {0, 0};
  uint32_t groups = member(&j, 0, "testGroups", LW_JSON_ARRAY);
  for (uint32_t i = groups + 1; i < j.nodes[groups].next; i = j.nodes[i].next) {
    check_group(&j, i, &t);
  }
  int64_t promised = j.nodes[member(&j, 0, "numberOfTests", LW_JSON_INT)].integer;
  assert_int_equal(t.accepted + t.refused, promised);
  assert_true(t.accepted >= 5 && t.refused >= 200);
  print_message("%s: %u accepted, %u refused\n", name, t.accepted, t.refused);
  lw_json_fini(&j);
  free(text);
}

static void rsa_2048(void **state) {
  (void)state;
  check_file("rsa_signature_2048_sha256_test.json");
}

static void rsa_4096(void **state) {
  (void)state;
  check_file("rsa_signature_4096_sha256_test.json");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(rsa_2048),
      cmocka_unit_test(rsa_4096),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
