/* SPDX-License-Identifier: MIT
 * Where max_perf comes from, and the file in which it is kept. Measuring itself is done in Lua.
 * Called by worker/startup; starts the script's task through its router. Owns the run under way. */
#include "worker/benchmark.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "floor/log.h"

enum {
  CACHE_MAX = 1024, /* bytes that are looked at */
  TEXT_SIZE = 256   /* of what is written */
};
#define PERF_MAX 1e15 /* workload/s beyond all reason */

static struct {
  lw_router *router; /* borrowed; NULL: none under way */
  struct lw_task *task;
  const char *cache_file;
  lw_benchmark_done *done;
} run;

/* -- what was measured -- */

uint64_t lw_benchmark_digest(uint64_t so_far, lw_span text) {
  uint64_t lengths = text.n;
  for (int i = 0; i < 8; i++, lengths >>= 8) {
    so_far = (so_far ^ (lengths & 0xff)) * 0x100000001b3u;
  }
  for (size_t i = 0; i < text.n; i++) {
    so_far = (so_far ^ (unsigned char)text.p[i]) * 0x100000001b3u;
  }
  return so_far;
}

static uint64_t digest_of(const char *text) {
  return lw_benchmark_digest(LW_BENCHMARK_DIGEST_START, text ? lw_span_of(text) : LW_SPAN(""));
}

typedef struct cache_key {
  uint64_t script, model, route;
} cache_key;

static cache_key key_of(const lw_router *router) {
  return (cache_key){router->digest, digest_of(router->model_server_url),
                     digest_of(router->benchmark_route)};
}

/* NULL when `line` is the key of what we would measure, else why it is not. */
static const char *compare_key(const char *line, const cache_key *ours) {
  unsigned long long script, model, route;
  int end = 0;
  int n = sscanf(line, "luaworker script=%16llx model=%16llx route=%16llx%n", &script, &model,
                 &route, &end);
  if (n != 3 || line[end]) return "it does not say what was measured";
  if (script != ours->script) return "it was measured with another version of the script";
  if (model != ours->model) return "it was measured with another model server";
  if (route != ours->route) return "it was measured on another route";
  return NULL;
}

/* -- the cache file -- */

static bool is_regular(int fd) {
  struct stat s;
  return fstat(fd, &s) == 0 && S_ISREG(s.st_mode);
}

/* The file's beginning as text; NULL with *why. NULL and no *why: there is no such file. */
static char *read_cache(const char *path, const char **why) {
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    *why = errno == ENOENT ? NULL : strerror(errno);
    return NULL;
  }
  char *text = lw_calloc(1, CACHE_MAX + 1);
  ssize_t n = -1;
  if (!is_regular(fd)) {
    *why = "it is not a regular file";
  } else if ((n = read(fd, text, CACHE_MAX)) < 0) {
    *why = strerror(errno);
  } else if (memchr(text, 0, (size_t)n)) {
    *why = "it is not text";
    n = -1;
  }
  close(fd);
  if (n >= 0) return text;
  free(text);
  return NULL;
}

/* A line without its end; moves *rest behind it. */
static char *take_line(char **rest) {
  char *line = *rest, *end = strchr(line, '\n');
  *rest = end ? end + 1 : line + strlen(line);
  if (!end) end = *rest;
  while (end > line && (end[-1] == '\n' || end[-1] == '\r' || end[-1] == ' ')) end--;
  *end = 0;
  return line;
}

static const char *check_cache(char *text, const cache_key *ours, double *max_perf) {
  char *rest = text, *first = take_line(&rest), *second = take_line(&rest), *end = NULL;
  *max_perf = strtod(first, &end);
  if (end == first || *end) return "it does not begin with a number";
  if (!(*max_perf > 0 && *max_perf < PERF_MAX)) return "it holds no sane number";
  return compare_key(second, ours);
}

static bool find_cached(const lw_router *router, double *max_perf) {
  const char *path = run.cache_file, *why = NULL;
  if (!path) return false;
  cache_key ours = key_of(router);
  char *text = read_cache(path, &why);
  if (text) why = check_cache(text, &ours, max_perf);
  bool good = text && !why;
  if (why) lw_info("benchmark: %s is not used: %s", path, why);
  free(text);
  return good;
}

/* The old file stays until the new one is whole. No fsync, which may hold up the loop: what a power
 * cut leaves is not used, and measured again. */
static bool replace_file(const char *path, const char *fresh, const char *text, size_t n) {
  struct stat s;
  if (stat(path, &s) == 0 && !S_ISREG(s.st_mode)) {
    errno = S_ISDIR(s.st_mode) ? EISDIR : EINVAL;
    return false;
  }
  int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0644);
  if (fd < 0) return false;
  ssize_t written = write(fd, text, n);
  int error = written < 0 ? errno : ENOSPC;
  bool ok = written == (ssize_t)n;
  if (close(fd) != 0 && ok) {
    ok = false;
    error = errno;
  }
  if (ok && rename(fresh, path) != 0) {
    ok = false;
    error = errno;
  }
  if (!ok) unlink(fresh);
  errno = error;
  return ok;
}

static void keep(const lw_router *router, double max_perf) {
  if (!run.cache_file) return;
  cache_key key = key_of(router);
  char text[TEXT_SIZE];
  int n = snprintf(
      text, sizeof text, "%.17g\nluaworker script=%016llx model=%016llx route=%016llx\n", max_perf,
      (unsigned long long)key.script, (unsigned long long)key.model, (unsigned long long)key.route);
  char *fresh = lw_printf_dup("%s.new", run.cache_file);
  if (!replace_file(run.cache_file, fresh, text, (size_t)n)) {
    lw_warn("benchmark: the result can't be kept in %s: %s; the next start measures again",
            run.cache_file, strerror(errno));
  }
  free(fresh);
}

/* -- a run -- */

static void finish(double max_perf, const char *how, const char *error) {
  lw_benchmark_done *done = run.done;
  memset(&run, 0, sizeof run);
  done(max_perf, how, error);
}

void lw_benchmark_begin(lw_router *router, const char *cache_file, lw_benchmark_done *done) {
  assert(!run.router);
  double max_perf = 0;
  run.router = router;
  run.done = done;
  run.cache_file = cache_file && *cache_file ? cache_file : NULL;
  if (router->max_perf > 0) {
    finish(router->max_perf, "declared", NULL);
  } else if (router->benchmark_job == 0) {
    finish(0, "none", NULL);
  } else if (find_cached(router, &max_perf)) {
    lw_info("benchmark: %.6g workload/s, measured before, from %s", max_perf, run.cache_file);
    finish(max_perf, "cached", NULL);
  } else {
    lw_info("benchmark: measuring POST %s", router->benchmark_route ? router->benchmark_route : "");
    run.task = router->ops->start(router, NULL, (int)router->benchmark_job);
  }
}

void lw_benchmark_measured(lw_router *router, double max_perf, const char *error) {
  if (!run.router || run.router != router) return;
  if (!error && !(max_perf > 0 && max_perf < PERF_MAX)) error = "the benchmark measured nothing";
  if (!error) keep(router, max_perf);
  finish(error ? 0 : max_perf, "measured", error);
}

void lw_benchmark_cancel(void) {
  if (!run.router) return;
  const lw_task_ops *ops = run.router->ops;
  struct lw_task *task = run.task;
  memset(&run, 0, sizeof run);
  if (task) ops->cancel(task);
}

bool lw_benchmark_running(void) { return run.router != NULL; }
