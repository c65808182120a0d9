/* SPDX-License-Identifier: MIT
 * For tests of log files: a folder of their own, and what writers and rotators do in it. */
#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#include "turn.h"

#pragma GCC diagnostic ignored "-Wunused-function"

static char logs_folder[200];

static void logs_make_folder(void) {
  const char *tmp = getenv("TMPDIR");
  snprintf(logs_folder, sizeof logs_folder, "%s/lw_logs_XXXXXX", tmp ? tmp : "/tmp");
  assert_non_null(mkdtemp(logs_folder));
}

static int logs_remove_folder(void) {
  char command[300];
  snprintf(command, sizeof command, "rm -rf '%s'", logs_folder);
  return system(command);
}

/* The path of a name in the folder; good for three more calls. */
static const char *at(const char *name) {
  static _Thread_local char paths[4][400];
  static _Thread_local unsigned next;
  char *path = paths[next++ % 4];
  if (*name == '/') return name;
  snprintf(path, sizeof paths[0], "%s/%s", logs_folder, name);
  return path;
}

/* How many files of the folder this process has open. */
static int logs_open_files(void) {
  int n = 0;
  char file[300], target[PATH_MAX];
  DIR *list = opendir("/proc/self/fd");
  struct dirent *entry;
  while ((entry = readdir(list))) {
    snprintf(file, sizeof file, "/proc/self/fd/%s", entry->d_name);
    ssize_t size = readlink(file, target, sizeof target - 1);
    if (size < 0) continue;
    target[size] = 0;
    n += strncmp(target, logs_folder, strlen(logs_folder)) == 0;
  }
  closedir(list);
  return n;
}

static FILE *begin(const char *name) {
  FILE *f = fopen(at(name), "a");
  assert_non_null(f);
  return f;
}
static void add_to(FILE *f, const char *text) {
  assert_true(fputs(text, f) >= 0);
  assert_int_equal(fflush(f), 0);
}
static void put(const char *name, const char *text) {
  FILE *f = begin(name);
  add_to(f, text);
  fclose(f);
}
static void move(const char *from, const char *to) {
  assert_int_equal(rename(at(from), at(to)), 0);
}
static void empty(const char *name) {
  int fd = open(at(name), O_WRONLY | O_TRUNC | O_CREAT, 0600);
  assert_true(fd >= 0);
  close(fd);
}
static void copy(const char *from, const char *to) {
  char block[4096];
  FILE *in = fopen(at(from), "r"), *out = fopen(at(to), "w");
  assert_true(in && out);
  for (size_t n; (n = fread(block, 1, sizeof block, in)) > 0;) fwrite(block, 1, n, out);
  fclose(in);
  assert_int_equal(fclose(out), 0);
}
/* A symlink there, put in place at once. */
static void point(const char *name, const char *target) {
  unlink(at("link_"));
  assert_int_equal(symlink(target, at("link_")), 0);
  move("link_", name);
}
/* The file as text; how many lines. */
static int read_all(const char *name, char *text, size_t size) {
  FILE *f = fopen(at(name), "r");
  assert_non_null(f);
  text[fread(text, 1, size - 1, f)] = 0;
  fclose(f);
  int n = 0;
  for (const char *p = text; (p = strchr(p, '\n')); p++) n++;
  return n;
}
