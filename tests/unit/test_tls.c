/* SPDX-License-Identifier: MIT
 * TLS over memory: the handshake in any pieces and versions, both directions, ends, keys that are
 * refused, and bytes that are no TLS: at random, cut short, changed on the way. */
#include "loop/tls.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tls_peer.h"

enum {
  MUCH = 300000,
  FUZZ_ROUNDS = 4000
};

static tls_pem pem;
static lw_tls_keys *keys;
static tls_peer client;
static lw_tls *tls;
static lw_buf got; /* plain bytes that came out of `tls` */
static lw_code code;

static lw_tls_keys *load(const tls_pem *p, char **why) {
  return lw_tls_keys_load(lw_span_of(p->certificate), lw_span_of(p->key), why);
}

static int make_keys(void **state) {
  (void)state;
  pem = tls_pem_new("worker.test", 90, NULL);
  char *why = NULL;
  keys = load(&pem, &why);
  if (!keys) fail_msg("%s", why);
  return 0;
}

static int drop_keys(void **state) {
  (void)state;
  lw_tls_keys_unref(keys);
  tls_pem_free(&pem);
  lw_buf_drop_spares();
  return 0;
}

static void open_version(int version) {
  tls_peer_open(&client, version);
  tls = lw_tls_new(keys);
  lw_buf_init(&got, 0, SIZE_MAX, 0);
  code = LW_OK;
}

static int open_pair(void **state) {
  (void)state;
  open_version(0);
  return 0;
}

static int close_pair(void **state) {
  (void)state;
  lw_tls_free(tls);
  tls_peer_close(&client);
  lw_buf_fini(&got);
  assert_int_equal(ERR_peek_error(), 0);
  return 0;
}

/* -- carrying bytes -- */

static void feed(const char *p, size_t n) {
  char *borrowed = lw_alloc(n ? n : 1); /* so that the sanitizer sees its ends */
  char *plain = lw_alloc(n + LW_TLS_SLACK);
  memcpy(borrowed, p, n);
  size_t plain_n = 0;
  code = lw_tls_feed(tls, borrowed, n, plain, &plain_n);
  assert_int_equal(ERR_peek_error(), 0);
  assert_in_range(plain_n, 0, n + LW_TLS_SLACK);
  lw_buf_add(&got, plain, plain_n);
  free(borrowed);
  free(plain);
}

/* The client's bytes to the server, `step` at a time. */
static bool carry_up(size_t step) {
  static char bytes[400000];
  int n = BIO_read(client.out, bytes, sizeof bytes);
  for (size_t at = 0; n > 0 && at < (size_t)n; at += step)
    feed(bytes + at, LW_MIN(step, (size_t)n - at));
  return n > 0;
}

static bool carry_down(size_t step) {
  lw_buf *out = lw_tls_out(tls);
  bool some = out->size > 0;
  while (out->size) {
    lw_span s = lw_buf_peek(out);
    size_t n = LW_MIN(step, s.n);
    BIO_write(client.in, s.p, (int)n);
    lw_buf_consume(out, n);
  }
  return some;
}

static bool shake(size_t step) {
  for (bool more = true; more;) {
    SSL_do_handshake(client.ssl);
    ERR_clear_error();
    more = carry_up(step);
    if (carry_down(step)) more = true;
  }
  return lw_tls_is_open(tls) && SSL_is_init_finished(client.ssl);
}

static void say(const char *text) {
  assert_int_equal(SSL_write(client.ssl, text, (int)strlen(text)), (int)strlen(text));
}

static void expect_got(const char *text) {
  assert_int_equal(got.size, strlen(text));
  lw_span s = lw_buf_peek(&got);
  if (s.n) assert_memory_equal(s.p, text, s.n);
  lw_buf_consume(&got, got.size);
}

static int hear(char *to, size_t size) {
  carry_down(SIZE_MAX);
  int n = SSL_read(client.ssl, to, (int)size);
  ERR_clear_error();
  return n;
}

/* -- sessions -- */

static void bytes_travel_both_ways(void **state) {
  (void)state;
  assert_false(lw_tls_is_open(tls));
  assert_true(shake(SIZE_MAX));
  say("hello");
  carry_up(SIZE_MAX);
  expect_got("hello");
  lw_buf out;
  lw_buf_init(&out, 0, 100, 0);
  lw_buf_add(&out, "world", 5);
  lw_tls_write(tls, &out);
  assert_int_equal(out.size, 0);
  char text[16] = "";
  assert_int_equal(hear(text, sizeof text), 5);
  assert_string_equal(text, "world");
  lw_buf_fini(&out);
}

static void a_byte_at_a_time_is_the_same(void **state) {
  (void)state;
  assert_true(shake(1));
  say("hel");
  say("lo");
  carry_up(1);
  expect_got("hello");
}

static void the_last_handshake_bytes_may_bring_the_first_request(void **state) {
  (void)state;
  SSL_do_handshake(client.ssl);
  carry_up(SIZE_MAX);
  carry_down(SIZE_MAX);
  SSL_do_handshake(client.ssl);
  say("GET / HTTP/1.1\r\n\r\n");
  carry_up(SIZE_MAX);
  assert_true(lw_tls_is_open(tls));
  expect_got("GET / HTTP/1.1\r\n\r\n");
}

static void each_version_from_1_2_on_is_spoken(void **state) {
  (void)state;
  const struct {
    int version;
    bool spoken;
  } cases[] = {{TLS1_3_VERSION, true}, {TLS1_2_VERSION, true}, {TLS1_1_VERSION, false}};
  for (size_t i = 0; i < LW_ARRAY_SIZE(cases); i++) {
    close_pair(state);
    open_version(cases[i].version);
    assert_int_equal(shake(SIZE_MAX), cases[i].spoken);
    if (cases[i].spoken) {
      assert_int_equal(SSL_version(client.ssl), cases[i].version);
    } else {
      assert_int_equal(code, LW_PROTOCOL);
      assert_string_equal(lw_tls_error(tls), "unsupported protocol");
    }
  }
}

static void the_protocol_is_http_1_1(void **state) {
  (void)state;
  SSL_set_alpn_protos(client.ssl, (const unsigned char *)"\x02h2\x08http/1.1", 12);
  assert_true(shake(SIZE_MAX));
  const unsigned char *chosen;
  unsigned n;
  SSL_get0_alpn_selected(client.ssl, &chosen, &n);
  assert_int_equal(n, 8);
  assert_memory_equal(chosen, "http/1.1", 8);
}

static void other_protocols_are_refused(void **state) {
  (void)state;
  SSL_set_alpn_protos(client.ssl, (const unsigned char *)"\x02h2", 3);
  assert_false(shake(SIZE_MAX));
  assert_int_equal(code, LW_PROTOCOL);
}

static void renegotiation_is_refused(void **state) {
  (void)state;
  close_pair(state);
  open_version(TLS1_2_VERSION);
  assert_true(shake(SIZE_MAX));
  SSL_renegotiate(client.ssl);
  SSL_do_handshake(client.ssl);
  carry_up(SIZE_MAX);
  carry_down(SIZE_MAX);
  int result = SSL_do_handshake(client.ssl); /* it got the alert, and does not wait on */
  assert_int_equal(SSL_get_error(client.ssl, result), SSL_ERROR_SSL);
  ERR_clear_error();
}

static void a_ticket_resumes_a_session(void **state) {
  (void)state;
  assert_true(shake(SIZE_MAX));
  char none[1];
  hear(none, 1); /* takes the tickets */
  SSL_SESSION *session = SSL_get1_session(client.ssl);
  SSL_shutdown(client.ssl); /* one that was cut off would not be used again */
  close_pair(state);
  open_version(0);
  SSL_set_session(client.ssl, session);
  assert_true(shake(SIZE_MAX));
  assert_true(SSL_session_reused(client.ssl));
  SSL_SESSION_free(session);
}

/* -- amounts -- */

static void much_comes_whole_and_fits_the_room_promised(void **state) {
  (void)state;
  assert_true(shake(SIZE_MAX));
  static char block[MUCH], back[MUCH];
  for (size_t i = 0; i < MUCH; i++) block[i] = (char)(i * 7 + i / 251);
  const size_t steps[] = {1 << 16, 16384, 1000, 17};
  for (size_t i = 0; i < LW_ARRAY_SIZE(steps); i++) {
    assert_int_equal(SSL_write(client.ssl, block, MUCH), MUCH);
    carry_up(steps[i]);
    assert_int_equal(got.size, MUCH);
    for (size_t at = 0; at < MUCH;) {
      lw_span s = lw_buf_peek(&got);
      memcpy(back + at, s.p, s.n);
      at += s.n;
      lw_buf_consume(&got, s.n);
    }
    assert_memory_equal(back, block, MUCH);
  }
}

static void writing_stops_at_the_mark(void **state) {
  (void)state;
  assert_true(shake(SIZE_MAX));
  static char block[MUCH], back[MUCH];
  memset(block, 'x', sizeof block);
  lw_buf out;
  lw_buf_init(&out, 0, SIZE_MAX, 0);
  lw_buf_add(&out, block, MUCH);
  lw_tls_write(tls, &out);
  lw_tls_write(tls, &out);
  assert_in_range(lw_tls_out(tls)->size, 32 * 1024, 49 * 1024);
  assert_true(out.size > MUCH - 49 * 1024);
  size_t n = 0;
  while (n < MUCH) {
    int some = hear(back + n, MUCH - n);
    if (some > 0) n += (size_t)some;
    lw_tls_write(tls, &out);
  }
  assert_memory_equal(back, block, MUCH);
  assert_int_equal(out.size, 0);
}

static void nothing_is_written_before_the_handshake_is_done(void **state) {
  (void)state;
  lw_buf out;
  lw_buf_init(&out, 0, 100, 0);
  lw_buf_add(&out, "early", 5);
  lw_tls_write(tls, &out);
  assert_int_equal(out.size, 5);
  assert_int_equal(lw_tls_out(tls)->size, 0);
  assert_true(shake(SIZE_MAX));
  lw_tls_write(tls, &out);
  assert_int_equal(out.size, 0);
  char text[16] = "";
  assert_int_equal(hear(text, sizeof text), 5);
  assert_string_equal(text, "early");
}

/* -- ends -- */

static void the_peers_end_is_noticed_behind_its_bytes(void **state) {
  (void)state;
  assert_true(shake(SIZE_MAX));
  say("bye");
  SSL_shutdown(client.ssl);
  assert_false(lw_tls_is_closed(tls));
  carry_up(SIZE_MAX);
  expect_got("bye");
  assert_true(lw_tls_is_closed(tls));
  assert_int_equal(code, LW_OK);
}

static void our_end_is_the_last_thing(void **state) {
  (void)state;
  lw_tls_shutdown(tls); /* nothing to end yet */
  assert_int_equal(lw_tls_out(tls)->size, 0);
  assert_true(shake(SIZE_MAX));
  lw_tls_shutdown(tls);
  size_t once = lw_tls_out(tls)->size;
  lw_tls_shutdown(tls);
  assert_int_equal(lw_tls_out(tls)->size, once);
  lw_buf out;
  lw_buf_init(&out, 0, 100, 0);
  lw_buf_add(&out, "late", 4);
  lw_tls_write(tls, &out);
  assert_int_equal(lw_tls_out(tls)->size, once);
  lw_buf_fini(&out);
  char text[4];
  assert_int_equal(hear(text, sizeof text), 0);
  assert_int_equal(SSL_get_shutdown(client.ssl), SSL_RECEIVED_SHUTDOWN);
}

/* -- what is no TLS -- */

static void plain_http_gets_an_answer_it_understands(void **state) {
  (void)state;
  const char *request = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
  feed(request, strlen(request));
  assert_int_equal(code, LW_PROTOCOL);
  assert_string_equal(lw_tls_error(tls), "plain HTTP on a TLS port");
  lw_span s = lw_buf_peek(lw_tls_out(tls));
  char *text = lw_span_dup(s);
  assert_non_null(strstr(text, "HTTP/1.1 400 Bad Request\r\n"));
  char *body = strstr(text, "\r\n\r\n") + 4;
  assert_int_equal(strlen(body), atoi(strstr(text, "Content-Length: ") + 16));
  free(text);
  feed(request, strlen(request));
  assert_int_equal(code, LW_PROTOCOL);
  assert_int_equal(lw_tls_out(tls)->size, s.n); /* said once */
}

static void a_changed_record_breaks_the_session_with_an_alert(void **state) {
  (void)state;
  assert_true(shake(SIZE_MAX));
  say("hello");
  char record[200];
  int n = BIO_read(client.out, record, sizeof record);
  record[n - 1] ^= 1;
  feed(record, (size_t)n);
  assert_int_equal(code, LW_PROTOCOL);
  assert_int_equal(got.size, 0);
  assert_non_null(lw_tls_error(tls));
  assert_true(lw_tls_out(tls)->size > 0);
  lw_buf out;
  lw_buf_init(&out, 0, 100, 0);
  lw_buf_add(&out, "lost", 4);
  lw_tls_write(tls, &out);
  assert_int_equal(out.size, 0);
}

static void a_peer_that_refuses_us_is_heard(void **state) {
  (void)state;
  SSL_set_verify(client.ssl, SSL_VERIFY_PEER, NULL);
  assert_false(shake(SIZE_MAX));
  assert_int_equal(code, LW_PROTOCOL);
  assert_non_null(strstr(lw_tls_error(tls), "alert"));
}

static uint32_t dice_state = 20261123;
static uint32_t dice(uint32_t sides) {
  dice_state = dice_state * 1664525 + 1013904223;
  return (dice_state >> 8) % sides;
}

static void random_bytes_do_no_harm(void **state) {
  char bytes[600];
  for (int round = 0; round < FUZZ_ROUNDS; round++) {
    close_pair(state);
    open_version(0);
    size_t n = 1 + dice(sizeof bytes);
    for (size_t i = 0; i < n; i++) bytes[i] = (char)dice(256);
    if (dice(2)) memcpy(bytes, "\x16\x03\x01", LW_MIN(n, 3)); /* a record's beginning */
    if (dice(2) && n > 6) memcpy(bytes + 3, "\x00\xff\x01\x00\x00\xfb", 6);
    size_t step = 1 + dice((uint32_t)n);
    for (size_t at = 0; at < n && code == LW_OK; at += step) feed(bytes + at, LW_MIN(step, n - at));
    assert_int_equal(got.size, 0);
    assert_false(lw_tls_is_open(tls));
  }
}

/* One flight of the client, changed, cut short or with something put in. */
static void carry_up_damaged(void) {
  static char bytes[70000];
  int read = BIO_read(client.out, bytes, sizeof bytes / 2);
  if (read <= 0) return;
  size_t n = (size_t)read;
  for (uint32_t i = dice(4); i > 0; i--) bytes[dice((uint32_t)n)] = (char)dice(256);
  if (dice(3) == 0) n = dice((uint32_t)n + 1);
  if (dice(3) == 0 && n) {
    size_t at = dice((uint32_t)n), more = dice(300);
    memmove(bytes + at + more, bytes + at, n - at);
    n += more;
  }
  size_t step = dice(2) ? n + 1 : 1 + dice(200);
  for (size_t at = 0; at < n; at += step) feed(bytes + at, LW_MIN(step, n - at));
}

static void damaged_sessions_do_no_harm(void **state) {
  const int versions[] = {TLS1_3_VERSION, TLS1_2_VERSION};
  unsigned opened = 0;
  for (int round = 0; round < FUZZ_ROUNDS / 10; round++) {
    close_pair(state);
    open_version(versions[dice(2)]);
    uint32_t sound = dice(4); /* flights that arrive as they are */
    for (uint32_t flight = 0; flight < 8; flight++) {
      SSL_do_handshake(client.ssl);
      if (SSL_is_init_finished(client.ssl)) SSL_write(client.ssl, "hello hello", 11);
      ERR_clear_error();
      if (flight < sound) {
        carry_up(SIZE_MAX);
      } else {
        carry_up_damaged();
      }
      carry_down(SIZE_MAX);
    }
    opened += lw_tls_is_open(tls) || got.size;
    lw_tls_shutdown(tls);
  }
  assert_in_range(opened, 1, FUZZ_ROUNDS); /* the damage also hits what comes after the handshake */
}

/* -- keys -- */

static void keys_tell_of_themselves(void **state) {
  (void)state;
  assert_string_equal(lw_tls_keys_subject(keys), "CN=worker.test");
  double left_s = lw_tls_keys_expiry_s(keys) - lw_wall_s();
  assert_in_range((uint64_t)left_s, 89 * 86400, 90 * 86400);
  assert_ptr_equal(lw_tls_keys_ref(keys), keys);
  lw_tls_keys_unref(keys);
  lw_tls_keys_unref(NULL);
}

static void expired_keys_are_taken(void **state) {
  (void)state;
  tls_pem old = tls_pem_new("old.test", -3, NULL);
  char *why = NULL;
  lw_tls_keys *k = load(&old, &why);
  assert_non_null(k);
  assert_true(lw_tls_keys_expiry_s(k) < lw_wall_s());
  lw_tls_keys_unref(k);
  tls_pem_free(&old);
}

static void bad_keys_say_what_is_wrong(void **state) {
  (void)state;
  tls_pem other = tls_pem_new("other.test", 90, NULL), locked = tls_pem_new("l.test", 90, "secret");
  char *half = lw_strdup_n(pem.certificate, strlen(pem.certificate) / 2);
  char *chain = lw_printf_dup("%s%s", pem.certificate, half);
  char *spoilt = lw_strdup(pem.certificate);
  spoilt[60] = '!';
  const struct {
    const char *certificate, *key, *why;
  } cases[] = {
      {"", pem.key, "the certificate file holds no PEM certificate"},
      {"hello\n", pem.key, "the certificate file holds no PEM certificate"},
      {pem.key, pem.key, "the certificate file holds no PEM certificate"},
      {half, pem.key, "the certificate can't be read: "},
      {spoilt, pem.key, "the certificate can't be read: "},
      {chain, pem.key, "a certificate of the chain can't be read: "},
      {pem.certificate, "", "the key file holds no PEM private key"},
      {pem.certificate, pem.certificate, "the key file holds no PEM private key"},
      {pem.certificate, other.key, "the key does not belong to the certificate"},
      {locked.certificate, locked.key, "the key is encrypted: give one without a passphrase"},
  };
  for (size_t i = 0; i < LW_ARRAY_SIZE(cases); i++) {
    char *why = NULL;
    tls_pem p = {(char *)cases[i].certificate, (char *)cases[i].key};
    assert_null(load(&p, &why));
    if (strncmp(why, cases[i].why, strlen(cases[i].why)) != 0) fail_msg("%zu: %s", i, why);
    free(why);
    assert_int_equal(ERR_peek_error(), 0);
  }
  free(half);
  free(chain);
  free(spoilt);
  tls_pem_free(&other);
  tls_pem_free(&locked);
}

static void the_chain_is_sent_along(void **state) {
  tls_pem issuer = tls_pem_new("issuer.test", 90, NULL);
  char *both = lw_printf_dup("%s\n%s", pem.certificate, issuer.certificate);
  tls_pem p = {both, pem.key};
  char *why = NULL;
  lw_tls_keys *k = load(&p, &why), *usual = keys;
  assert_non_null(k);
  close_pair(state);
  keys = k;
  open_version(0);
  keys = usual;
  lw_tls_keys_unref(k); /* the session keeps what it needs */
  assert_true(shake(SIZE_MAX));
  assert_int_equal(sk_X509_num(SSL_get_peer_cert_chain(client.ssl)), 2);
  free(both);
  tls_pem_free(&issuer);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_pair, close_pair)
int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(bytes_travel_both_ways),
      TEST(a_byte_at_a_time_is_the_same),
      TEST(the_last_handshake_bytes_may_bring_the_first_request),
      TEST(each_version_from_1_2_on_is_spoken),
      TEST(the_protocol_is_http_1_1),
      TEST(other_protocols_are_refused),
      TEST(renegotiation_is_refused),
      TEST(a_ticket_resumes_a_session),
      TEST(much_comes_whole_and_fits_the_room_promised),
      TEST(writing_stops_at_the_mark),
      TEST(nothing_is_written_before_the_handshake_is_done),
      TEST(the_peers_end_is_noticed_behind_its_bytes),
      TEST(our_end_is_the_last_thing),
      TEST(plain_http_gets_an_answer_it_understands),
      TEST(a_changed_record_breaks_the_session_with_an_alert),
      TEST(a_peer_that_refuses_us_is_heard),
      TEST(random_bytes_do_no_harm),
      TEST(damaged_sessions_do_no_harm),
      TEST(keys_tell_of_themselves),
      TEST(expired_keys_are_taken),
      TEST(bad_keys_say_what_is_wrong),
      TEST(the_chain_is_sent_along),
  };
  return cmocka_run_group_tests(tests, make_keys, drop_keys);
}
