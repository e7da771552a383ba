/// Times in microseconds, and what is said of them.
public struct Samples: Sendable {
  private let sorted: [Double]

  public init(microseconds: [Double]) { sorted = microseconds.sorted() }

  public var count: Int { sorted.count }
  public var minimum: Double { sorted.first ?? .nan }
  public var maximum: Double { sorted.last ?? .nan }
  public var mean: Double { sorted.isEmpty ? .nan : sorted.reduce(0, +) / Double(count) }

  /// Of all of them, not of a larger set that they stand for.
  public var standardDeviation: Double {
    let mean = mean
    return sorted.isEmpty
      ? .nan : (sorted.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(count)).squareRoot()
  }

  /// The least sample that `percent` of all do not exceed.
  public func percentile(_ percent: Double) -> Double {
    guard !sorted.isEmpty else { return .nan }
    let rank = Int((Double(count) * percent / 100).rounded(.up))
    return sorted[min(max(rank, 1), count) - 1]
  }
}

extension Duration {
  var microseconds: Double { Double(components.seconds) * 1e6 + Double(components.attoseconds) / 1e12 }
}
