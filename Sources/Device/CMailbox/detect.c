#include "grass_detect.h"

// What detectors emit is judged here as what comes out of watched memory is: a detector was made to read lies.
//
// A GPU's resident program has this in it, too: one of its threads keeps the findings.

static void zero(void *to, uint64_t count) {
  for (uint64_t index = 0; index < count; index++) ((volatile uint8_t *)to)[index] = 0;
}

// Words of the summary, which the mailbox reads at the same time.
#if defined(__NVPTX__)
static void set(uint64_t *word, uint64_t value) { store_release_gpu(word, value); }
static uint64_t get(const uint64_t *word) { return load_acquire_gpu(word); }
#else
static void set(uint64_t *word, uint64_t value) { __atomic_store_n(word, value, __ATOMIC_RELEASE); }
static uint64_t get(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
#endif

// MARK: - The log

/// What findings are sealed under, or NULL. A GPU's program without keys has none of the code for it.
static const struct grass_group *group_of(const struct grass_keeper *keeper) {
#if defined(__NVPTX__) && !GRASS_GPU_KEYS
  return 0;
#else
  return keeper->group;
#endif
}

/// Writes a finding over whatever lies at `place`, so that who reads meanwhile sees that it is torn.
static void write_finding(
    struct grass_keeper *keeper, uint32_t kind, uint8_t *place, uint64_t number, const struct grass_finding_content *content) {
  struct grass_record head = {.sequence = number, .length = sizeof *content};
  struct grass_finding_content sealed;
  const struct grass_group *group = group_of(keeper);
  if (group) {
    sealed = *content;
    struct grass_group_place under = grass_group_next(group, &keeper->editions);
    sealed.reserved[1] = under.generation;
    sealed.reserved[2] = under.edition;
    grass_group_seal(group, under, kind, number, (uint8_t *)&sealed, sizeof sealed - sizeof under, head.check);
    content = &sealed;
  } else {
    grass_check(head.check, number, content, sizeof *content);
  }
  const uint64_t *words = (const uint64_t *)content, *first = (const uint64_t *)&head;
  grass_store(place, 0);
  for (uint64_t word = 0; word < sizeof *content / 8; word++) grass_store(place + sizeof head + word * 8, words[word]);
  grass_store(place + sizeof head + sizeof *content, number);
  for (uint64_t word = 1; word < sizeof head / 8; word++) grass_store(place + word * 8, first[word]);
  grass_store(place, number);
}

static uint8_t *open_place(struct grass_keeper *keeper, const struct grass_kept *kept) {
  return keeper->region + keeper->layout.open_offset + (uint64_t)(kept - keeper->kept) * keeper->layout.open_size;
}

/// Makes a new entry of the log of a finding as it is now, and keeps it in its place as long as it is not closed.
static void log_change(struct grass_keeper *keeper, struct grass_kept *kept) {
  uint64_t number = get(&keeper->summary->newest_finding) + 1;
  kept->content.previous = kept->number;
  kept->number = number;
  write_finding(
      keeper, GRASS_GROUP_FINDING, keeper->region + grass_finding_offset(&keeper->layout, number), number, &kept->content);
  if (kept->content.state == GRASS_FINDING_CLOSED) grass_store(open_place(keeper, kept), 0);
  else write_finding(keeper, GRASS_GROUP_OPEN, open_place(keeper, kept), number, &kept->content);
  kept->written = keeper->now.device;
  // Who sees the number finds the entry.
  set(&keeper->summary->newest_finding, number);
}

#if !defined(__NVPTX__)
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
    // What is sealed under keys of a device that is gone nobody opens any more: its two numbers tell that it is whole.
    if (layout->features & GRASS_FEATURE_KEYS) {
      if (grass_load(place + sizeof copy - 8) == number) newest = number;
      continue;
    }
    grass_record_fetch(copy, place, sizeof copy, number, sums);
    if (grass_record_judge(copy, sizeof copy, sizeof copy, number, sums, &length) == GRASS_RECORD_WHOLE) newest = number;
  }
  for (uint32_t index = 0; index < layout->open_count; index++)
    grass_store(region + layout->open_offset + index * layout->open_size, 0);
  set(&summary->newest_finding, newest);
  for (uint32_t place = 0; place < layout->words_count; place++) {
    const uint8_t *from = region + grass_words_offset(layout, place);
    struct grass_words_head head;
    uint64_t number = grass_load(from);
    if (!number) continue;
    if (layout->features & GRASS_FEATURE_KEYS) {
      uint64_t length = grass_load(from + offsetof(struct grass_record, length));
      if (length > grass_record_capacity(layout->words_size)) continue;
      if (grass_load(from + grass_record_size(length) - 8) != number) continue;
    } else {
      grass_copy_out(&head, from + sizeof(struct grass_record), sizeof head);
      if (!grass_words_head_is_whole(&head, number)) continue;
    }
    keeper->words.places[place] = (struct grass_words_place){.number = number};
    if (number > keeper->words.newest) keeper->words.newest = number;
  }
}
#endif

// MARK: - A tick

void grass_keeper_begin(struct grass_keeper *keeper, struct grass_moment now, bool is_late) {
  keeper->now = now;
  keeper->is_late = is_late;
  keeper->is_soon = false;
  for (uint32_t index = 0; index < keeper->used; index++) keeper->kept[index].is_seen = false;
}

/// Closes a finding and frees its place. `is_survived` says that the kernel that it was of goes on.
static void close(struct grass_keeper *keeper, struct grass_kept *kept, bool is_survived) {
  struct grass_words_keeper *words = &keeper->words;
  if (words->finding && words->finding == kept->content.identity) {
    if (words->has_place) words->places[words->place].is_survived = is_survived;
    words->finding = 0;
  }
  if (kept->number) {
    kept->content.state = GRASS_FINDING_CLOSED;
    log_change(keeper, kept);
  }
  zero(kept, sizeof *kept);
}

void grass_keeper_forget(struct grass_keeper *keeper, uint32_t detector) {
  for (uint32_t index = 0; index < keeper->used; index++)
    if (keeper->kept[index].content.identity && keeper->kept[index].content.detector == detector)
      close(keeper, &keeper->kept[index], false);
}

/// Whether a kernel can have made an id of a boot: 122 random bits in the form of RFC 9562's version 4.
///
/// Source: lib/uuid.c, generate_random_uuid.
static bool is_boot_id(const uint8_t *boot) { return (boot[6] & 0xf0) == 0x40 && (boot[8] & 0xc0) == 0x80; }

void grass_keeper_take_clock(struct grass_keeper *keeper, const struct grass_host_clock *clock) {
  bool is_known = false, knows = false, is_other = false;
  for (unsigned byte = 0; byte < sizeof clock->boot; byte++) {
    is_known |= keeper->boot[byte] != 0;
    knows |= clock->boot[byte] != 0;
    is_other |= keeper->boot[byte] != clock->boot[byte];
  }
  // A kernel that nobody has asked for the id of its boot has none yet: then the clock tells, which only a boot sets back.
  bool is_back = clock->now + 1000000000ull < keeper->guest;
  // No kernel that runs has a clock at zero or of a hundred years, an id that none makes, or loses the id of its boot while its clock
  // goes on: the host's memory is being erased, page by page, or written over. What was found of its boot holds until another one's
  // clock is there.
  if (!clock->now || clock->now >> 62 || (knows && !is_boot_id(clock->boot))) return;
  bool is_erased = is_known && !knows && !is_back;
  if (((is_known && is_other) || is_back) && !is_erased)
    for (uint32_t index = 0; index < keeper->used; index++)
      if (keeper->kept[index].content.identity) close(keeper, &keeper->kept[index], false);
  keeper->guest = clock->now;
  if (is_erased) return;
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

/// Has last words kept of a kernel that panicked, or whose CPUs all stand still; a panic says more than that they do.
static void ask_for_words(struct grass_keeper *keeper, const struct grass_kept *kept) {
  uint32_t detector = kept->content.detector;
  struct grass_words_keeper *words = &keeper->words;
  if (detector != GRASS_DETECTOR_PANIC && (detector != GRASS_DETECTOR_STOPPED || words->finding)) return;
  words->finding = kept->content.identity;
  words->detector = detector;
  words->has_place = false;
  words->since = words->next = keeper->now.device;
}

void grass_keeper_sight(struct grass_keeper *keeper, const struct grass_sighting *sighting) {
  if (sighting->detector == GRASS_DETECTOR_NONE || sighting->detector >= 64) return;
  uint64_t identity = identity_of(sighting);
  struct grass_kept *kept = 0, *empty = 0;
  for (uint32_t index = 0; index < keeper->used && !kept; index++) {
    struct grass_kept *one = &keeper->kept[index];
    if (one->content.identity == identity) kept = one;
    else if (!one->content.identity && !empty) empty = one;
  }
  bool is_new = !kept;
  if (is_new) {
    if (!empty && keeper->used < keeper->layout.open_count) empty = &keeper->kept[keeper->used++];
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
    if (is_worse) log_change(keeper, kept);
    else if (keeper->now.device - kept->written >= GRASS_REFRESH_NS) {
      write_finding(keeper, GRASS_GROUP_OPEN, open_place(keeper, kept), kept->number, content);
      kept->written = keeper->now.device;
    }
  } else if (kept->looks >= sighting->looks) {
    content->state = GRASS_FINDING_CONFIRMED;
    log_change(keeper, kept);
    ask_for_words(keeper, kept);
  }
}

/// Whether what was found belongs to the boot that the keeper sees. A kernel that nobody has asked for the id of its boot has none
/// yet; then what was found later than that boot's clock is of another.
static bool is_of_boot(const struct grass_keeper *keeper, const struct grass_finding_content *content) {
  bool is_known = false, knows = false, is_other = false;
  for (unsigned byte = 0; byte < sizeof content->boot; byte++) {
    is_known |= content->boot[byte] != 0;
    knows |= keeper->boot[byte] != 0;
    is_other |= content->boot[byte] != keeper->boot[byte];
  }
  if (is_known && knows) return !is_other;
  return content->last_guest <= keeper->guest + GRASS_AHEAD_NS;
}

void grass_keeper_take(struct grass_keeper *keeper, const struct grass_finding_content *content) {
  if (!content->identity || !is_of_boot(keeper, content)) return;
  struct grass_kept *kept = 0;
  for (uint32_t index = 0; index < keeper->used && !kept; index++)
    if (keeper->kept[index].content.identity == content->identity) kept = &keeper->kept[index];
  if (content->detector != GRASS_DETECTOR_NAMED) {
    if (!kept || !kept->number || kept->is_handed) return;
    bool is_same = true;
    for (unsigned cause = 0; cause < 2; cause++) {
      is_same &= kept->content.causes[cause] == content->causes[cause];
      kept->content.causes[cause] = content->causes[cause];
    }
    if (!is_same) log_change(keeper, kept);
    return;
  }
  if (kept && !kept->is_handed) return;
  if (content->state == GRASS_FINDING_CLOSED) {
    if (kept) close(keeper, kept, true);
    return;
  }
  bool is_change = !kept;
  for (uint32_t index = 0; index < keeper->used && !kept; index++)
    if (!keeper->kept[index].content.identity) kept = &keeper->kept[index];
  if (!kept && keeper->used < keeper->layout.open_count) kept = &keeper->kept[keeper->used++];
  if (!kept) {
    keeper->dropped++;
    return;
  }
  struct grass_finding_content *old = &kept->content;
  is_change |= old->severity != content->severity || old->confidence != content->confidence ||
               old->state != content->state || old->causes[0] != content->causes[0] ||
               old->causes[1] != content->causes[1];
  uint64_t first = kept->is_handed ? old->first_device : keeper->now.device, previous = old->previous;
  *old = *content;
  old->first_device = first;
  old->last_device = keeper->now.device;
  old->previous = previous;
  for (unsigned byte = 0; byte < sizeof old->boot; byte++) old->boot[byte] = keeper->boot[byte];
  for (unsigned word = 0; word < 3; word++) old->reserved[word] = 0;
  kept->is_handed = true;
  if (is_change) {
    log_change(keeper, kept);
  } else {
    write_finding(keeper, GRASS_GROUP_OPEN, open_place(keeper, kept), kept->number, old);
    kept->written = keeper->now.device;
  }
}

void grass_keeper_end(struct grass_keeper *keeper, uint64_t blind, uint32_t suspended) {
  uint32_t open = 0, worst = 0;
  while (keeper->used && !keeper->kept[keeper->used - 1].content.identity) keeper->used--;
  for (uint32_t index = 0; index < keeper->used; index++) {
    struct grass_kept *kept = &keeper->kept[index];
    if (!kept->content.identity) continue;
    bool is_blind = blind >> (kept->content.detector & 63) & 1;
    bool stays = kept->is_handed || (kept->number && kept->flags & GRASS_SIGHTING_STAYS);
    if (!kept->is_seen && !is_blind && !stays) {
      kept->looks = 0;
      if (!kept->number || ++kept->missed >= GRASS_CLOSE_AFTER) {
        close(keeper, kept, true);
        continue;
      }
    }
    if (!kept->number) continue;
    open++;
    if (kept->content.severity > worst) worst = kept->content.severity;
  }
  keeper->tick++;
  struct grass_summary *summary = keeper->summary;
  set(&summary->open, open);
  set(&summary->worst, worst);
  set(&summary->suspended, suspended);
  set(&summary->tick, keeper->tick);
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
    } else if (entry.kind == GRASS_DETECT_SOON) {
      keeper->is_soon = true;
    }
    at += entry.size;
  }
  return seen;
}

/// What a detector that is suspended is said to be.
static void sight_suspended(
    struct grass_keeper *keeper, const struct grass_detector_slot *slot, const struct grass_lane_fault *fault) {
  struct grass_sighting sighting = {
      .detector = GRASS_DETECTOR_OBSERVER,
      .kind = GRASS_FINDING_FAULT,
      .severity = GRASS_SEVERITY_NOTICE,
      .confidence = GRASS_CONFIDENCE_PROVEN,
      .looks = 1,
      .flags = GRASS_SIGHTING_STAYS,
      .subjects = {{.kind = GRASS_SUBJECT_DETECTOR, .values = {slot->monitor}}},
      .evidence = {{.kind = 1, .address = fault->address, .seen = fault->fault, .expected = 0}},
  };
  for (unsigned byte = 0; byte < sizeof slot->name; byte++) sighting.subjects[0].name[byte] = slot->name[byte];
  grass_keeper_sight(keeper, &sighting);
}

/// Begins a tick: what time it is, and what its detectors are told of it.
static void begin_tick(struct grass_detectors *detectors, struct grass_moment now) {
  bool is_late = detectors->last && now.device - detectors->last > 3 * detectors->period + GRASS_LATE_NS;
  struct grass_job *job = &detectors->job;
  job->budget = detectors->steps;
  job->flags = 0;
  job->arguments[0] = now.device;
  detectors->elapsed = detectors->last ? now.device - detectors->last : 0;
  job->arguments[2] = detectors->period;
  job->arguments[3] = (is_late ? 1 : 0) | get(&detectors->hypervisor) << 1;
  detectors->last = now.device;
  detectors->blind = detectors->suspended = 0;
  grass_keeper_begin(&detectors->keeper, now, is_late);
}

/// Whether detector `index` is to be run in this tick; then the job is ready for it.
static bool begin_detector(struct grass_detectors *detectors, uint32_t index) {
  struct grass_detector_slot *slot = &detectors->slots[index];
  if (slot->is_suspended) {
    detectors->suspended++;
    return false;
  }
  struct grass_job *job = &detectors->job;
  // One that remembers nothing yet is told that no tick was before.
  job->arguments[1] = slot->has_state ? detectors->elapsed : 0;
  slot->has_state = true;
  job->monitor = slot->monitor;
  job->lanes = 1;
  job->faulted = 0;
  job->output = (struct grass_output){.bytes = detectors->output, .capacity = detectors->output_capacity};
  job->state = detectors->state + (uint64_t)index * GRASS_STATE_WORDS;
  job->state_words = GRASS_STATE_WORDS;
  return true;
}

/// Takes what a detector emitted, and judges how it ended.
static void end_detector(struct grass_detectors *detectors, uint32_t index) {
  struct grass_detector_slot *slot = &detectors->slots[index];
  struct grass_job *job = &detectors->job;
  uint64_t seen = take_output(&detectors->keeper, &job->output);
  if (!job->faulted) {
    slot->strikes = 0;
    return;
  }
  // What it has not seen now, it could not see.
  detectors->blind |= ~seen;
  if (++slot->strikes < GRASS_MOST_STRIKES) return;
  slot->is_suspended = true;
  detectors->suspended++;
  sight_suspended(&detectors->keeper, slot, &job->faults[0]);
}

/// Takes what was handed over since the tick before, and ends the tick.
static void end_tick(struct grass_detectors *detectors) {
  struct grass_inbox *inbox = detectors->inbox;
  if (inbox) {
    uint64_t put = grass_load(&inbox->put), taken = grass_load(&inbox->taken);
    // Whatever the numbers say, no more than there is room for.
    for (unsigned entry = 0; entry < GRASS_INBOX_ENTRIES && taken != put; entry++, taken++) {
      struct grass_finding_content content;
      const uint64_t *from = (const uint64_t *)&inbox->entries[taken % GRASS_INBOX_ENTRIES];
      for (unsigned word = 0; word < sizeof content / 8; word++) ((uint64_t *)&content)[word] = grass_load(from + word);
      grass_keeper_take(&detectors->keeper, &content);
      grass_store(&inbox->taken, taken + 1);
    }
    detectors->suspended += (uint32_t)grass_load(&inbox->suspended);
  }
  grass_keeper_end(&detectors->keeper, detectors->blind, detectors->suspended);
}

// MARK: - Last words

/// Whether last words are to be gathered now; then the job is ready for it.
static bool begin_words(struct grass_detectors *detectors) {
  struct grass_keeper *keeper = &detectors->keeper;
  struct grass_words_keeper *words = &keeper->words;
  if (!detectors->words_capacity || !keeper->layout.words_count || !words->finding) return false;
  if (keeper->now.device < words->next) return false;
  uint64_t since = keeper->now.device - words->since;
  words->next = since < GRASS_WORDS_WATCH_NS ? keeper->now.device + (since > 1 ? since : 1) : ~0ull;
  for (uint64_t word = 0; word < GRASS_STATE_WORDS; word++) detectors->words_state[word] = 0;
  struct grass_job *job = &detectors->job;
  job->monitor = detectors->words_monitor;
  job->lanes = GRASS_WORDS_LANES;
  job->faulted = 0;
  job->output = (struct grass_output){
      .bytes = detectors->words + sizeof(struct grass_words_head),
      .capacity = detectors->words_capacity - sizeof(struct grass_words_head),
  };
  job->state = detectors->words_state;
  job->state_words = GRASS_STATE_WORDS;
  return true;
}

/// Whether two ids of a boot are the same.
static bool is_same_boot(const uint8_t *one, const uint8_t *other) {
  bool is_same = true;
  for (unsigned byte = 0; byte < 16; byte++) is_same &= one[byte] == other[byte];
  return is_same;
}

static bool has_no_boot(const uint8_t *boot) {
  bool is_none = true;
  for (unsigned byte = 0; byte < 16; byte++) is_none &= boot[byte] == 0;
  return is_none;
}

/// Whether what was gathered is of the boot at hand, from its first to its last byte; then how far its log had got.
static bool is_of_one_boot(
    const struct grass_keeper *keeper, const uint8_t *bytes, uint64_t size, uint64_t *log_head) {
  for (uint64_t at = 0; at + sizeof(struct grass_entry) <= size;) {
    struct grass_entry entry;
    __builtin_memcpy(&entry, bytes + at, sizeof entry);
    at += sizeof entry;
    if (entry.size > size - at || entry.size % 8) break;
    if (entry.kind == GRASS_WORDS_STATE && entry.size == sizeof(struct grass_words_state)) {
      struct grass_words_state state;
      __builtin_memcpy(&state, bytes + at, sizeof state);
      *log_head = state.log_head;
      // Whoever erases the id alone does not keep last words from being kept.
      bool is_ours = is_same_boot(state.boot, keeper->boot) || has_no_boot(state.boot);
      return state.is_ended == 1 && is_same_boot(state.boot, state.end_boot) && is_ours &&
             state.now <= state.end_now && state.now + 1000000000ull >= keeper->guest &&
             state.panic_cpu == state.end_panic_cpu &&
             (keeper->words.detector != GRASS_DETECTOR_PANIC || state.panic_cpu != -1);
    }
    at += entry.size;
  }
  return false;
}

/// The place that last words go to: an empty one, that of a kernel that went on, or the oldest.
static uint32_t choose_place(const struct grass_keeper *keeper) {
  const struct grass_words_place *places = keeper->words.places;
  uint32_t best = 0;
  for (uint32_t place = 0; place < keeper->layout.words_count && place < GRASS_MAX_WORDS; place++) {
    if (!places[place].number) return place;
    bool is_sooner = places[place].is_survived && !places[best].is_survived;
    bool is_alike = places[place].is_survived == places[best].is_survived;
    if (is_sooner || (is_alike && places[place].number < places[best].number)) best = place;
  }
  return best;
}

/// Makes a record's payload of what was gathered, and chooses its place. Returns the payload's length, 0 where it is to be
/// thrown away; its number is the newest.
static uint64_t end_words(struct grass_detectors *detectors) {
  struct grass_keeper *keeper = &detectors->keeper;
  struct grass_words_keeper *words = &keeper->words;
  const struct grass_job *job = &detectors->job;
  uint64_t size = job->output.used < job->output.capacity ? job->output.used : job->output.capacity, log_head = 0;
  if (!is_of_one_boot(keeper, job->output.bytes, size, &log_head)) return 0;
  // Of a host that boots anew the kernel's variables may be there still when much else is not: what is there already is written
  // over only by what says more.
  if (words->has_place &&
      (job->faulted > words->faulted || (log_head <= words->log_head && size <= words->size)))
    return 0;
  words->log_head = log_head;
  words->size = size;
  words->faulted = job->faulted;
  struct grass_words_head *head = (struct grass_words_head *)detectors->words;
  zero(head, sizeof *head);
  head->number = ++words->newest;
  head->finding = words->finding;
  head->detector = words->detector;
  head->faulted = job->faulted;
  head->device = keeper->now.device;
  head->guest = keeper->guest;
  head->utc = keeper->now.utc;
  head->slide = detectors->machine->slide;
  head->size = size;
  for (unsigned byte = 0; byte < sizeof head->boot; byte++) head->boot[byte] = keeper->boot[byte];
  for (unsigned byte = 0; byte + 1 < sizeof head->kernel; byte++) head->kernel[byte] = detectors->kernel[byte];
  for (uint32_t fault = 0; fault < job->faulted && fault < GRASS_MAX_FAULTS; fault++) head->faults[fault] = job->faults[fault];
  grass_check(head->check, head->number, head, offsetof(struct grass_words_head, check));
  // Those of the same finding are written over: they are of the same boot, and have less.
  if (!words->has_place) words->place = choose_place(keeper);
  words->has_place = true;
  words->places[words->place] = (struct grass_words_place){.number = head->number};
  return sizeof *head + size;
}

#if !defined(__NVPTX__) || GRASS_GPU_KEYS
/// Seals last words in place: their head by itself, so that who lists them need not read them.
static void seal_words(struct grass_keeper *keeper, uint8_t *words, uint64_t length, uint64_t check[2]) {
  struct grass_words_head *head = (struct grass_words_head *)words;
  const struct grass_group *group = group_of(keeper);
  struct grass_group_place under = grass_group_next(group, &keeper->editions);
  head->reserved[2] = under.generation;
  head->reserved[3] = under.edition;
  grass_group_seal(
      group, under, GRASS_GROUP_WORDS_HEAD, keeper->words.newest, words, offsetof(struct grass_words_head, reserved) + 2 * sizeof(uint64_t),
      head->check);
  grass_group_seal(group, under, GRASS_GROUP_WORDS, keeper->words.newest, words + sizeof *head, length - sizeof *head, check);
}
#endif

#if !defined(__NVPTX__)
bool grass_inbox_put(struct grass_inbox *inbox, const struct grass_finding_content *content) {
  uint64_t put = grass_load(&inbox->put);
  if (put - grass_load(&inbox->taken) >= GRASS_INBOX_ENTRIES) return false;
  uint64_t *to = (uint64_t *)&inbox->entries[put % GRASS_INBOX_ENTRIES];
  for (unsigned word = 0; word < sizeof *content / 8; word++) grass_store(to + word, ((const uint64_t *)content)[word]);
  grass_store(&inbox->put, put + 1);
  return true;
}

void grass_detectors_set_hypervisor(struct grass_detectors *detectors, uint64_t state) { set(&detectors->hypervisor, state); }

/// Gathers last words where they are to be, and writes them over what lies in their place, so that who reads meanwhile sees
/// that it is torn.
static void keep_words(struct grass_detectors *detectors) {
  if (!begin_words(detectors)) return;
  grass_job_run(
      &detectors->job, detectors->machine, detectors->entry, detectors->lane, detectors->items, detectors->item_capacity,
      detectors->steps);
  uint64_t length = end_words(detectors);
  if (!length) return;
  struct grass_keeper *keeper = &detectors->keeper;
  uint8_t *place = keeper->region + grass_words_offset(&keeper->layout, keeper->words.place);
  uint64_t number = keeper->words.newest;
  struct grass_record head = {.sequence = number, .length = length};
  if (keeper->group) seal_words(keeper, detectors->words, length, head.check);
  else grass_check(head.check, number, detectors->words, length);
  grass_store(place, 0);
  grass_copy_in(place + sizeof head, detectors->words, length);
  grass_store(place + sizeof head + length, number);
  for (unsigned word = 1; word < sizeof head / 8; word++) grass_store(place + word * 8, ((const uint64_t *)&head)[word]);
  grass_store(place, number);
}

void grass_detectors_tick(struct grass_detectors *detectors, struct grass_moment now) {
  begin_tick(detectors, now);
  for (uint32_t index = 0; index < detectors->count; index++) {
    if (!begin_detector(detectors, index)) continue;
    grass_job_run(
        &detectors->job, detectors->machine, detectors->entry, detectors->lane, detectors->items,
        detectors->item_capacity, detectors->steps);
    end_detector(detectors, index);
  }
  end_tick(detectors);
  keep_words(detectors);
}
#endif
