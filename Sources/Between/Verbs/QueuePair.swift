import CVerbs
import Glibc

/// The two queues through which a device is given operations on one reliable connection.
///
/// Used by one thread at a time. Every operation reports its completion. The corresponding C type is `ibv_qp`.
public final class QueuePair: @unchecked Sendable {
  // Its user serialises the calls.
  /// How many operations can be posted and not complete.
  public let depth: Int
  public let connection: Connection
  public let completions: CompletionQueue
  private let domain: ProtectionDomain
  private let pair: UnsafeMutablePointer<ibv_qp>
  /// The longest write that can be carried in the request itself, so that the device need not fetch it.
  private let inlineCount: Int

  /// Makes a queue pair for a connection that has been resolved or requested, on the same device as `domain`.
  ///
  /// The corresponding C function is `rdma_create_qp`.
  public init(connection: Connection, domain: ProtectionDomain, depth: Int) throws(VerbsError) {
    // One more for a message received, and room for those flushed in the end.
    let completions = try CompletionQueue(connection: connection, depth: depth + 2)
    // Devices differ in what they take inline; a heartbeat needs 64.
    var code: Int32 = 0
    for inline in [256, 64, 0] as [UInt32] {
      code =
        grass_verbs_create_queue_pair(
          connection.identifier, domain.domain, completions.queue, UInt32(depth), inline) == 0 ? 0 : errno
      if code != EINVAL { break }
    }
    guard code == 0, let pair = connection.identifier.pointee.qp else {
      throw VerbsError(.call("rdma_create_qp", code: code))
    }
    self.pair = pair
    self.depth = depth
    self.connection = connection
    self.completions = completions
    self.domain = domain
    inlineCount = Int(grass_verbs_inline_count(pair))
  }

  deinit { rdma_destroy_qp(connection.identifier) }

  /// An operation on the other side's memory.
  public enum Kind: Sendable {
    /// `fenced`: not before all reads posted earlier have completed.
    case write(fenced: Bool)
    case read
  }

  /// Posts an RDMA write or read.
  ///
  /// The corresponding C function is `ibv_post_send`.
  ///
  /// - Parameters:
  ///   - kind: which of them.
  ///   - number: comes back with the completion.
  ///   - local: memory of `key`, which stays as it is, or is not looked at, until the completion.
  ///   - key: the local key of the registration that `local` lies in.
  ///   - remote: the other side's address.
  ///   - remoteKey: the key that the other side gave for it.
  /// - Throws: ``VerbsError`` where the queue is full or the device refuses.
  public func post(
    _ kind: Kind, number: UInt64, local: UnsafeMutableRawBufferPointer, key: UInt32, remote: UInt64, remoteKey: UInt32
  ) throws(VerbsError) {
    let opcode: ibv_wr_opcode
    var flags: UInt32 = 0
    switch kind {
    case .write(let fenced):
      opcode = IBV_WR_RDMA_WRITE
      if fenced { flags |= IBV_SEND_FENCE.rawValue }
      if local.count > 0, local.count <= inlineCount { flags |= IBV_SEND_INLINE.rawValue }
    case .read: opcode = IBV_WR_RDMA_READ
    }
    try check(
      grass_verbs_post(
        pair, opcode, number, local.baseAddress, UInt32(local.count), key, remote, remoteKey, flags))
  }

  /// Writes nothing nowhere: completes if the other side's device still acknowledges, whatever it allows.
  public func postProbe(number: UInt64) throws(VerbsError) {
    try check(grass_verbs_post(pair, IBV_WR_RDMA_WRITE, number, nil, 0, 0, 0, 0, 0))
  }

  /// Sends a message, for which the other side has posted memory.
  public func postSend(number: UInt64, local: UnsafeMutableRawBufferPointer, key: UInt32) throws(VerbsError) {
    try check(
      grass_verbs_post(pair, IBV_WR_SEND, number, local.baseAddress, UInt32(local.count), key, 0, 0, 0))
  }

  /// Gives memory for the next message.
  ///
  /// The corresponding C function is `ibv_post_recv`.
  public func postReceive(number: UInt64, local: UnsafeMutableRawBufferPointer, key: UInt32) throws(VerbsError) {
    let code = grass_verbs_post_receive(pair, number, local.baseAddress, UInt32(local.count), key)
    guard code == 0 else { throw VerbsError(.call("ibv_post_recv", code: code)) }
  }

  private func check(_ code: Int32) throws(VerbsError) {
    guard code == 0 else { throw VerbsError(.call("ibv_post_send", code: code)) }
  }
}
