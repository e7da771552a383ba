import CVerbs
import Glibc

/// One end of a connection, or a listener, as the connection manager knows it.
///
/// What is made for it (protection domain, queues, memory regions) holds it. The corresponding C type is `rdma_cm_id`.
public final class Connection: @unchecked Sendable {
  // Immutable after init; its user serialises the calls.
  let identifier: UnsafeMutablePointer<rdma_cm_id>
  /// Where it reports.
  public let manager: ConnectionManager

  /// The reads in flight that are worth having, where both sides' devices take as many.
  private static let readsWanted: Int32 = 16
  /// 4.096 µs × 2^17 = 0.54 s until a packet is sent again; six times, then the connection is lost after 3.8 s.
  ///
  /// It survives shorter cuts of a link: after a disaster nobody may be left to accept a new connection.
  private static let acknowledgeTime: UInt8 = 17

  public init(manager: ConnectionManager) throws(VerbsError) {
    var identifier: UnsafeMutablePointer<rdma_cm_id>?
    guard rdma_create_id(manager.channel, &identifier, nil, RDMA_PS_TCP) == 0, let identifier else {
      throw VerbsError(errnoOf: "rdma_create_id")
    }
    self.identifier = identifier
    self.manager = manager
  }

  init(adopting identifier: UnsafeMutablePointer<rdma_cm_id>, manager: ConnectionManager) {
    self.identifier = identifier
    self.manager = manager
  }

  deinit { rdma_destroy_id(identifier) }

  /// The port on this side.
  public var port: UInt16 { UInt16(bigEndian: rdma_get_src_port(identifier)) }

  /// Whether both are connections of one device, so that one can use what was made for the other.
  public func sharesDevice(with other: Connection) -> Bool {
    identifier.pointee.verbs == other.identifier.pointee.verbs
  }

  var context: UnsafeMutablePointer<ibv_context>? { identifier.pointee.verbs }

  // MARK: The active side

  /// Finds the device and the way to a host.
  ///
  /// The corresponding C functions are `rdma_resolve_addr` and `rdma_resolve_route`.
  public func resolve(host: String, port: UInt16, until deadline: ContinuousClock.Instant) throws(VerbsError) {
    let milliseconds = Int32(clamping: Int(max(1, (deadline - .now) / .milliseconds(1))))
    let code = try Self.withAddress(host, port, isListener: false) { address in
      rdma_resolve_addr(identifier, nil, address, milliseconds) == 0 ? 0 : errno
    }
    // Without a device that has a way there, this is all the kernel says.
    if code == ENODEV { throw VerbsError(.noDevice) }
    guard code == 0 else { throw VerbsError(.call("rdma_resolve_addr", code: code)) }
    try expect(.addressResolved, until: deadline)
    // A device that cannot be told keeps its own time.
    _ = grass_verbs_set_acknowledge_time(identifier, Self.acknowledgeTime)
    guard rdma_resolve_route(identifier, milliseconds) == 0 else {
      throw VerbsError(errnoOf: "rdma_resolve_route")
    }
    try expect(.routeResolved, until: deadline)
  }

  /// Connects the queue pair that was made for this.
  ///
  /// The corresponding C function is `rdma_connect`.
  ///
  /// - Parameters:
  ///   - privateData: at most 56 bytes for the other side.
  ///   - deadline: when to give up.
  /// - Throws: ``VerbsError`` where the other side refuses, is not there, or does not answer in time.
  public func connect(privateData: [UInt8], until deadline: ContinuousClock.Instant) throws(VerbsError) {
    let reads = Self.reads(identifier.pointee.verbs)
    guard
      grass_verbs_connect(identifier, false, privateData, UInt8(privateData.count), reads.taken, reads.made) == 0
    else { throw VerbsError(errnoOf: "rdma_connect") }
    try expect(.established, until: deadline)
  }

  private func expect(_ kind: ConnectionEvent.Kind, until deadline: ContinuousClock.Instant) throws(VerbsError) {
    while true {
      let event = try manager.waitForEvent(until: deadline)
      guard event.concerns(self), event.kind != .other else { continue }
      if event.kind == kind { return }
      // 28: the other side's own refusal, not that of its kernel. Source: the InfiniBand specification, table 109.
      if event.kind == .rejected, event.status == 28 { throw VerbsError(.rejected(event.privateData)) }
      throw VerbsError(.event(event.name, status: event.status))
    }
  }

  // MARK: The passive side

  /// Listens at an address of this machine; port 0 lets the kernel choose.
  ///
  /// The corresponding C functions are `rdma_bind_addr` and `rdma_listen`.
  public func listen(host: String, port: UInt16) throws(VerbsError) {
    let code = try Self.withAddress(host, port, isListener: true) { address in
      rdma_bind_addr(identifier, address) == 0 ? 0 : errno
    }
    if code == ENODEV { throw VerbsError(.noDevice) }
    guard code == 0 else { throw VerbsError(.call("rdma_bind_addr", code: code)) }
    guard rdma_listen(identifier, 16) == 0 else { throw VerbsError(errnoOf: "rdma_listen") }
  }

  /// Accepts a request, once a queue pair was made for it.
  ///
  /// The corresponding C function is `rdma_accept`.
  public func accept(_ request: ConnectionEvent) throws(VerbsError) {
    let reads = Self.reads(identifier.pointee.verbs)
    _ = grass_verbs_set_acknowledge_time(identifier, Self.acknowledgeTime)
    guard
      grass_verbs_connect(
        identifier, true, nil, 0, min(reads.taken, request.readsMade), min(reads.made, request.readsTaken)) == 0
    else { throw VerbsError(errnoOf: "rdma_accept") }
  }

  /// Refuses a request, saying why in at most 148 bytes.
  ///
  /// The corresponding C function is `rdma_reject`.
  public func reject(_ why: [UInt8]) {
    let bytes = [UInt8](why.prefix(148))
    rdma_reject(identifier, bytes, UInt8(bytes.count))
  }

  /// Ends the connection; what is in flight is flushed.
  ///
  /// The corresponding C function is `rdma_disconnect`.
  public func disconnect() { rdma_disconnect(identifier) }

  // MARK: -

  private static func reads(_ context: UnsafeMutablePointer<ibv_context>?) -> (taken: UInt8, made: UInt8) {
    var attributes = ibv_device_attr()
    guard let context, ibv_query_device(context, &attributes) == 0 else { return (1, 1) }
    return (
      UInt8(clamping: min(attributes.max_qp_rd_atom, readsWanted)),
      UInt8(clamping: min(attributes.max_qp_init_rd_atom, readsWanted))
    )
  }

  private static func withAddress(
    _ host: String, _ port: UInt16, isListener: Bool, _ body: (UnsafeMutablePointer<sockaddr>) -> Int32
  ) throws(VerbsError) -> Int32 {
    var hints = addrinfo()
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    hints.ai_flags = isListener ? AI_PASSIVE : 0
    var list: UnsafeMutablePointer<addrinfo>?
    let code = getaddrinfo(host, String(port), &hints, &list)
    defer { if let list { freeaddrinfo(list) } }
    guard code == 0, let address = list?.pointee.ai_addr else {
      throw VerbsError(.badHost("\(host): \(String(cString: gai_strerror(code)))"))
    }
    return body(address)
  }
}
