/* SPDX-License-Identifier: MIT
 * The program's first step: which command, then its function. */
#include <stdio.h>

#include "program/program.h"

#ifndef LW_VERSION
#define LW_VERSION "unknown"
#endif

typedef struct command {
  const char *name;
  int (*main)(int argc, char **argv);
  const char *help;
} command;

static const command commands[] = {
    {"serve", lw_serve_main, "serve a worker script: the product"},
    {"init", lw_init_main, "write a new worker script to begin with"},
    {"check", lw_check_main, "find the mistakes of a worker script"},
    {"test", lw_test_main, "run tests of worker scripts, without a network"},
    {"dev", lw_dev_main, "model stand-in, local autoscaler and worker in one go"},
    {"call", lw_call_main, "ask an autoscaler for a route and send one request"},
    {"status", lw_status_main, "ask a running worker how it is"},
    {"drain", lw_drain_main, "let a running worker end what it has and take no more"},
    {"verify", lw_verify_main, "check the signature of a saved request offline"},
    {"load", lw_load_main, "load test of a worker script's route"},
    {"run", lw_run_main, "run any Lua program on the runtime"},
};

static void print_help(FILE *out) {
  fprintf(out,
          "luaworker %s: a worker beside a model server, scripted in Lua.\n\n"
          "Usage: luaworker COMMAND [options]\n\nCommands:\n",
          LW_VERSION);
  for (size_t i = 0; i < LW_ARRAY_SIZE(commands); i++) {
    fprintf(out, "  %-8s %s\n", commands[i].name, commands[i].help);
  }
  fprintf(out,
          "\nluaworker COMMAND --help tells the options of each.\n"
          "To begin: luaworker init mine, then luaworker dev mine.lua\n");
}

int main(int argc, char **argv) {
  if (argc < 2) {
    print_help(stderr);
    return 2;
  }
  const char *name = argv[1];
  if (strcmp(name, "--version") == 0) {
    printf("luaworker %s\n", LW_VERSION);
    return 0;
  }
  if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
    print_help(stdout);
    return 0;
  }
  for (size_t i = 0; i < LW_ARRAY_SIZE(commands); i++) {
    if (strcmp(commands[i].name, name) == 0) return commands[i].main(argc - 1, argv + 1);
  }
  fprintf(stderr, "luaworker: no command \"%s\"\n\n", name);
  print_help(stderr);
  return 2;
}
