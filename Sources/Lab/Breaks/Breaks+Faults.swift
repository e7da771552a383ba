extension Breaks {
  /// The kernel itself is broken, or hangs.
  static let faults: [Break] = [
    Break(
      "panic", .fault, "The kernel panics.", .sent("echo c > /proc/sysrq-trigger"), ["panic"], survives: false),
    .module("oops", .fault, "A thread of the kernel reads where nothing is.", ["oops"]),
    .module("kernel-warning", .fault, "The kernel warns of itself.", ["kernel-warning"]),
    .module(
      "oops-with-lock", .fault, "A thread dies of an oops and holds a lock that another wants.", ["orphaned-lock"],
      subject: "break-", within: 4, effects: ["oops", "hung-task"]),
    .module(
      "softlockup", .fault, "A CPU runs one thread of the kernel and never another.", ["soft-lockup"], subject: "CPU 1",
      within: 8, effects: ["rcu-stall", "hung-task", "workqueue-stall"], survives: false),
    .module(
      "hardlockup", .fault, "A CPU runs with interrupts off and never takes one.", waits: false, ["hard-lockup"],
      subject: "CPU 1", within: 8, effects: ["rcu-stall", "hung-task", "soft-lockup"], survives: false),
    .module(
      "spinlock-spin", .fault, "CPUs spin for a lock that is never given back.", ["spinlock", "soft-lockup"],
      within: 8, effects: ["rcu-stall", "hung-task", "soft-lockup"], survives: false, cpus: 4),
    .module(
      "rcu-stall", .fault, "A reader of RCU never comes to its end.", ["rcu-stall"], subject: "break-reader",
      within: 10,
      effects: ["hung-task"]),
    Break(
      "all-cpus-hung", .fault, "All CPUs hang with interrupts off.", needs: [.machine], .hang,
      ["all-cpus-stopped", "hung", "stopped"], within: 4, survives: false),
    Break(
      "paused", .fault, "The machine's CPUs are stopped from outside.", needs: [.machine], .pause, undo: .resume,
      ["paused", "stopped", "all-cpus-stopped"], within: 4),
    .module(
      "deadlock-mutex", .fault, "Two threads wait for each other's mutex.", ["deadlock"], subject: "break-one",
      within: 4, effects: ["hung-task"]),
    .module(
      "deadlock-rwsem", .fault, "Two threads wait for each other's rwsem.", ["deadlock"], subject: "break-one",
      within: 4, effects: ["hung-task"]),
    .module(
      "deadlock-three", .fault, "Three threads wait for each other in a circle of mutexes and a rwsem.", ["deadlock"],
      subject: "break-three", within: 4, effects: ["hung-task"]),
    .module(
      "deadlock-self", .fault, "A thread waits for a mutex that it holds.", ["deadlock"], subject: "break-self",
      within: 4, effects: ["hung-task"]),
    .module(
      "orphaned-lock", .fault, "A thread ends and holds a lock that another wants.", ["orphaned-lock"],
      subject: "break-waiter", within: 4, effects: ["hung-task"]),
    .module(
      "lock-convoy", .fault, "Forty threads queue for one lock.", ["lock-convoy"], within: 8),
    .module(
      "hung-task", .fault, "A thread sleeps for ever and cannot be killed.", ["hung-task"], subject: "break-hung",
      within: 33),
    Break(
      "rtnl-held", .fault, "The network's lock is never given back, and somebody wants it.", needs: [.module],
      .script("insmod /modules/break.ko what=rtnl-held && { ip link set lo up >/dev/null 2>&1 & }"),
      ["hung-task", "lock-convoy"], subject: "rtnl_mutex", within: 33),
    .module(
      "console-held", .fault, "The console is never given back.", ["console-stuck"], within: 8, effects: ["hung-task"]),
    .module(
      "workqueue-stall", .fault, "A work of the kernel never ends, and others wait behind it.",
      ["workqueue-stall"], subject: "busy_work", within: 10, effects: ["hung-task"]),
    .module(
      "softirq-livelock", .fault, "A CPU does nothing but soft interrupts.", ["softirq-livelock"], subject: "CPU 1",
      within: 5),
    .module(
      "irq-storm", .fault, "A CPU takes interrupts and does little else, as the kernel counts it.", ["irq-storm"],
      subject: "CPU 1", within: 8),
    .module(
      "steal-time", .fault, "The hypervisor runs others on a CPU, as the kernel counts it.", ["steal-time"],
      subject: "CPU 1", within: 15),
    .program(
      "init-stopped", .fault, "The first process is stopped by a debugger.", ["init-stopped"], within: 4),
    Break(
      "transmit-stuck", .fault, "An interface's card does not take what it is given.", needs: [.devices, .module],
      after: .script(
        """
        ip link show dummy0 >/dev/null 2>&1 || ip link add dummy0 type dummy; ip link set dummy0 up && sleep 1
        """), .script("insmod /modules/break.ko what=transmit-stuck"), ["transmit-stuck"], subject: "dummy0", within: 10
    ),
    Break(
      "memory-poisoned", .fault, "A page of memory is broken.", needs: [.program],
      // Some kernels kill who asks for it.
      .script("breaker poison >/dev/null 2>&1; ! grep -q 'HardwareCorrupted: *0 kB' /proc/meminfo"), ["hardware-error"],
      subject: "1 page", within: 3),
    .module("kswapd-dead", .fault, "The thread that frees memory is gone.", ["kthread-dead"], subject: "kswapd"),
    .module(
      "module-stuck", .fault, "A module never ends its own start.", waits: false, ["module-stuck"], subject: "break",
      within: 40, survives: false),
    .module(
      "io-stall", .fault, "A disk takes requests and never answers.", ["io-stall"], subject: "broken0", within: 8,
      effects: ["hung-task"]),
    Break(
      "clock-jump", .fault, "The clock jumps an hour ahead.", .script("date -s @$(($(date +%s) + 3600))"),
      ["clock-jump"], within: 3),
    Break(
      "clock-source", .fault, "The kernel changes its source of time.",
      .script("echo acpi_pm > /sys/devices/system/clocksource/clocksource0/current_clocksource"),
      ["clock-source"], within: 3),
    Break(
      "cpu-offline", .fault, "A CPU is taken off line.", .script("echo 0 > /sys/devices/system/cpu/cpu1/online"),
      undo: .script("echo 1 > /sys/devices/system/cpu/cpu1/online"), ["cpu-offline"], subject: "CPU 1", within: 3),
    Break(
      "fs-readonly", .fault, "A damaged file system is made read-only by the kernel.", needs: [.devices, .program],
      after: .script(
        "breaker disk && mkdir -p /tmp/mounted && mount -t vfat -o loop,errors=remount-ro /tmp/disk /tmp/mounted"),
      .script("cat /tmp/mounted/bad.txt >/dev/null 2>&1; grep ' /tmp/mounted vfat ro' /proc/mounts"),
      undo: .script("umount /tmp/mounted"), ["fs-readonly"], subject: "mounted", within: 3),
    Break(
      "fs-frozen", .fault, "A file system is frozen, and a writer waits.", needs: [.devices, .program, .module],
      .script(
        """
        breaker disk && mkdir -p /tmp/mounted && mount -t vfat -o loop /tmp/disk /tmp/mounted && \
        insmod /modules/break.ko what=fs-frozen && { sh -c 'echo text > /tmp/mounted/file' >/dev/null 2>&1 & }
        """), ["fs-frozen"], within: 33, effects: ["hung-task"]),
    Break(
      "link-down", .fault, "An interface that was up loses its carrier.", needs: [.devices],
      after: .script(
        """
        ip link show dummy0 >/dev/null 2>&1 || ip link add dummy0 type dummy; ip link set dummy0 up && sleep 1
        """), .script("echo 0 > /sys/class/net/dummy0/carrier"),
      undo: .script("echo 1 > /sys/class/net/dummy0/carrier"), ["link-down"], subject: "dummy0", within: 3),
  ]

  /// Something runs out.
  static let exhaustion: [Break] = [
    Break(
      "oom", .fault, "Memory runs out and the kernel kills a process.", needs: [.program],
      .script("breaker oom </dev/null >/dev/null 2>&1; ! grep -q 'oom_kill 0' /proc/vmstat"), ["oom-kill"],
      subject: "the host's memory", within: 5, effects: ["oom-imminent"]),
    Break(
      "oom-cgroup", .fault, "A control group runs out of its memory.", needs: [.program],
      .script(
        """
        mkdir -p /tmp/cgroup && mount -t cgroup2 none /tmp/cgroup && echo +memory > /tmp/cgroup/cgroup.subtree_control && \
        mkdir /tmp/cgroup/small && echo 40M > /tmp/cgroup/small/memory.max && \
        sh -c 'echo $$ > /tmp/cgroup/small/cgroup.procs; exec breaker oom' </dev/null >/dev/null 2>&1; \
        grep oom_kill /tmp/cgroup/small/memory.events
        """), ["oom-kill"], subject: "control group /small", within: 5),
    .program(
      "leak", .fault, "A process takes ten MiB a second and gives none back.", ["oom-imminent"], subject: "leaking",
      within: 60),
    .module(
      "slab-leak", .fault, "The kernel takes objects of one cache and gives none back.", ["slab-leak"],
      subject: "break_leak", within: 60),
    .module(
      "vmalloc-leak", .fault, "The kernel takes virtual memory and gives none back.", ["vmalloc-leak"], within: 60),
    .module(
      "page-leak", .fault, "The kernel takes pages that nobody accounts for.", ["page-leak"], within: 60),
    .program("fork-bomb", .fault, "Processes double.", ["fork-bomb"], subject: "bomb", within: 3, isEndable: false),
    .program(
      "fd-exhaustion", .fault, "A process has all the open files that it may have.",
      ["fd-exhaustion", "files-exhausted"],
      subject: "greedy"),
    Break(
      "files-exhausted", .fault, "The host has nearly all the open files that it may have.", needs: [.program],
      .script("ulimit -n 100000; echo 3000 > /proc/sys/fs/file-max; \(Break.background("fd-exhaustion"))"),
      undo: .script("kill -9 $(cat /tmp/broken); echo 100000 > /proc/sys/fs/file-max"),
      ["files-exhausted", "file-table-full"], within: 3, effects: ["fd-exhaustion"]),
    Break(
      "pid-exhaustion", .fault, "All process numbers are taken.", needs: [.program],
      // There is none left for whoever would wait for it.
      .sent("echo 700 > /proc/sys/kernel/pid_max; breaker pid-exhaustion </dev/null >/dev/null 2>&1 &"),
      ["pid-exhaustion", "pids-exhausted"], within: 5, effects: ["fork-bomb"], survives: false),
    Break(
      "cpu-starvation", .fault, "A process that is ready does not come to run.", needs: [.program],
      // Since 6.8 a server sees to it that real-time tasks leave some time to others.
      .script(
        """
        echo -1 > /proc/sys/kernel/sched_rt_runtime_us; mount -t debugfs none /sys/kernel/debug 2>/dev/null; \
        server=/sys/kernel/debug/sched/fair_server/cpu1/runtime; [ ! -e $server ] || echo 0 > $server; \
        \(Break.background("cpu-starvation"))
        """),
      undo: .script("kill -9 $(cat /tmp/broken); echo 950000 > /proc/sys/kernel/sched_rt_runtime_us"),
      ["cpu-starvation"], subject: "glutton", within: 5, effects: ["rcu-stall", "hung-task"]),
    .program(
      "accept-queue-full", .fault, "A listener takes no connections, and its queue is full.",
      before: "ip link set lo up", ["accept-queue-full", "listen-overflow"], subject: "7001", within: 8),
    Break(
      "tcp-memory", .fault, "TCP has all the memory that it may have.", needs: [.program],
      .script("ip link set lo up; echo '10 20 40' > /proc/sys/net/ipv4/tcp_mem; \(Break.background("unread"))"),
      undo: .script("kill -9 $(cat /tmp/broken)"), ["tcp-memory"], within: 4),
    Break(
      "cgroup-full", .fault, "A control group has all the tasks that it may have.",
      .script(
        """
        mkdir -p /tmp/cgroup && mount -t cgroup2 none /tmp/cgroup && echo +pids > /tmp/cgroup/cgroup.subtree_control && \
        mkdir /tmp/cgroup/full && echo 3 > /tmp/cgroup/full/pids.max && \
        { sh -c 'echo $$ > /tmp/cgroup/full/cgroup.procs; sleep 1000 & sleep 1000 & wait' >/dev/null 2>&1 & } && sleep 1
        """), ["cgroup-limit"], subject: "/full", within: 4),
    Break(
      "tmpfs-full", .fault, "A file system in memory is full.",
      .script(
        "mkdir -p /tmp/small && mount -t tmpfs -o size=8m small /tmp/small && "
          + "! dd if=/dev/zero of=/tmp/small/file bs=1M count=9 2>/dev/null"),
      undo: .script("umount /tmp/small"), ["fs-full"], subject: "/tmp/small", within: 3),
    Break(
      "route-gone", .fault, "The default route is gone.",
      after: .script("ip link set lo up; ip route add default dev lo"), .script("ip route del default"),
      ["route-gone"], within: 6),
  ]
}
