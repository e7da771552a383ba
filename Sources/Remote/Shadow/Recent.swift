import Synchronization

/// A value that costs time to read, kept for a moment.
///
/// Tools ask for the same thing again and again, entry by entry: read anew each time, it would cost them most of their time, and show
/// each entry as of another time.
final class Recent<Value: Sendable>: Sendable {
  struct Kept: Sendable {
    var value: Value
    var read: ContinuousClock.Instant
    /// How long reading it took.
    var cost: Duration

    /// For a tenth of a second, which people and tools do not notice; where reading takes longer, for so long that most of the time
    /// is not spent in it, a second at most.
    var isFresh: Bool { isFresh(for: .milliseconds(100)) }

    func isFresh(for least: Duration) -> Bool {
      ContinuousClock.now - read < min(.seconds(1), max(least, cost * 10))
    }
  }

  private let kept = Mutex<Kept?>(nil)
  private let least: Duration

  /// Keeps a value for `least`, a second at most.
  init(for least: Duration = .milliseconds(100)) { self.least = least }

  /// What is kept, or else what `read` gives now; others who ask meanwhile wait for the same reading.
  ///
  /// What cannot be read is not kept.
  func value(_ read: () throws -> Value) throws -> Value {
    try kept.withLock { kept in
      if let kept, kept.isFresh(for: least) { return kept.value }
      let start = ContinuousClock.now
      let value = try read()
      kept = Kept(value: value, read: .now, cost: .now - start)
      return value
    }
  }
}
