#include "grass_runtime.h"

// Every address that a monitor follows comes from watched memory and may be wrong or made to hurt. So each is judged
// here, and what is judged is what is used. After the first fault everything goes to the lane's sink, and the next loop
// ends the lane. A walk takes as many steps as there are levels.
//
// What nearly every load does is short and goes into the monitor at each of them. The rest is called.

#define PAGE_SIZE (1ull << PAGE_BITS)
/// Addresses that are translated one by one are remembered by pages of this size, the smallest of all formats.
#define PAGE_BITS 12u

#define CALLED __attribute__((noinline))

CALLED static void fail(struct grass_lane_state *lane, uint32_t fault, uint64_t address) {
  if (lane->fault) return;
  lane->fault = fault;
  lane->fault_address = address;
  lane->near.count = 0;
}

CALLED static void *sink(struct grass_lane_state *lane) {
  for (unsigned index = 0; index < sizeof lane->sink / sizeof lane->sink[0]; index++) lane->sink[index] = 0;
  return lane->sink;
}

/// Where the device sees `count` bytes at a physical address, or NULL where no segment holds all of them.
CALLED static const uint8_t *search(struct grass_lane_state *lane, uint64_t physical, uint64_t count) {
  const struct grass_machine *machine = lane->machine;
  uint64_t index = grass_segments_find(machine->segments, machine->segment_count, physical, lane->last_segment);
  if (index == machine->segment_count) return 0;
  const uint8_t *bytes = grass_segment_bytes(&machine->segments[index], physical, count);
  if (bytes) lane->last_segment = index;
  return bytes;
}

/// The same; the segment that the last one was in comes first.
static const uint8_t *locate(struct grass_lane_state *lane, uint64_t physical, uint64_t count) {
  if (lane->last_segment < lane->machine->segment_count) {
    const uint8_t *bytes = grass_segment_bytes(&lane->machine->segments[lane->last_segment], physical, count);
    if (bytes) return bytes;
  }
  return search(lane, physical, count);
}

/// What comes next often lies where the last segment is, too.
static void look_there(struct grass_lane_state *lane) {
  lane->near = grass_window_into(lane->machine, &lane->machine->segments[lane->last_segment]);
}

static bool load_entry(void *lane, uint64_t place, uint64_t *entry) {
  const uint8_t *pointer = locate(lane, place, GRASS_PAGE_ENTRY);
  if (pointer) *entry = *(const volatile uint64_t *)pointer;
  return pointer;
}

/// Walks the kernel's page tables. Returns whether the address is mapped, else the fault is noted.
static bool walk(struct grass_lane_state *lane, uint64_t address, uint64_t *physical) {
  const struct grass_machine *machine = lane->machine;
  struct grass_page_walk walk;
  enum grass_fault fault = grass_page_walk(
      grass_page_layout_x86_64(grass_page_levels_x86_64(machine->format)), machine->root, address, load_entry, lane,
      &walk);
  *physical = walk.physical;
  if (!fault) return true;
  if (!lane->fault) {
    lane->fault_level = walk.level;
    lane->fault_entry = walk.entry;
  }
  fail(lane, fault, address);
  return false;
}

/// Where the device sees `size` bytes of the watched kernel that lie on one page, or NULL with the fault noted.
CALLED static const uint8_t *translate(struct grass_lane_state *lane, uint64_t address, uint64_t size) {
  const struct grass_machine *machine = lane->machine;
  uint64_t physical;
  bool is_direct = false;
  if (lane->walks) {
    if (!walk(lane, address, &physical)) return 0;
  } else if (address - machine->direct_start < machine->direct_count) {
    physical = address - machine->direct_start;
    is_direct = true;
  } else if (address - machine->image_start < machine->image_count) {
    physical = address - machine->image_start + machine->image_physical;
  } else {
    uint64_t page = address >> PAGE_BITS;
    unsigned way = page % GRASS_TLB_ENTRIES;
    if ((lane->tlb_filled >> way & 1) && lane->tlb[way].page == page)
      return lane->tlb[way].pointer + (address & (PAGE_SIZE - 1));
    if (!walk(lane, address, &physical)) return 0;
    const uint8_t *whole = locate(lane, physical & ~(PAGE_SIZE - 1), PAGE_SIZE);
    if (whole) {
      lane->tlb_filled |= 1ull << way;
      lane->tlb[way].page = page;
      lane->tlb[way].pointer = whole;
      return whole + (address & (PAGE_SIZE - 1));
    }
  }
  const uint8_t *pointer = locate(lane, physical, size);
  if (!pointer) fail(lane, GRASS_FAULT_ABSENT, address);
  else if (is_direct) look_there(lane);
  return pointer;
}

static bool is_kernel(uint64_t address) { return address >> 63; }

static bool is_inside(uint64_t address, uint64_t size, uint64_t start, uint64_t count) {
  return size <= count && address - start <= count - size;
}

static bool is_output(struct grass_lane_state *lane, uint64_t address, uint64_t size) {
  return is_inside(address, size, (uint64_t)(uintptr_t)lane->output->bytes, lane->output->capacity);
}

const void *grass_symbol(struct grass_lane_state *lane, uint64_t linked) {
  return (const void *)(uintptr_t)(linked + lane->machine->slide);
}

CALLED static const void *load_slowly(struct grass_lane_state *lane, uint64_t address, uint64_t size, uint64_t alignment) {
  if (lane->fault) return sink(lane);
  if (address & (alignment - 1)) {
    fail(lane, GRASS_FAULT_UNALIGNED, address);
  } else if (is_kernel(address)) {
    const uint8_t *pointer = translate(lane, address, size);
    if (pointer) return pointer;
  } else if (is_output(lane, address, size)) {
    return (const void *)(uintptr_t)address;
  } else {
    fail(lane, GRASS_FAULT_WILD, address);
  }
  return sink(lane);
}

/// Whether the window holds `size` bytes at an offset, all of whose questions are asked at once.
static bool is_near(const struct grass_lane_state *lane, uint64_t offset, uint64_t size) {
  return (offset < lane->near.count) & (size <= lane->near.count - offset);
}

const void *grass_load_at(struct grass_lane_state *lane, uint64_t address, uint64_t size, uint64_t alignment) {
  uint64_t offset = address - lane->near.start;
  if (is_near(lane, offset, size) & !(address & (alignment - 1))) return lane->near.pointer + offset;
  return load_slowly(lane, address, size, alignment);
}

CALLED static const uint8_t *reach_slowly(
    struct grass_lane_state *lane, uint64_t root, int64_t start, uint64_t size, uint64_t alignment, const int64_t *fields,
    uint64_t count, uint8_t *staging) {
  const struct grass_machine *machine = lane->machine;
  uint64_t address = root + (uint64_t)start, physical = ~0ull;
  if (!lane->walks && !lane->fault && !(root & (alignment - 1))) {
    bool is_direct = address - machine->direct_start < machine->direct_count;
    if (is_direct) physical = address - machine->direct_start;
    else if (address - machine->image_start < machine->image_count)
      physical = address - machine->image_start + machine->image_physical;
    const uint8_t *whole = ~physical ? locate(lane, physical, size) : 0;
    if (whole && is_direct) look_there(lane);
    if (whole) return whole;
  }
  for (uint64_t index = 0; index < count; index++, fields += 3) {
    const uint8_t *from =
        grass_load_at(lane, root + (uint64_t)fields[0], (uint64_t)fields[1], (uint64_t)fields[2]);
    uint8_t *to = staging + (fields[0] - start);
    for (int64_t byte = 0; byte < fields[1]; byte += fields[2])
      switch (fields[2]) {
      case 1: to[byte] = *(const volatile uint8_t *)(from + byte); break;
      case 2: *(uint16_t *)(to + byte) = *(const volatile uint16_t *)(from + byte); break;
      case 4: *(uint32_t *)(to + byte) = *(const volatile uint32_t *)(from + byte); break;
      default:
        for (int64_t word = byte; word < byte + fields[2]; word += 8)
          *(uint64_t *)(to + word) = *(const volatile uint64_t *)(from + word);
      }
  }
  return staging;
}

const uint8_t *grass_reach(
    struct grass_lane_state *lane, uint64_t root, int64_t start, uint64_t size, uint64_t alignment, const int64_t *fields,
    uint64_t count, uint8_t *staging) {
  uint64_t offset = root + (uint64_t)start - lane->near.start;
  if (is_near(lane, offset, size) & !(root & (alignment - 1))) return lane->near.pointer + offset;
  return reach_slowly(lane, root, start, size, alignment, fields, count, staging);
}

CALLED static void *refuse_store(struct grass_lane_state *lane, uint64_t address, uint64_t alignment) {
  if (lane->fault) return sink(lane);
  if (address & (alignment - 1)) fail(lane, GRASS_FAULT_UNALIGNED, address);
  else fail(lane, is_kernel(address) ? GRASS_FAULT_STORE : GRASS_FAULT_WILD, address);
  return sink(lane);
}

void *grass_store_at(struct grass_lane_state *lane, uint64_t address, uint64_t size, uint64_t alignment) {
  if (!lane->fault && !(address & (alignment - 1)) && is_output(lane, address, size)) return (void *)(uintptr_t)address;
  return refuse_store(lane, address, alignment);
}

void *grass_within(struct grass_lane_state *lane, uint64_t address, uint64_t size, void *base, uint64_t base_size) {
  if (is_inside(address, size, (uint64_t)(uintptr_t)base, base_size)) return (void *)(uintptr_t)address;
  fail(lane, GRASS_FAULT_BOUNDS, address - (uint64_t)(uintptr_t)base);
  return sink(lane);
}

/// Where up to `count` bytes can be copied from or to, and how many of them: up to the page's end in watched memory.
static uint8_t *stretch(
    struct grass_lane_state *lane, uint64_t address, void *base, uint64_t base_size, bool is_store, uint64_t *count) {
  if (base) {
    if (is_inside(address, *count, (uint64_t)(uintptr_t)base, base_size)) return (uint8_t *)(uintptr_t)address;
    fail(lane, GRASS_FAULT_BOUNDS, address - (uint64_t)(uintptr_t)base);
  } else if (!is_kernel(address)) {
    if (is_output(lane, address, *count)) return (uint8_t *)(uintptr_t)address;
    fail(lane, GRASS_FAULT_WILD, address);
  } else if (is_store) {
    fail(lane, GRASS_FAULT_STORE, address);
  } else {
    uint64_t left = PAGE_SIZE - (address & (PAGE_SIZE - 1));
    if (*count > left) *count = left;
    return (uint8_t *)(uintptr_t)translate(lane, address, *count);
  }
  return 0;
}

CALLED void grass_copy(
    struct grass_lane_state *lane, uint64_t to, void *to_base, uint64_t to_size, uint64_t from, void *from_base,
    uint64_t from_size, uint64_t count) {
  while (count > 0 && !lane->fault) {
    uint64_t part = count;
    const uint8_t *source = stretch(lane, from, from_base, from_size, false, &part);
    if (!source) return;
    uint8_t *target = stretch(lane, to, to_base, to_size, true, &part);
    if (!target) return;
    if (((uintptr_t)source & 7) == 0 && ((uintptr_t)target & 7) == 0 && target <= source) {
      uint64_t words = part / 8;
      for (uint64_t index = 0; index < words; index++)
        ((uint64_t *)target)[index] = ((const volatile uint64_t *)source)[index];
      for (uint64_t index = words * 8; index < part; index++) target[index] = ((const volatile uint8_t *)source)[index];
    } else if (target <= source) {
      for (uint64_t index = 0; index < part; index++) target[index] = ((const volatile uint8_t *)source)[index];
    } else {
      for (uint64_t index = part; index > 0; index--)
        target[index - 1] = ((const volatile uint8_t *)source)[index - 1];
    }
    from += part;
    to += part;
    count -= part;
  }
}

CALLED void grass_fill(struct grass_lane_state *lane, uint64_t to, void *to_base, uint64_t to_size, uint8_t value, uint64_t count) {
  if (lane->fault) return;
  uint8_t *target = stretch(lane, to, to_base, to_size, true, &count);
  if (!target) return;
  for (uint64_t index = 0; index < count; index++) target[index] = value;
}

bool grass_step(struct grass_lane_state *lane) {
  if (lane->fault) return false;
  if (lane->budget == 0) {
    fail(lane, GRASS_FAULT_BUDGET, 0);
    return false;
  }
  lane->budget--;
  return true;
}

void grass_bad_division(struct grass_lane_state *lane, bool is_bad) {
  if (is_bad) fail(lane, GRASS_FAULT_DIVISION, 0);
}

void *grass_emit(struct grass_lane_state *lane, uint32_t kind, uint32_t size) {
  if (lane->fault) return 0;
  struct grass_output *output = lane->output;
  uint64_t padded = ((uint64_t)size + 7) & ~7ull, whole = sizeof(struct grass_entry) + padded;
  // What could never fit takes nothing from others.
  uint64_t at = whole > output->capacity ? whole : __atomic_fetch_add(&output->used, whole, __ATOMIC_RELAXED);
  if (at >= output->capacity || whole > output->capacity - at) {
    // Room is never given back: lanes at work elsewhere would take it twice. The one lane that meets the end fills what
    // is left.
    if (at < output->capacity) {
      uint64_t *rest = (uint64_t *)(output->bytes + at), count = (output->capacity - at) / 8;
      for (uint64_t index = 1; index < count; index++) rest[index] = 0;
      *(struct grass_entry *)rest = (struct grass_entry){.kind = 0, .size = (uint32_t)(count - 1) * 8};
    }
    fail(lane, GRASS_FAULT_FULL, 0);
    return 0;
  }
  uint64_t *words = (uint64_t *)(output->bytes + at);
  for (uint64_t index = 1; index < whole / 8; index++) words[index] = 0;
  *(struct grass_entry *)words = (struct grass_entry){.kind = kind, .size = (uint32_t)padded};
  return words + 1;
}

uint32_t grass_lane(const struct grass_lane_state *lane) { return lane->number; }

uint32_t grass_lanes(const struct grass_lane_state *lane) { return lane->order->lanes; }

uint32_t grass_stage(const struct grass_lane_state *lane) { return lane->order->stage; }

uint64_t grass_item(const struct grass_lane_state *lane, uint32_t index) {
  return lane->item && index < 2 ? lane->item->words[index] : 0;
}

void grass_next(struct grass_lane_state *lane, uint64_t first, uint64_t second) {
  if (lane->fault) return;
  struct grass_items *next = lane->order->next;
  uint64_t index = __atomic_fetch_add(&next->count, 1, __ATOMIC_RELAXED);
  if (index < next->capacity) {
    next->items[index] = (struct grass_item){{first, second}};
  } else {
    __atomic_fetch_sub(&next->count, 1, __ATOMIC_RELAXED);
    fail(lane, GRASS_FAULT_FULL, 0);
  }
}

uint64_t grass_argument(const struct grass_lane_state *lane, uint32_t index) { return index < 4 ? lane->order->arguments[index] : 0; }

uint64_t grass_recall(const struct grass_lane_state *lane, uint64_t index) {
  const struct grass_order *order = lane->order;
  return index < order->state_words ? order->state[index] : 0;
}

void grass_remember(struct grass_lane_state *lane, uint64_t index, uint64_t value) {
  const struct grass_order *order = lane->order;
  if (lane->fault) return;
  if (index < order->state_words) order->state[index] = value;
  else fail(lane, GRASS_FAULT_BOUNDS, index);
}

uint64_t grass_count(struct grass_lane_state *lane, uint64_t index) {
  const struct grass_order *order = lane->order;
  if (lane->fault) return 0;
  if (index < order->state_words) return __atomic_fetch_add(&order->state[index], 1, __ATOMIC_RELAXED);
  fail(lane, GRASS_FAULT_BOUNDS, index);
  return 0;
}

uint64_t grass_memory_start(const struct grass_lane_state *lane, uint32_t index) {
  return index < lane->machine->segment_count ? lane->machine->segments[index].segment.start : 0;
}

uint64_t grass_memory_size(const struct grass_lane_state *lane, uint32_t index) {
  return index < lane->machine->segment_count ? lane->machine->segments[index].segment.count : 0;
}

const void *grass_physical(struct grass_lane_state *lane, uint64_t address) {
  if (address < lane->machine->direct_count) return (const void *)(uintptr_t)(lane->machine->direct_start + address);
  fail(lane, GRASS_FAULT_ABSENT, address);
  return 0;
}
