/* SPDX-License-Identifier: MIT
 * The words for failed calls. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "exchange/fault.h"

static void expect(char *got, const char *wanted) {
  assert_string_equal(got, wanted);
  free(got);
}

static void connecting(void **state) {
  (void)state;
  expect(lw_fault_unreachable(ECONNREFUSED), "refused the connection");
  expect(lw_fault_unreachable(ENOENT), "can't be reached: No such file or directory");
  expect(lw_fault_unreachable(0), "can't be reached");
  expect(lw_fault_handshake("error:0A00010B:SSL routines::wrong version number"),
         "does not speak TLS: is it an http:// server?");
  expect(lw_fault_handshake("sslv3 alert"),
         "can't be called: the TLS handshake failed: sslv3 alert");
}

static void breaking_off(void **state) {
  (void)state;
  lw_h1_answer a = {0};
  expect(lw_fault_lost(&a, 0), "closed the connection before answering");
  expect(lw_fault_protocol(&a, 0, "x"), "did not answer in proper HTTP/1: x");
  a.inside = true;
  expect(lw_fault_lost(&a, 0), "broke off within the head of its answer");
  a = (lw_h1_answer){.complete = true};
  expect(lw_fault_lost(&a, 7), "broke off after 7 bytes");
  expect(lw_fault_protocol(&a, 7, "x"), "broke HTTP after 7 bytes of its answer: x");
  a = (lw_h1_answer){.complete = true, .has_length = true, .length = 9};
  expect(lw_fault_lost(&a, 7), "broke off after 7 of 9 bytes");
}

static void lateness(void **state) {
  (void)state;
  expect(lw_fault_total(250), "did not finish its answer within 250 ms");
  expect(lw_fault_connect(5000), "did not connect within 5 s");
  expect(lw_fault_first_byte(1200), "sent no answer within 1.2 s");
  expect(lw_fault_idle(999, 4), "sent nothing more for 999 ms, after 4 bytes");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(connecting),
      cmocka_unit_test(breaking_off),
      cmocka_unit_test(lateness),
  };
  return cmocka_run_group_tests_name("fault", tests, NULL, NULL);
}
