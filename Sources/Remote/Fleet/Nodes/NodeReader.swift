import Host

/// Answers scrapes of hosts: one look into a host's memory for all who ask at the same time.
///
/// Who asks waits no longer than they say, whatever the host does. Hosts whose last look was slow or failed have threads of their own, so
/// that those which hang hold up each other and nobody else.
final class NodeReader: Sendable {
  /// What a scrape gets.
  struct Scrape: Sendable {
    /// What the host's memory says, in Prometheus' format; empty where it cannot be read.
    var text = ""
    /// Seconds since the memory was last seen to change; nil where it was never seen.
    var age: Double?
    /// How long the look took, in seconds.
    var duration = 0.0
    /// Why the memory cannot be read; nil where it was.
    var problem: String?
    /// Collectors that had nothing to say, and why.
    var failures: [(collector: String, reason: String)] = []
  }

  /// A host's clock when it was last seen to move, and when that was, in seconds of the monotonic clock.
  private struct Movement {
    var uptime: UInt64
    var at: Double
  }

  private struct State {
    /// Who waits for the look that is under way, by host.
    var waiting: [String: [Int: CheckedContinuation<Scrape, Never>]] = [:]
    var last = 0
    var slow: Set<String> = []
    var movements: [String: Movement] = [:]
  }

  private let kernels: OpenKernels
  private let state = Locked(State())
  private let prompt: WorkPool
  private let hesitant: WorkPool

  /// How long a look may take before the host counts as slow, and in all, in seconds.
  private static let (slowLook, longestLook) = (2.0, 10.0)
  /// How many may wait at once.
  private static let mostWaiting = 4096

  init(_ kernels: OpenKernels) throws(SystemCallError) {
    self.kernels = kernels
    prompt = try WorkPool(name: "scrape", threads: 4)
    hesitant = try WorkPool(name: "scrape-slow", threads: 4)
  }

  func finish() {
    prompt.finish()
    hesitant.finish()
    let left = state.withLock { state in
      defer { state.waiting = [:] }
      return state.waiting.values.flatMap(\.values)
    }
    for one in left { one.resume(returning: Scrape(problem: "the service ends")) }
  }

  /// What a host's memory says now.
  ///
  /// - Parameters:
  ///   - host: its name.
  ///   - seconds: how long who asks waits.
  /// - Returns: it, or why there is nothing.
  func scrape(_ host: String, within seconds: Double) async -> Scrape {
    let number = state.withLock { state in
      state.last += 1
      return state.last
    }
    let timer = Task {
      try await Task.sleep(for: .seconds(seconds))
      let waiting = state.withLock { $0.waiting[host]?.removeValue(forKey: number) }
      waiting?.resume(returning: Scrape(problem: "the host was not read within \(seconds) s"))
    }
    defer { timer.cancel() }
    return await withCheckedContinuation { continuation in
      let (isFull, isFirst, isSlow) = state.withLock { state -> (Bool, Bool, Bool) in
        guard state.waiting.values.reduce(0, { $0 + $1.count }) < Self.mostWaiting else { return (true, false, false) }
        let isFirst = state.waiting[host] == nil
        state.waiting[host, default: [:]][number] = continuation
        return (false, isFirst, state.slow.contains(host))
      }
      if isFull { return continuation.resume(returning: Scrape(problem: "too many wait for an answer already")) }
      if isFirst { (isSlow ? hesitant : prompt).add { [self] in look(host) } }
    }
  }

  private func look(_ host: String) {
    // Nobody waits any more.
    let isWanted = state.withLock { state in
      if state.waiting[host]?.isEmpty == true { state.waiting[host] = nil }
      return state.waiting[host] != nil
    }
    guard isWanted else { return }
    let start = Moments.nanoseconds
    var scrape = Scrape()
    do {
      let look = try DeadlineMemory.within(Self.longestLook) {
        try NodeLook(at: try kernels.kernel(of: host).kernel)
      }
      var text = MetricsText()
      look.metrics.write(to: &text)
      scrape.text = text.text
      scrape.failures = look.failures
      scrape.age = age(of: host, look)
    } catch {
      kernels.drop(host)
      scrape.problem = "\(error)"
    }
    scrape.duration = Double(Moments.nanoseconds - start) / 1e9
    let waiting = state.withLock { state in
      if scrape.problem != nil || scrape.duration > Self.slowLook {
        state.slow.insert(host)
      } else {
        state.slow.remove(host)
      }
      return state.waiting.removeValue(forKey: host) ?? [:]
    }
    for one in waiting.values { one.resume(returning: scrape) }
  }

  /// How long ago the host's memory was last seen to change.
  ///
  /// Its clock is written at each tick. Of a host that is seen for the first time and does not tick, its clock says itself when it did
  /// last, as far as it went right.
  private func age(of host: String, _ look: NodeLook) -> Double {
    let now = Double(Moments.nanoseconds) / 1e9
    return state.withLock { state in
      if look.began.uptime != look.ended.uptime {
        state.movements[host] = Movement(uptime: look.ended.uptime, at: now)
      } else if let before = state.movements[host] {
        if before.uptime != look.ended.uptime { state.movements[host] = Movement(uptime: look.ended.uptime, at: now) }
      } else {
        let age = max(0, Moments.utc - Double(look.ended.wall) - 1)
        state.movements[host] = Movement(uptime: look.ended.uptime, at: now - age)
      }
      return max(0, now - (state.movements[host]?.at ?? now))
    }
  }
}
