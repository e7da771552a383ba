// Follows pointers to nowhere, another in each lane.
#include "../../monitors/grass.h"

MONITOR(wild) {
  *(u64 *)grass_emit(run, 1, 8) = grass_lane(run);
  u64 place = grass_lane(run) * 0x9e3779b97f4a7c15ul | 1ul << 63;
  for (int index = 0; index < 64; index++) place = *(const u64 *)(place & ~7ul);
  *(u64 *)grass_emit(run, 2, 8) = place;
}
