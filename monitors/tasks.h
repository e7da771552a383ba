// All tasks, threads included, from the pid table, by many lanes.
#pragma once

#include "kernel.h"

/// XA_CHUNK_SHIFT and XA_CHUNK_SIZE.
#define SLOT_BITS 6
#define SLOTS (1u << SLOT_BITS)

/// What an xarray stores at an index (include/linux/xarray.h, xa_is_node).
static bool is_node(const void *entry) { return ((u64)entry & 3) == 2 && (u64)entry > 4096; }
static const struct xa_node *node_of(const void *entry) { return (const struct xa_node *)((u64)entry - 2); }

/// The task of a pid, or NULL where the entry is no pid or the pid is no task's.
static struct task_struct *task_of(const void *entry) {
  struct pid *pid = (struct pid *)entry;
  if (!pid || ((u64)pid & 3)) return NULL;
  struct hlist_node *node = pid->tasks[0].first;
  return node ? container_of(node, struct task_struct, pid_links) : NULL;
}

/// Loads a task's name, by words where it is aligned to them: words wait together, a copy for itself.
static __attribute__((unused)) void load_comm(u64 comm[2], const struct task_struct *task) {
  if (field_offset(struct task_struct, comm) & 7) {
    __builtin_memcpy(comm, task->comm, 16);
  } else {
    comm[0] = ((const u64 *)task->comm)[0];
    comm[1] = ((const u64 *)task->comm)[1];
  }
}

/// The task that this lane finds in this stage, or NULL; what else there is to look at it leaves to the next stage. To be
/// called once in each stage.
///
/// It goes down the table stage by stage: an item is a node of the tree and its shift, a lane looks into one of its slots.
/// As many lanes as there are slots look into the first node at once.
static struct task_struct *task_of_lane(struct grass_lane_state *run) {
  u32 lane = grass_lane(run);
  const void *entry;
  u64 shift;
  if (grass_stage(run) > 0) {
    entry = ((const struct xa_node *)grass_item(run, 0))->slots[lane % SLOTS];
    shift = grass_item(run, 1);
  } else {
    if (lane >= SLOTS) return NULL;
    const void *head = init_pid_ns.idr.idr_rt.xa_head;
    if (!is_node(head)) return lane == 0 ? task_of(head) : NULL;
    const struct xa_node *node = node_of(head);
    if (grass_lanes(run) < SLOTS) {
      if (lane == 0) grass_next(run, (u64)node, node->shift);
      return NULL;
    }
    entry = node->slots[lane];
    shift = node->shift;
  }
  if (!is_node(entry)) return task_of(entry);
  if (shift >= SLOT_BITS) grass_next(run, (u64)node_of(entry), shift - SLOT_BITS);
  return NULL;
}
