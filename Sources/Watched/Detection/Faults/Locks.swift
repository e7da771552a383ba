public import KernelViews
import Memory

/// A lock whose owner will never give it back.
public struct OrphanedLock: Detector {
  public static let name = "orphaned-lock"
  public static let kind = Finding.Kind.fault
  public static let summary = "A lock that others wait for is held by a task that is gone: nobody will ever get it."
  public static let rule = """
    The owner that a contended lock names is in no list of tasks, or has ended. Both looks agree on the lock, and its waiters \
    were not switched between them.
    """
  public static let looksLike =
    "A lock that changes hands just then: its waiters move. The owner of a rwsem's readers is a hint only."
  public static let remedy = """
    See who waits: grassctl locks. An oops before it says who held it: grassctl dmesg. Nothing but a reboot frees it; take the \
    memory first.
    """
  public static let baseline = Finding.Baseline.invariant

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let locks = try look.locks()
    let marks = try look.marks()
    let byTid = Dictionary(marks.marks.map { ($0.task.tid, $0) }) { first, _ in first }
    let sightings = locks.locks.compactMap { lock -> Sighting? in
      guard !lock.waiters.isEmpty, let holder = lock.holder, lock.kind != .rwsem || (lock.readers ?? 0) == 0 else {
        return nil
      }
      // The lock's readers know the tasks of one moment, and so does the table of marks.
      if let mark = marks.marks.first(where: { $0.task.address == holder }), mark.task.state != .zombie,
        mark.task.state != .dead
      {
        return nil
      }
      let waiters = lock.waiters.compactMap { byTid[$0.tid] }
      guard !waiters.isEmpty else { return nil }
      let since = waiters.map(\.lastRun).min().map { marks.now > $0 ? marks.now - $0 : 0 } ?? 0
      let name = lock.symbol ?? "a \(lock.kind.rawValue)"
      return Sighting(
        [.lock(lock.address, name: lock.symbol)] + waiters.prefix(3).map { .task($0.task) }, .critical, .strong,
        "\(Text.list(waiters.map { "\($0.task.comm.printable) (\($0.task.tid))" })) "
          + "\(waiters.count == 1 ? "waits" : "wait") for \(name), whose owner is gone, since \(Text.seconds(since)) s",
        evidence: [
          .init(
            "the owner of the \(lock.kind.rawValue)", at: lock.address, symbol: lock.symbol,
            seen: lock.owner.map { "\($0.comm.printable) (\($0.tid)), which has ended" }
              ?? "\(holder), a task that is in no list",
            expected: "a task that lives")
        ], persists: [holder.rawValue] + waiters.map(\.switches),
        related: Set(waiters.map { .task($0.task) } + [.lock(lock.address, name: lock.symbol)]))
    }
    return Sightings(sightings, faults: locks.faults + marks.faults)
  }

  public static func explains(_ finding: Finding, effect: Finding) -> Bool {
    effect.detector == HungTask.name && !finding.related.isDisjoint(with: effect.related)
  }
}

/// Many tasks queue for one lock.
public struct LockConvoy: Detector {
  public static let name = "lock-convoy"
  public static let kind = Finding.Kind.fault
  public static let summary = "Many tasks queue for one lock, which everything that they do goes through."
  public static let rule = "More than 20 tasks wait for one lock, in both looks."
  public static let looksLike = "A burst: it is gone in the second look."
  public static let remedy = "See who holds it and what for: grassctl locks, grassctl stack PID of the owner."
  public static let goesByTime = true
  public static let baseline = Finding.Baseline.threshold

  private static let many = 20

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let locks = try look.locks()
    let sightings = locks.locks.filter { $0.waiters.count > many }.map { lock in
      let owner = lock.owner.map { ", held by \($0.comm.printable) (\($0.tid))" } ?? ""
      return Sighting(
        [.lock(lock.address, name: lock.symbol)], .warning, .strong,
        "\(lock.waiters.count) tasks queue for \(lock.symbol ?? "a \(lock.kind.rawValue) at \(lock.address)")\(owner)",
        evidence: [
          .init(
            "waiters of the \(lock.kind.rawValue)", at: lock.address, symbol: lock.symbol,
            seen: "\(lock.waiters.count), among them \(Text.list(lock.waiters.map { $0.comm.printable }))",
            expected: "\(many) at most")
        ], related: [.lock(lock.address, name: lock.symbol)])
    }
    return Sightings(sightings, faults: locks.faults)
  }

  public static func explains(_ finding: Finding, effect: Finding) -> Bool {
    effect.detector == HungTask.name && !finding.related.isDisjoint(with: effect.related)
  }
}
