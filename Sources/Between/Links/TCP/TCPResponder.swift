import CRegion
import Glibc
import Host
public import Region

/// Serves a region over TCP on its owner's side: what a network card does for RDMA, done by threads.
///
/// It knows nothing of requests: it copies bytes in and out, and checks token, direction and bounds of every access.
/// Each connection may write the request slots granted to it, and read the responses part.
public final class TCPResponder: Sendable {
  /// Where it listens, with the port that it got.
  public let address: LinkAddress
  private let region: SharedRegion
  private let listener: TCPSocket
  private let connections = Locked<Connections>(Connections())
  private let keeper: any SlotKeeper
  private let acceptor = Locked<DedicatedThread?>(nil)

  private struct Connections {
    var isStopped = false
    var live: [Int: (socket: TCPSocket, thread: DedicatedThread?)] = [:]
    var ended: [DedicatedThread] = []
    var next = 0
  }

  /// The longest that a read is delayed because it awaits a value, in nanoseconds.
  private static let awaitLimit: UInt64 = 200_000
  /// How long a new connection may take to say hello, in milliseconds.
  private static let helloLimit: Int32 = 2_000

  /// Starts to serve `region` at a loopback address; port 0 lets the kernel choose.
  ///
  /// - Parameters:
  ///   - region: what is served. Kept until the responder ends.
  ///   - host: a loopback address or name.
  ///   - port: 0 lets the kernel choose.
  ///   - keeper: the device that answers in the region's slots. It assists while an answer is awaited: with few processors
  ///     it takes long until the mailbox's own thread has one.
  /// - Throws: ``LinkError`` where it cannot listen there.
  public init(
    region: SharedRegion, host: String, port: UInt16, keeper: any SlotKeeper = KeylessSlots()
  ) throws(LinkError) {
    self.keeper = keeper
    let (listener, actual) = try TCPSocket.listen(host: host, port: port)
    self.region = region
    self.listener = listener
    address = .tcp(host: host, port: actual)
    try start()
  }

  private func start() throws(LinkError) {
    do throws(SystemCallError) {
      // The thread holds no reference that would keep the responder from ending.
      let thread = try DedicatedThread(name: "grass-accept") { [weak self, listener] in
        while true {
          guard (try? listener.waitUntilReady(reading: true, writing: false, milliseconds: -1)) != nil,
            let self, !self.connections.withLock({ $0.isStopped })
          else { return }
          guard let socket = listener.accept() else {
            // Out of descriptors, or a client that went away again: neither may take the processor.
            SystemCall.sleep(nanoseconds: 10_000_000)
            continue
          }
          self.serve(socket)
        }
      }
      acceptor.withLock { $0 = thread }
    } catch {
      throw LinkError(address.description, .region(error.description))
    }
  }

  deinit { stop() }

  /// Ends all connections and waits for the threads.
  ///
  /// A second call does nothing.
  public func stop() {
    let live = connections.withLock { connections in
      connections.isStopped = true
      for (_, connection) in connections.live { connection.socket.shutdown() }
      return connections.live.values.compactMap(\.thread) + connections.ended
    }
    // On a listening socket this wakes accept and poll.
    listener.shutdown()
    let acceptor = acceptor.withLock { thread in
      defer { thread = nil }
      return thread
    }
    acceptor?.join()
    for thread in live { thread.join() }
    let late = connections.withLock { connections in connections.live.values.compactMap(\.thread) + connections.ended }
    for thread in late { thread.join() }
  }

  private func serve(_ socket: TCPSocket) {
    connections.withLock { connections in
      for thread in connections.ended { thread.join() }
      connections.ended = []
      // Each needs a slot, and a few more may wait to hear that there is none.
      guard !connections.isStopped, connections.live.count < region.layout.slotCount + 8 else { return }
      let key = connections.next
      connections.next += 1
      let region = region
      let keeper = keeper
      let thread = try? DedicatedThread(name: "grass-tcp") { [weak self] in
        var connection = TCPConnection(
          socket: socket, region: region, awaitLimit: Self.awaitLimit, helloLimit: Self.helloLimit, keeper: keeper)
        connection.run()
        socket.shutdown()
        self?.connections.withLock { connections in
          if let ended = connections.live.removeValue(forKey: key)?.thread { connections.ended.append(ended) }
        }
      }
      if let thread { connections.live[key] = (socket, thread) }
    }
  }
}

/// One connection of a ``TCPResponder``, on a thread of its own.
private struct TCPConnection {
  let socket: TCPSocket
  let region: SharedRegion
  let awaitLimit: UInt64
  let helloLimit: Int32
  let keeper: any SlotKeeper
  private var incoming = [UInt8](repeating: 0, count: 256 * 1024)
  private var start = 0
  private var end = 0
  private var outgoing: [UInt8] = []
  private var lastNumber: UInt64 = 0
  private var unacknowledged = false
  private var spin = SpinBudget()

  init(
    socket: TCPSocket, region: SharedRegion, awaitLimit: UInt64, helloLimit: Int32, keeper: any SlotKeeper
  ) {
    self.keeper = keeper
    self.socket = socket
    self.region = region
    self.awaitLimit = awaitLimit
    self.helloLimit = helloLimit
  }

  /// Serves until the connection ends.
  mutating func run() {
    do throws(LinkError) {
      guard let (grant, claim) = try greet() else { return }
      let parts = grant.parts
      while true {
        try fill(TCPWire.operationSize)
        let operation = incoming.withUnsafeBytes { bytes in
          bytes.baseAddress.map { TCPWire.Operation($0 + start) }
        }
        guard let operation else { return }
        start += TCPWire.operationSize
        lastNumber = operation.number
        let wanted: RemotePart.Access
        switch TCPWire.Kind(rawValue: operation.kind) {
        case .write: wanted = .write
        case .read: wanted = .read
        case nil: return
        }
        let part = parts.first { $0.token == operation.token }
        let fault =
          part.map {
            $0.fault(wanted, token: operation.token, offset: operation.offset, count: operation.count)
          } ?? .wrongToken
        if let fault {
          reply(.init(number: operation.number, status: UInt64(fault.rawValue), count: 0))
          try flush()
          return
        }
        // In range of a part, so both fit an Int.
        let offset = Int(operation.offset)
        let count = Int(operation.count)
        if wanted == .write {
          try write(offset, count)
          unacknowledged = true
        } else {
          try read(offset, count, operation)
        }
        if end - start < TCPWire.operationSize { try flush() }
      }
      _ = claim
    } catch {
      // The other side went away or is at fault: its connection ends, nothing else does.
    }
  }

  private mutating func greet() throws(LinkError) -> (LinkGrant, SlotClaim)? {
    guard try socket.waitUntilReady(reading: true, writing: false, milliseconds: helloLimit) else { return nil }
    try fill(TCPWire.helloSize)
    let words = incoming.withUnsafeBytes { bytes in
      (0..<3).map { UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: $0 * 8, as: UInt64.self)) }
    }
    start += TCPWire.helloSize
    guard words[0] == TCPWire.magic else { return nil }
    guard words[1] == UInt64(TCPWire.version) else {
      append(TCPWire.refusal("it speaks version \(TCPWire.version) of the protocol, not \(words[1])"))
      try flush()
      return nil
    }
    let layout = region.layout
    let claim: SlotClaim
    do throws(RegionError) {
      claim = try region.claim(slots: Int(clamping: words[2]))
    } catch {
      append(TCPWire.refusal(error.reason == .noFreeSlot ? "all slots are taken by other sessions" : error.description))
      try flush()
      return nil
    }
    keeper.release(claim.slots)
    let grant = LinkGrant(
      slots: claim.slots,
      requests: RemotePart(token: .random(), range: layout.requests(of: claim.slots), access: .write),
      responses: RemotePart(token: .random(), range: layout.responsesPart, access: .read),
      scratch: RemotePart(token: .random(), range: layout.scratchPart, access: [.read, .write]))
    append(TCPWire.grant(grant))
    try flush()
    return (grant, claim)
  }

  /// Copies the bytes of a write to the region as they arrive.
  private mutating func write(_ offset: Int, _ count: Int) throws(LinkError) {
    var done = 0
    while done < count {
      if start == end { try fill(1) }
      // Whole words but at the end, so that no word is written in two halves.
      var length = min(count - done, end - start)
      if length < count - done {
        let whole = length & ~7
        if whole == 0 {
          try fill(min(8, count - done))
          continue
        }
        length = whole
      }
      try Self.ofRegion(
        incoming.withUnsafeBytes { bytes in
          Result { () throws(RegionError) in
            try region.store(UnsafeRawBufferPointer(rebasing: bytes[start..<start + length]), at: offset + done)
          }
        })
      start += length
      done += length
    }
  }

  /// Answers a read, after a short wait for the awaited value.
  private mutating func read(_ offset: Int, _ count: Int, _ operation: TCPWire.Operation) throws(LinkError) {
    func isAwaited() throws(LinkError) -> Bool {
      try Self.ofRegion(Result { () throws(RegionError) in try region.word(at: offset) == operation.awaiting })
    }
    if operation.awaiting != 0, offset % 8 == 0, count >= 8, try !isAwaited() {
      let limit = SystemCall.monotonicNanoseconds() + awaitLimit
      var turn = 0
      keeper.assist()
      while try !isAwaited(), SystemCall.monotonicNanoseconds() < limit {
        turn += 1
        if turn % 16 == 0 {
          keeper.assist()
          sched_yield()
        }
      }
    }
    reply(.init(number: operation.number, status: 0, count: UInt64(count)))
    unacknowledged = false
    var done = 0
    while done < count {
      // A piece at a time: what waits to be sent stays bounded, whatever is asked for.
      let length = min(count - done, 256 * 1024)
      let (region, from) = (region, offset + done)
      var result = Result<Void, RegionError>.success(())
      outgoing.append(addingCapacity: length) { span in
        span.withUnsafeMutableBufferPointer { bytes, initialized in
          let free = UnsafeMutableRawBufferPointer(bytes)[initialized..<initialized + length]
          result = Result { () throws(RegionError) in
            try region.load(into: UnsafeMutableRawBufferPointer(rebasing: free), at: from)
          }
          initialized += length
        }
      }
      try Self.ofRegion(result)
      done += length
      if outgoing.count >= 256 * 1024 { try flush() }
    }
  }

  /// What fails on the region ends the connection.
  private static func ofRegion<Success>(_ result: Result<Success, RegionError>) throws(LinkError) -> Success {
    do throws(RegionError) { return try result.get() } catch {
      throw LinkError("the owner's side", .region(error.description))
    }
  }

  private mutating func append(_ words: [UInt64]) {
    words.map(\.littleEndian).withUnsafeBytes { outgoing.append(contentsOf: $0) }
  }

  private mutating func reply(_ reply: TCPWire.Reply) { append(reply.words) }

  /// Acknowledges, and sends all that waits.
  private mutating func flush() throws(LinkError) {
    if unacknowledged {
      unacknowledged = false
      reply(.init(number: lastNumber, status: 0, count: 0))
    }
    var done = 0
    while done < outgoing.count {
      let count = try outgoing.withUnsafeBytes { socket.send(.init(rebasing: $0[done...])) }.get()
      done += count
      if count == 0 { _ = try socket.waitUntilReady(reading: false, writing: true, milliseconds: -1) }
    }
    outgoing.removeAll(keepingCapacity: true)
  }

  /// Receives until at least `count` bytes are at hand.
  private mutating func fill(_ count: Int) throws(LinkError) {
    if end - start >= count { return }
    if start == end {
      start = 0
      end = 0
    } else if incoming.count - start < max(count, 4096) {
      let rest = start..<end
      incoming.withUnsafeMutableBytes { $0.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[rest])) }
      end -= start
      start = 0
    }
    spin.start()
    defer { spin.finish() }
    while end - start < count {
      let (socket, free) = (socket, end)
      let received = try incoming.withUnsafeMutableBytes { socket.receive(.init(rebasing: $0[free...])) }.get()
      if let received {
        end += received
      } else if !spin.mayContinue() {
        _ = try socket.waitUntilReady(reading: true, writing: false, milliseconds: -1)
      }
    }
  }
}
