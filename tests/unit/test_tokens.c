/* SPDX-License-Identifier: MIT
 * Each rule of the estimate on a text that shows it alone, the published rule of thumb on English
 * prose, and the scaling of long texts. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "worker/tokens.h"

static const char prose[] =
    "The road to the village goes down along the river and then through a small wood, where in the "
    "spring the ground is white with flowers. My grandmother used to say that whoever walks there "
    "before sunrise will hear the old mill turning, although it burned down long before she was "
    "born. We never heard anything but birds. Still, every year, on the first warm Sunday, we got "
    "up in the dark, put bread and cheese into a basket, and went to listen. What I remember best "
    "is the cold air, the smell of wet leaves, and how my brother always pretended that he could "
    "hear the wheel. \"There,\" he would whisper, \"don't you hear it?\" And for a moment I did.";

static void each_rule(void **state) {
  (void)state;
  static const struct {
    const char *text;
    double tokens;
  } cases[] = {
      {"", 0},
      {"a", 1},
      {" ", 1}, /* nothing but the text itself is free */
      {"abcdefgh", 1},
      {"abcdefghi", 2},
      {"abcdefghabcdefgha", 3},
      {"hello world", 2},
      {" hello", 1},
      {"hello  world", 3},
      {"hello        world", 3},
      {"hello\tworld", 2},
      {"hello\nworld", 3},
      {"hello\r\n\r\n\nworld", 3},
      {"\n    x", 3},
      {"Hello", 1},
      {"Abcdefg", 1},
      {"Abcdefgh", 2},
      {"HELLO", 2},
      {"NATO", 1},
      {"getUserName", 3},
      {"don't", 2},
      {"1", 1},
      {"123", 1},
      {"1234", 2},
      {"3.14", 3},
      {"abc123", 2},
      {"...", 1},
      {"----", 2},
      {"a_b", 3},
      {"How are you?", 4},
      {"You miss 100% of the shots you don't take", 11},
      {"\xc3\xa9t\xc3\xa9", 1},                                /* été */
      {"\xd0\xbc\xd0\xb8\xd1\x80", 2},                         /* мир */
      {"\xe0\xb8\xaa\xe0\xb8\xa7\xe0\xb8\xb1", 2},             /* 3 signs of Thai */
      {"\xe4\xbd\xa0\xe5\xa5\xbd\xe4\xb8\x96\xe7\x95\x8c", 4}, /* 你好世界 */
      {"\xed\x95\x9c\xea\xb8\x80", 2},                         /* 한글 */
      {"\xe2\x80\x94", 1},                                     /* — */
      {"a\xc2\xa9z", 3},                                       /* a©z */
      {"\xf0\x9f\x98\x80", 2},                                 /* an emoji */
      {"a\xf0\x9f\x98\x80\xf0\x9f\x98\x80z", 6},
      {"\x80\x80\x80", 1}, /* not UTF-8: no harm */
  };
  for (size_t i = 0; i < LW_ARRAY_SIZE(cases); i++) {
    double tokens = lw_tokens_count(lw_span_of(cases[i].text));
    if (tokens != cases[i].tokens) {
      fail_msg("\"%s\": %g tokens, not %g", cases[i].text, tokens, cases[i].tokens);
    }
  }
  assert_true(lw_tokens_count((lw_span){NULL, 0}) == 0);
  assert_true(lw_tokens_count(LW_SPAN("a\0b")) == 3);
}

static void english_prose_keeps_to_the_rule_of_thumb(void **state) {
  (void)state;
  size_t words = 1;
  for (const char *p = prose; *p; p++) words += *p == ' ';
  double tokens = lw_tokens_count(lw_span_of(prose));
  double by_characters = (double)strlen(prose) / 4, by_words = (double)words / 0.75;
  double rule = (by_characters + by_words) / 2;
  if (fabs(tokens - rule) > 0.2 * rule) {
    fail_msg("%g tokens; by characters %g, by words %g", tokens, by_characters, by_words);
  }
}

static char *repeat(const char *text, size_t n) {
  char *out = lw_alloc(n);
  for (size_t i = 0, k = strlen(text); i < n; i++) out[i] = text[i % k];
  return out;
}

static void a_long_text_is_scaled(void **state) {
  (void)state;
  const size_t n = 11000000;
  char *text = repeat(prose, n);
  double whole = lw_tokens_count((lw_span){text, 65536}) * (double)n / 65536;
  double scaled = lw_tokens_count((lw_span){text, n});
  assert_true(fabs(scaled - whole) < 0.02 * whole);
  assert_true(scaled == lw_tokens_count((lw_span){text, n}));

  /* No step where the sampling begins. */
  double below = lw_tokens_count((lw_span){text, 65536});
  double above = lw_tokens_count((lw_span){text, 65537});
  assert_true(fabs(above - below) < 0.02 * below);

  /* First, middle and last part weigh the same: one third of blanks takes a third away. */
  double rate = scaled / (double)n;
  const size_t starts[] = {0, n / 3, n - n / 3};
  for (int i = 0; i < 3; i++) {
    char *part_blank = repeat(prose, n);
    memset(part_blank + starts[i], ' ', n / 3);
    double tokens = lw_tokens_count((lw_span){part_blank, n});
    assert_true(fabs(tokens / (double)n / rate - 2.0 / 3) < 0.02);
    free(part_blank);
  }
  free(text);
}

static void an_exact_block_is_enough(void **state) {
  (void)state;
  for (size_t n = 1; n < 200; n++) { /* the sanitizer watches the ends */
    char *text = repeat(prose, n);
    assert_true(lw_tokens_count((lw_span){text, n}) >= 1);
    free(text);
  }
  for (size_t n = 65530; n < 65550; n++) {
    char *text = repeat(prose, n);
    assert_true(lw_tokens_count((lw_span){text, n}) > 10000);
    free(text);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(each_rule),
      cmocka_unit_test(english_prose_keeps_to_the_rule_of_thumb),
      cmocka_unit_test(a_long_text_is_scaled),
      cmocka_unit_test(an_exact_block_is_enough),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
