/* SPDX-License-Identifier: MIT
 * wire/json against JSONTestSuite: y_ files must parse, n_ files must be refused, i_ files are free
 * to do either but must not crash. The files are not part of the project; without them it skips. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
/* cmocka needs the three above. */
#include <cmocka.h>
#include <stdio.h>

#include "wire/json.h"

/* Reads dir/name into *text, with the parser's padding; false when it can't be read. */
static bool read_file(const char *dir, const char *name, char **text, size_t *n) {
  char *path = lw_printf_dup("%s/%s", dir, name);
  FILE *file = fopen(path, "rb");
  free(path);
  if (!file) return false;
  size_t room = 1 << 20;
  *text = malloc(room + LW_JSON_PADDING);
  assert_non_null(*text);
  *n = fread(*text, 1, room, file);
  bool whole = *n < room && !ferror(file);
  fclose(file);
  return whole;
}

/* Parses one file; false, with a printed reason, when the verdict is the wrong one. */
static bool verdict_is_right(lw_json *json, const char *dir, const char *name) {
  char *text;
  size_t n;
  if (!read_file(dir, name, &text, &n)) {
    print_error("%s: can't be read\n", name);
    return false;
  }
  bool taken = lw_json_parse(json, text, n) == LW_OK;
  bool right = name[0] == 'i' || taken == (name[0] == 'y');
  if (!right) print_error("%s: %s\n", name, taken ? "taken" : json->error);
  if (json->error_offset > n) {
    print_error("%s: error beyond the end\n", name);
    right = false;
  }
  free(text);
  return right;
}

static void test_suite(void **state) {
  (void)state;
  const char *shared = getenv("LW_DATA");
  char *dir = lw_printf_dup("%s/json-test-suite/test_parsing", shared ? shared : "../shared/data");
  DIR *files = opendir(dir);
  if (!files) {
    print_message("skipped: no JSONTestSuite at %s (set LW_DATA)\n", dir);
    free(dir);
    skip();
    return;
  }
  lw_json json;
  lw_json_init(&json);
  int seen = 0, wrong = 0;
  for (struct dirent *entry; (entry = readdir(files)) != NULL;) {
    const char *name = entry->d_name;
    if (name[0] == '.' || name[1] != '_') continue;
    seen++;
    if (!verdict_is_right(&json, dir, name)) wrong++;
  }
  closedir(files);
  free(dir);
  lw_json_fini(&json);
  print_message("%d files\n", seen);
  assert_true(seen > 300);
  assert_int_equal(wrong, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_suite)};
  return cmocka_run_group_tests_name("json vectors", tests, NULL, NULL);
}
