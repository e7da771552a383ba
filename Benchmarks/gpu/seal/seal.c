// The core of sessions' keys on a GPU: every published vector on one lane, then what handshakes and sealed records take
// there.
//
//   seal KERNELS FOLDER [ITERATIONS]
//
// KERNELS is PTX, or what ptxas makes of it. FOLDER is that of the vectors, Tests/Between/SealTests/Resources; X25519 is
// iterated as often as the third argument says, at most (1000). Needs NVIDIA's driver only. What it seals by many threads
// is compared with what this processor seals.
//
// A GPU's fault ends the process that met it, so the vectors and the measurements run in processes of their own: it costs
// one vector, which is named.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../../Tests/Support/SealPrograms/vectors.h"

/// Processes that may die of a vector before the others are left out.
#define MOST_DEATHS 12u

static char kernels[8 << 20];
static void *driver, *module;
static uint64_t *answers, device_answers;

/// What the processes of the vectors tell each other.
struct progress {
  unsigned at, passed, failed, skipped;
  bool began;  // Whether the last process found its GPU.
};

#define CALL(name, ...)                                                         \
  do {                                                                          \
    int (*call_)() = (int (*)())dlsym(driver, #name);                           \
    int code_ = call_ ? call_(__VA_ARGS__) : -1;                                \
    if (code_) fprintf(stderr, "seal: " #name " failed: %d\n", code_), exit(1); \
  } while (0)

/// Runs a kernel of `blocks` blocks, its parameters 64-bit words, to its end.
static void run_blocks(const char *name, unsigned blocks, unsigned threads, unsigned count, ...) {
  uint64_t words[8];
  void *pointers[8], *function;
  va_list list;
  va_start(list, count);
  for (unsigned index = 0; index < count; index++) {
    words[index] = va_arg(list, uint64_t);
    pointers[index] = &words[index];
  }
  va_end(list);
  memset(answers, 0, 2048 * 8);
  CALL(cuModuleGetFunction, &function, module, name);
  int (*launch)(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **) =
      dlsym(driver, "cuLaunchKernel");
  int code = launch(function, blocks, 1, 1, threads, 1, 1, 0, 0, pointers, 0);
  if (code) fprintf(stderr, "seal: cannot launch %s: %d\n", name, code), exit(1);
  CALL(cuCtxSynchronize);
}

/// Runs a kernel of one block.
#define run(name, ...) run_blocks(name, 1, __VA_ARGS__)

static uint64_t allocate(uint64_t size) {
  uint64_t place = 0;
  CALL(cuMemAlloc_v2, &place, size + 64);
  return place;
}

/// Takes up the GPU, once in each process.
static void start_driver(bool tells) {
  driver = dlopen("libcuda.so.1", RTLD_NOW);
  if (!driver) fprintf(stderr, "seal: %s\n", dlerror()), exit(1);
  int device = 0;
  char name[100] = "";
  void *context;
  CALL(cuInit, 0);
  CALL(cuDeviceGet, &device, 0);
  CALL(cuDeviceGetName, name, (int)sizeof name - 1, device);
  CALL(cuCtxCreate_v2, &context, 8, device);
  struct timespec start, end;
  clock_gettime(CLOCK_MONOTONIC, &start);
  CALL(cuModuleLoadData, &module, kernels);
  clock_gettime(CLOCK_MONOTONIC, &end);
  CALL(cuMemHostAlloc, (void **)&answers, (uint64_t)(2048 * 8), 3);
  CALL(cuMemHostGetDevicePointer_v2, &device_answers, answers, 0);
  if (tells)
    printf("%s; its driver loads the kernels in %.1f s\n", name,
           (double)(end.tv_sec - start.tv_sec) + (double)(end.tv_nsec - start.tv_nsec) / 1e9);
}

/// The vectors from `progress->at` on, until one ends this process.
static void run_vectors(const struct vectors *all, uint32_t most, struct progress *progress) {
  start_driver(progress->at == 0);
  progress->began = true;
  uint64_t capacity = 2 << 20, input = allocate(capacity), output = allocate(capacity), scratch = allocate(capacity);
  uint8_t *result = malloc(capacity);
  for (; progress->at < all->count; progress->at++) {
    const struct vector *vector = &all->vectors[progress->at];
    if (iterations(vector) > most) {
      printf("left out: %u iterations of X25519\n", iterations(vector));
      progress->skipped++;
      continue;
    }
    if (vector->input_length + 1024 > capacity) fprintf(stderr, "seal: too long: %s\n", vector->name), exit(1);
    CALL(cuMemcpyHtoD_v2, input, vector->input, vector->input_length);
    CALL(cuMemsetD8_v2, output, 0, capacity);
    run("seal_case", 1, 7, (uint64_t)vector->operation, input, vector->input_length, output, scratch,
        vector->input_length + 1024, device_answers);
    int32_t code = (int32_t)(int64_t)answers[0];
    uint64_t length = answers[1];
    CALL(cuMemcpyDtoH_v2, result, output, capacity);
    const char *wrong = judge(vector, code, result, length);
    if (wrong) fprintf(stderr, "seal: vector %u: %s: %s\n", progress->at, vector->name, wrong), progress->failed++;
    else progress->passed++;
  }
  free(result);
}

/// Waits for a child; whether it ended well.
static bool ended_well(pid_t child) {
  int status = 0;
  if (child < 0) perror("fork"), exit(1);
  while (waitpid(child, &status, 0) < 0) {}
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/// All vectors, each after one that a process died of in a new one. Returns how many failed or were not reached.
static unsigned run_all_vectors(const char *folder, uint32_t most) {
  struct vectors all = read_vectors(folder);
  struct progress *progress = mmap(NULL, sizeof *progress, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (progress == MAP_FAILED) perror("mmap"), exit(1);
  for (unsigned deaths = 0; progress->at < all.count && deaths < MOST_DEATHS;) {
    fflush(NULL);
    progress->began = false;
    pid_t child = fork();
    if (child == 0) {
      run_vectors(&all, most, progress);
      exit(0);
    }
    if (ended_well(child)) break;
    deaths++;
    if (!progress->began || progress->at == all.count) break;
    fprintf(stderr, "seal: vector %u: %s: it ended its process\n", progress->at, all.vectors[progress->at].name);
    progress->failed++, progress->at++;
  }
  unsigned unreached = all.count - progress->at;
  printf("vectors on the GPU: %u passed, %u failed, %u left out, %u not reached\n", progress->passed, progress->failed,
         progress->skipped, unreached);
  unsigned failed = progress->failed + unreached;
  munmap(progress, sizeof *progress);
  free_vectors(&all);
  return failed;
}

/// Records sealed into the host's memory by the threads of one block and of several, beside what this processor seals; and
/// opened by those of one block.
static unsigned run_shared(void) {
  uint64_t most = 1 << 20, key = allocate(32), nonce = allocate(12), text = allocate(most), share = allocate(4096),
           meeting = allocate(8192), device_sealed = 0;
  uint8_t *plain = calloc(1, most + 8), *expected = malloc(most + 16), *got = malloc(most), *sealed = NULL;
  uint8_t key_bytes[32], nonce_bytes[12];
  for (unsigned index = 0; index < 32; index++) key_bytes[index] = (uint8_t)(3 * index + 1);
  for (unsigned index = 0; index < 12; index++) nonce_bytes[index] = (uint8_t)(5 * index + 2);
  CALL(cuMemHostAlloc, (void **)&sealed, (uint64_t)(most + 64), 3);
  CALL(cuMemHostGetDevicePointer_v2, &device_sealed, sealed, 0);
  CALL(cuMemcpyHtoD_v2, key, key_bytes, (uint64_t)32);
  CALL(cuMemcpyHtoD_v2, nonce, nonce_bytes, (uint64_t)12);
  const uint64_t lengths[] = {0, 1, 64, 65, 1000, 4096, 32767, 65536, 1 << 20};
  const unsigned grids[][2] = {{1, 32}, {1, 512}, {4, 512}, {16, 512}, {64, 512}};
  unsigned failed = 0;
  for (unsigned index = 0; index < sizeof lengths / sizeof *lengths; index++) {
    uint64_t length = lengths[index], padded = (length + 7) & ~7ull;
    memset(plain, 0, most + 8);
    for (uint64_t at = 0; at < length; at++) plain[at] = (uint8_t)(at * 2654435761u >> 13);
    if (!grass_seal(key_bytes, nonce_bytes, NULL, 0, plain, length, expected, expected + length)) exit(1);
    for (unsigned grid = 0; grid < sizeof grids / sizeof *grids; grid++) {
      unsigned blocks = grids[grid][0], threads = grids[grid][1];
      if (blocks > 1 && length < 65536) continue;
      uint64_t best = ~0ull, before = 0, after = 0;
      for (int round = 0; round < 4; round++) {
        memset(sealed, 0xee, most + 64);
        CALL(cuMemcpyHtoD_v2, text, plain, most);
        CALL(cuMemsetD8_v2, meeting, 0, (uint64_t)8192);
        run("share_prepare", 1, 5, key, nonce, (uint64_t)(blocks * threads), share, device_answers);
        before = answers[0], after = answers[1];
        run_blocks("seal_shared", blocks, threads, 6, share, text, length, device_sealed, meeting, device_answers);
        if (answers[0] < best) best = answers[0];
      }
      if (memcmp(sealed, expected, length) != 0 || memcmp(sealed + padded, expected + length, 16) != 0) {
        fprintf(stderr, "seal: %lu bytes by %u x %u threads are sealed otherwise than here\n", (unsigned long)length, blocks,
                threads);
        failed++;
      }
      printf("%7lu bytes sealed into the host's memory by %2u x %3u threads: %8.1f us", (unsigned long)length, blocks, threads,
             (double)best / 1e3);
      if (length >= 65536) printf(", %.2f GB/s", (double)length / (double)best);
      printf(" (beforehand %.1f us, of the share %.1f us)\n", (double)before / 1e3, (double)after / 1e3);
    }
    if (length > 65536) continue;
    memset(sealed, 0, padded);
    memcpy(sealed, expected, length);
    memcpy(sealed + padded, expected + length, 16);
    uint64_t best[3] = {~0ull, ~0ull, ~0ull};
    for (int round = 0; round < 5; round++) {
      bool forged = round == 4;
      sealed[padded] ^= (uint8_t)forged;
      CALL(cuMemsetD8_v2, text, 0xee, most);
      run("open_shared", 512, 6, key, nonce, device_sealed, length, text, device_answers);
      CALL(cuMemcpyDtoH_v2, got, text, padded);
      if (answers[3] == forged || (memcmp(got, plain, length) != 0) != (forged && length > 0)) {
        fprintf(stderr, "seal: %lu bytes, %s, are judged or opened wrongly by 512 threads\n", (unsigned long)length,
                forged ? "forged" : "true");
        failed++;
      }
      for (unsigned part = 0; part < 3 && !forged; part++)
        if (answers[part] < best[part]) best[part] = answers[part];
    }
    printf("%7lu bytes by 512 threads: fetched in %.1f us, judged in %.1f us, opened in %.1f us\n", (unsigned long)length,
           (double)best[0] / 1e3, (double)best[1] / 1e3, (double)best[2] / 1e3);
  }
  free(plain), free(expected), free(got);
  return failed;
}

/// What handshakes and records take. Returns how many of them went wrong.
static unsigned measure(void) {
  unsigned failed = 0;
  for (int round = 0; round < 2; round++) run("products", 1, 2, (uint64_t)20, device_answers);
  printf("x25519 on one lane: %.0f us\n", (double)answers[0] / 20e3);
  run("products", 32, 2, (uint64_t)20, device_answers);
  printf("x25519 on each of 32 lanes: %.0f us\n", (double)answers[0] / 20e3);
  for (uint64_t pattern = 0; pattern < 2; pattern++) {
    run("handshakes", 1, 3, pattern, (uint64_t)8, device_answers);
    printf("handshake %s on one lane: the responder's part %.0f us with its ephemeral key at hand, %.0f us with making it\n",
           pattern ? "IK" : "XX", (double)answers[0] / 8e3, (double)(answers[0] + answers[1]) / 8e3);
    if (answers[2]) fprintf(stderr, "seal: %lu handshakes failed\n", (unsigned long)answers[2]), failed++;
  }
  for (uint64_t size = 16; size <= 1024; size *= 4) {
    for (int round = 0; round < 2; round++) run("seal_short", 1, 3, size, (uint64_t)2000, device_answers);
    if (answers[2]) fprintf(stderr, "seal: %lu records did not open\n", (unsigned long)answers[2]), failed++;
    double sealing = (double)answers[0] / 2000, opening = (double)answers[1] / 2000;
    run("seal_series", 1, 3, size, (uint64_t)2000, device_answers);
    printf("%4lu bytes and 16 beside them on one lane: seal %.0f ns (in series %.0f ns), open %.0f ns\n", (unsigned long)size,
           sealing, (double)answers[0] / 2000, opening);
    run("seal_short_prepared", 1, 3, size, (uint64_t)2000, device_answers);
    if (answers[2]) fprintf(stderr, "seal: %lu prepared records did not open\n", (unsigned long)answers[2]), failed++;
    printf("     prepared beforehand: seal %.0f ns, open %.0f ns\n", (double)answers[0] / 2000, (double)answers[1] / 2000);
  }
  return failed + run_shared();
}

int main(int argc, char **argv) {
  FILE *file = argc > 2 ? fopen(argv[1], "r") : NULL;
  if (!file || !fread(kernels, 1, sizeof kernels - 1, file))
    return fprintf(stderr, "usage: seal KERNELS FOLDER [ITERATIONS]\n"), 64;
  fclose(file);
  unsigned failed = run_all_vectors(argv[2], argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 1000);
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    start_driver(false);
    exit(measure() > 0);
  }
  if (!ended_well(child)) fprintf(stderr, "seal: what is measured went wrong\n"), failed++;
  if (failed) fprintf(stderr, "seal: %u things are wrong\n", failed);
  return failed > 0;
}
