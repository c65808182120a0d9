/* SPDX-License-Identifier: MIT
 * TLS under an accepted connection, by OpenSSL over memory: bytes in, bytes out, no sockets. A
 * lw_tls_keys is a certificate with its key, counted; a lw_tls is one connection's session. */
#pragma once

#include "floor/buf.h"

typedef struct lw_tls_keys lw_tls_keys;

/* PEM files: the certificate with its chain, and its key. TLS 1.2 and newer, ALPN http/1.1. NULL
 * with *why (caller frees): unreadable, not PEM, key and certificate that do not belong together,
 * expired ones are taken. refs = 1. */
lw_tls_keys *lw_tls_keys_load(const char *certificate_file, const char *key_file, char **why);
lw_tls_keys *lw_tls_keys_ref(lw_tls_keys *k);
void lw_tls_keys_unref(lw_tls_keys *k); /* NULL is fine */
double lw_tls_keys_expiry_s(const lw_tls_keys *k); /* notAfter, seconds since the epoch */
const char *lw_tls_keys_subject(const lw_tls_keys *k);

typedef struct lw_tls lw_tls;

lw_tls *lw_tls_new(lw_tls_keys *keys); /* takes a reference */
void lw_tls_free(lw_tls *t);
/* Bytes from the socket. LW_OK, or LW_PROTOCOL: the session is broken (an alert may be waiting in
 * the output). */
lw_code lw_tls_feed(lw_tls *t, const char *p, size_t n) LW_MUST_CHECK;
/* Plain bytes that came, at most `size`: how many; 0: none now. */
size_t lw_tls_read(lw_tls *t, char *out, size_t size);
bool lw_tls_is_open(const lw_tls *t);     /* the handshake is done */
bool lw_tls_is_closed(const lw_tls *t);   /* the peer said that it sends no more (close_notify) */
/* Encrypts as much of `from` as there is, consuming it, into `to`. Nothing before the handshake is
 * done. */
void lw_tls_write(lw_tls *t, lw_buf *from, lw_buf *to);
void lw_tls_flush(lw_tls *t, lw_buf *to); /* handshake records and alerts that wait to be sent */
void lw_tls_shutdown(lw_tls *t);          /* our close_notify: the last thing to be sent */
const char *lw_tls_error(const lw_tls *t); /* one sentence, "" when none */
