// What a device does with its detectors: it runs each of them again and again, keeps what they find, and writes it into the
// region, where remote hosts read it. Freestanding, like the mailbox; one thread runs it, beside the mailbox's.
#pragma once

#include "grass_finding.h"
#include "grass_mailbox.h"

/// How often a finding that lasts has to be missed before it is closed.
#define GRASS_CLOSE_AFTER 3u
/// How often an open finding's place is written anew only for its count and when it was seen last, in nanoseconds.
#define GRASS_REFRESH_NS 1000000000ull
/// By how much more than three periods two ticks may be apart before the second counts as late, in nanoseconds.
#define GRASS_LATE_NS 200000000ull
/// By how much what was handed over may be ahead of the guest's clock before it is of another boot, in nanoseconds.
#define GRASS_AHEAD_NS 10000000000ull
/// The words that a detector may remember from tick to tick.
#define GRASS_STATE_WORDS 4096u
/// How many detectors a device runs.
#define GRASS_MAX_DETECTORS 64u
/// After so many ticks in a row that ended early, a detector is suspended.
#define GRASS_MOST_STRIKES 3u

/// When something was: by the device's clock and since 1970, in nanoseconds.
struct grass_moment {
  uint64_t device;
  uint64_t utc;
};

/// After the last words of a finding were kept they are gathered again, as often as the time since then has doubled, up to so
/// many nanoseconds: a kernel goes on to write its log for a while.
#define GRASS_WORDS_WATCH_NS 60000000000ull
/// Lanes of the first stage in which last words are gathered.
#define GRASS_WORDS_LANES 64u
/// Bytes of a kernel's name in the head of last words.
#define GRASS_KERNEL_SIZE 128u

/// A finding that is not closed, and what the device alone knows of it.
struct grass_kept {
  struct grass_finding_content content;
  uint64_t persists;
  uint64_t number;     // Of its newest entry in the log, 0 while it is not believed.
  uint64_t written;    // When its place was written last.
  uint32_t looks;      // In how many ticks, one after the other, it was seen.
  uint32_t missed;     // And since then was not.
  uint32_t flags;      // Of its sighting.
  bool is_seen;        // In this tick.
  bool is_handed;      // Who handed it over says when it ends.
};

/// A place for last words.
struct grass_words_place {
  uint64_t number;   // Of those that lie there, 0 for none.
  bool is_survived;  // The kernel went on: they are the first to go.
};

/// Of which finding last words are to be kept, and what is kept of those before.
struct grass_words_keeper {
  struct grass_words_place places[GRASS_MAX_WORDS];
  uint64_t newest;    // Number of the newest ones.
  uint64_t finding;   // Identity of the finding at hand, 0 for none.
  uint32_t detector;  // Whose it is.
  uint32_t place;     // Where its words lie, once it has some.
  bool has_place;
  // Of those that lie there: what later ones have to have more of.
  uint64_t log_head, size;
  uint32_t faulted;
  uint64_t since;     // When it was made, and when they are to be gathered next, by the device's clock.
  uint64_t next;
};

/// The findings that are not closed, and the log, of which this is the only writer.
struct grass_keeper {
  uint8_t *region;
  struct grass_header layout;  // A private copy.
  struct grass_kept *kept;     // layout.open_count of them; one with an identity of 0 is free.
  struct grass_summary *summary;
  uint32_t used;     // No finding lies at or behind this place.
  uint64_t dropped;  // Sightings for which there was no place.
  uint64_t tick;     // How many have ended.
  struct grass_moment now;
  uint64_t guest;
  uint8_t boot[16];
  bool is_late;
  bool is_soon;  // The next tick is to come sooner.
  struct grass_words_keeper words;
  const struct grass_group *group;  // What findings and last words are sealed under; NULL where all who reach the region may read them.
  uint64_t editions;
};

/// Begins with what the log has already: numbers go on from there, and what was open under another device is no more.
///
/// `kept` holds `open_count` findings, zeroed; all memory stays the caller's.
void grass_keeper_start(
    struct grass_keeper *keeper, uint8_t *region, const struct grass_header *layout, struct grass_kept *kept,
    struct grass_summary *summary);

/// Closes what a detector found that is run no more, or anew.
void grass_keeper_forget(struct grass_keeper *keeper, uint32_t detector);

/// Begins a tick. One that is late counts for nothing that has to be seen in several.
void grass_keeper_begin(struct grass_keeper *keeper, struct grass_moment now, bool is_late);
/// Takes the watched kernel's clock. With another boot than before, what was open is no more. One whose
/// memory is being erased is not taken.
void grass_keeper_take_clock(struct grass_keeper *keeper, const struct grass_host_clock *clock);
/// Takes what a detector saw in this tick.
void grass_keeper_sight(struct grass_keeper *keeper, const struct grass_sighting *sighting);
/// Takes a change of a finding that another found: a new one, how it is now, or its end. Of one of the device's own detectors it
/// takes what the finding follows from, and nothing else. What is of another boot is dropped.
void grass_keeper_take(struct grass_keeper *keeper, const struct grass_finding_content *content);
/// Ends a tick: closes what is seen no more, and says in the summary how things stand. Findings of detectors that could not
/// look in this tick, a bit each in `blind`, stay as they are.
void grass_keeper_end(struct grass_keeper *keeper, uint64_t blind, uint32_t suspended);

/// One detector among a device's monitors.
struct grass_detector_slot {
  uint32_t monitor;  // Its index among the monitors.
  uint32_t strikes;  // Ticks in a row that ended early.
  bool is_suspended;
  bool has_state;    // What it remembers is of an earlier tick of the same boot.
  char name[16];     // The start of its name, zero padded.
  uint64_t form;     // The same as long as what it remembers means the same; 0 is never the same.
};

/// The detectors of a device and what they are run with. All memory is the caller's.
struct grass_detectors {
  struct grass_keeper keeper;
  // What gathers last words: its index among the monitors, and where they are gathered, words_capacity bytes whose head comes
  // first. A capacity of 0 is none.
  uint32_t words_monitor;
  uint8_t *words;
  uint64_t words_capacity;
  uint64_t *words_state;  // GRASS_STATE_WORDS
  char kernel[GRASS_KERNEL_SIZE];  // Its release, a space and its build ID.
  struct grass_detector_slot slots[GRASS_MAX_DETECTORS];
  uint32_t count;
  const struct grass_machine *machine;
  void (*entry)(struct grass_lane_state *lane, uint32_t monitor);
  struct grass_lane_state *lane;
  struct grass_item *items;  // Twice `item_capacity`.
  uint64_t item_capacity;
  uint8_t *output;   // Where they emit what they see, output_capacity bytes.
  uint64_t output_capacity;
  uint64_t steps;    // That one detector may take in one tick.
  uint64_t *state;   // GRASS_STATE_WORDS for each detector, zeroed at first.
  struct grass_job job;
  uint64_t hypervisor;  // enum grass_hypervisor; may be set at any time.
  uint64_t period;   // Nanoseconds.
  uint64_t last;     // When the tick before began, by the device's clock.
  struct grass_inbox *inbox;  // Where findings of other detectors come in; NULL where they do not.
  // Of the tick at work: nanoseconds since the one before began, the detectors that could not look, a bit each, and how many are
  // not run any more.
  uint64_t elapsed;
  uint64_t blind;
  uint32_t suspended;
};

/// How long the next tick is to wait for, in nanoseconds: a period, or less where something may be wrong. Up to a tenth more or
/// less, by a random number, so that nobody can hide between two ticks that he knows.
static inline uint64_t grass_detectors_pause(const struct grass_detectors *detectors, uint64_t random) {
  uint64_t pause = detectors->keeper.is_soon ? detectors->period / 4 : detectors->period, jitter = pause / 10;
  return pause - jitter + (jitter ? random % (2 * jitter) : 0);
}

/// Says what the hypervisor says. May be called at any time from any thread.
void grass_detectors_set_hypervisor(struct grass_detectors *detectors, uint64_t state);

/// Runs every detector once on the calling thread, one after the other, and takes what they saw.
///
/// The first of them should be the one that emits the clock.
void grass_detectors_tick(struct grass_detectors *detectors, struct grass_moment now);

/// Puts a change of a finding where the device takes it with its next tick. Returns false where there is no room until then. One
/// thread at a time may do so.
bool grass_inbox_put(struct grass_inbox *inbox, const struct grass_finding_content *content);
