/* SPDX-License-Identifier: MIT */
#include "worker/admin.h"

bool lw_admin_open(const lw_admin_settings *s, const char **why) {
  (void)s;
  *why = NULL;
  return true;
}
int lw_admin_port(void) { return 0; }
void lw_admin_close(void (*on_closed)(void)) {
  if (on_closed) on_closed();
}
void lw_admin_cut(void) {}
