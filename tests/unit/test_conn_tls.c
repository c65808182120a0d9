/* SPDX-License-Identifier: MIT
 * Accepted connections that speak TLS, over real sockets: both directions, pausing, what counts as
 * pending, the peer's ends, our three ways to close, failed handshakes, and nothing left behind. */
#include "loop/conn.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "floor/log.h"
#include "tls_peer.h"
#include "turn.h"

enum {
  MUCH = 3000000
};

typedef struct owner {
  lw_conn *conn; /* NULL once closed */
  char *data;
  size_t n;
  int calls, gone, broken, deadlines, closed;
} owner;

static lw_tls_keys *keys;
static lw_listener *listener;
static owner server;
static peer wire; /* the client's socket */
static tls_peer client;
static char *heard; /* plain bytes that the client got */
static size_t heard_n;
static bool heard_end; /* close_notify */

static void on_data(void *o, const char *p, size_t n) {
  owner *me = o;
  assert_true(me->conn != NULL && n > 0);
  me->data = lw_realloc(me->data, me->n + n + 1);
  memcpy(me->data + me->n, p, n);
  me->n += n;
  me->data[me->n] = 0;
  me->calls++;
}
static void on_gone(void *o, bool broken) {
  owner *me = o;
  me->gone++;
  me->broken += broken;
}
static void on_writable(void *o) { (void)o; }
static void on_deadline(void *o) { ((owner *)o)->deadlines++; }
static void on_closed(void *o) {
  owner *me = o;
  me->closed++;
  me->conn = NULL;
}
static const lw_conn_events events = {on_data, on_gone, on_writable, on_deadline, on_closed};

static void on_accept(void *o, lw_conn *c) {
  (void)o;
  server.conn = c;
  lw_conn_use_tls(c, keys);
  lw_conn_start(c, &events, &server);
}

static int open_pair(void **state) {
  (void)state;
  lw_loop_init();
  server = (owner){.data = lw_calloc(1, 1)};
  heard = lw_calloc(1, 1);
  heard_n = 0;
  heard_end = false;
  const char *why = NULL;
  listener = lw_listener_open("127.0.0.1", 0, on_accept, NULL, &why);
  if (!listener) fail_msg("%s", why);
  peer_open(&wire, lw_listener_port(listener));
  tls_peer_open(&client, 0);
  TURN_UNTIL(server.conn);
  return 0;
}

static int close_pair(void **state) {
  (void)state;
  if (server.conn) lw_conn_close(server.conn, LW_CLOSE_RESET);
  lw_listener_close(listener);
  TURN_UNTIL(lw_conn_count() == 0);
  turn_for(1);
  peer_close(&wire, false);
  tls_peer_close(&client);
  lw_loop_fini();
  lw_buf_drop_spares();
  free(server.data);
  free(heard);
  assert_int_equal(ERR_peek_error(), 0);
  return 0;
}

/* -- the client's side -- */

/* Sends what the session wants sent; what the socket does not take now is lost, so not too much. */
static bool lost;
static void push(void) {
  static char bytes[200000];
  int n = BIO_read(client.out, bytes, sizeof bytes);
  lost = n > 0 && send(wire.fd, bytes, (size_t)n, MSG_NOSIGNAL) != n;
}

static void pull(size_t max) {
  peer_read(&wire, max);
  if (wire.n) BIO_write(client.in, wire.text, (int)wire.n);
  peer_clear(&wire);
}

static bool shaken(void) {
  pull(SIZE_MAX);
  bool done = SSL_do_handshake(client.ssl) == 1;
  ERR_clear_error();
  push();
  return done;
}

static void say(const void *p, size_t n) {
  assert_int_equal(SSL_write(client.ssl, p, (int)n), (int)n);
  push();
}

/* Takes up to `max` encrypted bytes and what they mean. */
static size_t hear(size_t max) {
  static char piece[65536];
  pull(max);
  int n;
  while ((n = SSL_read(client.ssl, piece, sizeof piece)) > 0) {
    heard = lw_realloc(heard, heard_n + (size_t)n + 1);
    memcpy(heard + heard_n, piece, (size_t)n);
    heard_n += (size_t)n;
    heard[heard_n] = 0;
  }
  if (SSL_get_error(client.ssl, n) == SSL_ERROR_ZERO_RETURN) heard_end = true;
  ERR_clear_error();
  return heard_n;
}

static bool has_heard(const char *text) {
  hear(SIZE_MAX);
  return strstr(heard, text) != NULL;
}

static bool has_ended(void) {
  hear(SIZE_MAX);
  return wire.ended;
}

static void put(const char *text) {
  lw_buf_add(lw_conn_out(server.conn), text, strlen(text));
  lw_conn_flush(server.conn);
}

static void put_much(size_t n) {
  static char block[10000];
  lw_buf *out = lw_conn_out(server.conn);
  for (size_t i = 0; i < sizeof block; i++) block[i] = (char)('a' + i % 26);
  for (size_t at = 0; at < n; at += sizeof block) lw_buf_add(out, block, sizeof block);
  lw_conn_flush(server.conn);
}

static void check_much(void) {
  for (size_t i = 0; i < heard_n; i++) {
    if (heard[i] != (char)('a' + i % 10000 % 26)) fail_msg("byte %zu is wrong", i);
  }
}

/* -- both ways -- */

static void bytes_travel_both_ways(void **state) {
  (void)state;
  TURN_UNTIL(shaken());
  say("hello", 5);
  TURN_UNTIL(server.n == 5);
  assert_string_equal(server.data, "hello");
  put("wor");
  put("ld");
  assert_int_equal(lw_conn_pending(server.conn), 5);
  TURN_UNTIL(has_heard("world"));
  assert_int_equal(lw_conn_pending(server.conn), 0);
  assert_int_equal(server.gone, 0);
}

static void what_is_written_before_the_handshake_follows_it(void **state) {
  (void)state;
  put("early");
  turn_for(10);
  assert_int_equal(lw_conn_pending(server.conn), 5);
  TURN_UNTIL(shaken());
  TURN_UNTIL(has_heard("early"));
}

static void much_arrives_in_order_at_a_slow_reader(void **state) {
  (void)state;
  TURN_UNTIL(shaken());
  put_much(3 * MUCH);
  turn_for(20);
  assert_true(lw_conn_pending(server.conn) > 0);
  size_t ahead = lw_conn_pending(server.conn) - lw_conn_out(server.conn)->size;
  assert_in_range(ahead, 1, 48 * 1024 + 1024); /* encrypted, not yet taken by the kernel */
  while (heard_n < 3 * MUCH && !wire.ended) {
    hear(100000);
    turn_for(0);
  }
  check_much();
  TURN_UNTIL(lw_conn_pending(server.conn) == 0);
}

/* All that one read brought is told at once; the rest waits, sealed, in the kernel. */
static void a_paused_connection_is_told_nothing(void **state) {
  (void)state;
  TURN_UNTIL(shaken());
  say("before", 6);
  TURN_UNTIL(server.n == 6);
  lw_conn_pause(server.conn, true);
  static char block[100000];
  memset(block, 'x', sizeof block);
  int calls = server.calls;
  say(block, sizeof block);
  turn_for(30);
  assert_int_equal(server.calls, calls);
  lw_conn_pause(server.conn, false);
  TURN_UNTIL(server.n == 6 + sizeof block);
  for (size_t i = 6; i < server.n; i++) assert_int_equal(server.data[i], 'x');
}

static void the_write_deadline_sees_the_encrypted_bytes_too(void **state) {
  (void)state;
  TURN_UNTIL(shaken());
  lw_conn_write_timeout(server.conn, 50);
  put_much(8000000);
  TURN_UNTIL(server.gone);
  assert_int_equal(server.broken, 1);
}

/* A signature may take a millisecond, and hundreds of clients may come in one turn: the others must
 * not wait for all of them. */
static unsigned crowd_size;
static lw_conn *crowd_conns[40];
static void on_crowd_gone(void *o, bool broken) { (void)o, (void)broken; }
static void on_crowd_closed(void *o) { (void)o; }
static const lw_conn_events crowd_events = {on_data, on_crowd_gone, on_writable, on_deadline,
                                            on_crowd_closed};
static void on_crowd(void *o, lw_conn *c) {
  (void)o;
  lw_conn_use_tls(c, keys);
  lw_conn_start(c, &crowd_events, NULL);
  crowd_conns[crowd_size++] = c;
}

static unsigned count_answered(peer *peers, size_t n) {
  unsigned answered = 0;
  for (size_t i = 0; i < n; i++) {
    peer_read(&peers[i], SIZE_MAX);
    answered += peers[i].n > 0;
  }
  return answered;
}

static void a_turn_bears_few_handshakes(void **state) {
  (void)state;
  enum {
    CROWD = LW_ARRAY_SIZE(crowd_conns)
  };
  static char hello[4096];
  peer peers[CROWD];
  const char *why = NULL;
  lw_listener *door = lw_listener_open("127.0.0.1", 0, on_crowd, NULL, &why);
  assert_non_null(door);
  crowd_size = 0;
  for (size_t i = 0; i < CROWD; i++) peer_open(&peers[i], lw_listener_port(door));
  TURN_UNTIL(crowd_size == CROWD);
  SSL_do_handshake(client.ssl);
  ERR_clear_error();
  int n = BIO_read(client.out, hello, sizeof hello);
  assert_in_range(n, 1, sizeof hello - 1);
  for (size_t i = 0; i < CROWD; i++) peer_send_bytes(&peers[i], hello, (size_t)n);
  turn_for(0); /* one poll */
  assert_in_range(count_answered(peers, CROWD), 1, 8);
  TURN_UNTIL(count_answered(peers, CROWD) == CROWD);
  for (size_t i = 0; i < CROWD; i++) {
    lw_conn_close(crowd_conns[i], LW_CLOSE_RESET);
    peer_close(&peers[i], false);
  }
  lw_listener_close(door);
}

/* A peer that asks for answers (here: key updates) and takes none is cut off. */
static void a_peer_that_asks_and_does_not_read_is_bounded(void **state) {
  (void)state;
  TURN_UNTIL(shaken());
  put_much(12000000); /* more than the kernel takes */
  uint64_t begun = lw_now_ms();
  while (!server.gone && lw_now_ms() - begun < PATIENCE_MS) {
    for (int i = 0; i < 100; i++) {
      SSL_key_update(client.ssl, SSL_KEY_UPDATE_REQUESTED);
      SSL_do_handshake(client.ssl);
    }
    ERR_clear_error();
    push();
    assert_false(lost); /* else it would be the damage that ends it */
    turn_for(1);
    size_t ahead = lw_conn_pending(server.conn) - lw_conn_out(server.conn)->size;
    assert_true(ahead < 512 * 1024);
  }
  assert_int_equal(server.gone, 1);
  lw_conn_close(server.conn, LW_CLOSE_NOW); /* no lingering for such a one */
  TURN_UNTIL(server.closed);
}

/* -- the peer's ends -- */

static void close_notify_is_an_end(void **state) {
  (void)state;
  TURN_UNTIL(shaken());
  say("bye", 3);
  SSL_shutdown(client.ssl);
  push();
  TURN_UNTIL(server.gone);
  turn_for(10);
  assert_string_equal(server.data, "bye");
  assert_int_equal(server.gone, 1);
  assert_int_equal(server.broken, 0);
}

static void an_end_without_close_notify_is_broken(void **state) {
  (void)state;
  TURN_UNTIL(shaken());
  say("by", 2);
  shutdown(wire.fd, SHUT_WR);
  TURN_UNTIL(server.gone);
  assert_string_equal(server.data, "by");
  assert_int_equal(server.gone, 1);
  assert_int_equal(server.broken, 1);
}

static void an_end_in_the_handshake_is_broken(void **state) {
  (void)state;
  shutdown(wire.fd, SHUT_WR);
  TURN_UNTIL(server.gone);
  assert_int_equal(server.broken, 1);
}

static void a_paused_connection_notices_that_its_peer_left(void **state) {
  (void)state;
  TURN_UNTIL(shaken());
  lw_conn_pause(server.conn, true);
  say("unread", 6);
  shutdown(wire.fd, SHUT_WR);
  TURN_UNTIL(server.gone);
  assert_int_equal(server.n, 0);
}

/* -- our ends -- */

static void lingering_sends_all_then_close_notify(void **state) {
  (void)state;
  TURN_UNTIL(shaken());
  put_much(MUCH);
  lw_conn_close(server.conn, LW_CLOSE_LINGER);
  while (heard_n < MUCH && !wire.ended) {
    hear(100000);
    turn_for(0);
  }
  TURN_UNTIL(has_ended());
  assert_int_equal(heard_n, MUCH);
  check_much();
  assert_true(heard_end && !wire.reset);
  assert_int_equal(server.closed, 0); /* it waits for our end */
  shutdown(wire.fd, SHUT_WR);
  TURN_UNTIL(server.closed);
  assert_int_equal(server.gone, 0);
}

static void lingering_waits_for_the_handshake(void **state) {
  (void)state;
  put("too many");
  lw_conn_close(server.conn, LW_CLOSE_LINGER);
  turn_for(10);
  assert_int_equal(server.closed, 0);
  TURN_UNTIL(shaken());
  TURN_UNTIL(has_ended());
  assert_string_equal(heard, "too many");
  assert_true(heard_end);
  TURN_UNTIL(server.closed);
}

static void lingering_does_not_wait_long_for_the_handshake(void **state) {
  (void)state;
  put("too many");
  lw_conn_close(server.conn, LW_CLOSE_LINGER);
  TURN_UNTIL(server.closed);
}

static void close_now_is_announced_when_nothing_waits(void **state) {
  (void)state;
  TURN_UNTIL(shaken());
  say("last", 4);
  TURN_UNTIL(server.n == 4);
  lw_conn_close(server.conn, LW_CLOSE_NOW);
  TURN_UNTIL(has_ended());
  assert_true(heard_end && !wire.reset);
}

static void close_now_is_not_announced_when_it_drops_bytes(void **state) {
  (void)state;
  TURN_UNTIL(shaken());
  put_much(8000000);
  turn_for(5);
  lw_conn_close(server.conn, LW_CLOSE_NOW);
  TURN_UNTIL(has_ended());
  assert_true(heard_n < 8000000);
  assert_false(heard_end);
}

static void close_reset_is_not_announced(void **state) {
  (void)state;
  TURN_UNTIL(shaken());
  put("half");
  TURN_UNTIL(has_heard("half"));
  lw_conn_close(server.conn, LW_CLOSE_RESET);
  TURN_UNTIL(has_ended());
  assert_true(wire.reset && !heard_end);
}

/* -- what is no TLS -- */

static void plain_http_gets_its_answer_and_the_end(void **state) {
  (void)state;
  peer_send(&wire, "POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n");
  TURN_UNTIL(server.gone);
  assert_int_equal(server.broken, 1);
  peer_send(&wire, "and more of it"); /* ignored */
  turn_for(5);
  assert_int_equal(server.n, 0);
  put("the owner may not know it yet");
  lw_conn_close(server.conn, LW_CLOSE_NOW);
  TURN_UNTIL(peer_ended(&wire));
  assert_false(wire.reset);
  assert_non_null(strstr(wire.text, "HTTP/1.1 400 "));
  assert_null(strstr(wire.text, "the owner"));
  TURN_UNTIL(server.closed);
  assert_int_equal(server.gone, 1);
}

static void a_failed_handshake_sends_its_alert(void **state) {
  (void)state;
  peer_send_bytes(&wire, "\x16\x03\x01\x00\x04\x01\x00\x00\x00", 9);
  TURN_UNTIL(server.gone);
  lw_conn_close(server.conn, LW_CLOSE_NOW);
  TURN_UNTIL(peer_ended(&wire));
  assert_true(wire.n >= 7 && wire.text[0] == 21); /* RFC 8446 section 6: an alert */
  shutdown(wire.fd, SHUT_WR);
  TURN_UNTIL(server.closed);
  assert_int_equal(server.gone, 1);
}

static void a_second_close_ends_a_failed_one_at_once(void **state) {
  (void)state;
  peer_send(&wire, "GET / HTTP/1.1\r\n\r\n");
  TURN_UNTIL(server.gone);
  lw_conn_close(server.conn, LW_CLOSE_NOW);
  assert_int_equal(server.closed, 0);
  lw_conn_close(server.conn, LW_CLOSE_NOW);
  for (int i = 0; i < 3; i++) turn_for(0); /* turns, not time: one may be all that 1 ms brings */
  assert_int_equal(server.closed, 1);
}

static void the_read_deadline_covers_the_handshake(void **state) {
  (void)state;
  lw_conn_read_deadline(server.conn, 20);
  SSL_do_handshake(client.ssl);
  ERR_clear_error();
  push();
  TURN_UNTIL(server.deadlines);
  lw_conn_close(server.conn, LW_CLOSE_NOW);
  TURN_UNTIL(has_ended());
  assert_false(heard_end);
}

static int make_keys(void **state) {
  (void)state;
  lw_log_setup(2, LW_LOG_WARN, LW_LOG_TEXT);
  tls_pem pem = tls_pem_new("worker.test", 90, NULL);
  char *why = NULL;
  keys = lw_tls_keys_load(lw_span_of(pem.certificate), lw_span_of(pem.key), &why);
  if (!keys) fail_msg("%s", why);
  tls_pem_free(&pem);
  return 0;
}

static int drop_keys(void **state) {
  (void)state;
  lw_tls_keys_unref(keys);
  return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_pair, close_pair)
int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(bytes_travel_both_ways),
      TEST(what_is_written_before_the_handshake_follows_it),
      TEST(much_arrives_in_order_at_a_slow_reader),
      TEST(a_paused_connection_is_told_nothing),
      TEST(the_write_deadline_sees_the_encrypted_bytes_too),
      TEST(a_peer_that_asks_and_does_not_read_is_bounded),
      TEST(a_turn_bears_few_handshakes),
      TEST(close_notify_is_an_end),
      TEST(an_end_without_close_notify_is_broken),
      TEST(an_end_in_the_handshake_is_broken),
      TEST(a_paused_connection_notices_that_its_peer_left),
      TEST(lingering_sends_all_then_close_notify),
      TEST(lingering_waits_for_the_handshake),
      TEST(lingering_does_not_wait_long_for_the_handshake),
      TEST(close_now_is_announced_when_nothing_waits),
      TEST(close_now_is_not_announced_when_it_drops_bytes),
      TEST(close_reset_is_not_announced),
      TEST(plain_http_gets_its_answer_and_the_end),
      TEST(a_failed_handshake_sends_its_alert),
      TEST(a_second_close_ends_a_failed_one_at_once),
      TEST(the_read_deadline_covers_the_handshake),
  };
  return cmocka_run_group_tests(tests, make_keys, drop_keys);
}
