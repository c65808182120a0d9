/* SPDX-License-Identifier: MIT
 * What went wrong with requests, told to the operator: one log line each, and of many that are
 * alike few lines with how many there were (floor/fold). A timer runs only while something that
 * was counted has yet to be told. */
#pragma once

#include "floor/fold.h"

void lw_complain(const lw_fold_line *line);
/* A new script is there: what still fails is told anew. */
void lw_complaint_reset(void);
void lw_complaint_close(void); /* the program ends: all that was counted is told */
