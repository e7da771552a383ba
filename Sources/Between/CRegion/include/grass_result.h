// What a monitor's run gives, as it travels from the device to whoever asked: records one after the other, and why a lane
// ended early. The runtime writes it, the remote side takes it apart.
#pragma once

#include <stdint.h>

/// Starts a record. `size` counts the payload's bytes, a multiple of 8. Kind 0 is none: it fills what room is left.
struct grass_entry {
  uint32_t kind;
  uint32_t size;
};
_Static_assert(sizeof(struct grass_entry) == 8, "part of the format of results");

/// Why a lane gave up. What it had emitted before stays, and the result is marked as partial.
enum grass_run_fault {
  GRASS_RUN_WHOLE = 0,
  GRASS_RUN_NOT_CANONICAL = 1,
  GRASS_RUN_NOT_PRESENT = 2,
  GRASS_RUN_BAD_ENTRY = 3,
  GRASS_RUN_ABSENT = 4,     // Mapped to physical memory that the device does not see.
  GRASS_RUN_UNALIGNED = 5,
  GRASS_RUN_WILD = 6,       // An address that is neither the kernel's nor the run's own.
  GRASS_RUN_STORE = 7,      // A store to the watched memory.
  GRASS_RUN_BOUNDS = 8,     // Outside a variable of the monitor's own.
  GRASS_RUN_BUDGET = 9,     // More steps than allowed.
  GRASS_RUN_FULL = 10,      // No room for another record.
  GRASS_RUN_DIVISION = 11,  // A division by zero, or one whose result does not fit.
};
