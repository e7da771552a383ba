// Signs of life: the clock tick, and how far each CPU's scheduler has come. Two looks tell a live kernel from a dead one.
// Lane 0 looks at the host; each lane takes every lanes-th CPU.
#include "kernel.h"
#include "records/life.h"

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

MONITOR(life) {
  if (grass_lane(run) == 0) {
    struct grass_life_host *host = grass_emit(run, GRASS_LIFE_HOST, sizeof *host);
    host->jiffies = jiffies_64;
    host->panic_cpu = panic_cpu;
  }
  for_each_cpu(cpu, &__cpu_possible_mask) {
    const struct rq *queue = per_cpu(runqueues, cpu);
    struct grass_life_cpu *record = grass_emit(run, GRASS_LIFE_CPU, sizeof *record);
    record->cpu = cpu;
    record->is_online = has_cpu(&__cpu_online_mask, cpu);
    record->runnable = queue->nr_running;
    record->is_idle = queue->curr == queue->idle;
    record->switches = queue->nr_switches;
    record->clock = queue->clock;
  }
}
