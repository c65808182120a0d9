/* SPDX-License-Identifier: MIT
 * The words for failed calls. Called by upstream, which knows what happened; decides nothing. */
#include "exchange/fault.h"

#include <errno.h>
#include <stdio.h>

static const char *duration(uint64_t ms) {
  static char text[32];
  if (ms < 1000) {
    snprintf(text, sizeof text, "%u ms", (unsigned)ms);
  } else {
    snprintf(text, sizeof text, "%.15g s", (double)ms / 1000);
  }
  return text;
}

char *lw_fault_unreachable(int os_errno) {
  if (os_errno == ECONNREFUSED) return lw_strdup("refused the connection");
  if (os_errno == 0) return lw_strdup("can't be reached");
  return lw_printf_dup("can't be reached: %s", strerror(os_errno));
}

char *lw_fault_handshake(const char *detail) {
  if (strstr(detail, "wrong version number") || strstr(detail, "packet length too long")) {
    return lw_strdup("does not speak TLS: is it an http:// server?");
  }
  return lw_printf_dup("can't be called: the TLS handshake failed: %s", detail);
}

char *lw_fault_lost(const lw_h1_answer *a, uint64_t received) {
  unsigned long long got = received, length = a->length;
  if (!a->complete) {
    return lw_strdup(a->inside ? "broke off within the head of its answer"
                               : "closed the connection before answering");
  }
  if (a->has_length) return lw_printf_dup("broke off after %llu of %llu bytes", got, length);
  return lw_printf_dup("broke off after %llu bytes", got);
}

char *lw_fault_protocol(const lw_h1_answer *a, uint64_t received, const char *detail) {
  if (!a->complete) return lw_printf_dup("did not answer in proper HTTP/1: %s", detail);
  return lw_printf_dup("broke HTTP after %llu bytes of its answer: %s",
                       (unsigned long long)received, detail);
}

char *lw_fault_total(uint64_t total_ms) {
  return lw_printf_dup("did not finish its answer within %s", duration(total_ms));
}

char *lw_fault_connect(uint64_t connect_ms) {
  return lw_printf_dup("did not connect within %s", duration(connect_ms));
}

char *lw_fault_first_byte(uint64_t first_byte_ms) {
  return lw_printf_dup("sent no answer within %s", duration(first_byte_ms));
}

char *lw_fault_idle(uint64_t idle_ms, uint64_t received) {
  return lw_printf_dup("sent nothing more for %s, after %llu bytes", duration(idle_ms),
                       (unsigned long long)received);
}
