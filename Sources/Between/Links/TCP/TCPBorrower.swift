import Host
import Region
import Synchronization

/// A connection that was lent slots: what the thread that serves it and the one at the door both know of it.
final class TCPBorrower: Sendable {
  let socket: TCPSocket
  let slots: Range<Int>
  private let claim: Locked<SlotClaim?>
  /// When the slots were granted, by the monotonic clock in nanoseconds; 0 while they are not yet.
  let granted = Atomic<UInt64>(0)
  /// Whether it is a client: in a region with keys, whether its slots have a session; else whether it has asked for anything.
  let isProven = Atomic<Bool>(false)
  /// Since when it takes nothing of what it asked for, by the monotonic clock in nanoseconds; 0 where it does.
  let stalled = Atomic<UInt64>(0)
  /// Whether its slots are free again and its thread about to end.
  let hasEnded = Atomic<Bool>(false)

  init(socket: TCPSocket, claim: SlotClaim) {
    self.socket = socket
    slots = claim.slots
    self.claim = Locked(claim)
  }

  /// Gives the slots back.
  func end() {
    socket.shutdown()
    claim.withLock { $0 = nil }
    hasEnded.store(true, ordering: .releasing)
  }
}
