import CRegion
import Host
public import Links
public import Memory
public import Paging
import Region
import Synchronization

/// A conversation with a device over a link.
///
/// Requests go out over all slots that the owner granted, one write each; an answer is fetched with its flag by one
/// read where the link or its size makes that sensible. Threads may share a session: each call has it to itself. An
/// error of the link ends the session; every other error leaves it usable.
public final class Session: Sendable {
  /// The device's address.
  public let host: String
  /// How long a call may take, unless it says otherwise.
  public let timeout: Duration
  /// The longest request and response payloads, in bytes.
  package let requestCapacity: Int
  package let responseCapacity: Int
  /// How many requests are in flight at most.
  public let slotCount: Int
  /// How many last words the region has room for.
  let wordsCount: Int
  private let isKeyed: Bool
  private let exchange: Locked<Exchange>
  private let waves = Atomic<Int>(0)
  /// Whether many threads of the device share an answer, as it has said.
  private let isWide = Atomic<Bool>(false)

  /// Connects to the device at `address`.
  ///
  /// - Throws: ``SessionError`` where there is no connection, or the region is of another version.
  public convenience init(
    to address: LinkAddress, slots: Int = 4, timeout: Duration = .seconds(5), keys: SessionKeys? = nil
  ) throws(SessionError) {
    let made = try Self.begin(to: address, slots: slots, timeout: timeout, keys: keys)
    self.init(made.exchange, host: made.link.address, timeout: timeout)
  }

  /// Connects, and makes a session; once more where this side was so slow that the other took it for one who says nothing.
  ///
  /// `lent` is what the session uses of the link.
  static func begin(
    to address: LinkAddress, slots: Int, timeout: Duration, keys: SessionKeys?, _ lent: (any Link) -> any Link = { $0 }
  ) throws(SessionError) -> (link: any Link, exchange: Exchange) {
    let end = ContinuousClock.now + timeout
    while true {
      let start = ContinuousClock.now
      let link: any Link
      do throws(LinkError) {
        link = lent(try address.connect(slots: slots, within: max(end - start, .milliseconds(1))))
      } catch {
        throw SessionError(address.description, .link(error))
      }
      do throws(SessionError) {
        return (link, try Exchange(link: link, keys: keys, until: end))
      } catch {
        guard case .link(let cause) = error.reason, cause.reason == .peerGone,
          ContinuousClock.now - start > .milliseconds(500), ContinuousClock.now < end
        else { throw error }
      }
    }
  }

  /// Begins a session over a link, which is the session's own from then on.
  ///
  /// - Throws: ``SessionError`` where the region's header cannot be read or is not of this version.
  public convenience init(
    link: any Link, timeout: Duration = .seconds(5), keys: SessionKeys? = nil
  ) throws(SessionError) {
    self.init(try Exchange(link: link, keys: keys, until: .now + timeout), host: link.address, timeout: timeout)
  }

  /// A session over an exchange that has begun.
  init(_ exchange: sending Exchange, host: String, timeout: Duration) {
    self.host = host
    self.timeout = timeout
    requestCapacity = exchange.requestCapacity
    responseCapacity = exchange.responseCapacity
    slotCount = exchange.slotCount
    isKeyed = exchange.layout.hasKeys
    wordsCount = exchange.layout.wordsCount
    self.exchange = Locked(exchange)
  }

  deinit { exchange.withLock { $0.close() } }

  /// How many bytes to ask for with one request where an even share is `share`: less is not worth a request of its own, and
  /// of more, all would be answered before the first is taken out.
  ///
  /// What is sealed is opened here while the device seals the next, and each takes long: so it comes in smaller pieces, unless many
  /// threads seal there.
  package func pieceSize(share: Int) -> Int {
    let isSlow = isKeyed && !isWide.load(ordering: .relaxed)
    return min(max(share, 64 * 1024), (isSlow ? 64 : 512) * 1024)
  }

  /// Ends the session and its link.
  ///
  /// A second call does nothing.
  public func close() { exchange.withLock { $0.close() } }

  /// How many round trips this session has made: requests that were in flight together count as one, and so does a
  /// read of the beacon.
  public var roundTrips: Int { waves.load(ordering: .relaxed) }

  /// Performs `count` requests, as many at a time as there are slots.
  ///
  /// - Parameters:
  ///   - count: how many.
  ///   - timeout: how long all of them may take; nil for what the session says.
  ///   - prepare: stores the payload of request n, and returns its length and that of the answer expected.
  ///   - accept: takes the answer's payload of request n, in private memory; it may come before those of lower numbers.
  /// - Throws: ``SessionError`` where the link ends, an answer is false or does not come, and whatever `accept` throws.
  package func perform(
    _ count: Int, within timeout: Duration?,
    prepare: (Int, UnsafeMutableRawBufferPointer) -> (request: Int, response: Int),
    accept: (Int, UnsafeRawBufferPointer) throws(SessionError) -> Void
  ) throws(SessionError) {
    let deadline = ContinuousClock.now + (timeout ?? self.timeout)
    waves.add((count + slotCount - 1) / slotCount, ordering: .relaxed)
    try exchange.withLock { exchange throws(SessionError) in
      try exchange.perform(count, until: deadline, prepare: prepare, accept: accept)
    }
  }

  /// One request, and its answer past the part that all answers have.
  private func ask(
    _ operation: grass_operation, answer size: Int, within timeout: Duration?
  ) throws(SessionError) -> [UInt8] {
    var answer: [UInt8] = []
    try perform(1, within: timeout) { _, payload in
      payload.storeBytes(
        of: grass_request(operation: operation.rawValue, count: 0, format: 0, reserved: 0), as: grass_request.self)
      return (MemoryLayout<grass_request>.size, MemoryLayout<grass_response>.size + size)
    } accept: { _, payload throws(SessionError) in
      let response = try self.response(payload, to: operation)
      let rest = payload.count - MemoryLayout<grass_response>.size
      guard rest >= size else { throw badAnswer("it is too short") }
      if operation == GRASS_INFO {
        guard rest == size + Int(response.count) * MemoryLayout<grass_segment>.size else {
          throw badAnswer("it announces \(response.count) segments in \(rest) bytes")
        }
      } else if rest != size {
        throw badAnswer("it is too long")
      }
      answer = [UInt8](payload[MemoryLayout<grass_response>.size...])
    }
    return answer
  }

  /// The start of an answer, which is not an error.
  func response(
    _ payload: UnsafeRawBufferPointer, to operation: grass_operation
  ) throws(SessionError) -> grass_response {
    guard payload.count >= MemoryLayout<grass_response>.size else { throw badAnswer("it is too short") }
    let response = payload.loadUnaligned(as: grass_response.self)
    guard response.status == GRASS_OK.rawValue else {
      throw SessionError(host, .refused(.init(rawValue: response.status)))
    }
    guard response.reserved == 0 else { throw badAnswer("a field is not zero that has to be") }
    guard response.operation == operation.rawValue else {
      throw badAnswer("it belongs to operation \(response.operation)")
    }
    return response
  }

  func badAnswer(_ why: String) -> SessionError { SessionError(host, .badAnswer(why)) }

  /// Asks whether the device lives, and waits for its answer.
  ///
  /// - Returns: the device's clock in nanoseconds.
  /// - Throws: ``SessionError`` where the link ends, or the answer is false or does not come.
  @discardableResult
  public func heartbeat(within timeout: Duration? = nil) throws(SessionError) -> UInt64 {
    try ask(GRASS_HEARTBEAT, answer: MemoryLayout<grass_heartbeat_answer>.size, within: timeout)
      .withUnsafeBytes { $0.loadUnaligned(as: grass_heartbeat_answer.self).clock }
  }

  /// Reads the device's beacon, in which it has no part.
  ///
  /// - Throws: ``SessionError`` where the link ends, or the beacon stays torn.
  public func beacon(within timeout: Duration? = nil) throws(SessionError) -> Beacon {
    let deadline = ContinuousClock.now + (timeout ?? self.timeout)
    waves.add(1, ordering: .relaxed)
    return try exchange.withLock { exchange throws(SessionError) in try exchange.beacon(until: deadline) }
  }

  func withExchange<Value, Failure>(_ body: (Exchange) throws(Failure) -> Value) throws(Failure) -> Value {
    try exchange.withLock { exchange throws(Failure) in try body(exchange) }
  }

  /// Has `body` read what the device writes without being asked, as one round trip.
  func read<Value>(
    until deadline: ContinuousClock.Instant, _ body: (Exchange) throws(SessionError) -> Value
  ) throws(SessionError) -> Value {
    waves.add(1, ordering: .relaxed)
    return try exchange.withLock { exchange throws(SessionError) in try body(exchange) }
  }

  /// Asks what the device sees.
  ///
  /// - Throws: ``SessionError`` where the link ends, or the answer is false or does not come.
  public func info(within timeout: Duration? = nil) throws(SessionError) -> DeviceInfo {
    let answer = try ask(GRASS_INFO, answer: MemoryLayout<grass_info_answer>.size, within: timeout)
    let info = answer.withUnsafeBytes { $0.loadUnaligned(as: grass_info_answer.self) }
    guard info.most_digested >= UInt64(GRASS_PAGE) else { throw badAnswer("digests of less than a page at a time") }
    isWide.store(DeviceInfo.Features(rawValue: info.features).contains(.wide), ordering: .relaxed)
    var segments: [MemorySegment] = []
    var end: UInt64 = 0
    for offset in stride(
      from: MemoryLayout<grass_info_answer>.size, to: answer.count, by: MemoryLayout<grass_segment>.size)
    {
      let segment = answer.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: grass_segment.self) }
      let (next, overflow) = segment.start.addingReportingOverflow(segment.count)
      guard segment.start >= end, !overflow else { throw badAnswer("its segments overlap") }
      end = next
      segments.append(MemorySegment(segment))
    }
    return DeviceInfo(
      version: info.version, features: .init(rawValue: info.features), segments: segments,
      kernelHint: info.kernel_hint == 0 ? nil : PhysicalAddress(info.kernel_hint), clock: info.clock,
      served: info.served, refused: info.refused, torn: info.torn, mostDigested: info.most_digested)
  }

  /// Reads all entries of `batch` in the device's memory, in one round trip where the slots hold them.
  ///
  /// Faults of the watched memory are the batch's; the error thrown says that the device could not be asked, and then
  /// the batch is not filled.
  public func gather(
    _ batch: inout ReadBatch<MemoryLocation>, format: PageTableFormat, within timeout: Duration? = nil
  ) throws(SessionError) {
    try Gather(session: self, format: format).read(&batch, within: timeout)
  }
}
