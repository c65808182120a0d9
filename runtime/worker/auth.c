/* SPDX-License-Identifier: MIT
 * Verifies the autoscaler's signatures and remembers which ones it verified; the signing side, for
 * the local autoscaler, is at the end. Knows no JSON but the text that wire/canon prints, and does
 * not fetch keys. Called by worker/scheme for each request and by the key fetch. Owns the key, a
 * digest state and the cache. Every function leaves OpenSSL's error queue empty. */
#include "worker/auth.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "wire/canon.h"

#define MIN_BITS 2048
#define MAX_BITS 8192
#define MAX_EXPONENT_BITS 64
#define MAX_PEM 16384

/* The cache: SETS sets of WAYS entries; a set is chosen by the hash, and within it the entry not
 * used for longest makes room. So a lookup is one hash and at most WAYS comparisons of 64 bits. The
 * hash is seeded: it only finds entries, equality is decided by the bytes. */
#define SETS 256
#define WAYS 4
#define MAX_CACHED 2048 /* bytes of the subject; longer ones are verified each time */

/* What a signature was given for. A message and a url that look alike are not the same. */
typedef enum scheme {
  SCHEME_MESSAGE = 1,
  SCHEME_URL
} scheme;

typedef struct cached {
  uint64_t hash, used;
  char *bytes; /* subject, then signature; NULL: free */
  size_t subject_n, signature_n;
  scheme scheme;
} cached;

struct lw_auth {
  EVP_PKEY *key;
  size_t signature_n; /* bytes of the key's modulus */
  EVP_MD_CTX *digest;
  uint64_t seed, clock, hits, rsa_verifications;
  unsigned key_number;
  char why[160]; /* the last refusal */
  cached cache[SETS][WAYS];
};

struct lw_signer {
  EVP_PKEY *key;
};

static uint64_t mix(uint64_t h, uint64_t word) {
  h = (h ^ word) * 0x9e3779b97f4a7c15u;
  return h ^ (h >> 32);
}

static uint64_t hash_bytes(uint64_t h, lw_span s) {
  h = mix(h, s.n);
  uint64_t word;
  for (; s.n >= sizeof(word); s.p += sizeof(word), s.n -= sizeof(word)) {
    memcpy(&word, s.p, sizeof(word));
    h = mix(h, word);
  }
  word = 0;
  if (s.n) memcpy(&word, s.p, s.n);
  return mix(h, word);
}

static uint64_t hash_of(const lw_auth *a, scheme scheme, lw_span subject, lw_span signature) {
  return hash_bytes(hash_bytes(mix(a->seed, scheme), subject), signature);
}

static bool is_same(const cached *c, scheme scheme, lw_span subject, lw_span signature) {
  return c->scheme == scheme && lw_span_eq((lw_span){c->bytes, c->subject_n}, subject) &&
         lw_span_eq((lw_span){c->bytes + c->subject_n, c->signature_n}, signature);
}

static bool recall(lw_auth *a, uint64_t hash, scheme scheme, lw_span subject, lw_span signature) {
  cached *set = a->cache[hash % SETS];
  for (int i = 0; i < WAYS; i++) {
    cached *c = &set[i];
    if (!c->bytes || c->hash != hash || !is_same(c, scheme, subject, signature)) continue;
    c->used = ++a->clock;
    a->hits++;
    return true;
  }
  return false;
}

static void forget(cached *c) {
  free(c->bytes);
  *c = (cached){0};
}

static void remember(lw_auth *a, uint64_t hash, scheme scheme, lw_span subject, lw_span signature) {
  cached *set = a->cache[hash % SETS], *c = set;
  for (int i = 1; i < WAYS; i++) {
    if (set[i].used < c->used) c = &set[i];
  }
  forget(c);
  char *bytes = lw_alloc(subject.n + signature.n);
  if (subject.n) memcpy(bytes, subject.p, subject.n);
  memcpy(bytes + subject.n, signature.p, signature.n);
  *c = (cached){hash, ++a->clock, bytes, subject.n, signature.n, scheme};
}

static void forget_all(lw_auth *a) {
  for (int s = 0; s < SETS; s++) {
    for (int i = 0; i < WAYS; i++) forget(&a->cache[s][i]);
  }
}

lw_auth *lw_auth_new(void) {
  lw_auth *a = lw_calloc(1, sizeof(*a));
  a->digest = EVP_MD_CTX_new();
  if (!a->digest) lw_die("OpenSSL cannot be used: no memory");
  /* OpenSSL's own generator takes 2 ms to set up, in every start. */
  if (getrandom(&a->seed, sizeof(a->seed), 0) != sizeof(a->seed)) {
    lw_die("the system gives no random bytes: %s", strerror(errno));
  }
  return a;
}

void lw_auth_free(lw_auth *a) {
  if (!a) return;
  forget_all(a);
  EVP_MD_CTX_free(a->digest);
  EVP_PKEY_free(a->key);
  free(a);
}

static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

static lw_span trim_lines(lw_span s) {
  for (; s.n && is_space(s.p[0]); s.p++) s.n--;
  while (s.n && is_space(s.p[s.n - 1])) s.n--;
  return s;
}

static EVP_PKEY *decode_der(const char *name, const unsigned char *der, long n) {
  const unsigned char *end = der;
  EVP_PKEY *key = NULL;
  if (strcmp(name, PEM_STRING_PUBLIC) == 0) key = d2i_PUBKEY(NULL, &end, n);
  if (strcmp(name, PEM_STRING_RSA_PUBLIC) == 0) key = d2i_PublicKey(EVP_PKEY_RSA, NULL, &end, n);
  if (key && end - der != n) {
    EVP_PKEY_free(key);
    key = NULL;
  }
  return key;
}

/* One PEM block and nothing around it; NULL otherwise. */
static EVP_PKEY *read_public_key(lw_span pem) {
  pem = trim_lines(pem);
  lw_span opening = LW_SPAN("-----BEGIN ");
  if (pem.n > MAX_PEM || pem.n < opening.n || memcmp(pem.p, opening.p, opening.n) != 0) return NULL;
  BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.n);
  char *name = NULL, *header = NULL;
  unsigned char *der = NULL;
  long n = 0;
  EVP_PKEY *key = NULL;
  char rest;
  if (bio && PEM_read_bio(bio, &name, &header, &der, &n) == 1 && !header[0] &&
      BIO_read(bio, &rest, 1) <= 0) {
    key = decode_der(name, der, n);
  }
  OPENSSL_free(name);
  OPENSSL_free(header);
  OPENSSL_free(der);
  BIO_free(bio);
  return key;
}

/* OpenSSL would take an even modulus or an exponent of 1 without a word. */
static bool has_sane_numbers(const EVP_PKEY *key) {
  BIGNUM *n = NULL, *e = NULL;
  bool sane = EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_N, &n) == 1 &&
              EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_E, &e) == 1 && BN_is_odd(n) &&
              BN_is_odd(e) && !BN_is_one(e) && BN_num_bits(e) <= MAX_EXPONENT_BITS;
  BN_free(n);
  BN_free(e);
  return sane;
}

/* NULL when the key may be used, else why not. */
static const char *fault_of(const EVP_PKEY *key) {
  if (!key) return "not one PEM block with a public key";
  if (EVP_PKEY_get_base_id(key) != EVP_PKEY_RSA) return "not a plain RSA key";
  if (EVP_PKEY_get_bits(key) < MIN_BITS) return "an RSA key below 2048 bits";
  if (EVP_PKEY_get_bits(key) > MAX_BITS) return "an RSA key above 8192 bits";
  if (!has_sane_numbers(key)) return "an RSA key with an unusable modulus or exponent";
  return NULL;
}

lw_code lw_auth_set_key(lw_auth *a, lw_span pem, const char **why) {
  EVP_PKEY *key = read_public_key(pem);
  *why = fault_of(key);
  bool is_present = !*why && a->key && EVP_PKEY_eq(a->key, key) == 1;
  ERR_clear_error();
  if (*why || is_present) {
    EVP_PKEY_free(key);
    return *why ? LW_PROTOCOL : LW_OK;
  }
  forget_all(a);
  EVP_PKEY_free(a->key);
  a->key = key;
  a->signature_n = (size_t)EVP_PKEY_get_size(key);
  a->key_number++;
  return LW_OK;
}

bool lw_auth_has_key(const lw_auth *a) { return a->key; }
unsigned lw_auth_key_number(const lw_auth *a) { return a->key_number; }

static size_t base64_size(size_t n) { return (n + 2) / 3 * 4; }

static int base64_digit(unsigned char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* RFC 4648 §4 with §3.5 enforced: exactly the text that n bytes are printed as, so that no
 * signature has a second spelling. OpenSSL's decoder skips white space and ignores trailing bits.
 */
static bool decode_base64(lw_span text, unsigned char *out, size_t n) {
  if (text.n != base64_size(n)) return false;
  size_t digits = (n * 8 + 5) / 6;
  uint32_t bits = 0; /* the lowest `held` are not written yet */
  unsigned held = 0;
  for (size_t i = 0; i < digits; i++) {
    int digit = base64_digit((unsigned char)text.p[i]);
    if (digit < 0) return false;
    bits = bits << 6 | (uint32_t)digit;
    held += 6;
    if (held < 8) continue;
    held -= 8;
    *out++ = (unsigned char)(bits >> held);
  }
  for (size_t i = digits; i < text.n; i++) {
    if (text.p[i] != '=') return false;
  }
  return (bits & ((1u << held) - 1)) == 0;
}

size_t lw_auth_decode_base64(lw_span s, char *out) {
  while (s.n && s.p[s.n - 1] == '=') s.n--;
  uint32_t bits = 0;
  size_t n = 0;
  for (size_t i = 0; i < s.n; i++) {
    unsigned char c = (unsigned char)s.p[i];
    int digit = base64_digit(c == '-' ? '+' : c == '_' ? '/' : c);
    if (digit < 0) return 0;
    bits = bits << 6 | (uint32_t)digit;
    if (i % 4 != 0) out[n++] = (char)(bits >> (6 - 2 * (i % 4)));
  }
  return n;
}

static bool rsa_verify(lw_auth *a, lw_span message, const unsigned char *signature) {
  EVP_PKEY_CTX *padding = NULL; /* belongs to the digest */
  a->rsa_verifications++;
  bool verified = EVP_DigestVerifyInit(a->digest, &padding, EVP_sha256(), NULL, a->key) == 1 &&
                  EVP_PKEY_CTX_set_rsa_padding(padding, RSA_PKCS1_PADDING) == 1 &&
                  EVP_DigestVerify(a->digest, signature, a->signature_n,
                                   (const unsigned char *)message.p, message.n) == 1;
  EVP_MD_CTX_reset(a->digest);
  ERR_clear_error();
  return verified;
}

/* The signed text of scheme `url` into text[LW_AUTH_MESSAGE_MAX]; false when it does not fit. */
static bool print_url_message(lw_span url, char *text, lw_span *message) {
  lw_buf canon;
  lw_buf_init(&canon, 0, LW_AUTH_MESSAGE_MAX, 0);
  lw_canon_url_message(&canon, url);
  bool fits = canon.size <= LW_AUTH_MESSAGE_MAX;
  *message = (lw_span){text, fits ? lw_buf_take_all(&canon, text) : 0};
  lw_buf_fini(&canon);
  return fits;
}

/* A signature of the wrong length: what it is, so that an operator sees the cause. */
static const char *fault_of_length(lw_auth *a, lw_span signature) {
  size_t end = signature.n;
  while (end && signature.p[end - 1] == '=') end--;
  for (size_t i = 0; i < end; i++) {
    if (base64_digit((unsigned char)signature.p[i]) < 0)
      return "the signature is not strict base64";
  }
  snprintf(a->why, sizeof a->why,
           "the signature has %zu characters of base64, one of the key's %zu bits has %zu",
           signature.n, a->signature_n * 8, base64_size(a->signature_n));
  return signature.n ? a->why : "the signature is empty";
}

/* NULL when the signature is the key's, else why not. */
static const char *fault_of_signature(lw_auth *a, scheme scheme, lw_span subject,
                                      lw_span signature) {
  unsigned char raw[MAX_BITS / 8];
  char text[LW_AUTH_MESSAGE_MAX];
  if (!decode_base64(signature, raw, a->signature_n)) return "the signature is not strict base64";
  lw_span message = subject;
  if (scheme == SCHEME_URL && !print_url_message(subject, text, &message)) {
    return "the signed text is too long";
  }
  return rsa_verify(a, message, raw) ? NULL : "the signature is not the autoscaler's for this text";
}

static lw_code verify(lw_auth *a, scheme scheme, lw_span subject, lw_span signature,
                      const char **why) {
  *why = NULL;
  if (!a->key) {
    *why = "there is no public key yet";
    return LW_BUSY;
  }
  if (signature.n != base64_size(a->signature_n)) *why = fault_of_length(a, signature);
  if (subject.n > LW_AUTH_MESSAGE_MAX) *why = "the signed text is too long";
  if (*why) return LW_PROTOCOL;
  bool cacheable = subject.n <= MAX_CACHED;
  uint64_t hash = cacheable ? hash_of(a, scheme, subject, signature) : 0;
  if (cacheable && recall(a, hash, scheme, subject, signature)) return LW_OK;
  *why = fault_of_signature(a, scheme, subject, signature);
  if (*why) return LW_PROTOCOL;
  if (cacheable) remember(a, hash, scheme, subject, signature);
  return LW_OK;
}

lw_code lw_auth_verify(lw_auth *a, lw_span message, lw_span signature, const char **why) {
  return verify(a, SCHEME_MESSAGE, message, signature, why);
}

lw_code lw_auth_verify_url(lw_auth *a, lw_span url, lw_span signature, const char **why) {
  return verify(a, SCHEME_URL, url, signature, why);
}

uint64_t lw_auth_cache_hits(const lw_auth *a) { return a->hits; }
uint64_t lw_auth_rsa_verifications(const lw_auth *a) { return a->rsa_verifications; }

static lw_signer *signer_of(EVP_PKEY *key) {
  ERR_clear_error();
  if (key && EVP_PKEY_get_base_id(key) != EVP_PKEY_RSA) {
    EVP_PKEY_free(key);
    key = NULL;
  }
  if (!key) return NULL;
  lw_signer *s = lw_alloc(sizeof(*s));
  s->key = key;
  return s;
}

lw_signer *lw_signer_new(int bits) {
  return signer_of(bits > 0 ? EVP_RSA_gen((unsigned)bits) : NULL);
}

/* Without it OpenSSL would ask for an encrypted key's password on the terminal. */
static int no_password(char *out, int size, int writing, void *data) {
  (void)out, (void)size, (void)writing, (void)data;
  return -1;
}

lw_signer *lw_signer_from_pem(lw_span pem) {
  if (pem.n > MAX_PEM) return NULL;
  BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.n);
  EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL) : NULL;
  BIO_free(bio);
  return signer_of(key);
}

void lw_signer_free(lw_signer *s) {
  if (!s) return;
  EVP_PKEY_free(s->key);
  free(s);
}

char *lw_signer_public_pem(const lw_signer *s) {
  BIO *bio = BIO_new(BIO_s_mem());
  if (!bio || PEM_write_bio_PUBKEY(bio, s->key) != 1) lw_die("OpenSSL cannot print a public key");
  char *text;
  long n = BIO_get_mem_data(bio, &text);
  char *pem = lw_strdup_n(text, (size_t)n);
  BIO_free(bio);
  return pem;
}

char *lw_signer_sign(const lw_signer *s, lw_span message) {
  size_t n = (size_t)EVP_PKEY_get_size(s->key);
  unsigned char *raw = lw_alloc(n);
  char *text = NULL;
  EVP_MD_CTX *digest = EVP_MD_CTX_new();
  if (digest && EVP_DigestSignInit(digest, NULL, EVP_sha256(), NULL, s->key) == 1 &&
      EVP_DigestSign(digest, raw, &n, (const unsigned char *)message.p, message.n) == 1) {
    text = lw_alloc(base64_size(n) + 1);
    EVP_EncodeBlock((unsigned char *)text, raw, (int)n);
  }
  EVP_MD_CTX_free(digest);
  free(raw);
  ERR_clear_error();
  return text;
}
