// The resident program of a GPU: one kernel that is launched once and stays. Its first block is the mailbox, its last one runs
// the detectors, and the others are workers, which run the lanes of monitors. It answers as mailbox.c does on a processor, by the same rules; here the
// threads of a block share each piece of work.
//
// All threads of the mailbox block take the same way through the code below but where a single thread or warp is named:
// what they decide by lies in shared memory, with a barrier before and after.
//
// With GRASS_GPU_KEYS it is a program for regions with keys, and for no others: keyed.c. One without starts faster, for the driver
// compiles it at each start.
#include "grass_gpu.h"

#if !defined(GRASS_GPU_KEYS)
#define GRASS_GPU_KEYS 0
#endif

#define SHARED static __attribute__((address_space(3), loader_uninitialized))
#define KERNEL __attribute__((nvptx_kernel))

/// The least bytes of a page.
#define PAGE_SIZE 4096ull
#define WARP 32u
/// Words of a record that the poll itself loads: a heartbeat's are all there.
#define HEAD_WORDS 8u
/// Words of a payload that each thread has on their way at once.
#define GROUP 4u
/// Nanoseconds that a word of the host's memory takes, about.
#define WORD_TIME 1000u
/// Nanoseconds after which a run's lanes end, and no more begin.
#define MOST_TIME 5000000000ull
/// Nanoseconds after which a detector's tick ends.
#define MOST_TICK 50000000ull
/// Pieces of memory that workers keep at hand; hosts have few.
#define NEAR_SEGMENTS 64u
/// Longer payloads are gathered and sent by all workers together.
#define LONG_PAYLOAD (2 * GROUP * GRASS_GPU_THREADS * 8)
/// Bytes that a warp copies, or adds to a digest, at a time.
#define PIECE 4096ull

// MARK: - The GPU

static unsigned thread(void) { return __nvvm_read_ptx_sreg_tid_x(); }
static unsigned block(void) { return __nvvm_read_ptx_sreg_ctaid_x(); }
static void barrier(void) { __syncthreads(); }

static uint64_t clock_now(void) {
  uint64_t now;
  __asm__ volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  return now;
}

/// A load that no cache answers, of memory that others change.
static uint64_t load_word(const void *place) {
  uint64_t value;
  __asm__ volatile("ld.relaxed.sys.u64 %0, [%1];" : "=l"(value) : "l"(place) : "memory");
  return value;
}

/// A load that the multiprocessor's cache may answer, with what was there after the last acquire.
static uint64_t load_cached(const void *place) {
  uint64_t value;
  __asm__ volatile("ld.u64 %0, [%1];" : "=l"(value) : "l"(place) : "memory");
  return value;
}

static uint8_t load_byte(const void *place) {
  uint32_t value;
  __asm__ volatile("ld.volatile.u8 %0, [%1];" : "=r"(value) : "l"(place) : "memory");
  return (uint8_t)value;
}

static void store_word(void *place, uint64_t value) {
  __asm__ volatile("st.relaxed.sys.u64 [%0], %1;" : : "l"(place), "l"(value) : "memory");
}

// Between the blocks of this GPU.
static uint64_t load_acquire_gpu(const void *place) {
  uint64_t value;
  __asm__ volatile("ld.acquire.gpu.u64 %0, [%1];" : "=l"(value) : "l"(place) : "memory");
  return value;
}
static uint32_t load_acquire_gpu32(const void *place) {
  uint32_t value;
  __asm__ volatile("ld.acquire.gpu.u32 %0, [%1];" : "=r"(value) : "l"(place) : "memory");
  return value;
}
static void store_release_gpu(void *place, uint64_t value) {
  __asm__ volatile("st.release.gpu.u64 [%0], %1;" : : "l"(place), "l"(value) : "memory");
}
static void add_release_gpu32(void *place, uint32_t value) {
  __asm__ volatile("red.release.gpu.add.u32 [%0], %1;" : : "l"(place), "r"(value) : "memory");
}

#if GRASS_GPU_KEYS
// The core of sessions' keys, as on a processor.
#include "chacha20.c"
#include "keyring.c"
#include "noise.c"
#include "poly1305.c"
#include "random.c"
#include "seal.c"
#include "session.c"
#include "sha256.c"
#include "wipe.c"
#include "x25519.c"
#endif

// What keeps the findings, as on a processor.
#include "detect.c"

static uint64_t from_lane(uint64_t value, unsigned lane) {
  uint32_t low = (uint32_t)__nvvm_shfl_sync_idx_i32(~0u, (int)(uint32_t)value, (int)lane, 31);
  uint32_t high = (uint32_t)__nvvm_shfl_sync_idx_i32(~0u, (int)(uint32_t)(value >> 32), (int)lane, 31);
  return (uint64_t)high << 32 | low;
}

// MARK: - What the blocks share

SHARED uint64_t heads[GRASS_GPU_THREADS];  // The first words of each slot's request, as the last poll found them.
SHARED uint64_t fresh[2];  // Slots whose requests are to be served by the whole block, a bit each: of this turn and the next.
SHARED uint32_t ending;
SHARED uint64_t sums[2];
SHARED uint64_t totals[GRASS_GPU_THREADS];
SHARED uint64_t decided[4];
// The mailbox's own copies of what it looks at while a job is at work.
SHARED struct {
  uint32_t is_busy, is_parcel;
  uint32_t workers;
  uint32_t meetings;  // That all workers have come to, before this job.
} work;

/// Adds up what the threads have, into `sums`, by all threads; a barrier has to follow.
static void sum_together(uint64_t own[2]) {
  for (unsigned other = WARP / 2; other > 0; other /= 2) {
    own[0] += from_lane(own[0], (thread() + other) % WARP);
    own[1] += from_lane(own[1], (thread() + other) % WARP);
  }
  if (thread() % WARP == 0) {
    __atomic_fetch_add((uint64_t *)&sums[0], own[0], __ATOMIC_RELAXED);
    __atomic_fetch_add((uint64_t *)&sums[1], own[1], __ATOMIC_RELAXED);
  }
}

/// The check of a payload of whole words in the GPU's own memory, by all threads.
static void check_together(uint64_t check[2], uint64_t sequence, const uint64_t *payload, uint64_t length) {
  if (thread() == 0) sums[0] = sums[1] = 0;
  barrier();
  uint64_t own[2] = {0, 0};
  for (uint64_t word = thread(); word < (length + 7) / 8; word += GRASS_GPU_THREADS)
    grass_check_word(own, word, payload[word]);
  sum_together(own);
  barrier();
  grass_check_finish(check, (const uint64_t *)sums, sequence, length);
  barrier();
}

// MARK: - The watched memory

static const uint8_t *locate(const struct grass_mailbox *mailbox, uint64_t address, uint64_t length) {
  uint64_t index = grass_segments_find(mailbox->segments, mailbox->segment_count, address, ~0ull);
  return index == mailbox->segment_count ? 0 : grass_segment_bytes(&mailbox->segments[index], address, length);
}

static bool load_entry(void *mailbox, uint64_t place, uint64_t *entry) {
  const uint8_t *pointer = locate(mailbox, place, GRASS_PAGE_ENTRY);
  if (pointer) *entry = load_word(pointer);
  return pointer;
}

/// Where the GPU sees the bytes at a range's address plus `done`, and how many of them lie there in one run; or a fault.
static const uint8_t *place_of(
    const struct grass_mailbox *mailbox, const struct grass_range *range, uint32_t levels, uint64_t done,
    uint64_t *count, struct grass_range_status *status) {
  uint64_t address = range->address + done, physical = address;
  *count = range->length - done;
  if (range->flags & GRASS_RANGE_VIRTUAL) {
    struct grass_page_walk walk;
    uint32_t fault = grass_page_walk(
        grass_page_layout_x86_64(levels), range->root, address, load_entry, (void *)mailbox, &walk);
    if (fault) {
      *status = (struct grass_range_status){
          .fault = fault, .level = walk.level, .entry = walk.entry, .address = address};
      return 0;
    }
    physical = walk.physical;
    if (*count > walk.remaining) *count = walk.remaining;
  }
  const uint8_t *from = locate(mailbox, physical, *count);
  if (!from) *status = (struct grass_range_status){.fault = GRASS_FAULT_ABSENT, .address = physical};
  return from;
}

/// Copies watched bytes to the GPU's memory, by one warp.
static void copy_by_warp(uint8_t *to, const uint8_t *from, uint64_t count) {
  unsigned lane = thread() % WARP;
  if ((((uintptr_t)to | (uintptr_t)from) & 7) == 0) {
    uint64_t words = count / 8, index = lane;
    // Several loads are on their way before the first is needed.
    for (; index + 3 * WARP < words; index += 4 * WARP) {
      uint64_t a = load_word(from + index * 8), b = load_word(from + (index + WARP) * 8);
      uint64_t c = load_word(from + (index + 2 * WARP) * 8), d = load_word(from + (index + 3 * WARP) * 8);
      ((uint64_t *)to)[index] = a;
      ((uint64_t *)to)[index + WARP] = b;
      ((uint64_t *)to)[index + 2 * WARP] = c;
      ((uint64_t *)to)[index + 3 * WARP] = d;
    }
    for (; index < words; index += WARP) ((uint64_t *)to)[index] = load_word(from + index * 8);
    to += words * 8;
    from += words * 8;
    count -= words * 8;
  }
  for (uint64_t index = lane; index < count; index += WARP) to[index] = load_byte(from + index);
}

// MARK: - Work for all workers

/// What a stage of a job is given. A worker may still look at what the last job left when the next one begins.
static struct grass_items *items_of(struct grass_gpu *gpu, uint64_t turn, uint32_t stage) {
  return &gpu->items[turn % 2][stage];
}

/// Hands the job, or a parcel that was made up, to the workers, by one thread.
static void start_turn(struct grass_gpu *gpu, uint64_t kind) {
  struct grass_job *job = &gpu->monitors.job;
  work.is_busy = true;
  work.is_parcel = kind != GRASS_TURN_LANES;
  gpu->parcel.kind = kind;
  job->workers = work.workers;
  store_release_gpu(&job->turn, job->turn + 1);
}

/// Whether the job is done, by one thread: all workers have come to the end of a stage that left nothing, or of their parts of
/// the parcel. Then all is ready for the next turn, before it is asked for.
static bool is_done(struct grass_gpu *gpu) {
  uint64_t turn = gpu->monitors.job.turn;
  uint32_t arrived = load_acquire_gpu32(&gpu->arrived) - work.meetings * work.workers;
  uint32_t stage = arrived / work.workers;
  if (stage == 0 || arrived % work.workers) return false;
  if (!work.is_parcel && stage < GRASS_MAX_STAGES && items_of(gpu, turn, stage)->count) return false;
  work.meetings += stage;
  for (stage = 1; stage <= GRASS_MAX_STAGES; stage++) items_of(gpu, turn + 1, stage)->count = 0;
  return true;
}

/// Has the workers do a parcel that was made up, and waits until they have, by all threads; false, at once, where they run lanes.
static bool runs_parcel(struct grass_gpu *gpu, uint64_t kind) {
  if (thread() == 0) {
    decided[0] = !work.is_busy;
    if (!work.is_busy) {
      start_turn(gpu, kind);
      while (!is_done(gpu)) {}
      work.is_busy = false;
    }
  }
  barrier();
  bool is_sent = decided[0];
  barrier();
  return is_sent;
}

// MARK: - Answers

static uint8_t *response_record(const struct grass_mailbox *mailbox, uint32_t slot) {
  return mailbox->region + mailbox->layout.response_offset + slot * mailbox->layout.response_size;
}

/// Moves a part of a payload from the GPU's memory to the region and adds it up into `sums`, by all threads of a block:
/// part `part` of `parts`, which are interleaved. A barrier has to follow.
static void send_part(uint64_t *to, const uint64_t *from, uint64_t length, uint64_t part, uint64_t parts) {
  uint64_t words = (length + 7) / 8, stride = parts * GRASS_GPU_THREADS, own[2] = {0, 0};
  for (uint64_t base = part * GRASS_GPU_THREADS + thread(); base < words; base += GROUP * stride) {
    uint64_t group[GROUP];
#pragma unroll
    for (unsigned index = 0; index < GROUP; index++)
      group[index] = base + index * stride < words ? from[base + index * stride] : 0;
#pragma unroll
    for (unsigned index = 0; index < GROUP; index++) {
      uint64_t word = base + index * stride;
      if (word >= words) break;
      store_word(to + word, group[index]);
      grass_check_word(own, word, group[index]);
    }
  }
  sum_together(own);
}

/// Makes a response whose payload is in its slot visible, by one thread.
static void complete(
    struct grass_gpu *gpu, uint32_t slot, uint64_t sequence, uint64_t length, const uint64_t sums[2]) {
  uint8_t *record = response_record(&gpu->mailbox, slot);
  // The requester takes nothing whose check does not hold: only the last store waits for the others.
  store_word(record + sizeof(struct grass_record) + ((length + 7) & ~7ull), sequence);
  store_word(record + offsetof(struct grass_record, length), length);
  uint64_t check[2];
  grass_check_finish(check, sums, sequence, length);
  store_word(record + offsetof(struct grass_record, check), check[0]);
  store_word(record + offsetof(struct grass_record, check) + 8, check[1]);
  grass_store(record, sequence);
  gpu->mailbox.served++;
}

#if GRASS_GPU_KEYS
static void publish_sealed(struct grass_gpu *gpu, uint8_t *text, uint32_t slot, uint64_t sequence, uint64_t length);
#endif

/// Moves a response's payload, zero padded to whole words, from `text` in the GPU's memory to its slot and makes it visible, by
/// all threads. Sealed, it is sealed in its place.
static void publish_text(struct grass_gpu *gpu, uint8_t *text, uint32_t slot, uint64_t sequence, uint64_t length) {
#if GRASS_GPU_KEYS
  // Of epoch 0 are the messages of handshakes alone.
  if (grass_epoch(sequence)) return publish_sealed(gpu, text, slot, sequence, length);
#endif
  struct grass_parcel *parcel = &gpu->parcel;
  uint64_t *payload = (uint64_t *)(response_record(&gpu->mailbox, slot) + sizeof(struct grass_record));
  if (thread() == 0) {
    sums[0] = sums[1] = parcel->sums[0] = parcel->sums[1] = 0;
    parcel->text = text;
    parcel->to = payload;
    parcel->length = length;
  }
  barrier();
  bool is_sent = length > LONG_PAYLOAD && runs_parcel(gpu, GRASS_TURN_SEND);
  if (!is_sent) send_part(payload, (const uint64_t *)text, length, 0, 1);
  barrier();
  if (thread() == 0) complete(gpu, slot, sequence, length, is_sent ? parcel->sums : (const uint64_t *)sums);
  barrier();
}

/// The same of what lies in `gpu->response`.
static void publish(struct grass_gpu *gpu, uint32_t slot, uint64_t sequence, uint64_t length) {
  publish_text(gpu, gpu->response, slot, sequence, length);
}

/// Answers with an error, by all threads.
static void refuse(struct grass_gpu *gpu, uint32_t slot, uint64_t sequence, uint32_t operation, uint32_t status) {
  if (thread() == 0) {
    *(struct grass_response *)gpu->response = (struct grass_response){.operation = operation, .status = status};
    gpu->mailbox.refused++;
  }
  barrier();
  publish(gpu, slot, sequence, sizeof(struct grass_response));
}

#if !GRASS_GPU_KEYS
/// Answers a heartbeat, whose record's words are all in `words`, by one thread. Returns whether it was one.
static bool answer_heartbeat(struct grass_gpu *gpu, uint32_t slot, uint64_t words[HEAD_WORDS]) {
  struct grass_mailbox *mailbox = &gpu->mailbox;
  // Its fields but the operation are zero, and so is its epoch.
  if (words[1] != sizeof(struct grass_request) || words[4] != GRASS_HEARTBEAT || words[5] || words[6] != words[0] ||
      grass_epoch(words[0]))
    return false;
  uint64_t check[2];
  grass_check(check, words[0], &words[4], sizeof(struct grass_request));
  if (check[0] != words[2] || check[1] != words[3]) return false;
  struct {
    struct grass_response response;
    struct grass_heartbeat_answer heartbeat;
  } reply = {{.operation = GRASS_HEARTBEAT}, {.clock = clock_now(), .counter = mailbox->counter}};
  uint64_t *from = (uint64_t *)&reply;
  grass_check(check, words[0], &reply, sizeof reply);
  uint64_t *record =
      (uint64_t *)(mailbox->region + mailbox->layout.response_offset + slot * mailbox->layout.response_size);
  store_word(record + 1, sizeof reply);
  store_word(record + 2, check[0]);
  store_word(record + 3, check[1]);
  for (unsigned word = 0; word < sizeof reply / 8; word++) store_word(record + 4 + word, from[word]);
  store_word(record + 4 + sizeof reply / 8, words[0]);
  // None of these waits for another: a requester that sees some of them looks again.
  store_word(record, words[0]);
  __atomic_fetch_add(&mailbox->served, 1, __ATOMIC_RELAXED);
  return true;
}
#endif

static void answer_info(struct grass_gpu *gpu, uint32_t slot, uint64_t sequence, uint64_t capacity) {
  struct grass_mailbox *mailbox = &gpu->mailbox;
  uint64_t head = sizeof(struct grass_response) + sizeof(struct grass_info_answer);
  uint64_t size = head + mailbox->segment_count * sizeof(struct grass_segment);
  if (size > capacity) return refuse(gpu, slot, sequence, GRASS_INFO, GRASS_TOO_LARGE);
  if (thread() == 0) {
    *(struct grass_response *)gpu->response =
        (struct grass_response){.operation = GRASS_INFO, .count = (uint32_t)mailbox->segment_count};
    *(struct grass_info_answer *)(gpu->response + sizeof(struct grass_response)) = (struct grass_info_answer){
        .version = GRASS_VERSION,
        .features = GRASS_FEATURE_MONITORS | GRASS_FEATURE_DIGESTS | GRASS_FEATURE_LINES | GRASS_FEATURE_WIDE |
                    (gpu->detectors->count ? GRASS_FEATURE_FINDINGS : 0) |
                    (gpu->detectors->count && gpu->detectors->words_capacity ? GRASS_FEATURE_WORDS : 0),
        .kernel_hint = load_word(&gpu->control->kernel_hint),
        .clock = clock_now(),
        .served = mailbox->served,
        .refused = mailbox->refused,
        .torn = mailbox->torn,
        .most_digested = GRASS_GPU_MAX_DIGESTED,
    };
  }
  struct grass_segment *answers = (struct grass_segment *)(gpu->response + head);
  for (uint64_t index = thread(); index < mailbox->segment_count; index += GRASS_GPU_THREADS)
    answers[index] = mailbox->segments[index].segment;
  barrier();
  publish(gpu, slot, sequence, size);
}

static void answer_monitors(struct grass_gpu *gpu, uint32_t slot, uint64_t sequence, uint64_t capacity) {
  uint64_t size = sizeof(struct grass_response) + gpu->monitors.count * sizeof(struct grass_monitor_answer);
  if (size > capacity) return refuse(gpu, slot, sequence, GRASS_MONITORS, GRASS_TOO_LARGE);
  if (thread() == 0)
    *(struct grass_response *)gpu->response =
        (struct grass_response){.operation = GRASS_MONITORS, .count = gpu->monitors.count};
  struct grass_monitor_answer *answers = (struct grass_monitor_answer *)(gpu->response + sizeof(struct grass_response));
  for (uint32_t index = thread(); index < gpu->monitors.count; index += GRASS_GPU_THREADS)
    answers[index] = gpu->monitors.names[index];
  barrier();
  publish(gpu, slot, sequence, size);
}

/// Adds `value` up over the threads before this one; `*total` gets the sum over all.
static uint64_t sum_before(uint64_t value, uint64_t *total) {
  totals[thread()] = value;
  barrier();
  for (unsigned step = 1; step < GRASS_GPU_THREADS; step *= 2) {
    uint64_t other = thread() >= step ? totals[thread() - step] : 0;
    barrier();
    totals[thread()] += other;
    barrier();
  }
  *total = totals[GRASS_GPU_THREADS - 1];
  uint64_t before = totals[thread()] - value;
  barrier();
  return before;
}

/// Into how many pieces a range is cut whose first run was found.
static uint64_t pieces_of(const struct grass_range *range, const struct grass_place *place) {
  if (range->length == 0) return 0;
  return place->device && place->count == range->length ? (place->count + PIECE - 1) / PIECE : 1;
}

/// Copies a range, or zeroes it where it cannot be read, by one warp. Its lanes walk for the pages after the first, one each.
static void copy_range(
    struct grass_gpu *gpu, const struct grass_range *range, const struct grass_place *place, uint32_t levels,
    struct grass_range_status *kept) {
  unsigned lane = thread() % WARP;
  uint8_t *target = gpu->response + place->to;
  bool has_failed = !place->device;
  uint64_t done = place->count;
  if (!has_failed) copy_by_warp(target, (const uint8_t *)(uintptr_t)place->device, place->count);
  while (!has_failed && done < range->length) {
    // All pages are of the smallest size here, so that every lane knows its own.
    uint64_t page = range->address + done, mine = done + lane * PAGE_SIZE - (lane ? page & (PAGE_SIZE - 1) : 0);
    uint64_t run = 0;
    struct grass_range_status status = {0};
    const uint8_t *from = mine < range->length ? place_of(&gpu->mailbox, range, levels, mine, &run, &status) : 0;
    uint64_t most = PAGE_SIZE - ((range->address + mine) & (PAGE_SIZE - 1));
    if (run > most) run = most;
    for (unsigned other = 0; other < WARP && !has_failed; other++) {
      uint64_t source = from_lane((uint64_t)(uintptr_t)from, other), size = from_lane(run, other);
      uint32_t fault = (uint32_t)from_lane(status.fault, other);
      if (done >= range->length) break;
      if (fault) {
        has_failed = true;
        if (lane == other) *kept = status;
      } else {
        copy_by_warp(target + done, (const uint8_t *)(uintptr_t)source, size);
        done += size;
      }
    }
  }
  if (has_failed)
    for (uint64_t at = lane; at < range->length; at += WARP) target[at] = 0;
}

/// Copies what the warps of one block have to, of a gather that was cut into pieces: those are warps `warp` and on of `warps`.
static void copy_pieces(
    struct grass_gpu *gpu, const struct grass_range *ranges, uint64_t count, uint32_t levels, uint64_t pieces, uint64_t warp,
    uint64_t warps) {
  struct grass_range_status *statuses = (struct grass_range_status *)(gpu->response + sizeof(struct grass_response));
  for (uint64_t piece = warp + thread() / WARP; piece < pieces; piece += warps) {
    // Its range is the last one that begins with it, or before.
    uint64_t index = 0;
    for (uint64_t after = count; after - index > 1;) {
      uint64_t middle = index + (after - index) / 2;
      if (gpu->places[middle].piece <= piece) index = middle;
      else after = middle;
    }
    const struct grass_place place = gpu->places[index];
    if (pieces_of(&ranges[index], &place) == 1) {
      copy_range(gpu, &ranges[index], &place, levels, &statuses[index]);
      continue;
    }
    uint64_t start = (piece - place.piece) * PIECE, length = place.count - start < PIECE ? place.count - start : PIECE;
    copy_by_warp(gpu->response + place.to + start, (const uint8_t *)(uintptr_t)place.device + start, length);
  }
}

static void answer_gather(
    struct grass_gpu *gpu, uint32_t slot, uint64_t sequence, const struct grass_request *request,
    const struct grass_range *ranges, uint64_t length, uint64_t capacity) {
  struct grass_mailbox *mailbox = &gpu->mailbox;
  uint64_t count = request->count;
  if (length != count * sizeof(struct grass_range))
    return refuse(gpu, slot, sequence, GRASS_GATHER, GRASS_BAD_LENGTH);

  // Each thread takes ranges that follow each other, so that one sum over the threads tells where all of them go.
  uint64_t share = (count + GRASS_GPU_THREADS - 1) / GRASS_GPU_THREADS;
  uint64_t begin = thread() * share < count ? thread() * share : count;
  uint64_t end = begin + share < count ? begin + share : count, bytes = 0, total;
  bool is_virtual = false, is_bad = false;
  for (uint64_t index = begin; index < end; index++) {
    bytes += ranges[index].length;
    is_virtual |= ranges[index].flags & GRASS_RANGE_VIRTUAL;
    is_bad |= !grass_range_is_valid(&ranges[index]);
  }
  uint64_t status_end = sizeof(struct grass_response) + count * sizeof(struct grass_range_status);
  uint64_t to = status_end + sum_before(bytes, &total);
  if (__nvvm_bar0_or(is_bad)) return refuse(gpu, slot, sequence, GRASS_GATHER, GRASS_BAD_RANGE);
  if (request->reserved) return refuse(gpu, slot, sequence, GRASS_GATHER, GRASS_BAD_FIELD);
  uint32_t levels = grass_page_levels_x86_64(request->format);
  if ((__nvvm_bar0_or(is_virtual) || request->format != GRASS_PAGES_NONE) && levels == 0)
    return refuse(gpu, slot, sequence, GRASS_GATHER, GRASS_BAD_FORMAT);
  if (status_end + total > capacity) return refuse(gpu, slot, sequence, GRASS_GATHER, GRASS_TOO_LARGE);
  for (uint64_t index = begin; index < end; index++) {
    gpu->places[index].to = to;
    to += ranges[index].length;
  }
  if (thread() == 0)
    *(struct grass_response *)gpu->response =
        (struct grass_response){.operation = GRASS_GATHER, .count = (uint32_t)count};
  barrier();

  // A thread walks the page tables for a range's first page; most have no other.
  struct grass_range_status *statuses = (struct grass_range_status *)(gpu->response + sizeof(struct grass_response));
  for (uint64_t index = thread(); index < count; index += GRASS_GPU_THREADS) {
    struct grass_range_status status = {0};
    struct grass_place *place = &gpu->places[index];
    uint64_t run = 0;
    const uint8_t *from = ranges[index].length ? place_of(mailbox, &ranges[index], levels, 0, &run, &status) : 0;
    place->device = (uint64_t)(uintptr_t)from;
    place->count = run;
    statuses[index] = status;
  }
  barrier();
  // What lies in one run is copied in pieces, by a warp each; else one warp copies the range, or zeroes it.
  uint64_t pieces = 0, all;
  for (uint64_t index = begin; index < end; index++) pieces += pieces_of(&ranges[index], &gpu->places[index]);
  pieces = sum_before(pieces, &all);
  for (uint64_t index = begin; index < end; index++) {
    gpu->places[index].piece = pieces;
    pieces += pieces_of(&ranges[index], &gpu->places[index]);
  }
  if (thread() == 0) {
    gpu->parcel.question = (const uint8_t *)ranges;
    gpu->parcel.count = count;
    gpu->parcel.levels = levels;
    gpu->parcel.pieces = all;
  }
  barrier();
  if (total <= LONG_PAYLOAD || !runs_parcel(gpu, GRASS_TURN_GATHER))
    copy_pieces(gpu, ranges, count, levels, all, 0, GRASS_GPU_THREADS / WARP);
  if (thread() < (-total & 7)) gpu->response[status_end + total + thread()] = 0;
  barrier();
  publish(gpu, slot, sequence, status_end + total);
}

/// Word `number` of `count` watched bytes, filled up with zeros.
static uint64_t word_of(const uint8_t *from, uint64_t count, uint64_t number) {
  uint64_t rest = count - number * 8;
  from += number * 8;
  if (rest >= 8 && ((uintptr_t)from & 7) == 0) return load_word(from);
  uint64_t word = 0;
  for (uint64_t index = 0; index < 8 && index < rest; index++) word |= (uint64_t)load_byte(from + index) << 8 * index;
  return word;
}

/// Adds this lane's share of some words of `count` bytes, from word `first` to before `end`, to a digest.
static void digest_words(
    struct grass_digest *own, const uint64_t seed[2], const uint8_t *from, uint64_t count, uint64_t first, uint64_t end) {
  for (uint64_t base = first + thread() % WARP; base < end; base += GROUP * WARP) {
    uint64_t group[GROUP];
#pragma unroll
    for (unsigned index = 0; index < GROUP; index++)
      group[index] = base + index * WARP < end ? word_of(from, count, base + index * WARP) : 0;
#pragma unroll
    for (unsigned index = 0; index < GROUP; index++)
      if (base + index * WARP < end) grass_digest_word(own, seed, base + index * WARP, group[index]);
  }
}

/// Adds to the digests of a question that was judged what the warps of one block have to: those are warps `warp` and on of
/// `warps`. The digests of what is not there stay zero.
static void digest_ranges(
    const struct grass_mailbox *mailbox, const uint8_t *question, uint64_t count, struct grass_digest *digests, uint64_t warp,
    uint64_t warps) {
  const struct grass_digest_request *asked = (const struct grass_digest_request *)question;
  const struct grass_range *ranges = (const struct grass_range *)(asked + 1);
  const uint64_t seed[2] = {asked->seed[0], asked->seed[1]};
  uint64_t next = warp + thread() / WARP;  // The next piece of all that is this warp's, from this range's first on.
  for (uint64_t index = 0; index < count; index++) {
    struct grass_range range = ranges[index];
    uint64_t parts = grass_digest_count(range.length, asked->unit), start;
    uint64_t pieces = (grass_digest_part(range.length, asked->unit, 0, &start) + PIECE - 1) / PIECE;
    const uint8_t *from = next < parts * pieces ? locate(mailbox, range.address, range.length) : 0;
    for (; next < parts * pieces; next += warps) {
      uint64_t part = next / pieces, first = next % pieces * (PIECE / 8);
      uint64_t length = grass_digest_part(range.length, asked->unit, part, &start), end = (length + 7) / 8;
      if (end > first + PIECE / 8) end = first + PIECE / 8;
      if (!from || first >= end) continue;
      struct grass_digest own = {0};
      digest_words(&own, seed, from + start, length, first, end);
      for (unsigned other = WARP / 2; other > 0; other /= 2) {
        own.low += from_lane(own.low, (thread() + other) % WARP);
        own.high += from_lane(own.high, (thread() + other) % WARP);
      }
      if (thread() % WARP) continue;
      __atomic_fetch_add(&digests[part].low, own.low, __ATOMIC_RELAXED);
      __atomic_fetch_add(&digests[part].high, own.high, __ATOMIC_RELAXED);
    }
    next -= parts * pieces;
    digests += parts;
  }
}

static void answer_digest(
    struct grass_gpu *gpu, uint32_t slot, uint64_t sequence, const struct grass_request *request, const uint8_t *payload,
    uint64_t length, uint64_t capacity) {
  uint64_t size = 0, count = request->count;
  uint32_t verdict = grass_digest_judge(request, payload, length, GRASS_GPU_MAX_DIGESTED, capacity, &size);
  if (verdict != GRASS_OK) return refuse(gpu, slot, sequence, GRASS_DIGEST, verdict);
  const struct grass_range *ranges = (const struct grass_range *)(payload + sizeof(struct grass_digest_request));
  struct grass_range_status *statuses = (struct grass_range_status *)(gpu->response + sizeof(struct grass_response));
  struct grass_digest *digests = (struct grass_digest *)(statuses + count);
  for (uint64_t index = thread(); index < count; index += GRASS_GPU_THREADS) {
    struct grass_range range = ranges[index];
    statuses[index] = (struct grass_range_status){0};
    if (!locate(&gpu->mailbox, range.address, range.length))
      statuses[index] = (struct grass_range_status){.fault = GRASS_FAULT_ABSENT, .address = range.address};
  }
  uint64_t words = (size - (uint64_t)((uint8_t *)digests - gpu->response)) / 8;
  for (uint64_t word = thread(); word < words; word += GRASS_GPU_THREADS) ((uint64_t *)digests)[word] = 0;
  if (thread() == 0) {
    *(struct grass_response *)gpu->response = (struct grass_response){.operation = GRASS_DIGEST, .count = request->count};
    gpu->parcel.question = payload;
    gpu->parcel.count = count;
    gpu->parcel.digests = digests;
  }
  barrier();
  if (!runs_parcel(gpu, GRASS_TURN_DIGEST))
    digest_ranges(&gpu->mailbox, payload, count, digests, 0, GRASS_GPU_THREADS / WARP);
  barrier();
  publish(gpu, slot, sequence, size);
}

// MARK: - Monitors

/// Judges the request for a run and hands it to the workers, by all threads. Returns false where it has to wait.
static bool begin_run(struct grass_gpu *gpu, uint32_t slot, uint64_t sequence, const uint8_t *payload, uint64_t length) {
  struct grass_monitors *monitors = &gpu->monitors;
  struct grass_mailbox *mailbox = &gpu->mailbox;
  bool is_running = monitors->is_running;
  // Else a thread that is late would find the run begun that is to begin here.
  barrier();
  if (is_running) return false;
  if (thread() == 0) {
    uint32_t status = GRASS_OK;
    if (length != sizeof(struct grass_request) + sizeof(struct grass_run_request)) {
      status = GRASS_BAD_LENGTH;
    } else if (!grass_request_is_plain((const struct grass_request *)payload)) {
      status = GRASS_BAD_FIELD;
    } else {
      const struct grass_run_request *run = (const struct grass_run_request *)(payload + sizeof(struct grass_request));
      const uint64_t *wanted = (const uint64_t *)run->monitor;
      uint32_t monitor = 0;
      for (; monitor < monitors->count; monitor++) {
        const uint64_t *name = (const uint64_t *)monitors->names[monitor].name;
        if (name[0] == wanted[0] && name[1] == wanted[1] && name[2] == wanted[2] && name[3] == wanted[3]) break;
      }
      uint64_t head = sizeof(struct grass_response) + sizeof(struct grass_run_answer) +
                      GRASS_MAX_FAULTS * sizeof(struct grass_lane_fault);
      uint64_t capacity = grass_record_capacity(mailbox->layout.response_size);
      if (monitor == monitors->count) status = GRASS_NO_MONITOR;
      else if (run->flags & ~GRASS_RUN_WALKS) status = GRASS_BAD_RUN;
      else if (capacity < head) status = GRASS_TOO_LARGE;
      if (status == GRASS_OK) {
        struct grass_job *job = &monitors->job;
        uint64_t most = (uint64_t)monitors->most_workers * monitors->lanes_per_worker;
        job->monitor = monitor;
        job->lanes = run->lanes ? run->lanes : monitors->default_lanes;
        if (job->lanes > most) job->lanes = (uint32_t)most;
        job->budget = run->budget && run->budget < monitors->most_budget ? run->budget : monitors->most_budget;
        job->flags = run->flags;
        for (unsigned index = 0; index < GRASS_ARGUMENTS; index++) job->arguments[index] = run->arguments[index];
        // The records are made where they are sent from.
        job->output.bytes = gpu->output + sizeof(struct grass_response) + sizeof(struct grass_run_answer);
        job->output.capacity = capacity - head;
        job->output.used = 0;
        job->faulted = 0;
        monitors->is_running = true;
        monitors->slot = slot;
        monitors->sequence = sequence;
        monitors->since = clock_now();
        start_turn(gpu, GRASS_TURN_LANES);
      }
    }
    decided[0] = status;
  }
  barrier();
  uint32_t status = (uint32_t)decided[0];
  if (status != GRASS_OK) refuse(gpu, slot, sequence, GRASS_RUN, status);
  barrier();
  return true;
}

/// Publishes the answer of a run whose workers have finished, by all threads.
static void finish_run(struct grass_gpu *gpu) {
  struct grass_monitors *monitors = &gpu->monitors;
  struct grass_job *job = &monitors->job;
  uint32_t slot = monitors->slot;
  uint64_t sequence = monitors->sequence, length = 0;
  // A requester that has given up has put another request in its slot, or will: that one has its own answer.
  bool is_wanted = gpu->mailbox.slots[slot].served == sequence;
  if (is_wanted) {
    uint32_t count = job->faulted < GRASS_MAX_FAULTS ? job->faulted : GRASS_MAX_FAULTS;
    uint64_t size = job->output.used < job->output.capacity ? job->output.used : job->output.capacity;
    if (thread() == 0) {
      *(struct grass_response *)gpu->output = (struct grass_response){.operation = GRASS_RUN, .count = count};
      *(struct grass_run_answer *)(gpu->output + sizeof(struct grass_response)) = (struct grass_run_answer){
          .elapsed = clock_now() - monitors->since,
          .size = size,
          .lanes = job->lanes,
          .faulted = job->faulted,
      };
    }
    uint64_t fault_size = count * sizeof(struct grass_lane_fault);
    if (thread() < fault_size / 8)
      ((uint64_t *)(job->output.bytes + size))[thread()] = ((const uint64_t *)job->faults)[thread()];
    length = sizeof(struct grass_response) + sizeof(struct grass_run_answer) + size + fault_size;
  }
  barrier();
  // The workers have nothing more to do.
  if (thread() == 0) work.is_busy = false;
  barrier();
  if (is_wanted) publish_text(gpu, gpu->output, slot, sequence, length);
  if (thread() == 0) monitors->is_running = false;
  barrier();
}

// MARK: - The mailbox

/// Whether the job is done by the time that a word of the host's memory takes, by one thread.
static bool ends_soon(struct grass_gpu *gpu) {
  uint64_t start = clock_now();
  do {
    if (is_done(gpu)) return true;
  } while (clock_now() - start < WORD_TIME);
  return false;
}

#if !GRASS_GPU_KEYS
/// Serves one request, by all threads. Returns whether the slot has been dealt with; else it is looked at again.
///
/// Called, lest what it needs take registers from the poll.
__attribute__((noinline)) static bool serve(struct grass_gpu *gpu, uint32_t slot) {
  struct grass_mailbox *mailbox = &gpu->mailbox;
  const uint8_t *record = mailbox->region + mailbox->layout.request_offset + slot * mailbox->layout.request_size;
  uint64_t sequence = heads[slot * HEAD_WORDS], length = heads[slot * HEAD_WORDS + 1];
  uint64_t *copy = (uint64_t *)mailbox->scratch;
  enum grass_verdict verdict = GRASS_RECORD_IMPOSSIBLE;
  if (length <= grass_record_capacity(mailbox->layout.request_size)) {
    uint64_t words = grass_record_size(length) / 8, check[2];
    for (uint64_t word = thread(); word < words; word += GRASS_GPU_THREADS)
      copy[word] = word < HEAD_WORDS ? heads[slot * HEAD_WORDS + word] : load_word(record + word * 8);
    barrier();
    const struct grass_record *head = (const struct grass_record *)copy;
    check_together(check, sequence, (const uint64_t *)(head + 1), length);
    if (copy[words - 1] != sequence) verdict = GRASS_RECORD_TORN;
    else if (check[0] != head->check[0] || check[1] != head->check[1]) verdict = GRASS_RECORD_FALSE;
    else verdict = GRASS_RECORD_WHOLE;
  }
  if (verdict != GRASS_RECORD_WHOLE) {
    // As on a processor: time tells a request that is still on its way from a false one.
    if (thread() == 0) {
      struct grass_slot_state *state = &mailbox->slots[slot];
      uint64_t now = clock_now();
      decided[0] = false;
      if (state->pending != sequence) {
        state->pending = sequence;
        state->pending_since = now;
        mailbox->torn++;
      } else {
        decided[0] = now - state->pending_since >= GRASS_GRACE_NS && verdict != GRASS_RECORD_TORN;
      }
    }
    barrier();
    bool is_false = decided[0];
    barrier();
    if (is_false)
      refuse(gpu, slot, sequence, 0, verdict == GRASS_RECORD_FALSE ? GRASS_BAD_CHECK : GRASS_BAD_LENGTH);
    return is_false;
  }
  const uint8_t *payload = (const uint8_t *)copy + sizeof(struct grass_record);
  struct grass_request request = *(const struct grass_request *)payload;
  uint64_t capacity = grass_record_capacity(mailbox->layout.response_size);
  if (length < sizeof request) {
    refuse(gpu, slot, sequence, 0, GRASS_BAD_LENGTH);
  } else if (grass_epoch(sequence)) {
    refuse(gpu, slot, sequence, 0, GRASS_BAD_EPOCH);
  } else if (request.operation == GRASS_GATHER) {
    answer_gather(
        gpu, slot, sequence, &request, (const struct grass_range *)(payload + sizeof request), length - sizeof request,
        capacity);
  } else if (request.operation == GRASS_DIGEST) {
    answer_digest(gpu, slot, sequence, &request, payload + sizeof request, length - sizeof request, capacity);
  } else if (request.operation == GRASS_RUN) {
    return begin_run(gpu, slot, sequence, payload, length);
  } else if (request.operation != GRASS_INFO && request.operation != GRASS_MONITORS &&
             request.operation != GRASS_HEARTBEAT) {
    refuse(gpu, slot, sequence, request.operation, GRASS_BAD_OPERATION);
  } else if (length != sizeof request) {
    refuse(gpu, slot, sequence, request.operation, GRASS_BAD_LENGTH);
  } else if (!grass_request_is_plain(&request)) {
    refuse(gpu, slot, sequence, request.operation, GRASS_BAD_FIELD);
  } else if (request.operation == GRASS_INFO) {
    answer_info(gpu, slot, sequence, capacity);
  } else if (request.operation == GRASS_MONITORS) {
    answer_monitors(gpu, slot, sequence, capacity);
  } else {
    return false;  // A heartbeat: the next poll's.
  }
  return true;
}
#endif

#if GRASS_GPU_KEYS
static void tell_newest(uint64_t number);
#endif

static void publish_beacon(struct grass_mailbox *mailbox, uint64_t now, uint32_t state) {
  struct grass_beacon beacon = {
      .counter = ++mailbox->counter,
      .clock = now,
      .state = state,
      .newest_finding = get(&mailbox->summary.newest_finding),
      .served = mailbox->served,
      .counter_end = mailbox->counter,
  };
#if GRASS_GPU_KEYS
  // What everybody reads says then no more than that it lives.
  tell_newest(beacon.newest_finding);
  beacon.newest_finding = beacon.served = 0;
#endif
  grass_check(beacon.check, beacon.counter, &beacon, offsetof(struct grass_beacon, check));
  uint64_t *to = (uint64_t *)(mailbox->region + mailbox->layout.beacon_offset), *from = (uint64_t *)&beacon;
  for (unsigned word = 0; word < sizeof beacon / 8; word++) store_word(to + word, from[word]);
  mailbox->beacon_time = now;
}

static struct grass_session_line line_now(const struct grass_mailbox *mailbox, uint64_t now, uint32_t state) {
  const struct grass_summary *summary = &mailbox->summary;
  return grass_make_line(
      mailbox->counter, now, state,
      (struct grass_summary){
          .tick = get(&summary->tick),
          .newest_finding = get(&summary->newest_finding),
          .worst = get(&summary->worst),
          .open = get(&summary->open),
          .suspended = get(&summary->suspended),
      });
}

#if !GRASS_GPU_KEYS
/// Writes each session's line, by one thread.
__attribute__((noinline)) static void publish_lines(struct grass_mailbox *mailbox, uint64_t now, uint32_t state) {
  struct grass_session_line line = line_now(mailbox, now, state);
  const uint64_t *from = (const uint64_t *)&line;
  for (uint32_t index = 0; index < mailbox->layout.line_count; index++) {
    uint64_t *to = (uint64_t *)(mailbox->region + mailbox->layout.lines_offset + index * mailbox->layout.line_size);
    for (unsigned word = 0; word < sizeof line / 8; word++) store_word(to + word, from[word]);
  }
  mailbox->lines_time = now;
}
#endif

#if GRASS_GPU_KEYS
#include "keyed.c"
#endif

static void run_mailbox(struct grass_gpu *gpu) {
  struct grass_mailbox *mailbox = &gpu->mailbox;
  struct grass_monitors *monitors = &gpu->monitors;
  unsigned slot = thread() / HEAD_WORDS, word = thread() % HEAD_WORDS;
  bool polls = slot < mailbox->layout.slot_count;
  const uint64_t *place =
      (const uint64_t *)(mailbox->region + mailbox->layout.request_offset +
                         (polls ? slot : 0) * mailbox->layout.request_size) + word;
  uint64_t served = polls ? mailbox->slots[slot].served : 0;
  uint64_t stop = GRASS_GPU_RUN;
  if (thread() == 0) {
    work.is_busy = false;
    work.workers = monitors->most_workers;
    work.meetings = 0;
    fresh[0] = fresh[1] = 0;
  }
  barrier();
#if GRASS_GPU_KEYS
  begin_keys(gpu);
#endif
  for (unsigned turn = 0;; turn++) {
    // One transaction a slot; all are on their way together. A second look at the same words would only queue behind
    // the first: the bus answers one reader of a line after the other.
    uint64_t value = polls ? load_word(place) : 0;
    // Meanwhile a job may end.
    if (work.is_busy && __nvvm_bar0_or(thread() == 0 && ends_soon(gpu))) finish_run(gpu);
    if (thread() == 0 && turn % 64 == 0) stop = load_word(&gpu->control->stop);
#if GRASS_GPU_KEYS
    if (thread() == 0) look_for_orders(gpu, turn);
#endif
    heads[thread()] = value;
    uint64_t sequence = from_lane(value, thread() % WARP / HEAD_WORDS * HEAD_WORDS);
    bool is_new = polls && sequence != 0 && sequence != served;
    __nvvm_bar_warp_sync(~0u);
    // All have seen the last turn's by now, and the next begins behind a barrier.
    if (thread() == 0) fresh[~turn & 1] = 0;
    if (is_new && word == 0) {
      uint64_t words[HEAD_WORDS];
      for (unsigned index = 0; index < HEAD_WORDS; index++) words[index] = heads[thread() + index];
#if GRASS_GPU_KEYS
      bool is_done = answer_sealed_heartbeat(gpu, slot, words);
      if (is_done) mailbox->slots[slot].served = sequence;
      else is_new = may_look(mailbox, slot);
#else
      bool is_done = answer_heartbeat(gpu, slot, words);
      if (is_done) mailbox->slots[slot].served = sequence;
#endif
      if (!is_done && is_new) __atomic_fetch_or((uint64_t *)&fresh[turn & 1], 1ull << slot, __ATOMIC_RELAXED);
    }
    if (thread() == 0) {
      ending = (uint32_t)stop;
      uint64_t now = clock_now();
      if (now - mailbox->beacon_time >= GRASS_BEACON_NS) publish_beacon(mailbox, now, GRASS_STATE_RUNNING);
#if !GRASS_GPU_KEYS
      if (now - mailbox->lines_time >= GRASS_LINES_NS) publish_lines(mailbox, now, GRASS_STATE_RUNNING);
#endif
    }
#if GRASS_GPU_KEYS
    bool is_due = thread() == 0 && are_keys_due(mailbox);
    if (!__nvvm_bar0_or((is_new && word == 0) || is_due || (thread() == 0 && ending))) continue;
    settle(gpu);
#else
    if (!__nvvm_bar0_or(is_new || (thread() == 0 && ending))) continue;
#endif
    for (uint64_t left = fresh[turn & 1]; left; left &= left - 1) {
      unsigned index = (unsigned)__builtin_ctzll(left);
#if GRASS_GPU_KEYS
      serve_keyed(gpu, index);
#else
      uint64_t number = heads[index * HEAD_WORDS];
      bool is_done = serve(gpu, index);
      if (thread() == 0 && is_done) mailbox->slots[index].served = number;
#endif
      barrier();
    }
#if GRASS_GPU_KEYS
    finish_turn(mailbox);
#endif
    if (polls) served = mailbox->slots[slot].served;
    bool ends = ending && !monitors->is_running;
    barrier();
    if (ends) break;
  }
#if GRASS_GPU_KEYS
  end_keys(gpu, ending == GRASS_GPU_STOP);
#endif
  if (thread() == 0) {
    if (ending == GRASS_GPU_STOP) {
      publish_beacon(mailbox, clock_now(), GRASS_STATE_STOPPED);
#if !GRASS_GPU_KEYS
      publish_lines(mailbox, clock_now(), GRASS_STATE_STOPPED);
#endif
    }
    store_release_gpu(&monitors->job.turn, GRASS_JOB_END);
  }
}

// MARK: - Workers

/// Runs the monitor of that number: made with the monitors, when they are put together.
void grass_dispatch(struct grass_lane_state *lane, uint32_t monitor);

/// Sends this worker's part of an answer.
static void send_parcel(struct grass_parcel *parcel, uint32_t worker, uint32_t workers) {
  if (thread() == 0) sums[0] = sums[1] = 0;
  barrier();
  send_part(parcel->to, (const uint64_t *)parcel->text, parcel->length, worker, workers);
  barrier();
  if (thread() == 0) {
    __atomic_fetch_add(&parcel->sums[0], sums[0], __ATOMIC_RELAXED);
    __atomic_fetch_add(&parcel->sums[1], sums[1], __ATOMIC_RELAXED);
  }
}

// Copies near the lanes: the GPU's own memory is some hundred nanoseconds away.
SHARED struct grass_machine machine;
SHARED struct grass_mapped_segment segments[NEAR_SEGMENTS];
SHARED struct grass_window widest;
SHARED struct grass_order order;
SHARED struct {
  uint64_t kind;
  uint64_t budget, since;
  uint64_t arguments[GRASS_ARGUMENTS];
  uint64_t turn;
  uint32_t monitor, lanes, workers;
  bool walks;
} job;

SHARED uint32_t meetings;  // That this worker has come to.

/// Does this worker's part of a parcel.
///
/// Called, lest what it needs take registers from the lanes.
__attribute__((noinline)) static void run_parcel(struct grass_gpu *gpu, uint32_t worker) {
  struct grass_parcel *parcel = &gpu->parcel;
  uint64_t warps = (uint64_t)job.workers * (GRASS_GPU_THREADS / WARP);
  if (job.kind == GRASS_TURN_DIGEST)
    digest_ranges(
        &gpu->mailbox, parcel->question, parcel->count, parcel->digests, (uint64_t)worker * (GRASS_GPU_THREADS / WARP), warps);
#if GRASS_GPU_KEYS
  else if (job.kind == GRASS_TURN_SEAL)
    seal_parcel(parcel, worker);
#endif
  else if (job.kind == GRASS_TURN_GATHER)
    copy_pieces(
        gpu, (const struct grass_range *)parcel->question, parcel->count, (uint32_t)parcel->levels, parcel->pieces,
        (uint64_t)worker * (GRASS_GPU_THREADS / WARP), warps);
  else
    send_parcel(parcel, worker, job.workers);
}

/// Runs this worker's lanes of a stage.
static void run_lanes(struct grass_gpu *gpu, uint32_t worker, uint32_t stage, uint64_t count) {
  struct grass_job *result = &gpu->monitors.job;
  const struct grass_item *items = items_of(gpu, job.turn, stage)->items;
  if (thread() == 0)
    order = (struct grass_order){
        .machine = (const struct grass_machine *)&machine,
        .near = *(const struct grass_window *)&widest,
        .output = &result->output,
        .next = items_of(gpu, job.turn, stage + 1),
        .arguments = (const uint64_t *)job.arguments,
        .stage = stage,
        .lanes = stage ? GRASS_ITEM_LANES : job.lanes,
        .walks = job.walks,
    };
  barrier();
  // Warps are dealt out, so that few lanes still use many of the ways to memory. To deal out less than whole warps gains little,
  // and costs much where many multiprocessors then want the same word: of a page table, say.
  uint64_t lanes = stage ? count * GRASS_ITEM_LANES : job.lanes, most = (uint64_t)job.workers * GRASS_GPU_THREADS;
  for (uint64_t lane = (thread() / WARP * job.workers + worker) * WARP + thread() % WARP; lane < lanes; lane += most) {
    struct grass_lane_state state;
    grass_lane_start(
        &state, (const struct grass_order *)&order, stage ? &items[lane / GRASS_ITEM_LANES] : 0,
        stage ? (uint32_t)(lane % GRASS_ITEM_LANES) : (uint32_t)lane, job.budget);
    grass_dispatch(&state, job.monitor);
    if (!state.fault && clock_now() - job.since > MOST_TIME) state.fault = GRASS_FAULT_BUDGET;
    if (!state.fault) continue;
    grass_job_note(result, &state);
    if (state.fault == GRASS_FAULT_BUDGET) break;
  }
}

/// Says that this worker has come to the end of a stage or of its part of a parcel, by one thread. Returns what `arrived` is
/// once all have.
static uint32_t arrive(struct grass_gpu *gpu) {
  add_release_gpu32(&gpu->arrived, 1);
  return ++meetings * job.workers;
}

/// Waits until all workers have come to the end of a stage; returns how many items it left.
///
/// As every acquire, it empties the multiprocessor's cache: the next stage sees the watched memory as it is by then.
static uint64_t meet(struct grass_gpu *gpu, uint32_t stage) {
  barrier();
  if (thread() == 0) {
    uint32_t all = arrive(gpu);
    while ((int32_t)(load_acquire_gpu32(&gpu->arrived) - all) < 0) {}
    decided[0] = items_of(gpu, job.turn, stage + 1)->count;
  }
  barrier();
  uint64_t count = decided[0];
  barrier();
  return count;
}

static void run_stages(struct grass_gpu *gpu, uint32_t worker) {
  uint64_t count = 0;
  for (uint32_t stage = 0; stage < GRASS_MAX_STAGES; stage++) {
    run_lanes(gpu, worker, stage, count);
    count = meet(gpu, stage);
    if (count == 0) return;
  }
}

/// Copies what describes the watched machine to where the lanes are, by one thread.
static void bring_near(const struct grass_gpu *gpu) {
  machine = gpu->machine;
  if (machine.segment_count <= NEAR_SEGMENTS) {
    for (uint64_t index = 0; index < machine.segment_count; index++) segments[index] = gpu->machine.segments[index];
    machine.segments = (const struct grass_mapped_segment *)segments;
  }
  widest = grass_widest_window((const struct grass_machine *)&machine);
}

static void run_worker(struct grass_gpu *gpu) {
  struct grass_job *next = &gpu->monitors.job;
  uint64_t turn = 0;
  uint32_t worker = block() - 1;
  if (thread() == 0) {
    meetings = 0;
    bring_near(gpu);
  }
  for (;;) {
    if (thread() == 0) {
      uint64_t now;
      // An acquire: what the mailbox wrote is seen, and nothing is left in the cache from the last job.
      while ((now = load_acquire_gpu(&next->turn)) == turn) __asm__ volatile("nanosleep.u32 20;");
      job.turn = now;
      job.kind = gpu->parcel.kind;
      job.budget = next->budget;
      job.since = gpu->monitors.since;
      job.monitor = next->monitor;
      job.lanes = next->lanes;
      job.workers = next->workers;
      job.walks = next->flags & GRASS_RUN_WALKS;
      for (unsigned index = 0; index < GRASS_ARGUMENTS; index++) job.arguments[index] = next->arguments[index];
    }
    barrier();
    turn = job.turn;
    if (turn == GRASS_JOB_END) return;
    // Every worker takes part in every turn, if only by saying so: none can be late for the next.
    if (job.kind == GRASS_TURN_LANES) {
      run_stages(gpu, worker);
    } else {
      run_parcel(gpu, worker);
      barrier();
      if (thread() == 0) arrive(gpu);
    }
    barrier();
  }
}

// MARK: - Detectors

SHARED struct grass_items given[2];  // What a stage of a detector is given, and what it leaves.

/// Runs the lanes of the job at hand, stage by stage, by all threads of this block.
static void run_detector(struct grass_detectors *detectors) {
  struct grass_job *work = &detectors->job;
  uint64_t count = 0, since = clock_now();
  for (uint32_t stage = 0; stage < GRASS_MAX_STAGES; stage++) {
    if (thread() == 0) {
      given[~stage & 1] = (struct grass_items){
          .items = detectors->items + (~stage & 1) * detectors->item_capacity, .capacity = detectors->item_capacity};
      order = (struct grass_order){
          .machine = (const struct grass_machine *)&machine,
          .near = *(const struct grass_window *)&widest,
          .output = &work->output,
          .next = (struct grass_items *)&given[~stage & 1],
          .arguments = work->arguments,
          .stage = stage,
          .lanes = stage ? GRASS_ITEM_LANES : work->lanes,
          .state = work->state,
          .state_words = work->state_words,
      };
      // As every acquire, it empties the multiprocessor's cache: the stage sees the watched memory as it is by now.
      load_acquire_gpu(&work->turn);
    }
    barrier();
    const struct grass_item *items = detectors->items + (stage & 1) * detectors->item_capacity;
    uint64_t lanes = stage ? count * GRASS_ITEM_LANES : work->lanes;
    for (uint64_t lane = thread(); lane < lanes; lane += GRASS_GPU_THREADS) {
      struct grass_lane_state state;
      grass_lane_start(
          &state, (const struct grass_order *)&order, stage ? &items[lane / GRASS_ITEM_LANES] : 0,
          stage ? (uint32_t)(lane % GRASS_ITEM_LANES) : (uint32_t)lane, work->budget);
      grass_dispatch(&state, work->monitor);
      if (!state.fault && clock_now() - since > MOST_TICK) state.fault = GRASS_FAULT_BUDGET;
      if (!state.fault) continue;
      grass_job_note(work, &state);
      if (state.fault == GRASS_FAULT_BUDGET) break;
    }
    barrier();
    if (thread() == 0) decided[0] = given[~stage & 1].count;
    barrier();
    count = decided[0];
    barrier();
    if (count == 0) return;
  }
}

/// Gathers last words where they are to be, and writes them over what lies in their place, by all threads of this block.
static void keep_words(struct grass_detectors *detectors) {
  if (thread() == 0) decided[0] = begin_words(detectors);
  barrier();
  bool is_due = decided[0];
  barrier();
  if (!is_due) return;
  run_detector(detectors);
  uint64_t tag[2] = {0, 0};
  if (thread() == 0) {
    decided[0] = end_words(detectors);
#if GRASS_GPU_KEYS
    if (decided[0]) seal_words(&detectors->keeper, detectors->words, decided[0], tag);
#endif
    sums[0] = sums[1] = 0;
  }
  barrier();
  uint64_t length = decided[0], number = detectors->keeper.words.newest;
  barrier();
  if (!length) return;
  uint8_t *record = detectors->keeper.region + grass_words_offset(&detectors->keeper.layout, detectors->keeper.words.place);
  if (thread() == 0) grass_store(record, 0);
  barrier();
  send_part((uint64_t *)(record + sizeof(struct grass_record)), (const uint64_t *)detectors->words, length, 0, 1);
  barrier();
  if (thread() == 0) {
    uint64_t check[2] = {tag[0], tag[1]};
    if (!GRASS_GPU_KEYS) grass_check_finish(check, (const uint64_t *)sums, number, length);
    store_word(record + sizeof(struct grass_record) + length, number);
    store_word(record + offsetof(struct grass_record, length), length);
    store_word(record + offsetof(struct grass_record, check), check[0]);
    store_word(record + offsetof(struct grass_record, check) + 8, check[1]);
    grass_store(record, number);
  }
  barrier();
}

/// Runs every detector again and again, until no more jobs come.
static void run_detectors(struct grass_gpu *gpu) {
  struct grass_detectors *detectors = gpu->detectors;
  if (!detectors->count) return;
  const struct grass_job *jobs = &gpu->monitors.job;
  uint64_t next = 0, began = 0;
  if (thread() == 0) {
    bring_near(gpu);
    grass_keeper_forget(&detectors->keeper, GRASS_DETECTOR_OBSERVER);
  }
  for (;;) {
    if (thread() == 0) {
      uint64_t now = clock_now();
      while (now < next && load_acquire_gpu(&jobs->turn) != GRASS_JOB_END) {
        __asm__ volatile("nanosleep.u32 20000;");
        now = clock_now();
      }
      decided[0] = load_acquire_gpu(&jobs->turn) == GRASS_JOB_END;
      began = now;
      set(&detectors->hypervisor, load_word(&gpu->control->hypervisor));
      if (!decided[0])
        begin_tick(
            detectors, (struct grass_moment){.device = now, .utc = now + load_word(&gpu->control->utc_offset)});
    }
    barrier();
    bool ends = decided[0];
    barrier();
    if (ends) return;
    for (uint32_t index = 0; index < detectors->count; index++) {
      if (thread() == 0) decided[0] = begin_detector(detectors, index);
      barrier();
      bool runs = decided[0];
      barrier();
      if (!runs) continue;
      run_detector(detectors);
      if (thread() == 0) end_detector(detectors, index);
      barrier();
    }
    if (thread() == 0) {
      end_tick(detectors);
      next = began + grass_detectors_pause(detectors, grass_finish(began));
    }
    barrier();
    keep_words(detectors);
  }
}

KERNEL void grass_resident(struct grass_gpu *gpu) {
  if (block() == 0) run_mailbox(gpu);
  else if (block() > gpu->monitors.most_workers) run_detectors(gpu);
  else run_worker(gpu);
}

/// Shows whether this GPU sees what changes in host memory, as the mailbox loads it and as lanes do: answers each value
/// until `last`.
KERNEL void grass_canary(const uint64_t *watched, struct grass_gpu_canary *canary, uint64_t last) {
  uint64_t value = 0;
  while (value != last) {
    uint64_t direct = load_word(watched);
    load_acquire_gpu(canary);
    uint64_t cached = load_cached(watched);
    if (direct == value || cached == value) continue;
    value = direct < cached ? direct : cached;
    grass_store(&canary->seen, value);
  }
}
