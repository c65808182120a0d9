/* SPDX-License-Identifier: MIT
 * Plain HTTP/1.1 over connections of our own, for servers given by their number: the short way for
 * load tests. curl costs 16 us a request and looks through all connections of a server for each;
 * here it is 2 us, however many there are. Only for calls with a sink (exchange/upstream.h), whose
 * bytes nobody keeps; TLS, names, sockets and proxies' calls go by curl.
 *
 * A call is embedded in its owner, and runs on one lane, a connection, at a time; lanes without a
 * call wait for the next, last used first. When a lane that had served before breaks before any
 * byte of the answer came, the request is sent once more, on a fresh one. */
#pragma once

#include <netinet/in.h>

#include "loop/loop.h"
#include "wire/h1_answer.h"

typedef struct lw_lane_address {
  union {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
  } to;
  lw_span host, path; /* of the URL: "127.0.0.1:5001", "/generate?x=y" */
} lw_lane_address;

/* Whether this way can be taken. The spans are in `url`. */
bool lw_lane_address_of(lw_span url, lw_lane_address *out);

typedef struct lw_lane_call {
  /* The owner's: set before lw_lane_start(). head and body are borrowed until the answer has begun
   * and lw_lane_is_sent(). */
  const struct lw_lane_ops *ops;
  const lw_h1_answer *answer; /* the head, as far as line() has taken it */
  lw_span head, body;
  bool to_head;     /* a HEAD request */
  uint64_t keep_ms; /* how long its connection may stay idle; until it has ended */
  /* Read-only. */
  uint64_t dialled_ns, connected_ns; /* of a fresh connection; else 0 */
  bool reused;
  bool retried;
  struct lane *lane; /* private */
  struct berth *berth;
} lw_lane_call;

/* From uv callbacks or lw_lane_start(): only mark. */
typedef struct lw_lane_ops {
  void (*sending)(lw_lane_call *c);            /* connected, the request goes out */
  bool (*line)(lw_lane_call *c, lw_span line); /* of the head, with its end. False: refused */
  void (*body)(lw_lane_call *c, lw_span bytes);
  /* LW_EOF: the answer is complete. LW_IO: not connected, os_errno says why. LW_CLOSED: the
   * connection ended too early. LW_PROTOCOL: why, a noun phrase; NULL when line() refused. */
  void (*done)(lw_lane_call *c, lw_code code, int os_errno, const char *why);
} lw_lane_ops;

/* done() comes exactly once, perhaps from here already, unless it is cancelled before. */
void lw_lane_start(lw_lane_call *c, const lw_lane_address *to);
bool lw_lane_is_sent(const lw_lane_call *c);
void lw_lane_cancel(lw_lane_call *c); /* a running one; closes its connection */
void lw_lane_shutdown(void);          /* no call runs: closes what is idle */
