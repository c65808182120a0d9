/* SPDX-License-Identifier: MIT
 * The watch on a file: which changes wake, by inotify alone (the poll an hour away) and by the poll
 * alone (no descriptor left for inotify). */
#include "loop/watch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "turn.h"

enum {
  NEVER_MS = 3600000,
  OFTEN_MS = 20
};

static char folder[200];
static unsigned woken;
static lw_wake wake;

static void run_wake(lw_wake *w) {
  assert_ptr_equal(w, &wake);
  woken++;
}

static const char *at(const char *name) {
  static char paths[4][400];
  static unsigned next;
  char *path = paths[next++ % 4];
  snprintf(path, sizeof paths[0], "%s/%s", folder, name);
  return path;
}

static void write_to(const char *name, const char *text) {
  FILE *f = fopen(at(name), "a");
  assert_non_null(f);
  fputs(text, f);
  fclose(f);
}

static int set_up(void **state) {
  (void)state;
  snprintf(folder, sizeof folder, "%s/lw_watch_XXXXXX",
           getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
  if (!mkdtemp(folder)) return -1;
  lw_loop_init();
  lw_wake_init(&wake, run_wake);
  woken = 0;
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  lw_wake_cancel(&wake);
  lw_loop_fini(); /* asserts that no handle is left */
  char command[300];
  snprintf(command, sizeof command, "rm -rf '%s'", folder);
  return system(command);
}

/* What /proc says that this process's inotify watches. */
static unsigned watches_on(const char *path) {
  struct stat st;
  if (path && stat(path, &st) != 0) return 0;
  unsigned n = 0;
  DIR *list = opendir("/proc/self/fdinfo");
  struct dirent *entry;
  while ((entry = readdir(list))) {
    char file[300], line[300], *inode;
    snprintf(file, sizeof file, "/proc/self/fdinfo/%s", entry->d_name);
    FILE *f = fopen(file, "r");
    while (f && fgets(line, sizeof line, f)) {
      if (strncmp(line, "inotify wd:", 11) != 0 || !(inode = strstr(line, " ino:"))) continue;
      n += !path || strtoull(inode + 5, NULL, 16) == st.st_ino;
    }
    if (f) fclose(f);
  }
  closedir(list);
  return n;
}

static lw_watch *watch(const char *path, uint64_t poll_ms) {
  lw_watch *w = lw_watch_open(path, poll_ms, &wake);
  assert_int_equal(woken, 0);
  TURN_UNTIL(woken > 0); /* the watches stand */
  return w;
}

#define WAKES(action)                   \
  do {                                  \
    turn_for(2); /* what came before */ \
    woken = 0;                          \
    action;                             \
    TURN_UNTIL(woken > 0);              \
  } while (0)

static void changes_of_the_file_wake(void **state) {
  (void)state;
  lw_watch *w = watch(at("log"), NEVER_MS);
  WAKES(write_to("log", "")); /* it appears */
  WAKES(write_to("log", "one\n"));
  WAKES(write_to("log", "two\n"));
  WAKES(assert_int_equal(truncate(at("log"), 0), 0));
  WAKES(assert_int_equal(rename(at("log"), at("log.1")), 0));
  WAKES(write_to("log", "new\n"));
  write_to("other", "");
  WAKES(assert_int_equal(rename(at("other"), at("log")), 0));
  WAKES(assert_int_equal(unlink(at("log")), 0));
  assert_int_equal(watches_on(folder), 1);
  lw_watch_close(w);
}

static void other_files_do_not_wake(void **state) {
  (void)state;
  lw_watch *w = watch(at("log"), NEVER_MS);
  turn_for(2);
  woken = 0;
  write_to("log2", "x");
  write_to("lo", "x");
  write_to("log.1", "x");
  turn_for(50);
  assert_int_equal(woken, 0);
  WAKES(write_to("log", "x")); /* it does listen */
  lw_watch_close(w);
}

static void a_file_in_the_present_directory(void **state) {
  (void)state;
  char before[400];
  assert_non_null(getcwd(before, sizeof before));
  assert_int_equal(chdir(folder), 0);
  lw_watch *w = watch("log", NEVER_MS);
  WAKES(write_to("log", "x"));
  lw_watch_close(w);
  assert_int_equal(chdir(before), 0);
}

static void what_symlinks_lead_to(void **state) {
  (void)state;
  mkdir(at("a"), 0700);
  mkdir(at("b"), 0700);
  mkdir(at("b/c"), 0700);
  assert_int_equal(symlink("a/link", at("log")), 0);
  assert_int_equal(symlink(at("b/file"), at("a/link")), 0);
  lw_watch *w = watch(at("log"), NEVER_MS);
  assert_int_equal(watches_on(NULL), 3);
  WAKES(write_to("b/file", ""));
  WAKES(write_to("b/file", "x"));
  WAKES({
    unlink(at("a/link"));
    assert_int_equal(symlink("../b/c/file", at("a/link")), 0);
  });
  TURN_UNTIL(watches_on(at("b/c")) == 1 && watches_on(at("b")) == 0);
  WAKES(write_to("b/c/file", "x"));
  WAKES({
    unlink(at("log"));
    write_to("log", "a plain file");
  });
  TURN_UNTIL(watches_on(NULL) == 1);
  WAKES(write_to("log", "x"));
  lw_watch_close(w);
}

static void symlinks_in_a_circle(void **state) {
  (void)state;
  assert_int_equal(symlink("b", at("log")), 0);
  assert_int_equal(symlink("log", at("b")), 0);
  lw_watch *w = watch(at("log"), NEVER_MS);
  WAKES(assert_int_equal(unlink(at("log")), 0));
  WAKES(write_to("log", "x"));
  lw_watch_close(w);
}

static void a_directory_that_appears(void **state) {
  (void)state;
  lw_watch *w = watch(at("dir/sub/log"), OFTEN_MS);
  assert_int_equal(watches_on(NULL), 0);
  WAKES((void)0); /* by the poll */
  mkdir(at("dir"), 0700);
  mkdir(at("dir/sub"), 0700);
  TURN_UNTIL(watches_on(at("dir/sub")) == 1);
  lw_watch_close(w);
}

static void a_directory_that_is_replaced(void **state) {
  (void)state;
  mkdir(at("dir"), 0700);
  lw_watch *w = watch(at("dir/log"), OFTEN_MS);
  assert_int_equal(watches_on(at("dir")), 1);
  assert_int_equal(rename(at("dir"), at("old")), 0);
  mkdir(at("dir"), 0700);
  TURN_UNTIL(watches_on(at("dir")) == 1);
  assert_int_equal(watches_on(at("old")), 0);
  for (int i = 0; i < 5; i++) { /* perhaps with the same inode */
    assert_int_equal(rmdir(at("dir")), 0);
    mkdir(at("dir"), 0700);
    TURN_UNTIL(watches_on(at("dir")) == 1);
  }
  lw_watch_close(w);
}

/* A symlink among the directories is replaced: nothing tells but the poll. */
static void a_directory_behind_a_symlink(void **state) {
  (void)state;
  mkdir(at("a"), 0700);
  mkdir(at("b"), 0700);
  assert_int_equal(symlink("a", at("dir")), 0);
  lw_watch *w = watch(at("dir/log"), OFTEN_MS);
  assert_int_equal(watches_on(at("a")), 1);
  unlink(at("dir"));
  assert_int_equal(symlink("b", at("dir")), 0);
  TURN_UNTIL(watches_on(at("b")) == 1 && watches_on(at("a")) == 0);
  lw_watch_close(w);
}

static void without_inotify_the_poll_wakes(void **state) {
  (void)state;
  struct rlimit normal, none;
  assert_int_equal(getrlimit(RLIMIT_NOFILE, &normal), 0);
  none = normal;
  turn_for(1);
  int lowest = dup(0);
  close(lowest);
  none.rlim_cur = (rlim_t)lowest;
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
  lw_watch *w = lw_watch_open(at("log"), OFTEN_MS, &wake);
  TURN_UNTIL(woken > 3);
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &normal), 0);
  TURN_UNTIL(watches_on(folder) == 1); /* and goes back to it */
  lw_watch_close(w);
}

static void names_that_lead_nowhere(void **state) {
  (void)state;
  char *long_name = lw_alloc(6000);
  memset(long_name, 'x', 5999);
  long_name[5999] = 0;
  const char *names[] = {"", "/", "/log-of-nobody", "//x", long_name, "/proc/self/mem/log"};
  for (size_t i = 0; i < LW_ARRAY_SIZE(names); i++) {
    woken = 0;
    lw_watch *w = lw_watch_open(names[i], OFTEN_MS, &wake);
    TURN_UNTIL(woken > 2);
    lw_watch_close(w);
    lw_wake_cancel(&wake);
  }
  free(long_name);
}

static void several_watches_and_early_closes(void **state) {
  (void)state;
  lw_watch_close(NULL);
  lw_watch_close(lw_watch_open(at("log"), NEVER_MS, &wake)); /* before its first turn */
  lw_watch *a = lw_watch_open(at("log"), NEVER_MS, &wake);
  lw_watch *b = lw_watch_open(at("log"), NEVER_MS, &wake);
  TURN_UNTIL(woken > 0);
  lw_watch_close(a);
  WAKES(write_to("log", "x"));
  write_to("log", "x"); /* with an event on its way */
  lw_watch_close(b);
  lw_wake_cancel(&wake);
  woken = 0;
  write_to("log", "x");
  turn_for(10);
  assert_int_equal(woken, 0);
  assert_int_equal(watches_on(NULL), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(changes_of_the_file_wake),
      TEST(other_files_do_not_wake),
      TEST(a_file_in_the_present_directory),
      TEST(what_symlinks_lead_to),
      TEST(symlinks_in_a_circle),
      TEST(a_directory_that_appears),
      TEST(a_directory_that_is_replaced),
      TEST(a_directory_behind_a_symlink),
      TEST(without_inotify_the_poll_wakes),
      TEST(names_that_lead_nowhere),
      TEST(several_watches_and_early_closes),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
