import Region

/// Whether whoever was lent slots of a region with keys has proved one: its slots have a session then, as their line says.
///
/// Times are of the monotonic clock, in nanoseconds.
struct SlotProof {
  /// When the slots were last known to have a session; 0 for never.
  private var last: UInt64 = 0
  /// What the check of the first slot's request was when the slots were lent; nil where it could not be read.
  private let first: UInt64?
  var isProven: Bool { last != 0 }

  /// How long slots may be held by who says nothing.
  static let silence: UInt64 = 1_000_000_000
  /// How long they may be held by who says something, without a session that was ever there.
  static let handshake: UInt64 = 5_000_000_000
  /// How long they may be held after a session has ended, without a new one.
  static let renewal: UInt64 = 30_000_000_000

  /// Begins to judge whoever is lent `slots` of `region` now.
  init(region: SharedRegion, slots: Range<Int>) { first = Self.check(region, slots) }

  /// The first half of the check of the first slot's request: two requests' are never alike.
  private static func check(_ region: SharedRegion, _ slots: Range<Int>) -> UInt64? {
    try? region.word(at: region.layout.requestOffset(slot: slots.lowerBound) + 16)
  }

  /// Notes whether there is a session, and judges whether the slots have been held for too long without.
  ///
  /// - Parameters:
  ///   - hasSession: whether there is one, or was since it was asked last.
  ///   - region: the region whose slots these are.
  ///   - slots: they.
  ///   - granted: when they were granted.
  ///   - now: the time.
  ///   - silence: how long they may be held by who says nothing.
  ///   - handshake: how long without a session that was ever there.
  ///   - renewal: how long after one has ended.
  /// - Returns: whether they are to be taken back.
  mutating func isOverdue(
    hasSession: Bool, region: SharedRegion, slots: Range<Int>, granted: UInt64, now: UInt64,
    silence: UInt64 = Self.silence, handshake: UInt64 = Self.handshake, renewal: UInt64 = Self.renewal
  ) -> Bool {
    if hasSession { last = now }
    if isProven { return now > last + renewal }
    // Whoever computes slowly, or is far away, is let end what it has begun.
    return now > granted + silence && (now > granted + handshake || Self.check(region, slots) == first)
  }
}
