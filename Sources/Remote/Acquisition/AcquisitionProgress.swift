/// How far an acquisition has got.
public struct AcquisitionProgress: Sendable {
  /// Bytes of memory that are in the image, and that are to be in it.
  public let done: UInt64
  public let total: UInt64
  /// Bytes that were in it already when this run began.
  public let resumed: UInt64
  /// Since this run began.
  public let elapsed: Duration

  /// Bytes of memory a second, in this run.
  public var rate: Double {
    let seconds = elapsed / .seconds(1)
    return seconds > 0 ? Double(done - resumed) / seconds : 0
  }

  /// How long the rest takes at that rate; nil where nothing has been read yet.
  public var left: Duration? { rate > 0 ? .seconds(Double(total - done) / rate) : nil }
}

extension AcquisitionProgress {
  /// That of an image in a store.
  package init(of total: UInt64, done: UInt64, resumed: UInt64, elapsed: Duration) {
    self.init(done: done, total: total, resumed: resumed, elapsed: elapsed)
  }
}
