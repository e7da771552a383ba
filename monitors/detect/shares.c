// What CPUs do instead of running tasks: interrupts, the soft interrupts that follow them, and waiting for a hypervisor that
// runs others. Each is a share of the time between two looks, two seconds apart at least.
#include "detect.h"

enum cpu_usage_stat { CPUTIME_SOFTIRQ, CPUTIME_IRQ, CPUTIME_STEAL };

KERNEL_STRUCTS

struct kernel_cpustat {
  u64 cpustat[10];
};

struct kernel_stat {
  u64 irqs_sum;
  u32 softirqs[10];
};

struct rq {
  u32 nr_running;
  struct task_struct *curr, *idle;
};

END_KERNEL_STRUCTS

extern struct kernel_cpustat kernel_cpustat;
extern struct kernel_stat kstat;
extern struct rq runqueues;
extern s32 panic_cpu;

/// The words that are remembered of each CPU: when its window began and what its times were then; what the window before gave, in
/// thousandths; for how many windows others were run; how many interrupts there were; and how many soft ones of each kind, two in
/// a word.
enum { BEGAN, SOFT, HARD, STEAL, SHARES, STOLEN, INTERRUPTS, KINDS, WORDS = KINDS + 5 };
/// As many CPUs as there is room for.
#define MOST 340u
#define WINDOW (2 * SECOND)
#define SOFT_MOST 900u
#define HARD_MOST 500u
/// Interrupts of devices in a millisecond: each takes some microseconds at least.
#define COUNT_MOST 200u
#define STEAL_MOST 100u
#define STEAL_WINDOWS 5u
/// The kinds whose work others send: the network's and that of disks (include/linux/interrupt.h).
#define FROM_OUTSIDE 0x3cu

/// A part of a window in thousandths.
static u64 share(u64 now, u64 before, u64 window) {
  u64 part = now - before;
  return now < before ? 0 : part >= window ? 1000 : part / (window / 1000);
}

MONITOR(detect_shares) {
  if (grass_lane(run) > 0 || panic_cpu != -1) return;
  u64 soft_index = enumerator(enum cpu_usage_stat, CPUTIME_SOFTIRQ), hard_index = enumerator(enum cpu_usage_stat, CPUTIME_IRQ);
  u64 steal_index = enumerator(enum cpu_usage_stat, CPUTIME_STEAL);
  if (soft_index >= 10 || hard_index >= 10 || steal_index >= 10) return;
  for_each_cpu(cpu, &__cpu_online_mask) {
    if (cpu >= MOST) break;
    u64 words = cpu * WORDS, began = grass_recall(run, words + BEGAN);
    const struct kernel_cpustat *times = per_cpu(kernel_cpustat, cpu);
    const struct kernel_stat *counts = per_cpu(kstat, cpu);
    // Of a look that is late, or of a host that was paused, the window says nothing.
    bool is_useless = began == 0 || IS_LATE || HYPERVISOR == GRASS_HYPERVISOR_PAUSED;
    if (is_useless || NOW - began >= WINDOW) {
      u64 soft = times->cpustat[soft_index], hard = times->cpustat[hard_index], steal = times->cpustat[steal_index];
      u64 sum = counts->irqs_sum, window = NOW - began, shares = 0;
      u32 most = 0, kind = 0;
      for (u32 one = 0; one < 10; one += 2) {
        u64 before = grass_recall(run, words + KINDS + one / 2);
        u32 even = counts->softirqs[one], odd = counts->softirqs[one + 1];
        if (even - (u32)before > most) {
          most = even - (u32)before;
          kind = one;
        }
        if (odd - (u32)(before >> 32) > most) {
          most = odd - (u32)(before >> 32);
          kind = one + 1;
        }
        grass_remember(run, words + KINDS + one / 2, even | (u64)odd << 32);
      }
      if (!is_useless) {
        u64 stolen = share(steal, grass_recall(run, words + STEAL), window);
        shares = share(soft, grass_recall(run, words + SOFT), window) | share(hard, grass_recall(run, words + HARD), window) << 10 |
                 stolen << 20 | (u64)kind << 30 | (sum - grass_recall(run, words + INTERRUPTS)) / (window / 1000) << 34;
        grass_remember(run, words + STOLEN, stolen < STEAL_MOST ? 0 : grass_recall(run, words + STOLEN) + 1);
      }
      grass_remember(run, words + SHARES, shares);
      grass_remember(run, words + BEGAN, NOW);
      grass_remember(run, words + SOFT, soft);
      grass_remember(run, words + HARD, hard);
      grass_remember(run, words + STEAL, steal);
      grass_remember(run, words + INTERRUPTS, sum);
    }
    u64 shares = grass_recall(run, words + SHARES);
    u64 soft = shares & 1023, hard = shares >> 10 & 1023, stolen = shares >> 20 & 1023;
    u32 kind = shares >> 30 & 15;
    const struct rq *queue = per_cpu(runqueues, cpu);
    if (soft >= SOFT_MOST) {
      // A router is busy with what comes in, and harms nobody who does not wait.
      bool is_traffic = FROM_OUTSIDE >> kind & 1 && queue->nr_running < 2;
      struct grass_sighting *sighting =
          sight(run, GRASS_DETECTOR_SOFTIRQ, is_traffic ? GRASS_SEVERITY_NOTICE : GRASS_SEVERITY_WARNING);
      about_cpu(sighting, cpu);
      if (queue->curr != queue->idle) about_task(sighting, 1, queue->curr);
      show(sighting, 0, 1, times, soft / 10, SOFT_MOST / 10);
      show(sighting, 1, 2, counts, kind, 0);
    }
    if (hard >= HARD_MOST || shares >> 34 >= COUNT_MOST) {
      struct grass_sighting *sighting = sight(run, GRASS_DETECTOR_INTERRUPTS, GRASS_SEVERITY_WARNING);
      about_cpu(sighting, cpu);
      show(sighting, 0, 1, times, hard / 10, HARD_MOST / 10);
      show(sighting, 1, 2, counts, shares >> 34, 0);
    }
    if (grass_recall(run, words + STOLEN) >= STEAL_WINDOWS) {
      struct grass_sighting *sighting = sight(run, GRASS_DETECTOR_STOLEN_TIME, GRASS_SEVERITY_NOTICE);
      about_cpu(sighting, cpu);
      show(sighting, 0, 1, times, stolen / 10, STEAL_MOST / 10);
    }
  }
}
