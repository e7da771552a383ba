import Glibc
import Host
import Region
import Synchronization

/// One connection of a ``TCPResponder`` that was lent slots, on a thread of its own.
struct TCPConnection {
  private let borrower: TCPBorrower
  private let socket: TCPSocket
  private let region: SharedRegion
  private let keeper: any SlotKeeper
  private let limits: TCPLimits
  private var incoming: [UInt8]
  private var start = 0
  private var end = 0
  private var outgoing: [UInt8] = []
  private var lastNumber: UInt64 = 0
  private var unacknowledged = false
  private var spin = SpinBudget()
  /// The watched memory as this connection names it; its tokens are told to sessions with the right to.
  private var windows: [(part: RemotePart, segment: OpenSegment)] = []
  /// Bytes that went to and fro before there was a session, in a region with keys.
  private var unprovenCount = 0

  /// The longest that a read is delayed because it awaits a value, in nanoseconds.
  private static let awaitLimit: UInt64 = 200_000
  /// How long a device may take until it shows that a session was made, in nanoseconds.
  private static let lineLimit: UInt64 = 50_000_000
  /// The most of the watched memory that is sent before the next look whether its reader still may, in bytes.
  private static let openPiece = 1 << 20
  /// Bytes that may go to and fro before there is a session: many times what a handshake takes.
  private static let unprovenLimit = 4 << 20

  init(borrower: TCPBorrower, region: SharedRegion, keeper: any SlotKeeper, limits: TCPLimits) {
    self.borrower = borrower
    socket = borrower.socket
    self.region = region
    self.keeper = keeper
    self.limits = limits
    // Pages that nothing arrives in cost nothing. What they hold is never looked at.
    incoming = [UInt8](unsafeUninitializedCapacity: 256 * 1024) { bytes, count in count = bytes.count }
  }

  /// Grants the slots, and serves until the connection ends.
  mutating func run() {
    do throws(LinkError) {
      let parts = try greet().parts
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
        if wanted == .read, let window = windows.first(where: { $0.part.token == operation.token }) {
          try read(window.part, window.segment, operation)
          continue
        }
        let part = parts.first { $0.token == operation.token }
        let fault =
          part.map {
            $0.fault(wanted, token: operation.token, offset: operation.offset, count: operation.count)
          } ?? .wrongToken
        var refused = fault
        if refused == nil { refused = try unprovenFault(operation, wanted) }
        if let fault = refused {
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
    } catch {
      // The other side went away or is at fault: its connection ends, nothing else does.
    }
  }

  private mutating func greet() throws(LinkError) -> LinkGrant {
    let (slots, layout) = (borrower.slots, region.layout)
    keeper.release(slots)
    let grant = LinkGrant(
      slots: slots,
      requests: RemotePart(token: .random(), range: layout.requests(of: slots), access: .write),
      responses: RemotePart(token: .random(), range: layout.responsesPart, access: .read),
      scratch: RemotePart(token: .random(), range: layout.scratchPart, access: [.read, .write]))
    for segment in keeper.openMemory {
      if let part = segment.window(.random()) { windows.append((part, segment)) }
    }
    if !windows.isEmpty { keeper.setWindows(windows.map(\.part), slots) }
    borrower.granted.store(SystemCall.monotonicNanoseconds(), ordering: .releasing)
    append(TCPWire.grant(grant))
    try flush()
    return grant
  }

  /// Why an access within a part is not allowed yet: while no key was proved, only the header, and requests, responses and lines of
  /// the connection's own slots are there for it.
  private mutating func unprovenFault(
    _ operation: TCPWire.Operation, _ wanted: RemotePart.Access
  ) throws(LinkError) -> AccessFault? {
    if borrower.isProven.load(ordering: .relaxed) { return nil }
    guard keeper.isKeyed else {
      borrower.isProven.store(true, ordering: .relaxed)
      return nil
    }
    let (region, slots, layout) = (region, borrower.slots, region.layout)
    let range = Int(operation.offset)..<Int(operation.offset + operation.count)
    var allowed = [layout.requests(of: slots)]
    if wanted == .read { allowed = [layout.headerPart, layout.lines(of: slots), layout.responses(of: slots)] }
    let isAllowed = allowed.contains { $0.lowerBound <= range.lowerBound && range.upperBound <= $0.upperBound }
    // A device writes the line of a session some time after it has made that.
    let limit = SystemCall.monotonicNanoseconds() + (isAllowed ? 0 : Self.lineLimit)
    let line = layout.lineOffset(slot: slots.lowerBound)
    repeat {
      if try Self.ofRegion(Result { () throws(RegionError) in try region.word(at: line) }) != 0 {
        borrower.isProven.store(true, ordering: .relaxed)
        return nil
      }
      guard !isAllowed else { break }
      keeper.assist()
      SystemCall.sleep(nanoseconds: 100_000)
    } while SystemCall.monotonicNanoseconds() < limit
    guard isAllowed else { return .outOfRange }
    unprovenCount += TCPWire.operationSize + range.count
    guard unprovenCount <= Self.unprovenLimit else {
      throw LinkError(socket.address, .protocolViolation("it moves bytes, and proves no key"))
    }
    return nil
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
      let limit = SystemCall.monotonicNanoseconds() + Self.awaitLimit
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

  /// Answers a read of the watched memory, from where that lies, for as long as the session may.
  private mutating func read(
    _ part: RemotePart, _ segment: OpenSegment, _ operation: TCPWire.Operation
  ) throws(LinkError) {
    let fault = part.fault(.read, token: operation.token, offset: operation.offset, count: operation.count)
    if let fault = keeper.wantsWindows(borrower.slots) ? fault : .wrongToken {
      reply(.init(number: operation.number, status: UInt64(fault.rawValue), count: 0))
      return try flush()
    }
    reply(.init(number: operation.number, status: 0, count: operation.count))
    unacknowledged = false
    try flush()
    var rest = segment.bytes[Int(operation.offset - segment.start)...].prefix(Int(operation.count))
    while !rest.isEmpty {
      let piece = rest.prefix(Self.openPiece)
      try send(UnsafeRawBufferPointer(rebasing: piece))
      rest = rest.dropFirst(piece.count)
      guard rest.isEmpty || keeper.wantsWindows(borrower.slots) else {
        throw LinkError(socket.address, .protocolViolation("its session ended amid a read"))
      }
    }
    if let lost = segment.lost, lost.pointee != 0 {
      throw LinkError(socket.address, .region("the watched memory is gone"))
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
    try outgoing.withUnsafeBytes { bytes in Result { () throws(LinkError) in try send(bytes) } }.get()
    outgoing.removeAll(keepingCapacity: true)
  }

  /// Sends all of `bytes`.
  private func send(_ bytes: UnsafeRawBufferPointer) throws(LinkError) {
    var done = 0
    while done < bytes.count {
      let count = try socket.send(.init(rebasing: bytes[done...])).get()
      done += count
      if count > 0 { continue }
      borrower.stalled.store(SystemCall.monotonicNanoseconds(), ordering: .relaxed)
      let time = Int32(clamping: limits.reading / 1_000_000)
      guard try socket.waitUntilReady(reading: false, writing: true, milliseconds: time) else {
        throw LinkError(socket.address, .deadlinePassed)
      }
      borrower.stalled.store(0, ordering: .relaxed)
    }
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
