// What the mailbox block of a GPU's resident program does in a region with keys: a part of resident.c.
//
// The keyring lies in the block's shared memory, from the start of the program to its end, when it is zeroed: neither other
// programs nor the driver's copies reach it. Other blocks have a part in sealing long records, which have keys of their own: such a
// key is handed to them through the GPU's memory, and overwritten there. One thread (thread 0) alone changes the keyring; the others
// look at it between two barriers, while it does not.
//
// A handshake is answered by thread 0 as well, milliseconds, in which nobody else is: the keyring lets it have a part of the time.
// What is spilled, or has its address taken, lies in local memory, which is the GPU's own: what handshakes have there is wiped.

/// The share of one record, made for all threads of the block.
SHARED struct grass_share share_of_record;
SHARED struct grass_poly1305_sum warp_sums[GRASS_GPU_THREADS / WARP];
/// Slots whose heartbeats were answered in this turn, a bit each.
SHARED uint64_t beats;
/// Slots whose lines are not zero, a bit each.
SHARED uint64_t lit;
/// What thread 0 has found out and the others are to know, or it itself later.
SHARED struct {
  uint64_t asked, answered;
  uint64_t newest;
  uint64_t length;  // Of the response that was sealed last.
  uint32_t sends_lines, is_swept, takes_lists;
  struct grass_gpu_door *door;
} keyed;

/// What is made beforehand for a slot's next record, if it is a heartbeat: of that all is known but the answer's time and count.
struct grass_next {
  uint64_t sequence;  // 0 where nothing is made.
  struct grass_prepared request, response;
  uint64_t asked[4];                // The request's check and payload, sealed.
  uint64_t head[2];                 // The response's first bytes, sealed.
  struct grass_poly1305_sum sum;    // Of what the response's tag covers, as far as those.
};

struct grass_keyed {
  struct grass_keyring keyring;
  struct grass_next next[GRASS_GPU_SLOTS];
};
_Static_assert(sizeof(struct grass_keyed) <= GRASS_GPU_KEYS_SIZE, "it has to fit a block's shared memory");

extern __attribute__((address_space(3), aligned(16))) uint8_t grass_gpu_shared[];

static struct grass_keyed *keys_here(void) { return (struct grass_keyed *)(void *)(uint8_t *)grass_gpu_shared; }
static struct grass_keyring *keyring_here(void) { return &keys_here()->keyring; }

static void tell_newest(uint64_t number) {
  if (number == keyed.newest) return;
  keyed.newest = number;
  store_word(&keyed.door->newest_finding, number);
}

// MARK: - From start to end

static uint64_t *line_place(const struct grass_mailbox *mailbox, uint32_t slot) {
  return (uint64_t *)(mailbox->region + mailbox->layout.lines_offset + slot * mailbox->layout.line_size);
}

static void clear_line(const struct grass_mailbox *mailbox, uint32_t slot) {
  for (unsigned word = 0; word < sizeof(struct grass_session_line) / 8; word++) store_word(line_place(mailbox, slot) + word, 0);
}

/// Zeroes all that is secret in shared memory, by all threads.
static void wipe_keys(void) {
  volatile uint64_t *words = (volatile uint64_t *)(void *)keys_here();
  for (uint64_t word = thread(); word < sizeof(struct grass_keyed) / 8; word += GRASS_GPU_THREADS) words[word] = 0;
  if (thread() == 0) grass_wipe((struct grass_share *)&share_of_record, sizeof(struct grass_share));
  barrier();
}

/// Copies what the host hands over, wipes it there, and begins, by one thread.
__attribute__((noinline)) static void take_handover(struct grass_gpu *gpu) {
  struct grass_gpu_door *door = gpu->door;
  struct grass_keyring *keyring = keyring_here();
  // What is given lies there before the launch.
  struct grass_gpu_handover *given = &door->handover;
  // Rather none than keys that everybody knows.
  if (load_word(&given->is_given) != 1) __builtin_trap();
  bool has_identity = given->has_identity;
  keyed.takes_lists = given->takes_lists;
  _Alignas(8) uint8_t seed[64], private_key[32];
  for (unsigned byte = 0; byte < sizeof seed; byte++) seed[byte] = given->seed[byte];
  for (unsigned byte = 0; byte < sizeof private_key; byte++) private_key[byte] = given->private_key[byte];
  grass_keyring_start(
      keyring,
      (struct grass_keyring_places){.list = &gpu->keys->list, .group = &gpu->keys->group, .events = &door->events},
      &gpu->mailbox.layout, has_identity ? private_key : 0, seed, 0, clock_now());
  grass_wipe(seed, sizeof seed);
  grass_wipe(private_key, sizeof private_key);
  uint32_t length = given->certificate_length;
  keyring->certificate_length = length < GRASS_MAX_CERTIFICATE ? length : GRASS_MAX_CERTIFICATE;
  for (uint32_t byte = 0; byte < keyring->certificate_length; byte++) keyring->certificate[byte] = given->certificate[byte];
  for (unsigned byte = 0; byte < 32; byte++) door->public_key[byte] = keyring->identity.public_key[byte];
  grass_wipe(given, sizeof *given);
  __nvvm_membar_sys();
}

/// Begins without sessions, by all threads.
static void begin_keys(struct grass_gpu *gpu) {
  wipe_keys();
  if (thread() == 0) {
    beats = lit = 0;
    keyed.door = gpu->door;
    keyed.newest = 0;
    keyed.sends_lines = keyed.is_swept = 0;
    take_handover(gpu);
    keyed.answered = keyed.asked = load_word(&gpu->door->answered);
  }
  if (thread() < gpu->mailbox.layout.slot_count) clear_line(&gpu->mailbox, thread());
  barrier();
}

static void send_lines(struct grass_mailbox *mailbox, uint32_t state);

/// Ends all sessions and forgets all keys but the group's, by all threads.
static void end_keys(struct grass_gpu *gpu, bool is_over) {
  barrier();
  if (is_over) send_lines(&gpu->mailbox, GRASS_STATE_STOPPED);
  else if (thread() < gpu->mailbox.layout.slot_count) clear_line(&gpu->mailbox, thread());
  wipe_keys();
}

// MARK: - Heartbeats

#define HEARTBEAT_SIZE (sizeof(struct grass_response) + sizeof(struct grass_heartbeat_answer))
_Static_assert(
    sizeof(struct grass_request) == 16 && HEARTBEAT_SIZE == 32 && offsetof(struct grass_heartbeat_answer, counter) == 8,
    "a heartbeat's request and answer begin with the same 16 bytes, and clock and counter follow");

static uint64_t stream_word(const struct grass_prepared *made, unsigned word) {
  return made->stream[2 * word] | (uint64_t)made->stream[2 * word + 1] << 32;
}

/// Makes what of a heartbeat's request or response is known, once the rest was prepared, by one thread.
static void begin_heartbeat(struct grass_next *next, bool is_response, uint64_t token) {
  const struct grass_prepared *made = is_response ? &next->response : &next->request;
  uint64_t data[2] = {token, 0}, lengths[2] = {sizeof token, sizeof(struct grass_request)}, tag[2];
  uint64_t sealed[2] = {GRASS_HEARTBEAT ^ stream_word(made, 0), stream_word(made, 1)};
  struct grass_poly1305_sum sum = {{0}};
  grass_poly1305_blocks(&made->authenticator, &sum, (const uint8_t *)data, 1);
  grass_poly1305_blocks(&made->authenticator, &sum, (const uint8_t *)sealed, 1);
  if (is_response) {
    next->sum = sum;
    next->head[0] = sealed[0];
    next->head[1] = sealed[1];
  } else {
    grass_poly1305_blocks(&made->authenticator, &sum, (const uint8_t *)lengths, 1);
    grass_poly1305_finish(&made->authenticator, sum, (uint8_t *)tag);
    next->asked[0] = tag[0];
    next->asked[1] = tag[1];
    next->asked[2] = sealed[0];
    next->asked[3] = sealed[1];
    GRASS_FORGET_PLACE(tag);
  }
  GRASS_FORGET_PLACE(sum);
}

/// Answers a heartbeat that was made ready for, whose record's words are all in `words`, by one thread. Returns whether it was one.
static bool answer_sealed_heartbeat(struct grass_gpu *gpu, uint32_t slot, uint64_t words[HEAD_WORDS]) {
  struct grass_next *next = &keys_here()->next[slot];
  if (!next->sequence || words[0] != next->sequence || words[1] != sizeof(struct grass_request) || words[6] != words[0])
    return false;
  // In one go, lest the time tell a forger where he errs. Any other request is opened where it is answered.
  uint64_t difference = 0;
  for (unsigned word = 0; word < 4; word++) difference |= words[2 + word] ^ next->asked[word];
  if (difference) return false;
  next->sequence = 0;
  const struct grass_prepared *made = &next->response;
  uint64_t check[2], lengths[2] = {sizeof(uint64_t), HEARTBEAT_SIZE};
  uint64_t sealed[2] = {clock_now() ^ stream_word(made, 2), gpu->mailbox.counter ^ stream_word(made, 3)};
  struct grass_poly1305_sum sum = next->sum;
  grass_poly1305_blocks(&made->authenticator, &sum, (const uint8_t *)sealed, 1);
  grass_poly1305_blocks(&made->authenticator, &sum, (const uint8_t *)lengths, 1);
  grass_poly1305_finish(&made->authenticator, sum, (uint8_t *)check);
  uint64_t *record = (uint64_t *)response_record(&gpu->mailbox, slot);
  store_word(record + 1, HEARTBEAT_SIZE);
  store_word(record + 2, check[0]);
  store_word(record + 3, check[1]);
  store_word(record + 4, next->head[0]);
  store_word(record + 5, next->head[1]);
  store_word(record + 6, sealed[0]);
  store_word(record + 7, sealed[1]);
  store_word(record + 8, words[0]);
  // None of these waits for another: a requester that sees some of them looks again.
  store_word(record, words[0]);
  __atomic_fetch_add(&gpu->mailbox.served, 1, __ATOMIC_RELAXED);
  __atomic_fetch_or((uint64_t *)&beats, 1ull << slot, __ATOMIC_RELAXED);
  return true;
}

/// Forgets what was made ready for: the keyring has changed. By all threads.
static void forget_next(void) {
  barrier();
  if (thread() < GRASS_GPU_SLOTS) keys_here()->next[thread()].sequence = 0;
  barrier();
}

/// Makes ready for each slot's next heartbeat, by all threads: the first of a slot's for the request, the second for the answer.
__attribute__((noinline)) static void prepare_next(const struct grass_mailbox *mailbox) {
  unsigned slot = thread() / HEAD_WORDS, part = thread() % HEAD_WORDS;
  barrier();
  struct grass_next *next = &keys_here()->next[slot];
  bool is_wanted = part < 2 && slot < mailbox->layout.slot_count && !next->sequence;
  struct grass_next_record record = {0};
  if (is_wanted) record = grass_keyring_next(keyring_here(), slot);
  if (is_wanted && record.sequence) {
    _Alignas(4) uint8_t nonce[12];
    grass_record_nonce(nonce, slot, record.sequence);
    grass_prepare(part ? &next->response : &next->request, part ? record.response : record.request, nonce);
    begin_heartbeat(next, part, record.token);
  } else if (is_wanted) {
    grass_wipe(part ? &next->response : &next->request, sizeof next->request);
  }
  __nvvm_bar_warp_sync(~0u);
  if (is_wanted && part == 0) next->sequence = record.sequence;
  barrier();
}

// MARK: - By all threads of the block

/// Makes the share of a record for so many threads, or for one warp where it is short. By one thread.
static void start_share(const uint8_t *key, uint32_t slot, uint64_t sequence, uint64_t length, uint32_t threads) {
  struct grass_share *share = (struct grass_share *)&share_of_record;
  _Alignas(4) uint8_t nonce[12], own[32];
  grass_record_nonce(nonce, slot, sequence);
  if (length > GRASS_LONG_RECORD) {
    grass_record_key(own, key, nonce);
    grass_share_start(share, own, nonce, threads);
    grass_wipe(own, sizeof own);
  } else {
    grass_share_start(share, key, nonce, length <= 64 * WARP ? WARP : threads);
  }
}

/// Ends the sums of this block's threads, of which this one is number `number` of the share's, and adds them up, by all threads: the
/// sum is thread 0's.
static struct grass_poly1305_sum sum_of_block(uint64_t length, uint32_t number, struct grass_poly1305_sum *own) {
  const struct grass_share *share = (const struct grass_share *)&share_of_record;
  // Of a short record's only the first warp has a part.
  if (number < share->threads) grass_share_end(share, sizeof(uint64_t), length, number, own);
  for (unsigned other = WARP / 2; other > 0; other /= 2) {
    struct grass_poly1305_sum its;
    for (unsigned limb = 0; limb < sizeof its.limb / sizeof its.limb[0]; limb++)
      its.limb[limb] = (uint32_t)__nvvm_shfl_sync_idx_i32(~0u, (int)own->limb[limb], (int)((thread() + other) % WARP), 31);
    *own = grass_poly1305_add(*own, its);
  }
  struct grass_poly1305_sum *parts = (struct grass_poly1305_sum *)&warp_sums[0];
  if (thread() % WARP == 0) parts[thread() / WARP] = *own;
  barrier();
  struct grass_poly1305_sum whole = parts[0];
  unsigned warps = share->threads < GRASS_GPU_THREADS ? 1 : GRASS_GPU_THREADS / WARP;
  if (thread() == 0)
    for (unsigned warp = 1; warp < warps; warp++) whole = grass_poly1305_add(whole, parts[warp]);
  return whole;
}

static uint32_t chunk_size(uint64_t length, uint64_t at) { return length - at < 64 ? (uint32_t)(length - at) : 64; }

/// Seals this thread's chunks of a text, as number `number` of the share's threads, and moves them to their place with those of its
/// warp.
static void seal_chunks(
    uint8_t *text, uint64_t *to, uint64_t length, uint64_t token, uint32_t number, struct grass_poly1305_sum *sum) {
  const struct grass_share *share = (const struct grass_share *)&share_of_record;
  uint32_t lane = number % WARP, words = (uint32_t)((length + 7) / 8);
  grass_share_begin(share, (const uint8_t *)&token, sizeof token, number, sum);
  // A warp seals chunks that lie side by side in their place, and moves them on by words that do.
  for (uint64_t first = number - lane; first * 64 < length; first += share->threads) {
    uint64_t at = (first + lane) * 64;
    if (at < length) grass_share_seal_chunk(share, first + lane, text + at, chunk_size(length, at), text + at, sum);
    __nvvm_bar_warp_sync(~0u);
    for (unsigned turn = 0; turn < 8; turn++) {
      uint64_t word = first * 8 + turn * WARP + lane;
      if (word < words) store_word(to + word, ((const uint64_t *)text)[word]);
    }
  }
}

_Static_assert(sizeof(struct grass_share) <= GRASS_GPU_SHARE_WORDS * 8, "workers have to be handed all of it");
_Static_assert(
    sizeof(struct grass_poly1305_sum) == sizeof(uint32_t) * sizeof((struct grass_parcel){0}.limbs) / sizeof(uint64_t),
    "the workers' sums are added up limb by limb");

/// Has the workers seal a long response, for whom the share at hand was made, and makes its tag, which is thread 0's. By all threads.
static void seal_by_workers(
    struct grass_gpu *gpu, uint8_t *text, uint64_t *to, uint64_t length, uint64_t token, uint64_t tag[2]) {
  struct grass_parcel *parcel = &gpu->parcel;
  const struct grass_share *share = (const struct grass_share *)&share_of_record;
  if (thread() == 0) {
    parcel->text = text;
    parcel->to = to;
    parcel->length = length;
    parcel->token = token;
    *(struct grass_share *)parcel->share = *share;
    for (unsigned limb = 0; limb < 5; limb++) parcel->limbs[limb] = 0;
  }
  barrier();
  runs_parcel(gpu, GRASS_TURN_SEAL);
  if (thread() != 0) return;
  uint64_t limbs[5];
  for (unsigned limb = 0; limb < 5; limb++) limbs[limb] = parcel->limbs[limb];
  for (unsigned limb = 0; limb < 4; limb++) limbs[limb + 1] += limbs[limb] >> 26, limbs[limb] &= (1u << 26) - 1;
  limbs[0] += (limbs[4] >> 26) * 5, limbs[4] &= (1u << 26) - 1;
  struct grass_poly1305_sum whole;
  for (unsigned limb = 0; limb < 5; limb++) whole.limb[limb] = (uint32_t)limbs[limb];
  grass_poly1305_finish(&share->authenticator, whole, (uint8_t *)tag);
  grass_wipe(parcel->share, sizeof parcel->share);
  grass_wipe(parcel->limbs, sizeof parcel->limbs);
}

/// A worker's part of that, by all its threads.
static void seal_parcel(struct grass_parcel *parcel, uint32_t worker) {
  struct grass_share *share = (struct grass_share *)&share_of_record;
  if (thread() == 0) *share = *(const struct grass_share *)parcel->share;
  barrier();
  uint32_t number = worker * GRASS_GPU_THREADS + thread();
  struct grass_poly1305_sum sum = {{0}};
  seal_chunks(parcel->text, parcel->to, parcel->length, parcel->token, number, &sum);
  struct grass_poly1305_sum whole = sum_of_block(parcel->length, number, &sum);
  if (thread() == 0) {
    for (unsigned limb = 0; limb < 5; limb++) __atomic_fetch_add(&parcel->limbs[limb], whole.limb[limb], __ATOMIC_RELAXED);
    grass_wipe(share, sizeof *share);
  }
}

/// Seals a response that lies in the GPU's memory, zero padded to whole words, moves it to its slot and makes it visible, by all
/// threads. Where its session is over, nobody waits for it.
__attribute__((noinline)) static void publish_sealed(
    struct grass_gpu *gpu, uint8_t *text, uint32_t slot, uint64_t sequence, uint64_t length) {
  struct grass_share *share = (struct grass_share *)&share_of_record;
  if (thread() == 0) {
    uint64_t token = 0;
    const uint8_t *key = grass_keyring_response_key(keyring_here(), slot, sequence, &token);
    // The workers have a part in it where they are idle.
    bool is_shared = length > GRASS_LONG_RECORD && !work.is_busy;
    if (key) start_share(key, slot, sequence, length, (is_shared ? work.workers : 1) * GRASS_GPU_THREADS);
    decided[0] = key != 0;
    decided[1] = token;
    decided[2] = is_shared;
    keyed.length = length;
  }
  barrier();
  bool is_wanted = decided[0], is_shared = decided[2];
  uint64_t token = decided[1];
  barrier();
  if (!is_wanted) return;
  uint8_t *record = response_record(&gpu->mailbox, slot);
  uint64_t *to = (uint64_t *)(record + sizeof(struct grass_record));
  uint64_t words = (length + 7) / 8;
  uint64_t check[2];
  if (is_shared) {
    seal_by_workers(gpu, text, to, length, token, check);
  } else {
    struct grass_poly1305_sum sum = {{0}};
    if (thread() < share->threads) seal_chunks(text, to, length, token, thread(), &sum);
    struct grass_poly1305_sum whole = sum_of_block(length, thread(), &sum);
    if (thread() == 0) grass_poly1305_finish(&share->authenticator, whole, (uint8_t *)check);
  }
  if (thread() == 0) {
    store_word(to + words, sequence);
    store_word(record + offsetof(struct grass_record, length), length);
    store_word(record + offsetof(struct grass_record, check), check[0]);
    store_word(record + offsetof(struct grass_record, check) + 8, check[1]);
    grass_store(record, sequence);
    gpu->mailbox.served++;
    grass_keyring_charge(keyring_here(), slot, 0, length, clock_now());
    grass_wipe(share, sizeof *share);
  }
  barrier();
}

/// Opens a long request of the session that has its slot, which lies in the GPU's memory, in place, by all threads. Returns false
/// where it is not that session's, or not in this epoch.
static bool open_together(uint32_t slot, const struct grass_record *head, uint8_t *payload) {
  struct grass_share *share = (struct grass_share *)&share_of_record;
  uint64_t length = head->length;
  if (thread() == 0) {
    uint64_t token = 0;
    const uint8_t *key = grass_keyring_request_key(keyring_here(), slot, head->sequence, &token);
    if (key) start_share(key, slot, head->sequence, length, GRASS_GPU_THREADS);
    decided[0] = key != 0;
    decided[1] = token;
  }
  barrier();
  bool has_key = decided[0];
  uint64_t token = decided[1], tag[2];
  barrier();
  if (!has_key) return false;
  struct grass_poly1305_sum sum = {{0}};
  if (thread() < share->threads) {
    grass_share_begin(share, (const uint8_t *)&token, sizeof token, thread(), &sum);
    for (uint64_t chunk = thread(); chunk * 64 < length; chunk += share->threads)
      grass_share_sum_chunk(share, chunk, payload + chunk * 64, chunk_size(length, chunk * 64), &sum);
  }
  struct grass_poly1305_sum whole = sum_of_block(length, thread(), &sum);
  if (thread() == 0) {
    grass_poly1305_finish(&share->authenticator, whole, (uint8_t *)tag);
    decided[0] = grass_tags_equal((const uint8_t *)tag, (const uint8_t *)head->check);
    grass_wipe(tag, sizeof tag);
  }
  barrier();
  bool is_right = decided[0];
  if (is_right && thread() < share->threads) grass_share_open(share, payload, length, payload, thread());
  barrier();
  if (thread() == 0) grass_wipe(share, sizeof *share);
  return is_right;
}

// MARK: - Lines

/// Seals and writes the line of each session, by a thread for each slot; of a session that is over, zeroes.
__attribute__((noinline)) static void send_lines(struct grass_mailbox *mailbox, uint32_t state) {
  barrier();
  // Each is sealed under a number of its own.
  if (thread() == 0) mailbox->counter++;
  barrier();
  unsigned slot = thread() / HEAD_WORDS;
  if (thread() % HEAD_WORDS == 0 && slot < mailbox->layout.line_count) {
    uint64_t bit = 1ull << slot;
    uint64_t now = clock_now();
    struct grass_session_line line = line_now(mailbox, now, state);
    if (grass_keyring_line(keyring_here(), slot, &line)) {
      const uint64_t *from = (const uint64_t *)&line;
      for (unsigned word = 0; word < sizeof line / 8; word++) store_word(line_place(mailbox, slot) + word, from[word]);
      __atomic_fetch_or((uint64_t *)&lit, bit, __ATOMIC_RELAXED);
    } else if (lit & bit) {
      clear_line(mailbox, slot);
      __atomic_fetch_and((uint64_t *)&lit, ~bit, __ATOMIC_RELAXED);
    }
    if (slot == 0) mailbox->lines_time = now;
  }
  barrier();
}

// MARK: - Between two looks at the slots

/// Asks now and then whether the host wants something, by one thread.
static void look_for_orders(struct grass_gpu *gpu, unsigned turn) {
  if (turn % 64) return;
  keyed.asked = load_word(&gpu->door->asked);
  // No handshake is answered before: what has expired can be told only then.
  struct grass_keyring *keyring = keyring_here();
  if (!keyring->utc_offset) keyring->utc_offset = load_word(&gpu->control->utc_offset);
}

/// Whether something is due that is not a request, by one thread.
static bool are_keys_due(const struct grass_mailbox *mailbox) {
  uint64_t now = clock_now();
  grass_keyring_tell(keyring_here(), now);
  keyed.sends_lines = now - mailbox->lines_time >= GRASS_LINES_NS;
  keyed.is_swept = now - keyring_here()->swept >= GRASS_SWEEP_NS;
  return keyed.sends_lines || keyed.is_swept || keyed.asked != keyed.answered;
}

/// Does what the host asks for, by one thread.
__attribute__((noinline)) static void take_orders(struct grass_gpu *gpu) {
  struct grass_gpu_door *door = gpu->door;
  struct grass_mailbox *mailbox = &gpu->mailbox;
  // An acquire: what was asked for lies there.
  uint64_t asked = grass_load(&door->asked), released = load_word(&door->released);
  for (uint32_t slot = 0; slot < mailbox->layout.slot_count; slot++) {
    if (!(released >> slot & 1)) continue;
    grass_keyring_release(keyring_here(), slot);
    clear_line(mailbox, slot);
    lit &= ~(1ull << slot);
  }
  if (load_word(&door->has_list) && keyed.takes_lists) grass_keyring_replace(keyring_here(), &door->list);
  keyed.answered = asked;
  grass_store(&door->answered, asked);
}

/// Accepts the heartbeats that were answered, and does what is due, by all threads.
__attribute__((noinline)) static void settle(struct grass_gpu *gpu) {
  if (thread() == 0) {
    struct grass_keyring *keyring = keyring_here();
    uint64_t answered = beats, now = clock_now();
    beats = 0;
    for (; answered; answered &= answered - 1) {
      uint32_t slot = (uint32_t)__builtin_ctzll(answered);
      struct grass_opened opened = {.session = keyring->owners[slot], .sequence = heads[slot * HEAD_WORDS]};
      // The one before may have been the last of its session.
      if (opened.session != GRASS_NO_SESSION) grass_keyring_accept(keyring, slot, &opened, now);
    }
    decided[0] = keyed.is_swept || keyed.asked != keyed.answered;
    if (keyed.asked != keyed.answered) take_orders(gpu);
    if (keyed.is_swept) grass_keyring_sweep(keyring, now);
  }
  barrier();
  bool is_other = decided[0];
  barrier();
  if (is_other) forget_next();
}

/// Writes the lines that are due, and makes ready for what comes, by all threads.
static void finish_turn(struct grass_mailbox *mailbox) {
  barrier();
  if (keyed.sends_lines) send_lines(mailbox, GRASS_STATE_RUNNING);
  prepare_next(mailbox);
}

// MARK: - Requests

/// How long a sealed request that does not open is left alone, in nanoseconds: at first, while it may be on its way, and at most.
#define SHORTEST_LOOK 20000u
#define LONGEST_LOOK 1000000u
#define NANOSECONDS_PER_BYTE 16u

/// Whether a slot is to be looked at now, by its first thread.
static bool may_look(const struct grass_mailbox *mailbox, uint32_t slot) {
  uint64_t now = clock_now();
  bool is_handshake = grass_epoch(heads[slot * HEAD_WORDS]) == 0;
  return now >= mailbox->slots[slot].next_look && (is_handshake || grass_keyring_may_ask(keyring_here(), slot, now));
}

/// Notes that a request cannot be used as it is now: it may be on its way, or another's, whom the true one then follows.
///
/// `length` is what of it was looked at: who sends what does not open pays with his own time.
static void look_later(struct grass_mailbox *mailbox, uint32_t slot, uint64_t sequence, uint64_t length) {
  if (thread() != 0) return;
  struct grass_slot_state *state = &mailbox->slots[slot];
  uint64_t now = clock_now();
  if (state->pending != sequence) {
    state->pending = sequence;
    state->pending_since = now;
    mailbox->torn++;
  }
  uint64_t pause = (now - state->pending_since) / 2;
  if (pause < SHORTEST_LOOK) pause = SHORTEST_LOOK;
  pause += length * NANOSECONDS_PER_BYTE;
  state->next_look = now + (pause > LONGEST_LOOK ? LONGEST_LOOK : pause);
}

/// Publishes what thread 0 put together, `decided[0]` bytes, by all threads.
static void publish_decided(struct grass_gpu *gpu, uint32_t slot, uint64_t sequence) {
  barrier();
  uint64_t length = decided[0];
  barrier();
  if (thread() < (-length & 7)) gpu->response[length + thread()] = 0;
  barrier();
  publish(gpu, slot, sequence, length);
}

/// Answers a handshake's message, whose record was copied, by all threads.
static void serve_handshake(struct grass_gpu *gpu, uint32_t slot, const struct grass_record *head) {
  struct grass_mailbox *mailbox = &gpu->mailbox;
  const uint8_t *payload = (const uint8_t *)(head + 1);
  uint64_t check[2], sequence = head->sequence;
  check_together(check, sequence, (const uint64_t *)(head + 1), head->length);
  if (check[0] != head->check[0] || check[1] != head->check[1]) return look_later(mailbox, slot, sequence, head->length);
  if (thread() == 0) {
    decided[0] = grass_keyring_handshake(
        keyring_here(), slot, payload, head->length, gpu->response, grass_record_capacity(mailbox->layout.response_size),
        clock_now());
    mailbox->slots[slot].served = sequence;
  }
  publish_decided(gpu, slot, sequence);
}

/// What becomes of a request that was opened.
enum { FALSE, LATER, REFUSED, ALLOWED };

/// Judges a request that was opened, or could not be, and takes it, by one thread.
static uint32_t take_request(
    struct grass_gpu *gpu, uint32_t slot, const struct grass_record *head, bool is_open, const struct grass_opened *opened) {
  struct grass_mailbox *mailbox = &gpu->mailbox;
  struct grass_keyring *keyring = keyring_here();
  if (!is_open) return FALSE;
  const struct grass_request *request = (const struct grass_request *)(head + 1);
  uint32_t operation = head->length < sizeof *request ? 0 : request->operation;
  // A session that has yet to be confirmed has no slot before it is accepted.
  if (!opened->is_waiting && operation == GRASS_RUN && gpu->monitors.is_running) return LATER;
  grass_keyring_accept(keyring, slot, opened, clock_now());
  mailbox->slots[slot].served = head->sequence;
  mailbox->slots[slot].next_look = 0;
  const struct grass_session_state *session = grass_keyring_session(keyring, slot);
  uint32_t right = grass_right_of(operation);
  if (opened->is_waiting) keyed.sends_lines = true;
  bool may = session && (session->rights & right) == right;
  grass_keyring_charge(
      keyring, slot, operation != GRASS_HEARTBEAT, may ? grass_digested((const uint8_t *)request, head->length) : 0, clock_now());
  return may ? ALLOWED : REFUSED;
}

/// Looks at the request in one slot, by all threads.
__attribute__((noinline)) static void serve_keyed(struct grass_gpu *gpu, uint32_t slot) {
  struct grass_mailbox *mailbox = &gpu->mailbox;
  struct grass_keyring *keyring = keyring_here();
  const uint8_t *record = mailbox->region + mailbox->layout.request_offset + slot * mailbox->layout.request_size;
  uint64_t sequence = heads[slot * HEAD_WORDS], length = heads[slot * HEAD_WORDS + 1];
  uint64_t *copied = (uint64_t *)mailbox->scratch;
  bool is_handshake = grass_epoch(sequence) == 0;
  if (is_handshake && (!keyring->utc_offset || !grass_keyring_may_shake(keyring, slot))) return;
  if (length > grass_record_capacity(mailbox->layout.request_size)) return look_later(mailbox, slot, sequence, 0);
  uint64_t words = grass_record_size(length) / 8;
  for (uint64_t word = thread(); word < words; word += GRASS_GPU_THREADS)
    copied[word] = word < HEAD_WORDS ? heads[slot * HEAD_WORDS + word] : load_word(record + word * 8);
  barrier();
  const struct grass_record *head = (const struct grass_record *)copied;
  uint8_t *payload = (uint8_t *)(copied + sizeof *head / 8);
  if (copied[words - 1] != sequence) return look_later(mailbox, slot, sequence, length);
  if (is_handshake) {
    serve_handshake(gpu, slot, head);
    return forget_next();
  }

  bool is_together = length > 8 * 64 && open_together(slot, head, payload);
  barrier();
  if (thread() == 0) {
    struct grass_opened opened = {.session = keyring->owners[slot], .sequence = sequence};
    bool is_open = is_together || grass_keyring_open(keyring, slot, head, payload, &opened);
    decided[0] = take_request(gpu, slot, head, is_open, &opened);
  }
  barrier();
  uint32_t outcome = (uint32_t)decided[0];
  barrier();
  if (outcome == LATER) return look_later(mailbox, slot, sequence, 0);
  if (outcome == FALSE) return look_later(mailbox, slot, sequence, length);
  forget_next();

  uint64_t capacity = grass_record_capacity(mailbox->layout.response_size);
  struct grass_request request = {0};
  if (length >= sizeof request) request = *(const struct grass_request *)payload;
  const uint8_t *rest = payload + sizeof request;
  if (outcome == REFUSED) {
    refuse(gpu, slot, sequence, request.operation, GRASS_NOT_ALLOWED);
  } else if (length < sizeof request) {
    refuse(gpu, slot, sequence, 0, GRASS_BAD_LENGTH);
  } else if (request.operation >= GRASS_SESSION && request.operation <= GRASS_CERTIFY) {
    if (thread() == 0)
      decided[0] =
          grass_keyring_answer(keyring, slot, &request, rest, length - sizeof request, gpu->response, capacity, clock_now());
    publish_decided(gpu, slot, sequence);
    forget_next();
  } else if (request.operation == GRASS_GATHER) {
    answer_gather(gpu, slot, sequence, &request, (const struct grass_range *)rest, length - sizeof request, capacity);
    struct grass_session_state *session = grass_keyring_session(keyring, slot);
    if (thread() == 0 && session) session->read += keyed.length;
  } else if (request.operation == GRASS_DIGEST) {
    answer_digest(gpu, slot, sequence, &request, rest, length - sizeof request, capacity);
  } else if (request.operation == GRASS_RUN) {
    begin_run(gpu, slot, sequence, payload, length);
    struct grass_session_state *session = grass_keyring_session(keyring, slot);
    if (thread() == 0 && session && gpu->monitors.is_running && gpu->monitors.sequence == sequence) session->runs++;
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
    // One that was not made ready for.
    if (thread() == 0) {
      *(struct grass_response *)gpu->response = (struct grass_response){.operation = GRASS_HEARTBEAT};
      *(struct grass_heartbeat_answer *)(gpu->response + sizeof(struct grass_response)) =
          (struct grass_heartbeat_answer){.clock = clock_now(), .counter = mailbox->counter};
      decided[0] = sizeof(struct grass_response) + sizeof(struct grass_heartbeat_answer);
    }
    publish_decided(gpu, slot, sequence);
  }
}
