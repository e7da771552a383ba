#include "grass_seal_cases.h"

#include <stdbool.h>

#include "grass_noise.h"
#include "grass_random.h"
#include "grass_seal.h"
#include "grass_sha256.h"
#include "grass_wipe.h"
#include "grass_x25519.h"

#define FIELDS 16u
#define MOST_THREADS 9u
#define MOST_BLOCKS 3u
#define BLOCK_THREADS 4u

struct case_field {
  const uint8_t *bytes;
  uint64_t length;
};

static bool case_same(const uint8_t *one, const uint8_t *other, uint64_t count) {
  for (uint64_t index = 0; index < count; index++)
    if (one[index] != other[index]) return false;
  return true;
}

static void case_copy(uint8_t *to, const uint8_t *from, uint64_t count) {
  for (uint64_t index = 0; index < count; index++) to[index] = from[index];
}

static void case_fill(uint8_t *to, uint8_t byte, uint64_t count) {
  for (uint64_t index = 0; index < count; index++) to[index] = byte;
}

static bool case_is(const uint8_t *bytes, uint8_t byte, uint64_t count) {
  for (uint64_t index = 0; index < count; index++)
    if (bytes[index] != byte) return false;
  return true;
}

static uint32_t case_number(const struct case_field *field) {
  uint32_t value = 0;
  for (uint64_t index = 0; index < 4 && index < field->length; index++) value |= (uint32_t)field->bytes[index] << 8 * index;
  return value;
}

const char *grass_case_name(uint32_t operation) {
  switch (operation) {
    case GRASS_CASE_CHACHA20: return "chacha20";
    case GRASS_CASE_POLY1305: return "poly1305";
    case GRASS_CASE_SEAL: return "seal";
    case GRASS_CASE_SHA256: return "sha256";
    case GRASS_CASE_HMAC: return "hmac";
    case GRASS_CASE_HKDF: return "hkdf";
    case GRASS_CASE_X25519: return "x25519";
    case GRASS_CASE_X25519_PUBLIC: return "x25519-public";
    case GRASS_CASE_X25519_ITERATED: return "x25519-iterated";
    case GRASS_CASE_NOISE: return "noise";
    default: return 0;
  }
}

/// The stream is the same in one piece, in place, block by block, and from any block on.
static int32_t case_chacha20(const struct case_field *fields, uint8_t *output, uint8_t *scratch) {
  const uint8_t *key = fields[0].bytes, *nonce = fields[2].bytes, *text = fields[3].bytes;
  uint64_t length = fields[3].length;
  uint32_t counter = case_number(&fields[1]);
  grass_chacha20_xor(key, nonce, counter, text, output, length);
  case_copy(scratch, text, length);
  grass_chacha20_xor(key, nonce, counter, scratch, scratch, length);
  if (!case_same(scratch, output, length)) return GRASS_CASE_BROKEN;
  for (uint64_t step = 64; step <= 320; step += 64) {
    case_fill(scratch, 0, length);
    for (uint64_t at = 0; at < length; at += step)
      grass_chacha20_xor(
          key, nonce, counter + (uint32_t)(at / 64), text + at, scratch + at, length - at < step ? length - at : step);
    if (!case_same(scratch, output, length)) return GRASS_CASE_BROKEN + 1;
  }
  if (length >= 64) {
    uint8_t block[64];
    grass_chacha20_block(key, nonce, counter, block);
    for (unsigned index = 0; index < 64; index++)
      if ((block[index] ^ text[index]) != output[index]) return GRASS_CASE_BROKEN + 2;
  }
  return GRASS_CASE_DONE;
}

/// The sum is the same in two parts, wherever it is cut between blocks.
static int32_t case_poly1305(const struct case_field *fields, uint8_t *output) {
  const uint8_t *text = fields[1].bytes;
  uint64_t length = fields[1].length;
  grass_poly1305(fields[0].bytes, text, length, output);
  struct grass_poly1305_key key;
  grass_poly1305_start(&key, fields[0].bytes);
  for (uint64_t cut = 0; cut <= length; cut += 16) {
    struct grass_poly1305_sum first = {{0}}, second = {{0}};
    grass_poly1305_blocks(&key, &first, text, cut / 16);
    grass_poly1305_end(&key, &second, text + cut, length - cut);
    first = grass_poly1305_multiply(first, grass_poly1305_power(&key, (length - cut + 15) / 16));
    uint8_t tag[16];
    grass_poly1305_finish(&key, grass_poly1305_add(second, first), tag);
    if (!case_same(tag, output, 16)) return GRASS_CASE_BROKEN;
  }
  return GRASS_CASE_DONE;
}

/// Several blocks of threads seal a text in place and chunk by chunk, each with a copy of one share; then the blocks' sums,
/// each put together from its threads' by halves, are the tag. `sealed` is what comes out, with its tag.
static int32_t case_seal_blocks(const struct case_field *fields, const uint8_t *sealed, uint8_t *scratch, uint32_t blocks) {
  const uint8_t *key = fields[0].bytes, *nonce = fields[1].bytes, *data = fields[2].bytes, *text = fields[3].bytes;
  uint64_t data_length = fields[2].length, length = fields[3].length;
  struct grass_prepared prepared;
  struct grass_share made;
  struct grass_poly1305_sum whole = {{0}};
  uint8_t tag[16];
  grass_prepare(&prepared, key, nonce);
  grass_share_start_prepared(&made, &prepared, key, nonce, blocks * BLOCK_THREADS);
  grass_wipe(&prepared, sizeof prepared);
  case_copy(scratch, text, length);
  for (uint32_t block = blocks; block-- > 0;) {
    struct grass_share share = made;
    struct grass_poly1305_sum sums[BLOCK_THREADS];
    uint32_t first = block * BLOCK_THREADS;
    for (uint32_t thread = 0; thread < BLOCK_THREADS; thread++)
      grass_share_begin(&share, data, data_length, first + thread, &sums[thread]);
    for (uint64_t row = first; row * 64 < length; row += share.threads)
      for (uint32_t thread = 0; thread < BLOCK_THREADS && (row + thread) * 64 < length; thread++) {
        uint64_t at = (row + thread) * 64;
        grass_share_seal_chunk(
            &share, row + thread, scratch + at, length - at < 64 ? (uint32_t)(length - at) : 64, scratch + at, &sums[thread]);
      }
    for (uint32_t thread = 0; thread < BLOCK_THREADS; thread++)
      grass_share_end(&share, data_length, length, first + thread, &sums[thread]);
    for (uint32_t half = BLOCK_THREADS / 2; half > 0; half /= 2)
      for (uint32_t thread = 0; thread < half; thread++) sums[thread] = grass_poly1305_add(sums[thread], sums[thread + half]);
    whole = grass_poly1305_add(whole, sums[0]);
  }
  grass_poly1305_finish(&made.authenticator, whole, tag);
  if (!case_same(scratch, sealed, length)) return GRASS_CASE_BROKEN + 26;
  return case_same(tag, sealed + length, 16) ? GRASS_CASE_DONE : GRASS_CASE_BROKEN + 27;
}

/// Sealed in place and by threads it is the same; it opens again; nothing opens that has a bit changed, and nothing is
/// written.
static int32_t case_seal(const struct case_field *fields, uint8_t *output, uint8_t *scratch) {
  const uint8_t *key = fields[0].bytes, *nonce = fields[1].bytes, *data = fields[2].bytes, *text = fields[3].bytes;
  uint64_t data_length = fields[2].length, length = fields[3].length;
  uint8_t tag[16], other[64];
  if (!grass_seal(key, nonce, data, data_length, text, length, output, output + length)) return GRASS_CASE_BROKEN;
  case_copy(scratch, text, length);
  if (!grass_seal(key, nonce, data, data_length, scratch, length, scratch, tag)) return GRASS_CASE_BROKEN + 1;
  if (!case_same(scratch, output, length) || !case_same(tag, output + length, 16)) return GRASS_CASE_BROKEN + 2;
  if (!grass_open(key, nonce, data, data_length, scratch, length, tag, scratch)) return GRASS_CASE_BROKEN + 3;
  if (!case_same(scratch, text, length)) return GRASS_CASE_BROKEN + 4;
  case_fill(scratch, 0xa5, length);
  if (!grass_open(key, nonce, data, data_length, output, length, output + length, scratch)) return GRASS_CASE_BROKEN + 5;
  if (!case_same(scratch, text, length)) return GRASS_CASE_BROKEN + 6;

  case_fill(scratch, 0xa5, length);
  for (unsigned bit = 0; bit < 128; bit++) {
    tag[bit / 8] ^= (uint8_t)(1 << bit % 8);
    if (grass_open(key, nonce, data, data_length, output, length, tag, scratch)) return GRASS_CASE_BROKEN + 7;
    tag[bit / 8] ^= (uint8_t)(1 << bit % 8);
  }
  for (uint64_t bit = 0; bit < length * 8; bit += 131) {
    output[bit / 8] ^= (uint8_t)(1 << bit % 8);
    if (grass_open(key, nonce, data, data_length, output, length, tag, scratch)) return GRASS_CASE_BROKEN + 8;
    output[bit / 8] ^= (uint8_t)(1 << bit % 8);
  }
  if (length > 0 && grass_open(key, nonce, data, data_length, output, length - 1, tag, scratch)) return GRASS_CASE_BROKEN + 9;
  if (data_length > 0 && data_length <= sizeof other) {
    if (grass_open(key, nonce, data, data_length - 1, output, length, tag, scratch)) return GRASS_CASE_BROKEN + 10;
    case_copy(other, data, data_length);
    other[data_length - 1] ^= 1;
    if (grass_open(key, nonce, other, data_length, output, length, tag, scratch)) return GRASS_CASE_BROKEN + 11;
  }
  case_copy(other, nonce, 12);
  other[11] ^= 128;
  if (grass_open(key, other, data, data_length, output, length, tag, scratch)) return GRASS_CASE_BROKEN + 12;
  case_copy(other, key, 32);
  other[0] ^= 1;
  if (grass_open(other, nonce, data, data_length, output, length, tag, scratch)) return GRASS_CASE_BROKEN + 13;
  if (!case_is(scratch, 0xa5, length)) return GRASS_CASE_BROKEN + 14;

  // What was prepared outlives a forged record, and serves the true one only.
  struct grass_prepared prepared;
  grass_prepare(&prepared, key, nonce);
  tag[5] ^= 16;
  if (grass_open_prepared(&prepared, key, nonce, data, data_length, output, length, tag, scratch)) return GRASS_CASE_BROKEN + 18;
  tag[5] ^= 16;
  if (!case_is(scratch, 0xa5, length)) return GRASS_CASE_BROKEN + 19;
  if (!grass_open_prepared(&prepared, key, nonce, data, data_length, output, length, tag, scratch))
    return GRASS_CASE_BROKEN + 20;
  if (!case_same(scratch, text, length)) return GRASS_CASE_BROKEN + 21;
  if (!case_is((const uint8_t *)&prepared, 0, sizeof prepared)) return GRASS_CASE_BROKEN + 22;
  grass_prepare(&prepared, key, nonce);
  if (!grass_seal_prepared(&prepared, key, nonce, data, data_length, text, length, scratch, other)) return GRASS_CASE_BROKEN + 23;
  if (!case_same(scratch, output, length) || !case_same(other, tag, 16)) return GRASS_CASE_BROKEN + 24;
  if (!case_is((const uint8_t *)&prepared, 0, sizeof prepared)) return GRASS_CASE_BROKEN + 25;

  for (uint32_t threads = 1; threads <= MOST_THREADS; threads++) {
    struct grass_share share;
    struct grass_poly1305_sum sealed = {{0}}, read = {{0}};
    grass_share_start(&share, key, nonce, threads);
    case_fill(scratch, 0, length);
    for (uint32_t thread = threads; thread-- > 0;) {
      struct grass_poly1305_sum part;
      grass_share_seal(&share, data, data_length, text, length, scratch, thread, &part);
      sealed = grass_poly1305_add(sealed, part);
    }
    grass_poly1305_finish(&share.authenticator, sealed, other);
    if (!case_same(scratch, output, length) || !case_same(other, tag, 16)) return GRASS_CASE_BROKEN + 15;
    for (uint32_t thread = 0; thread < threads; thread++) {
      struct grass_poly1305_sum part;
      grass_share_sum(&share, data, data_length, scratch, length, thread, &part);
      read = grass_poly1305_add(read, part);
    }
    grass_poly1305_finish(&share.authenticator, read, other);
    if (!grass_tags_equal(other, tag)) return GRASS_CASE_BROKEN + 16;
    for (uint32_t thread = 0; thread < threads; thread++) grass_share_open(&share, scratch, length, scratch, thread);
    if (!case_same(scratch, text, length)) return GRASS_CASE_BROKEN + 17;
  }
  for (uint32_t blocks = 1; blocks <= MOST_BLOCKS; blocks++) {
    int32_t result = case_seal_blocks(fields, output, scratch, blocks);
    if (result != GRASS_CASE_DONE) return result;
  }
  return GRASS_CASE_DONE;
}

/// The digest is the same wherever the text is cut.
static int32_t case_sha256(const struct case_field *fields, uint8_t *output) {
  const uint8_t *text = fields[0].bytes;
  uint64_t length = fields[0].length;
  grass_sha256(text, length, output);
  for (uint64_t cut = 1; cut < 130 && cut < length && length < 1024; cut++) {
    struct grass_sha256 hash;
    uint8_t digest[32];
    grass_sha256_start(&hash);
    grass_sha256_add(&hash, text, cut);
    grass_sha256_add(&hash, text + cut, length - cut);
    grass_sha256_finish(&hash, digest);
    if (!case_same(digest, output, 32)) return GRASS_CASE_BROKEN;
    if (!case_is((const uint8_t *)&hash, 0, sizeof hash)) return GRASS_CASE_BROKEN + 1;
  }
  return GRASS_CASE_DONE;
}

static int32_t case_x25519(const struct case_field *fields, uint8_t *output) {
  bool shared = grass_x25519(output, fields[0].bytes, fields[1].bytes);
  if (!shared) return case_is(output, 0, 32) ? GRASS_CASE_REFUSED : GRASS_CASE_BROKEN;
  // The same where the secret takes a key's place.
  uint8_t place[32];
  case_copy(place, fields[0].bytes, 32);
  if (!grass_x25519(place, place, fields[1].bytes) || !case_same(place, output, 32)) return GRASS_CASE_BROKEN + 1;
  case_copy(place, fields[1].bytes, 32);
  if (!grass_x25519(place, fields[0].bytes, place) || !case_same(place, output, 32)) return GRASS_CASE_BROKEN + 2;
  return GRASS_CASE_DONE;
}

static int32_t case_x25519_iterated(const struct case_field *fields, uint8_t *output) {
  uint8_t u[32] = {9};
  case_copy(output, u, 32);
  for (uint32_t count = case_number(&fields[0]); count > 0; count--) {
    uint8_t next[32];
    if (!grass_x25519(next, output, u)) return GRASS_CASE_BROKEN;
    case_copy(u, output, 32);
    case_copy(output, next, 32);
  }
  return GRASS_CASE_DONE;
}

/// Nothing that was cut or altered is taken, and nothing of it changes the state: the true message is, afterwards.
static int32_t case_noise_message(
    struct grass_noise *from, struct grass_noise *to, const struct case_field *payload, uint8_t *message, uint64_t capacity,
    uint8_t *scratch, uint64_t *length) {
  uint64_t got, overhead = grass_noise_overhead(from);
  if (!grass_noise_writes(from) || grass_noise_writes(to) || overhead != grass_noise_overhead(to)) return GRASS_CASE_BROKEN;
  if (grass_noise_write(to, payload->bytes, payload->length, message, capacity, &got) != GRASS_NOISE_BAD_TURN)
    return GRASS_CASE_BROKEN + 1;
  if (grass_noise_write(from, payload->bytes, payload->length, message, overhead + payload->length - 1, &got) !=
      GRASS_NOISE_NO_ROOM)
    return GRASS_CASE_BROKEN + 2;
  if (grass_noise_write(from, payload->bytes, GRASS_NOISE_MOST, message, capacity, &got) != GRASS_NOISE_TOO_LONG)
    return GRASS_CASE_BROKEN + 3;
  if (grass_noise_write(from, payload->bytes, payload->length, message, capacity, length) != GRASS_NOISE_OK)
    return GRASS_CASE_BROKEN + 4;
  if (*length != overhead + payload->length) return GRASS_CASE_BROKEN + 5;

  case_fill(scratch, 0xa5, payload->length);
  for (uint64_t cut = 0; cut < overhead; cut++)
    if (grass_noise_read(to, message, cut, scratch, capacity, &got) != GRASS_NOISE_TOO_SHORT) return GRASS_CASE_BROKEN + 6;
  if (grass_noise_read(to, message, GRASS_NOISE_MOST + 1, scratch, capacity, &got) != GRASS_NOISE_TOO_LONG)
    return GRASS_CASE_BROKEN + 7;
  if (grass_noise_read(to, message, *length, scratch, payload->length - 1, &got) != GRASS_NOISE_NO_ROOM)
    return GRASS_CASE_BROKEN + 8;
  // The first message of XX is in clear: there, whatever is long enough is taken.
  bool sealed = overhead > 32;
  if (sealed) {
    for (uint64_t at = 0; at < *length; at += at < 31 ? 31 : 11) {
      message[at] ^= 4;
      enum grass_noise_error error = grass_noise_read(to, message, *length, scratch, capacity, &got);
      message[at] ^= 4;
      if (error != GRASS_NOISE_BAD_TAG || got != 0) return GRASS_CASE_BROKEN + 9;
    }
    if (grass_noise_read(to, message, *length - 1, scratch, capacity, &got) != GRASS_NOISE_BAD_TAG)
      return GRASS_CASE_BROKEN + 10;
    if (!case_is(scratch, 0xa5, payload->length)) return GRASS_CASE_BROKEN + 11;
  }
  if (grass_noise_read(to, message, *length, scratch, capacity, &got) != GRASS_NOISE_OK) return GRASS_CASE_BROKEN + 12;
  if (got != payload->length || !case_same(scratch, payload->bytes, got)) return GRASS_CASE_BROKEN + 13;
  return GRASS_CASE_DONE;
}

static int32_t case_noise_transport(
    struct grass_cipher *from, struct grass_cipher *to, const struct case_field *payload, uint8_t *message, uint64_t capacity,
    uint8_t *scratch, uint64_t *length) {
  uint64_t got;
  if (grass_cipher_seal(from, 0, 0, payload->bytes, payload->length, message, payload->length + 15, &got) != GRASS_NOISE_NO_ROOM)
    return GRASS_CASE_BROKEN + 20;
  if (grass_cipher_seal(from, 0, 0, payload->bytes, payload->length, message, capacity, length) != GRASS_NOISE_OK)
    return GRASS_CASE_BROKEN + 21;
  for (uint64_t cut = 0; cut < *length; cut++)
    if (grass_cipher_open(to, 0, 0, message, cut, scratch, capacity, &got) !=
        (cut < 16 ? GRASS_NOISE_TOO_SHORT : GRASS_NOISE_BAD_TAG))
      return GRASS_CASE_BROKEN + 22;
  if (grass_cipher_open(to, 0, 0, message, *length, scratch, payload->length - 1, &got) != GRASS_NOISE_NO_ROOM)
    return GRASS_CASE_BROKEN + 23;
  if (grass_cipher_open(to, 0, 0, message, *length, scratch, capacity, &got) != GRASS_NOISE_OK) return GRASS_CASE_BROKEN + 24;
  if (got != payload->length || !case_same(scratch, payload->bytes, got)) return GRASS_CASE_BROKEN + 25;
  // Again, it is not taken.
  if (grass_cipher_open(to, 0, 0, message, *length, scratch, capacity, &got) != GRASS_NOISE_BAD_TAG)
    return GRASS_CASE_BROKEN + 26;
  return GRASS_CASE_DONE;
}

/// After a rekey both sides understand each other, and not who kept the old key.
static int32_t case_noise_rekey(struct grass_cipher *from, struct grass_cipher *to) {
  uint8_t message[48];
  uint64_t got;
  struct grass_cipher old = *to;
  grass_cipher_rekey(from);
  if (grass_cipher_seal(from, 0, 0, message, 0, message, sizeof message, &got) != GRASS_NOISE_OK) return GRASS_CASE_BROKEN + 30;
  if (grass_cipher_open(&old, 0, 0, message, got, message + 16, 32, &got) != GRASS_NOISE_BAD_TAG) return GRASS_CASE_BROKEN + 31;
  grass_cipher_rekey(to);
  if (grass_cipher_open(to, 0, 0, message, 16, message + 16, 32, &got) != GRASS_NOISE_OK) return GRASS_CASE_BROKEN + 32;
  from->nonce = to->nonce = ~0ull;
  if (grass_cipher_seal(from, 0, 0, message, 0, message, sizeof message, &got) != GRASS_NOISE_WORN_OUT)
    return GRASS_CASE_BROKEN + 33;
  if (grass_cipher_open(to, 0, 0, message, 16, message, 32, &got) != GRASS_NOISE_WORN_OUT) return GRASS_CASE_BROKEN + 34;
  return GRASS_CASE_DONE;
}

static int32_t case_noise(
    const struct case_field *fields, unsigned count, uint8_t *output, uint8_t *scratch, uint64_t capacity,
    uint64_t *output_length) {
  uint32_t pattern = case_number(&fields[0]);
  struct grass_key_pair pairs[4];
  for (unsigned index = 0; index < 4; index++) {
    const struct case_field *field = &fields[2 + index + (index >= 2)];
    if (field->length != 32) return GRASS_CASE_MALFORMED;
    grass_make_key_pair(&pairs[index], field->bytes);
  }
  const uint8_t *remote = fields[7].length == 32 ? fields[7].bytes : 0, *shared = fields[8].length == 32 ? fields[8].bytes : 0;
  struct grass_noise ends[2];
  for (uint32_t role = 0; role < 2; role++) {
    const struct case_field *prologue = &fields[1 + 3 * role];
    const uint8_t *key = role == GRASS_NOISE_INITIATOR ? remote : 0;
    if (grass_noise_start(
            &ends[role], pattern, role, prologue->bytes, prologue->length, &pairs[2 * role], &pairs[2 * role + 1], key,
            shared) != GRASS_NOISE_OK)
      return GRASS_CASE_MALFORMED;
  }
  struct grass_cipher send[2], receive[2];
  uint64_t at = 32;
  bool transports = false;
  for (unsigned index = 9; index < count; index++) {
    unsigned from = (index - 9) % 2, to = 1 - from;
    uint64_t length = 0;
    int32_t result;
    if (fields[index].length + 256 > capacity - at) return GRASS_CASE_MALFORMED;
    if (!transports && grass_noise_has_ended(&ends[0])) {
      if (!grass_noise_has_ended(&ends[1]) || grass_noise_overhead(&ends[0])) return GRASS_CASE_BROKEN + 40;
      for (unsigned end = 0; end < 2; end++) {
        if (grass_noise_split(&ends[end], &send[end], &receive[end]) != GRASS_NOISE_OK) return GRASS_CASE_BROKEN + 41;
        if (grass_noise_split(&ends[end], &send[end], &receive[end]) != GRASS_NOISE_BAD_TURN) return GRASS_CASE_BROKEN + 42;
        if (!case_same(ends[end].remote_static, pairs[2 * (1 - end)].public_key, 32)) return GRASS_CASE_BROKEN + 43;
        if (!case_is(ends[end].chaining_key, 0, 32) || !case_is(ends[end].static_pair.private_key, 0, 32))
          return GRASS_CASE_BROKEN + 44;
      }
      if (!case_same(ends[0].hash, ends[1].hash, 32)) return GRASS_CASE_BROKEN + 45;
      case_copy(output, ends[0].hash, 32);
      transports = true;
    }
    result = transports
                 ? case_noise_transport(&send[from], &receive[to], &fields[index], output + at, capacity - at, scratch, &length)
                 : case_noise_message(&ends[from], &ends[to], &fields[index], output + at, capacity - at, scratch, &length);
    if (result != GRASS_CASE_DONE) return result;
    at += length;
  }
  if (!transports) return GRASS_CASE_MALFORMED;
  *output_length = at;
  int32_t result = case_noise_rekey(&send[0], &receive[1]);
  return result != GRASS_CASE_DONE ? result : case_noise_rekey(&send[1], &receive[0]);
}

int32_t grass_seal_case(
    uint32_t operation, const uint8_t *input, uint64_t input_length, uint8_t *output, uint8_t *scratch, uint64_t capacity,
    uint64_t *output_length) {
  static const uint8_t needed[GRASS_CASE_OPERATIONS] = {4, 2, 4, 1, 2, 4, 2, 1, 1, 13};
  struct case_field fields[FIELDS];
  unsigned count = 0;
  *output_length = 0;
  for (uint64_t at = 0; at < input_length;) {
    if (count == FIELDS || input_length - at < 4) return GRASS_CASE_MALFORMED;
    struct case_field number = {input + at, 4};
    fields[count].length = case_number(&number);
    fields[count].bytes = input + at + 4;
    at += 4 + fields[count].length;
    if (at > input_length || fields[count].length + 64 > capacity) return GRASS_CASE_MALFORMED;
    count++;
  }
  if (operation >= GRASS_CASE_OPERATIONS || count < needed[operation]) return GRASS_CASE_MALFORMED;
  switch (operation) {
    case GRASS_CASE_CHACHA20:
      if (fields[0].length != 32 || fields[2].length != 12) return GRASS_CASE_MALFORMED;
      *output_length = fields[3].length;
      return case_chacha20(fields, output, scratch);
    case GRASS_CASE_POLY1305:
      if (fields[0].length != 32) return GRASS_CASE_MALFORMED;
      *output_length = 16;
      return case_poly1305(fields, output);
    case GRASS_CASE_SEAL:
      if (fields[0].length != 32 || fields[1].length != 12) return GRASS_CASE_MALFORMED;
      *output_length = fields[3].length + 16;
      return case_seal(fields, output, scratch);
    case GRASS_CASE_SHA256: *output_length = 32; return case_sha256(fields, output);
    case GRASS_CASE_HMAC:
      *output_length = 32;
      grass_hmac(fields[0].bytes, fields[0].length, fields[1].bytes, fields[1].length, output);
      return GRASS_CASE_DONE;
    case GRASS_CASE_HKDF: {
      uint32_t length = case_number(&fields[3]);
      if (32ull + length > capacity) return GRASS_CASE_MALFORMED;
      grass_hkdf_extract(fields[0].bytes, fields[0].length, fields[1].bytes, fields[1].length, output);
      if (grass_hkdf_expand(output, 0, 0, output, GRASS_HKDF_MOST + 1)) return GRASS_CASE_BROKEN;
      if (!grass_hkdf_expand(output, fields[2].bytes, fields[2].length, output + 32, length)) return GRASS_CASE_REFUSED;
      *output_length = 32 + length;
      return GRASS_CASE_DONE;
    }
    case GRASS_CASE_X25519:
      if (fields[0].length != 32 || fields[1].length != 32) return GRASS_CASE_MALFORMED;
      *output_length = 32;
      return case_x25519(fields, output);
    case GRASS_CASE_X25519_PUBLIC:
      if (fields[0].length != 32) return GRASS_CASE_MALFORMED;
      *output_length = 32;
      grass_x25519_public(output, fields[0].bytes);
      return GRASS_CASE_DONE;
    case GRASS_CASE_X25519_ITERATED: *output_length = 32; return case_x25519_iterated(fields, output);
    default: return case_noise(fields, count, output, scratch, capacity, output_length);
  }
}
