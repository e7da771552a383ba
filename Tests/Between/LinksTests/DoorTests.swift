import Glibc
import Host
import Region
import Synchronization
import Testing

@testable import Links

/// Who gets in over TCP, who waits, who goes, and what they hear.
struct DoorTests {
  /// A region, what serves it, and its port.
  private struct Served {
    let region: SharedRegion
    let responder: TCPResponder
    let port: UInt16

    init(
      slots: Int = 4, host: String = "127.0.0.1", keeper: any SlotKeeper = KeylessSlots(),
      limits: TCPLimits = TCPLimits()
    ) throws {
      region = try SharedRegion(
        layout: RegionLayout(
          slots: slots, requestSize: 4096, responseSize: 1 << 20, scratchSize: 64 * 1024, findings: 16))
      responder = try TCPResponder(region: region, host: host, port: 0, keeper: keeper, limits: limits)
      port = try #require(responder.address.kind as? TCPAddress).port
    }

    func connect(slots: Int = 4, within timeout: Duration = .seconds(20)) throws(LinkError) -> any Link {
      try TCPLink(host: "127.0.0.1", port: port, slots: slots, within: timeout)
    }
  }

  /// A connection that says what a test has it say.
  private final class Raw {
    let socket: TCPSocket

    init(_ served: Served) throws {
      socket = try TCPSocket.connect(host: "127.0.0.1", port: served.port, until: .now + .seconds(20))
    }

    func say(_ bytes: [UInt8]) throws { #expect(try bytes.withUnsafeBytes { socket.send($0) }.get() == bytes.count) }

    /// The grant or refusal that comes.
    func answer() throws -> TCPWire.GrantAnswer {
      var bytes = [UInt8](repeating: 0, count: TCPWire.grantSize)
      var done = 0
      while done < bytes.count {
        let from = done
        try #require(try socket.waitUntilReady(reading: true, writing: false, milliseconds: 60_000))
        done += try bytes.withUnsafeMutableBytes { socket.receive(.init(rebasing: $0[from...])) }.get() ?? 0
      }
      return TCPWire.parseGrant(
        bytes.withUnsafeBytes { bytes in
          (0..<TCPWire.grantSize / 8).map {
            UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: $0 * 8, as: UInt64.self))
          }
        })
    }

    /// Waits for its end.
    func isClosed() throws -> Bool {
      var byte: UInt8 = 0
      while true {
        guard try socket.waitUntilReady(reading: true, writing: false, milliseconds: 60_000) else { return false }
        do {
          _ = try withUnsafeMutableBytes(of: &byte) { socket.receive($0) }.get()
        } catch {
          return true
        }
      }
    }
  }

  private static func hello(slots: Int = 1, patience: Duration = .zero) -> [UInt8] {
    TCPWire.hello(slots: slots, patience: patience).flatMap { word in
      withUnsafeBytes(of: word.littleEndian) { [UInt8]($0) }
    }
  }

  /// Repeats `body` until it is true: what another thread does takes its own time.
  private static func eventually(_ body: () throws -> Bool) throws -> Bool {
    for _ in 0..<60_000 {
      if try body() { return true }
      usleep(1000)
    }
    return false
  }

  // MARK: Saying hello

  @Test func helloMayComeByteByByte() throws {
    // However long that takes on a machine with much to do.
    let served = try Served(limits: TCPLimits(hello: 60_000_000_000))
    defer { served.responder.stop() }
    let raw = try Raw(served)
    for byte in Self.hello(slots: 2) {
      try raw.say([byte])
      usleep(1000)
    }
    guard case .granted(let grant) = try raw.answer() else {
      Issue.record("no grant")
      return
    }
    #expect(grant.slots == 0..<2)
  }

  @Test func whoSaysNoHelloInTimeIsClosedHoweverMuchComes() throws {
    let served = try Served(limits: TCPLimits(hello: 100_000_000))
    defer { served.responder.stop() }
    let (silent, dribbling, half) = (try Raw(served), try Raw(served), try Raw(served))
    try half.say(Array(Self.hello().dropLast()))
    // 23 bytes in 0.46 s: the whole hello would take longer than there is time.
    var said = 0
    for byte in Self.hello().dropLast() {
      do { try dribbling.say([byte]) } catch { break }
      said += 1
      usleep(20_000)
    }
    #expect(try silent.isClosed() && half.isClosed() && dribbling.isClosed())
    // Nobody of them had a slot.
    #expect(try served.region.claim(slots: 4).slots == 0..<4)
  }

  @Test(arguments: [[UInt8](repeating: 0xa5, count: 24), [UInt8](repeating: 0, count: 5000)])
  func garbageIsClosed(_ bytes: [UInt8]) throws {
    let served = try Served()
    defer { served.responder.stop() }
    let raw = try Raw(served)
    try raw.say(bytes)
    #expect(try raw.isClosed())
  }

  @Test func anotherVersionIsTold() throws {
    let served = try Served()
    defer { served.responder.stop() }
    let raw = try Raw(served)
    var hello = Self.hello()
    hello[8] = 9
    try raw.say(hello)
    guard case .refused(let why) = try raw.answer() else {
      Issue.record("not refused")
      return
    }
    #expect(why == "it speaks version 1 of the protocol, not 9")
  }

  @Test func theOldestSilentOneMakesRoom() throws {
    let served = try Served(limits: TCPLimits(silent: 8, hello: 600_000_000_000))
    defer { served.responder.stop() }
    let first = try Raw(served)
    var others: [Raw] = []
    for _ in 0..<8 { others.append(try Raw(served)) }
    #expect(try first.isClosed())
    // An honest one gets in beside them.
    let link = try served.connect(slots: 1)
    _ = try link.read(8, from: link.grant.responses, offset: 0)
    // The rest are there as before, but for one more that made room.
    try others[7].say(Self.hello())
    guard case .granted = try others[7].answer() else {
      Issue.record("no grant")
      return
    }
  }

  // MARK: Waiting for slots

  @Test func slotsThatComeBackGoToWhoWaitsInOrder() throws {
    let served = try Served(slots: 1, limits: TCPLimits(patience: 600_000_000_000))
    defer { served.responder.stop() }
    var holder: (any Link)? = try served.connect()
    _ = try holder?.read(8, from: try #require(holder?.grant.responses), offset: 0)
    let (second, third) = (try Raw(served), try Raw(served))
    try second.say(Self.hello())
    try third.say(Self.hello())
    holder?.close()
    holder = nil
    guard case .granted = try second.answer() else {
      Issue.record("the first that waits got nothing")
      return
    }
    // Ended while it had the slot: the next one's turn.
    second.socket.shutdown()
    guard case .granted = try third.answer() else {
      Issue.record("the second that waits got nothing")
      return
    }
  }

  @Test func slotsOfSharedMemoryComeBackToWhoWaits() throws {
    let served = try Served(slots: 2, limits: TCPLimits(patience: 600_000_000_000))
    defer { served.responder.stop() }
    var claims = try [served.region.claim(slots: 1), served.region.claim(slots: 1)]
    let raw = try Raw(served)
    try raw.say(Self.hello(slots: 2))
    claims.removeLast()
    guard case .granted(let grant) = try raw.answer() else {
      Issue.record("not granted")
      return
    }
    #expect(grant.slots == 1..<2)
    withExtendedLifetime(claims) {}
  }

  @Test func whoWaitsInVainIsToldWhy() throws {
    let served = try Served(slots: 1, limits: TCPLimits(patience: 50_000_000))
    defer { served.responder.stop() }
    let holder = try served.connect()
    _ = try holder.read(8, from: holder.grant.responses, offset: 0)
    let error = #expect(throws: LinkError.self) { try served.connect() }
    #expect(
      error?.reason
        == .refused(
          "all 1 slots are taken by other sessions, and none came back in time: end one, or start grassd with more --slots"
        ))
    // Its own patience counts, too: told before it is over.
    let raw = try Raw(served)
    try raw.say(Self.hello(patience: .milliseconds(40)))
    guard case .refused = try raw.answer() else {
      Issue.record("not refused")
      return
    }
    // Who has a slot notices nothing.
    _ = try holder.read(8, from: holder.grant.responses, offset: 0)
  }

  @Test func moreThanMayWaitAreTold() throws {
    let served = try Served(slots: 1, limits: TCPLimits(waiting: 2, patience: 600_000_000_000))
    defer { served.responder.stop() }
    let holder = try served.connect()
    _ = try holder.read(8, from: holder.grant.responses, offset: 0)
    let waiting = [try Raw(served), try Raw(served)]
    for raw in waiting { try raw.say(Self.hello()) }
    let error = #expect(throws: LinkError.self) { try served.connect() }
    #expect(
      error?.reason
        == .refused(
          "all 1 slots are taken by other sessions and 2 more wait for one: try again later, or start grassd with more --slots"
        ))
    withExtendedLifetime((holder, waiting)) {}
  }

  @Test func whoTakesNoAnswersLosesItsSlotsWhereOthersWait() throws {
    let served = try Served(slots: 1, limits: TCPLimits(patience: 600_000_000_000, readingInNeed: 50_000_000))
    defer { served.responder.stop() }
    let slow = try served.connect()
    let buffer = try slow.makeBuffer(byteCount: 1 << 20)
    // Far more than the kernel keeps of it on the way.
    for _ in 0..<200 {
      try slow.postRead(into: buffer, 0..<1 << 20, from: slow.grant.responses, offset: 0, awaiting: nil)
    }
    // Sent, and a little of it taken.
    _ = try slow.poll()
    let other = try served.connect()
    #expect(other.grant.slots == 0..<1)
    #expect(throws: LinkError.self) { try slow.wait(for: 200, until: .now + .seconds(60)) }
  }

  @Test func whoTakesNoAnswersForLongIsClosed() throws {
    let served = try Served(slots: 1, limits: TCPLimits(reading: 100_000_000))
    defer { served.responder.stop() }
    let slow = try served.connect()
    let buffer = try slow.makeBuffer(byteCount: 1 << 20)
    for _ in 0..<200 {
      try slow.postRead(into: buffer, 0..<1 << 20, from: slow.grant.responses, offset: 0, awaiting: nil)
    }
    _ = try slow.poll()
    #expect(try Self.eventually { (try? served.region.claim(slots: 1)) != nil })
  }

  // MARK: Keys

  /// A device whose sessions a test makes.
  private final class Sessions: SlotKeeper {
    let isKeyed = true
    private let released = Atomic<Int>(0)
    var releases: Int { released.load(ordering: .acquiring) }

    func assist() {}
    func release(_ slots: Range<Int>) { released.add(1, ordering: .acquiringAndReleasing) }
  }

  /// Has a slot's line say that it has a session, or that it has none.
  private static func setLine(_ served: Served, _ slot: Int, _ word: UInt64) throws {
    try withUnsafeBytes(of: word) { try served.region.store($0, at: served.region.layout.lineOffset(slot: slot)) }
  }

  @Test func whoHasNoSessionReadsItsOwnAndNothingElse() throws {
    let sessions = Sessions()
    let served = try Served(keeper: sessions, limits: TCPLimits(silence: 600_000_000_000))
    defer { served.responder.stop() }
    let layout = served.region.layout
    let link = try served.connect(slots: 1)
    let slot = link.grant.slots.lowerBound
    #expect(sessions.releases == 1)
    // What the grant says is what it is in the end.
    #expect(link.grant.responses.range == layout.responsesPart)
    for part in [layout.headerPart, layout.lines(of: link.grant.slots), layout.responses(of: link.grant.slots)] {
      _ = try link.read(part.count, from: link.grant.responses, offset: part.lowerBound)
    }
    try link.write([1, 2, 3, 4, 5, 6, 7, 8], to: link.grant.requests, offset: layout.requestOffset(slot: slot))

    for what in 0..<5 {
      let other = try served.connect(slots: 1)
      let own = layout.responses(of: other.grant.slots)
      let offset = [
        layout.beaconOffset, layout.lineOffset(slot: slot), layout.findings.lowerBound,
        layout.responseOffset(slot: slot),
        own.upperBound - 8,
      ][what]
      let error = #expect(throws: LinkError.self, "\(offset)") {
        _ = try other.read(16, from: other.grant.responses, offset: offset)
      }
      #expect(error?.reason == .accessDenied(.outOfRange))
    }
    let scratch = try served.connect(slots: 1)
    #expect(throws: LinkError.self) {
      try scratch.write([1], to: scratch.grant.scratch, offset: scratch.grant.scratch.range.lowerBound)
    }

    try Self.setLine(served, slot, 1)
    _ = try link.read(64, from: link.grant.responses, offset: layout.beaconOffset)
    try link.write([1], to: link.grant.scratch, offset: link.grant.scratch.range.lowerBound)
  }

  @Test func whoProvesNothingLosesItsSlots() throws {
    let served = try Served(keeper: Sessions(), limits: TCPLimits(silence: 50_000_000, handshake: 2_000_000_000))
    defer { served.responder.stop() }
    let raw = try Raw(served)
    try raw.say(Self.hello(slots: 1))
    #expect(try raw.isClosed())
    #expect(try Self.eventually { (try? served.region.claim(slots: 4))?.slots == 0..<4 })
    // Who says something has time to end it.
    let link = try served.connect(slots: 1)
    let start = ContinuousClock.now
    try link.write(
      (1...64).map { UInt8($0) }, to: link.grant.requests,
      offset: served.region.layout.requestOffset(slot: link.grant.slots.lowerBound))
    #expect(try Self.eventually { (try? served.region.claim(slots: 4))?.slots == 0..<4 })
    #expect(ContinuousClock.now - start > .seconds(1))
  }

  @Test func aSessionThatEndsIsNone() throws {
    let served = try Served(
      keeper: Sessions(), limits: TCPLimits(silence: 600_000_000_000, renewal: 50_000_000))
    defer { served.responder.stop() }
    let link = try served.connect(slots: 1)
    let slot = link.grant.slots.lowerBound
    try Self.setLine(served, slot, 7)
    _ = try link.read(64, from: link.grant.responses, offset: served.region.layout.beaconOffset)
    try Self.setLine(served, slot, 0)
    #expect(try Self.eventually { (try? served.region.claim(slots: 4))?.slots == 0..<4 })
    #expect(throws: LinkError.self) { try link.read(8, from: link.grant.responses, offset: 0) }
  }

  @Test func whereSlotsAreShortTheOldestThatProvedNothingGoes() throws {
    let sessions = Sessions()
    let served = try Served(
      slots: 2, keeper: sessions, limits: TCPLimits(patience: 600_000_000_000, silence: 600_000_000_000))
    defer { served.responder.stop() }
    let proven = try served.connect(slots: 1)
    try Self.setLine(served, proven.grant.slots.lowerBound, 1)
    let (first, second) = (try Raw(served), try Raw(served))
    try first.say(Self.hello())
    _ = try first.answer()
    try second.say(Self.hello())
    guard case .granted(let grant) = try second.answer() else {
      Issue.record("no grant")
      return
    }
    #expect(grant.slots == 1..<2)
    #expect(try first.isClosed())
    #expect(sessions.releases == 3)
    _ = try proven.read(64, from: proven.grant.responses, offset: served.region.layout.beaconOffset)
  }

  @Test func bytesWithoutASessionAreBounded() throws {
    let served = try Served(keeper: Sessions(), limits: TCPLimits(silence: 600_000_000_000))
    defer { served.responder.stop() }
    let link = try served.connect(slots: 1)
    let own = served.region.layout.responses(of: link.grant.slots)
    var reads = 0
    #expect(throws: LinkError.self) {
      while reads < 1000 {
        _ = try link.read(own.count, from: link.grant.responses, offset: own.lowerBound)
        reads += 1
      }
    }
    #expect((1...4).contains(reads))
  }

  @Test func keysOpenAllAddresses() throws {
    let error = #expect(throws: LinkError.self) { try Served(host: "0.0.0.0") }
    #expect(
      "\(error, default: "")".hasSuffix(
        "is refused: without keys a link serves this machine only; start grassd with keys, or listen at 127.0.0.1 or ::1"
      ))
    let served = try Served(host: "0.0.0.0", keeper: Sessions())
    defer { served.responder.stop() }
    let link = try LinkAddress.tcp(host: "localhost", port: served.port).connect(slots: 1)
    _ = try link.read(8, from: link.grant.responses, offset: 0)
  }

  // MARK: What clients are told

  @Test func errorsSayWhatHappened() throws {
    func text(_ url: String) -> String {
      let error = #expect(throws: LinkError.self) { try LinkAddress(url).connect(within: .seconds(20)) }
      return "\(error, default: "")"
    }
    let served = try Served()
    served.responder.stop()
    #expect(text("tcp://127.0.0.1:\(served.port)").contains("nobody listens there"))
    // Reserved for names that are none: RFC 6761.
    #expect(text("tcp://grass.invalid:1").contains("the host cannot be found"))
    #expect(LinkAddress.tcp(host: "::1", port: 7).description == "tcp://[::1]:7")

    // Somebody else, who closes.
    let (listener, port) = try TCPSocket.listen(host: "127.0.0.1", port: 0, isKeyed: false)
    let thread = try DedicatedThread(name: "closes") {
      var count = 0
      while count < 8 {
        if listener.accept() != nil { count += 1 } else { usleep(1000) }
      }
    }
    #expect(text("tcp://127.0.0.1:\(port)").contains("closed the connection before a session began"))
    thread.join()
  }

  // MARK: All at once

  /// What a process of its own has of threads and descriptors.
  private static func count(_ what: String, of process: pid_t) -> Int {
    guard let folder = opendir("/proc/\(process)/\(what)") else { return -1 }
    defer { closedir(folder) }
    var count = -2
    while readdir(folder) != nil { count += 1 }
    return count
  }

  /// A thousand connections that mean no good keep nobody out, and cost a bounded number of threads and descriptors.
  @Test func aFloodKeepsNobodyOut() throws {
    let server = try Tool(["serve", "tcp://127.0.0.1:0", "--slots", "96"])
    defer { server.end() }
    let url = String(try #require(server.line()?.dropFirst("ready ".count)))
    let idle = (threads: Self.count("task", of: server.process), descriptors: Self.count("fd", of: server.process))
    let flood = try Tool(["flood", url, "--connections", "1000"])
    defer { flood.end() }
    #expect(flood.line() == "ready")

    let results = Outcomes()
    let clients = try (0..<64).map { number in
      try DedicatedThread(name: "client") {
        do {
          let link = try LinkAddress(url).connect(slots: 4, within: .seconds(60))
          let part = link.grant.scratch
          let offset = part.range.lowerBound + number * 1024
          for round in 0..<20 {
            let bytes = (0..<1024).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ number &+ round) }
            try link.write(bytes, to: part, offset: offset, within: .seconds(60))
            guard try link.read(1024, from: part, offset: offset, within: .seconds(60)) == bytes else {
              return results.add(failure: "client \(number) read other bytes than it wrote")
            }
          }
          results.add(link)
        } catch {
          results.add(failure: "client \(number): \(error)")
        }
      }
    }
    var (threads, descriptors) = (0, 0)
    #expect(
      try Self.eventually {
        threads = max(threads, Self.count("task", of: server.process))
        descriptors = max(descriptors, Self.count("fd", of: server.process))
        return results.count == clients.count
      })
    for client in clients { client.join() }
    // All at once, each with slots of its own.
    let links = results.links
    #expect(results.failures == [])
    let slots = links.map { Array($0.grant.slots) }.reduce([], +)
    #expect(Set(slots).count == slots.count && links.count == 64)
    // A thread a borrower, and those that end while the next one begins.
    #expect(threads <= idle.threads + 2 * 96)
    #expect(descriptors <= idle.descriptors + 2 * 1024 + 4 * 96)

    for link in links { link.close() }
    flood.end()
    // Joined threads and closed descriptors: as if nobody had been there.
    #expect(
      try Self.eventually {
        Self.count("task", of: server.process) <= idle.threads
          && Self.count("fd", of: server.process) <= idle.descriptors
      })
  }

  /// Silent ones make room where there are no descriptors left, for connections as for the claims of those who get slots.
  @Test func withoutDescriptorsHonestOnesStillGetIn() throws {
    // Its own, and 16 for connections at most: fewer than may be silent.
    let server = try Tool(["serve", "tcp://127.0.0.1:0"], descriptors: 20)
    defer { server.end() }
    let url = String(try #require(server.line()?.dropFirst("ready ".count)))
    let port = try #require(try LinkAddress(url).kind as? TCPAddress).port
    let silent = try (0..<40).map { _ in
      try TCPSocket.connect(host: "127.0.0.1", port: port, until: .now + .seconds(20))
    }
    defer { withExtendedLifetime(silent) {} }
    for round in 0..<5 {
      let link = try LinkAddress(url).connect(slots: 1, within: .seconds(60))
      let part = link.grant.scratch
      try link.write([UInt8(round)], to: part, offset: part.range.lowerBound, within: .seconds(60))
      #expect(try link.read(1, from: part, offset: part.range.lowerBound, within: .seconds(60)) == [UInt8(round)])
      link.close()
    }
    // Still the same process.
    #expect(Self.count("fd", of: server.process) > 0)
  }

  /// What many clients come to.
  private final class Outcomes: Sendable {
    private let all = Locked((links: [any Link](), failures: [String]()))

    func add(_ link: any Link) { all.withLock { $0.links.append(link) } }
    func add(failure: String) { all.withLock { $0.failures.append(failure) } }
    var links: [any Link] { all.withLock { $0.links } }
    var failures: [String] { all.withLock { $0.failures } }
    var count: Int { all.withLock { $0.links.count + $0.failures.count } }
  }
}
