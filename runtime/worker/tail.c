/* SPDX-License-Identifier: MIT
 * Reads a log file as it grows, through its rotations. The files that may still bring bytes are in
 * a list, oldest first; a turn reads from the oldest that has some, but while a line is unfinished
 * only from that line's file. Called by worker/startup; loop/watch says when to look. Owns the
 * watch, the descriptors, and one buffer for all tails. */
#include "worker/tail.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "floor/log.h"
#include "loop/watch.h"

enum {
  TURN_BYTES = 256 * 1024,
  PIECE = 64 * 1024,
  MARK = 256,       /* bytes before the place read to, by which a truncation is noticed */
  FILES = 16,       /* open at once */
  DONE = 256,       /* files remembered after they were closed */
  POLL_MS = 500,    /* where inotify is silent, and for renamed files */
  LINE_MS = 1000,   /* so long an unfinished line holds up other files */
  LINGER_MS = 5000, /* so long an old file is read after its last byte */
};
static const int64_t COPY_NS = 10000000000; /* a copy took its last bytes so long before a look */

typedef struct file_id {
  uint64_t device, inode;
  int64_t birth_ns; /* 0: the file system does not tell */
} file_id;

/* What the file system says of a file. */
typedef struct seen {
  file_id id;
  uint64_t size;
  int64_t changed_ns;
} seen;

typedef struct log_file {
  int fd;
  file_id id;
  uint64_t offset;
  char mark[MARK]; /* the bytes before offset */
  size_t mark_n;
  uint64_t quiet_since_ms; /* its last bytes, or when it became an old one */
  bool begun;              /* bytes of it were given */
  bool blank;              /* nothing but NULs so far */
  bool is_copy;            /* made before a truncation: nothing more comes */
} log_file;

struct lw_tail {
  char *path;
  char *dir, *name; /* of the newest file, without symlinks: where it is rotated to */
  lw_tail_events events;
  void *owner;
  lw_watch *watch;
  lw_wake wake;
  lw_timer again; /* one turn of the loop later; a wake would run in the same drain */
  lw_grave grave;
  log_file *files[FILES]; /* oldest first; the last is the one that was at the path */
  size_t count;
  log_file *open;  /* whose line is unfinished; NULL: none */
  int64_t seen_ns; /* wall clock: when the newest file was last at the path */
  struct {
    file_id id;
    uint64_t offset;
  } done[DONE];
  unsigned done_n; /* ever */
  size_t budget;   /* bytes left in this turn */
  bool fresh;      /* no bytes were given since on_file, or ever */
  bool closed;
  const char *path_error, *read_error;
  bool complained;
  lw_tail_figures figures;
};

static char buffer[MARK + PIECE];

/* -- files -- */

/* File systems stamp files with a time between the coarse and the exact one. */
static int64_t clock_ns(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static const char *reason(int error) {
  const char *text = strerrordesc_np(error);
  return text ? text : "unknown error";
}

/* NULL, or why it can't be read. */
static const char *examine(int dir, const char *path, int flags, seen *s) {
  struct statx x;
  unsigned mask = STATX_TYPE | STATX_INO | STATX_SIZE | STATX_MTIME | STATX_BTIME;
  if (statx(dir, path, flags, mask, &x) != 0) return reason(errno);
  if (S_ISDIR(x.stx_mode)) return reason(EISDIR);
  if (!S_ISREG(x.stx_mode)) return "it is a pipe, socket or device";
  *s = (seen){.id = {makedev(x.stx_dev_major, x.stx_dev_minor), x.stx_ino, 0},
              .size = x.stx_size,
              .changed_ns = x.stx_mtime.tv_sec * 1000000000 + x.stx_mtime.tv_nsec};
  if (x.stx_mask & STATX_BTIME)
    s->id.birth_ns = x.stx_btime.tv_sec * 1000000000 + x.stx_btime.tv_nsec;
  return NULL;
}

/* Among files that are open an inode is not used twice. (An overlay's file gets another birth when
 * it is first written to.) */
static bool same_open(const file_id *a, const file_id *b) {
  return a->device == b->device && a->inode == b->inode;
}

static int open_file(int dir, const char *path, int flags, seen *s, const char **why) {
  int fd = openat(dir, path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | flags);
  *why = fd < 0 ? reason(errno) : examine(fd, "", AT_EMPTY_PATH, s);
  if (fd >= 0 && *why) {
    close(fd);
    fd = -1;
  }
  return fd;
}

enum {
  TRUNCATED = -1,
  FAILED = -2
};

/* Reads up to `most` bytes that follow f->offset to buffer + f->mark_n; how many, or one of the
 * above. */
static ssize_t fetch(log_file *f, size_t most) {
  struct stat st;
  if (fstat(f->fd, &st) != 0) return FAILED;
  if ((uint64_t)st.st_size < f->offset) return TRUNCATED;
  if (f->blank) {
    off_t filled = lseek(f->fd, (off_t)f->offset, SEEK_DATA);
    if (filled < 0 && errno == ENXIO) return 0;
    if (filled > (off_t)f->offset) {
      f->offset = (uint64_t)filled;
      f->mark_n = 0;
    }
  }
  off_t at = (off_t)(f->offset - f->mark_n);
  ssize_t n = pread(f->fd, buffer, f->mark_n + most, at);
  if (n < 0) return FAILED;
  if ((size_t)n < f->mark_n || memcmp(buffer, f->mark, f->mark_n) != 0) return TRUNCATED;
  if ((size_t)n == f->mark_n) return 0;
  /* One read takes more than one look at the file: it may have been truncated between them. */
  char again[MARK];
  ssize_t same = LW_MIN(n, (ssize_t)MARK);
  if (pread(f->fd, again, (size_t)same, at) != same) return TRUNCATED;
  if (memcmp(again, buffer, (size_t)same) != 0) return TRUNCATED;
  return n - (ssize_t)f->mark_n;
}

/* -- the list -- */

static log_file *newest(const lw_tail *t) { return t->count ? t->files[t->count - 1] : NULL; }

static size_t place_of(const lw_tail *t, const file_id *id) {
  size_t i = 0;
  while (i < t->count && !same_open(&t->files[i]->id, id)) i++;
  return i;
}

/* How far a file that is closed was read; NULL: it never was. */
static const uint64_t *find_done(const lw_tail *t, const file_id *id) {
  for (size_t i = 0; i < LW_MIN(t->done_n, (unsigned)DONE); i++) {
    if (same_open(&t->done[i].id, id) && t->done[i].id.birth_ns == id->birth_ns)
      return &t->done[i].offset;
  }
  return NULL;
}

/* May close the tail: the callers look. */
static void end_line(lw_tail *t) {
  t->open = NULL;
  if (t->fresh) return;
  t->fresh = true;
  t->events.on_file(t->owner);
}

static void drop(lw_tail *t, log_file *f) {
  size_t i = place_of(t, &f->id);
  struct stat st;
  if (fstat(f->fd, &st) != 0 || st.st_nlink > 0) {
    t->done[t->done_n % DONE].id = f->id;
    t->done[t->done_n++ % DONE].offset = f->offset;
  }
  memmove(t->files + i, t->files + i + 1, sizeof *t->files * (--t->count - i));
  bool was_open = t->open == f;
  close(f->fd);
  free(f);
  if (was_open) end_line(t);
}

static bool make_room(lw_tail *t) {
  for (size_t i = 0; t->count == FILES && i + 1 < t->count; i++) {
    if (fetch(t->files[i], 1) == 0) drop(t, t->files[i]);
  }
  return t->count < FILES && !t->closed;
}

/* Takes the descriptor. NULL: no room until files have been read. */
static log_file *add(lw_tail *t, size_t at, int fd, const seen *s) {
  size_t from_end = t->count - at;
  if (!make_room(t)) {
    close(fd);
    return NULL;
  }
  log_file *f = lw_calloc(1, sizeof *f);
  *f = (log_file){.fd = fd, .id = s->id, .blank = true, .quiet_since_ms = lw_now_ms()};
  const uint64_t *done = s->id.birth_ns ? find_done(t, &s->id) : NULL;
  if (done && *done <= s->size) { /* a symlink is back where it was */
    f->offset = *done;
    f->begun = *done > 0;
    f->blank = !f->begun;
  } else {
    t->figures.files++;
  }
  at = t->count - from_end;
  memmove(t->files + at + 1, t->files + at, sizeof *t->files * from_end);
  t->files[at] = f;
  t->count++;
  return f;
}

/* -- what was rotated between two looks -- */

typedef struct rotated {
  char name[NAME_MAX + 1];
  file_id id;
  int64_t at_ns;
} rotated;

typedef enum rotated_by {
  BY_RENAME, /* at_ns: when it was born */
  BY_COPY    /* at_ns: when it was last written */
} rotated_by;

static bool is_rotated_name(const char *name, const char *base) {
  static const char *const compressed[] = {".gz",  ".bz2",  ".xz", ".zst",
                                           ".lz4", ".lzma", ".Z",  ".zip"};
  size_t n = strlen(base), size = strlen(name);
  if (size <= n + 1 || memcmp(name, base, n) != 0 || !strchr(".-_", name[n])) return false;
  for (size_t i = 0; i < LW_ARRAY_SIZE(compressed); i++) {
    size_t end = strlen(compressed[i]);
    if (size > end && strcmp(name + size - end, compressed[i]) == 0) return false;
  }
  return true;
}

/* Clocks of file systems tick every few ms: of two in one tick x.2 is older than x.1, and x.2026-01
 * is than x.2026-02. */
static bool is_older(const rotated *a, const rotated *b) {
  if (a->at_ns != b->at_ns) return a->at_ns < b->at_ns;
  const char *x = strrchr(a->name, '.'), *y = strrchr(b->name, '.');
  if (x && y && x - a->name == y - b->name) {
    char *x_end, *y_end;
    long m = strtol(x + 1, &x_end, 10), n = strtol(y + 1, &y_end, 10);
    if (!*x_end && !*y_end && m != n && m < 1000 && n < 1000) return m > n;
  }
  return strcmp(a->name, b->name) < 0;
}

/* The oldest of the unknown files beside the log since then, of at least so many bytes. */
static size_t find_rotated(lw_tail *t, DIR *dir, rotated_by how, uint64_t least, int64_t from_ns,
                           rotated found[FILES]) {
  int64_t to_ns = clock_ns(CLOCK_REALTIME);
  size_t n = 0;
  struct dirent *entry;
  while ((entry = readdir(dir))) {
    seen s;
    rotated r;
    if (!is_rotated_name(entry->d_name, t->name)) continue;
    if (examine(dirfd(dir), entry->d_name, AT_SYMLINK_NOFOLLOW, &s)) continue;
    r.id = s.id;
    r.at_ns = how == BY_COPY || !s.id.birth_ns ? s.changed_ns : s.id.birth_ns;
    if (s.size < least || r.at_ns < from_ns || r.at_ns > to_ns) continue;
    if (place_of(t, &s.id) < t->count || find_done(t, &s.id)) continue;
    memcpy(r.name, entry->d_name, strlen(entry->d_name) + 1);
    size_t at = n;
    while (at > 0 && is_older(&r, &found[at - 1])) at--;
    if (at == FILES) continue;
    n = LW_MIN(n + 1, (size_t)FILES);
    memmove(found + at + 1, found + at, sizeof *found * (n - 1 - at));
    found[at] = r;
  }
  return n;
}

/* The descriptor, -1: not readable, -2: it has another name by now, which the next look finds. */
static int open_found(DIR *dir, const rotated *r, seen *s) {
  const char *why;
  int fd = open_file(dirfd(dir), r->name, O_NOFOLLOW, s, &why);
  if (fd < 0) return why == reason(ENOENT) ? -2 : -1;
  if (same_open(&s->id, &r->id)) return fd;
  close(fd);
  return -2;
}

/* The truncated file's bytes were copied before, or they are lost. The copy takes its place. */
static void add_copy(lw_tail *t, log_file *f) {
  DIR *dir = f == newest(t) && f->mark_n > 0 ? opendir(t->dir) : NULL;
  if (!dir) return;
  rotated found[FILES];
  size_t n = find_rotated(t, dir, BY_COPY, f->offset, t->seen_ns - COPY_NS, found);
  for (size_t i = 0; i < n; i++) {
    seen s;
    char mark[MARK];
    int fd = open_found(dir, &found[i], &s);
    if (fd < 0) continue;
    ssize_t got = pread(fd, mark, f->mark_n, (off_t)(f->offset - f->mark_n));
    if (got != (ssize_t)f->mark_n || memcmp(mark, f->mark, f->mark_n) != 0) {
      close(fd);
      continue;
    }
    log_file *copy = add(t, t->count - 1, fd, &s);
    if (copy) {
      t->figures.files--;
      copy->offset = f->offset;
      copy->mark_n = f->mark_n;
      memcpy(copy->mark, f->mark, MARK);
      copy->begun = copy->is_copy = true;
      copy->blank = false;
      if (t->open == f) t->open = copy;
    }
    break;
  }
  closedir(dir);
}

/* May close the tail. */
static void begin_again(lw_tail *t, log_file *f) {
  t->figures.truncations++;
  add_copy(t, f);
  if (t->closed) return;
  f->offset = f->mark_n = 0;
  f->begun = false;
  f->blank = true;
  if (t->open == f) end_line(t);
}

/* -- bytes -- */

static void give(lw_tail *t, log_file *f, lw_span bytes) {
  while (f->blank && bytes.n > 0 && *bytes.p == 0) bytes.p++, bytes.n--;
  if (bytes.n == 0) return;
  f->blank = false;
  if (!f->begun || (t->open && t->open != f)) end_line(t);
  if (t->closed) return;
  f->begun = true;
  t->fresh = false;
  t->open = bytes.p[bytes.n - 1] == '\n' ? NULL : f;
  t->figures.bytes += bytes.n;
  t->events.on_bytes(t->owner, bytes);
}

static void complain(lw_tail *t) {
  const char *why = t->path_error ? t->path_error : t->read_error;
  if (why == t->figures.error) return;
  t->figures.error = why;
  bool is_absent = why == reason(ENOENT);
  if (is_absent && t->figures.files > 0) return; /* as in every rotation */
  if (is_absent) {
    lw_info("the model's log %s is not there yet", t->path);
  } else if (why) {
    lw_warn("the model's log %s can't be read: %s; looking again every %d ms", t->path, why,
            POLL_MS);
  } else if (t->complained) {
    lw_info("the model's log %s can be read again", t->path);
  }
  t->complained = why && !is_absent;
}

/* Nothing more for now; whether the file was let go. */
static bool rest(lw_tail *t, log_file *f) {
  if (f == newest(t)) return false;
  bool moved_on = newest(t)->begun && lw_now_ms() - f->quiet_since_ms > LINGER_MS;
  if (!f->is_copy && !moved_on) return false;
  drop(t, f);
  return true;
}

/* Whether anything was done; then begin with the oldest again. */
static bool read_piece(lw_tail *t, log_file *f) {
  ssize_t n = fetch(f, LW_MIN((size_t)PIECE, t->budget));
  if (n == TRUNCATED) {
    begin_again(t, f);
    return true;
  }
  if (n == FAILED) {
    t->read_error = reason(errno);
    drop(t, f);
    return true;
  }
  if (f == newest(t)) t->read_error = NULL;
  if (n == 0) return rest(t, f);
  lw_span bytes = {buffer + f->mark_n, (size_t)n};
  size_t held = f->mark_n + bytes.n;
  f->mark_n = LW_MIN(held, (size_t)MARK);
  memcpy(f->mark, buffer + held - f->mark_n, f->mark_n);
  f->offset += bytes.n;
  f->quiet_since_ms = lw_now_ms();
  t->budget -= bytes.n;
  give(t, f, bytes);
  return true;
}

static bool read_oldest(lw_tail *t) {
  bool waits = t->open && lw_now_ms() - t->open->quiet_since_ms < LINE_MS;
  for (size_t i = 0; i < t->count; i++) {
    log_file *f = t->files[i];
    if (waits && f != t->open) continue;
    if (read_piece(t, f)) return true;
  }
  return false;
}

/* -- what is at the path -- */

static void note_place(lw_tail *t) {
  char real[PATH_MAX];
  const char *path = realpath(t->path, real) ? real : t->path;
  const char *slash = strrchr(path, '/');
  free(t->dir);
  free(t->name);
  t->name = lw_strdup(slash ? slash + 1 : path);
  t->dir = slash ? lw_strdup_n(path, (size_t)(slash + 1 - path)) : lw_strdup(".");
}

/* On an overlay a descriptor may stay with the lower file after the first write made an upper one.
 */
static void refresh(lw_tail *t, log_file *f, uint64_t size) {
  struct stat st;
  if (fstat(f->fd, &st) != 0 || (uint64_t)st.st_size >= size) return;
  seen s;
  const char *why;
  int fd = open_file(AT_FDCWD, t->path, 0, &s, &why);
  if (fd < 0) return;
  if (same_open(&s.id, &f->id)) {
    close(f->fd);
    f->fd = fd;
    f->id = s.id;
  } else {
    close(fd);
  }
}

/* The files that were at the path since it was the newest one's; false: not all are in the list.
 * One that is renamed meanwhile may be missed: it is born after `look_ns`, and found by the next
 * look. */
static bool add_between(lw_tail *t, int64_t look_ns) {
  if (fetch(newest(t), 0) == TRUNCATED) begin_again(t, newest(t));
  DIR *dir = t->closed ? NULL : opendir(t->dir);
  if (!dir) return !t->closed;
  rotated found[FILES];
  size_t n = find_rotated(t, dir, BY_RENAME, 0, t->seen_ns, found);
  bool all = true;
  for (size_t i = 0; i < n && all; i++) {
    seen s;
    int fd = open_found(dir, &found[i], &s);
    all = fd == -1 || (fd >= 0 && add(t, t->count, fd, &s));
    int64_t complete_ns = LW_MIN(found[i].at_ns, look_ns);
    if (all) t->seen_ns = LW_MAX(t->seen_ns, complete_ns);
  }
  closedir(dir);
  return all && n < FILES;
}

static void look(lw_tail *t) {
  int64_t from_ns = clock_ns(CLOCK_REALTIME_COARSE);
  seen s;
  t->path_error = examine(AT_FDCWD, t->path, 0, &s);
  if (t->path_error) return;
  if (t->count > 0 && same_open(&s.id, &newest(t)->id)) {
    refresh(t, newest(t), s.size);
    t->seen_ns = from_ns;
    return;
  }
  int fd = open_file(AT_FDCWD, t->path, 0, &s, &t->path_error);
  if (fd < 0) return;
  if (t->count > 0) newest(t)->quiet_since_ms = lw_now_ms();
  size_t place = place_of(t, &s.id);
  if (place < t->count) { /* an older one is back */
    log_file *f = t->files[place];
    memmove(t->files + place, t->files + place + 1, sizeof *t->files * (t->count - 1 - place));
    t->files[t->count - 1] = f;
    close(fd);
  } else {
    bool all = t->count == 0 || add_between(t, from_ns);
    /* It is there by now when it was rotated just after it was opened. */
    if (!all || place_of(t, &s.id) < t->count) {
      close(fd);
      return;
    }
    if (!add(t, t->count, fd, &s)) return;
  }
  t->seen_ns = from_ns;
  note_place(t);
}

static void run(lw_wake *w) {
  lw_tail *t = LW_CONTAINER_OF(w, lw_tail, wake);
  if (lw_timer_active(&t->again)) return;
  t->budget = TURN_BYTES;
  look(t);
  bool more = true;
  while (!t->closed && t->budget > 0 && more) more = read_oldest(t);
  if (t->closed) return;
  complain(t);
  if (more) lw_timer_start(&t->again, 0);
}

static void on_again(lw_timer *timer) {
  lw_loop_wake(&LW_CONTAINER_OF(timer, lw_tail, again)->wake);
}

lw_tail *lw_tail_open(const char *path, const lw_tail_events *events, void *owner) {
  lw_tail *t = lw_calloc(1, sizeof *t);
  t->path = lw_strdup(path);
  t->events = *events;
  t->owner = owner;
  t->fresh = true;
  lw_wake_init(&t->wake, run);
  lw_timer_init(&t->again, on_again);
  t->watch = lw_watch_open(path, POLL_MS, &t->wake);
  return t;
}

static void bury(lw_grave *g) {
  lw_tail *t = LW_CONTAINER_OF(g, lw_tail, grave);
  for (size_t i = 0; i < t->count; i++) {
    close(t->files[i]->fd);
    free(t->files[i]);
  }
  free(t->path);
  free(t->dir);
  free(t->name);
  free(t);
}

void lw_tail_close(lw_tail *t) {
  if (!t) return;
  t->closed = true;
  lw_watch_close(t->watch);
  lw_timer_fini(&t->again);
  lw_wake_cancel(&t->wake);
  lw_loop_bury(&t->grave, bury);
}

lw_tail_figures lw_tail_look(const lw_tail *t) { return t->figures; }
