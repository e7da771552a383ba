// The watched kernel's clock and the id of its boot, by which findings say when they were seen.
#include "detect.h"

extern u64 sysctl_bootid[2];

MONITOR(detect_clock) {
  if (grass_lane(run) > 0) return;
  struct grass_host_clock *clock = grass_emit(run, GRASS_DETECT_CLOCK, sizeof *clock);
  clock->now = monotonic() + timekeeper()->offs_boot;
  u64 boot[2] = {sysctl_bootid[0], sysctl_bootid[1]};
  __builtin_memcpy(clock->boot, boot, sizeof boot);
}
