// The tasks of the host, threads included, from the pid table.
#include "kernel.h"

struct ps_record {
  u64 task, parent;  // Addresses; whose child a task is, its reader sees by them.
  s32 pid, tgid;
  u32 uid;
  u32 flags;
  u32 state;  // __state in the lower half, exit_state in the upper one.
  u32 reserved;
  u64 start_boottime;  // Nanoseconds since the host booted.
  u64 utime, stime;    // Nanoseconds.
  char comm[16];
};

/// What an xarray stores at an index (include/linux/xarray.h, xa_is_node).
static bool is_node(const void *entry) { return ((u64)entry & 3) == 2 && (u64)entry > 4096; }

static void record(struct grass_run *run, struct task_struct *task) {
  // All loads that depend on nothing but the task go out before any is waited for.
  struct task_struct *parent = task->real_parent;
  const struct cred *cred = task->real_cred;
  s32 pid = task->pid, tgid = task->tgid;
  u32 state = task->__state, exit_state = (u32)task->exit_state, flags = task->flags;
  u64 start_boottime = task->start_boottime, utime = task->utime, stime = task->stime;
  u64 comm[2];
  if (field_offset(struct task_struct, comm) & 7) {
    __builtin_memcpy(comm, task->comm, sizeof comm);
  } else {
    comm[0] = ((const u64 *)task->comm)[0];
    comm[1] = ((const u64 *)task->comm)[1];
  }
  u32 uid = cred->uid.val;
  struct ps_record *record = grass_emit(run, 1, sizeof *record);
  record->task = (u64)task;
  record->parent = (u64)parent;
  record->pid = pid;
  record->tgid = tgid;
  record->uid = uid;
  record->flags = flags;
  record->state = (state & 0xffff) | exit_state << 16;
  record->start_boottime = start_boottime;
  record->utime = utime;
  record->stime = stime;
  __builtin_memcpy(record->comm, comm, sizeof comm);
}

static void visit(struct grass_run *run, const void *entry) {
  struct pid *pid = (struct pid *)entry;
  if (!pid || ((u64)pid & 3)) return;
  struct hlist_node *node = pid->tasks[0].first;
  if (node) record(run, container_of(node, struct task_struct, pid_links));
}

// Stage by stage down the pid table: an item is a node of the tree, a lane looks into one of its slots.
MONITOR(ps) {
  const void *entry;
  u32 shift = 0;
  if (grass_stage(run) == 0) {
    if (grass_lane(run) != 0) return;
    entry = init_pid_ns.idr.idr_rt.xa_head;
  } else {
    struct xa_node *node = (struct xa_node *)grass_item(run, 0);
    entry = node->slots[grass_lane(run) & 63];
    shift = node->shift;
    if (shift == 0 && is_node(entry)) return;
  }
  if (is_node(entry)) grass_next(run, (u64)entry - 2, 0);
  else visit(run, entry);
}
