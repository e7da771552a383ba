import Glibc
import Host
import Region

/// A link to a region over TCP, for machines without RDMA: the owner's ``TCPResponder`` does what a network card would.
public final class TCPLink: Link, @unchecked Sendable {
  // Used by one thread at a time, as every link.
  public let address: String
  public let grant: LinkGrant
  public var polling: LinkPolling { .wholeOnce }

  private struct PendingRead {
    var number: UInt64
    var buffer: LinkBuffer
    var range: Range<Int>
  }

  private let socket: TCPSocket
  private var posted: UInt64 = 0
  private var completed: UInt64 = 0
  private var ended: LinkError?
  private var outgoing: [UInt8] = []
  private var sent = 0
  /// Reads that were posted and not answered, oldest first, from `firstRead` on.
  private var reads: [PendingRead] = []
  private var firstRead = 0
  /// Bytes received and not consumed: `consumed..<received` of `incoming`.
  private let incoming = LinkBuffer(byteCount: 64 * 1024)
  private var consumed = 0
  private var received = 0
  /// How many bytes of the oldest read's answer are still to come, while one is arriving.
  private var arriving = 0
  private var spin = SpinBudget()

  /// How much may wait to be sent before posting more makes progress first, in bytes.
  private static let outgoingLimit = 4 << 20

  /// Connects, and takes up to `slots` slots.
  ///
  /// - Throws: ``LinkError`` where nobody answers in time, or grants no slot.
  public init(host: String, port: UInt16, slots: Int, within timeout: Duration) throws(LinkError) {
    let deadline = ContinuousClock.now + timeout
    (socket, grant) = try Self.open(host: host, port: port, slots: slots, until: deadline)
    address = socket.address
  }

  /// Connects and is granted slots.
  ///
  /// Whoever lends them may have to close connections that it has not heard yet; so one that is closed is tried again.
  private static func open(
    host: String, port: UInt16, slots: Int, until deadline: ContinuousClock.Instant
  ) throws(LinkError) -> (TCPSocket, LinkGrant) {
    var attempt = 1
    while true {
      let socket = try TCPSocket.connect(host: host, port: port, until: deadline)
      do throws(LinkError) {
        try send(socket, TCPWire.hello(slots: slots, patience: deadline - .now))
        switch TCPWire.parseGrant(try receive(socket, words: TCPWire.grantSize / 8, until: deadline)) {
        case .granted(let grant): return (socket, grant)
        case .refused(let why): throw LinkError(socket.address, .refused(why))
        case .malformed(let why): throw LinkError(socket.address, .protocolViolation(why))
        }
      } catch {
        guard error.reason == .peerGone else { throw error }
        guard attempt < attempts, ContinuousClock.now + attemptPause * attempt < deadline else {
          throw LinkError(socket.address, .notServed)
        }
      }
      attempt += 1
      SystemCall.sleep(nanoseconds: UInt64(attempt) * UInt64(attemptPause / .nanoseconds(1)))
    }
  }

  private static let attempts = 8
  /// After the first attempt, and so much longer after each.
  private static let attemptPause = Duration.milliseconds(20)

  deinit { socket.shutdown() }

  private static func send(_ socket: TCPSocket, _ words: [UInt64]) throws(LinkError) {
    let count = try words.map(\.littleEndian).withUnsafeBytes { socket.send($0) }.get()
    guard count == words.count * 8 else { throw LinkError(socket.address, .deadlinePassed) }
  }

  private static func receive(
    _ socket: TCPSocket, words count: Int, until deadline: ContinuousClock.Instant
  ) throws(LinkError) -> [UInt64] {
    var words = [UInt64](repeating: 0, count: count)
    var done = 0
    while done < count * 8 {
      guard
        try socket.waitUntilReady(reading: true, writing: false, milliseconds: TCPSocket.milliseconds(until: deadline))
      else {
        throw LinkError(socket.address, .deadlinePassed)
      }
      done += try words.withUnsafeMutableBytes { socket.receive(.init(rebasing: $0[done...])) }.get() ?? 0
    }
    return words.map(UInt64.init(littleEndian:))
  }

  public func makeBuffer(byteCount: Int) throws(LinkError) -> LinkBuffer { LinkBuffer(byteCount: byteCount) }

  public func lend(_ bytes: UnsafeMutableRawBufferPointer) -> LinkBuffer? {
    bytes.baseAddress.map { LinkBuffer(lending: bytes, at: $0) }
  }

  public func postWrite(
    _ buffer: LinkBuffer, _ range: Range<Int>, to part: RemotePart, offset: Int, fenced: Bool
  ) throws(LinkError) -> UInt64 {
    // The responder works in order, so every write is fenced.
    let number = try post(.write, part, offset: offset, count: range.count, awaiting: 0)
    buffer.withBytes(range) { outgoing.append(contentsOf: $0) }
    return number
  }

  public func postRead(
    into buffer: LinkBuffer, _ range: Range<Int>, from part: RemotePart, offset: Int, awaiting: UInt64?
  ) throws(LinkError) -> UInt64 {
    let number = try post(.read, part, offset: offset, count: range.count, awaiting: awaiting ?? 0)
    reads.append(PendingRead(number: number, buffer: buffer, range: range))
    return number
  }

  /// Queues an operation's header.
  ///
  /// Nothing leaves before the next call of ``poll()`` or ``wait(for:until:)``, so that operations posted together
  /// travel together.
  private func post(
    _ kind: TCPWire.Kind, _ part: RemotePart, offset: Int, count: Int, awaiting: UInt64
  ) throws(LinkError) -> UInt64 {
    if let ended { throw ended }
    if outgoing.count - sent > Self.outgoingLimit { try progress() }
    posted += 1
    let operation = TCPWire.Operation(
      kind: kind, number: posted, token: part.token, offset: UInt64(bitPattern: Int64(offset)),
      count: UInt64(count), awaiting: awaiting)
    withUnsafeTemporaryAllocation(byteCount: TCPWire.operationSize, alignment: 8) { bytes in
      if let base = bytes.baseAddress { operation.store(in: base) }
      outgoing.append(contentsOf: bytes)
    }
    return posted
  }

  public func poll() throws(LinkError) -> UInt64 {
    if let ended { throw ended }
    // With nothing under way there is nothing to ask the kernel for.
    if completed < posted { try progress() }
    return completed
  }

  public func wait(for number: UInt64, until deadline: ContinuousClock.Instant) throws(LinkError) {
    if let ended { throw ended }
    precondition(number <= posted, "operation \(number) was never posted")
    guard completed < number else { return }
    try progress()
    guard completed < number else { return }
    spin.start()
    defer { spin.finish() }
    while completed < number {
      if spin.mayContinue() {
        try progress()
        continue
      }
      let ready: Bool
      do throws(LinkError) {
        ready = try socket.waitUntilReady(
          reading: true, writing: sent < outgoing.count, milliseconds: TCPSocket.milliseconds(until: deadline))
      } catch {
        throw end(error)
      }
      try progress()
      if !ready, completed < number, ContinuousClock.now >= deadline {
        throw end(LinkError(address, .deadlinePassed))
      }
    }
  }

  public func close() {
    if ended == nil { ended = LinkError(address, .peerGone) }
    socket.shutdown()
  }

  private func end(_ error: LinkError) -> LinkError {
    ended = error
    socket.shutdown()
    return error
  }

  /// Sends and receives what can be without waiting.
  private func progress() throws(LinkError) {
    do throws(LinkError) {
      if sent < outgoing.count {
        sent += try outgoing.withUnsafeBytes { socket.send(.init(rebasing: $0[sent...])) }.get()
        if sent == outgoing.count {
          outgoing.removeAll(keepingCapacity: true)
          sent = 0
        }
      }
      while try receive() {}
    } catch {
      throw end(error)
    }
  }

  /// Takes in what is there.
  ///
  /// - Returns: whether there may be more at once.
  private func receive() throws(LinkError) -> Bool {
    if arriving > 0, consumed == received {
      // Straight to where it is wanted.
      let read = reads[firstRead]
      let rest = read.range.upperBound - arriving..<read.range.upperBound
      guard let count = try read.buffer.withBytes(rest, { socket.receive($0) }).get() else {
        return false
      }
      arriving -= count
      if arriving == 0 { finishRead() }
      return true
    }
    if consumed == received {
      consumed = 0
      received = 0
    } else if consumed > incoming.byteCount / 2 {
      incoming.withBytes(0..<incoming.byteCount) { bytes in
        bytes.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[consumed..<received]))
      }
      received -= consumed
      consumed = 0
    }
    let space = received..<incoming.byteCount
    guard let count = try incoming.withBytes(space, { socket.receive($0) }).get() else {
      return false
    }
    received += count
    try consume()
    return count == space.count || arriving > 0
  }

  private func consume() throws(LinkError) {
    while true {
      if arriving > 0 {
        let read = reads[firstRead]
        let count = min(arriving, received - consumed)
        incoming.withBytes(consumed..<consumed + count) { from in
          let start = read.range.upperBound - arriving
          read.buffer.withBytes(start..<start + count) { $0.copyMemory(from: UnsafeRawBufferPointer(from)) }
        }
        consumed += count
        arriving -= count
        if arriving > 0 { return }
        finishRead()
      }
      guard received - consumed >= TCPWire.replySize else { return }
      let (number, status, count) = incoming.withBytes(consumed..<consumed + TCPWire.replySize) { bytes in
        (
          UInt64(littleEndian: bytes.loadUnaligned(as: UInt64.self)),
          UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)),
          UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: 16, as: UInt64.self))
        )
      }
      consumed += TCPWire.replySize
      guard number > completed, number <= posted else {
        throw LinkError(address, .protocolViolation("it acknowledges what was not asked"))
      }
      if status != 0 {
        guard let fault = AccessFault(rawValue: UInt32(truncatingIfNeeded: status)) else {
          throw LinkError(address, .protocolViolation("it answers with status \(status)"))
        }
        throw LinkError(address, .accessDenied(fault))
      }
      let oldest = firstRead < reads.count ? reads[firstRead] : nil
      if let oldest, oldest.number <= number {
        guard oldest.number == number, count == UInt64(oldest.range.count) else {
          throw LinkError(address, .protocolViolation("a read of \(oldest.range.count) bytes got \(count)"))
        }
        arriving = Int(count)
        if arriving == 0 { finishRead() }
      } else {
        guard count == 0 else { throw LinkError(address, .protocolViolation("a write got bytes")) }
        completed = number
      }
    }
  }

  private func finishRead() {
    completed = reads[firstRead].number
    firstRead += 1
    if firstRead == reads.count {
      reads.removeAll(keepingCapacity: true)
      firstRead = 0
    } else if firstRead > 1024 {
      reads.removeFirst(firstRead)
      firstRead = 0
    }
  }
}
