/* SPDX-License-Identifier: MIT
 * TLS under an accepted connection, by OpenSSL over memory: bytes in, bytes out, no sockets. A
 * lw_tls_keys is a certificate with its key, counted; a lw_tls is one connection's session.
 *
 *   socket → lw_tls_feed() → plain bytes → ...
 *   ... → plain buffer → lw_tls_write() → lw_tls_out() → socket
 *
 * Versions, ciphers and the security level are OpenSSL's defaults, never below TLS 1.2. */
#pragma once

#include "floor/buf.h"

typedef struct lw_tls_keys lw_tls_keys;

/* PEM texts: the certificate with its chain, and its key. NULL with *why (caller frees; names
 * neither file): not PEM, an encrypted key, a pair that does not belong together. Expired ones are
 * taken. Never prompts. refs = 1. */
lw_tls_keys *lw_tls_keys_load(lw_span certificate, lw_span key, char **why);
lw_tls_keys *lw_tls_keys_ref(lw_tls_keys *k);
void lw_tls_keys_unref(lw_tls_keys *k);                /* NULL is fine */
double lw_tls_keys_expiry_s(const lw_tls_keys *k);     /* notAfter, seconds since the epoch */
const char *lw_tls_keys_subject(const lw_tls_keys *k); /* "CN=worker.test,O=..." */

typedef struct lw_tls lw_tls;

enum {
  LW_TLS_SLACK = 17 * 1024 /* what feeding n bytes may yield beyond n: a record begun before */
};

lw_tls *lw_tls_new(lw_tls_keys *keys); /* may outlive the caller's reference */
void lw_tls_free(lw_tls *t);           /* NULL is fine */
/* Bytes from the socket, all of them taken; `plain` has room for n + LW_TLS_SLACK and gets the
 * *plain_n bytes that they yield. LW_PROTOCOL: the session is broken, now or before; an alert may
 * wait in the output. */
lw_code lw_tls_feed(lw_tls *t, const char *p, size_t n, char *plain, size_t *plain_n) LW_MUST_CHECK;
bool lw_tls_is_open(const lw_tls *t);   /* the handshake is done */
bool lw_tls_is_closed(const lw_tls *t); /* the peer said that it sends no more (close_notify) */
/* What waits for the socket; the owner consumes it. At most 48 KB by lw_tls_write, and what the
 * peer's messages ask for. */
lw_buf *lw_tls_out(lw_tls *t);
/* Encrypts from `from`, consuming it, while less than 32 KB wait. Nothing before the handshake is
 * done; a broken session loses what is given to it. */
void lw_tls_write(lw_tls *t, lw_buf *from);
void lw_tls_shutdown(lw_tls *t);           /* our close_notify, once: nothing is written after it */
const char *lw_tls_error(const lw_tls *t); /* why it is broken; NULL when it is not */
