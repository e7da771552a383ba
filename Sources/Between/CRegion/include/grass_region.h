// Protocol 4: the layout of the region through which a remote host and a device talk. Once, for the program of the device,
// which is compiled from it, and for the Swift code that imports it. Freestanding, little endian.
//
//   responses part, remote read only
//   | header | beacon | lines | log of findings | open findings | last words | response slot 0 … N-1 |
//   requests part, remote write only              scratch part
//   | request slot 0 … N-1 |                      | (tests) |
//
// Each part starts on a page, so that each can be a registration of its own. Whoever owns the memory writes the
// responses part only; a remote host writes request slots that were granted to it and nothing else.
//
// The header says where all of it lies. It is constant, and its numbers follow from the sizes that the owner chose, so that who
// reads one lays the region out anew and compares.
//
// A slot holds one record:
//
//   | sequence u64 | length u64 | check 16 bytes | payload, `length` bytes, zero padded to 8 | sequence u64 |
//
// One write carries a request with its flag, one read fetches a result with its flag, and nothing needs clearing: a
// record is new if its sequence number is. Both sequence numbers and the check must agree, else the record is torn
// (still being written) or false. A requester never uses a number twice in a slot, nor zero. A number's 16 top bits are its
// epoch: which of a session's keys the record is under. Without keys, all numbers are of epoch 0.
//
// In a region with GRASS_FEATURE_KEYS, a record of epoch 0 is a message of a handshake, in clear, and nothing else. All others are
// sealed: their payload is ciphertext and their check its tag (grass_session.h). One that does not open is dropped without an
// answer, and so is one whose number is not above those before it; who hears nothing asks again, under a new number. A handshake
// makes a session of the slot that it came in; other slots join it by a record that opens under its keys. Lines are sealed under
// their session's keys, and zero where there is no session; findings and last words under keys of a group, which a session
// asks for (GRASS_SESSION). The beacon says nothing but that the device lives.
//
// What a device says without being asked:
//
//   beacon   a cache line for everybody: it lives, and the number of the newest finding.
//   lines    a cache line for each slot; a session's is that of its first slot. One read says that the device lives, that its
//            detectors do, and whether findings wait.
//   log      a ring of records of one size. Its one writer is the device. Finding number n, from 1 on, stands at index
//            (n - 1) % count and has n as its sequence number; every change of a finding is a new one, so a gap in the numbers
//            is a gap in what was read.
//   open     the findings that are not closed, one a place, whatever the log has lost since. A place without one is zero.
//   words    what was kept of kernels that panicked or whose CPUs all stood still, one a place: each a record, of which
//            the start has a check of its own. Its number counts up; who comes later overwrites it in one piece or not at
//            all. A region need not have any (GRASS_FEATURE_WORDS).
//
// What a side can do, feature bits say: the header's what the region has, an answer to info what the device does. Who reads bits
// that it does not know takes no notice of them. Fields called `reserved` are zero, and who reads them checks that.
//
// Laid out, and in no use yet (no device sets their feature bits): streams.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "grass_digest.h"
#include "grass_fault.h"
#include "grass_finding.h"
#include "grass_paging.h"
#include "grass_result.h"
#include "grass_segment.h"
#include "grass_words.h"

#define GRASS_MAGIC 0x5341525047534152ull
#define GRASS_VERSION 4u

#define GRASS_PAGE 4096u
#define GRASS_LINE 64u
#define GRASS_MAX_SLOTS 128u
/// The most that a GPU polls: a group of its threads for each.
#define GRASS_GPU_SLOTS 64u
/// The most a request's or a response's record may take, so that no sum of sizes can overflow.
#define GRASS_MAX_RECORD (1ull << 30)
#define GRASS_MAX_SCRATCH (1ull << 30)

/// What a region holds unless its owner says otherwise. Sizes are those of whole records.
#define GRASS_DEFAULT_SLOTS 96u
/// 64 KiB and a line: else the heads of all slots, which are polled, would fall into the same few lines of a cache.
#define GRASS_DEFAULT_REQUEST_SIZE 65600u
#define GRASS_DEFAULT_RESPONSE_SIZE (1024u * 1024u)
#define GRASS_DEFAULT_FINDINGS 1024u
/// The most entries that the log may have. For each four of them there is a place among the open findings.
#define GRASS_MAX_FINDINGS (1u << 20)

/// How many last words are kept where detectors run, and the bytes that each takes.
#define GRASS_DEFAULT_WORDS 8u
#define GRASS_WORDS_SIZE (1u << 20)
#define GRASS_MAX_WORDS 64u

/// What a region has and a device does, a bit each.
enum grass_feature {
  GRASS_FEATURE_MONITORS = 1u << 0,  // It runs monitors.
  GRASS_FEATURE_LINES = 1u << 1,     // It writes lines.
  GRASS_FEATURE_FINDINGS = 1u << 2,  // It writes findings.
  GRASS_FEATURE_DIGESTS = 1u << 3,   // It computes digests.
  GRASS_FEATURE_STREAMS = 1u << 4,
  GRASS_FEATURE_KEYS = 1u << 5,      // Records are sealed under keys, of the epoch that their numbers name.
  GRASS_FEATURE_WORDS = 1u << 6,     // It keeps last words.
  GRASS_FEATURE_PAUSE = 1u << 7,     // It can have its host's CPUs stand still.
  GRASS_FEATURE_WINDOWS = 1u << 8,   // It tells how the memory is read past it, in clear.
  GRASS_FEATURE_WIDE = 1u << 9,      // Many threads of it share an answer: a long one takes hardly more time than a short one.
};

/// The top bits of a sequence number.
#define GRASS_EPOCH_SHIFT 48u

/// At the region's start. Constant once written. Offsets count bytes from the region's start.
struct grass_header {
  uint64_t magic;
  uint32_t version;
  uint32_t slot_count;
  uint64_t features;  // enum grass_feature: what the region has.
  uint64_t region_size;
  uint64_t responses_part_size;  // The responses part starts at 0.
  uint64_t requests_part_offset;
  uint64_t requests_part_size;
  uint64_t scratch_offset;
  uint64_t scratch_size;
  uint64_t beacon_offset;
  uint64_t lines_offset;  // Of slot 0; the others follow.
  uint32_t line_count;    // As many as slots.
  uint32_t line_size;
  uint64_t findings_offset;
  uint32_t finding_count;
  uint32_t finding_size;
  uint64_t open_offset;
  uint32_t open_count;
  uint32_t open_size;
  uint64_t response_offset;  // Of slot 0; the others follow at response_size each.
  uint64_t response_size;
  uint64_t request_offset;
  uint64_t request_size;
  uint64_t streams_offset;  // Windows that a device fills; 0 where there are none.
  uint64_t streams_size;
  uint64_t words_offset;  // 0 where there are none.
  uint32_t words_count;
  uint32_t words_size;
  uint64_t reserved[8];
};
_Static_assert(sizeof(struct grass_header) == 256, "part of the protocol");
_Static_assert(offsetof(struct grass_header, reserved) == 192, "part of the protocol");

enum grass_state {
  GRASS_STATE_NONE = 0,
  GRASS_STATE_RUNNING = 1,
  GRASS_STATE_STOPPED = 2,
};

/// The passive heartbeat for everybody: one read of it says whether the device lives and whether there are findings.
struct grass_beacon {
  uint64_t counter;         // Grows with every update; odd values do not mean anything special.
  uint64_t clock;           // The device's clock in nanoseconds; its zero is the device's own.
  uint32_t state;           // enum grass_state
  uint32_t reserved;
  uint64_t newest_finding;  // Number of the newest finding, 0 while there is none.
  uint64_t served;          // Requests answered, errors included.
  uint64_t check[2];        // Of the five words before, with the counter as sequence.
  uint64_t counter_end;
};
_Static_assert(sizeof(struct grass_beacon) == GRASS_LINE, "the beacon is one cache line");
_Static_assert(offsetof(struct grass_beacon, check) == 40, "what the check covers");

/// The passive heartbeat of one session.
struct grass_session_line {
  uint64_t counter;         // As the beacon's, with the session's epoch in its top bits. Where it is sealed, in clear.
  uint64_t clock;           // The device's clock in nanoseconds.
  uint64_t detector_tick;   // How many ticks of the detectors have ended.
  uint64_t newest_finding;  // Number of the newest finding, 0 while there is none.
  uint8_t state;            // enum grass_state
  uint8_t worst_severity;   // enum grass_severity, of the open findings; 0 while there are none.
  uint16_t open;            // How many findings are open.
  uint16_t suspended;       // How many detectors are suspended.
  uint16_t reserved;
  uint64_t check[2];        // Of the five words before, with the counter as sequence; or the tag of the four behind the counter.
  uint64_t counter_end;
};
_Static_assert(sizeof(struct grass_session_line) == GRASS_LINE, "a session's line is one cache line");
_Static_assert(offsetof(struct grass_session_line, check) == 40, "what the check covers");

struct grass_record {
  uint64_t sequence;
  uint64_t length;
  uint64_t check[2];
  // The payload, then the sequence number again.
};
_Static_assert(sizeof(struct grass_record) == 32, "part of the protocol");

/// One entry of the log, or of the open findings: a record that is sealed as those of slots are.
struct grass_finding {
  struct grass_record record;  // Its sequence is the finding's number.
  struct grass_finding_content content;
  uint64_t number_end;
};
_Static_assert(sizeof(struct grass_finding) == 512, "part of the protocol");

enum grass_operation {
  GRASS_HEARTBEAT = 1,
  GRASS_INFO = 2,
  GRASS_GATHER = 3,
  GRASS_RUN = 4,
  GRASS_MONITORS = 5,
  GRASS_DIGEST = 6,
  GRASS_STREAM = 7,  // Reserved, with its layout.
  // Of regions with keys.
  GRASS_HANDSHAKE = 8,  // Its `count` is enum grass_noise_pattern; the message follows, in both directions.
  GRASS_SESSION = 9,    // What this session may do, and the keys of what the device says to all.
  GRASS_KEYS = 10,      // The list of keys.
  GRASS_SET_KEY = 11,   // Adds, changes or removes one.
  GRASS_CERTIFY = 12,   // Hands over what certifies the device's own key; its `count` are the bytes that follow.
  // Where GRASS_FEATURE_PAUSE is set.
  GRASS_PAUSE = 13,  // Has the host's CPUs stand still for `count` milliseconds from now on; 0 ends what this slot asked for.
  // Where GRASS_FEATURE_WINDOWS is set.
  GRASS_WINDOWS = 14,  // How this session's link reads the memory past the device.
};

/// The longest that one request has a host stand still, in milliseconds: whoever asks again in time has it longer, and if he
/// dies it goes on soon.
#define GRASS_MAX_PAUSE 30000u

/// What a key may do, a bit each.
enum grass_right {
  GRASS_RIGHT_WATCH = 1u << 0,    // Line, heartbeat, findings, last words.
  GRASS_RIGHT_RUN = 1u << 1,      // Monitors.
  GRASS_RIGHT_READ = 1u << 2,     // Memory: every secret of the host.
  GRASS_RIGHT_ACQUIRE = 1u << 3,  // The whole memory.
  GRASS_RIGHT_ADMIN = 1u << 4,    // The list of keys.
};
#define GRASS_ALL_RIGHTS 31u

#define GRASS_KEY_COMMENT 64u

/// Somebody's key, and what he may do.
struct grass_key_line {
  uint8_t key[32];  // X25519, public.
  uint32_t rights;  // enum grass_right
  uint32_t reserved;
  uint64_t expiry;  // Seconds since 1970, 0 for never.
  // What it may ask for in a second over all its sessions, heartbeats apart: so many requests, and KiB of memory; 0 for as much as
  // others leave.
  uint32_t requests, kibibytes;
  char comment[GRASS_KEY_COMMENT];  // UTF-8, zero padded.
};
_Static_assert(sizeof(struct grass_key_line) == 120, "part of the protocol");

/// The most keys that a device knows, and bytes of what certifies its own.
#define GRASS_MAX_KEYS 256u
#define GRASS_MAX_CERTIFICATE 256u

enum grass_key_action { GRASS_KEY_ADD = 1, GRASS_KEY_REMOVE = 2 };

/// What of a finding's content, and of the head of last words, is not sealed: which generation's key it is under and a number that
/// no other record has under that key. They are the last two words, in clear.
struct grass_group_place {
  uint64_t generation;
  uint64_t edition;
};

/// What is sealed under a group's keys, as the slot that its nonce names.
enum grass_group_kind { GRASS_GROUP_FINDING = 1, GRASS_GROUP_OPEN = 2, GRASS_GROUP_WORDS_HEAD = 3, GRASS_GROUP_WORDS = 4 };

/// Follows the request to change the list of keys. One that is there already gets the new rights; to remove one, only the key
/// itself counts.
struct grass_key_request {
  uint32_t action;  // enum grass_key_action
  uint32_t reserved;
  struct grass_key_line line;
};
_Static_assert(sizeof(struct grass_key_request) == 128, "part of the protocol");

/// How many keys of the group are told: the newest, and those of what is still in the log from before keys were removed.
#define GRASS_GROUP_KEYS 32u

/// Follows the response to a question for the session; then come `count` keys, of struct grass_group_key.
struct grass_session_answer {
  uint32_t rights;  // enum grass_right; 0 for a key that is not in the list, or not any more.
  uint32_t reserved;
  uint64_t expiry;  // Of the key, in seconds since 1970, 0 for never.
  uint64_t utc;     // The device's time, in nanoseconds since 1970.
};
_Static_assert(sizeof(struct grass_session_answer) == 24, "part of the protocol");

/// What findings and last words are sealed under that were written since its first number.
struct grass_group_key {
  uint64_t generation;  // Counts up from 1.
  uint8_t key[32];
};
_Static_assert(sizeof(struct grass_group_key) == 40, "part of the protocol");

/// Starts every request's payload.
struct grass_request {
  uint32_t operation;
  uint32_t count;   // Of ranges, in a gather or a question for digests; else 0.
  uint32_t format;  // Of page tables, enum grass_page_format, in a gather that has virtual ranges; else as there, or 0.
  uint32_t reserved;
};
_Static_assert(sizeof(struct grass_request) == 16, "part of the protocol");

#define GRASS_RANGE_VIRTUAL 1u

/// Follows the request `count` times in a gather.
struct grass_range {
  uint64_t address;
  uint64_t root;  // Physical address of the root page table, where the address is virtual; else 0.
  uint32_t length;
  uint32_t flags;  // GRASS_RANGE_VIRTUAL or 0.
};
_Static_assert(sizeof(struct grass_range) == 24, "part of the protocol");

#define GRASS_NAME_SIZE 32u

#define GRASS_ARGUMENTS 4u
/// Translate each address by a walk through the page tables, however often: to measure what the short ways give.
#define GRASS_RUN_WALKS 1u

/// Follows the request in a run of a monitor.
struct grass_run_request {
  char monitor[GRASS_NAME_SIZE];  // Its name, zero padded.
  uint64_t budget;               // Steps that each lane may take; 0 leaves it to the device, which also has a limit.
  uint32_t lanes;                // 0 leaves it to the device.
  uint32_t flags;                // GRASS_RUN_WALKS or 0.
  uint64_t arguments[GRASS_ARGUMENTS];  // What they mean is the monitor's.
};
_Static_assert(sizeof(struct grass_run_request) == 80, "part of the protocol");

enum grass_status {
  GRASS_OK = 0,
  GRASS_BAD_OPERATION = 1,
  GRASS_BAD_LENGTH = 2,  // The record does not fit its slot, or the payload not what it announces.
  GRASS_BAD_CHECK = 3,
  GRASS_BAD_FORMAT = 4,  // A format of page tables that the device does not walk.
  GRASS_BAD_RANGE = 5,   // A range with unknown flags, or a physical one with a root.
  GRASS_TOO_LARGE = 6,  // The answer would not fit its slot.
  GRASS_NO_MONITOR = 7,  // The device has no monitor of that name.
  GRASS_BAD_RUN = 8,    // A run with unknown flags.
  GRASS_BAD_FIELD = 9,  // A field is not zero that has to be.
  GRASS_BAD_EPOCH = 10,  // The sequence number's epoch has no key.
  GRASS_NOT_ALLOWED = 11,    // The session's key has not this right.
  GRASS_BAD_HANDSHAKE = 12,  // The message is none, or not the one that is due.
  GRASS_BAD_KEY = 13,        // No such key in the list, or none that can be in it, or no room for it.
};

/// Starts every response's payload.
struct grass_response {
  uint32_t operation;
  uint32_t status;  // enum grass_status; anything but GRASS_OK ends the payload here.
  uint32_t count;
  uint32_t reserved;
};
_Static_assert(sizeof(struct grass_response) == 16, "part of the protocol");

/// Follows the response to a heartbeat.
struct grass_heartbeat_answer {
  uint64_t clock;
  uint64_t counter;
};
_Static_assert(sizeof(struct grass_heartbeat_answer) == 16, "part of the protocol");

/// The most windows that one session has.
#define GRASS_MAX_WINDOWS 32u

/// Memory that a link reads past the device: what names it there, as the link of the session understands that.
struct grass_memory_window {
  uint64_t start;  // Physical.
  uint64_t count;
  uint64_t high, low;
};
_Static_assert(sizeof(struct grass_memory_window) == 32, "part of the protocol");

/// Follows the response to a question for windows; then come `count` of them, of struct grass_memory_window.
struct grass_windows_answer {
  uint64_t is_ready;  // 0 where the owner of the link still makes them: ask again.
};
_Static_assert(sizeof(struct grass_windows_answer) == 8, "part of the protocol");

/// Follows the response to a request to pause.
struct grass_pause_answer {
  uint64_t state;  // enum grass_hypervisor: what it said last, which may take a moment to follow.
};
_Static_assert(sizeof(struct grass_pause_answer) == 8, "part of the protocol");

/// Follows the response to an info request; then come `count` segments, of struct grass_segment.
struct grass_info_answer {
  uint64_t version;
  uint64_t features;     // enum grass_feature: what the device does.
  uint64_t kernel_hint;  // Physical address of the kernel's VMCOREINFO note, 0 while unknown.
  uint64_t clock;
  uint64_t served;
  uint64_t refused;  // Requests answered with an error.
  uint64_t torn;     // Requests first seen incomplete.
  uint64_t most_digested;  // The most bytes that one question for digests may be about.
};
_Static_assert(sizeof(struct grass_info_answer) == 64, "part of the protocol");

/// Follows the response to a gather `count` times; then come the bytes of all ranges, one after the other. Those of
/// a range that failed are zero.
struct grass_range_status {
  uint32_t fault;  // enum grass_fault
  uint32_t level;
  uint64_t entry;
  uint64_t address;  // Where it failed: physical where that is absent or lost, else of the range's own kind.
};
_Static_assert(sizeof(struct grass_range_status) == 24, "part of the protocol");

/// Follows the response to a run; then come the records that the run emitted, then `count` faults.
struct grass_run_answer {
  uint64_t elapsed;  // Nanoseconds from the request's arrival to the last lane's end, by the device's clock.
  uint64_t size;     // Bytes of records.
  uint32_t lanes;
  uint32_t faulted;  // Lanes that ended early; the first ones' faults are listed.
};
_Static_assert(sizeof(struct grass_run_answer) == 24, "part of the protocol");

#define GRASS_MAX_FAULTS 8u

/// Why one lane ended early: enum grass_fault and what belongs to it.
struct grass_lane_fault {
  uint32_t fault;
  uint32_t level;
  uint64_t lane;
  uint64_t address;
  uint64_t entry;
};
_Static_assert(sizeof(struct grass_lane_fault) == 32, "part of the protocol");

/// Starts the payload of last words; then come `size` bytes of the records of grass_words.h, entries as those of a run.
struct grass_words_head {
  uint64_t number;    // That of the record.
  uint64_t finding;   // Identity of the finding that they were taken of: a kernel that panicked, or whose CPUs stand still.
  uint32_t detector;  // Whose finding it is: enum grass_detector.
  uint32_t faulted;   // Lanes that could not read all they had to; the first ones' faults follow.
  // When they were taken, in nanoseconds: by the device's clock, by the guest's since its boot, and since 1970.
  uint64_t device, guest, utc;
  uint64_t slide;     // What the kernel had added to its image's addresses.
  uint64_t size;
  uint8_t boot[16];   // The id of the host's boot.
  char kernel[128];   // Its release, a space and its build ID, zero padded.
  struct grass_lane_fault faults[GRASS_MAX_FAULTS];
  uint64_t reserved[4];  // Where it is sealed, the last two say under what, in clear: struct grass_group_place.
  uint64_t check[2];  // Of all before, with the number as sequence: who lists them need not read them.
};
_Static_assert(sizeof(struct grass_words_head) == 512, "part of the protocol");
_Static_assert(offsetof(struct grass_words_head, check) == 496, "what the check covers");

/// Follows the response to a question for monitors `count` times.
struct grass_monitor_answer {
  char name[GRASS_NAME_SIZE];
};

enum grass_digest_kind {
  GRASS_DIGEST_SHA256 = 1,  // 32 bytes. Reserved.
  GRASS_DIGEST_FAST = 2,    // struct grass_digest.
};

/// The most bytes that one question for digests may be about where a device says no more: other requests wait meanwhile.
#define GRASS_MAX_DIGESTED (1u << 20)

/// Follows the request in a question for digests; then come `count` physical ranges as in a gather. Follows the response to it:
/// a status for each range, as a gather's, and then the digests, those of a range one after the other. Those of a range that
/// failed are zero.
struct grass_digest_request {
  uint32_t kind;  // enum grass_digest_kind
  uint32_t unit;  // Bytes that have one digest, a power of two and 8 at least; 0 for one digest a range.
  uint64_t seed[2];
};
_Static_assert(sizeof(struct grass_digest_request) == 24, "part of the protocol");

/// How many digests a range has.
static inline uint64_t grass_digest_count(uint32_t length, uint32_t unit) {
  return unit == 0 ? 1 : ((uint64_t)length + unit - 1) / unit;
}

/// The bytes of digest `index` of a range: from where in the range they come, and how many.
static inline uint32_t grass_digest_part(uint32_t length, uint32_t unit, uint64_t index, uint64_t *from) {
  *from = index * unit;
  uint64_t rest = length - *from;
  return (uint32_t)(unit == 0 || rest < unit ? rest : unit);
}

/// Judges a question for digests whose payload lies in private memory, `length` bytes of it behind the request, by a device that
/// computes those of `most` bytes at once. Returns a status, and with GRASS_OK the length of the answer's payload.
static inline uint32_t grass_digest_judge(
    const struct grass_request *request, const uint8_t *payload, uint64_t length, uint64_t most, uint64_t capacity,
    uint64_t *size) {
  struct grass_digest_request digest;
  // In 64 bits no product or sum below can overflow: the count and each length have 32.
  if (length != sizeof digest + (uint64_t)request->count * sizeof(struct grass_range)) return GRASS_BAD_LENGTH;
  __builtin_memcpy(&digest, payload, sizeof digest);
  if (request->format | request->reserved) return GRASS_BAD_FIELD;
  if (digest.kind != GRASS_DIGEST_FAST || (digest.unit & (digest.unit - 1)) || (digest.unit && digest.unit < 8))
    return GRASS_BAD_FIELD;
  uint64_t bytes = 0, digests = 0;
  for (uint64_t index = 0; index < request->count; index++) {
    struct grass_range range;
    __builtin_memcpy(&range, payload + sizeof digest + index * sizeof range, sizeof range);
    if (range.root | range.flags) return GRASS_BAD_RANGE;
    bytes += range.length;
    digests += grass_digest_count(range.length, digest.unit);
  }
  *size = sizeof(struct grass_response) + request->count * sizeof(struct grass_range_status) +
          digests * sizeof(struct grass_digest);
  return bytes > most || *size > capacity ? GRASS_TOO_LARGE : GRASS_OK;
}

/// Follows the request that begins, goes on with, or ends a stream: a window of the region that the device fills with one record
/// after the other.
struct grass_stream_request {
  uint64_t stream;   // Its number, 0 to begin one.
  uint64_t address;  // Where it is to go on in physical memory.
  uint64_t length;   // How many bytes it is to bring, 0 to end it.
  uint64_t taken;    // Up to which record the window was read.
};
_Static_assert(sizeof(struct grass_stream_request) == 32, "part of the protocol");

/// Whether a range says nothing that it must not.
static inline bool grass_range_is_valid(const struct grass_range *range) {
  return !(range->flags & ~GRASS_RANGE_VIRTUAL) && (range->root == 0 || range->flags & GRASS_RANGE_VIRTUAL);
}

/// Whether a request that has no ranges says nothing that it must not.
static inline bool grass_request_is_plain(const struct grass_request *request) {
  return (request->count | request->format | request->reserved) == 0;
}

static inline uint64_t grass_epoch(uint64_t sequence) { return sequence >> GRASS_EPOCH_SHIFT; }

/// The bytes that a record with `length` bytes of payload takes. `length` is at most GRASS_MAX_RECORD.
static inline uint64_t grass_record_size(uint64_t length) {
  return sizeof(struct grass_record) + ((length + 7) & ~7ull) + 8;
}

/// The longest payload of a record that takes `size` bytes.
static inline uint64_t grass_record_capacity(uint64_t size) {
  return size < sizeof(struct grass_record) + 8 ? 0 : (size - sizeof(struct grass_record) - 8) & ~7ull;
}

// MARK: - The layout of a region

static inline uint64_t grass_round_up(uint64_t value, uint64_t unit) { return (value + unit - 1) / unit * unit; }

/// Lays out a region whose log has `findings` entries, and which has room for as many last words as `words` says, 0 for none.
///
/// Returns false where a number is zero, too large or not a multiple of what it has to be.
static inline bool grass_layout(
    struct grass_header *header, uint32_t slots, uint64_t request_size, uint64_t response_size,
    uint64_t scratch_size, uint32_t findings, uint32_t words) {
  if (slots == 0 || slots > GRASS_MAX_SLOTS) return false;
  if (request_size < 2 * GRASS_LINE || request_size > GRASS_MAX_RECORD || request_size % GRASS_LINE) return false;
  if (response_size < 2 * GRASS_LINE || response_size > GRASS_MAX_RECORD || response_size % GRASS_LINE) return false;
  if (scratch_size > GRASS_MAX_SCRATCH || scratch_size % GRASS_PAGE) return false;
  if (findings == 0 || findings > GRASS_MAX_FINDINGS || findings % 4) return false;
  if (words > GRASS_MAX_WORDS) return false;
  *header = (struct grass_header){
      .magic = GRASS_MAGIC,
      .version = GRASS_VERSION,
      .slot_count = slots,
      .features = words ? GRASS_FEATURE_WORDS : 0,
      .beacon_offset = sizeof(struct grass_header),
      .line_count = slots,
      .line_size = sizeof(struct grass_session_line),
      .finding_count = findings,
      .finding_size = sizeof(struct grass_finding),
      .open_count = findings / 4,
      .open_size = sizeof(struct grass_finding),
      .response_size = response_size,
      .request_size = request_size,
      .scratch_size = scratch_size,
      .words_count = words,
      .words_size = words ? GRASS_WORDS_SIZE : 0,
  };
  header->lines_offset = header->beacon_offset + sizeof(struct grass_beacon);
  header->findings_offset =
      grass_round_up(header->lines_offset + slots * sizeof(struct grass_session_line), sizeof(struct grass_finding));
  header->open_offset = header->findings_offset + findings * sizeof(struct grass_finding);
  header->response_offset =
      grass_round_up(header->open_offset + header->open_count * sizeof(struct grass_finding), GRASS_PAGE);
  if (words) {
    header->words_offset = header->response_offset;
    header->response_offset += (uint64_t)words * GRASS_WORDS_SIZE;
  }
  header->responses_part_size = grass_round_up(header->response_offset + slots * response_size, GRASS_PAGE);
  header->requests_part_offset = header->responses_part_size;
  header->requests_part_size = grass_round_up(slots * request_size, GRASS_PAGE);
  header->request_offset = header->requests_part_offset;
  header->scratch_offset = header->requests_part_offset + header->requests_part_size;
  header->region_size = header->scratch_offset + scratch_size;
  return true;
}

/// Whether a header that came from elsewhere is one that `grass_layout` makes, for a region of at most `size` bytes. Which
/// features it has does not matter.
static inline bool grass_header_is_valid(const struct grass_header *header, uint64_t size) {
  struct grass_header expected;
  if (header->magic != GRASS_MAGIC || header->version != GRASS_VERSION) return false;
  if (!grass_layout(&expected, header->slot_count, header->request_size, header->response_size,
                    header->scratch_size, header->finding_count, header->words_count))
    return false;
  expected.features = header->features;
  return __builtin_memcmp(&expected, header, sizeof expected) == 0 && header->region_size <= size;
}

/// Where the last words of a place stand, in bytes from the region's start.
static inline uint64_t grass_words_offset(const struct grass_header *header, uint32_t place) {
  return header->words_offset + (uint64_t)place * header->words_size;
}

/// Where finding `number`, from 1 on, stands in the log, in bytes from the region's start.
static inline uint64_t grass_finding_offset(const struct grass_header *header, uint64_t number) {
  return header->findings_offset + (number - 1) % header->finding_count * header->finding_size;
}

// MARK: - Access to memory that the other side changes

// Acquire loads and release stores of single words. On x86-64 they are plain moves, and they make writes land in
// the order of their addresses. On a GPU they hold for the whole system, which is said in its own assembly: LLVM 19 has
// no code for them.

static inline uint64_t grass_load(const void *place) {
#if defined(__NVPTX__)
  uint64_t value;
  __asm__ volatile("ld.acquire.sys.u64 %0, [%1];" : "=l"(value) : "l"(place) : "memory");
  return value;
#else
  return __atomic_load_n((const uint64_t *)place, __ATOMIC_ACQUIRE);
#endif
}

static inline void grass_store(void *place, uint64_t value) {
#if defined(__NVPTX__)
  __asm__ volatile("st.release.sys.u64 [%0], %1;" : : "l"(place), "l"(value) : "memory");
#else
  __atomic_store_n((uint64_t *)place, value, __ATOMIC_RELEASE);
#endif
}

#if !defined(__NVPTX__)
/// Eight words at once, wherever they lie: what loops over long memory go by.
typedef uint64_t grass_stripe __attribute__((vector_size(64), aligned(1), may_alias));

#if __has_feature(thread_sanitizer)
// The sanitizer knows of no race between atomic accesses, and has no vectors of them.
static inline void grass_load_stripe(grass_stripe *value, const void *place) {
  for (unsigned word = 0; word < 8; word++) {
    const uint64_t *from = (const uint64_t *)place + word;
    uint64_t one;
    if (((uintptr_t)from & 7) == 0) one = __atomic_load_n(from, __ATOMIC_ACQUIRE);
    else __builtin_memcpy(&one, from, 8);
    (*value)[word] = one;
  }
}

static inline void grass_store_stripe(void *place, const grass_stripe *value) {
  for (unsigned word = 0; word < 8; word++) {
    uint64_t *to = (uint64_t *)place + word, one = (*value)[word];
    if (((uintptr_t)to & 7) == 0) __atomic_store_n(to, one, __ATOMIC_RELEASE);
    else __builtin_memcpy(to, &one, 8);
  }
}
#else
// Volatile: each byte is loaded once, so that what is checked is what was copied, and stores land in their order.
static inline void grass_load_stripe(grass_stripe *value, const void *place) {
  *value = *(const volatile grass_stripe *)place;
}
static inline void grass_store_stripe(void *place, const grass_stripe *value) {
  *(volatile grass_stripe *)place = *value;
}
#endif

/// Stores past the caches: what another processor reads next, it then need not fetch out of this one's. 16 bytes aligned;
/// ordered by nothing but `grass_stream_end`.
static inline void grass_stream_stripe(void *place, const grass_stripe *value) {
#if defined(__x86_64__) && !__has_feature(thread_sanitizer)
  typedef uint64_t part __attribute__((vector_size(16), may_alias));
  for (unsigned index = 0; index < sizeof *value / sizeof(part); index++)
    __builtin_nontemporal_store(((const part *)value)[index], (part *)place + index);
#else
  grass_store_stripe(place, value);
#endif
}

/// Makes streamed stores land before all later ones.
static inline void grass_stream_end(void) {
#if defined(__x86_64__)
  __builtin_ia32_sfence();
#endif
}

/// Copies whole stripes, in ascending order. Returns how many of the `count` bytes these are.
static inline uint64_t grass_copy_stripes(void *to, const void *from, uint64_t count) {
  uint64_t whole = count / sizeof(grass_stripe) * sizeof(grass_stripe);
  for (uint64_t at = 0; at < whole; at += sizeof(grass_stripe)) {
    grass_stripe words;
    grass_load_stripe(&words, (const uint8_t *)from + at);
    grass_store_stripe((uint8_t *)to + at, &words);
  }
  return whole;
}

/// Copies private bytes into shared memory, in ascending order, the last word last of all.
static inline void grass_copy_in(void *shared, const void *bytes, uint64_t count) {
  uint8_t *to = (uint8_t *)shared;
  const uint8_t *from = (const uint8_t *)bytes;
  for (; count > 0 && ((uintptr_t)to & 7); count--) __atomic_store_n(to++, *from++, __ATOMIC_RELEASE);
  uint64_t whole = grass_copy_stripes(to, from, count);
  to += whole;
  from += whole;
  count -= whole;
  for (; count >= 8; count -= 8, to += 8, from += 8) {
    uint64_t word;
    __builtin_memcpy(&word, from, 8);
    __atomic_store_n((uint64_t *)to, word, __ATOMIC_RELEASE);
  }
  for (; count > 0; count--) __atomic_store_n(to++, *from++, __ATOMIC_RELEASE);
}

/// Copies shared memory into private bytes, in ascending order.
static inline void grass_copy_out(void *bytes, const void *shared, uint64_t count) {
  uint8_t *to = (uint8_t *)bytes;
  const uint8_t *from = (const uint8_t *)shared;
  for (; count > 0 && ((uintptr_t)from & 7); count--) *to++ = __atomic_load_n(from++, __ATOMIC_ACQUIRE);
  uint64_t whole = grass_copy_stripes(to, from, count);
  to += whole;
  from += whole;
  count -= whole;
  for (; count >= 8; count -= 8, to += 8, from += 8) {
    uint64_t word = __atomic_load_n((const uint64_t *)from, __ATOMIC_ACQUIRE);
    __builtin_memcpy(to, &word, 8);
  }
  for (; count > 0; count--) *to++ = __atomic_load_n(from++, __ATOMIC_ACQUIRE);
}
#endif

/// Says to the processor that this is a polling loop: it leaves the memory, and its other thread, to others a moment.
static inline void grass_pause(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// MARK: - The check

// A checksum against torn and damaged records, not against forgers: two sums over the payload's words, in any order, so
// that many processors can share the work and a copy can be added up on its way. The first has each word times an odd number
// that belongs to its lane, the word's place in its stripe of 64 bytes; hence a change confined to one word is always
// seen. The second has the product of each word's halves, under a key that belongs to its stripe; hence words that
// changed places are seen. The sequence number starts the first, the length the second.

#define GRASS_MIX 0x9e3779b97f4a7c15ull
#define GRASS_FOLD 0xd6e8feb86659fd93ull
#define GRASS_STRIPE 64u
#define GRASS_LANES 8u
#define GRASS_AHEAD 1024u

static inline uint64_t grass_finish(uint64_t value) {
  value ^= value >> 32;
  value *= GRASS_FOLD;
  value ^= value >> 29;
  value *= GRASS_MIX;
  return value ^ value >> 32;
}

static inline uint64_t grass_check_factor(uint64_t lane) { return (2 * lane + 1) * GRASS_FOLD; }
static inline uint64_t grass_check_key(uint64_t stripe) { return (stripe + 1) * GRASS_MIX; }

/// Adds the payload's word of that number to the two sums.
static inline void grass_check_word(uint64_t sums[2], uint64_t index, uint64_t word) {
  uint64_t factor = grass_check_factor(index % GRASS_LANES), mixed = word ^ grass_check_key(index / GRASS_LANES);
  sums[0] += word * factor;
  sums[1] += (uint64_t)(uint32_t)mixed * (mixed >> 32) * factor;
}

#if !defined(__NVPTX__)
enum grass_copy { GRASS_NO_COPY, GRASS_COPY, GRASS_COPY_STREAMED };

/// Adds whole stripes of a payload to the two sums, from byte `offset` of it on, and copies them to `to` on the way, where
/// asked to. Offset and count are multiples of GRASS_STRIPE; where the copy is streamed, `to` is a multiple of 16.
static inline void grass_check_stripes(
    uint64_t sums[2], enum grass_copy copy, void *to, const void *from, uint64_t offset, uint64_t count) {
  const uint8_t *source = (const uint8_t *)from;
  grass_stripe plain = {0}, mixed = {0}, key = {0};
  key += grass_check_key(offset / GRASS_STRIPE);
  for (uint64_t at = 0; at < count; at += GRASS_STRIPE) {
    // Far enough ahead that what comes out of memory is there in time; processors do not look past a page by themselves.
    __builtin_prefetch(source + at + GRASS_AHEAD);
    grass_stripe words;
    grass_load_stripe(&words, source + at);
    if (copy == GRASS_COPY) grass_store_stripe((uint8_t *)to + at, &words);
    if (copy == GRASS_COPY_STREAMED) grass_stream_stripe((uint8_t *)to + at, &words);
    plain += words;
    words ^= key;
    mixed += (words & 0xffffffffull) * (words >> 32);
    key += GRASS_MIX;
  }
  if (copy == GRASS_COPY_STREAMED) grass_stream_end();
  for (unsigned lane = 0; lane < GRASS_LANES; lane++) {
    sums[0] += plain[lane] * grass_check_factor(lane);
    sums[1] += mixed[lane] * grass_check_factor(lane);
  }
}

/// Adds bytes `offset..<offset + count` of a payload, which lie at `bytes`, to the two sums. The offset is a multiple
/// of GRASS_STRIPE; a last word that is not whole is padded with zeros.
static inline void grass_check_bytes(uint64_t sums[2], const void *bytes, uint64_t offset, uint64_t count) {
  uint64_t whole = count / GRASS_STRIPE * GRASS_STRIPE;
  if (whole) grass_check_stripes(sums, GRASS_NO_COPY, 0, bytes, offset, whole);
  for (uint64_t at = whole; at < count; at += 8) {
    uint64_t word = 0;
    __builtin_memcpy(&word, (const uint8_t *)bytes + at, count - at < 8 ? count - at : 8);
    grass_check_word(sums, (offset + at) / 8, word);
  }
}

#endif

/// The check that two sums over a payload give.
static inline void grass_check_finish(uint64_t check[2], const uint64_t sums[2], uint64_t sequence, uint64_t length) {
  check[0] = grass_finish(sums[0] + sequence);
  check[1] = grass_finish(sums[1] + length);
}

/// The check of `length` bytes of payload under a sequence number.
static inline void grass_check(uint64_t check[2], uint64_t sequence, const void *payload, uint64_t length) {
  uint64_t sums[2] = {0, 0};
#if defined(__NVPTX__)
  // What one thread checks by itself has whole words.
  for (uint64_t index = 0; index < length / 8; index++) grass_check_word(sums, index, ((const uint64_t *)payload)[index]);
#else
  grass_check_bytes(sums, payload, 0, length);
#endif
  grass_check_finish(check, sums, sequence, length);
}

/// Fills in a record around a payload that already lies `sizeof(struct grass_record)` bytes from `record`, in
/// private memory that holds at least `grass_record_size(length)` bytes.
static inline void grass_record_seal(void *record, uint64_t sequence, uint64_t length) {
  uint8_t *bytes = (uint8_t *)record;
  struct grass_record head = {.sequence = sequence, .length = length};
  uint8_t *payload = bytes + sizeof head;
  grass_check(head.check, sequence, payload, length);
  __builtin_memcpy(bytes, &head, sizeof head);
  for (uint64_t index = length; index < ((length + 7) & ~7ull); index++) payload[index] = 0;
  __builtin_memcpy(payload + ((length + 7) & ~7ull), &sequence, 8);
}

enum grass_verdict {
  GRASS_RECORD_OTHER = 0,       // Another sequence number: not there yet.
  GRASS_RECORD_LONGER = 1,      // There, but longer than the bytes at hand.
  GRASS_RECORD_TORN = 2,        // The sequence numbers differ.
  GRASS_RECORD_FALSE = 3,       // The check does not hold.
  GRASS_RECORD_IMPOSSIBLE = 4,  // It says to be longer than its slot.
  GRASS_RECORD_WHOLE = 5,
};

/// Judges a private copy of a record's first `count` bytes, at least `sizeof(struct grass_record)`, whose slot has
/// `size` bytes. Stores the payload's length wherever it is plausible. `sums` are those of the payload where they were
/// added up while it was copied, else NULL.
static inline enum grass_verdict grass_record_judge(
    const void *record, uint64_t count, uint64_t size, uint64_t sequence, const uint64_t *sums, uint64_t *length) {
  struct grass_record head;
  __builtin_memcpy(&head, record, sizeof head);
  *length = 0;
  if (head.sequence != sequence) return GRASS_RECORD_OTHER;
  if (head.length > grass_record_capacity(size)) return GRASS_RECORD_IMPOSSIBLE;
  *length = head.length;
  if (grass_record_size(head.length) > count) return GRASS_RECORD_LONGER;
  uint64_t end;
  __builtin_memcpy(&end, (const uint8_t *)record + grass_record_size(head.length) - 8, 8);
  if (end != sequence) return GRASS_RECORD_TORN;
  uint64_t check[2];
  if (sums) grass_check_finish(check, sums, sequence, head.length);
  else grass_check(check, sequence, (const uint8_t *)record + sizeof head, head.length);
  if (check[0] != head.check[0] || check[1] != head.check[1]) return GRASS_RECORD_FALSE;
  return GRASS_RECORD_WHOLE;
}

#if !defined(__NVPTX__)
/// Copies a record's first `count` bytes, at least `sizeof(struct grass_record)`, out of shared memory and adds its
/// payload up on the way, as far as the record reaches. Of a record with another sequence number, only that number is
/// copied.
static inline void grass_record_fetch(
    void *record, const void *shared, uint64_t count, uint64_t sequence, uint64_t sums[2]) {
  uint64_t found = grass_load(shared);
  __builtin_memcpy(record, &found, 8);
  sums[0] = sums[1] = 0;
  if (found != sequence) return;
  struct grass_record head;
  grass_copy_out((uint8_t *)record + 8, (const uint8_t *)shared + 8, sizeof head - 8);
  __builtin_memcpy(&head, record, sizeof head);
  uint8_t *to = (uint8_t *)record + sizeof head;
  const uint8_t *from = (const uint8_t *)shared + sizeof head;
  count -= sizeof head;
  if (head.length > GRASS_MAX_RECORD || grass_record_size(head.length) - sizeof head > count) {
    // Longer, or nothing that could be whole.
    grass_copy_out(to, from, count);
    return;
  }
  uint64_t whole = head.length / GRASS_STRIPE * GRASS_STRIPE;
  grass_check_stripes(sums, GRASS_COPY, to, from, 0, whole);
  grass_copy_out(to + whole, from + whole, grass_record_size(head.length) - sizeof head - whole);
  grass_check_bytes(sums, to + whole, whole, head.length - whole);
}
#endif

/// Whether a private copy of the start of last words is whole, and of the record `number`.
static inline bool grass_words_head_is_whole(const struct grass_words_head *head, uint64_t number) {
  uint64_t check[2];
  grass_check(check, head->number, head, offsetof(struct grass_words_head, check));
  return head->number == number && check[0] == head->check[0] && check[1] == head->check[1];
}

/// Whether a private copy of the beacon is whole.
static inline bool grass_beacon_is_whole(const struct grass_beacon *beacon) {
  uint64_t check[2];
  grass_check(check, beacon->counter, beacon, offsetof(struct grass_beacon, check));
  return beacon->counter == beacon->counter_end && check[0] == beacon->check[0] && check[1] == beacon->check[1] &&
         beacon->reserved == 0;
}

/// Whether a private copy of a session's line is whole.
static inline bool grass_session_line_is_whole(const struct grass_session_line *line) {
  uint64_t check[2];
  grass_check(check, line->counter, line, offsetof(struct grass_session_line, check));
  return line->counter == line->counter_end && check[0] == line->check[0] && check[1] == line->check[1] &&
         line->reserved == 0;
}
