import CodeViews
public import KernelViews
import Memory

/// Work of the kernel that is not done.
public struct WorkQueueStall: Detector {
  public static let name = "workqueue-stall"
  public static let kind = Finding.Kind.fault
  public static let summary = "Work of the kernel waits, and the worker that should do it does not come to an end."
  public static let rule = """
    A pool has works that wait, and none of its workers is idle, or none was begun for 5 s (worker_pool.watchdog_ts): a worker that \
    does not give up its CPU lets no other begin. Or a queue holds works back, for it does as many as it may, and none of these was on a \
    CPU for 5 s. In both looks the same worker does the same work and did not give up its CPU by itself, \
    and the same work is the first to wait: for 5 s a warning, for 30 s critical. Where it is not known for how long: a notice.
    """
  public static let looksLike =
    "Works that sleep for long by design: nothing waits behind them, for their pool starts another worker."
  public static let remedy = "See what the worker does: grassctl stack PID, grassctl workqueues."
  public static let goesByTime = true
  public static let baseline = Finding.Baseline.threshold

  private static let stalled: UInt64 = 5_000_000_000
  private static let critical: UInt64 = 30_000_000_000

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let table = try look.workQueues()
    let marks = try look.marks()
    let byTid = Dictionary(marks.marks.map { ($0.task.tid, $0) }) { first, _ in first }
    func stuck(_ workers: [PoolWorker]) -> [Stuck] {
      workers.compactMap { worker in
        guard let function = worker.function, let mark = byTid[worker.tid] else { return nil }
        // One that runs spends its time there; its clock was counted at the last tick.
        return Stuck(
          worker: worker, function: function, mark: mark, time: marks.now > mark.lastRun ? marks.now - mark.lastRun : 0)
      }
    }
    var sightings: [Sighting] = []
    for pool in table.pools where pool.pending > 0 {
      let stands = pool.lastStart == 0 ? 0 : try look.nanoseconds(sinceTick: pool.lastStart) ?? 0
      guard pool.idle == 0 || stands >= stalled else { continue }
      let busy = stuck(table.workers.filter { $0.pool == pool.id })
      // One that runs is why no other does; where none runs, it is the one that sleeps longest.
      guard let worst = busy.first(where: \.isRunning) ?? busy.max(by: { $0.time < $1.time }) else { continue }
      let time = max(stands, worst.isRunning ? 0 : worst.time)
      guard time >= stalled || worst.isRunning else { continue }
      let queue = table.works.first { $0.tid == worst.worker.tid }?.queue ?? []
      sightings.append(
        sighting(
          queue.isEmpty ? "pool \(pool.id)" : queue.printable, pool.pending, "pool \(pool.id)", worst, time, busy,
          first: table.works.first { $0.state == .pending && $0.pool == pool.id }))
    }
    // A queue that may do only so many works at once, and whose works do not end.
    for queue in table.queues where queue.inactive > 0 && queue.active > 0 {
      let running = Set(table.works.filter { $0.state == .running && $0.queue == queue.name }.compactMap(\.tid))
      let busy = stuck(table.workers.filter { running.contains($0.tid) })
      // Where one of them ends, another begins.
      guard let worst = busy.min(by: { $0.time < $1.time }), worst.time >= stalled, !worst.isRunning else { continue }
      sightings.append(
        sighting(
          queue.name.printable, queue.inactive, queue.name.printable, worst, worst.time, busy,
          first: table.works.first { $0.state == .inactive && $0.queue == queue.name }))
    }
    return Sightings(sightings, faults: table.faults + marks.faults)
  }

  /// A worker, and for how long it has not come to run.
  private struct Stuck {
    var worker: PoolWorker
    var function: CodePlace
    var mark: TaskMark
    var time: UInt64
    var isRunning: Bool { mark.task.state == .running }
  }

  /// That `count` works wait in `place` behind the worst of those that are `busy`, for `time`.
  private static func sighting(
    _ subject: String, _ count: Int, _ place: String, _ worst: Stuck, _ time: UInt64, _ busy: [Stuck], first: WorkItem?
  ) -> Sighting {
    let since = time < stalled ? "" : ", since \(Text.seconds(time)) s"
    return Sighting(
      [.workQueue(subject), .task(worst.mark.task)],
      time >= critical ? .critical : time >= stalled ? .warning : .notice,
      .strong, "\(count) \(count == 1 ? "work waits" : "works wait") behind \(worst.function.name)\(since)",
      evidence: [
        .init(
          "what worker \(worst.worker.tid) does", at: worst.function.address, symbol: worst.function.symbol,
          seen: "\(count) works wait behind it in \(place)", expected: "none")
      ],
      persists: [
        worst.mark.voluntarySwitches, worst.worker.address.rawValue, worst.function.address.rawValue,
        first?.address.rawValue ?? 0,
      ],
      related: Set(busy.map { .task($0.mark.task) }))
  }

  public static func explains(_ finding: Finding, effect: Finding) -> Bool {
    effect.detector == HungTask.name && !finding.related.isDisjoint(with: effect.related)
  }
}
