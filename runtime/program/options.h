/* SPDX-License-Identifier: MIT
 * Command-line options: one table per command says their names, environment variables, defaults and
 * help text. Wrong ones end the process with a sentence and status 2. */
#pragma once

#include "floor/base.h"

typedef enum lw_option_kind {
  LW_OPTION_FLAG,    /* bool */
  LW_OPTION_TEXT,    /* const char * */
  LW_OPTION_NUMBER,  /* int64_t, within min and max */
  LW_OPTION_SECONDS, /* double; "1.5" */
  LW_OPTION_BYTES,   /* uint64_t; "64M", "512K", "1G" */
  LW_OPTION_HEADING, /* no option: its name stands above those that follow in the help */
} lw_option_kind;

typedef struct lw_option {
  const char *name; /* without dashes */
  lw_option_kind kind;
  void *value;     /* holds the default */
  const char *arg; /* "N", "FILE" in the help; NULL for flags */
  const char *help;
  const char *env;  /* an environment variable with the same meaning; the option wins. NULL: none */
  int64_t min, max; /* NUMBER; both 0: any */
} lw_option;

typedef struct lw_command {
  const char *name, *synopsis, *about;
  const lw_option *options;
  size_t count;
  bool stop_at_first; /* options end at the first other argument (it has options of its own) */
} lw_command;

/* argv[0] is the command's name. Returns the index in argv of the first argument that is no option
 * (they are moved to the end). --help prints and exits 0. */
int lw_options_parse(const lw_command *c, int argc, char **argv);
void lw_options_help(const lw_command *c);
/* A sentence on stderr, then exit status 2. */
_Noreturn void lw_usage_error(const char *command, const char *format, ...) LW_PRINTF(2, 3);
/* "true/1/yes/on/y/t", any case (protocol §1). */
bool lw_text_is_true(const char *text);
/* Applies --log-level and --log-format; a wrong name is a usage error. */
void lw_options_setup_log(const char *command, const char *level, const char *format);
