// What a monitor's run gives, as it travels from the device to whoever asked: records one after the other. The
// runtime writes it, the remote side takes it apart.
#pragma once

#include <stdint.h>

/// Starts a record. `size` counts the payload's bytes, a multiple of 8. Kind 0 is none: it fills what room is left.
struct grass_entry {
  uint32_t kind;
  uint32_t size;
};
_Static_assert(sizeof(struct grass_entry) == 8, "part of the format of results");
