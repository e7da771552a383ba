// What ps.swift sees of the kernel.
#include "window.h"
#include "../records/ps.h"

struct task_struct;
struct pid;

KERNEL(const void *pid_table(void), init_pid_ns.idr.idr_rt.xa_head)
KERNEL(u32 node_shift(const void *node), ((const struct xa_node *)node)->shift)
KERNEL(const void *node_slot(const void *node, u32 index), ((const struct xa_node *)node)->slots[index & 63])
KERNEL(const void *first_task(const void *pid), ((const struct pid *)pid)->tasks[0].first)
KERNEL(
    const struct task_struct *task_of(const void *link), container_of(link, const struct task_struct, pid_links))

KERNEL(const struct task_struct *task_parent(const struct task_struct *task), task->real_parent)
KERNEL(s32 task_pid(const struct task_struct *task), task->pid)
KERNEL(s32 task_tgid(const struct task_struct *task), task->tgid)
KERNEL(u32 task_uid(const struct task_struct *task), task->real_cred->uid.val)
KERNEL(u16 task_state(const struct task_struct *task), run_state(task))
KERNEL(u16 task_exit_state(const struct task_struct *task), task->exit_state)
KERNEL(u32 task_flags(const struct task_struct *task), task->flags)
KERNEL(u64 task_start(const struct task_struct *task), task->start_boottime)
KERNEL(u64 task_user_time(const struct task_struct *task), task->utime)
KERNEL(u64 task_system_time(const struct task_struct *task), task->stime)
KERNEL(const void *task_name(const struct task_struct *task), task->comm)

#ifndef __swift__
void swift_ps_lane(struct grass_lane_state *run);
MONITOR(swift_ps) { swift_ps_lane(run); }
#endif
