/* SPDX-License-Identifier: MIT
 * The service manager's side channel. Called by program/serve. A few datagrams: libsystemd would be
 * a library of a megabyte for them, and its authors document the protocol for others to speak. */
#include "program/notify.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "floor/log.h"
#include "loop/loop.h"
#include "wire/json.h"

static struct {
  bool open;
  int fd;
  lw_timer watchdog;
  uint64_t watchdog_ms; /* half the period; 0: none is asked for */
  bool ready;
} notify;

static void tell(const char *text) {
  if (!notify.open) return;
  if (send(notify.fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
    lw_debug("systemd did not take \"%s\"", text);
  }
}

static void on_watchdog(lw_timer *t) {
  tell("WATCHDOG=1");
  lw_timer_start(t, notify.watchdog_ms);
}

/* WATCHDOG_PID, when set, says which process is meant. */
static uint64_t watchdog_ms(void) {
  const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
  if (!usec || (pid && atoll(pid) != (long long)getpid())) return 0;
  long long period = atoll(usec);
  return period > 0 ? LW_MAX((uint64_t)period / 2000, 1) : 0;
}

/* A leading @ stands for the NUL of an abstract address. */
static int connect_to(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  size_t n = strlen(path);
  if (n < 2 || n >= sizeof address.sun_path || (path[0] != '/' && path[0] != '@')) return -1;
  memcpy(address.sun_path, path, n);
  if (path[0] == '@') address.sun_path[0] = 0;
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
  if (fd >= 0 && connect(fd, (struct sockaddr *)&address, size) == 0) return fd;
  if (fd >= 0) close(fd);
  return -1;
}

void lw_notify_open(void) {
  const char *path = getenv("NOTIFY_SOCKET");
  if (!path || !*path) return;
  int fd = connect_to(path);
  if (fd < 0) {
    lw_warn("NOTIFY_SOCKET %s can't be reached: systemd is told nothing", path);
    return;
  }
  notify.open = true;
  notify.fd = fd;
  notify.watchdog_ms = watchdog_ms();
  lw_timer_init(&notify.watchdog, on_watchdog);
  if (notify.watchdog_ms) lw_timer_start(&notify.watchdog, notify.watchdog_ms);
}

void lw_notify_ready(void) {
  if (notify.ready) return;
  notify.ready = true;
  tell("READY=1");
}

void lw_notify_status(const char *text) {
  char line[600];
  snprintf(line, sizeof line, "STATUS=%s", text);
  line[lw_json_utf8_prefix(lw_span_of(line))] = 0; /* systemd takes nothing else */
  for (char *p = line; *p; p++) {
    if ((unsigned char)*p < ' ') *p = ' ';
  }
  tell(line);
}

void lw_notify_stopping(void) { tell("STOPPING=1"); }

void lw_notify_close(void) {
  if (!notify.open) return;
  lw_timer_fini(&notify.watchdog);
  close(notify.fd);
  notify.open = false;
}
