/* SPDX-License-Identifier: MIT
 * floor/buf: bounds, marks, the shape of chunks, what stays in memory; and a random walk whose
 * every step is compared with a flat array. LW_SEED repeats a walk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "floor/buf.h"

#define SPANS_MOST 65536

static void assert_bytes(const lw_buf *b, const char *expected, size_t n) {
  static lw_span spans[SPANS_MOST];
  assert_int_equal(b->size, n);
  size_t count = lw_buf_peek_many(b, spans, SPANS_MOST), at = 0;
  for (size_t i = 0; i < count; i++) {
    assert_true(spans[i].n > 0 && spans[i].n <= n - at);
    assert_memory_equal(spans[i].p, expected + at, spans[i].n);
    at += spans[i].n;
  }
  assert_int_equal(at, n);
  lw_span first = lw_buf_peek(b);
  assert_int_equal(first.n, count > 0 ? spans[0].n : 0);
  if (count > 0) assert_ptr_equal(first.p, spans[0].p);
}

static void test_empty(void **state) {
  (void)state;
  lw_buf b;
  lw_buf_init(&b, 10, 20, 0);
  assert_bytes(&b, "", 0);
  lw_buf_add(&b, NULL, 0);
  lw_buf_consume(&b, 0);
  assert_bytes(&b, "", 0);
  assert_null(b.head);
  lw_buf_fini(&b);
  lw_buf_fini(&b);
}

static void test_limit(void **state) {
  (void)state;
  lw_buf b;
  lw_buf_init(&b, 0, 5, 10);
  assert_int_equal(lw_buf_append(&b, "0123456", 7), LW_OK);
  assert_int_equal(lw_buf_append(&b, "abcd", 4), LW_LIMIT);
  assert_int_equal(lw_buf_append(&b, "abcd", SIZE_MAX), LW_LIMIT);
  assert_bytes(&b, "0123456", 7);
  assert_int_equal(lw_buf_append(&b, "abc", 3), LW_OK);
  assert_int_equal(lw_buf_append(&b, "x", 1), LW_LIMIT);
  assert_int_equal(lw_buf_append(&b, "", 0), LW_OK);
  assert_bytes(&b, "0123456abc", 10);
  lw_buf_consume(&b, 1);
  assert_int_equal(lw_buf_append(&b, "x", 1), LW_OK);
  b.limit = 4;
  assert_int_equal(lw_buf_append(&b, "x", 1), LW_LIMIT);
  lw_buf_fini(&b);
  assert_bytes(&b, "", 0);
}

static void test_take_all(void **state) {
  (void)state;
  lw_buf b;
  lw_buf_init(&b, 0, 0, 0);
  static char in[10000], out[10001];
  for (size_t i = 0; i < sizeof in; i++) in[i] = (char)(i * 7);
  assert_int_equal(lw_buf_take_all(&b, out), 0);
  lw_buf_add(&b, in, 10);
  lw_buf_add(&b, in + 10, sizeof in - 10);
  lw_buf_consume(&b, 3);
  out[sizeof in - 3] = 'x';
  assert_int_equal(lw_buf_take_all(&b, out), sizeof in - 3);
  assert_memory_equal(out, in + 3, sizeof in - 3);
  assert_int_equal(out[sizeof in - 3], 'x');
  assert_bytes(&b, "", 0);
  lw_buf_fini(&b);
}

static void test_marks(void **state) {
  (void)state;
  lw_buf b;
  lw_buf_init(&b, 2, 4, 0);
  assert_true(lw_buf_is_low(&b));
  lw_buf_add_span(&b, LW_SPAN("abc"));
  assert_false(lw_buf_is_low(&b));
  assert_false(lw_buf_is_high(&b));
  lw_buf_add_span(&b, LW_SPAN("d"));
  assert_true(lw_buf_is_high(&b));
  lw_buf_add_span(&b, LW_SPAN("e"));
  lw_buf_consume(&b, 3);
  assert_true(lw_buf_is_low(&b));
  lw_buf_fini(&b);
}

static void test_printf(void **state) {
  (void)state;
  lw_buf b;
  lw_buf_init(&b, 0, 1, 0);
  lw_buf_printf(&b, "%d %s", 12, "ab");
  assert_bytes(&b, "12 ab", 5);
  lw_buf_consume(&b, 5);
  for (int width = 500; width < 520; width++) {
    char expected[600];
    int n = snprintf(expected, sizeof expected, "%0*d", width, 7);
    lw_buf_printf(&b, "%0*d", width, 7);
    assert_bytes(&b, expected, (size_t)n);
    lw_buf_consume(&b, b.size);
  }
  lw_buf_fini(&b);
}

static char *pattern(size_t n) {
  char *bytes = lw_alloc(n);
  for (size_t i = 0; i < n; i++) bytes[i] = (char)(i * 31 + (i >> 8) * 7 + (i >> 16));
  return bytes;
}

static void test_peek_many_stops(void **state) {
  (void)state;
  lw_buf b;
  lw_buf_init(&b, 0, 1, 0);
  char *bytes = pattern(300000);
  lw_buf_add(&b, bytes, 300000);
  lw_span spans[2];
  assert_int_equal(lw_buf_peek_many(&b, spans, 0), 0);
  assert_int_equal(lw_buf_peek_many(&b, spans, 2), 2);
  assert_memory_equal(spans[1].p, bytes + spans[0].n, spans[1].n);
  assert_bytes(&b, bytes, 300000);
  lw_buf_fini(&b);
  free(bytes);
}

/* Few chunks for much at once, one for what a model's tokens leave pending. */
static void test_chunk_shapes(void **state) {
  (void)state;
  enum {
    N = 4 << 20
  };
  static lw_span spans[SPANS_MOST];
  char *bytes = pattern(N);
  lw_buf b;
  lw_buf_init(&b, 0, 1, 0);
  lw_buf_add(&b, bytes, N);
  assert_in_range(lw_buf_peek_many(&b, spans, SPANS_MOST), 1, N / 65536 + 1);
  lw_buf_fini(&b);

  for (int i = 0; i < 64; i++) lw_buf_add(&b, bytes + i * 16384, 16384); /* as curl delivers */
  assert_in_range(lw_buf_peek_many(&b, spans, SPANS_MOST), 1, 64);
  assert_bytes(&b, bytes, 64 * 16384);
  lw_buf_fini(&b);

  for (int i = 0; i < 1000; i++) lw_buf_add(&b, bytes + i * 1000, 1000);
  assert_in_range(lw_buf_peek_many(&b, spans, SPANS_MOST), 1, 200);
  assert_bytes(&b, bytes, 1000 * 1000);
  lw_buf_fini(&b);
  free(bytes);
}

static void test_move_hands_over_large_chunks(void **state) {
  (void)state;
  enum {
    N = 5 * 65536
  };
  char *bytes = pattern(N);
  lw_buf from, to;
  lw_buf_init(&from, 0, 1, N);
  lw_buf_init(&to, 0, 1, 0);
  assert_int_equal(lw_buf_append(&from, bytes, N), LW_OK);
  lw_buf_consume(&from, 100);
  lw_span before[16], after[16];
  size_t count = lw_buf_peek_many(&from, before, 16);
  assert_true(count >= 3 && count < 16);
  lw_buf_move(&to, &from, N - 100);
  assert_bytes(&to, bytes + 100, N - 100);
  assert_bytes(&from, "", 0);
  assert_int_equal(lw_buf_peek_many(&to, after, 16), count);
  for (size_t i = 0; i < count; i++) assert_ptr_equal(before[i].p, after[i].p);
  lw_buf_fini(&to);

  /* A part of a chunk stays behind. */
  assert_int_equal(lw_buf_append(&from, bytes, N), LW_OK);
  lw_buf_move(&to, &from, 65536 + 5);
  assert_bytes(&to, bytes, 65536 + 5);
  assert_bytes(&from, bytes + 65536 + 5, N - 65536 - 5);
  lw_buf_add(&to, "x", 1);
  assert_int_equal(to.size, 65536 + 6);
  lw_buf_fini(&to);
  lw_buf_fini(&from);
  free(bytes);
}

static void test_move_gathers_small_pieces(void **state) {
  (void)state;
  char *bytes = pattern(2000);
  lw_buf from, to;
  lw_buf_init(&from, 0, 1, 0);
  lw_buf_init(&to, 0, 1, 0);
  for (int i = 0; i < 100; i++) {
    lw_buf_add(&from, bytes + i * 20, 20);
    lw_buf_move(&to, &from, 20);
  }
  lw_span spans[4];
  assert_int_equal(lw_buf_peek_many(&to, spans, 4), 1);
  assert_bytes(&to, bytes, 2000);
  lw_buf_fini(&to);
  lw_buf_fini(&from);
  free(bytes);
}

#ifdef __SANITIZE_ADDRESS__
static size_t heap_in_use(void) { return 0; }
static bool heap_is_measured(void) {
  print_message("skipped: the sanitizer's allocator does not tell what is in use\n");
  return false;
}
#else
static size_t heap_in_use(void) {
  struct mallinfo2 m = mallinfo2();
  return m.uordblks + m.hblkhd;
}
static bool heap_is_measured(void) {
  void *p = malloc(1000);
  bool measured = p && heap_in_use() > 0; /* valgrind and other allocators say 0 */
  free(p);
  if (!measured) print_message("skipped: this allocator does not tell what is in use\n");
  return measured;
}
#endif

static void test_memory_held(void **state) {
  (void)state;
  if (!heap_is_measured()) skip();
  enum {
    STREAMS = 500,
    N = 32 << 20
  };
  static lw_buf streams[STREAMS];
  static const char token[100];
  lw_buf_drop_spares();
  size_t before = heap_in_use();
  for (int i = 0; i < STREAMS; i++) {
    lw_buf_init(&streams[i], 0, 1, 0);
    for (int turn = 0; turn < 200; turn++) {
      lw_buf_add(&streams[i], token, sizeof token);
      if (turn < 199) lw_buf_consume(&streams[i], sizeof token);
    }
  }
  assert_in_range(heap_in_use() - before, STREAMS * 100, STREAMS * 2300);
  for (int i = 0; i < STREAMS; i++) lw_buf_fini(&streams[i]);
  assert_in_range(heap_in_use() - before, 0, 1 << 20);

  lw_buf body;
  lw_buf_init(&body, 0, 1, 0);
  char *piece = pattern(65536);
  size_t with_piece = heap_in_use();
  for (int i = 0; i < N / 65536; i++) lw_buf_add(&body, piece, 65536);
  assert_in_range(heap_in_use() - with_piece, N - (1 << 20), N + N / 50);
  while (body.size > 0) lw_buf_consume(&body, LW_MIN(body.size, (size_t)50000));
  assert_in_range(heap_in_use() - before, 0, 1 << 20);
  free(piece);
  lw_buf_drop_spares();
  assert_int_equal(heap_in_use(), before);
}

/* Chunked framing between whole chunks must not make a buf hold many times its bytes. */
static void test_memory_of_mixed_moves(void **state) {
  (void)state;
  if (!heap_is_measured()) skip();
  static const size_t sizes[] = {600, 1500, 2048, 5000, 16384, 20000, 65536, 70000};
  char *bytes = pattern(70000);
  for (size_t s = 0; s < LW_ARRAY_SIZE(sizes); s++) {
    lw_buf from, to;
    lw_buf_init(&from, 0, 1, 0);
    lw_buf_init(&to, 0, 1, 0);
    lw_buf_drop_spares();
    size_t before = heap_in_use();
    while (to.size < 2 << 20) {
      lw_buf_add(&to, "4000\r\n", 6);
      lw_buf_add(&from, bytes, sizes[s]);
      lw_buf_move(&to, &from, sizes[s]);
      lw_buf_add(&to, "\r\n", 2);
    }
    lw_buf_drop_spares();
    assert_in_range(heap_in_use() - before, to.size, 4 * to.size);
    lw_buf_fini(&to);
    lw_buf_fini(&from);
  }
  free(bytes);
}

/* The rest of a large chunk is copied out of it, not carried along with it. */
static void test_memory_of_rests(void **state) {
  (void)state;
  if (!heap_is_measured()) skip();
  enum {
    BUFS_FED = 50
  };
  static lw_buf to[BUFS_FED];
  char *bytes = pattern(65536);
  lw_buf_drop_spares();
  size_t before = heap_in_use();
  for (int i = 0; i < BUFS_FED; i++) {
    lw_buf from;
    lw_buf_init(&from, 0, 1, 0);
    lw_buf_init(&to[i], 0, 1, 0);
    lw_buf_add(&from, bytes, 65536);
    lw_buf_consume(&from, 65536 - 1500);
    lw_buf_move(&to[i], &from, 1500);
    assert_bytes(&to[i], bytes + 65536 - 1500, 1500);
  }
  lw_buf_drop_spares();
  assert_in_range(heap_in_use() - before, BUFS_FED * 1500, BUFS_FED * 2300);
  for (int i = 0; i < BUFS_FED; i++) lw_buf_fini(&to[i]);
  free(bytes);
}

/* -- the walk -- */

#define BUFS 3
#define FLAT_MOST (1 << 20)

typedef struct flat {
  size_t n;
  char bytes[FLAT_MOST];
} flat;

static uint64_t dice;
static uint64_t roll(uint64_t sides) {
  dice ^= dice << 13;
  dice ^= dice >> 7;
  dice ^= dice << 17;
  return sides ? (dice >> 11) % sides : 0;
}

/* Sizes around the chunk sizes, often tiny, sometimes large. */
static size_t some_size(size_t most) {
  static const size_t near[] = {2048, 16384, 32768, 65536};
  size_t n;
  switch (roll(8)) {
    case 0:
      n = near[roll(LW_ARRAY_SIZE(near))] + roll(5) - 2;
      break;
    case 1:
      n = roll(150000);
      break;
    case 2:
    case 3:
      n = roll(4000);
      break;
    default:
      n = roll(60);
      break;
  }
  return LW_MIN(n, most);
}

static void step(lw_buf *bufs, flat *flats) {
  static char bytes[150001];
  size_t i = roll(BUFS), j = (i + 1 + roll(BUFS - 1)) % BUFS;
  lw_buf *b = &bufs[i];
  flat *f = &flats[i];
  switch (roll(40)) {
    case 0: {
      lw_buf_fini(b);
      f->n = 0;
      return;
    }
    case 1: {
      lw_buf_consume(b, b->size);
      f->n = 0;
      return;
    }
    default:
      break;
  }
  if (roll(10) < 4) {
    size_t n = some_size(FLAT_MOST - f->n);
    for (size_t k = 0; k < n; k++) bytes[k] = (char)roll(256);
    lw_buf_add(b, bytes, n);
    memcpy(f->bytes + f->n, bytes, n);
    f->n += n;
  } else if (roll(2)) {
    size_t n = some_size(f->n);
    lw_buf_consume(b, n);
    memmove(f->bytes, f->bytes + n, f->n - n);
    f->n -= n;
  } else {
    flat *g = &flats[j];
    size_t wanted = roll(5) ? some_size(f->n) : f->n;
    size_t n = LW_MIN(wanted, FLAT_MOST - g->n);
    lw_buf_move(&bufs[j], b, n);
    memcpy(g->bytes + g->n, f->bytes, n);
    g->n += n;
    memmove(f->bytes, f->bytes + n, f->n - n);
    f->n -= n;
  }
}

static void walk(uint64_t seed) {
  static flat flats[BUFS];
  lw_buf bufs[BUFS];
  print_message("walk with LW_SEED=%llu\n", (unsigned long long)seed);
  dice = seed * 2 + 1;
  for (int i = 0; i < BUFS; i++) {
    lw_buf_init(&bufs[i], 100, 1000, 0);
    flats[i].n = 0;
  }
  for (int turn = 0; turn < 3000; turn++) {
    step(bufs, flats);
    for (int i = 0; i < BUFS; i++) {
      lw_span first = lw_buf_peek(&bufs[i]);
      assert_int_equal(bufs[i].size, flats[i].n);
      assert_int_equal(first.n == 0, flats[i].n == 0);
      assert_true(first.n <= flats[i].n);
      if (first.n > 0) assert_memory_equal(first.p, flats[i].bytes, first.n);
    }
    if (turn % 16 == 0)
      assert_bytes(&bufs[turn / 16 % BUFS], flats[turn / 16 % BUFS].bytes,
                   flats[turn / 16 % BUFS].n);
    if (roll(500) == 0) lw_buf_drop_spares();
  }
  for (int i = 0; i < BUFS; i++) {
    assert_bytes(&bufs[i], flats[i].bytes, flats[i].n);
    lw_buf_fini(&bufs[i]);
  }
}

static void test_walk(void **state) {
  (void)state;
  const char *given = getenv("LW_SEED");
  if (given) {
    walk(strtoull(given, NULL, 10));
    return;
  }
  for (uint64_t seed = 1; seed <= 3; seed++) walk(seed);
  walk((uint64_t)time(NULL) * 1000 + (uint64_t)getpid());
}

static int drop_spares(void **state) {
  (void)state;
  lw_buf_drop_spares();
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_empty),
      cmocka_unit_test(test_limit),
      cmocka_unit_test(test_take_all),
      cmocka_unit_test(test_marks),
      cmocka_unit_test(test_printf),
      cmocka_unit_test(test_peek_many_stops),
      cmocka_unit_test(test_chunk_shapes),
      cmocka_unit_test(test_move_hands_over_large_chunks),
      cmocka_unit_test(test_move_gathers_small_pieces),
      cmocka_unit_test(test_memory_held),
      cmocka_unit_test(test_memory_of_mixed_moves),
      cmocka_unit_test(test_memory_of_rests),
      cmocka_unit_test(test_walk),
  };
  return cmocka_run_group_tests_name("buf", tests, NULL, drop_spares);
}
