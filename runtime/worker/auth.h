/* SPDX-License-Identifier: MIT
 * Signatures of the autoscaler: RSA PKCS#1 v1.5 with SHA-256 over a canonical text, base64
 * (protocol: "The signature"). Holds the public key and a bounded cache of what was verified, so
 * that the RSA work is done once per (message, signature). Also the signing side, for the local
 * autoscaler. Uses OpenSSL; no loop, no Lua. */
#pragma once

#include "floor/base.h"

typedef struct lw_auth lw_auth;

lw_auth *lw_auth_new(void);
void lw_auth_free(lw_auth *a);

/* Takes a PEM public key (SubjectPublicKeyInfo or PKCS#1, one block with nothing but white space
 * around it; plain RSA of 2048 to 8192 bits; quoted JSON text is not accepted). LW_OK, or
 * LW_PROTOCOL with *why (static text) and the old key kept. A key other than the present one
 * empties the cache. */
lw_code lw_auth_set_key(lw_auth *a, lw_span pem, const char **why) LW_MUST_CHECK;
bool lw_auth_has_key(const lw_auth *a);
/* 0 before the first key; grows with each that is another than the one before. */
unsigned lw_auth_key_number(const lw_auth *a);

/* What the autoscaler signs is a few hundred bytes. The bound keeps strangers from having megabytes
 * hashed. */
#define LW_AUTH_MESSAGE_MAX 8192
/* Whether `signature` (base64 text, strict: right alphabet, padding, canonical last digit) is the
 * key's signature of `message`. LW_OK; LW_BUSY when there is no key; LW_PROTOCOL when it is not or
 * when the message is longer than LW_AUTH_MESSAGE_MAX; *why says why (good until the next call;
 * NULL with LW_OK). */
lw_code lw_auth_verify(lw_auth *a, lw_span message, lw_span signature,
                       const char **why) LW_MUST_CHECK;

/* Checks scheme `url`: the canonical {"url": url} text signed. Looks in the cache first, without
 * building the text. Same results as lw_auth_verify. */
lw_code lw_auth_verify_url(lw_auth *a, lw_span url, lw_span signature,
                           const char **why) LW_MUST_CHECK;
/* What the base64 text in s says, into out (s.n bytes are enough): either alphabet, padding or
 * none; 0 when it is none. For auth_data in header fields, where strictness proves nothing. */
size_t lw_auth_decode_base64(lw_span s, char *out);
/* Cache figures, for tests and metrics. */
uint64_t lw_auth_cache_hits(const lw_auth *a);
uint64_t lw_auth_rsa_verifications(const lw_auth *a);

/* A private key for the local autoscaler. */
typedef struct lw_signer lw_signer;
lw_signer *lw_signer_new(int bits); /* generates RSA; about 100 ms for 2048 bits; NULL on failure */
lw_signer *lw_signer_from_pem(lw_span pem); /* NULL when unreadable */
void lw_signer_free(lw_signer *s);
char *lw_signer_public_pem(const lw_signer *s); /* caller frees */
/* base64 signature of message; caller frees; NULL on failure. */
char *lw_signer_sign(const lw_signer *s, lw_span message);
