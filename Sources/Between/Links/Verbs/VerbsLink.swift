import Glibc
import Host
import Region
import Verbs

/// A link over RDMA: the other side's network card serves it, and no processor there takes part.
///
/// Keys, bounds and directions are checked by that card. A session holds several connections; where one is lost, what
/// was not acknowledged is posted again on the next: writes and reads both may be repeated.
public final class VerbsLink: Link, @unchecked Sendable {
  // Used by one thread at a time, as every link.
  public let address: String
  public let grant: LinkGrant
  public var polling: LinkPolling { .head }

  private struct Operation {
    var isRead: Bool
    var fenced: Bool
    var buffer: LinkBuffer
    var range: Range<Int>
    var token: RegionToken
    var offset: Int
  }

  private let domain: ProtectionDomain
  /// Makes one more connection of the session.
  private let join: @Sendable () -> QueuePair?
  /// Connections that work as far as is known; the first is the one in use.
  private var paths: [QueuePair]
  /// On its way to one more connection, where one is missing.
  private var reinforcement: VerbsReinforcement?
  /// Operations that have not completed, oldest first, from `oldest` on; that of number n is `n - completed - 1` further.
  private var operations: [Operation] = []
  private var oldest = 0
  private var posted: UInt64 = 0
  private var completed: UInt64 = 0
  /// Number of the last operation that the first path was given.
  private var given: UInt64 = 0
  private var ended: LinkError?
  private var spin = SpinBudget()
  private var nextEventCheck: UInt64 = 0

  private static let depth = 128
  private static let pathCount = 2
  /// How long the first attempt to connect may take before another one is made.
  private static let attemptTime = Duration.milliseconds(1500)
  /// How often to look for news of connections while polling, in nanoseconds.
  private static let eventInterval: UInt64 = 10_000_000

  /// Connects, and takes up to `slots` slots.
  ///
  /// - Throws: ``LinkError`` where there is no RDMA device, nobody answers in time, or grants no slot.
  public init(host: String, port: UInt16, slots: Int, within timeout: Duration) throws(LinkError) {
    let address = LinkAddress.verbs(host: host, port: port).description
    let deadline = ContinuousClock.now + timeout
    do throws(VerbsError) {
      let opened = try Self.open(host: host, port: port, slots: slots, until: deadline)
      self.grant = opened.grant
      self.domain = opened.domain
      self.address = address
      let first = opened.path.connection
      join = { [session = opened.session, domain = opened.domain] in
        try? Self.join(session, domain: domain, beside: first, host: host, port: port)
      }
      paths = [opened.path]
    } catch {
      throw Self.linkError(address, error)
    }
    for _ in 1..<Self.pathCount {
      if let path = join() { paths.append(path) }
    }
    reinforce()
  }

  private struct Opened {
    var domain: ProtectionDomain
    var path: QueuePair
    var grant: LinkGrant
    var session: RegionToken
  }

  /// The first connection of a session.
  ///
  /// A lost packet of the connection manager is sent again after four seconds, so an attempt that takes long is given
  /// up for a new one, which may take twice as long: on a machine that is busy enough each would else be given up.
  private static func open(
    host: String, port: UInt16, slots: Int, until deadline: ContinuousClock.Instant
  ) throws(VerbsError) -> Opened {
    var time = attemptTime
    while true {
      let limit = min(deadline, .now + time)
      time *= 2
      do throws(VerbsError) {
        let manager = try ConnectionManager()
        let connection = try Connection(manager: manager)
        try connection.resolve(host: host, port: port, until: limit)
        let domain = try ProtectionDomain(connection: connection)
        let path = try QueuePair(connection: connection, domain: domain, depth: depth)
        // The memory stays until the message is there, or the queue pair that would fill it is gone.
        let message = try register(LinkBuffer(byteCount: VerbsWire.descriptionSize), in: domain)
        try message.withBytes(0..<message.byteCount) { bytes throws(VerbsError) in
          try path.postReceive(number: 0, local: bytes, key: message.localKey)
        }
        try connection.connect(
          privateData: VerbsWire.hello(.init(slots: slots, session: VerbsWire.newSession)), until: limit)
        try waitForMessage(path, until: limit)
        guard let (grant, session) = VerbsWire.parseDescription(message.load(0..<message.byteCount)) else {
          throw VerbsError(.event("a description that is none", status: 0))
        }
        return Opened(domain: domain, path: path, grant: grant, session: session)
      } catch {
        guard error.reason == .deadlinePassed, limit < deadline else { throw error }
      }
    }
  }

  deinit { close() }

  /// One more connection of a session.
  private static func join(
    _ session: RegionToken, domain: ProtectionDomain, beside first: Connection, host: String, port: UInt16
  ) throws(VerbsError) -> QueuePair? {
    let deadline = ContinuousClock.now + attemptTime
    let connection = try Connection(manager: ConnectionManager())
    try connection.resolve(host: host, port: port, until: deadline)
    guard connection.sharesDevice(with: first) else { return nil }
    let pair = try QueuePair(connection: connection, domain: domain, depth: Self.depth)
    try connection.connect(privateData: VerbsWire.hello(.init(slots: 0, session: session)), until: deadline)
    return pair
  }

  private static func waitForMessage(_ pair: QueuePair, until deadline: ContinuousClock.Instant) throws(VerbsError) {
    while true {
      try pair.completions.arm()
      if let completion = try pair.completions.poll() {
        guard completion.status == .success else {
          throw VerbsError(.event("\(completion.status) instead of a description", status: 0))
        }
        return
      }
      let left = deadline - .now
      guard left > .zero else { throw VerbsError(.deadlinePassed) }
      var entry = pollfd(fd: pair.completions.descriptor, events: Int16(POLLIN), revents: 0)
      _ = Glibc.poll(&entry, 1, Int32(clamping: Int(left / .milliseconds(1)) + 1))
    }
  }

  static func linkError(_ address: String, _ error: VerbsError) -> LinkError {
    switch error.reason {
    case .deadlinePassed: LinkError(address, .deadlinePassed)
    case .rejected(let text): LinkError(address, .refused(String(decoding: text.prefix { $0 != 0 }, as: UTF8.self)))
    default: LinkError(address, .device(error.description))
    }
  }

  private static func register(_ buffer: LinkBuffer, in domain: ProtectionDomain) throws(VerbsError) -> LinkBuffer {
    buffer.registration = try MemoryRegion(
      domain: domain, address: buffer.base, count: buffer.byteCount, access: .localWrite)
    return buffer
  }

  public func makeBuffer(byteCount: Int) throws(LinkError) -> LinkBuffer {
    if let ended { throw ended }
    do throws(VerbsError) {
      return try Self.register(LinkBuffer(byteCount: byteCount), in: domain)
    } catch {
      throw Self.linkError(address, error)
    }
  }

  public func postWrite(
    _ buffer: LinkBuffer, _ range: Range<Int>, to part: RemotePart, offset: Int, fenced: Bool
  ) throws(LinkError) -> UInt64 {
    try post(
      Operation(
        isRead: false, fenced: fenced, buffer: buffer, range: range, token: part.token, offset: offset))
  }

  public func postRead(
    into buffer: LinkBuffer, _ range: Range<Int>, from part: RemotePart, offset: Int, awaiting: UInt64?
  ) throws(LinkError) -> UInt64 {
    try post(
      Operation(isRead: true, fenced: false, buffer: buffer, range: range, token: part.token, offset: offset))
  }

  private func post(_ operation: Operation) throws(LinkError) -> UInt64 {
    if let ended { throw ended }
    precondition(
      operation.buffer.registration?.belongs(to: domain) == true, "a buffer that this link did not make")
    // For no bytes a device asks for no key, and so checks none.
    if operation.range.isEmpty, let fault = fault(of: operation) {
      throw end(LinkError(address, .accessDenied(fault)))
    }
    operations.append(operation)
    posted += 1
    // Behind others that wait for room it would have to wait, too.
    if given + 1 == posted, given - completed < UInt64(Self.depth) { try give() }
    return posted
  }

  /// Gives the first path as many operations as it takes.
  private func give() throws(LinkError) {
    guard let path = paths.first else { throw end(LinkError(address, .peerGone)) }
    while given < posted, given - completed < UInt64(path.depth) {
      let operation = operations[oldest + Int(given - completed)]
      do throws(VerbsError) {
        try operation.buffer.withBytes(operation.range) { bytes throws(VerbsError) in
          try path.post(
            operation.isRead ? .read : .write(fenced: operation.fenced), number: given + 1, local: bytes,
            key: operation.buffer.localKey,
            remote: operation.token.high &+ UInt64(bitPattern: Int64(operation.offset)),
            remoteKey: UInt32(truncatingIfNeeded: operation.token.low))
        }
      } catch {
        throw end(Self.linkError(address, error))
      }
      given += 1
    }
  }

  public func poll() throws(LinkError) -> UInt64 {
    if let ended { throw ended }
    try progress()
    return completed
  }

  public func wait(for number: UInt64, until deadline: ContinuousClock.Instant) throws(LinkError) {
    if let ended { throw ended }
    precondition(number <= posted, "operation \(number) was never posted")
    try progress()
    guard completed < number else { return }
    spin.start()
    defer { spin.finish() }
    while completed < number {
      if spin.mayContinue() {
        try progress()
        continue
      }
      try sleep(until: deadline)
      if completed < number, ContinuousClock.now >= deadline { throw end(LinkError(address, .deadlinePassed)) }
    }
  }

  /// Sleeps until something completes or happens to a connection.
  private func sleep(until deadline: ContinuousClock.Instant) throws(LinkError) {
    guard let path = paths.first else { throw end(LinkError(address, .peerGone)) }
    do throws(VerbsError) { try path.completions.arm() } catch { throw end(Self.linkError(address, error)) }
    let before = completed
    try progress()
    guard completed == before, paths.first === path else { return }
    let left = deadline - .now
    guard left > .zero else { return }
    var entries = [path.completions.descriptor, path.connection.manager.descriptor].map {
      pollfd(fd: $0, events: Int16(POLLIN), revents: 0)
    }
    _ = Glibc.poll(&entries, nfds_t(entries.count), Int32(clamping: Int(min(left / .milliseconds(1), 1e9)) + 1))
    nextEventCheck = 0
    try progress()
  }

  public func close() {
    if ended == nil { _ = end(LinkError(address, .peerGone)) }
  }

  private func end(_ error: LinkError) -> LinkError {
    ended = error
    // Once the queue pairs are gone nothing touches the buffers any more.
    for path in paths { path.connection.disconnect() }
    paths = []
    reinforcement?.stop()
    reinforcement = nil
    operations = []
    return error
  }

  /// Takes in what has completed, without waiting.
  private func progress() throws(LinkError) {
    while let path = paths.first {
      let completion: CompletionQueue.Completion?
      do throws(VerbsError) {
        completion = try path.completions.poll()
      } catch {
        throw end(Self.linkError(address, error))
      }
      guard let completion else { break }
      switch completion.status {
      case .success: complete(upTo: completion.number)
      case .remoteAccessRefused:
        throw end(LinkError(address, .accessDenied(refusal(of: completion.number))))
      case .retriesExceeded: try lose(path, .unacknowledged)
      case .flushed: try lose(path, .peerGone)
      case .failed(let why): throw end(LinkError(address, .device(why)))
      }
    }
    let now = SystemCall.monotonicNanoseconds()
    if now >= nextEventCheck {
      nextEventCheck = now + Self.eventInterval
      try takeEvents()
    }
    if given < posted { try give() }
  }

  private func complete(upTo number: UInt64) {
    oldest += Int(number - completed)
    completed = number
    if oldest == operations.count {
      operations.removeAll(keepingCapacity: true)
      oldest = 0
    } else if oldest > 1024 {
      operations.removeFirst(oldest)
      oldest = 0
    }
  }

  /// Looks for connections that ended, and for new ones.
  private func takeEvents() throws(LinkError) {
    for path in paths {
      while true {
        let event: ConnectionEvent?
        do throws(VerbsError) {
          event = try path.connection.manager.nextEvent()
        } catch {
          throw end(Self.linkError(address, error))
        }
        guard let event else { break }
        if event.kind == .disconnected || event.kind == .deviceRemoved { try lose(path, .peerGone) }
      }
    }
    if let path = reinforcement?.take() {
      reinforcement = nil
      paths.append(path)
    }
    reinforce()
  }

  /// Has the connections completed to their number.
  ///
  /// One that works is left alone: where the other side's processors are dead, nobody may be there to accept another.
  private func reinforce() {
    guard ended == nil, paths.count < Self.pathCount, reinforcement == nil else { return }
    reinforcement = VerbsReinforcement(join)
  }

  /// Goes on without a path: posts again on the next what was not acknowledged on the one in use.
  private func lose(_ path: QueuePair, _ reason: LinkError.Reason) throws(LinkError) {
    let wasFirst = paths.first === path
    path.connection.disconnect()
    paths.removeAll { $0 === path }
    if paths.isEmpty { throw end(LinkError(address, reason)) }
    if wasFirst {
      given = completed
      try give()
    }
  }

  /// Why the device refused an operation.
  ///
  /// It says only that it did: the grant tells why.
  private func refusal(of number: UInt64) -> AccessFault {
    guard number > completed, number <= posted else { return .wrongToken }
    return fault(of: operations[oldest + Int(number - completed) - 1]) ?? .wrongToken
  }

  private func fault(of operation: Operation) -> AccessFault? {
    guard let part = grant.parts.first(where: { $0.token == operation.token }) else { return .wrongToken }
    return part.fault(
      operation.isRead ? .read : .write, token: operation.token, offset: UInt64(bitPattern: Int64(operation.offset)),
      count: UInt64(operation.range.count))
  }
}

extension LinkBuffer {
  /// The key with which this side's device is given the buffer; 0 where it was never registered.
  fileprivate var localKey: UInt32 { registration?.localKey ?? 0 }
}
