import CRegion
import KernelViews
public import Records

/// What the numbers of a device's findings mean: the same detectors as those of a check, told from what the device wrote.
public enum DeviceDetectors {
  /// The detector that each number stands for, and how its sentence is made.
  private struct Declaration: Sendable {
    let detector: any Detector.Type
    /// What is wrong, on what: one sentence without a full stop.
    let title: @Sendable (FindingRecord) -> String
    /// What the kinds of evidence are.
    var evidence: [UInt32: Evidence] = [:]
  }

  /// How a piece of evidence is told.
  private struct Evidence: Sendable {
    let what: String
    var unit = Unit.number
    var hasExpectation = true

    enum Unit: Sendable {
      case number, hexadecimal, nanoseconds, signed
    }
  }

  private static let declarations: [UInt32: Declaration] = [
    GRASS_DETECTOR_OBSERVER.rawValue: .init(
      detector: SuspendedDetector.self,
      title: {
        "a detector of the device ended early too often and is suspended: "
          + ($0.subjects.first.map { $0.name.isEmpty ? "number \($0.values[0])" : $0.name.printable } ?? "one of them")
      },
      evidence: [1: .init(what: "the fault that ended it", hasExpectation: false)]),
    GRASS_DETECTOR_PANIC.rawValue: .init(
      detector: Panic.self,
      title: {
        "the kernel panicked on CPU \($0.evidence.first.map { "\(Int32(truncatingIfNeeded: $0.seen))" } ?? "?")"
      },
      evidence: [1: .init(what: "panic_cpu", unit: .signed)]),
    GRASS_DETECTOR_OOPS.rawValue: .init(
      detector: Oops.self, title: { _ in "the kernel survived an oops" },
      evidence: [1: .init(what: "tainted_mask", unit: .hexadecimal)]),
    GRASS_DETECTOR_WARNING.rawValue: .init(
      detector: KernelWarning.self, title: { _ in "the kernel warned of itself" },
      evidence: [1: .init(what: "tainted_mask", unit: .hexadecimal)]),
    GRASS_DETECTOR_TAINT_VANISHED.rawValue: .init(
      detector: TaintVanished.self, title: { _ in "the kernel's taint was cleared" },
      evidence: [
        1: .init(what: "tainted_mask", unit: .hexadecimal),
        2: .init(what: "taints of a module", unit: .hexadecimal, hasExpectation: false),
      ]),
    GRASS_DETECTOR_OOM_KILL.rawValue: .init(
      detector: OutOfMemoryKill.self,
      title: { record in
        let kills = record.evidence.first?.seen ?? 0
        return "memory ran out and the kernel killed \(kills == 1 ? "a process" : "\(kills) processes") since it booted"
      }, evidence: [1: .init(what: "the counter oom_kill")]),
    GRASS_DETECTOR_STOPPED.rawValue: .init(
      detector: Stopped.self,
      title: stopped,
      evidence: [
        1: .init(what: "how long the last CPU stands still", unit: .nanoseconds, hasExpectation: false),
        2: .init(what: "CPUs whose timer is overdue", hasExpectation: false),
      ].merging(hypervisor) { $1 }),
    GRASS_DETECTOR_PAUSED.rawValue: .init(
      detector: Paused.self,
      title: { record in
        "the hypervisor does not run the host's CPUs since \(Text.seconds(record.evidence.first?.seen ?? 0)) s: what goes by "
          + "time is not judged meanwhile, for \((record.evidence.first?.expected ?? 0) / 60_000_000_000) minutes at most"
      },
      evidence: [1: .init(what: "how long", unit: .nanoseconds, hasExpectation: false)].merging(hypervisor) { $1 }),
    GRASS_DETECTOR_HARD_LOCKUP.rawValue: .init(
      detector: HardLockup.self,
      title: { record in
        "CPU \(record.subjects.first?.values[0] ?? 0) takes no interrupts since "
          + "\(Text.seconds(record.evidence.first?.seen ?? 0)) s\(task(record, 1).map { ", in \($0)" } ?? "")"
      },
      evidence: [
        1: .init(what: "how long it stands still", unit: .nanoseconds, hasExpectation: false),
        2: .init(what: "when its timer was due, by the kernel's clock", unit: .nanoseconds, hasExpectation: false),
      ]),
    GRASS_DETECTOR_SOFT_LOCKUP.rawValue: .init(
      detector: SoftLockup.self,
      title: { record in
        "CPU \(record.subjects.first?.values[0] ?? 0) does not leave the kernel since "
          + "\(Text.seconds(record.evidence.first?.seen ?? 0)) s\(task(record, 1).map { ", in \($0)" } ?? "")"
      },
      evidence: [
        1: .init(what: "how long it ran nothing else", unit: .nanoseconds, hasExpectation: false),
        2: .init(what: "time that the task was charged for in the kernel", unit: .nanoseconds, hasExpectation: false),
      ]),
    GRASS_DETECTOR_SOFTIRQ.rawValue: .init(
      detector: SoftInterruptLivelock.self,
      title: { record in
        let kind =
          record.evidence.first { $0.kind == 2 }.flatMap { softInterrupt($0.seen) } ?? "of a kind that is not known"
        return
          "CPU \(record.subjects.first?.values[0] ?? 0) spends \(record.evidence.first?.seen ?? 0)% of its time on soft "
          + "interrupts, most of them \(kind)\(task(record, 1).map { ", in \($0)" } ?? "")"
      },
      evidence: [
        1: .init(what: "percent of two seconds"),
        2: .init(what: "the kind that counts fastest, a number of enum softirq", hasExpectation: false),
      ]),
    GRASS_DETECTOR_INTERRUPTS.rawValue: .init(
      detector: InterruptStorm.self,
      title: { record in
        "CPU \(record.subjects.first?.values[0] ?? 0) spends \(record.evidence.first?.seen ?? 0)% of its time on interrupts"
          + (record.evidence.first { $0.kind == 2 }.map { ", \($0.seen) a millisecond" } ?? "")
      },
      evidence: [
        1: .init(what: "percent of two seconds"),
        2: .init(what: "interrupts a millisecond", hasExpectation: false),
      ]),
    GRASS_DETECTOR_STOLEN_TIME.rawValue: .init(
      detector: StolenTime.self,
      title: { record in
        "CPU \(record.subjects.first?.values[0] ?? 0) waits \(record.evidence.first?.seen ?? 0)% of its time for the hypervisor, which "
          + "runs others"
      }, evidence: [1: .init(what: "percent of two seconds")]),
    GRASS_DETECTOR_HUNG_TASK.rawValue: .init(
      detector: HungTask.self,
      title: { record in
        let hung = record.evidence.first?.expected ?? 0
        let longest = record.evidence.map(\.seen).max() ?? 0
        return
          "\(hung) \(hung == 1 ? "task waits" : "tasks wait") and cannot be killed, since \(Text.seconds(longest)) s at most"
      }, evidence: [1: .init(what: "a task that waits", unit: .nanoseconds, hasExpectation: false)]),
    GRASS_DETECTOR_CREDENTIALS.rawValue: .init(
      detector: StolenCredentials.self,
      title: { record in
        "\(task(record, 0) ?? "a task") runs as user \(record.evidence.first?.seen ?? 0) and belongs to user "
          + "\(record.evidence.first?.expected ?? 0): its credentials were written over"
      }, evidence: [1: .init(what: "cred.uid")]),
    GRASS_DETECTOR_RCU_STALL.rawValue: .init(
      detector: RCUStall.self,
      title: { record in
        let mask = record.evidence.dropFirst().first?.seen ?? 0
        let cpus = (0..<64).filter { mask >> UInt64($0) & 1 == 1 }
        return "a grace period of RCU does not end since \(Text.seconds(record.evidence.first?.seen ?? 0)) s"
          + (cpus.isEmpty ? "" : ", it waits for CPU \(Text.list(cpus.map { "\($0)" }))")
      },
      evidence: [
        1: .init(what: "how long", unit: .nanoseconds, hasExpectation: false),
        2: .init(what: "CPUs that it waits for, a bit each", unit: .hexadecimal, hasExpectation: false),
      ]),
  ]

  /// The name of the detector of a number.
  static func name(_ number: UInt32) -> String { declarations[number]?.detector.name ?? "device-\(number)" }

  /// Whether the device keeps last words of what the detector of a number finds.
  static func areWordsKept(_ number: UInt32) -> Bool {
    [GRASS_DETECTOR_PANIC.rawValue, GRASS_DETECTOR_STOPPED.rawValue].contains(number)
  }

  /// The names of all of them.
  static var names: Set<String> { Set(declarations.values.map { $0.detector.name }) }

  /// Whether devices look for what this detector finds, too.
  package static func areAskedByDevices(_ name: String) -> Bool { names.contains(name) }

  /// What tells whether the hypervisor runs the CPUs.
  private static let hypervisor: [UInt32: Evidence] = [
    3: .init(what: "what the hypervisor says (1: it runs the CPUs, 2: somebody paused it)", hasExpectation: false),
    4: .init(what: "CPUs of which KVM says that it does not run them", hasExpectation: false),
  ]

  /// Of CPUs that all stand still: hung where something says that the hypervisor runs them.
  private static func stopped(_ record: FindingRecord) -> String {
    let since = "since \(Text.seconds(record.evidence.first?.seen ?? 0)) s"
    let said = record.evidence.first { $0.kind == 3 }?.seen
    let left = record.evidence.first { $0.kind == 4 }
    if said == UInt64(GRASS_HYPERVISOR_RUNS.rawValue) { return "all CPUs hang \(since): the hypervisor runs them" }
    if said == UInt64(GRASS_HYPERVISOR_PAUSED.rawValue) {
      return "all CPUs are stopped \(since): the hypervisor has them paused, for so long that it is a fault"
    }
    if let left {
      return left.seen < left.expected
        ? "all CPUs hang \(since): KVM runs \(left.expected - left.seen) of them"
        : "all CPUs are stopped \(since): KVM does not run them, for so long that it is a fault"
    }
    return "all CPUs are stopped \(since); whether they hang or somebody paused them, nothing here tells"
  }

  /// The name of a kind of soft interrupt, as /proc/softirqs has it (kernel/softirq.c); nil where there is none of the number.
  private static func softInterrupt(_ number: UInt64) -> String? {
    let names = ["HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "IRQ_POLL", "TASKLET", "SCHED", "HRTIMER", "RCU"]
    return number < UInt64(names.count) ? names[Int(number)] : nil
  }

  private static func task(_ record: FindingRecord, _ index: Int) -> String? {
    guard record.subjects.count > index, record.subjects[index].kind == GRASS_SUBJECT_TASK.rawValue else { return nil }
    let subject = record.subjects[index]
    return "\(subject.name.printable) (\(Int32(truncatingIfNeeded: subject.values[0])))"
  }

  /// The finding that a device's record tells of, with the watched kernel's release where that is known.
  ///
  /// A record of a detector that this version does not know says so. `others` has the ids of findings by their identities, for what
  /// this one follows from.
  public static func finding(
    _ record: FindingRecord, kernel: String = "", others: [UInt64: String] = [:]
  ) -> Finding {
    let causes = record.causes.compactMap { others[$0] }
    if record.detector == GRASS_DETECTOR_NAMED.rawValue { return LoggedFinding.finding(record, kernel, causes) }
    let declaration = declarations[record.detector]
    let subjects = record.subjects.map(subject)
    func moment(_ moment: FindingRecord.Moment) -> Finding.Moment {
      .init(guest: moment.guest == 0 ? nil : moment.guest, utc: Double(moment.utc) / 1e9)
    }
    let name = Self.name(record.detector)
    return Finding(
      id: Finding.id(name, subjects), detector: name,
      kind: [GRASS_FINDING_ATTACK.rawValue: .attack, GRASS_FINDING_CHANGE.rawValue: .change][UInt32(record.kind)]
        ?? .fault,
      severity: [
        GRASS_SEVERITY_NOTICE.rawValue: .notice, GRASS_SEVERITY_WARNING.rawValue: .warning,
        GRASS_SEVERITY_CRITICAL.rawValue: .critical,
      ][UInt32(record.severity)] ?? .info,
      confidence: [
        GRASS_CONFIDENCE_STRONG.rawValue: .strong, GRASS_CONFIDENCE_PROVEN.rawValue: .proven,
      ][UInt32(record.confidence)] ?? .hint,
      state: [
        GRASS_FINDING_CONFIRMED.rawValue: .confirmed, GRASS_FINDING_CLOSED.rawValue: .closed,
      ][UInt32(record.state)] ?? .open,
      first: moment(record.first), last: moment(record.last), count: Int(record.count), subjects: subjects,
      title: declaration?.title(record)
        ?? "the device's detector \(record.detector) found something that this version does not know",
      evidence: record.evidence.map { evidence($0, declaration) }, causes: causes,
      techniques: declaration?.detector.techniques ?? [],
      remedy: declaration?.detector.remedy ?? "Use a newer grassctl.",
      kernel: kernel, boot: Text.bootID(record.boot), baseline: declaration?.detector.baseline ?? .invariant)
  }

  private static func evidence(_ seen: FindingRecord.Evidence, _ declaration: Declaration?) -> Finding.Evidence {
    guard let known = declaration?.evidence[seen.kind] else {
      return .init("evidence \(seen.kind)", at: seen.address, seen: "\(seen.seen)", expected: "\(seen.expected)")
    }
    func text(_ value: UInt64) -> String {
      switch known.unit {
      case .number: "\(value)"
      case .hexadecimal: "0x\(String(value, radix: 16))"
      case .nanoseconds: "\(Text.seconds(value)) s"
      case .signed: "\(Int32(truncatingIfNeeded: value))"
      }
    }
    let what = seen.number == 0 ? known.what : "\(known.what), \(seen.number)"
    return .init(
      what, at: seen.address.rawValue == 0 ? nil : seen.address, seen: text(seen.seen),
      expected: known.hasExpectation ? text(seen.expected) : nil)
  }

  private static func subject(_ subject: FindingRecord.Subject) -> Subject {
    switch subject.kind {
    case GRASS_SUBJECT_CPU.rawValue: .cpu(Int(truncatingIfNeeded: subject.values[0]))
    case GRASS_SUBJECT_TASK.rawValue:
      .task(tid: Int32(truncatingIfNeeded: subject.values[0]), start: subject.values[1], comm: subject.name)
    case GRASS_SUBJECT_LOCK.rawValue: .lock(.init(subject.values[0]), name: nil)
    case GRASS_SUBJECT_MODULE.rawValue: .module(.init(subject.values[0]), name: subject.name)
    case GRASS_SUBJECT_DETECTOR.rawValue:
      .observer(subject.name.isEmpty ? "detector \(subject.values[0])" : subject.name.printable)
    default: .host
    }
  }
}
