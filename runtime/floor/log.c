/* SPDX-License-Identifier: MIT
 * Makes a log line on the stack, safe whatever bytes its values hold, and hands it to one
 * descriptor. Does not rotate, buffer or decide what is worth logging. Called by every room, from
 * the loop thread only. Owns the process's log settings and the count of dropped lines. */
#include "floor/log.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LINE_BYTES 32768
#define LINE_RESERVE 128 /* for what closes a full line */
#define VALUE_MOST 2048
#define MESSAGE_MOST 4096
#define TRACEBACK_MOST 8192 /* as a field */
#define LONG_MESSAGE_MOST 16384
#define KEY_MOST 128
#define FIELD_LEAST                                                                              \
  1200                   /* a key of KEY_MOST bytes, all of them escaped, and the longest number \
                          */
#define PIECE_BYTES 4096 /* PIPE_BUF, and what poll(2) promises to have room for */
#define PATIENCE_MS 50
#define ATTEMPTS_MOST 64

#define CUT_MARK LW_SPAN("\xe2\x80\xa6")    /* U+2026 */
#define REPLACEMENT LW_SPAN("\xef\xbf\xbd") /* U+FFFD */

static struct {
  int fd;
  lw_log_level level;
  bool json, colour, terminal;
  bool may_block; /* not a plain file: ask before writing */
  bool stalled;   /* the last line did not get through: do not wait for the next one */
  bool torn;      /* a line broke off in the middle: begin the next one on a new line */
  int64_t dropped;
} sink = {.fd = STDERR_FILENO, .level = LW_LOG_INFO, .may_block = true};

static const char *const level_names[] = {"debug", "info", "warn", "error", "off"};
static const char *const level_words[] = {"DEBUG ", "INFO  ", "WARN  ", "ERROR "};

void lw_log_setup(int fd, lw_log_level level, lw_log_format format) {
  bool terminal = isatty(fd) == 1;
  struct stat st;
  sink.fd = fd;
  sink.level = level;
  sink.json = format == LW_LOG_JSON || (format == LW_LOG_AUTO && !terminal);
  sink.terminal = terminal && !sink.json;
  sink.colour = sink.terminal && !getenv("NO_COLOR");
  sink.may_block = fstat(fd, &st) != 0 || !S_ISREG(st.st_mode);
  sink.stalled = sink.torn = false;
  sink.dropped = 0;
}

bool lw_log_parse_level(const char *name, lw_log_level *level) {
  for (size_t i = 0; i < LW_ARRAY_SIZE(level_names); i++) {
    if (strcmp(name, level_names[i]) == 0) {
      *level = (lw_log_level)i;
      return true;
    }
  }
  return false;
}

bool lw_log_enabled(lw_log_level level) { return level >= sink.level && level < LW_LOG_OFF; }

/* -- a line in the making -- */

typedef struct line {
  size_t n;
  bool full; /* something did not fit; only the reserve is left */
  char bytes[LINE_BYTES];
} line;

/* For our own short words: also into the reserve. */
static void put_closing(line *l, lw_span s) {
  assert(s.n <= LINE_BYTES - l->n);
  memcpy(l->bytes + l->n, s.p, s.n);
  l->n += s.n;
}

static size_t room_left(const line *l) {
  const size_t end = LINE_BYTES - LINE_RESERVE;
  return l->full || l->n >= end ? 0 : end - l->n;
}

/* All or nothing. */
static bool put(line *l, lw_span s) {
  if (s.n > room_left(l)) {
    l->full = true;
    return false;
  }
  put_closing(l, s);
  return true;
}

/* -- escaping -- */

typedef enum style {
  STYLE_JSON,    /* inside the quotes of a JSON string */
  STYLE_QUOTED,  /* inside the quotes of a text value */
  STYLE_BARS,    /* the same, with bars for line breaks */
  STYLE_MESSAGE, /* a message in text: no quotes around it */
} style;

#define NOT_UTF8 UINT32_MAX

/* The first character of well-formed UTF-8 (RFC 3629: no surrogates, nothing overlong), its length
 * in *taken; NOT_UTF8 with one byte taken where it is not. */
static uint32_t decode(const unsigned char *p, size_t n, size_t *taken) {
  static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  *taken = 1;
  if (p[0] < 0x80) return p[0];
  size_t length = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
  if (p[0] < 0xc2 || p[0] > 0xf4 || length > n) return NOT_UTF8;
  uint32_t c = p[0] & (0x7fu >> length);
  for (size_t i = 1; i < length; i++) {
    if ((p[i] & 0xc0) != 0x80) return NOT_UTF8;
    c = c << 6 | (p[i] & 0x3f);
  }
  if (c < least[length] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff)) return NOT_UTF8;
  *taken = length;
  return c;
}

/* Characters that steer a terminal, break a line or turn the direction of reading. */
static bool is_control(uint32_t c) {
  return c < 0x20 || (c >= 0x7f && c <= 0x9f) || c == 0x61c || c == 0x200e || c == 0x200f ||
         (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

static inline bool is_plain(unsigned char c) {
  return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

/* A message's line break, with the white space around it, becomes a bar; at the end, nothing. */
static lw_span bar_for_breaks(const char *p, const char *end, size_t *taken) {
  const char *q = p;
  while (q < end && (*q == '\n' || *q == '\r' || *q == '\t' || *q == ' ')) q++;
  *taken = (size_t)(q - p);
  return q < end ? LW_SPAN(" | ") : LW_SPAN("");
}

/* What stands for the first character of [p, end), which is not plain; `room` is the caller's. */
static lw_span escape(const char *p, const char *end, style how, char room[8], size_t *taken) {
  uint32_t c = decode((const unsigned char *)p, (size_t)(end - p), taken);
  if (c == NOT_UTF8) return REPLACEMENT;
  if (how == STYLE_MESSAGE) {
    if (c == '"' || c == '\\') return (lw_span){p, 1};
    if (c == '\t') return LW_SPAN(" ");
  }
  if (how >= STYLE_BARS && (c == '\n' || c == '\r')) return bar_for_breaks(p, end, taken);
  switch (c) {
    case '"':
      return LW_SPAN("\\\"");
    case '\\':
      return LW_SPAN("\\\\");
    case '\n':
      return LW_SPAN("\\n");
    case '\r':
      return LW_SPAN("\\r");
    case '\t':
      return LW_SPAN("\\t");
    default:
      break;
  }
  if (!is_control(c)) return (lw_span){p, *taken};
  snprintf(room, 8, "\\u%04x", c & 0xffff);
  return (lw_span){room, 6};
}

/* At most `most` bytes of s, and the cut mark when that, or the line's room, is not all of it. */
static void put_escaped(line *l, lw_span s, size_t most, style how) {
  if (s.n == 0) return;
  const char *p = s.p, *end = s.p + s.n, *stop = s.p + LW_MIN(s.n, most);
  while (p < stop) {
    const char *run = p;
    while (run < stop && is_plain((unsigned char)*run)) run++;
    if (run > p) {
      size_t fits = LW_MIN((size_t)(run - p), room_left(l));
      put_closing(l, (lw_span){p, fits});
      p += fits;
      if (p < run) {
        l->full = true;
        break;
      }
      continue;
    }
    char room[8];
    size_t taken;
    lw_span made = escape(p, end, how, room, &taken);
    if (taken > (size_t)(stop - p) || !put(l, made)) break;
    p += taken;
  }
  if (p < end) put_closing(l, CUT_MARK);
}

/* -- fields -- */

/* Decimal point and all without printf's %f, which follows the locale a script may have set. */
static lw_span print_number(double x, char *room, size_t size) {
  int n;
  if (!isfinite(x)) return LW_SPAN("null");
  double magnitude = fabs(x);
  if (magnitude >= 1e15) {
    n = snprintf(room, size, "%.0f", x);
    return (lw_span){room, (size_t)n};
  }
  /* The whole part apart: all of it times 1000 would lose the last digits of large values. */
  uint64_t whole = (uint64_t)magnitude;
  unsigned thousandths = (unsigned)((magnitude - (double)whole) * 1000 + 0.5);
  whole += thousandths / 1000;
  thousandths %= 1000;
  const char *sign = x < 0 && whole + thousandths > 0 ? "-" : "";
  n = snprintf(room, size, "%s%" PRIu64 ".%03u", sign, whole, thousandths);
  while (room[n - 1] == '0') n--;
  if (room[n - 1] == '.') n--;
  return (lw_span){room, (size_t)n};
}

static bool is_word(lw_span s) {
  for (size_t i = 0; i < s.n; i++) {
    unsigned char c = (unsigned char)s.p[i];
    if (!is_plain(c) || c == ' ' || c == '=') return false;
  }
  return s.n > 0;
}

static void put_text_value(line *l, lw_span value) {
  bool word = !sink.json && is_word((lw_span){value.p, LW_MIN(value.n, VALUE_MOST)});
  if (!word && !put(l, LW_SPAN("\""))) return;
  put_escaped(l, value, VALUE_MOST, sink.json ? STYLE_JSON : STYLE_QUOTED);
  if (!word) put_closing(l, LW_SPAN("\""));
}

/* The separator, the key, and what stands between key and value. */
static void put_key(line *l, const char *key) {
  if (sink.json) {
    put(l, LW_SPAN(",\""));
    put_escaped(l, lw_span_of(key), KEY_MOST, STYLE_JSON);
    put(l, LW_SPAN("\":"));
    return;
  }
  put(l, LW_SPAN(" "));
  for (size_t i = 0; key[i] && i < KEY_MOST; i++) {
    bool fine = is_plain((unsigned char)key[i]) && key[i] != ' ' && key[i] != '=';
    put(l, fine ? (lw_span){key + i, 1} : LW_SPAN("_"));
  }
  put(l, LW_SPAN("="));
}

/* What it holds can't pass for a record: those do not begin with spaces. */
static void put_indented(line *l, lw_span text) {
  text.n = LW_MIN(text.n, TRACEBACK_MOST);
  while (text.n && !l->full) {
    const char *end = memchr(text.p, '\n', text.n);
    size_t n = end ? (size_t)(end - text.p) : text.n;
    if (!put(l, LW_SPAN("\n    "))) return;
    put_escaped(l, (lw_span){text.p, n}, VALUE_MOST, STYLE_MESSAGE);
    n += end != NULL;
    text = (lw_span){text.p + n, text.n - n};
  }
}

static void put_traceback(line *l, const lw_field *f) {
  if (sink.terminal) {
    put_indented(l, f->text);
    return;
  }
  put_key(l, f->key);
  if (!put(l, LW_SPAN("\""))) return;
  put_escaped(l, f->text, TRACEBACK_MOST, sink.json ? STYLE_JSON : STYLE_BARS);
  put_closing(l, LW_SPAN("\""));
}

/* Whole but for the end of a long text; a field that would not be is left out, and all after it. */
static void put_field(line *l, const lw_field *f) {
  char room[400];
  if (room_left(l) < FIELD_LEAST) l->full = true;
  if (l->full) return;
  if (f->kind != LW_FIELD_TRACEBACK) put_key(l, f->key);
  switch (f->kind) {
    case LW_FIELD_TRACEBACK:
      put_traceback(l, f);
      break;
    case LW_FIELD_TEXT:
      put_text_value(l, f->text);
      break;
    case LW_FIELD_INT:
      snprintf(room, sizeof room, "%" PRId64, f->integer);
      put(l, lw_span_of(room));
      break;
    case LW_FIELD_NUMBER:
      put(l, print_number(f->number, room, sizeof room));
      break;
    case LW_FIELD_BOOL:
      put(l, f->integer ? LW_SPAN("true") : LW_SPAN("false"));
      break;
  }
}

/* -- a whole line -- */

/* "2026-01-02T03:04:05.678"; the part before the point is made once a second. */
static void put_time(line *l) {
  static time_t made_for = -1;
  static char stamp[32];
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (now.tv_sec != made_for) {
    struct tm t;
    gmtime_r(&now.tv_sec, &t);
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &t);
    made_for = now.tv_sec;
  }
  char text[48];
  int n = snprintf(text, sizeof text, "%s.%03u", stamp, (unsigned)(now.tv_nsec / 1000000) % 1000);
  if (!sink.json) text[10] = ' ';
  put(l, (lw_span){text, (size_t)n});
}

static void begin_line(line *l, lw_log_level level, lw_span message, size_t most) {
  static const char *const colours[] = {"\x1b[2m", "\x1b[32m", "\x1b[33m", "\x1b[31m"};
  l->n = 0;
  l->full = false;
  if (sink.torn) put(l, LW_SPAN("\n"));
  if (sink.json) {
    put(l, LW_SPAN("{\"time\":\""));
    put_time(l);
    put(l, LW_SPAN("Z\",\"level\":\""));
    put(l, lw_span_of(level_names[level]));
    put(l, LW_SPAN("\",\"message\":\""));
    put_escaped(l, message, most, STYLE_JSON);
    put_closing(l, LW_SPAN("\""));
    return;
  }
  put_time(l);
  put(l, LW_SPAN(" "));
  if (sink.colour) put(l, lw_span_of(colours[level]));
  put(l, lw_span_of(level_words[level]));
  if (sink.colour) put(l, LW_SPAN("\x1b[0m"));
  put_escaped(l, message, most, STYLE_MESSAGE);
}

static void end_line(line *l) {
  if (sink.dropped > 0) {
    char text[64];
    snprintf(text, sizeof text,
             sink.json ? ",\"log_lines_dropped\":%" PRId64 : " log_lines_dropped=%" PRId64,
             sink.dropped);
    put_closing(l, lw_span_of(text));
  }
  put_closing(l, sink.json ? LW_SPAN("}\n") : LW_SPAN("\n"));
}

/* -- writing -- */

static bool wait_writable(int timeout_ms) {
  struct pollfd p = {.fd = sink.fd, .events = POLLOUT};
  return poll(&p, 1, timeout_ms) > 0;
}

/* True when the descriptor takes bytes now, or does within *patience_ms, which is used up. */
static bool ask(int *patience_ms) {
  if (wait_writable(0)) return true;
  while (*patience_ms > 0) { /* again after a signal */
    uint64_t start = lw_now_ms();
    bool writable = wait_writable(*patience_ms);
    *patience_ms -= (int)LW_MIN(lw_now_ms() - start + 1, (uint64_t)*patience_ms);
    if (writable) return true;
  }
  return false;
}

/* How many bytes got through. */
static size_t write_out(const char *p, size_t n) {
  int patience_ms = sink.stalled ? 0 : PATIENCE_MS;
  size_t done = 0;
  for (int attempts = 0; done < n && attempts < ATTEMPTS_MOST; attempts++) {
    if (sink.may_block && !ask(&patience_ms)) break;
    size_t part = sink.may_block ? LW_MIN(n - done, PIECE_BYTES) : n - done;
    ssize_t taken = write(sink.fd, p + done, part);
    if (taken >= 0)
      done += (size_t)taken;
    else if (errno != EINTR && errno != EAGAIN)
      break;
  }
  return done;
}

static void emit(const line *l) {
  int saved = errno; /* so that logging a failure does not change it */
  size_t done = write_out(l->bytes, l->n);
  if (done == l->n) {
    sink.stalled = sink.torn = false;
    sink.dropped = 0;
  } else {
    sink.stalled = true;
    sink.torn = sink.torn || done > 0;
    sink.dropped++;
  }
  errno = saved;
}

void lw_log_fields(lw_log_level level, const char *message, const lw_field *fields, size_t n) {
  if (!lw_log_enabled(level)) return;
  line l;
  begin_line(&l, level, lw_span_of(message), MESSAGE_MOST);
  for (size_t i = 0; i < n; i++) put_field(&l, &fields[i]);
  end_line(&l);
  emit(&l);
}

void lw_log(lw_log_level level, const char *format, ...) {
  if (!lw_log_enabled(level)) return;
  char message[LONG_MESSAGE_MOST + 4];
  size_t most = level >= LW_LOG_WARN ? LONG_MESSAGE_MOST : MESSAGE_MOST;
  va_list args;
  va_start(args, format);
  /* A little more than is shown, so that a cut is seen as one. */
  int n = vsnprintf(message, most + 4, format, args);
  va_end(args);
  lw_span text = {message, n < 0 ? 0 : LW_MIN((size_t)n, most + 3)};
  line l;
  begin_line(&l, level, n < 0 ? lw_span_of(format) : text, most);
  end_line(&l);
  emit(&l);
}

/* -- in a signal handler: only what signal-safety(7) lists -- */

typedef struct short_line {
  size_t n;
  char bytes[1024];
} short_line;

static void add(short_line *l, const char *text, size_t most) {
  for (size_t i = 0; text[i] && i < most && l->n < sizeof l->bytes; i++) {
    l->bytes[l->n++] = is_plain((unsigned char)text[i]) ? text[i] : '?';
  }
}
static void add_words(short_line *l, const char *text) {
  while (*text && l->n < sizeof l->bytes) l->bytes[l->n++] = *text++;
}

static void add_number(short_line *l, unsigned value, int digits, const char *behind) {
  char text[8] = "";
  while (digits--) {
    text[digits] = (char)('0' + value % 10);
    value /= 10;
  }
  add_words(l, text);
  add_words(l, behind);
}

/* The date by the calendar's own rule, counted in years that begin in March: gmtime_r() takes a
 * lock. */
static void add_time(short_line *l) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  unsigned second = (unsigned)(now.tv_sec % 86400);
  unsigned day = (unsigned)(now.tv_sec / 86400) + 719468; /* since 0000-03-01 */
  unsigned era = day / 146097, of_era = day % 146097;
  unsigned year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
  unsigned of_year = of_era - (365 * year + year / 4 - year / 100);
  unsigned month = (5 * of_year + 2) / 153;
  add_number(l, era * 400 + year + (month >= 10), 4, "-");
  add_number(l, month < 10 ? month + 3 : month - 9, 2, "-");
  add_number(l, of_year - (153 * month + 2) / 5 + 1, 2, sink.json ? "T" : " ");
  add_number(l, second / 3600, 2, ":");
  add_number(l, second / 60 % 60, 2, ":");
  add_number(l, second % 60, 2, ".");
  add_number(l, (unsigned)(now.tv_nsec / 1000000), 3, "");
}

void lw_log_in_signal(lw_log_level level, const char *message, const char *detail) {
  if (!lw_log_enabled(level)) return;
  short_line l = {.n = 0};
  if (sink.json) add_words(&l, "{\"time\":\"");
  add_time(&l);
  add_words(&l, sink.json ? "Z\",\"level\":\"" : " ");
  add_words(&l, sink.json ? level_names[level] : level_words[level]);
  if (sink.json) add_words(&l, "\",\"message\":\"");
  add_words(&l, message);
  add_words(&l, ": ");
  add(&l, detail, 256);
  add_words(&l, sink.json ? "\"}\n" : "\n");
  if (sink.may_block && !wait_writable(0)) return;
  ssize_t written = write(sink.fd, l.bytes, l.n);
  (void)written; /* nobody to tell */
}
