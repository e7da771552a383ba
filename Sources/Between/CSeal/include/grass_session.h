// What two ends seal their records under once a handshake has ended: a key for each direction and one for the line that the
// device writes by itself, of one epoch after the other. Once, for both ends.
//
// A record is sealed by ChaCha20-Poly1305. Its nonce is its slot and its sequence number, which has the epoch in its top bits; no
// number is used twice in a slot under one key. What it is of (the session and the length) is covered by the tag, too: a record
// that was moved to another slot, session or region is none.
//
// A long record is sealed under a key of its own, which follows from that and serves it alone: so those who share in sealing it
// need nothing that opens another.
//
// The keys of the next epoch follow from those of this one, and not the other way round: who takes a device's keys learns
// nothing of what was sealed before the epoch that it has last forgotten.
#pragma once

#include <stdbool.h>
#include <stdint.h>

/// The last epoch; a session makes another handshake before. So no nonce is the one that the next epoch's keys are made with.
#define GRASS_LAST_EPOCH 65534u

/// The keys of one epoch.
struct grass_epoch_keys {
  uint8_t request[32];
  uint8_t response[32];
  uint8_t line[32];
};

/// A session's keys, at either end. All zeros is none. Keys lie in it: grass_wipe ends it.
struct grass_session_keys {
  struct grass_epoch_keys now, before;
  uint64_t token;  // Of this session and no other; the same at both ends.
  uint32_t epoch;  // Of `now`, from 1 on; 0 for none.
  uint32_t has_before;
};

/// Begins with the keys that a handshake gave (what the initiator sends with, and what the responder does) and its hash.
void grass_session_keys_start(
    struct grass_session_keys *keys, const uint8_t request[32], const uint8_t response[32], const uint8_t hash[32]);

/// Goes on to the next epoch, and forgets all before this one. False, with nothing changed, after the last.
bool grass_session_keys_next(struct grass_session_keys *keys);

/// Forgets the epoch before this one.
void grass_session_keys_forget(struct grass_session_keys *keys);

/// The keys of an epoch: this one or, unless it was forgotten, the one before; else NULL.
const struct grass_epoch_keys *grass_session_keys_of(const struct grass_session_keys *keys, uint32_t epoch);

/// The slot that the line of a session is sealed as.
#define GRASS_LINE_SLOT 0xffffffffu

/// The nonce of a record. The associated data are the session's token, 8 bytes.
void grass_record_nonce(uint8_t nonce[12], uint32_t slot, uint64_t sequence);

/// Payloads of more bytes are sealed under a key of their own.
#define GRASS_LONG_RECORD 32768u

/// The key that a long record of this nonce is sealed under, `key` being what shorter ones are: bytes 32 to 63 of ChaCha20's block
/// 0, which RFC 8439 leaves unused.
void grass_record_key(uint8_t own[32], const uint8_t key[32], const uint8_t nonce[12]);

/// Seals a record's payload. `sealed` is `text`, or does not overlap it.
void grass_record_seal_payload(
    const uint8_t key[32], uint64_t token, uint32_t slot, uint64_t sequence, const uint8_t *text, uint64_t length,
    uint8_t *sealed, uint8_t tag[16]);

/// Opens a record's payload, which lies where nobody else writes. False, with nothing written, where it is not what the other end
/// sealed for this slot and number. `text` is `sealed`, or does not overlap it.
bool grass_record_open_payload(
    const uint8_t key[32], uint64_t token, uint32_t slot, uint64_t sequence, const uint8_t *sealed, uint64_t length,
    const uint8_t tag[16], uint8_t *text);
