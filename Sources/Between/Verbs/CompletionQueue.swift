import CVerbs
import Glibc

/// Where a device reports operations that have ended, and a descriptor to sleep on until it does.
///
/// Used by one thread at a time. The corresponding C types are `ibv_cq` and `ibv_comp_channel`.
public final class CompletionQueue: @unchecked Sendable {
  // Its user serialises the calls.
  let queue: UnsafeMutablePointer<ibv_cq>
  private let channel: UnsafeMutablePointer<ibv_comp_channel>
  private let connection: Connection

  /// An operation that has ended.
  public struct Completion: Sendable {
    public enum Status: Hashable, Sendable {
      case success
      /// The other side's device refused key, range or direction.
      case remoteAccessRefused
      /// No acknowledgement came, however often it was sent again.
      case retriesExceeded
      /// The queue pair ended before.
      case flushed
      case failed(String)
    }

    /// What was given in posting; nothing else counts where the status is no success.
    public let number: UInt64
    public let status: Status
  }

  /// Makes a queue in which `depth` completions can wait to be polled.
  ///
  /// - Throws: ``VerbsError`` with the device's reason.
  public init(connection: Connection, depth: Int) throws(VerbsError) {
    guard let context = connection.context else { throw VerbsError(.noDevice) }
    guard let channel = ibv_create_comp_channel(context) else { throw VerbsError(errnoOf: "ibv_create_comp_channel") }
    guard let queue = ibv_create_cq(context, Int32(clamping: depth), nil, channel, 0) else {
      let error = VerbsError(errnoOf: "ibv_create_cq")
      ibv_destroy_comp_channel(channel)
      throw error
    }
    let flags = fcntl(channel.pointee.fd, F_GETFL)
    _ = fcntl(channel.pointee.fd, F_SETFL, flags | O_NONBLOCK)
    self.queue = queue
    self.channel = channel
    self.connection = connection
  }

  deinit {
    ibv_destroy_cq(queue)
    ibv_destroy_comp_channel(channel)
  }

  /// The oldest completion not yet taken.
  ///
  /// Cost: no system call. The corresponding C function is `ibv_poll_cq`.
  public func poll() throws(VerbsError) -> Completion? {
    var entry = ibv_wc()
    let count = ibv_poll_cq(queue, 1, &entry)
    guard count >= 0 else { throw VerbsError(.call("ibv_poll_cq", code: -count)) }
    guard count > 0 else { return nil }
    let status: Completion.Status =
      switch entry.status {
      case IBV_WC_SUCCESS: .success
      case IBV_WC_REM_ACCESS_ERR: .remoteAccessRefused
      case IBV_WC_RETRY_EXC_ERR: .retriesExceeded
      case IBV_WC_WR_FLUSH_ERR: .flushed
      default: .failed(ibv_wc_status_str(entry.status).map { String(cString: $0) } ?? "\(entry.status.rawValue)")
      }
    return Completion(number: entry.wr_id, status: status)
  }

  /// Becomes readable with the first completion after ``arm()``.
  public var descriptor: Int32 { channel.pointee.fd }

  /// Asks to be woken by the next completion.
  ///
  /// Those that came before wake nobody: poll once more before sleeping. The corresponding C function is
  /// `ibv_req_notify_cq`.
  public func arm() throws(VerbsError) {
    takeEvents()
    let code = ibv_req_notify_cq(queue, 0)
    guard code == 0 else { throw VerbsError(.call("ibv_req_notify_cq", code: code)) }
  }

  /// Takes the wake-ups that came: each must be acknowledged before the queue can go.
  private func takeEvents() {
    var source: UnsafeMutablePointer<ibv_cq>?
    var context: UnsafeMutableRawPointer?
    while ibv_get_cq_event(channel, &source, &context) == 0 {
      if let source { ibv_ack_cq_events(source, 1) }
    }
  }
}
