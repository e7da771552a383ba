// Feeds messages of anybody's to handshakes and to what opens records, under libFuzzer and the address sanitizer.
//
// The first bytes say what is fed; the rest is a message, or is laid over a true one, so that a fuzzer gets behind the
// first tag. What must hold: nothing but the true message is taken, an error changes no state and writes nothing, and
// the true message is taken afterwards.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "grass_noise.h"
#include "grass_random.h"

#define MESSAGES 3

/// An honest handshake, stopped before each message.
static struct stage {
  struct grass_noise writer, reader;
  uint8_t message[256];
  uint64_t length;
} stages[4][MESSAGES];
static struct grass_cipher ciphers[4][2];
static struct grass_key_pair pairs[4];
static const uint8_t shared[32] = "that which both know beforehand", payload[20] = "a payload of a test";

#define REQUIRE(condition) \
  do {                     \
    if (!(condition)) abort(); \
  } while (0)

static void prepare(void) {
  struct grass_random random = {0};
  uint8_t seed[32] = {7};
  grass_random_mix(&random, seed, sizeof seed);
  for (unsigned index = 0; index < 4; index++) {
    uint8_t bytes[32];
    REQUIRE(grass_random_fill(&random, bytes, 32));
    grass_make_key_pair(&pairs[index], bytes);
  }
  for (uint32_t pattern = 0; pattern < 4; pattern++) {
    const uint8_t *remote = pattern % 2 ? pairs[2].public_key : NULL, *key = pattern >= 2 ? shared : NULL;
    struct grass_noise ends[2];
    REQUIRE(grass_noise_start(&ends[0], pattern, 0, NULL, 0, &pairs[0], &pairs[1], remote, key) == GRASS_NOISE_OK);
    REQUIRE(grass_noise_start(&ends[1], pattern, 1, NULL, 0, &pairs[2], &pairs[3], NULL, key) == GRASS_NOISE_OK);
    for (unsigned index = 0; !grass_noise_has_ended(&ends[0]); index++) {
      struct stage *stage = &stages[pattern][index];
      uint8_t text[64];
      uint64_t length;
      stage->writer = ends[index % 2], stage->reader = ends[1 - index % 2];
      REQUIRE(grass_noise_write(&ends[index % 2], payload, sizeof payload, stage->message, 256, &stage->length) == GRASS_NOISE_OK);
      REQUIRE(grass_noise_read(&ends[1 - index % 2], stage->message, stage->length, text, 64, &length) == GRASS_NOISE_OK);
    }
    REQUIRE(grass_noise_split(&ends[0], &ciphers[pattern][0], &ciphers[pattern][1]) == GRASS_NOISE_OK);
  }
}

static void fuzz_message(struct stage *stage, const uint8_t *message, uint64_t length, uint64_t capacity, int again) {
  struct grass_noise reader = stage->reader;
  uint8_t *text = malloc(capacity);
  memset(text, 0xa5, capacity);
  uint64_t got = 99, overhead = grass_noise_overhead(&reader);
  enum grass_noise_error error = grass_noise_read(&reader, message, length, text, capacity, &got);
  int is_true = length == stage->length && memcmp(message, stage->message, length) == 0;
  if (error == GRASS_NOISE_OK) {
    REQUIRE(is_true || overhead == 32);
    REQUIRE(got == length - overhead && got <= capacity);
  } else {
    REQUIRE(got == 0 && memcmp(&reader, &stage->reader, sizeof reader) == 0);
    for (uint64_t index = 0; index < capacity; index++) REQUIRE(text[index] == 0xa5);
    if (length < overhead) REQUIRE(error == GRASS_NOISE_TOO_SHORT);
    if (again) {
      uint8_t place[sizeof payload];
      REQUIRE(
          grass_noise_read(&reader, stage->message, stage->length, place, sizeof place, &got) == GRASS_NOISE_OK);
      REQUIRE(got == sizeof payload && memcmp(place, payload, got) == 0);
    }
  }
  free(text);
}

static void fuzz_open(uint32_t pattern, const uint8_t *data, uint64_t size, uint64_t capacity, unsigned how) {
  struct grass_cipher send = ciphers[pattern][0], receive = send, before = send;
  uint64_t got = 0, data_length = size > 0 ? data[0] % size : 0;
  uint8_t *sealed = malloc(size + 16), *text = malloc(capacity), *original = malloc(size + 16);
  memset(text, 0xa5, capacity);
  uint64_t length = size - data_length;
  REQUIRE(grass_cipher_seal(&send, data, data_length, data + data_length, length, sealed, length + 16, &length) == GRASS_NOISE_OK);
  memcpy(original, sealed, length);
  // Some bytes are laid over it, or it is cut.
  uint64_t at = how % (length + 1);
  if (how & 0x100) length = at;
  else if (size > 1 && at < length) sealed[at] ^= data[1];
  int is_true = length == size - data_length + 16 && memcmp(original, sealed, length) == 0;
  enum grass_noise_error error = grass_cipher_open(&receive, data, data_length, sealed, length, text, capacity, &got);
  if (error == GRASS_NOISE_OK) {
    REQUIRE(is_true && got == size - data_length && (got == 0 || memcmp(text, data + data_length, got) == 0));
  } else {
    REQUIRE(got == 0 && memcmp(&receive, &before, sizeof before) == 0);
    REQUIRE(!is_true || capacity < size - data_length);
    for (uint64_t index = 0; index < capacity; index++) REQUIRE(text[index] == 0xa5);
  }
  // The bytes themselves as a sealed text.
  if (size >= 16) REQUIRE(!grass_open(receive.key, data, NULL, 0, data, size - 16, data + size - 16, sealed));
  free(sealed), free(text), free(original);
}

/// A write with any keys and any room.
static void fuzz_write(uint32_t pattern, const uint8_t *data, uint64_t size, uint64_t capacity) {
  uint8_t remote[32] = {0}, *message = malloc(capacity);
  memcpy(remote, data, size < 32 ? size : 32);
  struct grass_noise noise;
  uint64_t length = 99;
  enum grass_noise_error error = grass_noise_start(
      &noise, pattern, 0, data, size, &pairs[0], &pairs[1], pattern % 2 ? remote : NULL, pattern >= 2 ? shared : NULL);
  REQUIRE(error == GRASS_NOISE_OK);
  struct grass_noise before = noise;
  error = grass_noise_write(&noise, data, size, message, capacity, &length);
  REQUIRE(error == GRASS_NOISE_OK || error == GRASS_NOISE_NO_ROOM || error == GRASS_NOISE_BAD_KEY || error == GRASS_NOISE_TOO_LONG);
  if (error == GRASS_NOISE_OK) REQUIRE(length == size + grass_noise_overhead(&before) && length <= capacity);
  else REQUIRE(length == 0 && memcmp(&noise, &before, sizeof noise) == 0);
  free(message);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size) {
  static int is_prepared;
  if (!is_prepared) prepare(), is_prepared = 1;
  if (size < 5) return 0;
  uint32_t pattern = input[0] & 3, mode = input[0] >> 2 & 7;
  unsigned how = input[1] | (unsigned)input[2] << 8;
  uint64_t capacity = input[3] | (uint64_t)(input[4] & 1) << 8;
  const uint8_t *data = input + 5;
  size -= 5;
  // A copy of its own, so that the sanitizer sees the first byte behind it.
  uint8_t *copy = malloc(size);
  memcpy(copy, data, size);
  struct stage *stage = &stages[pattern][how % (pattern % 2 ? 2 : 3)];
  if (mode < 2) {
    fuzz_message(stage, copy, size, capacity, (how & 0x700) == 0);
  } else if (mode < 5) {
    // A true message, of which some bytes from some place on are others; it may be cut or longer, too.
    uint64_t at = (how >> 4) % (stage->length + 1), length = stage->length;
    if (mode == 3) length = at;
    if (mode == 4) length += size;
    uint8_t *message = calloc(1, length);
    memcpy(message, stage->message, length < stage->length ? length : stage->length);
    if (mode == 4 && size > 0) memcpy(message + stage->length, copy, size);
    if (mode == 2)
      for (uint64_t index = 0; index < size && at + index < length; index++) message[at + index] ^= copy[index];
    fuzz_message(stage, message, length, capacity, (how & 0x700) == 0);
    free(message);
  } else if (mode < 7) {
    fuzz_open(pattern, copy, size, capacity, how);
  } else {
    fuzz_write(pattern, copy, size, capacity);
  }
  free(copy);
  return 0;
}
