/* SPDX-License-Identifier: MIT
 * Addresses: which are taken, what is asked for, how paths are put behind them, how messages name
 * them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "exchange/address.h"

static void assert_span(lw_span got, const char *wanted) {
  assert_int_equal(got.n, strlen(wanted));
  assert_memory_equal(got.p, wanted, got.n);
}

static void assert_text(char *got, const char *wanted) {
  assert_string_equal(got, wanted);
  free(got);
}

static void good_ones(void **state) {
  (void)state;
  const struct {
    const char *address, *socket, *url, *origin;
  } cases[] = {
      {"http://a:1/b?c", "", "http://a:1/b?c", "http://a:1"},
      {"HTTPS://u:p@a@b/c@d", "", "HTTPS://u:p@a@b/c@d", "HTTPS://b"},
      {"http://[::1]:80", "", "http://[::1]:80", "http://[::1]:80"},
      {"http://a?@b", "", "http://a?@b", "http://a"},
      {"unix:/m.sock", "/m.sock", "http://localhost", "unix:/m.sock"},
      {"unix:/m.sock:", "/m.sock", "http://localhost", "unix:/m.sock"},
      {"unix:/m.sock:/", "/m.sock", "http://localhost/", "unix:/m.sock"},
      {"unix:/run/m.sock:/v1/x?y=:", "/run/m.sock",
       "http://localhost/v1/x?y=:", "unix:/run/m.sock"},
      {"Unix:///m", "///m", "http://localhost", "unix:///m"},
  };
  for (size_t i = 0; i < LW_ARRAY_SIZE(cases); i++) {
    lw_span address = lw_span_of(cases[i].address);
    assert_null(lw_address_mistake(address));
    assert_span(lw_address_socket(address), cases[i].socket);
    assert_text(lw_address_url(address), cases[i].url);
    assert_span(lw_address_origin(address), cases[i].origin);
  }
}

static void bad_ones(void **state) {
  (void)state;
  const char *cases[] = {
      "",          "a:1",         "ftp://a",     "http:/a",        "unix",
      "unix:",     "unix:m.sock", "unix::/x",    "unix:/m.sock:x", "unix:/m.sock:?a",
      "unix:/m s", "unix:/m\n",   "unix:/m\x7f", "unixx:/m"};
  for (size_t i = 0; i < LW_ARRAY_SIZE(cases); i++) {
    assert_non_null(lw_address_mistake(lw_span_of(cases[i])));
    lw_address_origin(lw_span_of(cases[i])); /* whatever it says, it reads no further */
  }
}

static void a_socket_has_a_longest_path(void **state) {
  (void)state;
  char address[300] = "unix:/";
  memset(address + 6, 'x', LW_ADDRESS_MAX_SOCKET - 1);
  assert_null(lw_address_mistake(lw_span_of(address)));
  strcat(address, ":/base");
  assert_null(lw_address_mistake(lw_span_of(address)));
  memset(address + 6, 'x', LW_ADDRESS_MAX_SOCKET);
  assert_string_equal(lw_address_mistake(lw_span_of(address)),
                      "the path of a unix socket has at most 107 bytes");
  memset(address + 6, 'x', 290);
  assert_int_equal(lw_address_origin(lw_span_of(address)).n, 199);
}

static void single_ones(void **state) {
  (void)state;
  const char *single[] = {"http://127.0.0.1:5001/a", "http://10.0.0.1", "https://u:p@10.0.0.1/b",
                          "http://[::1]:80/",        "unix:/m.sock:/a", "HTTP://127.1?q"};
  const char *several[] = {"http://localhost:80", "https://a.example/10.0.0.1",
                           "http://1.example",    "http://127.0.0.1@host",
                           "http://10.0.0.1x:80", "http://host?@10.0.0.1"};
  for (size_t i = 0; i < LW_ARRAY_SIZE(single); i++) {
    assert_true(lw_address_is_single(lw_span_of(single[i])));
    assert_false(lw_address_is_single(lw_span_of(several[i])));
  }
}

static void shown_without_secrets(void **state) {
  (void)state;
  const char *cases[][2] = {
      {"http://a:1/b/c", "http://a:1/b/c"},
      {"http://u:p@a:1/b?key=k&x#y", "http://a:1/b?..."},
      {"https://u:p@a?key=k", "https://a?..."},
      {"http://a#k", "http://a?..."},
      {"http://a", "http://a"},
      {"unix:/m.sock", "unix:/m.sock"},
      {"unix:/m.sock:/b?key=k", "unix:/m.sock:/b?..."},
      {"/only/a/path?key=k", "/only/a/path?..."},
      {"", ""},
  };
  for (size_t i = 0; i < LW_ARRAY_SIZE(cases); i++) {
    assert_text(lw_address_shown(lw_span_of(cases[i][0])), cases[i][1]);
  }
}

static void lists_are_shown_without_secrets(void **state) {
  (void)state;
  assert_text(lw_address_shown_all("http://a:1/x,https://u:p@b/?k=v,unix:/c"),
              "http://a:1/x,https://b/?...,unix:/c");
  assert_text(lw_address_shown_all("u:p@a"), "a");
  assert_text(lw_address_shown_all(""), "");
}

static void joining(void **state) {
  (void)state;
  const char *cases[][2] = {
      {"http://a:1", "http://a:1/p"},
      {"http://a:1//", "http://a:1/p"},
      {"http://a/b/", "http://a/b/p"},
      {"unix:/m.sock", "unix:/m.sock:/p"},
      {"unix:/m.sock:", "unix:/m.sock:/p"},
      {"unix:/m.sock:/", "unix:/m.sock:/p"},
      {"unix:/m.sock:/b/", "unix:/m.sock:/b/p"},
      {"unix:/dir/:/", "unix:/dir/:/p"},
  };
  for (size_t i = 0; i < LW_ARRAY_SIZE(cases); i++) {
    assert_text(lw_address_join(cases[i][0], "/p"), cases[i][1]);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(good_ones),
      cmocka_unit_test(bad_ones),
      cmocka_unit_test(a_socket_has_a_longest_path),
      cmocka_unit_test(single_ones),
      cmocka_unit_test(shown_without_secrets),
      cmocka_unit_test(lists_are_shown_without_secrets),
      cmocka_unit_test(joining),
  };
  return cmocka_run_group_tests_name("address", tests, NULL, NULL);
}
