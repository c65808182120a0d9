/* SPDX-License-Identifier: MIT
 * JSON text (RFC 8259) to a flat array of nodes, and strings to JSON text. The parser is simdjson
 * behind this header (json.cc is the project's one C++ file); nothing of C++ shows here.
 *
 * A document is an array of nodes in document order. Containers know where they end, so a subtree
 * is skipped in one step and a subtree is itself a valid run of nodes:
 *
 *   {"a":[1,true]}   →  0 OBJECT next=5 | 1 STRING "a" (key) | 2 ARRAY next=5 | 3 INT | 4 TRUE
 *
 * In an object, nodes alternate key (STRING), value (subtree). Every node carries the slice of the
 * original text it came from. The whole text is validated: grammar, UTF-8, lone surrogates in \u
 * escapes are accepted and become U+FFFD in the unescaped value (the original text stays in
 * `text`). */
#pragma once

#include "floor/base.h"

/* cdef: begin */
typedef enum lw_json_kind {
  LW_JSON_NULL,
  LW_JSON_FALSE,
  LW_JSON_TRUE,
  LW_JSON_INT,    /* fits int64: .integer */
  LW_JSON_UINT,   /* above INT64_MAX, fits uint64: .integer holds the bits */
  LW_JSON_NUMBER, /* a fraction or exponent, or -0: .number */
  LW_JSON_BIG,    /* out of range for these: .number is the nearest double, perhaps 0 or inf */
  LW_JSON_STRING, /* .string: the unescaped UTF-8 */
  LW_JSON_ARRAY,
  LW_JSON_OBJECT,
} lw_json_kind;

typedef struct lw_json_node {
  uint32_t kind;   /* lw_json_kind */
  uint32_t next;   /* index of the node after this whole subtree */
  uint32_t offset; /* this value's text in the document: doc.text + offset, `length` bytes */
  uint32_t length;
  union {
    int64_t integer;
    double number;
    const char *string; /* unescaped bytes: in the text itself when nothing was escaped */
    uint64_t count;     /* array: elements; object: members */
  };
  uint32_t string_length;
  uint32_t escaped; /* 2: the canonical print of the value (lw_json_escape, lw_json_number_text, the
                       digits of INT and UINT) differs from its text: "\/", "\u00e9", 1.0, any BIG.
                       1: the same, but a STRING's text holds a backslash. Else 0. */
} lw_json_node;
/* cdef: end */

typedef struct lw_json {
  lw_json_node *nodes; /* read-only */
  uint32_t count;
  const char *text;
  size_t text_length;
  void *parser;        /* private */
  const char *error;   /* after a failed parse: what is wrong, static text */
  size_t error_offset; /* and where, as far as known */
} lw_json;

void lw_json_init(lw_json *j);
void lw_json_fini(lw_json *j); /* frees nodes and the unescaped strings */
/* Forgets the document and gives back memory beyond what a small one needs; what is kept serves the
 * next parse. For owners that recycle the object. */
void lw_json_trim(lw_json *j);

/* Parses `n` bytes (n < 2^32 - 64) of `text`, which must stay alive and unchanged while nodes are
 * used and be readable for LW_JSON_PADDING bytes past the end. Depth at most 512. LW_OK, or
 * LW_PROTOCOL with ->error set. May be called again on the same object: the memory is reused.
 * Of two members with the same key both nodes are kept; lw_json_member finds the last. */
#define LW_JSON_PADDING 64
lw_code lw_json_parse(lw_json *j, const char *text, size_t n) LW_MUST_CHECK;

/* The value node of the object at `object`'s last member called key; 0 when absent (0 is the root,
 * never a member). */
uint32_t lw_json_member(const lw_json *j, uint32_t object, lw_span key);
static inline lw_span lw_json_text(const lw_json *j, uint32_t node) {
  return (lw_span){j->text + j->nodes[node].offset, j->nodes[node].length};
}
static inline lw_span lw_json_string(const lw_json *j, uint32_t node) {
  return (lw_span){j->nodes[node].string, j->nodes[node].string_length};
}

/* How many bytes from the front of s are well-formed UTF-8 (RFC 3629); s.n when all are. */
size_t lw_json_utf8_prefix(lw_span s);

/* How many bytes lw_json_escape() will write for s, quotes included. Equal to s.n + 2 when nothing
 * needs escaping. Each ill-formed UTF-8 sequence is counted and written as one U+FFFD. Never
 * more than 6 s.n + 2. */
size_t lw_json_escaped_size(lw_span s);
/* Writes s as a JSON string, quotes included; out has lw_json_escaped_size(s) bytes. Escapes only
 * what RFC 8259 §7 demands (quote, backslash, controls: short forms, else \u00xx). Returns bytes
 * written. */
size_t lw_json_escape(char *out, lw_span s);
/* Shortest text that reads back as the same double, in JSON's grammar: 0.1, 300, 1e+16, 1e-05 (an
 * exponent from 1e16 up and below 1e-4; integral values have no fraction; -0 keeps its sign). NaN
 * and infinities → 0 bytes. out has 32 bytes. */
size_t lw_json_number_text(char *out, double v);
