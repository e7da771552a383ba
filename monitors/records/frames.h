// What frames.c emits.
#pragma once

#include <stdint.h>

enum grass_frames_kind { GRASS_FRAMES_CHUNK = 1 };

/// So many frames are described in one record at most, none of them on the other side of a multiple of it.
#define GRASS_FRAMES_A_CHUNK 64

/// What the descriptions of frames beside each other say; then come the runs, u32 each: a word of grass_frame.h, and from bit 16 on
/// how many frames it is said of.
struct grass_frames_chunk {
  uint64_t first;
  uint32_t runs;
  uint32_t reserved;
};
_Static_assert(sizeof(struct grass_frames_chunk) == 16, "one form for all who write and read it");
