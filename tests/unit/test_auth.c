/* SPDX-License-Identifier: MIT
 * Keys taken and refused, strict base64, what the cache may and may not remember, and that
 * OpenSSL's error queue stays empty. The verdicts themselves are test_auth_vectors.c's. */
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "wire/canon.h"
#include "worker/auth.h"

static struct {
  lw_signer *signer, *other;
  char *pem, *other_pem;
} keys; /* made once: an RSA key takes a while */

static size_t allocations; /* OpenSSL's */

static void *count_malloc(size_t n, const char *file, int line) {
  (void)file, (void)line;
  allocations++;
  return malloc(n);
}
static void *count_realloc(void *p, size_t n, const char *file, int line) {
  (void)file, (void)line;
  allocations++;
  return realloc(p, n);
}
static void pass_free(void *p, const char *file, int line) {
  (void)file, (void)line;
  free(p);
}

static int make_keys(void **state) {
  (void)state;
  keys.signer = lw_signer_new(2048);
  keys.other = lw_signer_new(2048);
  if (!keys.signer || !keys.other) return -1;
  keys.pem = lw_signer_public_pem(keys.signer);
  keys.other_pem = lw_signer_public_pem(keys.other);
  return 0;
}

static int free_keys(void **state) {
  (void)state;
  lw_signer_free(keys.signer);
  lw_signer_free(keys.other);
  free(keys.pem);
  free(keys.other_pem);
  return 0;
}

static lw_code set_key(lw_auth *a, const char *pem) {
  const char *why = "unset";
  lw_code code = lw_auth_set_key(a, lw_span_of(pem), &why);
  assert_true((code == LW_OK) == (why == NULL));
  assert_true(code == LW_OK || code == LW_PROTOCOL);
  assert_int_equal(ERR_peek_error(), 0);
  return code;
}

static lw_auth *auth_with_key(void) {
  lw_auth *a = lw_auth_new();
  assert_int_equal(set_key(a, keys.pem), LW_OK);
  return a;
}

static lw_code verify(lw_auth *a, lw_span message, lw_span signature) {
  const char *why = "unset";
  lw_code code = lw_auth_verify(a, message, signature, &why);
  assert_true((code == LW_OK) == (why == NULL));
  assert_int_equal(ERR_peek_error(), 0);
  return code;
}

static lw_code verify_url(lw_auth *a, const char *url, const char *signature) {
  const char *why = "unset";
  lw_code code = lw_auth_verify_url(a, lw_span_of(url), lw_span_of(signature), &why);
  assert_true((code == LW_OK) == (why == NULL));
  assert_int_equal(ERR_peek_error(), 0);
  return code;
}

static char *sign_url(const lw_signer *s, const char *url) {
  lw_buf text;
  lw_buf_init(&text, 0, 1 << 20, 0);
  lw_canon_url_message(&text, lw_span_of(url));
  char *flat = lw_alloc(text.size + 1);
  lw_span message = {flat, 0};
  while (text.size) {
    lw_span part = lw_buf_peek(&text);
    memcpy(flat + message.n, part.p, part.n);
    message.n += part.n;
    lw_buf_consume(&text, part.n);
  }
  lw_buf_fini(&text);
  char *signature = lw_signer_sign(s, message);
  free(flat);
  return signature;
}

static char *pem_of(EVP_PKEY *key) {
  BIO *bio = BIO_new(BIO_s_mem());
  assert_int_equal(PEM_write_bio_PUBKEY(bio, key), 1);
  char *text;
  long n = BIO_get_mem_data(bio, &text);
  char *pem = lw_strdup_n(text, (size_t)n);
  BIO_free(bio);
  EVP_PKEY_free(key);
  return pem;
}

/* A public key with a random modulus of that many bits: enough to be judged by its size. */
static char *pem_of_size(int bits, unsigned long exponent, bool odd) {
  BIGNUM *n = BN_new(), *e = BN_new();
  BN_rand(n, bits, BN_RAND_TOP_ONE, odd ? BN_RAND_BOTTOM_ODD : BN_RAND_BOTTOM_ANY);
  if (!odd) BN_clear_bit(n, 0);
  BN_set_word(e, exponent);
  OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
  OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, n);
  OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, e);
  OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(build);
  EVP_PKEY_CTX *from = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
  EVP_PKEY *key = NULL;
  assert_int_equal(EVP_PKEY_fromdata_init(from), 1);
  assert_int_equal(EVP_PKEY_fromdata(from, &key, EVP_PKEY_PUBLIC_KEY, params), 1);
  EVP_PKEY_CTX_free(from);
  OSSL_PARAM_free(params);
  OSSL_PARAM_BLD_free(build);
  BN_free(n);
  BN_free(e);
  return pem_of(key);
}

static void keys_are_judged_by_their_size(void **state) {
  (void)state;
  static const struct {
    int bits;
    unsigned long exponent;
    bool odd;
    lw_code want;
  } cases[] = {
      {1024, 65537, true, LW_PROTOCOL},  {2047, 65537, true, LW_PROTOCOL},
      {2048, 65537, true, LW_OK},        {2048, 3, true, LW_OK},
      {2049, 65537, true, LW_OK},        {8192, 65537, true, LW_OK},
      {8193, 65537, true, LW_PROTOCOL},  {16384, 65537, true, LW_PROTOCOL},
      {2048, 1, true, LW_PROTOCOL},      {2048, 65536, true, LW_PROTOCOL},
      {2048, 65537, false, LW_PROTOCOL},
  };
  for (size_t i = 0; i < LW_ARRAY_SIZE(cases); i++) {
    lw_auth *a = lw_auth_new();
    char *pem = pem_of_size(cases[i].bits, cases[i].exponent, cases[i].odd);
    if (set_key(a, pem) != cases[i].want) fail_msg("case %zu, %d bits", i, cases[i].bits);
    assert_int_equal(lw_auth_has_key(a), cases[i].want == LW_OK);
    free(pem);
    lw_auth_free(a);
  }
}

static void only_plain_rsa_keys(void **state) {
  (void)state;
  lw_auth *a = lw_auth_new();
  char *ec = pem_of(EVP_EC_gen("P-256"));
  char *ed = pem_of(EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"));
  EVP_PKEY_CTX *make = EVP_PKEY_CTX_new_from_name(NULL, "RSA-PSS", NULL);
  EVP_PKEY *key = NULL;
  assert_int_equal(EVP_PKEY_keygen_init(make), 1);
  assert_int_equal(EVP_PKEY_CTX_set_rsa_keygen_bits(make, 2048), 1);
  assert_int_equal(EVP_PKEY_generate(make, &key), 1);
  EVP_PKEY_CTX_free(make);
  char *pss = pem_of(key);
  ERR_clear_error();
  assert_int_equal(set_key(a, ec), LW_PROTOCOL);
  assert_int_equal(set_key(a, ed), LW_PROTOCOL);
  assert_int_equal(set_key(a, pss), LW_PROTOCOL);
  assert_false(lw_auth_has_key(a));
  free(ec);
  free(ed);
  free(pss);
  lw_auth_free(a);
}

static void only_one_pem_block_with_a_public_key(void **state) {
  (void)state;
  lw_auth *a = lw_auth_new();
  char *quoted = lw_printf_dup("\"%s\"", keys.pem);
  char *twice = lw_printf_dup("%s%s", keys.pem, keys.other_pem);
  char *before = lw_printf_dup("key:\n%s", keys.pem);
  char *after = lw_printf_dup("%s-----", keys.pem);
  char *cut = lw_strdup_n(keys.pem, strlen(keys.pem) / 2);
  char *renamed = lw_printf_dup("-----BEGIN CERTIFICATE-----\n%.*s\n-----END CERTIFICATE-----\n",
                                380, keys.pem + 27);
  char *long_text = lw_calloc(1, 20001);
  memset(long_text, 'A', 20000);
  memcpy(long_text, "-----BEGIN ", 11);
  const char *const bad[] = {"",     "\n",    "nonsense", "{\"detail\":\"Not Found\"}",
                             quoted, twice,   after,      before,
                             cut,    renamed, long_text};
  for (size_t i = 0; i < LW_ARRAY_SIZE(bad); i++) {
    if (set_key(a, bad[i]) != LW_PROTOCOL) fail_msg("accepted: %s", bad[i]);
  }
  assert_false(lw_auth_has_key(a));
  char *spaced = lw_printf_dup("\r\n  %s\n\n \t", keys.pem);
  assert_int_equal(set_key(a, spaced), LW_OK);
  free(spaced);
  free(long_text);
  free(renamed);
  free(cut);
  free(after);
  free(before);
  free(twice);
  free(quoted);
  lw_auth_free(a);
}

static void a_pkcs1_public_key_is_the_same_key(void **state) {
  (void)state;
  BIO *in = BIO_new_mem_buf(keys.pem, -1);
  EVP_PKEY *key = PEM_read_bio_PUBKEY(in, NULL, NULL, NULL);
  unsigned char *der = NULL;
  int n = i2d_PublicKey(key, &der);
  assert_true(n > 0);
  BIO *out = BIO_new(BIO_s_mem());
  PEM_write_bio(out, PEM_STRING_RSA_PUBLIC, "", der, n);
  char *text;
  long text_n = BIO_get_mem_data(out, &text);
  char *pem = lw_strdup_n(text, (size_t)text_n);
  char *signature = sign_url(keys.signer, "http://x");

  lw_auth *a = lw_auth_new();
  assert_int_equal(set_key(a, pem), LW_OK);
  assert_int_equal(verify_url(a, "http://x", signature), LW_OK);
  assert_int_equal(set_key(a, keys.pem), LW_OK); /* no change: the cache stays */
  assert_int_equal(verify_url(a, "http://x", signature), LW_OK);
  assert_int_equal(lw_auth_cache_hits(a), 1);
  lw_auth_free(a);

  unsigned char *padded = lw_calloc(1, (size_t)n + 1);
  memcpy(padded, der, (size_t)n);
  BIO *longer = BIO_new(BIO_s_mem());
  PEM_write_bio(longer, PEM_STRING_RSA_PUBLIC, "", padded, n + 1);
  text_n = BIO_get_mem_data(longer, &text);
  char *longer_pem = lw_strdup_n(text, (size_t)text_n);
  a = lw_auth_new();
  assert_int_equal(set_key(a, longer_pem), LW_PROTOCOL);
  lw_auth_free(a);
  free(longer_pem);
  free(padded);
  free(signature);
  free(pem);
  OPENSSL_free(der);
  EVP_PKEY_free(key);
  BIO_free(longer);
  BIO_free(in);
  BIO_free(out);
}

static void without_a_key_nothing_is_verified(void **state) {
  (void)state;
  lw_auth *a = lw_auth_new();
  assert_false(lw_auth_has_key(a));
  char *signature = sign_url(keys.signer, "http://x");
  assert_int_equal(verify_url(a, "http://x", signature), LW_BUSY);
  assert_int_equal(verify(a, LW_SPAN("m"), lw_span_of(signature)), LW_BUSY);
  free(signature);
  lw_auth_free(a);
}

static void a_signature_of_a_message(void **state) {
  (void)state;
  lw_auth *a = auth_with_key();
  lw_span message = LW_SPAN("with a NUL \0 in it");
  char *signature = lw_signer_sign(keys.signer, message);
  char *of_nothing = lw_signer_sign(keys.signer, LW_SPAN(""));
  char *by_other = lw_signer_sign(keys.other, message);
  assert_int_equal(verify(a, message, lw_span_of(signature)), LW_OK);
  assert_int_equal(verify(a, (lw_span){message.p, message.n - 1}, lw_span_of(signature)),
                   LW_PROTOCOL);
  assert_int_equal(verify(a, message, lw_span_of(by_other)), LW_PROTOCOL);
  assert_int_equal(verify(a, message, lw_span_of(of_nothing)), LW_PROTOCOL);
  assert_int_equal(verify(a, LW_SPAN(""), lw_span_of(of_nothing)), LW_OK);
  assert_int_equal(verify(a, (lw_span){NULL, 0}, lw_span_of(of_nothing)), LW_OK);
  assert_int_equal(verify(a, message, (lw_span){NULL, 0}), LW_PROTOCOL);
  free(signature);
  free(of_nothing);
  free(by_other);
  lw_auth_free(a);
}

static void base64_has_one_spelling(void **state) {
  (void)state;
  lw_auth *a = auth_with_key();
  lw_span message = LW_SPAN("message");
  char *good = lw_signer_sign(keys.signer, message);
  size_t n = strlen(good);
  assert_int_equal(n, 344);
  assert_true(good[n - 1] == '=' && good[n - 2] == '=');
  assert_int_equal(verify(a, message, (lw_span){good, n}), LW_OK);
  uint64_t rsa = lw_auth_rsa_verifications(a);

  char bad[400];
  const char wrong[] = {'-', '_', ' ', '\n', '=', '.', '\0', (char)0xc3, '@', '[', '`', '{', ':'};
  for (size_t i = 0; i < sizeof(wrong); i++) {
    memcpy(bad, good, n);
    bad[i * 25 % (n - 2)] = wrong[i];
    assert_int_equal(verify(a, message, (lw_span){bad, n}), LW_PROTOCOL);
  }
  memcpy(bad, good, n);
  bad[n - 2] = 'A'; /* one '=' too few */
  assert_int_equal(verify(a, message, (lw_span){bad, n}), LW_PROTOCOL);
  bad[n - 2] = '=';
  bad[n - 1] = 'A';
  assert_int_equal(verify(a, message, (lw_span){bad, n}), LW_PROTOCOL);
  memcpy(bad, good, n);
  assert_int_equal(verify(a, message, (lw_span){bad, n - 2}), LW_PROTOCOL); /* no padding */
  memcpy(bad + n, "\n", 1);
  assert_int_equal(verify(a, message, (lw_span){bad, n + 1}), LW_PROTOCOL);
  bad[0] = ' ';
  memcpy(bad + 1, good, n);
  assert_int_equal(verify(a, message, (lw_span){bad, n + 1}), LW_PROTOCOL);
  memcpy(bad, good, n);
  memcpy(bad + n, "AAAA", 4);
  assert_int_equal(verify(a, message, (lw_span){bad, n + 4}), LW_PROTOCOL);
  assert_int_equal(lw_auth_rsa_verifications(a), rsa); /* refused before any RSA work */
  free(good);
  lw_auth_free(a);
}

static void trailing_bits_must_be_zero(void **state) {
  (void)state;
  static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  lw_auth *a = auth_with_key();
  char *text = lw_signer_sign(keys.signer, LW_SPAN("m"));
  size_t last = strlen(text) - 3;
  size_t value = (size_t)(strchr(digits, text[last]) - digits);
  assert_int_equal(value % 16, 0); /* 256 bytes leave 4 bits over */
  for (size_t extra = 1; extra < 16; extra++) {
    text[last] = digits[value + extra];
    assert_int_equal(verify(a, LW_SPAN("m"), lw_span_of(text)), LW_PROTOCOL);
    assert_int_equal(lw_auth_rsa_verifications(a), 0);
  }
  text[last] = digits[value];
  assert_int_equal(verify(a, LW_SPAN("m"), lw_span_of(text)), LW_OK);
  free(text);
  lw_auth_free(a);
}

/* Moduli whose length leaves 0, 1 and 2 bytes in the last group of base64. */
static void each_kind_of_padding(void **state) {
  (void)state;
  const int bits[] = {2048, 2056, 2064};
  for (size_t i = 0; i < LW_ARRAY_SIZE(bits); i++) {
    lw_signer *s = lw_signer_new(bits[i]);
    char *pem = lw_signer_public_pem(s), *text = lw_signer_sign(s, LW_SPAN("m"));
    lw_auth *a = lw_auth_new();
    assert_int_equal(set_key(a, pem), LW_OK);
    assert_int_equal(verify(a, LW_SPAN("m"), lw_span_of(text)), LW_OK);
    text[0] = text[0] == 'B' ? 'C' : 'B';
    assert_int_equal(verify(a, LW_SPAN("m"), lw_span_of(text)), LW_PROTOCOL);
    lw_auth_free(a);
    free(text);
    free(pem);
    lw_signer_free(s);
  }
}

static void a_verified_url_is_remembered(void **state) {
  (void)state;
  lw_auth *a = auth_with_key();
  const char *url = "http://1.2.3.4:40001";
  char *signature = sign_url(keys.signer, url);
  assert_int_equal(verify_url(a, url, signature), LW_OK);
  assert_int_equal(lw_auth_rsa_verifications(a), 1);
  assert_int_equal(lw_auth_cache_hits(a), 0);
  size_t before = allocations;
  for (int i = 0; i < 10; i++) assert_int_equal(verify_url(a, url, signature), LW_OK);
  assert_int_equal(allocations, before);
  assert_int_equal(lw_auth_rsa_verifications(a), 1);
  assert_int_equal(lw_auth_cache_hits(a), 10);
  /* The text that was signed, verified as a message: right too, but another entry. */
  lw_span text = LW_SPAN("{\n    \"url\": \"http://1.2.3.4:40001\"\n}");
  assert_int_equal(verify(a, text, lw_span_of(signature)), LW_OK);
  assert_int_equal(lw_auth_rsa_verifications(a), 2);
  assert_int_equal(verify(a, text, lw_span_of(signature)), LW_OK);
  assert_int_equal(lw_auth_rsa_verifications(a), 2);
  /* A url remembered as such is not thereby a signed message. */
  assert_int_equal(verify(a, lw_span_of(url), lw_span_of(signature)), LW_PROTOCOL);
  free(signature);
  lw_auth_free(a);
}

static void a_hit_needs_every_byte(void **state) {
  (void)state;
  lw_auth *a = auth_with_key();
  char url[] = "http://1.2.3.4:40001/abc";
  char *signature = sign_url(keys.signer, url);
  assert_int_equal(verify_url(a, url, signature), LW_OK);
  for (size_t i = 0; i < strlen(url); i++) {
    url[i] ^= 1;
    assert_int_equal(verify_url(a, url, signature), LW_PROTOCOL);
    url[i] ^= 1;
  }
  for (size_t i = 0; i < strlen(signature); i += 7) {
    signature[i] ^= 1;
    assert_int_equal(verify_url(a, url, signature), LW_PROTOCOL);
    signature[i] ^= 1;
  }
  assert_int_equal(lw_auth_cache_hits(a), 0);
  assert_int_equal(verify_url(a, url, signature), LW_OK);
  assert_int_equal(lw_auth_cache_hits(a), 1);
  free(signature);
  lw_auth_free(a);
}

static void a_failure_is_never_remembered(void **state) {
  (void)state;
  lw_auth *a = auth_with_key();
  char *signature = sign_url(keys.other, "http://x");
  for (int i = 1; i <= 5; i++) {
    assert_int_equal(verify_url(a, "http://x", signature), LW_PROTOCOL);
    assert_int_equal(lw_auth_rsa_verifications(a), i);
  }
  assert_int_equal(lw_auth_cache_hits(a), 0);
  free(signature);
  lw_auth_free(a);
}

static void another_key_empties_the_cache(void **state) {
  (void)state;
  lw_auth *a = auth_with_key();
  char *signature = sign_url(keys.signer, "http://x");
  char *by_other = sign_url(keys.other, "http://x");
  assert_int_equal(verify_url(a, "http://x", signature), LW_OK);
  assert_int_equal(lw_auth_key_number(a), 1);
  assert_int_equal(set_key(a, keys.pem), LW_OK);         /* the same one */
  assert_int_equal(set_key(a, "nonsense"), LW_PROTOCOL); /* the old key stays, and its cache */
  assert_int_equal(lw_auth_key_number(a), 1);
  assert_int_equal(verify_url(a, "http://x", signature), LW_OK);
  assert_int_equal(lw_auth_cache_hits(a), 1);
  assert_int_equal(set_key(a, keys.other_pem), LW_OK);
  assert_int_equal(lw_auth_key_number(a), 2);
  assert_int_equal(verify_url(a, "http://x", signature), LW_PROTOCOL);
  assert_int_equal(verify_url(a, "http://x", by_other), LW_OK);
  assert_int_equal(lw_auth_cache_hits(a), 1);
  free(by_other);
  free(signature);
  lw_auth_free(a);
}

static void the_cache_is_bounded(void **state) {
  (void)state;
  enum {
    N = 1536,
    CACHE = 1024
  };
  static char *signatures[N];
  lw_auth *a = auth_with_key();
  char url[64];
  for (int i = 0; i < N; i++) {
    snprintf(url, sizeof(url), "http://10.0.0.1:%d", i);
    signatures[i] = sign_url(keys.signer, url);
    assert_int_equal(verify_url(a, url, signatures[i]), LW_OK);
  }
  for (int i = N - 1; i >= 0; i--) { /* the latest first: about 1,000 of them are still known */
    snprintf(url, sizeof(url), "http://10.0.0.1:%d", i);
    assert_int_equal(verify_url(a, url, signatures[i]), LW_OK);
    free(signatures[i]);
  }
  assert_in_range(lw_auth_cache_hits(a), CACHE / 2, CACHE);
  lw_auth_free(a);
}

static void a_url_is_signed_in_its_escaped_form(void **state) {
  (void)state;
  lw_auth *a = auth_with_key();
  const char *url = "http://h\xc3\xa9/\"\\\x7f\xf0\x9f\x98\x80";
  char *signature = lw_signer_sign(
      keys.signer, LW_SPAN("{\n    \"url\": \"http://h\\u00e9/\\\"\\\\\\u007f\\ud83d\\ude00\"\n}"));
  assert_int_equal(verify_url(a, url, signature), LW_OK);
  free(signature);
  lw_auth_free(a);
}

static void long_texts(void **state) {
  (void)state;
  lw_auth *a = auth_with_key();
  char *text = lw_calloc(1, 8194);
  const size_t sizes[] = {2048, 2049, 8192, 8193};
  for (size_t i = 0; i < LW_ARRAY_SIZE(sizes); i++) {
    memset(text, 'a', sizes[i]);
    char *signature = lw_signer_sign(keys.signer, (lw_span){text, sizes[i]});
    uint64_t hits = lw_auth_cache_hits(a);
    for (int twice = 0; twice < 2; twice++) {
      assert_int_equal(verify(a, (lw_span){text, sizes[i]}, lw_span_of(signature)),
                       sizes[i] <= 8192 ? LW_OK : LW_PROTOCOL);
    }
    assert_int_equal(lw_auth_cache_hits(a) - hits, sizes[i] <= 2048); /* longer: not kept */
    free(signature);
  }
  /* The bound is on what is hashed: a url that grows beyond it when escaped. */
  text[8192 - 14] = '\0';
  memset(text, 1, 8192 - 14);
  char *signature = sign_url(keys.signer, text);
  assert_int_equal(verify_url(a, text, signature), LW_PROTOCOL);
  free(signature);
  text[1000] = '\0';
  signature = sign_url(keys.signer, text);
  assert_int_equal(verify_url(a, text, signature), LW_OK);
  free(signature);
  free(text);
  lw_auth_free(a);
}

static void signers(void **state) {
  (void)state;
  assert_null(lw_signer_new(0));
  assert_null(lw_signer_new(100));
  assert_null(lw_signer_from_pem(LW_SPAN("")));
  assert_null(lw_signer_from_pem(lw_span_of(keys.pem))); /* a public key cannot sign */
  assert_int_equal(ERR_peek_error(), 0);

  EVP_PKEY *key = EVP_RSA_gen(2048);
  BIO *plain = BIO_new(BIO_s_mem()), *locked = BIO_new(BIO_s_mem()), *ec = BIO_new(BIO_s_mem());
  PEM_write_bio_PrivateKey(plain, key, NULL, NULL, 0, NULL, NULL);
  PEM_write_bio_PrivateKey(locked, key, EVP_aes_128_cbc(), (const unsigned char *)"pass", 4, NULL,
                           NULL);
  EVP_PKEY *curve = EVP_EC_gen("P-256");
  PEM_write_bio_PrivateKey(ec, curve, NULL, NULL, 0, NULL, NULL);
  char *text;
  long n = BIO_get_mem_data(locked, &text);
  assert_null(lw_signer_from_pem((lw_span){text, (size_t)n})); /* and nobody is asked */
  n = BIO_get_mem_data(ec, &text);
  assert_null(lw_signer_from_pem((lw_span){text, (size_t)n}));
  n = BIO_get_mem_data(plain, &text);
  lw_signer *s = lw_signer_from_pem((lw_span){text, (size_t)n});
  assert_non_null(s);
  assert_int_equal(ERR_peek_error(), 0);
  char *pem = lw_signer_public_pem(s), *signature = lw_signer_sign(s, LW_SPAN("m"));
  lw_auth *a = lw_auth_new();
  assert_int_equal(set_key(a, pem), LW_OK);
  assert_int_equal(verify(a, LW_SPAN("m"), lw_span_of(signature)), LW_OK);
  lw_auth_free(a);
  free(signature);
  free(pem);
  lw_signer_free(s);
  BIO_free(plain);
  BIO_free(locked);
  BIO_free(ec);
  EVP_PKEY_free(curve);
  EVP_PKEY_free(key);
}

int main(void) {
  if (CRYPTO_set_mem_functions(count_malloc, count_realloc, pass_free) != 1) return 1;
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(keys_are_judged_by_their_size),
      cmocka_unit_test(only_plain_rsa_keys),
      cmocka_unit_test(only_one_pem_block_with_a_public_key),
      cmocka_unit_test(a_pkcs1_public_key_is_the_same_key),
      cmocka_unit_test(without_a_key_nothing_is_verified),
      cmocka_unit_test(a_signature_of_a_message),
      cmocka_unit_test(base64_has_one_spelling),
      cmocka_unit_test(trailing_bits_must_be_zero),
      cmocka_unit_test(each_kind_of_padding),
      cmocka_unit_test(a_verified_url_is_remembered),
      cmocka_unit_test(a_hit_needs_every_byte),
      cmocka_unit_test(a_failure_is_never_remembered),
      cmocka_unit_test(another_key_empties_the_cache),
      cmocka_unit_test(the_cache_is_bounded),
      cmocka_unit_test(a_url_is_signed_in_its_escaped_form),
      cmocka_unit_test(long_texts),
      cmocka_unit_test(signers),
  };
  int failed = cmocka_run_group_tests(tests, make_keys, free_keys);
  lw_buf_drop_spares();
  return failed;
}
