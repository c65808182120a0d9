/* SPDX-License-Identifier: MIT */
#include "worker/session.h"

void lw_sessions_start(void) {}
void lw_sessions_stop(void) {}
unsigned lw_sessions_count(void) { return 0; }
bool lw_session_join(lw_work *w, lw_span id) {
  (void)w, (void)id;
  return false;
}
void lw_session_leave(lw_work *w) { (void)w; }
const char *lw_session_id(const lw_session *s) {
  (void)s;
  return "";
}
static void answer_410(lw_request *r) { lw_response_error(r, 410, NULL, "no sessions yet"); }
const lw_builtin lw_session_builtins[] = {
    {LW_H1_POST, "/session/create", answer_410, NULL},
    {LW_H1_POST, "/session/get", answer_410, NULL},
    {LW_H1_POST, "/session/health", answer_410, NULL},
    {LW_H1_POST, "/session/end", answer_410, NULL},
};
const size_t lw_session_builtin_count = LW_ARRAY_SIZE(lw_session_builtins);
const lw_builtin lw_session_end_builtin = {LW_H1_POST, "/session/end", answer_410, NULL};
