/// How far an acquisition has got.
public struct AcquisitionProgress: Sendable {
  public enum Stage: Sendable, Equatable {
    case copying
    /// The image is held against the memory, for the n-th time; so many pages differ so far.
    case comparing(round: Int, moved: UInt64)
  }

  public let stage: Stage
  /// Bytes of memory that are in the image, or were compared, and how many there are to be.
  public let done: UInt64
  public let total: UInt64
  /// Bytes that were in it already when this run began.
  public let resumed: UInt64
  /// Since this stage began.
  public let elapsed: Duration

  /// Bytes of memory a second, in this stage.
  public var rate: Double {
    let seconds = elapsed / .seconds(1)
    return seconds > 0 ? Double(done - resumed) / seconds : 0
  }

  /// How long the rest takes at that rate; nil where nothing has been read yet.
  public var left: Duration? { rate > 0 ? .seconds(Double(total - done) / rate) : nil }
}

extension AcquisitionProgress {
  /// That of an image in a store.
  package init(_ stage: Stage, of total: UInt64, done: UInt64, resumed: UInt64, elapsed: Duration) {
    self.init(stage: stage, done: done, total: total, resumed: resumed, elapsed: elapsed)
  }
}
