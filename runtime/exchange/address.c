/* SPDX-License-Identifier: MIT
 * Addresses of servers: URLs, and sockets of this machine. Takes them apart and puts paths behind
 * them; opens nothing. Called by upstream for each new address and by worker/route. */
#include "exchange/address.h"

#include <stdio.h>
#include <stdlib.h>

static bool begins(lw_span text, const char *with) {
  size_t n = strlen(with);
  return text.n >= n && lw_span_ieq((lw_span){text.p, n}, (lw_span){with, n});
}

static lw_span behind(lw_span text, size_t n) { return (lw_span){text.p + n, text.n - n}; }

static bool is_unix(lw_span address) { return begins(address, "unix:"); }

lw_span lw_address_socket(lw_span address) {
  if (!is_unix(address)) return (lw_span){"", 0};
  lw_span path = behind(address, 5);
  const char *colon = memchr(path.p, ':', path.n);
  if (colon) path.n = (size_t)(colon - path.p);
  return path;
}

/* What stands behind the socket: the path to ask for, or nothing. */
static lw_span base_of(lw_span address, lw_span socket) {
  size_t used = 5 + socket.n;
  return behind(address, LW_MIN(used + 1, address.n));
}

static const char *socket_mistake(lw_span address) {
  lw_span socket = lw_address_socket(address), base = base_of(address, socket);
  if (socket.n == 0 || socket.p[0] != '/') return "the path of a unix socket begins with /";
  if (socket.n > LW_ADDRESS_MAX_SOCKET) return "the path of a unix socket has at most 107 bytes";
  for (size_t i = 0; i < socket.n; i++) {
    unsigned char c = (unsigned char)socket.p[i];
    if (c <= ' ' || c == 127) return "the path of a unix socket holds no white space";
  }
  if (base.n && base.p[0] != '/') return "behind a unix socket stands :/path, or nothing";
  return NULL;
}

const char *lw_address_mistake(lw_span address) {
  if (is_unix(address)) return socket_mistake(address);
  if (begins(address, "http://") || begins(address, "https://")) return NULL;
  return "not an http, https or unix URL";
}

char *lw_address_url(lw_span address) {
  if (!is_unix(address)) return lw_span_dup(address);
  lw_span base = base_of(address, lw_address_socket(address));
  return lw_printf_dup("http://localhost%.*s", (int)base.n, base.p);
}

char *lw_address_join(const char *base, const char *path) {
  lw_span address = lw_span_of(base), socket = lw_address_socket(address);
  bool bare = socket.n && 5 + socket.n == address.n;
  size_t least = bare ? address.n : socket.n ? 5 + socket.n + 1 : 0;
  while (address.n > least && base[address.n - 1] == '/') address.n--;
  return lw_printf_dup("%.*s%s%s", (int)address.n, base, bare ? ":" : "", path);
}

/* Where the host of a URL, or the user before it, begins and, returned, ends. */
static size_t host_of(lw_span url, size_t *begin) {
  size_t end;
  *begin = 0;
  for (size_t i = 0; i + 2 < url.n && *begin == 0; i++) {
    if (memcmp(url.p + i, "://", 3) == 0) *begin = i + 3;
  }
  for (end = *begin; end < url.n && !strchr("/?#", url.p[end]);) end++;
  return end;
}

/* Where in it the host itself begins. */
static size_t behind_user(lw_span url, size_t host, size_t end) {
  size_t from = end;
  while (from > host && url.p[from - 1] != '@') from--;
  return from;
}

bool lw_address_is_single(lw_span address) {
  if (is_unix(address)) return true;
  size_t host = 0, end = host_of(address, &host), at = behind_user(address, host, end);
  if (at < end && address.p[at] == '[') return true;
  while (at < end && strchr("0123456789.", address.p[at])) at++;
  return at == end || address.p[at] == ':';
}

lw_span lw_address_origin(lw_span address) {
  static char text[200];
  lw_span socket = lw_address_socket(address);
  if (is_unix(address)) {
    int n = snprintf(text, sizeof text, "unix:%.*s", (int)socket.n, socket.p);
    return (lw_span){text, LW_MIN((size_t)n, sizeof text - 1)};
  }
  size_t host = 0, end = host_of(address, &host);
  size_t from = behind_user(address, host, end);
  int n = snprintf(text, sizeof text, "%.*s%.*s", (int)LW_MIN(host, 16), address.p,
                   (int)(end - from), address.p + from);
  return (lw_span){text, LW_MIN((size_t)n, sizeof text - 1)};
}

char *lw_address_shown(lw_span address) {
  lw_span origin = lw_address_origin(address), path;
  if (is_unix(address)) {
    path = behind(address, LW_MIN(5 + lw_address_socket(address).n, address.n));
  } else {
    size_t host;
    path = behind(address, host_of(address, &host));
  }
  size_t n = 0;
  while (n < path.n && path.p[n] != '?' && path.p[n] != '#') n++;
  return lw_printf_dup("%.*s%.*s%s", (int)origin.n, origin.p, (int)n, path.p,
                       n < path.n ? "?..." : "");
}

char *lw_address_shown_all(const char *addresses) {
  char *all = lw_strdup("");
  lw_span rest = lw_span_of(addresses), address;
  while (lw_span_next(&rest, ',', &address)) {
    char *one = lw_address_shown(address), *before = all;
    all = lw_printf_dup("%s%s%s", before, *before ? "," : "", one);
    free(before);
    free(one);
  }
  return all;
}
