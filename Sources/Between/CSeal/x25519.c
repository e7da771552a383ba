#include "grass_x25519.h"

#include "bytes.h"
#include "grass_poly1305.h"

// Numbers modulo p = 2^255 - 19, as limbs: five of 51 bits where products are wide; else ten of 26 and 25 bits in turn,
// of which all sums of products fit 64 bits, so that a GPU multiplies and adds in one instruction.
//
// What a product, or a number read, gives is `tight`: each limb has its bits and may pass them by 2^13. The sum of two
// tight numbers and the difference of two are `loose`: below three times a limb's bits. Products take loose numbers,
// differences take tight ones only.

#if GRASS_WIDE

typedef struct {
  uint64_t limb[5];
} field;

#define LOW51 ((1ull << 51) - 1)
#define FIELD_LIMBS 5

GRASS_INLINE field field_read(const uint8_t bytes[32]) {
  uint64_t a = grass_get64(bytes), b = grass_get64(bytes + 8), c = grass_get64(bytes + 16), d = grass_get64(bytes + 24);
  return (field){{a & LOW51, (a >> 51 | b << 13) & LOW51, (b >> 38 | c << 26) & LOW51, (c >> 25 | d << 39) & LOW51,
                  d >> 12 & LOW51}};
}

/// Below 2^255, as it may be, to bytes below p.
GRASS_INLINE void field_write(uint8_t bytes[32], field a) {
  uint64_t carry = 0;
  GRASS_UNROLL for (unsigned round = 0; round < 2; round++) {
    GRASS_UNROLL for (unsigned index = 0; index < 5; index++) {
      a.limb[index] += carry;
      carry = a.limb[index] >> 51;
      a.limb[index] &= LOW51;
    }
    carry *= 19;
  }
  a.limb[0] += carry;
  // Whether a + 19 passes 2^255: then a is p or more.
  carry = 19;
  GRASS_UNROLL for (unsigned index = 0; index < 5; index++) carry = (a.limb[index] + carry) >> 51;
  carry *= 19;
  GRASS_UNROLL for (unsigned index = 0; index < 5; index++) {
    a.limb[index] += carry;
    carry = a.limb[index] >> 51;
    a.limb[index] &= LOW51;
  }
  grass_put64(bytes, a.limb[0] | a.limb[1] << 51);
  grass_put64(bytes + 8, a.limb[1] >> 13 | a.limb[2] << 38);
  grass_put64(bytes + 16, a.limb[2] >> 26 | a.limb[3] << 25);
  grass_put64(bytes + 24, a.limb[3] >> 39 | a.limb[4] << 12);
}

GRASS_INLINE field field_difference(field a, field b) {
  // Twice p is added, lest a limb falls below zero.
  a.limb[0] += 2 * (LOW51 - 18) - b.limb[0];
  GRASS_UNROLL for (unsigned index = 1; index < 5; index++) a.limb[index] += 2 * LOW51 - b.limb[index];
  return a;
}

GRASS_INLINE field field_reduce(unsigned __int128 r[5]) {
  // A column is below 2^113, the last one, where nothing returns nineteen times, below 2^109: so its carry times 19
  // fits.
  GRASS_UNROLL for (unsigned index = 0; index < 4; index++) r[index + 1] += (uint64_t)(r[index] >> 51);
  field a = {{(uint64_t)r[0] & LOW51, (uint64_t)r[1] & LOW51, (uint64_t)r[2] & LOW51, (uint64_t)r[3] & LOW51,
              (uint64_t)r[4] & LOW51}};
  a.limb[0] += (uint64_t)(r[4] >> 51) * 19;
  a.limb[1] += a.limb[0] >> 51;
  a.limb[0] &= LOW51;
  return a;
}

GRASS_INLINE field field_product(field a, field b) {
  unsigned __int128 r[5] = {0, 0, 0, 0, 0};
  GRASS_UNROLL for (unsigned i = 0; i < 5; i++)
    GRASS_UNROLL for (unsigned j = 0; j < 5; j++)
      r[(i + j) % 5] += (unsigned __int128)a.limb[i] * (i + j < 5 ? b.limb[j] : b.limb[j] * 19);
  return field_reduce(r);
}

GRASS_INLINE field field_square(field a) {
  unsigned __int128 r[5] = {0, 0, 0, 0, 0};
  GRASS_UNROLL for (unsigned i = 0; i < 5; i++)
    GRASS_UNROLL for (unsigned j = i; j < 5; j++)
      r[(i + j) % 5] += (unsigned __int128)(i == j ? a.limb[i] : a.limb[i] * 2) * (i + j < 5 ? a.limb[j] : a.limb[j] * 19);
  return field_reduce(r);
}

GRASS_INLINE field field_times(field a, uint32_t factor) {
  unsigned __int128 r[5];
  GRASS_UNROLL for (unsigned index = 0; index < 5; index++) r[index] = (unsigned __int128)a.limb[index] * factor;
  return field_reduce(r);
}

#define FIELD_MASK(bit) grass_opaque64(0 - (uint64_t)(bit))

#else

typedef struct {
  uint32_t limb[10];
} field;

#define FIELD_LIMBS 10
#define FIELD_BITS(index) ((index) % 2 ? 25 : 26)
#define FIELD_LOW(index) ((1u << FIELD_BITS(index)) - 1)

GRASS_INLINE field field_read(const uint8_t bytes[32]) {
  uint32_t words[8];
  field a;
  grass_get_words(words, bytes, 8);
  GRASS_UNROLL for (unsigned index = 0; index < 10; index++) {
    unsigned at = (51 * index + 1) / 2, word = at / 32, bit = at % 32;
    uint32_t value = words[word] >> bit;
    if (bit > 32 - FIELD_BITS(index) && word < 7) value |= words[word + 1] << (32 - bit);
    a.limb[index] = value & FIELD_LOW(index);
  }
  return a;
}

GRASS_INLINE void field_write(uint8_t bytes[32], field a) {
  uint32_t carry = 0;
  GRASS_UNROLL for (unsigned round = 0; round < 2; round++) {
    GRASS_UNROLL for (unsigned index = 0; index < 10; index++) {
      a.limb[index] += carry;
      carry = a.limb[index] >> FIELD_BITS(index);
      a.limb[index] &= FIELD_LOW(index);
    }
    carry *= 19;
  }
  a.limb[0] += carry;
  // Whether a + 19 passes 2^255: then a is p or more.
  carry = 19;
  GRASS_UNROLL for (unsigned index = 0; index < 10; index++) carry = (a.limb[index] + carry) >> FIELD_BITS(index);
  carry *= 19;
  uint32_t words[8] = {0, 0, 0, 0, 0, 0, 0, 0};
  GRASS_UNROLL for (unsigned index = 0; index < 10; index++) {
    a.limb[index] += carry;
    carry = a.limb[index] >> FIELD_BITS(index);
    a.limb[index] &= FIELD_LOW(index);
    unsigned at = (51 * index + 1) / 2, word = at / 32, bit = at % 32;
    words[word] |= a.limb[index] << bit;
    if (bit > 32 - FIELD_BITS(index) && word < 7) words[word + 1] |= a.limb[index] >> (32 - bit);
  }
  grass_put_words(bytes, words, 8);
}

GRASS_INLINE field field_difference(field a, field b) {
  // Twice p is added, lest a limb falls below zero.
  a.limb[0] += 2 * (FIELD_LOW(0) - 18) - b.limb[0];
  GRASS_UNROLL for (unsigned index = 1; index < 10; index++) a.limb[index] += 2 * FIELD_LOW(index) - b.limb[index];
  return a;
}

/// One step of a carry, `from` being a constant.
#define FIELD_CARRY(r, from)                            \
  do {                                                  \
    r[from + 1] += r[from] >> FIELD_BITS(from);         \
    r[from] &= FIELD_LOW(from);                         \
  } while (0)

GRASS_INLINE field field_reduce(uint64_t r[10]) {
  // A column is below 2^63, the last one, where nothing returns nineteen times, below 2^58: so its carry times 19 fits.
  // Two carries go at the same time, which halves the wait for them.
  FIELD_CARRY(r, 0);
  FIELD_CARRY(r, 4);
  FIELD_CARRY(r, 1);
  FIELD_CARRY(r, 5);
  FIELD_CARRY(r, 2);
  FIELD_CARRY(r, 6);
  FIELD_CARRY(r, 3);
  FIELD_CARRY(r, 7);
  FIELD_CARRY(r, 4);
  FIELD_CARRY(r, 8);
  r[0] += (r[9] >> 25) * 19;
  r[9] &= FIELD_LOW(9);
  FIELD_CARRY(r, 0);
  field a;
  GRASS_UNROLL for (unsigned index = 0; index < 10; index++) a.limb[index] = (uint32_t)r[index];
  return a;
}

/// Of two limbs at odd places, whose places add up to half a bit more than the sum's, the product counts twice.
GRASS_INLINE field field_product(field a, field b) {
  uint64_t r[10] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  GRASS_UNROLL for (unsigned i = 0; i < 10; i++)
    GRASS_UNROLL for (unsigned j = 0; j < 10; j++)
      r[(i + j) % 10] += (uint64_t)(i & j & 1 ? a.limb[i] * 2 : a.limb[i]) * (i + j < 10 ? b.limb[j] : b.limb[j] * 19);
  return field_reduce(r);
}

GRASS_INLINE field field_square(field a) {
  uint64_t r[10] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  GRASS_UNROLL for (unsigned i = 0; i < 10; i++)
    GRASS_UNROLL for (unsigned j = i; j < 10; j++)
      r[(i + j) % 10] += (uint64_t)(a.limb[i] * ((i & j & 1 ? 2 : 1) * (i == j ? 1 : 2))) *
                         (i + j < 10 ? a.limb[j] : a.limb[j] * 19);
  return field_reduce(r);
}

GRASS_INLINE field field_times(field a, uint32_t factor) {
  uint64_t r[10];
  GRASS_UNROLL for (unsigned index = 0; index < 10; index++) r[index] = (uint64_t)a.limb[index] * factor;
  return field_reduce(r);
}

#define FIELD_MASK(bit) grass_opaque32(0 - (uint32_t)(bit))

#endif

GRASS_INLINE field field_sum(field a, field b) {
  GRASS_UNROLL for (unsigned index = 0; index < FIELD_LIMBS; index++) a.limb[index] += b.limb[index];
  return a;
}

/// Changes places where `bit` is 1, does the same without effect where it is 0.
GRASS_INLINE void field_swap(field *a, field *b, uint32_t bit) {
  __typeof__(a->limb[0]) mask = FIELD_MASK(bit);
  GRASS_UNROLL for (unsigned index = 0; index < FIELD_LIMBS; index++) {
    __typeof__(mask) difference = (a->limb[index] ^ b->limb[index]) & mask;
    a->limb[index] ^= difference;
    b->limb[index] ^= difference;
  }
}

/// a^(p - 2), which is 1 / a, and 0 for 0. 254 squares and 15 products, in loops, so that there are few of them in the
/// program.
GRASS_INLINE field field_invert(field a) {
  // a^(2^count - 1) for count = 1, 3, 7, 15, 31, 62, 125, 250: by each step the count doubles, or doubles and grows by
  // one.
  field power = a;
  for (unsigned count = 1; count < 250;) {
    field doubled = power;
    for (unsigned square = 0; square < count; square++) doubled = field_square(doubled);
    power = field_product(doubled, power);
    count *= 2;
    if (count != 62 && count != 250) {
      power = field_product(field_square(power), a);
      count++;
    }
  }
  // p - 2 = (2^250 - 1) · 2^5 + 11.
  for (unsigned rest = 11, bit = 16; bit > 0; bit /= 2) {
    power = field_square(power);
    if (rest >= bit) power = field_product(power, a), rest -= bit;
  }
  return power;
}

/// The ladder, RFC 7748 section 5: (x2 : z2) and (x3 : z3) differ by the point u all the way. Writes bytes below p.
GRASS_APART static void x25519_ladder(uint8_t result[32], const uint8_t private_key[32], field u) {
  // The scalar's next bit is the topmost of eight words, which move up by one each time: no address depends on the
  // step.
  uint32_t scalar[8];
  grass_get_words(scalar, private_key, 8);
  scalar[0] &= ~7u;
  scalar[7] = (scalar[7] & 0x7fffffff) | 0x40000000;
  field x2 = {{1}}, z2 = {{0}}, x3 = u, z3 = {{1}};
  uint32_t swapped = 0;
#pragma clang loop unroll(disable)
  for (unsigned step = 0; step < 255; step++) {
    GRASS_UNROLL for (unsigned index = 7; index > 0; index--) scalar[index] = scalar[index] << 1 | scalar[index - 1] >> 31;
    scalar[0] <<= 1;
    uint32_t bit = scalar[7] >> 31;
    field_swap(&x2, &x3, swapped ^ bit);
    field_swap(&z2, &z3, swapped ^ bit);
    swapped = bit;
    field a = field_sum(x2, z2), b = field_difference(x2, z2);
    field da = field_product(field_difference(x3, z3), a), cb = field_product(field_sum(x3, z3), b);
    field aa = field_square(a), bb = field_square(b), e = field_difference(aa, bb);
    x3 = field_square(field_sum(da, cb));
    z3 = field_product(u, field_square(field_difference(da, cb)));
    x2 = field_product(aa, bb);
    z2 = field_product(e, field_sum(aa, field_times(e, 121665)));
  }
  field_swap(&x2, &x3, swapped);
  field_swap(&z2, &z3, swapped);
  field_write(result, field_product(x2, field_invert(z2)));
  GRASS_FORGET(scalar);
  GRASS_FORGET(x2);
  GRASS_FORGET(z2);
  GRASS_FORGET(x3);
  GRASS_FORGET(z3);
}

bool grass_x25519(uint8_t shared[32], const uint8_t private_key[32], const uint8_t public_key[32]) {
  _Alignas(8) uint8_t result[32];
  x25519_ladder(result, private_key, field_read(public_key));
  uint32_t any = 0;
  for (unsigned index = 0; index < 32; index++) any |= result[index];
  uint32_t found = grass_opaque32(0 - any) >> 31;
  GRASS_DECLASSIFY(&found, sizeof found);
  grass_move(shared, result, 32);
  grass_wipe(result, sizeof result);
  return found;
}

void grass_x25519_public(uint8_t public_key[32], const uint8_t private_key[32]) {
  x25519_ladder(public_key, private_key, (field){{9}});
}

void grass_make_key_pair(struct grass_key_pair *pair, const uint8_t random[32]) {
  grass_move(pair->private_key, random, 32);
  grass_x25519_public(pair->public_key, pair->private_key);
}
