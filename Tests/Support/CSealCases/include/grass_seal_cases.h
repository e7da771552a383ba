// One published vector, run by whatever runs this: a test in Swift, a program in C, a GPU's lane.
#pragma once

#include <stdint.h>

enum grass_case_operation {
  GRASS_CASE_CHACHA20 = 0,         // key, counter, nonce, text -> text
  GRASS_CASE_POLY1305 = 1,         // key, text -> tag
  GRASS_CASE_SEAL = 2,             // key, nonce, associated data, text -> sealed text, tag
  GRASS_CASE_SHA256 = 3,           // text -> digest
  GRASS_CASE_HMAC = 4,             // key, text -> tag
  GRASS_CASE_HKDF = 5,             // salt, input, info, length -> extracted key, expanded key
  GRASS_CASE_X25519 = 6,           // private key, public key -> secret
  GRASS_CASE_X25519_PUBLIC = 7,    // private key -> public key
  GRASS_CASE_X25519_ITERATED = 8,  // how often -> RFC 7748's iteration
  // pattern; prologue, static and ephemeral private key of the initiator, of the responder; the responder's public key
  // where the initiator knows it; the key shared beforehand where there is one; payloads -> hash, messages
  GRASS_CASE_NOISE = 9,
  GRASS_CASE_OPERATIONS = 10,
};

enum grass_case_result {
  GRASS_CASE_DONE = 0,
  GRASS_CASE_REFUSED = 1,    // What was asked is refused, as it should be for a point of small order.
  GRASS_CASE_MALFORMED = 2,  // The case is not what the operation takes, or does not fit the buffers.
  // From here on a rule is broken that all cases of the operation must keep: which one, the source says.
  GRASS_CASE_BROKEN = 3,
};

/// The name of an operation in vectors.txt.
const char *grass_case_name(uint32_t operation);

/// Runs a case. `input` has the fields, each its length in four bytes, least first, and its bytes. `output` and
/// `scratch` have `capacity` bytes each; a case needs its longest text and 64 bytes more.
int32_t grass_seal_case(
    uint32_t operation, const uint8_t *input, uint64_t input_length, uint8_t *output, uint8_t *scratch, uint64_t capacity,
    uint64_t *output_length);
