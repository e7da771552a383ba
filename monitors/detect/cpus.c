// Whether CPUs do what they have to: all of them stand still, one takes no interrupts, or one never leaves the kernel.
//
// A CPU that is well sets its timer anew, or sleeps until the time for which it has set it. Whether that time has come is told by
// the device's clock: the watched kernel's own may stand still. A timer that ticks by itself is never set; there the CPU's scheduler
// clock tells. Elsewhere that clock proves nothing: an idle CPU that looks for work to take over moves it, too, and does so again and
// again where tasks wait behind a CPU that hangs.
//
// Where all stand still, the guest hangs or is paused. Which of them, the hypervisor says where it is asked, or KVM in the
// guest's own memory: of each CPU that it does not run just now. A pause is told, and nothing is made of what stands still
// meanwhile, for ten minutes at most.
#include "detect.h"

KERNEL_STRUCTS

struct rq {
  u32 nr_running;
  u64 nr_switches;
  u64 clock;
  struct task_struct *curr, *idle;
};

struct clock_event_device {
  s64 next_event;
  u32 state_use_accessors;
};

struct tick_device {
  struct clock_event_device *evtdev;
};

struct kvm_steal_time {
  u8 preempted;
};

END_KERNEL_STRUCTS

extern struct rq runqueues;
extern struct tick_device tick_cpu_device;
extern u64 jiffies_64;
extern s32 panic_cpu;
extern struct kvm_steal_time steal_time __attribute__((weak));
extern s32 has_steal_clock __attribute__((weak));

/// The words that are remembered: of all CPUs, and of each.
enum { JIFFIES, PAUSED_SINCE, FIRST };
enum { CLOCK, NEXT, SINCE, MONOTONIC, SWITCHES, CURRENT, STUCK_SINCE, USER, SYSTEM, WORDS };
#define MOST 400u
/// What state_use_accessors says of a timer that is set for each time: include/linux/clockchips.h.
#define CLOCK_EVT_STATE_ONESHOT 3u
/// What of a CPU's timer may be late without anything being wrong: the watcher's own delays are in it, too.
#define GRACE (1 * SECOND)
#define SOFT (5 * SECOND)
#define SOFT_CRITICAL (20 * SECOND)
/// So long after all stopped the next looks come sooner, and so long a pause excuses what stands still.
#define HURRY (5 * SECOND)
#define LONGEST_PAUSE (600 * SECOND)

/// That the hypervisor does not run the CPUs, since `since`. `says` is what tells: the kinds of evidence below.
static void tell_pause(struct grass_lane_state *run, u64 since, u32 says, u64 seen, u64 expected) {
  struct grass_sighting *sighting = sight(run, GRASS_DETECTOR_PAUSED, GRASS_SEVERITY_INFO);
  sighting->kind = GRASS_FINDING_CHANGE;
  if (says == 3) {
    sighting->confidence = GRASS_CONFIDENCE_PROVEN;
    sighting->looks = 1;
  }
  about_host(sighting);
  show(sighting, 0, 1, NULL, NOW - since, LONGEST_PAUSE);
  show(sighting, 1, says, NULL, seen, expected);
}

MONITOR(detect_cpus) {
  if (grass_lane(run) > 0 || panic_cpu != -1) return;
  s64 now = monotonic();
  u64 jiffies = jiffies_64;
  bool is_first = ELAPSED == 0, has_moved = jiffies != grass_recall(run, JIFFIES);
  grass_remember(run, JIFFIES, jiffies);
  bool has_steal = type_exists(struct kvm_steal_time) && &has_steal_clock && has_steal_clock != 0, is_paused = false;
  if (HYPERVISOR == GRASS_HYPERVISOR_PAUSED) {
    u64 since = grass_recall(run, PAUSED_SINCE);
    if (!since) grass_remember(run, PAUSED_SINCE, since = NOW);
    is_paused = NOW - since < LONGEST_PAUSE;
    if (is_paused) tell_pause(run, since, 3, HYPERVISOR, GRASS_HYPERVISOR_RUNS);
  } else {
    grass_remember(run, PAUSED_SINCE, 0);
  }
  u32 overdue = 0, online = 0, still = 0, late = 0, preempted = 0;
  u64 latest = ~0ull;  // For how long all stand still.
  u64 locked[2] = {0, 0};  // The CPUs that are late: bits.
  for_each_cpu(cpu, &__cpu_online_mask) {
    if (cpu >= MOST) break;
    online++;
    const struct rq *queue = per_cpu(runqueues, cpu);
    const struct clock_event_device *timer = per_cpu(tick_cpu_device, cpu)->evtdev;
    u64 clock = queue->clock, next = timer ? (u64)timer->next_event : ~0ull >> 1, words = FIRST + cpu * WORDS;
    if (has_steal && per_cpu(steal_time, cpu)->preempted & 1) preempted++;
    bool is_set = timer && timer->state_use_accessors == CLOCK_EVT_STATE_ONESHOT;
    bool has_run = clock != grass_recall(run, words + CLOCK);
    grass_remember(run, words + CLOCK, clock);
    if (has_run) has_moved = true;
    if (is_first || is_paused || (has_run && !is_set) || next != grass_recall(run, words + NEXT)) {
      grass_remember(run, words + NEXT, next);
      grass_remember(run, words + SINCE, NOW);
      grass_remember(run, words + MONOTONIC, (u64)now);
    } else {
      still++;
      // How long it may sleep from the last time that anything of it moved.
      s64 sleep = (s64)next - (s64)grass_recall(run, words + MONOTONIC);
      u64 stood = NOW - grass_recall(run, words + SINCE);
      if (sleep < 0) sleep = 0;
      if ((u64)sleep < stood) late++;
      if (stood < latest) latest = stood;
      if (stood > GRACE && (u64)sleep < stood - GRACE) {
        overdue++;
        if (cpu < 128) locked[cpu / 64] |= 1ull << cpu % 64;
      }
    }
    const struct task_struct *current = queue->curr;
    u64 switches = queue->nr_switches, user = current->utime, system = current->stime;
    bool is_same = !is_first && switches == grass_recall(run, words + SWITCHES) &&
                   (u64)current == grass_recall(run, words + CURRENT) && current != queue->idle &&
                   user == grass_recall(run, words + USER);
    if (!is_same) {
      grass_remember(run, words + SWITCHES, switches);
      grass_remember(run, words + CURRENT, (u64)current);
      grass_remember(run, words + STUCK_SINCE, NOW);
      grass_remember(run, words + USER, user);
      grass_remember(run, words + SYSTEM, system);
      continue;
    }
    u64 stuck = NOW - grass_recall(run, words + STUCK_SINCE), spent = system - grass_recall(run, words + SYSTEM);
    // In the kernel all the time: it was charged for most of it.
    if (stuck < SOFT || spent < stuck / 2) continue;
    struct grass_sighting *sighting = sight(
        run, GRASS_DETECTOR_SOFT_LOCKUP, stuck < SOFT_CRITICAL ? GRASS_SEVERITY_WARNING : GRASS_SEVERITY_CRITICAL);
    about_cpu(sighting, cpu);
    about_task(sighting, 1, current);
    sighting->persists = switches;
    show(sighting, 0, 1, queue, stuck, SOFT);
    show(sighting, 1, 2, current, spent, 0);
  }
  // Where none moves any more, it is soon to be known.
  if (!is_first && !has_moved && still == online && late && latest < HURRY) grass_emit(run, GRASS_DETECT_SOON, 0);
  // A look that is late has seen nothing of the time between.
  if (IS_LATE || !overdue) return;
  if (!has_moved && still == online) {
    bool is_left = has_steal && preempted == online;
    if (is_left && HYPERVISOR != GRASS_HYPERVISOR_RUNS && latest < LONGEST_PAUSE)
      return tell_pause(run, NOW - latest, 4, preempted, 0);
    bool is_excused = is_left || HYPERVISOR == GRASS_HYPERVISOR_PAUSED;
    struct grass_sighting *sighting =
        sight(run, GRASS_DETECTOR_STOPPED, is_excused ? GRASS_SEVERITY_WARNING : GRASS_SEVERITY_CRITICAL);
    about_host(sighting);
    sighting->looks = 2;
    show(sighting, 0, 1, &jiffies_64, latest, GRACE);
    show(sighting, 1, 2, NULL, overdue, 0);
    if (HYPERVISOR) show(sighting, 2, 3, NULL, HYPERVISOR, 0);
    if (has_steal) show(sighting, 3, 4, NULL, preempted, online);
    return;
  }
  for (u32 cpu = 0; cpu < 128 && cpu < MOST; cpu++) {
    if (!(locked[cpu / 64] >> cpu % 64 & 1)) continue;
    // One that the hypervisor does not run cannot take interrupts.
    if (has_steal && per_cpu(steal_time, cpu)->preempted & 1) continue;
    u64 words = FIRST + cpu * WORDS;
    const struct rq *queue = per_cpu(runqueues, cpu);
    struct grass_sighting *sighting = sight(run, GRASS_DETECTOR_HARD_LOCKUP, GRASS_SEVERITY_CRITICAL);
    about_cpu(sighting, cpu);
    if (queue->curr != queue->idle) about_task(sighting, 1, queue->curr);
    sighting->looks = 3;
    sighting->persists = grass_recall(run, words + NEXT);
    show(sighting, 0, 1, queue, NOW - grass_recall(run, words + SINCE), GRACE);
    show(sighting, 1, 2, NULL, grass_recall(run, words + NEXT), (u64)now);
  }
}
