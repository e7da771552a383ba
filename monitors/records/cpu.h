// What cpu.c emits.
#pragma once

#include <stdint.h>

enum grass_cpu_kind { GRASS_CPU_TIMES = 1 };

/// How a CPU spent its time since the host booted, in nanoseconds, named as in /proc/stat.
struct grass_cpu_times {
  uint32_t cpu;
  uint32_t is_online;
  uint64_t user, nice, system, idle, iowait, irq, softirq, steal, guest, guest_nice;
};
_Static_assert(sizeof(struct grass_cpu_times) == 88, "one form for all who write and read it");
