/* SPDX-License-Identifier: MIT
 * A load generator: one thread, epoll, HTTP/1.1 to 127.0.0.1. Sends the bytes of a file as they are
 * and prints one JSON object.
 *
 *   load json PORT CONNECTIONS SECONDS FILE          closed loop: the next request after the answer
 *   load streams PORT STREAMS RAMP_S FILE [UPLOAD N EVERY_S]
 *        opens streams evenly over the ramp and measures each token's way, from the time the model
 *        wrote into it; meanwhile posts the file UPLOAD N times from a process of its own, and
 * takes the longest way during each upload and during a quiet time of the same length after it.
 */
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
  BATCH = 256,
  MOST_UPLOADS = 32,
  PATIENCE_S = 60
};
static const uint64_t ms = 1000000, second = 1000000000;

typedef struct client {
  int fd;
  answer a;
  size_t sent; /* of the request */
  uint64_t asked_ns, token_ns;
  unsigned tokens;
  bool done; /* saw [DONE] */
  size_t line_n;
  char line[300];
} client;

static int poller;
static uint16_t port;
static char *request;
static size_t request_n;
static uint64_t now; /* when the last read returned */
static histogram latency, first_token;
static uint64_t good, bad, answered, body_bytes, total_tokens, max_gap_ns;

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * second + (uint64_t)t.tv_nsec;
}

static _Noreturn void fail(const char *what) {
  perror(what);
  exit(1);
}

static char *read_file(const char *path, size_t *n) {
  FILE *f = fopen(path, "rb");
  if (!f) fail(path);
  fseek(f, 0, SEEK_END);
  *n = (size_t)ftell(f);
  rewind(f);
  char *p = malloc(*n);
  if (fread(p, 1, *n, f) != *n) fail(path);
  fclose(f);
  return p;
}

static int connect_to_port(void) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct sockaddr_in a = {
      .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
  if (connect(fd, (struct sockaddr *)&a, sizeof a) != 0) fail("load: connect");
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
  return fd;
}

static void watch(client *c, int op, uint32_t events) {
  epoll_ctl(poller, op, c->fd, &(struct epoll_event){events, {.ptr = c}});
}

static void send_request(client *c) {
  ssize_t n = send(c->fd, request + c->sent, request_n - c->sent, MSG_NOSIGNAL);
  if (n < 0 && errno != EAGAIN) return; /* reading will tell */
  bool waited = c->sent > 0;
  if (n > 0) c->sent += (size_t)n;
  if (c->sent < request_n) {
    watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
  } else if (waited) {
    watch(c, EPOLL_CTL_MOD, EPOLLIN);
  }
}

static void begin_request(client *c) {
  answer_begin(&c->a, c);
  c->sent = 0;
  c->asked_ns = now_ns();
  send_request(c);
}

static void open_client(client *c, answer_body on_body) {
  c->fd = connect_to_port();
  c->a.on_body = on_body;
  fcntl(c->fd, F_SETFL, O_NONBLOCK);
  watch(c, EPOLL_CTL_ADD, EPOLLIN);
  begin_request(c);
}

static void close_client(client *c) {
  if (c->fd >= 0) close(c->fd);
  c->fd = -1;
}

/* Reads once; false when the connection ended or what came is no HTTP. */
static bool read_answer(client *c) {
  static char bytes[65536];
  ssize_t n = recv(c->fd, bytes, sizeof bytes, 0);
  now = now_ns();
  if (n < 0 && errno == EAGAIN) return true;
  if (n <= 0) return false;
  answer_take(&c->a, bytes, (size_t)n);
  return c->a.phase != ANSWER_BAD;
}

/* -- closed loop -- */

static void count_body(void *user, const char *p, size_t n) {
  (void)user;
  (void)p;
  body_bytes += n;
}

static void on_json_event(client *c, uint32_t events, bool counts) {
  if (events & EPOLLOUT) send_request(c);
  if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR))) return;
  bool alive = read_answer(c), whole = c->a.phase == ANSWER_DONE;
  if (alive && !whole) return;
  if (!whole || c->a.status != 200) {
    bad++;
  } else {
    answered++;
    good += counts;
    if (counts) histogram_add(&latency, now - c->asked_ns);
  }
  if (alive && c->a.keeps_alive) {
    begin_request(c);
    return;
  }
  close_client(c);
  open_client(c, count_body);
}

static void run_json(unsigned connections, double seconds) {
  client *clients = calloc(connections, sizeof *clients);
  for (unsigned i = 0; i < connections; i++) open_client(&clients[i], count_body);
  uint64_t begin = now_ns() + 200 * ms, end = begin + (uint64_t)(seconds * 1e9);
  struct epoll_event events[BATCH];
  while ((now = now_ns()) < end) {
    int n = epoll_wait(poller, events, BATCH, 100);
    for (int i = 0; i < n; i++) {
      on_json_event(events[i].data.ptr, events[i].events, now >= begin);
    }
  }
  printf("{\"good\": %llu, \"bad\": %llu, \"per_s\": %.1f, \"p50_us\": %.1f, \"p99_us\": %.1f, ",
         (unsigned long long)good, (unsigned long long)bad, (double)good / seconds,
         histogram_at(&latency, 0.5) / 1e3, histogram_at(&latency, 0.99) / 1e3);
  printf("\"answered\": %llu, \"body_bytes\": %llu}\n", (unsigned long long)answered,
         (unsigned long long)body_bytes);
}

/* -- uploads: a process of their own, so that sending does not delay our reading -- */

typedef struct upload {
  int status;
  uint64_t took_ns;
} upload;

typedef enum upload_state {
  OFF,
  WAITING,
  SENDING,
  ECHO,
  PAUSE,
  QUIET
} upload_state;

static struct {
  upload_state state;
  int fd, count, wanted;
  uint64_t until_ns, begun_ns, length_ns, every_ns;
  uint64_t longest_ns; /* way of a token in the time that is looked at */
  uint64_t busy_ns[MOST_UPLOADS], quiet_ns[MOST_UPLOADS];
  upload done[MOST_UPLOADS];
} uploads;

static void drop_body(void *user, const char *p, size_t n) {
  (void)user;
  (void)p;
  (void)n;
}

static upload post_once(const char *p, size_t n) {
  answer a = {.on_body = drop_body};
  answer_begin(&a, NULL);
  uint64_t begin = now_ns();
  int fd = connect_to_port();
  while (n > 0) {
    ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);
    if (sent <= 0) break;
    p += sent;
    n -= (size_t)sent;
  }
  char bytes[65536];
  ssize_t got = 1;
  while (a.phase < ANSWER_DONE && (got = recv(fd, bytes, sizeof bytes, 0)) > 0) {
    answer_take(&a, bytes, (size_t)got);
  }
  close(fd);
  return (upload){a.phase == ANSWER_DONE && n == 0 ? a.status : 0, now_ns() - begin};
}

static void start_uploader(const char *path, int count, double every_s) {
  int pair[2];
  if (count > MOST_UPLOADS || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) fail("load: uploads");
  uploads.fd = pair[0];
  uploads.wanted = count;
  uploads.every_ns = (uint64_t)(every_s * 1e9);
  if (fork() == 0) {
    close(pair[0]);
    size_t n = 0;
    char *p = read_file(path, &n), go;
    while (read(pair[1], &go, 1) == 1) {
      upload u = post_once(p, n);
      if (write(pair[1], &u, sizeof u) != sizeof u) break;
    }
    _exit(0);
  }
  close(pair[1]);
}

static void begin_upload(void) {
  uploads.state = SENDING;
  uploads.begun_ns = now;
  uploads.longest_ns = 0;
  if (write(uploads.fd, "", 1) != 1) fail("load: upload");
}

static void end_quiet(void) {
  uploads.quiet_ns[uploads.count++] = uploads.longest_ns;
  uploads.until_ns = uploads.begun_ns + uploads.every_ns;
  uploads.state = uploads.count < uploads.wanted ? WAITING : OFF;
}

/* What an upload held up arrives a little after it: ECHO. Then PAUSE, then QUIET. */
static void step_uploads(void) {
  if (uploads.state == SENDING) {
    upload u;
    if (recv(uploads.fd, &u, sizeof u, MSG_DONTWAIT) != sizeof u) return;
    uploads.done[uploads.count] = u;
    uploads.state = ECHO;
    uploads.until_ns = now + 20 * ms;
  }
  if (uploads.state == OFF || now < uploads.until_ns) return;
  switch (uploads.state) {
    case WAITING:
      begin_upload();
      break;
    case ECHO:
      uploads.busy_ns[uploads.count] = uploads.longest_ns;
      uploads.length_ns = now - uploads.begun_ns;
      uploads.state = PAUSE;
      uploads.until_ns = now + 100 * ms;
      break;
    case PAUSE:
      uploads.state = QUIET;
      uploads.longest_ns = 0;
      uploads.until_ns = now + uploads.length_ns;
      break;
    default:
      end_quiet();
  }
}

static void print_uploads(void) {
  const char *comma = "";
  printf(", \"uploads\": [");
  for (int i = 0; i < uploads.count; i++, comma = ", ") {
    printf("%s{\"status\": %d, \"took_ms\": %.2f, \"busy_ms\": %.3f, \"quiet_ms\": %.3f}", comma,
           uploads.done[i].status, (double)uploads.done[i].took_ns / 1e6,
           (double)uploads.busy_ns[i] / 1e6, (double)uploads.quiet_ns[i] / 1e6);
  }
  printf("]");
}

/* -- streams -- */

static void note_token(client *c, uint64_t sent_ns) {
  uint64_t way = now > sent_ns ? now - sent_ns : 0;
  histogram_add(&latency, way);
  if (way > uploads.longest_ns) uploads.longest_ns = way;
  if (c->tokens++ == 0) {
    histogram_add(&first_token, now - c->asked_ns);
  } else if (now - c->token_ns > max_gap_ns) {
    max_gap_ns = now - c->token_ns;
  }
  c->token_ns = now;
  total_tokens++;
}

static void end_line(client *c) {
  c->line[c->line_n] = 0;
  c->line_n = 0;
  if (strncmp(c->line, "data: {\"t\":", 11) == 0) note_token(c, strtoull(c->line + 11, NULL, 10));
  if (strncmp(c->line, "data: [DONE]", 12) == 0) c->done = true;
}

static void take_lines(void *user, const char *p, size_t n) {
  client *c = user;
  while (n > 0) {
    const char *end = memchr(p, '\n', n);
    size_t part = end ? (size_t)(end - p) : n;
    size_t room = sizeof c->line - 1 - c->line_n, kept = part < room ? part : room;
    memcpy(c->line + c->line_n, p, kept);
    c->line_n += kept;
    if (!end) return;
    end_line(c);
    p += part + 1;
    n -= part + 1;
  }
}

/* Whether this stream is over. */
static bool on_stream_event(client *c, uint32_t events) {
  if (events & EPOLLOUT) send_request(c);
  if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR))) return false;
  bool alive = read_answer(c), whole = c->a.phase == ANSWER_DONE;
  if (alive && !whole) return false;
  *(whole && c->done && c->a.status == 200 ? &good : &bad) += 1;
  close_client(c);
  return true;
}

static void run_streams(unsigned streams, double ramp_s) {
  client *clients = calloc(streams, sizeof *clients);
  uint64_t begin = now_ns(), step = (uint64_t)(ramp_s * 1e9 / streams);
  unsigned opened = 0, over = 0;
  struct epoll_event events[BATCH];
  while (over < streams && (now = now_ns()) < begin + PATIENCE_S * second) {
    while (opened < streams && now >= begin + opened * step) {
      open_client(&clients[opened++], take_lines);
    }
    if (opened == streams && uploads.wanted && uploads.state == OFF && uploads.count == 0) {
      uploads.state = WAITING;
      uploads.until_ns = now + 300 * ms;
    }
    bool timed = opened < streams || uploads.state != OFF;
    int n = epoll_wait(poller, events, BATCH, timed ? 1 : 100);
    for (int i = 0; i < n; i++) over += on_stream_event(events[i].data.ptr, events[i].events);
    now = now_ns();
    step_uploads();
  }
  printf("{\"good\": %llu, \"bad\": %llu, \"tokens\": %llu, \"p50_us\": %.1f, \"p99_us\": %.1f, ",
         (unsigned long long)good, (unsigned long long)(streams - good),
         (unsigned long long)total_tokens, histogram_at(&latency, 0.5) / 1e3,
         histogram_at(&latency, 0.99) / 1e3);
  printf("\"p999_us\": %.1f, \"max_us\": %.1f, \"max_gap_ms\": %.2f, \"first_p50_ms\": %.2f",
         histogram_at(&latency, 0.999) / 1e3, (double)latency.max / 1e3, (double)max_gap_ns / 1e6,
         histogram_at(&first_token, 0.5) / 1e6);
  print_uploads();
  printf("}\n");
  if (uploads.wanted) close(uploads.fd); /* which ends its process */
  while (wait(NULL) > 0) continue;
}

int main(int argc, char **argv) {
  bool streams = argc > 1 && strcmp(argv[1], "streams") == 0;
  if (argc != 6 && !(streams && argc == 9)) {
    fprintf(stderr,
            "usage: load json PORT CONNECTIONS SECONDS FILE\n"
            "       load streams PORT STREAMS RAMP_S FILE [UPLOAD N EVERY_S]\n");
    return 2;
  }
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  signal(SIGPIPE, SIG_IGN);
  port = (uint16_t)atoi(argv[2]);
  if (argc == 9) start_uploader(argv[6], atoi(argv[7]), atof(argv[8]));
  request = read_file(argv[5], &request_n);
  poller = epoll_create1(EPOLL_CLOEXEC);
  if (streams) {
    run_streams((unsigned)atoi(argv[3]), atof(argv[4]));
  } else {
    run_json((unsigned)atoi(argv[3]), atof(argv[4]));
  }
  return 0;
}
