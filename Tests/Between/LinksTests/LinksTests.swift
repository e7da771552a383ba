import LinkConformance
import Links
import Region
import Synchronization
import Testing

@Suite(.serialized) struct LinksTests {
  private static func path() -> String { "/tmp/grass-link-test-\(UInt64.random(in: 0 ... .max))" }

  /// Every kind of link that needs no device, and every check.
  @Test(arguments: LinkKinds.all.compactMap { $0.local }, LinkConformance.Check.allCases)
  func everyLinkKeepsThePromises(_ url: String, _ check: LinkConformance.Check) throws {
    let asked = try LinkAddress(url)
    let region = try SharedRegion(path: asked.kind.regionPath, layout: RegionLayout(scratchSize: 64 * 1024))
    let responder = try asked.serve(region)
    defer { responder?.stop() }
    let address = responder?.address ?? asked
    try LinkConformance { () throws(LinkError) in try address.connect() }.run(check)
    withExtendedLifetime(region) {}
  }

  /// Addresses are written as they are parsed, schemes differ, and errors name all of them.
  @Test func kindsDescribeThemselves() throws {
    #expect(Set(LinkKinds.all.map { $0.scheme }).count == LinkKinds.all.count)
    let error = try #require(#expect(throws: LinkError.self) { try LinkAddress("carrier-pigeon://x") })
    for kind in LinkKinds.all {
      #expect(kind.form.hasPrefix("\(kind.scheme)://") && !kind.serving.isEmpty)
      #expect("\(error)".contains(kind.form))
      let url = kind.form.replacing("PORT", with: "7").replacing("HOST", with: "h")
      #expect(try LinkAddress(url).description == url)
    }
  }

  @Test(arguments: LinkConformance.Check.allCases) func aRegionThatIsReachedByCopiesKeepsThePromises(
    _ check: LinkConformance.Check
  ) throws {
    let memory = try SharedRegion(layout: RegionLayout(scratchSize: 64 * 1024))
    let region = try SharedRegion(layout: memory.layout, in: CopiedMemory(memory))
    let responder = try TCPResponder(region: region, host: "127.0.0.1", port: 0)
    defer { responder.stop() }
    let address = responder.address
    try LinkConformance { () throws(LinkError) in try address.connect() }.run(check)
  }

  @Test func aRegionInADevicesMemoryHasNoFile() throws {
    let memory = try SharedRegion(layout: RegionLayout())
    let region = try SharedRegion(layout: memory.layout, in: CopiedMemory(memory))
    let address = LinkAddress.sharedMemory(path: Self.path())
    let error = #expect(throws: LinkError.self) { try address.serve(region) }
    #expect("\(error, default: "")".contains("has no file"))
    #expect(throws: RegionError.self) {
      try SharedRegion(layout: RegionLayout(responseSize: 4 << 20), in: CopiedMemory(memory))
    }
  }

  /// A device that fails ends a connection, and nothing else.
  @Test func aDeviceThatFailsEndsTheConnection() throws {
    let memory = FailingMemory(try SharedRegion(layout: RegionLayout(scratchSize: 64 * 1024)))
    let region = try SharedRegion(layout: RegionLayout(scratchSize: 64 * 1024), in: memory)
    let responder = try TCPResponder(region: region, host: "127.0.0.1", port: 0)
    defer { responder.stop() }
    for operation in ["read", "write"] {
      let link = try responder.address.connect()
      memory.fails.store(true, ordering: .releasing)
      #expect(throws: LinkError.self, "\(operation)") {
        let scratch = link.grant.scratch
        let offset = scratch.range.lowerBound
        if operation == "write" { try link.write([1, 2, 3, 4, 5, 6, 7, 8], to: scratch, offset: offset) }
        _ = try link.read(64, from: scratch, offset: offset)
      }
      memory.fails.store(false, ordering: .releasing)
      let other = try responder.address.connect()
      _ = try other.read(64, from: other.grant.scratch, offset: other.grant.scratch.range.lowerBound)
    }
  }

  private final class FailingMemory: RegionMemory {
    let memory: CopiedMemory
    let fails = Atomic<Bool>(false)

    init(_ region: SharedRegion) { memory = CopiedMemory(region) }

    var address: UInt64 { memory.address }
    var count: Int { memory.count }
    var dmaBuffer: Int32? { nil }

    private func check() throws(RegionError) {
      if fails.load(ordering: .acquiring) { throw RegionError("of a device", .device("it fell off the bus")) }
    }

    func store(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(RegionError) {
      try check()
      try memory.store(bytes, at: offset)
    }

    func load(into bytes: UnsafeMutableRawBufferPointer, at offset: Int) throws(RegionError) {
      try check()
      try memory.load(into: bytes, at: offset)
    }
  }

  @Test func tcpEndsWhenTheResponderDoes() throws {
    let region = try SharedRegion(layout: RegionLayout(scratchSize: 64 * 1024))
    let responder = try TCPResponder(region: region, host: "127.0.0.1", port: 0)
    let link = try responder.address.connect()
    _ = try link.read(8, from: link.grant.responses, offset: 0)
    responder.stop()
    let error = #expect(throws: LinkError.self) { try link.read(8, from: link.grant.responses, offset: 0) }
    #expect(error?.reason == .peerGone)
  }

  @Test func sharedMemoryEndsWhenTheOwnerDoes() throws {
    var region: SharedRegion? = try SharedRegion(path: Self.path(), layout: RegionLayout())
    let link = try SharedMemoryLink(path: try #require(region?.path), slots: 4)
    region = nil
    let error = #expect(throws: LinkError.self) {
      for _ in 0..<1_000_000 { _ = try link.read(8, from: link.grant.responses, offset: 0) }
    }
    #expect(error?.reason == .peerGone)
  }

  @Test func slotsComeBackAndRunOut() throws {
    let region = try SharedRegion(layout: RegionLayout(slots: 4))
    let responder = try TCPResponder(region: region, host: "127.0.0.1", port: 0)
    defer { responder.stop() }
    var first: (any Link)? = try responder.address.connect(slots: 3)
    let second = try responder.address.connect(slots: 3)
    #expect(second.grant.slots == 3..<4)
    for link in [first, second] { if let link { _ = try link.read(8, from: link.grant.responses, offset: 0) } }
    let error = #expect(throws: LinkError.self) { try responder.address.connect() }
    guard case .refused = error?.reason else {
      Issue.record("not refused")
      return
    }
    first?.close()
    first = nil
    let third = try responder.address.connect(slots: 3)
    #expect(third.grant.slots == 0..<3)
  }

  @Test(arguments: ["0.0.0.0", "192.0.2.1", "::", "2001:db8::1", "example.org", "128.0.0.1"])
  func servesOnlyLoopbackWithoutKeys(_ host: String) throws {
    let region = try SharedRegion(layout: RegionLayout())
    let served = #expect(throws: LinkError.self) { try TCPResponder(region: region, host: host, port: 0) }
    #expect(served?.reason == .notLoopback)
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
