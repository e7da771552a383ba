// Kernel structs, of each the fields that monitors use.
#pragma once
#include "grass.h"

KERNEL_STRUCTS

struct list_head {
  struct list_head *next, *prev;
};

struct hlist_node {
  struct hlist_node *next;
};

struct hlist_head {
  struct hlist_node *first;
};

struct xarray {
  void *xa_head;
};

struct xa_node {
  u8 shift;
  void *slots[64];
};

struct idr {
  struct xarray idr_rt;
};

struct pid_namespace {
  struct idr idr;
};

struct pid {
  struct hlist_head tasks[4];
};

struct kuid {
  u32 val;
};

struct cred {
  struct kuid uid, euid;
};

struct task_struct {
  u32 __state;
  u32 flags;
  s32 exit_state;
  s32 pid, tgid;
  u64 utime, stime;
  u64 start_boottime;
  char comm[16];
  struct task_struct *real_parent;
  const struct cred *real_cred;
  struct list_head tasks;
  struct hlist_node pid_links[4];
};

END_KERNEL_STRUCTS

extern struct task_struct init_task;
extern struct pid_namespace init_pid_ns;
