// The tasks of the host, threads included, from the pid table.
#include "records/ps.h"
#include "tasks.h"

static void record(struct grass_lane_state *run, struct task_struct *task) {
  // All loads that depend on nothing but the task go out before any is waited for; first what leads on.
  const struct cred *cred = task->real_cred;
  struct task_struct *parent = task->real_parent;
  s32 pid = task->pid, tgid = task->tgid;
  u32 state = run_state(task), exit_state = (u32)task->exit_state, flags = task->flags;
  u64 start_boottime = task->start_boottime, utime = task->utime, stime = task->stime;
  u64 comm[2];
  load_comm(comm, task);
  u32 uid = cred->uid.val;
  struct grass_ps_task *record = grass_emit(run, GRASS_PS_TASK, sizeof *record);
  record->task = (u64)task;
  record->parent = (u64)parent;
  record->pid = pid;
  record->tgid = tgid;
  record->uid = uid;
  record->flags = flags;
  record->state = state;
  record->exit_state = exit_state;
  record->start_boottime = start_boottime;
  record->utime = utime;
  record->stime = stime;
  __builtin_memcpy(record->comm, comm, sizeof comm);
}

MONITOR(ps) {
  struct task_struct *task = task_of_lane(run);
  if (task) record(run, task);
}
