// Tasks that wait and cannot be killed, and tasks that have the rights of another user than the kernel gave them.
#include "detect.h"
#include "tasks.h"

KERNEL_STRUCTS

struct user_struct {
  struct kuid uid;
};

struct cred___user {
  struct user_struct *user;
};

struct sched_entity {
  u64 exec_start;
};

struct task_struct___waiting {
  struct sched_entity se;
};

struct rq {
  u64 clock_task;
};

END_KERNEL_STRUCTS

extern struct rq runqueues;

/// The words that are remembered: how many hung tasks this tick has found, the longest wait among them, and each of the first.
/// They are told of in the next tick, when all lanes of this one are done.
enum { HUNG, LONGEST, FIRST };
enum { TASK, WAITED, WORDS };
#define MOST 6u
#define NOTICE (10 * SECOND)
#define WARNING (30 * SECOND)

static void tell(struct grass_lane_state *run) {
  u64 hung = grass_recall(run, HUNG), longest = 0;
  if (hung) {
    for (u32 index = 0; index < hung && index < MOST; index++)
      if (grass_recall(run, FIRST + index * WORDS + WAITED) > longest)
        longest = grass_recall(run, FIRST + index * WORDS + WAITED);
    struct grass_sighting *sighting =
        sight(run, GRASS_DETECTOR_HUNG_TASK, longest < WARNING ? GRASS_SEVERITY_NOTICE : GRASS_SEVERITY_WARNING);
    about_host(sighting);
    for (u32 index = 0; index < hung && index < MOST; index++) {
      u64 words = FIRST + index * WORDS;
      const struct task_struct *task = (const struct task_struct *)grass_recall(run, words + TASK);
      // How many there are, each says: it has no other place.
      show(sighting, index, 1, task, grass_recall(run, words + WAITED), hung);
      sighting->evidence[index].number = (u32)task->pid;
    }
  }
  grass_remember(run, HUNG, 0);
}

/// Whether it is what the kernel itself would call hung after a while.
static bool is_uninterruptible(const struct task_struct *task) {
  u32 state = run_state(task);
  // TASK_UNINTERRUPTIBLE, and neither TASK_WAKEKILL, TASK_NOLOAD nor TASK_FROZEN (include/linux/sched.h).
  return state & 0x2 && !(state & (0x100 | 0x400 | 0x8000));
}

static void look_at(struct grass_lane_state *run, struct task_struct *task) {
  const struct cred *cred = task->real_cred;
  u32 uid = cred->uid.val, account = ((const struct cred___user *)cred)->user->uid.val;
  // EXIT_ZOMBIE and EXIT_DEAD: their credentials are on their way out.
  if (uid != account && !task->exit_state) {
    struct grass_sighting *sighting = sight(run, GRASS_DETECTOR_CREDENTIALS, GRASS_SEVERITY_CRITICAL);
    sighting->kind = GRASS_FINDING_ATTACK;
    sighting->persists = (u64)cred;
    about_task(sighting, 0, task);
    show(sighting, 0, 1, cred, uid, account);
  }
  if (!is_uninterruptible(task)) return;
  const struct task_struct___waiting *waiting = (const struct task_struct___waiting *)task;
  u64 last = waiting->se.exec_start, now = 0;
  for (u32 cpu = next_cpu(&__cpu_online_mask, 0, 1); cpu < MOST_CPUS; cpu = next_cpu(&__cpu_online_mask, cpu + 1, 1)) {
    u64 clock = per_cpu(runqueues, cpu)->clock_task;
    if (clock > now) now = clock;
  }
  if (last == 0 || now < last || now - last < NOTICE) return;
  u64 index = grass_count(run, HUNG);
  if (index >= MOST) return;
  grass_remember(run, FIRST + index * WORDS + TASK, (u64)task);
  grass_remember(run, FIRST + index * WORDS + WAITED, now - last);
}

MONITOR(detect_tasks) {
  if (grass_stage(run) == 0 && grass_lane(run) == 0) tell(run);
  struct task_struct *task = task_of_lane(run);
  if (task) look_at(run, task);
}
