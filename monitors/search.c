// Every aligned word of physical memory that has a value: argument 0, in the bits of argument 1, or in all where that is 0.
// Finds, say, what points to an object. Emits as many places as there is room for.
#include "grass.h"
#include "records/search.h"

typedef u64 pair __attribute__((vector_size(16)));

static void check(struct grass_lane_state *run, u64 address, u64 value, u64 wanted, u64 mask) {
  if ((value & mask) != wanted) return;
  struct grass_search_word *record = grass_emit(run, GRASS_SEARCH_WORD, sizeof *record);
  record->address = address;
  record->value = value;
}

MONITOR(search) {
  u64 mask = grass_argument(run, 1) ? grass_argument(run, 1) : ~0ul, wanted = grass_argument(run, 0) & mask;
  u64 stride = grass_lanes(run) * sizeof(pair);
  for (u32 piece = 0; grass_memory_size(run, piece); piece++) {
    u64 start = grass_memory_start(run, piece), end = start + (grass_memory_size(run, piece) & ~31ul);
    for (u64 at = start + grass_lane(run) * sizeof(pair); at < end; at += 2 * stride) {
      bool has_other = at + stride < end;
      pair one = *(const pair *)grass_physical(run, at);
      pair two = *(const pair *)grass_physical(run, has_other ? at + stride : at);
      check(run, at, one[0], wanted, mask);
      check(run, at + 8, one[1], wanted, mask);
      if (!has_other) continue;
      check(run, at + stride, two[0], wanted, mask);
      check(run, at + stride + 8, two[1], wanted, mask);
    }
  }
}
