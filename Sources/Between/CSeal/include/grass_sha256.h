// SHA-256 (FIPS 180-4 section 6.2), HMAC (RFC 2104) and HKDF (RFC 5869; of two and three outputs as Noise has it).
// In constant time: lengths show, contents do not.
#pragma once

#include <stdbool.h>
#include <stdint.h>

/// A hash that is being taken. May be copied; a copy goes on by itself.
struct grass_sha256 {
  uint32_t state[8];
  uint64_t length;  // Bytes so far, modulo 2^64.
  uint8_t block[64];
};

void grass_sha256_start(struct grass_sha256 *hash);
void grass_sha256_add(struct grass_sha256 *hash, const uint8_t *bytes, uint64_t count);
/// Ends the hash and wipes `hash`.
void grass_sha256_finish(struct grass_sha256 *hash, uint8_t digest[32]);
/// The hash of one text. Cost: some 0.3 µs for each 64 bytes on a processor's core.
void grass_sha256(const uint8_t *bytes, uint64_t count, uint8_t digest[32]);

/// An HMAC that is being taken.
struct grass_hmac {
  struct grass_sha256 inner, outer;
};

/// A key of any length: over 64 bytes it is hashed first.
void grass_hmac_start(struct grass_hmac *hmac, const uint8_t *key, uint64_t key_length);
void grass_hmac_add(struct grass_hmac *hmac, const uint8_t *bytes, uint64_t count);
/// Ends the HMAC and wipes `hmac`.
void grass_hmac_finish(struct grass_hmac *hmac, uint8_t tag[32]);
/// The HMAC of one text.
void grass_hmac(const uint8_t *key, uint64_t key_length, const uint8_t *bytes, uint64_t count, uint8_t tag[32]);

/// The most bytes that one key expands to: RFC 5869 counts blocks in a byte.
#define GRASS_HKDF_MOST (255u * 32u)

/// HKDF-Extract, RFC 5869 section 2.2. No salt is 32 zeros, and so is one of no bytes.
void grass_hkdf_extract(
    const uint8_t *salt, uint64_t salt_length, const uint8_t *material, uint64_t material_length, uint8_t key[32]);

/// HKDF-Expand, RFC 5869 section 2.3. False, with nothing written, where `count` is over GRASS_HKDF_MOST.
bool grass_hkdf_expand(
    const uint8_t key[32], const uint8_t *info, uint64_t info_length, uint8_t *output, uint64_t count);

/// Noise's HKDF, the specification's section 4.3: `outputs` keys of 32 bytes, one to three, one after the other, out of
/// a chaining key and input of none or 32 bytes, or any. `keys` may be where `chaining_key` is.
void grass_noise_hkdf(
    const uint8_t chaining_key[32], const uint8_t *material, uint64_t material_length, uint8_t *keys, unsigned outputs);
