/* SPDX-License-Identifier: MIT
 * floor/log: exact lines in both forms, hostile values, cuts, random bytes that must still make
 * valid lines, and readers that do not read. LW_SEED repeats the random part. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "floor/log.h"
#include "lines.h"

#define LINES_MOST (1 << 17)
#define MARK "\xe2\x80\xa6"
#define BAD "\xef\xbf\xbd"

static int sink_fd = -1, source_fd = -1;
static char seen[LINES_MOST + 1];
static size_t seen_n;

/* -- where the lines go: a plain file, read back -- */

static void begin(lw_log_level level, lw_log_format format) {
  char path[] = "/tmp/lw-test-log-XXXXXX";
  sink_fd = mkstemp(path);
  assert_true(sink_fd >= 0);
  assert_int_equal(unlink(path), 0);
  lw_log_setup(sink_fd, level, format);
}

static void finish(void) {
  off_t size = lseek(sink_fd, 0, SEEK_END);
  assert_in_range(size, 0, LINES_MOST);
  assert_int_equal(pread(sink_fd, seen, (size_t)size, 0), size);
  seen_n = (size_t)size;
  seen[seen_n] = '\0';
  close(sink_fd);
  lw_log_setup(STDERR_FILENO, LW_LOG_INFO, LW_LOG_TEXT);
}

/* Puts '0' for every digit of the time, after a look that it is one. */
static void mask_time(char *line, const char *shape) {
  for (size_t i = 0; shape[i]; i++) {
    if (shape[i] == '0') {
      assert_in_range(line[i], '0', '9');
      line[i] = '0';
    } else {
      assert_int_equal(line[i], shape[i]);
    }
  }
}

static void assert_text_line(const char *expected) {
  finish();
  mask_time(seen, "0000-00-00 00:00:00.000 ");
  assert_string_equal(seen + 24, expected);
}

static void assert_json_line(const char *expected) {
  static const char start[] = "{\"time\":\"0000-00-00T00:00:00.000Z\",";
  finish();
  mask_time(seen + 9, "0000-00-00T00:00:00.000Z");
  assert_memory_equal(seen, start, sizeof start - 1);
  assert_string_equal(seen + sizeof start - 1, expected);
}

static void test_the_reader(void **state) {
  (void)state;
  assert_true(is_json_line("{\"a\":1,\"b\":-0.5,\"c\":\"x\\u001b\xc3\xa9\",\"d\":null}\n"));
  static const char *const bad[] = {"{\"a\":1}",           "{\"a\":01}\n",
                                    "{\"a\":}\n",          "{\"a\":\"\x1b\"}\n",
                                    "{\"a\":\"\xff\"}\n",  "{\"a\":\"\xc2\x9b\"}\n",
                                    "{\"a\":\"x}\n",       "{\"a\":1,}\n",
                                    "{\"a\":nan}\n",       "{\"a\":1}\n{\"b\":2}\n",
                                    "{\"a\":\"\\u12\"}\n", "{\"a\":\"\xed\xa0\x80\"}\n"};
  for (size_t i = 0; i < LW_ARRAY_SIZE(bad); i++) assert_false(is_json_line(bad[i]));
  assert_true(is_text_line("a \xe2\x80\xa6\n"));
  assert_false(is_text_line("a\nb\n"));
  assert_false(is_text_line("a\x1b\n"));
}

/* -- lines -- */

static void log_request(void) {
  const lw_field fields[] = {
      lw_field_text("route", "/generate"),    lw_field_int("status", 200),
      lw_field_number("total_ms", 12.5),      lw_field_bool("stream", true),
      lw_field_text("client", "a b"),         lw_field_text("empty", ""),
      lw_field_text("absent", NULL),          lw_field_text("query", "a=b"),
      lw_field_text("quote", "say \"x\" \\"), lw_field_bool("cached", false),
  };
  lw_log_fields(LW_LOG_INFO, "request", fields, LW_ARRAY_SIZE(fields));
}

static void test_text(void **state) {
  (void)state;
  begin(LW_LOG_INFO, LW_LOG_TEXT);
  log_request();
  assert_text_line(
      "INFO  request route=/generate status=200 total_ms=12.5 stream=true client=\"a b\" "
      "empty=\"\" "
      "absent=\"\" query=\"a=b\" quote=\"say \\\"x\\\" \\\\\" cached=false\n");
}

static void test_json(void **state) {
  (void)state;
  begin(LW_LOG_INFO, LW_LOG_AUTO);
  log_request();
  assert_json_line(
      "\"level\":\"info\",\"message\":\"request\",\"route\":\"/generate\",\"status\":200,"
      "\"total_ms\":12.5,\"stream\":true,\"client\":\"a b\",\"empty\":\"\",\"absent\":\"\","
      "\"query\":\"a=b\",\"quote\":\"say \\\"x\\\" \\\\\",\"cached\":false}\n");
}

static void test_time(void **state) {
  (void)state;
  begin(LW_LOG_INFO, LW_LOG_JSON);
  time_t before = time(NULL);
  lw_info("now");
  time_t after = time(NULL);
  finish();
  struct tm t = {0};
  assert_non_null(strptime(seen + 9, "%Y-%m-%dT%H:%M:%S", &t));
  time_t said = timegm(&t);
  assert_true(said >= before - 1 && said <= after + 1);
}

static void test_messages(void **state) {
  (void)state;
  static const struct {
    const char *message, *text, *json;
  } cases[] = {
      {"plain", "plain", "plain"},
      {"a \"b\" \\ c", "a \"b\" \\ c", "a \\\"b\\\" \\\\ c"},
      {"one\n\ttwo\r\n  three\n", "one | two | three", "one\\n\\ttwo\\r\\n  three\\n"},
      {"\nlate", " | late", "\\nlate"},
      {"a\tb", "a b", "a\\tb"},
      {"\x1b[2J\x7f\b", "\\u001b[2J\\u007f\\u0008", "\\u001b[2J\\u007f\\u0008"},
      {"\xc2\x9b[", "\\u009b[", "\\u009b["},
      {"\xe2\x80\xa8 \xe2\x80\xae", "\\u2028 \\u202e", "\\u2028 \\u202e"},
      {"\xff\xc3", BAD BAD, BAD BAD},
      {"caf\xc3\xa9 \xf0\x9f\x98\x80", "caf\xc3\xa9 \xf0\x9f\x98\x80",
       "caf\xc3\xa9 \xf0\x9f\x98\x80"},
      {"", "", ""},
  };
  for (size_t i = 0; i < LW_ARRAY_SIZE(cases); i++) {
    char expected[256];
    begin(LW_LOG_INFO, LW_LOG_TEXT);
    lw_warn("%s", cases[i].message);
    snprintf(expected, sizeof expected, "WARN  %s\n", cases[i].text);
    assert_text_line(expected);
    begin(LW_LOG_INFO, LW_LOG_JSON);
    lw_error("%s", cases[i].message);
    snprintf(expected, sizeof expected, "\"level\":\"error\",\"message\":\"%s\"}\n", cases[i].json);
    assert_json_line(expected);
  }
}

static void test_hostile_values(void **state) {
  (void)state;
  static const struct {
    lw_span value;
    const char *made;
  } cases[] = {
      {{"x\n2026-01-01 ERROR forged", 25}, "x\\n2026-01-01 ERROR forged"},
      {{"\",\"level\":\"error", 16}, "\\\",\\\"level\\\":\\\"error"},
      {{"a\0b", 3}, "a\\u0000b"},
      {{"\r\t\x1f\x7f", 4}, "\\r\\t\\u001f\\u007f"},
      {{"\xc0\xaf", 2}, BAD BAD},                 /* overlong "/" */
      {{"\xe0\x80\xaf", 3}, BAD BAD BAD},         /* overlong */
      {{"\xed\xa0\x80", 3}, BAD BAD BAD},         /* a surrogate */
      {{"\xf4\x90\x80\x80", 4}, BAD BAD BAD BAD}, /* beyond U+10FFFF */
      {{"\xf5\x80\x80\x80", 4}, BAD BAD BAD BAD},
      {{"\xe2\x82", 2}, BAD BAD}, /* broken off */
      {{"\xe2\x82z", 3}, BAD BAD "z"},
      {{"\x80z", 2}, BAD "z"},
      {{"\xc2\x80", 2}, "\\u0080"},
      {{"\xe2\x81\xa6\xd8\x9c", 5}, "\\u2066\\u061c"},
      {{"\xef\xbf\xbd\xf4\x8f\xbf\xbf", 7}, BAD "\xf4\x8f\xbf\xbf"},
  };
  for (size_t i = 0; i < LW_ARRAY_SIZE(cases); i++) {
    char expected[256];
    const lw_field field = lw_field_span("v", cases[i].value);
    begin(LW_LOG_INFO, LW_LOG_TEXT);
    lw_log_fields(LW_LOG_INFO, "m", &field, 1);
    snprintf(expected, sizeof expected, "INFO  m v=\"%s\"\n", cases[i].made);
    assert_text_line(expected);
    begin(LW_LOG_INFO, LW_LOG_JSON);
    lw_log_fields(LW_LOG_INFO, "m", &field, 1);
    snprintf(expected, sizeof expected, "\"level\":\"info\",\"message\":\"m\",\"v\":\"%s\"}\n",
             cases[i].made);
    assert_json_line(expected);
  }
}

static void test_hostile_keys(void **state) {
  (void)state;
  const lw_field field = lw_field_int("a b\n\"=\xff", 1);
  begin(LW_LOG_INFO, LW_LOG_TEXT);
  lw_log_fields(LW_LOG_INFO, "m", &field, 1);
  assert_text_line("INFO  m a_b____=1\n");
  begin(LW_LOG_INFO, LW_LOG_JSON);
  lw_log_fields(LW_LOG_INFO, "m", &field, 1);
  assert_json_line("\"level\":\"info\",\"message\":\"m\",\"a b\\n\\\"=" BAD "\":1}\n");
}

static void check_numbers(void) {
  static const struct {
    double value;
    const char *text;
  } cases[] = {
      {0, "0"},
      {-0.0, "0"},
      {1, "1"},
      {100, "100"},
      {-12.5, "-12.5"},
      {0.1 + 0.2, "0.3"},
      {0.0004, "0"},
      {-0.0004, "0"},
      {0.0006, "0.001"},
      {0.999, "0.999"},
      {0.9996, "1"},
      {123456789.123, "123456789.123"},
      {1e15, "1000000000000000"},
      {1e22, "10000000000000000000000"},
      {-1e15, "-1000000000000000"},
      {999999999999999.0, "999999999999999"},
      {NAN, "null"},
      {INFINITY, "null"},
      {-INFINITY, "null"},
  };
  for (size_t i = 0; i < LW_ARRAY_SIZE(cases); i++) {
    char expected[128];
    const lw_field field = lw_field_number("n", cases[i].value);
    begin(LW_LOG_INFO, LW_LOG_JSON);
    lw_log_fields(LW_LOG_INFO, "m", &field, 1);
    snprintf(expected, sizeof expected, "\"level\":\"info\",\"message\":\"m\",\"n\":%s}\n",
             cases[i].text);
    assert_json_line(expected);
  }
}

static void test_numbers(void **state) {
  (void)state;
  check_numbers();
  const lw_field fields[] = {lw_field_int("least", INT64_MIN), lw_field_int("most", INT64_MAX),
                             lw_field_number("huge", 1.7976931348623157e308)};
  begin(LW_LOG_INFO, LW_LOG_JSON);
  lw_log_fields(LW_LOG_INFO, "m", fields, 3);
  finish();
  assert_true(is_json_line(seen));
  assert_non_null(strstr(seen, "\"least\":-9223372036854775808,\"most\":9223372036854775807,"));
  assert_non_null(strstr(seen, "\"huge\":1797693134862315"));
}

static void test_levels(void **state) {
  (void)state;
  static const char *const names[] = {"debug", "info", "warn", "error", "off"};
  static const char *const words[] = {"DEBUG a\n", "INFO  a\n", "WARN  a\n", "ERROR a\n"};
  for (int least = LW_LOG_DEBUG; least <= LW_LOG_OFF; least++) {
    lw_log_level parsed = LW_LOG_WARN;
    assert_true(lw_log_parse_level(names[least], &parsed));
    assert_int_equal(parsed, least);
    lw_log_setup(STDERR_FILENO, parsed, LW_LOG_TEXT);
    assert_false(lw_log_enabled(LW_LOG_OFF));
    for (int level = LW_LOG_DEBUG; level <= LW_LOG_ERROR; level++) {
      begin(parsed, LW_LOG_TEXT);
      assert_int_equal(lw_log_enabled((lw_log_level)level), level >= least);
      lw_log((lw_log_level)level, "%s", "a");
      if (level >= least) {
        assert_text_line(words[level]);
      } else {
        lw_log_fields((lw_log_level)level, "a", NULL, 0);
        finish();
        assert_int_equal(seen_n, 0);
      }
    }
  }
  lw_log_level kept = LW_LOG_WARN;
  assert_false(lw_log_parse_level("INFO", &kept));
  assert_false(lw_log_parse_level("", &kept));
  assert_int_equal(kept, LW_LOG_WARN);
  begin(LW_LOG_INFO, LW_LOG_TEXT);
  lw_debug("%d", 1);
  lw_info("%d", 2);
  assert_text_line("INFO  2\n");
}

/* -- cuts -- */

static char *repeat(const char *piece, size_t total) {
  char *text = lw_alloc(total + 1);
  size_t n = strlen(piece);
  for (size_t i = 0; i < total; i++) text[i] = piece[i % n];
  text[total] = '\0';
  return text;
}

static void check_value_cut(const char *piece, size_t total, size_t kept) {
  char *value = repeat(piece, total), *expected;
  for (int json = 0; json < 2; json++) {
    const lw_field fields[] = {lw_field_text("v", value), lw_field_int("next", 1)};
    begin(LW_LOG_INFO, json ? LW_LOG_JSON : LW_LOG_TEXT);
    lw_log_fields(LW_LOG_INFO, "m", fields, 2);
    const char *quote = json || piece[0] != 'x' ? "\"" : "";
    expected =
        lw_printf_dup(json ? "\"level\":\"info\",\"message\":\"m\",\"v\":%s%.*s%s%s,\"next\":1}\n"
                           : "INFO  m v=%s%.*s%s%s next=1\n",
                      quote, (int)kept, value, kept < total ? MARK : "", quote);
    if (json)
      assert_json_line(expected);
    else
      assert_text_line(expected);
    free(expected);
  }
  free(value);
}

static void test_value_cuts(void **state) {
  (void)state;
  check_value_cut("x", 2047, 2047);
  check_value_cut("x", 2048, 2048);
  check_value_cut("x", 2049, 2048);
  check_value_cut("x", 100000, 2048);
  check_value_cut("\xe2\x82\xac", 2046, 2046); /* the next one would be split */
  check_value_cut("\xe2\x82\xac", 2049, 2046);
  check_value_cut("\xf0\x9f\x98\x80", 2052, 2048);
}

static void test_message_cuts(void **state) {
  (void)state;
  static const struct {
    lw_log_level level;
    const char *word;
    size_t total, kept;
  } cases[] = {
      {LW_LOG_INFO, "INFO ", 4096, 4096},   {LW_LOG_INFO, "INFO ", 4097, 4096},
      {LW_LOG_INFO, "INFO ", 50000, 4096},  {LW_LOG_WARN, "WARN ", 16384, 16384},
      {LW_LOG_WARN, "WARN ", 16385, 16384}, {LW_LOG_ERROR, "ERROR", 50000, 16384},
  };
  for (size_t i = 0; i < LW_ARRAY_SIZE(cases); i++) {
    char *message = repeat("x", cases[i].total);
    begin(LW_LOG_INFO, LW_LOG_TEXT);
    lw_log(cases[i].level, "%s", message);
    char *expected = lw_printf_dup("%s %.*s%s\n", cases[i].word, (int)cases[i].kept, message,
                                   cases[i].kept < cases[i].total ? MARK : "");
    assert_text_line(expected);
    free(expected);
    free(message);
  }
}

/* However much there is, a line stays within its bound and stays a line. */
static void test_line_bound(void **state) {
  (void)state;
  static const char *const pieces[] = {"x", "\x01", "\xff", "\"", "\n", "\xe2\x82\xac"};
  enum {
    FIELDS = 60
  };
  for (size_t p = 0; p < LW_ARRAY_SIZE(pieces); p++) {
    for (size_t length = 1; length < 5000; length = length * 3 / 2 + 1) {
      char *value = repeat(pieces[p], length);
      lw_field fields[FIELDS];
      for (int i = 0; i < FIELDS; i++) fields[i] = lw_field_text(i % 2 ? value : "key", value);
      for (int json = 0; json < 2; json++) {
        begin(LW_LOG_INFO, json ? LW_LOG_JSON : LW_LOG_TEXT);
        lw_log_fields(LW_LOG_INFO, value, fields, FIELDS);
        finish();
        assert_in_range(seen_n, 1, 32768);
        assert_true(json ? is_json_line(seen) : is_text_line(seen));
      }
      free(value);
    }
    char *message = repeat(pieces[p], 20000);
    for (int json = 0; json < 2; json++) {
      begin(LW_LOG_INFO, json ? LW_LOG_JSON : LW_LOG_TEXT);
      lw_error("%s", message);
      finish();
      assert_in_range(seen_n, 1, 32768);
      assert_true(json ? is_json_line(seen) : is_text_line(seen));
    }
    free(message);
  }
}

static uint64_t dice;
static unsigned roll(unsigned sides) {
  dice ^= dice << 13;
  dice ^= dice >> 7;
  dice ^= dice << 17;
  return (unsigned)((dice >> 11) % sides);
}

/* Random bytes, rich in what UTF-8 and JSON treat specially. */
static void scramble(char *bytes, size_t n) {
  static const char special[] =
      "\"\\\n\r\t\0\x1b\x7f\xc2\x80\xe2\xe0\xed\xa0\xf0\xf4\x90\xbf\xff {}:,";
  for (size_t i = 0; i < n; i++)
    bytes[i] = roll(3) ? special[roll(sizeof special - 1)] : (char)roll(256);
}

static void test_random_bytes(void **state) {
  (void)state;
  static char message[20001], values[4][4001];
  const char *given = getenv("LW_SEED");
  uint64_t seed =
      given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL) * 1000 + (uint64_t)getpid();
  print_message("random bytes with LW_SEED=%llu\n", (unsigned long long)seed);
  dice = seed * 2 + 1;
  for (int turn = 0; turn < 1500; turn++) {
    size_t n = roll(10) ? roll(200) : roll(20001);
    scramble(message, n);
    message[n] = '\0';
    lw_field fields[4];
    for (int i = 0; i < 4; i++) {
      n = roll(10) ? roll(60) : roll(4001);
      scramble(values[i], n);
      values[i][n] = '\0';
      fields[i] = lw_field_span(values[(i + 1) % 4], (lw_span){values[i], n});
    }
    bool json = roll(2);
    begin(LW_LOG_INFO, json ? LW_LOG_JSON : LW_LOG_TEXT);
    if (roll(2))
      lw_log_fields(LW_LOG_INFO, message, fields, 4);
    else
      lw_error("%s", message);
    finish();
    assert_in_range(seen_n, 1, 32768);
    assert_true(json ? is_json_line(seen) : is_text_line(seen));
  }
}

/* -- descriptors that are no plain files -- */

static void begin_pipe(lw_log_format format, bool blocking) {
  int ends[2];
  assert_int_equal(pipe(ends), 0);
  source_fd = ends[0];
  sink_fd = ends[1];
  assert_int_equal(fcntl(source_fd, F_SETFL, O_NONBLOCK), 0);
  if (!blocking) assert_int_equal(fcntl(sink_fd, F_SETFL, O_NONBLOCK), 0);
  lw_log_setup(sink_fd, LW_LOG_INFO, format);
}

static void finish_pipe(void) {
  close(source_fd);
  close(sink_fd);
  lw_log_setup(STDERR_FILENO, LW_LOG_INFO, LW_LOG_TEXT);
}

/* What lies in the pipe now. */
static void read_pipe(void) {
  ssize_t got;
  seen_n = 0;
  while ((got = read(source_fd, seen + seen_n, LINES_MOST - seen_n)) > 0) seen_n += (size_t)got;
  seen[seen_n] = '\0';
}

static void fill_pipe(void) {
  static const char page[4096];
  int flags = fcntl(sink_fd, F_GETFL);
  fcntl(sink_fd, F_SETFL, flags | O_NONBLOCK);
  while (write(sink_fd, page, sizeof page) > 0) continue;
  while (write(sink_fd, page, 1) > 0) continue;
  fcntl(sink_fd, F_SETFL, flags);
}

static void free_a_page(void) {
  char page[4096];
  assert_int_equal(read(source_fd, page, sizeof page), sizeof page);
}

static void check_stalled(bool blocking) {
  begin_pipe(LW_LOG_JSON, blocking);
  fill_pipe();
  errno = ENOENT;
  for (int i = 0; i < 1000; i++) lw_info("lost"); /* must come back from each */
  assert_int_equal(errno, ENOENT);
  read_pipe();
  assert_null(strstr(seen, "lost"));
  lw_info("back");
  lw_info("on");
  read_pipe();
  assert_non_null(strstr(seen, "\"message\":\"back\",\"log_lines_dropped\":1000}\n{"));
  assert_non_null(strstr(seen, "\"message\":\"on\"}\n"));
  finish_pipe();
}

static void test_stalled_reader(void **state) {
  (void)state;
  check_stalled(true);
  check_stalled(false);
}

/* A long line of which only the first piece gets through must not swallow the line after it. */
static void check_torn(bool blocking) {
  char *message = repeat("x", 9000);
  begin_pipe(LW_LOG_TEXT, blocking);
  fill_pipe();
  free_a_page();
  lw_error("%s", message);
  read_pipe();
  const char *part = memchr(seen, '2', seen_n);
  assert_non_null(part);
  assert_int_equal(seen + seen_n - part, 4096);
  assert_int_equal(seen[seen_n - 1], 'x');
  lw_error("%s", message);
  read_pipe();
  assert_int_equal(seen[0], '\n');
  mask_time(seen + 1, "0000-00-00 00:00:00.000 ERROR x");
  assert_non_null(strstr(seen, "xx log_lines_dropped=1\n"));
  lw_info("whole");
  read_pipe();
  mask_time(seen, "0000-00-00 00:00:00.000 INFO  whole\n");
  finish_pipe();
  free(message);
}

static void test_torn_line(void **state) {
  (void)state;
  check_torn(true);
  check_torn(false);
}

static void test_reader_gone(void **state) {
  (void)state;
  void (*before)(int) = signal(SIGPIPE, SIG_IGN);
  begin_pipe(LW_LOG_TEXT, true);
  close(source_fd);
  errno = ENOENT;
  lw_info("nobody reads");
  assert_int_equal(errno, ENOENT);
  source_fd = dup(sink_fd);
  finish_pipe();
  signal(SIGPIPE, before);
  lw_log_setup(-1, LW_LOG_INFO, LW_LOG_TEXT);
  lw_info("nowhere");
  lw_log_setup(STDERR_FILENO, LW_LOG_INFO, LW_LOG_TEXT);
}

static void check_terminal(lw_log_format format, const char *expected) {
  source_fd = posix_openpt(O_RDWR | O_NOCTTY);
  if (source_fd < 0 || grantpt(source_fd) != 0 || unlockpt(source_fd) != 0) {
    print_message("skipped: no pseudo terminals here\n");
    skip();
  }
  sink_fd = open(ptsname(source_fd), O_RDWR | O_NOCTTY);
  assert_true(sink_fd >= 0);
  struct termios t;
  assert_int_equal(tcgetattr(sink_fd, &t), 0);
  cfmakeraw(&t);
  assert_int_equal(tcsetattr(sink_fd, TCSANOW, &t), 0);
  lw_log_setup(sink_fd, LW_LOG_INFO, format);
  lw_warn("seen");
  ssize_t got = read(source_fd, seen, LINES_MOST);
  assert_true(got > 0);
  seen[got] = '\0';
  assert_non_null(strstr(seen, expected));
  finish_pipe();
}

static void test_terminal(void **state) {
  (void)state;
  unsetenv("NO_COLOR");
  check_terminal(LW_LOG_AUTO, " \x1b[33mWARN  \x1b[0mseen\n");
  check_terminal(LW_LOG_JSON, "\"level\":\"warn\",\"message\":\"seen\"}\n");
  setenv("NO_COLOR", "1", 1);
  check_terminal(LW_LOG_AUTO, " WARN  seen\n");
  unsetenv("NO_COLOR");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_the_reader),   cmocka_unit_test(test_text),
      cmocka_unit_test(test_json),         cmocka_unit_test(test_time),
      cmocka_unit_test(test_messages),     cmocka_unit_test(test_hostile_values),
      cmocka_unit_test(test_hostile_keys), cmocka_unit_test(test_numbers),
      cmocka_unit_test(test_levels),       cmocka_unit_test(test_value_cuts),
      cmocka_unit_test(test_message_cuts), cmocka_unit_test(test_line_bound),
      cmocka_unit_test(test_random_bytes), cmocka_unit_test(test_stalled_reader),
      cmocka_unit_test(test_torn_line),    cmocka_unit_test(test_reader_gone),
      cmocka_unit_test(test_terminal),
  };
  return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
