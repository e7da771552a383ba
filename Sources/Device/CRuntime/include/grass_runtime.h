// What a monitor runs on: how a device reaches the watched memory, and the state of one lane of one run. The CPU device
// and the GPU share it; Swift imports it; LLView compiles it to bitcode and links it into every monitor.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "grass_fault.h"
#include "grass_paging.h"
#include "grass_result.h"
#include "grass_segment.h"

/// The watched machine and its kernel. Constant while monitors run.
struct grass_machine {
  const struct grass_mapped_segment *segments;  // In ascending order, without overlap.
  uint64_t segment_count;
  uint64_t root;    // Physical address of the kernel's top page table.
  uint64_t format;  // Of the page tables: enum grass_page_format, one of x86-64's.
  uint64_t slide;   // What the kernel added to its image's addresses when it booted.
  // Ranges of virtual addresses mapped linearly, proven by a walk beforehand. A count of 0 turns one off.
  uint64_t direct_start, direct_count;
  uint64_t image_start, image_count, image_physical;
};

/// Where the lanes of a run put their records: `used` bytes of entries, or `capacity` where that is less, each a `grass_entry` and its payload.
struct grass_output {
  uint8_t *bytes;  // Aligned to 8.
  uint64_t capacity;
  uint64_t used;
};

/// A place to look at in the next stage, with what the monitor wants to know there.
struct grass_item {
  uint64_t words[2];
};

/// What the lanes of a stage leave for the next one; each item gets GRASS_ITEM_LANES lanes there.
struct grass_items {
  struct grass_item *items;
  uint64_t capacity;
  uint64_t count;  // May pass the capacity for a moment.
};

#define GRASS_ITEM_LANES 64u
#define GRASS_MAX_STAGES 16u

/// Virtual addresses that the kernel has mapped linearly to memory which lies in one piece.
struct grass_window {
  uint64_t start;
  uint64_t count;
  const uint8_t *pointer;
};

/// The window that a machine's direct map has into a segment; empty where it does not reach that far.
static inline struct grass_window grass_window_into(
    const struct grass_machine *machine, const struct grass_mapped_segment *mapped) {
  const struct grass_segment *segment = &mapped->segment;
  if (segment->start >= machine->direct_count) return (struct grass_window){0, 0, 0};
  uint64_t count = machine->direct_count - segment->start;
  return (struct grass_window){
      machine->direct_start + segment->start, count < segment->count ? count : segment->count, mapped->bytes};
}

/// The widest one: where lanes look first.
static inline struct grass_window grass_widest_window(const struct grass_machine *machine) {
  struct grass_window widest = {0, 0, 0};
  for (uint64_t index = 0; index < machine->segment_count; index++) {
    struct grass_window window = grass_window_into(machine, &machine->segments[index]);
    if (window.count > widest.count) widest = window;
  }
  return widest;
}

/// What all lanes of a stage share.
struct grass_order {
  const struct grass_machine *machine;
  struct grass_window near;  // The widest, for lanes that do not walk.
  struct grass_output *output;
  struct grass_items *next;
  const uint64_t *arguments;  // Four of them.
  uint32_t stage;
  uint32_t lanes;  // That share the run in stage 0, and an item after that.
  bool walks;      // For each load anew, to measure what the short ways give.
  uint64_t *state;  // What lanes remember from run to run; NULL where they may not.
  uint64_t state_words;
};

#define GRASS_TLB_ENTRIES 16u

/// One lane of one run.
struct grass_lane_state {
  const struct grass_machine *machine;
  struct grass_output *output;
  const struct grass_order *order;
  const struct grass_item *item;  // NULL in stage 0.
  uint32_t number;  // Of the run's lanes; after stage 0, of the item's.
  bool walks;
  // Where loads are answered without a call. Empty after a fault, and where each load is to walk.
  struct grass_window near;
  uint64_t budget;  // Steps that are left; a step is one pass of a loop.
  uint32_t fault;   // enum grass_fault, the first one.
  uint32_t fault_level;
  uint64_t fault_address;
  uint64_t fault_entry;
  uint64_t last_segment;
  uint64_t tlb_filled;  // A bit for each entry below.
  struct {
    uint64_t page;  // Virtual page number.
    const uint8_t *pointer;
  } tlb[GRASS_TLB_ENTRIES];
  // Where loads and stores go after a fault, until the next loop or return ends the lane. Zeroed before each load.
  uint64_t sink[8];
};

/// Prepares a lane. What is not set here is never read before it is written: a GPU starts many thousands at once.
static inline void grass_lane_start(
    struct grass_lane_state *lane, const struct grass_order *order, const struct grass_item *item, uint32_t number,
    uint64_t budget) {
  lane->machine = order->machine;
  lane->output = order->output;
  lane->order = order;
  lane->item = item;
  lane->number = number;
  lane->walks = order->walks;
  lane->near = order->near;
  if (order->walks) lane->near.count = 0;
  lane->budget = budget;
  lane->fault = lane->fault_level = 0;
  lane->fault_address = lane->fault_entry = 0;
  lane->last_segment = 0;
  lane->tlb_filled = 0;
}

// MARK: - What monitors call

/// Room for a record of `size` bytes, zeroed; the run ends where there is none.
void *grass_emit(struct grass_lane_state *lane, uint32_t kind, uint32_t size);
/// Which of the run's lanes this is, from 0; after stage 0, which of the item's.
uint32_t grass_lane(const struct grass_lane_state *lane);
/// How many lanes work on this run; after stage 0, on this item.
uint32_t grass_lanes(const struct grass_lane_state *lane);
/// How many stages have ended.
uint32_t grass_stage(const struct grass_lane_state *lane);
/// A word of the lane's item; 0 for any other, and in stage 0.
uint64_t grass_item(const struct grass_lane_state *lane, uint32_t index);
/// Leaves an item for the next stage; the run ends where there is no room.
void grass_next(struct grass_lane_state *lane, uint64_t first, uint64_t second);
/// One of the four numbers that the run was given; 0 for any other.
uint64_t grass_argument(const struct grass_lane_state *lane, uint32_t index);
/// A word that the monitor remembered in an earlier run; 0 for one that it never did, and where it remembers nothing.
uint64_t grass_recall(const struct grass_lane_state *lane, uint64_t index);
/// Remembers a word for later runs. The run ends where there is no such word.
void grass_remember(struct grass_lane_state *lane, uint64_t index, uint64_t value);
/// Counts a remembered word up, of lanes that run at once each its own number. Returns what it was.
uint64_t grass_count(struct grass_lane_state *lane, uint64_t index);
/// The watched physical memory: the start of one of its pieces, which ascend, and its size, 0 after the last one.
uint64_t grass_memory_start(const struct grass_lane_state *lane, uint32_t index);
uint64_t grass_memory_size(const struct grass_lane_state *lane, uint32_t index);
/// Where the kernel has a physical address mapped linearly. Ends the run where no such mapping is proven.
const void *grass_physical(struct grass_lane_state *lane, uint64_t address);

// MARK: - What LLView puts into monitors

/// Where this boot of the kernel has what its image was linked with at an address.
const void *grass_symbol(struct grass_lane_state *lane, uint64_t linked);
/// Where `size` bytes at an address can be loaded from, on one page as they are aligned.
const void *grass_load_at(struct grass_lane_state *lane, uint64_t address, uint64_t size, uint64_t alignment);
/// Where `count` fields can be loaded from, each as far from there as it is from `root` + `start`: in the watched memory
/// where the `size` bytes that hold them lie in one piece and `root` is aligned, else in `staging`, copied. A field is
/// three numbers: its offset from `root`, its size and its alignment, which divides the offset.
const uint8_t *grass_reach(
    struct grass_lane_state *lane, uint64_t root, int64_t start, uint64_t size, uint64_t alignment, const int64_t *fields,
    uint64_t count, uint8_t *staging);
/// Where `size` bytes can be stored: only in the run's own output.
void *grass_store_at(struct grass_lane_state *lane, uint64_t address, uint64_t size, uint64_t alignment);
/// `address`, where all `size` bytes lie in the variable at `base`.
void *grass_within(struct grass_lane_state *lane, uint64_t address, uint64_t size, void *base, uint64_t base_size);
/// memcpy and memmove. A base of NULL stands for an address that is not known to lie in a variable.
void grass_copy(
    struct grass_lane_state *lane, uint64_t to, void *to_base, uint64_t to_size, uint64_t from, void *from_base,
    uint64_t from_size, uint64_t count);
/// memset.
void grass_fill(struct grass_lane_state *lane, uint64_t to, void *to_base, uint64_t to_size, uint8_t value, uint64_t count);
/// Counts one pass of a loop. False ends the run.
bool grass_step(struct grass_lane_state *lane);
/// A division's operands do not allow it: ends the run at the next loop, dividing by one.
void grass_bad_division(struct grass_lane_state *lane, bool is_bad);
