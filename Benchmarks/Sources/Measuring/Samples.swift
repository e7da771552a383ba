/// Durations in microseconds, and what is said of them.
package struct Samples {
  private var sorted: [Double]

  package init(_ durations: [Duration]) {
    sorted = durations.map { Double($0.components.seconds) * 1e6 + Double($0.components.attoseconds) / 1e12 }.sorted()
  }

  package init(microseconds: [Double]) { sorted = microseconds.sorted() }

  package var count: Int { sorted.count }
  package var median: Double { percentile(50) }
  package var mean: Double { sorted.reduce(0, +) / Double(max(1, sorted.count)) }

  package func percentile(_ percent: Double) -> Double {
    sorted.isEmpty ? .nan : sorted[min(sorted.count - 1, Int(Double(sorted.count) * percent / 100))]
  }

  /// Runs `body` so many times after some that are not counted.
  package static func measure(_ count: Int, warmUp: Int = 3, _ body: () throws -> Void) rethrows -> Samples {
    for _ in 0..<warmUp { try body() }
    let clock = ContinuousClock()
    var durations: [Duration] = []
    durations.reserveCapacity(count)
    for _ in 0..<count {
      let start = clock.now
      try body()
      durations.append(clock.now - start)
    }
    return Samples(durations)
  }
}

/// A number with three significant digits and its unit.
package func time(_ microseconds: Double) -> String {
  switch microseconds {
  case ..<100: "\(digits(microseconds, 1)) µs"
  case ..<1000: "\(digits(microseconds, 0)) µs"
  case ..<100_000: "\(digits(microseconds / 1000, 2)) ms"
  default: "\(digits(microseconds / 1000, 0)) ms"
  }
}

package func digits(_ value: Double, _ places: Int) -> String {
  guard value.isFinite else { return "–" }
  var scale = 1.0
  for _ in 0..<places { scale *= 10 }
  let scaled = Int((value * scale).rounded())
  guard places > 0 else { return "\(scaled)" }
  let fraction = String(scaled % Int(scale))
  return "\(scaled / Int(scale)).\(String(repeating: "0", count: places - fraction.count))\(fraction)"
}
