public import KernelViews
import Memory

/// Work of the kernel that is not done.
public struct WorkQueueStall: Detector {
  public static let name = "workqueue-stall"
  public static let kind = Finding.Kind.fault
  public static let summary = "Work of the kernel waits, and the worker that should do it does not come to an end."
  public static let rule = """
    A pool has works that wait, and none of its workers is idle, or none was begun for 5 s (worker_pool.watchdog_ts): a worker that \
    does not give up its CPU lets no other begin. In both looks the same worker does the same work and did not give up its CPU by itself, \
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
    var sightings: [Sighting] = []
    for pool in table.pools where pool.pending > 0 {
      let stands = pool.lastStart == 0 ? 0 : try look.nanoseconds(sinceTick: pool.lastStart) ?? 0
      guard pool.idle == 0 || stands >= stalled else { continue }
      let busy = table.workers.filter { $0.pool == pool.id && $0.function != nil }
      let stuck = busy.compactMap { worker -> (worker: PoolWorker, mark: TaskMark, time: UInt64)? in
        guard let mark = byTid[worker.tid] else { return nil }
        // One that runs spends its time there; its clock was counted at the last tick.
        let time = marks.now > mark.lastRun ? marks.now - mark.lastRun : 0
        return (worker, mark, time)
      }
      // One that runs is why no other does; where none runs, it is the one that sleeps longest.
      guard
        let worst = stuck.first(where: { $0.mark.task.state == .running }) ?? stuck.max(by: { $0.time < $1.time }),
        let function = worst.worker.function
      else { continue }
      let isRunning = worst.mark.task.state == .running
      let time = max(stands, isRunning ? 0 : worst.time)
      guard time >= stalled || isRunning else { continue }
      let queue = table.works.first { $0.tid == worst.worker.tid }?.queue ?? []
      let since = time < stalled ? "" : ", since \(Text.seconds(time)) s"
      sightings.append(
        Sighting(
          [.workQueue(queue.isEmpty ? "pool \(pool.id)" : queue.printable), .task(worst.mark.task)],
          time >= critical ? .critical : time >= stalled ? .warning : .notice, .strong,
          "\(pool.pending) \(pool.pending == 1 ? "work waits" : "works wait") behind \(function.name)\(since)",
          evidence: [
            .init(
              "what worker \(worst.worker.tid) does", at: function.address, symbol: function.symbol,
              seen: "\(pool.pending) works wait behind it in pool \(pool.id)", expected: "none")
          ],
          persists: [
            worst.mark.voluntarySwitches, worst.worker.address.rawValue, function.address.rawValue,
            table.works.first { $0.state == .pending && $0.pool == pool.id }?.address.rawValue ?? 0,
          ],
          related: Set(stuck.map { .task($0.mark.task) })))
    }
    return Sightings(sightings, faults: table.faults + marks.faults)
  }

  public static func explains(_ finding: Finding, effect: Finding) -> Bool {
    effect.detector == HungTask.name && !finding.related.isDisjoint(with: effect.related)
  }
}
