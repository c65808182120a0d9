/* SPDX-License-Identifier: MIT
 * The bridge to curl, seen through calls: connections kept and spoiled, pausing and resuming,
 * closing in every state, and that nothing is left afterwards. */
#include "calling.h"

/* -- connections kept and spoiled -- */

static void test_reuse(void **state) {
  (void)state;
  const reply replies[] = {{OK_2, KEEP, 0}, {OK_2, KEEP, 0}, {OK_2, KEEP, 0}};
  server s;
  start_server(&s, NULL, replies);
  for (int i = 0; i < 3; i++) fetch(&s, "GET", 200, "hi");
  assert_int_equal(s.connections, 1);
  assert_int_equal(s.requests, 3);
  stop(&s);
}

static void test_idle_connection_closed(void **state) {
  (void)state;
  const reply replies[] = {{OK_2, CLOSE, 0}, {OK_2, KEEP, 0}};
  server s;
  start_server(&s, NULL, replies);
  fetch(&s, "GET", 200, "hi");
  run_for(50);
  fetch(&s, "GET", 200, "hi");
  assert_int_equal(s.connections, 2);
  assert_int_equal(s.requests, 2);
  stop(&s);
}

/* An answer that nobody asked for must not become the answer to the next request. */
static void test_idle_connection_speaks(void **state) {
  (void)state;
  const char *twice = OK_2 "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen";
  const reply replies[] = {{OK_2, KEEP, 0}, {OK_2, KEEP, 0}, {twice, KEEP, 0}, {OK_2, KEEP, 0}};
  server s;
  start_server(&s, NULL, replies);
  fetch(&s, "GET", 200, "hi");
  assert_true(send_text(s.fds[0], "HTTP/1.1 408 Timeout\r\nContent-Length: 0\r\n\r\n"));
  run_for(50);
  fetch(&s, "GET", 200, "hi");
  assert_int_equal(s.connections, 2);
  fetch(&s, "GET", 200, "hi");
  fetch(&s, "GET", 200, "hi");
  assert_int_equal(s.connections, 3);
  stop(&s);
}

static void test_close_while_connecting(void **state) {
  (void)state;
  server s = {0};
  int fillers[4];
  int listener = listen_full(&s.port, fillers);
  call c;
  start(&c, &s, "GET");
  run_for(20);
  assert_int_equal(lw_upstream_head(c.u), LW_AGAIN);
  close_call(&c);
  for (int i = 0; i < 4; i++) close(fillers[i]);
  close(listener);
}

/* -- pausing -- */

static void serve_echo(server *s, int fd) {
  while (read_request(s, fd)) {
    lw_body *b = body_of(s->last_body);
    char head[100];
    sprintf(head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", b->n);
    bool sent = s->last_byte == b->p[b->n - 1] && send_text(fd, head) && send_bytes(fd, b->p, b->n);
    lw_body_unref(b);
    if (!sent) return;
  }
}

static void test_large_echo(void **state) {
  (void)state;
  const size_t sizes[] = {60000, 66000, 32 << 20};
  server s;
  start_server(&s, serve_echo, NULL);
  for (int i = 0; i < 3; i++) {
    call c;
    start_post(&c, &s, sizes[i]);
    assert_int_equal(await_end(&c), LW_EOF);
    assert_int_equal(c.got.size, sizes[i]);
    lw_body *b = body_of(sizes[i]);
    for (size_t at = 0; c.got.size > 0;) {
      lw_span got = lw_buf_peek(&c.got);
      assert_memory_equal(got.p, b->p + at, got.n);
      at += got.n;
      lw_buf_consume(&c.got, got.n);
    }
    lw_body_unref(b);
    close_call(&c);
  }
  assert_int_equal(s.connections, 1);
  stop(&s);
}

/* On a reused connection the answer may be there, and fill the buffer, before anybody has polled.
 */
static void test_paused_at_once(void **state) {
  (void)state;
  enum {
    SIZE = 120000
  };
  const reply replies[] = {{OK_2, KEEP, 0}, {"", KEEP, 0}};
  server s;
  start_server(&s, NULL, replies);
  fetch(&s, "GET", 200, "hi");
  call c;
  start(&c, &s, "GET");
  c.hold = true;
  lw_body *b = body_of(SIZE);
  assert_true(send_text(s.fds[0], "HTTP/1.1 200 OK\r\nContent-Length: 120000\r\n\r\n"));
  assert_true(send_bytes(s.fds[0], b->p, b->n));
  lw_body_unref(b);
  run_for(50);
  assert_int_equal(lw_upstream_ending(c.u), LW_AGAIN);
  assert_true(lw_upstream_buf(c.u)->size < 80000);
  c.hold = false;
  lw_loop_wake(&c.wake);
  assert_int_equal(await_end(&c), LW_EOF);
  assert_int_equal(c.got.size, SIZE);
  close_call(&c);
  assert_int_equal(s.connections, 1);
  stop(&s);
}

/* s->total bytes, each a function of its place, in chunks of odd sizes. */
static void serve_pattern(server *s, int fd) {
  if (!read_request(s, fd)) return;
  send_text(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
  char chunk[20032];
  for (size_t at = 0, size = 1; at < s->total; size = size * 7 % 19997 + 1) {
    size_t n = size < s->total - at ? size : s->total - at;
    int head = sprintf(chunk, "%zx\r\n", n);
    for (size_t i = 0; i < n; i++) chunk[(size_t)head + i] = (char)((at + i) * 131 >> 5);
    memcpy(chunk + head + n, "\r\n", 2);
    if (!send_bytes(fd, chunk, (size_t)head + n + 2)) {
      s->drops++;
      return;
    }
    at += n;
    s->sent = at;
  }
  send_text(fd, "0\r\n\r\n");
  await_drop(s, fd);
}

static void run_slow_reader(lw_wake *w) {
  call *c = LW_CONTAINER_OF(w, call, wake);
  lw_buf *in = lw_upstream_buf(c->u);
  for (int i = 0; i < 3 && in->size > 0; i++) { /* a little at a time */
    lw_span s = lw_buf_peek(in);
    for (size_t k = 0; k < s.n; k++) c->wrong += s.p[k] != (char)((c->eaten + k) * 131 >> 5);
    c->eaten += s.n;
    lw_buf_consume(in, s.n);
  }
  lw_upstream_consumed(c->u);
  if (in->size > 0) lw_loop_wake(w);
  lw_loop_stop();
}

static void fill_until_paused(server *s, call *c) {
  for (size_t before = 1; before != s->sent || s->sent == 0;) {
    before = s->sent;
    run_for(100);
  }
  assert_true(s->sent < s->total);
  size_t held = lw_upstream_buf(c->u)->size;
  assert_true(held >= 64 * 1024 && held < 64 * 1024 + 16 * 1024);
  assert_int_equal(lw_upstream_ending(c->u), LW_AGAIN);
}

static void test_backpressure(void **state) {
  (void)state;
  server s;
  start_server(&s, serve_pattern, NULL);
  s.total = 64 << 20;
  call c;
  open_call(&c, &s, "GET", "/");
  c.hold = true;
  lw_upstream_set_timeouts(c.u, &(lw_upstream_timeouts){.idle_ms = 150}); /* not while paused */
  lw_upstream_start(c.u);
  fill_until_paused(&s, &c);
  run_for(400);
  assert_int_equal(lw_upstream_ending(c.u), LW_AGAIN);
  lw_upstream_set_timeouts(c.u, &(lw_upstream_timeouts){0});

  call reader = c; /* somebody else takes over */
  lw_wake_cancel(&c.wake);
  lw_wake_init(&reader.wake, run_slow_reader);
  lw_upstream_set_wake(reader.u, &reader.wake);
  lw_loop_wake(&reader.wake);
  while (lw_upstream_ending(reader.u) == LW_AGAIN || lw_upstream_buf(reader.u)->size > 0) turn();
  assert_int_equal(lw_upstream_ending(reader.u), LW_EOF);
  assert_int_equal(reader.eaten, s.total);
  assert_int_equal(reader.wrong, 0);
  close_call(&reader);
  stop(&s);
}

/* -- closing in every state -- */

static void test_close_before_start(void **state) {
  (void)state;
  server s;
  start_server(&s, NULL, NULL);
  call c;
  open_call(&c, &s, "GET", "/");
  lw_body *b = body_of(10);
  lw_upstream_body(c.u, b, (lw_span){b->p, b->n});
  close_call(&c);
  assert_int_equal(b->refs, 1);
  lw_body_unref(b);
  start(&c, &s, "GET"); /* and before curl has heard of it */
  close_call(&c);
  run_for(20);
  assert_int_equal(s.connections, 0);
  stop(&s);
}

static void test_close_before_head(void **state) {
  (void)state;
  const reply replies[] = {{NULL, WAIT, 0}, {"HTTP/1.1 200 O", WAIT, 0}};
  server s;
  start_server(&s, NULL, replies);
  for (int i = 0; i < 2; i++) {
    call c;
    start(&c, &s, "GET");
    while (s.requests <= i) run_for(1);
    run_for(20);
    assert_int_equal(lw_upstream_head(c.u), LW_AGAIN);
    close_call(&c);
    await_count(&s.drops, i + 1);
  }
  stop(&s);
}

static void test_close_within_body(void **state) {
  (void)state;
  const reply replies[] = {{"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", WAIT, 0}};
  server s;
  start_server(&s, NULL, replies);
  call c;
  start(&c, &s, "GET");
  await_head(&c);
  close_call(&c);
  await_count(&s.drops, 1);
  stop(&s);
}

static void test_close_while_paused(void **state) {
  (void)state;
  server s;
  start_server(&s, serve_pattern, NULL);
  s.total = 64 << 20;
  call c;
  open_call(&c, &s, "GET", "/");
  c.hold = true;
  lw_upstream_start(c.u);
  fill_until_paused(&s, &c);
  lw_buf_consume(lw_upstream_buf(c.u), lw_upstream_buf(c.u)->size);
  lw_upstream_consumed(c.u); /* a resume is under way */
  close_call(&c);
  run_for(20); /* a resume of what is gone would show here */
  await_count(&s.drops, 1);
  stop(&s);
}

static void serve_sink(server *s, int fd) { await_drop(s, fd); }

static void serve_nothing(server *s, int fd) {
  while (s->last_byte == 0) usleep(1000);
  await_drop(s, fd);
}

static void test_close_while_sending(void **state) {
  (void)state;
  server s;
  start_server(&s, serve_nothing, NULL);
  call c;
  start_post(&c, &s, 8 << 20);
  run_for(50); /* more than the sockets hold */
  close_call(&c);
  s.last_byte = 1;
  await_count(&s.drops, 1);
  stop(&s);
  start_server(&s, serve_sink, NULL);
  start_post(&c, &s, 8 << 20);
  run_for(10);
  close_call(&c);
  await_count(&s.drops, 1);
  stop(&s);
}

/* -- many -- */

static void serve_tokens(server *s, int fd) {
  while (read_request(s, fd)) {
    s->requests++;
    if (!send_text(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")) return;
    if (!send_text(fd, "3\r\ntwo\r\n0\r\n\r\n")) return;
  }
}

static void test_many_in_turn(void **state) {
  (void)state;
  server s;
  start_server(&s, serve_tokens, NULL);
  for (int i = 0; i < 1000; i++) fetch(&s, "GET", 200, "onetwo");
  assert_int_equal(s.requests, 1000);
  assert_int_equal(s.connections, 1);
  stop(&s);
}

static void test_many_at_once(void **state) {
  (void)state;
  server s;
  start_server(&s, serve_tokens, NULL);
  call c[MOST_CONNECTIONS - 4];
  for (int round = 0; round < 20; round++) {
    for (size_t i = 0; i < LW_ARRAY_SIZE(c); i++) start(&c[i], &s, "GET");
    for (size_t i = 0; i < LW_ARRAY_SIZE(c); i++) {
      assert_int_equal(await_end(&c[i]), LW_EOF);
      assert_int_equal(c[i].got.size, 6);
      close_call(&c[i]);
    }
  }
  assert_true(s.connections <= (int)LW_ARRAY_SIZE(c));
  stop(&s);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      CASE(test_reuse),
      CASE(test_idle_connection_closed),
      CASE(test_idle_connection_speaks),
      CASE(test_close_while_connecting),
      CASE(test_large_echo),
      CASE(test_paused_at_once),
      CASE(test_backpressure),
      CASE(test_close_before_start),
      CASE(test_close_before_head),
      CASE(test_close_within_body),
      CASE(test_close_while_paused),
      CASE(test_close_while_sending),
      CASE(test_many_in_turn),
      CASE(test_many_at_once),
  };
  return cmocka_run_group_tests_name("multi", tests, NULL, NULL);
}
