#include "grass_session.h"

#include "bytes.h"
#include "grass_noise.h"

static void session_line_key(struct grass_epoch_keys *keys) {
  static const uint8_t info[] = "grass: a session's line";
  grass_hkdf_expand(keys->response, info, sizeof info - 1, keys->line, 32);
}

void grass_session_keys_start(
    struct grass_session_keys *keys, const uint8_t request[32], const uint8_t response[32], const uint8_t hash[32]) {
  grass_wipe(keys, sizeof *keys);
  grass_move(keys->now.request, request, 32);
  grass_move(keys->now.response, response, 32);
  session_line_key(&keys->now);
  keys->token = grass_get64(hash);
  keys->epoch = 1;
}

/// Noise's REKEY.
static void session_rekey(uint8_t key[32], const uint8_t old[32]) {
  struct grass_cipher cipher;
  grass_move(cipher.key, old, 32);
  grass_cipher_rekey(&cipher);
  grass_move(key, cipher.key, 32);
  GRASS_FORGET_PLACE(cipher);
}

bool grass_session_keys_next(struct grass_session_keys *keys) {
  if (keys->epoch == 0 || keys->epoch >= GRASS_LAST_EPOCH) return false;
  grass_move((uint8_t *)&keys->before, (const uint8_t *)&keys->now, sizeof keys->now);
  session_rekey(keys->now.request, keys->before.request);
  session_rekey(keys->now.response, keys->before.response);
  session_line_key(&keys->now);
  keys->has_before = 1;
  keys->epoch++;
  return true;
}

void grass_session_keys_forget(struct grass_session_keys *keys) {
  grass_wipe(&keys->before, sizeof keys->before);
  keys->has_before = 0;
}

const struct grass_epoch_keys *grass_session_keys_of(const struct grass_session_keys *keys, uint32_t epoch) {
  if (epoch == 0 || keys->epoch == 0) return 0;
  if (epoch == keys->epoch) return &keys->now;
  return keys->has_before && epoch + 1 == keys->epoch ? &keys->before : 0;
}

void grass_record_nonce(uint8_t nonce[12], uint32_t slot, uint64_t sequence) {
  grass_put32(nonce, slot);
  grass_put32(nonce + 4, (uint32_t)sequence);
  grass_put32(nonce + 8, (uint32_t)(sequence >> 32));
}

GRASS_APART void grass_record_key(uint8_t own[32], const uint8_t key[32], const uint8_t nonce[12]) {
  _Alignas(4) uint8_t block[64];
  grass_chacha20_block(key, nonce, 0, block);
  grass_move(own, block + 32, 32);
  GRASS_FORGET_PLACE(block);
}

/// What one record is sealed with.
struct session_record {
  _Alignas(4) uint8_t key[32];
  _Alignas(4) uint8_t nonce[12];
  _Alignas(8) uint8_t data[8];
};

GRASS_APART static void session_record_start(
    struct session_record *record, const uint8_t key[32], uint64_t token, uint32_t slot, uint64_t sequence, uint64_t length) {
  grass_record_nonce(record->nonce, slot, sequence);
  grass_put64(record->data, token);
  if (length > GRASS_LONG_RECORD) grass_record_key(record->key, key, record->nonce);
  else grass_move(record->key, key, 32);
}

// The tag covers the length by itself, as ChaCha20-Poly1305 has it, and the slot by the nonce.
void grass_record_seal_payload(
    const uint8_t key[32], uint64_t token, uint32_t slot, uint64_t sequence, const uint8_t *text, uint64_t length,
    uint8_t *sealed, uint8_t tag[16]) {
  struct session_record record;
  session_record_start(&record, key, token, slot, sequence, length);
  grass_seal(record.key, record.nonce, record.data, sizeof record.data, text, length, sealed, tag);
  grass_wipe(&record, sizeof record);
}

bool grass_record_open_payload(
    const uint8_t key[32], uint64_t token, uint32_t slot, uint64_t sequence, const uint8_t *sealed, uint64_t length,
    const uint8_t tag[16], uint8_t *text) {
  struct session_record record;
  session_record_start(&record, key, token, slot, sequence, length);
  bool is_right = grass_open(record.key, record.nonce, record.data, sizeof record.data, sealed, length, tag, text);
  grass_wipe(&record, sizeof record);
  return is_right;
}
