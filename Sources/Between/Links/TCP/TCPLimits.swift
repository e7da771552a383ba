/// How long a ``TCPResponder`` bears with connections, and with how many.
///
/// Times are in nanoseconds.
struct TCPLimits: Sendable {
  /// How many connections may be silent, and how many may wait for slots; fewer where descriptors are few.
  var silent = 1024, waiting = 1024
  /// How long one may take to say hello.
  var hello: UInt64 = 1_000_000_000
  /// How long one may wait for slots.
  var patience: UInt64 = 2_000_000_000
  /// How long a borrower may hold slots without a word, in a region with keys.
  var silence = SlotProof.silence
  /// How long one may hold them without a session.
  var handshake = SlotProof.handshake
  /// How long one may hold them after its session has ended, without a new one.
  var renewal = SlotProof.renewal
  /// How long a borrower may take nothing of what it asked for.
  var reading: UInt64 = 10_000_000_000
  /// How long one may do so, or nothing at all, where others wait for its slots.
  var readingInNeed: UInt64 = 250_000_000
}
