/* SPDX-License-Identifier: MIT */
#include "program/certificate.h"

#include "loop/tls.h"

bool lw_certificate_open(lw_server *server, const char *certificate_file, const char *key_file,
                         char **why) {
  (void)server;
  return lw_tls_keys_load(certificate_file, key_file, why) != NULL;
}
void lw_certificate_reload(void) {}
void lw_certificate_close(void) {}
double lw_certificate_expiry_s(void) { return 0; }
uint64_t lw_certificate_failures(void) { return 0; }
