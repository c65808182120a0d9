/* SPDX-License-Identifier: MIT
 * The certificate of the client port: loaded at start, and again when its files change or on
 * SIGHUP. Connections that are open keep the pair they began with. A bad new pair changes nothing:
 * it is logged once and counted, and the next change is looked at again. One in the process. */
#pragma once

#include "exchange/server.h"

/* Loads the pair for `server` (borrowed until lw_certificate_close) and watches both files. False
 * with *why (caller frees), which names the file at fault. */
bool lw_certificate_open(lw_server *server, const char *certificate_file, const char *key_file,
                         char **why);
void lw_certificate_reload(void);       /* looks now, tells at once; no-op when none is open */
void lw_certificate_close(void);        /* also when none is open */
double lw_certificate_expiry_s(void);   /* since the epoch; 0: no TLS */
uint64_t lw_certificate_failures(void); /* new pairs that were refused */
