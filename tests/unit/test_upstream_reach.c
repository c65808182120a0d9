/* SPDX-License-Identifier: MIT
 * How servers are reached: over unix sockets, by names that resolve slowly or to dead addresses,
 * and over kept connections, which end before the server ends them. */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>

#include "calling.h"

/* -- names: this getaddrinfo is the one that libcurl's threads find -- */

static struct {
  atomic_bool held; /* slow.test waits for its end */
  atomic_int asked, answered;
} names;

typedef int (*resolve)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

static int two(resolve real, const char *first, const char *second, const char *service,
               const struct addrinfo *hints, struct addrinfo **out) {
  struct addrinfo *more;
  int rc = real(first, service, hints, out);
  if (rc == 0 && real(second, service, hints, &more) == 0) (*out)->ai_next = more;
  return rc;
}

__attribute__((visibility("default"))) int getaddrinfo(const char *name, const char *service,
                                                       const struct addrinfo *hints,
                                                       struct addrinfo **out) {
  resolve real;
  *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
  if (name && strcmp(name, "two.test") == 0) {
    return two(real, "127.0.0.1", "127.0.0.2", service, hints, out);
  }
  if (!name || strcmp(name, "slow.test") != 0) return real(name, service, hints, out);
  names.asked++;
  while (names.held) usleep(1000);
  int rc = real("127.0.0.1", service, hints, out);
  names.answered++;
  return rc;
}

static void open_named(call *c, const char *host, int port) {
  char url[100];
  snprintf(url, sizeof url, "http://%s:%d/", host, port);
  open_call_to(c, "GET", url);
}

static void fetch_named(const char *host, int port) {
  call c;
  open_named(&c, host, port);
  lw_upstream_set_timeouts(c.u, &(lw_upstream_timeouts){.connect_ms = 4000});
  lw_upstream_start(c.u);
  if (await_end(&c) != LW_EOF) print_message("%s\n", lw_upstream_error(c.u));
  assert_int_equal(lw_upstream_ending(c.u), LW_EOF);
  assert_got(&c, "hi");
  close_call(&c);
}

static void move_listener(server *s, const char *address) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)s->port)};
  inet_pton(AF_INET, address, &a.sin_addr);
  s->listener = socket(AF_INET, SOCK_STREAM, 0);
  setsockopt(s->listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
  assert_int_equal(bind(s->listener, (struct sockaddr *)&a, sizeof a), 0);
  assert_int_equal(listen(s->listener, 8), 0);
  pthread_create(&s->acceptor, NULL, run_acceptor, s);
}

static const reply many_replies[] = {{OK_2, KEEP, 0}, {OK_2, KEEP, 0}, {OK_2, KEEP, 0},
                                     {OK_2, KEEP, 0}, {OK_2, KEEP, 0}, {OK_2, KEEP, 0}};

static void test_first_address_refuses(void **state) {
  (void)state;
  server s = {.replies = many_replies};
  close(listen_somewhere(1, &s.port));
  move_listener(&s, "127.0.0.2");
  fetch_named("two.test", s.port);
  stop(&s);
}

static void test_first_address_is_silent(void **state) {
  (void)state;
  server s = {.replies = many_replies};
  int fillers[4], full = listen_full(&s.port, fillers);
  move_listener(&s, "127.0.0.2");
  fetch_named("two.test", s.port); /* half of the time for connecting is the second one's */
  stop(&s);
  for (int i = 0; i < 4; i++) close(fillers[i]);
  close(full);
}

static void test_all_addresses_are_silent(void **state) {
  (void)state;
  int port, fillers[4], full = listen_full(&port, fillers);
  call c;
  open_named(&c, "127.0.0.1", port);
  lw_upstream_set_timeouts(c.u, &(lw_upstream_timeouts){.connect_ms = 150});
  lw_upstream_start(c.u);
  assert_int_equal(await_end(&c), LW_TIMEOUT);
  assert_non_null(strstr(lw_upstream_error(c.u), " did not connect within 150 ms"));
  close_call(&c);
  for (int i = 0; i < 4; i++) close(fillers[i]);
  close(full);
}

static void test_localhost(void **state) {
  (void)state;
  server s;
  start_server(&s, NULL, many_replies); /* at 127.0.0.1 only; ::1 may come first */
  fetch_named("localhost", s.port);
  stop(&s);
}

static void test_ipv6(void **state) {
  (void)state;
  struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
  socklen_t size = sizeof a;
  server s = {.replies = many_replies, .listener = socket(AF_INET6, SOCK_STREAM, 0)};
  if (s.listener < 0 || bind(s.listener, (struct sockaddr *)&a, sizeof a) != 0) {
    print_message("skipped: this machine has no IPv6\n");
    if (s.listener >= 0) close(s.listener);
    skip();
  }
  listen(s.listener, 8);
  getsockname(s.listener, (struct sockaddr *)&a, &size);
  s.port = ntohs(a.sin6_port);
  pthread_create(&s.acceptor, NULL, run_acceptor, &s);
  fetch_named("[::1]", s.port);
  stop(&s);
}

static void await_asked(int n) {
  for (int i = 0; i < PATIENCE_MS && names.asked < n; i++) run_for(1);
  assert_int_equal(names.asked, n);
}

/* While a name is looked up, everything else goes on; whoever gives up waits for nothing. */
static void test_slow_names_block_nobody(void **state) {
  (void)state;
  server s;
  start_server(&s, NULL, many_replies);
  names.asked = names.answered = 0;
  names.held = true;
  call c[3];
  for (int i = 0; i < 3; i++) {
    open_named(&c[i], "slow.test", s.port);
    lw_upstream_set_timeouts(c[i].u, &(lw_upstream_timeouts){.connect_ms = i == 1 ? 100 : 0});
    lw_upstream_start(c[i].u);
  }
  await_asked(3);
  fetch(&s, "GET", 200, "hi");
  close_call(&c[0]);
  assert_int_equal(await_end(&c[1]), LW_TIMEOUT);
  assert_non_null(strstr(lw_upstream_error(c[1].u), " did not connect within 100 ms"));
  close_call(&c[1]);
  fetch(&s, "GET", 200, "hi");
  assert_int_equal(names.answered, 0);
  names.held = false;
  assert_int_equal(await_end(&c[2]), LW_EOF);
  close_call(&c[2]);
  await_count(&names.answered, 3); /* their threads have ended by themselves */
  assert_int_equal(s.requests, 3);
  stop(&s);
}

static void test_shutdown_while_a_name_is_looked_up(void **state) {
  (void)state;
  names.asked = names.answered = 0;
  names.held = true;
  call c;
  open_named(&c, "slow.test", 1);
  lw_upstream_start(c.u);
  await_asked(1);
  close_call(&c);
  lw_upstream_shutdown(); /* does not wait either */
  assert_int_equal(names.answered, 0);
  names.held = false;
  await_count(&names.answered, 1);
  usleep(20000); /* the thread frees what it holds */
}

/* -- unix sockets -- */

static void test_unix_socket(void **state) {
  (void)state;
  server s, tcp;
  start_unix_server(&s, NULL, many_replies);
  start_server(&tcp, NULL, many_replies);
  call c;
  open_call(&c, &s, "GET", "/v1/a?b=:c");
  lw_upstream_start(c.u);
  assert_int_equal(await_end(&c), LW_EOF);
  assert_got(&c, "hi");
  close_call(&c);
  assert_string_equal(s.last, "GET /v1/a?b=:c HTTP/1.1\r\nHost: localhost\r\n\r\n");
  for (int i = 0; i < 2; i++) {
    fetch(&tcp, "GET", 200, "hi");
    start_post(&c, &s, 1 << 20);
    assert_int_equal(await_end(&c), LW_EOF);
    close_call(&c);
    assert_int_equal(s.last_body, 1 << 20);
  }
  assert_int_equal(s.connections, 1);
  assert_int_equal(tcp.connections, 1);
  assert_int_equal(s.requests, 3);
  lw_upstream_shutdown();
  stop_server(&tcp);
  stop(&s);
}

static void test_sockets_are_not_mixed_up(void **state) {
  (void)state;
  server s, other;
  start_unix_server(&s, NULL, many_replies);
  start_unix_server(&other, NULL, many_replies); /* in the place of the first: its file is gone */
  char moved[120];
  snprintf(moved, sizeof moved, "%s2", other.path);
  assert_int_equal(rename(other.path, moved), 0);
  strcpy(other.path, moved);
  fetch(&other, "GET", 200, "hi");
  assert_int_equal(other.requests, 1);
  call c;
  start(&c, &s, "GET");
  assert_int_equal(await_end(&c), LW_IO);
  assert_error(&c, &s, "can't be reached: No such file or directory");
  close_call(&c);
  lw_upstream_shutdown();
  stop_server(&other);
  stop(&s);
}

static void test_unix_socket_retry(void **state) {
  (void)state;
  const reply replies[] = {{OK_2, KEEP, 0}, {"", CLOSE, 0}, {OK_2, KEEP, 0}};
  server s;
  start_unix_server(&s, NULL, replies);
  fetch(&s, "GET", 200, "hi");
  fetch(&s, "GET", 200, "hi");
  assert_int_equal(s.connections, 2);
  assert_int_equal(s.requests, 3);
  stop(&s);
}

static void test_unix_socket_without_server(void **state) {
  (void)state;
  server s = {0};
  temporary_path(s.path);
  close(listen_at(s.path, 1));
  call c;
  start(&c, &s, "GET");
  assert_int_equal(await_end(&c), LW_IO);
  assert_error(&c, &s, "refused the connection");
  close_call(&c);
  unlink(s.path);
  start(&c, &s, "GET");
  assert_int_equal(await_end(&c), LW_IO);
  assert_error(&c, &s, "can't be reached: No such file or directory");
  close_call(&c);
  open_call_to(&c, "GET", "unix:model.sock");
  lw_upstream_start(c.u);
  assert_int_equal(await_end(&c), LW_IO);
  assert_string_equal(
      lw_upstream_error(c.u),
      "model unix:model.sock can't be called: the path of a unix socket begins with /");
  close_call(&c);
}

/* A full backlog is no error: the calls wait, as over TCP, until there is room or time is up. */
static void test_unix_socket_full(void **state) {
  (void)state;
  server s = {.replies = many_replies};
  temporary_path(s.path);
  s.listener = listen_at(s.path, 0);
  call c[4];
  for (int i = 0; i < 4; i++) { /* one fits in; nobody accepts yet */
    open_call(&c[i], &s, "GET", "/");
    lw_upstream_set_timeouts(c[i].u, &(lw_upstream_timeouts){.connect_ms = i == 3 ? 100 : 0});
    lw_upstream_start(c[i].u);
  }
  assert_int_equal(await_end(&c[3]), LW_TIMEOUT);
  assert_error(&c[3], &s, "did not connect within 100 ms");
  close_call(&c[3]);
  assert_int_equal(lw_upstream_head(c[1].u), LW_AGAIN);
  close_call(&c[1]);
  pthread_create(&s.acceptor, NULL, run_acceptor, &s);
  for (int i = 0; i < 4; i += 2) {
    if (i == 0) assert_int_equal(await_end(&c[0]), LW_EOF);
    if (i == 2) assert_int_equal(await_end(&c[2]), LW_EOF);
    close_call(&c[i]);
  }
  stop(&s);
}

/* -- kept connections -- */

static void test_idle_connections_end_in_time(void **state) {
  (void)state;
  server s;
  start_server(&s, NULL, many_replies);
  lw_upstream_set_keepalive(0.4);
  fetch(&s, "GET", 200, "hi");
  fetch(&s, "GET", 200, "hi");
  assert_int_equal(s.connections, 1);
  char byte;
  for (int i = 0; i < 100 && recv(s.fds[0], &byte, 1, MSG_PEEK | MSG_DONTWAIT) != 0; i++) {
    run_for(50);
  }
  assert_int_equal(recv(s.fds[0], &byte, 1, MSG_PEEK | MSG_DONTWAIT), 0); /* it was us */
  fetch(&s, "GET", 200, "hi");
  assert_int_equal(s.connections, 2);
  lw_upstream_set_keepalive(4);
  stop(&s);
}

static void test_keep_alive_of_the_server(void **state) {
  (void)state;
#define SAYING(field) \
  { "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKeep-Alive: " field "\r\n\r\nhi", KEEP, 0 }
  const reply replies[] = {SAYING("timeout=100"), SAYING("max=5, Timeout=0"),
                           SAYING("timeout=, max=1"), SAYING("timeouts"), SAYING("timeout=1")};
  server s;
  start_server(&s, NULL, replies);
  for (int i = 0; i < 2; i++) {
    fetch(&s, "GET", 200, "hi");
    run_for(30);
  }
  assert_int_equal(s.connections, 1);
  for (int i = 0; i < 2; i++) {
    fetch(&s, "GET", 200, "hi"); /* the one before said 0: not used again */
    run_for(30);
  }
  assert_int_equal(s.connections, 2);
  fetch(&s, "GET", 200, "hi");
  char byte;
  for (int i = 0; i < 60 && recv(s.fds[1], &byte, 1, MSG_PEEK | MSG_DONTWAIT) != 0; i++) {
    run_for(50);
  }
  assert_int_equal(recv(s.fds[1], &byte, 1, MSG_PEEK | MSG_DONTWAIT), 0); /* in 3 s, not in 4 */
  stop(&s);
}

/* The end of its time must not touch a connection that is in use. */
static void serve_late(server *s, int fd) {
  while (read_request(s, fd)) {
    s->requests++;
    usleep(150000);
    if (!send_text(fd, OK_2)) return;
  }
}

static void test_keep_alive_does_not_run_in_use(void **state) {
  (void)state;
  server s;
  start_server(&s, serve_late, NULL);
  lw_upstream_set_keepalive(0.05);
  for (int i = 0; i < 5; i++) fetch(&s, "GET", 200, "hi");
  assert_int_equal(s.requests, 5);
  lw_upstream_set_keepalive(4);
  stop(&s);
}

static void test_peers_are_probed(void **state) {
  (void)state;
  server s;
  start_server(&s, NULL, many_replies);
  fetch(&s, "GET", 200, "hi");
  int found = 0;
  for (int fd = 0; fd < 256; fd++) {
    struct sockaddr_in a;
    socklen_t size = sizeof a, int_size = sizeof(int);
    if (getpeername(fd, (struct sockaddr *)&a, &size) != 0 || a.sin_family != AF_INET) continue;
    if (ntohs(a.sin_port) != s.port) continue;
    int on = 0, idle = 0;
    getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, &int_size);
    getsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, &int_size);
    assert_true(on && idle <= 60);
    found++;
  }
  assert_int_equal(found, 1);
  stop(&s);
}

/* -- progress, and answers that come piecemeal -- */

static void test_bytes_of_the_model(void **state) {
  (void)state;
  server s;
  start_server(&s, NULL, many_replies);
  uint64_t before = lw_upstream_model_bytes();
  fetch(&s, "GET", 200, "hi");
  assert_int_equal(lw_upstream_model_bytes() - before, strlen(OK_2));
  call c;
  open_call(&c, &s, "GET", "/");
  lw_upstream_set_role(c.u, "server");
  lw_upstream_start(c.u);
  assert_int_equal(await_end(&c), LW_EOF);
  close_call(&c);
  assert_int_equal(lw_upstream_model_bytes() - before, strlen(OK_2));
  stop(&s);
}

static void serve_dripping(server *s, int fd) {
  const char *text =
      "HTTP/1.1 103 Early\r\nLink: x\r\n\r\n"
      "HTTP/1.1 200 OK\r\nX-A: b\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nhi\r\n0\r\n\r\n";
  while (read_request(s, fd)) {
    for (const char *p = text; *p; p++) {
      if (!send_bytes(fd, p, 1)) return;
      usleep(500);
    }
  }
}

static void test_dripping_answer(void **state) {
  (void)state;
  server s;
  start_server(&s, serve_dripping, NULL);
  for (int i = 0; i < 3; i++) fetch(&s, "GET", 200, "hi");
  assert_int_equal(s.connections, 1);
  stop(&s);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      CASE(test_first_address_refuses),
      CASE(test_first_address_is_silent),
      CASE(test_all_addresses_are_silent),
      CASE(test_localhost),
      CASE(test_ipv6),
      CASE(test_slow_names_block_nobody),
      CASE(test_shutdown_while_a_name_is_looked_up),
      CASE(test_unix_socket),
      CASE(test_sockets_are_not_mixed_up),
      CASE(test_unix_socket_retry),
      CASE(test_unix_socket_without_server),
      CASE(test_unix_socket_full),
      CASE(test_idle_connections_end_in_time),
      CASE(test_keep_alive_of_the_server),
      CASE(test_keep_alive_does_not_run_in_use),
      CASE(test_peers_are_probed),
      CASE(test_bytes_of_the_model),
      CASE(test_dripping_answer),
  };
  return cmocka_run_group_tests_name("upstream_reach", tests, NULL, NULL);
}
