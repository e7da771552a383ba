// How each CPU spent its time since the host booted, as /proc/stat counts it (fs/proc/stat.c, get_idle_time in it).
// Each lane takes every lanes-th CPU.
#include "kernel.h"
#include "records/cpu.h"

enum cpu_usage_stat {
  CPUTIME_USER, CPUTIME_NICE, CPUTIME_SYSTEM, CPUTIME_IDLE, CPUTIME_IOWAIT, CPUTIME_IRQ, CPUTIME_SOFTIRQ,
  CPUTIME_STEAL, CPUTIME_GUEST, CPUTIME_GUEST_NICE,
};

KERNEL_STRUCTS

struct kernel_cpustat {
  u64 cpustat[10];
};

/// What a CPU that stops its tick when idle knows of its idle time.
struct tick_sched {
  u64 idle_entrytime, idle_sleeptime, iowait_sleeptime;
  u64 flags;
};

struct tick_sched___before_6_9 {
  u32 idle_active : 1;
};

struct rq {
  struct { s32 counter; } nr_iowait;
};

struct tk_read_base {
  u64 base, xtime_nsec;
  u32 shift;
};

struct timekeeper {
  struct tk_read_base tkr_mono;
};

/// From 6.13 on.
struct tk_data {
  struct timekeeper shadow_timekeeper;
};

END_KERNEL_STRUCTS

extern struct kernel_cpustat kernel_cpustat;
extern struct tick_sched tick_cpu_sched;
extern struct rq runqueues;
extern u64 tick_nohz_active __attribute__((weak));
// The copy of the timekeeper that each tick makes: a variable until 6.12, in tk_core until 6.16, then in the first of several.
extern struct timekeeper shadow_timekeeper __attribute__((weak));
extern struct tk_data tk_core __attribute__((weak)), timekeeper_data[] __attribute__((weak));

#define TS_FLAG_IDLE_ACTIVE 4  // kernel/time/tick-sched.h

static bool is_idle(const struct tick_sched *tick) {
  if (field_exists(struct tick_sched, flags)) return tick->flags & TS_FLAG_IDLE_ACTIVE;
  return ((const struct tick_sched___before_6_9 *)tick)->idle_active;
}

static const struct timekeeper *timekeeper(void) {
  if (&shadow_timekeeper) return &shadow_timekeeper;
  if (!field_exists(struct tk_data, shadow_timekeeper)) return NULL;
  if (timekeeper_data) return &timekeeper_data[0].shadow_timekeeper;
  return &tk_core ? &tk_core.shadow_timekeeper : NULL;
}

/// Nanoseconds since boot at the last tick; an idle period that began after it counts from the next one on.
static u64 now(void) {
  const struct timekeeper *keeper = timekeeper();
  if (!keeper) return 0;
  const struct tk_read_base *clock = &keeper->tkr_mono;
  return clock->base + (clock->xtime_nsec >> (clock->shift & 63));
}

MONITOR(cpu) {
  bool stops_ticks = &tick_nohz_active && (u32)tick_nohz_active;
  for_each_cpu(cpu, &__cpu_possible_mask) {
    const struct kernel_cpustat *times = per_cpu(kernel_cpustat, cpu);
    struct grass_cpu_times *record = grass_emit(run, GRASS_CPU_TIMES, sizeof *record);
    record->cpu = cpu;
    record->is_online = has_cpu(&__cpu_online_mask, cpu);
#define time(name) times->cpustat[enumerator(enum cpu_usage_stat, CPUTIME_##name)]
    record->user = time(USER);
    record->nice = time(NICE);
    record->system = time(SYSTEM);
    record->idle = time(IDLE);
    record->iowait = time(IOWAIT);
    record->irq = time(IRQ);
    record->softirq = time(SOFTIRQ);
    record->steal = time(STEAL);
    record->guest = time(GUEST);
    record->guest_nice = time(GUEST_NICE);
    if (!record->is_online || !stops_ticks) continue;
    const struct tick_sched *tick = per_cpu(tick_cpu_sched, cpu);
    u64 since = 0, time = now(), entry = tick->idle_entrytime;
    if (is_idle(tick) && time > entry) since = time - entry;
    bool waits = per_cpu(runqueues, cpu)->nr_iowait.counter > 0;
    record->idle = tick->idle_sleeptime + (waits ? 0 : since);
    record->iowait = tick->iowait_sleeptime + (waits ? since : 0);
  }
}
