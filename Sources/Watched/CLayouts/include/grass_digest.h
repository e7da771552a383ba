// A digest of bytes, which says whether they are those that were seen before. Once, for the programs of devices and for Swift.
#pragma once

#include <stddef.h>
#include <stdint.h>

/// With the bytes cut into little-endian words of 64 bits, the last one filled up with zeros, and the words numbered from 0 on:
///
///   x    = (word ^ seed[1]) + seed[0] + (number + 1) · 0x9e3779b97f4a7c15
///   low  = Σ mix(x)                        mod 2^64
///   high = Σ mix(x) · (2 · number + 1)     mod 2^64
///
/// where mix is the finalizer of splitmix64. So it is computed by many threads, in any order, and in pieces: a piece that
/// begins with word w has seed[0] + w · 0x9e3779b97f4a7c15 for a seed, and adds its low, and its high + 2 · w · low.
///
/// It keeps apart what differs by chance, and proves nothing to who chose the bytes and knows the seed.
struct grass_digest {
  uint64_t low;
  uint64_t high;
};
_Static_assert(sizeof(struct grass_digest) == 16, "part of the protocol");

#define GRASS_DIGEST_STEP 0x9e3779b97f4a7c15ull

/// Adds word `number` to a digest.
static inline void grass_digest_word(struct grass_digest *digest, const uint64_t seed[2], uint64_t number, uint64_t word) {
  uint64_t x = (word ^ seed[1]) + seed[0] + (number + 1) * GRASS_DIGEST_STEP;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ x >> 27) * 0x94d049bb133111ebull;
  x ^= x >> 31;
  digest->low += x;
  digest->high += x * (2 * number + 1);
}

// Eight words side by side, where a processor can do that. The device programs of GPUs have threads for it.
#if defined(__x86_64__) && defined(__clang__) && !defined(__NVPTX__)
#define GRASS_DIGEST_LANES 8

/// Eight words of 64 bits, anywhere in memory, and in a register.
typedef uint64_t grass_digest_near __attribute__((vector_size(64), aligned(1), may_alias));
typedef uint64_t grass_digest_lanes __attribute__((vector_size(64)));

static inline int grass_digest_has_lanes(void) {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq");
}

/// Adds `groups` groups of eight words, of which the first is number 0.
__attribute__((target("avx512f,avx512dq"), noinline)) static inline void grass_digest_groups(
    struct grass_digest *digest, const uint8_t *from, uint64_t groups, const uint64_t seed[2]) {
  const grass_digest_lanes lane = {0, 1, 2, 3, 4, 5, 6, 7};
  grass_digest_lanes base = seed[0] + (lane + 1) * GRASS_DIGEST_STEP, odd = 2 * lane + 1, low = {0}, high = {0};
  for (; groups > 0; groups--, from += sizeof lane) {
    grass_digest_lanes x = (*(const grass_digest_near *)from ^ seed[1]) + base;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    x ^= x >> 31;
    low += x;
    high += x * odd;
    base += GRASS_DIGEST_LANES * GRASS_DIGEST_STEP;
    odd += 2 * GRASS_DIGEST_LANES;
  }
  for (int index = 0; index < GRASS_DIGEST_LANES; index++) {
    digest->low += low[index];
    digest->high += high[index];
  }
}
#endif

/// The digest of `count` bytes. Cost, per core: some 6 GB/s, where the processor has AVX-512 14 GB/s, out of its caches.
static inline struct grass_digest grass_digest_bytes(const void *bytes, uint64_t count, const uint64_t seed[2]) {
  struct grass_digest digest = {0, 0};
  const uint8_t *from = (const uint8_t *)bytes;
  uint64_t number = 0;
#if defined(GRASS_DIGEST_LANES)
  if (count >= 512 && grass_digest_has_lanes()) {
    number = count / 64 * GRASS_DIGEST_LANES;
    grass_digest_groups(&digest, from, number / GRASS_DIGEST_LANES, seed);
    from += 8 * number;
    count -= 8 * number;
  }
#endif
  // One word at a time: made of narrower vectors, whose products take many steps, it would be half as fast.
#if defined(__clang__)
#pragma clang loop vectorize(disable) unroll_count(4)
#endif
  for (; count >= 8; count -= 8, from += 8, number++) {
    uint64_t word;
    __builtin_memcpy(&word, from, 8);
    grass_digest_word(&digest, seed, number, word);
  }
  if (count > 0) {
    uint64_t word = 0;
    for (uint64_t index = 0; index < count; index++) word |= (uint64_t)from[index] << 8 * index;
    grass_digest_word(&digest, seed, number, word);
  }
  return digest;
}
