import Synchronization

/// A value that costs time to read, kept for a moment.
///
/// Tools ask for the same thing again and again, entry by entry: read anew each time, it would cost them most of their time, and show
/// each entry as of another time.
final class Recent<Value: Sendable>: Sendable {
  private struct Kept: Sendable {
    var outcome: Result<Value, any Error>
    var read: ContinuousClock.Instant
    /// How long reading it took.
    var cost: Duration

    /// Whether it still serves.
    ///
    /// A value does for `least`; where reading takes longer, for so long that most of the time is not spent in it, a second at most.
    /// What could not be read does for as long as trying took, five seconds at most: where memory is broken for good, each who asks
    /// would try again.
    func isFresh(for least: Duration) -> Bool {
      let time =
        switch outcome {
        case .success: min(.seconds(1), max(least, cost * 10))
        case .failure: min(.seconds(5), cost)
        }
      return ContinuousClock.now - read < time
    }
  }

  private let kept = Mutex<Kept?>(nil)
  private let least: Duration

  /// Keeps a value for `least`: as a rule a tenth of a second, which people and tools do not notice.
  init(for least: Duration = .milliseconds(100)) { self.least = least }

  /// What is kept, or else what `read` gives now; others who ask meanwhile wait for the same reading.
  func value(_ read: () throws -> Value) throws -> Value {
    try kept.withLock { kept in
      if let kept, kept.isFresh(for: least) { return try kept.outcome.get() }
      let start = ContinuousClock.now
      let outcome = Result { try read() }
      kept = Kept(outcome: outcome, read: .now, cost: .now - start)
      return try outcome.get()
    }
  }

  /// Whether it was read once, and so long ago that nobody gets it any more.
  var isStale: Bool {
    // Whoever has the lock is reading it.
    kept.withLockIfAvailable { kept in kept.map { !$0.isFresh(for: least) } ?? false } ?? false
  }
}

/// Values that cost time to read, each kept for a moment by its key.
final class RecentTable<Key: Hashable & Sendable, Value: Sendable>: Sendable {
  private let values = Mutex<[Key: Recent<Value>]>([:])
  private let most: Int

  /// Keeps `most` of them; where there would be more, those go first that nobody gets any more.
  init(most: Int) { self.most = most }

  /// What is kept under `key`, or else what `read` gives now; others who ask for the same meanwhile wait for the same reading.
  func value(_ key: Key, _ read: () throws -> Value) throws -> Value {
    let recent = values.withLock { values in
      if let recent = values[key] { return recent }
      if values.count >= most {
        values = values.filter { !$0.value.isStale }
        if values.count >= most { values = [:] }
      }
      let recent = Recent<Value>()
      values[key] = recent
      return recent
    }
    return try recent.value(read)
  }
}
