// What a GPU can get out of host memory at all, whatever asks for it: the bounds of what monitors can reach.
//
//   bus KERNELS.ptx
//
// Needs NVIDIA's driver alone.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define SIZE (4ull << 30)
#define PAGE 4096ull

static void *driver, *module;
static uint64_t *answers, device_answers, memory, multiprocessors;

#define CALL(name, ...)                                                    \
  do {                                                                     \
    int (*call_)() = (int (*)())dlsym(driver, #name);                      \
    int code_ = call_ ? call_(__VA_ARGS__) : -1;                           \
    if (code_) fprintf(stderr, "bus: " #name " failed: %d\n", code_), exit(1); \
  } while (0)

static double seconds(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/// Runs a kernel, its parameters 64-bit words, and returns how long that took.
static double run(const char *name, unsigned blocks, unsigned threads, unsigned count, ...) {
  uint64_t words[8];
  void *pointers[8], *function;
  va_list list;
  va_start(list, count);
  for (unsigned index = 0; index < count; index++) {
    words[index] = va_arg(list, uint64_t);
    pointers[index] = &words[index];
  }
  va_end(list);
  CALL(cuModuleGetFunction, &function, module, name);
  int (*launch)(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **) =
      dlsym(driver, "cuLaunchKernel");
  double start = seconds();
  int code = launch(function, blocks, 1, 1, threads, 1, 1, 0, 0, pointers, 0);
  if (code) fprintf(stderr, "bus: cannot launch %s: %d\n", name, code), exit(1);
  CALL(cuCtxSynchronize);
  return seconds() - start;
}

/// The better of two runs.
static double best(const char *name, uint64_t pages, uint64_t count, uint64_t how) {
  double first = run(name, (unsigned)multiprocessors, 512, 5, memory, pages, count, how, device_answers);
  double second = run(name, (unsigned)multiprocessors, 512, 5, memory, pages, count, how, device_answers);
  return first < second ? first : second;
}

int main(int argc, char **argv) {
  static char text[1 << 20];
  FILE *file = argc > 1 ? fopen(argv[1], "r") : NULL;
  if (!file || !fread(text, 1, sizeof text - 1, file)) return fprintf(stderr, "usage: bus KERNELS.ptx\n"), 64;
  driver = dlopen("libcuda.so.1", RTLD_NOW);
  if (!driver) return fprintf(stderr, "bus: %s\n", dlerror()), 1;
  int device = 0, count = 0;
  void *context;
  CALL(cuInit, 0);
  CALL(cuDeviceGet, &device, 0);
  CALL(cuDeviceGetAttribute, &count, 16, device);
  multiprocessors = (uint64_t)count;
  CALL(cuCtxCreate_v2, &context, 8, device);
  CALL(cuModuleLoadData, &module, text);
  CALL(cuMemHostAlloc, (void **)&answers, PAGE, 3);
  CALL(cuMemHostGetDevicePointer_v2, &device_answers, answers, 0);
  uint64_t arrived;
  CALL(cuMemAlloc_v2, &arrived, PAGE);
  int shared = memfd_create("bus", 0);
  char *host = ftruncate(shared, SIZE) ? MAP_FAILED : mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, shared, 0);
  if (host == MAP_FAILED) return perror("bus: 4 GiB"), 1;
  memset(host, 0, SIZE);
  CALL(cuMemHostRegister_v2, host, SIZE, 2 | 8);
  CALL(cuMemHostGetDevicePointer_v2, &memory, host, 0);

  uint64_t some = (64 << 20) / PAGE, all = SIZE / PAGE;
  for (int round = 0; round < 2; round++) run("chain", 1, 1, 4, memory, some, (uint64_t)4000, device_answers);
  printf("one word after the other: %.0f ns each\n", (double)answers[0] / 4000);
  for (uint64_t step = 8; step <= 64; step *= 2) {
    run("direct_words", 1, 1, 5, memory, some, step, (uint64_t)2000, device_answers);
    double direct = (double)answers[0] / 2000;
    run("cached_words", 1, 1, 5, memory, some, step, (uint64_t)2000, device_answers);
    printf("eight words %2lu bytes apart at once: past the cache %.0f ns, through it %.0f ns\n", step, direct,
           (double)answers[0] / 2000);
  }
  for (uint64_t blocks = 1; blocks <= multiprocessors; blocks *= 8) {
    CALL(cuMemsetD8_v2, arrived, 0, PAGE);
    answers[0] = 0;
    run("same_word", (unsigned)blocks, 1, 5, memory, some, (uint64_t)500, arrived, device_answers);
    printf("the same word by %lu multiprocessors at once: %.0f ns\n", blocks, (double)answers[0] / 500);
  }
  uint64_t loads = 1 << 20;
  printf("words of pages of 64 MiB, scattered: %.0f million/s\n", loads / best("words", some, loads, 0) / 1e6);
  printf("words of pages of 4 GiB, in order: %.0f million/s\n", loads / best("words", all, loads, 1) / 1e6);
  printf("words of pages of 4 GiB, scattered: %.0f million/s\n", loads / best("words", all, loads, 0) / 1e6);
  for (uint64_t together = 0; together < 2; together++)
    printf("four words of a line of 128 bytes, by %s: %.0f million lines/s\n", together ? "four threads" : "one thread",
           loads / best("lines", some, loads, together) / 1e6);
  return 0;
}
