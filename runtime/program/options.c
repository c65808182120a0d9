/* SPDX-License-Identifier: MIT
 * Reading options from the command line and the environment. Called by every command. */
#include "program/options.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

#include "floor/log.h"

_Noreturn void lw_usage_error(const char *command, const char *format, ...) {
  va_list args;
  va_start(args, format);
  fprintf(stderr, "luaworker %s: ", command);
  vfprintf(stderr, format, args);
  fprintf(stderr, "\nTry: luaworker %s --help\n", command);
  va_end(args);
  exit(2);
}

bool lw_text_is_true(const char *text) {
  static const char *const words[] = {"true", "1", "yes", "on", "y", "t"};
  for (size_t i = 0; text && i < LW_ARRAY_SIZE(words); i++) {
    if (strcasecmp(text, words[i]) == 0) return true;
  }
  return false;
}

static bool parse_number(const lw_option *o, const char *text) {
  char *end;
  errno = 0;
  int64_t v = strtoll(text, &end, 10);
  if (end == text || *end || errno == ERANGE) return false;
  if ((o->min || o->max) && (v < o->min || v > o->max)) return false;
  *(int64_t *)o->value = v;
  return true;
}

static bool parse_seconds(const lw_option *o, const char *text) {
  char *end;
  double v = strtod(text, &end);
  if (end == text || *end || !(v >= 0 && v < 1e9)) return false;
  *(double *)o->value = v;
  return true;
}

static bool parse_bytes(const lw_option *o, const char *text) {
  char *end;
  double v = strtod(text, &end);
  if (end == text || !(v >= 0 && v < 1e15)) return false;
  switch (*end) {
    case 'k':
    case 'K':
      v *= 1024;
      end++;
      break;
    case 'm':
    case 'M':
      v *= 1024 * 1024;
      end++;
      break;
    case 'g':
    case 'G':
      v *= 1024.0 * 1024 * 1024;
      end++;
      break;
    default:
      break;
  }
  if (*end || v > 1e15) return false;
  *(uint64_t *)o->value = (uint64_t)v;
  return true;
}

static void set_option(const lw_command *c, const lw_option *o, const char *text,
                       const char *from) {
  bool ok = true;
  switch (o->kind) {
    case LW_OPTION_FLAG:
      *(bool *)o->value = text ? lw_text_is_true(text) : true;
      break;
    case LW_OPTION_TEXT:
      *(const char **)o->value = text;
      break;
    case LW_OPTION_NUMBER:
      ok = parse_number(o, text);
      break;
    case LW_OPTION_SECONDS:
      ok = parse_seconds(o, text);
      break;
    case LW_OPTION_BYTES:
      ok = parse_bytes(o, text);
      break;
    case LW_OPTION_HEADING:
      break;
  }
  if (ok) return;
  char range[64] = "";
  if (o->min || o->max)
    snprintf(range, sizeof range, " from %" PRId64 " to %" PRId64, o->min, o->max);
  static const char *const wanted[] = {[LW_OPTION_NUMBER] = "a whole number",
                                       [LW_OPTION_SECONDS] = "seconds such as 1.5",
                                       [LW_OPTION_BYTES] = "bytes such as 64M"};
  lw_usage_error(c->name, "%s takes %s%s, not \"%s\"", from, wanted[o->kind], range, text);
}

static void read_environment(const lw_command *c) {
  for (size_t i = 0; i < c->count; i++) {
    const lw_option *o = &c->options[i];
    const char *text = o->env ? getenv(o->env) : NULL;
    if (text && *text) set_option(c, o, text, o->env);
  }
}

void lw_options_help(const lw_command *c) {
  printf("Usage: luaworker %s %s\n\n%s\n", c->name, c->synopsis, c->about);
  for (size_t i = 0; i < c->count; i++) {
    const lw_option *o = &c->options[i];
    if (o->kind == LW_OPTION_HEADING) {
      printf("\n%s:\n", o->name);
      continue;
    }
    if (i == 0) printf("\nOptions:\n");
    char left[64];
    snprintf(left, sizeof left, "--%s%s%s", o->name, o->arg ? " " : "", o->arg ? o->arg : "");
    printf("  %-26s %s", left, o->help);
    if (o->env) printf(" [env %s]", o->env);
    if (o->kind == LW_OPTION_NUMBER) printf(" (default %" PRId64 ")", *(int64_t *)o->value);
    if (o->kind == LW_OPTION_SECONDS) printf(" (default %g)", *(double *)o->value);
    if (o->kind == LW_OPTION_BYTES) printf(" (default %" PRIu64 "M)", *(uint64_t *)o->value >> 20);
    const char *text = o->kind == LW_OPTION_TEXT ? *(const char **)o->value : NULL;
    if (text && *text) printf(" (default %s)", text);
    printf("\n");
  }
}

int lw_options_parse(const lw_command *c, int argc, char **argv) {
  struct option *longs = lw_calloc(c->count + 2, sizeof *longs);
  size_t n = 0;
  for (size_t i = 0; i < c->count; i++) {
    const lw_option *o = &c->options[i];
    if (o->kind == LW_OPTION_HEADING) continue;
    longs[n++] =
        (struct option){o->name, o->arg ? required_argument : no_argument, NULL, (int)i + 256};
  }
  longs[n] = (struct option){"help", no_argument, NULL, 1};
  for (int i = 1; i < argc && argv[i][0] == '-'; i++) {
    if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
      lw_options_help(c);
      exit(0);
    }
  }
  read_environment(c);
  opterr = 0;
  optind = 0; /* glibc: start afresh */
  int found;
  while ((found = getopt_long_only(argc, argv, c->stop_at_first ? "+:" : ":", longs, NULL)) != -1) {
    if (found == 1) {
      lw_options_help(c);
      exit(0);
    }
    if (found == '?') lw_usage_error(c->name, "unknown option %s", argv[optind - 1]);
    if (found == ':') lw_usage_error(c->name, "option %s needs a value", argv[optind - 1]);
    const lw_option *o = &c->options[found - 256];
    char from[80];
    snprintf(from, sizeof from, "--%s", o->name);
    set_option(c, o, optarg, from);
  }
  free(longs);
  return optind;
}

void lw_options_setup_log(const char *command, const char *level, const char *format) {
  static const char *const formats[] = {
      [LW_LOG_AUTO] = "auto", [LW_LOG_TEXT] = "text", [LW_LOG_JSON] = "json"};
  lw_log_level l;
  if (!lw_log_parse_level(level, &l)) {
    lw_usage_error(command, "--log-level is debug, info, warn, error or off, not \"%s\"", level);
  }
  for (size_t i = 0; i < LW_ARRAY_SIZE(formats); i++) {
    if (strcmp(formats[i], format) != 0) continue;
    lw_log_setup(STDERR_FILENO, l, (lw_log_format)i);
    return;
  }
  lw_usage_error(command, "--log-format is auto, text or json, not \"%s\"", format);
}
