// Whether a grace period of RCU does not end, and which CPUs it waits for: after that, memory is not given back any more.
#include "detect.h"

KERNEL_STRUCTS

struct rcu_node {
  u64 qsmask;
  s32 grplo;
  u8 level;
};

struct rcu_state {
  struct rcu_node node[1];
  u64 gp_seq;
};

END_KERNEL_STRUCTS

extern struct rcu_state rcu_state;
extern s32 panic_cpu;

enum { SEQUENCE, SINCE };
#define STALL (5 * SECOND)
#define CRITICAL (21 * SECOND)

MONITOR(detect_rcu) {
  if (grass_lane(run) > 0 || panic_cpu != -1) return;
  u64 sequence = rcu_state.gp_seq;
  // RCU_SEQ_STATE_MASK: none is under way.
  if (!(sequence & 3) || sequence != grass_recall(run, SEQUENCE) || ELAPSED == 0) {
    grass_remember(run, SEQUENCE, sequence);
    grass_remember(run, SINCE, NOW);
    return;
  }
  u64 age = NOW - grass_recall(run, SINCE);
  if (age < STALL || IS_LATE) return;
  struct grass_sighting *sighting =
      sight(run, GRASS_DETECTOR_RCU_STALL, age < CRITICAL ? GRASS_SEVERITY_WARNING : GRASS_SEVERITY_CRITICAL);
  about_host(sighting);
  sighting->persists = sequence;
  show(sighting, 0, 1, &rcu_state, age, STALL);
  show(sighting, 1, 2, &rcu_state.node[0], rcu_state.node[0].qsmask, 0);
}
