import Glibc
import Host
public import Region
import Synchronization
import Verbs

/// Serves a region over RDMA on its owner's side: opens it to each session's connections, and takes no part afterwards.
///
/// Each session has a protection domain of its own, in which the requests of its slots can be written, and the responses
/// part read, and nothing else. Its connections are probed, so that the slots of a remote host that vanished come back. In a
/// region with keys, a session that says nothing within a second ends, or proves none within five; where slots are short, the
/// first of those at once.
public final class VerbsResponder: Sendable {
  /// Where it listens, with the port that it got.
  public let address: LinkAddress
  private let isStopped: StopFlag
  /// Shut down to wake the thread.
  private let waker: Int32
  private let thread: Locked<DedicatedThread?>

  private final class StopFlag: Sendable {
    let value = Atomic<Bool>(false)
  }

  /// Starts to serve `region` at an address of this machine; port 0 lets the kernel choose.
  ///
  /// - Parameters:
  ///   - region: what is served. Kept until the responder ends.
  ///   - host: a name or an address.
  ///   - port: 0 lets the kernel choose.
  ///   - keeper: the device that answers in the region's slots.
  /// - Throws: ``LinkError`` where no RDMA device has that address or takes the region's memory.
  public init(
    region: SharedRegion, host: String, port: UInt16, keeper: any SlotKeeper = KeylessSlots()
  ) throws(LinkError) {
    let asked = LinkAddress.verbs(host: host, port: port).description
    var ends: [Int32] = [-1, -1]
    guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &ends) == 0 else {
      throw LinkError(asked, .system(call: "socketpair", code: errno))
    }
    let service: VerbsService
    do throws(VerbsError) {
      service = try VerbsService(region: region, keeper: keeper, host: host, port: port, waker: ends[0])
    } catch {
      for end in ends { close(end) }
      throw VerbsLink.linkError(asked, error)
    }
    let isStopped = StopFlag()
    self.isStopped = isStopped
    waker = ends[1]
    address = .verbs(host: host, port: service.port)
    do throws(SystemCallError) {
      let thread = try DedicatedThread(name: "grass-verbs") {
        service.run { isStopped.value.load(ordering: .acquiring) }
      }
      self.thread = Locked(thread)
    } catch {
      close(ends[1])
      throw LinkError(asked, .region(error.description))
    }
  }

  deinit {
    stop()
    close(waker)
  }

  /// Ends all sessions and waits for the thread.
  ///
  /// A second call does nothing.
  public func stop() {
    isStopped.value.store(true, ordering: .releasing)
    shutdown(waker, Int32(SHUT_WR))
    let thread = thread.withLock { thread in
      defer { thread = nil }
      return thread
    }
    thread?.join()
  }
}

/// What the thread of a ``VerbsResponder`` owns.
private final class VerbsService: @unchecked Sendable {
  // Made by one thread, and from then on used only by the responder's own.
  let port: UInt16
  private let region: SharedRegion
  private let keeper: any SlotKeeper
  private let manager: ConnectionManager
  private let listener: Connection
  private let waker: Int32
  /// Oldest first.
  private var sessions: [Session] = []
  /// Who asks for slots while none are free, oldest first.
  private var queue: [Waiting] = []
  private var nextClaim: UInt64 = 0

  /// The time between two probes of a connection.
  private static let probeInterval = Duration.milliseconds(1000)
  /// How long a connection may take to be established: who asked for it may have given up meanwhile.
  fileprivate static let admissionTime = Duration.seconds(10)
  /// Connections that one session may hold.
  private static let pathLimit = 4

  /// A request for a new session, and until when it may wait for slots.
  private struct Waiting {
    let event: ConnectionEvent
    let connection: Connection
    let slots: Int
    let until: UInt64
  }

  /// How long one may wait, in nanoseconds: whoever asks gives up a first attempt half a second later.
  private static let patience: UInt64 = 1_000_000_000
  private static let mostWaiting = 64
  /// How often to look who wants to read the watched memory past the device, and who may no longer, in milliseconds.
  private static let windowInterval: Int32 = 20
  /// How often to look for slots while somebody waits, and for sessions without a key, in nanoseconds.
  private static let claimInterval: UInt64 = 10_000_000
  private static let judgementInterval: UInt64 = 100_000_000

  private final class Session {
    let name = RegionToken.random()
    let claim: SlotClaim
    /// When its slots were granted, and when its first connection was established; 0 while it is not.
    let granted = SystemCall.monotonicNanoseconds()
    var established: UInt64 = 0
    var proof: SlotProof
    let connection: Connection
    let domain: ProtectionDomain
    let parts: [MemoryRegion]
    /// The watched memory, where it was asked for.
    var windows: [MemoryRegion] = []
    var isOpen = false
    /// What it is told, and the registration of the memory that this lies in.
    let description: LinkBuffer
    var paths: [Path] = []

    init(region: SharedRegion, claim: SlotClaim, connection: Connection) throws {
      self.claim = claim
      proof = SlotProof(region: region, slots: claim.slots)
      self.connection = connection
      let domain = try ProtectionDomain(connection: connection)
      self.domain = domain
      let layout = region.layout
      var regions: [MemoryRegion] = []
      func part(_ range: Range<Int>, _ access: RemotePart.Access, _ rights: MemoryRegion.Access) throws -> RemotePart {
        guard !range.isEmpty else { return RemotePart(token: .init(high: 0, low: 0), range: range, access: access) }
        let memory = try MemoryRegion(
          domain: domain, address: region.base + range.lowerBound, count: range.count, access: rights,
          dmaBuffer: region.device?.dmaBuffer.map { .init(descriptor: $0, offset: UInt64(range.lowerBound)) })
        regions.append(memory)
        return RemotePart(
          token: RegionToken(high: UInt64(UInt(bitPattern: region.base)), low: UInt64(memory.remoteKey)), range: range,
          access: access)
      }
      let grant = LinkGrant(
        slots: claim.slots,
        requests: try part(layout.requests(of: claim.slots), .write, .remoteWrite),
        responses: try part(layout.responsesPart, .read, .remoteRead),
        scratch: try part(layout.scratchPart, [.read, .write], [.remoteRead, .remoteWrite]))
      parts = regions
      let bytes = VerbsWire.description(grant, session: name)
      description = LinkBuffer(byteCount: bytes.count)
      description.registration = try MemoryRegion(
        domain: domain, address: description.base, count: bytes.count, access: .localWrite)
      description.store(bytes, at: 0)
    }
  }

  private final class Path {
    let pair: QueuePair
    /// Whether it carries the session's description.
    let isFirst: Bool
    let admitted = ContinuousClock.now
    var isEstablished = false
    /// Operations of this side that have not completed.
    var pending = 0

    init(pair: QueuePair, isFirst: Bool) {
      self.pair = pair
      self.isFirst = isFirst
    }

    /// Whether the connection still works, as far as is known.
    func works() -> Bool {
      while true {
        guard let completion = try? pair.completions.poll() else { return true }
        guard completion.status == .success else { return false }
        pending -= 1
      }
    }

    /// Starts a probe unless one is under way.
    func probe() -> Bool {
      guard isEstablished else { return ContinuousClock.now < admitted + VerbsService.admissionTime }
      guard pending == 0 else { return true }
      pending += 1
      return (try? pair.postProbe(number: 1)) != nil
    }
  }

  init(
    region: SharedRegion, keeper: any SlotKeeper, host: String, port: UInt16, waker: Int32
  ) throws(VerbsError) {
    manager = try ConnectionManager()
    listener = try Connection(manager: manager)
    try listener.listen(host: host, port: port)
    self.port = listener.port
    self.region = region
    self.keeper = keeper
    self.waker = waker
  }

  deinit { close(waker) }

  func run(until isStopped: () -> Bool) {
    var nextProbe = ContinuousClock.now + Self.probeInterval
    var nextJudgement: UInt64 = 0
    while !isStopped() {
      var entries = [manager.descriptor, waker].map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
      var left = sessions.isEmpty ? -1 : Int32(clamping: Int(max(0, (nextProbe - .now) / .milliseconds(1))) + 1)
      if keeper.isKeyed, !sessions.isEmpty { left = min(left, Int32(Self.judgementInterval / 1_000_000)) }
      let isOpen = !keeper.openMemory.isEmpty
      if isOpen, !sessions.isEmpty { left = min(left, Self.windowInterval) }
      if !queue.isEmpty { left = Int32(Self.claimInterval / 1_000_000) }
      _ = poll(&entries, nfds_t(entries.count), left)
      do {
        while let event = try manager.nextEvent() { handle(event) }
      } catch {
        // Nothing that a connection did: the channel itself is broken, and without it nobody can be served.
        SystemCall.sleep(nanoseconds: 100_000_000)
      }
      if ContinuousClock.now >= nextProbe {
        nextProbe = ContinuousClock.now + Self.probeInterval
        for session in sessions { drop(session.paths.filter { !$0.works() || !$0.probe() }) }
      }
      let now = SystemCall.monotonicNanoseconds()
      if keeper.isKeyed, now >= nextJudgement {
        nextJudgement = now + Self.judgementInterval
        for session in sessions where isOverdue(session, now) { drop(session.paths) }
      }
      if isOpen {
        for session in sessions where session.isOpen != keeper.wantsWindows(session.claim.slots) {
          if session.isOpen { withdraw(session) } else { open(session) }
        }
      }
      lend(now)
    }
    drop(sessions.flatMap(\.paths))
    queue = []
  }

  private func handle(_ event: ConnectionEvent) {
    if let connection = event.request {
      do {
        try admit(connection, event)
      } catch {
        connection.reject(Array("\(error)".utf8))
      }
      return
    }
    guard
      let (session, path) = sessions.lazy
        .flatMap({ session in session.paths.map { (session, $0) } })
        .first(where: { event.concerns($0.1.pair.connection) })
    else { return }
    switch event.kind {
    case .established:
      path.isEstablished = true
      if session.established == 0 { session.established = SystemCall.monotonicNanoseconds() }
      if path.isFirst { describe(session, path) }
    case .disconnected, .deviceRemoved, .failed, .rejected: drop([path])
    default: break
    }
  }

  private struct Refusal: Error, CustomStringConvertible {
    let description: String
  }

  /// Takes in a request: one for a new session waits for slots, one for a session that there is has its connection.
  private func admit(_ connection: Connection, _ event: ConnectionEvent) throws {
    guard let hello = VerbsWire.parseHello(event.privateData) else {
      throw Refusal(description: "it speaks version \(TCPWire.version) of the protocol")
    }
    guard hello.session == VerbsWire.newSession else {
      guard let session = sessions.first(where: { $0.name == hello.session }) else {
        throw Refusal(description: "the session has ended")
      }
      guard session.paths.count < Self.pathLimit, connection.sharesDevice(with: session.connection) else {
        throw Refusal(description: "the session takes no such connection")
      }
      return try accept(connection, event, for: session, isFirst: false)
    }
    let now = SystemCall.monotonicNanoseconds()
    guard queue.count < Self.mostWaiting else {
      throw Refusal(description: "\(allTaken) and \(queue.count) more wait for one: try again later, or \(Self.more)")
    }
    queue.append(Waiting(event: event, connection: connection, slots: hello.slots, until: now + Self.patience))
    if queue.count == 1 { nextClaim = 0 }
    lend(now)
  }

  private var allTaken: String { "all \(region.layout.slotCount) slots are taken by other sessions" }
  private static let more = "start grassd with more --slots"

  private func accept(_ connection: Connection, _ event: ConnectionEvent, for session: Session, isFirst: Bool) throws {
    let pair = try QueuePair(connection: connection, domain: session.domain, depth: 4)
    try connection.accept(event)
    session.paths.append(Path(pair: pair, isFirst: isFirst))
    if isFirst { sessions.append(session) }
  }

  /// Lends slots to those who wait, in their order.
  private func lend(_ now: UInt64) {
    while now >= nextClaim, let first = queue.first {
      do {
        let claim = try claim(slots: first.slots, now)
        queue.removeFirst()
        keeper.release(claim.slots)
        let session = try Session(region: region, claim: claim, connection: first.connection)
        try accept(first.connection, first.event, for: session, isFirst: true)
      } catch {
        if (error as? RegionError)?.reason == .noFreeSlot {
          nextClaim = now + Self.claimInterval
          break
        }
        if queue.first?.connection === first.connection { queue.removeFirst() }
        first.connection.reject(Array("\(error)".utf8))
      }
    }
    for one in queue where one.until <= now {
      one.connection.reject(Array("\(allTaken), and none came back in time: end one, or \(Self.more)".utf8))
    }
    queue.removeAll { $0.until <= now }
  }

  /// Takes slots; where none are free, those of the first session that has proved no key, or was never established.
  private func claim(slots: Int, _ now: UInt64) throws(RegionError) -> SlotClaim {
    do throws(RegionError) {
      return try region.claim(slots: slots)
    } catch {
      guard error.reason == .noFreeSlot else { throw error }
      let idle = sessions.first { session in
        if keeper.isKeyed {
          _ = isOverdue(session, now)
          return !session.proof.isProven
        }
        return now > session.granted + SlotProof.silence && !session.paths.contains { $0.isEstablished }
      }
      guard let idle else { throw error }
      drop(idle.paths)
    }
    return try region.claim(slots: slots)
  }

  /// Whether a session has been without a key for too long.
  private func isOverdue(_ session: Session, _ now: UInt64) -> Bool {
    // What takes long to be established is ended by its probes. A device that cannot be read says nothing against anybody.
    guard session.established != 0,
      let line = try? region.word(at: region.layout.lineOffset(slot: session.claim.slots.lowerBound))
    else {
      return false
    }
    return session.proof.isOverdue(
      hasSession: line != 0, region: region, slots: session.claim.slots, granted: session.established, now: now)
  }

  /// Registers the watched memory for a session's connections, to be read and no more, and tells it how.
  ///
  /// What the device cannot pin is left out, and read through the mailbox then.
  private func open(_ session: Session) {
    session.isOpen = true
    var windows: [RemotePart] = []
    for segment in keeper.openMemory {
      let places = [segment.bytes.baseAddress.map(UnsafeMutableRawPointer.init(mutating:)), segment.pinnable]
      for case let place? in places {
        guard
          let memory = try? MemoryRegion(
            domain: session.domain, address: place, count: segment.bytes.count, access: .remoteRead),
          // Offsets are physical addresses.
          let window = segment.window(
            RegionToken(high: UInt64(UInt(bitPattern: place)) &- segment.start, low: UInt64(memory.remoteKey)))
        else { continue }
        session.windows.append(memory)
        windows.append(window)
        break
      }
    }
    keeper.setWindows(windows, session.claim.slots)
  }

  /// Takes that back: the registrations end, and what is read by them.
  private func withdraw(_ session: Session) {
    keeper.setWindows(nil, session.claim.slots)
    session.windows = []
    session.isOpen = false
  }

  /// Tells a session what it was granted.
  private func describe(_ session: Session, _ path: Path) {
    path.pending += 1
    let buffer = session.description
    let key = buffer.registration?.localKey ?? 0
    let sent: Void? = try? buffer.withBytes(0..<buffer.byteCount) {
      try path.pair.postSend(number: 1, local: $0, key: key)
    }
    if sent == nil { drop([path]) }
  }

  /// Ends connections, and sessions that have none left.
  private func drop(_ paths: [Path]) {
    for path in paths {
      path.pair.connection.disconnect()
      for session in sessions { session.paths.removeAll { $0 === path } }
    }
    sessions.removeAll { $0.paths.isEmpty }
  }
}
