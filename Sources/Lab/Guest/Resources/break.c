// A module that breaks the guest it is loaded into, in the way that its parameter `what` names: faults as bugs of drivers make
// them, and changes as rootkits make them. It is made to be found; it gives nobody anything, and belongs into guests of the
// laboratory and nowhere else.
#include <linux/blk-mq.h>
#include <linux/console.h>
#include <linux/cred.h>
#include <linux/delay.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/ftrace.h>
#include <linux/idr.h>
#include <linux/interrupt.h>
#include <linux/ioport.h>
#include <linux/kernel_stat.h>
#include <linux/keyboard.h>
#include <linux/kprobes.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/namei.h>
#include <linux/netdevice.h>
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4.h>
#include <linux/pid.h>
#include <linux/pid_namespace.h>
#include <linux/reboot.h>
#include <linux/rtnetlink.h>
#include <linux/rwsem.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/timer.h>
#include <linux/tracepoint.h>
#include <linux/version.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>
#include <net/net_namespace.h>

static char *what = "";
module_param(what, charp, 0);
MODULE_PARM_DESC(what, "what to break");
static int victim;
module_param(victim, int, 0);
MODULE_PARM_DESC(victim, "the process that it is done to");
static bool hidden;
module_param(hidden, bool, 0);
MODULE_PARM_DESC(hidden, "whether the module leaves the list of modules first");

// MARK: What the kernel does not give to modules

static unsigned long (*lookup)(const char *name);

static int find_lookup(void) {
  struct kprobe probe = {.symbol_name = "kallsyms_lookup_name"};
  int error = register_kprobe(&probe);
  if (error) return error;
  lookup = (void *)probe.addr;
  unregister_kprobe(&probe);
  return 0;
}

static bool is_mapped_by_pages(unsigned long at) {
  return (at >= VMALLOC_START && at <= VMALLOC_END) || (at >= MODULES_VADDR && at < MODULES_END);
}

// Writes where the kernel's own mapping lets nobody write: through another mapping of the same page.
static int poke(void *address, const void *bytes, size_t count) {
  unsigned long start = (unsigned long)address & PAGE_MASK, offset = (unsigned long)address & ~PAGE_MASK;
  struct page *pages[2];
  char *alias;
  int i, used = offset + count > PAGE_SIZE ? 2 : 1;
  for (i = 0; i < used; i++) {
    void *page = (void *)(start + i * PAGE_SIZE);
    pages[i] = is_mapped_by_pages((unsigned long)page) ? vmalloc_to_page(page) : pfn_to_page(__pa(page) >> PAGE_SHIFT);
    if (!pages[i]) return -EFAULT;
  }
  alias = vmap(pages, used, VM_MAP, PAGE_KERNEL);
  if (!alias) return -ENOMEM;
  memcpy(alias + offset, bytes, count);
  vunmap(alias);
  return 0;
}

static int poke_symbol(const char *name, size_t offset, const void *bytes, size_t count) {
  unsigned long address = lookup(name);
  return address ? poke((void *)(address + offset), bytes, count) : -ENOENT;
}

static int make_executable(void *page) {
  int (*set_memory_x)(unsigned long, int) = (void *)lookup("set_memory_x");
  return set_memory_x ? set_memory_x((unsigned long)page, 1) : -ENOENT;
}

// A function in a page that belongs to nobody: it returns `value`.
static void *stray_code(u8 value) {
  const u8 code[] = {0xf3, 0x0f, 0x1e, 0xfa, 0xb8, value, 0, 0, 0, 0xc3};
  int (*set_memory_ro)(unsigned long, int) = (void *)lookup("set_memory_ro");
  void *page = vmalloc(PAGE_SIZE);
  if (!page || !set_memory_ro) return NULL;
  memset(page, 0xcc, PAGE_SIZE);
  memcpy(page, code, sizeof code);
  if (set_memory_ro((unsigned long)page, 1) || make_executable(page)) return NULL;
  return page;
}

static struct task_struct *the_victim(void) {
  struct pid *pid = find_get_pid(victim);
  struct task_struct *task = pid ? get_pid_task(pid, PIDTYPE_PID) : NULL;
  put_pid(pid);
  return task;
}

static int start(int (*function)(void *), long argument, int cpu, const char *name) {
  struct task_struct *task = kthread_create(function, (void *)argument, "%s", name);
  if (IS_ERR(task)) return PTR_ERR(task);
  if (cpu >= 0) kthread_bind(task, cpu);
  wake_up_process(task);
  return 0;
}

static void sleep_for_ever(void) {
  for (;;) schedule_timeout_idle(HZ);
}

// MARK: Faults

static int oops_thread(void *unused) {
  *(volatile int *)8 = 1;
  return 0;
}
static int do_oops(void) { return start(oops_thread, 0, -1, "break-oops"); }

static int do_warning(void) {
  WARN(1, "the laboratory breaks something\n");
  return 0;
}

static int do_panic(void) {
  panic("the laboratory breaks the kernel");
  return 0;
}

static int spin_thread(void *interrupts) {
  unsigned long flags;
  if (!interrupts) local_irq_save(flags);
  preempt_disable();
  for (;;) cpu_relax();
  return 0;
}
static int do_soft_lockup(void) { return start(spin_thread, 1, 1, "break-spin"); }
static int do_hard_lockup(void) { return start(spin_thread, 0, 1, "break-spin"); }

static DEFINE_SPINLOCK(spun);
static int spinlock_thread(void *unused) {
  spin_lock(&spun);
  for (;;) cpu_relax();
  return 0;
}
static int do_spinlock(void) {
  int error = 0, cpu;
  for (cpu = 1; cpu < num_online_cpus() && !error; cpu++) {
    error = start(spinlock_thread, 0, cpu, "break-spinlock");
    msleep(100);
  }
  return error;
}

static int reader_thread(void *unused) {
  rcu_read_lock();
  for (;;) {
    udelay(100);
    cond_resched();
  }
  return 0;
}
static int do_rcu_stall(void) {
  // Where readers cannot be preempted, they are no readers any more once they let others run.
  if (!IS_ENABLED(CONFIG_PREEMPT_RCU)) return -EOPNOTSUPP;
  return start(reader_thread, 0, 1, "break-reader");
}

static DEFINE_MUTEX(first);
static DEFINE_MUTEX(second);
static DECLARE_RWSEM(third);
static DECLARE_RWSEM(fourth);

static int mutex_thread(void *order) {
  mutex_lock(order ? &first : &second);
  msleep(300);
  mutex_lock(order ? &second : &first);
  return 0;
}
static int do_deadlock_mutex(void) {
  return start(mutex_thread, 0, -1, "break-one") ?: start(mutex_thread, 1, -1, "break-two");
}
static int rwsem_thread(void *order) {
  down_write(order ? &third : &fourth);
  msleep(300);
  down_write(order ? &fourth : &third);
  return 0;
}
static int do_deadlock_rwsem(void) {
  return start(rwsem_thread, 0, -1, "break-one") ?: start(rwsem_thread, 1, -1, "break-two");
}
static int mixed_thread(void *which) {
  if (which == (void *)0) {
    mutex_lock(&first);
    msleep(300);
    down_write(&third);
  } else if (which == (void *)1) {
    down_write(&third);
    msleep(300);
    mutex_lock(&second);
  } else {
    mutex_lock(&second);
    msleep(300);
    mutex_lock(&first);
  }
  return 0;
}
static int do_deadlock_three(void) {
  return start(mixed_thread, 0, -1, "break-one") ?: start(mixed_thread, 1, -1, "break-two")
         ?: start(mixed_thread, 2, -1, "break-three");
}
static int self_thread(void *unused) {
  mutex_lock(&first);
  mutex_lock(&first);
  return 0;
}
static int do_deadlock_self(void) { return start(self_thread, 0, -1, "break-self"); }

static int leaving_thread(void *holds) {
  if (!holds) msleep(200);
  mutex_lock(&first);
  return 0;
}
static int do_orphaned_lock(void) {
  return start(leaving_thread, 1, -1, "break-owner") ?: start(leaving_thread, 0, -1, "break-waiter");
}
static int oopsing_thread(void *unused) {
  mutex_lock(&first);
  *(volatile int *)8 = 1;
  return 0;
}
static int do_oops_with_lock(void) {
  return start(oopsing_thread, 1, -1, "break-owner") ?: start(leaving_thread, 0, -1, "break-waiter");
}

static int convoy_thread(void *unused) {
  for (;;) {
    mutex_lock(&first);
    msleep(20);
    mutex_unlock(&first);
  }
  return 0;
}
static int do_lock_convoy(void) {
  int error = 0, i;
  for (i = 0; i < 40 && !error; i++) error = start(convoy_thread, 0, -1, "break-convoy");
  return error;
}

static int hung_thread(void *unused) {
  for (;;) {
    set_current_state(TASK_UNINTERRUPTIBLE);
    schedule();
  }
  return 0;
}
static int do_hung_task(void) { return start(hung_thread, 0, -1, "break-hung"); }

static int rtnl_thread(void *unused) {
  rtnl_lock();
  sleep_for_ever();
  return 0;
}
static int do_rtnl_held(void) { return start(rtnl_thread, 0, -1, "break-rtnl"); }

static int console_thread(void *unused) {
  console_lock();
  sleep_for_ever();
  return 0;
}
static int do_console_held(void) { return start(console_thread, 0, -1, "break-console"); }

static void busy_work(struct work_struct *work);
static void idle_work(struct work_struct *work) {}
static DECLARE_WORK(busy, busy_work);
static DECLARE_WORK(waiting, idle_work);
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0)
// A work that keeps its CPU keeps all others of its pool waiting.
static void busy_work(struct work_struct *work) {
  for (;;) {
    udelay(100);
    cond_resched();
  }
}
static int do_workqueue_stall(void) {
  queue_work_on(1, system_wq, &busy);
  queue_work_on(1, system_wq, &waiting);
  return 0;
}
#else
// Since 6.5 such a work keeps nobody waiting; one in a queue that does one after the other does.
static void busy_work(struct work_struct *work) { schedule_timeout_idle(MAX_SCHEDULE_TIMEOUT); }
static int do_workqueue_stall(void) {
  struct workqueue_struct *queue = alloc_ordered_workqueue("break-ordered", 0);
  if (!queue) return -ENOMEM;
  queue_work(queue, &busy);
  queue_work(queue, &waiting);
  return 0;
}
#endif

static struct tasklet_struct livelock;
static void again(unsigned long unused) {
  udelay(500);
  tasklet_schedule(&livelock);
}
static int livelock_thread(void *unused) {
  tasklet_init(&livelock, again, 0);
  tasklet_schedule(&livelock);
  return 0;
}
static int do_softirq_livelock(void) { return start(livelock_thread, 0, 1, "break-softirq"); }

// What CPU 1 would be charged with if it took interrupts two thirds of the time, or if a hypervisor ran others for a third of it.
static int charge_thread(void *kind) {
  for (;;) {
    kcpustat_cpu(1).cpustat[(long)kind] += (long)kind == CPUTIME_IRQ ? 67 * 1000000 : 34 * 1000000;
    msleep(100);
  }
  return 0;
}
static int do_irq_storm(void) { return start(charge_thread, CPUTIME_IRQ, 0, "break-storm"); }
static int do_steal_time(void) { return start(charge_thread, CPUTIME_STEAL, 0, "break-steal"); }

// A card that never says that it has sent what it was given.
static int do_transmit_stuck(void) {
  struct net_device *device = dev_get_by_name(&init_net, "dummy0");
  struct netdev_queue *queue = device ? netdev_get_tx_queue(device, 0) : NULL;
  if (!queue) return -ENODEV;
  queue->trans_start = jiffies;
  netif_tx_stop_queue(queue);
  dev_put(device);
  return 0;
}

static int leak_thread(void *kind) {
  struct kmem_cache *cache = kind ? NULL : kmem_cache_create("break_leak", 1000, 0, 0, NULL);
  int i;
  for (i = 0; i < 5000; i++) {
    int part;
    for (part = 0; part < 64; part++) {
      void *one = kind == (void *)1 ? vmalloc(1000)
                  : kind           ? (void *)__get_free_page(GFP_KERNEL | __GFP_NORETRY)
                                   : kmem_cache_alloc(cache, GFP_KERNEL | __GFP_NORETRY);
      if (!one) break;
    }
    msleep(20);
  }
  sleep_for_ever();
  return 0;
}
static int do_slab_leak(void) { return start(leak_thread, 0, -1, "break-leak"); }
static int do_vmalloc_leak(void) { return start(leak_thread, 1, -1, "break-leak"); }
static int do_page_leak(void) { return start(leak_thread, 2, -1, "break-leak"); }

static int do_kswapd_dead(void) {
  void (*stop)(int) = (void *)lookup("kswapd_stop");
  if (!stop) return -ENOENT;
  stop(0);
  return 0;
}

static int do_fs_frozen(void) {
  struct path path;
  int error = kern_path("/tmp/mounted", 0, &path);
  if (error) return error;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 17, 0)
  error = freeze_super(path.dentry->d_sb, FREEZE_HOLDER_USERSPACE, NULL);
#elif LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
  error = freeze_super(path.dentry->d_sb, FREEZE_HOLDER_USERSPACE);
#else
  error = freeze_super(path.dentry->d_sb);
#endif
  path_put(&path);
  return error;
}

static int do_module_stuck(void) {
  schedule_timeout_idle(MAX_SCHEDULE_TIMEOUT);
  return 0;
}

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 0, 0)
static blk_status_t swallow(struct blk_mq_hw_ctx *context, const struct blk_mq_queue_data *data) {
  // Begun, and never ended.
  blk_mq_start_request(data->rq);
  return BLK_STS_OK;
}
static enum blk_eh_timer_return keep_waiting(struct request *request) { return BLK_EH_RESET_TIMER; }
static const struct blk_mq_ops swallow_ops = {.queue_rq = swallow, .timeout = keep_waiting};
static struct blk_mq_tag_set tags = {.ops = &swallow_ops, .nr_hw_queues = 1, .queue_depth = 8, .numa_node = NUMA_NO_NODE};
static const struct block_device_operations disk_ops = {.owner = THIS_MODULE};

static int disk_thread(void *disk) {
  int error = add_disk(disk);
  if (error) pr_err("break: no disk: %d\n", error);
  return 0;
}
static int do_io_stall(void) {
  struct gendisk *disk;
  int error = blk_mq_alloc_tag_set(&tags);
  if (error) return error;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 9, 0)
  disk = blk_mq_alloc_disk(&tags, NULL, NULL);
#else
  disk = blk_mq_alloc_disk(&tags, NULL);
#endif
  if (IS_ERR(disk)) return PTR_ERR(disk);
  disk->major = register_blkdev(0, "brokendisk");
  disk->minors = 1;
  disk->fops = &disk_ops;
  strcpy(disk->disk_name, "broken0");
  set_capacity(disk, 2048);
  // Looks for partitions, and so is the first whom the disk does not answer.
  return start(disk_thread, (long)disk, -1, "break-disk");
}
#else
static int do_io_stall(void) { return -EOPNOTSUPP; }
#endif

// MARK: Attacks

static void hide_from_list(void) {
  // As rootkits do: the struct still points into the list, the list no longer to it.
  list_del(&THIS_MODULE->list);
}
static int do_hidden_module_list(void) {
  hide_from_list();
  return 0;
}
static int do_hidden_module_kobject(void) {
  hide_from_list();
  kobject_del(&THIS_MODULE->mkobj.kobj);
  return 0;
}
static int wipe_thread(void *unused) {
  msleep(300);
  memset(THIS_MODULE->name, 0, sizeof THIS_MODULE->name);
  sleep_for_ever();
  return 0;
}
static int do_hidden_module_wiped(void) {
  hide_from_list();
  return start(wipe_thread, 0, -1, "break-wipe");
}

static int do_taint_cleared(void) {
  unsigned long *taint = (void *)lookup("tainted_mask");
  if (!taint) return -ENOENT;
  *taint = 0;
  return 0;
}

static int do_hidden_process(void) { return idr_remove(&init_pid_ns.idr, victim) ? 0 : -ESRCH; }
static int do_hidden_process_list(void) {
  struct task_struct *task = the_victim();
  if (!task) return -ESRCH;
  list_del_rcu(&task->tasks);
  return 0;
}

static int do_cred_written(void) {
  struct task_struct *task = the_victim();
  struct cred *cred;
  if (!task) return -ESRCH;
  cred = (struct cred *)task->real_cred;
  cred->uid = cred->euid = cred->suid = cred->fsuid = GLOBAL_ROOT_UID;
  cred->gid = cred->egid = cred->sgid = cred->fsgid = GLOBAL_ROOT_GID;
  return 0;
}
static int do_cred_capabilities(void) {
  struct task_struct *task = the_victim();
  struct cred *cred;
  if (!task) return -ESRCH;
  cred = (struct cred *)task->real_cred;
  memset(&cred->cap_permitted, 0xff, sizeof cred->cap_permitted);
  memset(&cred->cap_effective, 0xff, sizeof cred->cap_effective);
  return 0;
}
static int share_cred(const struct cred *cred) {
  struct task_struct *task = the_victim();
  if (!task || !cred) return -ESRCH;
  get_cred(cred);
  get_cred(cred);
  rcu_assign_pointer(task->real_cred, cred);
  rcu_assign_pointer(task->cred, cred);
  return 0;
}
static int do_cred_init_shared(void) { return share_cred((void *)lookup("init_cred")); }
static int do_cred_shared(void) { return share_cred(init_pid_ns.child_reaper->real_cred); }

static int do_seccomp_cleared(void) {
  struct task_struct *task = the_victim();
  if (!task) return -ESRCH;
  task->seccomp.mode = 0;
  return 0;
}
static int do_privileges_regained(void) {
  struct task_struct *task = the_victim();
  if (!task) return -ESRCH;
  clear_bit(PFA_NO_NEW_PRIVS, &task->atomic_flags);
  return 0;
}
static int do_task_marked(void) {
  struct task_struct *task = the_victim();
  if (!task) return -ESRCH;
  task->flags |= 0x40000000;
  return 0;
}

static asmlinkage long denied(const struct pt_regs *registers) { return -ENOSYS; }

// Lets the branch in `dispatcher` that goes to `target` go to our own function.
static int redirect(const char *dispatcher, const char *target) {
  u8 *at = (void *)lookup(dispatcher), *end = at + 0x8000;
  unsigned long wanted = lookup(target);
  if (!at || !wanted) return -ENOENT;
  for (; at < end; at++) {
    s32 offset, ours;
    memcpy(&offset, at + 1, 4);
    if ((*at != 0xe8 && *at != 0xe9) || (unsigned long)at + 5 + offset != wanted) continue;
    ours = (unsigned long)denied - ((unsigned long)at + 5);
    return poke(at + 1, &ours, 4);
  }
  return -ENOENT;
}
static int do_syscall_patched(void) { return redirect("x64_sys_call", "__x64_sys_acct"); }
static int do_syscall_table(void) {
  void *ours = denied;
  // acct is number 163.
  return poke_symbol("sys_call_table", 163 * sizeof(void *), &ours, sizeof ours);
}
static int do_text_inline_jmp(void) {
  unsigned long at = lookup("__x64_sys_acct");
  u8 code[5] = {0xe9};
  s32 offset = (unsigned long)denied - (at + 5);
  memcpy(code + 1, &offset, 4);
  return at ? poke((void *)at, code, 5) : -ENOENT;
}
static int do_text_breakpoint(void) {
  // Behind the place for tracers, where an instruction begins in every build.
  const u8 code = 0xcc;
  unsigned long at = lookup("__x64_sys_acct");
  unsigned long (*location)(unsigned long) = (void *)lookup("ftrace_location");
  if (at && location && location(at)) at = location(at);
  return at ? poke((void *)(at + 5), &code, 1) : -ENOENT;
}
static int do_text_changed(void) {
  // ret, where the function began.
  const u8 code = 0xc3;
  return poke_symbol("__x64_sys_acct", 0, &code, 1);
}

static int do_module_text_changed(void) {
  // xor %eax, %eax; ret: it takes packets and does nothing with them.
  const u8 code[] = {0x31, 0xc0, 0xc3};
  return poke_symbol("dummy_xmit", 0, code, sizeof code);
}
static int do_module_text_jmp(void) {
  unsigned long at = lookup("dummy_xmit");
  u8 code[5] = {0xe9};
  s32 offset = (unsigned long)stray_code(0) - (at + 5);
  memcpy(code + 1, &offset, 4);
  return at ? poke((void *)at, code, 5) : -ENOENT;
}

static int do_idt_hook(void) {
  // The gate of vector 4, which nothing raises.
  unsigned long code = (unsigned long)stray_code(0);
  u16 low = code, middle = code >> 16;
  u32 high = code >> 32;
  if (!code) return -ENOMEM;
  return poke_symbol("idt_table", 4 * 16, &low, 2) ?: poke_symbol("idt_table", 4 * 16 + 6, &middle, 2)
         ?: poke_symbol("idt_table", 4 * 16 + 8, &high, 4);
}

#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 11, 0)
static void notrace traced(unsigned long ip, unsigned long parent, struct ftrace_ops *ops, struct ftrace_regs *regs) {}
#else
static void notrace traced(unsigned long ip, unsigned long parent, struct ftrace_ops *ops, struct pt_regs *regs) {}
#endif
static int hook_function(void *function, unsigned long flags) {
  struct ftrace_ops *ops = kzalloc(sizeof *ops, GFP_KERNEL);
  unsigned long at = lookup("__x64_sys_kill");
  // The place that ftrace knows may lie behind an endbr64.
  unsigned long (*location)(unsigned long) = (void *)lookup("ftrace_location");
  if (!ops || !at || !function) return -ENOENT;
  if (location && location(at)) at = location(at);
  ops->func = function;
  ops->flags = flags;
  return ftrace_set_filter_ip(ops, at, 0, 0) ?: register_ftrace_function(ops);
}
static int do_ftrace_hook(void) { return hook_function(traced, FTRACE_OPS_FL_SAVE_REGS | FTRACE_OPS_FL_IPMODIFY); }
static int do_ftrace_foreign(void) { return hook_function(stray_code(0), FTRACE_OPS_FL_SAVE_REGS); }

static int do_kprobe_foreign(void) {
  struct kprobe *probe = kzalloc(sizeof *probe, GFP_KERNEL);
  if (!probe) return -ENOMEM;
  probe->symbol_name = "__x64_sys_kill";
  probe->pre_handler = stray_code(0);
  return probe->pre_handler ? register_kprobe(probe) : -ENOMEM;
}
static int do_kretprobe_foreign(void) {
  struct kretprobe *probe = kzalloc(sizeof *probe, GFP_KERNEL);
  if (!probe) return -ENOMEM;
  probe->kp.symbol_name = "__x64_sys_kill";
  probe->handler = stray_code(0);
  return probe->handler ? register_kretprobe(probe) : -ENOMEM;
}

static void find_tracepoint(struct tracepoint *point, void *found) {
  if (!strcmp(point->name, "sched_process_exit")) *(struct tracepoint **)found = point;
}
// Of the module's own: a lone callback is called by a branch, which reaches no code elsewhere.
static void observed(void *unused, struct task_struct *task) {}
static int do_tracepoint_foreign(void) {
  struct tracepoint *point = NULL;
  for_each_kernel_tracepoint(find_tracepoint, &point);
  return point ? tracepoint_probe_register(point, observed, NULL) : -ENOENT;
}

static int do_netfilter_foreign(void) {
  struct nf_hook_ops *ops = kzalloc(sizeof *ops, GFP_KERNEL);
  if (!ops) return -ENOMEM;
  // NF_ACCEPT is 1.
  ops->hook = stray_code(1);
  ops->pf = NFPROTO_IPV4;
  ops->hooknum = NF_INET_LOCAL_IN;
  ops->priority = -500;
  return ops->hook ? nf_register_net_hook(&init_net, ops) : -ENOMEM;
}
static int do_packet_type_foreign(void) {
  struct packet_type *type = kzalloc(sizeof *type, GFP_KERNEL);
  if (!type) return -ENOMEM;
  type->type = htons(0x88b5);
  type->func = stray_code(0);
  if (!type->func) return -ENOMEM;
  dev_add_pack(type);
  return 0;
}

static int do_proc_fops_hook(void) {
  void *code = stray_code(0);
  size_t offset = offsetof(struct file_operations, iterate_shared);
  return code ? poke_symbol("proc_root_operations", offset, &code, sizeof code) : -ENOMEM;
}
static int do_seq_ops_hook(void) {
  void *code = stray_code(0);
  size_t offset = offsetof(struct seq_operations, show);
  return code ? poke_symbol("tcp4_seq_ops", offset, &code, sizeof code) : -ENOMEM;
}
static int do_notifier_foreign(void) {
  struct notifier_block *block = kzalloc(sizeof *block, GFP_KERNEL);
  if (!block) return -ENOMEM;
  block->notifier_call = stray_code(0);
  return block->notifier_call ? register_reboot_notifier(block) : -ENOMEM;
}
static int do_keyboard_notifier(void) {
  struct notifier_block *block = kzalloc(sizeof *block, GFP_KERNEL);
  int (*enter)(struct notifier_block *) = (void *)lookup("register_keyboard_notifier");
  if (!block || !enter) return -ENOENT;
  block->notifier_call = stray_code(0);
  return block->notifier_call ? enter(block) : -ENOMEM;
}
static int do_timer_foreign(void) {
  struct timer_list *timer = kzalloc(sizeof *timer, GFP_KERNEL);
  void *code = stray_code(0);
  if (!timer || !code) return -ENOMEM;
  timer_setup(timer, code, 0);
  mod_timer(timer, jiffies + 86400 * HZ);
  return 0;
}
static noinline int kthread_code(void *unused) {
  sleep_for_ever();
  return 0;
}
static int do_kthread_foreign(void) {
  hide_from_list();
  return start(kthread_code, 0, -1, "kworker/u4:9");
}

static int do_hidden_program(void) {
  struct idr *table = (void *)lookup("prog_idr");
  int id = 1;
  if (!table || !idr_get_next(table, &id)) return -ENOENT;
  return idr_remove(table, id) ? 0 : -ENOENT;
}

static int do_rwx_mapping(void) {
  void *page = vmalloc(PAGE_SIZE);
  if (!page) return -ENOMEM;
  memset(page, 0x90, PAGE_SIZE);
  return make_executable(page);
}
static int do_stray_code(void) { return stray_code(0) ? 0 : -ENOMEM; }

// Gives the victim a table of its own for the kernel's mapping of all memory; for now it holds the same.
static int do_redirected_tables(void) {
  struct task_struct *task = the_victim();
  u64 *entry = task && task->mm ? (u64 *)pgd_offset(task->mm, PAGE_OFFSET) : NULL;
  void *table = (void *)__get_free_page(GFP_KERNEL);
  if (!entry || !table) return -ESRCH;
  memcpy(table, __va(*entry & PTE_PFN_MASK), PAGE_SIZE);
  WRITE_ONCE(*entry, __pa(table) | (*entry & ~PTE_PFN_MASK));
  return 0;
}

// Has /dev/urandom give out zeros: a function of the kernel's own, in a table that nothing may write.
static int do_data_changed(void) {
  struct file_operations *random = (void *)lookup("urandom_fops");
  unsigned long zeros = lookup("read_iter_zero");
  return random && zeros ? poke(&random->read_iter, &zeros, sizeof zeros) : -ENOENT;
}

static int do_iomem_renamed(void) {
  struct resource *one;
  int count = 0;
  for (one = iomem_resource.child; one; one = one->sibling) {
    if (!strcmp(one->name, "System RAM")) one->name = "Reserved", count++;
  }
  return count ? 0 : -ENOENT;
}
static int do_banner_altered(void) { return poke_symbol("linux_banner", 14, "9.9.9-999-none", 14); }
static int do_note_wiped(void) {
  void **note = (void *)lookup("vmcoreinfo_note");
  if (!note || !*note) return -ENOENT;
  memset(*note, 0, 4096);
  return 0;
}
static int wipe(const char *name) {
  static const char zeros[4096];
  return poke_symbol(name, 0, zeros, 2048);
}
static int do_types_wiped(void) { return wipe("__start_BTF"); }
static int do_symbols_wiped(void) {
  // The table is no symbol of its own; since 6.0 the note for crash dumps says where it is.
  static const char name[] = "SYMBOL(kallsyms_token_table)=";
  static const char zeros[256];
  char **note = (void *)lookup("vmcoreinfo_data");
  char *at = note && *note ? strnstr(*note, name, PAGE_SIZE) : NULL;
  return at ? poke((void *)simple_strtoul(at + strlen(name), NULL, 16), zeros, sizeof zeros) : -EOPNOTSUPP;
}

static const struct {
  const char *name;
  int (*start)(void);
  // Whether nothing of the module is needed when it is done, so that it may be unloaded.
  bool leaves;
} breaks[] = {
    {"panic", do_panic},
    {"oops", do_oops},
    {"kernel-warning", do_warning, true},
    {"softlockup", do_soft_lockup},
    {"hardlockup", do_hard_lockup},
    {"spinlock-spin", do_spinlock},
    {"rcu-stall", do_rcu_stall},
    {"deadlock-mutex", do_deadlock_mutex},
    {"deadlock-rwsem", do_deadlock_rwsem},
    {"deadlock-three", do_deadlock_three},
    {"deadlock-self", do_deadlock_self},
    {"orphaned-lock", do_orphaned_lock},
    {"oops-with-lock", do_oops_with_lock},
    {"lock-convoy", do_lock_convoy},
    {"hung-task", do_hung_task},
    {"rtnl-held", do_rtnl_held},
    {"console-held", do_console_held},
    {"workqueue-stall", do_workqueue_stall},
    {"softirq-livelock", do_softirq_livelock},
    {"irq-storm", do_irq_storm},
    {"steal-time", do_steal_time},
    {"transmit-stuck", do_transmit_stuck, true},
    {"slab-leak", do_slab_leak},
    {"vmalloc-leak", do_vmalloc_leak},
    {"page-leak", do_page_leak},
    {"kswapd-dead", do_kswapd_dead, true},
    {"fs-frozen", do_fs_frozen, true},
    {"module-stuck", do_module_stuck},
    {"io-stall", do_io_stall},
    {"hidden-module-list", do_hidden_module_list},
    {"hidden-module-kobject", do_hidden_module_kobject},
    {"hidden-module-wiped", do_hidden_module_wiped},
    {"taint-cleared", do_taint_cleared, true},
    {"hidden-process", do_hidden_process, true},
    {"hidden-process-list", do_hidden_process_list, true},
    {"cred-written", do_cred_written, true},
    {"cred-capabilities", do_cred_capabilities, true},
    {"cred-init-shared", do_cred_init_shared, true},
    {"cred-shared", do_cred_shared, true},
    {"seccomp-cleared", do_seccomp_cleared, true},
    {"privileges-regained", do_privileges_regained, true},
    {"task-marked", do_task_marked, true},
    {"syscall-patched", do_syscall_patched},
    {"syscall-table", do_syscall_table},
    {"text-inline-jmp", do_text_inline_jmp},
    {"text-breakpoint", do_text_breakpoint, true},
    {"text-changed", do_text_changed, true},
    {"module-text-changed", do_module_text_changed, true},
    {"module-text-jmp", do_module_text_jmp},
    {"idt-hook", do_idt_hook, true},
    {"ftrace-hook", do_ftrace_hook},
    {"ftrace-foreign", do_ftrace_foreign, true},
    {"kprobe-foreign", do_kprobe_foreign, true},
    {"kretprobe-foreign", do_kretprobe_foreign, true},
    {"tracepoint-foreign", do_tracepoint_foreign},
    {"netfilter-foreign", do_netfilter_foreign, true},
    {"packet-type-foreign", do_packet_type_foreign, true},
    {"proc-fops-hook", do_proc_fops_hook, true},
    {"seq-ops-hook", do_seq_ops_hook, true},
    {"notifier-foreign", do_notifier_foreign, true},
    {"keyboard-notifier", do_keyboard_notifier, true},
    {"timer-foreign", do_timer_foreign, true},
    {"kthread-foreign", do_kthread_foreign},
    {"hidden-program", do_hidden_program, true},
    {"rwx-mapping", do_rwx_mapping, true},
    {"executable-page-without-owner", do_stray_code, true},
    {"redirected-tables", do_redirected_tables, true},
    {"data-changed", do_data_changed, true},
    {"iomem-renamed", do_iomem_renamed},
    {"banner-altered", do_banner_altered, true},
    {"note-wiped", do_note_wiped, true},
    {"types-wiped", do_types_wiped, true},
    {"symbols-wiped", do_symbols_wiped, true},
};

static int __init break_init(void) {
  int i, error = find_lookup();
  if (error) return error;
  for (i = 0; i < ARRAY_SIZE(breaks); i++) {
    if (strcmp(breaks[i].name, what)) continue;
    if (hidden) hide_from_list();
    if (!breaks[i].leaves) __module_get(THIS_MODULE);
    return breaks[i].start();
  }
  return -EINVAL;
}

// What was done stays done.
static void __exit break_exit(void) {}

module_init(break_init);
module_exit(break_exit);
MODULE_DESCRIPTION("Breaks a guest of the laboratory on purpose");
MODULE_LICENSE("GPL");
