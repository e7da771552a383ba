// Who may ask a device, and under which keys: its own key, the list of others' keys, and the sessions that handshakes made. All of
// it is private to the device; keys lie in it from start to end. What is no secret of one session (the list of public keys, what
// happened, and the keys of what is said to all) lies beside it, so that a GPU can have the rest where nobody else reaches.
//
// A handshake is answered in the slot that it comes in and disturbs no session there: what it makes waits until a record came that
// opens under its keys, which shows that whoever began it holds the key that it named. Then it takes the place of the session
// before. So neither false nor repeated messages end a session.
#pragma once

#include "grass_noise.h"
#include "grass_random.h"
#include "grass_region.h"
#include "grass_session.h"

/// After how many records, or how long, a session's keys are replaced; and after how long in silence it is forgotten.
#define GRASS_EPOCH_RECORDS (1ull << 20)
#define GRASS_EPOCH_NS 120000000000ull
#define GRASS_SESSION_NS 900000000000ull
/// How often keys that have expired and sessions that are over are looked for.
#define GRASS_SWEEP_NS 100000000ull
/// How often a session of a key that nobody lets in is told, at most.
#define GRASS_REFUSAL_NS 1000000000ull
/// In one round over the slots a key is answered until it has had so many bytes; then the others have their turn.
#define GRASS_ROUND_BYTES (256u << 10)
/// How much a key may have at once of what it may have with time, in nanoseconds.
#define GRASS_BURST_NS 1000000000ull
/// Of what the time allows, handshakes take this part at most: one in four.
#define GRASS_HANDSHAKE_SHARE 4u
/// No handshake takes as long. Where one seems to, the device did something else meanwhile, or stood still, and the others do not
/// wait for that.
#define GRASS_HANDSHAKE_NS 50000000ull

/// The slots that a keyring has room for: a GPU's lies in the shared memory of one block.
#if defined(__NVPTX__)
#define GRASS_KEYRING_SLOTS GRASS_GPU_SLOTS
#else
#define GRASS_KEYRING_SLOTS GRASS_MAX_SLOTS
#endif

/// A session, or one that waits to be confirmed. All zeros is none.
struct grass_session_state {
  struct grass_session_keys keys;
  uint8_t key[32];   // Of the client, public.
  uint32_t rights;   // enum grass_right; 0 where the list has no such key.
  uint32_t is_live;
  uint64_t line;     // The key's line in the list; GRASS_NO_LINE where it has none.
  uint64_t highest;  // The highest number, without its epoch, of all records that were accepted.
  uint64_t floor;    // A slot joins with a higher one only.
  uint64_t records;  // In this epoch.
  uint64_t epoch_since, used;
  uint64_t read, runs;  // Bytes of memory that it got, and monitors that it had run.
};

/// What a slot has beside its session.
struct grass_door {
  struct grass_noise noise;  // A handshake between its messages.
  struct grass_session_state waiting;
  uint64_t last;  // Number, without its epoch, of the last record that was accepted for the slot's session.
};

/// The keys of what a device says to all: written by who has the list of keys, read by who keeps the findings.
struct grass_group {
  uint64_t generation;  // The newest; stored after its key.
  uint8_t keys[GRASS_GROUP_KEYS][32];  // That of generation n lies at n % GRASS_GROUP_KEYS.
};

/// What happened to keys and sessions, for who logs it.
enum grass_key_event_kind {
  GRASS_KEY_EVENT_SESSION = 1,  // A session began: with rights, or without any.
  GRASS_KEY_EVENT_END = 2,      // One ended.
  GRASS_KEY_EVENT_ADDED = 3,
  GRASS_KEY_EVENT_CHANGED = 4,
  GRASS_KEY_EVENT_REMOVED = 5,
  GRASS_KEY_EVENT_EXPIRED = 6,
  GRASS_KEY_EVENT_CERTIFIED = 7,
};

struct grass_key_event {
  uint32_t kind;
  uint32_t rights;
  uint8_t key[32];    // Whose session, or which key of the list.
  uint8_t by[32];     // Whose session changed the list; zero for the machine that the device is in.
  uint64_t read, runs;  // Of a session that ended.
  char comment[GRASS_KEY_COMMENT];
};

#define GRASS_KEY_EVENTS 64u

/// What happened: entry n lies at n % GRASS_KEY_EVENTS. One writes, one takes; what is not taken in time is lost, and counted.
struct grass_key_events {
  uint64_t put, taken, lost;
  struct grass_key_event entries[GRASS_KEY_EVENTS];
};

/// What a key has had: when it will have been due to have all of that, and what of it in which round.
struct grass_key_use {
  uint64_t requests_due, bytes_due;
  uint64_t round, bytes;
};

/// Whom a device lets in.
struct grass_key_list {
  uint32_t count;
  uint32_t reserved;
  struct grass_key_line lines[GRASS_MAX_KEYS];
  struct grass_key_use uses[GRASS_MAX_KEYS];  // Line by line. The device's own: of a list that it is given they mean nothing.
};

#define GRASS_NO_LINE (~0ull)

#define GRASS_NO_SESSION 0xffffffffu

/// What lies beside a keyring. All of it is the caller's and must outlive it; what is not new in it stays: a group that has keys,
/// and a list.
struct grass_keyring_places {
  struct grass_key_list *list;
  struct grass_group *group;
  struct grass_key_events *events;
};

struct grass_keyring {
  struct grass_key_pair identity;
  struct grass_random random;
  struct grass_header prologue;
  uint64_t utc_offset;  // What makes nanoseconds since 1970 of the device's clock.
  struct grass_keyring_places beside;
  uint32_t slot_count;
  uint32_t certificate_length;
  uint8_t certificate[GRASS_MAX_CERTIFICATE];
  uint32_t owners[GRASS_KEYRING_SLOTS];  // The slot whose session a slot is of; GRASS_NO_SESSION for none.
  struct grass_session_state sessions[GRASS_KEYRING_SLOTS];  // Of the slot in which each was made.
  struct grass_door doors[GRASS_KEYRING_SLOTS];
  uint64_t dropped;    // Records that did not open, or came again.
  uint64_t refused;    // Handshakes that failed.
  uint64_t swept;
  // Handshakes: when one began of which nobody knows yet how long it took, when the next may be answered, and from which slot on.
  uint64_t handshake_began, handshake_next;
  uint32_t handshake_slot;
  uint32_t has_handshake;
  uint64_t refusal_told;
  uint64_t is_group_stale;  // A new key is to be made for what is said to all.
  uint64_t event_put;  // Its own count of them.
  uint64_t round;      // Counts rounds over the slots.
};

/// Begins. `private_key` is the device's own, NULL to make one; `seed` is random. The caller wipes both.
///
/// `layout` is the region's, with GRASS_FEATURE_KEYS, of GRASS_KEYRING_SLOTS slots at most.
void grass_keyring_start(
    struct grass_keyring *keyring, struct grass_keyring_places beside, const struct grass_header *layout, const uint8_t private_key[32], const uint8_t seed[64],
    uint64_t utc_offset, uint64_t now);

/// Puts a key into the list, or another's rights in its place; or removes one. `by` is NULL for the machine itself. Returns a
/// status.
uint32_t grass_keyring_set(struct grass_keyring *keyring, uint32_t action, const struct grass_key_line *line, const uint8_t *by);

/// Forgets the sessions that had a slot.
void grass_keyring_release(struct grass_keyring *keyring, uint32_t slot);

/// What is to be done now and then: keys that are replaced, forgotten, or expired.
void grass_keyring_sweep(struct grass_keyring *keyring, uint64_t now);

/// Whether the handshake in a slot may be answered now. Those of all slots take turns, and a part of the time.
bool grass_keyring_may_shake(struct grass_keyring *keyring, uint32_t slot);
/// Says what time it is, once every round over the slots.
void grass_keyring_tell(struct grass_keyring *keyring, uint64_t now);

/// Whether the key of the session that has a slot may be answered now: in this round, and by what its line says.
bool grass_keyring_may_ask(const struct grass_keyring *keyring, uint32_t slot, uint64_t now);
/// Notes what the key of the session that has a slot was given: requests that were taken, and bytes that were read for it or told.
void grass_keyring_charge(struct grass_keyring *keyring, uint32_t slot, uint64_t requests, uint64_t bytes, uint64_t now);

/// Answers a message of a handshake, whose record was whole: `length` bytes of payload in private memory. Returns the length of
/// the answer's payload.
uint64_t grass_keyring_handshake(
    struct grass_keyring *keyring, uint32_t slot, const uint8_t *payload, uint64_t length, uint8_t *to, uint64_t capacity,
    uint64_t now);

/// What opened a record.
struct grass_opened {
  uint32_t session;    // The slot whose session it is.
  bool is_waiting;     // It is one that was not confirmed before.
  uint64_t sequence;
};

/// Opens a sealed record in private memory, in place. Returns false where nothing opens it, or its number is not higher than those
/// before.
bool grass_keyring_open(
    struct grass_keyring *keyring, uint32_t slot, const struct grass_record *head, uint8_t *payload, struct grass_opened *opened);
/// Takes a record that was opened as one that is answered: its number is never taken again.
void grass_keyring_accept(struct grass_keyring *keyring, uint32_t slot, const struct grass_opened *opened, uint64_t now);

/// The session that has a slot, or NULL.
struct grass_session_state *grass_keyring_session(struct grass_keyring *keyring, uint32_t slot);

/// Seals an answer in private memory, in place. Returns false where its session is over: then nobody waits for it.
bool grass_keyring_seal(
    struct grass_keyring *keyring, uint32_t slot, uint64_t sequence, uint8_t *payload, uint64_t length, uint64_t check[2]);

/// What the answer in a slot to a record of this number is sealed under, and its session's token; NULL where its session is over.
const uint8_t *grass_keyring_response_key(
    const struct grass_keyring *keyring, uint32_t slot, uint64_t sequence, uint64_t *token);

/// The same of a request of the session that has the slot already, in an epoch at hand, with a number that it may have; else NULL.
const uint8_t *grass_keyring_request_key(
    const struct grass_keyring *keyring, uint32_t slot, uint64_t sequence, uint64_t *token);

/// What tells a heartbeat of a slot, and its answer, before it has come: its keys and its number, where it is the next one of a
/// session that may watch.
struct grass_next_record {
  const uint8_t *request, *response;
  uint64_t token;
  uint64_t sequence;  // 0 where nothing of it is known.
};
struct grass_next_record grass_keyring_next(const struct grass_keyring *keyring, uint32_t slot);

/// Makes the list this one: sessions of keys that are in it no more end.
void grass_keyring_replace(struct grass_keyring *keyring, const struct grass_key_list *list);

/// Seals a session's line. Returns false where there is no session in this slot: then the line is zero.
bool grass_keyring_line(struct grass_keyring *keyring, uint32_t slot, struct grass_session_line *line);

/// Answers GRASS_SESSION, GRASS_KEYS, GRASS_SET_KEY and GRASS_CERTIFY, whose payload lies in private memory. Returns the length of
/// the answer's payload.
uint64_t grass_keyring_answer(
    struct grass_keyring *keyring, uint32_t slot, const struct grass_request *request, const uint8_t *payload, uint64_t length,
    uint8_t *to, uint64_t capacity, uint64_t now);

/// The right that a request needs; 0 where every session may ask.
static inline uint32_t grass_right_of(uint32_t operation) {
  switch (operation) {
  case GRASS_SESSION: return 0;
  case GRASS_HEARTBEAT:
  case GRASS_INFO: return GRASS_RIGHT_WATCH;
  case GRASS_MONITORS:
  case GRASS_RUN: return GRASS_RIGHT_RUN;
  case GRASS_GATHER:
  case GRASS_DIGEST: return GRASS_RIGHT_READ;
  case GRASS_WINDOWS: return GRASS_RIGHT_READ | GRASS_RIGHT_ACQUIRE;
  case GRASS_KEYS:
  case GRASS_SET_KEY:
  case GRASS_CERTIFY:
  case GRASS_PAUSE: return GRASS_RIGHT_ADMIN;
  default: return GRASS_RIGHT_WATCH;  // Which does not help: there is no such operation.
  }
}

/// How many bytes a request has read of which it is told digests only; its payload lies in private memory.
static inline uint64_t grass_digested(const uint8_t *payload, uint64_t length) {
  struct grass_request request;
  uint64_t bytes = 0, at = sizeof request + sizeof(struct grass_digest_request);
  if (length < at) return 0;
  __builtin_memcpy(&request, payload, sizeof request);
  if (request.operation != GRASS_DIGEST) return 0;
  for (struct grass_range range; at + sizeof range <= length; at += sizeof range) {
    __builtin_memcpy(&range, payload + at, sizeof range);
    bytes += range.length;
  }
  return bytes;
}

/// Takes the next event. Returns false where there is none. One thread at a time may ask.
bool grass_key_events_take(struct grass_key_events *events, struct grass_key_event *event);

// MARK: - What is said to all

/// The place of the next record under the group's newest key; `*editions` counts up.
struct grass_group_place grass_group_next(const struct grass_group *group, uint64_t *editions);

/// Seals `length` bytes in place, as what has this number. `kind`, enum grass_group_kind, keeps apart what has the same place.
void grass_group_seal(
    const struct grass_group *group, struct grass_group_place place, uint32_t kind, uint64_t number, uint8_t *text, uint64_t length,
    uint64_t check[2]);
