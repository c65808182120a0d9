/* SPDX-License-Identifier: MIT
 * Joins curl's multi interface to the loop: which sockets to poll, when to call curl, which
 * transfers have ended. Knows nothing of HTTP; upstream calls it. Owns the multi, its idle
 * connections and one watch (a uv_poll_t) for each socket.
 *
 * A reused connection must cost no epoll_ctl: so a watch stays armed when curl no longer asks for
 * the socket, and is told apart by `wanted`. It dies in the close-socket callback, just before the
 * descriptor does. Watches are found by descriptor, because curl forgets what was assigned to a
 * socket as soon as it stops asking for it. */
#include "loop/multi.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "loop/loop.h"

enum {
  MOST_IDLE_CONNECTIONS = 1 << 20, /* as good as none: only the descriptor limit bounds */
  SOON_MS = 50,
  MOST_WAIT_MS = 250,
};

typedef struct watch {
  uv_poll_t poll;
  int fd;
  int wanted;  /* the uv events curl waits for; 0: a paused transfer, or an idle connection */
  int armed;   /* the uv events polled for; may outlive `wanted` */
  bool server; /* not a pipe from curl's resolver */
  bool keep;   /* connected, so curl tells when it closes it: the watch may outlive a transfer */
  bool idle;   /* its last transfer has ended: whatever comes now spoils the connection */
  const lw_transfer *user;
  lw_timer aging; /* runs while idle */
} watch;

static struct {
  CURLM *curl;
  watch **watches; /* by descriptor */
  size_t capacity;
  lw_wake kick; /* late: resumes what waits for it and lets curl do what is due */
  lw_timer timer;
  lw_list resumes;
  unsigned running, silent; /* silent: for which curl has not asked for any socket yet */
} multi;

/* -- watching sockets -- */

static watch *watch_of(int fd) {
  return fd >= 0 && (size_t)fd < multi.capacity ? multi.watches[fd] : NULL;
}

static void on_aged(lw_timer *timer);

static watch *open_watch(int fd) {
  if ((size_t)fd >= multi.capacity) {
    size_t capacity = LW_MAX(multi.capacity * 2, (size_t)fd + 64);
    multi.watches = lw_realloc(multi.watches, capacity * sizeof *multi.watches);
    memset(multi.watches + multi.capacity, 0, (capacity - multi.capacity) * sizeof *multi.watches);
    multi.capacity = capacity;
  }
  watch *w = lw_calloc(1, sizeof *w);
  w->fd = fd;
  lw_timer_init(&w->aging, on_aged);
  int rc = uv_poll_init(lw_loop_uv(), &w->poll, fd);
  if (rc != 0) lw_die("socket %d can't be watched: %s", fd, uv_strerror(rc));
  multi.watches[fd] = w;
  return w;
}

static void on_watch_closed(uv_handle_t *handle) { free(LW_CONTAINER_OF(handle, watch, poll)); }

/* uv_close() takes the descriptor out of epoll at once, so it can be closed and used anew. */
static void close_watch(watch *w) {
  multi.watches[w->fd] = NULL;
  w->wanted = 0;
  lw_timer_fini(&w->aging);
  uv_close((uv_handle_t *)&w->poll, on_watch_closed);
}

static void on_event(uv_poll_t *poll, int status, int events);

static void arm(watch *w) {
  w->armed = w->wanted;
  uv_poll_start(&w->poll, w->armed, on_event);
}

static void want(watch *w, int events) {
  w->wanted = events;
  if (events == 0) {
    uv_unref((uv_handle_t *)&w->poll); /* idle connections must not keep the loop alive */
    return;
  }
  uv_ref((uv_handle_t *)&w->poll);
  if (w->armed != events) arm(w);
}

static bool is_tcp(int fd) {
  int protocol = 0;
  socklen_t size = sizeof protocol;
  return getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) == 0 && protocol == IPPROTO_TCP;
}

static void use(watch *w, lw_transfer *t) {
  if (t->fd < 0) multi.silent--;
  t->fd = w->fd;
  w->user = t;
  w->idle = false;
  lw_timer_stop(&w->aging);
}

static lw_transfer *transfer_of(CURL *easy) {
  lw_transfer *t = NULL;
  curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&t);
  return t;
}

/* When one address was tried long enough, curl drops it, but begins with the next one only when it
 * is called again; and no timer of its own is due by then. */
static void nudge(lw_transfer *t) {
  if (!t) return;
  t->nudged = true;
  lw_multi_resume(t);
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *unused, void *assigned) {
  (void)unused;
  (void)assigned;
  watch *w = watch_of(fd);
  if (what == CURL_POLL_REMOVE) {
    if (!w) return 0;
    if (w->keep) {
      want(w, 0);
    } else { /* a pipe, or a failed attempt to connect: curl closes, or has closed, it silently */
      close_watch(w);
      nudge(transfer_of(easy));
    }
    return 0;
  }
  if (!w) {
    w = open_watch(fd);
    w->server = is_tcp(fd);
  }
  if (what & CURL_POLL_IN) w->keep = w->server; /* while connecting curl only asks for OUT */
  use(w, transfer_of(easy));
  want(w, (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0));
  return 0;
}

/* The descriptor may be that of an attempt which curl has just given up and closed silently; then
 * it takes the new socket for the old one and does not ask for it anew. */
static curl_socket_t open_socket(void *user, curlsocktype purpose, struct curl_sockaddr *address) {
  (void)purpose;
  lw_transfer *t = user;
  int fd =
      socket(address->family, address->socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, address->protocol);
  if (fd < 0) {
    t->socket_errno = errno;
    return CURL_SOCKET_BAD;
  }
  t->unix_fd = address->family == AF_UNIX ? fd : -1;
  watch *stale = watch_of(fd);
  int wanted = stale ? stale->wanted : 0;
  if (stale) close_watch(stale);
  watch *w = open_watch(fd);
  w->server = true;
  use(w, t);
  if (wanted) want(w, wanted);
  return fd;
}

static int close_socket(void *unused, curl_socket_t fd) {
  (void)unused;
  watch *w = watch_of(fd);
  if (w) close_watch(w);
  return close(fd);
}

/* -- running curl -- */

static void join(lw_transfer *t) {
  t->socket_errno = 0;
  t->nudged = t->full = false;
  t->fd = t->unix_fd = -1;
  multi.running++;
  multi.silent++;
  CURLMcode rc = curl_multi_add_handle(multi.curl, t->easy);
  if (rc != CURLM_OK) lw_die("curl_multi_add_handle: %s", curl_multi_strerror(rc));
}

/* A TCP server whose backlog is full makes us wait; a unix socket answers EAGAIN, and the waiting
 * is ours: more seldom the longer it takes, until the owner gives up. */
static void wait_for_room(lw_transfer *t) {
  multi.running++;
  lw_timer_start(&t->again, 5 + LW_MIN((lw_now_ms() - t->added_ms) / 4, MOST_WAIT_MS));
}

static void on_again(lw_timer *timer) {
  multi.running--;
  join(LW_CONTAINER_OF(timer, lw_transfer, again));
}

/* curl may find out by itself too that nothing came of connecting, but knows no error then. */
static bool met_full_backlog(const lw_transfer *t, CURLcode result) {
  long os_errno = 0;
  if (t->full) return true;
  if (result != CURLE_COULDNT_CONNECT || t->unix_fd < 0) return false;
  curl_easy_getinfo(t->easy, CURLINFO_OS_ERRNO, &os_errno);
  return os_errno == 0 || os_errno == EAGAIN;
}

static void finish(lw_transfer *t, CURLcode result) {
  lw_multi_remove(t);
  if (met_full_backlog(t, result)) {
    wait_for_room(t);
  } else {
    t->done(t, result);
  }
}

static void read_finished(void) {
  CURLMsg *message;
  int left;
  while ((message = curl_multi_info_read(multi.curl, &left))) {
    CURLcode result = message->data.result;
    finish(transfer_of(message->easy_handle), result);
  }
}

static void act(curl_socket_t fd, int events) {
  int running;
  CURLMcode rc = curl_multi_socket_action(multi.curl, fd, events, &running);
  if (rc != CURLM_OK) lw_die("curl_multi_socket_action: %s", curl_multi_strerror(rc));
  read_finished();
}

/* The server closed an idle connection, or spoke out of turn. Its bytes must never be taken for the
 * answer to the next request, and curl's own check before reuse only knows a closed connection: so
 * close it. But a transfer whose answer was there at once, and had to pause at once, uses a
 * connection that looks idle; curl never asked for its socket. */
static void spoil(watch *w) {
  if (multi.silent > 0) return;
  char scrap[4096];
  for (int i = 0; i < 16; i++) {
    if (recv(w->fd, scrap, sizeof scrap, MSG_DONTWAIT) <= 0) break;
  }
  shutdown(w->fd, SHUT_RDWR);
}

/* Idle for as long as it may be: ends before the server ends it. */
static void on_aged(lw_timer *timer) {
  watch *w = LW_CONTAINER_OF(timer, watch, aging);
  if (!w->idle) return;
  if (multi.silent > 0) { /* it may be in use already: see spoil() */
    lw_timer_start(timer, SOON_MS);
  } else {
    spoil(w);
  }
}

static void on_event(uv_poll_t *poll, int status, int events) {
  watch *w = LW_CONTAINER_OF(poll, watch, poll);
  if (status < 0) w->armed = 0; /* libuv has stopped it */
  if (w->wanted == 0) {
    if (w->armed) uv_poll_stop(poll);
    w->armed = 0;
    if (w->idle) spoil(w);
    return;
  }
  int bits =
      (events & UV_READABLE ? CURL_CSELECT_IN : 0) | (events & UV_WRITABLE ? CURL_CSELECT_OUT : 0);
  /* ERR alone would make curl give up without asking the socket what is wrong, or reading what came
   * before the error. */
  if (status < 0) bits = CURL_CSELECT_IN | CURL_CSELECT_OUT | CURL_CSELECT_ERR;
  act(w->fd, bits);
  if (w->wanted && !w->armed) arm(w);
  lw_loop_settle();
}

static int on_timeout(CURLM *curl, long delay_ms, void *unused) {
  (void)curl;
  (void)unused;
  if (delay_ms < 0) {
    lw_timer_stop(&multi.timer);
  } else if (delay_ms == 0) {
    lw_loop_wake_late(&multi.kick);
  } else {
    lw_timer_start(&multi.timer, (uint64_t)delay_ms);
  }
  return 0;
}

static void on_timer(lw_timer *timer) {
  (void)timer;
  lw_loop_wake_late(&multi.kick);
}

static void run_kick(lw_wake *wake) {
  (void)wake;
  lw_list batch, *node;
  lw_list_init(&batch);
  lw_list_splice(&batch, &multi.resumes);
  while ((node = lw_list_pop(&batch))) {
    lw_transfer *t = LW_CONTAINER_OF(node, lw_transfer, resume);
    /* only a change of state makes curl look at it; while connecting there is nothing to pause */
    if (t->nudged) curl_easy_pause(t->easy, CURLPAUSE_SEND);
    t->nudged = false;
    CURLcode rc = curl_easy_pause(t->easy, CURLPAUSE_CONT);
    if (rc != CURLE_OK)
      finish(t, rc); /* a write callback refused; curl does not end it by itself */
  }
  act(CURL_SOCKET_TIMEOUT, 0);
}

/* -- for the rooms above -- */

static void open_multi(void) {
  if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) lw_die("libcurl can't be initialised");
  multi.curl = curl_multi_init();
  if (!multi.curl) lw_die("out of memory (curl multi)");
  curl_multi_setopt(multi.curl, CURLMOPT_SOCKETFUNCTION, on_socket);
  curl_multi_setopt(multi.curl, CURLMOPT_TIMERFUNCTION, on_timeout);
  curl_multi_setopt(multi.curl, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
  curl_multi_setopt(multi.curl, CURLMOPT_MAXCONNECTS, (long)MOST_IDLE_CONNECTIONS);
  lw_wake_init(&multi.kick, run_kick);
  lw_timer_init(&multi.timer, on_timer);
  lw_list_init(&multi.resumes);
}

void lw_multi_prepare(lw_transfer *t, void (*done)(lw_transfer *t, CURLcode result)) {
  if (!multi.curl) open_multi(); /* curl's own set-up must come before its first easy handle */
  *t = (lw_transfer){.easy = curl_easy_init(), .done = done, .fd = -1};
  if (!t->easy) lw_die("out of memory (curl handle)");
  lw_list_init(&t->resume);
  lw_timer_init(&t->again, on_again);
  curl_easy_setopt(t->easy, CURLOPT_PRIVATE, t);
  curl_easy_setopt(t->easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
  curl_easy_setopt(t->easy, CURLOPT_OPENSOCKETDATA, t);
  curl_easy_setopt(t->easy, CURLOPT_CLOSESOCKETFUNCTION, close_socket);
}

void lw_multi_discard(lw_transfer *t) {
  curl_easy_cleanup(t->easy);
  lw_timer_fini(&t->again);
}

void lw_multi_add(lw_transfer *t) {
  t->added_ms = lw_now_ms();
  join(t);
}

void lw_multi_remove(lw_transfer *t) {
  if (lw_timer_active(&t->again)) {
    lw_timer_stop(&t->again);
    multi.running--;
    return;
  }
  bool silent = t->fd < 0; /* the answer was there at once, on a connection that looked idle */
  curl_socket_t fd = t->fd;
  if (silent) curl_easy_getinfo(t->easy, CURLINFO_ACTIVESOCKET, &fd);
  CURLMcode rc = curl_multi_remove_handle(multi.curl, t->easy);
  if (rc != CURLM_OK) lw_die("curl_multi_remove_handle: %s", curl_multi_strerror(rc));
  lw_list_remove(&t->resume); /* now: taking it out may have nudged it */
  multi.running--;
  if (silent) multi.silent--;
  watch *w = watch_of(fd);
  if (w && (w->user == t || (silent && w->idle))) { /* the connection was kept */
    w->idle = true;
    w->user = NULL;
    lw_timer_start(&w->aging, t->keep_ms);
  }
}

void lw_multi_resume(lw_transfer *t) {
  if (!lw_list_linked(&t->resume)) lw_list_append(&multi.resumes, &t->resume);
  lw_loop_wake_late(&multi.kick);
}

/* curl takes EAGAIN for "in progress", and a socket that can be written to for a connected one. */
bool lw_multi_is_connected(lw_transfer *t) {
  struct sockaddr_storage peer;
  socklen_t size = sizeof peer;
  if (t->unix_fd < 0 || getpeername(t->unix_fd, (struct sockaddr *)&peer, &size) == 0) return true;
  t->full = true;
  return false;
}

unsigned lw_multi_running(void) { return multi.running; }

void lw_multi_close(void) {
  if (!multi.curl) return;
  assert(multi.running == 0);
  curl_multi_cleanup(multi.curl);
  multi.curl = NULL;
  lw_wake_cancel(&multi.kick);
  lw_timer_fini(&multi.timer);
  free(multi.watches);
  multi.watches = NULL;
  multi.capacity = 0;
  curl_global_cleanup();
}
