import CRegion
import Devices
import Glibc
import Host
import Keys
import Links
import Memory
import Paging
import Region
import Remote
import Synchronization
import Testing

/// Sessions that prove both ends and seal every record, over a device in this process.
struct SealedSessionTests {
  static func line(_ identity: Identity, _ rights: Rights, expiry: UInt64 = 0) -> grass_key_line {
    var line = grass_key_line()
    withUnsafeMutableBytes(of: &line.key) { $0.copyBytes(from: identity.publicKey.bytes) }
    line.rights = rights.rawValue
    line.expiry = expiry
    withUnsafeMutableBytes(of: &line.comment) { $0.copyBytes(from: Array("of a test".utf8)) }
    return line
  }

  /// The keys of a client that knows the device's, or takes whichever it has.
  private static func keys(_ identity: Identity, of host: WatchedHost, known: Bool = true) throws -> SessionKeys {
    let device = try PublicKey(bytes: #require(host.publicKey))
    return SessionKeys(identity: identity, known: known ? device : nil) { key, _ throws(KeyRefusal) in
      guard key == device else { throw KeyRefusal("its key is another") }
    }
  }

  @Test(arguments: WatchedHost.Kind.allCases, [true, false])
  func aSessionSealsWhatItAsks(_ kind: WatchedHost.Kind, isKnown: Bool) throws {
    let me = Identity.generate()
    let host = try WatchedHost(keys: [Self.line(me, .all)])
    for page in 0..<1024 { host.store(UInt64(page) &* 0x9e37_79b9_7f4a_7c15, at: page * 4096) }
    let session = try Session(to: host.address(kind), keys: Self.keys(me, of: host, known: isKnown))
    for _ in 0..<100 { #expect(try session.heartbeat() > 0) }
    #expect(try session.info().segments.first?.count == 8 << 20)
    // Long enough that all slots of the session take part.
    let memory = try RemoteMemory(session: session)
    var batch = ReadBatch<PhysicalAddress>()
    batch.add(PhysicalAddress(0), count: host.bytes.count)
    memory.read(&batch)
    let read = try batch.reader(0).copy()
    #expect(read == Array(UnsafeRawBufferPointer(start: host.bytes.base, count: host.bytes.count)))
    let first = try session.line()
    #expect(first.state == .running)
    try session.heartbeat()
    SystemCall.sleep(nanoseconds: 5_000_000)
    #expect(try session.line().counter > first.counter)
  }
}

// MARK: - Who is let in

extension SealedSessionTests {
  @Test func onlyWhoIsInTheListIsLetIn() throws {
    let (me, stranger) = (Identity.generate(), Identity.generate())
    let host = try WatchedHost(keys: [Self.line(me, .all)])
    try Session(to: host.sharedMemory, keys: Self.keys(me, of: host)).heartbeat()
    let fingerprint = stranger.publicKey.fingerprint
    #expect(throws: SessionError(host.sharedMemory.description, .unknownKey(fingerprint))) {
      try Session(to: host.sharedMemory, keys: Self.keys(stranger, of: host))
    }
    #expect(throws: SessionError(host.sharedMemory.description, .needsKeys)) { try Session(to: host.sharedMemory) }
    // What a device proves is judged before anything is asked of it.
    let other = SessionKeys(identity: me) { _, _ throws(KeyRefusal) in throw KeyRefusal("not this one") }
    #expect(throws: SessionError(host.sharedMemory.description, .untrusted("not this one"))) {
      try Session(to: host.sharedMemory, keys: other)
    }
    // Who is sure of another key finds that this device has not got it, and by the other way which it has.
    var wrong = try Self.keys(me, of: host)
    wrong.known = stranger.publicKey
    try Session(to: host.sharedMemory, keys: wrong).heartbeat()
    var events: [KeyEvent.Kind: Int] = [:]
    while let event = host.device.takeKeyEvent() { events[event.kind, default: 0] += 1 }
    #expect(events[.session] == 3)
  }

  @Test func rightsAreTheDevices() throws {
    let (watcher, runner, reader) = (Identity.generate(), Identity.generate(), Identity.generate())
    let looker = Identity.generate()
    let host = try WatchedHost(keys: [
      Self.line(watcher, .watch), Self.line(runner, [.watch, .run]), Self.line(reader, .read),
      Self.line(looker, [.watch, .read]),
    ])
    #expect(host.device.openMemory())
    func session(_ identity: Identity) throws -> Session {
      try Session(to: host.sharedMemory, keys: Self.keys(identity, of: host))
    }
    func refusal(_ body: () throws -> Void) -> SessionError.Reason? {
      do {
        try body()
        return nil
      } catch {
        return (error as? SessionError)?.reason
      }
    }
    let (watching, running, reading) = (try session(watcher), try session(runner), try session(reader))
    #expect(watching.rights.rights == .watch)
    try watching.heartbeat()
    _ = try watching.info()
    #expect(refusal { _ = try watching.monitors() } == .notAllowed("watch"))
    #expect(refusal { _ = try watching.keys() } == .notAllowed("watch"))
    #expect(refusal { try watching.add(AuthorizedKey(key: watcher.publicKey, rights: .all)) } == .notAllowed("watch"))
    #expect(try running.monitors().isEmpty)
    #expect(refusal { _ = try running.run("ps") } == .refused(.noMonitor))
    var batch = ReadBatch<MemoryLocation>()
    batch.add(.physical(PhysicalAddress(0)), count: 8)
    #expect(refusal { try running.gather(&batch, format: .x86_64FourLevel) } == .notAllowed("watch,run"))
    try reading.gather(&batch, format: .x86_64FourLevel)
    #expect(batch.faults.isEmpty)
    #expect(refusal { _ = try reading.pauseHost(for: .seconds(1)) } == .notAllowed("read"))
    // To read memory is not yet to take it past the device.
    let looking = try RemoteMemory(session: try session(looker))
    #expect(refusal { _ = try UnsealedMemory(looking) } == .notAllowed("watch,read"))
    // Who may not watch reads neither the clock nor what was found.
    #expect(refusal { try reading.heartbeat() } == .notAllowed("read"))
    #expect(try reading.line().clock > 0)
    #expect(try reading.line().state == .unknown(0))
  }

  /// Whose key is removed reads nothing more past the device, though nobody ends its connection.
  @Test func aRemovedKeyReadsNothingPastTheDevice() throws {
    let (admin, taker) = (Identity.generate(), Identity.generate())
    let host = try WatchedHost(
      keys: [Self.line(admin, .all), Self.line(taker, [.watch, .read, .acquire])], isOpen: true)
    host.store(7, at: 4096)
    let session = try Session(to: host.address(.tcp), timeout: .seconds(4), keys: Self.keys(taker, of: host))
    let memory = try UnsealedMemory(RemoteMemory(session: session))
    func read() -> UInt64? {
      var batch = ReadBatch<PhysicalAddress>()
      batch.add(PhysicalAddress(4096), count: 8)
      memory.read(&batch)
      return batch.faults.isEmpty ? try? batch.reader(0).load(0) : nil
    }
    for _ in 0..<10 { #expect(read() == 7) }
    try Session(to: host.sharedMemory, keys: Self.keys(admin, of: host)).remove(taker.publicKey)
    let end = ContinuousClock.now + .seconds(1)
    while read() != nil, ContinuousClock.now < end {}
    #expect(read() == nil)
  }

  /// What one session was allowed, the next one that has its slots is not.
  @Test func whoComesNextReadsNothingPastTheDevice() throws {
    let (taker, watcher) = (Identity.generate(), Identity.generate())
    let host = try WatchedHost(keys: [
      Self.line(taker, [.watch, .read, .acquire]), Self.line(watcher, [.watch, .read]),
    ])
    #expect(host.device.openMemory())
    // None, so that who asks needs no link that reads them.
    for slot in 0..<host.region.layout.slotCount { host.device.setWindows([], for: slot) }
    func asking() -> [Int] { (0..<host.region.layout.slotCount).filter { host.device.wantsWindows($0) } }
    do {
      let memory = try RemoteMemory(session: Session(to: host.sharedMemory, keys: Self.keys(taker, of: host)))
      #expect(throws: SessionError.self) { try UnsealedMemory(memory) }
      #expect(asking() == [0])
      try memory.session.heartbeat(within: nil)
      #expect(asking() == [0])
    }
    // Over shared memory nobody tells the device that the one has gone.
    let next = try Session(to: host.sharedMemory, keys: Self.keys(watcher, of: host))
    try next.heartbeat()
    #expect(asking().isEmpty)
  }

  /// A key that may ask for little waits, and another one does not.
  @Test func aKeyIsHeldToWhatItMayHave() throws {
    let (me, limited, slow) = (Identity.generate(), Identity.generate(), Identity.generate())
    var few = Self.line(limited, .all)
    few.requests = 20
    var little = Self.line(slow, .all)
    little.kibibytes = 4096
    let host = try WatchedHost(keys: [Self.line(me, .all), few, little])
    func time(_ identity: Identity, _ body: (Session) throws -> Void) throws -> Duration {
      let session = try Session(to: host.sharedMemory, timeout: .seconds(30), keys: Self.keys(identity, of: host))
      let start = ContinuousClock.now
      try body(session)
      return ContinuousClock.now - start
    }
    func info(_ count: Int) -> (Session) throws -> Void { { session in for _ in 0..<count { _ = try session.info() } } }
    func read(_ count: Int) -> (Session) throws -> Void {
      { session in
        let memory = try RemoteMemory(session: session)
        for _ in 0..<count {
          var batch = ReadBatch<PhysicalAddress>()
          batch.add(PhysicalAddress(0), count: 1 << 20)
          memory.read(&batch)
          #expect(batch.faults.isEmpty)
        }
      }
    }
    // A second's worth at once, and half a second for ten more; of bytes the same.
    #expect(try time(limited, info(31)) > .milliseconds(450))
    #expect(try time(slow, read(6)) > .milliseconds(400))
    // A minute's worth, were they counted.
    _ = try time(limited) { session in for _ in 0..<1200 { try session.heartbeat() } }
    // Whoever's line moves up keeps his limits.
    let admin = try Session(to: host.sharedMemory, keys: Self.keys(me, of: host))
    #expect(
      try admin.keys().map(\.limits) == [.none, .init(requests: 20), .init(kibibytes: 4096)])
    try admin.remove(limited.publicKey)
    #expect(try admin.keys().map(\.limits) == [.none, .init(kibibytes: 4096)])
    #expect(try time(slow, read(6)) > .milliseconds(400))
    // Whose limits are taken away is held no more: an hour's worth.
    try admin.add(AuthorizedKey(key: limited.publicKey, rights: .all))
    _ = try time(limited, info(20 * 3600 / 100))
  }

  @Test func theListChangesByAdminsAlone() throws {
    let (admin, guest) = (Identity.generate(), Identity.generate())
    let host = try WatchedHost(keys: [Self.line(admin, .all)])
    let mine = try Session(to: host.sharedMemory, keys: Self.keys(admin, of: host))
    try mine.add(AuthorizedKey(key: guest.publicKey, rights: [.watch, .admin], comment: "a guest"))
    #expect(try mine.keys().map(\.key) == [admin.publicKey, guest.publicKey])
    let theirs = try Session(to: host.sharedMemory, timeout: .seconds(4), keys: Self.keys(guest, of: host))
    try theirs.heartbeat()
    // Nobody removes his own, lest he hears no answer.
    #expect(throws: SessionError.self) { try theirs.remove(guest.publicKey) }
    try mine.remove(guest.publicKey)
    // Its session is over; it finds out that it is not known any more.
    #expect(throws: SessionError(host.sharedMemory.description, .unknownKey(guest.publicKey.fingerprint))) {
      try theirs.heartbeat()
    }
    #expect(throws: SessionError(host.sharedMemory.description, .refused(.badKey))) { try mine.remove(guest.publicKey) }
    // What a hypervisor's file says, says it whole.
    host.device.setKeys([Self.line(guest, .watch)])
    #expect(throws: SessionError.self) { try mine.heartbeat(within: .seconds(4)) }
    try Session(to: host.sharedMemory, keys: Self.keys(guest, of: host)).heartbeat()
  }

  @Test func aKeyExpires() throws {
    let (me, late) = (Identity.generate(), Identity.generate())
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    let host = try WatchedHost(keys: [
      Self.line(me, .all, expiry: UInt64(now.tv_sec) + 2), Self.line(late, .all, expiry: UInt64(now.tv_sec) - 1),
    ])
    #expect(throws: SessionError.self) {
      try Session(to: host.sharedMemory, timeout: .seconds(2), keys: Self.keys(late, of: host))
    }
    let session = try Session(to: host.sharedMemory, timeout: .seconds(4), keys: Self.keys(me, of: host))
    #expect(session.rights.expiry == UInt64(now.tv_sec) + 2)
    var end: SessionError?
    for _ in 0..<1000 where end == nil {
      do throws(SessionError) { try session.heartbeat() } catch { end = error }
      SystemCall.sleep(nanoseconds: 10_000_000)
    }
    #expect(end?.reason == .unknownKey(me.publicKey.fingerprint))
  }

  /// A device that begins anew has other keys; a session that goes on over the same link makes another handshake by itself.
  @Test func aForgottenSessionIsMadeAnew() throws {
    let me = Identity.generate()
    let host = try WatchedHost(keys: [Self.line(me, .all)])
    let session = try Session(to: host.sharedMemory, keys: Self.keys(me, of: host))
    try session.heartbeat()
    host.device.release(0..<host.region.layout.slotCount)
    try session.heartbeat()
    _ = try session.line()
  }
}

extension SealedSessionTests {
  /// Whoever takes over slots in which others, who are gone, had sessions of their own, has all of them.
  ///
  /// Over shared memory nobody tells the device that a client has gone.
  @Test func slotsOfOthersWhoAreGoneAreTaken() throws {
    let (me, others) = (Identity.generate(), (0..<4).map { _ in Identity.generate() })
    let host = try WatchedHost(keys: [Self.line(me, .all)] + others.map { Self.line($0, .all) })
    do {
      let sessions = try others.map { try Session(to: host.sharedMemory, slots: 1, keys: Self.keys($0, of: host)) }
      for session in sessions { try session.heartbeat() }
    }
    let session = try Session(to: host.sharedMemory, keys: Self.keys(me, of: host))
    #expect(session.slotCount == 4)
    let memory = try RemoteMemory(session: session)
    var batch = ReadBatch<PhysicalAddress>()
    batch.add(PhysicalAddress(0), count: host.bytes.count)
    memory.read(&batch)
    #expect(batch.faults.isEmpty)
  }
}

// MARK: - Somebody between

extension SealedSessionTests {
  /// Writes over what a session sends and is sent, as fast as it can, until it goes.
  private final class Attacker: @unchecked Sendable {
    // The thread is joined before the region goes.
    private let stop = Atomic<Bool>(false)
    private var thread: DedicatedThread?

    /// What it does, with a random number, again and again.
    init(_ attack: @escaping @Sendable (UInt64) -> Void) throws {
      let stop = Flag(stop: { [unowned self] in self.stop.load(ordering: .relaxed) })
      thread = try DedicatedThread(name: "attacker") {
        var random = SystemRandomNumberGenerator()
        while !stop.stop() {
          attack(random.next())
          SystemCall.sleep(nanoseconds: 20_000)
        }
      }
    }

    private struct Flag: @unchecked Sendable { let stop: () -> Bool }

    func end() {
      stop.store(true, ordering: .relaxed)
      thread?.join()
      thread = nil
    }
  }

  enum Attack: CaseIterable, Sendable {
    /// Single bits of requests, of answers, and of the line.
    case flippedRequests, flippedAnswers, flippedLines
    /// Earlier requests and answers, whole, in the place of later ones; and those of one slot in another.
    case repeatedRequests, repeatedAnswers, movedRequests
    /// Handshakes: garbage, and the first message of somebody's again.
    case falseHandshakes, repeatedHandshakes
    /// All of it gone.
    case erased
  }

  /// Nothing false is accepted while somebody alters all that he can reach, and no session is kept down once he has stopped.
  @Test(arguments: Attack.allCases) func nothingFalseIsAccepted(_ attack: Attack) throws {
    let me = Identity.generate()
    let host = try WatchedHost(count: 1 << 20, keys: [Self.line(me, .all)])
    for word in 0..<host.bytes.count / 8 { host.store(UInt64(word) &* 0x9e37_79b9_7f4a_7c15, at: word * 8) }
    let truth = Array(UnsafeRawBufferPointer(start: host.bytes.base, count: host.bytes.count))
    let layout = host.region.layout
    nonisolated(unsafe) let base = host.region.base
    // What a handshake looks like that was made before.
    let session = try Session(to: host.sharedMemory, timeout: .seconds(3), keys: Self.keys(me, of: host))
    let memory = try RemoteMemory(session: session)
    try session.heartbeat()
    func read(_ offset: Int, _ count: Int) -> [UInt8] {
      Array(UnsafeRawBufferPointer(start: base + offset, count: count))
    }
    func write(_ bytes: [UInt8], at offset: Int) { grass_copy_in(base + offset, bytes, UInt64(bytes.count)) }
    let earlier = (
      request: read(layout.requestOffset(slot: 0), 256), answer: read(layout.responseOffset(slot: 0), 256)
    )
    let attacker = try Attacker { random in
      let base = base
      let slot = Int(random % 4)
      func flip(_ start: Int, _ count: Int) {
        let place = base + start + Int((random >> 8) % UInt64(count))
        place.storeBytes(of: place.load(as: UInt8.self) ^ 1 << UInt8(random >> 56 & 7), as: UInt8.self)
      }
      func write(_ bytes: [UInt8], at offset: Int) { grass_copy_in(base + offset, bytes, UInt64(bytes.count)) }
      switch attack {
      case .flippedRequests: flip(layout.requestOffset(slot: slot), 96)
      case .flippedAnswers: flip(layout.responseOffset(slot: slot), 96)
      case .flippedLines: flip(layout.lineOffset(slot: 0), 64)
      case .repeatedRequests: write(earlier.request, at: layout.requestOffset(slot: 0))
      case .repeatedAnswers: write(earlier.answer, at: layout.responseOffset(slot: 0))
      case .movedRequests:
        let bytes = Array(UnsafeRawBufferPointer(start: base + layout.requestOffset(slot: slot), count: 256))
        write(bytes, at: layout.requestOffset(slot: (slot + 1) % 4))
      case .falseHandshakes, .repeatedHandshakes:
        var record = [UInt8](repeating: 0, count: 256)
        record.withUnsafeMutableBytes { bytes in
          bytes.storeBytes(
            of: grass_request(operation: GRASS_HANDSHAKE.rawValue, count: 1, format: 0, reserved: 0), toByteOffset: 32,
            as: grass_request.self)
          if attack == .falseHandshakes {
            for index in 0..<12 {
              bytes.storeBytes(of: random &* UInt64(index + 1), toByteOffset: 48 + index * 8, as: UInt64.self)
            }
          }
          grass_record_seal(bytes.baseAddress, random >> 17 | 1, 112)
        }
        write(record, at: layout.requestOffset(slot: 0))
      case .erased:
        write([UInt8](repeating: 0, count: 96), at: layout.requestOffset(slot: slot))
        write([UInt8](repeating: 0, count: 96), at: layout.responseOffset(slot: slot))
      }
    }
    var (right, failed) = (0, 0)
    let end = ContinuousClock.now + .seconds(2)
    while ContinuousClock.now < end {
      var batch = ReadBatch<PhysicalAddress>()
      let start = Int.random(in: 0..<truth.count - 65_536)
      batch.add(PhysicalAddress(UInt64(start)), count: 65_536)
      memory.read(&batch)
      if batch.faults.isEmpty {
        #expect(try batch.reader(0).copy() == Array(truth[start..<start + 65_536]))
        right += 1
      } else {
        failed += 1
      }
      if let line = try? session.line(within: .milliseconds(50)) { #expect(line.state == .running) }
    }
    attacker.end()
    // What the attacker left lying is overcome.
    try session.heartbeat(within: .seconds(5))
    var batch = ReadBatch<PhysicalAddress>()
    batch.add(PhysicalAddress(0), count: truth.count)
    memory.read(&batch)
    #expect(try batch.reader(0).copy() == truth)
    #expect(try session.line().state == .running)
  }
}
