/// Whether whoever was lent slots of a region with keys has proved one: its slots have a session then, as their line says.
///
/// Times are of the monotonic clock, in nanoseconds.
struct SlotProof {
  /// When the slots were last known to have a session; 0 for never.
  private var last: UInt64 = 0
  var isProven: Bool { last != 0 }

  /// How long slots may be held without a session that was ever there.
  static let proof: UInt64 = 1_000_000_000
  /// How long they may be held after a session has ended, without a new one.
  static let renewal: UInt64 = 30_000_000_000

  /// Notes whether there is a session, and judges whether the slots have been held for too long without.
  ///
  /// - Parameters:
  ///   - hasSession: whether there is one, or was since it was asked last.
  ///   - granted: when the slots were granted.
  ///   - now: the time.
  ///   - proof: how long they may be held without a session that was ever there.
  ///   - renewal: how long they may be held after one has ended.
  /// - Returns: whether they are to be taken back.
  mutating func isOverdue(
    hasSession: Bool, granted: UInt64, now: UInt64, proof: UInt64 = Self.proof, renewal: UInt64 = Self.renewal
  ) -> Bool {
    if hasSession { last = now }
    return now > (isProven ? last + renewal : granted + proof)
  }
}
