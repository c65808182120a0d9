/* SPDX-License-Identifier: MIT
 * Certificates of servers: whether a file of authorities can be used, and what is wrong with a
 * certificate that was not believed. The checking itself is the transport's. */
#pragma once

#include "floor/base.h"

typedef struct lw_trust { /* all zero: the system's authorities */
  char *ca_file;          /* owned; instead of them */
  bool insecure;          /* no certificate is looked at */
} lw_trust;
/* Copies. NULL, or why the file can't be used (nothing has changed then), to be freed. */
LW_MUST_CHECK char *lw_trust_set(lw_trust *t, const char *ca_file, bool insecure);

/* NULL when the file holds at least one PEM certificate and nothing that is damaged; else why not,
 * to be freed: "ca.pem: no PEM certificate in it". */
LW_MUST_CHECK char *lw_trust_mistake(const char *ca_file);
/* The path, to be freed, of a file with this text that has no name and ends with the process or the
 * next call: nothing is left behind, however the process ends. NULL: there is no room, see errno.
 */
LW_MUST_CHECK char *lw_trust_file_of(lw_span pem);
/* Why a server was not believed, as the rest of a sentence that begins with the server; to be
 * freed. verify_result: OpenSSL's X509_V_*; detail: the transport's own words; remedy: what can be
 * done about an unknown authority, "" or text that goes on with the sentence. */
char *lw_trust_explain(long verify_result, const char *detail, const char *remedy);
