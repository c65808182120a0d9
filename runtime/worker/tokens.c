/* SPDX-License-Identifier: MIT
 * Counts as a byte-pair vocabulary of some 100,000 tokens would, as far as the shapes of words
 * tell. One pass, one table look-up a byte and no decoding, so ill-formed text does no harm. Called
 * for workloads, from scripts. Keeps no state. */
#include "worker/tokens.h"

/* A token is counted for each started
 *
 * - 8 letters of a word; a capital weighs 2; a letter of two bytes (é, Cyrillic, Greek, Arabic) 3;
 *   an Indic or Thai one 4. A capital or an apostrophe after another kind begins a new word:
 *   get|User|Name, don|'t
 * - 3 digits, 3 signs of one run
 * - wide sign: CJK, kana, hangul, dashes, arrows (U+0080–00BF and U+2000–FFFF, roughly); 2 tokens
 *   for those above U+FFFF (emoji)
 * - run of blanks from two; a single blank belongs to the word after it
 * - run of line ends
 *
 * The rule of thumb that vendors publish for English is 1 token for 4 characters, or for 0.75
 * words. Here the text of the GPL comes to 4.3 characters and 0.69 words a token, with its lines
 * joined to 4.7 and 0.77; C sources to 2.7 characters. This was fitted to the rule, not to a
 * vocabulary: expect it within a fifth for English prose, within a half for source code, JSON and
 * other Latin scripts, and no better than a factor of two elsewhere, where the vocabularies differ
 * that much among themselves. Good enough to weigh requests against each other, not to bill them.
 */
#define SAMPLED_ABOVE 65536
#define ENDLESS 1000000000

typedef enum kind {
  SKIPPED,
  SMALL,
  CAPITAL,
  DIGIT,
  SIGN,
  WIDE,
  EMOJI,
  BLANK,
  BLANKS,
  LINE_END
} kind;

static const struct {
  int room, tokens; /* the weight that fits in one group, and what opening a group counts */
} groups[] = {
    [SMALL] = {8, 1}, [CAPITAL] = {8, 1},      [DIGIT] = {3, 1},
    [SIGN] = {3, 1},  [WIDE] = {1, 1},         [EMOJI] = {1, 2},
    [BLANK] = {1, 0}, [BLANKS] = {ENDLESS, 1}, [LINE_END] = {ENDLESS, 1},
};

typedef struct shape {
  uint8_t kind, weight;
} shape;

/* By the byte. */
static const shape shapes[256] = {
    ['a' ... 'z'] = {SMALL, 1},
    ['A' ... 'Z'] = {CAPITAL, 2},
    ['0' ... '9'] = {DIGIT, 1},
    ['\''] = {CAPITAL, 1},
    [' '] = {BLANK, 1},
    ['\t'] = {BLANK, 1},
    ['\n'] = {LINE_END, 1},
    ['\r'] = {LINE_END, 1},
    [0x00 ... 0x08] = {SIGN, 1},
    [0x0b ... 0x0c] = {SIGN, 1},
    [0x0e ... 0x1f] = {SIGN, 1},
    ['!' ... '&'] = {SIGN, 1},
    ['(' ... '/'] = {SIGN, 1},
    [':' ... '@'] = {SIGN, 1},
    ['[' ... '`'] = {SIGN, 1},
    ['{' ... 0x7f] = {SIGN, 1},
    [0x80 ... 0xbf] = {SKIPPED, 0}, /* inside a code point: its first byte was counted */
    [0xc0 ... 0xc1] = {SMALL, 3},
    [0xc2] = {WIDE, 1},
    [0xc3 ... 0xdf] = {SMALL, 3},
    [0xe0 ... 0xe1] = {SMALL, 4},
    [0xe2 ... 0xef] = {WIDE, 1},
    [0xf0 ... 0xff] = {EMOJI, 1},
};

static uint64_t count(lw_span text) {
  uint64_t tokens = 0;
  kind last = SKIPPED;
  int room = 0;
  for (size_t i = 0; i < text.n; i++) {
    shape s = shapes[(unsigned char)text.p[i]];
    kind now = s.kind;
    if (now == SKIPPED) continue;
    if (now == BLANK && (last == BLANK || last == BLANKS)) now = BLANKS;
    if (now != last && !(last == CAPITAL && now == SMALL)) room = 0;
    if (s.weight > room) {
      tokens += (uint64_t)groups[now].tokens;
      room = groups[now].room;
    }
    room -= s.weight;
    last = now;
  }
  return tokens;
}

double lw_tokens_count(lw_span text) {
  if (text.n == 0) return 0;
  double tokens;
  if (text.n <= SAMPLED_ABOVE) {
    tokens = (double)count(text);
  } else {
    const size_t part = SAMPLED_ABOVE / 3;
    const size_t starts[] = {0, (text.n - part) / 2, text.n - part};
    tokens = 0;
    for (int i = 0; i < 3; i++) {
      tokens += (double)count((lw_span){text.p + starts[i], part});
    }
    tokens *= (double)text.n / (double)(3 * part);
  }
  return LW_MAX(tokens, 1);
}
