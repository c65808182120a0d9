/* SPDX-License-Identifier: MIT
 * Framing of answers: every case whole, byte by byte, and in every pair of pieces. */
#include "wire/h1_frames.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

typedef struct outcome {
  lw_code code; /* LW_EOF, LW_PROTOCOL, or LW_AGAIN: not at its end when the bytes were */
  bool may_end;
  const char *body, *behind;
} outcome;

static lw_h1_answer answer_of(const char *head) {
  lw_h1_answer a;
  lw_h1_answer_init(&a);
  while (*head) {
    const char *end = strchr(head, '\n') + 1;
    assert_null(lw_h1_answer_line(&a, (lw_span){head, (size_t)(end - head)}));
    head = end;
  }
  assert_true(a.complete);
  return a;
}

/* Feeds the pieces that end at `cut` and at the end; each in memory of its own size. */
static lw_code feed(lw_h1_frames *f, const char *p, size_t n, char *body, char *behind) {
  const char *why = NULL;
  char *copy = lw_realloc(lw_strdup_n(p, n), LW_MAX(n, 1));
  lw_span in = {copy, n}, piece;
  lw_code code;
  while ((code = lw_h1_frames_next(f, &in, &piece, &why)) == LW_OK) {
    assert_true(piece.n > 0);
    strncat(body, piece.p, piece.n);
  }
  if (code == LW_AGAIN) assert_int_equal(in.n, 0);
  if (code == LW_EOF) strncat(behind, in.p, in.n);
  assert_int_equal(why != NULL, code == LW_PROTOCOL);
  free(copy);
  return code;
}

static void check_cut(const lw_h1_answer *a, const char *text, size_t cut, size_t step,
                      const outcome *o) {
  lw_h1_frames f;
  char body[4096] = "", behind[4096] = "";
  size_t n = strlen(text), at = 0;
  lw_h1_frames_init(&f, a, false);
  lw_code code = LW_AGAIN;
  while (code == LW_AGAIN && at <= n) {
    size_t piece = at == 0 && cut ? cut : step;
    piece = LW_MIN(piece, n - at);
    code = feed(&f, text + at, piece, body, behind);
    at += piece;
    if (at == n) break;
  }
  if (code != o->code) fail_msg("%s: code %d cut at %zu", text, code, cut);
  if (code == LW_PROTOCOL) return;
  assert_string_equal(body, o->body);
  if (code == LW_EOF) {
    strncat(behind, text + at, n - at);
    assert_string_equal(behind, o->behind);
  }
  assert_int_equal(lw_h1_frames_may_end(&f), o->may_end);
}

static void expect(const char *head, const char *text, outcome o) {
  lw_h1_answer a = answer_of(head);
  for (size_t cut = 0; cut <= strlen(text); cut++) check_cut(&a, text, cut, SIZE_MAX, &o);
  check_cut(&a, text, 0, 1, &o);
  lw_h1_answer_fini(&a);
}

#define OK_HEAD(fields) "HTTP/1.1 200 OK\r\n" fields "\r\n"
#define CHUNKED OK_HEAD("Transfer-Encoding: chunked\r\n")

static void by_length(void **state) {
  (void)state;
  expect(OK_HEAD("Content-Length: 5\r\n"), "hello", (outcome){LW_EOF, true, "hello", ""});
  expect(OK_HEAD("Content-Length: 5\r\n"), "helloHTTP", (outcome){LW_EOF, true, "hello", "HTTP"});
  expect(OK_HEAD("Content-Length: 5\r\n"), "hell", (outcome){LW_AGAIN, false, "hell", ""});
  expect(OK_HEAD("Content-Length: 0\r\n"), "x", (outcome){LW_EOF, true, "", "x"});
}

static void without_a_body(void **state) {
  (void)state;
  expect("HTTP/1.1 204 No\r\n\r\n", "x", (outcome){LW_EOF, true, "", "x"});
  expect("HTTP/1.1 304 No\r\nContent-Length: 9\r\n\r\n", "x", (outcome){LW_EOF, true, "", "x"});
  lw_h1_answer a = answer_of(OK_HEAD("Content-Length: 5\r\n"));
  lw_h1_frames f;
  lw_h1_frames_init(&f, &a, true);
  assert_true(lw_h1_frames_may_end(&f));
  lw_h1_answer_fini(&a);
}

static void until_the_end(void **state) {
  (void)state;
  expect(OK_HEAD(""), "hello", (outcome){LW_AGAIN, true, "hello", ""});
  expect(OK_HEAD(""), "", (outcome){LW_AGAIN, true, "", ""});
}

static void in_chunks(void **state) {
  (void)state;
  expect(CHUNKED, "5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n", (outcome){LW_EOF, true, "hello!", ""});
  expect(CHUNKED, "0005;a=b\r\nhello\r\n0 \r\n\r\nX", (outcome){LW_EOF, true, "hello", "X"});
  expect(CHUNKED, "A\r\n0123456789\r\n0\r\nT: x\r\nU: y\r\n\r\n",
         (outcome){LW_EOF, true, "0123456789", ""});
  expect(CHUNKED, "5\nhello\n0\n\n", (outcome){LW_EOF, true, "hello", ""});
  expect(CHUNKED, "0000000000000005\r\nhello\r\n0\r\nT:\r\n\r\n",
         (outcome){LW_EOF, true, "hello", ""});
  expect(CHUNKED, "7fffffffffffffff\r\nhello", (outcome){LW_AGAIN, false, "hello", ""});
  expect(OK_HEAD("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"), "1\r\na\r\n0\r\n\r\n",
         (outcome){LW_EOF, true, "a", ""});
  expect(CHUNKED, "5\r\nhello\r\n", (outcome){LW_AGAIN, false, "hello", ""});
  expect(CHUNKED, "5\r\nhel", (outcome){LW_AGAIN, false, "hel", ""});
  expect(CHUNKED, "5\r\nhello\r\n0\r\n", (outcome){LW_AGAIN, false, "hello", ""});
  expect(CHUNKED, "", (outcome){LW_AGAIN, false, "", ""});
}

static void broken_chunks(void **state) {
  (void)state;
  const outcome broken = {LW_PROTOCOL, false, "", ""};
  expect(CHUNKED, "\r\nhello", broken);
  expect(CHUNKED, "\nhello", broken);
  expect(CHUNKED, "zz\r\n", broken);
  expect(CHUNKED, "-5\r\nhello\r\n", broken);
  expect(CHUNKED, "5x\r\nhello\r\n", broken);
  expect(CHUNKED, "5\r\nhello!\r\n", broken);
  expect(CHUNKED, "5\r\nhello\r\r\n", broken);
  expect(CHUNKED, "8000000000000000\r\n", broken);
  expect(CHUNKED, "fffffffffffffffff\r\n", broken);
  expect(CHUNKED, "00000000000000005\r\nhello\r\n", broken);
  expect(CHUNKED, "0\r\nno field\r\n\r\n", broken);
  expect(CHUNKED, "0\r\nT: x\r\nno field\r\n\r\n", broken);
}

static void what_never_ends_is_refused(void **state) {
  (void)state;
  lw_h1_answer a = answer_of(CHUNKED);
  static const char *const begins[] = {"5;", "0\r\nA: "};
  for (size_t i = 0; i < LW_ARRAY_SIZE(begins); i++) {
    lw_h1_frames f;
    char body[8] = "", behind[8] = "";
    lw_h1_frames_init(&f, &a, false);
    assert_int_equal(feed(&f, begins[i], strlen(begins[i]), body, behind), LW_AGAIN);
    lw_code code = LW_AGAIN;
    for (int n = 0; n < 200000 && code == LW_AGAIN; n++) code = feed(&f, "x", 1, body, behind);
    assert_int_equal(code, LW_PROTOCOL);
  }
  lw_h1_answer_fini(&a);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(by_length),     cmocka_unit_test(without_a_body),
      cmocka_unit_test(until_the_end), cmocka_unit_test(in_chunks),
      cmocka_unit_test(broken_chunks), cmocka_unit_test(what_never_ends_is_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
