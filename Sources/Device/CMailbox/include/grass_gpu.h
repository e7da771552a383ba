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

/// A long answer of a run, which the workers send together.
struct grass_parcel {
  uint64_t length;  // Of its payload; 0 while the job is to run lanes.
  uint64_t sums[2];
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
  struct grass_place *places;  // As many as ranges fit a request.
  struct grass_detectors *detectors;  // The last block's; its count is 0 where there are none.
};

/// What the test of the GPU's view of host memory works on, in pinned host memory.
struct grass_gpu_canary {
  uint64_t seen;  // The GPU's answer: the last value that it saw.
};
