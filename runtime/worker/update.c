/* SPDX-License-Identifier: MIT
 * Checks the token and writes the file; what is done with it is the launcher's business. Called by
 * worker/service. Owns nothing. */
#include "worker/update.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "floor/log.h"

static const char *token = "", *file;

void lw_update_set(const char *master_token, const char *update_file) {
  token = master_token ? master_token : "";
  file = update_file;
}

/* Takes as long for one wrong token as for another of its length. */
static bool is_allowed(const lw_request *r) {
  lw_span value, scheme = LW_SPAN("Bearer ");
  if (!*token || !lw_headers_get(&r->head->headers, LW_SPAN("authorization"), &value)) return false;
  if (value.n < scheme.n || !lw_span_ieq((lw_span){value.p, scheme.n}, scheme)) return false;
  lw_span given = lw_span_trim((lw_span){value.p + scheme.n, value.n - scheme.n});
  return given.n == strlen(token) && CRYPTO_memcmp(given.p, token, given.n) == 0;
}

static bool write_line(const char *path) {
  FILE *out = fopen(path, "w");
  bool ok = out && fprintf(out, "%.3f\n", lw_wall_s()) > 0;
  if (out && fclose(out) != 0) ok = false;
  return ok;
}

/* Whole or not at all: the launcher may look at any moment. */
static bool leave_file(void) {
  char *fresh = lw_printf_dup("%s.%ld", file, (long)getpid());
  bool ok = write_line(fresh) && rename(fresh, file) == 0;
  if (!ok) {
    lw_error("update: %s can't be written: %s", file, strerror(errno));
    unlink(fresh);
  }
  free(fresh);
  return ok;
}

static void answer(lw_request *r) {
  if (!is_allowed(r)) {
    lw_headers_add_borrowed(&r->answer, LW_SPAN("WWW-Authenticate"), LW_SPAN("Bearer"));
    lw_response_error(r, 401, NULL, "unauthorized");
  } else if (leave_file()) {
    lw_info("update: %s tells the launcher to install anew", file);
    lw_response_send(r, 200, "application/json", LW_SPAN("{\"ok\":true}"));
  } else {
    lw_response_error(r, 500, NULL, "the update file can't be written, see the worker's log");
  }
}

const lw_builtin lw_update_builtin = {LW_H1_POST, "/pyworker/update", answer, NULL};
