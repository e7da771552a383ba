import CRegion
import Host
import Keys
import Links
import Memory
import Remote
import Testing

/// Who reaches a device over connections that somebody else has made.
struct RelayTests {
  private static func keys(_ identity: Identity, of host: WatchedHost) throws -> SessionKeys {
    let device = try PublicKey(bytes: #require(host.publicKey))
    return SessionKeys(identity: identity) { key, _ throws(KeyRefusal) in
      guard key == device else { throw KeyRefusal("its key is another") }
    }
  }

  /// Looks until something holds, as who runs a relay does.
  private static func look(_ relay: Relay, until condition: () throws -> Bool) rethrows -> Bool {
    for _ in 0..<20_000 {
      if try condition() { return true }
      relay.look { _ in }
      SystemCall.sleep(nanoseconds: 5_000_000)
    }
    return false
  }

  private static func check(_ session: Session, _ host: WatchedHost) throws {
    try session.heartbeat()
    #expect(try session.line().state == .running)
    let memory = try RemoteMemory(session: session)
    var batch = ReadBatch<PhysicalAddress>()
    batch.add(PhysicalAddress(4096), count: 300_000)
    memory.read(&batch)
    #expect(
      try batch.reader(0).copy() == Array(UnsafeRawBufferPointer(start: host.bytes.base + 4096, count: 300_000)))
  }

  @Test(arguments: [WatchedHost.Kind.sharedMemory, .tcp]) func newcomersAreLentConnections(_ kind: WatchedHost.Kind)
    throws
  {
    let (own, one, other, stranger) = (
      Identity.generate(), Identity.generate(), Identity.generate(), Identity.generate()
    )
    let host = try WatchedHost(
      keys: [
        SealedSessionTests.line(own, .watch), SealedSessionTests.line(one, .all), SealedSessionTests.line(other, .all),
      ])
    for page in 0..<1024 { host.store(UInt64(page) &* 0x9e37_79b9_7f4a_7c15, at: page * 4096) }
    let relay = try Relay(
      to: host.address(kind), keys: Self.keys(own, of: host), spares: 2, listen: "127.0.0.1", port: 0)
    defer { relay.stop() }
    #expect(Self.look(relay) { relay.spareCount == 2 })

    func connect(_ identity: Identity) throws -> Session {
      try Session(to: relay.address, timeout: .seconds(60), keys: Self.keys(identity, of: host))
    }
    // Each in its own slot; both rights and records are between them and the device.
    var first: Session? = try connect(one)
    let second = try connect(other)
    #expect(first?.slotCount == 1 && first?.rights.rights == .all)
    for _ in 0..<3 {
      if let first { try Self.check(first, host) }
      try Self.check(second, host)
      relay.look { _ in }
    }
    let full = #expect(throws: SessionError.self) { try connect(one) }
    #expect("\(full, default: "")".contains("slots are taken"))
    // Who goes makes room for the next; who is not in the list is told so, and makes room, too.
    first = nil
    #expect(throws: SessionError(relay.address.description, .unknownKey(stranger.publicKey.fingerprint))) {
      try connect(stranger)
    }
    #expect(Self.look(relay) { (try? connect(one)) != nil })
    try Self.check(second, host)
    // What the relay itself may do is not what its users may.
    let watching = try Session(to: host.address(kind), keys: Self.keys(own, of: host))
    #expect(throws: MemoryFault.self) {
      try RemoteMemory(session: watching).digests(of: [.init(start: PhysicalAddress(0), count: 4096)])
    }
  }

  /// Who says nothing is not taken for the relay, whose session his slot has.
  @Test func whoSaysNothingGivesTheConnectionBack() throws {
    let (own, one) = (Identity.generate(), Identity.generate())
    let host = try WatchedHost(keys: [SealedSessionTests.line(own, .watch), SealedSessionTests.line(one, .all)])
    let relay = try Relay(
      to: host.sharedMemory, keys: Self.keys(own, of: host), spares: 1, listen: "127.0.0.1", port: 0)
    defer { relay.stop() }
    let silent = try relay.address.connect(slots: 1, within: .seconds(30))
    #expect(
      try Self.look(relay) {
        guard let session = try? Session(to: relay.address, timeout: .seconds(30), keys: Self.keys(one, of: host))
        else {
          return false
        }
        try Self.check(session, host)
        return true
      })
    #expect(throws: LinkError.self) { try silent.read(8, from: silent.grant.responses, offset: 0) }
  }

  /// Connections that end are made anew as long as that is possible.
  @Test func connectionsThatEndAreMadeAnew() throws {
    let (own, one) = (Identity.generate(), Identity.generate())
    let lines = [SealedSessionTests.line(own, .watch), SealedSessionTests.line(one, .all)]
    let host = try WatchedHost(keys: lines)
    let relay = try Relay(
      to: host.address(.tcp), keys: Self.keys(own, of: host), spares: 2, listen: "127.0.0.1", port: 0)
    defer { relay.stop() }
    #expect(Self.look(relay) { relay.spareCount == 2 })
    let session = try Session(to: relay.address, timeout: .seconds(30), keys: Self.keys(one, of: host))
    try session.heartbeat()
    // The host's connections all end, and nobody takes new ones.
    host.responder.stop()
    #expect(throws: SessionError.self) { try session.heartbeat() }
    var events: [String] = []
    for _ in 0..<20_000 where relay.spareCount > 0 {
      relay.look { events.append("\($0)") }
      SystemCall.sleep(nanoseconds: 5_000_000)
    }
    #expect(relay.spareCount == 0)
    #expect(
      events.contains { $0.contains("has ended") } && events.contains { $0.contains("no spare connection can be made") }
    )
    #expect(throws: SessionError.self) {
      try Session(to: relay.address, timeout: .seconds(1), keys: Self.keys(one, of: host))
    }
  }
}
