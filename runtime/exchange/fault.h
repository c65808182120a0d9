/* SPDX-License-Identifier: MIT
 * What went wrong with a call, in words: the rest of a sentence that begins with the server, as
 * "model http://127.0.0.1:5001 ". Pure; every text is allocated and the caller's to free. */
#pragma once

#include "wire/h1_answer.h"

char *lw_fault_unreachable(int os_errno);
/* TLS could not begin, and not because of a certificate; `detail` as OpenSSL says it. */
char *lw_fault_handshake(const char *detail);
/* The connection broke, `received` bytes of the body had come. */
char *lw_fault_lost(const lw_h1_answer *a, uint64_t received);
/* The answer is not HTTP; `detail` says in which way. */
char *lw_fault_protocol(const lw_h1_answer *a, uint64_t received, const char *detail);
/* A deadline has passed. */
char *lw_fault_total(uint64_t total_ms);
char *lw_fault_connect(uint64_t connect_ms);
char *lw_fault_first_byte(uint64_t first_byte_ms);
char *lw_fault_idle(uint64_t idle_ms, uint64_t received);
