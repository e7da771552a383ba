// The mailbox block and the workers of a GPU's resident program with keys, on a processor: their threads are run by turns, each until
// it comes to a barrier, and a client makes handshakes and asks as a remote host does. What a barrier waits for that not all threads
// come to is named. scripts/seal mailbox replaces the few instructions of a GPU's that resident.c names by those below, and has its
// sources beside this file.
#include "emulated.h"
#include "resident.c"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <ucontext.h>

extern int usleep(unsigned);

// MARK: - Blocks and their threads

#define THREADS GRASS_GPU_THREADS
#define WORKERS 3u
#define STACK (64u << 10)

enum { RUNS, PAUSES, WAITS_FOR_BLOCK, WAITS_FOR_WARP, HAS_ENDED };

/// What is a block's.
struct block {
  ucontext_t fibers[THREADS];
  int states[THREADS], passed[THREADS];
  unsigned at_block, at_warp[THREADS / WARP];
  int any, any_of_all;
  unsigned ended;
  uint8_t *shared;
};
static struct block blocks[1 + WORKERS], *mine = blocks;
static ucontext_t home;
static unsigned current;

// Where what is shared in the block lies whose turn it is.
extern uint8_t __start_emulated_shared[], __stop_emulated_shared[];

unsigned emulated_thread(void) { return current; }
unsigned emulated_block(void) { return (unsigned)(mine - blocks); }

uint64_t emulated_clock(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

static void wait_for(int what) {
  mine->states[current] = what;
  swapcontext(&mine->fibers[current], &home);
}

void emulated_pause(void) { wait_for(PAUSES); }

int emulated_barrier(int is) {
  mine->any |= is != 0;
  if (++mine->at_block < THREADS) {
    wait_for(WAITS_FOR_BLOCK);
    return mine->any_of_all;
  }
  mine->at_block = 0;
  mine->any_of_all = mine->any;
  mine->any = 0;
  for (unsigned thread = 0; thread < THREADS; thread++)
    if (mine->states[thread] == WAITS_FOR_BLOCK) mine->states[thread] = RUNS;
  return mine->any_of_all;
}

void emulated_warp_barrier(void) {
  unsigned first = current / WARP * WARP;
  if (++mine->at_warp[current / WARP] < WARP) return wait_for(WAITS_FOR_WARP);
  mine->at_warp[current / WARP] = 0;
  for (unsigned thread = first; thread < first + WARP; thread++)
    if (mine->states[thread] == WAITS_FOR_WARP) mine->states[thread] = RUNS;
}

int emulated_from_lane(int value, int lane) {
  mine->passed[current] = value;
  emulated_warp_barrier();
  int result = mine->passed[current / WARP * WARP + (unsigned)lane];
  emulated_warp_barrier();
  return result;
}

/// The one monitor: each lane emits a record of RECORD bytes.
#define RECORD 480u
void grass_dispatch(struct grass_lane_state *lane, uint32_t monitor) {
  void *record = grass_emit(lane, monitor + 1, RECORD);
  if (record) memset(record, (int)grass_lane(lane) & 0xff, RECORD);
}

static struct grass_gpu gpu;
static uint64_t has_ended;

static void run_thread(void) {
  grass_resident(&gpu);
  wait_for(HAS_ENDED);
}

/// Has each thread of a block go on that can, until none can; returns how many have ended.
static unsigned run_block(struct block *block) {
  uint64_t size = (uint64_t)(__stop_emulated_shared - __start_emulated_shared);
  mine = block;
  memcpy(__start_emulated_shared, block->shared, size);
  for (unsigned ran = 1, pausing = 0; ran > pausing;) {
    ran = pausing = block->ended = 0;
    for (current = 0; current < THREADS; current++) {
      if (block->states[current] == HAS_ENDED) block->ended++;
      if (block->states[current] != RUNS && block->states[current] != PAUSES) continue;
      pausing += block->states[current] == PAUSES;
      ran++;
      block->states[current] = RUNS;
      swapcontext(&home, &block->fibers[current]);
    }
    if (ran || block->ended == THREADS) continue;
    printf("mailbox: threads wait for others that do not come: %u are at the barrier of block %u\n", block->at_block,
           emulated_block());
    for (unsigned thread = 0; thread < THREADS; thread++)
      if (block->states[thread] != WAITS_FOR_BLOCK) printf("  thread %u: state %d\n", thread, block->states[thread]);
    exit(1);
  }
  memcpy(block->shared, __start_emulated_shared, size);
  return block->ended;
}

static void *run_blocks(void *unused) {
  (void)unused;
  for (struct block *block = blocks; block <= blocks + WORKERS; block++) {
    if (!block->shared) block->shared = calloc(1, (uint64_t)(__stop_emulated_shared - __start_emulated_shared));
    for (unsigned thread = 0; thread < THREADS; thread++) {
      ucontext_t *fiber = &block->fibers[thread];
      void *stack = fiber->uc_stack.ss_sp;
      getcontext(fiber);
      fiber->uc_stack.ss_sp = stack ? stack : malloc(STACK);
      fiber->uc_stack.ss_size = STACK;
      fiber->uc_link = &home;
      block->states[thread] = RUNS;
      makecontext(fiber, run_thread, 0);
    }
  }
  for (unsigned ended = 0; ended < THREADS * (1 + WORKERS);) {
    ended = 0;
    for (struct block *block = blocks; block <= blocks + WORKERS; block++)
      ended += block->ended == THREADS ? THREADS : run_block(block);
  }
  for (struct block *block = blocks; block <= blocks + WORKERS; block++) block->ended = 0;
  grass_store(&has_ended, 1);
  return 0;
}

// MARK: - The host, and clients

static uint8_t *region;
static struct grass_header layout;
static struct grass_gpu_door door;
static struct grass_gpu_control control;
static struct grass_gpu_keys kept;
static struct grass_random generator;
static uint64_t last_handshake = 1000;
static int failures;

#define EXPECT(condition)                                                         \
  do {                                                                            \
    if (!(condition)) printf("mailbox: line %d: %s\n", __LINE__, #condition), failures++; \
  } while (0)
/// Waits for a state, and never for a time; what never comes is a failure.
#define AWAIT(condition)                                                           \
  do {                                                                             \
    uint64_t until = emulated_clock() + 60000000000ull;                            \
    while (!(condition) && emulated_clock() < until) usleep(200);                  \
    EXPECT(condition);                                                             \
  } while (0)

static struct grass_key_pair make_pair(void) {
  struct grass_key_pair pair;
  uint8_t random[32];
  grass_random_fill(&generator, random, sizeof random);
  grass_make_key_pair(&pair, random);
  return pair;
}

static void check_of(uint64_t check[2], uint64_t sequence, const uint8_t *payload, uint64_t length) {
  uint64_t sums[2] = {0, 0};
  for (uint64_t index = 0; index < (length + 7) / 8; index++) grass_check_word(sums, index, ((const uint64_t *)payload)[index]);
  grass_check_finish(check, sums, sequence, length);
}

/// Puts a request into a slot; `payload` is padded with zeros to whole words.
static void put(uint32_t slot, uint64_t sequence, const uint8_t *payload, uint64_t length, const uint64_t check[2]) {
  uint8_t *record = region + layout.request_offset + slot * layout.request_size;
  uint64_t padded = (length + 7) & ~7ull;
  for (uint64_t at = 0; at < padded; at += 8) grass_store(record + sizeof(struct grass_record) + at, *(const uint64_t *)(payload + at));
  grass_store(record + sizeof(struct grass_record) + padded, sequence);
  grass_store(record + 8, length);
  grass_store(record + 16, check[0]);
  grass_store(record + 24, check[1]);
  grass_store(record, sequence);
}

/// Waits for the answer in a slot. Returns its length, or -1 after so many seconds.
static int64_t answer_of(uint32_t slot, uint64_t sequence, uint8_t *to, uint64_t check[2], double seconds) {
  uint8_t *record = region + layout.response_offset + slot * layout.response_size;
  uint64_t until = emulated_clock() + (uint64_t)(seconds * 1e9);
  while (grass_load(record) != sequence) {
    if (emulated_clock() > until) return -1;
    usleep(100);
  }
  uint64_t length = grass_load(record + 8), padded = (length + 7) & ~7ull;
  check[0] = grass_load(record + 16);
  check[1] = grass_load(record + 24);
  memcpy(to, record + sizeof(struct grass_record), padded);
  EXPECT(grass_load(record + sizeof(struct grass_record) + padded) == sequence);
  return (int64_t)length;
}

static int64_t exchange_message(
    uint32_t slot, uint32_t pattern, uint32_t message, const uint8_t *text, uint64_t length, uint8_t *answer) {
  _Alignas(8) uint8_t payload[1024] = {0};
  struct grass_request request = {.operation = GRASS_HANDSHAKE, .count = pattern, .format = message};
  uint64_t check[2], given[2], sequence = ++last_handshake;
  memcpy(payload, &request, sizeof request);
  memcpy(payload + sizeof request, text, length);
  check_of(check, sequence, payload, sizeof request + length);
  put(slot, sequence, payload, sizeof request + length, check);
  int64_t size = answer_of(slot, sequence, answer, given, 60);
  if (size < 0) return size;
  check_of(check, sequence, answer, (uint64_t)size);
  EXPECT(check[0] == given[0] && check[1] == given[1]);
  return size;
}

struct client {
  struct grass_session_keys keys;
  uint64_t number;
};

static const uint8_t certificate[5] = "certi";

/// Makes a session, by a handshake of this pattern.
static void connect_client(struct client *client, uint32_t slot, const struct grass_key_pair *identity, uint32_t pattern) {
  struct grass_noise noise;
  struct grass_key_pair ephemeral = make_pair();
  _Alignas(8) uint8_t message[512], answer[4096], text[512], hash[32];
  uint64_t length = 0, text_length = 0;
  struct grass_cipher send, receive;
  EXPECT(!grass_noise_start(
      &noise, pattern, GRASS_NOISE_INITIATOR, (const uint8_t *)&layout, sizeof layout, identity, &ephemeral,
      pattern == GRASS_NOISE_IK ? door.public_key : 0, 0));
  EXPECT(!grass_noise_write(&noise, 0, 0, message, sizeof message, &length));
  int64_t size = exchange_message(slot, pattern, 0, message, length, answer);
  const struct grass_response *response = (const struct grass_response *)(const void *)answer;
  EXPECT(size > 16 && response->status == GRASS_OK);
  if (size < 16) return;
  EXPECT(!grass_noise_read(&noise, answer + sizeof *response, response->count, text, sizeof text, &text_length));
  EXPECT(text_length == sizeof certificate && !memcmp(text, certificate, sizeof certificate));
  if (pattern == GRASS_NOISE_XX) {
    EXPECT(!grass_noise_write(&noise, 0, 0, message, sizeof message, &length));
    EXPECT(exchange_message(slot, pattern, 2, message, length, answer) == 16 && response->status == GRASS_OK);
  }
  EXPECT(!memcmp(noise.remote_static, door.public_key, 32));
  EXPECT(!grass_noise_split(&noise, &send, &receive));
  memcpy(hash, noise.hash, sizeof hash);
  grass_session_keys_start(&client->keys, send.key, receive.key, hash);
  client->number = 12345 + emulated_clock() % 1000;
}

static int64_t ask_for(struct client *client, uint32_t slot, const void *request, uint64_t length, uint8_t *to, double seconds) {
  static _Alignas(8) uint8_t payload[1 << 16];
  uint64_t sequence = ++client->number | (uint64_t)client->keys.epoch << GRASS_EPOCH_SHIFT, check[2], given[2];
  grass_record_seal_payload(
      client->keys.now.request, client->keys.token, slot, sequence, request, length, payload, (uint8_t *)check);
  put(slot, sequence, payload, length, check);
  int64_t size = answer_of(slot, sequence, to, given, seconds);
  if (size < 0) return size;
  EXPECT(grass_record_open_payload(
      client->keys.now.response, client->keys.token, slot, sequence, to, (uint64_t)size, (const uint8_t *)given, to));
  return size;
}

static uint64_t line_of(uint32_t slot) { return grass_load(region + layout.lines_offset + slot * layout.line_size); }

static void order_host(void) {
  uint64_t number = door.asked + 1;
  grass_store(&door.asked, number);
  AWAIT(grass_load(&door.answered) == number);
}

static void hand_over(bool has_identity) {
  grass_random_fill(&generator, door.handover.seed, sizeof door.handover.seed);
  door.handover.takes_lists = 1;
  door.handover.has_identity = has_identity;
  if (has_identity) memset(door.handover.private_key, 7, 32);
  door.handover.certificate_length = sizeof certificate;
  memcpy(door.handover.certificate, certificate, sizeof certificate);
  grass_store(&door.handover.is_given, 1);
}

static bool is_zero(const void *place, uint64_t count) {
  for (uint64_t index = 0; index < count; index++)
    if (((const uint8_t *)place)[index]) return false;
  return true;
}

static _Alignas(8) uint8_t memory[1 << 20], got[1 << 20];
static pthread_t block_thread;

static void begin_program(bool has_identity) {
  has_ended = 0;
  grass_store(&control.stop, GRASS_GPU_RUN);
  hand_over(has_identity);
  pthread_create(&block_thread, 0, run_blocks, 0);
  AWAIT(grass_load(&door.handover.is_given) == 0 && is_zero(&door.handover, sizeof door.handover));
}

static void end_program(uint64_t how) {
  grass_store(&control.stop, how);
  AWAIT(grass_load(&has_ended));
  pthread_join(block_thread, 0);
  EXPECT(is_zero(blocks[0].shared + (grass_gpu_shared - __start_emulated_shared), sizeof(struct grass_keyed)));
}

static const struct grass_request heartbeat = {.operation = GRASS_HEARTBEAT}, info = {.operation = GRASS_INFO},
                                  session = {.operation = GRASS_SESSION}, monitors = {.operation = GRASS_MONITORS};

static bool beats_heart(struct client *client, uint32_t slot, double seconds) {
  int64_t size = ask_for(client, slot, &heartbeat, sizeof heartbeat, got, seconds);
  const struct grass_response *response = (const struct grass_response *)(const void *)got;
  return size == (int64_t)HEARTBEAT_SIZE && response->operation == GRASS_HEARTBEAT && response->status == GRASS_OK;
}

static bool is_refused(struct client *client, uint32_t slot, const struct grass_request *request) {
  int64_t size = ask_for(client, slot, request, sizeof *request, got, 60);
  return size == 16 && ((const struct grass_response *)(const void *)got)->status == GRASS_NOT_ALLOWED;
}

static void gather_all(struct client *client) {
  for (uint32_t count = 1; count <= 300; count += 37) {
    static _Alignas(8) uint8_t request[1 << 14];
    struct grass_request head = {.operation = GRASS_GATHER, .count = count};
    struct grass_range *ranges = (struct grass_range *)(void *)(request + sizeof head);
    uint64_t total = 0;
    memcpy(request, &head, sizeof head);
    for (uint32_t index = 0; index < count; index++, total += ranges[index - 1].length)
      ranges[index] = (struct grass_range){.address = index * 911, .length = index * 13 % 400 + 1};
    // Of two slots by turns: one joins the other's session.
    int64_t size = ask_for(client, 3 + (count & 1), request, sizeof head + count * sizeof *ranges, got, 60);
    uint64_t start = 16 + count * sizeof(struct grass_range_status);
    EXPECT(size == (int64_t)(start + total));
    for (uint32_t index = 0; index < count && size > 0; start += ranges[index++].length)
      EXPECT(!memcmp(got + start, memory + ranges[index].address, ranges[index].length));
  }
}

/// Long answers, which the workers seal, beside short ones.
static void gather_much(struct client *client) {
  static const uint32_t lengths[] = {GRASS_LONG_RECORD - 40, GRASS_LONG_RECORD - 39, GRASS_LONG_RECORD, 40003, 100000, 262144, 300001, 500000};
  for (unsigned index = 0; index < sizeof lengths / sizeof lengths[0]; index++) {
    struct {
      struct grass_request head;
      struct grass_range range;
    } request = {{.operation = GRASS_GATHER, .count = 1}, {.address = index * 4097, .length = lengths[index]}};
    uint64_t turn = gpu.monitors.job.turn;
    int64_t size = ask_for(client, 3, &request, sizeof request, got, 60), start = 16 + sizeof(struct grass_range_status);
    EXPECT(size == start + (int64_t)lengths[index]);
    EXPECT(size > start && !memcmp(got + start, memory + request.range.address, lengths[index]));
    // By the workers, where it is long.
    EXPECT(gpu.monitors.job.turn - turn == (unsigned)(lengths[index] > LONG_PAYLOAD) + (size > (int64_t)GRASS_LONG_RECORD));
    EXPECT(is_zero(gpu.parcel.share, sizeof gpu.parcel.share) && is_zero(gpu.parcel.limbs, sizeof gpu.parcel.limbs));
    EXPECT(beats_heart(client, 3, 60));
  }
}

/// Digests of whole ranges and of units, of odd lengths, and of what is not there.
static void digest_all(struct client *client) {
  static const uint32_t units[] = {0, 8, 64, 4096, 16384, 65536};
  for (unsigned index = 0; index < sizeof units / sizeof units[0]; index++) {
    struct {
      struct grass_request head;
      struct grass_digest_request asked;
      struct grass_range ranges[5];
    } request = {
        {.operation = GRASS_DIGEST, .count = 5},
        {.kind = GRASS_DIGEST_FAST, .unit = units[index], .seed = {emulated_clock(), 77}},
        {{.address = 0, .length = 8192},
         {.address = 4099, .length = 21},
         {.address = sizeof memory - 4, .length = 5},
         {.address = 40960, .length = units[index] == 8 ? 4003 : 400003},
         {.address = 12, .length = 0}}};
    int64_t size = ask_for(client, 3, &request, sizeof request, got, 60);
    const struct grass_range_status *statuses = (const struct grass_range_status *)(const void *)(got + 16);
    const struct grass_digest *digest = (const struct grass_digest *)(const void *)(statuses + 5);
    EXPECT(size > 16 && ((const struct grass_response *)(const void *)got)->status == GRASS_OK);
    for (unsigned range = 0; range < 5 && size > 16; range++) {
      const struct grass_range *of = &request.ranges[range];
      EXPECT(statuses[range].fault == (range == 2 ? GRASS_FAULT_ABSENT : 0));
      for (uint64_t part = 0; part < grass_digest_count(of->length, units[index]); part++, digest++) {
        uint64_t start;
        uint32_t count = grass_digest_part(of->length, units[index], part, &start);
        struct grass_digest right = {0};
        if (range != 2) right = grass_digest_bytes(memory + of->address + start, count, request.asked.seed);
        EXPECT(digest->low == right.low && digest->high == right.high);
      }
    }
    EXPECT((const uint8_t *)digest == got + size);
  }
}

/// Runs whose answers are short, and long: the workers seal those.
static void run_monitors(struct client *client) {
  for (uint32_t lanes = 1; lanes <= 1000; lanes += 333) {
    struct {
      struct grass_request head;
      struct grass_run_request run;
    } request = {{.operation = GRASS_RUN}, {.monitor = "ps", .lanes = lanes}};
    int64_t size = ask_for(client, 3, &request, sizeof request, got, 60);
    const struct grass_run_answer *answer = (const struct grass_run_answer *)(const void *)(got + 16);
    EXPECT(size > 16 && answer->lanes == lanes && answer->faulted == 0);
    EXPECT(size == (int64_t)(sizeof(struct grass_response) + sizeof *answer + answer->size));
    unsigned seen[256] = {0};
    for (const uint8_t *at = (const uint8_t *)(answer + 1); size > 16 && at < got + size; at += answer->size / lanes)
      seen[at[answer->size / lanes - 1]]++;
    for (unsigned lane = 0; lane < 256; lane++) EXPECT(seen[lane] == lanes / 256 + (lane < lanes % 256));
  }
}

int main(void) {
  uint8_t seed[64];
  FILE *random = fopen("/dev/urandom", "r");
  if (!random || fread(seed, 1, sizeof seed, random) != sizeof seed) return 2;
  fclose(random);
  grass_random_mix(&generator, seed, sizeof seed);
  struct grass_key_pair me = make_pair(), other = make_pair();
  for (unsigned index = 0; index < sizeof memory; index++) memory[index] = (uint8_t)(index * 7 + index / 4096);
  EXPECT(grass_layout(&layout, 64, 16384, 1 << 20, 0, 64, 0));
  layout.features |= GRASS_FEATURE_KEYS;
  region = aligned_alloc(4096, (layout.region_size + 4095) & ~4095ull);
  memset(region, 0, layout.region_size);
  // What a device before has left there.
  memset(region + layout.lines_offset, 9, 64 * layout.line_size);
  static struct grass_mapped_segment segment = {.segment = {.start = 0, .count = sizeof memory}, .bytes = memory};
  static struct grass_monitor_answer names[1] = {{.name = "ps"}};
  static struct grass_detectors detectors;
  gpu = (struct grass_gpu){
      .mailbox = {.region = region, .layout = layout, .segments = &segment, .segment_count = 1, .scratch = malloc(layout.request_size)},
      .monitors = {.names = names, .count = 1, .most_workers = WORKERS, .lanes_per_worker = 512, .default_lanes = 512, .most_budget = 1000},
      .control = &control, .response = malloc(layout.response_size), .output = malloc(layout.response_size),
      .places = malloc(layout.request_size / sizeof(struct grass_range) * sizeof(struct grass_place)), .detectors = &detectors, .keys = &kept, .door = &door,
  };
  kept.list.count = 1;
  memcpy(kept.list.lines[0].key, me.public_key, 32);
  kept.list.lines[0].rights = GRASS_ALL_RIGHTS;
  begin_program(true);
  AWAIT(grass_load(region + layout.beacon_offset) && line_of(0) == 0);
  grass_store(&control.utc_offset, 1700000000000000000ull - emulated_clock());

  struct client mine, its;
  connect_client(&mine, 3, &me, GRASS_NOISE_XX);
  // What a handshake makes waits for the first record under its keys.
  EXPECT(line_of(3) == 0);
  for (unsigned index = 0; index < 50; index++) EXPECT(beats_heart(&mine, 3, 60));
  AWAIT(line_of(3) != 0);
  EXPECT(line_of(2) == 0);
  struct grass_session_line line;
  uint8_t *text = (uint8_t *)&line + sizeof line.counter;
  uint64_t line_size = offsetof(struct grass_session_line, check) - sizeof line.counter;
  AWAIT((memcpy(&line, region + layout.lines_offset + 3 * layout.line_size, sizeof line),
         grass_record_open_payload(
             mine.keys.now.line, mine.keys.token, GRASS_LINE_SLOT, line.counter, text, line_size, (const uint8_t *)line.check, text)));
  EXPECT(line.state == GRASS_STATE_RUNNING);
  const struct grass_response *response = (const struct grass_response *)(const void *)got;
  EXPECT(ask_for(&mine, 3, &info, sizeof info, got, 60) > 16 && response->count == 1);
  EXPECT(ask_for(&mine, 3, &session, sizeof session, got, 60) == 16 + 24 + 40);
  EXPECT(response->count == 1 && !memcmp(got + 48, kept.group.keys[1], 32));
  gather_all(&mine);
  gather_much(&mine);
  digest_all(&mine);
  run_monitors(&mine);

  // A key that is not in the list may nothing, then it may watch, then it is removed.
  connect_client(&its, 20, &other, GRASS_NOISE_IK);
  EXPECT(is_refused(&its, 20, &heartbeat));
  struct {
    struct grass_request request;
    struct grass_key_request change;
  } change = {{.operation = GRASS_SET_KEY}, {.action = GRASS_KEY_ADD, .line = {.rights = GRASS_RIGHT_WATCH}}};
  memcpy(change.change.line.key, other.public_key, 32);
  EXPECT(ask_for(&mine, 3, &change, sizeof change, got, 60) == 16 && response->status == GRASS_OK);
  for (unsigned index = 0; index < 10; index++) EXPECT(beats_heart(&its, 20, 60) && beats_heart(&mine, 3, 60));
  EXPECT(is_refused(&its, 20, &monitors));
  change.change.action = GRASS_KEY_REMOVE;
  uint64_t generation = kept.group.generation;
  EXPECT(ask_for(&mine, 3, &change, sizeof change, got, 60) == 16 && response->status == GRASS_OK);
  AWAIT(grass_load(&kept.group.generation) == generation + 1);
  AWAIT(line_of(20) == 0);
  EXPECT(!beats_heart(&its, 20, 0.3));
  EXPECT(beats_heart(&mine, 3, 60));

  // Slots that are lent anew.
  door.released = 1ull << 3;
  order_host();
  door.released = 0;
  EXPECT(line_of(3) == 0 && !beats_heart(&mine, 3, 0.3));
  connect_client(&mine, 5, &me, GRASS_NOISE_IK);
  EXPECT(beats_heart(&mine, 5, 60));
  // A false record under the next number does not keep the true one out.
  uint64_t false_check[2] = {1, 2};
  put(5, (mine.number + 1) | (uint64_t)mine.keys.epoch << GRASS_EPOCH_SHIFT, (const uint8_t *)&heartbeat, sizeof heartbeat, false_check);
  usleep(5000);
  EXPECT(beats_heart(&mine, 5, 60));
  EXPECT(grass_session_keys_next(&mine.keys));
  for (unsigned index = 0; index < 5; index++) EXPECT(beats_heart(&mine, 5, 60));

  // Another list from this machine.
  door.list.count = 1;
  memcpy(door.list.lines[0].key, other.public_key, 32);
  door.list.lines[0].rights = GRASS_RIGHT_WATCH;
  door.has_list = 1;
  order_host();
  door.has_list = 0;
  AWAIT(line_of(5) == 0);
  EXPECT(kept.list.count == 1 && !memcmp(kept.list.lines[0].key, other.public_key, 32));
  connect_client(&its, 20, &other, GRASS_NOISE_XX);
  EXPECT(beats_heart(&its, 20, 60));
  EXPECT(door.events.put >= 8 && door.events.entries[0].kind == GRASS_KEY_EVENT_SESSION);

  // The next program knows whom to let in, and has no session and no key of the one before but the group's.
  uint8_t old[32];
  memcpy(old, door.public_key, sizeof old);
  generation = kept.group.generation;
  end_program(GRASS_GPU_HAND_OVER);
  EXPECT(line_of(20) == 0);
  begin_program(false);
  EXPECT(memcmp(old, door.public_key, sizeof old) && kept.group.generation == generation);
  EXPECT(!beats_heart(&its, 20, 0.3));
  connect_client(&its, 20, &other, GRASS_NOISE_XX);
  for (unsigned index = 0; index < 5; index++) EXPECT(beats_heart(&its, 20, 60));
  end_program(GRASS_GPU_STOP);
  printf("mailbox: %d failed, %llu requests answered\n", failures, (unsigned long long)gpu.mailbox.served);
  return failures != 0;
}
