// Forgetting secrets.
#pragma once

#include <stdint.h>

/// Zeroes `count` bytes at `place`, which the compiler may not leave out though nobody reads them again. What lies in
/// registers, or was copied from there to the stack, it does not reach.
void grass_wipe(void *place, uint64_t count);
