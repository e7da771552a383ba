// The kernel's taint: that it survived an oops, that it warned of itself, and that somebody took a mark back.
#include "detect.h"

KERNEL_STRUCTS

struct module {
  u32 state;
  struct list_head list;
  char name[56];
  u64 taints;
};

END_KERNEL_STRUCTS

extern u64 tainted_mask;
extern struct list_head modules;

#define TAINT_DIE (1ull << 7)
#define TAINT_WARN (1ull << 9)
/// The words that are remembered.
enum { SEEN = 0 };
/// More modules than any host loads.
#define MOST_MODULES 4096u

static void latch(struct grass_lane_state *run, enum grass_detector detector, u8 severity, u64 taint, u64 bit) {
  if (!(taint & bit)) return;
  struct grass_sighting *sighting = sight(run, detector, severity);
  is_invariant(sighting);
  about_host(sighting);
  show(sighting, 0, 1, &tainted_mask, taint, taint & ~bit);
}

MONITOR(detect_taint) {
  if (grass_lane(run) > 0) return;
  // A module has its bits before the kernel has them, and loses them when it goes: so the modules are read first.
  const struct module *guilty = NULL;
  u64 wanted = 0, count = 0;
  for (const struct list_head *link = modules.next; link != &modules && count < MOST_MODULES; link = link->next, count++) {
    const struct module *module = container_of(link, struct module, list);
    if (module->state != 0) continue;
    u64 bits = module->taints;
    if (bits & ~wanted) guilty = module;
    wanted |= bits;
  }
  u64 taint = tainted_mask, before = grass_recall(run, SEEN);
  latch(run, GRASS_DETECTOR_OOPS, GRASS_SEVERITY_CRITICAL, taint, TAINT_DIE);
  latch(run, GRASS_DETECTOR_WARNING, GRASS_SEVERITY_NOTICE, taint, TAINT_WARN);
  if ((before | wanted) & ~taint) {
    struct grass_sighting *sighting = sight(run, GRASS_DETECTOR_TAINT_VANISHED, GRASS_SEVERITY_CRITICAL);
    is_invariant(sighting);
    // The kernel's bits follow a module's in no time; a look between the two is possible.
    sighting->looks = 2;
    sighting->kind = GRASS_FINDING_ATTACK;
    about_host(sighting);
    show(sighting, 0, 1, &tainted_mask, taint, taint | before | wanted);
    if (wanted & ~taint) show(sighting, 1, 2, guilty, guilty->taints, 0);
  }
  // What was once there is wanted for ever.
  grass_remember(run, SEEN, taint | before);
}
