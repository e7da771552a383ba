#include "grass_noise.h"

#include "bytes.h"
#include "grass_wipe.h"

// The specification's names: SymmetricState is chaining_key, hash and cipher; MixKey, MixHash, EncryptAndHash and so on
// are the functions below.

enum noise_token { END = 0, E, S, EE, ES, SE, SS, PSK };

#define NOISE_MESSAGES 3
#define NOISE_TOKENS 6

static const uint8_t noise_tokens[4][NOISE_MESSAGES][NOISE_TOKENS] = {
    [GRASS_NOISE_XX] = {{E}, {E, EE, S, ES}, {S, SE}},
    [GRASS_NOISE_IK] = {{E, ES, S, SS}, {E, EE, SE}},
    [GRASS_NOISE_XXPSK3] = {{E}, {E, EE, S, ES}, {S, SE, PSK}},
    [GRASS_NOISE_IKPSK2] = {{E, ES, S, SS}, {E, EE, SE, PSK}},
};

/// The patterns' names, which both ends hash first.
static const char noise_names[4][40] = {
    [GRASS_NOISE_XX] = "Noise_XX_25519_ChaChaPoly_SHA256",
    [GRASS_NOISE_IK] = "Noise_IK_25519_ChaChaPoly_SHA256",
    [GRASS_NOISE_XXPSK3] = "Noise_XXpsk3_25519_ChaChaPoly_SHA256",
    [GRASS_NOISE_IKPSK2] = "Noise_IKpsk2_25519_ChaChaPoly_SHA256",
};

static bool noise_has_psk(uint32_t pattern) { return pattern == GRASS_NOISE_XXPSK3 || pattern == GRASS_NOISE_IKPSK2; }
static bool noise_knows_remote(uint32_t pattern) { return pattern == GRASS_NOISE_IK || pattern == GRASS_NOISE_IKPSK2; }
static unsigned noise_messages(uint32_t pattern) { return noise_knows_remote(pattern) ? 2 : 3; }

static bool is_live(const struct grass_noise *noise) { return noise->live == 1 && noise->pattern < 4 && noise->role < 2; }

// MARK: - SymmetricState

GRASS_APART static void mix_hash(struct grass_noise *noise, const uint8_t *bytes, uint64_t count) {
  struct grass_sha256 hash;
  grass_sha256_start(&hash);
  grass_sha256_add(&hash, noise->hash, 32);
  grass_sha256_add(&hash, bytes, count);
  grass_sha256_finish(&hash, noise->hash);
}

static void set_key(struct grass_noise *noise, const uint8_t key[32]) {
  grass_move(noise->cipher.key, key, 32);
  noise->cipher.nonce = 0;
  noise->keyed = 1;
}

GRASS_APART static void mix_key(struct grass_noise *noise, const uint8_t *material, uint64_t count) {
  _Alignas(8) uint8_t keys[64];
  grass_noise_hkdf(noise->chaining_key, material, count, keys, 2);
  grass_move(noise->chaining_key, keys, 32);
  set_key(noise, keys + 32);
  grass_wipe(keys, sizeof keys);
}

GRASS_APART static void mix_key_and_hash(struct grass_noise *noise, const uint8_t *material, uint64_t count) {
  _Alignas(8) uint8_t keys[96];
  grass_noise_hkdf(noise->chaining_key, material, count, keys, 3);
  grass_move(noise->chaining_key, keys, 32);
  mix_hash(noise, keys + 32, 32);
  set_key(noise, keys + 64);
  grass_wipe(keys, sizeof keys);
}

/// Writes `length` bytes, and 16 more where there is a key already.
GRASS_APART static void encrypt_and_hash(struct grass_noise *noise, const uint8_t *text, uint64_t length, uint8_t *sealed) {
  uint64_t written = length;
  if (noise->keyed) {
    _Alignas(4) uint8_t nonce[12];
    grass_noise_nonce(nonce, noise->cipher.nonce++);
    grass_seal(noise->cipher.key, nonce, noise->hash, 32, text, length, sealed, sealed + length);
    written += GRASS_TAG;
  } else {
    grass_move(sealed, text, length);
  }
  mix_hash(noise, sealed, written);
}

/// Takes `length` bytes, of which 16 are a tag where there is a key already; writes as many as are text.
GRASS_APART static bool decrypt_and_hash(struct grass_noise *noise, const uint8_t *sealed, uint64_t length, uint8_t *text) {
  if (noise->keyed) {
    _Alignas(4) uint8_t nonce[12];
    grass_noise_nonce(nonce, noise->cipher.nonce++);
    uint64_t text_length = length - GRASS_TAG;
    if (!grass_open(noise->cipher.key, nonce, noise->hash, 32, sealed, text_length, sealed + text_length, text)) return false;
  } else {
    grass_move(text, sealed, length);
  }
  mix_hash(noise, sealed, length);
  return true;
}

// MARK: - HandshakeState

GRASS_APART static bool mix_shared(struct grass_noise *noise, const struct grass_key_pair *pair, const uint8_t remote[32]) {
  _Alignas(8) uint8_t shared[32];
  bool usable = grass_x25519(shared, pair->private_key, remote);
  if (usable) mix_key(noise, shared, 32);
  grass_wipe(shared, sizeof shared);
  return usable;
}

/// The tokens that both ends do alike: a product of two keys of which each has one, and the key shared beforehand.
static bool mix_token(struct grass_noise *noise, unsigned token) {
  bool is_initiator = noise->role == GRASS_NOISE_INITIATOR;
  switch (token) {
    case EE: return mix_shared(noise, &noise->ephemeral_pair, noise->remote_ephemeral);
    case SS: return mix_shared(noise, &noise->static_pair, noise->remote_static);
    case ES:
      return is_initiator ? mix_shared(noise, &noise->ephemeral_pair, noise->remote_static)
                          : mix_shared(noise, &noise->static_pair, noise->remote_ephemeral);
    case SE:
      return is_initiator ? mix_shared(noise, &noise->static_pair, noise->remote_ephemeral)
                          : mix_shared(noise, &noise->ephemeral_pair, noise->remote_static);
    case PSK: mix_key_and_hash(noise, noise->shared, 32); return true;
    default: return false;
  }
}

static void mix_ephemeral(struct grass_noise *noise, const uint8_t key[32]) {
  mix_hash(noise, key, 32);
  if (noise_has_psk(noise->pattern)) mix_key(noise, key, 32);
}

enum grass_noise_error grass_noise_start(
    struct grass_noise *noise, uint32_t pattern, uint32_t role, const uint8_t *prologue, uint64_t prologue_length,
    const struct grass_key_pair *static_pair, const struct grass_key_pair *ephemeral_pair,
    const uint8_t *remote_static, const uint8_t *shared) {
  *noise = (struct grass_noise){0};
  if (pattern > GRASS_NOISE_IKPSK2 || role > GRASS_NOISE_RESPONDER || !static_pair || !ephemeral_pair)
    return GRASS_NOISE_BAD_PATTERN;
  bool needs_remote = noise_knows_remote(pattern) && role == GRASS_NOISE_INITIATOR;
  if (needs_remote != (remote_static != 0) || noise_has_psk(pattern) != (shared != 0)) return GRASS_NOISE_BAD_PATTERN;
  if (prologue_length > 0 && !prologue) return GRASS_NOISE_BAD_PATTERN;
  noise->static_pair = *static_pair;
  noise->ephemeral_pair = *ephemeral_pair;
  if (remote_static) grass_move(noise->remote_static, remote_static, 32);
  if (shared) grass_move(noise->shared, shared, 32);
  noise->pattern = (uint8_t)pattern;
  noise->role = (uint8_t)role;
  noise->live = 1;

  // A name of up to 32 bytes is the first hash itself, a longer one is hashed.
  const uint8_t *name = (const uint8_t *)noise_names[pattern];
  uint64_t length = 0;
  while (name[length]) length++;
  if (length <= 32) grass_move(noise->hash, name, length);
  else grass_sha256(name, length, noise->hash);
  grass_move(noise->chaining_key, noise->hash, 32);
  mix_hash(noise, prologue, prologue_length);
  if (noise_knows_remote(pattern))
    mix_hash(noise, role == GRASS_NOISE_INITIATOR ? noise->remote_static : noise->static_pair.public_key, 32);
  return GRASS_NOISE_OK;
}

bool grass_noise_has_ended(const struct grass_noise *noise) {
  return is_live(noise) && noise->message >= noise_messages(noise->pattern);
}

bool grass_noise_writes(const struct grass_noise *noise) {
  return is_live(noise) && !grass_noise_has_ended(noise) && noise->message % 2 == noise->role;
}

uint32_t grass_noise_overhead(const struct grass_noise *noise) {
  if (!is_live(noise) || grass_noise_has_ended(noise)) return 0;
  const uint8_t *tokens = noise_tokens[noise->pattern][noise->message];
  uint32_t bytes = 0;
  bool keyed = noise->keyed;
  for (unsigned index = 0; index < NOISE_TOKENS && tokens[index] != END; index++) {
    if (tokens[index] == E) bytes += 32, keyed |= noise_has_psk(noise->pattern);
    else if (tokens[index] == S) bytes += keyed ? 32 + GRASS_TAG : 32;
    else keyed = true;
  }
  return bytes + (keyed ? GRASS_TAG : 0);
}

enum grass_noise_error grass_noise_write(
    struct grass_noise *noise, const uint8_t *payload, uint64_t payload_length, uint8_t *message, uint64_t capacity,
    uint64_t *length) {
  *length = 0;
  if (!grass_noise_writes(noise)) return GRASS_NOISE_BAD_TURN;
  uint32_t overhead = grass_noise_overhead(noise);
  if (payload_length > GRASS_NOISE_MOST - overhead) return GRASS_NOISE_TOO_LONG;
  uint64_t total = overhead + payload_length;
  if (total > capacity) return GRASS_NOISE_NO_ROOM;

  struct grass_noise next = *noise;
  const uint8_t *tokens = noise_tokens[next.pattern][next.message];
  uint64_t at = 0;
  for (unsigned index = 0; index < NOISE_TOKENS && tokens[index] != END; index++) {
    if (tokens[index] == E) {
      grass_move(message + at, next.ephemeral_pair.public_key, 32);
      mix_ephemeral(&next, next.ephemeral_pair.public_key);
      at += 32;
    } else if (tokens[index] == S) {
      uint64_t size = next.keyed ? 32 + GRASS_TAG : 32;
      encrypt_and_hash(&next, next.static_pair.public_key, 32, message + at);
      at += size;
    } else if (!mix_token(&next, tokens[index])) {
      grass_wipe(&next, sizeof next);
      grass_wipe(message, at);
      return GRASS_NOISE_BAD_KEY;
    }
  }
  encrypt_and_hash(&next, payload, payload_length, message + at);
  next.message++;
  *noise = next;
  *length = total;
  grass_wipe(&next, sizeof next);
  return GRASS_NOISE_OK;
}

/// Reads into `next`, which is worth nothing where this fails.
static enum grass_noise_error read_message(
    struct grass_noise *next, const uint8_t *message, uint64_t length, uint8_t *payload) {
  const uint8_t *tokens = noise_tokens[next->pattern][next->message];
  uint64_t at = 0;
  for (unsigned index = 0; index < NOISE_TOKENS && tokens[index] != END; index++) {
    if (tokens[index] == E) {
      grass_move(next->remote_ephemeral, message + at, 32);
      mix_ephemeral(next, next->remote_ephemeral);
      at += 32;
    } else if (tokens[index] == S) {
      uint64_t size = next->keyed ? 32 + GRASS_TAG : 32;
      if (!decrypt_and_hash(next, message + at, size, next->remote_static)) return GRASS_NOISE_BAD_TAG;
      at += size;
    } else if (!mix_token(next, tokens[index])) {
      return GRASS_NOISE_BAD_KEY;
    }
  }
  if (!decrypt_and_hash(next, message + at, length - at, payload)) return GRASS_NOISE_BAD_TAG;
  next->message++;
  return GRASS_NOISE_OK;
}

enum grass_noise_error grass_noise_read(
    struct grass_noise *noise, const uint8_t *message, uint64_t length, uint8_t *payload, uint64_t capacity,
    uint64_t *payload_length) {
  *payload_length = 0;
  if (!is_live(noise) || grass_noise_has_ended(noise) || grass_noise_writes(noise)) return GRASS_NOISE_BAD_TURN;
  uint32_t overhead = grass_noise_overhead(noise);
  if (length > GRASS_NOISE_MOST) return GRASS_NOISE_TOO_LONG;
  if (length < overhead) return GRASS_NOISE_TOO_SHORT;
  if (length - overhead > capacity) return GRASS_NOISE_NO_ROOM;

  struct grass_noise next = *noise;
  enum grass_noise_error error = read_message(&next, message, length, payload);
  if (error == GRASS_NOISE_OK) {
    *noise = next;
    *payload_length = length - overhead;
  }
  grass_wipe(&next, sizeof next);
  return error;
}

enum grass_noise_error grass_noise_split(
    struct grass_noise *noise, struct grass_cipher *send, struct grass_cipher *receive) {
  if (!grass_noise_has_ended(noise)) return GRASS_NOISE_BAD_TURN;
  _Alignas(8) uint8_t keys[64];
  grass_noise_hkdf(noise->chaining_key, 0, 0, keys, 2);
  // The first key is the initiator's to send with.
  bool is_initiator = noise->role == GRASS_NOISE_INITIATOR;
  grass_move(send->key, keys + (is_initiator ? 0 : 32), 32);
  grass_move(receive->key, keys + (is_initiator ? 32 : 0), 32);
  send->nonce = receive->nonce = 0;
  grass_wipe(keys, sizeof keys);

  _Alignas(8) uint8_t hash[32], remote[32];
  grass_move(hash, noise->hash, 32);
  grass_move(remote, noise->remote_static, 32);
  grass_noise_wipe(noise);
  grass_move(noise->hash, hash, 32);
  grass_move(noise->remote_static, remote, 32);
  return GRASS_NOISE_OK;
}

void grass_noise_wipe(struct grass_noise *noise) { grass_wipe(noise, sizeof *noise); }

// MARK: - After a handshake

void grass_noise_nonce(uint8_t nonce[12], uint64_t number) {
  grass_put32(nonce, 0);
  grass_put32(nonce + 4, (uint32_t)number);
  grass_put32(nonce + 8, (uint32_t)(number >> 32));
}

enum grass_noise_error grass_cipher_seal(
    struct grass_cipher *cipher, const uint8_t *data, uint64_t data_length, const uint8_t *text, uint64_t length,
    uint8_t *sealed, uint64_t capacity, uint64_t *sealed_length) {
  *sealed_length = 0;
  if (length > GRASS_NOISE_MOST - GRASS_TAG) return GRASS_NOISE_TOO_LONG;
  if (length + GRASS_TAG > capacity) return GRASS_NOISE_NO_ROOM;
  // The last number is that of a new key.
  if (cipher->nonce == ~0ull) return GRASS_NOISE_WORN_OUT;
  _Alignas(4) uint8_t nonce[12];
  grass_noise_nonce(nonce, cipher->nonce++);
  grass_seal(cipher->key, nonce, data, data_length, text, length, sealed, sealed + length);
  *sealed_length = length + GRASS_TAG;
  return GRASS_NOISE_OK;
}

enum grass_noise_error grass_cipher_open(
    struct grass_cipher *cipher, const uint8_t *data, uint64_t data_length, const uint8_t *sealed, uint64_t length,
    uint8_t *text, uint64_t capacity, uint64_t *text_length) {
  *text_length = 0;
  if (length > GRASS_NOISE_MOST) return GRASS_NOISE_TOO_LONG;
  if (length < GRASS_TAG) return GRASS_NOISE_TOO_SHORT;
  if (length - GRASS_TAG > capacity) return GRASS_NOISE_NO_ROOM;
  if (cipher->nonce == ~0ull) return GRASS_NOISE_WORN_OUT;
  _Alignas(4) uint8_t nonce[12];
  grass_noise_nonce(nonce, cipher->nonce);
  length -= GRASS_TAG;
  if (!grass_open(cipher->key, nonce, data, data_length, sealed, length, sealed + length, text)) return GRASS_NOISE_BAD_TAG;
  cipher->nonce++;
  *text_length = length;
  return GRASS_NOISE_OK;
}

void grass_cipher_rekey(struct grass_cipher *cipher) {
  _Alignas(4) uint8_t nonce[12], zeros[32] = {0}, tag[16];
  grass_noise_nonce(nonce, ~0ull);
  grass_seal(cipher->key, nonce, 0, 0, zeros, 32, zeros, tag);
  grass_move(cipher->key, zeros, 32);
  grass_wipe(zeros, sizeof zeros);
}
