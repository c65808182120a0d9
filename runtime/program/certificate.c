/* SPDX-License-Identifier: MIT
 * Reads the certificate's two files, gives the server the keys made of them, and looks again when
 * they may have changed. Two files never change at once, so a pair that is bad is told only if it
 * still is a second later. Called by serve. Owns the keys and the watches; knows what it looked at
 * last by a hash, so that a look at unchanged files does nothing. */
#include "program/certificate.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "floor/log.h"
#include "loop/watch.h"

enum {
  FILE_MAX = 1 << 20,
  LOOK_MS = 5000,
  SETTLE_MS = 1000,
  DAY_S = 86400,
  WARN_DAYS = 7
};

typedef struct text {
  char *p;
  size_t n;
} text;

typedef struct pair {
  text certificate, key;
  char *why; /* a file that can't be read; the texts are empty then */
  uint64_t hash;
} pair;

static struct {
  lw_server *server; /* NULL: not open */
  char *certificate_file, *key_file;
  lw_tls_keys *keys;
  lw_watch *watches[2];
  lw_wake changed, settled;
  lw_timer settle;
  uint64_t seen; /* hash of what was tried last */
  bool bad;      /* that was refused */
  uint64_t failures;
  double next_warning_s;
} certificate;

/* -- the files -- */

static bool read_all(int fd, text *t) {
  char *p = lw_alloc(FILE_MAX + 1);
  size_t n = 0;
  ssize_t got;
  while (n <= FILE_MAX && (got = read(fd, p + n, FILE_MAX + 1 - n)) > 0) n += (size_t)got;
  bool ok = n <= FILE_MAX && got == 0;
  if (!ok && n > FILE_MAX) errno = EFBIG;
  if (ok) *t = (text){lw_strdup_n(p, n), n};
  explicit_bzero(p, n);
  free(p);
  return ok;
}

/* A pipe or a device at the path is refused, not waited for. */
static char *read_file(const char *what, const char *path, text *t) {
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  struct stat st;
  bool ok = fd >= 0 && fstat(fd, &st) == 0;
  char *why = NULL;
  if (ok && !S_ISREG(st.st_mode)) {
    why = lw_printf_dup("the TLS %s %s can't be read: not a regular file", what, path);
  } else if (!ok || !read_all(fd, t)) {
    why = lw_printf_dup("the TLS %s %s can't be read: %s", what, path, strerror(errno));
  }
  if (fd >= 0) close(fd);
  return why;
}

/* FNV-1a: tells whether something changed, protects nothing. */
static uint64_t add_hash(uint64_t h, const char *p, size_t n) {
  for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)p[i]) * 0x100000001b3;
  return (h ^ 0xff) * 0x100000001b3;
}

static void drop_text(text *t) {
  if (t->p) explicit_bzero(t->p, t->n);
  free(t->p);
  *t = (text){NULL, 0};
}

static void drop_pair(pair *p) {
  drop_text(&p->certificate);
  drop_text(&p->key);
  free(p->why);
}

static pair read_pair(void) {
  pair p = {.hash = 0xcbf29ce484222325};
  p.why = read_file("certificate", certificate.certificate_file, &p.certificate);
  if (!p.why) p.why = read_file("key", certificate.key_file, &p.key);
  if (p.why) p.hash = add_hash(p.hash, p.why, strlen(p.why));
  p.hash = add_hash(p.hash, p.certificate.p, p.certificate.n);
  p.hash = add_hash(p.hash, p.key.p, p.key.n);
  return p;
}

static lw_tls_keys *load(const pair *p, char **why) {
  *why = NULL;
  if (p->why) {
    *why = lw_strdup(p->why);
    return NULL;
  }
  char *fault = NULL;
  lw_tls_keys *keys = lw_tls_keys_load((lw_span){p->certificate.p, p->certificate.n},
                                       (lw_span){p->key.p, p->key.n}, &fault);
  if (keys) return keys;
  *why = lw_printf_dup("the TLS certificate %s with the key %s is refused: %s",
                       certificate.certificate_file, certificate.key_file, fault);
  free(fault);
  return NULL;
}

/* -- its end -- */

static void tell_expiry(void) {
  double now = lw_wall_s(), end = lw_tls_keys_expiry_s(certificate.keys);
  if (end - now > WARN_DAYS * DAY_S || now < certificate.next_warning_s) return;
  if (end <= now) {
    lw_warn("the TLS certificate %s has expired %.1f days ago: clients will refuse it",
            certificate.certificate_file, (now - end) / DAY_S);
  } else {
    lw_warn("the TLS certificate %s expires in %.1f days", certificate.certificate_file,
            (end - now) / DAY_S);
  }
  certificate.next_warning_s = end > now && end < now + DAY_S ? end : now + DAY_S;
}

/* -- looking -- */

static void install(lw_tls_keys *keys, const char *what) {
  lw_tls_keys_unref(certificate.keys);
  certificate.keys = keys;
  certificate.bad = false;
  certificate.next_warning_s = 0;
  lw_timer_stop(&certificate.settle);
  lw_server_set_tls(certificate.server, keys);
  char end[32] = "?";
  time_t end_s = (time_t)lw_tls_keys_expiry_s(keys);
  struct tm tm;
  if (gmtime_r(&end_s, &tm)) strftime(end, sizeof end, "%Y-%m-%d %H:%M:%S UTC", &tm);
  lw_info("TLS certificate %s: %s, valid until %s", what, lw_tls_keys_subject(keys), end);
}

static void refuse(char *why, bool tell) {
  certificate.bad = true;
  if (tell) {
    certificate.failures++;
    lw_error("%s; the old pair stays in use", why);
    lw_timer_stop(&certificate.settle);
  } else {
    lw_timer_start(&certificate.settle, SETTLE_MS);
  }
  free(why);
}

/* asked: by a signal; settled: what was bad has had its time. */
static void look(bool asked, bool settled) {
  pair p = read_pair();
  bool fresh = p.hash != certificate.seen;
  certificate.seen = p.hash;
  if (fresh || ((asked || settled) && certificate.bad)) {
    char *why;
    lw_tls_keys *keys = load(&p, &why);
    if (keys) {
      install(keys, "renewed");
    } else {
      refuse(why, asked || !fresh);
    }
  } else if (asked) {
    lw_info("TLS certificate unchanged");
  }
  drop_pair(&p);
  tell_expiry();
}

static void run_changed(lw_wake *w) {
  (void)w;
  look(false, false);
}

static void run_settled(lw_wake *w) {
  (void)w;
  look(false, true);
}

static void on_settle(lw_timer *t) {
  (void)t;
  lw_loop_wake(&certificate.settled);
}

/* -- open and close -- */

bool lw_certificate_open(lw_server *server, const char *certificate_file, const char *key_file,
                         char **why) {
  assert(!certificate.server);
  certificate.certificate_file = lw_strdup(certificate_file);
  certificate.key_file = lw_strdup(key_file);
  pair p = read_pair();
  lw_tls_keys *keys = load(&p, why);
  certificate.seen = p.hash;
  drop_pair(&p);
  if (!keys) {
    lw_certificate_close();
    return false;
  }
  certificate.server = server;
  lw_timer_init(&certificate.settle, on_settle);
  install(keys, "loaded");
  tell_expiry();
  lw_wake_init(&certificate.changed, run_changed);
  lw_wake_init(&certificate.settled, run_settled);
  certificate.watches[0] = lw_watch_open(certificate_file, LOOK_MS, &certificate.changed);
  certificate.watches[1] = lw_watch_open(key_file, LOOK_MS, &certificate.changed);
  return true;
}

void lw_certificate_reload(void) {
  if (certificate.server) look(true, false);
}

void lw_certificate_close(void) {
  if (certificate.server) {
    lw_watch_close(certificate.watches[0]);
    lw_watch_close(certificate.watches[1]);
    lw_wake_cancel(&certificate.changed);
    lw_wake_cancel(&certificate.settled);
    lw_timer_fini(&certificate.settle);
  }
  lw_tls_keys_unref(certificate.keys);
  free(certificate.certificate_file);
  free(certificate.key_file);
  memset(&certificate, 0, sizeof certificate);
}

double lw_certificate_expiry_s(void) {
  return certificate.keys ? lw_tls_keys_expiry_s(certificate.keys) : 0;
}
uint64_t lw_certificate_failures(void) { return certificate.failures; }
