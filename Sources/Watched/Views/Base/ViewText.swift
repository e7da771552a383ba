// How numbers of some units are written for people.

extension Double {
  /// With two decimals, cut off; `?` for what is no number, is infinite, or 1e15 or more.
  package var hundredths: String {
    guard isFinite, abs(self) < 1e15 else { return "?" }
    let all = Int((self * 100).rounded(.down))
    return "\(all / 100).\(all % 100 < 10 ? "0" : "")\(all % 100)"
  }
}

/// A span of time in nanoseconds, for people.
package enum ElapsedTime {
  /// Seconds with two decimals.
  package static func hundredths(_ nanoseconds: UInt64) -> String {
    let fraction = nanoseconds / 10_000_000 % 100
    return "\(nanoseconds / 1_000_000_000).\(fraction < 10 ? "0" : "")\(fraction)"
  }

  /// Seconds with six decimals.
  package static func microseconds(_ nanoseconds: Int64) -> String {
    let all = nanoseconds.magnitude / 1000
    let digits = "\(all % 1_000_000)"
    let padding = String(repeating: "0", count: 6 - digits.count)
    return "\(nanoseconds < 0 ? "-" : "")\(all / 1_000_000).\(padding)\(digits)"
  }

  /// Minutes and seconds: `12:07`.
  package static func minutes(_ nanoseconds: UInt64) -> String {
    let seconds = nanoseconds / 1_000_000_000
    return "\(seconds / 60):\(seconds % 60 < 10 ? "0" : "")\(seconds % 60)"
  }
}
