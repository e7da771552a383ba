// The last words of a kernel that panicked, or whose CPUs all stand still, as the device keeps them: raw, so that whoever reads
// them, and has the kernel's symbols, unwinds the stacks. Once, for the monitor that gathers them, for the device, which keeps
// them, and for Swift, which reads them.
#pragma once

#include <stdint.h>

/// What is kept of the log: its newest bytes of text, and with what belongs to each record.
#define GRASS_WORDS_TEXT (256u * 1024u)
#define GRASS_WORDS_LOG (384u * 1024u)
/// The longest text of one record, in bytes.
#define GRASS_WORDS_LINE 2048u
/// How many tasks are kept that run, and that wait and cannot be woken. The one that panicked is kept beside them.
#define GRASS_WORDS_TASKS 64u
/// Bytes of a task's stack, and of that of the task that panicked.
#define GRASS_WORDS_STACK 4096u
#define GRASS_WORDS_PANIC_STACK 16384u
#define GRASS_WORDS_MODULES 256u
#define GRASS_WORDS_CPUS 256u

enum grass_words_kind {
  GRASS_WORDS_STATE = 1,   // struct grass_words_state, one
  GRASS_WORDS_CPU = 2,     // struct grass_words_cpu
  GRASS_WORDS_TASK = 3,    // struct grass_words_task, and the bytes of its stack
  GRASS_WORDS_MODULE = 4,  // struct grass_words_module
  GRASS_WORDS_RECORD = 5,  // struct grass_words_line, and its text
};

/// The kernel as a whole, when the gathering began, and again what must not have changed when it ended.
struct grass_words_state {
  uint8_t boot[16];
  uint64_t now;       // The kernel's clock at its last tick, in nanoseconds since it booted.
  int32_t panic_cpu;  // -1 where none panicked.
  int32_t oops_in_progress;
  uint64_t tainted;   // Bits as in /proc/sys/kernel/tainted.
  uint64_t jiffies;
  uint64_t oom_kills;
  uint64_t forks;     // Tasks that were made since boot.
  uint64_t free_pages;
  uint64_t log_head;  // Counts up with each record of the log.
  uint32_t threads;
  uint32_t is_ended;  // 1 once all else was gathered.
  uint8_t end_boot[16];
  uint64_t end_now;
  int32_t end_panic_cpu;
  uint32_t reserved;
};
_Static_assert(sizeof(struct grass_words_state) == 120, "part of the protocol");

struct grass_words_cpu {
  uint32_t cpu;
  int32_t pid;          // Of the task that it runs, 0 for none.
  uint32_t runnable;
  uint32_t is_online;   // A kernel that panics takes all others off line.
  uint64_t switches;
  uint64_t clock;       // Its scheduler's, in nanoseconds.
  uint64_t next_event;  // The time for which it has set its timer, by the kernel's monotonic clock.
};
_Static_assert(sizeof(struct grass_words_cpu) == 40, "part of the protocol");

/// Why a task is kept.
enum grass_words_role {
  GRASS_WORDS_PANICKED = 1,  // On the CPU that panicked.
  GRASS_WORDS_RUNNING = 2,
  GRASS_WORDS_WAITING = 4,   // And cannot be woken: D.
};

struct grass_words_task {
  uint64_t task;
  int32_t pid, tgid, ppid;
  int32_t cpu;  // That it runs on, -1 for none.
  uint32_t uid;
  uint32_t flags;
  uint32_t state;
  uint32_t exit_state;
  uint32_t role;
  uint32_t stack_count;     // Bytes of its stack that follow.
  uint64_t start_boottime;  // Nanoseconds since the host booted.
  uint64_t utime, stime;    // Nanoseconds.
  uint64_t stack, stack_end;
  uint64_t stack_pointer;  // Where it left its stack; 0 for one that runs, whose place is in its CPU's registers.
  uint64_t stack_start;    // Address of the first byte that follows.
  char comm[16];
};
_Static_assert(sizeof(struct grass_words_task) == 120, "part of the protocol");

/// Where a module's text lies.
struct grass_words_module {
  uint64_t module;
  uint64_t start, size;
  char name[56];
};
_Static_assert(sizeof(struct grass_words_module) == 80, "part of the protocol");

/// A record of the kernel's log.
struct grass_words_line {
  uint64_t sequence;
  uint64_t time;  // Nanoseconds since boot.
  uint32_t caller;
  uint8_t level;
  uint8_t facility;
  uint16_t length;  // Of the text, which follows.
};
_Static_assert(sizeof(struct grass_words_line) == 24, "part of the protocol");
