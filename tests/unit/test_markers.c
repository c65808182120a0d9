/* SPDX-License-Identifier: MIT
 * The markers in a log: found however it is cut into pieces, in their order, once for each line;
 * and the heads of INFO lines. */
#include "worker/markers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static char story[8192]; /* "marker;" and "[line]size;" */

static void tell(const char *format, lw_span text, uint64_t size) {
  size_t n = strlen(story);
  int more =
      snprintf(story + n, sizeof story - n, format, (int)text.n, text.p, (unsigned long long)size);
  assert_true(more > 0 && (size_t)more < sizeof story - n);
}
static void on_marker(void *owner, const lw_marker *marker) {
  assert_ptr_equal(owner, story);
  tell("%.*s;", lw_span_of(marker->text), 0);
}
static void on_info(void *owner, lw_span line, uint64_t size) {
  assert_ptr_equal(owner, story);
  tell("[%.*s]%llu;", line, size);
}
static const lw_markers_events events = {on_marker, on_info};

#define LOADED(text)                    \
  {                                     \
    LW_MARKER_LOADED, (char[]) { text } \
  }
#define ERROR(text)                    \
  {                                    \
    LW_MARKER_ERROR, (char[]) { text } \
  }
#define INFO(text)                    \
  {                                   \
    LW_MARKER_INFO, (char[]) { text } \
  }

/* In one piece, in two at every place, and byte by byte, the same is found. */
static void check(const lw_marker *list, size_t n, lw_span text, const char *expected) {
  for (size_t cut = 0; cut <= text.n + 1; cut++) {
    lw_markers *m = lw_markers_new(list, n, &events, story);
    story[0] = 0;
    if (cut <= text.n) {
      lw_markers_feed(m, (lw_span){text.p, cut});
      lw_markers_feed(m, (lw_span){text.p + cut, text.n - cut});
    } else {
      for (size_t i = 0; i < text.n; i++) lw_markers_feed(m, (lw_span){text.p + i, 1});
    }
    lw_markers_end_line(m);
    lw_markers_free(m);
    assert_string_equal(story, expected);
  }
}
#define CHECK(list, text, expected) check(list, LW_ARRAY_SIZE(list), LW_SPAN(text), expected)

static void markers_are_substrings_of_lines(void **state) {
  (void)state;
  lw_marker list[] = {LOADED("Application startup complete."), ERROR("Traceback (most"),
                      ERROR("CUDA")};
  CHECK(list, "", "");
  CHECK(list, "INFO: Application startup complete.\n", "Application startup complete.;");
  CHECK(list, "INFO: Application startup complete.", "Application startup complete.;");
  CHECK(list, "Application startup complete\n.application startup complete.\n", "");
  CHECK(list, "CUDA", "CUDA;");
  CHECK(list, "CU\nDA CUD\r\nA", "");
  CHECK(list, "a\nTraceback (most recent\nxCUDAx", "Traceback (most;CUDA;");
}

static void each_is_told_once_for_a_line(void **state) {
  (void)state;
  lw_marker list[] = {LOADED("abc"), ERROR("def")};
  CHECK(list, "abcabc def abc def\nabc abc\n\ndef", "abc;def;abc;def;");
}

static void they_come_in_the_order_of_their_ends(void **state) {
  (void)state;
  lw_marker list[] = {ERROR("loaded"), LOADED("model loaded"), LOADED("model"), ERROR("loaded no"),
                      ERROR("del l")};
  CHECK(list, "the model loaded now", "model;del l;loaded;model loaded;loaded no;");
  lw_marker same[] = {LOADED("xx"), ERROR("xx"), LOADED("xxx"), LOADED("xx")};
  CHECK(same, "xxx", "xx;xx;xx;xxx;");
}

static void markers_that_overlap_themselves(void **state) {
  (void)state;
  lw_marker list[] = {LOADED("aab"), LOADED("aaab"), ERROR("aa"), ERROR("bab")};
  CHECK(list, "aaaab", "aa;aab;aaab;");
  CHECK(list, "babab", "bab;");
}

static void one_byte_is_enough(void **state) {
  (void)state;
  lw_marker list[] = {LOADED("!"), ERROR("\xff"), LOADED("longer than one")};
  CHECK(list, "!\n\xff!x!\nlonger than one\n", "!;\xff;!;longer than one;");
  CHECK(list, "!", "!;");
}

static void empty_markers_and_none(void **state) {
  (void)state;
  lw_marker list[] = {LOADED(""), INFO("a\nb"), LOADED("\n")};
  CHECK(list, "a\nb\n\n", "");
  check(NULL, 0, LW_SPAN("a\nb"), "");
}

static void bytes_of_any_kind(void **state) {
  (void)state;
  lw_marker list[] = {LOADED("caf\xc3\xa9"), INFO("ok")};
  CHECK(list, "\0\0\0caf\xc3\xa9\0\n\xc3\xff\xfeok\n", "caf\xc3\xa9;[\xc3\xff\xfeok]5;");
}

static void info_lines_are_given_when_they_end(void **state) {
  (void)state;
  lw_marker list[] = {INFO("load"), INFO("shard"), LOADED("done")};
  CHECK(list, "x\nload shard 1\r\nshard load done load\nnothing\ndone\n",
        "[load shard 1]12;done;[shard load done load]20;done;");
  CHECK(list, "\r\nload\r\r\n\r\nload\n", "[load\r]5;[load]4;");
  CHECK(list, "load\r", "[load\r]5;"); /* no line feed came */
}

static void a_line_may_end_without_a_line_feed(void **state) {
  (void)state;
  lw_marker list[] = {LOADED("model loaded"), INFO("in")};
  lw_markers *m = lw_markers_new(list, 2, &events, story);
  story[0] = 0;
  lw_markers_end_line(m);
  lw_markers_feed(m, LW_SPAN("model loa"));
  lw_markers_end_line(m);
  lw_markers_feed(m, LW_SPAN("ded\nlast i"));
  lw_markers_end_line(m);
  lw_markers_feed(m, LW_SPAN("n\nin\r"));
  lw_markers_end_line(m);
  lw_markers_feed(m, LW_SPAN("\nmodel loaded"));
  lw_markers_end_line(m);
  lw_markers_feed(m, LW_SPAN("model loaded"));
  assert_string_equal(story, "[in\r]3;model loaded;model loaded;");
  lw_markers_free(m);
  lw_markers_free(NULL);
}

static uint64_t info_size;
static size_t info_given;
static void on_long_info(void *owner, lw_span line, uint64_t size) {
  (void)owner;
  for (size_t i = 0; i < line.n; i++) assert_int_equal(line.p[i], "0123456789"[i % 10]);
  info_given = line.n;
  info_size = size;
}

/* 1 GB: what is kept of it does not depend on its size. */
static void a_line_of_a_gigabyte(void **state) {
  (void)state;
  lw_marker list[] = {INFO("the end")};
  const lw_markers_events long_events = {on_marker, on_long_info};
  lw_markers *m = lw_markers_new(list, 1, &long_events, story);
  char piece[64 * 1000];
  for (size_t i = 0; i < sizeof piece; i++) piece[i] = "0123456789"[i % 10];
  for (int i = 0; i < 16384; i++) lw_markers_feed(m, (lw_span){piece, sizeof piece});
  lw_markers_feed(m, LW_SPAN("the e"));
  lw_markers_feed(m, LW_SPAN("nd\r"));
  assert_int_equal(info_size, 0);
  lw_markers_feed(m, LW_SPAN("\nthe next"));
  assert_int_equal(info_size, 16384ULL * sizeof piece + 7);
  assert_int_equal(info_given, LW_MARKERS_LINE);
  lw_markers_free(m);
}

static void heads_of_all_sizes(void **state) {
  (void)state;
  lw_marker list[] = {INFO("9")};
  const lw_markers_events long_events = {on_marker, on_long_info};
  char text[LW_MARKERS_LINE + 20];
  for (size_t i = 0; i < sizeof text; i++) text[i] = "0123456789"[i % 10];
  for (size_t n = LW_MARKERS_LINE - 5; n < LW_MARKERS_LINE + 5; n++) {
    for (size_t cut = n - 8; cut <= n; cut++) {
      lw_markers *m = lw_markers_new(list, 1, &long_events, story);
      lw_markers_feed(m, (lw_span){text, cut});
      lw_markers_feed(m, (lw_span){text + cut, n - cut});
      lw_markers_feed(m, LW_SPAN("\r"));
      lw_markers_feed(m, LW_SPAN("\n"));
      assert_int_equal(info_size, n);
      assert_int_equal(info_given, LW_MIN(n, (size_t)LW_MARKERS_LINE));
      lw_markers_free(m);
    }
  }
}

static unsigned hits[500];
static void on_one_of_many(void *owner, const lw_marker *marker) {
  hits[marker - (const lw_marker *)owner]++;
}

static void hundreds_of_markers(void **state) {
  (void)state;
  lw_marker list[500];
  for (size_t i = 0; i < 500; i++) {
    list[i].kind = i % 2 ? LW_MARKER_ERROR : LW_MARKER_LOADED;
    /* many end alike; some are longer than the tables look */
    list[i].text = lw_printf_dup("%0*zu of the model", i % 100 == 7 ? 400 : 3, i);
  }
  const lw_markers_events many = {on_one_of_many, on_info};
  lw_markers *m = lw_markers_new(list, 500, &many, list);
  for (size_t round = 0; round < 3; round++) {
    for (size_t i = 0; i < 500; i++) {
      lw_markers_feed(m, lw_span_of(list[i].text));
      lw_markers_feed(m, LW_SPAN(", \n"));
    }
  }
  lw_markers_free(m);
  for (size_t i = 0; i < 500; i++) {
    assert_int_equal(hits[i], 3);
    free(list[i].text);
  }
}

#define TEST(name) cmocka_unit_test(name)
int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(markers_are_substrings_of_lines),
      TEST(each_is_told_once_for_a_line),
      TEST(they_come_in_the_order_of_their_ends),
      TEST(markers_that_overlap_themselves),
      TEST(one_byte_is_enough),
      TEST(empty_markers_and_none),
      TEST(bytes_of_any_kind),
      TEST(info_lines_are_given_when_they_end),
      TEST(a_line_may_end_without_a_line_feed),
      TEST(a_line_of_a_gigabyte),
      TEST(heads_of_all_sizes),
      TEST(hundreds_of_markers),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
