// The watched kernel's clock and the id of its boot, by which findings say when they were seen.
#include "detect.h"

KERNEL_STRUCTS

struct tk_read_base {
  u32 shift;
  u64 xtime_nsec;
  s64 base;
};

struct timekeeper {
  struct tk_read_base tkr_mono;
  s64 offs_boot;
};

// Since 6.13; before, the shadow is a variable of its own.
struct tk_data {
  struct timekeeper shadow_timekeeper;
};

END_KERNEL_STRUCTS

extern struct timekeeper shadow_timekeeper __attribute__((weak));
extern struct tk_data tk_core __attribute__((weak));
extern struct tk_data timekeeper_data[] __attribute__((weak));
extern u64 sysctl_bootid[2];

MONITOR(detect_clock) {
  if (grass_lane(run) > 0) return;
  const struct timekeeper *keeper = &shadow_timekeeper;
  if (type_exists(struct tk_data)) {
    if (timekeeper_data) keeper = &timekeeper_data[0].shadow_timekeeper;
    else keeper = &tk_core.shadow_timekeeper;
  }
  struct grass_host_clock *clock = grass_emit(run, GRASS_DETECT_CLOCK, sizeof *clock);
  clock->now = keeper->tkr_mono.base + (keeper->tkr_mono.xtime_nsec >> (keeper->tkr_mono.shift & 63)) + keeper->offs_boot;
  u64 boot[2] = {sysctl_bootid[0], sysctl_bootid[1]};
  __builtin_memcpy(clock->boot, boot, sizeof boot);
}
