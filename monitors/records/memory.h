// What memory.c emits.
#pragma once

#include <stdint.h>

enum grass_memory_kind { GRASS_MEMORY_USAGE = 1 };

/// The main lines of /proc/meminfo in its order, in bytes.
struct grass_memory_usage {
  uint64_t total, free, available, buffers, cached, swap_cached;
  uint64_t active, inactive, active_anon, inactive_anon, active_file, inactive_file, unevictable, mlocked;
  uint64_t swap_total, swap_free, dirty, writeback, anon, mapped, shmem;
  uint64_t kernel_reclaimable, slab, slab_reclaimable, slab_unreclaimable, kernel_stack, page_tables;
};
_Static_assert(sizeof(struct grass_memory_usage) == 27 * 8, "one form for all who write and read it");
