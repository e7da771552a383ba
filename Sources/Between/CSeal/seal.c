#include "grass_seal.h"

#include "bytes.h"

/// The key of Poly1305 is the start of block 0 of the stream, and the text begins with block 1.
static void seal_authenticator(struct grass_poly1305_key *authenticator, const uint8_t key[32], const uint8_t nonce[12]) {
  _Alignas(4) uint8_t block[64];
  grass_chacha20_block(key, nonce, 0, block);
  grass_poly1305_start(authenticator, block);
  grass_wipe(block, sizeof block);
}

/// The last block of what the tag covers: both lengths.
static void seal_lengths(
    const struct grass_poly1305_key *authenticator, struct grass_poly1305_sum *sum, uint64_t data_length, uint64_t length) {
  _Alignas(8) uint8_t lengths[16];
  grass_put64(lengths, data_length);
  grass_put64(lengths + 8, length);
  grass_poly1305_blocks(authenticator, sum, lengths, 1);
}

GRASS_APART static void seal_tag(
    const struct grass_poly1305_key *authenticator, const uint8_t *data, uint64_t data_length, const uint8_t *sealed,
    uint64_t length, uint8_t tag[16]) {
  struct grass_poly1305_sum sum = {{0}};
  grass_poly1305_padded(authenticator, &sum, data, data_length);
  grass_poly1305_padded(authenticator, &sum, sealed, length);
  seal_lengths(authenticator, &sum, data_length, length);
  grass_poly1305_finish(authenticator, sum, tag);
  GRASS_FORGET_PLACE(sum);
}

/// Seals or opens the text's first 64 bytes, `stream` being block 1, and then the others.
static void seal_xor(
    const uint8_t key[32], const uint8_t nonce[12], const uint32_t stream[16], const uint8_t *from, uint8_t *to, uint64_t length) {
  if (length >= 64) {
    uint32_t words[16];
    grass_get_words(words, from, 16);
    GRASS_UNROLL for (unsigned index = 0; index < 16; index++) words[index] ^= stream[index];
    grass_put_words(to, words, 16);
    if (length > 64) grass_chacha20_xor(key, nonce, 2, from + 64, to + 64, length - 64);
  } else if (length > 0) {
    _Alignas(4) uint8_t block[64];
    grass_put_words(block, stream, 16);
    for (uint64_t index = 0; index < length; index++) to[index] = from[index] ^ block[index];
    grass_wipe(block, sizeof block);
  }
}

GRASS_APART void grass_prepare(struct grass_prepared *prepared, const uint8_t key[32], const uint8_t nonce[12]) {
  uint32_t words[16];
  _Alignas(4) uint8_t one_time[32];
  grass_chacha20_pair(key, nonce, 0, words, prepared->stream);
  grass_put_words(one_time, words, 8);
  grass_poly1305_start(&prepared->authenticator, one_time);
  GRASS_FORGET_PLACE(one_time);
  GRASS_FORGET_PLACE(words);
}

GRASS_APART bool grass_seal_prepared(
    struct grass_prepared *prepared, const uint8_t key[32], const uint8_t nonce[12], const uint8_t *data, uint64_t data_length,
    const uint8_t *text, uint64_t length, uint8_t *sealed, uint8_t tag[16]) {
  bool fits = length <= GRASS_MAX_SEALED;
  if (fits) {
    seal_xor(key, nonce, prepared->stream, text, sealed, length);
    seal_tag(&prepared->authenticator, data, data_length, sealed, length, tag);
  }
  grass_wipe(prepared, sizeof *prepared);
  return fits;
}

GRASS_APART bool grass_open_prepared(
    struct grass_prepared *prepared, const uint8_t key[32], const uint8_t nonce[12], const uint8_t *data, uint64_t data_length,
    const uint8_t *sealed, uint64_t length, const uint8_t tag[16], uint8_t *text) {
  if (length > GRASS_MAX_SEALED) return false;
  _Alignas(4) uint8_t expected[16];
  seal_tag(&prepared->authenticator, data, data_length, sealed, length, expected);
  bool agree = grass_tags_agree(expected, tag);
  // The true tag of a forged text would be what its forger lacks.
  GRASS_FORGET_PLACE(expected);
  if (!agree) return false;
  seal_xor(key, nonce, prepared->stream, sealed, text, length);
  grass_wipe(prepared, sizeof *prepared);
  return true;
}

bool grass_seal(
    const uint8_t key[32], const uint8_t nonce[12], const uint8_t *data, uint64_t data_length, const uint8_t *text,
    uint64_t length, uint8_t *sealed, uint8_t tag[16]) {
  if (length > GRASS_MAX_SEALED) return false;
  struct grass_prepared prepared;
  grass_prepare(&prepared, key, nonce);
  return grass_seal_prepared(&prepared, key, nonce, data, data_length, text, length, sealed, tag);
}

bool grass_open(
    const uint8_t key[32], const uint8_t nonce[12], const uint8_t *data, uint64_t data_length, const uint8_t *sealed,
    uint64_t length, const uint8_t tag[16], uint8_t *text) {
  if (length > GRASS_MAX_SEALED) return false;
  struct grass_prepared prepared;
  grass_prepare(&prepared, key, nonce);
  bool agree = grass_open_prepared(&prepared, key, nonce, data, data_length, sealed, length, tag, text);
  grass_wipe(&prepared, sizeof prepared);
  return agree;
}

bool grass_tags_equal(const uint8_t one[16], const uint8_t other[16]) { return grass_tags_agree(one, other); }

// MARK: - By many threads

void grass_share_start(struct grass_share *share, const uint8_t key[32], const uint8_t nonce[12], uint32_t threads) {
  seal_authenticator(&share->authenticator, key, nonce);
  share->step = grass_poly1305_power(&share->authenticator, 4 * ((uint64_t)threads - 1));
}

/// A thread's part of a sum, over the chunks that it takes, of which `turn` says what happens to each before it counts.
/// Blocks count from the text's end, where that of the lengths is the last.
void grass_share_sum(
    const struct grass_share *share, const uint8_t *data, uint64_t data_length, const uint8_t *sealed, uint64_t length,
    uint32_t thread, uint32_t threads, struct grass_poly1305_sum *sum) {
  const struct grass_poly1305_key *authenticator = &share->authenticator;
  uint64_t blocks = (length + 15) / 16, after = 0;
  struct grass_poly1305_sum part = {{0}};
  if (thread == 0) {
    grass_poly1305_padded(authenticator, &part, data, data_length);
    // What follows the associated data are all blocks of the text; its first chunk is this thread's, too.
    after = blocks;
  }
  for (uint64_t at = 64ull * thread; at < length; at += 64ull * threads) {
    uint64_t count = length - at < 64 ? length - at : 64;
    if (at >= 64ull * threads) part = grass_poly1305_multiply(part, share->step);
    grass_poly1305_padded(authenticator, &part, sealed + at, count);
    after = blocks - at / 16 - (count + 15) / 16;
  }
  part = grass_poly1305_multiply(part, grass_poly1305_power(authenticator, after + 1));
  if (thread == 0) {
    struct grass_poly1305_sum last = {{0}};
    seal_lengths(authenticator, &last, data_length, length);
    part = grass_poly1305_add(part, last);
  }
  *sum = part;
  GRASS_FORGET_PLACE(part);
}

void grass_share_open(
    const uint8_t key[32], const uint8_t nonce[12], const uint8_t *sealed, uint64_t length, uint8_t *text, uint32_t thread,
    uint32_t threads) {
  for (uint64_t at = 64ull * thread; at < length; at += 64ull * threads)
    grass_chacha20_xor(key, nonce, (uint32_t)(1 + at / 64), sealed + at, text + at, length - at < 64 ? length - at : 64);
}

void grass_share_seal(
    const struct grass_share *share, const uint8_t key[32], const uint8_t nonce[12], const uint8_t *data, uint64_t data_length,
    const uint8_t *text, uint64_t length, uint8_t *sealed, uint32_t thread, uint32_t threads,
    struct grass_poly1305_sum *sum) {
  grass_share_open(key, nonce, text, length, sealed, thread, threads);
  grass_share_sum(share, data, data_length, sealed, length, thread, threads, sum);
}
