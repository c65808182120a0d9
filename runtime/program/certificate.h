/* SPDX-License-Identifier: MIT
 * The certificate of the client port: loaded at start, and again when its files change or on SIGHUP.
 * A bad new pair changes nothing. */
#pragma once

#include "exchange/server.h"

/* Loads the pair for `server` and watches both files. False with *why (caller frees). */
bool lw_certificate_open(lw_server *server, const char *certificate_file, const char *key_file,
                         char **why);
void lw_certificate_reload(void); /* looks now; no-op when none is open */
void lw_certificate_close(void);  /* also when none is open */
double lw_certificate_expiry_s(void); /* since the epoch; 0: no TLS */
uint64_t lw_certificate_failures(void); /* reloads that were refused */
