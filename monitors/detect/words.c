// The last words of a kernel that panicked, or whose CPUs all stand still: what a device keeps of it beyond its reboot. It is run
// when such a finding was made, not in each tick.
//
// Stage by stage: the kernel as a whole, its CPUs and what they run; the tasks that cannot be woken, with their stacks; then modules
// and the log, so that one that was made to lie takes no room from the others; at last what tells that it was one boot from the
// first to the last.
#include "detect.h"
#include "log.h"
#include "records/words.h"
#include "tasks.h"

KERNEL_STRUCTS

enum vm_event_item { OOM_KILL };
enum zone_stat_item { NR_FREE_PAGES };

struct vm_event_state {
  u64 event[256];
};

struct atomic_long {
  s64 counter;
};

struct rq {
  u32 nr_running;
  u64 nr_switches;
  u64 clock;
  struct task_struct *curr, *idle;
};

struct clock_event_device {
  s64 next_event;
};

struct tick_device {
  struct clock_event_device *evtdev;
};

struct thread_struct {
  u64 sp;
};

struct task_struct___stack {
  void *stack;
  s32 on_cpu;
  struct thread_struct thread;
};

struct module_layout {
  void *base;
  u32 size;
};

struct module_memory {
  void *base;
  u32 size;
};

struct module {
  u32 state;
  struct list_head list;
  char name[56];
  struct module_memory mem[1];  // MOD_TEXT is the first.
};

// Before 6.4.
struct module___layout {
  struct module_layout core_layout;
};

END_KERNEL_STRUCTS

extern u64 sysctl_bootid[2];
extern s32 panic_cpu, oops_in_progress;
extern u64 tainted_mask, jiffies_64, total_forks;
extern s32 nr_threads;
extern struct rq runqueues;
extern struct tick_device tick_cpu_device;
extern struct vm_event_state vm_event_states;
extern u64 vm_zone_stat[];
extern struct list_head modules;
// The first task's stack, of the size that all have: THREAD_SIZE is a macro.
extern char __start_init_task[] __attribute__((weak)), __end_init_task[] __attribute__((weak));
extern char __start_init_stack[] __attribute__((weak)), __end_init_stack[] __attribute__((weak));

/// The words that are counted: tasks of each role.
enum { RUNNING, WAITING };
/// The stage in which the log is read, by so many items, each with 64 lanes. All tasks are found before: a table of pids is
/// four levels deep at most.
#define LOG_STAGE 7u
#define LOG_ITEMS 8u
/// TASK_UNINTERRUPTIBLE and TASK_NOLOAD (include/linux/sched.h): ps shows the first as D, both together as I.
#define UNINTERRUPTIBLE 0x2u
#define NO_LOAD 0x400u

static u64 stack_size(void) {
  u64 start = (u64)__start_init_stack, end = (u64)__end_init_stack;
  if (!start || !end) {
    start = (u64)__start_init_task;
    end = (u64)__end_init_task;
  }
  u64 size = end - start;
  return size >= 1u << 13 && size <= 1u << 16 && !(size & (size - 1)) ? size : 1u << 14;
}

static void tell_task(struct grass_lane_state *run, const struct task_struct *task, u32 role, s32 cpu) {
  const struct task_struct___stack *kept = (const struct task_struct___stack *)task;
  u64 stack = (u64)kept->stack, size = stack_size(), pointer = role & GRASS_WORDS_WAITING ? kept->thread.sp : 0;
  u64 most = role & GRASS_WORDS_PANICKED ? GRASS_WORDS_PANIC_STACK : GRASS_WORDS_STACK, start = stack;
  // One that waits has left its stack where its pointer says. Of one that runs, the outermost part is there for sure.
  if (pointer >= stack && pointer < stack + size && !(pointer & 7)) start = pointer;
  else if (role & GRASS_WORDS_WAITING || size < most) start = stack;
  else start = stack + size - most;
  u64 count = stack + size - start;
  if (!(stack >> 63) || stack & 7 || stack + size < stack) count = 0;
  if (count > most) count = most;
  struct grass_words_task *told = grass_emit(run, GRASS_WORDS_TASK, sizeof *told + count);
  told->task = (u64)task;
  told->pid = task->pid;
  told->tgid = task->tgid;
  told->cpu = cpu;
  told->role = role;
  told->state = run_state(task);
  told->exit_state = (u32)task->exit_state;
  told->flags = task->flags;
  told->start_boottime = task->start_boottime;
  told->utime = task->utime;
  told->stime = task->stime;
  told->stack = stack;
  told->stack_end = stack + size;
  told->stack_pointer = pointer;
  told->stack_start = start;
  u64 comm[2];
  load_comm(comm, task);
  __builtin_memcpy(told->comm, comm, sizeof comm);
  // What may lead anywhere comes last: where it faults, all else is there.
  if (count) __builtin_memcpy(told + 1, (const void *)start, count);
  told->stack_count = count;
  told->ppid = task->real_parent->tgid;
  told->uid = task->real_cred->uid.val;
}

/// What the kernel's own variables say, which are always there.
static struct grass_words_state *tell_state(struct grass_lane_state *run) {
  struct grass_words_state *state = grass_emit(run, GRASS_WORDS_STATE, sizeof *state);
  u64 boot[2] = {sysctl_bootid[0], sysctl_bootid[1]};
  __builtin_memcpy(state->boot, boot, sizeof boot);
  state->now = monotonic() + timekeeper()->offs_boot;
  state->panic_cpu = panic_cpu;
  state->oops_in_progress = oops_in_progress;
  state->tainted = tainted_mask;
  state->jiffies = jiffies_64;
  state->forks = total_forks;
  state->threads = nr_threads;
  state->free_pages = vm_zone_stat[enumerator(enum zone_stat_item, NR_FREE_PAGES) & 63];
  return state;
}

static void count_kills(struct grass_words_state *state) {
  u64 index = enumerator(enum vm_event_item, OOM_KILL);
  for (u32 cpu = next_cpu(&__cpu_possible_mask, 0, 1), count = 0; index < 256 && cpu < MOST_CPUS && count < GRASS_WORDS_CPUS;
       cpu = next_cpu(&__cpu_possible_mask, cpu + 1, 1), count++)
    state->oom_kills += per_cpu(vm_event_states, cpu)->event[index];
}

static void tell_end(struct grass_words_state *state) {
  u64 boot[2] = {sysctl_bootid[0], sysctl_bootid[1]};
  __builtin_memcpy(state->end_boot, boot, sizeof boot);
  state->end_now = monotonic() + timekeeper()->offs_boot;
  state->end_panic_cpu = panic_cpu;
  state->is_ended = 1;
}

static void tell_cpus(struct grass_lane_state *run) {
  s32 panicked = panic_cpu;
  // A kernel that panics takes the others off line: what they did last is wanted, too.
  for_each_cpu(cpu, &__cpu_possible_mask) {
    if (cpu >= GRASS_WORDS_CPUS) return;
    const struct rq *queue = per_cpu(runqueues, cpu);
    const struct clock_event_device *timer = per_cpu(tick_cpu_device, cpu)->evtdev;
    const struct task_struct *current = queue->curr;
    struct grass_words_cpu *told = grass_emit(run, GRASS_WORDS_CPU, sizeof *told);
    told->cpu = cpu;
    told->runnable = queue->nr_running;
    told->is_online = has_cpu(&__cpu_online_mask, cpu);
    told->switches = queue->nr_switches;
    told->clock = queue->clock;
    told->next_event = timer ? (u64)timer->next_event : 0;
    told->pid = current->pid;
    bool has_panicked = (s32)cpu == panicked;
    // One that has nothing to do says nothing, unless it panicked.
    if (!has_panicked && (current == queue->idle || grass_count(run, RUNNING) >= GRASS_WORDS_TASKS)) continue;
    tell_task(run, current, GRASS_WORDS_RUNNING | (has_panicked ? GRASS_WORDS_PANICKED : 0), (s32)cpu);
  }
}

static void tell_modules(struct grass_lane_state *run) {
  u32 count = 0;
  for (const struct list_head *link = modules.next; link != &modules && count < GRASS_WORDS_MODULES; link = link->next, count++) {
    const struct module *module = container_of(link, struct module, list);
    // What cannot be read makes no record.
    u64 start, size;
    if (field_exists(struct module, mem)) {
      start = (u64)module->mem[0].base;
      size = module->mem[0].size;
    } else {
      const struct module_layout *layout = &((const struct module___layout *)module)->core_layout;
      start = (u64)layout->base;
      size = layout->size;
    }
    struct grass_words_module *told = grass_emit(run, GRASS_WORDS_MODULE, sizeof *told);
    told->module = (u64)module;
    told->start = start;
    told->size = size;
    __builtin_memcpy(told->name, module->name, sizeof told->name);
  }
}

/// The newest records of the log, of which this lane takes every so manieth. How far back they reach, their places in the ring
/// say, so that no lane has to know what the others take.
static void tell_log(struct grass_lane_state *run, u32 lane, u32 lanes) {
  const struct printk_ringbuffer *log = prb;
  const struct prb_desc_ring *ring = &log->desc_ring;
  u64 bits = ring->count_bits, head = ring->head_id.counter, tail = ring->tail_id.counter;
  u64 end = (u64)log->text_data_ring.head_lpos.counter;
  if (bits > 24) return;
  u64 mask = (1ul << bits) - 1, used = ((head - tail) & ID_MASK) + 1, own = sizeof(struct grass_words_line);
  if (used > mask + 1) used = mask + 1;
  for (u64 age = lane; age < used && (age + 1) * own < GRASS_WORDS_LOG; age += lanes) {
    u64 id = (head - age) & ID_MASK;
    const struct prb_desc *desc = ring->descs + (id & mask);
    if (!is_whole(desc, id)) continue;
    u64 room = 0, behind = end - desc->text_blk_lpos.begin;
    const char *text = text_of(&log->text_data_ring, desc, id, &room);
    if (text && (behind > GRASS_WORDS_TEXT || behind + (age + 1) * own > GRASS_WORDS_LOG)) return;
    const struct printk_info *info = ring->infos + (id & mask);
    u64 length = info->text_len;
    if (length > room) length = room;
    if (length > GRASS_WORDS_LINE) length = GRASS_WORDS_LINE;
    if (!text) length = 0;
    struct grass_words_line *line = grass_emit(run, GRASS_WORDS_RECORD, sizeof *line + length);
    line->sequence = info->seq;
    line->time = info->ts_nsec;
    line->caller = info->caller_id;
    line->level = info->level;
    line->facility = info->facility;
    line->length = length;
    __builtin_memcpy(line + 1, text, length);
  }
}

MONITOR(detect_words) {
  u32 stage = grass_stage(run), lane = grass_lane(run);
  // Items of the table of pids are the kernel's addresses; our own are the state's place in the output, and 0 for the log.
  u64 first = grass_item(run, 0);
  if (stage == 0) {
    if (lane == 0) grass_next(run, (u64)tell_state(run), 0);
    tell_cpus(run);
  } else if (first == 0) {
    u32 item = (u32)grass_item(run, 1);
    if (item < LOG_ITEMS) tell_log(run, item * 64 + lane, LOG_ITEMS * 64);
    else if (lane == 0) tell_modules(run);
    return;
  } else if (!(first >> 63)) {
    struct grass_words_state *state = (struct grass_words_state *)first;
    // What may lead anywhere is a lane's own: it ends with what cannot be followed.
    if (lane == 1 && stage == 1) count_kills(state);
    if (lane == 2 && stage == 1) state->log_head = (u64)prb->desc_ring.head_id.counter & ID_MASK;
    if (lane > 0) return;
    if (stage > LOG_STAGE) return tell_end(state);
    grass_next(run, first, 0);
    if (stage == LOG_STAGE - 1)
      for (u32 item = 0; item <= LOG_ITEMS; item++) grass_next(run, 0, item);
    return;
  }
  struct task_struct *task = task_of_lane(run);
  if (!task) return;
  u32 state = run_state(task);
  if (!(state & UNINTERRUPTIBLE) || state & NO_LOAD || ((const struct task_struct___stack *)task)->on_cpu) return;
  if (grass_count(run, WAITING) < GRASS_WORDS_TASKS) tell_task(run, task, GRASS_WORDS_WAITING, -1);
}
