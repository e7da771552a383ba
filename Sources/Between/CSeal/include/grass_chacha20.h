// ChaCha20, RFC 8439 section 2.4: adds, rotations and xors of words. No table, no branch on a secret, so constant time
// on processors and GPUs alike.
#pragma once

#include <stdint.h>

/// Block number `counter` of the stream of a key and a nonce, RFC 8439 section 2.3.
void grass_chacha20_block(const uint8_t key[32], const uint8_t nonce[12], uint32_t counter, uint8_t block[64]);

/// The words of blocks `counter` and the one after it, which a processor computes together in little more time than one
/// takes.
void grass_chacha20_pair(
    const uint8_t key[32], const uint8_t nonce[12], uint32_t counter, uint32_t first[16], uint32_t second[16]);

/// Xors `length` bytes with the stream, from the start of block `counter` on. `to` is `from`, or does not overlap it.
/// Threads that share a text each take some of its blocks. A nonce serves one text: 2^32 blocks at most, the caller
/// counts them. Cost: a processor's core takes some 0.1 µs for a block, and less for each of several together.
void grass_chacha20_xor(
    const uint8_t key[32], const uint8_t nonce[12], uint32_t counter, const uint8_t *from, uint8_t *to, uint64_t length);

/// What every block of a key and a nonce begins with; the block's number in it is 0. As secret as the key.
void grass_chacha20_start(uint32_t start[16], const uint8_t key[32], const uint8_t nonce[12]);

/// The words of block `counter`, for whoever takes blocks one by one.
void grass_chacha20_words(const uint32_t start[16], uint32_t counter, uint32_t words[16]);
