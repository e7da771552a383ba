extension Double {
  /// With two decimals, cut off; a number that no counter has is said to be none.
  package var hundredths: String {
    guard isFinite, abs(self) < 1e15 else { return "?" }
    let all = Int((self * 100).rounded(.down))
    return "\(all / 100).\(all % 100 < 10 ? "0" : "")\(all % 100)"
  }
}
