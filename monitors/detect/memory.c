// That the kernel killed processes because memory ran out: the counter of its kills never falls.
#include "detect.h"

KERNEL_STRUCTS

enum vm_event_item { OOM_KILL };

struct vm_event_state {
  u64 event[256];
};

END_KERNEL_STRUCTS

extern struct vm_event_state vm_event_states;
extern u64 __per_cpu_offset[];

/// The words that are remembered: whether there was a look before, the kills by then, and when the last three were seen.
enum { BEGUN, KILLS, WHEN, };
/// So long after the last kill it is over, and so close three of them are a storm.
#define OVER (1800 * SECOND)
#define STORM (60 * SECOND)

MONITOR(detect_memory) {
  if (grass_lane(run) > 0) return;
  u64 kills = 0, index = enumerator(enum vm_event_item, OOM_KILL);
  if (index >= 256) return;
  for_each_cpu(cpu, &__cpu_possible_mask) kills += per_cpu(vm_event_states, cpu)->event[index];
  u64 before = grass_recall(run, KILLS);
  bool has_begun = grass_recall(run, BEGUN);
  for (u64 kill = before; has_begun && kill < kills && kill < before + 3; kill++) grass_remember(run, WHEN + kill % 3, NOW);
  grass_remember(run, BEGUN, 1);
  grass_remember(run, KILLS, kills);
  if (kills == 0) return;
  u64 oldest = ~0ull, newest = 0;
  for (u32 one = 0; one < 3; one++) {
    u64 when = grass_recall(run, WHEN + one);
    if (when < oldest) oldest = when;
    if (when > newest) newest = when;
  }
  // Of kills before the first look nobody knows when they were.
  bool is_old = newest == 0;
  if (!is_old && NOW - newest > OVER) return;
  bool is_storm = oldest && newest - oldest < STORM;
  struct grass_sighting *sighting = sight(
      run, GRASS_DETECTOR_OOM_KILL,
      is_old ? GRASS_SEVERITY_NOTICE : is_storm ? GRASS_SEVERITY_CRITICAL : GRASS_SEVERITY_WARNING);
  sighting->confidence = GRASS_CONFIDENCE_PROVEN;
  sighting->looks = 1;
  about_host(sighting);
  show(sighting, 0, 1, NULL, kills, 0);
}
