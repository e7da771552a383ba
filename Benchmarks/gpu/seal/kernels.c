// What seal.c has a GPU do: the published vectors on one lane, and what handshakes and sealed records take there. The
// core is compiled into it from the sources that a processor has.
#include "../../../Sources/Between/CSeal/chacha20.c"
#include "../../../Sources/Between/CSeal/noise.c"
#include "../../../Sources/Between/CSeal/poly1305.c"
#include "../../../Sources/Between/CSeal/random.c"
#include "../../../Sources/Between/CSeal/seal.c"
#include "../../../Sources/Between/CSeal/sha256.c"
#include "../../../Sources/Between/CSeal/wipe.c"
#include "../../../Sources/Between/CSeal/x25519.c"
#include "../../../Tests/Support/CSealCases/cases.c"

#define KERNEL __attribute__((nvptx_kernel))
#define SHARED static __attribute__((address_space(3), loader_uninitialized))
#define MOST_LANES 1024u

static unsigned thread(void) { return __nvvm_read_ptx_sreg_tid_x(); }
static unsigned threads(void) { return __nvvm_read_ptx_sreg_ntid_x(); }

static uint64_t now(void) {
  uint64_t time;
  __asm__ volatile("mov.u64 %0, %%globaltimer;" : "=l"(time)::"memory");
  return time;
}

/// Runs a case. out[0]: its result; out[1]: the length of its output.
KERNEL void seal_case(
    uint64_t operation, const uint8_t *input, uint64_t length, uint8_t *output, uint8_t *scratch, uint64_t capacity,
    uint64_t *out) {
  uint64_t output_length;
  out[0] = (uint64_t)(int64_t)grass_seal_case((uint32_t)operation, input, length, output, scratch, capacity, &output_length);
  out[1] = output_length;
}

SHARED uint64_t short_key[4], short_text[256], short_tag[2];
SHARED struct grass_prepared short_prepared[2];

/// Seals and opens `size` bytes in shared memory, at most 2048, `count` times on one lane. out[0]: nanoseconds of all
/// seals; out[1]: of all opens; out[2]: how many did not open.
KERNEL void seal_short(uint64_t size, uint64_t count, uint64_t *out) {
  uint8_t *key = (uint8_t *)(uint64_t *)short_key, *text = (uint8_t *)(uint64_t *)short_text;
  uint8_t *tag = (uint8_t *)(uint64_t *)short_tag;
  _Alignas(8) uint8_t nonce[12], data[16] = {1};
  for (unsigned index = 0; index < 32; index++) key[index] = (uint8_t)(index * 7);
  for (unsigned index = 0; index < 2048; index++) text[index] = (uint8_t)index;
  uint64_t sealing = 0, opening = 0, failed = 0;
  for (uint64_t index = 0; index < count; index++) {
    grass_noise_nonce(nonce, index);
    uint64_t start = now();
    grass_seal(key, nonce, data, 16, text, size, text, tag);
    uint64_t middle = now();
    failed += !grass_open(key, nonce, data, 16, text, size, tag, text);
    opening += now() - middle;
    sealing += middle - start;
  }
  out[0] = sealing, out[1] = opening, out[2] = failed;
}

/// The same with all that does not hang on the text prepared beforehand.
KERNEL void seal_short_prepared(uint64_t size, uint64_t count, uint64_t *out) {
  uint8_t *key = (uint8_t *)(uint64_t *)short_key, *text = (uint8_t *)(uint64_t *)short_text;
  uint8_t *tag = (uint8_t *)(uint64_t *)short_tag;
  struct grass_prepared *first = (struct grass_prepared *)&short_prepared[0];
  struct grass_prepared *second = (struct grass_prepared *)&short_prepared[1];
  _Alignas(8) uint8_t nonce[12], data[16] = {1};
  for (unsigned index = 0; index < 32; index++) key[index] = (uint8_t)(index * 7);
  for (unsigned index = 0; index < 2048; index++) text[index] = (uint8_t)index;
  uint64_t sealing = 0, opening = 0, failed = 0;
  for (uint64_t index = 0; index < count; index++) {
    grass_noise_nonce(nonce, index);
    grass_prepare(first, key, nonce);
    grass_prepare(second, key, nonce);
    uint64_t start = now();
    grass_seal_prepared(first, key, nonce, data, 16, text, size, text, tag);
    uint64_t middle = now();
    failed += !grass_open_prepared(second, key, nonce, data, 16, text, size, tag, text);
    opening += now() - middle;
    sealing += middle - start;
  }
  out[0] = sealing, out[1] = opening, out[2] = failed;
}

/// Seals only, without a look at the clock between: its steps on some GPUs are a microsecond. out[0]: nanoseconds of
/// all.
KERNEL void seal_series(uint64_t size, uint64_t count, uint64_t *out) {
  uint8_t *key = (uint8_t *)(uint64_t *)short_key, *text = (uint8_t *)(uint64_t *)short_text;
  uint8_t *tag = (uint8_t *)(uint64_t *)short_tag;
  _Alignas(8) uint8_t nonce[12], data[16] = {1};
  for (unsigned index = 0; index < 32; index++) key[index] = (uint8_t)(index * 7);
  for (unsigned index = 0; index < 2048; index++) text[index] = (uint8_t)index;
  uint64_t start = now();
  for (uint64_t index = 0; index < count; index++) {
    grass_noise_nonce(nonce, index);
    grass_seal(key, nonce, data, 16, text, size, text, tag);
  }
  out[0] = now() - start;
}

/// `count` products, each of the last one's result, by each thread. out[0]: nanoseconds of the first thread; out[1]:
/// part of a result.
KERNEL void products(uint64_t count, uint64_t *out) {
  _Alignas(8) uint8_t shared[32] = {9}, key[32] = {0};
  for (unsigned index = 0; index < 32; index++) key[index] = (uint8_t)(index * 11 + thread());
  uint64_t start = now(), usable = 0;
  for (uint64_t index = 0; index < count; index++) usable += grass_x25519(shared, key, shared);
  if (thread() == 0) out[0] = now() - start;
  out[1 + thread()] = shared[0] + usable * 256;
}

/// `count` handshakes of a pattern on one lane, without a key shared beforehand. out[0]: nanoseconds of the responder,
/// its ephemeral key being at hand; out[1]: of making that key; out[2]: how many failed.
KERNEL void handshakes(uint64_t pattern, uint64_t count, uint64_t *out) {
  struct grass_key_pair pairs[4];
  uint64_t spent = 0, making = 0, failed = 0;
  for (unsigned index = 0; index < 3; index++) {
    _Alignas(8) uint8_t random[32] = {0};
    random[0] = (uint8_t)(index + 1);
    grass_make_key_pair(&pairs[index], random);
  }
  for (uint64_t round = 0; round < count; round++) {
    struct grass_noise ends[2];
    struct grass_cipher ciphers[2];
    _Alignas(8) uint8_t message[256], text[64] = {1}, random[32] = {0};
    uint64_t length = 0, got = 0, start = now();
    random[0] = (uint8_t)round, random[1] = 9;
    grass_make_key_pair(&pairs[3], random);
    making += now() - start;
    uint32_t error = grass_noise_start(
        &ends[0], (uint32_t)pattern, 0, 0, 0, &pairs[0], &pairs[1], pattern % 2 ? pairs[2].public_key : 0, 0);
    start = now();
    error |= grass_noise_start(&ends[1], (uint32_t)pattern, 1, 0, 0, &pairs[2], &pairs[3], 0, 0);
    spent += now() - start;
    for (unsigned index = 0; !error && !grass_noise_has_ended(&ends[0]); index++) {
      start = now();
      error |= grass_noise_write(&ends[index % 2], text, 32, message, sizeof message, &length);
      if (index % 2 == 1) spent += now() - start;
      start = now();
      error |= grass_noise_read(&ends[1 - index % 2], message, length, text, sizeof text, &got);
      if (index % 2 == 0) spent += now() - start;
    }
    start = now();
    error |= grass_noise_split(&ends[1], &ciphers[0], &ciphers[1]);
    spent += now() - start;
    failed += error != 0;
  }
  out[0] = spent, out[1] = making, out[2] = failed;
}

// MARK: - By the threads of one block, and of several
//
// As the resident program does it. A record's text lies in the GPU's own memory, zero padded to whole words; each warp seals
// its 32 chunks, which lie side by side, in their place, and moves them on to the host's memory by whole words that lie side
// by side as well: what it sums up never comes from there.

#define WARP 32u
#define CHUNK_WORDS 8u

SHARED struct grass_share block_share;
SHARED struct grass_poly1305_sum block_sums[MOST_LANES];
SHARED uint32_t block_agrees;

static unsigned block(void) { return __nvvm_read_ptx_sreg_ctaid_x(); }
static unsigned blocks(void) { return __nvvm_read_ptx_sreg_nctaid_x(); }

static uint64_t load_word(const uint64_t *place) {
  uint64_t value;
  __asm__ volatile("ld.relaxed.sys.u64 %0, [%1];" : "=l"(value) : "l"(place) : "memory");
  return value;
}

static void store_word(uint64_t *place, uint64_t value) {
  __asm__ volatile("st.relaxed.sys.u64 [%0], %1;" : : "l"(place), "l"(value) : "memory");
}

static uint32_t chunk_bytes(uint64_t length, uint64_t at) { return length - at < 64 ? (uint32_t)(length - at) : 64; }

/// Adds up the sums of this block's threads, by all of them; the first thread gets the whole.
static struct grass_poly1305_sum add_together(struct grass_poly1305_sum own) {
  struct grass_poly1305_sum *sums = (struct grass_poly1305_sum *)&block_sums[0];
  sums[thread()] = own;
  __syncthreads();
  for (unsigned half = MOST_LANES / 2; half > 0; half /= 2) {
    if (thread() < half && thread() + half < threads())
      sums[thread()] = grass_poly1305_add(sums[thread()], sums[thread() + half]);
    __syncthreads();
  }
  return sums[0];
}

/// Seals in its place what thread `index` of the share takes, and moves it to `to`. A share's threads are whole warps, and
/// those of a warp come here together.
static void seal_and_send(
    const struct grass_share *share, uint8_t *text, uint64_t length, uint64_t *to, uint32_t index,
    struct grass_poly1305_sum *sum) {
  uint32_t lane = index % WARP;
  uint64_t words = (length + 7) / 8;
  for (uint64_t first = index - lane; first * 64 < length; first += share->threads) {
    uint64_t at = (first + lane) * 64;
    if (at < length) grass_share_seal_chunk(share, first + lane, text + at, chunk_bytes(length, at), text + at, sum);
    __nvvm_bar_warp_sync(~0u);
    GRASS_UNROLL for (unsigned turn = 0; turn < CHUNK_WORDS; turn++) {
      uint64_t word = first * CHUNK_WORDS + turn * WARP + lane;
      if (word < words) store_word(to + word, ((const uint64_t *)text)[word]);
    }
  }
}

/// Prepares a record for `count` threads, by one: out[0]: nanoseconds of what can be done before the record is known, and
/// out[1]: of what cannot.
KERNEL void share_prepare(
    const uint8_t *key, const uint8_t *nonce, uint64_t count, struct grass_share *share, uint64_t *out) {
  struct grass_prepared prepared;
  uint64_t start = now();
  grass_prepare(&prepared, key, nonce);
  uint64_t middle = now();
  grass_share_start_prepared(share, &prepared, key, nonce, (uint32_t)count);
  out[1] = now() - middle;
  out[0] = middle - start;
  grass_wipe(&prepared, sizeof prepared);
}

/// What blocks that seal one record leave each other.
struct rendezvous {
  uint64_t start;
  uint64_t arrived;
  struct grass_poly1305_sum sums[64];
};

/// All threads of all blocks, 64 at most of up to 1024 threads, seal a record together. The last block to arrive makes the
/// tag, which follows the words of the text. `meeting` is zero before. out[0]: nanoseconds from the first block's start.
KERNEL void seal_shared(
    const struct grass_share *made, uint8_t *text, uint64_t length, uint64_t *sealed, struct rendezvous *meeting,
    uint64_t *out) {
  struct grass_share *share = (struct grass_share *)&block_share;
  struct grass_poly1305_sum sum;
  uint32_t index = block() * threads() + thread();
  if (index == 0) *(volatile uint64_t *)&meeting->start = now();
  if (thread() == 0) *share = *made;
  __syncthreads();
  grass_share_begin(share, 0, 0, index, &sum);
  seal_and_send(share, text, length, sealed, index, &sum);
  grass_share_end(share, 0, length, index, &sum);
  sum = add_together(sum);
  if (thread() != 0) return;
  meeting->sums[block()] = sum;
  __nvvm_membar_gl();
  if (__atomic_add_fetch(&meeting->arrived, 1, __ATOMIC_RELAXED) != blocks()) return;
  __nvvm_membar_gl();
  struct grass_poly1305_sum whole = {{0}};
  for (unsigned index = 0; index < blocks(); index++) whole = grass_poly1305_add(whole, meeting->sums[index]);
  _Alignas(8) uint8_t tag[16];
  grass_poly1305_finish(&share->authenticator, whole, tag);
  sealed += (length + 7) / 8;
  store_word(sealed, ((const uint64_t *)(const void *)tag)[0]);
  store_word(sealed + 1, ((const uint64_t *)(const void *)tag)[1]);
  __nvvm_membar_sys();
  out[0] = now() - *(volatile uint64_t *)&meeting->start;
}

/// All threads of one block fetch a sealed record from the host's memory, judge and open it. The tag follows the words of
/// the text. `text` is the GPU's own memory. out[0]: nanoseconds of fetching; out[1]: of judging; out[2]: of opening;
/// out[3]: whether it was opened.
KERNEL void open_shared(
    const uint8_t *key, const uint8_t *nonce, const uint64_t *sealed, uint64_t length, uint8_t *text, uint64_t *out) {
  struct grass_share *share = (struct grass_share *)&block_share;
  struct grass_poly1305_sum sum;
  uint64_t start = now(), words = (length + 7) / 8;
  // While the other warps' words are on their way.
  if (thread() == 0) grass_share_start(share, key, nonce, threads());
  for (uint64_t word = thread(); word < words; word += 4 * threads()) {
    uint64_t group[4];
    GRASS_UNROLL for (unsigned index = 0; index < 4; index++)
      group[index] = word + index * threads() < words ? load_word(sealed + word + index * threads()) : 0;
    GRASS_UNROLL for (unsigned index = 0; index < 4; index++)
      if (word + index * threads() < words) ((uint64_t *)text)[word + index * threads()] = group[index];
  }
  __syncthreads();
  uint64_t fetched = now();
  grass_share_sum(share, 0, 0, text, length, thread(), &sum);
  sum = add_together(sum);
  if (thread() == 0) {
    _Alignas(8) uint8_t tag[16], given[16];
    for (unsigned index = 0; index < 2; index++) ((uint64_t *)(void *)given)[index] = load_word(sealed + words + index);
    grass_poly1305_finish(&share->authenticator, sum, tag);
    block_agrees = grass_tags_equal(tag, given);
    grass_wipe(tag, sizeof tag);
  }
  __syncthreads();
  bool agrees = block_agrees;
  uint64_t judged = now();
  if (agrees) grass_share_open(share, text, length, text, thread());
  __syncthreads();
  if (thread() == 0) out[0] = fetched - start, out[1] = judged - fetched, out[2] = now() - judged, out[3] = agrees;
}
