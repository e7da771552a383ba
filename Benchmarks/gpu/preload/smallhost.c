// Loaded before the C library, it says that the machine has 1 GiB of memory, and how often it was asked: to find out
// whether NVIDIA's driver lets a GPU map more memory than the machine reports.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <sys/sysinfo.h>

static unsigned asked;

int sysinfo(struct sysinfo *info) {
  int (*real)(struct sysinfo *) = (int (*)(struct sysinfo *))dlsym(RTLD_NEXT, "sysinfo");
  int result = real ? real(info) : -1;
  if (result == 0) {
    info->totalram = (1ul << 30) / info->mem_unit;
    if (info->freeram > info->totalram) info->freeram = info->totalram;
  }
  __atomic_fetch_add(&asked, 1, __ATOMIC_RELAXED);
  return result;
}

__attribute__((destructor)) static void report(void) {
  fprintf(stderr, "sysinfo was asked %u times, and said 1 GiB\n", __atomic_load_n(&asked, __ATOMIC_RELAXED));
}
