#include "page_walk.h"

struct memory {
  const uint8_t *bytes;
  uint64_t count;
};

static bool load(void *context, uint64_t place, uint64_t *entry) {
  const struct memory *memory = context;
  if (memory->count < 8 || place > memory->count - 8) return false;
  __builtin_memcpy(entry, memory->bytes + place, 8);
  return true;
}

enum grass_fault page_walk(
    uint32_t format, uint64_t root, uint64_t address, const uint8_t *bytes, uint64_t count,
    struct grass_page_walk *walk) {
  struct memory memory = {bytes, count};
  switch (format) {
  case GRASS_PAGES_X86_64_4: return grass_page_walk(grass_page_layout_x86_64(4), root, address, load, &memory, walk);
  case GRASS_PAGES_X86_64_5: return grass_page_walk(grass_page_layout_x86_64(5), root, address, load, &memory, walk);
  default: return grass_page_walk(grass_page_layout_of(format), root, address, load, &memory, walk);
  }
}
