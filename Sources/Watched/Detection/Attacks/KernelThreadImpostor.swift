public import KernelViews

/// A process that is called as threads of the kernel are, or a thread of the kernel that is not what its name says.
public struct KernelThreadImpostor: Detector {
  public static let name = "kthread-impostor"
  public static let kind = Finding.Kind.attack
  public static let summary =
    "A process passes itself off as a thread of the kernel, or a thread of the kernel as a worker."
  public static let rule = """
    A task with memory of its own has a name that only threads of the kernel have, or arguments in brackets as ps writes \
    those; a thread of the kernel is called kworker/ and is not one of its work queues' (PF_WQ_WORKER).
    """
  public static let looksLike = """
    What the kernel starts by call_usermodehelper has its worker's name until it calls execve: it has no memory then. Daemons \
    write over their arguments: none of them in brackets only.
    """
  public static let remedy = """
    See what it runs and who started it: grassctl ps --tree, grassctl lsof -p PID, grassctl maps PID. A thread of the kernel \
    that belongs to no work queue runs a module's code: grassctl stack PID names it.
    """
  public static let techniques = ["T1036.004", "T1036.011"]
  public static let baseline = Finding.Baseline.invariant

  /// How names of the kernel's own threads begin that nothing else is called.
  private static let prefixes = [
    "kworker/", "ksoftirqd/", "migration/", "cpuhp/", "rcu_preempt", "rcu_sched", "rcu_gp", "rcu_par_gp", "rcu_tasks_",
    "kthreadd", "kswapd", "kcompactd", "khugepaged", "khungtaskd", "kauditd", "oom_reaper", "kdevtmpfs", "kintegrityd",
    "kblockd", "jbd2/", "irq/", "idle_inject/", "scsi_eh_", "xfsaild/", "ext4-rsv-conver",
  ]

  // PF_WQ_WORKER, PF_EXITING (include/linux/sched.h).
  private static let isWorker: UInt64 = 0x20
  private static let isExiting: UInt64 = 0x4

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let table = try look.marks()
    let lines = Dictionary(try look.tasks().tasks.map { ($0.address, $0.commandLine) }) { first, _ in first }
    var sightings: [Sighting] = []
    for mark in table.marks where mark.task.state != .zombie && mark.task.state != .dead {
      let task = mark.task
      let name = task.comm.printable
      guard mark.flags & isExiting == 0 else { continue }
      if task.isKernelThread {
        guard name.hasPrefix("kworker/"), mark.flags & isWorker == 0 else { continue }
        sightings.append(
          Sighting(
            [.task(task)], .critical, .strong,
            "\(name) (\(task.tid)) is called as the kernel's workers are and belongs to no work queue",
            evidence: [
              .init(
                "task_struct.flags", at: task.address, seen: "0x" + String(mark.flags, radix: 16),
                expected: "PF_WQ_WORKER (0x20)")
            ]))
        continue
      }
      guard mark.memory.rawValue != 0, task.isLeader else { continue }
      let line = (lines[task.address] ?? []).printable
      let hasBrackets = line.hasPrefix("[") && line.split(separator: "\0").first?.hasSuffix("]") == true
      guard hasBrackets || prefixes.contains(where: { name.hasPrefix($0) }) else { continue }
      sightings.append(
        Sighting(
          [.task(task)], .critical, hasBrackets ? .hint : .strong,
          "\(name) (\(task.tid)) is called as a thread of the kernel is, and is a process of user \(task.uid)",
          evidence: [
            .init(
              "mm", at: mark.memory, seen: hasBrackets ? "memory of its own, called \(line)" : "memory of its own",
              expected: "none, as threads of the kernel have it")
          ]))
    }
    return Sightings(sightings, outOf: table.marks.count, faults: table.faults)
  }
}
