import Foundation
public import LinkBench

extension Samples {
  public var median: Double { percentile(50) }

  /// Runs `body` so many times after some that are not counted.
  public static func measure(_ count: Int, warmUp: Int = 3, _ body: () throws -> Void) rethrows -> Samples {
    for _ in 0..<warmUp { try body() }
    let clock = ContinuousClock()
    var times: [Double] = []
    times.reserveCapacity(count)
    for _ in 0..<count { times.append(microseconds(try clock.measure(body))) }
    return Samples(microseconds: times)
  }
}

public func microseconds(_ duration: Duration) -> Double {
  Double(duration.components.seconds) * 1e6 + Double(duration.components.attoseconds) / 1e12
}

/// A time with about three significant digits and its unit.
public func time(_ microseconds: Double) -> String {
  switch microseconds {
  case ..<100: "\(digits(microseconds, 1)) µs"
  case ..<1000: "\(digits(microseconds, 0)) µs"
  case ..<100_000: "\(digits(microseconds / 1000, 2)) ms"
  default: "\(digits(microseconds / 1000, 0)) ms"
  }
}

public func digits(_ value: Double, _ places: Int) -> String { String(format: "%.\(places)f", value) }
