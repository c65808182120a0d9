/* SPDX-License-Identifier: MIT
 * /pyworker/update: who may, what is left, and what happens when nothing can be left. */
#include <dirent.h>
#include <sys/stat.h>

#include "sessions.h"

static char folder[] = "/tmp/test_update.XXXXXX";
static char file[64];

static int make_folder(void **state) {
  (void)state;
  if (!mkdtemp(folder)) return -1;
  snprintf(file, sizeof file, "%s/force_update", folder);
  return 0;
}

static unsigned count_files(void) {
  unsigned n = 0;
  DIR *dir = opendir(folder);
  for (struct dirent *e; (e = readdir(dir));) n += e->d_name[0] != '.';
  closedir(dir);
  return n;
}

static int remove_folder(void **state) {
  (void)state;
  unlink(file);
  return rmdir(folder);
}

static void post(const char *fields, const char *status, const char *body) {
  peer_clear(&client);
  char *text = lw_printf_dup("POST /pyworker/update HTTP/1.1\r\nHost: h\r\n%s\r\n", fields);
  peer_send(&client, text);
  free(text);
  ANSWERED(&client, "", "}");
  if (!strstr(client.text, status) || !strstr(client.text, body)) {
    fail_msg("%s: got %s", fields, client.text);
  }
}

static void whoever_has_the_token(void **state) {
  (void)state;
  lw_update_set("s3cret", file);
  static const char *const good[] = {
      "Authorization: Bearer s3cret\r\n",
      "authorization: bearer   s3cret \r\n",
      "Authorization: Bearer s3cret\r\nContent-Length: 2\r\n\r\n{}",
  };
  for (size_t i = 0; i < LW_ARRAY_SIZE(good); i++) {
    unlink(file);
    peer_clear(&client);
    char *text = lw_printf_dup("POST /pyworker/update HTTP/1.1\r\nHost: h\r\n%s%s", good[i],
                               i == 2 ? "" : "\r\n");
    peer_send(&client, text);
    free(text);
    ANSWERED(&client, "200 OK", "{\"ok\":true}");
    struct stat st;
    assert_int_equal(stat(file, &st), 0);
    assert_true(st.st_size > 10); /* the time, in one line */
    assert_int_equal(count_files(), 1);
  }
  post("Authorization: Bearer s3cret\r\n", " 200 OK", "{\"ok\":true}"); /* over what is there */
}

static void nobody_else(void **state) {
  (void)state;
  static const char *const bad[] = {
      "",
      "Authorization: Bearer\r\n",
      "Authorization: Bearer \r\n",
      "Authorization: s3cret\r\n",
      "Authorization: Basic s3cret\r\n",
      "Authorization: Bearer s3cre\r\n",
      "Authorization: Bearer s3cret2\r\n",
      "Authorization: Bearer S3cret\r\n",
      "Authorization: Bearers3cret\r\n",
      "X-Authorization: Bearer s3cret\r\n",
  };
  unlink(file);
  lw_update_set("s3cret", file);
  for (size_t i = 0; i < LW_ARRAY_SIZE(bad); i++) {
    post(bad[i], " 401 Unauthorized", "{\"error\":\"unauthorized\"}");
    assert_non_null(strstr(client.text, "\r\nWWW-Authenticate: Bearer\r\n"));
  }
  assert_int_equal(count_files(), 0);
}

static void without_a_token_it_is_closed(void **state) {
  (void)state;
  static const char *const empty[] = {"", NULL};
  for (int i = 0; i < 2; i++) {
    lw_update_set(empty[i], file);
    post("Authorization: Bearer \r\n", " 401 ", "error");
    post("Authorization: Bearer x\r\n", " 401 ", "error");
    post("", " 401 ", "error");
  }
  assert_int_equal(count_files(), 0);
}

static void a_file_that_cannot_be_written(void **state) {
  (void)state;
  lw_update_set("s3cret", "/nowhere/to/be/found");
  post("Authorization: Bearer s3cret\r\n", " 500 ", "{\"error\":\"the update file");
  char *inside =
      lw_printf_dup("%s/folder", folder); /* the last step fails: a folder is in the way */
  char *deeper = lw_printf_dup("%s/x", inside);
  assert_int_equal(mkdir(inside, 0700), 0);
  assert_int_equal(mkdir(deeper, 0700), 0);
  lw_update_set("s3cret", inside);
  post("Authorization: Bearer s3cret\r\n", " 500 ", "{\"error\":\"the update file");
  assert_int_equal(count_files(), 1); /* nothing is left beside it */
  rmdir(deeper);
  rmdir(inside);
  free(deeper);
  free(inside);
}

static void only_post(void **state) {
  (void)state;
  peer_send(&client, "GET /pyworker/update HTTP/1.1\r\nHost: h\r\n\r\n");
  ANSWERED(&client, "405 ", "\r\nAllow: POST\r\n");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(whoever_has_the_token),         TEST(nobody_else), TEST(without_a_token_it_is_closed),
      TEST(a_file_that_cannot_be_written), TEST(only_post),
  };
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
