// A piece of physical memory: once, for answers to remote hosts, for the programs of devices, and for Swift. Freestanding.
#pragma once

#include <stdint.h>

/// `count` bytes from the physical address `start` on.
struct grass_segment {
  uint64_t start;
  uint64_t count;
};
_Static_assert(sizeof(struct grass_segment) == 16, "part of the protocol");

/// A piece of the watched host's memory, where the device sees it.
struct grass_mapped_segment {
  struct grass_segment segment;
  const uint8_t *bytes;
  // Set to 1 by the memory's owner before bytes can be read that are not the host's any more; NULL where they cannot.
  const uint32_t *lost;
};
_Static_assert(sizeof(struct grass_mapped_segment) == 32, "Swift makes arrays of it");

/// Where the device sees `length` bytes at a physical address: in `segment`. NULL where it does not hold all of them.
static inline const uint8_t *grass_segment_bytes(
    const struct grass_mapped_segment *segment, uint64_t address, uint64_t length) {
  uint64_t offset = address - segment->segment.start;
  return offset < segment->segment.count && length <= segment->segment.count - offset ? segment->bytes + offset : 0;
}

/// The number of the segment that an address lies in, among `count` in ascending order without overlap; `count` where it is in
/// none. `first` is looked at first, where it is one.
static inline uint64_t grass_segments_find(
    const struct grass_mapped_segment *segments, uint64_t count, uint64_t address, uint64_t first) {
  uint64_t low = 0, high = count, index = first < count ? first : count / 2;
  while (low < high) {
    const struct grass_segment *segment = &segments[index].segment;
    if (address < segment->start) high = index;
    else if (address - segment->start >= segment->count) low = index + 1;
    else return index;
    index = low + (high - low) / 2;
  }
  return count;
}
