/* SPDX-License-Identifier: MIT
 * The certificate of the client port: loading with errors that name the file, looking again, and
 * what becomes of pairs that are bad or still changing. Which certificate is served, and by whom a
 * change is noticed, is tests/e2e/test_tls.py's. */
#include "program/certificate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "floor/log.h"
#include "tls_peer.h"
#include "turn.h"

static lw_server *server;
static char folder[] = "/tmp/test_certificate.XXXXXX";
static char *certificate_file, *key_file, *log_file;
static tls_pem first, second;

static uint64_t on_head(void *owner, lw_request *r) {
  (void)owner;
  lw_response_refuse(r, 404, "nothing here");
  return 0;
}
static void on_request(void *owner, lw_request *r) { (void)owner, (void)r; }

static void put(const char *path, const char *text) {
  FILE *f = fopen(path, "w");
  assert_non_null(f);
  fputs(text, f);
  fclose(f);
}

static void put_pair(const tls_pem *p) {
  put(certificate_file, p->certificate);
  put(key_file, p->key);
}

static int make_files(void **state) {
  (void)state;
  if (!mkdtemp(folder)) return -1;
  certificate_file = lw_printf_dup("%s/instance.crt", folder);
  key_file = lw_printf_dup("%s/instance.key", folder);
  log_file = lw_printf_dup("%s/log", folder);
  first = tls_pem_new("first", 90, NULL);
  second = tls_pem_new("second", 60, NULL);
  return 0;
}

static int drop_files(void **state) {
  (void)state;
  char *files[] = {certificate_file, key_file, log_file};
  for (size_t i = 0; i < LW_ARRAY_SIZE(files); i++) {
    unlink(files[i]);
    free(files[i]);
  }
  rmdir(folder);
  tls_pem_free(&first);
  tls_pem_free(&second);
  return 0;
}

static int log_fd;

static int open_server(void **state) {
  (void)state;
  lw_loop_init();
  put_pair(&first);
  log_fd = open(log_file, O_RDWR | O_CREAT | O_TRUNC, 0600);
  lw_log_setup(log_fd, LW_LOG_INFO, LW_LOG_TEXT);
  const lw_server_events events = {on_head, on_request, on_request, NULL};
  const lw_server_limits limits = {.max_connections = 1};
  const char *why = NULL;
  server = lw_server_open("127.0.0.1", 0, &limits, &events, NULL, &why);
  if (!server) fail_msg("%s", why);
  return 0;
}

static int close_server(void **state) {
  (void)state;
  lw_certificate_close();
  lw_certificate_close(); /* no harm */
  assert_true(lw_certificate_expiry_s() == 0);
  lw_server_stop(server, NULL);
  turn_for(1);
  lw_server_free(server);
  turn_for(1);
  lw_loop_fini();
  lw_log_setup(2, LW_LOG_WARN, LW_LOG_TEXT);
  close(log_fd);
  lw_buf_drop_spares();
  return 0;
}

static unsigned count_logged(const char *text) {
  static char all[65536];
  ssize_t n = pread(log_fd, all, sizeof all - 1, 0);
  all[n > 0 ? n : 0] = 0;
  unsigned count = 0;
  for (char *p = all; (p = strstr(p, text)); p++) count++;
  return count;
}

static void open_first(void) {
  char *why = NULL;
  if (!lw_certificate_open(server, certificate_file, key_file, &why)) fail_msg("%s", why);
  assert_int_equal(count_logged("TLS certificate loaded: CN=first, valid until 20"), 1);
}

static bool lasts_days(int days) {
  double left_s = lw_certificate_expiry_s() - lw_wall_s();
  return left_s > (days - 1) * 86400.0 && left_s <= days * 86400.0;
}

static void a_pair_is_loaded_and_looked_at_again(void **state) {
  (void)state;
  lw_certificate_reload(); /* none is open: no harm */
  open_first();
  assert_true(lasts_days(90));
  lw_certificate_reload();
  assert_int_equal(count_logged("TLS certificate unchanged"), 1);
  put_pair(&second);
  lw_certificate_reload();
  assert_true(lasts_days(60));
  assert_int_equal(count_logged("TLS certificate renewed: CN=second"), 1);
  assert_int_equal(lw_certificate_failures(), 0);
}

static void a_change_is_noticed(void **state) {
  (void)state;
  open_first();
  put_pair(&second);
  TURN_UNTIL(lasts_days(60));
  assert_int_equal(lw_certificate_failures(), 0);
}

static void a_bad_pair_is_told_once_and_changes_nothing(void **state) {
  (void)state;
  open_first();
  put(key_file, second.key);
  TURN_UNTIL(lw_certificate_failures());
  turn_for(7000); /* looked at again meanwhile */
  assert_int_equal(lw_certificate_failures(), 1);
  assert_int_equal(count_logged("the key does not belong to the certificate"), 1);
  assert_true(lasts_days(90));
  lw_certificate_reload(); /* whoever asks is told */
  assert_int_equal(lw_certificate_failures(), 2);
  put(certificate_file, second.certificate);
  TURN_UNTIL(lasts_days(60));
  assert_int_equal(lw_certificate_failures(), 2);
}

/* One file after the other: the pair between is nobody's fault. */
static void a_pair_that_is_still_changing_is_not_told(void **state) {
  (void)state;
  open_first();
  uint64_t begun = lw_now_ms();
  put(key_file, second.key);
  turn_for(200);
  put(certificate_file, second.certificate);
  bool prompt = lw_now_ms() - begun < 900;
  TURN_UNTIL(lasts_days(60));
  if (prompt) assert_int_equal(lw_certificate_failures(), 0);
}

static void coming_back_to_the_old_pair_is_fine(void **state) {
  (void)state;
  open_first();
  put(key_file, "half a file");
  lw_certificate_reload();
  assert_int_equal(lw_certificate_failures(), 1);
  put(key_file, first.key);
  lw_certificate_reload();
  assert_int_equal(lw_certificate_failures(), 1);
  assert_int_equal(count_logged("TLS certificate renewed: CN=first"), 1);
}

static void an_end_near_or_past_is_warned_of(void **state) {
  (void)state;
  open_first();
  assert_int_equal(count_logged("WARN"), 0);
  tls_pem soon = tls_pem_new("soon", 5, NULL), past = tls_pem_new("past", -2, NULL);
  put_pair(&soon);
  lw_certificate_reload();
  assert_int_equal(count_logged("expires in 5.0 days"), 1);
  lw_certificate_reload();
  assert_int_equal(count_logged("WARN"), 1); /* once a day */
  put_pair(&past);
  lw_certificate_reload();
  assert_int_equal(count_logged("has expired 2.0 days ago"), 1);
  tls_pem_free(&soon);
  tls_pem_free(&past);
}

static void what_can_not_be_loaded_is_named(void **state) {
  (void)state;
  const struct {
    const char *certificate, *key, *why;
  } cases[] = {
      {"/nowhere/instance.crt", key_file,
       "the TLS certificate /nowhere/instance.crt can't be read: No such file or directory"},
      {certificate_file, "/nowhere/instance.key",
       "the TLS key /nowhere/instance.key can't be read: No such file or directory"},
      {folder, key_file, "can't be read: not a regular file"},
      {certificate_file, "/dev/zero", "the TLS key /dev/zero can't be read: not a regular file"},
      {key_file, certificate_file, "is refused: the certificate file holds no PEM certificate"},
  };
  for (size_t i = 0; i < LW_ARRAY_SIZE(cases); i++) {
    char *why = NULL;
    assert_false(lw_certificate_open(server, cases[i].certificate, cases[i].key, &why));
    if (!strstr(why, cases[i].why)) fail_msg("%zu: %s", i, why);
    free(why);
    lw_certificate_reload(); /* not open: no harm */
  }
  open_first();
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_server, close_server)
int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(a_pair_is_loaded_and_looked_at_again),
      TEST(a_change_is_noticed),
      TEST(a_bad_pair_is_told_once_and_changes_nothing),
      TEST(a_pair_that_is_still_changing_is_not_told),
      TEST(coming_back_to_the_old_pair_is_fine),
      TEST(an_end_near_or_past_is_warned_of),
      TEST(what_can_not_be_loaded_is_named),
  };
  return cmocka_run_group_tests(tests, make_files, drop_files);
}
