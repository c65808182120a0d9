/* SPDX-License-Identifier: MIT
 * The tail of a log through thousands of rotations: each of the numbered lines comes once and
 * whole. First a writer between the turns of the loop, so that several rotations fall between two
 * looks and the order is known; then one in a thread of its own, who meets the tail at any of its
 * steps. */
#include "worker/tail.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>

#include "floor/log.h"
#include "logs.h"

/* -- the reader -- */

enum {
  LINES_MAX = 200000,
  ROTATIONS = 10000,
  THREAD_ROTATIONS = 3000
};

static struct {
  lw_tail *tail;
  char line[64];
  size_t line_n;
  unsigned char seen[LINES_MAX];
  atomic_int received;
  int last;
  bool in_order;
} reader;

static void take_line(void) {
  int number, end = 0;
  reader.line[reader.line_n] = 0;
  if (sscanf(reader.line, "line %d of the log%n", &number, &end) != 1 || reader.line[end])
    fail_msg("not a line: \"%s\" after line %d", reader.line, reader.last);
  assert_in_range(number, 1, LINES_MAX - 1);
  if (reader.seen[number]++) fail_msg("line %d came twice", number);
  if (reader.in_order && number != reader.last + 1)
    fail_msg("line %d came after line %d", number, reader.last);
  reader.last = number;
  reader.line_n = 0;
  atomic_fetch_add(&reader.received, 1);
}

static void on_bytes(void *owner, lw_span bytes) {
  (void)owner;
  for (size_t i = 0; i < bytes.n; i++) {
    if (bytes.p[i] == '\n') {
      take_line();
    } else {
      if (reader.line_n + 1 == sizeof reader.line) fail_msg("too long: \"%s\"", reader.line);
      reader.line[reader.line_n++] = bytes.p[i];
    }
  }
}
static void on_file(void *owner) {
  (void)owner;
  if (reader.line_n > 0) fail_msg("cut: \"%.*s\"", (int)reader.line_n, reader.line);
}

static int set_up(void **state) {
  (void)state;
  lw_log_setup(1, LW_LOG_OFF, LW_LOG_TEXT);
  logs_make_folder();
  lw_loop_init();
  memset(&reader, 0, sizeof reader);
  static const lw_tail_events events = {on_bytes, on_file};
  reader.tail = lw_tail_open(at("log"), &events, NULL);
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  lw_tail_close(reader.tail);
  lw_loop_fini();
  assert_int_equal(logs_open_files(), 0);
  return logs_remove_folder();
}

/* -- the writer -- */

static struct {
  int fd;
  int written; /* lines */
  char half[64];
  unsigned rotations, names;
} writer;

static uint64_t random_state;
static unsigned next_random(unsigned below) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return (unsigned)(random_state % below);
}

static void begin_file(void) {
  writer.fd = open(at("log"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (writer.fd < 0) abort();
}

static void write_text(int fd, const char *text, size_t n) {
  if (write(fd, text, n) != (ssize_t)n) abort();
}

static void write_line(int fd) {
  char line[64];
  int n = snprintf(line, sizeof line, "line %d of the log\n", ++writer.written);
  if (next_random(3) == 0) { /* in two writes */
    int half = 1 + (int)next_random((unsigned)n - 1);
    write_text(fd, line, (size_t)half);
    write_text(fd, line + half, (size_t)(n - half));
  } else {
    write_text(fd, line, (size_t)n);
  }
}

static void write_lines(unsigned most) {
  for (unsigned n = next_random(most + 1); n > 0; n--) write_line(writer.fd);
}

/* -- between the turns -- */

enum {
  KEPT = 16,   /* log.1 to log.15 */
  SELDOM = 100 /* what the tail sees only with the next poll */
};

static void shift_names(void) {
  char from[16], to[16];
  for (int i = KEPT - 2; i > 0; i--) {
    snprintf(from, sizeof from, "log.%d", i);
    snprintf(to, sizeof to, "log.%d", i + 1);
    rename(at(from), at(to));
  }
}

static void rotate_by_rename(void) {
  shift_names();
  char line[64];
  int n = snprintf(line, sizeof line, "line %d of the log\n", writer.written + 1);
  int half = (int)next_random((unsigned)n); /* of a line is in the old file before, if any */
  write_text(writer.fd, line, (size_t)half);
  move("log", "log.1");
  if (half > 0) {
    if (next_random(SELDOM) == 0) turn_for(0);
    write_text(writer.fd, line + half, (size_t)(n - half));
    writer.written++;
  }
  int old = writer.fd;
  writer.rotations++;
  if (next_random(2)) write_line(old); /* it has not heard of the rotation yet */
  begin_file();
  if (next_random(SELDOM) == 0) {
    turn_for(0);
    write_line(old);
  }
  close(old);
}

static void catch_up(void) {
  TURN_UNTIL(reader.received == writer.written &&
             lw_tail_look(reader.tail).files == writer.rotations + 1);
}

static void rotate_by_copy(void) {
  write_line(writer.fd);
  catch_up(); /* it must have read something to see that it was truncated */
  if (next_random(2)) write_lines(4);
  shift_names();
  copy("log", "log.1");
  assert_int_equal(ftruncate(writer.fd, 0), 0);
}

static void ten_thousand_rotations(void **state) {
  (void)state;
  uint64_t begun_ms = lw_now_ms();
  random_state = 88172645463325252u;
  memset(&writer, 0, sizeof writer);
  reader.in_order = true;
  begin_file();
  TURN_UNTIL(lw_tail_look(reader.tail).files == 1);
  unsigned copies = 0, unseen = 0;
  for (unsigned i = 0; i < ROTATIONS; i++) {
    write_lines(5);
    if (next_random(5) == 0) {
      rotate_by_copy();
      copies++;
    } else {
      rotate_by_rename();
    }
    if (++unseen == 8 || next_random(4) == 0) {
      catch_up();
      unseen = 0;
    } else if (next_random(4) == 0) {
      turn_for(0);
    }
  }
  write_lines(5);
  catch_up();
  close(writer.fd);
  turn_for(20);
  assert_int_equal(reader.received, writer.written);
  lw_tail_figures f = lw_tail_look(reader.tail);
  assert_int_equal(f.files, ROTATIONS - copies + 1);
  assert_int_equal(f.truncations, copies);
  print_message("%d rotations, %u of them by copy; %d lines; %.1f s\n", ROTATIONS, copies,
                writer.written, (double)(lw_now_ms() - begun_ms) / 1000);
}

/* -- in a thread -- */

enum {
  LAG_MAX = 60, /* rotations ahead of the reader's lines */
  NAMES_KEPT = 200
};

static atomic_bool written_all;

static void rotate_in_thread(void) {
  char name[24];
  bool caught_up = atomic_load(&reader.received) == writer.written;
  snprintf(name, sizeof name, "log.%06u", writer.names++);
  if (caught_up && next_random(3) == 0) {
    copy("log", name);
    if (ftruncate(writer.fd, 0) != 0) abort();
  } else {
    int old = writer.fd;
    if (rename(at("log"), at(name)) != 0) abort();
    if (next_random(3) == 0) write_line(old);
    begin_file();
    if (next_random(3) == 0) write_line(writer.fd);
    if (next_random(3) == 0) write_line(old);
    close(old);
  }
  if (writer.names > NAMES_KEPT) {
    snprintf(name, sizeof name, "log.%06u", writer.names - NAMES_KEPT - 1);
    unlink(at(name));
  }
}

static void *write_in_thread(void *unused) {
  int lines_at[LAG_MAX] = {0};
  for (unsigned i = 0; i < THREAD_ROTATIONS; i++) {
    while (atomic_load(&reader.received) < lines_at[i % LAG_MAX]) usleep(200);
    write_lines(5);
    if (next_random(4)) usleep(next_random(500));
    rotate_in_thread();
    lines_at[i % LAG_MAX] = writer.written;
  }
  write_line(writer.fd);
  close(writer.fd);
  atomic_store(&written_all, true);
  return unused;
}

/* The tail has seen the first file: what was rotated before is not its business. */
static void rotations_at_any_moment(void **state) {
  (void)state;
  random_state = lw_now_ns() | 1;
  uint64_t seed = random_state, begun_ms = lw_now_ms();
  memset(&writer, 0, sizeof writer);
  atomic_store(&written_all, false);
  begin_file();
  TURN_UNTIL(lw_tail_look(reader.tail).files == 1);
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, write_in_thread, NULL), 0);
  int received = 0;
  uint64_t moved_ms = lw_now_ms();
  while (!atomic_load(&written_all) || reader.received < writer.written) {
    turn_for(1);
    if (reader.received != received) moved_ms = lw_now_ms();
    received = reader.received;
    if (lw_now_ms() - moved_ms < PATIENCE_MS) continue;
    for (int i = 1; i < LINES_MAX; i++) {
      if (!reader.seen[i]) fail_msg("seed %llu: line %d is lost", (unsigned long long)seed, i);
    }
  }
  assert_int_equal(pthread_join(thread, NULL), 0);
  turn_for(20);
  assert_int_equal(reader.received, writer.written);
  print_message("%d rotations, %u truncations, %d lines; %.1f s\n", THREAD_ROTATIONS,
                lw_tail_look(reader.tail).truncations, writer.written,
                (double)(lw_now_ms() - begun_ms) / 1000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(ten_thousand_rotations),
      TEST(rotations_at_any_moment),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
