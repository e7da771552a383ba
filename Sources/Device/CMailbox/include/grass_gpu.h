// What the resident program of a GPU works on: made by the host before the launch, in the GPU's memory, and kept from one
// resident program to the next.
#pragma once

#include "grass_detect.h"
#include "grass_mailbox.h"

/// Threads of each of the resident program's blocks: eight for each slot that can be.
#define GRASS_GPU_THREADS 512u

/// What a mailbox found out about one range of a gather.
struct grass_place {
  uint64_t to;      // Where its bytes go, from the start of the response's payload.
  uint64_t device;  // Where the GPU sees its first bytes; 0 where it failed.
  uint64_t count;   // How many of them lie there in one run.
  uint64_t piece;   // The first of all pieces that is its own.
};

enum grass_gpu_stop {
  GRASS_GPU_RUN = 0,
  GRASS_GPU_STOP = 1,       // Finish what was begun, say so in the beacon, and end.
  GRASS_GPU_HAND_OVER = 2,  // Finish what was begun, and end: another program goes on.
};

/// The host's word to the resident program, in pinned host memory.
struct grass_gpu_control {
  uint64_t stop;         // enum grass_gpu_stop
  uint64_t kernel_hint;
  uint64_t hypervisor;   // enum grass_hypervisor
  uint64_t utc_offset;   // What makes nanoseconds since 1970 of the GPU's clock.
};

/// What a turn of the workers is for.
enum grass_turn {
  GRASS_TURN_LANES = 0,   // They run the lanes of the job.
  GRASS_TURN_SEND = 1,    // They move a long answer to its slot.
  GRASS_TURN_SEAL = 2,    // The same, and seal it.
  GRASS_TURN_DIGEST = 3,  // They compute digests.
  GRASS_TURN_GATHER = 4,  // They gather watched memory.
};

/// Words of what workers need to seal one record: a struct grass_share.
#define GRASS_GPU_SHARE_WORDS 16u

/// A piece of work for all workers that runs no lanes.
struct grass_parcel {
  uint64_t kind;  // enum grass_turn
  // An answer: its payload, in the GPU's memory, and where it goes.
  uint64_t length;
  uint8_t *text;
  uint64_t *to;
  uint64_t sums[2];
  // Where it is sealed, the key of this record alone, and the sum of its tag as far as it is made. Wiped afterwards.
  uint64_t token;
  uint64_t share[GRASS_GPU_SHARE_WORDS];
  uint64_t limbs[5];
  // A question for digests, or a gather's ranges: how many those are, and where the digests go.
  const uint8_t *question;
  uint64_t count;
  uint64_t levels;  // Of the page tables.
  uint64_t pieces;  // Into which a gather was cut.
  struct grass_digest *digests;
};

/// The most bytes that one question for digests may be about: what all workers read in a third of a millisecond.
#define GRASS_GPU_MAX_DIGESTED (16u << 20)

// MARK: With keys

/// Dynamic shared memory of a block of a program with keys: the first block has its keyring there, which no other block and no
/// copy by the driver reaches. Less than half of what a multiprocessor has since sm_80, so that the caches keep the rest.
#define GRASS_GPU_KEYS_SIZE (80u << 10)

/// What a program with keys is given at its launch. It lies in pinned host memory; the program copies it, and zeroes all of it.
struct grass_gpu_handover {
  uint64_t is_given;      // Until it is taken.
  uint32_t has_identity;  // Whether private_key is the device's own; else it makes one.
  uint32_t takes_lists;   // Whether a later list is taken, too.
  uint8_t seed[64];
  uint8_t private_key[32];
  uint32_t certificate_length;
  uint8_t certificate[GRASS_MAX_CERTIFICATE];
};

/// What the host says to a program with keys, and hears of it: in pinned host memory.
struct grass_gpu_door {
  // One question at a time: it lies there before `asked` counts up; once `answered` is the same, it is done.
  uint64_t asked;
  uint64_t answered;
  uint64_t released;  // Slots whose sessions are to be forgotten, a bit each.
  uint64_t has_list;  // Whether `list` is to be the list.
  struct grass_key_list list;
  // The program's.
  uint64_t newest_finding;
  uint8_t public_key[32];
  struct grass_key_events events;
  struct grass_gpu_handover handover;
};

/// What a program with keys leaves to the next: the list, and the keys of what is said to all, which both the mailbox's block and
/// the detectors' see, and the daemon asks for. Sessions and the device's own key end with each program.
struct grass_gpu_keys {
  struct grass_key_list list;
  struct grass_group group;
};

struct grass_gpu {
  // All pointers are the GPU's. `mailbox.scratch` holds a request.
  struct grass_mailbox mailbox;
  struct grass_monitors monitors;
  struct grass_machine machine;
  struct grass_parcel parcel;
  // What each stage of a run, and of the next run, is given. Two pieces of memory take turns.
  struct grass_items items[2][GRASS_MAX_STAGES + 1];
  uint32_t arrived;  // How often a worker has come to the end of a stage, or of its part of a parcel.
  const struct grass_gpu_control *control;
  uint8_t *response;           // A response's payload, response_size bytes.
  uint8_t *output;             // That of a run, which others are answered beside.
  struct grass_place *places;  // As many as ranges fit a request.
  struct grass_detectors *detectors;  // The last block's; its count is 0 where there are none.
  struct grass_gpu_keys *keys;        // With `door`, of a region with keys; else NULL.
  struct grass_gpu_door *door;
};

/// What the test of the GPU's view of host memory works on, in pinned host memory.
struct grass_gpu_canary {
  uint64_t seen;  // The GPU's answer: the last value that it saw.
};
