#include "grass_detect.h"

// What detectors emit is judged here as what comes out of watched memory is: a detector was made to read lies.

static void zero(void *to, uint64_t count) {
  for (uint64_t index = 0; index < count; index++) ((volatile uint8_t *)to)[index] = 0;
}

// MARK: - The log

/// Writes a finding over whatever lies at `place`, so that who reads meanwhile sees that it is torn.
static void write_finding(uint8_t *place, uint64_t number, const struct grass_finding_content *content) {
  struct grass_finding finding = {.content = *content};
  grass_record_seal(&finding, number, sizeof *content);
  grass_store(place, 0);
  grass_copy_in(place + 8, (const uint8_t *)&finding + 8, sizeof finding - 8);
  grass_store(place, number);
}

static uint8_t *open_place(struct grass_keeper *keeper, const struct grass_kept *kept) {
  return keeper->region + keeper->layout.open_offset + (uint64_t)(kept - keeper->kept) * keeper->layout.open_size;
}

/// Makes a new entry of the log of a finding as it is now, and keeps it in its place as long as it is not closed.
static void publish(struct grass_keeper *keeper, struct grass_kept *kept) {
  uint64_t number = __atomic_load_n(&keeper->summary->newest_finding, __ATOMIC_RELAXED) + 1;
  kept->content.previous = kept->number;
  kept->number = number;
  write_finding(keeper->region + grass_finding_offset(&keeper->layout, number), number, &kept->content);
  if (kept->content.state == GRASS_FINDING_CLOSED) grass_store(open_place(keeper, kept), 0);
  else write_finding(open_place(keeper, kept), number, &kept->content);
  kept->written = keeper->now.device;
  // Who sees the number finds the entry.
  __atomic_store_n(&keeper->summary->newest_finding, number, __ATOMIC_RELEASE);
}

void grass_keeper_start(
    struct grass_keeper *keeper, uint8_t *region, const struct grass_header *layout, struct grass_kept *kept,
    struct grass_summary *summary) {
  *keeper = (struct grass_keeper){.region = region, .layout = *layout, .kept = kept, .summary = summary};
  uint64_t newest = 0;
  for (uint32_t index = 0; index < layout->finding_count; index++) {
    uint8_t copy[sizeof(struct grass_finding)];
    const uint8_t *place = region + layout->findings_offset + index * layout->finding_size;
    uint64_t sums[2], length, number = grass_load(place);
    if (number <= newest || (number - 1) % layout->finding_count != index) continue;
    grass_record_fetch(copy, place, sizeof copy, number, sums);
    if (grass_record_judge(copy, sizeof copy, sizeof copy, number, sums, &length) == GRASS_RECORD_WHOLE) newest = number;
  }
  for (uint32_t index = 0; index < layout->open_count; index++)
    grass_store(region + layout->open_offset + index * layout->open_size, 0);
  __atomic_store_n(&summary->newest_finding, newest, __ATOMIC_RELEASE);
}

// MARK: - A tick

void grass_keeper_begin(struct grass_keeper *keeper, struct grass_moment now, bool is_late) {
  keeper->now = now;
  keeper->is_late = is_late;
  for (uint32_t index = 0; index < keeper->layout.open_count; index++) keeper->kept[index].is_seen = false;
}

/// Closes a finding and frees its place.
static void close(struct grass_keeper *keeper, struct grass_kept *kept) {
  if (kept->number) {
    kept->content.state = GRASS_FINDING_CLOSED;
    publish(keeper, kept);
  }
  zero(kept, sizeof *kept);
}

void grass_keeper_forget(struct grass_keeper *keeper, uint32_t detector) {
  for (uint32_t index = 0; index < keeper->layout.open_count; index++)
    if (keeper->kept[index].content.identity && keeper->kept[index].content.detector == detector)
      close(keeper, &keeper->kept[index]);
}

void grass_keeper_take_clock(struct grass_keeper *keeper, const struct grass_host_clock *clock) {
  bool is_known = false, is_other = false;
  for (unsigned byte = 0; byte < sizeof clock->boot; byte++) {
    is_known |= keeper->boot[byte] != 0;
    is_other |= keeper->boot[byte] != clock->boot[byte];
  }
  // A kernel that nobody has asked for the id of its boot has none yet: then the clock tells, which only a boot sets back.
  bool is_back = clock->now + 1000000000ull < keeper->guest;
  if ((is_known && is_other) || is_back)
    for (uint32_t index = 0; index < keeper->layout.open_count; index++)
      if (keeper->kept[index].content.identity) close(keeper, &keeper->kept[index]);
  keeper->guest = clock->now;
  for (unsigned byte = 0; byte < sizeof clock->boot; byte++) keeper->boot[byte] = clock->boot[byte];
}

/// Of the detector and the subjects without their names, which may change: FNV-1a by words.
static uint64_t identity_of(const struct grass_sighting *sighting) {
  uint64_t hash = 0xcbf29ce484222325ull;
  hash = (hash ^ sighting->detector) * 0x100000001b3ull;
  for (unsigned subject = 0; subject < GRASS_FINDING_SUBJECTS; subject++) {
    hash = (hash ^ sighting->subjects[subject].kind) * 0x100000001b3ull;
    for (unsigned value = 0; value < 4; value++)
      hash = (hash ^ sighting->subjects[subject].values[value]) * 0x100000001b3ull;
  }
  return hash ? hash : 1;
}

void grass_keeper_sight(struct grass_keeper *keeper, const struct grass_sighting *sighting) {
  if (sighting->detector == GRASS_DETECTOR_NONE || sighting->detector >= 64) return;
  uint64_t identity = identity_of(sighting);
  struct grass_kept *kept = 0, *empty = 0;
  for (uint32_t index = 0; index < keeper->layout.open_count && !kept; index++) {
    struct grass_kept *one = &keeper->kept[index];
    if (one->content.identity == identity) kept = one;
    else if (!one->content.identity && !empty) empty = one;
  }
  bool is_new = !kept;
  if (is_new) {
    if (!empty) {
      keeper->dropped++;
      return;
    }
    kept = empty;
    kept->content = (struct grass_finding_content){
        .identity = identity,
        .detector = sighting->detector,
        .kind = sighting->kind,
        .state = GRASS_FINDING_OPEN,
        .first_device = keeper->now.device,
        .first_guest = keeper->guest,
        .first_utc = keeper->now.utc,
    };
    kept->persists = sighting->persists;
  }
  if (kept->is_seen) return;
  kept->is_seen = true;
  // Another thing of the same name, unless it is believed already.
  if (!is_new && !kept->number && kept->persists != sighting->persists) {
    kept->looks = 0;
    kept->content.first_device = keeper->now.device;
    kept->content.first_guest = keeper->guest;
    kept->content.first_utc = keeper->now.utc;
    kept->content.count = 0;
  }
  kept->persists = sighting->persists;
  kept->missed = 0;
  kept->flags = sighting->flags;
  struct grass_finding_content *content = &kept->content;
  bool is_worse = sighting->severity != content->severity || sighting->confidence > content->confidence;
  content->severity = sighting->severity;
  content->confidence = sighting->confidence;
  content->last_device = keeper->now.device;
  content->last_guest = keeper->guest;
  content->last_utc = keeper->now.utc;
  content->count++;
  for (unsigned byte = 0; byte < sizeof content->boot; byte++) content->boot[byte] = keeper->boot[byte];
  for (unsigned subject = 0; subject < GRASS_FINDING_SUBJECTS; subject++)
    content->subjects[subject] = sighting->subjects[subject];
  for (unsigned evidence = 0; evidence < GRASS_FINDING_EVIDENCE; evidence++)
    content->evidence[evidence] = sighting->evidence[evidence];
  if (!keeper->is_late || sighting->looks <= 1) kept->looks++;
  if (kept->number) {
    if (is_worse) publish(keeper, kept);
    else if (keeper->now.device - kept->written >= GRASS_REFRESH_NS) {
      write_finding(open_place(keeper, kept), kept->number, content);
      kept->written = keeper->now.device;
    }
  } else if (kept->looks >= sighting->looks) {
    content->state = GRASS_FINDING_CONFIRMED;
    publish(keeper, kept);
  }
}

void grass_keeper_end(struct grass_keeper *keeper, uint64_t blind, uint32_t suspended) {
  uint32_t open = 0, worst = 0;
  for (uint32_t index = 0; index < keeper->layout.open_count; index++) {
    struct grass_kept *kept = &keeper->kept[index];
    if (!kept->content.identity) continue;
    bool is_blind = blind >> (kept->content.detector & 63) & 1;
    if (!kept->is_seen && !is_blind && !(kept->number && kept->flags & GRASS_SIGHTING_STAYS)) {
      kept->looks = 0;
      if (!kept->number || ++kept->missed >= GRASS_CLOSE_AFTER) {
        close(keeper, kept);
        continue;
      }
    }
    if (!kept->number) continue;
    open++;
    if (kept->content.severity > worst) worst = kept->content.severity;
  }
  keeper->tick++;
  struct grass_summary *summary = keeper->summary;
  __atomic_store_n(&summary->open, open, __ATOMIC_RELAXED);
  __atomic_store_n(&summary->worst, worst, __ATOMIC_RELAXED);
  __atomic_store_n(&summary->suspended, suspended, __ATOMIC_RELAXED);
  __atomic_store_n(&summary->tick, keeper->tick, __ATOMIC_RELEASE);
}

// MARK: - Detectors

/// Takes the records that a detector emitted. Returns the detectors whose sightings were among them, a bit each.
static uint64_t take_output(struct grass_keeper *keeper, const struct grass_output *output) {
  uint64_t end = output->used < output->capacity ? output->used : output->capacity, seen = 0;
  for (uint64_t at = 0; at + sizeof(struct grass_entry) <= end;) {
    struct grass_entry entry;
    __builtin_memcpy(&entry, output->bytes + at, sizeof entry);
    at += sizeof entry;
    if (entry.size > end - at || entry.size % 8) break;
    if (entry.kind == GRASS_DETECT_SIGHTING && entry.size == sizeof(struct grass_sighting)) {
      struct grass_sighting sighting;
      __builtin_memcpy(&sighting, output->bytes + at, sizeof sighting);
      if (sighting.detector < 64) seen |= 1ull << sighting.detector;
      grass_keeper_sight(keeper, &sighting);
    } else if (entry.kind == GRASS_DETECT_CLOCK && entry.size == sizeof(struct grass_host_clock)) {
      struct grass_host_clock clock;
      __builtin_memcpy(&clock, output->bytes + at, sizeof clock);
      grass_keeper_take_clock(keeper, &clock);
    }
    at += entry.size;
  }
  return seen;
}

/// What a detector that is suspended is said to be.
static void sight_suspended(struct grass_keeper *keeper, uint32_t index, const struct grass_lane_fault *fault) {
  struct grass_sighting sighting = {
      .detector = GRASS_DETECTOR_OBSERVER,
      .kind = GRASS_FINDING_FAULT,
      .severity = GRASS_SEVERITY_NOTICE,
      .confidence = GRASS_CONFIDENCE_PROVEN,
      .looks = 1,
      .flags = GRASS_SIGHTING_STAYS,
      .subjects = {{.kind = GRASS_SUBJECT_DETECTOR, .values = {index}}},
      .evidence = {{.kind = 1, .address = fault->address, .seen = fault->fault, .expected = 0}},
  };
  grass_keeper_sight(keeper, &sighting);
}

void grass_detectors_tick(struct grass_detectors *detectors, struct grass_moment now) {
  struct grass_keeper *keeper = &detectors->keeper;
  bool is_late = detectors->last && now.device - detectors->last > 3 * detectors->period;
  uint64_t since = detectors->last ? now.device - detectors->last : 0;
  detectors->last = now.device;
  grass_keeper_begin(keeper, now, is_late);
  uint32_t suspended = 0;
  uint64_t blind = 0;
  for (uint32_t index = 0; index < detectors->count; index++) {
    struct grass_detector_slot *slot = &detectors->slots[index];
    if (slot->is_suspended) {
      suspended++;
      continue;
    }
    struct grass_job *job = &detectors->job;
    job->monitor = slot->monitor;
    job->lanes = 1;
    job->budget = detectors->steps;
    job->flags = 0;
    job->faulted = 0;
    job->output.used = 0;
    job->state = detectors->state + (uint64_t)index * GRASS_STATE_WORDS;
    job->state_words = GRASS_STATE_WORDS;
    job->arguments[0] = now.device;
    job->arguments[1] = since;
    job->arguments[2] = detectors->period;
    job->arguments[3] = is_late;
    grass_job_run(
        job, detectors->machine, detectors->entry, detectors->lane, detectors->items, detectors->item_capacity,
        detectors->steps);
    uint64_t seen = take_output(keeper, &job->output);
    if (job->faulted) {
      // What it has not seen now, it could not see.
      blind |= ~seen;
      if (++slot->strikes >= GRASS_MOST_STRIKES) {
        slot->is_suspended = true;
        suspended++;
        sight_suspended(keeper, slot->monitor, &job->faults[0]);
      }
    } else {
      slot->strikes = 0;
    }
  }
  grass_keeper_end(keeper, blind, suspended);
}
