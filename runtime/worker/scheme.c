/* SPDX-License-Identifier: MIT */
#include "worker/scheme.h"

#include <stdlib.h>

struct lw_scheme {
  lw_auth *auth;
};
lw_scheme *lw_scheme_new(lw_auth *auth) {
  lw_scheme *s = lw_calloc(1, sizeof *s);
  s->auth = auth;
  return s;
}
void lw_scheme_free(lw_scheme *s) { free(s); }
lw_code lw_scheme_set(lw_scheme *s, const char *names, const char **why) {
  (void)s, (void)names;
  *why = "only the scheme url is supported";
  return strcmp(names, "url") == 0 ? LW_OK : LW_PROTOCOL;
}
lw_code lw_scheme_check_url(lw_scheme *s, const char *mode, const char *advertised) {
  (void)s, (void)mode, (void)advertised;
  return LW_OK;
}
bool lw_scheme_needs_request_idx(const lw_scheme *s) {
  (void)s;
  return true;
}
lw_code lw_scheme_verify(lw_scheme *s, const lw_json *j, const lw_envelope *e, const char **why) {
  (void)j;
  return lw_auth_verify_url(s->auth, e->url, e->signature, why);
}
