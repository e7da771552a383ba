// What bus.c has a GPU do: loads of host memory, one after the other or at once.
#define KERNEL __attribute__((nvptx_kernel))
#define PAGE 4096ul

typedef unsigned long u64;
typedef unsigned int u32;

static u64 thread(void) { return __nvvm_read_ptx_sreg_tid_x(); }
static u64 threads(void) { return __nvvm_read_ptx_sreg_ntid_x(); }
static u64 block(void) { return __nvvm_read_ptx_sreg_ctaid_x(); }
static u64 blocks(void) { return __nvvm_read_ptx_sreg_nctaid_x(); }

static u64 now(void) {
  u64 time;
  __asm__ volatile("mov.u64 %0, %%globaltimer;" : "=l"(time)::"memory");
  return time;
}

/// Past the caches.
static u64 load_direct(const char *place) {
  u64 value;
  __asm__ volatile("ld.volatile.global.u64 %0, [%1];" : "=l"(value) : "l"(place));
  return value;
}

/// Through the multiprocessor's cache.
static u64 load_cached(const char *place) {
  u64 value;
  __asm__ volatile("ld.global.u64 %0, [%1];" : "=l"(value) : "l"(place));
  return value;
}

static u64 scattered(u64 number) {
  number = (number ^ number >> 31) * 0x9e3779b97f4a7c15ul;
  number = (number ^ number >> 29) * 0xbf58476d1ce4e5b9ul;
  return number ^ number >> 32;
}

/// `count` words one after the other, each of another page. out[0]: nanoseconds.
KERNEL void chain(const char *memory, u64 pages, u64 count, u64 *out) {
  u64 sum = 0, start = now();
  for (u64 index = 0; index < count; index++) sum += load_direct(memory + (scattered(index) + sum) % pages * PAGE);
  out[0] = now() - start;
  out[1] = sum;
}

#define WORDS(name, load)                                                                            \
  /** Eight words `step` bytes apart at once, `count` times, each time of another page. */           \
  KERNEL void name(const char *memory, u64 pages, u64 step, u64 count, u64 *out) {                   \
    u64 sum = 0, total = 0;                                                                          \
    for (u64 index = 0; index < count; index++) {                                                    \
      const char *page = memory + scattered(index) % pages * PAGE;                                   \
      u64 words[8], start = now();                                                                   \
      _Pragma("unroll") for (u64 word = 0; word < 8; word++) words[word] = load(page + word * step); \
      _Pragma("unroll") for (u64 word = 0; word < 8; word++) sum += words[word];                     \
      __asm__ volatile("" ::"l"(sum) : "memory");                                                    \
      if (sum == 1) out[1] = sum;                                                                    \
      total += now() - start;                                                                        \
    }                                                                                                \
    out[0] = total;                                                                                  \
  }

WORDS(direct_words, load_direct)
WORDS(cached_words, load_cached)

/// Each block, which is one thread, loads the same word as the others at the same time, `rounds` times. out[0]: the slowest
/// block's nanoseconds.
KERNEL void same_word(const char *memory, u64 pages, u64 rounds, u32 *arrived, u64 *out) {
  u64 sum = 0, total = 0;
  for (u64 round = 1; round <= rounds; round++) {
    __asm__ volatile("red.release.gpu.add.u32 [%0], 1;" ::"l"(arrived) : "memory");
    u32 seen;
    do __asm__ volatile("ld.acquire.gpu.u32 %0, [%1];" : "=r"(seen) : "l"(arrived) : "memory");
    while (seen < blocks() * round);
    u64 start = now();
    sum += load_cached(memory + scattered(round) % pages * PAGE);
    __asm__ volatile("" ::"l"(sum) : "memory");
    out[2 + block()] = sum;
    total += now() - start;
  }
  __asm__ volatile("red.max.sys.u64 [%0], %1;" ::"l"(out), "l"(total) : "memory");
}

/// `count` words by all threads, each of a page: in order, or scattered.
KERNEL void words(const char *memory, u64 pages, u64 count, u64 in_order, u64 *out) {
  u64 sum = 0;
  for (u64 index = block() * threads() + thread(); index < count; index += blocks() * threads())
    sum += load_direct(memory + (in_order ? index : scattered(index)) % pages * PAGE + (scattered(index) & 4032));
  if (sum == 1) out[1] = sum;
}

/// Four words of each of `count` lines, 32 bytes apart, by one thread or by four neighbours.
KERNEL void lines(const char *memory, u64 pages, u64 count, u64 together, u64 *out) {
  u64 sum = 0, all = blocks() * threads(), first = block() * threads() + thread();
  if (together) {
    for (u64 index = first; index < count * 4; index += all)
      sum += load_cached(memory + scattered(index / 4) % pages * PAGE + index % 4 * 32);
  } else {
    for (u64 index = first; index < count; index += all) {
      const char *line = memory + scattered(index) % pages * PAGE;
      u64 words[4];
      _Pragma("unroll") for (u64 word = 0; word < 4; word++) words[word] = load_cached(line + word * 32);
      _Pragma("unroll") for (u64 word = 0; word < 4; word++) sum += words[word];
    }
  }
  if (sum == 1) out[1] = sum;
}
