// The device program: it polls the request slots of a region, reads the watched memory, and answers. Freestanding: it
// calls nothing, allocates nothing, and takes its clock as an argument, so that any device can run it.
#pragma once

#include "grass_keyring.h"
#include "grass_region.h"
#include "grass_runtime.h"
#include "grass_segment.h"

/// How long a request whose parts disagree is given to complete before it is answered with an error.
#define GRASS_GRACE_NS 2000000ull
/// The least time between two updates of the beacon.
#define GRASS_BEACON_NS 20000ull
/// The least time between two updates of the sessions' lines.
#define GRASS_LINES_NS 1000000ull

struct grass_slot_state {
  uint64_t served;         // Sequence number of the last request answered.
  uint64_t pending;        // Sequence number of the request seen but not whole.
  uint64_t pending_since;
  uint64_t next_look;      // At a sealed request that did not open: it may not all be there yet, or come again.
  uint64_t paused_until;   // As long the host's CPUs are to stand still for who has this slot; read by other threads.
};

/// How the memory is read past the device by who has a slot: asked for by a session, made by the owner of its link.
struct grass_windows {
  uint64_t is_wanted;  // A session has asked and may; 0 again once that session has ended or may no longer.
  uint64_t is_ready;   // The rest is there, and stays as it is until this is 0 again.
  uint64_t count;
  struct grass_memory_window windows[GRASS_MAX_WINDOWS];
};

/// A run of a monitor, which the mailbox hands to workers: other threads of the device. One at a time.
///
/// The mailbox fills it in and then raises `turn`; workers run the lanes and raise `finished`; once that equals
/// `workers`, all is the mailbox's again. A GPU's workers, who meet after each stage, say it by that instead.
struct grass_job {
  uint64_t turn;
  uint32_t monitor;  // Index among the device's monitors.
  uint32_t lanes;
  uint64_t budget;
  uint64_t arguments[GRASS_ARGUMENTS];
  struct grass_output output;
  uint32_t workers;
  uint32_t finished;
  uint32_t faulted;
  uint32_t flags;
  struct grass_lane_fault faults[GRASS_MAX_FAULTS];
  // What its lanes remember from run to run; none where a remote host asked for the run.
  uint64_t *state;
  uint64_t state_words;
};

/// How the detectors stand: written by who keeps the findings, read by the mailbox, a word at a time.
struct grass_summary {
  uint64_t tick;            // How many ticks of the detectors have ended.
  uint64_t newest_finding;  // Number of the newest finding, 0 while there is none.
  uint64_t worst;           // enum grass_severity, of the open findings.
  uint64_t open;
  uint64_t suspended;
};

/// Runs a job's lanes on the calling thread, stage by stage, one after the other.
///
/// `entry` runs a monitor's lane. `items` holds twice `capacity` items. All lanes together take at most `steps` steps.
void grass_job_run(
    struct grass_job *job, const struct grass_machine *machine, void (*entry)(struct grass_lane_state *lane, uint32_t monitor),
    struct grass_lane_state *state, struct grass_item *items, uint64_t capacity, uint64_t steps);

/// What a mailbox that runs monitors has, besides.
struct grass_monitors {
  const struct grass_monitor_answer *names;
  uint32_t count;
  uint32_t most_workers;
  uint32_t lanes_per_worker;  // A worker runs as many at once.
  uint32_t default_lanes;
  uint64_t most_budget;
  struct grass_job job;
  // The request that the job answers.
  bool is_running;
  uint32_t slot;
  uint64_t sequence;
  uint64_t since;
};

struct grass_mailbox {
  uint8_t *region;
  struct grass_header layout;  // A private copy: nothing decides by what lies in the region.
  const struct grass_mapped_segment *segments;
  uint64_t segment_count;
  uint64_t last_segment;
  uint8_t *scratch;  // Private copy of the request at work, layout.request_size bytes.
  uint64_t kernel_hint;
  // Of the answer at work: the sums over bytes summed_from..<summed_end of its payload.
  uint64_t sums[2], summed_from, summed_end;
  uint64_t served, refused, torn;
  uint64_t counter, beacon_time, lines_time;
  struct grass_summary summary;
  uint64_t detector_features;  // What detectors add to the answers to info.
  struct grass_windows *windows;  // Of each slot; NULL where nobody reads past the device.
  uint64_t can_pause, hypervisor;   // Whether somebody pauses the host where that is asked for, and enum grass_hypervisor.
  struct grass_monitors *monitors;  // NULL where none can be run.
  struct grass_keyring *keyring;    // NULL where sessions need no keys.
  uint8_t *answer;                  // With keys: where answers are put together before they are sealed, response_size bytes.
  uint64_t released[(GRASS_MAX_SLOTS + 63) / 64];  // Slots whose sessions are to be forgotten, a bit each.
  struct grass_slot_state slots[GRASS_MAX_SLOTS];
};

/// Prepares a mailbox as `grass_mailbox_start` does, but does not touch the region, which may be another device's. The
/// caller must then call `grass_mailbox_skip` for each slot.
bool grass_mailbox_prepare(
    struct grass_mailbox *mailbox, void *region, const struct grass_header *layout,
    const struct grass_mapped_segment *segments, uint64_t segment_count, void *scratch);

/// Takes the request with this sequence number, which lies in the slot now, as answered: it was not asked of this mailbox.
void grass_mailbox_skip(struct grass_mailbox *mailbox, uint32_t slot, uint64_t sequence);

/// Prepares a mailbox over a region that `grass_layout` laid out, and lights the beacon.
///
/// `segments` are in ascending order without overlap. All memory stays the caller's and must outlive the mailbox.
/// `scratch` holds at least `request_size` bytes, aligned to 8. Returns false where the layout is not valid.
bool grass_mailbox_start(
    struct grass_mailbox *mailbox, void *region, const struct grass_header *layout,
    const struct grass_mapped_segment *segments, uint64_t segment_count, void *scratch, uint64_t now);

/// Looks at every slot once, and answers the requests found there. `now` is the device's clock in nanoseconds.
///
/// Returns the number of requests answered. Bounded: one request a slot, each with as many ranges as its slot holds
/// and as many bytes as its response does.
uint32_t grass_mailbox_step(struct grass_mailbox *mailbox, uint64_t now);

/// Lets a mailbox run monitors. `monitors` stays the caller's, must outlive the mailbox, and nobody else uses anything of
/// it but the job. `output` holds at least `response_size` bytes, aligned to 8.
void grass_mailbox_set_monitors(struct grass_mailbox *mailbox, struct grass_monitors *monitors, uint8_t *output);

/// Whether a job waits for workers: the last `turn` they saw tells.
uint64_t grass_job_turn(const struct grass_job *job);

/// The turn that says to workers that none comes any more.
#define GRASS_JOB_END (~0ull)
void grass_job_end(struct grass_job *job);

/// What a worker says when all its lanes have ended.
void grass_job_finish(struct grass_job *job);

/// Notes that a lane ended early, from any worker.
static inline void grass_job_note(struct grass_job *job, const struct grass_lane_state *lane) {
  uint32_t index = __atomic_fetch_add(&job->faulted, 1, __ATOMIC_RELAXED);
  if (index >= GRASS_MAX_FAULTS) return;
  job->faults[index] = (struct grass_lane_fault){
      .fault = lane->fault,
      .level = lane->fault_level,
      .lane = lane->number,
      .address = lane->fault_address,
      .entry = lane->fault_entry,
  };
}

/// A session's line that says how the detectors stand. All say the same; with keys each is sealed under its session's own.
static inline struct grass_session_line grass_make_line(
    uint64_t counter, uint64_t clock, uint32_t state, struct grass_summary now) {
  struct grass_session_line line = {
      .counter = counter,
      .clock = clock,
      .detector_tick = now.tick,
      .newest_finding = now.newest_finding,
      .state = (uint8_t)state,
      .worst_severity = (uint8_t)now.worst,
      .open = now.open < 0xffff ? (uint16_t)now.open : 0xffff,
      .suspended = now.suspended < 0xffff ? (uint16_t)now.suspended : 0xffff,
      .counter_end = counter,
  };
  grass_check(line.check, counter, &line, offsetof(struct grass_session_line, check));
  return line;
}

/// Has sessions need keys: those of `keyring`, which was started with this region's layout. It stays the caller's and must outlive
/// the mailbox, and nobody else uses it from then on but by what says so. `answer` holds `response_size` bytes, aligned to 8.
void grass_mailbox_set_keyring(struct grass_mailbox *mailbox, struct grass_keyring *keyring, uint8_t *answer);

/// Has the sessions forgotten that had a slot, in the mailbox's next round. May be called at any time from any thread.
void grass_mailbox_release(struct grass_mailbox *mailbox, uint32_t slot);
/// Whether that is done.
bool grass_mailbox_has_released(const struct grass_mailbox *mailbox, uint32_t slot);

/// Says in the beacon that nobody polls from now on.
void grass_mailbox_stop(struct grass_mailbox *mailbox, uint64_t now);

/// Stores the physical address of the kernel's VMCOREINFO note, for the answers to info. May be called at any time
/// from any thread.
void grass_mailbox_set_kernel_hint(struct grass_mailbox *mailbox, uint64_t address);

/// Has sessions with the right to be told how they read the memory past the device: `windows` has an entry, zeroed, for each slot,
/// stays the caller's, and must outlive the mailbox. Before the first step.
void grass_mailbox_set_windows(struct grass_mailbox *mailbox, struct grass_windows *windows);

/// Says what the hypervisor says of the host, enum grass_hypervisor, and that requests to pause it are heeded. May be called at any
/// time from any thread.
void grass_mailbox_set_hypervisor(struct grass_mailbox *mailbox, uint64_t state);
/// Whether some session wants the host's CPUs to stand still at `now`, by the device's clock. May be called at any time from any
/// thread.
bool grass_mailbox_wants_pause(const struct grass_mailbox *mailbox, uint64_t now);

/// Says what detectors do, of enum grass_feature, for the answers to info. May be called at any time from any thread.
void grass_mailbox_set_detector_features(struct grass_mailbox *mailbox, uint64_t features);
