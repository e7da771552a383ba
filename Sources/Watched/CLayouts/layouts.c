#include "grass_digest.h"
#include "grass_paging.h"
#include "grass_segment.h"

// Numbers that travel between hosts.
_Static_assert(GRASS_PAGES_X86_64_4 == 1 && GRASS_PAGES_X86_64_5 == 2, "part of the protocol");
_Static_assert(GRASS_PAGES_ARM64_4K_39 == 16 && GRASS_PAGES_ARM64_64K_52 == 25, "part of the protocol");
_Static_assert(GRASS_FAULT_LOST == 5 && GRASS_FAULT_UNALIGNED == 16 && GRASS_FAULT_DIVISION == 22, "part of the protocol");
