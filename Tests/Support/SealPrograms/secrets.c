// The test of constant time: each secret is memory that was never written, as valgrind's memcheck sees it. It then
// complains of each branch and each address that follows from one.
//
//   valgrind --error-exitcode=9 secrets [planted]
//
// With `planted` there is one branch and one table that follow from a key: two complaints show that the method sees
// them.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "grass_noise.h"
#include "grass_random.h"

#define SECRET(place) VALGRIND_MAKE_MEM_UNDEFINED(&(place), sizeof(place))
#define PUBLIC(place) VALGRIND_MAKE_MEM_DEFINED(&(place), sizeof(place))

#define REQUIRE(condition)                                                               \
  do {                                                                                   \
    if (!(condition)) fprintf(stderr, "secrets: line %d: %s\n", __LINE__, #condition), exit(1); \
  } while (0)

static void fill(uint8_t *bytes, unsigned count, uint8_t from) {
  for (unsigned index = 0; index < count; index++) bytes[index] = (uint8_t)(from + 31 * index);
}

static volatile unsigned sink;

__attribute__((noinline)) static void planted(const uint8_t key[32]) {
  static const uint8_t table[256] = {1, 2, 3};
  if (key[0] & 1) sink = 1;
  sink += table[key[1]];
}

static void seals(void) {
  uint8_t key[32], nonce[12], text[700], sealed[700], tag[16], data[40];
  for (unsigned length = 0; length <= 700; length += length < 70 ? 1 : 105) {
    fill(key, 32, 1), fill(nonce, 12, 2), fill(text, length, 3), fill(data, 40, 4);
    SECRET(key), SECRET(text), SECRET(data);
    REQUIRE(grass_seal(key, nonce, data, length % 41, text, length, sealed, tag));
    // What is sealed is sent.
    PUBLIC(sealed), PUBLIC(tag);
    REQUIRE(grass_open(key, nonce, data, length % 41, sealed, length, tag, text));
    tag[3] ^= 1;
    REQUIRE(!grass_open(key, nonce, data, length % 41, sealed, length, tag, text));
    tag[3] ^= 1;
    // Even if it is not: then the tag agrees or does not, and no more shows.
    SECRET(sealed), SECRET(tag);
    (void)grass_open(key, nonce, data, length % 41, sealed, length, tag, text);
  }
  struct grass_share share;
  struct grass_poly1305_sum sum = {{0}}, part;
  grass_share_start(&share, key, nonce, 5);
  for (uint32_t thread = 0; thread < 5; thread++) {
    grass_share_seal(&share, data, 40, text, 700, sealed, thread, &part);
    sum = grass_poly1305_add(sum, part);
  }
  grass_poly1305_finish(&share.authenticator, sum, tag);
  struct grass_prepared prepared;
  grass_prepare(&prepared, key, nonce);
  grass_share_start_prepared(&share, &prepared, key, nonce, 3);
  for (uint32_t thread = 0; thread < 3; thread++) {
    grass_share_sum(&share, data, 40, sealed, 700, thread, &part);
    grass_share_open(&share, sealed, 700, text, thread);
  }
}

static void hashes(void) {
  uint8_t key[100], text[300], tag[32], keys[96];
  for (unsigned length = 0; length <= 300; length += 20) {
    fill(key, 100, 5), fill(text, length, 6);
    SECRET(key), SECRET(text);
    grass_sha256(text, length, tag);
    grass_hmac(key, length % 101, text, length, tag);
    grass_hkdf_extract(key, 32, text, length, tag);
    REQUIRE(grass_hkdf_expand(tag, text, length, keys, 90));
    grass_noise_hkdf(key, text, length, keys, 3);
  }
}

static void products(void) {
  uint8_t key[32], other[32], shared[32];
  for (unsigned round = 0; round < 8; round++) {
    fill(key, 32, (uint8_t)(7 * round)), fill(other, 32, (uint8_t)(9 + round));
    // Of small order, and not canonical.
    if (round == 6) memset(other, 0, 32);
    if (round == 7) memset(other, 0xff, 32);
    SECRET(key);
    if (round % 2) SECRET(other);
    bool found = grass_x25519(shared, key, other);
    REQUIRE(found == (round != 6));
    grass_x25519_public(shared, key);
  }
}

static void handshakes(void) {
  for (uint32_t pattern = 0; pattern < 4; pattern++) {
    struct grass_key_pair pairs[4];
    struct grass_noise ends[2];
    struct grass_cipher ciphers[2][2];
    uint8_t shared[32], text[23], message[256], got[64];
    uint64_t length, got_length;
    for (unsigned index = 0; index < 4; index++) {
      uint8_t random[32];
      fill(random, 32, (uint8_t)(50 * index + pattern));
      SECRET(random);
      grass_make_key_pair(&pairs[index], random);
      // Public keys are sent, the static ones sealed; the ephemeral ones are seen by everybody.
      PUBLIC(pairs[index].public_key);
    }
    fill(shared, 32, 77), fill(text, 23, 78);
    SECRET(shared), SECRET(text);
    const uint8_t *key = pattern >= 2 ? shared : NULL;
    uint8_t remote[32];
    memcpy(remote, pairs[2].public_key, 32);
    SECRET(remote);
    SECRET(pairs[0].public_key), SECRET(pairs[2].public_key);
    REQUIRE(grass_noise_start(&ends[0], pattern, 0, NULL, 0, &pairs[0], &pairs[1], pattern % 2 ? remote : NULL, key) == 0);
    REQUIRE(grass_noise_start(&ends[1], pattern, 1, NULL, 0, &pairs[2], &pairs[3], NULL, key) == 0);
    for (unsigned index = 0; !grass_noise_has_ended(&ends[0]); index++) {
      REQUIRE(grass_noise_write(&ends[index % 2], text, sizeof text, message, sizeof message, &length) == 0);
      PUBLIC(message);
      // An altered one first.
      if (grass_noise_overhead(&ends[1 - index % 2]) > 32) {
        message[40] ^= 1;
        REQUIRE(grass_noise_read(&ends[1 - index % 2], message, length, got, sizeof got, &got_length) == GRASS_NOISE_BAD_TAG);
        message[40] ^= 1;
      }
      REQUIRE(grass_noise_read(&ends[1 - index % 2], message, length, got, sizeof got, &got_length) == 0);
      REQUIRE(got_length == sizeof text);
    }
    for (unsigned end = 0; end < 2; end++) REQUIRE(grass_noise_split(&ends[end], &ciphers[end][0], &ciphers[end][1]) == 0);
    for (unsigned round = 0; round < 3; round++) {
      REQUIRE(grass_cipher_seal(&ciphers[0][0], NULL, 0, text, sizeof text, message, sizeof message, &length) == 0);
      PUBLIC(message);
      REQUIRE(grass_cipher_open(&ciphers[1][1], NULL, 0, message, length, got, sizeof got, &got_length) == 0);
      grass_cipher_rekey(&ciphers[0][0]), grass_cipher_rekey(&ciphers[1][1]);
    }
  }
}

static void generators(void) {
  struct grass_random random = {0};
  uint8_t seed[48], bytes[1500];
  fill(seed, 48, 99);
  SECRET(seed);
  grass_random_mix(&random, seed, 48);
  REQUIRE(grass_random_fill(&random, bytes, 7) && grass_random_fill(&random, bytes, 1500));
  grass_random_mix(&random, seed, 5);
  REQUIRE(grass_random_fill(&random, bytes, 500));
  grass_random_wipe(&random);
}

int main(int argc, char **argv) {
  if (!RUNNING_ON_VALGRIND) return fprintf(stderr, "secrets: not under valgrind\n"), 64;
  if (argc > 1 && strcmp(argv[1], "planted") == 0) {
    uint8_t key[32] = {1, 2, 3};
    SECRET(key);
    planted(key);
    return 0;
  }
  seals(), hashes(), products(), handshakes(), generators();
  printf("secrets: %lu complaints\n", (unsigned long)VALGRIND_COUNT_ERRORS);
  return VALGRIND_COUNT_ERRORS > 0;
}
