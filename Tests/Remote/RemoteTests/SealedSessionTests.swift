import CRegion
import Devices
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
  private static func line(_ identity: Identity, _ rights: Rights, expiry: UInt64 = 0) -> grass_key_line {
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
