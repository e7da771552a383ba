#include "grass_chacha20.h"

#include "bytes.h"

#define QUARTER(x, a, b, c, d)          \
  do {                                  \
    x[a] += x[b], x[d] ^= x[a];         \
    x[d] = x[d] << 16 | x[d] >> 16;     \
    x[c] += x[d], x[b] ^= x[c];         \
    x[b] = x[b] << 12 | x[b] >> 20;     \
    x[a] += x[b], x[d] ^= x[a];         \
    x[d] = x[d] << 8 | x[d] >> 24;      \
    x[c] += x[d], x[b] ^= x[c];         \
    x[b] = x[b] << 7 | x[b] >> 25;      \
  } while (0)

/// Columns, then diagonals. `x` is an array of words, or of vectors that have a word of each of several blocks.
#define DOUBLE_ROUND(x)          \
  do {                           \
    QUARTER(x, 0, 4, 8, 12);     \
    QUARTER(x, 1, 5, 9, 13);     \
    QUARTER(x, 2, 6, 10, 14);    \
    QUARTER(x, 3, 7, 11, 15);    \
    QUARTER(x, 0, 5, 10, 15);    \
    QUARTER(x, 1, 6, 11, 12);    \
    QUARTER(x, 2, 7, 8, 13);     \
    QUARTER(x, 3, 4, 9, 14);     \
  } while (0)

/// What the rounds begin with: "expand 32-byte k", the key, the block's number, the nonce.
GRASS_INLINE void chacha20_state(uint32_t state[16], const uint8_t key[32], const uint8_t nonce[12], uint32_t counter) {
  state[0] = 0x61707865, state[1] = 0x3320646e, state[2] = 0x79622d32, state[3] = 0x6b206574;
  grass_get_words(state + 4, key, 8);
  state[12] = counter;
  grass_get_words(state + 13, nonce, 3);
}

GRASS_INLINE void chacha20_words(uint32_t words[16], const uint32_t state[16]) {
  GRASS_UNROLL for (unsigned index = 0; index < 16; index++) words[index] = state[index];
  for (unsigned round = 0; round < 10; round++) DOUBLE_ROUND(words);
  GRASS_UNROLL for (unsigned index = 0; index < 16; index++) words[index] += state[index];
}

GRASS_APART void grass_chacha20_block(const uint8_t key[32], const uint8_t nonce[12], uint32_t counter, uint8_t block[64]) {
  uint32_t state[16], words[16];
  chacha20_state(state, key, nonce, counter);
  chacha20_words(words, state);
  grass_put_words(block, words, 16);
  GRASS_FORGET(state);
  GRASS_FORGET(words);
}

void grass_chacha20_start(uint32_t start[16], const uint8_t key[32], const uint8_t nonce[12]) {
  chacha20_state(start, key, nonce, 0);
}

GRASS_APART void grass_chacha20_words(const uint32_t start[16], uint32_t counter, uint32_t words[16]) {
  uint32_t state[16], result[16];
  GRASS_UNROLL for (unsigned index = 0; index < 16; index++) state[index] = start[index];
  state[12] = counter;
  chacha20_words(result, state);
  GRASS_UNROLL for (unsigned index = 0; index < 16; index++) words[index] = result[index];
  GRASS_FORGET(state);
  GRASS_FORGET(result);
}

#if defined(__NVPTX__)

void grass_chacha20_pair(
    const uint8_t key[32], const uint8_t nonce[12], uint32_t counter, uint32_t first[16], uint32_t second[16]) {
  uint32_t state[16];
  chacha20_state(state, key, nonce, counter);
  chacha20_words(first, state);
  state[12]++;
  chacha20_words(second, state);
}

#else

// A processor has vectors: of four words everywhere, of eight or sixteen where it has AVX2 or AVX-512, which is asked at run
// time. A vector of eight words is two of four where there is no better.

typedef uint32_t four_words __attribute__((vector_size(16)));
typedef uint32_t eight_words __attribute__((vector_size(32)));
typedef uint32_t sixteen_words __attribute__((vector_size(64)));

#define ROTATE(x, bits) (x = x << bits | x >> (32 - bits))

/// A quarter round of four columns at once: `a` to `d` are the rows of one block, or of two.
#define ROWS(a, b, c, d)                \
  do {                                  \
    a += b, d ^= a, ROTATE(d, 16);      \
    c += d, b ^= c, ROTATE(b, 12);      \
    a += b, d ^= a, ROTATE(d, 8);       \
    c += d, b ^= c, ROTATE(b, 7);       \
  } while (0)

/// Moves the words of each row of two blocks, so that diagonals become columns.
#define TURN(x, by)                                                                                              \
  (x = __builtin_shufflevector(                                                                                  \
       x, x, (0 + by) % 4, (1 + by) % 4, (2 + by) % 4, (3 + by) % 4, 4 + (0 + by) % 4, 4 + (1 + by) % 4, 4 + (2 + by) % 4, \
       4 + (3 + by) % 4))

/// Two blocks, row by row: what a short record needs, in little more time than one takes.
GRASS_INLINE void chacha20_two(const uint32_t state[16], uint32_t first[16], uint32_t second[16]) {
  eight_words rows[4];
  for (unsigned row = 0; row < 4; row++) {
    const uint32_t *words = state + 4 * row;
    rows[row] = (eight_words){words[0], words[1], words[2], words[3], words[0], words[1], words[2], words[3]};
  }
  rows[3] += (eight_words){0, 0, 0, 0, 1, 0, 0, 0};
  eight_words a = rows[0], b = rows[1], c = rows[2], d = rows[3];
  for (unsigned round = 0; round < 10; round++) {
    ROWS(a, b, c, d);
    TURN(b, 1), TURN(c, 2), TURN(d, 3);
    ROWS(a, b, c, d);
    TURN(b, 3), TURN(c, 2), TURN(d, 1);
  }
  eight_words sums[4] = {a + rows[0], b + rows[1], c + rows[2], d + rows[3]};
  for (unsigned row = 0; row < 4; row++) {
    __builtin_memcpy(first + 4 * row, &sums[row], 16);
    __builtin_memcpy(second + 4 * row, (const uint8_t *)&sums[row] + 16, 16);
  }
}

/// Four blocks at once, one in each lane of four.
static void chacha20_xor_four(uint32_t state[16], const uint8_t *from, uint8_t *to) {
  four_words start[16], x[16];
  GRASS_UNROLL for (unsigned index = 0; index < 16; index++)
    start[index] = (four_words){state[index], state[index], state[index], state[index]};
  start[12] += (four_words){0, 1, 2, 3};
  GRASS_UNROLL for (unsigned index = 0; index < 16; index++) x[index] = start[index];
  for (unsigned round = 0; round < 10; round++) DOUBLE_ROUND(x);
  GRASS_UNROLL for (unsigned index = 0; index < 16; index += 4) {
    // Four words of four blocks become four blocks' four words.
    four_words a = x[index] + start[index], b = x[index + 1] + start[index + 1];
    four_words c = x[index + 2] + start[index + 2], d = x[index + 3] + start[index + 3];
    four_words ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
    four_words ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7), cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    four_words blocks[4] = {
        __builtin_shufflevector(ab, cd, 0, 1, 4, 5), __builtin_shufflevector(ab, cd, 2, 3, 6, 7),
        __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5), __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7)};
    GRASS_UNROLL for (unsigned block = 0; block < 4; block++) {
      four_words text;
      __builtin_memcpy(&text, from + 64 * block + 4 * index, sizeof text);
      text ^= blocks[block];
      __builtin_memcpy(to + 64 * block + 4 * index, &text, sizeof text);
    }
  }
  state[12] += 4;
}

#if defined(GRASS_AVX2)
/// Eight blocks at once, one in each lane of eight.
GRASS_AVX2 static void chacha20_xor_eight(uint32_t state[16], const uint8_t *from, uint8_t *to) {
  eight_words start[16], x[16];
  GRASS_UNROLL for (unsigned index = 0; index < 16; index++) {
    uint32_t word = state[index];
    start[index] = (eight_words){word, word, word, word, word, word, word, word};
  }
  start[12] += (eight_words){0, 1, 2, 3, 4, 5, 6, 7};
  GRASS_UNROLL for (unsigned index = 0; index < 16; index++) x[index] = start[index];
  for (unsigned round = 0; round < 10; round++) DOUBLE_ROUND(x);
  GRASS_UNROLL for (unsigned index = 0; index < 16; index += 4) {
    // As above in each half: the low one has blocks 0 to 3, the high one 4 to 7.
    eight_words a = x[index] + start[index], b = x[index + 1] + start[index + 1];
    eight_words c = x[index + 2] + start[index + 2], d = x[index + 3] + start[index + 3];
    eight_words ab = __builtin_shufflevector(a, b, 0, 8, 1, 9, 4, 12, 5, 13);
    eight_words cd = __builtin_shufflevector(c, d, 0, 8, 1, 9, 4, 12, 5, 13);
    eight_words ab_high = __builtin_shufflevector(a, b, 2, 10, 3, 11, 6, 14, 7, 15);
    eight_words cd_high = __builtin_shufflevector(c, d, 2, 10, 3, 11, 6, 14, 7, 15);
    eight_words blocks[4] = {
        __builtin_shufflevector(ab, cd, 0, 1, 8, 9, 4, 5, 12, 13),
        __builtin_shufflevector(ab, cd, 2, 3, 10, 11, 6, 7, 14, 15),
        __builtin_shufflevector(ab_high, cd_high, 0, 1, 8, 9, 4, 5, 12, 13),
        __builtin_shufflevector(ab_high, cd_high, 2, 3, 10, 11, 6, 7, 14, 15)};
    GRASS_UNROLL for (unsigned block = 0; block < 4; block++) {
      GRASS_UNROLL for (unsigned half = 0; half < 2; half++) {
        uint64_t at = 64 * (block + 4 * half) + 4 * index;
        four_words text, stream = half ? __builtin_shufflevector(blocks[block], blocks[block], 4, 5, 6, 7)
                                       : __builtin_shufflevector(blocks[block], blocks[block], 0, 1, 2, 3);
        __builtin_memcpy(&text, from + at, sizeof text);
        text ^= stream;
        __builtin_memcpy(to + at, &text, sizeof text);
      }
    }
  }
  state[12] += 8;
}

#if defined(GRASS_AVX512)
/// Of two vectors of four quarters each, the even ones; and the odd ones.
#define EVEN_QUARTERS(a, b) \
  __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27)
#define ODD_QUARTERS(a, b) \
  __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31)
/// Words of two vectors in turns, in each quarter those of its first half; and of its second half.
#define FIRST_WORDS(a, b) \
  __builtin_shufflevector(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29)
#define LAST_WORDS(a, b) \
  __builtin_shufflevector(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31)
/// The same by pairs of words.
#define FIRST_PAIRS(a, b) \
  __builtin_shufflevector(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29)
#define LAST_PAIRS(a, b) \
  __builtin_shufflevector(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31)

/// Sixteen blocks at once, one in each lane of sixteen.
GRASS_AVX512 static void chacha20_xor_sixteen(uint32_t state[16], const uint8_t *from, uint8_t *to) {
  sixteen_words x[16], quarters[4][4];
  GRASS_UNROLL for (unsigned index = 0; index < 16; index++) x[index] = (sixteen_words){} + state[index];
  const sixteen_words numbers = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  x[12] += numbers;
  for (unsigned round = 0; round < 10; round++) DOUBLE_ROUND(x);
  x[12] += numbers;
  GRASS_UNROLL for (unsigned row = 0; row < 4; row++) {
    sixteen_words *words = x + 4 * row;
    GRASS_UNROLL for (unsigned index = 0; index < 4; index++) words[index] += state[4 * row + index];
    // Quarter q of the vector for n has four words of block 4 · q + n.
    sixteen_words ab = FIRST_WORDS(words[0], words[1]), cd = FIRST_WORDS(words[2], words[3]);
    quarters[0][row] = FIRST_PAIRS(ab, cd), quarters[1][row] = LAST_PAIRS(ab, cd);
    ab = LAST_WORDS(words[0], words[1]), cd = LAST_WORDS(words[2], words[3]);
    quarters[2][row] = FIRST_PAIRS(ab, cd), quarters[3][row] = LAST_PAIRS(ab, cd);
  }
  GRASS_UNROLL for (unsigned number = 0; number < 4; number++) {
    const sixteen_words *rows = quarters[number];
    sixteen_words even = EVEN_QUARTERS(rows[0], rows[1]), even_low = EVEN_QUARTERS(rows[2], rows[3]);
    sixteen_words odd = ODD_QUARTERS(rows[0], rows[1]), odd_low = ODD_QUARTERS(rows[2], rows[3]);
    sixteen_words blocks[4] = {
        EVEN_QUARTERS(even, even_low), EVEN_QUARTERS(odd, odd_low), ODD_QUARTERS(even, even_low), ODD_QUARTERS(odd, odd_low)};
    GRASS_UNROLL for (unsigned quarter = 0; quarter < 4; quarter++) {
      sixteen_words text;
      uint64_t at = 64 * (4 * quarter + number);
      __builtin_memcpy(&text, from + at, sizeof text);
      text ^= blocks[quarter];
      __builtin_memcpy(to + at, &text, sizeof text);
    }
  }
  state[12] += 16;
}
#endif

GRASS_AVX2 static void chacha20_two_fast(const uint32_t state[16], uint32_t first[16], uint32_t second[16]) {
  chacha20_two(state, first, second);
}
#endif

static void chacha20_two_anywhere(const uint32_t state[16], uint32_t first[16], uint32_t second[16]) {
#if defined(GRASS_AVX2)
  if (grass_has_avx2()) {
    chacha20_two_fast(state, first, second);
    return;
  }
#endif
  chacha20_two(state, first, second);
}

void grass_chacha20_pair(
    const uint8_t key[32], const uint8_t nonce[12], uint32_t counter, uint32_t first[16], uint32_t second[16]) {
  uint32_t state[16];
  chacha20_state(state, key, nonce, counter);
  chacha20_two_anywhere(state, first, second);
  GRASS_FORGET(state);
}
#endif

GRASS_APART void grass_chacha20_xor(
    const uint8_t key[32], const uint8_t nonce[12], uint32_t counter, const uint8_t *from, uint8_t *to, uint64_t length) {
  uint32_t state[16], words[16];
  chacha20_state(state, key, nonce, counter);
#if defined(GRASS_AVX512)
  if (length >= 1024 && grass_has_avx512())
    for (; length >= 1024; length -= 1024, from += 1024, to += 1024) chacha20_xor_sixteen(state, from, to);
#endif
#if defined(GRASS_AVX2)
  if (length >= 512 && grass_has_avx2())
    for (; length >= 512; length -= 512, from += 512, to += 512) chacha20_xor_eight(state, from, to);
#endif
#if !defined(__NVPTX__)
  for (; length >= 256; length -= 256, from += 256, to += 256) chacha20_xor_four(state, from, to);
  if (length > 64) {
    // Two and three blocks together cost less than one by one.
    uint32_t stream[32];
    for (; length > 64; state[12] += 2) {
      chacha20_two_anywhere(state, stream, stream + 16);
      uint64_t count = length < 128 ? length : 128;
      const uint8_t *bytes = (const uint8_t *)stream;
      for (uint64_t index = 0; index < count; index++) to[index] = from[index] ^ bytes[index];
      length -= count, from += count, to += count;
    }
    GRASS_FORGET(stream);
  }
#endif
  for (; length >= 64; length -= 64, from += 64, to += 64, state[12]++) {
    uint32_t text[16];
    chacha20_words(words, state);
    grass_get_words(text, from, 16);
    GRASS_UNROLL for (unsigned index = 0; index < 16; index++) text[index] ^= words[index];
    grass_put_words(to, text, 16);
  }
  if (length > 0) {
    uint8_t block[64];
    chacha20_words(words, state);
    grass_put_words(block, words, 16);
    for (uint64_t index = 0; index < length; index++) to[index] = from[index] ^ block[index];
    grass_wipe(block, sizeof block);
  }
  GRASS_FORGET(state);
  GRASS_FORGET(words);
}
