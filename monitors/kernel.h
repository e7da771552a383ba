// Kernel structs, of each the fields that monitors use.
#pragma once
#include "grass.h"

KERNEL_STRUCTS

struct list_head {
  struct list_head *next, *prev;
};

struct hlist_node {
  struct hlist_node *next;
};

struct hlist_head {
  struct hlist_node *first;
};

struct xarray {
  void *xa_head;
};

struct xa_node {
  u8 shift;
  void *slots[64];
};

struct idr {
  struct xarray idr_rt;
};

struct pid_namespace {
  struct idr idr;
};

struct pid {
  struct hlist_head tasks[4];
};

struct kuid {
  u32 val;
};

struct cred {
  struct kuid uid, euid;
};

struct task_struct {
  u32 __state;
  u32 flags;
  s32 exit_state;
  s32 pid, tgid;
  u64 utime, stime;
  u64 start_boottime;
  char comm[16];
  struct task_struct *real_parent;
  const struct cred *real_cred;
  struct list_head tasks;
  struct hlist_node pid_links[4];
};

struct task_struct___before_5_14 {
  s64 state;
};

struct cpumask {
  u64 bits[1];
};

END_KERNEL_STRUCTS

extern struct task_struct init_task;
extern struct pid_namespace init_pid_ns;
extern struct cpumask __cpu_possible_mask, __cpu_online_mask;
/// One more than the highest number that a CPU may have.
extern u32 nr_cpu_ids;

/// Whether a task runs, and what it waits for (TASK_RUNNING and the like in include/linux/sched.h).
static inline u32 run_state(const struct task_struct *task) {
  if (field_exists(struct task_struct, __state)) return task->__state;
  return (u32)((const struct task_struct___before_5_14 *)task)->state;
}

/// No kernel has more (CONFIG_NR_CPUS on x86-64).
#define MOST_CPUS 8192u

/// The first number from `from` on, in steps of `step`, that a mask has; MOST_CPUS where there is none.
static inline u32 next_cpu(const struct cpumask *mask, u32 from, u32 step) {
  // A mask has room for thousands; a host has seldom more than a word of them.
  u32 end = field_size(struct cpumask, bits) * 8, possible = nr_cpu_ids;
  if (end > MOST_CPUS) end = MOST_CPUS;
  if (end > possible) end = possible;
  u32 cpu = from;
  while (cpu < end) {
    u64 rest = mask->bits[cpu / 64] >> cpu % 64;
    if (rest & 1) return cpu;
    // To the next bit that is set, or to the next word; then on to a number that is this lane's.
    u32 next = cpu + (rest ? (u32)__builtin_ctzll(rest) : 64 - cpu % 64);
    cpu += (next - cpu + step - 1) / step * step;
  }
  return MOST_CPUS;
}

static inline bool has_cpu(const struct cpumask *mask, u32 cpu) { return mask->bits[cpu / 64] >> cpu % 64 & 1; }

/// The CPUs of a mask that are this lane's: every lanes-th number is.
#define for_each_cpu(cpu, mask)                                                          \
  for (u32 cpu = next_cpu(mask, grass_lane(run), grass_lanes(run)); cpu < MOST_CPUS;     \
       cpu = next_cpu(mask, cpu + grass_lanes(run), grass_lanes(run)))
