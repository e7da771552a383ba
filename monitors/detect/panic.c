// Whether the kernel has panicked: it sets panic_cpu once, on its way down.
#include "detect.h"

extern s32 panic_cpu;

MONITOR(detect_panic) {
  if (grass_lane(run) > 0 || panic_cpu == -1) return;
  struct grass_sighting *sighting = sight(run, GRASS_DETECTOR_PANIC, GRASS_SEVERITY_CRITICAL);
  is_invariant(sighting);
  about_host(sighting);
  show(sighting, 0, 1, &panic_cpu, (u32)panic_cpu, (u32)-1);
}
