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

/// What an xarray stores at an index (include/linux/xarray.h, xa_is_node).
static bool is_node(const void *entry) { return ((u64)entry & 3) == 2 && (u64)entry > 4096; }
static struct xa_node *to_node(const void *entry) { return (struct xa_node *)((u64)entry - 2); }

/// The child of a node that is on the way to an index. `*shift` is the node's by its place in the tree, and becomes the
/// child's. The node's own word on it is loaded beside the child, not before: lanes far from the memory wait once.
static const void *child(const void *entry, u64 index, u32 *shift) {
  struct xa_node *node = to_node(entry);
  const void *next = node->slots[index >> *shift & 63];
  u32 own = node->shift;
  if (own != *shift) {
    if (own > 30) return NULL;
    next = node->slots[index >> own & 63];
    *shift = own;
  }
  *shift -= 6;
  return next;
}

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
  s32 parent_tgid = parent->tgid;
  u32 uid = cred->uid.val;
  struct ps_record *record = grass_emit(run, 1, sizeof *record);
  record->pid = pid;
  record->tgid = tgid;
  record->parent = parent_tgid;
  record->uid = uid;
  record->state = (state & 0xffff) | exit_state << 16;
  record->flags = flags;
  record->start_boottime = start_boottime;
  record->utime = utime;
  record->stime = stime;
  __builtin_memcpy(record->comm, comm, sizeof comm);
}

/// Subtrees that a lane looks for at once.
#define AHEAD 8

MONITOR(ps) {
  const void *head = init_pid_ns.idr.idr_rt.xa_head;
  if (!is_node(head)) return;
  u32 top = to_node(head)->shift;
  if (top > 16) return;
  u64 end = 64ul << top, stride = grass_lanes(run);
  const void *leaf = NULL;
  u64 leaf_number = ~0ul;
  for (u64 first = grass_lane(run); first < end; first += AHEAD * stride) {
    const void *entries[AHEAD];
#pragma unroll
    for (int ahead = 0; ahead < AHEAD; ahead++) {
      u64 index = first + ahead * stride;
      entries[ahead] = index < end ? to_node(head)->slots[index >> top & 63] : NULL;
    }
    for (int ahead = 0; ahead < AHEAD; ahead++) {
      u64 index = first + ahead * stride;
      const void *entry = entries[ahead];
      if (top > 0) {
        if (!is_node(entry)) continue;
        if (index >> 6 != leaf_number) {
          u32 shift = top - 6;
          while (shift > 0 && shift <= 16 && is_node(entry)) entry = child(entry, index, &shift);
          leaf_number = index >> 6;
          leaf = entry;
        }
        if (!is_node(leaf)) continue;
        entry = to_node(leaf)->slots[index & 63];
      }
      struct pid *pid = (struct pid *)entry;
      if (!pid || ((u64)pid & 3)) continue;
      struct hlist_node *node = pid->tasks[0].first;
      if (node) record(run, container_of(node, struct task_struct, pid_links));
    }
  }
}
