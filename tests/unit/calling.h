/* SPDX-License-Identifier: MIT
 * Calls to a fake server, with the loop in the main thread: start one, run until its head or end
 * has come, and look at what was got. Used by test_upstream and test_multi. */
#pragma once

#include "exchange/upstream.h"
#include "fake_server.h"
#include "loop/multi.h"

typedef struct call {
  lw_wake wake;
  lw_upstream *u;
  lw_buf got;
  bool hold; /* consume nothing */
  uint64_t eaten, wrong;
} call;

static lw_timer guard, pause_timer;

static inline void on_guard(lw_timer *t) {
  (void)t;
  fprintf(stderr, "nothing happened for %d s\n", PATIENCE_MS / 1000);
  abort();
}

static inline void on_pause(lw_timer *t) {
  (void)t;
  lw_loop_stop();
}

static inline void run_call(lw_wake *w) {
  call *c = LW_CONTAINER_OF(w, call, wake);
  lw_buf *in = lw_upstream_buf(c->u);
  if (!c->hold) {
    lw_buf_move(&c->got, in, in->size);
    lw_upstream_consumed(c->u);
  }
  lw_loop_stop();
}

static inline void turn(void) {
  lw_timer_start(&guard, PATIENCE_MS);
  lw_loop_run();
}

static inline void run_for(unsigned ms) {
  uint64_t until = lw_now_ms() + ms;
  while (lw_now_ms() < until) {
    lw_timer_start(&pause_timer, until - lw_now_ms());
    turn();
  }
}

static inline void open_call_to(call *c, const char *method, const char *url) {
  memset(c, 0, sizeof *c);
  lw_wake_init(&c->wake, run_call);
  lw_buf_init(&c->got, 0, 0, 0);
  c->u = lw_upstream_open(lw_span_of(method), lw_span_of(url), &c->wake);
  lw_upstream_set_role(c->u, "model");
}

static inline void open_call(call *c, const server *s, const char *method, const char *path) {
  char url[300];
  if (s->path[0]) {
    snprintf(url, sizeof url, "unix:%s:%s", s->path, path);
  } else {
    snprintf(url, sizeof url, "http://127.0.0.1:%d%s", s->port, path);
  }
  open_call_to(c, method, url);
}

static inline void close_call(call *c) {
  lw_upstream_close(c->u);
  lw_wake_cancel(&c->wake);
  lw_buf_fini(&c->got);
}

static inline void await_head(call *c) {
  while (lw_upstream_head(c->u) == LW_AGAIN) turn();
}

static inline lw_code await_end(call *c) {
  while (lw_upstream_ending(c->u) == LW_AGAIN) turn();
  run_call(&c->wake);
  return lw_upstream_ending(c->u);
}

static inline void start(call *c, const server *s, const char *method) {
  open_call(c, s, method, "/");
  lw_upstream_start(c->u);
}

static inline lw_body *body_of(size_t n) {
  lw_body *b = lw_body_new();
  char block[4096];
  for (size_t at = 0; at < n; at += sizeof block) {
    size_t part = n - at < sizeof block ? n - at : sizeof block;
    for (size_t i = 0; i < part; i++) block[i] = (char)((at + i) * 31 >> 3);
    lw_body_append(b, block, part);
  }
  return b;
}

static inline void start_post(call *c, const server *s, size_t n) {
  lw_body *b = body_of(n);
  open_call(c, s, "POST", "/");
  lw_upstream_body(c->u, b, (lw_span){b->p, b->n});
  lw_body_unref(b);
  lw_upstream_start(c->u);
}

static inline void assert_got(call *c, const char *text) {
  lw_span got = lw_buf_peek(&c->got);
  assert_int_equal(c->got.size, strlen(text));
  assert_int_equal(got.n, strlen(text));
  if (got.n) assert_memory_equal(got.p, text, got.n);
}

static inline void assert_error(call *c, const server *s, const char *what) {
  char text[400];
  if (s->path[0]) {
    snprintf(text, sizeof text, "model unix:%s %s", s->path, what);
  } else {
    snprintf(text, sizeof text, "model http://127.0.0.1:%d %s", s->port, what);
  }
  assert_string_equal(lw_upstream_error(c->u), text);
}

/* A whole call that has to go well. */
static inline void fetch(const server *s, const char *method, int status, const char *text) {
  call c;
  start(&c, s, method);
  if (await_end(&c) != LW_EOF) print_message("%s\n", lw_upstream_error(c.u));
  assert_int_equal(lw_upstream_ending(c.u), LW_EOF);
  assert_int_equal(lw_upstream_status(c.u), status);
  assert_got(&c, text);
  assert_string_equal(lw_upstream_error(c.u), "");
  close_call(&c);
}

static inline int set_up(void **state) {
  (void)state;
  lw_loop_init();
  lw_timer_init(&guard, on_guard);
  lw_timer_init(&pause_timer, on_pause);
  return 0;
}

static inline int tear_down(void **state) {
  (void)state;
  if (lw_upstream_open_count() != 0 || lw_multi_running() != 0) return -1;
  lw_timer_fini(&guard);
  lw_timer_fini(&pause_timer);
  lw_upstream_shutdown();
  lw_loop_fini(); /* asserts that no handle is left */
  lw_buf_drop_spares();
  return 0;
}

/* The servers' threads end when their connections do, so the pool goes first. */
static inline void stop(server *s) {
  assert_int_equal(lw_upstream_open_count(), 0);
  assert_int_equal(lw_multi_running(), 0);
  lw_upstream_shutdown();
  stop_server(s);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
