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

#if !defined(__NVPTX__)
typedef uint32_t word_lanes __attribute__((vector_size(16)));

/// Four blocks at once, one in each lane of a processor's vectors.
static void chacha20_xor_four(uint32_t state[16], const uint8_t *from, uint8_t *to) {
  word_lanes start[16], x[16];
  GRASS_UNROLL for (unsigned index = 0; index < 16; index++)
    start[index] = (word_lanes){state[index], state[index], state[index], state[index]};
  start[12] += (word_lanes){0, 1, 2, 3};
  GRASS_UNROLL for (unsigned index = 0; index < 16; index++) x[index] = start[index];
  for (unsigned round = 0; round < 10; round++) DOUBLE_ROUND(x);
  GRASS_UNROLL for (unsigned index = 0; index < 16; index += 4) {
    // Four words of four blocks become four blocks' four words.
    word_lanes a = x[index] + start[index], b = x[index + 1] + start[index + 1];
    word_lanes c = x[index + 2] + start[index + 2], d = x[index + 3] + start[index + 3];
    word_lanes ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
    word_lanes ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7), cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    word_lanes rows[4] = {
        __builtin_shufflevector(ab, cd, 0, 1, 4, 5), __builtin_shufflevector(ab, cd, 2, 3, 6, 7),
        __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5), __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7)};
    GRASS_UNROLL for (unsigned block = 0; block < 4; block++) {
      word_lanes text;
      __builtin_memcpy(&text, from + 64 * block + 4 * index, sizeof text);
      text ^= rows[block];
      __builtin_memcpy(to + 64 * block + 4 * index, &text, sizeof text);
    }
  }
  state[12] += 4;
}
#endif

GRASS_APART void grass_chacha20_xor(
    const uint8_t key[32], const uint8_t nonce[12], uint32_t counter, const uint8_t *from, uint8_t *to, uint64_t length) {
  uint32_t state[16], words[16];
  chacha20_state(state, key, nonce, counter);
#if !defined(__NVPTX__)
  for (; length >= 256; length -= 256, from += 256, to += 256) chacha20_xor_four(state, from, to);
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
