// What the files of this folder share: bytes as words, and the masks that stand where a branch would tell a secret.
//
// The rule of this folder: which instructions run, and which addresses they touch, follows from lengths, public keys
// and messages, never from a secret. So there are no tables that a secret indexes and no branches on one. Where a
// secret has an outcome that everybody sees anyway (a tag agrees or does not), that one bit is named public with
// GRASS_DECLASSIFY, and the test of constant time, which takes each secret for memory that was never written, is told
// the same.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "grass_wipe.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "words are little endian here");

#ifndef GRASS_DECLASSIFY
/// `count` bytes at `place` are known to everybody from here on. Nothing, but in the test of constant time.
#define GRASS_DECLASSIFY(place, count) ((void)0)
#endif

#define GRASS_INLINE static inline __attribute__((always_inline))
/// Kept once in the program: what is long, and called from many places. A GPU's driver compiles the program at each
/// start.
#define GRASS_APART __attribute__((noinline))
#define GRASS_UNROLL _Pragma("clang loop unroll(full)")

// Two ways to forget a local variable. GRASS_FORGET is for one whose address no function got: on a GPU it lies in
// registers, a store to it would force it into memory that others can read, and so nothing is done there; what was
// spilled all the same, the build says. GRASS_FORGET_PLACE is for one whose address was given away, which lies in memory.
#if defined(__NVPTX__)
#define GRASS_FORGET(variable) ((void)(variable))
#define GRASS_FORGET_PLACE(variable) grass_wipe(&(variable), sizeof(variable))
#else
#define GRASS_FORGET(variable)                            \
  do {                                                    \
    __builtin_memset(&(variable), 0, sizeof(variable));   \
    __asm__ volatile("" : : "r"(&(variable)) : "memory"); \
  } while (0)
#define GRASS_FORGET_PLACE(variable) GRASS_FORGET(variable)
#endif

// Vectors of 32 bytes and of 64, for which a processor is asked at run time.
#if defined(__x86_64__) && !defined(__NVPTX__) && !defined(GRASS_NO_AVX2)
#define GRASS_AVX2 __attribute__((target("avx2")))
GRASS_INLINE bool grass_has_avx2(void) { return __builtin_cpu_supports("avx2"); }
#if !defined(GRASS_NO_AVX512)
#define GRASS_AVX512 __attribute__((target("avx512f")))
GRASS_INLINE bool grass_has_avx512(void) { return __builtin_cpu_supports("avx512f"); }
#endif
#endif

/// The same value, of which the compiler knows nothing: lest it makes a branch of a mask.
GRASS_INLINE uint32_t grass_opaque32(uint32_t value) {
  __asm__("" : "+r"(value));
  return value;
}

GRASS_INLINE uint64_t grass_opaque64(uint64_t value) {
#if defined(__NVPTX__)
  __asm__("" : "+l"(value));
#else
  __asm__("" : "+r"(value));
#endif
  return value;
}

GRASS_INLINE uint32_t grass_get32(const uint8_t *from) {
  uint32_t value;
  __builtin_memcpy(&value, from, 4);
  return value;
}

GRASS_INLINE uint64_t grass_get64(const uint8_t *from) {
  uint64_t value;
  __builtin_memcpy(&value, from, 8);
  return value;
}

GRASS_INLINE void grass_put32(uint8_t *to, uint32_t value) { __builtin_memcpy(to, &value, 4); }

GRASS_INLINE void grass_put64(uint8_t *to, uint64_t value) { __builtin_memcpy(to, &value, 8); }

/// Bytes as little-endian words. A GPU loads no word that is not aligned, and a compiler that does not know takes a
/// word byte by byte: the question is asked once. `count` is a constant.
GRASS_INLINE void grass_get_words(uint32_t *words, const uint8_t *from, unsigned count) {
#if defined(__NVPTX__)
  if (((uintptr_t)from & 3) == 0) {
    const uint8_t *aligned = __builtin_assume_aligned(from, 4);
    GRASS_UNROLL for (unsigned index = 0; index < count; index++) words[index] = grass_get32(aligned + 4 * index);
    return;
  }
#endif
  GRASS_UNROLL for (unsigned index = 0; index < count; index++) words[index] = grass_get32(from + 4 * index);
}

GRASS_INLINE void grass_put_words(uint8_t *to, const uint32_t *words, unsigned count) {
#if defined(__NVPTX__)
  if (((uintptr_t)to & 3) == 0) {
    uint8_t *aligned = __builtin_assume_aligned(to, 4);
    GRASS_UNROLL for (unsigned index = 0; index < count; index++) grass_put32(aligned + 4 * index, words[index]);
    return;
  }
#endif
  GRASS_UNROLL for (unsigned index = 0; index < count; index++) grass_put32(to + 4 * index, words[index]);
}

/// Copies between buffers that do not overlap; no call of a library's function.
GRASS_INLINE void grass_move(uint8_t *to, const uint8_t *from, uint64_t count) {
  for (uint64_t index = 0; index < count; index++) to[index] = from[index];
}

/// Whether two tags of 16 bytes are the same, in constant time; the answer is public.
GRASS_INLINE bool grass_tags_agree(const uint8_t one[16], const uint8_t other[16]) {
  // By words: of a loop over 16 bytes LLVM 19 makes one load of 16, also where nothing is known of the address, and a GPU
  // faults at one that is not aligned.
  uint32_t first[4], second[4], difference = 0;
  grass_get_words(first, one, 4);
  grass_get_words(second, other, 4);
  GRASS_UNROLL for (unsigned index = 0; index < 4; index++) difference |= first[index] ^ second[index];
  difference = grass_opaque32(difference);
  GRASS_DECLASSIFY(&difference, sizeof difference);
  return difference == 0;
}
