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

SHARED struct grass_share block_share;
SHARED struct grass_poly1305_sum block_sums[MOST_LANES];

/// All threads of one block seal a text together, 1024 at most. The tag follows the sealed text. out[0]: nanoseconds.
KERNEL void seal_shared(
    const uint8_t *key, const uint8_t *nonce, const uint8_t *text, uint64_t length, uint8_t *sealed, uint64_t *out) {
  struct grass_share *share = (struct grass_share *)&block_share;
  struct grass_poly1305_sum *sums = (struct grass_poly1305_sum *)&block_sums[0];
  uint64_t start = now();
  if (thread() == 0) grass_share_start(share, key, nonce, threads());
  __syncthreads();
  grass_share_seal(share, key, nonce, 0, 0, text, length, sealed, thread(), threads(), &sums[thread()]);
  __syncthreads();
  for (unsigned half = MOST_LANES / 2; half > 0; half /= 2) {
    if (thread() < half && thread() + half < threads())
      sums[thread()] = grass_poly1305_add(sums[thread()], sums[thread() + half]);
    __syncthreads();
  }
  if (thread() == 0) {
    grass_poly1305_finish(&share->authenticator, sums[0], sealed + length);
    out[0] = now() - start;
  }
}
