// What panic.c emits.
#pragma once

#include <stdint.h>

enum grass_panic_kind { GRASS_PANIC_STATE = 1, GRASS_PANIC_LINE = 2 };

struct grass_panic_state {
  int32_t panic_cpu;  // The CPU that panicked, -1 as long as none did.
  int32_t oops_in_progress;
  uint64_t tainted;  // Bits as in /proc/sys/kernel/tainted.
};
_Static_assert(sizeof(struct grass_panic_state) == 16, "one form for all who write and read it");

/// How many records of the log are given, and how many bytes of each text.
#define GRASS_PANIC_LINES 64
#define GRASS_PANIC_TEXT 512

/// A record of the kernel log.
struct grass_panic_line {
  uint64_t sequence;
  uint64_t time;  // Nanoseconds since boot.
  uint32_t caller;
  uint8_t level;
  uint8_t facility;
  uint16_t length;  // Of the text, which follows.
};
_Static_assert(sizeof(struct grass_panic_line) == 24, "one form for all who write and read it");
