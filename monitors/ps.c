// The tasks of the host, threads included, from the pid table. Each lane takes every lanes-th number of the table.
#include "kernel.h"

struct ps_record {
  s32 pid, tgid, parent;  // The parent's tgid.
  u32 uid;
  u32 state;  // __state in the lower half, exit_state in the upper one.
  u32 flags;
  u64 start_boottime;  // Nanoseconds since the host booted.
  u64 utime, stime;    // Nanoseconds.
  char comm[16];
};

/// What an xarray stores at an index, with the leaf that was last found (include/linux/xarray.h, xa_is_node).
static bool is_node(const void *entry) { return ((u64)entry & 3) == 2 && (u64)entry > 4096; }
static struct xa_node *to_node(const void *entry) { return (struct xa_node *)((u64)entry - 2); }

static const void *leaf_of(const void *entry, u32 index) {
  for (int level = 0; level < 6 && is_node(entry); level++) {
    struct xa_node *node = to_node(entry);
    u32 shift = node->shift;
    if (shift == 0 || shift > 30) return entry;
    entry = node->slots[index >> shift & 63];
  }
  return entry;
}

static void record(struct grass_run *run, struct task_struct *task) {
  struct ps_record *record = grass_emit(run, 1, sizeof *record);
  record->pid = task->pid;
  record->tgid = task->tgid;
  record->parent = task->real_parent->tgid;
  record->uid = task->real_cred->uid.val;
  record->state = (task->__state & 0xffff) | (u32)task->exit_state << 16;
  record->flags = task->flags;
  record->start_boottime = task->start_boottime;
  record->utime = task->utime;
  record->stime = task->stime;
  __builtin_memcpy(record->comm, task->comm, sizeof record->comm);
}

MONITOR(ps) {
  const void *head = init_pid_ns.idr.idr_rt.xa_head;
  if (!is_node(head)) return;
  u32 shift = to_node(head)->shift;
  if (shift > 16) return;
  u64 end = 64ul << shift;
  const void *leaf = NULL;
  u64 leaf_number = ~0ul;
  for (u64 index = grass_lane(run); index < end; index += grass_lanes(run)) {
    if (index >> 6 != leaf_number) {
      leaf_number = index >> 6;
      leaf = leaf_of(head, index);
    }
    if (!is_node(leaf)) continue;
    struct pid *pid = to_node(leaf)->slots[index & 63];
    if (!pid || ((u64)pid & 3)) continue;
    struct hlist_node *node = pid->tasks[0].first;
    if (node) record(run, container_of(node, struct task_struct, pid_links));
  }
}
