/* SPDX-License-Identifier: MIT
 * A model server with known delays that keeps a record of what it did, for the proof that load
 * tests tell the truth. One thread, epoll, keep-alive; POST anything. The number behind
 * "request_idx" in a request is its name. Prints its port; at SIGTERM writes the record to FILE, a
 * line for each request: name, received, and when each part of its answer was sent, in
 * CLOCK_MONOTONIC's ns.
 *
 *   stand_in FILE constant MS            answers after MS
 *   stand_in FILE bimodal MS SLOW_MS N   each N-th name after SLOW_MS
 *   stand_in FILE freeze MS AT_MS FOR_MS does nothing from AT_MS after its first request for FOR_MS
 *   stand_in FILE stream MS TOKENS       server-sent events, one each MS
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
  REQUEST_MAX = 65536,
  PARTS_MAX = 64,
  BATCH = 256
};

typedef struct entry {
  long name;
  uint64_t received;
  int part_count;
  uint64_t parts[]; /* sent */
} entry;

typedef struct client {
  struct client *next, *prev; /* among those that are due, by time */
  int fd;
  size_t have;
  uint64_t due;
  entry *entry; /* of the request that is being answered */
  char text[REQUEST_MAX];
} client;

static const char *mode;
static double numbers[3];
static int poller, part_total = 1;
static client due = {.next = &due, .prev = &due};
static entry **record;
static size_t record_count, record_capacity;
static uint64_t freeze_at = UINT64_MAX;
static volatile sig_atomic_t stopping;

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void unlink_due(client *c) {
  if (!c->next) return;
  c->next->prev = c->prev;
  c->prev->next = c->next;
  c->next = c->prev = NULL;
}

static void link_due(client *c) {
  client *before = due.prev;
  while (before != &due && before->due > c->due) before = before->prev;
  c->prev = before;
  c->next = before->next;
  before->next->prev = c;
  before->next = c;
}

static void drop(client *c) {
  unlink_due(c);
  close(c->fd);
  free(c);
}

static bool send_all(client *c, const char *p, size_t n) {
  return send(c->fd, p, n, MSG_NOSIGNAL) == (ssize_t)n;
}

static bool is(const char *name) { return strcmp(mode, name) == 0; }

static bool send_part(client *c) {
  static const char whole[] =
      "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n"
      "{\"said\":\"hi\"}";
  static const char head[] =
      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
  static const char event[] = "11\r\ndata: {\"t\":\"a\"}\n\n\r\n";
  entry *e = c->entry;
  bool is_last = e->part_count + 1 == part_total;
  bool ok = true;
  if (is("stream") && e->part_count == 0) ok = send_all(c, head, sizeof head - 1);
  e->parts[e->part_count++] = now_ns();
  if (!is("stream")) return ok && send_all(c, whole, sizeof whole - 1);
  ok = ok && send_all(c, event, sizeof event - 1);
  return ok && (!is_last || send_all(c, "0\r\n\r\n", 5));
}

static void serve_due(void) {
  while (due.next != &due && due.next->due <= now_ns()) {
    client *c = due.next;
    unlink_due(c);
    if (!send_part(c)) {
      drop(c);
    } else if (c->entry->part_count < part_total) {
      c->due += (uint64_t)(numbers[0] * 1e6);
      link_due(c);
    } else {
      c->entry = NULL;
    }
  }
}

static void begin_request(client *c) {
  char *name = strstr(c->text, "\"request_idx\":");
  uint64_t now = now_ns();
  entry *e = calloc(1, sizeof *e + sizeof e->parts[0] * (size_t)part_total);
  e->name = name ? atol(name + 14) : 0;
  e->received = now;
  if (record_count == record_capacity) {
    record_capacity = record_capacity * 2 + 1024;
    record = realloc(record, record_capacity * sizeof *record);
  }
  record[record_count++] = c->entry = e;
  if (is("freeze") && record_count == 1) freeze_at = now + (uint64_t)(numbers[1] * 1e6);
  bool is_slow = is("bimodal") && e->name % (long)numbers[2] == 0;
  c->due = now + (uint64_t)(numbers[is_slow ? 1 : 0] * 1e6);
  link_due(c);
}

/* Whether there is still a connection. */
static bool read_some(client *c) {
  ssize_t n = recv(c->fd, c->text + c->have, sizeof c->text - 1 - c->have, 0);
  if (n < 0) return errno == EAGAIN;
  if (n == 0) return false;
  c->have += (size_t)n;
  c->text[c->have] = 0;
  char *end = strstr(c->text, "\r\n\r\n");
  if (!end) return c->have < sizeof c->text - 1;
  char *length = strcasestr(c->text, "\r\nContent-Length:");
  size_t body = length && length < end ? strtoul(length + 17, NULL, 10) : 0;
  size_t total = (size_t)(end + 4 - c->text) + body;
  if (c->have < total) return total < sizeof c->text;
  begin_request(c);
  c->have = 0; /* nobody here pipelines */
  return true;
}

static void accept_all(int listener) {
  for (;;) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    client *c = calloc(1, sizeof *c);
    c->fd = fd;
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &(struct epoll_event){EPOLLIN, {.ptr = c}});
  }
}

static int listen_somewhere(void) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t n = sizeof a;
  if (bind(fd, (struct sockaddr *)&a, n) != 0 || listen(fd, 4096) != 0) exit(1);
  getsockname(fd, (struct sockaddr *)&a, &n);
  printf("%d\n", ntohs(a.sin_port));
  fflush(stdout);
  return fd;
}

static void freeze_if_it_is_time(void) {
  if (now_ns() < freeze_at) return;
  freeze_at = UINT64_MAX;
  double seconds = numbers[2] / 1e3;
  struct timespec t = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
  nanosleep(&t, NULL);
}

static void wait_and_serve(int listener) {
  struct epoll_event events[BATCH];
  uint64_t now = now_ns(), next = due.next != &due ? due.next->due : now + 1000000000;
  if (freeze_at < next) next = freeze_at;
  uint64_t left = next > now ? next - now : 0;
  struct timespec wait = {(time_t)(left / 1000000000), (long)(left % 1000000000)};
  int n = epoll_pwait2(poller, events, BATCH, &wait, NULL);
  freeze_if_it_is_time();
  for (int i = 0; i < n; i++) {
    client *c = events[i].data.ptr;
    if (!c) {
      accept_all(listener);
    } else if (!read_some(c)) {
      drop(c);
    }
  }
  serve_due();
}

static void on_stop(int signum) { stopping = signum; }

static int write_record(const char *path) {
  FILE *out = fopen(path, "w");
  if (!out) return 1;
  for (size_t i = 0; i < record_count; i++) {
    entry *e = record[i];
    fprintf(out, "%ld %llu", e->name, (unsigned long long)e->received);
    for (int p = 0; p < e->part_count; p++) {
      fprintf(out, " %llu", (unsigned long long)e->parts[p]);
    }
    fputc('\n', out);
  }
  return fclose(out);
}

int main(int argc, char **argv) {
  if (argc < 4) return 2;
  mode = argv[2];
  for (int i = 0; i < 3 && i + 3 < argc; i++) numbers[i] = atof(argv[i + 3]);
  if (is("stream")) part_total = (int)numbers[1];
  if (part_total < 1 || part_total > PARTS_MAX) return 2;
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  struct sigaction stop = {.sa_handler = on_stop};
  sigaction(SIGTERM, &stop, NULL);
  poller = epoll_create1(0);
  int listener = listen_somewhere();
  epoll_ctl(poller, EPOLL_CTL_ADD, listener, &(struct epoll_event){EPOLLIN, {.ptr = NULL}});
  while (!stopping) wait_and_serve(listener);
  return write_record(argv[1]);
}
