// What every detector includes. A detector is a monitor that a device runs by itself, again and again, and whose sightings it
// keeps as findings (grass_finding.h). Its name begins with detect_. It remembers words from tick to tick, and is told in its
// arguments what time it is.
#pragma once

#include "kernel.h"
#include "records/finding.h"

#define SECOND 1000000000ull

/// Nanoseconds of the device's clock when this tick began, and since the tick before began, 0 in the first.
#define NOW grass_argument(run, 0)
#define ELAPSED grass_argument(run, 1)
/// Whether the tick is late: what has stood still since the last one may only not have been looked at.
#define IS_LATE (grass_argument(run, 3) & 1)
/// What the hypervisor says: enum grass_hypervisor.
#define HYPERVISOR (grass_argument(run, 3) >> 1)

KERNEL_STRUCTS

struct tk_read_base {
  u32 shift;
  u64 xtime_nsec;
  s64 base;
};

struct timekeeper {
  struct tk_read_base tkr_mono;
  s64 offs_boot;
};

// Since 6.13; before, the shadow is a variable of its own.
struct tk_data {
  struct timekeeper shadow_timekeeper;
};

END_KERNEL_STRUCTS

extern struct timekeeper shadow_timekeeper __attribute__((weak));
extern struct tk_data tk_core __attribute__((weak));
extern struct tk_data timekeeper_data[] __attribute__((weak));

/// The kernel's timekeeper as of its last tick.
static __attribute__((unused)) const struct timekeeper *timekeeper(void) {
  if (!type_exists(struct tk_data)) return &shadow_timekeeper;
  return timekeeper_data ? &timekeeper_data[0].shadow_timekeeper : &tk_core.shadow_timekeeper;
}

/// Its monotonic clock in nanoseconds.
static __attribute__((unused)) s64 monotonic(void) {
  const struct timekeeper *keeper = timekeeper();
  return keeper->tkr_mono.base + (s64)(keeper->tkr_mono.xtime_nsec >> (keeper->tkr_mono.shift & 63));
}

/// A sighting about nothing yet, of a fault that has to be seen in two ticks.
static __attribute__((unused)) struct grass_sighting *sight(struct grass_lane_state *run, enum grass_detector detector, u8 severity) {
  struct grass_sighting *sighting = grass_emit(run, GRASS_DETECT_SIGHTING, sizeof *sighting);
  sighting->detector = detector;
  sighting->kind = GRASS_FINDING_FAULT;
  sighting->severity = severity;
  sighting->confidence = GRASS_CONFIDENCE_STRONG;
  sighting->looks = 2;
  return sighting;
}

/// What one look proves, and what stays true until the host boots again.
static __attribute__((unused)) void is_invariant(struct grass_sighting *sighting) {
  sighting->confidence = GRASS_CONFIDENCE_PROVEN;
  sighting->looks = 1;
  sighting->flags = GRASS_SIGHTING_STAYS;
}

static __attribute__((unused)) void about_host(struct grass_sighting *sighting) {
  sighting->subjects[0].kind = GRASS_SUBJECT_HOST;
}

static __attribute__((unused)) void about_cpu(struct grass_sighting *sighting, u32 cpu) {
  sighting->subjects[0].kind = GRASS_SUBJECT_CPU;
  sighting->subjects[0].values[0] = cpu;
}

static __attribute__((unused)) void about_task(struct grass_sighting *sighting, u32 index, const struct task_struct *task) {
  struct grass_subject *subject = &sighting->subjects[index];
  subject->kind = GRASS_SUBJECT_TASK;
  subject->values[0] = (u64)(s64)task->pid;
  subject->values[1] = task->start_boottime;
  subject->values[2] = (u64)task;
  __builtin_memcpy(subject->name, task->comm, 16);
}

static __attribute__((unused)) void show(
    struct grass_sighting *sighting, u32 index, u32 kind, const void *address, u64 seen, u64 expected) {
  struct grass_evidence *evidence = &sighting->evidence[index];
  evidence->kind = kind;
  evidence->address = (u64)address;
  evidence->seen = seen;
  evidence->expected = expected;
}
