/* SPDX-License-Identifier: MIT
 * Where a server is reached, as operators and scripts write it:
 *
 *   http://host:port/base, https://host:port/base
 *   unix:/run/model.sock              HTTP over that socket, from the path / on
 *   unix:/run/model.sock:/base        the same, from the path /base on
 *
 * A socket's path is absolute, ends at the first colon, holds neither white space nor control
 * characters, and has at most 107 bytes, the kernel's limit. Requests over it go with
 * "Host: localhost". Pure: no I/O. */
#pragma once

#include "floor/base.h"

enum {
  LW_ADDRESS_MAX_SOCKET = 107
};

/* NULL, or what is wrong with it, to be put after "<address> can't be called: "; static text. The
 * parts behind http:// and https:// are left to the transport. */
LW_MUST_CHECK const char *lw_address_mistake(lw_span address);
/* The path of the socket; empty for all but unix: addresses. */
lw_span lw_address_socket(lw_span address);
/* The URL that is asked for: the address itself, or over a socket http://localhost/base. To be
 * freed. */
char *lw_address_url(lw_span address);
/* A socket, or a host given by its number: a single place, which needs no looking up. */
bool lw_address_is_single(lw_span address);
/* The address of a path below it; `path` begins with /, and slashes at the end of `base` count for
 * nothing. To be freed. */
char *lw_address_join(const char *base, const char *path);
/* For messages: scheme://host:port or unix:/run/model.sock, without path, user name and password;
 * at most 200 bytes of it, until the next call. */
lw_span lw_address_origin(lw_span address);
/* For messages that need the path, too: no user name, password, query and fragment, where people
 * put keys; "?..." says that something was left out. To be freed. */
char *lw_address_shown(lw_span address);
/* The same of each address in a list with commas. To be freed. */
char *lw_address_shown_all(const char *addresses);
