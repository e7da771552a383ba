extension Breaks {
  /// The kernel is made to hide something, or to forget a right or a rule.
  static let attacks: [Break] = [
    .module(
      "hidden-module-list", .attack, "A module leaves the list of modules.", ["hidden-module"], subject: "break",
      effects: ["taint-vanished", "ownerless-code"]),
    .module(
      "hidden-module-kobject", .attack, "A module leaves the list of modules and /sys/module.", ["hidden-module"],
      subject: "break", effects: ["taint-vanished", "ownerless-code"]),
    .module(
      "hidden-module-wiped", .attack, "A module leaves the list and wipes its own name.", ["hidden-module"],
      effects: ["taint-vanished", "ownerless-code", "foreign-thread", "foreign-frame"]),
    .module("taint-cleared", .attack, "The kernel's taint is set back to nothing.", ["taint-vanished"]),
    .module(
      "hidden-process", .attack, "A process leaves the table of process numbers.", victim: "victim",
      ["hidden-process"], subject: "victim"),
    .module(
      "hidden-process-list", .attack, "A process leaves the list of tasks.", victim: "victim", ["hidden-process"],
      subject: "victim"),
    .module(
      "cred-written", .attack, "The ids of a process are overwritten with root's.", victim: "victim",
      ["stolen-credentials"], subject: "victim"),
    .module(
      "cred-capabilities", .attack, "A process is given all capabilities.", victim: "victim",
      ["stolen-credentials", "stolen-capabilities"], subject: "victim"),
    .module(
      "cred-init-shared", .attack, "A process is given the credentials of the kernel itself.", victim: "victim",
      ["shared-credentials", "stolen-credentials"], subject: "victim"),
    .module(
      "cred-shared", .attack, "A process is given the credentials of the first one.", victim: "victim",
      ["shared-credentials", "stolen-credentials"], subject: "victim"),
    .module(
      "seccomp-cleared", .attack, "The filter of a process's system calls is switched off.", victim: "confined",
      ["broken-confinement", "seccomp-cleared"], subject: "victim"),
    .module(
      "privileges-regained", .attack, "A process may gain privileges that it had given up.", victim: "confined",
      ["broken-confinement", "privileges-regained"], subject: "victim"),
    .module(
      "task-marked", .attack, "A process has a flag that the kernel does not know.", victim: "victim",
      ["task-marked"], subject: "victim"),
    .module(
      "rwx-mapping", .attack, "The kernel has a page that is writable and executable.",
      ["writable-code", "ownerless-code"]),
    .module(
      "executable-page-without-owner", .attack, "The kernel has code that belongs to nothing.", ["ownerless-code"]),
    .module(
      "redirected-tables", .attack, "A process is given another table for the kernel's half.", victim: "victim",
      ["redirected-tables"], subject: "victim"),
    .module(
      "data-changed", .attack, "A function in the kernel's read-only data is replaced by another of its own.",
      ["changed-data"], subject: "read-only data", within: 4),
    Break(
      "next-kernel", .attack, "Another kernel is loaded for the next reboot.", needs: [.program],
      .script("breaker next-kernel"), ["kexec-loaded"], within: 3),
    .module("iomem-renamed", .attack, "The ranges of RAM are given another name.", ["iomem-altered"]),
    .module(
      "banner-altered", .attack, "The kernel's banner is overwritten.", ["altered-identity", "text-changed"],
      effects: ["changed-data"]),
    .module("note-wiped", .attack, "The note by which kernels are found is wiped.", ["altered-identity"]),
    .module(
      "types-wiped", .attack, "The kernel's description of its types is wiped.", ["altered-identity"],
      effects: ["changed-data"], survives: false),
    .module(
      "symbols-wiped", .attack, "The kernel's own symbols are wiped.", ["altered-identity"], effects: ["changed-data"],
      survives: false),
    Break(
      "modprobe-path", .attack, "The kernel is told to call another program when it wants a module.",
      .script("cat /proc/sys/kernel/modprobe > /tmp/modprobe; echo /tmp/evil > /proc/sys/kernel/modprobe"),
      undo: .script("cat /tmp/modprobe > /proc/sys/kernel/modprobe"), ["helper-path"], subject: "modprobe_path"),
    Break(
      "core-pattern", .attack, "The kernel is told to call a program of somebody's for each crash.",
      .script("cat /proc/sys/kernel/core_pattern > /tmp/core; echo '|/tmp/evil %P' > /proc/sys/kernel/core_pattern"),
      undo: .script("cat /tmp/core > /proc/sys/kernel/core_pattern"), ["helper-path"], subject: "core_pattern"),
    Break(
      "release-agent", .attack, "A control group calls a program of somebody's when it empties.",
      .script(
        "mkdir -p /tmp/one && mount -t cgroup -o pids none /tmp/one && echo /tmp/evil > /tmp/one/release_agent"),
      undo: .script("umount /tmp/one"), ["release-agent", "helper-path"]),
    Break(
      "randomization-off", .attack, "Addresses of processes are no longer random.",
      .script("echo 0 > /proc/sys/kernel/randomize_va_space"),
      undo: .script("echo 2 > /proc/sys/kernel/randomize_va_space"), ["defence-off"], subject: "randomize_va_space"),
    Break(
      "pointers-shown", .attack, "The kernel shows its addresses to everybody.",
      .script("echo 0 > /proc/sys/kernel/kptr_restrict; echo -1 > /proc/sys/kernel/perf_event_paranoid"),
      ["defence-off", "defence-lowered"]),
    Break(
      "tracing-off", .attack, "The kernel's tracing is switched off for all.",
      .script("echo 0 > /proc/sys/kernel/ftrace_enabled"), undo: .script("echo 1 > /proc/sys/kernel/ftrace_enabled"),
      ["defence-off"], subject: "ftrace_enabled"),
    Break(
      "probes-off", .attack, "The kernel's probes are switched off for all.",
      .script("mount -t debugfs none /sys/kernel/debug; echo 0 > /sys/kernel/debug/kprobes/enabled"),
      undo: .script("echo 1 > /sys/kernel/debug/kprobes/enabled"), ["defence-off"], subject: "kprobes_all_disarmed"),
  ]

  /// The kernel is made to call other code.
  static let hooks: [Break] = [
    .module(
      "syscall-patched", .attack, "The kernel's dispatcher calls a module in place of a system call.",
      options: "hidden=1", ["changed-text", "text-changed", "foreign-hook"], subject: "x64_sys_call",
      effects: ["hidden-module", "ownerless-code", "foreign-operations"]),
    .module(
      "syscall-table", .attack, "An entry of the table of system calls is replaced.", options: "hidden=1",
      ["foreign-hook", "system-call-table"], subject: "163",
      effects: ["hidden-module", "ownerless-code", "foreign-operations", "changed-data", "changed-text"]),
    .module(
      "text-inline-jmp", .attack, "A function of the kernel begins with a jump into a module.", options: "hidden=1",
      ["changed-text", "text-changed", "foreign-hook"], subject: "acct",
      effects: ["hidden-module", "ownerless-code", "foreign-operations"]),
    .module(
      "text-breakpoint", .attack, "A function of the kernel has a breakpoint that no probe has set.",
      ["changed-text", "text-changed"], subject: "acct"),
    .module(
      "text-changed", .attack, "A function of the kernel returns where it begins.", ["changed-text", "text-changed"],
      subject: "acct"),
    .module(
      "module-text-changed", .attack, "A function of a module of the kernel's returns where it begins.",
      alsoNeeds: [.devices], ["changed-text"], subject: "dummy_xmit"),
    .module(
      "module-text-jmp", .attack,
      "A function of a module of the kernel's begins with a jump to code that belongs to nothing.",
      alsoNeeds: [.devices], ["changed-text"], subject: "dummy_xmit", effects: ["ownerless-code"]),
    .module(
      "idt-hook", .attack, "A gate of the interrupt table goes elsewhere.", ["foreign-hook"], subject: "idt",
      effects: ["ownerless-code", "foreign-operations"]),
    .module(
      "ftrace-hook", .attack, "A hidden module redirects a function by ftrace.", options: "hidden=1", ["foreign-hook"],
      subject: "ftrace", effects: ["hidden-module", "ownerless-code", "foreign-operations"]),
    .module(
      "ftrace-foreign", .attack, "ftrace calls code that belongs to nothing.", ["foreign-hook"], subject: "ftrace",
      effects: ["ownerless-code", "foreign-operations"]),
    .module(
      "kprobe-foreign", .attack, "A probe calls code that belongs to nothing.", ["foreign-hook"], subject: "kprobe",
      effects: ["ownerless-code", "foreign-operations"]),
    .module(
      "kretprobe-foreign", .attack, "A return probe calls code that belongs to nothing.", ["foreign-hook"],
      subject: "kprobe", effects: ["ownerless-code", "foreign-operations"]),
    .module(
      "tracepoint-foreign", .attack, "A tracepoint calls a hidden module.", options: "hidden=1",
      ["foreign-hook"], subject: "sched_process_exit",
      effects: ["hidden-module", "ownerless-code", "foreign-operations", "changed-data", "changed-text"]),
    .module(
      "netfilter-foreign", .attack, "A hook of netfilter is code that belongs to nothing.", ["foreign-hook"],
      subject: "netfilter", effects: ["ownerless-code", "foreign-operations"]),
    .module(
      "packet-type-foreign", .attack, "A handler of packets is code that belongs to nothing.",
      ["foreign-hook", "foreign-operations"], effects: ["ownerless-code", "foreign-operations"]),
    .module(
      "proc-fops-hook", .attack, "Listing /proc calls code that belongs to nothing.", ["foreign-operations"],
      subject: "proc_root", effects: ["ownerless-code", "changed-text", "foreign-operations", "changed-data"]),
    .module(
      "seq-ops-hook", .attack, "Listing TCP's connections calls code that belongs to nothing.", ["foreign-operations"],
      subject: "tcp4_seq", effects: ["ownerless-code", "changed-text", "foreign-operations", "changed-data"]),
    .module(
      "notifier-foreign", .attack, "A notifier of reboots is code that belongs to nothing.", ["foreign-operations"],
      effects: ["ownerless-code", "foreign-operations"]),
    .module(
      "keyboard-notifier", .attack, "A notifier of keys is code that belongs to nothing.", ["foreign-operations"],
      subject: "keyboard", effects: ["ownerless-code", "foreign-operations"]),
    .module(
      "timer-foreign", .attack, "A timer calls code that belongs to nothing.", ["foreign-operations"],
      effects: ["ownerless-code", "foreign-operations"]),
    .module(
      "kthread-foreign", .attack, "A thread of the kernel runs the code of a hidden module.",
      ["kthread-impostor", "foreign-thread", "foreign-frame"], subject: "kworker/u4:9",
      effects: ["hidden-module", "ownerless-code", "foreign-operations"]),
  ]

  /// Processes that are not what they seem.
  static let processes: [Break] = [
    Break(
      "deleted-exe", .attack, "A process runs a program whose file is gone.", needs: [.program],
      .script(
        "cp /bin/breaker /tmp/gone && { /tmp/gone stay </dev/null >/dev/null 2>&1 & echo $! >/tmp/broken; }; "
          + "sleep 0.5; rm /tmp/gone"), undo: .script("kill -9 $(cat /tmp/broken)"),
      ["fileless-process", "deleted-exe"], subject: "gone"),
    .program(
      "memfd-exe", .attack, "A process runs a program that lies in no file system.",
      ["fileless-process", "memfd-exe"]),
    Break(
      "tmp-exe", .attack, "A process runs a program in /dev/shm.", needs: [.program],
      .script(
        "cp /bin/breaker /dev/shm/dropped && { /dev/shm/dropped stay </dev/null >/dev/null 2>&1 & echo $! >/tmp/broken; }; "
          + "sleep 0.5"), undo: .script("kill -9 $(cat /tmp/broken)"), ["fileless-process", "tmp-exe"],
      subject: "dropped"),
    .program(
      "preload", .attack, "A process is started with a library before all others.", ["preloaded-library", "preload"],
      subject: "libevil"),
    Break(
      "preload-file", .attack, "All processes are to load a library before all others.",
      .script("echo /tmp/libevil.so > /etc/ld.so.preload"), undo: .script("rm /etc/ld.so.preload"),
      ["preloaded-library", "preload"], subject: "ld.so.preload"),
    .program(
      "reverse-shell", .attack, "A shell's input and output are a connection to another host.",
      before: "ip link set lo up; ip addr add 10.99.0.1/32 dev lo 2>/dev/null", ["reverse-shell"], subject: "sh"),
    .program(
      "packet-filter-socket", .attack, "A process looks at all packets through a filter.",
      ["packet-socket", "sniffer", "packet-filter-socket"], subject: "listener"),
    .program(
      "promiscuous", .attack, "A process has an interface take packets that are not for it.",
      ["packet-socket", "sniffer", "promiscuous-interface"]),
    .program(
      "kthread-impostor", .attack, "A process calls itself as threads of the kernel are called.",
      ["kthread-impostor"], subject: "kworker/0:3"),
    .program(
      "injected-code", .attack, "A process has memory without a file that is writable and executable.",
      ["injected-code"], subject: "injected"),
    .program(
      "text-rewritten", .attack, "A process's own code is not that of its file.", ["injected-code", "text-rewritten"],
      subject: "rewritten"),
    .program(
      "stack-executable", .attack, "A process's stack is executable.", ["injected-code", "executable-stack"],
      subject: "stack-code"),
    .program("ptrace", .attack, "A process is traced by another.", ["ptrace", "traced-process"], subject: "victim"),
    .program(
      "bpf-write", .attack, "A BPF program can write into processes.", ["bpf-abuse"], subject: "evil_write"),
    Break(
      "hidden-program", .attack, "A BPF program leaves the table of programs.", needs: [.program, .module],
      .script("\(Break.background("bpf-write")); sleep 0.5; insmod /modules/break.ko what=hidden-program"),
      undo: .script("kill -9 $(cat /tmp/broken); rmmod break"), ["hidden-program"], subject: "evil_write"),
    .program(
      "bpf-xdp", .attack, "A BPF program sees all packets of an interface.", ["bpf-abuse", "bpf-attached"],
      subject: "evil_xdp"),
    .program(
      "miner", .attack, "A process mines for somebody.",
      before: "ip link set lo up; ip addr add 10.99.0.1/32 dev lo 2>/dev/null", ["miner"], subject: "miner",
      within: 65),
  ]

  /// What nobody may be told of: each looks like one of the others and is right.
  static let quiet: [Break] = [
    Break(
      "quiet-module", .quiet, "A module is loaded and unloaded, over and over.", needs: [.devices],
      .script("for n in 1 2 3 4 5 6 7 8; do insmod /modules/dummy.ko 2>/dev/null; rmmod dummy; done; true"), [],
      within: 5),
    Break(
      "quiet-probe", .quiet, "A function is probed by the kernel's own trace events.",
      .script(
        """
        mount -t tracefs none /sys/kernel/tracing 2>/dev/null; cd /sys/kernel/tracing && \
        echo 'p:seen __x64_sys_kill' > kprobe_events && echo 'r:gone __x64_sys_kill' >> kprobe_events && \
        echo 1 > events/kprobes/enable
        """),
      undo: .script("cd /sys/kernel/tracing && echo 0 > events/kprobes/enable && echo > kprobe_events"), [], within: 5),
    Break(
      "quiet-tracer", .quiet, "The kernel's own tracer of functions is on.",
      .script(
        """
        mount -t tracefs none /sys/kernel/tracing 2>/dev/null; cd /sys/kernel/tracing && \
        echo '__x64_sys_k*' > set_ftrace_filter && { echo x64_sys_call >> set_ftrace_filter || true; } && \
        echo function > current_tracer
        """), undo: .script("cd /sys/kernel/tracing && echo nop > current_tracer && echo > set_ftrace_filter"), [],
      within: 5),
    Break(
      "quiet-user", .quiet, "A process of root gives itself another user and takes root back.", needs: [.program],
      .script(Break.background("victim")), undo: .script("kill -9 $(cat /tmp/broken)"), [], within: 5),
    Break(
      "quiet-debugger", .quiet, "A process's code was written to, and is as it was.", needs: [.program],
      .script(Break.background("text-restored")), undo: .script("kill -9 $(cat /tmp/broken)"), [], within: 5),
    Break(
      "quiet-growth", .quiet, "A process takes much memory at an even pace, and then no more.", needs: [.program],
      .script("\(Break.background("growing")); sleep 8"), undo: .script("kill -9 $(cat /tmp/broken)"), [], within: 5),
    Break(
      "quiet-threads", .quiet, "A process begins hundreds of threads, again and again.", needs: [.program],
      .script(Break.background("threads")), undo: .script("kill -9 $(cat /tmp/broken)"), [], within: 5),
    Break(
      "quiet-namespaces", .quiet, "Processes in namespaces of their own come and go.",
      .script("for n in 1 2 3 4 5 6; do unshare -m -u -i -n -p -f true; done; true"), [], within: 5),
  ]
}
