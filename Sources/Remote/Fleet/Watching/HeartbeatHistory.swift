/// The newest looks at a host's line: how long each took, or that none came.
public struct HeartbeatHistory: Hashable, Sendable {
  /// Microseconds, oldest first; negative where no line came.
  public private(set) var samples: [Float] = []
  /// How many looks there were of each length: at most the bound of the same index, the last for all above.
  public private(set) var buckets = [UInt64](repeating: 0, count: HeartbeatHistory.bounds.count + 1)
  /// The sum of all, in seconds.
  public private(set) var sum = 0.0

  /// In seconds.
  public static let bounds = [0.000_01, 0.000_1, 0.001, 0.01, 0.1, 1]
  private static let room = 120

  public init() {}

  public mutating func add(seconds: Double) {
    keep(Float(seconds * 1e6))
    sum += seconds
    buckets[Self.bounds.firstIndex { seconds <= $0 } ?? Self.bounds.count] += 1
  }

  public mutating func addMissed() { keep(-1) }

  private mutating func keep(_ sample: Float) {
    if samples.count == Self.room { samples.removeFirst() }
    samples.append(sample)
  }

  public var count: UInt64 { buckets.reduce(0, +) }
}
