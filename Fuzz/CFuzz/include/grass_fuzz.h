// What the fuzzer has in C.
#pragma once

#include "grass_x25519.h"

// X25519 as it is, but done once for the same keys: a product takes most of a handshake's time, the more so under the sanitizers,
// and a fuzzer that begins each input with the same keys and the same random numbers asks for the same ones again and again.
// The linker puts these in the place of the functions of grass_x25519.h (--wrap).
bool __wrap_grass_x25519(uint8_t shared[32], const uint8_t private_key[32], const uint8_t public_key[32]);
void __wrap_grass_make_key_pair(struct grass_key_pair *pair, const uint8_t random[32]);

/// Whether 32 bytes lie anywhere among others.
bool grass_fuzz_holds(const uint8_t *bytes, uint64_t count, const uint8_t sought[32]);
