// The walk of grass_paging.h over bytes that a test gives.
#pragma once

#include "grass_paging.h"

/// Walks as a device does that knows its format when it is compiled, where that is x86-64's, else as one that does not.
/// `bytes` are the physical memory from 0 on.
enum grass_fault page_walk(
    uint32_t format, uint64_t root, uint64_t address, const uint8_t *bytes, uint64_t count, struct grass_page_walk *walk);
