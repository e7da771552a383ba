#include "grass_sha256.h"

#include "bytes.h"

/// The rounds' constants: the first 32 bits behind the point of the cube roots of the first 64 primes. The round is the
/// index.
static const uint32_t sha256_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

GRASS_INLINE uint32_t sha256_rotate(uint32_t word, unsigned bits) { return word >> bits | word << (32 - bits); }

GRASS_APART static void sha256_block(uint32_t state[8], const uint8_t *block) {
  uint32_t w[16], x[8];
  grass_get_words(w, block, 16);
  GRASS_UNROLL for (unsigned index = 0; index < 16; index++) w[index] = __builtin_bswap32(w[index]);
  GRASS_UNROLL for (unsigned index = 0; index < 8; index++) x[index] = state[index];
  for (unsigned round = 0; round < 64; round += 16) {
    GRASS_UNROLL for (unsigned index = 0; index < 16; index++) {
      // Of the words to come, 16 are kept, each in the place of one that is used up.
      uint32_t e = x[4], a = x[0];
      uint32_t first = x[7] + (sha256_rotate(e, 6) ^ sha256_rotate(e, 11) ^ sha256_rotate(e, 25)) +
                       ((e & x[5]) ^ (~e & x[6])) + sha256_constants[round + index] + w[index];
      uint32_t second = (sha256_rotate(a, 2) ^ sha256_rotate(a, 13) ^ sha256_rotate(a, 22)) +
                        ((a & x[1]) ^ (a & x[2]) ^ (x[1] & x[2]));
      x[7] = x[6], x[6] = x[5], x[5] = x[4], x[4] = x[3] + first;
      x[3] = x[2], x[2] = x[1], x[1] = x[0], x[0] = first + second;
      uint32_t near = w[(index + 14) % 16], far = w[(index + 1) % 16];
      w[index] += (sha256_rotate(near, 17) ^ sha256_rotate(near, 19) ^ near >> 10) + w[(index + 9) % 16] +
                  (sha256_rotate(far, 7) ^ sha256_rotate(far, 18) ^ far >> 3);
    }
  }
  GRASS_UNROLL for (unsigned index = 0; index < 8; index++) state[index] += x[index];
  GRASS_FORGET(w);
  GRASS_FORGET(x);
}

void grass_sha256_start(struct grass_sha256 *hash) {
  *hash = (struct grass_sha256){
      .state = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19},
  };
}

GRASS_APART void grass_sha256_add(struct grass_sha256 *hash, const uint8_t *bytes, uint64_t count) {
  uint64_t used = hash->length % 64;
  hash->length += count;
  while (count > 0) {
    if (used == 0 && count >= 64) {
      sha256_block(hash->state, bytes);
      bytes += 64, count -= 64;
      continue;
    }
    uint64_t taken = count < 64 - used ? count : 64 - used;
    grass_move(hash->block + used, bytes, taken);
    bytes += taken, count -= taken, used += taken;
    if (used == 64) {
      sha256_block(hash->state, hash->block);
      used = 0;
    }
  }
}

GRASS_APART void grass_sha256_finish(struct grass_sha256 *hash, uint8_t digest[32]) {
  uint64_t used = hash->length % 64;
  hash->block[used++] = 0x80;
  if (used > 56) {
    while (used < 64) hash->block[used++] = 0;
    sha256_block(hash->state, hash->block);
    used = 0;
  }
  while (used < 56) hash->block[used++] = 0;
  grass_put64(hash->block + 56, __builtin_bswap64(hash->length * 8));
  sha256_block(hash->state, hash->block);
  for (unsigned index = 0; index < 8; index++) grass_put32(digest + 4 * index, __builtin_bswap32(hash->state[index]));
  grass_wipe(hash, sizeof *hash);
}

void grass_sha256(const uint8_t *bytes, uint64_t count, uint8_t digest[32]) {
  struct grass_sha256 hash;
  grass_sha256_start(&hash);
  grass_sha256_add(&hash, bytes, count);
  grass_sha256_finish(&hash, digest);
}

// MARK: - HMAC

GRASS_APART void grass_hmac_start(struct grass_hmac *hmac, const uint8_t *key, uint64_t key_length) {
  _Alignas(8) uint8_t pad[64] = {0};
  if (key_length > 64) grass_sha256(key, key_length, pad);
  else grass_move(pad, key, key_length);
  for (unsigned index = 0; index < 64; index++) pad[index] ^= 0x36;
  grass_sha256_start(&hmac->inner);
  grass_sha256_add(&hmac->inner, pad, 64);
  for (unsigned index = 0; index < 64; index++) pad[index] ^= 0x36 ^ 0x5c;
  grass_sha256_start(&hmac->outer);
  grass_sha256_add(&hmac->outer, pad, 64);
  grass_wipe(pad, sizeof pad);
}

void grass_hmac_add(struct grass_hmac *hmac, const uint8_t *bytes, uint64_t count) {
  grass_sha256_add(&hmac->inner, bytes, count);
}

GRASS_APART void grass_hmac_finish(struct grass_hmac *hmac, uint8_t tag[32]) {
  _Alignas(4) uint8_t digest[32];
  grass_sha256_finish(&hmac->inner, digest);
  grass_sha256_add(&hmac->outer, digest, 32);
  grass_sha256_finish(&hmac->outer, tag);
  grass_wipe(digest, sizeof digest);
}

void grass_hmac(const uint8_t *key, uint64_t key_length, const uint8_t *bytes, uint64_t count, uint8_t tag[32]) {
  struct grass_hmac hmac;
  grass_hmac_start(&hmac, key, key_length);
  grass_hmac_add(&hmac, bytes, count);
  grass_hmac_finish(&hmac, tag);
}

// MARK: - HKDF

GRASS_APART void grass_hkdf_extract(
    const uint8_t *salt, uint64_t salt_length, const uint8_t *material, uint64_t material_length, uint8_t key[32]) {
  // A key of HMAC is filled up with zeros anyway, so no salt needs nothing of its own.
  grass_hmac(salt, salt_length, material, material_length, key);
}

GRASS_APART bool grass_hkdf_expand(
    const uint8_t key[32], const uint8_t *info, uint64_t info_length, uint8_t *output, uint64_t count) {
  if (count > GRASS_HKDF_MOST) return false;
  struct grass_hmac keyed, hmac;
  _Alignas(8) uint8_t block[32];
  grass_hmac_start(&keyed, key, 32);
  for (uint8_t number = 1; count > 0; number++) {
    hmac = keyed;
    if (number > 1) grass_hmac_add(&hmac, block, 32);
    grass_hmac_add(&hmac, info, info_length);
    grass_hmac_add(&hmac, &number, 1);
    grass_hmac_finish(&hmac, block);
    uint64_t taken = count < 32 ? count : 32;
    grass_move(output, block, taken);
    output += taken, count -= taken;
  }
  grass_wipe(block, sizeof block);
  grass_wipe(&keyed, sizeof keyed);
  return true;
}

void grass_noise_hkdf(
    const uint8_t chaining_key[32], const uint8_t *material, uint64_t material_length, uint8_t *keys, unsigned outputs) {
  _Alignas(8) uint8_t key[32];
  grass_hkdf_extract(chaining_key, 32, material, material_length, key);
  grass_hkdf_expand(key, 0, 0, keys, 32ull * (outputs < 3 ? outputs : 3));
  grass_wipe(key, sizeof key);
}
