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

struct rq {
  u64 clock;
};

END_KERNEL_STRUCTS

extern struct rcu_state rcu_state;
extern struct rq runqueues;
extern u64 jiffies_64;
extern s32 panic_cpu;

/// The words that are remembered: the grace period, for how long it has been seen with a kernel that did something, and what
/// tells that it did.
enum { SEQUENCE, AGE, LIFE };
#define STALL (5 * SECOND)
#define CRITICAL (21 * SECOND)

/// What changes as long as any CPU does something. A machine that is paused stands still as a whole, and then no time passes for
/// its grace periods either.
static u64 life(void) {
  u64 sum = jiffies_64 + (u64)monotonic();
  for (u32 cpu = next_cpu(&__cpu_online_mask, 0, 1); cpu < MOST_CPUS; cpu = next_cpu(&__cpu_online_mask, cpu + 1, 1))
    sum += per_cpu(runqueues, cpu)->clock;
  return sum;
}

MONITOR(detect_rcu) {
  if (grass_lane(run) > 0 || panic_cpu != -1) return;
  u64 sequence = rcu_state.gp_seq, now = life(), age = grass_recall(run, AGE);
  if (now != grass_recall(run, LIFE) && !IS_LATE) age += ELAPSED;
  grass_remember(run, LIFE, now);
  // RCU_SEQ_STATE_MASK: none is under way.
  if (!(sequence & 3) || sequence != grass_recall(run, SEQUENCE) || ELAPSED == 0) age = 0;
  grass_remember(run, SEQUENCE, sequence);
  grass_remember(run, AGE, age);
  if (age < STALL || IS_LATE) return;
  struct grass_sighting *sighting =
      sight(run, GRASS_DETECTOR_RCU_STALL, age < CRITICAL ? GRASS_SEVERITY_WARNING : GRASS_SEVERITY_CRITICAL);
  about_host(sighting);
  sighting->persists = sequence;
  show(sighting, 0, 1, &rcu_state, age, STALL);
  show(sighting, 1, 2, &rcu_state.node[0], rcu_state.node[0].qsmask, 0);
}
