// Signs of life: the clock tick, and how far each CPU's scheduler has come. Two looks tell a live kernel from a dead one.
// Lane 0 looks at the host; each lane takes every lanes-th CPU.
#include "kernel.h"

struct host_record {
  u64 jiffies;    // Grows by CONFIG_HZ a second, from some minutes below 2^32 on.
  s32 panic_cpu;  // The CPU that panicked, -1 as long as none did.
  u32 reserved;
};

struct cpu_record {
  u32 cpu;
  u32 is_online;
  u32 running;  // Tasks that run or want to.
  u32 is_idle;  // It runs its idle task.
  u64 switches;
  u64 clock;  // Of its run queue, in nanoseconds: it moves with every tick and every switch.
};

KERNEL_STRUCTS

struct rq {
  u32 nr_running;
  u64 nr_switches;
  u64 clock;
  struct task_struct *curr, *idle;
};

END_KERNEL_STRUCTS

extern u64 jiffies_64;
extern s32 panic_cpu;
extern struct rq runqueues;

MONITOR(beacon) {
  if (grass_lane(run) == 0) {
    struct host_record *host = grass_emit(run, 1, sizeof *host);
    host->jiffies = jiffies_64;
    host->panic_cpu = panic_cpu;
  }
  for_each_cpu(cpu, &__cpu_possible_mask) {
    const struct rq *queue = per_cpu(runqueues, cpu);
    struct cpu_record *record = grass_emit(run, 2, sizeof *record);
    record->cpu = cpu;
    record->is_online = has_cpu(&__cpu_online_mask, cpu);
    record->running = queue->nr_running;
    record->is_idle = queue->curr == queue->idle;
    record->switches = queue->nr_switches;
    record->clock = queue->clock;
  }
}
