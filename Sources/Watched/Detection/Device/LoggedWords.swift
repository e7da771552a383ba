/// What a detector's findings say where only a device's log tells of them, which has ids, subjects and values and no words.
///
/// A check says more: its sentences have what two subjects and six values have no room for.
struct LoggedWords: Sendable {
  /// The sentence: `{0}` and `{1}` are subjects, `{all}` is all of them, `{seen}` is the first number that was seen.
  let sentence: String
  let evidence: [Piece]

  /// One kind of evidence.
  struct Piece: Sendable {
    /// How the words begin that a check has for it.
    let what: String
    /// What ought to be there, where that is no number.
    let expected: String?
    /// What stands behind numbers.
    let unit: String

    init(_ what: String, _ expected: String? = nil, unit: String = "") {
      self.what = what
      self.expected = expected
      self.unit = unit
    }

    /// What stands for it in the log: FNV-1a of 32 bits, and never 0.
    var digest: UInt32 {
      var hash: UInt32 = 0x811c_9dc5
      for byte in what.utf8 { hash = (hash ^ UInt32(byte)) &* 0x0100_0193 }
      return max(hash, 1)
    }
  }

  init(_ sentence: String, _ evidence: Piece...) {
    self.sentence = sentence
    self.evidence = evidence
  }

  /// By the names of detectors.
  static let all: [String: LoggedWords] = [
    // Faults.
    "panic": .init("the kernel panicked on CPU {seen}", .init("panic_cpu"), .init("the log")),
    "oops": .init("the kernel survived an oops", .init("tainted_mask", "bit 7 clear"), .init("the log")),
    "kernel-warning": .init("the kernel warned of itself", .init("tainted_mask", "bit 9 clear"), .init("the log")),
    "oom-kill": .init(
      "memory ran out and the kernel killed processes, {seen} by now", .init("oom_kill"), .init("the log")),
    "deadlock": .init(
      "{all} wait for each other's locks in a circle", .init("mutex that"), .init("rwsem that"), .init("semaphore that")
    ),
    "orphaned-lock": .init(
      "the owner of {0} is gone, and {1} waits for it", .init("the owner of the", "a task that lives")),
    "lock-convoy": .init("{seen} tasks queue for {0}", .init("waiters of the", "20 at most")),
    "hung-task": .init("{all} wait in the kernel and cannot be killed", .init("the kernel stack of")),
    "workqueue-stall": .init("{seen} works wait behind {1} in {0}", .init("what worker", "none")),
    "module-stuck": .init("the loading or unloading of {0} does not end", .init("its state", "live")),
    "kthread-dead": .init("the kernel's thread {0} is gone", .init("who does it")),
    "files-exhausted": .init("{seen} open files are nearly all that there may be", .init("open files")),
    "pids-exhausted": .init("{seen} tasks are nearly all that there may be", .init("tasks")),
    "fd-exhaustion": .init("{0} has {seen} open files, nearly all that it may have", .init("RLIMIT_NOFILE")),
    "accept-queue-full": .init(
      "the listener on {0} takes no connections: {seen} wait", .init("connections that wait")),
    "io-stall": .init("a request to {0} does not come back", .init("a request in flight")),
    "fs-frozen": .init("{0} is frozen", .init("s_writers.frozen")),
    "fs-full": .init("{0} is full", .init("used_blocks")),
    "fork-bomb": .init("processes multiply: {seen} in all", .init("processes"), .init("total_forks")),
    "cpu-starvation": .init("{0} is ready and does not come to run", .init("sched_info.last_queued", unit: " s ago")),
    "console-stuck": .init("{0} is held and does not come free", .init("count")),
    "suspended-detector": .init("{0} ended early and is not asked any more", .init("how it ended")),
    "rcu-stall": .init(
      "a grace period of RCU does not end", .init("rcu_state.gp_seq", "another after some milliseconds")),
    "oom-imminent": .init(
      "memory is nearly gone: {0} takes ever more", .init("resident memory"),
      .init("memory that is available", "enough for a minute")),
    "slab-leak": .init("{0} grows and never shrinks", .init("memory that it takes")),
    "vmalloc-leak": .init("the kernel's function {0} takes ever more memory", .init("memory that it takes")),
    "page-leak": .init("ever more memory is taken, and nothing accounts for it", .init("memory that it takes")),
    "hardware-error": .init(
      "the hardware is broken", .init("mce_exception_count", "0"), .init("tainted_mask", "bit 4 clear"),
      .init("num_poisoned_pages")),
    "driver-error": .init("the log tells of {0}", .init("the log")),
    "init-stopped": .init(
      "{0}, the first process, is stopped or dead", .init("its state", "one that goes on"), .init("the log")),
    "transmit-stuck": .init("{0} sends nothing: its card does not take what it is given", .init("netdev_queue.state")),
    "tcp-memory": .init("TCP has {seen} pages of memory, nearly all that it may have", .init("tcp_memory_allocated")),
    "cgroup-limit": .init("{0} is at a limit", .init("bytes of memory"), .init("tasks")),
    // Attacks.
    "changed-data": .init("the kernel's read-only data changed: {0}", .init("page", "what was learned of this boot")),
    "redirected-tables": .init("{0} has another kernel mapped", .init("entry", "as in init_top_pgt")),
    "miner": .init(
      "{0} computes all the time and talks to others as miners do", .init("time on CPUs", unit: " s"), .init("TCP"),
      .init("its own memory")),
    "key-changed": .init(
      "whom the device lets in was changed: {0}", .init("what was done"), .init("its rights"), .init("by")),
    "key-refused": .init("{0} asked to be let in, which nobody has allowed"),
    "key-used": .init("{0} asked the device", .init("memory read", unit: " bytes"), .init("monitors run")),
    "memory-lost": .init("the memory of the host was taken away from the device"),
    "taint-vanished": .init(
      "the kernel's taint was cleared", .init("taints of module"), .init("tainted_mask"), .init("the log")),
    "hidden-module": .init(
      "{0} is loaded and not in the list of modules: it hides",
      .init("memory that load_module asked for", "the memory of a module of the list", unit: " bytes"),
      .init("memory that", "the memory of a module of the list", unit: " bytes"),
      .init("functions that ftrace knows there", "none"),
      .init("a function that ftrace knows", "one of a module of the list")),
    "stolen-credentials": .init(
      "{0} has the credentials of another user than it belongs to: they were written over", .init("cred.uid")),
    "shared-credentials": .init("{0} has the very credentials of another", .init("real_cred", "one of its own")),
    "broken-confinement": .init(
      "{0} was freed from its confinement", .init("seccomp", "mode 2"), .init("no_new_privs", "1, as before")),
    "task-marked": .init("{0} has a flag that its kernel does not know", .init("flags")),
    "traced-process": .init("{0} is traced by another process", .init("ptrace")),
    "foreign-hook": .init(
      "{0} leads to code that it ought not to lead to",
      .init("what", "code of the kernel, of a module, or of a BPF program")),
    "hidden-process": .init(
      "{0} is in one list of tasks and not in the other: it is being hidden", .init("its task_struct", "in both")),
    "helper-path": .init(
      "the kernel starts a program of somebody's as root, by {0}", .init("modprobe_path"), .init("core_pattern")),
    "release-agent": .init(
      "the kernel starts a program of somebody's as root, by {0}", .init("release_agent_path", "nothing")),
    "ownerless-code": .init(
      "executable memory belongs to nothing: {0}",
      .init("executable pages", "the kernel's text, a module, or code that the kernel made", unit: " bytes")),
    "writable-code": .init(
      "{0} is writable and executable at once",
      .init("pages that can be written and executed", "either", unit: " bytes")),
    "changed-text": .init("the code of {0} was changed", .init("code")),
    "foreign-operations": .init(
      "{0} points to {1}, which belongs to nothing",
      .init("", "code of the kernel, of a module, or that the kernel made")),
    "foreign-thread": .init(
      "{0}, a thread of the kernel, runs code that belongs to nothing",
      .init("the function that the thread was started with", "one of the kernel or of a module of the list")),
    "foreign-frame": .init(
      "{0} sleeps in a call that code made which belongs to nothing", .init("frame", "code with an owner")),
    "hidden-program": .init(
      "{0} is there and not in the table of programs: it hides",
      .init("the image of a program", "a program of the table")),
    "fileless-process": .init(
      "{0} runs a program that has no file, or lies where anybody may put one", .init("mm.exe_file")),
    "preloaded-library": .init(
      "{0} has a library loaded before all others", .init("its environment"),
      .init("its size", "no such file", unit: " bytes")),
    "reverse-shell": .init(
      "{0} is a shell for somebody far away", .init("descriptors 0 and 1", "a terminal, a file or a pipe"),
      .init("its program")),
    "packet-socket": .init(
      "{0} looks at packets below the network stack", .init("sk_filter", "no filter"), .init("its program"),
      .init("promiscuity")),
    "kthread-impostor": .init(
      "{0} is called as a thread of the kernel is, and is none", .init("task_struct.flags", "PF_WQ_WORKER (0x20)"),
      .init("mm", "none, as threads of the kernel have it")),
    "injected-code": .init(
      "{0} has code that came from no file of its own", .init("pages of code that are its own", "the file's")),
    "stolen-capabilities": .init("{0} has capabilities that it was not given", .init("capabilities")),
    "defence-off": .init(
      "{0} is off", .init("randomize_va_space"), .init("sysctl_perf_event_paranoid"), .init("ftrace_enabled")),
    "altered-identity": .init(
      "what the kernel says of itself was altered", .init("symbols and types", "those of this build"),
      .init("the table of symbols", "what the linker put there"),
      .init("the description of types", "what the linker put there"), .init("the note for crash tools", "VMCOREINFO"),
      .init("uname"), .init("the banner"), .init("the top page table", "one that maps it where it lies")),
    "iomem-altered": .init(
      "RAM has another name, or is in no range of memory: {0}", .init("its name", "System RAM"),
      .init("pages of all nodes")),
    "bpf-abuse": .init("{0} can watch or change others", .init("instruction")),
    // Changes.
    "clock-source": .init("the kernel tells time by another clock than before", .init("curr_clocksource")),
    "clock-jump": .init("the clock jumped", .init("seconds since 1970 at boot, by the host's clock")),
    "cpu-offline": .init("{0} is off line", .init("__cpu_online_mask")),
    "link-down": .init("{0} is up and has no link", .init("carrier", "a carrier")),
    "route-gone": .init("{0} is gone", .init("the main table")),
    "fs-readonly": .init("{0} became read-only", .init("s_flags", "writable"), .init("the log")),
    "kexec-loaded": .init(
      "another kernel is loaded and takes this one's place at the next reboot", .init("kexec_image", "none")),
    "service-gone": .init("{0} has no process any more", .init("processes")),
    "module-new": .init("{0} is not one that was learned", .init("bytes of text")),
    "defence-lowered": .init("{0} was lowered"),
    "bpf-attached": .init(
      "{0} is new, and sees packets or decides on rights", .init("its tag", "one that was learned")),
  ]

  /// The piece whose words `what` begins with: that of the longest.
  func piece(for what: String) -> Piece? {
    evidence.filter { what.hasPrefix($0.what) }.max { $0.what.utf8.count < $1.what.utf8.count }
  }

  /// The sentence about these subjects.
  ///
  /// Where a subject or a number is not there that it speaks of, a question mark stands for it.
  func text(_ subjects: [Subject], seen: String?, isCut: Bool) -> String {
    let names = subjects.map(\.text)
    var text = sentence
    for (mark, value) in [
      ("{all}", names.joined(separator: isCut ? ", " : " and ") + (isCut ? " and more" : "")),
      ("{0}", names.first ?? "?"), ("{1}", names.dropFirst().first ?? "?"), ("{seen}", seen ?? "?"),
    ] {
      guard let range = text.firstRange(of: mark) else { continue }
      text.replaceSubrange(range, with: value)
    }
    return text
  }
}
