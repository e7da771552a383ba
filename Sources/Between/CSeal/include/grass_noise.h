// The Noise protocol framework, revision 34, of the suite 25519_ChaChaPoly_SHA256: handshakes of the patterns XX and
// IK, each also with a key that both ends share beforehand, and the ciphers that come out of one.
//
//   XX                                     IK: the initiator knows the responder's static key
//     -> e                                   <- s
//     <- e, ee, s, es                        ...
//     -> s, se        (XXpsk3: then psk)     -> e, es, s, ss
//                                            <- e, ee, se        (IKpsk2: then psk)
//
// A handshake's state is the one struct below; nothing is allocated. Random numbers are the caller's: an ephemeral pair
// is made for one handshake, used for no other, and may be made beforehand.
//
// A message that is refused leaves the state as it was, so that who can put messages between cannot end a handshake:
// the true message is still taken.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "grass_seal.h"
#include "grass_sha256.h"
#include "grass_x25519.h"

/// The longest message, in bytes, of handshakes and after them.
#define GRASS_NOISE_MOST 65535u

enum grass_noise_pattern {
  GRASS_NOISE_XX = 0,
  GRASS_NOISE_IK = 1,
  GRASS_NOISE_XXPSK3 = 2,
  GRASS_NOISE_IKPSK2 = 3,
};

enum grass_noise_role {
  GRASS_NOISE_INITIATOR = 0,
  GRASS_NOISE_RESPONDER = 1,
};

enum grass_noise_error {
  GRASS_NOISE_OK = 0,
  GRASS_NOISE_BAD_PATTERN = 1,  // No such pattern or role, or a key is missing that it needs or given that it does not.
  GRASS_NOISE_BAD_TURN = 2,     // It is the other side's turn, or the handshake has ended, or has not.
  GRASS_NOISE_TOO_SHORT = 3,    // The message is shorter than what it must hold.
  GRASS_NOISE_TOO_LONG = 4,     // The message would be over GRASS_NOISE_MOST.
  GRASS_NOISE_NO_ROOM = 5,      // What is to be written does not fit the buffer.
  GRASS_NOISE_BAD_TAG = 6,      // The message was altered, or made under other keys, or for another prologue.
  GRASS_NOISE_BAD_KEY = 7,      // A public key of small order.
  GRASS_NOISE_WORN_OUT = 8,     // The cipher has used all its nonces.
};

/// A key and the number of the next message. All-zero is none.
struct grass_cipher {
  uint8_t key[32];
  uint64_t nonce;
};

/// One end of a handshake. Who owns it reads `hash` once it has ended (the same at both ends, and of no other
/// handshake) and `remote_static`; the rest is private. Keys lie in it: grass_noise_wipe ends it.
struct grass_noise {
  uint8_t chaining_key[32];
  uint8_t hash[32];
  struct grass_cipher cipher;
  struct grass_key_pair static_pair, ephemeral_pair;
  uint8_t remote_static[32];
  uint8_t remote_ephemeral[32];
  uint8_t shared[32];  // The key of the psk patterns.
  uint8_t pattern;     // enum grass_noise_pattern
  uint8_t role;        // enum grass_noise_role
  uint8_t message;     // How many messages were written and read.
  uint8_t keyed;       // Whether the cipher has a key yet.
  uint8_t live;        // Whether it was started, and not wiped.
  uint8_t reserved[3];
};

/// Starts a handshake. Both ends must give the same prologue, which can be empty: what each believes about their
/// connection so far. `remote_static` is the responder's public key for an initiator of IK, else null; `shared` the 32
/// bytes that both know beforehand for the psk patterns, else null.
enum grass_noise_error grass_noise_start(
    struct grass_noise *noise, uint32_t pattern, uint32_t role, const uint8_t *prologue, uint64_t prologue_length,
    const struct grass_key_pair *static_pair, const struct grass_key_pair *ephemeral_pair,
    const uint8_t *remote_static, const uint8_t *shared);

/// Whether it is this end's turn to write.
bool grass_noise_writes(const struct grass_noise *noise);

/// Whether all messages were written and read.
bool grass_noise_has_ended(const struct grass_noise *noise);

/// How many bytes the next message has beside its payload; 0 after the last.
uint32_t grass_noise_overhead(const struct grass_noise *noise);

/// Writes the next message, with a payload: its length goes to `length`. On an error nothing of use is in `message`,
/// and `length` is 0. How secret a payload is depends on the message: of the first one of XX not at all. `payload` does
/// not overlap `message`. Cost: up to two X25519.
enum grass_noise_error grass_noise_write(
    struct grass_noise *noise, const uint8_t *payload, uint64_t payload_length, uint8_t *message, uint64_t capacity,
    uint64_t *length);

/// Reads the next message, of `length` bytes, which may be anybody's and of any length; its payload goes to `payload`,
/// of `capacity` bytes, and that one's length to `payload_length`. On an error nothing is written there, the length is
/// 0, and the state is as before. `message` must be where nobody else writes, and `payload` does not overlap it. Cost: up
/// to two X25519, also for a message that is refused: who lets anybody send them limits how many are read.
enum grass_noise_error grass_noise_read(
    struct grass_noise *noise, const uint8_t *message, uint64_t length, uint8_t *payload, uint64_t capacity,
    uint64_t *payload_length);

/// Gives the ciphers of a handshake that has ended: `send` for what this end sends, `receive` for what the other sends.
/// The keys of the handshake are wiped; its hash and the other's static key stay. A second call gets
/// GRASS_NOISE_BAD_TURN.
enum grass_noise_error grass_noise_split(
    struct grass_noise *noise, struct grass_cipher *send, struct grass_cipher *receive);

/// Wipes all of it.
void grass_noise_wipe(struct grass_noise *noise);

// MARK: - After a handshake

/// Seals the next message into `sealed`, which gets 16 bytes more than the text has, and counts it. `sealed` is `text`,
/// or does not overlap it.
enum grass_noise_error grass_cipher_seal(
    struct grass_cipher *cipher, const uint8_t *data, uint64_t data_length, const uint8_t *text, uint64_t length,
    uint8_t *sealed, uint64_t capacity, uint64_t *sealed_length);

/// Opens the next message, of `length` bytes with its tag. On an error nothing is written and nothing is counted.
/// `text` is `sealed`, or does not overlap it.
enum grass_noise_error grass_cipher_open(
    struct grass_cipher *cipher, const uint8_t *data, uint64_t data_length, const uint8_t *sealed, uint64_t length,
    uint8_t *text, uint64_t capacity, uint64_t *text_length);

/// The nonce of message `number` as Noise has it: four zeros, and the number, least byte first. For grass_seal and
/// grass_open, where messages can be lost or overtake each other and each carries its number: the caller takes none
/// twice.
void grass_noise_nonce(uint8_t nonce[12], uint64_t number);

/// Puts a key in the place of the last one that nobody can tell that one from: Noise's REKEY. The count goes on.
void grass_cipher_rekey(struct grass_cipher *cipher);
