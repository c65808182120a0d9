/* SPDX-License-Identifier: MIT
 * A stand-in for a model server that is never the bottleneck: one thread, epoll, keep-alive. POST
 * /generate answers a fixed JSON object at once; /generate_stream sends tokens as chunked SSE at a
 * fixed rate, each with the monotonic time of its sending. Request bodies are read and dropped.
 *
 *   model PORT TOKENS RATE
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
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
  HEAD_MAX = 8192,
  ANSWER_SIZE = 1024,
  BATCH = 256
};

typedef struct client {
  struct client *next, *prev; /* in the queue of streams, by due time */
  int fd;
  size_t head_n, body_left; /* of the request that is coming */
  bool in_body, streams;    /* streams: that request asks for a stream */
  unsigned token;           /* of the running stream: the next to send; 0: none is running */
  uint64_t due_ns;
  char *out; /* what the socket did not take, NULL: nothing */
  size_t out_n, out_sent;
  char head[HEAD_MAX];
} client;

static int poller;
static unsigned tokens;
static uint64_t interval_ns;
/* All streams have one interval, so who was served last is due last: a plain queue is in order. */
static client queue = {.next = &queue, .prev = &queue};
static char answer[ANSWER_SIZE + 200];
static size_t answer_n;

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void leave_queue(client *c) {
  if (!c->next) return;
  c->next->prev = c->prev;
  c->prev->next = c->next;
  c->next = c->prev = NULL;
}

static void join_queue(client *c) {
  c->prev = queue.prev;
  c->next = &queue;
  queue.prev->next = c;
  queue.prev = c;
}

static void drop(client *c) {
  leave_queue(c);
  close(c->fd);
  free(c->out);
  free(c);
}

static void watch(client *c, uint32_t events) {
  epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &(struct epoll_event){events, {.ptr = c}});
}

/* false: the connection broke; the client is still to be dropped. */
static bool send_out(client *c, const char *p, size_t n) {
  if (!c->out) {
    ssize_t sent = send(c->fd, p, n, MSG_NOSIGNAL);
    if (sent == (ssize_t)n) return true;
    if (sent < 0 && errno != EAGAIN) return false;
    if (sent > 0) p += sent, n -= (size_t)sent;
    watch(c, EPOLLIN | EPOLLOUT);
  }
  c->out = realloc(c->out, c->out_n + n);
  memcpy(c->out + c->out_n, p, n);
  c->out_n += n;
  return true;
}

static bool send_rest(client *c) {
  if (!c->out) return true;
  ssize_t sent = send(c->fd, c->out + c->out_sent, c->out_n - c->out_sent, MSG_NOSIGNAL);
  if (sent < 0) return errno == EAGAIN;
  c->out_sent += (size_t)sent;
  if (c->out_sent < c->out_n) return true;
  free(c->out);
  c->out = NULL;
  c->out_n = c->out_sent = 0;
  watch(c, EPOLLIN);
  return true;
}

static bool send_token(client *c) {
  char data[200], chunk[300];
  int n = snprintf(data, sizeof data,
                   "data: {\"t\":%llu,\"index\":%u,\"choices\":[{\"delta\":{\"content\":\"token "
                   "number %u\"},\"finish_reason\":null}]}\n\n",
                   (unsigned long long)now_ns(), c->token, c->token);
  n = snprintf(chunk, sizeof chunk, "%x\r\n%s\r\n", (unsigned)n, data);
  if (c->token++ <= tokens) return send_out(c, chunk, (size_t)n);
  c->token = 0;
  return send_out(c, "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n", 24);
}

static void serve_due(uint64_t now) {
  while (queue.next != &queue && queue.next->due_ns <= now) {
    client *c = queue.next;
    leave_queue(c);
    if (!send_token(c)) {
      drop(c);
      continue;
    }
    c->due_ns += interval_ns;
    if (c->token) join_queue(c);
  }
}

static bool answer_request(client *c) {
  c->in_body = false;
  c->head_n = 0;
  if (!c->streams) return send_out(c, answer, answer_n);
  static const char head[] =
      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
  c->token = 1;
  c->due_ns = now_ns() + interval_ns;
  join_queue(c);
  return send_out(c, head, sizeof head - 1);
}

/* The head stands in c->head, NUL-terminated. */
static void begin_body(client *c) {
  char *length = strcasestr(c->head, "\r\nContent-Length:");
  c->body_left = length ? strtoul(length + 17, NULL, 10) : 0;
  c->streams = strncmp(c->head, "POST /generate_stream ", 22) == 0;
  c->in_body = true;
}

/* One request at a time: nobody here pipelines. */
static bool take_bytes(client *c, const char *p, size_t n) {
  if (!c->in_body) {
    if (c->head_n + n >= HEAD_MAX) n = HEAD_MAX - 1 - c->head_n;
    memcpy(c->head + c->head_n, p, n);
    c->head_n += n;
    c->head[c->head_n] = 0;
    char *end = strstr(c->head, "\r\n\r\n");
    if (!end) return c->head_n < HEAD_MAX - 1;
    n = c->head_n - (size_t)(end + 4 - c->head);
    end[2] = 0;
    begin_body(c);
  }
  if (n > c->body_left) return false;
  c->body_left -= n;
  return c->body_left > 0 || answer_request(c);
}

static bool read_some(client *c) {
  static char scrap[262144];
  /* A head has to fit whole, and what follows it in the same read too. */
  ssize_t n = recv(c->fd, scrap, c->in_body ? sizeof scrap : HEAD_MAX - 1 - c->head_n, 0);
  if (n < 0) return errno == EAGAIN;
  return n > 0 && take_bytes(c, scrap, (size_t)n);
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

static int listen_on(int port) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  struct sockaddr_in a = {.sin_family = AF_INET,
                          .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                          .sin_port = htons((uint16_t)port)};
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
  if (bind(fd, (struct sockaddr *)&a, sizeof a) != 0 || listen(fd, 4096) != 0) {
    perror("model: listen");
    exit(1);
  }
  return fd;
}

static void make_answer(void) {
  char body[ANSWER_SIZE + 1];
  int n = snprintf(body, sizeof body, "{\"model\":\"stand-in\",\"response\":\"");
  for (; n < ANSWER_SIZE - 40; n++) body[n] = "the quick brown fox "[n % 20];
  n += snprintf(body + n, sizeof body - (size_t)n, "\",\"tokens\":[1,2,3]}");
  answer_n = (size_t)snprintf(answer, sizeof answer,
                              "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                              "Content-Length: %d\r\n\r\n%s",
                              n, body);
}

static void wait_and_serve(int listener) {
  struct epoll_event events[BATCH];
  uint64_t now = now_ns();
  struct timespec wait = {0, 0}, *until = NULL;
  if (queue.next != &queue) {
    uint64_t left = queue.next->due_ns > now ? queue.next->due_ns - now : 0;
    wait.tv_sec = (time_t)(left / 1000000000);
    wait.tv_nsec = (long)(left % 1000000000);
    until = &wait;
  }
  int n = epoll_pwait2(poller, events, BATCH, until, NULL);
  for (int i = 0; i < n; i++) {
    client *c = events[i].data.ptr;
    if (!c) {
      accept_all(listener);
    } else if (((events[i].events & EPOLLOUT) && !send_rest(c)) ||
               ((events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && !read_some(c))) {
      drop(c);
    }
  }
  serve_due(now_ns());
}

int main(int argc, char **argv) {
  if (argc != 4) {
    fprintf(stderr, "usage: model PORT TOKENS RATE\n");
    return 2;
  }
  tokens = (unsigned)atoi(argv[2]);
  interval_ns = (uint64_t)(1e9 / atof(argv[3]));
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  signal(SIGPIPE, SIG_IGN);
  make_answer();
  poller = epoll_create1(0);
  int listener = listen_on(atoi(argv[1]));
  epoll_ctl(poller, EPOLL_CTL_ADD, listener, &(struct epoll_event){EPOLLIN, {.ptr = NULL}});
  for (;;) wait_and_serve(listener);
}
