import Detection
import Host
import KernelViews
import LinuxKernel
import Output
import Remote

/// Checks: all detectors, asked of each host's memory from this side, at leisure and when its device has found something.
///
/// A device's own detectors are those that can look all the time; what hides from them, or takes longer to see, is found here.
extension FleetWatch {
  /// How long after a check news may start the next one, in nanoseconds.
  private static let shortestPause: UInt64 = 5_000_000_000
  /// How long a check may take before the host counts as slow, and in all, in seconds.
  private static let (slowCheck, longestCheck) = (10.0, 60.0)

  /// Nanoseconds between two checks of a host; nil where there are none.
  private var checkPeriod: UInt64? {
    let seconds = configuration.withLock { $0.detectorsEvery }
    return seconds > 0 ? UInt64(seconds * 1e9) : nil
  }

  /// Starts a host's check where it is due, and plans the first: those of all hosts are spread over the whole period.
  func planCheck(_ host: WatchedHost, _ condition: inout WatchedHost.Condition, now: UInt64) {
    guard let period = checkPeriod, !condition.isChecked else { return }
    guard let due = condition.checkDue else {
      condition.checkDue = now + UInt64(Double(period) * Self.part(of: host.name))
      return
    }
    // What was planned by a longer period is not waited for.
    guard now >= min(due, now + period) else {
      if due > now + period { condition.checkDue = now + period }
      return
    }
    condition.isChecked = true
    let wasSlow = condition.lastCheck.map { $0.problem != nil || $0.duration > Self.slowCheck } ?? false
    (wasSlow ? rechecking : checking).add { [self] in check(host) }
  }

  /// Has a host checked soon, since there is news of it.
  func hastenCheck(_ condition: inout WatchedHost.Condition) {
    guard checkPeriod != nil else { return }
    let now = Moments.nanoseconds
    let soon = max(now, (condition.lastCheck?.at ?? 0) + Self.shortestPause)
    condition.checkDue = min(condition.checkDue ?? .max, soon)
    // A check that is under way may have looked before.
    condition.isNewsWaiting = condition.isChecked
  }

  /// A number from 0 to 1 that is a name's own; those of similar names lie apart.
  static func part(of name: String) -> Double {
    var hash = name.utf8.reduce(UInt64(0xcbf2_9ce4_8422_2325)) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
    // FNV-1a of short names has little in its high bits: MurmurHash3's last step spreads it.
    hash = (hash ^ hash >> 33) &* 0xff51_afd7_ed55_8ccd
    hash = (hash ^ hash >> 33) &* 0xc4ce_b9fe_1a85_ec53
    return Double((hash ^ hash >> 33) >> 11) / Double(UInt64(1) << 53)
  }

  private func check(_ host: WatchedHost) {
    let start = Moments.nanoseconds
    var problem: String?
    do {
      let report = try DeadlineMemory.within(Self.longestCheck) { try look(at: host) }
      if let first = report.failures.first(where: { !report.lacks.contains($0.detector) }) {
        problem = Self.oneLine("\(first.detector): \(first.reason)")
      }
      take(report, of: host)
    } catch {
      problem = Self.oneLine("\(error)")
    }
    let end = Moments.nanoseconds
    host.condition.withLock { condition in
      condition.isChecked = false
      condition.lastCheck = (end, Moments.utc, Double(end - start) / 1e9, problem)
      condition.checks += 1
      condition.checkDue = end + (condition.isNewsWaiting ? Self.shortestPause : checkPeriod ?? 0)
      condition.isNewsWaiting = false
    }
  }

  /// What a check found, and what the host's device had found by then.
  private struct Checked {
    var report: Check.Report
    var device: Set<String>
    var failures: [(detector: String, reason: String)] { report.failures }
    var lacks: Set<String> { report.lacks }
  }

  private func look(at host: WatchedHost) throws -> Checked {
    guard let session = try session(host.name, slots: 4) else { throw OpenKernels.NoSuchHost() }
    defer { session.close() }
    let memory = try RemoteMemory(session: session)
    let kernel = try Kernel(memory: DeadlineMemory(memory), hint: memory.kernelHint, known: builds)
    host.condition.withLock { $0.kernel = KernelName(kernel) }
    var check = Check()
    check.texts = host.texts
    if try session.info().features.contains(.findings) {
      let ids = host.condition.withLock { $0.ids }
      check.device = try session.openFindings().map {
        DeviceDetectors.finding($0, kernel: kernel.release, others: ids)
      }
    }
    let device = Set(check.device.map(\.id))
    return Checked(
      report: check.run(on: kernel) { SystemCall.sleep(nanoseconds: UInt64($0 / .nanoseconds(1))) }, device: device)
  }

  /// Keeps what is new and what is over.
  private func take(_ checked: Checked, of host: WatchedHost) {
    let report = checked.report
    // What the device has found it also ends.
    let own = report.findings.filter { report.asked.contains($0.id) && !checked.device.contains($0.id) }
    let blind = Set(report.failures.map(\.detector) + report.partial.map(\.detector))
    let seen = Set(report.findings.map(\.id))
    let (changes, over) = host.condition.withLock { condition -> ([FindingChange], [String]) in
      let changes = own.compactMap { finding -> FindingChange? in
        let before = condition.checked[finding.id]?.open
        let open = OpenFinding(finding)
        // Its sentence may have numbers that go on: said again is what weighs otherwise.
        if let before, before.severity == open.severity, before.confidence == open.confidence {
          condition.checked[finding.id]?.missed = 0
          return nil
        }
        return FindingChange(finding, json: FleetJSON.bytes(JSON(finding.value)))
      }
      var over: [String] = []
      for (id, gone) in condition.checked where !seen.contains(id) && !blind.contains(gone.open.detector) {
        condition.checked[id]?.missed += 1
        if gone.missed > 0 { over.append(id) }
      }
      return (changes, over)
    }
    guard !changes.isEmpty || !over.isEmpty else { return }
    let now = Moments.utc
    let closed: [FindingChange]
    do throws(StoreError) {
      closed = try store.keepChecked(changes, over: over, of: host.name, at: now)
      stored()
    } catch {
      // The next check finds it again.
      return failed(error)
    }
    host.condition.withLock { condition in
      for change in changes { condition.checked[change.id] = (change.open, 0) }
      for id in over { condition.checked[id] = nil }
      settle(.found(condition.found), host, &condition, Moments.now)
    }
    let findings = Dictionary(own.map { ($0.id, $0) }) { first, _ in first }
    for change in changes {
      images.see(host.name, change.open)
      events.publish(
        FleetEvent(
          .finding, host: host.name, json: FleetJSON.event(host.name, change),
          subject: findings[change.id].map { .finding($0) } ?? .other))
    }
    for change in closed {
      events.publish(
        FleetEvent(
          .finding, host: host.name, json: FleetJSON.event(host.name, change),
          subject: .kept(change.open, last: change.last, isClosed: true)))
    }
  }
}
