#include "grass_random.h"

#include "bytes.h"
#include "grass_chacha20.h"
#include "grass_sha256.h"

void grass_random_mix(struct grass_random *random, const uint8_t *seed, uint64_t count) {
  grass_hkdf_extract(random->key, 32, seed, count, random->key);
  grass_wipe(random->buffer, sizeof random->buffer);
  random->left = 0;
  if (count >= 32) random->seeded = 1;
}

static void random_refill(struct grass_random *random) {
  static const uint8_t nonce[12] = {0};
  _Alignas(8) uint8_t key[32] = {0};
  // The new key is half of block 0; the buffer begins with block 1, and the other half is nobody's.
  grass_chacha20_xor(random->key, nonce, 0, key, key, sizeof key);
  grass_wipe(random->buffer, sizeof random->buffer);
  grass_chacha20_xor(random->key, nonce, 1, random->buffer, random->buffer, sizeof random->buffer);
  grass_move(random->key, key, 32);
  random->left = GRASS_RANDOM_BUFFER;
  grass_wipe(key, sizeof key);
}

bool grass_random_fill(struct grass_random *random, uint8_t *bytes, uint64_t count) {
  if (!random->seeded) {
    grass_wipe(bytes, count);
    return false;
  }
  while (count > 0) {
    if (random->left == 0) random_refill(random);
    uint64_t taken = count < random->left ? count : random->left;
    uint8_t *from = random->buffer + GRASS_RANDOM_BUFFER - random->left;
    grass_move(bytes, from, taken);
    grass_wipe(from, taken);
    bytes += taken, count -= taken;
    random->left -= (uint32_t)taken;
  }
  return true;
}

void grass_random_wipe(struct grass_random *random) { grass_wipe(random, sizeof *random); }
