// What detectors find, as it travels: what is wrong, on what, and the values that show it. Once, for the detectors, which are
// monitors, for the device, which keeps the findings, and for Swift, which makes sentences of them.
#pragma once

#include <stdint.h>

enum grass_finding_kind { GRASS_FINDING_FAULT = 1, GRASS_FINDING_ATTACK = 2, GRASS_FINDING_CHANGE = 3 };

enum grass_severity {
  GRASS_SEVERITY_INFO = 1,
  GRASS_SEVERITY_NOTICE = 2,
  GRASS_SEVERITY_WARNING = 3,
  GRASS_SEVERITY_CRITICAL = 4,  // Somebody must act now.
};

enum grass_confidence {
  GRASS_CONFIDENCE_HINT = 1,
  GRASS_CONFIDENCE_STRONG = 2,
  GRASS_CONFIDENCE_PROVEN = 3,  // An invariant is broken that the kernel never breaks.
};

enum grass_finding_state { GRASS_FINDING_OPEN = 1, GRASS_FINDING_CONFIRMED = 2, GRASS_FINDING_CLOSED = 3 };

/// What a finding is about, or one of several.
enum grass_subject_kind {
  GRASS_SUBJECT_NONE = 0,
  GRASS_SUBJECT_HOST = 1,
  GRASS_SUBJECT_CPU = 2,        // number
  GRASS_SUBJECT_TASK = 3,       // pid, start time in nanoseconds, address; its name
  GRASS_SUBJECT_LOCK = 4,       // address, kind
  GRASS_SUBJECT_MODULE = 5,     // address, base; its name
  GRASS_SUBJECT_FUNCTION = 6,   // address as linked, address
  GRASS_SUBJECT_DISK = 7,       // device number, tag, sector; its name
  GRASS_SUBJECT_INTERFACE = 8,  // index, namespace's inode; its name
  GRASS_SUBJECT_FILE = 9,       // device number, inode; its name
  GRASS_SUBJECT_TABLE = 10,     // address, entry
  GRASS_SUBJECT_DETECTOR = 11,  // number: the observer itself
  GRASS_SUBJECT_CODE = 12,      // address
  GRASS_SUBJECT_PROGRAM = 13,   // number; its name
  GRASS_SUBJECT_SOCKET = 14,    // address; its name
  // Those that have a name and nothing else: up to 48 bytes of it, in the values and then in the name.
  GRASS_SUBJECT_NAMED_FUNCTION = 15,
  GRASS_SUBJECT_WORK_QUEUE = 16,
  GRASS_SUBJECT_OBSERVER = 17,
  GRASS_SUBJECT_NAMED_TABLE = 18,  // The last of the values is the entry and one, 0 for all of it; up to 40 bytes of name.
};

struct grass_subject {
  uint32_t kind;  // enum grass_subject_kind
  uint32_t reserved;
  uint64_t values[4];  // What they mean, the kind says.
  char name[16];       // Zero padded.
};
_Static_assert(sizeof(struct grass_subject) == 56, "part of the protocol");

/// What was seen at an address, and what ought to be there.
struct grass_evidence {
  uint32_t kind;  // What it means is the detector's.
  uint32_t number;  // Which one, where there are several of a kind: a pid. 0 for none.
  uint64_t address;
  uint64_t seen;
  uint64_t expected;
};
_Static_assert(sizeof(struct grass_evidence) == 32, "part of the protocol");

#define GRASS_FINDING_SUBJECTS 2u
#define GRASS_FINDING_EVIDENCE 6u

/// What `kind` says of a piece of evidence of a detector that is known by its name. `number` is then the digest of the words
/// that its declaration has for it (FNV-1a of 32 bits), 0 for none.
enum grass_named_evidence {
  GRASS_EVIDENCE_SAID = 1u << 0,          // It is there.
  GRASS_EVIDENCE_SEEN = 1u << 1,          // `seen` is a number.
  GRASS_EVIDENCE_EXPECTED = 1u << 2,      // `expected` is one.
  GRASS_EVIDENCE_HEXADECIMAL = 1u << 3,   // They are written in hexadecimal digits.
  GRASS_EVIDENCE_WORDS = 1u << 4,         // `seen` and then `expected` are the first 16 bytes of words, zero padded.
};

/// Of a finding, in `flags`.
enum grass_finding_flags {
  /// More was seen of it than fits: more subjects or evidence, or a longer name.
  GRASS_FINDING_CUT = 1u << 0,
};

/// What a device knows of a finding. Titles, remedies and what follows from its detector's declaration are the reader's.
struct grass_finding_content {
  uint64_t identity;  // Of the detector and the subject: the same as long as it is the same finding.
  uint32_t detector;  // Its number.
  uint8_t kind;       // enum grass_finding_kind
  uint8_t severity;   // enum grass_severity
  uint8_t confidence;  // enum grass_confidence
  uint8_t state;       // enum grass_finding_state
  uint32_t count;      // How often it was seen.
  uint32_t flags;      // enum grass_finding_flags
  // When it was first and last seen, in nanoseconds: by the device's clock, by the guest's since its boot, and since 1970.
  uint64_t first_device, last_device, first_guest, last_guest, first_utc, last_utc;
  uint8_t boot[16];    // The id of the host's boot.
  uint64_t previous;   // Number of the log's entry before about the same finding, 0 for the first.
  uint64_t causes[2];  // Identities of what it follows from, 0 for none.
  struct grass_subject subjects[GRASS_FINDING_SUBJECTS];
  struct grass_evidence evidence[GRASS_FINDING_EVIDENCE];  // A kind of 0 is none.
  char name[32];         // Of the detector, zero padded, where its number is GRASS_DETECTOR_NAMED; else zeros.
  uint64_t reserved[3];  // Where it is sealed, the last two say under what, in clear: struct grass_group_place.
};
_Static_assert(sizeof(struct grass_finding_content) == 472, "part of the protocol");

// MARK: - What is handed to a device

#define GRASS_INBOX_ENTRIES 4u

/// Findings of detectors that run beside a device, which it writes into the log for them. One writes here, the device takes.
struct grass_inbox {
  uint64_t put;        // How many were ever put here; entry n lies at n % GRASS_INBOX_ENTRIES.
  uint64_t taken;      // How many of them the device has taken.
  uint64_t suspended;  // How many of the detectors that run beside it are suspended.
  struct grass_finding_content entries[GRASS_INBOX_ENTRIES];
};

// MARK: - What detectors emit

enum grass_detect_kind {
  GRASS_DETECT_SIGHTING = 1,  // struct grass_sighting
  GRASS_DETECT_CLOCK = 2,     // struct grass_host_clock
  GRASS_DETECT_SOON = 3,      // Nothing: the next tick is to come sooner, for something may be wrong.
};

/// What the hypervisor of a guest says of it, where it is asked.
enum grass_hypervisor {
  GRASS_HYPERVISOR_UNKNOWN = 0,
  GRASS_HYPERVISOR_RUNS = 1,    // It runs the guest's CPUs.
  GRASS_HYPERVISOR_PAUSED = 2,  // It does not, for somebody wants it so.
};

/// The watched kernel's clock and boot, as of its last tick.
struct grass_host_clock {
  uint64_t now;      // Nanoseconds since it booted.
  uint8_t boot[16];  // The id of this boot, zero where nobody has asked the kernel for it yet.
};
_Static_assert(sizeof(struct grass_host_clock) == 24, "one form for all who write and read it");

/// What was true once stays true until the host boots again: it is not closed when it is not seen.
#define GRASS_SIGHTING_STAYS 1u

/// What a detector saw in one tick. The device makes a finding of it.
struct grass_sighting {
  uint32_t detector;   // enum grass_detector
  uint8_t kind;        // enum grass_finding_kind
  uint8_t severity;    // enum grass_severity
  uint8_t confidence;  // enum grass_confidence
  uint8_t looks;       // In how many ticks, one after the other, it has to be seen before it is believed; 1 for an invariant.
  uint32_t flags;      // GRASS_SIGHTING_STAYS or 0.
  uint32_t reserved;
  uint64_t persists;   // What has to be the same from tick to tick beside the subjects.
  struct grass_subject subjects[GRASS_FINDING_SUBJECTS];
  struct grass_evidence evidence[GRASS_FINDING_EVIDENCE];
};
_Static_assert(sizeof(struct grass_sighting) == 328, "one form for all who write and read it");

/// The detectors that run on devices. A number is a detector's for ever.
enum grass_detector {
  GRASS_DETECTOR_NONE = 0,
  GRASS_DETECTOR_OBSERVER = 1,         // The observer itself: a detector that is suspended.
  GRASS_DETECTOR_PANIC = 2,
  GRASS_DETECTOR_OOPS = 3,
  GRASS_DETECTOR_WARNING = 4,
  GRASS_DETECTOR_TAINT_VANISHED = 5,
  GRASS_DETECTOR_OOM_KILL = 6,
  GRASS_DETECTOR_STOPPED = 7,          // All CPUs stand still.
  GRASS_DETECTOR_HARD_LOCKUP = 8,
  GRASS_DETECTOR_SOFT_LOCKUP = 9,
  GRASS_DETECTOR_HUNG_TASK = 10,
  GRASS_DETECTOR_CREDENTIALS = 11,
  GRASS_DETECTOR_RCU_STALL = 12,
  GRASS_DETECTOR_PAUSED = 13,          // The hypervisor does not run the CPUs: what goes by time is not judged.
  GRASS_DETECTOR_SOFTIRQ = 14,         // A CPU does nothing but soft interrupts.
  GRASS_DETECTOR_INTERRUPTS = 15,      // A CPU does little but interrupts.
  GRASS_DETECTOR_STOLEN_TIME = 16,     // The hypervisor runs others on a CPU.
  GRASS_DETECTOR_NAMED = 64,           // One that does not run on devices, and is known by its name.
};
