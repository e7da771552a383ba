#include "grass_mailbox.h"

// Everything in a request is the requester's and may be wrong or made to hurt. The request is copied once into
// private memory and judged there, so that it cannot change after it was judged. Memory of the watched host is read
// as it comes; no address from it is followed without a look-up in the segment table, and a page walk takes as many
// steps as there are levels.

/// What is longer goes past the caches. Measured: out of another core's cache comes a fifth of what comes out of memory.
#define STREAM_LENGTH 16384u

/// Zeroes `count` bytes of the region.
static void clear(uint8_t *to, uint64_t count) {
  for (; count > 0 && ((uintptr_t)to & 7); count--) __atomic_store_n(to++, 0, __ATOMIC_RELAXED);
  for (; count >= 8; count -= 8, to += 8) __atomic_store_n((uint64_t *)to, 0, __ATOMIC_RELAXED);
  for (; count > 0; count--) __atomic_store_n(to++, 0, __ATOMIC_RELAXED);
}

static void publish_beacon(struct grass_mailbox *mailbox, uint64_t now, uint32_t state) {
  struct grass_beacon beacon = {
      .counter = ++mailbox->counter,
      .clock = now,
      .state = state,
      .newest_finding = __atomic_load_n(&mailbox->summary.newest_finding, __ATOMIC_ACQUIRE),
      .served = mailbox->served,
      .counter_end = mailbox->counter,
  };
  // What everybody reads says then no more than that it lives.
  if (mailbox->keyring) beacon.newest_finding = beacon.served = 0;
  grass_check(beacon.check, beacon.counter, &beacon, offsetof(struct grass_beacon, check));
  grass_copy_in(mailbox->region + mailbox->layout.beacon_offset, &beacon, sizeof beacon);
  mailbox->beacon_time = now;
}

/// Writes each session's line.
/// Whether the session that has a slot has all the rights that an operation takes.
static bool may(const struct grass_mailbox *mailbox, uint32_t slot, uint32_t operation) {
  const struct grass_session_state *session = grass_keyring_session(mailbox->keyring, slot);
  uint32_t right = grass_right_of(operation);
  return session && (session->rights & right) == right;
}

/// Has the owner of a slot's link let nobody read past the device there, until a session asks anew.
static void close_windows(struct grass_mailbox *mailbox, uint32_t slot) {
  if (mailbox->windows) __atomic_store_n(&mailbox->windows[slot].is_wanted, 0, __ATOMIC_RELEASE);
}

static void publish_lines(struct grass_mailbox *mailbox, uint64_t now, uint32_t state) {
  const struct grass_summary *summary = &mailbox->summary;
  // Each line is sealed under a number of its own.
  if (mailbox->keyring) mailbox->counter++;
  const struct grass_session_line line = grass_make_line(
      mailbox->counter, now, state,
      (struct grass_summary){
          .tick = __atomic_load_n(&summary->tick, __ATOMIC_ACQUIRE),
          .newest_finding = __atomic_load_n(&summary->newest_finding, __ATOMIC_ACQUIRE),
          .worst = __atomic_load_n(&summary->worst, __ATOMIC_RELAXED),
          .open = __atomic_load_n(&summary->open, __ATOMIC_RELAXED),
          .suspended = __atomic_load_n(&summary->suspended, __ATOMIC_RELAXED),
      });
  for (uint32_t index = 0; index < mailbox->layout.line_count; index++) {
    uint8_t *place = mailbox->region + mailbox->layout.lines_offset + index * mailbox->layout.line_size;
    struct grass_session_line own = line;
    if (!mailbox->keyring || grass_keyring_line(mailbox->keyring, index, &own)) grass_copy_in(place, &own, sizeof own);
    else if (grass_load(place)) clear(place, sizeof own);
  }
  if (mailbox->keyring && mailbox->windows)
    for (uint32_t slot = 0; slot < mailbox->layout.slot_count; slot++)
      if (!may(mailbox, slot, GRASS_WINDOWS)) close_windows(mailbox, slot);
  mailbox->lines_time = now;
}

bool grass_mailbox_prepare(
    struct grass_mailbox *mailbox, void *region, const struct grass_header *layout,
    const struct grass_mapped_segment *segments, uint64_t segment_count, void *scratch) {
  if (!grass_header_is_valid(layout, layout->region_size)) return false;
  *mailbox = (struct grass_mailbox){
      .region = region,
      .layout = *layout,
      .segments = segments,
      .segment_count = segment_count,
      .scratch = scratch,
  };
  return true;
}

void grass_mailbox_skip(struct grass_mailbox *mailbox, uint32_t slot, uint64_t sequence) {
  mailbox->slots[slot].served = sequence;
}

bool grass_mailbox_start(
    struct grass_mailbox *mailbox, void *region, const struct grass_header *layout,
    const struct grass_mapped_segment *segments, uint64_t segment_count, void *scratch, uint64_t now) {
  if (!grass_mailbox_prepare(mailbox, region, layout, segments, segment_count, scratch)) return false;
  for (uint32_t slot = 0; slot < layout->slot_count; slot++)
    grass_mailbox_skip(
        mailbox, slot, grass_load(mailbox->region + layout->request_offset + slot * layout->request_size));
  publish_beacon(mailbox, now, GRASS_STATE_RUNNING);
  publish_lines(mailbox, now, GRASS_STATE_RUNNING);
  return true;
}

void grass_mailbox_stop(struct grass_mailbox *mailbox, uint64_t now) {
  publish_beacon(mailbox, now, GRASS_STATE_STOPPED);
  publish_lines(mailbox, now, GRASS_STATE_STOPPED);
}

void grass_mailbox_set_kernel_hint(struct grass_mailbox *mailbox, uint64_t address) {
  __atomic_store_n(&mailbox->kernel_hint, address, __ATOMIC_RELEASE);
}

void grass_mailbox_set_keyring(struct grass_mailbox *mailbox, struct grass_keyring *keyring, uint8_t *answer) {
  mailbox->keyring = keyring;
  mailbox->answer = answer;
  // What was said to everybody before.
  clear(mailbox->region + mailbox->layout.lines_offset, mailbox->layout.line_count * (uint64_t)mailbox->layout.line_size);
  for (uint32_t slot = 0; slot < mailbox->layout.slot_count; slot++) mailbox->slots[slot].served = 0;
}

void grass_mailbox_release(struct grass_mailbox *mailbox, uint32_t slot) {
  __atomic_fetch_or(&mailbox->released[slot / 64], 1ull << slot % 64, __ATOMIC_RELEASE);
}

bool grass_mailbox_has_released(const struct grass_mailbox *mailbox, uint32_t slot) {
  return !(__atomic_load_n(&mailbox->released[slot / 64], __ATOMIC_ACQUIRE) >> slot % 64 & 1);
}

/// Forgets the sessions of slots that were lent anew.
static void release(struct grass_mailbox *mailbox) {
  for (uint32_t word = 0; word < sizeof mailbox->released / sizeof mailbox->released[0]; word++) {
    if (!__atomic_load_n(&mailbox->released[word], __ATOMIC_RELAXED)) continue;
    uint64_t slots = __atomic_load_n(&mailbox->released[word], __ATOMIC_ACQUIRE);
    for (uint32_t bit = 0; bit < 64; bit++) {
      uint32_t slot = word * 64 + bit;
      if (!(slots >> bit & 1) || slot >= mailbox->layout.slot_count) continue;
      grass_keyring_release(mailbox->keyring, slot);
      __atomic_store_n(&mailbox->slots[slot].paused_until, 0, __ATOMIC_RELAXED);
      clear(mailbox->region + mailbox->layout.lines_offset + slot * mailbox->layout.line_size, sizeof(struct grass_session_line));
    }
    // Who waits for it lends them anew from here on.
    __atomic_fetch_and(&mailbox->released[word], ~slots, __ATOMIC_RELEASE);
  }
}

void grass_mailbox_set_detector_features(struct grass_mailbox *mailbox, uint64_t features) {
  __atomic_store_n(&mailbox->detector_features, features, __ATOMIC_RELAXED);
}

void grass_mailbox_set_windows(struct grass_mailbox *mailbox, struct grass_windows *windows) { mailbox->windows = windows; }

void grass_mailbox_set_hypervisor(struct grass_mailbox *mailbox, uint64_t state) {
  __atomic_store_n(&mailbox->hypervisor, state, __ATOMIC_RELAXED);
  __atomic_store_n(&mailbox->can_pause, 1, __ATOMIC_RELAXED);
}

bool grass_mailbox_wants_pause(const struct grass_mailbox *mailbox, uint64_t now) {
  for (uint32_t slot = 0; slot < mailbox->layout.slot_count; slot++)
    if (__atomic_load_n(&mailbox->slots[slot].paused_until, __ATOMIC_RELAXED) > now) return true;
  return false;
}

// MARK: - The watched memory

/// Where the device sees `length` bytes at a physical address, or NULL where no segment holds all of them.
static const uint8_t *locate(struct grass_mailbox *mailbox, uint64_t address, uint64_t length) {
  uint64_t index =
      grass_segments_find(mailbox->segments, mailbox->segment_count, address, mailbox->last_segment);
  if (index == mailbox->segment_count) return NULL;
  const uint8_t *bytes = grass_segment_bytes(&mailbox->segments[index], address, length);
  if (bytes) mailbox->last_segment = index;
  return bytes;
}

/// Whether what was read last may not be the host's any more.
static bool is_lost(const struct grass_mailbox *mailbox) {
  const uint32_t *lost = mailbox->segment_count ? mailbox->segments[mailbox->last_segment].lost : NULL;
  return lost && __atomic_load_n(lost, __ATOMIC_ACQUIRE);
}

static bool load_entry(void *mailbox, uint64_t place, uint64_t *entry) {
  const uint8_t *pointer = locate(mailbox, place, GRASS_PAGE_ENTRY);
  if (!pointer) return false;
  // One load: what is judged is what is used. A guest writes its entries with single stores.
  if (((uintptr_t)pointer & 7) == 0) *entry = __atomic_load_n((const uint64_t *)pointer, __ATOMIC_RELAXED);
  else __builtin_memcpy(entry, pointer, 8);
  return true;
}

/// Begins to add an answer up while it is put together, from byte `from` of its payload on.
static void begin_sums(struct grass_mailbox *mailbox, uint64_t from) {
  mailbox->sums[0] = mailbox->sums[1] = 0;
  mailbox->summed_from = mailbox->summed_end = grass_round_up(from, GRASS_STRIPE);
}

/// Puts bytes into an answer's payload, right behind those before, and adds up each stripe that is whole by then.
static void append(struct grass_mailbox *mailbox, uint8_t *payload, uint64_t at, const uint8_t *from, uint64_t count) {
  if (mailbox->keyring) {
    grass_copy_in(payload + at, from, count);
    return;
  }
  while (count > 0) {
    uint64_t stripe = at / GRASS_STRIPE * GRASS_STRIPE, length = GRASS_STRIPE - (at - stripe);
    if (at == stripe && count >= GRASS_STRIPE && at == mailbox->summed_end) {
      length = count / GRASS_STRIPE * GRASS_STRIPE;
      if (length < STREAM_LENGTH) grass_check_stripes(mailbox->sums, GRASS_COPY, payload + at, from, at, length);
      else grass_check_stripes(mailbox->sums, GRASS_COPY_STREAMED, payload + at, from, at, length);
      mailbox->summed_end += length;
    } else {
      if (length > count) length = count;
      grass_copy_in(payload + at, from, length);
      if (at + length == stripe + GRASS_STRIPE && stripe == mailbox->summed_end) {
        grass_check_stripes(mailbox->sums, GRASS_NO_COPY, 0, payload + stripe, stripe, GRASS_STRIPE);
        mailbox->summed_end += GRASS_STRIPE;
      }
    }
    at += length;
    from += length;
    count -= length;
  }
}

/// Copies one range's bytes to byte `to` of the response, or zeroes them and says why in `status`.
static void gather(struct grass_mailbox *mailbox, const struct grass_range *range, struct grass_page_layout layout, uint8_t *payload,
                   uint64_t to, struct grass_range_status *status) {
  *status = (struct grass_range_status){0};
  uint64_t done = 0;
  while (done < range->length) {
    uint64_t address = range->address + done, physical = address, length = range->length - done;
    if (range->flags & GRASS_RANGE_VIRTUAL) {
      struct grass_page_walk walk;
      uint32_t fault = grass_page_walk(layout, range->root, address, load_entry, mailbox, &walk);
      if (fault) {
        // A page that is not mapped says more than one that is mapped to nothing.
        *status = (struct grass_range_status){
            .fault = is_lost(mailbox) ? GRASS_FAULT_LOST : fault,
            .level = walk.level,
            .entry = walk.entry,
            .address = address,
        };
        break;
      }
      physical = walk.physical;
      if (length > walk.remaining) length = walk.remaining;
    }
    if (!status->fault) {
      const uint8_t *from = locate(mailbox, physical, length);
      if (from) {
        append(mailbox, payload, to + done, from, length);
        if (is_lost(mailbox)) *status = (struct grass_range_status){.fault = GRASS_FAULT_LOST, .address = physical};
      } else {
        *status = (struct grass_range_status){.fault = GRASS_FAULT_ABSENT, .address = physical};
      }
    }
    done += length;
  }
  if (status->fault) {
    clear(payload + to, range->length);
    begin_sums(mailbox, to + range->length);
  }
}

// MARK: - Requests

/// Where the payload of a slot's response lies in the region.
static uint8_t *response_payload(struct grass_mailbox *mailbox, uint32_t slot) {
  return mailbox->region + mailbox->layout.response_offset + slot * mailbox->layout.response_size +
         sizeof(struct grass_record);
}

/// Makes a response that lies in its slot visible: its leading sequence number, which a requester polls, comes last.
static void publish(struct grass_mailbox *mailbox, uint32_t slot, uint64_t sequence, uint64_t length) {
  uint8_t *payload = response_payload(mailbox, slot);
  uint8_t *record = payload - sizeof(struct grass_record);
  uint64_t padded = (length + 7) & ~7ull;
  clear(payload + length, padded - length);
  // What was put together stripe by stripe is added up already.
  uint64_t check[2], sums[2] = {mailbox->sums[0], mailbox->sums[1]};
  uint64_t from = mailbox->summed_from < length ? mailbox->summed_from : length;
  uint64_t end = mailbox->summed_end < length ? mailbox->summed_end : length;
  grass_check_bytes(sums, payload, 0, from);
  grass_check_bytes(sums, payload + end, end, length - end);
  begin_sums(mailbox, 0);
  grass_check_finish(check, sums, sequence, length);
  grass_store(payload + padded, sequence);
  grass_store(record + offsetof(struct grass_record, length), length);
  grass_store(record + offsetof(struct grass_record, check), check[0]);
  grass_store(record + offsetof(struct grass_record, check) + 8, check[1]);
  grass_store(record, sequence);
}

/// Where the payload of a slot's response is put together: in its place, or in private memory, where it is sealed.
static uint8_t *answer_place(struct grass_mailbox *mailbox, uint32_t slot) {
  return mailbox->keyring ? mailbox->answer : response_payload(mailbox, slot);
}

/// Seals a response that was put together in private memory, moves it to its slot and makes it visible.
static void publish_sealed(
    struct grass_mailbox *mailbox, uint32_t slot, uint64_t sequence, uint64_t length, uint64_t now) {
  uint64_t check[2];
  // Whose session is over waits for nothing.
  if (!grass_keyring_seal(mailbox->keyring, slot, sequence, mailbox->answer, length, check)) return;
  uint8_t *payload = response_payload(mailbox, slot), *record = payload - sizeof(struct grass_record);
  uint64_t padded = (length + 7) & ~7ull;
  for (uint64_t index = length; index < padded; index++) mailbox->answer[index] = 0;
  grass_copy_in(payload, mailbox->answer, padded);
  grass_store(payload + padded, sequence);
  grass_store(record + offsetof(struct grass_record, length), length);
  grass_store(record + offsetof(struct grass_record, check), check[0]);
  grass_store(record + offsetof(struct grass_record, check) + 8, check[1]);
  grass_store(record, sequence);
  grass_keyring_charge(mailbox->keyring, slot, 0, length, now);
}

/// Takes the slot's old response back before a new one is written over it, lest it be read half and half.
static void withdraw(struct grass_mailbox *mailbox, uint32_t slot) {
  grass_store(response_payload(mailbox, slot) - sizeof(struct grass_record), 0);
}

static void put(uint8_t *to, const void *bytes, uint64_t count) { grass_copy_in(to, bytes, count); }

static uint64_t refuse(struct grass_mailbox *mailbox, uint8_t *to, uint32_t operation, uint32_t status) {
  struct grass_response response = {.operation = operation, .status = status};
  put(to, &response, sizeof response);
  mailbox->refused++;
  return sizeof response;
}

static uint64_t answer_info(struct grass_mailbox *mailbox, uint8_t *to, uint64_t capacity, uint64_t now) {
  uint64_t size = sizeof(struct grass_response) + sizeof(struct grass_info_answer);
  if (mailbox->segment_count > (capacity - size) / sizeof(struct grass_segment))
    return refuse(mailbox, to, GRASS_INFO, GRASS_TOO_LARGE);
  struct grass_response response = {.operation = GRASS_INFO, .count = (uint32_t)mailbox->segment_count};
  struct grass_info_answer info = {
      .version = GRASS_VERSION,
      .features = GRASS_FEATURE_DIGESTS | GRASS_FEATURE_LINES | (mailbox->monitors ? GRASS_FEATURE_MONITORS : 0) |
                  (mailbox->windows ? GRASS_FEATURE_WINDOWS : 0) |
                  (__atomic_load_n(&mailbox->can_pause, __ATOMIC_RELAXED) ? GRASS_FEATURE_PAUSE : 0) |
                  __atomic_load_n(&mailbox->detector_features, __ATOMIC_RELAXED),
      .kernel_hint = __atomic_load_n(&mailbox->kernel_hint, __ATOMIC_ACQUIRE),
      .clock = now,
      .served = mailbox->served,
      .refused = mailbox->refused,
      .torn = mailbox->torn,
      .most_digested = GRASS_MAX_DIGESTED,
  };
  put(to, &response, sizeof response);
  put(to + sizeof response, &info, sizeof info);
  for (uint64_t index = 0; index < mailbox->segment_count; index++, size += sizeof(struct grass_segment)) {
    struct grass_segment segment = mailbox->segments[index].segment;
    put(to + size, &segment, sizeof segment);
  }
  return size;
}

static uint64_t answer_gather(
    struct grass_mailbox *mailbox, const struct grass_request *request, const uint8_t *ranges, uint64_t length,
    uint8_t *to, uint64_t capacity) {
  // In 64 bits no product or sum below can overflow: the count and each length have 32.
  if (length != (uint64_t)request->count * sizeof(struct grass_range))
    return refuse(mailbox, to, GRASS_GATHER, GRASS_BAD_LENGTH);
  uint64_t status_end = sizeof(struct grass_response) + (uint64_t)request->count * sizeof(struct grass_range_status);
  uint64_t end = status_end;
  bool is_virtual = false;
  for (uint64_t index = 0; index < request->count; index++) {
    struct grass_range range;
    __builtin_memcpy(&range, ranges + index * sizeof range, sizeof range);
    if (!grass_range_is_valid(&range)) return refuse(mailbox, to, GRASS_GATHER, GRASS_BAD_RANGE);
    is_virtual |= range.flags & GRASS_RANGE_VIRTUAL;
    end += range.length;
  }
  if (request->reserved) return refuse(mailbox, to, GRASS_GATHER, GRASS_BAD_FIELD);
  unsigned levels = grass_page_levels_x86_64(request->format);
  if (levels == 0 && (is_virtual || request->format != GRASS_PAGES_NONE))
    return refuse(mailbox, to, GRASS_GATHER, GRASS_BAD_FORMAT);
  if (end > capacity) return refuse(mailbox, to, GRASS_GATHER, GRASS_TOO_LARGE);

  struct grass_response response = {.operation = GRASS_GATHER, .count = request->count};
  put(to, &response, sizeof response);
  uint64_t at = status_end;
  begin_sums(mailbox, at);
  for (uint64_t index = 0; index < request->count; index++) {
    struct grass_range range;
    __builtin_memcpy(&range, ranges + index * sizeof range, sizeof range);
    struct grass_range_status status;
    gather(mailbox, &range, grass_page_layout_x86_64(levels), to, at, &status);
    put(to + sizeof response + index * sizeof status, &status, sizeof status);
    at += range.length;
  }
  return end;
}

static uint64_t answer_digest(
    struct grass_mailbox *mailbox, const struct grass_request *request, const uint8_t *payload, uint64_t length,
    uint8_t *to, uint64_t capacity) {
  uint64_t size = 0;
  uint32_t verdict = grass_digest_judge(request, payload, length, GRASS_MAX_DIGESTED, capacity, &size);
  if (verdict != GRASS_OK) return refuse(mailbox, to, GRASS_DIGEST, verdict);
  struct grass_digest_request asked;
  __builtin_memcpy(&asked, payload, sizeof asked);

  struct grass_response response = {.operation = GRASS_DIGEST, .count = request->count};
  put(to, &response, sizeof response);
  uint8_t *statuses = to + sizeof response, *digests = statuses + request->count * sizeof(struct grass_range_status);
  for (uint64_t index = 0; index < request->count; index++) {
    struct grass_range range;
    __builtin_memcpy(&range, payload + sizeof asked + index * sizeof range, sizeof range);
    struct grass_range_status status = {0};
    const uint8_t *from = locate(mailbox, range.address, range.length);
    uint8_t *first = digests;
    if (!from) status = (struct grass_range_status){.fault = GRASS_FAULT_ABSENT, .address = range.address};
    for (uint64_t part = 0; part < grass_digest_count(range.length, asked.unit); part++, digests += sizeof(struct grass_digest)) {
      uint64_t start;
      uint32_t count = grass_digest_part(range.length, asked.unit, part, &start);
      struct grass_digest digest = {0};
      if (from) digest = grass_digest_bytes(from + start, count, asked.seed);
      put(digests, &digest, sizeof digest);
    }
    if (from && is_lost(mailbox)) {
      status = (struct grass_range_status){.fault = GRASS_FAULT_LOST, .address = range.address};
      clear(first, (uint64_t)(digests - first));
    }
    put(statuses + index * sizeof status, &status, sizeof status);
  }
  return size;
}

// MARK: - Monitors

void grass_mailbox_set_monitors(struct grass_mailbox *mailbox, struct grass_monitors *monitors, uint8_t *output) {
  monitors->job = (struct grass_job){.output = {.bytes = output}};
  monitors->is_running = false;
  mailbox->monitors = monitors;
}

uint64_t grass_job_turn(const struct grass_job *job) { return __atomic_load_n(&job->turn, __ATOMIC_ACQUIRE); }

void grass_job_end(struct grass_job *job) { __atomic_store_n(&job->turn, GRASS_JOB_END, __ATOMIC_RELEASE); }

void grass_job_finish(struct grass_job *job) { __atomic_fetch_add(&job->finished, 1, __ATOMIC_RELEASE); }

void grass_job_run(
    struct grass_job *job, const struct grass_machine *machine, void (*entry)(struct grass_lane_state *lane, uint32_t monitor),
    struct grass_lane_state *state, struct grass_item *items, uint64_t capacity, uint64_t steps) {
  uint64_t count = 0;
  struct grass_window near = grass_widest_window(machine);
  for (uint32_t stage = 0; stage < GRASS_MAX_STAGES; stage++) {
    const struct grass_item *given = items + (stage & 1) * capacity;
    struct grass_items next = {.items = items + (~stage & 1) * capacity, .capacity = capacity};
    struct grass_order order = {
        .machine = machine,
        .near = near,
        .output = &job->output,
        .next = &next,
        .arguments = job->arguments,
        .stage = stage,
        .lanes = stage ? GRASS_ITEM_LANES : job->lanes,
        .walks = job->flags & GRASS_RUN_WALKS,
        .state = job->state,
        .state_words = job->state_words,
    };
    uint64_t lanes = stage ? count * GRASS_ITEM_LANES : job->lanes;
    for (uint64_t lane = 0; lane < lanes; lane++) {
      uint64_t budget = job->budget < steps ? job->budget : steps;
      grass_lane_start(state, &order, stage ? &given[lane / GRASS_ITEM_LANES] : 0, (uint32_t)(lane % order.lanes), budget);
      entry(state, job->monitor);
      steps -= budget - state->budget;
      if (state->fault) grass_job_note(job, state);
    }
    count = next.count;
    if (count == 0) return;
  }
}

static uint64_t answer_monitors(struct grass_mailbox *mailbox, uint8_t *to, uint64_t capacity) {
  uint32_t count = mailbox->monitors ? mailbox->monitors->count : 0;
  uint64_t size = sizeof(struct grass_response);
  if (count > (capacity - size) / sizeof(struct grass_monitor_answer))
    return refuse(mailbox, to, GRASS_MONITORS, GRASS_TOO_LARGE);
  struct grass_response response = {.operation = GRASS_MONITORS, .count = count};
  put(to, &response, sizeof response);
  for (uint32_t index = 0; index < count; index++, size += sizeof(struct grass_monitor_answer))
    put(to + size, &mailbox->monitors->names[index], sizeof(struct grass_monitor_answer));
  return size;
}

/// Judges a run's request. Returns a status, GRASS_OK with the job filled in but not begun.
static uint32_t prepare_run(struct grass_mailbox *mailbox, const uint8_t *payload, uint64_t length) {
  struct grass_monitors *monitors = mailbox->monitors;
  struct grass_run_request run;
  if (length != sizeof(struct grass_request) + sizeof run) return GRASS_BAD_LENGTH;
  struct grass_request request;
  __builtin_memcpy(&request, payload, sizeof request);
  if (!grass_request_is_plain(&request)) return GRASS_BAD_FIELD;
  __builtin_memcpy(&run, payload + sizeof(struct grass_request), sizeof run);
  uint32_t monitor = 0;
  while (monitors && monitor < monitors->count &&
         __builtin_memcmp(monitors->names[monitor].name, run.monitor, sizeof run.monitor) != 0)
    monitor++;
  if (!monitors || monitor == monitors->count) return GRASS_NO_MONITOR;
  if (run.flags & ~GRASS_RUN_WALKS) return GRASS_BAD_RUN;
  uint64_t head = sizeof(struct grass_response) + sizeof(struct grass_run_answer) +
                  GRASS_MAX_FAULTS * sizeof(struct grass_lane_fault);
  uint64_t capacity = grass_record_capacity(mailbox->layout.response_size);
  if (capacity < head) return GRASS_TOO_LARGE;
  struct grass_job *job = &monitors->job;
  uint64_t most_lanes = (uint64_t)monitors->most_workers * monitors->lanes_per_worker;
  job->monitor = monitor;
  job->flags = run.flags;
  __builtin_memcpy(job->arguments, run.arguments, sizeof job->arguments);
  job->lanes = run.lanes ? run.lanes : monitors->default_lanes;
  if (job->lanes > most_lanes) job->lanes = (uint32_t)most_lanes;
  job->budget = run.budget && run.budget < monitors->most_budget ? run.budget : monitors->most_budget;
  job->workers = (job->lanes + monitors->lanes_per_worker - 1) / monitors->lanes_per_worker;
  job->output.capacity = capacity - head;
  job->output.used = 0;
  job->finished = job->faulted = 0;
  return GRASS_OK;
}

/// What a run whose workers have finished gave. Its records already lie in private memory.
static uint64_t answer_run(struct grass_mailbox *mailbox, uint8_t *to, uint64_t now) {
  struct grass_job *job = &mailbox->monitors->job;
  uint32_t count = job->faulted < GRASS_MAX_FAULTS ? job->faulted : GRASS_MAX_FAULTS;
  struct grass_response response = {.operation = GRASS_RUN, .count = count};
  struct grass_run_answer run = {
      .elapsed = now - mailbox->monitors->since,
      .size = job->output.used < job->output.capacity ? job->output.used : job->output.capacity,
      .lanes = job->lanes,
      .faulted = job->faulted,
  };
  uint64_t size = 0;
  put(to, &response, sizeof response);
  size += sizeof response;
  put(to + size, &run, sizeof run);
  size += sizeof run;
  begin_sums(mailbox, size);
  append(mailbox, to, size, job->output.bytes, run.size);
  size += run.size;
  put(to + size, job->faults, count * sizeof job->faults[0]);
  return size + count * sizeof job->faults[0];
}

/// Publishes the answer of a run that has ended.
static bool finish_run(struct grass_mailbox *mailbox, uint64_t now) {
  struct grass_monitors *monitors = mailbox->monitors;
  if (!monitors || !monitors->is_running) return false;
  if (__atomic_load_n(&monitors->job.finished, __ATOMIC_ACQUIRE) < monitors->job.workers) return false;
  monitors->is_running = false;
  // A requester that has given up has put another request in its slot, or will: that one has its own answer.
  if (mailbox->slots[monitors->slot].served == monitors->sequence) {
    withdraw(mailbox, monitors->slot);
    uint64_t size = answer_run(mailbox, answer_place(mailbox, monitors->slot), now);
    if (mailbox->keyring) publish_sealed(mailbox, monitors->slot, monitors->sequence, size, now);
    else publish(mailbox, monitors->slot, monitors->sequence, size);
  }
  mailbox->served++;
  return true;
}

static uint64_t answer_windows(
    struct grass_mailbox *mailbox, uint32_t slot, const struct grass_request *request, uint64_t length, uint8_t *to,
    uint64_t capacity) {
  if (!mailbox->windows) return refuse(mailbox, to, GRASS_WINDOWS, GRASS_BAD_OPERATION);
  if (length != 0) return refuse(mailbox, to, GRASS_WINDOWS, GRASS_BAD_LENGTH);
  if (!grass_request_is_plain(request)) return refuse(mailbox, to, GRASS_WINDOWS, GRASS_BAD_FIELD);
  struct grass_windows *windows = &mailbox->windows[slot];
  __atomic_store_n(&windows->is_wanted, 1, __ATOMIC_RELEASE);
  struct grass_windows_answer answer = {.is_ready = __atomic_load_n(&windows->is_ready, __ATOMIC_ACQUIRE)};
  uint64_t count = answer.is_ready ? windows->count : 0, head = sizeof(struct grass_response) + sizeof answer;
  if (count > GRASS_MAX_WINDOWS || head + count * sizeof(struct grass_memory_window) > capacity)
    return refuse(mailbox, to, GRASS_WINDOWS, GRASS_TOO_LARGE);
  struct grass_response response = {.operation = GRASS_WINDOWS, .count = (uint32_t)count};
  put(to, &response, sizeof response);
  put(to + sizeof response, &answer, sizeof answer);
  for (uint64_t index = 0; index < count; index++)
    put(to + head + index * sizeof(struct grass_memory_window), &windows->windows[index], sizeof(struct grass_memory_window));
  return head + count * sizeof(struct grass_memory_window);
}

static uint64_t answer_pause(
    struct grass_mailbox *mailbox, uint32_t slot, const struct grass_request *request, uint64_t length, uint8_t *to,
    uint64_t now) {
  if (!__atomic_load_n(&mailbox->can_pause, __ATOMIC_RELAXED)) return refuse(mailbox, to, GRASS_PAUSE, GRASS_BAD_OPERATION);
  if (length != 0) return refuse(mailbox, to, GRASS_PAUSE, GRASS_BAD_LENGTH);
  if (request->count > GRASS_MAX_PAUSE || request->format || request->reserved)
    return refuse(mailbox, to, GRASS_PAUSE, GRASS_BAD_FIELD);
  uint64_t until = request->count ? now + request->count * 1000000ull : 0;
  __atomic_store_n(&mailbox->slots[slot].paused_until, until, __ATOMIC_RELAXED);
  struct {
    struct grass_response response;
    struct grass_pause_answer pause;
  } reply = {{.operation = GRASS_PAUSE}, {.state = __atomic_load_n(&mailbox->hypervisor, __ATOMIC_RELAXED)}};
  put(to, &reply, sizeof reply);
  return sizeof reply;
}

/// Answers a request that was judged whole; its payload is private. Returns the length of the response's payload.
static uint64_t answer(
    struct grass_mailbox *mailbox, uint32_t slot, const uint8_t *payload, uint64_t length, uint8_t *to, uint64_t now) {
  struct grass_request request;
  if (length < sizeof request) return refuse(mailbox, to, 0, GRASS_BAD_LENGTH);
  __builtin_memcpy(&request, payload, sizeof request);
  uint64_t capacity = grass_record_capacity(mailbox->layout.response_size);
  bool is_plain = request.operation == GRASS_HEARTBEAT || request.operation == GRASS_INFO ||
                  request.operation == GRASS_MONITORS;
  if (is_plain && length != sizeof request) return refuse(mailbox, to, request.operation, GRASS_BAD_LENGTH);
  if (is_plain && !grass_request_is_plain(&request)) return refuse(mailbox, to, request.operation, GRASS_BAD_FIELD);
  switch (request.operation) {
  case GRASS_HEARTBEAT: {
    struct {
      struct grass_response response;
      struct grass_heartbeat_answer heartbeat;
    } reply = {{.operation = GRASS_HEARTBEAT}, {.clock = now, .counter = mailbox->counter}};
    put(to, &reply, sizeof reply);
    return sizeof reply;
  }
  case GRASS_INFO:
    return answer_info(mailbox, to, capacity, now);
  case GRASS_MONITORS:
    return answer_monitors(mailbox, to, capacity);
  case GRASS_GATHER:
    return answer_gather(mailbox, &request, payload + sizeof request, length - sizeof request, to, capacity);
  case GRASS_DIGEST:
    return answer_digest(mailbox, &request, payload + sizeof request, length - sizeof request, to, capacity);
  case GRASS_WINDOWS:
    return answer_windows(mailbox, slot, &request, length - sizeof request, to, capacity);
  case GRASS_PAUSE:
    return answer_pause(mailbox, slot, &request, length - sizeof request, to, now);
  default:
    return refuse(mailbox, to, request.operation, GRASS_BAD_OPERATION);
  }
}

/// Whether the request in the scratch memory asks for a run.
static bool is_run(const struct grass_mailbox *mailbox, uint64_t length) {
  struct grass_request request;
  if (length < sizeof request) return false;
  __builtin_memcpy(&request, mailbox->scratch + sizeof(struct grass_record), sizeof request);
  return request.operation == GRASS_RUN;
}

/// Begins a run, or says in `*status` why not. Returns false where it has to wait for another.
static bool begin_run(struct grass_mailbox *mailbox, uint32_t slot, uint64_t sequence, uint64_t length, uint64_t now, uint32_t *status) {
  struct grass_monitors *monitors = mailbox->monitors;
  // One at a time: this one waits in its slot.
  if (monitors && monitors->is_running) return false;
  *status = prepare_run(mailbox, mailbox->scratch + sizeof(struct grass_record), length);
  if (*status != GRASS_OK) return true;
  monitors->is_running = true;
  monitors->slot = slot;
  monitors->sequence = mailbox->slots[slot].served = sequence;
  monitors->since = now;
  __atomic_store_n(&monitors->job.turn, monitors->job.turn + 1, __ATOMIC_RELEASE);
  return true;
}

// MARK: - With keys

/// How long a sealed request that does not open is left alone, in nanoseconds: at first, while it may be on its way, and at most.
#define SHORTEST_LOOK 20000u
#define LONGEST_LOOK 1000000u
#define NANOSECONDS_PER_BYTE 16u

/// Notes that a request cannot be used as it is now: it may be on its way, or another's, whom the true one then follows.
///
/// `length` is what of it was looked at: who sends what does not open pays with his own time.
static bool look_later(
    struct grass_mailbox *mailbox, struct grass_slot_state *state, uint64_t sequence, uint64_t length, uint64_t now) {
  if (state->pending != sequence) {
    state->pending = sequence;
    state->pending_since = now;
    mailbox->torn++;
  }
  uint64_t pause = (now - state->pending_since) / 2;
  if (pause < SHORTEST_LOOK) pause = SHORTEST_LOOK;
  pause += length * NANOSECONDS_PER_BYTE;
  state->next_look = now + (pause > LONGEST_LOOK ? LONGEST_LOOK : pause);
  return false;
}

/// Answers a request that was opened, whose payload lies in the scratch memory. Returns its length.
static uint64_t answer_opened(struct grass_mailbox *mailbox, uint32_t slot, uint64_t length, uint64_t now) {
  const uint8_t *payload = mailbox->scratch + sizeof(struct grass_record);
  struct grass_request request;
  if (length < sizeof request) return refuse(mailbox, mailbox->answer, 0, GRASS_BAD_LENGTH);
  __builtin_memcpy(&request, payload, sizeof request);
  if (request.operation >= GRASS_SESSION && request.operation <= GRASS_CERTIFY)
    return grass_keyring_answer(
        mailbox->keyring, slot, &request, payload + sizeof request, length - sizeof request, mailbox->answer,
        grass_record_capacity(mailbox->layout.response_size), now);
  return answer(mailbox, slot, payload, length, mailbox->answer, now);
}

/// Whether the session of a slot may ask what lies in the scratch memory.
static bool is_allowed(struct grass_mailbox *mailbox, uint32_t slot, uint64_t length, uint32_t *operation) {
  struct grass_request request = {0};
  if (length >= sizeof request) __builtin_memcpy(&request, mailbox->scratch + sizeof(struct grass_record), sizeof request);
  *operation = request.operation;
  return may(mailbox, slot, request.operation);
}

/// Looks at one slot of a region with keys. Returns whether a request was answered.
static bool serve_keyed(struct grass_mailbox *mailbox, uint32_t slot, uint64_t now) {
  struct grass_keyring *keyring = mailbox->keyring;
  struct grass_slot_state *state = &mailbox->slots[slot];
  const uint8_t *record = mailbox->region + mailbox->layout.request_offset + slot * mailbox->layout.request_size;
  uint64_t sequence = grass_load(record);
  if (sequence == state->served || sequence == 0) return false;
  if (now < state->next_look) return false;
  bool is_handshake = grass_epoch(sequence) == 0;
  if (is_handshake ? !grass_keyring_may_shake(keyring, slot) : !grass_keyring_may_ask(keyring, slot, now)) return false;
  uint64_t length = grass_load(record + offsetof(struct grass_record, length));
  if (length > grass_record_capacity(mailbox->layout.request_size)) return look_later(mailbox, state, sequence, 0, now);
  uint64_t size = grass_record_size(length), copied;
  if (grass_load(record + size - 8) != sequence) return look_later(mailbox, state, sequence, 0, now);
  grass_copy_out(mailbox->scratch, record, size);
  struct grass_record head;
  __builtin_memcpy(&head, mailbox->scratch, sizeof head);
  if (head.sequence != sequence || head.length != length) return look_later(mailbox, state, sequence, size, now);
  uint8_t *payload = mailbox->scratch + sizeof head;

  if (is_handshake) {
    if (grass_record_judge(mailbox->scratch, size, mailbox->layout.request_size, sequence, NULL, &copied) != GRASS_RECORD_WHOLE)
      return look_later(mailbox, state, sequence, size, now);
    withdraw(mailbox, slot);
    uint64_t answered = grass_keyring_handshake(
        keyring, slot, payload, length, mailbox->answer, grass_record_capacity(mailbox->layout.response_size), now);
    grass_copy_in(response_payload(mailbox, slot), mailbox->answer, answered);
    begin_sums(mailbox, 0);
    publish(mailbox, slot, sequence, answered);
    state->served = sequence;
    return true;
  }

  struct grass_opened opened;
  if (!grass_keyring_open(keyring, slot, &head, payload, &opened)) return look_later(mailbox, state, sequence, size, now);
  uint32_t operation;
  // A session that has yet to be confirmed has no slot before it is accepted, so that it can run nothing with its first record.
  if (!opened.is_waiting && is_run(mailbox, length) && mailbox->monitors && mailbox->monitors->is_running)
    return look_later(mailbox, state, sequence, 0, now);
  state->next_look = 0;
  if (opened.is_waiting || opened.session != keyring->owners[slot]) close_windows(mailbox, slot);
  grass_keyring_accept(keyring, slot, &opened, now);
  state->served = sequence;
  mailbox->served++;
  uint64_t answered;
  bool allowed = is_allowed(mailbox, slot, length, &operation);
  grass_keyring_charge(keyring, slot, operation != GRASS_HEARTBEAT, allowed ? grass_digested(payload, length) : 0, now);
  if (!allowed) {
    answered = refuse(mailbox, mailbox->answer, operation, GRASS_NOT_ALLOWED);
  } else if (operation == GRASS_RUN) {
    uint32_t status = GRASS_BAD_RUN;
    if (!begin_run(mailbox, slot, sequence, length, now, &status)) status = GRASS_BAD_RUN;
    if (status == GRASS_OK) {
      grass_keyring_session(keyring, slot)->runs++;
      return true;
    }
    answered = refuse(mailbox, mailbox->answer, GRASS_RUN, status);
  } else {
    answered = answer_opened(mailbox, slot, length, now);
    if (operation == GRASS_GATHER) grass_keyring_session(keyring, slot)->read += answered;
  }
  withdraw(mailbox, slot);
  publish_sealed(mailbox, slot, sequence, answered, now);
  // A session that this made is told at once that it lives.
  if (opened.is_waiting) publish_lines(mailbox, now, GRASS_STATE_RUNNING);
  return true;
}

/// Looks at one slot. Returns whether a request was answered.
static bool serve(struct grass_mailbox *mailbox, uint32_t slot, uint64_t now) {
  struct grass_slot_state *state = &mailbox->slots[slot];
  const uint8_t *record = mailbox->region + mailbox->layout.request_offset + slot * mailbox->layout.request_size;
  uint64_t sequence = grass_load(record);
  if (sequence == state->served || sequence == 0) return false;

  // The length is loaded once, and bounds the one copy.
  uint64_t length = grass_load(record + offsetof(struct grass_record, length));
  uint64_t capacity = grass_record_capacity(mailbox->layout.request_size);
  enum grass_verdict verdict = GRASS_RECORD_IMPOSSIBLE;
  if (length <= capacity) {
    uint64_t size = grass_record_size(length), copied;
    verdict = GRASS_RECORD_TORN;
    if (grass_load(record + size - 8) == sequence) {
      uint64_t sums[2];
      grass_record_fetch(mailbox->scratch, record, size, sequence, sums);
      verdict = grass_record_judge(mailbox->scratch, size, mailbox->layout.request_size, sequence, sums, &copied);
      if (verdict == GRASS_RECORD_WHOLE && copied != length) verdict = GRASS_RECORD_TORN;
    }
  }
  if (verdict != GRASS_RECORD_WHOLE) {
    if (state->pending != sequence) {
      state->pending = sequence;
      state->pending_since = now;
      mailbox->torn++;
      return false;
    }
    // Bytes of one write may land in any order: time tells a request that is still on its way from a false one. One
    // whose end never arrives is never answered; its requester waits no longer than its own deadline.
    if (now - state->pending_since < GRASS_GRACE_NS) return false;
    if (verdict != GRASS_RECORD_FALSE && verdict != GRASS_RECORD_IMPOSSIBLE) return false;
    withdraw(mailbox, slot);
    uint64_t size = refuse(mailbox, response_payload(mailbox, slot), 0,
                           verdict == GRASS_RECORD_FALSE ? GRASS_BAD_CHECK : GRASS_BAD_LENGTH);
    publish(mailbox, slot, sequence, size);
  } else if (grass_epoch(sequence)) {
    withdraw(mailbox, slot);
    publish(mailbox, slot, sequence, refuse(mailbox, response_payload(mailbox, slot), 0, GRASS_BAD_EPOCH));
  } else if (is_run(mailbox, length)) {
    uint32_t status = GRASS_OK;
    if (!begin_run(mailbox, slot, sequence, length, now, &status)) return false;
    if (status == GRASS_OK) return true;
    withdraw(mailbox, slot);
    publish(mailbox, slot, sequence, refuse(mailbox, response_payload(mailbox, slot), GRASS_RUN, status));
  } else {
    withdraw(mailbox, slot);
    uint64_t size = answer(mailbox, slot, mailbox->scratch + sizeof(struct grass_record), length,
                           response_payload(mailbox, slot), now);
    publish(mailbox, slot, sequence, size);
  }
  state->served = sequence;
  mailbox->served++;
  return true;
}

uint32_t grass_mailbox_step(struct grass_mailbox *mailbox, uint64_t now) {
  uint32_t answered = finish_run(mailbox, now);
  if (mailbox->keyring) {
    release(mailbox);
    grass_keyring_tell(mailbox->keyring, now);
    for (uint32_t slot = 0; slot < mailbox->layout.slot_count; slot++) answered += serve_keyed(mailbox, slot, now);
    grass_keyring_sweep(mailbox->keyring, now);
  } else {
    for (uint32_t slot = 0; slot < mailbox->layout.slot_count; slot++) answered += serve(mailbox, slot, now);
  }
  if (now - mailbox->beacon_time >= GRASS_BEACON_NS) publish_beacon(mailbox, now, GRASS_STATE_RUNNING);
  if (now - mailbox->lines_time >= GRASS_LINES_NS) publish_lines(mailbox, now, GRASS_STATE_RUNNING);
  return answered;
}
