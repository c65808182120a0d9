/* SPDX-License-Identifier: MIT
 * The commands, and what several of them share. Each command's function gets argv with its own name
 * in argv[0] and returns the exit status. */
#pragma once

#include "floor/base.h"

int lw_serve_main(int argc, char **argv);
int lw_run_main(int argc, char **argv);
int lw_dev_main(int argc, char **argv);
int lw_call_main(int argc, char **argv);
int lw_verify_main(int argc, char **argv);
int lw_status_main(int argc, char **argv);
int lw_check_main(int argc, char **argv);
int lw_test_main(int argc, char **argv);
int lw_init_main(int argc, char **argv);
int lw_load_main(int argc, char **argv);
int lw_drain_main(int argc, char **argv);
/* `run` without option parsing: program is a file, or @name for one carried in the binary. argv[0]
 * is replaced by it in the script's arg[0]. */
int lw_run_program(const char *program, int argc, char **argv);

/* Lets the process open as many files as the system allows it: each stream needs two. */
void lw_program_raise_limits(void);
/* Prints one `counters` line to the log: everything that must be back to zero when nothing runs. */
void lw_program_log_counters(void);
/* After the loop has been stopped: drops idle connections and recycled memory, closes the loop. */
void lw_program_close(void);
/* Stops the loop as soon as no task and no script is alive, at the latest after 5 s. */
void lw_program_stop_when_quiet(void);
