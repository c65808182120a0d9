/* SPDX-License-Identifier: MIT
 * For tests of sessions: the world of walk.h with the sessions' routes at its port, and a session
 * of its own for each test that wants one. */
#pragma once

#include <stdlib.h>

#include "walk.h"
#include "worker/session.h"
#include "worker/update.h"

#define AUTH                                                                                    \
  "{\"cost\":50,\"endpoint\":\"e\",\"reqnum\":7,\"request_idx\":9,\"signature\":\"s\",\"url\":" \
  "\"http://u\"}"
#define MINUTE 60.0

static const lw_builtin *builtins[8];

static double clock_s(void) { return (double)lw_now_ns() / 1e9; }

static int begin_sessions(void **state) {
  size_t n = 0;
  begin(state);
  for (; n < lw_session_builtin_count; n++) builtins[n] = &lw_session_builtins[n];
  builtins[n] = &lw_update_builtin;
  site.builtins = builtins;
  lw_sessions_start(&site);
  return 0;
}

static int end_sessions(void **state) {
  lw_sessions_stop();
  assert_int_equal(lw_sessions_count(), 0);
  site.builtins = NULL;
  return end(state);
}
#define TEST(f) cmocka_unit_test_setup_teardown(f, begin_sessions, end_sessions)

static lw_session_terms terms(const char *on_close_route, const char *on_close_payload) {
  return (lw_session_terms){.auth_data = LW_SPAN(AUTH),
                            .on_close_route = lw_span_of(on_close_route),
                            .on_close_payload = lw_span_of(on_close_payload),
                            .lifetime = MINUTE,
                            .cost = 50,
                            .reqnum = 7,
                            .request_idx = 9};
}

static lw_session *open_one(const char *on_close_route, const char *on_close_payload) {
  lw_session_terms t = terms(on_close_route, on_close_payload);
  const char *why = NULL;
  lw_session *s = lw_session_open(&t, &why);
  assert_non_null(s);
  assert_null(why);
  return s;
}

static void ask_in(peer *p, const char *path, const char *id) {
  char *body =
      lw_printf_dup("{\"auth_data\":" AUTH ",\"payload\":{\"a\":1},\"session_id\":\"%s\"}", id);
  send_post(p, path, body);
  free(body);
}

/* session_id and session_auth, as get, health and end want them. */
static void ask_about(peer *p, const char *path, const char *id, const char *auth) {
  char *body = lw_printf_dup("{\"session_id\":\"%s\",\"session_auth\":%s}", id, auth);
  send_post(p, path, body);
  free(body);
}

/* The model's server from now on: takes connections and never answers. Its listening socket. */
static int open_abyss(void) {
  char url[64];
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t n = sizeof at;
  if (fd < 0 || bind(fd, (struct sockaddr *)&at, n) != 0 || listen(fd, 100) != 0) abort();
  getsockname(fd, (struct sockaddr *)&at, &n);
  snprintf(url, sizeof url, "http://127.0.0.1:%d", ntohs(at.sin_port));
  assert_int_equal(lw_router_set_text(site.router, "model_server_url", lw_span_of(url)), LW_OK);
  return fd;
}
