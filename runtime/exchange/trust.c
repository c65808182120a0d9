/* SPDX-License-Identifier: MIT
 * Looks through a file of authorities before it is used, and puts OpenSSL's verdicts on servers'
 * certificates into words. Called by upstream; keeps one file without a name. */
#include "exchange/trust.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509_vfy.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static char *read_all(FILE *in, const char *file) {
  unsigned count = 0;
  X509 *one;
  while ((one = PEM_read_X509_AUX(in, NULL, NULL, NULL))) {
    X509_free(one);
    count++;
  }
  unsigned long last = ERR_peek_last_error();
  bool at_end = ERR_GET_LIB(last) == ERR_LIB_PEM && ERR_GET_REASON(last) == PEM_R_NO_START_LINE;
  ERR_clear_error();
  if (ferror(in)) return lw_printf_dup("%s: %s", file, strerror(errno));
  if (!at_end) return lw_printf_dup("%s: certificate %u in it is damaged", file, count + 1);
  return count ? NULL : lw_printf_dup("%s: no PEM certificate in it", file);
}

char *lw_trust_mistake(const char *ca_file) {
  FILE *in = fopen(ca_file, "re");
  if (!in) return lw_printf_dup("%s: %s", ca_file, strerror(errno));
  ERR_clear_error();
  char *why = read_all(in, ca_file);
  fclose(in);
  return why;
}

char *lw_trust_set(lw_trust *t, const char *ca_file, bool insecure) {
  char *why = ca_file ? lw_trust_mistake(ca_file) : NULL;
  if (why) return why;
  free(t->ca_file);
  *t = (lw_trust){ca_file ? lw_strdup(ca_file) : NULL, insecure};
  return NULL;
}

char *lw_trust_file_of(lw_span pem) {
  static int held = -1;
  int fd = memfd_create("authorities", MFD_CLOEXEC);
  if (fd < 0) return NULL;
  for (size_t at = 0; at < pem.n;) {
    ssize_t n = write(fd, pem.p + at, pem.n - at);
    if (n <= 0) {
      close(fd);
      return NULL;
    }
    at += (size_t)n;
  }
  if (held >= 0) close(held);
  held = fd;
  return lw_printf_dup("/proc/self/fd/%d", fd);
}

char *lw_trust_explain(long verify_result, const char *detail, const char *remedy) {
  if (strstr(detail, "subject name")) { /* looked at before the chain; no verdict yet */
    return lw_printf_dup("has a certificate for another host (%s)", detail);
  }
  switch (verify_result) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
      return lw_strdup("has a certificate that has expired, or this machine's clock is wrong");
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return lw_strdup("has a certificate that is not valid yet, or this machine's clock is wrong");
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
      return lw_printf_dup("has a certificate of an authority that is not known here (%s)%s",
                           X509_verify_cert_error_string(verify_result), remedy);
    case X509_V_OK:
    case X509_V_ERR_UNSPECIFIED:
      return lw_printf_dup("has a certificate that can't be checked: %s", detail);
    default:
      return lw_printf_dup("has a certificate that is not accepted: %s",
                           X509_verify_cert_error_string(verify_result));
  }
}
