/* SPDX-License-Identifier: MIT
 * For tests of TLS: certificates made on the spot, and the client's side of a session, over memory
 * like ours, so that a test carries the bytes itself and may change them on the way. */
#pragma once

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

#include "floor/base.h"

typedef struct tls_pem {
  char *certificate, *key;
} tls_pem;

static inline char *tls_bio_text(BIO *bio) {
  char *p = NULL;
  long n = BIO_get_mem_data(bio, &p);
  char *text = lw_strdup_n(p, (size_t)n);
  BIO_free(bio);
  return text;
}

/* Self-signed for `name`, good until now + days (negative: expired). */
static inline tls_pem tls_pem_new(const char *name, int days, const char *passphrase) {
  EVP_PKEY *key = EVP_EC_gen("P-256");
  X509 *x = X509_new();
  X509_set_version(x, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(x), 1 + rand() % 1000000);
  X509_gmtime_adj(X509_getm_notBefore(x), -30L * 86400);
  X509_gmtime_adj(X509_getm_notAfter(x), days * 86400L);
  X509_set_pubkey(x, key);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
                             (const unsigned char *)name, -1, -1, 0);
  X509_set_issuer_name(x, X509_get_subject_name(x));
  X509_sign(x, key, EVP_sha256());
  BIO *certificate = BIO_new(BIO_s_mem()), *secret = BIO_new(BIO_s_mem());
  PEM_write_bio_X509(certificate, x);
  PEM_write_bio_PKCS8PrivateKey(secret, key, passphrase ? EVP_aes_128_cbc() : NULL, passphrase,
                                passphrase ? (int)strlen(passphrase) : 0, NULL, NULL);
  X509_free(x);
  EVP_PKEY_free(key);
  return (tls_pem){tls_bio_text(certificate), tls_bio_text(secret)};
}

static inline void tls_pem_free(tls_pem *p) {
  free(p->certificate);
  free(p->key);
  *p = (tls_pem){NULL, NULL};
}

typedef struct tls_peer {
  SSL_CTX *ctx;
  SSL *ssl;
  BIO *in, *out; /* owned by ssl: from and to the server */
} tls_peer;

/* version: TLS1_3_VERSION and so on, 0: any. */
static inline void tls_peer_open(tls_peer *p, int version) {
  p->ctx = SSL_CTX_new(TLS_client_method());
  if (version && version < TLS1_2_VERSION) SSL_CTX_set_security_level(p->ctx, 0);
  if (version) SSL_CTX_set_min_proto_version(p->ctx, version);
  if (version) SSL_CTX_set_max_proto_version(p->ctx, version);
  p->ssl = SSL_new(p->ctx);
  p->in = BIO_new(BIO_s_mem());
  p->out = BIO_new(BIO_s_mem());
  BIO_set_mem_eof_return(p->in, -1);
  SSL_set_bio(p->ssl, p->in, p->out);
  SSL_set_connect_state(p->ssl);
}

static inline void tls_peer_close(tls_peer *p) {
  SSL_free(p->ssl);
  SSL_CTX_free(p->ctx);
  ERR_clear_error();
  *p = (tls_peer){0};
}
