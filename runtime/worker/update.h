/* SPDX-License-Identifier: MIT
 * POST /pyworker/update (protocol §6): whoever has the master token leaves a file that makes the
 * launcher install anew at the next start. */
#pragma once

#include "worker/builtin.h"

extern const lw_builtin lw_update_builtin;
/* Texts are borrowed. An empty token closes the route: 401 for everyone. */
void lw_update_set(const char *master_token, const char *file);
