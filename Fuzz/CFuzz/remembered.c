#include "grass_fuzz.h"

#include <string.h>

bool __real_grass_x25519(uint8_t shared[32], const uint8_t private_key[32], const uint8_t public_key[32]);
void __real_grass_make_key_pair(struct grass_key_pair *pair, const uint8_t random[32]);

// A place is the newest product's that belongs there.
#define PLACES 16384u

static struct product {
  uint8_t private_key[32], public_key[32], result[32];
  bool is_known, is_usable;
} products[PLACES];

static struct pair {
  struct grass_key_pair pair;
  uint8_t random[32];
  bool is_known;
} pairs[PLACES];

static uint32_t place_of(const uint8_t *one, const uint8_t *other) {
  uint64_t sum = 0, words[8] = {0};
  memcpy(words, one, 32);
  if (other) memcpy(words + 4, other, 32);
  for (unsigned index = 0; index < 8; index++) {
    sum = (sum ^ words[index]) * 0x9e3779b97f4a7c15ull;
    sum ^= sum >> 29;
  }
  return (uint32_t)(sum % PLACES);
}

bool __wrap_grass_x25519(uint8_t shared[32], const uint8_t private_key[32], const uint8_t public_key[32]) {
  struct product *place = &products[place_of(private_key, public_key)];
  if (!place->is_known || memcmp(place->private_key, private_key, 32) || memcmp(place->public_key, public_key, 32)) {
    memcpy(place->private_key, private_key, 32);
    memcpy(place->public_key, public_key, 32);
    place->is_usable = __real_grass_x25519(place->result, private_key, public_key);
    place->is_known = true;
  }
  memcpy(shared, place->result, 32);
  return place->is_usable;
}

void __wrap_grass_make_key_pair(struct grass_key_pair *pair, const uint8_t random[32]) {
  struct pair *place = &pairs[place_of(random, 0)];
  if (!place->is_known || memcmp(place->random, random, 32)) {
    memcpy(place->random, random, 32);
    __real_grass_make_key_pair(&place->pair, random);
    place->is_known = true;
  }
  *pair = place->pair;
}
