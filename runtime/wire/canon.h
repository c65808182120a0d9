/* SPDX-License-Identifier: MIT
 * Prints what Python's json.dumps(message, indent=4) prints, for the texts that signatures are made
 * over: every non-ASCII code unit (and DEL) as lower-case \uXXXX. Pure. */
#pragma once

#include "floor/buf.h"

/* s as Python's ensure_ascii string, quotes included. s is valid UTF-8 (it came out of the JSON
 * parser). */
void lw_canon_string(lw_buf *out, lw_span s);
/* {"url": url} with an indent of 4: the signed text of the `url` scheme. */
void lw_canon_url_message(lw_buf *out, lw_span url);
