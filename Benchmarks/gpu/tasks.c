// What a list of processes has at least: pid, tgid, state, times and name of every task. What ps.c tells besides, its parent,
// user and flags, lies in four more places, one of them behind a further pointer.
#include "../../monitors/tasks.h"

struct task_record {
  s32 pid, tgid;
  u32 state, exit_state;
  u64 start_boottime, utime, stime;
  u64 comm[2];
};

MONITOR(tasks) {
  struct task_struct *task = task_of_lane(run);
  if (!task) return;
  s32 pid = task->pid, tgid = task->tgid;
  u32 state = task->__state, exit_state = (u32)task->exit_state;
  u64 start_boottime = task->start_boottime, utime = task->utime, stime = task->stime, comm[2];
  load_comm(comm, task);
  struct task_record *record = grass_emit(run, 1, sizeof *record);
  *record = (struct task_record){pid, tgid, state, exit_state, start_boottime, utime, stime, {comm[0], comm[1]}};
}
