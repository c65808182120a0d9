/* SPDX-License-Identifier: MIT
 * Accepted connections over real sockets: what arrives, pausing, gathered and slow writing,
 * deadlines of both, the three ways to close, and that nothing is left afterwards. TLS connections
 * are test_conn_tls.c's. */
#include "loop/conn.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "turn.h"

typedef struct owner {
  lw_conn *conn; /* NULL once closed */
  char *data;
  size_t n;
  int gone, broken, writable, deadlines, closed;
} owner;

static lw_listener *listener;
static owner server; /* of the accepted connection */
static peer client;
static int accepted;
static bool refuse_next;
static int descriptors;

static int count_descriptors(void) {
  DIR *dir = opendir("/proc/self/fd");
  int n = 0;
  while (readdir(dir)) n++;
  closedir(dir);
  return n;
}

static void on_data(void *o, const char *p, size_t n) {
  owner *me = o;
  assert_true(me->conn != NULL && n > 0);
  me->data = lw_realloc(me->data, me->n + n + 1);
  memcpy(me->data + me->n, p, n);
  me->n += n;
  me->data[me->n] = 0;
}
static void on_gone(void *o, bool broken) {
  owner *me = o;
  me->gone++;
  me->broken += broken;
}
static void on_writable(void *o) { ((owner *)o)->writable++; }
static void on_deadline(void *o) { ((owner *)o)->deadlines++; }
static void on_closed(void *o) {
  owner *me = o;
  me->closed++;
  me->conn = NULL;
}
static const lw_conn_events events = {on_data, on_gone, on_writable, on_deadline, on_closed};

static void on_accept(void *o, lw_conn *c) {
  assert_ptr_equal(o, &server);
  accepted++;
  if (refuse_next) {
    lw_conn_close(c, LW_CLOSE_NOW);
    return;
  }
  server.conn = c;
  lw_conn_start(c, &events, &server);
}

static int open_pair(void **state) {
  (void)state;
  descriptors = count_descriptors();
  lw_loop_init();
  server = (owner){.data = lw_calloc(1, 1)};
  accepted = 0;
  refuse_next = false;
  const char *why = NULL;
  listener = lw_listener_open("127.0.0.1", 0, on_accept, &server, &why);
  if (!listener) fail_msg("%s", why);
  peer_open(&client, lw_listener_port(listener));
  TURN_UNTIL(server.conn);
  return 0;
}

static int close_pair(void **state) {
  (void)state;
  if (server.conn) lw_conn_close(server.conn, LW_CLOSE_NOW);
  lw_listener_close(listener);
  TURN_UNTIL(lw_conn_count() == 0);
  turn_for(1);
  peer_close(&client, false);
  lw_loop_fini();
  assert_int_equal(count_descriptors(), descriptors);
  lw_buf_drop_spares();
  free(server.data);
  return 0;
}

static void put(const char *text) {
  lw_buf_add(lw_conn_out(server.conn), text, strlen(text));
  lw_conn_flush(server.conn);
}

/* n bytes that tell their place. */
static void put_much(size_t n) {
  char block[4096];
  lw_buf *out = lw_conn_out(server.conn);
  for (size_t at = 0; at < n; at += sizeof block) {
    for (size_t i = 0; i < sizeof block; i++)
      block[i] = (char)('a' + ((at + i) / 7 + at / 4096) % 26);
    lw_buf_add(out, block, LW_MIN(sizeof block, n - at));
  }
  lw_conn_flush(server.conn);
}
static void check_much(const char *p, size_t n) {
  for (size_t i = 0; i < n; i++) {
    size_t at = i / 4096 * 4096;
    if (p[i] != (char)('a' + (i / 7 + at / 4096) % 26)) fail_msg("byte %zu is wrong", i);
  }
}

/* -- both ways -- */

static void bytes_travel_both_ways(void **state) {
  (void)state;
  peer_send(&client, "hello");
  TURN_UNTIL(server.n == 5);
  assert_string_equal(server.data, "hello");
  put("wor");
  put("ld");
  assert_int_equal(lw_conn_pending(server.conn), 5); /* not before the late part of the drain */
  TURN_UNTIL(peer_has(&client, "world"));
  assert_int_equal(lw_conn_pending(server.conn), 0);
  assert_true(server.writable > 0);
  assert_int_equal(server.gone, 0);
  assert_int_equal(lw_conn_count(), 1);
}

/* Said of the listener, and so of what it accepts: a peer that vanished without a word is found out
 * by the kernel, and no token waits for the acknowledgement of the one before. */
static void options_of_the_listener_hold(void **state) {
  (void)state;
  struct sockaddr_in ours, theirs;
  socklen_t size = sizeof ours;
  getsockname(client.fd, (struct sockaddr *)&ours, &size);
  int found = 0;
  for (int fd = 3; fd < 256; fd++) { /* the accepted end, whose peer is the client */
    size = sizeof theirs;
    if (getpeername(fd, (struct sockaddr *)&theirs, &size) != 0) continue;
    if (theirs.sin_family != AF_INET || theirs.sin_port != ours.sin_port) continue;
    int on = 0, idle_s = 0, no_delay = 0;
    size = sizeof on;
    getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, &size);
    getsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, &size);
    getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &no_delay, &size);
    assert_int_equal(on, 1);
    assert_true(no_delay);
    assert_int_equal(idle_s, 60);
    found++;
  }
  assert_int_equal(found, 1);
}

static void the_peer_has_a_name(void **state) {
  (void)state;
  struct sockaddr_in me;
  socklen_t size = sizeof me;
  getsockname(client.fd, (struct sockaddr *)&me, &size);
  char *name = lw_printf_dup("127.0.0.1:%d", ntohs(me.sin_port));
  assert_string_equal(lw_conn_remote(server.conn), name);
  free(name);
}

static void much_arrives_in_order_at_a_slow_reader(void **state) {
  (void)state;
  enum {
    MUCH = 5000000
  };
  put_much(MUCH);
  turn_for(20);
  assert_true(lw_conn_pending(server.conn) > 0); /* more than the kernel takes */
  int writable = server.writable;
  while (client.n < MUCH && !client.ended) {
    peer_read(&client, 100000);
    turn_for(0);
  }
  assert_int_equal(client.n, MUCH);
  check_much(client.text, MUCH);
  TURN_UNTIL(server.writable > writable);
  assert_int_equal(lw_conn_pending(server.conn), 0);
}

/* What is added while a write is under way follows it. */
static void writing_goes_on_while_more_is_added(void **state) {
  (void)state;
  enum {
    PIECE = 4096 * 300,
    PIECES = 4
  };
  for (int i = 0; i < PIECES; i++) {
    char head[16];
    snprintf(head, sizeof head, "<%d>", i);
    put(head);
    put_much(PIECE);
    turn_for(1);
  }
  while (client.n < PIECES * (PIECE + 3) && !client.ended) {
    peer_read(&client, 200000);
    turn_for(0);
  }
  for (int i = 0; i < PIECES; i++) {
    const char *p = client.text + (size_t)i * (PIECE + 3);
    assert_true(p[0] == '<' && p[1] == '0' + i && p[2] == '>');
    check_much(p + 3, PIECE);
  }
}

/* -- reading -- */

static void a_paused_connection_reads_nothing(void **state) {
  (void)state;
  lw_conn_pause(server.conn, true);
  lw_conn_pause(server.conn, true);
  peer_send(&client, "later");
  turn_for(20);
  assert_int_equal(server.n, 0);
  lw_conn_pause(server.conn, false);
  TURN_UNTIL(server.n == 5);
  peer_send(&client, "!");
  TURN_UNTIL(server.n == 6);
  assert_string_equal(server.data, "later!");
  assert_int_equal(server.gone, 0);
}

/* Each turn takes some of it: others want to be heard, too. */
static void a_turn_takes_only_so_much_of_one(void **state) {
  (void)state;
  static char block[65536];
  size_t sent = 0, most = 0;
  lw_conn_pause(server.conn, true);
  for (uint64_t begun = lw_now_ms(); sent < 600000 && lw_now_ms() - begun < PATIENCE_MS;) {
    ssize_t n = send(client.fd, block, sizeof block, MSG_NOSIGNAL);
    if (n > 0) sent += (size_t)n;
    if (n < 0) turn_for(1); /* the kernel passes it on in its own time */
  }
  assert_true(sent >= 600000);
  lw_conn_pause(server.conn, false);
  while (server.n < sent && !server.gone) {
    size_t before = server.n;
    turn_for(0); /* one poll */
    most = LW_MAX(most, server.n - before);
  }
  assert_int_equal(server.n, sent);
  assert_in_range(most, 1, 256 * 1024);
}

static void the_end_of_the_peer_is_told_once(void **state) {
  (void)state;
  peer_send(&client, "bye");
  shutdown(client.fd, SHUT_WR);
  TURN_UNTIL(server.gone);
  turn_for(10);
  assert_string_equal(server.data, "bye");
  assert_int_equal(server.gone, 1);
  assert_int_equal(server.broken, 0);
}

static void a_reset_is_told_as_broken(void **state) {
  (void)state;
  peer_close(&client, true);
  TURN_UNTIL(server.gone);
  turn_for(10);
  assert_int_equal(server.gone, 1);
  assert_int_equal(server.broken, 1);
}

static void a_paused_connection_notices_that_its_peer_left(void **state) {
  (void)state;
  lw_conn_pause(server.conn, true);
  peer_send(&client, "unread");
  shutdown(client.fd, SHUT_WR);
  TURN_UNTIL(server.gone);
  assert_int_equal(server.n, 0);
  lw_conn_pause(server.conn, true); /* no harm any more */
  turn_for(5);
  assert_int_equal(server.gone, 1);
}

static void a_paused_connection_notices_a_reset(void **state) {
  (void)state;
  lw_conn_pause(server.conn, true);
  peer_send(&client, "unread");
  peer_close(&client, true);
  TURN_UNTIL(server.gone);
  turn_for(5);
  assert_int_equal(server.gone, 1);
}

static void the_read_deadline_fires_once_and_moves(void **state) {
  (void)state;
  lw_conn_read_deadline(server.conn, 10);
  TURN_UNTIL(server.deadlines);
  turn_for(30);
  assert_int_equal(server.deadlines, 1);
  lw_conn_read_deadline(server.conn, 5);
  lw_conn_read_deadline(server.conn, 0);
  turn_for(20);
  assert_int_equal(server.deadlines, 1);
}

/* -- a peer that takes nothing -- */

static void the_write_deadline_ends_a_connection_that_takes_nothing(void **state) {
  (void)state;
  lw_conn_write_timeout(server.conn, 50);
  put_much(8000000);
  TURN_UNTIL(server.gone);
  assert_int_equal(server.broken, 1);
  turn_for(5);
  assert_int_equal(server.gone, 1);
}

static void a_slow_reader_is_no_dead_one(void **state) {
  (void)state;
  enum {
    MUCH = 6000000
  };
  lw_conn_write_timeout(server.conn, 2000);
  put_much(MUCH);
  uint64_t begun = lw_now_ms(), last_ms = begun;
  while (client.n < MUCH && last_ms - begun < PATIENCE_MS) {
    turn_for(10);
    uint64_t now_ms = lw_now_ms();
    peer_read(&client, client.n < MUCH / 2 ? (now_ms - last_ms) * 2000 : MUCH); /* 2 MB a second */
    last_ms = now_ms;
  }
  assert_int_equal(client.n, MUCH);
  assert_true(lw_now_ms() - begun > 1000);
  assert_int_equal(server.gone, 0);
}

/* The kernel tells that there is room only when a third of its buffer is free. */
static void a_reader_of_less_than_the_kernel_holds_is_no_dead_one(void **state) {
  (void)state;
  enum {
    MUCH = 6000000,
    SLOWLY_MS = 5000,
    A_SECOND = 150000 /* bytes */
  };
  lw_conn_write_timeout(server.conn, 2000);
  put_much(MUCH);
  uint64_t begun = lw_now_ms(), last_ms = begun;
  while (last_ms - begun < SLOWLY_MS) {
    turn_for(10);
    uint64_t now_ms = lw_now_ms();
    peer_read(&client, (now_ms - last_ms) * A_SECOND / 1000);
    last_ms = now_ms;
  }
  while (client.n < MUCH && !server.gone && lw_now_ms() - begun < PATIENCE_MS) {
    turn_for(1);
    peer_read(&client, MUCH);
  }
  assert_int_equal(client.n, MUCH);
  assert_int_equal(server.gone, 0);
}

/* -- closing -- */

static void close_now_drops_what_waits(void **state) {
  (void)state;
  put_much(8000000);
  turn_for(5);
  lw_conn_close(server.conn, LW_CLOSE_NOW);
  assert_int_equal(server.closed, 0); /* never before the drain */
  TURN_UNTIL(server.closed);
  TURN_UNTIL(peer_ended(&client));
  assert_true(client.n < 8000000);
  assert_int_equal(server.closed, 1);
  assert_int_equal(server.gone, 0);
  assert_int_equal(lw_conn_count(), 0);
}

static void close_reset_looks_broken_to_the_peer(void **state) {
  (void)state;
  put("half");
  TURN_UNTIL(peer_has(&client, "half"));
  lw_conn_close(server.conn, LW_CLOSE_RESET);
  TURN_UNTIL(server.closed);
  TURN_UNTIL(peer_ended(&client));
  assert_true(client.reset);
}

static void lingering_sends_all_then_ends(void **state) {
  (void)state;
  enum {
    MUCH = 3000000
  };
  put_much(MUCH);
  lw_conn_close(server.conn, LW_CLOSE_LINGER);
  while (client.n < MUCH && !client.ended) {
    peer_read(&client, 100000);
    peer_send(&client, "still sending"); /* read and dropped */
    turn_for(0);
  }
  TURN_UNTIL(peer_ended(&client));
  assert_false(client.reset);
  assert_int_equal(client.n, MUCH);
  check_much(client.text, MUCH);
  assert_int_equal(server.n, 0);
  assert_int_equal(server.closed, 0); /* it waits for our end */
  shutdown(client.fd, SHUT_WR);
  TURN_UNTIL(server.closed);
  assert_int_equal(server.gone, 0);
}

/* The end waits for the bytes: the lingering time begins when they are out. */
static void lingering_does_not_cut_a_slow_reader(void **state) {
  (void)state;
  enum {
    MUCH = 8000000
  };
  lw_conn_write_timeout(server.conn, 10000);
  put_much(MUCH);
  lw_conn_close(server.conn, LW_CLOSE_LINGER);
  turn_for(2500);
  TURN_UNTIL(peer_ended(&client) || client.n >= MUCH);
  assert_int_equal(client.n, MUCH);
  TURN_UNTIL(peer_ended(&client));
  assert_false(client.reset);
}

static void lingering_ends_without_the_peer(void **state) {
  (void)state;
  put("the end");
  lw_conn_close(server.conn, LW_CLOSE_LINGER);
  TURN_UNTIL(peer_ended(&client));
  assert_string_equal(client.text, "the end");
  TURN_UNTIL(server.closed); /* though our side stays open */
}

static void lingering_reads_only_so_much(void **state) {
  (void)state;
  static char flood[64000];
  lw_conn_close(server.conn, LW_CLOSE_LINGER);
  uint64_t begun = lw_now_ms();
  size_t sent = 0;
  while (!server.closed && lw_now_ms() - begun < PATIENCE_MS) {
    ssize_t n = send(client.fd, flood, sizeof flood, MSG_NOSIGNAL);
    if (n > 0) sent += (size_t)n;
    turn_for(0);
  }
  assert_int_equal(server.closed, 1);
  assert_in_range(sent, 1 << 20, 64 << 20);
}

static void a_stronger_close_wins(void **state) {
  (void)state;
  put_much(8000000);
  lw_conn_close(server.conn, LW_CLOSE_LINGER);
  lw_conn_close(server.conn, LW_CLOSE_LINGER);
  turn_for(5);
  assert_int_equal(server.closed, 0);
  lw_conn_close(server.conn, LW_CLOSE_RESET);
  lw_conn_close(server.conn, LW_CLOSE_NOW);
  TURN_UNTIL(server.closed);
  assert_int_equal(server.closed, 1);
  TURN_UNTIL(peer_ended(&client));
  assert_true(client.reset);
}

static void closing_while_paused_leaves_nothing(void **state) {
  (void)state;
  lw_conn_pause(server.conn, true);
  peer_send(&client, "unread");
  turn_for(5);
  lw_conn_close(server.conn, LW_CLOSE_NOW);
  lw_conn_pause(server.conn, false); /* no harm any more */
  lw_conn_read_deadline(server.conn, 1);
  lw_conn_flush(server.conn);
  TURN_UNTIL(server.closed);
  turn_for(5);
  assert_int_equal(server.deadlines, 0);
}

static void closing_while_written_to_leaves_nothing(void **state) {
  (void)state;
  put_much(8000000);
  turn_for(5);
  peer_close(&client, true);
  lw_conn_close(server.conn, LW_CLOSE_LINGER);
  TURN_UNTIL(server.closed);
  assert_int_equal(lw_conn_count(), 0);
}

/* -- listening -- */

static void a_connection_may_be_refused_at_once(void **state) {
  (void)state;
  refuse_next = true;
  peer other;
  peer_open(&other, lw_listener_port(listener));
  TURN_UNTIL(peer_ended(&other));
  assert_int_equal(accepted, 2);
  TURN_UNTIL(lw_conn_count() == 1);
  peer_close(&other, false);
}

static void bad_addresses_say_why(void **state) {
  (void)state;
  const char *why = NULL;
  assert_null(lw_listener_open("127.0.0.1", lw_listener_port(listener), on_accept, NULL, &why));
  assert_non_null(strstr(why, "address already in use"));
  assert_null(lw_listener_open("no such host", 0, on_accept, NULL, &why));
  assert_string_equal(why, "can't listen on no such host port 0: not an address of this machine");
  assert_null(lw_listener_open("192.0.2.1", 0, on_accept, NULL, &why));
  assert_non_null(strstr(why, "can't listen on 192.0.2.1 port 0: "));
  lw_listener *local = lw_listener_open("localhost", 0, on_accept, NULL, &why);
  assert_non_null(local);
  lw_listener_close(local);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_pair, close_pair)
int main(void) {
  lw_loop_init(); /* libuv keeps two descriptors from its first loop on */
  lw_loop_fini();
  const struct CMUnitTest tests[] = {
      TEST(bytes_travel_both_ways),
      TEST(options_of_the_listener_hold),
      TEST(the_peer_has_a_name),
      TEST(much_arrives_in_order_at_a_slow_reader),
      TEST(writing_goes_on_while_more_is_added),
      TEST(a_paused_connection_reads_nothing),
      TEST(a_turn_takes_only_so_much_of_one),
      TEST(the_end_of_the_peer_is_told_once),
      TEST(a_reset_is_told_as_broken),
      TEST(a_paused_connection_notices_that_its_peer_left),
      TEST(a_paused_connection_notices_a_reset),
      TEST(the_read_deadline_fires_once_and_moves),
      TEST(the_write_deadline_ends_a_connection_that_takes_nothing),
      TEST(a_slow_reader_is_no_dead_one),
      TEST(a_reader_of_less_than_the_kernel_holds_is_no_dead_one),
      TEST(close_now_drops_what_waits),
      TEST(close_reset_looks_broken_to_the_peer),
      TEST(lingering_sends_all_then_ends),
      TEST(lingering_does_not_cut_a_slow_reader),
      TEST(lingering_ends_without_the_peer),
      TEST(lingering_reads_only_so_much),
      TEST(a_stronger_close_wins),
      TEST(closing_while_paused_leaves_nothing),
      TEST(closing_while_written_to_leaves_nothing),
      TEST(a_connection_may_be_refused_at_once),
      TEST(bad_addresses_say_why),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
