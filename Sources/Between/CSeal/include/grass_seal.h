// Sealing: ChaCha20-Poly1305, RFC 8439 section 2.8. A sealed text is as long as the text, with a tag of 16 bytes beside
// it that depends on the key, the nonce, the text, and on associated data, which is sent in clear or known to both.
//
// The same key and nonce must never seal two texts: who sees both can then read both, and forge.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "grass_chacha20.h"
#include "grass_poly1305.h"

/// The longest text, in bytes: 256 GiB less a block. RFC 8439 counts blocks in 32 bits and needs the first one itself.
#define GRASS_MAX_SEALED (((1ull << 32) - 1) * 64)

/// Seals `length` bytes. `sealed` is `text`, or does not overlap it; `tag` lies elsewhere. What has no bytes may be
/// null. False, with nothing written, where `length` is over GRASS_MAX_SEALED. Cost: two blocks of ChaCha20 for 64
/// bytes.
bool grass_seal(
    const uint8_t key[32], const uint8_t nonce[12], const uint8_t *data, uint64_t data_length, const uint8_t *text,
    uint64_t length, uint8_t *sealed, uint8_t tag[16]);

/// Opens what grass_seal gave. False, with nothing written, where the tag does not agree: something was altered, or the
/// key, nonce or associated data are others. `text` is `sealed`, or does not overlap it.
///
/// The sealed text is read twice, to judge it and to open it, so it has to be where nobody else writes: what lies in
/// memory that others reach is copied first.
bool grass_open(
    const uint8_t key[32], const uint8_t nonce[12], const uint8_t *data, uint64_t data_length, const uint8_t *sealed,
    uint64_t length, const uint8_t tag[16], uint8_t *text);

// MARK: - Beforehand

/// What one key and one nonce give, whatever the text will be: all of ChaCha20 that a text of up to 64 bytes needs. Who
/// knows the next record's nonce makes it while nothing waits, and sums up the text only. As secret as the text.
struct grass_prepared {
  struct grass_poly1305_key authenticator;
  uint32_t stream[16];  // What the text's first 64 bytes are xored with.
};

/// Prepares for one record.
void grass_prepare(struct grass_prepared *prepared, const uint8_t key[32], const uint8_t nonce[12]);

/// grass_seal with what was prepared for the same key and nonce, which is wiped: it seals one text only.
bool grass_seal_prepared(
    struct grass_prepared *prepared, const uint8_t key[32], const uint8_t nonce[12], const uint8_t *data, uint64_t data_length,
    const uint8_t *text, uint64_t length, uint8_t *sealed, uint8_t tag[16]);

/// grass_open with what was prepared for the same key and nonce. It is wiped where the tag agrees, and else kept for
/// the true record.
bool grass_open_prepared(
    struct grass_prepared *prepared, const uint8_t key[32], const uint8_t nonce[12], const uint8_t *data, uint64_t data_length,
    const uint8_t *sealed, uint64_t length, const uint8_t tag[16], uint8_t *text);

// MARK: - By many threads
//
// The threads of a GPU's block, or of several blocks, seal or open one record together: of its chunks of 64 bytes, thread
// t of n takes t, t + n, t + 2n and so on. Each has a sum of its own, which grass_share_begin begins, each of its chunks
// continues in order, and grass_share_end ends. All sums together, by grass_poly1305_add and in any order, give the
// record's tag by grass_poly1305_finish with the share's authenticator.
//
// The caller sees to it that a record is of GRASS_MAX_SEALED bytes at most, and that `thread` is below the share's threads.

/// What the threads need, made once and read by all. As secret as the key. No pointers: it may be copied to where each
/// block reads it.
struct grass_share {
  struct grass_poly1305_key authenticator;
  struct grass_poly1305_sum step;  // r to the power of the blocks between two chunks of one thread.
  uint32_t start[16];              // What ChaCha20 begins each block with.
  uint32_t threads;
};

/// Prepares `threads` threads, at least one, for one record. Cost: a block of ChaCha20, and two products of Poly1305 for
/// each bit of `threads`.
void grass_share_start(struct grass_share *share, const uint8_t key[32], const uint8_t nonce[12], uint32_t threads);

/// The same with what was prepared for this key and nonce, which stays as it is: the caller wipes it, and seals no other
/// record with it.
void grass_share_start_prepared(
    struct grass_share *share, const struct grass_prepared *prepared, const uint8_t key[32], const uint8_t nonce[12],
    uint32_t threads);

/// Begins a thread's sum: the first thread's with the associated data.
void grass_share_begin(
    const struct grass_share *share, const uint8_t *data, uint64_t data_length, uint32_t thread,
    struct grass_poly1305_sum *sum);

/// Seals chunk `chunk`, of 64 bytes but the text's last, `count`, and adds it to the thread's sum. `text` and `sealed` are
/// where the chunk's bytes are; one place, or places that do not overlap. What is summed up is not read from there again:
/// who changes it afterwards gets no tag for it.
void grass_share_seal_chunk(
    const struct grass_share *share, uint64_t chunk, const uint8_t *text, uint32_t count, uint8_t *sealed,
    struct grass_poly1305_sum *sum);

/// Adds a chunk that is sealed already to the thread's sum.
void grass_share_sum_chunk(
    const struct grass_share *share, uint64_t chunk, const uint8_t *sealed, uint32_t count, struct grass_poly1305_sum *sum);

/// Opens a chunk, once the tag of all of them was found to agree.
void grass_share_open_chunk(
    const struct grass_share *share, uint64_t chunk, const uint8_t *sealed, uint32_t count, uint8_t *text);

/// Ends a thread's sum, also of one that had no chunk. `length` is the whole text's. Cost: two products for each bit of
/// the number of blocks that follow the thread's last chunk.
void grass_share_end(
    const struct grass_share *share, uint64_t data_length, uint64_t length, uint32_t thread, struct grass_poly1305_sum *sum);

/// All that thread `thread` does to seal a text: it writes its chunks and its sum. `sealed` is as grass_seal's.
void grass_share_seal(
    const struct grass_share *share, const uint8_t *data, uint64_t data_length, const uint8_t *text, uint64_t length,
    uint8_t *sealed, uint32_t thread, struct grass_poly1305_sum *sum);

/// The sum of a thread's chunks of a text that is sealed already. As for grass_open, it lies where nobody else writes.
void grass_share_sum(
    const struct grass_share *share, const uint8_t *data, uint64_t data_length, const uint8_t *sealed, uint64_t length,
    uint32_t thread, struct grass_poly1305_sum *sum);

/// Opens a thread's chunks of a text whose tag agreed.
void grass_share_open(
    const struct grass_share *share, const uint8_t *sealed, uint64_t length, uint8_t *text, uint32_t thread);

/// Whether two tags are the same, in constant time.
bool grass_tags_equal(const uint8_t one[16], const uint8_t other[16]);
