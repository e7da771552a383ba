// What life.c emits.
#pragma once

#include <stdint.h>

enum grass_life_kind { GRASS_LIFE_HOST = 1, GRASS_LIFE_CPU = 2 };

struct grass_life_host {
  uint64_t jiffies;   // Grows by CONFIG_HZ a second, from some minutes below 2^32 on.
  int32_t panic_cpu;  // The CPU that panicked, -1 as long as none did.
  uint32_t reserved;
};
_Static_assert(sizeof(struct grass_life_host) == 16, "one form for all who write and read it");

struct grass_life_cpu {
  uint32_t cpu;
  uint32_t is_online;
  uint32_t runnable;  // Tasks that run or want to.
  uint32_t is_idle;   // It runs its idle task.
  uint64_t switches;
  uint64_t clock;  // Of its run queue, in nanoseconds: it moves with every tick and every switch.
};
_Static_assert(sizeof(struct grass_life_cpu) == 32, "one form for all who write and read it");
