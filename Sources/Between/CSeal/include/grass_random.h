// Random numbers after start: a ChaCha20 generator that erases itself (D. J. Bernstein, "Fast-key-erasure random-number
// generators", 2017). Each refill replaces the key by the first bytes of its own stream, and what was handed out is
// erased: who takes the state learns nothing of earlier numbers. Who took it knows later ones until it is mixed with
// what he does not know.
#pragma once

#include <stdbool.h>
#include <stdint.h>

/// Bytes that one refill gives, beside the next key: eight blocks together.
#define GRASS_RANDOM_BUFFER 480u

/// All zeros is a generator that was never seeded. Belongs to one thread, and is never copied: a copy would give the
/// same numbers.
struct grass_random {
  uint8_t key[32];
  uint8_t buffer[GRASS_RANDOM_BUFFER];  // The last `left` bytes are still to be handed out, the others are zero.
  uint32_t left;
  uint32_t seeded;  // Whether it was mixed with 32 bytes or more.
};

/// Mixes bytes into the key: the new one depends on the old and on all of them, so a seed that others know does no
/// harm. The first of 32 bytes or more, from a source of real randomness, starts it. What was not yet handed out is
/// dropped.
void grass_random_mix(struct grass_random *random, const uint8_t *seed, uint64_t count);

/// Fills `count` bytes. False, with zeros, where it was never seeded. Cost: a block of ChaCha20 for 60 bytes.
bool grass_random_fill(struct grass_random *random, uint8_t *bytes, uint64_t count);

/// Wipes it.
void grass_random_wipe(struct grass_random *random);
