#include "grass_linux.h"

#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>

// The handler runs in whatever thread touched the page, so it reads the table without locks: an entry's base is stored
// last and cleared first.
#define MAPPINGS 64
static struct {
  _Atomic uintptr_t base;
  size_t size;
  uint32_t *lost;
} mappings[MAPPINGS];
static atomic_flag is_installed = ATOMIC_FLAG_INIT;
static struct sigaction previous;

static void fill_lost_page(int number, siginfo_t *info, void *context) {
  uintptr_t address = (uintptr_t)info->si_addr;
  for (int index = 0; index < MAPPINGS; index++) {
    uintptr_t base = atomic_load(&mappings[index].base);
    if (!base || address - base >= mappings[index].size) continue;
    int saved = errno;
    void *page = (void *)(address & ~(uintptr_t)4095);
    void *filled = mmap(page, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    errno = saved;
    if (filled == MAP_FAILED) break;
    __atomic_store_n(mappings[index].lost, 1, __ATOMIC_RELEASE);
    return;
  }
  // Not ours: as if this handler were not there.
  if (previous.sa_flags & SA_SIGINFO && previous.sa_sigaction) previous.sa_sigaction(number, info, context);
  else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) previous.sa_handler(number);
  else signal(number, SIG_DFL);
}

bool grass_guard_mapping(const void *base, size_t size, uint32_t *lost) {
  if (!atomic_flag_test_and_set(&is_installed)) {
    struct sigaction action = {.sa_sigaction = fill_lost_page, .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK};
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, &previous);
  }
  for (int index = 0; index < MAPPINGS; index++) {
    // 1 reserves the entry: no page lies there.
    uintptr_t expected = 0;
    if (!atomic_compare_exchange_strong(&mappings[index].base, &expected, 1)) continue;
    mappings[index].size = 0;
    mappings[index].lost = lost;
    mappings[index].size = size;
    atomic_store(&mappings[index].base, (uintptr_t)base);
    return true;
  }
  return false;
}

void grass_unguard_mapping(const void *base) {
  for (int index = 0; index < MAPPINGS; index++) {
    uintptr_t expected = (uintptr_t)base;
    if (atomic_load(&mappings[index].base) != expected) continue;
    mappings[index].size = 0;
    if (atomic_compare_exchange_strong(&mappings[index].base, &expected, 0)) return;
  }
}

void grass_keep_freed_memory(void) {
  // One arena, so that what one thread frees another finds.
  mallopt(M_ARENA_MAX, 1);
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
}

void grass_return_freed_memory(void) {
  // Few arenas, so that what one thread frees another finds.
  mallopt(M_ARENA_MAX, 2);
  mallopt(M_MMAP_THRESHOLD, 256 << 10);
  mallopt(M_TRIM_THRESHOLD, 1 << 20);
}

void grass_trim_memory(void) { malloc_trim(0); }

int grass_pipe(int *ends) { return (int)syscall(SYS_pipe2, ends, O_CLOEXEC); }
