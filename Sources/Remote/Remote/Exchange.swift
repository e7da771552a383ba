import CRegion
import CSeal
import Glibc
import Host
import Keys
import Links
import Records
import Region

/// The slots of one session: what is in flight over the link, and where answers land.
///
/// Used only under its session's lock.
final class Exchange: @unchecked Sendable {
  let slotCount: Int
  let requestCapacity: Int
  let responseCapacity: Int
  let link: any Link
  let layout: RegionLayout
  /// The first of the region's slots that were granted.
  let firstSlot: Int
  private let requests: LinkBuffer
  private let responses: LinkBuffer
  private var sequence: UInt64
  /// What records are sealed under, where the region is one with keys.
  var sealing: Sealing?
  let keys: SessionKeys?
  /// Number of the last operation posted: until it has completed, the buffers are the link's.
  private var posted: UInt64 = 0
  /// What is read past the device lands here first; made when it is.
  private var window: LinkBuffer?
  /// Number of the read of a line that nobody waits for, 0 for none: of use as long as nothing else was posted.
  private var lineRead: UInt64 = 0

  /// A request in flight.
  private struct Flight {
    var job: Int
    var sequence: UInt64
    /// Bytes of the answer's record, as far as they are known.
    var expected: Int
    /// The read posted last, 0 before the first, and how many bytes it asks for.
    var read: UInt64 = 0
    var readSize = 0
    /// With keys: under which numbers it was asked before, when it is asked again, and how often it was.
    var earlier: [UInt64] = []
    var askAgain: UInt64 = 0
    var attempts = 0
  }

  /// What is worth reading again and again while waiting, in bytes; a longer answer's head is polled first.
  private static let pollLimit = 16 * 1024
  private static let headSize = 64
  /// How long to poll without a pause, in nanoseconds, and how often at least: one read may take as long.
  private static let busyTime: UInt64 = 200_000
  private static let busyTurns = 16
  private static let longestSleep: UInt64 = 1_000_000
  /// After how long a sealed request is asked again, in nanoseconds, and twice as long each time; a run takes longer by itself.
  ///
  /// A true link loses none, but somebody between may.
  private static let patience: UInt64 = 500_000_000
  private static let patienceOfRuns: UInt64 = 5_000_000_000

  init(link: any Link, keys: SessionKeys?, until deadline: ContinuousClock.Instant) throws(SessionError) {
    let host = link.address
    do throws(LinkError) {
      let headerSize = MemoryLayout<grass_header>.size
      guard link.grant.responses.range.count >= headerSize else {
        throw LinkError(host, .protocolViolation("no header"))
      }
      let buffer = try link.makeBuffer(byteCount: headerSize)
      let number = try link.postRead(
        into: buffer, 0..<headerSize, from: link.grant.responses, offset: link.grant.responses.range.lowerBound,
        awaiting: nil)
      try link.wait(for: number, until: deadline)
      let header = buffer.load(0..<headerSize)
      let grant = link.grant
      // What the grant covers, the header must describe: no offset below leaves either.
      guard let layout = RegionLayout(parsing: header.span.bytes), grant.slots.upperBound <= layout.slotCount,
        !grant.slots.isEmpty, grant.responses.range == layout.responsesPart,
        grant.requests.range == layout.requests(of: grant.slots)
      else { throw LinkError(host, .protocolViolation("its header and its grant disagree")) }
      self.layout = layout
      self.link = link
      self.keys = keys
      firstSlot = grant.slots.lowerBound
      slotCount = grant.slots.count
      requests = try link.makeBuffer(byteCount: layout.requestSize * slotCount)
      responses = try link.makeBuffer(byteCount: layout.responseSize * slotCount)
    } catch {
      throw SessionError(host, .link(error))
    }
    requestCapacity = Int(grass_record_capacity(UInt64(layout.requestSize)))
    responseCapacity = Int(grass_record_capacity(UInt64(layout.responseSize)))
    // A start nobody had before: what a former session left in the slots never matches. The top bits are the epoch, 0
    // without keys; the next is clear, so that counting on does not reach them.
    sequence = UInt64.random(in: 1 << 32..<1 << UInt64(GRASS_EPOCH_SHIFT - 1))
    if layout.hasKeys {
      try shakeHands(until: deadline)
    } else if let why = keys?.refusesKeyless {
      throw SessionError(host, .hasNoKeys(why))
    }
  }

  func close() { link.close() }

  /// What this session may do; all where it needs no keys.
  var rights = Rights(rawValue: UInt32(GRASS_ALL_RIGHTS))
  /// When its key ends, in seconds since 1970, 0 for never.
  var expiry: UInt64 = 0

  func onLink<Result>(_ body: () throws(LinkError) -> Result) throws(SessionError) -> Result {
    do throws(LinkError) { return try body() } catch { throw SessionError(link.address, .link(error)) }
  }

  func beacon(until deadline: ContinuousClock.Instant) throws(SessionError) -> Beacon {
    try read(MemoryLayout<grass_beacon>.size, at: layout.beaconOffset, until: deadline) { Beacon($0) }
  }

  /// Reads what the device writes without being asked, again and again until it is whole: `body` returns nil where it is not.
  ///
  /// `size` is at most what one response takes.
  func read<Value>(
    _ size: Int, at offset: Int, until deadline: ContinuousClock.Instant, _ body: (UnsafeRawBufferPointer) -> Value?
  ) throws(SessionError) -> Value {
    guard size <= layout.responseSize * slotCount else { throw SessionError(link.address, .tooLarge) }
    while true {
      try onLink { () throws(LinkError) in
        if posted > 0 { try link.wait(for: posted, until: deadline) }
        posted = try link.postRead(into: responses, 0..<size, from: link.grant.responses, offset: offset, awaiting: nil)
        try link.wait(for: posted, until: deadline)
      }
      if let value = responses.withBytes(0..<size, { body(UnsafeRawBufferPointer($0)) }) { return value }
      if ContinuousClock.now >= deadline { throw SessionError(link.address, .tornAnswer) }
    }
  }

  /// Memory to be read past the device.
  struct WindowRead {
    let part: RemotePart
    /// Physical.
    let address: Int
    /// Where it goes.
    let bytes: UnsafeMutableRawBufferPointer
  }

  /// So much is asked for at a time, and so often before the first has come.
  private static let windowPiece = 1 << 20, windowDepth = 16

  /// Reads the memory past the device, many pieces on their way at once.
  func read(_ reads: [WindowRead], until deadline: ContinuousClock.Instant) throws(SessionError) {
    try onLink { () throws(LinkError) in
      if posted > 0 { try link.wait(for: posted, until: deadline) }
      // What is on its way, in its order: where it lands, and where it goes from there unless that is the same.
      var flights: [(number: UInt64, buffer: LinkBuffer, range: Range<Int>, to: UnsafeMutableRawPointer?)] = []
      var first = 0
      func land() throws(LinkError) {
        let flight = flights[first]
        try link.wait(for: flight.number, until: deadline)
        if let to = flight.to {
          flight.buffer.withBytes(flight.range) { bytes in
            if let from = bytes.baseAddress { to.copyMemory(from: from, byteCount: bytes.count) }
          }
        }
        first += 1
      }
      // Short ones take a place as long ones do.
      var turn = 0
      for read in reads {
        let lent = link.lend(read.bytes)
        if lent == nil, window == nil {
          window = try link.makeBuffer(byteCount: Self.windowPiece * Self.windowDepth)
        }
        guard let buffer = lent ?? window, let base = read.bytes.baseAddress else { continue }
        var done = 0
        while done < read.bytes.count {
          if flights.count - first == Self.windowDepth { try land() }
          let count = min(Self.windowPiece, read.bytes.count - done)
          let place = lent == nil ? turn % Self.windowDepth * Self.windowPiece : done
          turn += 1
          posted = try link.postRead(
            into: buffer, place..<place + count, from: read.part, offset: read.address + done, awaiting: nil)
          flights.append((posted, buffer, place..<place + count, lent == nil ? base + done : nil))
          done += count
        }
      }
      while first < flights.count { try land() }
    }
  }

  /// Posts a read of this session's line, for ``pollLine(_:_:)`` to look at.
  func postLine() throws(SessionError) {
    let isFree = try onLink { () throws(LinkError) in try link.poll() >= posted }
    // What is under way lands where the line would.
    guard isFree else { return }
    posted = try onLink { () throws(LinkError) in
      try link.postRead(
        into: responses, 0..<MemoryLayout<grass_session_line>.size, from: link.grant.responses,
        offset: layout.lineOffset(slot: firstSlot), awaiting: nil)
    }
    lineRead = posted
  }

  /// What became of that read, without waiting; `body` returns nil for what is torn.
  func pollLine(_ size: Int, _ body: (UnsafeRawBufferPointer) -> SessionLine?) throws(SessionError) -> LineReading {
    guard lineRead != 0, lineRead == posted else { return .none }
    guard try onLink({ () throws(LinkError) in try link.poll() }) >= posted else { return .pending }
    lineRead = 0
    return responses.withBytes(0..<size) { body(UnsafeRawBufferPointer($0)) }.map { .line($0) } ?? .torn
  }

  /// One request and its answer in the first slot, in clear: of a handshake.
  func performPlain(
    until deadline: ContinuousClock.Instant, prepare: (UnsafeMutableRawBufferPointer) -> (request: Int, response: Int),
    accept: (UnsafeRawBufferPointer) -> Void
  ) throws(SessionError) {
    let sealing = sealing
    self.sealing = nil
    defer { self.sealing = sealing }
    // Whoever is between can lose it: it is asked again under another number.
    let end = min(deadline, ContinuousClock.now + .seconds(2))
    do throws(SessionError) {
      try performNow(
        1, until: end, prepare: { _, payload in prepare(payload) }, accept: { _, payload in accept(payload) })
    } catch {
      switch error.reason {
      case .noAnswer, .tornAnswer: throw SessionError(link.address, .handshakeFailed)
      default: throw error
      }
    }
  }

  /// Performs `count` requests, as many at a time as there are slots.
  func perform(
    _ count: Int, until deadline: ContinuousClock.Instant,
    prepare: (Int, UnsafeMutableRawBufferPointer) -> (request: Int, response: Int),
    accept: (Int, UnsafeRawBufferPointer) throws(SessionError) -> Void
  ) throws(SessionError) {
    guard sealing != nil else {
      return try performNow(count, until: deadline, prepare: prepare, accept: accept)
    }
    var remaining = Array(0..<count)
    while true {
      var isDone = [Bool](repeating: false, count: remaining.count)
      do throws(SessionError) {
        return try performNow(
          remaining.count, until: deadline, prepare: { job, payload in prepare(remaining[job], payload) },
          accept: { job, payload throws(SessionError) in
            try accept(remaining[job], payload)
            isDone[job] = true
          })
      } catch {
        if error.reason == .refused(.notAllowed) { throw SessionError(link.address, .notAllowed(rights.description)) }
        guard isLost, error.reason == .noAnswer || error.reason == .tornAnswer else { throw error }
      }
      // The device has forgotten the session: another program of it has begun, or the key was taken out of its list.
      remaining = remaining.indices.filter { !isDone[$0] }.map { remaining[$0] }
      try shakeHands(until: deadline)
    }
  }

  /// Whether the last call ended since a session's records were not answered, however often, and there was still time.
  var isLost = false
  /// How often a sealed request is asked before the session counts as lost.
  private static let mostAttempts = 2

  func performNow(
    _ count: Int, until deadline: ContinuousClock.Instant,
    prepare: (Int, UnsafeMutableRawBufferPointer) -> (request: Int, response: Int),
    accept: (Int, UnsafeRawBufferPointer) throws(SessionError) -> Void
  ) throws(SessionError) {
    isLost = false
    // Of a call that ended early.
    if posted > 0 { try onLink { () throws(LinkError) in try link.wait(for: posted, until: deadline) } }
    var flights = [Flight?](repeating: nil, count: slotCount)
    var launched = 0
    var done = 0
    while launched < min(count, slotCount) {
      flights[launched] = try launch(launched, slot: launched, prepare)
      launched += 1
    }
    var silentSince: UInt64?
    var sawTorn = false
    var turn = 0
    var passes = 0
    while done < count {
      // Also where there is always something new: answers that somebody spoils again and again.
      passes &+= 1
      if passes % 256 == 0, ContinuousClock.now >= deadline {
        throw SessionError(link.address, sawTorn ? .tornAnswer : .noAnswer)
      }
      var oldest = UInt64.max
      for case let flight? in flights { oldest = min(oldest, flight.read) }
      let completed = try onLink { () throws(LinkError) in
        try link.wait(for: oldest, until: deadline)
        return try link.poll()
      }
      var isSilent = true
      for slot in flights.indices {
        guard var flight = flights[slot], flight.read <= completed else { continue }
        let start = slot * layout.responseSize
        let (verdict, length) = judge(flight, slot: slot, at: start)
        switch verdict {
        case GRASS_RECORD_WHOLE:
          let payload = start + MemoryLayout<grass_record>.size
          flights[slot] = nil
          try responses.withBytes(payload..<payload + Int(length)) { bytes throws(SessionError) in
            try accept(flight.job, UnsafeRawBufferPointer(bytes))
          }
          done += 1
          isSilent = false
          if launched < count {
            flights[slot] = try launch(launched, slot: slot, prepare)
            launched += 1
          }
          continue
        case GRASS_RECORD_LONGER:
          flight.expected = Int(grass_record_size(length))
          isSilent = false
          try fetch(&flight, slot: slot, size: flight.expected)
        default:
          // Not there yet, or not whole yet: what is there in a moment, another read tells.
          if verdict != GRASS_RECORD_OTHER { sawTorn = true }
          if sealing != nil, SystemCall.monotonicNanoseconds() >= flight.askAgain {
            guard flight.attempts < Self.mostAttempts else {
              isLost = true
              throw SessionError(link.address, sawTorn ? .tornAnswer : .noAnswer)
            }
            try askAgain(&flight, slot: slot, prepare, until: deadline)
          } else {
            try fetch(&flight, slot: slot, size: pollSize(flight))
          }
        }
        flights[slot] = flight
      }
      if !isSilent {
        silentSince = nil
        turn = 0
        continue
      }
      let now = SystemCall.monotonicNanoseconds()
      let since = silentSince ?? now
      silentSince = since
      turn += 1
      if now - since > Self.busyTime, turn > Self.busyTurns {
        SystemCall.sleep(nanoseconds: min((now - since) / 20, Self.longestSleep))
      } else if turn % 8 == 0 {
        sched_yield()
      } else {
        grass_pause()
      }
      if turn % 16 == 0 || now - since > Self.busyTime, ContinuousClock.now >= deadline {
        throw SessionError(link.address, sawTorn ? .tornAnswer : .noAnswer)
      }
    }
  }

  /// What a completed read of an answer brought, opened where it is sealed and whole, and its payload's length.
  private func judge(_ flight: Flight, slot: Int, at start: Int) -> (verdict: grass_verdict, length: UInt64) {
    var length: UInt64 = 0
    let verdict = responses.withBytes(start..<start + flight.readSize) { record in
      if let sealing {
        return sealing.open(
          record, slot: firstSlot + slot, slotSize: layout.responseSize,
          isExpected: { $0 == flight.sequence || flight.earlier.contains($0) }, length: &length)
      }
      let (count, size) = (UInt64(record.count), UInt64(layout.responseSize))
      guard let sums = link.sums(of: flight.read) else {
        return grass_record_judge(record.baseAddress, count, size, flight.sequence, nil, &length)
      }
      return sums.span.withUnsafeBufferPointer {
        grass_record_judge(record.baseAddress, count, size, flight.sequence, $0.baseAddress, &length)
      }
    }
    return (verdict, length)
  }

  /// Writes request `job` to a slot and posts the first read of its answer.
  private func launch(
    _ job: Int, slot: Int, _ prepare: (Int, UnsafeMutableRawBufferPointer) -> (request: Int, response: Int)
  ) throws(SessionError) -> Flight {
    let sequence: UInt64
    if let sealing {
      guard let next = sealing.next() else {
        // The last epoch of all: another handshake begins anew.
        isLost = true
        throw SessionError(link.address, .noAnswer)
      }
      sequence = next
    } else {
      self.sequence += 1
      sequence = self.sequence
    }
    let start = slot * layout.requestSize
    var isRun = false
    let size = requests.withBytes(start..<start + layout.requestSize) { record in
      let payload = UnsafeMutableRawBufferPointer(
        rebasing: record[MemoryLayout<grass_record>.size...].prefix(requestCapacity))
      let (request, response) = prepare(job, payload)
      precondition(request <= requestCapacity, "a request of \(request) bytes")
      isRun = payload.loadUnaligned(as: UInt32.self) == GRASS_RUN.rawValue
      if let sealing {
        sealing.seal(record, slot: firstSlot + slot, sequence: sequence, length: request)
      } else {
        grass_record_seal(record.baseAddress, sequence, UInt64(request))
      }
      return (request: Int(grass_record_size(UInt64(request))), response: response)
    }
    var flight = Flight(
      job: job, sequence: sequence, expected: Int(grass_record_size(UInt64(min(size.response, responseCapacity)))))
    flight.askAgain = SystemCall.monotonicNanoseconds() + (isRun ? Self.patienceOfRuns : Self.patience)
    posted = try onLink { () throws(LinkError) in
      try link.postWrite(
        requests, start..<start + size.request, to: link.grant.requests,
        offset: layout.requestOffset(slot: link.grant.slots.lowerBound + slot), fenced: false)
    }
    try fetch(&flight, slot: slot, size: pollSize(flight))
    return flight
  }

  /// Asks what was not answered once more, under another number: somebody between may have lost or spoilt it.
  ///
  /// An answer to the earlier one still counts.
  private func askAgain(
    _ flight: inout Flight, slot: Int, _ prepare: (Int, UnsafeMutableRawBufferPointer) -> (request: Int, response: Int),
    until deadline: ContinuousClock.Instant
  ) throws(SessionError) {
    try onLink { () throws(LinkError) in try link.wait(for: posted, until: deadline) }
    let now = SystemCall.monotonicNanoseconds()
    var next = try launch(flight.job, slot: slot, prepare)
    next.earlier = flight.earlier.suffix(7) + [flight.sequence]
    next.attempts = flight.attempts + 1
    next.askAgain = now + (next.askAgain - now) << UInt64(min(next.attempts, 6))
    flight = next
  }

  /// How much of an answer to ask for that may not be there yet.
  private func pollSize(_ flight: Flight) -> Int {
    let isWorthAll =
      switch link.polling {
      case .head: false
      case .wholeOnce: flight.read == 0
      case .whole: true
      }
    return isWorthAll || flight.expected <= Self.pollLimit ? flight.expected : Self.headSize
  }

  /// Posts a read of the first `size` bytes of a slot's answer.
  private func fetch(_ flight: inout Flight, slot: Int, size: Int) throws(SessionError) {
    let start = slot * layout.responseSize
    let sequence = flight.sequence
    posted = try onLink { () throws(LinkError) in
      try link.postRead(
        into: responses, start..<start + size, from: link.grant.responses,
        offset: layout.responseOffset(slot: link.grant.slots.lowerBound + slot), awaiting: sequence)
    }
    flight.read = posted
    flight.readSize = size
  }
}
