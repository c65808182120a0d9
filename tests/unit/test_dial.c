/* SPDX-License-Identifier: MIT
 * Outgoing connections: being refused, sending more than the kernel takes, reading, the peer's end
 * in its ways, and closing from within each callback. */
#include "loop/dial.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "turn.h"

typedef struct side {
  lw_dial *dial;
  int listener, peer, connected, error, gone;
  bool broken;
  char close_in; /* 'c'onnected, 'd'ata, 'g'one: closes there */
  size_t n;
  char text[1 << 16];
} side;

static side s;

static void close_dial(void) {
  lw_dial_close(s.dial);
  s.dial = NULL;
}

static void on_connected(void *owner, int os_errno) {
  assert_ptr_equal(owner, &s);
  s.connected++;
  s.error = os_errno;
  if (s.close_in == 'c') close_dial();
}
static void on_data(void *owner, const char *p, size_t n) {
  assert_ptr_equal(owner, &s);
  assert_true(s.n + n < sizeof s.text);
  memcpy(s.text + s.n, p, n);
  s.n += n;
  if (s.close_in == 'd') close_dial();
}
static void on_gone(void *owner, bool broken) {
  assert_ptr_equal(owner, &s);
  s.gone++;
  s.broken = broken;
  if (s.close_in == 'g') close_dial();
}
static const lw_dial_events events = {on_connected, on_data, on_gone};

static struct sockaddr_in address_of(int listener) {
  struct sockaddr_in a;
  socklen_t size = sizeof a;
  getsockname(listener, (struct sockaddr *)&a, &size);
  return a;
}

static void listen_here(void) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  s.listener = socket(AF_INET, SOCK_STREAM, 0);
  assert_int_equal(bind(s.listener, (struct sockaddr *)&a, sizeof a), 0);
  assert_int_equal(listen(s.listener, 8), 0);
}

static void dial(int listener) {
  struct sockaddr_in a = address_of(listener);
  int os_errno = 0;
  s.dial = lw_dial_open((struct sockaddr *)&a, sizeof a, &events, &s, &os_errno);
  assert_non_null(s.dial);
  assert_int_equal(s.connected, 0);
}

static void meet(void) {
  dial(s.listener);
  s.peer = accept(s.listener, NULL, NULL);
  TURN_UNTIL(s.connected);
  assert_int_equal(s.error, 0);
}

static int begin(void **state) {
  (void)state;
  memset(&s, 0, sizeof s);
  s.peer = -1;
  lw_loop_init();
  listen_here();
  return 0;
}
static int end(void **state) {
  (void)state;
  if (s.dial) close_dial();
  if (s.peer >= 0) close(s.peer);
  close(s.listener);
  lw_loop_fini();
  return lw_dial_count() ? -1 : 0;
}

static void send_text(const char *text) {
  lw_dial_send(s.dial, lw_span_of(text), (lw_span){"", 0});
}

static void there_and_back(void **state) {
  (void)state;
  meet();
  assert_true(lw_dial_is_quiet(s.dial));
  lw_dial_send(s.dial, LW_SPAN("head "), LW_SPAN("body"));
  assert_false(lw_dial_is_sending(s.dial));
  char got[20] = "";
  assert_int_equal(recv(s.peer, got, sizeof got, 0), 9);
  assert_string_equal(got, "head body");
  assert_int_equal(send(s.peer, "hello", 5, 0), 5);
  TURN_UNTIL(s.n == 5);
  assert_memory_equal(s.text, "hello", 5);
  send_text("again");
  assert_int_equal(recv(s.peer, got, sizeof got, 0), 5);
  assert_int_equal(s.connected, 1);
  assert_int_equal(s.gone, 0);
}

static void refused(void **state) {
  (void)state;
  struct sockaddr_in a = address_of(s.listener);
  close(s.listener);
  int os_errno = 0;
  s.dial = lw_dial_open((struct sockaddr *)&a, sizeof a, &events, &s, &os_errno);
  TURN_UNTIL(s.connected);
  assert_int_equal(s.error, ECONNREFUSED);
  listen_here();
}

static void refused_at_once(void **state) {
  (void)state;
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = 0xffffffff};
  int os_errno = 0;
  assert_null(lw_dial_open((struct sockaddr *)&a, sizeof a, &events, &s, &os_errno));
  assert_int_not_equal(os_errno, 0);
  assert_int_equal(s.connected, 0);
}

static void more_than_the_kernel_takes(void **state) {
  (void)state;
  enum {
    SIZE = 20 << 20
  };
  meet();
  char *body = lw_alloc(SIZE), *got = lw_alloc(SIZE);
  for (size_t i = 0; i < SIZE; i++) body[i] = (char)(i * 31 >> 5);
  lw_dial_send(s.dial, LW_SPAN("12345"), (lw_span){body, SIZE});
  assert_true(lw_dial_is_sending(s.dial));
  assert_int_equal(send(s.peer, "early", 5, 0), 5);
  fcntl(s.peer, F_SETFL, O_NONBLOCK);
  size_t n = 0;
  char head[5];
  TURN_UNTIL(recv(s.peer, head, 5, 0) == 5);
  while (n < SIZE) {
    ssize_t some = recv(s.peer, got + n, SIZE - n, 0);
    if (some > 0) n += (size_t)some;
    if (some <= 0) turn_for(1);
  }
  assert_memory_equal(got, body, SIZE);
  TURN_UNTIL(!lw_dial_is_sending(s.dial));
  assert_int_equal(s.n, 5); /* read while sending */
  free(body);
  free(got);
}

static void the_peer_ends(void **state) {
  (void)state;
  meet();
  send(s.peer, "bye", 3, 0);
  shutdown(s.peer, SHUT_WR);
  assert_false(lw_dial_is_quiet(s.dial));
  TURN_UNTIL(s.gone);
  assert_false(s.broken);
  assert_int_equal(s.n, 3);
  send_text("still heard");
  turn_for(20);
  char got[20];
  assert_int_equal(recv(s.peer, got, sizeof got, 0), 11);
  assert_int_equal(s.gone, 1);
}

static void the_peer_breaks_off(void **state) {
  (void)state;
  meet();
  send_text("unread");
  send(s.peer, "last words", 10, 0);
  turn_for(20);
  struct linger hard = {1, 0};
  setsockopt(s.peer, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
  close(s.peer);
  s.peer = -1;
  TURN_UNTIL(s.gone);
  assert_true(s.broken);
  assert_int_equal(s.n, 10);
  send_text("to nobody");
  assert_false(lw_dial_is_sending(s.dial));
  turn_for(20);
  assert_int_equal(s.gone, 1);
}

/* The kernel tells of a reset once: whom it told in sending sees a clean end in reading. */
static void a_break_that_sending_met(void **state) {
  (void)state;
  meet();
  send(s.peer, "last words", 10, 0);
  struct linger hard = {1, 0};
  setsockopt(s.peer, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
  close(s.peer);
  s.peer = -1;
  send_text("to nobody");
  assert_false(lw_dial_is_sending(s.dial));
  TURN_UNTIL(s.gone);
  assert_true(s.broken);
  assert_int_equal(s.n, 10);
}

/* A descriptor left readable at its end would make the loop spin. */
static void the_loop_rests_behind_an_end(void **state) {
  (void)state;
  meet();
  shutdown(s.peer, SHUT_WR);
  TURN_UNTIL(s.gone);
  struct timespec before, after;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
  turn_for(300);
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
  int64_t spent = (after.tv_sec - before.tv_sec) * 1000000000 + after.tv_nsec - before.tv_nsec;
  assert_true(spent < 150000000);
}

static void closed_at_any_time(void **state) {
  (void)state;
  dial(s.listener);
  close_dial(); /* while it connects */
  turn_for(20);
  assert_int_equal(s.connected, 0);
  s.close_in = 'c';
  dial(s.listener);
  TURN_UNTIL(s.connected);
  close(accept(s.listener, NULL, NULL)); /* the first */
  close(accept(s.listener, NULL, NULL));
  for (const char *when = "dg"; *when; when++) {
    s.close_in = *when;
    s.connected = 0;
    meet();
    send(s.peer, "x", 1, 0);
    shutdown(s.peer, SHUT_WR);
    TURN_UNTIL(!s.dial);
    close(s.peer);
    s.peer = -1;
  }
  assert_int_equal(s.gone, 1);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void) {
  const struct CMUnitTest tests[] = {
      CASE(there_and_back),
      CASE(refused),
      CASE(refused_at_once),
      CASE(more_than_the_kernel_takes),
      CASE(the_peer_ends),
      CASE(the_peer_breaks_off),
      CASE(a_break_that_sending_met),
      CASE(the_loop_rests_behind_an_end),
      CASE(closed_at_any_time),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
