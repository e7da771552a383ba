// What ps.c and swift/ps.swift emit.
#pragma once

#include <stdint.h>

enum grass_ps_kind { GRASS_PS_TASK = 1 };

struct grass_ps_task {
  uint64_t task, parent;  // Addresses; whose child a task is, its reader sees by them.
  int32_t pid, tgid;
  uint32_t uid;
  uint32_t flags;
  uint16_t state;  // The lower half of __state, of which the upper says nothing,
  uint16_t exit_state;
  uint32_t reserved;
  uint64_t start_boottime;  // Nanoseconds since the host booted.
  uint64_t utime, stime;    // Nanoseconds.
  char comm[16];
};
_Static_assert(sizeof(struct grass_ps_task) == 80, "one form for all who write and read it");
