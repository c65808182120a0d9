/* SPDX-License-Identifier: MIT
 * Counted JSON documents, each holding its text. A document that nobody refers to any more goes to
 * a small pool with its parsing memory trimmed, so that the next request finds it warm. Used by
 * request and, through script/api, by Lua. Owns the pool; the runtime has one thread that parses.
 */
#include "wire/doc.h"

#include <stdlib.h>

#define SPARE_LIMIT 16

static lw_doc *spares[SPARE_LIMIT];
static size_t spare_count;

static lw_doc *take_spare(void) {
  if (spare_count > 0) return spares[--spare_count];
  lw_doc *d = lw_alloc(sizeof *d);
  lw_json_init(&d->json);
  return d;
}

static void free_doc(lw_doc *d) {
  lw_json_fini(&d->json);
  free(d);
}

lw_doc *lw_doc_parse(lw_body *body) {
  lw_doc *d = take_spare();
  d->refs = 1;
  d->body = lw_body_ref(body);
  lw_code code = lw_json_parse(&d->json, body->p, body->n);
  assert((code == LW_OK) == (d->json.error == NULL));
  return d;
}

lw_doc *lw_doc_parse_copy(const char *p, size_t n) {
  lw_body *body = lw_body_new();
  lw_body_append(body, p, n);
  lw_doc *d = lw_doc_parse(body);
  lw_body_unref(body);
  return d;
}

lw_doc *lw_doc_ref(lw_doc *d) {
  assert(d->refs > 0);
  d->refs++;
  return d;
}

void lw_doc_unref(lw_doc *d) {
  if (!d) return;
  assert(d->refs > 0);
  if (--d->refs > 0) return;
  lw_body_unref(d->body);
  d->body = NULL;
  if (spare_count == SPARE_LIMIT) {
    free_doc(d);
    return;
  }
  lw_json_trim(&d->json);
  spares[spare_count++] = d;
}

void lw_doc_drop_spares(void) {
  while (spare_count > 0) free_doc(spares[--spare_count]);
}
