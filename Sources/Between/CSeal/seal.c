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

/// Completes a share that has its authenticator.
static void share_complete(struct grass_share *share, const uint8_t key[32], const uint8_t nonce[12], uint32_t threads) {
  share->step = grass_poly1305_power(&share->authenticator, 4 * ((uint64_t)threads - 1));
  grass_chacha20_start(share->start, key, nonce);
  share->threads = threads;
}

void grass_share_start(struct grass_share *share, const uint8_t key[32], const uint8_t nonce[12], uint32_t threads) {
  seal_authenticator(&share->authenticator, key, nonce);
  share_complete(share, key, nonce, threads);
}

void grass_share_start_prepared(
    struct grass_share *share, const struct grass_prepared *prepared, const uint8_t key[32], const uint8_t nonce[12],
    uint32_t threads) {
  share->authenticator = prepared->authenticator;
  share_complete(share, key, nonce, threads);
}

void grass_share_begin(
    const struct grass_share *share, const uint8_t *data, uint64_t data_length, uint32_t thread,
    struct grass_poly1305_sum *sum) {
  *sum = (struct grass_poly1305_sum){{0}};
  if (thread == 0) grass_poly1305_padded(&share->authenticator, sum, data, data_length);
}

/// A thread's chunk moves its sum on to where the chunk begins, but its first: what comes before that is zero, or, for the
/// first thread, the associated data, which that chunk follows at once.
GRASS_APART void grass_share_sum_chunk(
    const struct grass_share *share, uint64_t chunk, const uint8_t *sealed, uint32_t count, struct grass_poly1305_sum *sum) {
  if (chunk >= share->threads) *sum = grass_poly1305_multiply(*sum, share->step);
  grass_poly1305_padded(&share->authenticator, sum, sealed, count);
}

/// Xors a chunk with the stream, into `words`: of a short one the rest is zero.
GRASS_INLINE void share_xor(
    const struct grass_share *share, uint64_t chunk, const uint8_t *from, uint32_t count, uint32_t words[16]) {
  // Block 0 of the stream is the authenticator's.
  grass_chacha20_words(share->start, (uint32_t)(1 + chunk), words);
  if (count == 64) {
    uint32_t text[16];
    grass_get_words(text, from, 16);
    GRASS_UNROLL for (unsigned index = 0; index < 16; index++) words[index] ^= text[index];
  } else {
    uint8_t *bytes = (uint8_t *)words;
    for (uint32_t index = 0; index < 64; index++) bytes[index] = index < count ? bytes[index] ^ from[index] : 0;
  }
}

GRASS_INLINE void share_put(uint8_t *to, const uint32_t words[16], uint32_t count) {
  if (count == 64) grass_put_words(to, words, 16);
  else grass_move(to, (const uint8_t *)words, count);
}

GRASS_APART void grass_share_seal_chunk(
    const struct grass_share *share, uint64_t chunk, const uint8_t *text, uint32_t count, uint8_t *sealed,
    struct grass_poly1305_sum *sum) {
  uint32_t words[16];
  share_xor(share, chunk, text, count, words);
  share_put(sealed, words, count);
  grass_share_sum_chunk(share, chunk, (const uint8_t *)words, count, sum);
}

GRASS_APART void grass_share_open_chunk(
    const struct grass_share *share, uint64_t chunk, const uint8_t *sealed, uint32_t count, uint8_t *text) {
  uint32_t words[16];
  share_xor(share, chunk, sealed, count, words);
  share_put(text, words, count);
  GRASS_FORGET_PLACE(words);
}

GRASS_APART void grass_share_end(
    const struct grass_share *share, uint64_t data_length, uint64_t length, uint32_t thread, struct grass_poly1305_sum *sum) {
  // Blocks count from the end, where that of the lengths is the last.
  uint64_t blocks = (length + 15) / 16, chunks = (length + 63) / 64, after = thread == 0 ? blocks : 0;
  if (thread < chunks) {
    uint64_t last = (chunks - 1 - thread) / share->threads * share->threads + thread;
    after = last + 1 < chunks ? blocks - 4 * (last + 1) : 0;
  }
  *sum = grass_poly1305_multiply(*sum, grass_poly1305_power(&share->authenticator, after + 1));
  if (thread == 0) {
    struct grass_poly1305_sum lengths = {{0}};
    seal_lengths(&share->authenticator, &lengths, data_length, length);
    *sum = grass_poly1305_add(*sum, lengths);
  }
}

/// The bytes of the chunk that begins at `at`.
static uint32_t share_count(uint64_t length, uint64_t at) { return length - at < 64 ? (uint32_t)(length - at) : 64; }

void grass_share_seal(
    const struct grass_share *share, const uint8_t *data, uint64_t data_length, const uint8_t *text, uint64_t length,
    uint8_t *sealed, uint32_t thread, struct grass_poly1305_sum *sum) {
  grass_share_begin(share, data, data_length, thread, sum);
  for (uint64_t at = 64ull * thread; at < length; at += 64ull * share->threads)
    grass_share_seal_chunk(share, at / 64, text + at, share_count(length, at), sealed + at, sum);
  grass_share_end(share, data_length, length, thread, sum);
}

void grass_share_sum(
    const struct grass_share *share, const uint8_t *data, uint64_t data_length, const uint8_t *sealed, uint64_t length,
    uint32_t thread, struct grass_poly1305_sum *sum) {
  grass_share_begin(share, data, data_length, thread, sum);
  for (uint64_t at = 64ull * thread; at < length; at += 64ull * share->threads)
    grass_share_sum_chunk(share, at / 64, sealed + at, share_count(length, at), sum);
  grass_share_end(share, data_length, length, thread, sum);
}

void grass_share_open(
    const struct grass_share *share, const uint8_t *sealed, uint64_t length, uint8_t *text, uint32_t thread) {
  for (uint64_t at = 64ull * thread; at < length; at += 64ull * share->threads)
    grass_share_open_chunk(share, at / 64, sealed + at, share_count(length, at), text + at);
}
