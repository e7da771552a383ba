public import KernelViews

/// Processes that share one set of credentials, or have the kernel's own.
public struct SharedCredentials: Detector {
  public static let name = "shared-credentials"
  public static let kind = Finding.Kind.attack
  public static let summary =
    "A process has the credentials of the kernel itself, or of another process: it was given them."
  public static let rule = """
    Each process has a struct cred of its own, made when it was; only threads of one process share it. No process has init_cred. \
    Judged on real_cred.
    """
  public static let looksLike =
    "Threads, and tasks of the kernel that act for others for a moment: they change cred only."
  public static let remedy = StolenCredentials.remedy
  public static let techniques = ["T1068"]
  public static let baseline = Finding.Baseline.invariant

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let table = try look.marks()
    let own = look.kernel.symbols.address(of: "init_cred")
    // Kernel threads have no memory, and share what they like.
    let processes = table.marks.filter { $0.memory.rawValue != 0 && !$0.task.isKernelThread }
    var users: [VirtualAddress: [TaskMark]] = [:]
    for mark in processes { users[mark.credentials, default: []].append(mark) }
    var sightings: [Sighting] = []
    for mark in processes where mark.task.isLeader {
      let others = (users[mark.credentials] ?? []).filter { $0.task.tgid != mark.task.tgid }
      let who = "\(mark.task.comm.printable) (\(mark.task.tid))"
      if mark.credentials == own {
        sightings.append(
          Sighting(
            [.task(mark.task)], .critical, .strong, "\(who) has the credentials of the kernel itself",
            evidence: [.init("real_cred", at: mark.credentials, symbol: "init_cred", expected: "one of its own")],
            persists: [mark.credentials.rawValue]))
      } else if let first = others.min(by: { $0.task.startTime < $1.task.startTime }),
        first.task.startTime < mark.task.startTime
      {
        sightings.append(
          Sighting(
            [.task(mark.task)], .critical, .strong,
            "\(who) has the very credentials of \(first.task.comm.printable) (\(first.task.tid)), another process",
            evidence: [
              .init("real_cred", at: mark.credentials, seen: "that of \(first.task.tid)", expected: "one of its own")
            ],
            persists: [mark.credentials.rawValue]))
      }
    }
    return Sightings(sightings, outOf: processes.count, faults: table.faults)
  }
}

/// A process whose confinement was taken off from outside.
public struct BrokenConfinement: Detector {
  public static let name = "broken-confinement"
  public static let kind = Finding.Kind.attack
  public static let summary = "The filter of a process's system calls was switched off, which no process can do."
  public static let rule =
    "seccomp.mode is 0 and seccomp.filter is not null: a mode never goes back while filters are there."
  public static let looksLike = "A process that ends gives its filters back: it is left out."
  public static let remedy =
    "Treat the host as taken over: see what the process is (grassctl ps -p PID), and keep the memory."
  public static let techniques = ["T1562"]
  public static let baseline = Finding.Baseline.invariant

  public static let factsAreOfBoot = true

  /// Who gave up to gain rights.
  public static func facts(_ look: Look) throws(KernelError) -> [String: String] {
    let marks = try look.marks().marks.filter { $0.atomicFlags & 1 == 1 }
    return Dictionary(marks.map { ($0.key, "no_new_privs") }) { first, _ in first }
  }

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let table = try look.marks()
    let earlier = try before?.marks()
    let learned = try look.learned(by: Self.self)
    var sightings: [Sighting] = []
    for mark in table.marks where mark.task.state != .zombie && mark.task.state != .dead {
      let who = "\(mark.task.comm.printable) (\(mark.task.tid))"
      if mark.seccompMode == 0, mark.seccompFilter.rawValue != 0 {
        sightings.append(
          Sighting(
            [.task(mark.task)], .critical, .proven, "the filter of the system calls of \(who) was switched off",
            evidence: [.init("seccomp", at: mark.task.address, seen: "mode 0, with filters", expected: "mode 2")]))
      }
      guard mark.atomicFlags & 1 == 0 else { continue }
      let old = earlier?.marks.first {
        $0.task.address == mark.task.address && $0.task.startTime == mark.task.startTime
      }
      let wasLearned = learned?[mark.key] != nil
      guard wasLearned || old?.atomicFlags ?? 0 & 1 == 1 else { continue }
      var sighting = Sighting(
        [.task(mark.task)], .critical, .proven, "\(who) may gain rights again that it had given up",
        evidence: [.init("no_new_privs", at: mark.task.address, seen: "0", expected: "1, as before")])
      sighting.needsBothLooks = !wasLearned
      if wasLearned { sighting.baseline = .learned }
      sightings.append(sighting)
    }
    return Sightings(sightings, outOf: table.marks.count, faults: table.faults)
  }
}

/// A task with a flag that the kernel does not know.
public struct MarkedTask: Detector {
  public static let name = "task-marked"
  public static let kind = Finding.Kind.attack
  public static let summary = "A task has a flag that its kernel has no use for: rootkits mark those whom they hide so."
  public static let rule =
    "Bits of task_struct.flags that the series of the kernel does not use, for the series that are known."
  public static let looksLike = "Distributions that add flags: only series are judged whose flags were looked up."
  public static let remedy = "See what the task is: grassctl ps -p PID, grassctl lsof -p PID."
  public static let techniques = ["T1014"]
  public static let baseline = Finding.Baseline.invariant

  /// PF_ bits that have no meaning, by series (include/linux/sched.h of each).
  private static let unused: [String: UInt64] = [
    "6.1": 0x0000_4000 | 0x0001_0000 | 0x0080_0000 | 0x0100_0000 | 0x0200_0000 | 0x2000_0000 | 0x4000_0000,
    "6.12": 0x0200_0000 | 0x4000_0000,
  ]

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let series = look.kernel.release.split(separator: ".").prefix(2).joined(separator: ".")
    guard let mask = unused[series] else { return Sightings() }
    let table = try look.marks()
    let sightings = table.marks.filter { $0.flags & mask != 0 }.map { mark in
      Sighting(
        [.task(mark.task)], .warning, .strong,
        "\(mark.task.comm.printable) (\(mark.task.tid)) has a flag that Linux \(series) does not know",
        evidence: [
          .init(
            "flags", at: mark.task.address, seen: "0x\(String(mark.flags, radix: 16))",
            expected: "0x\(String(mask, radix: 16)) clear")
        ])
    }
    return Sightings(sightings, outOf: table.marks.count, faults: table.faults)
  }
}

/// A process that another one traces.
public struct TracedProcess: Detector {
  public static let name = "traced-process"
  public static let kind = Finding.Kind.change
  public static let summary = "A process is traced by another, which may read and change it."
  public static let rule = "task_struct.ptrace is not 0."
  public static let looksLike = "Debuggers: it is a notice."
  public static let remedy = "See who traces it: grassctl ps."
  public static let techniques = ["T1055.008"]
  public static let baseline = Finding.Baseline.tables

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let table = try look.marks()
    let sightings = table.marks.filter { $0.tracing != 0 && $0.task.isLeader && $0.task.state != .zombie }.map { mark in
      Sighting(
        [.task(mark.task)], .notice, .proven,
        "\(mark.task.comm.printable) (\(mark.task.tid)) is traced by another process",
        evidence: [.init("ptrace", at: mark.task.address, seen: "0x\(String(mark.tracing, radix: 16))", expected: "0")])
    }
    return Sightings(sightings, faults: table.faults)
  }
}
