public import KernelViews
import Memory

/// Tasks that wait for each other's locks in a circle.
public struct Deadlock: Detector {
  public static let name = "deadlock"
  public static let kind = Finding.Kind.fault
  public static let summary = "Tasks wait for each other's locks in a circle: none of them will ever go on."
  public static let rule = """
    From each lock that is waited for to its owner, and from there to the lock that the owner waits for: where that comes back, \
    it is a circle. Both looks agree on the locks, on the tasks and on how often each was switched.
    """
  public static let looksLike = """
    Waiters that can be interrupted or that back off: their circle is gone in the second look. Readers of a rwsem have no \
    owner that is known for sure, so a circle through one is a hint.
    """
  public static let remedy = """
    See the members: grassctl locks, grassctl stack PID. Nothing but a reboot frees the locks; take the memory first, it is \
    what a kernel developer needs.
    """
  public static let baseline = Finding.Baseline.invariant

  private struct Step {
    let lock: KernelLock
    let waiter: Int32
    let owner: Int32
  }

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let locks = try look.locks()
    let marks = try look.marks()
    let byTid = Dictionary(marks.marks.map { ($0.task.tid, $0) }) { first, _ in first }
    var next: [Int32: Step] = [:]
    for lock in locks.locks {
      guard let owner = lock.owner else { continue }
      for waiter in lock.waiters { next[waiter.tid] = Step(lock: lock, waiter: waiter.tid, owner: owner.tid) }
    }
    var sightings: [Sighting] = []
    var done: Set<Int32> = []
    for start in next.keys.sorted() where !done.contains(start) {
      var path: [Step] = []
      var at = start
      while let step = next[at], !path.contains(where: { $0.waiter == at }), !done.contains(at) {
        path.append(step)
        at = step.owner
      }
      done.formUnion(path.map(\.waiter))
      guard let first = path.firstIndex(where: { $0.waiter == at }) else { continue }
      var circle = Array(path[first...])
      // Begun with the smallest number, a circle is the same wherever the search came upon it.
      let least = circle.indices.min { circle[$0].waiter < circle[$1].waiter } ?? 0
      circle = Array(circle[least...] + circle[..<least])
      sightings.append(sighting(of: circle, byTid, now: marks.now))
    }
    return Sightings(sightings, faults: locks.faults + marks.faults)
  }

  private static func sighting(of circle: [Step], _ marks: [Int32: TaskMark], now: UInt64) -> Sighting {
    func name(_ tid: Int32) -> String { "\(marks[tid].map { $0.task.comm.printable } ?? "?") (\(tid))" }
    // Of a task that is in no list, nothing is proven but that a lock names it.
    let isSure = circle.allSatisfy { step in
      marks[step.waiter] != nil && (step.lock.kind != .rwsem || (step.lock.readers ?? 0) == 0)
    }
    let since = circle.compactMap { marks[$0.waiter]?.lastRun }.max().map { now > $0 ? now - $0 : 0 }
    let who =
      circle.count == 1
      ? "\(name(circle[0].waiter)) waits for a lock that it holds itself"
      : circle.count == 2
        ? "\(name(circle[0].waiter)) and \(name(circle[1].waiter)) wait for each other's lock"
        : "\(Text.list(circle.map { name($0.waiter) }, most: 8)) wait for each other's locks in a circle"
    return Sighting(
      circle.map { step in marks[step.waiter].map { .task($0.task) } ?? .task(tid: step.waiter, start: 0, comm: []) },
      .critical, isSure ? .proven : .hint,
      who + (since.map { ", since \(Text.seconds($0)) s" } ?? ""),
      evidence: circle.map { step in
        .init(
          "\(step.lock.kind.rawValue) that \(name(step.waiter)) wants and \(name(step.owner)) holds",
          at: step.lock.address, symbol: step.lock.symbol)
      },
      persists: circle.flatMap { [$0.lock.address.rawValue, marks[$0.waiter]?.switches ?? 0] },
      related: Set(circle.map { .lock($0.lock.address, name: $0.lock.symbol) }))
  }

  /// Who waits in the circle, and who waits for a lock of it.
  public static func explains(_ finding: Finding, effect: Finding) -> Bool {
    effect.detector == HungTask.name
      && (!finding.related.isDisjoint(with: effect.related) || !Set(finding.subjects).isDisjoint(with: effect.related))
  }
}
