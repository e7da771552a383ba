import LinkConformance
import Links
import Mailbox
import Testing

@Suite(.serialized) struct LinksTests {
  private static func path() -> String { "/tmp/grass-link-test-\(UInt64.random(in: 0 ... .max))" }

  @Test(arguments: LinkConformance.Check.allCases) func sharedMemoryKeepsThePromises(
    _ check: LinkConformance.Check
  ) throws {
    let region = try MailboxRegion(path: Self.path(), layout: RegionLayout(scratchSize: 64 * 1024))
    let path = try #require(region.path)
    try LinkConformance { () throws(LinkError) in try SharedMemoryLink(path: path, slots: 4) }.run(check)
    withExtendedLifetime(region) {}
  }

  @Test(arguments: LinkConformance.Check.allCases) func tcpKeepsThePromises(_ check: LinkConformance.Check) throws {
    let region = try MailboxRegion(layout: RegionLayout(scratchSize: 64 * 1024))
    let responder = try TCPResponder(region: region, host: "127.0.0.1", port: 0)
    defer { responder.stop() }
    let address = responder.address
    try LinkConformance { () throws(LinkError) in try address.connect() }.run(check)
  }

  @Test func tcpEndsWhenTheResponderDoes() throws {
    let region = try MailboxRegion(layout: RegionLayout(scratchSize: 64 * 1024))
    let responder = try TCPResponder(region: region, host: "127.0.0.1", port: 0)
    let link = try responder.address.connect()
    _ = try link.read(8, from: link.grant.responses, offset: 0)
    responder.stop()
    let error = #expect(throws: LinkError.self) { try link.read(8, from: link.grant.responses, offset: 0) }
    #expect(error?.reason == .peerGone)
  }

  @Test func sharedMemoryEndsWhenTheOwnerDoes() throws {
    var region: MailboxRegion? = try MailboxRegion(path: Self.path(), layout: RegionLayout())
    let link = try SharedMemoryLink(path: try #require(region?.path), slots: 4)
    region = nil
    let error = #expect(throws: LinkError.self) {
      for _ in 0..<1_000_000 { _ = try link.read(8, from: link.grant.responses, offset: 0) }
    }
    #expect(error?.reason == .peerGone)
  }

  @Test func slotsComeBackAndRunOut() throws {
    let region = try MailboxRegion(layout: RegionLayout(slots: 4))
    let responder = try TCPResponder(region: region, host: "127.0.0.1", port: 0)
    defer { responder.stop() }
    var first: (any Link)? = try responder.address.connect(slots: 3)
    let second = try responder.address.connect(slots: 3)
    #expect(second.grant.slots == 3..<4)
    let error = #expect(throws: LinkError.self) { try responder.address.connect() }
    #expect(error?.reason == .refused("all slots are taken by other sessions"))
    first?.close()
    first = nil
    // The owner notices the end of a connection in its own time.
    var third: (any Link)?
    for _ in 0..<1000 where third == nil { third = try? responder.address.connect(slots: 3) }
    #expect(third?.grant.slots == 0..<3)
  }

  @Test(arguments: ["0.0.0.0", "192.0.2.1", "::", "2001:db8::1", "example.org", "128.0.0.1"])
  func refusesWhatIsNotLoopback(_ host: String) throws {
    let region = try MailboxRegion(layout: RegionLayout())
    let served = #expect(throws: LinkError.self) { try TCPResponder(region: region, host: host, port: 0) }
    #expect(served?.reason == .notLoopback)
    let connected = #expect(throws: LinkError.self) { try LinkAddress.tcp(host: host, port: 1).connect() }
    #expect(connected?.reason == .notLoopback)
  }

  @Test(arguments: [
    ("shm:///dev/shm/x", LinkAddress.sharedMemory(path: "/dev/shm/x")),
    ("tcp://127.0.0.1:80", .tcp(host: "127.0.0.1", port: 80)), ("TCP://[::1]:0", .tcp(host: "::1", port: 0)),
  ]) func parsesAddresses(_ text: String, _ expected: LinkAddress) throws {
    #expect(try LinkAddress(text) == expected)
  }

  @Test(arguments: [
    "", "x", "shm://", "shm://relative", "shm:///", "tcp://", "tcp://127.0.0.1", "tcp://127.0.0.1:65536", "tcp://:1",
    "tcp://::1:1", "verbs://x", "tcp://a:-1",
  ]) func refusesBadAddresses(_ text: String) {
    #expect(throws: LinkError.self) { try LinkAddress(text) }
  }
}
