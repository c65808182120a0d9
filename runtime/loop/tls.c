/* SPDX-License-Identifier: MIT
 * Sessions of OpenSSL whose input is the span being fed and whose output is a lw_buf. Called by
 * conn, and by the certificate's room for the keys. Owns each session and its output. OpenSSL's
 * error queue is empty whenever a function of this room returns. */
#include "loop/tls.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <time.h>

enum {
  OUT_HIGH = 32 * 1024,
  RECORD_MAX = 16 * 1024, /* RFC 8446 section 5.1 */
};

struct lw_tls_keys {
  SSL_CTX *ctx;
  int refs;
  double expiry_s;
  char *subject;
};

struct lw_tls {
  SSL *ssl;
  lw_span in; /* of the feed under way */
  lw_buf out;
  const char *error;
  bool begun, closed, shut;
};

/* The reason of the first error, the deepest; static text. Empties the queue. */
static const char *take_error(void) {
  const char *text = ERR_reason_error_string(ERR_peek_error());
  ERR_clear_error();
  return text ? text : "broken by the peer";
}

/* -- keys -- */

static int refuse_passphrase(char *buf, int size, int writing, void *owner) {
  (void)buf, (void)size, (void)writing;
  *(bool *)owner = true;
  return -1;
}

/* RFC 7301 section 3.2: no common protocol ends the handshake. */
static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_n,
                   const unsigned char *in, unsigned in_n, void *owner) {
  (void)ssl, (void)owner;
  static const unsigned char ours[] = "\x08http/1.1\x08http/1.0";
  unsigned char *chosen = NULL;
  if (SSL_select_next_proto(&chosen, out_n, ours, sizeof ours - 1, in, in_n) !=
      OPENSSL_NPN_NEGOTIATED) {
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  }
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

static SSL_CTX *new_ctx(void) {
  SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
  if (!ctx) lw_die("OpenSSL has no TLS: %s", take_error());
  if (SSL_CTX_get_min_proto_version(ctx) < TLS1_2_VERSION) {
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
  }
  SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
  /* Tickets resume sessions; a cache here would hold memory for those that never come back. */
  SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_alpn_select_cb(ctx, on_alpn, NULL);
  return ctx;
}

static void note_certificate(lw_tls_keys *k, X509 *certificate) {
  struct tm end = {0};
  if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &end)) k->expiry_s = (double)timegm(&end);
  BIO *text = BIO_new(BIO_s_mem());
  X509_NAME_print_ex(text, X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253);
  char *p = NULL;
  long n = BIO_get_mem_data(text, &p);
  k->subject = lw_strdup_n(p, n > 0 ? (size_t)n : 0);
  BIO_free(text);
}

static char *use_chain(lw_tls_keys *k, lw_span pem) {
  BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.n);
  char *why = NULL;
  X509 *certificate = PEM_read_bio_X509_AUX(bio, NULL, NULL, NULL);
  if (!certificate) {
    bool none = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    const char *error = take_error();
    why = none ? lw_strdup("the certificate file holds no PEM certificate")
               : lw_printf_dup("the certificate can't be read: %s", error);
  } else if (SSL_CTX_use_certificate(k->ctx, certificate) != 1) {
    why = lw_printf_dup("the certificate can't be used: %s", take_error());
  } else {
    note_certificate(k, certificate);
  }
  X509_free(certificate);
  X509 *more;
  while (!why && (more = PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
    if (SSL_CTX_add0_chain_cert(k->ctx, more) == 1) continue;
    X509_free(more);
    why = lw_printf_dup("a certificate of the chain can't be used: %s", take_error());
  }
  if (!why && ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE) {
    why = lw_printf_dup("a certificate of the chain can't be read: %s", take_error());
  }
  ERR_clear_error();
  BIO_free(bio);
  return why;
}

static char *use_key(lw_tls_keys *k, lw_span pem) {
  BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.n);
  bool encrypted = false;
  EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, refuse_passphrase, &encrypted);
  BIO_free(bio);
  char *why = NULL;
  if (encrypted) {
    why = lw_strdup("the key is encrypted: give one without a passphrase");
  } else if (!key) {
    why = lw_strdup("the key file holds no PEM private key");
  } else if (X509_check_private_key(SSL_CTX_get0_certificate(k->ctx), key) != 1) {
    why = lw_strdup("the key does not belong to the certificate");
  } else if (SSL_CTX_use_PrivateKey(k->ctx, key) != 1) {
    why = lw_printf_dup("the key can't be used: %s", take_error());
  }
  EVP_PKEY_free(key);
  ERR_clear_error();
  return why;
}

lw_tls_keys *lw_tls_keys_load(lw_span certificate, lw_span key, char **why) {
  assert(certificate.n <= INT32_MAX && key.n <= INT32_MAX);
  ERR_clear_error();
  lw_tls_keys *k = lw_calloc(1, sizeof *k);
  k->refs = 1;
  k->ctx = new_ctx();
  *why = use_chain(k, certificate);
  if (!*why) *why = use_key(k, key);
  if (!*why) return k;
  lw_tls_keys_unref(k);
  return NULL;
}

lw_tls_keys *lw_tls_keys_ref(lw_tls_keys *k) {
  k->refs++;
  return k;
}

void lw_tls_keys_unref(lw_tls_keys *k) {
  if (!k || --k->refs) return;
  SSL_CTX_free(k->ctx);
  free(k->subject);
  free(k);
}

double lw_tls_keys_expiry_s(const lw_tls_keys *k) { return k->expiry_s; }
const char *lw_tls_keys_subject(const lw_tls_keys *k) { return k->subject; }

/* -- what OpenSSL takes for a socket -- */

static int on_bio_read(BIO *bio, char *to, int size) {
  lw_tls *t = BIO_get_data(bio);
  BIO_clear_retry_flags(bio);
  if (t->in.n == 0) {
    BIO_set_retry_read(bio);
    return -1;
  }
  size_t n = LW_MIN((size_t)size, t->in.n);
  memcpy(to, t->in.p, n);
  t->in = (lw_span){t->in.p + n, t->in.n - n};
  return (int)n;
}

static int on_bio_write(BIO *bio, const char *p, int n) {
  lw_tls *t = BIO_get_data(bio);
  BIO_clear_retry_flags(bio);
  lw_buf_add(&t->out, p, (size_t)n);
  return n;
}

static long on_bio_ctrl(BIO *bio, int command, long number, void *pointer) {
  (void)bio, (void)number, (void)pointer;
  return command == BIO_CTRL_FLUSH;
}

static BIO *new_bio(lw_tls *t) {
  static BIO_METHOD *method; /* made once, for all sessions */
  if (!method) {
    method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "luaworker");
    BIO_meth_set_read(method, on_bio_read);
    BIO_meth_set_write(method, on_bio_write);
    BIO_meth_set_ctrl(method, on_bio_ctrl);
  }
  BIO *bio = BIO_new(method);
  BIO_set_data(bio, t);
  BIO_set_init(bio, 1);
  return bio;
}

/* -- sessions -- */

lw_tls *lw_tls_new(lw_tls_keys *keys) {
  lw_tls *t = lw_calloc(1, sizeof *t);
  t->ssl = SSL_new(keys->ctx);
  if (!t->ssl) lw_die("out of memory for a TLS session");
  lw_buf_init(&t->out, 0, OUT_HIGH, 0);
  BIO *bio = new_bio(t);
  SSL_set_bio(t->ssl, bio, bio);
  SSL_set_accept_state(t->ssl);
  return t;
}

void lw_tls_free(lw_tls *t) {
  if (!t) return;
  SSL_free(t->ssl);
  lw_buf_fini(&t->out);
  ERR_clear_error();
  free(t);
}

/* A client that takes this for a plain port is told so in words that it understands. */
static bool refuse_plain_http(lw_tls *t, const char *p) {
  static const char answer[] =
      "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nConnection: close\r\n"
      "Content-Length: 56\r\n\r\n{\"error\": \"this port speaks TLS: use https, not http\"}\r\n";
  if (t->begun || *p < 'A' || *p > 'Z') return false;
  lw_buf_add(&t->out, answer, sizeof answer - 1);
  t->error = "plain HTTP on a TLS port";
  return true;
}

/* What an operation that did not succeed means for the session. */
static void note_outcome(lw_tls *t, int result) {
  switch (SSL_get_error(t->ssl, result)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
      break;
    case SSL_ERROR_ZERO_RETURN:
      t->closed = true;
      break;
    default:
      t->error = take_error();
  }
  ERR_clear_error();
}

static size_t read_plain(lw_tls *t, char *plain, size_t size) {
  size_t got = 0;
  while (got < size) {
    int n = SSL_read(t->ssl, plain + got, (int)LW_MIN(size - got, INT32_MAX));
    if (n <= 0) {
      note_outcome(t, n);
      break;
    }
    got += (size_t)n;
  }
  return got;
}

lw_code lw_tls_feed(lw_tls *t, const char *p, size_t n, char *plain, size_t *plain_n) {
  *plain_n = 0;
  if (t->error || (n && refuse_plain_http(t, p))) return LW_PROTOCOL;
  if (n == 0 || t->closed) return LW_OK;
  t->begun = true;
  t->in = (lw_span){p, n};
  ERR_clear_error();
  *plain_n = read_plain(t, plain, n + LW_TLS_SLACK);
  t->in = (lw_span){NULL, 0};
  return t->error ? LW_PROTOCOL : LW_OK;
}

bool lw_tls_is_open(const lw_tls *t) { return SSL_is_init_finished(t->ssl) && !t->error; }
bool lw_tls_is_closed(const lw_tls *t) { return t->closed; }
lw_buf *lw_tls_out(lw_tls *t) { return &t->out; }
const char *lw_tls_error(const lw_tls *t) { return t->error; }

void lw_tls_write(lw_tls *t, lw_buf *from) {
  if (!t->error && (!lw_tls_is_open(t) || t->shut)) return;
  ERR_clear_error();
  while (from->size && !t->error && !lw_buf_is_high(&t->out)) {
    lw_span s = lw_buf_peek(from);
    s.n = LW_MIN(s.n, (size_t)RECORD_MAX);
    int n = SSL_write(t->ssl, s.p, (int)s.n);
    if (n > 0) {
      lw_buf_consume(from, (size_t)n);
    } else {
      note_outcome(t, n);
      if (!t->error) t->error = "can't be written to";
    }
  }
  if (t->error) lw_buf_fini(from);
}

void lw_tls_shutdown(lw_tls *t) {
  if (t->shut || !lw_tls_is_open(t)) return;
  t->shut = true;
  ERR_clear_error();
  if (SSL_shutdown(t->ssl) < 0) note_outcome(t, -1);
  ERR_clear_error();
}
