// Poly1305, RFC 8439 section 2.5: a text's blocks of 16 bytes are the coefficients of a polynomial modulo 2^130 - 5,
// which is taken at a secret place r. A key of it serves one text.
//
//   (block_1 · r^n + block_2 · r^(n-1) + … + block_n · r) mod 2^130 - 5, plus s, mod 2^128
//
// So threads can share a text: each begins with a sum of zero, adds the blocks of its part, and moves its sum by as
// many blocks as follow that part; the parts' sums, added in any order, are the whole's.
#pragma once

#include <stdint.h>

#define GRASS_TAG 16u

// Whether 128-bit products are cheap. GPUs multiply 32 bits by 32; tests ask for their form on a processor with
// GRASS_NARROW.
#if defined(__SIZEOF_INT128__) && !defined(__NVPTX__) && !defined(GRASS_NARROW)
#define GRASS_WIDE 1
#else
#define GRASS_WIDE 0
#endif

/// A number modulo 2^130 - 5; all zeros is zero. Limbs, least first: of 44, 44, 42 bits where products are wide, of 26
/// where they are narrow. Between calls a limb may be longer by a bit.
struct grass_poly1305_sum {
#if GRASS_WIDE
  uint64_t limb[3];
#else
  uint32_t limb[5];
#endif
};

struct grass_poly1305_key {
  struct grass_poly1305_sum r;
  uint32_t s[4];
};

/// Takes the two halves of a one-time key apart.
void grass_poly1305_start(struct grass_poly1305_key *key, const uint8_t one_time[32]);

/// Adds `blocks` whole blocks.
void grass_poly1305_blocks(
    const struct grass_poly1305_key *key, struct grass_poly1305_sum *sum, const uint8_t *text, uint64_t blocks);

/// Adds a text of which the last block is filled up with zeros, as RFC 8439 section 2.8 has it.
void grass_poly1305_padded(
    const struct grass_poly1305_key *key, struct grass_poly1305_sum *sum, const uint8_t *text, uint64_t length);

/// Adds a text's end, as Poly1305 by itself has it: whole blocks, and a shorter last one with a 1 behind it.
void grass_poly1305_end(
    const struct grass_poly1305_key *key, struct grass_poly1305_sum *sum, const uint8_t *text, uint64_t length);

/// r^`power`. Cost: two products for each bit of `power`.
struct grass_poly1305_sum grass_poly1305_power(const struct grass_poly1305_key *key, uint64_t power);

/// `one` · `other`: moves a sum by as many blocks as the other is a power of r.
struct grass_poly1305_sum grass_poly1305_multiply(struct grass_poly1305_sum one, struct grass_poly1305_sum other);

/// `one` + `other`, for instance of two parts of a text.
struct grass_poly1305_sum grass_poly1305_add(struct grass_poly1305_sum one, struct grass_poly1305_sum other);

/// The tag of the text whose sum this is.
void grass_poly1305_finish(const struct grass_poly1305_key *key, struct grass_poly1305_sum sum, uint8_t tag[16]);

/// The tag of one text.
void grass_poly1305(const uint8_t one_time[32], const uint8_t *text, uint64_t length, uint8_t tag[16]);
