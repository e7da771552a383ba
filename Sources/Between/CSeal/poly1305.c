#include "grass_poly1305.h"

#include "bytes.h"

typedef struct grass_poly1305_sum poly1305_sum;

#if GRASS_WIDE

#define LOW44 ((1ull << 44) - 1)
#define LOW42 ((1ull << 42) - 1)

/// A block of 16 bytes; `top` is the bit behind them, 1 or 0.
GRASS_INLINE poly1305_sum poly1305_load(const uint8_t *block, uint64_t top) {
  uint64_t low = grass_get64(block), high = grass_get64(block + 8);
  return (poly1305_sum){{low & LOW44, (low >> 44 | high << 20) & LOW44, high >> 24 | top << 40}};
}

GRASS_INLINE poly1305_sum poly1305_plain_add(poly1305_sum a, poly1305_sum b) {
  return (poly1305_sum){{a.limb[0] + b.limb[0], a.limb[1] + b.limb[1], a.limb[2] + b.limb[2]}};
}

typedef struct {
  unsigned __int128 limb[3];
} poly1305_columns;

/// Adds the product of two numbers. Limbs may have three bits more than their width: then no sum of four products
/// passes 2^100.
GRASS_INLINE void poly1305_add_product(poly1305_columns *d, poly1305_sum a, poly1305_sum b) {
  // What passes 2^130 returns five times: at 2^132 and 2^176 twenty times at 2^0 and 2^44.
  uint64_t b1 = b.limb[1] * 20, b2 = b.limb[2] * 20;
  d->limb[0] += (unsigned __int128)a.limb[0] * b.limb[0] + (unsigned __int128)a.limb[1] * b2 +
                (unsigned __int128)a.limb[2] * b1;
  d->limb[1] += (unsigned __int128)a.limb[0] * b.limb[1] + (unsigned __int128)a.limb[1] * b.limb[0] +
                (unsigned __int128)a.limb[2] * b2;
  d->limb[2] += (unsigned __int128)a.limb[0] * b.limb[2] + (unsigned __int128)a.limb[1] * b.limb[1] +
                (unsigned __int128)a.limb[2] * b.limb[0];
}

/// Carries. Of the last column, where nothing returns, no carry times 5 passes 2^64.
GRASS_INLINE poly1305_sum poly1305_reduce(poly1305_columns d) {
  unsigned __int128 d0 = d.limb[0], d1 = d.limb[1], d2 = d.limb[2];
  d1 += (uint64_t)(d0 >> 44);
  d2 += (uint64_t)(d1 >> 44);
  uint64_t first = ((uint64_t)d0 & LOW44) + (uint64_t)(d2 >> 42) * 5;
  return (poly1305_sum){{first & LOW44, ((uint64_t)d1 & LOW44) + (first >> 44), (uint64_t)d2 & LOW42}};
}

GRASS_INLINE poly1305_sum poly1305_product(poly1305_sum a, poly1305_sum b) {
  poly1305_columns d = {{0, 0, 0}};
  poly1305_add_product(&d, a, b);
  return poly1305_reduce(d);
}

GRASS_INLINE poly1305_sum poly1305_carry(poly1305_sum a) {
  uint64_t carry = a.limb[0] >> 44;
  a.limb[0] &= LOW44, a.limb[1] += carry, carry = a.limb[1] >> 44;
  a.limb[1] &= LOW44, a.limb[2] += carry, carry = a.limb[2] >> 42;
  a.limb[2] &= LOW42, a.limb[0] += carry * 5;
  return a;
}

/// The number as four words, less 2^130 - 5 where it is not less than that.
GRASS_INLINE void poly1305_words(uint32_t words[4], poly1305_sum a) {
  a = poly1305_carry(poly1305_carry(poly1305_carry(a)));
  uint64_t g0 = a.limb[0] + 5, g1 = a.limb[1] + (g0 >> 44), g2 = a.limb[2] + (g1 >> 44);
  uint64_t take = grass_opaque64(0 - (g2 >> 42 & 1));
  uint64_t h0 = (g0 & LOW44 & take) | (a.limb[0] & ~take), h1 = (g1 & LOW44 & take) | (a.limb[1] & ~take);
  uint64_t h2 = (g2 & LOW42 & take) | (a.limb[2] & ~take);
  uint64_t low = h0 | h1 << 44, high = h1 >> 20 | h2 << 24;
  words[0] = (uint32_t)low, words[1] = (uint32_t)(low >> 32), words[2] = (uint32_t)high, words[3] = (uint32_t)(high >> 32);
}

#else

#define LOW26 ((1u << 26) - 1)

GRASS_INLINE poly1305_sum poly1305_load(const uint8_t *block, uint32_t top) {
  uint32_t words[4];
  grass_get_words(words, block, 4);
  return (poly1305_sum){{words[0] & LOW26, (words[0] >> 26 | words[1] << 6) & LOW26, (words[1] >> 20 | words[2] << 12) & LOW26,
                         (words[2] >> 14 | words[3] << 18) & LOW26, words[3] >> 8 | top << 24}};
}

GRASS_INLINE poly1305_sum poly1305_plain_add(poly1305_sum a, poly1305_sum b) {
  GRASS_UNROLL for (unsigned index = 0; index < 5; index++) a.limb[index] += b.limb[index];
  return a;
}

/// Limbs may have two bits more than their width: then no sum below passes 2^62, and no limb times 5 passes 2^32.
GRASS_INLINE poly1305_sum poly1305_product(poly1305_sum a, poly1305_sum b) {
  uint64_t d[5] = {0, 0, 0, 0, 0};
  GRASS_UNROLL for (unsigned i = 0; i < 5; i++) {
    GRASS_UNROLL for (unsigned j = 0; j < 5; j++) {
      // What passes 2^130 returns five times.
      uint32_t factor = i + j < 5 ? b.limb[j] : b.limb[j] * 5;
      d[(i + j) % 5] += (uint64_t)a.limb[i] * factor;
    }
  }
  GRASS_UNROLL for (unsigned index = 0; index < 4; index++) {
    d[index + 1] += d[index] >> 26;
    d[index] &= LOW26;
  }
  d[0] += (d[4] >> 26) * 5;
  d[4] &= LOW26;
  d[1] += d[0] >> 26;
  d[0] &= LOW26;
  return (poly1305_sum){{(uint32_t)d[0], (uint32_t)d[1], (uint32_t)d[2], (uint32_t)d[3], (uint32_t)d[4]}};
}

GRASS_INLINE poly1305_sum poly1305_carry(poly1305_sum a) {
  GRASS_UNROLL for (unsigned index = 0; index < 4; index++) {
    a.limb[index + 1] += a.limb[index] >> 26;
    a.limb[index] &= LOW26;
  }
  a.limb[0] += (a.limb[4] >> 26) * 5;
  a.limb[4] &= LOW26;
  return a;
}

GRASS_INLINE void poly1305_words(uint32_t words[4], poly1305_sum a) {
  a = poly1305_carry(poly1305_carry(poly1305_carry(a)));
  uint32_t g[5], carry = 5;
  GRASS_UNROLL for (unsigned index = 0; index < 5; index++) {
    g[index] = a.limb[index] + carry;
    carry = g[index] >> 26;
    g[index] &= LOW26;
  }
  uint32_t take = grass_opaque32(0 - carry);
  GRASS_UNROLL for (unsigned index = 0; index < 5; index++) g[index] = (g[index] & take) | (a.limb[index] & ~take);
  words[0] = g[0] | g[1] << 26, words[1] = g[1] >> 6 | g[2] << 20;
  words[2] = g[2] >> 12 | g[3] << 14, words[3] = g[3] >> 18 | g[4] << 8;
}

#endif

GRASS_APART void grass_poly1305_start(struct grass_poly1305_key *key, const uint8_t one_time[32]) {
  // Some bits of r are zero: section 2.5.
  uint32_t words[4];
  grass_get_words(words, one_time, 4);
  words[0] &= 0x0fffffff, words[1] &= 0x0ffffffc, words[2] &= 0x0ffffffc, words[3] &= 0x0ffffffc;
#if GRASS_WIDE
  uint64_t low = words[0] | (uint64_t)words[1] << 32, high = words[2] | (uint64_t)words[3] << 32;
  key->r = (poly1305_sum){{low & LOW44, (low >> 44 | high << 20) & LOW44, high >> 24}};
#else
  key->r = (poly1305_sum){{words[0] & LOW26, (words[0] >> 26 | words[1] << 6) & LOW26,
                           (words[1] >> 20 | words[2] << 12) & LOW26, (words[2] >> 14 | words[3] << 18) & LOW26,
                           words[3] >> 8}};
#endif
  grass_get_words(key->s, one_time + 16, 4);
  GRASS_FORGET(words);
}

#if GRASS_WIDE && defined(GRASS_AVX2)
#define LOW26 ((1ull << 26) - 1)

/// In limbs of 26 bits, each with two more at most.
GRASS_INLINE void poly1305_narrow(uint64_t limbs[5], poly1305_sum a) {
  uint64_t middle = (a.limb[0] >> 26) + (a.limb[1] << 18), high = (middle >> 52) + (a.limb[2] << 10);
  limbs[0] = a.limb[0] & LOW26, limbs[1] = middle & LOW26, limbs[2] = middle >> 26 & LOW26;
  limbs[3] = high & LOW26, limbs[4] = high >> 26;
}

/// What limbs that fit 63 bits stand for.
GRASS_INLINE poly1305_sum poly1305_widen(uint64_t limbs[5]) {
  GRASS_UNROLL for (unsigned index = 0; index < 4; index++) limbs[index + 1] += limbs[index] >> 26, limbs[index] &= LOW26;
  limbs[0] += (limbs[4] >> 26) * 5, limbs[4] &= LOW26;
  unsigned __int128 low = limbs[0] + ((unsigned __int128)limbs[1] << 26) + ((unsigned __int128)limbs[2] << 52) +
                          ((unsigned __int128)limbs[3] << 78);
  return (poly1305_sum){{(uint64_t)low & LOW44, (uint64_t)(low >> 44) & LOW44, (uint64_t)(low >> 88) + (limbs[4] << 16)}};
}

typedef uint64_t four_numbers __attribute__((vector_size(32)));

#define LANES 4
#define NUMBERS four_numbers
#define TARGET GRASS_AVX2
#define OF_LANES(name) name##_four
#define EVEN_NUMBERS(a, b) __builtin_shufflevector(a, b, 0, 2, 4, 6)
#define ODD_NUMBERS(a, b) __builtin_shufflevector(a, b, 1, 3, 5, 7)
#include "poly1305_lanes.h"

#if defined(GRASS_AVX512)
typedef uint64_t eight_numbers __attribute__((vector_size(64)));

#define LANES 8
#define NUMBERS eight_numbers
#define TARGET GRASS_AVX512
#define OF_LANES(name) name##_eight
#define EVEN_NUMBERS(a, b) __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14)
#define ODD_NUMBERS(a, b) __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15)
#include "poly1305_lanes.h"
#endif

#undef LOW26
#endif

void grass_poly1305_blocks(
    const struct grass_poly1305_key *key, struct grass_poly1305_sum *sum, const uint8_t *text, uint64_t blocks) {
  poly1305_sum at = *sum, r = key->r;
#if GRASS_WIDE && defined(GRASS_AVX512)
  if (blocks >= 64 && grass_has_avx512()) {
    at = poly1305_lanes_eight(r, at, text, blocks / 8);
    text += blocks / 8 * 128, blocks %= 8;
  }
#endif
#if GRASS_WIDE && defined(GRASS_AVX2)
  if (blocks >= 32 && grass_has_avx2()) {
    at = poly1305_lanes_four(r, at, text, blocks / 4);
    text += blocks / 4 * 64, blocks %= 4;
  }
#endif
#if GRASS_WIDE
  // Of four blocks, each times its power of r, one sum is carried: a processor has several products on their way at
  // once.
  if (blocks >= 12) {
    poly1305_sum r2 = poly1305_product(r, r), r3 = poly1305_product(r2, r), r4 = poly1305_product(r2, r2);
    for (; blocks >= 4; blocks -= 4, text += 64) {
      poly1305_columns d = {{0, 0, 0}};
      poly1305_add_product(&d, poly1305_plain_add(at, poly1305_load(text, 1)), r4);
      poly1305_add_product(&d, poly1305_load(text + 16, 1), r3);
      poly1305_add_product(&d, poly1305_load(text + 32, 1), r2);
      poly1305_add_product(&d, poly1305_load(text + 48, 1), r);
      at = poly1305_reduce(d);
    }
  }
#endif
  for (; blocks > 0; blocks--, text += 16) at = poly1305_product(poly1305_plain_add(at, poly1305_load(text, 1)), r);
  *sum = at;
}

/// Adds a block of less than 16 bytes, with `behind` and then zeros behind it; `top` is 1 where the block counts as
/// whole.
static void poly1305_short(
    const struct grass_poly1305_key *key, struct grass_poly1305_sum *sum, const uint8_t *text, uint64_t length,
    uint8_t behind, unsigned top) {
  uint8_t block[16] = {0};
  grass_move(block, text, length);
  block[length] = behind;
  *sum = poly1305_product(poly1305_plain_add(*sum, poly1305_load(block, top)), key->r);
  GRASS_FORGET_PLACE(block);
}

GRASS_APART void grass_poly1305_padded(
    const struct grass_poly1305_key *key, struct grass_poly1305_sum *sum, const uint8_t *text, uint64_t length) {
  grass_poly1305_blocks(key, sum, text, length / 16);
  if (length % 16) poly1305_short(key, sum, text + length / 16 * 16, length % 16, 0, 1);
}

void grass_poly1305_end(
    const struct grass_poly1305_key *key, struct grass_poly1305_sum *sum, const uint8_t *text, uint64_t length) {
  grass_poly1305_blocks(key, sum, text, length / 16);
  if (length % 16) poly1305_short(key, sum, text + length / 16 * 16, length % 16, 1, 0);
}

GRASS_APART struct grass_poly1305_sum grass_poly1305_power(const struct grass_poly1305_key *key, uint64_t power) {
  poly1305_sum result = {{1}}, square = key->r;
  for (; power > 0; power >>= 1) {
    if (power & 1) result = poly1305_product(result, square);
    square = poly1305_product(square, square);
  }
  return result;
}

struct grass_poly1305_sum grass_poly1305_multiply(struct grass_poly1305_sum one, struct grass_poly1305_sum other) {
  return poly1305_product(one, other);
}

struct grass_poly1305_sum grass_poly1305_add(struct grass_poly1305_sum one, struct grass_poly1305_sum other) {
  return poly1305_carry(poly1305_plain_add(one, other));
}

GRASS_APART void grass_poly1305_finish(const struct grass_poly1305_key *key, struct grass_poly1305_sum sum, uint8_t tag[16]) {
  uint32_t words[4];
  poly1305_words(words, sum);
  uint64_t carry = 0;
  GRASS_UNROLL for (unsigned index = 0; index < 4; index++) {
    carry += (uint64_t)words[index] + key->s[index];
    words[index] = (uint32_t)carry;
    carry >>= 32;
  }
  grass_put_words(tag, words, 4);
  GRASS_FORGET(words);
}

void grass_poly1305(const uint8_t one_time[32], const uint8_t *text, uint64_t length, uint8_t tag[16]) {
  struct grass_poly1305_key key;
  struct grass_poly1305_sum sum = {{0}};
  grass_poly1305_start(&key, one_time);
  grass_poly1305_end(&key, &sum, text, length);
  grass_poly1305_finish(&key, sum, tag);
  GRASS_FORGET_PLACE(key);
  GRASS_FORGET_PLACE(sum);
}
