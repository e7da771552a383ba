/// How long after a request it is best to look for its answer for the first time.
///
/// A read that comes too early costs a whole round trip more; one that waits too long, that wait. The best time is a
/// little more than the monitor takes, which is learned: each first read that came too early makes the wait longer by a
/// quarter, each that did not a little shorter, so that about one in sixteen is too early. It never waits longer than a
/// read takes: then looking twice is as good.
struct AnswerDelay {
  /// In nanoseconds.
  private(set) var nanoseconds: UInt64 = 0
  /// How long a read takes, smoothed.
  private var trip: UInt64 = 0

  private static let step: UInt64 = 200

  /// Learns from a first read that took so many nanoseconds.
  mutating func learn(found: Bool, took: UInt64) {
    trip = trip - trip / 8 + took / 8
    nanoseconds = found ? nanoseconds - nanoseconds / 64 : nanoseconds + nanoseconds / 4 + Self.step
    nanoseconds = min(nanoseconds, trip)
  }
}
