import CVerbs
import Glibc

/// The channel on which the connection manager reports what happens to connections.
///
/// Its connections hold it. Used by one thread at a time. The corresponding C type is `rdma_event_channel`.
public final class ConnectionManager: @unchecked Sendable {
  // Immutable after init; the library locks inside.
  let channel: UnsafeMutablePointer<rdma_event_channel>

  /// - Throws: ``VerbsError/Reason/noDevice`` where this machine has no RDMA.
  public init() throws(VerbsError) {
    guard let channel = rdma_create_event_channel() else {
      switch errno {
      case ENODEV, ENOENT, ENXIO, ENOSYS: throw VerbsError(.noDevice)
      default: throw VerbsError(errnoOf: "rdma_create_event_channel")
      }
    }
    self.channel = channel
    let flags = fcntl(channel.pointee.fd, F_GETFL)
    _ = fcntl(channel.pointee.fd, F_SETFL, flags | O_NONBLOCK)
  }

  deinit { rdma_destroy_event_channel(channel) }

  /// Becomes readable when an event waits.
  public var descriptor: Int32 { channel.pointee.fd }

  /// The next event, or nil where none waits.
  ///
  /// The corresponding C function is `rdma_get_cm_event`.
  public func nextEvent() throws(VerbsError) -> ConnectionEvent? {
    var event = grass_verbs_event()
    while grass_verbs_next_event(channel, &event) != 0 {
      if errno == EAGAIN { return nil }
      if errno != EINTR { throw VerbsError(errnoOf: "rdma_get_cm_event") }
    }
    return ConnectionEvent(event, manager: self)
  }

  /// Waits for an event until `deadline`.
  public func waitForEvent(until deadline: ContinuousClock.Instant) throws(VerbsError) -> ConnectionEvent {
    while true {
      if let event = try nextEvent() { return event }
      let left = deadline - .now
      guard left > .zero else { throw VerbsError(.deadlinePassed) }
      var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
      _ = poll(&entry, 1, Int32(clamping: Int(min(left / .milliseconds(1), 1e9)) + 1))
    }
  }
}

/// What happened to a connection.
public struct ConnectionEvent {
  public enum Kind: Hashable, Sendable {
    case addressResolved, routeResolved, connectionRequest, established, disconnected, rejected, deviceRemoved
    case failed
    /// Nothing that anybody need act upon.
    case other
  }

  public let kind: Kind
  /// The event's name and status, for messages.
  public let name: String
  public let status: Int32
  /// What the other side sent along.
  public let privateData: [UInt8]
  /// How many reads in flight the other side takes at most.
  public let readsTaken: UInt8
  public let readsMade: UInt8
  /// A new connection, where this is a request for one; whoever lets go of it, refuses.
  public let request: Connection?
  private let identifier: UnsafeMutablePointer<rdma_cm_id>?

  init(_ event: grass_verbs_event, manager: ConnectionManager) {
    kind =
      switch event.kind {
      case RDMA_CM_EVENT_ADDR_RESOLVED: .addressResolved
      case RDMA_CM_EVENT_ROUTE_RESOLVED: .routeResolved
      case RDMA_CM_EVENT_CONNECT_REQUEST: .connectionRequest
      case RDMA_CM_EVENT_ESTABLISHED: .established
      case RDMA_CM_EVENT_DISCONNECTED: .disconnected
      case RDMA_CM_EVENT_REJECTED: .rejected
      case RDMA_CM_EVENT_DEVICE_REMOVAL: .deviceRemoved
      case RDMA_CM_EVENT_ADDR_ERROR, RDMA_CM_EVENT_ROUTE_ERROR, RDMA_CM_EVENT_CONNECT_ERROR,
        RDMA_CM_EVENT_UNREACHABLE:
        .failed
      default: .other
      }
    name = rdma_event_str(event.kind).map { String(cString: $0) } ?? "event \(event.kind.rawValue)"
    status = event.status
    privateData = withUnsafeBytes(of: event.private_data) { [UInt8]($0.prefix(Int(event.private_count))) }
    readsTaken = event.reads_taken
    readsMade = event.reads_made
    identifier = event.id
    if kind == .connectionRequest, let id = event.id {
      request = Connection(adopting: id, manager: manager)
    } else {
      request = nil
    }
  }

  /// Whether it happened to this connection.
  public func concerns(_ connection: Connection) -> Bool { identifier == connection.identifier }
}
