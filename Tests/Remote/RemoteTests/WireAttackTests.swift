import Glibc
import Host
import Keys
import Links
import Memory
import Remote
import Synchronization
import Testing

/// Sessions with keys over TCP, and somebody on the way who has all that is sent in his hands.
struct WireAttackTests {
  enum Attack: CaseIterable, Sendable {
    /// Bits of the stream; pieces of it that are missing, come twice, come late; bytes that nobody sent.
    case altered, dropped, repeated, reordered, injected
    /// Bits of the first bytes each way only, by which a connection is made.
    case alteredGreetings
    /// Connections that end in the middle.
    case cut
  }

  /// Takes connections to a port of its own and makes one to the host for each.
  private final class Proxy: Sendable {
    let address: LinkAddress
    private let shared = Shared()

    final class Shared: Sendable {
      let attack = Locked<Attack?>(nil)
      let isStopped = Atomic<Bool>(false)
      let deeds = Atomic<Int>(0)
    }

    init(to host: LinkAddress) throws {
      let port = try #require(host.kind as? TCPAddress).port
      let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
      var place = Self.place(0)
      let size = socklen_t(MemoryLayout<sockaddr_in>.size)
      var length = size
      let bound = withUnsafeMutablePointer(to: &place) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          bind(listener, $0, size) == 0 && listen(listener, 64) == 0 && getsockname(listener, $0, &length) == 0
        }
      }
      try #require(bound)
      address = .tcp(host: "127.0.0.1", port: UInt16(bigEndian: place.sin_port))
      let shared = shared
      try DedicatedThread(name: "proxy") { Self.run(listener, port, shared) }.detach()
    }

    func set(_ attack: Attack?) { shared.attack.withLock { $0 = attack } }
    var deeds: Int { shared.deeds.load(ordering: .relaxed) }

    func stop() { shared.isStopped.store(true, ordering: .releasing) }

    private static func place(_ port: UInt16) -> sockaddr_in {
      var place = sockaddr_in()
      place.sin_family = sa_family_t(AF_INET)
      place.sin_port = port.bigEndian
      place.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
      return place
    }

    /// One way of a connection.
    private struct Way {
      let from: Int32, to: Int32
      var passed = 0
      var held: [UInt8] = []
      var earlier: [UInt8] = []
    }

    private static func run(_ listener: Int32, _ port: UInt16, _ shared: Shared) {
      var ways: [Way] = []
      defer { for descriptor in Set(ways.map(\.from) + [listener]) { close(descriptor) } }
      while !shared.isStopped.load(ordering: .acquiring) {
        var entries = ([listener] + ways.map(\.from)).map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
        guard poll(&entries, nfds_t(entries.count), 50) > 0 else { continue }
        var gone: Set<Int32> = []
        for index in ways.indices where entries[index + 1].revents != 0 && !gone.contains(ways[index].from) {
          if !pump(&ways[index], shared) { gone.formUnion([ways[index].from, ways[index].to]) }
        }
        ways.removeAll { gone.contains($0.from) }
        for descriptor in gone { close(descriptor) }
        if entries[0].revents != 0 {
          let near = accept(listener, nil, nil), far = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
          var place = place(port)
          let isThere = withUnsafePointer(to: &place) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
              connect(far, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
            }
          }
          if near >= 0, isThere {
            ways += [Way(from: near, to: far), Way(from: far, to: near)]
          } else {
            for descriptor in [near, far] { close(descriptor) }
          }
        }
      }
    }

    /// Passes on what has come, or does with it what it likes; false where the connection is to end.
    private static func pump(_ way: inout Way, _ shared: Shared) -> Bool {
      var bytes = [UInt8](repeating: 0, count: 4096)
      let count = recv(way.from, &bytes, bytes.count, 0)
      guard count > 0 else { return false }
      bytes.removeSubrange(count...)
      let isGreeting = way.passed < 64
      way.passed += count
      func isChosen(_ times: Int) -> Bool { Int.random(in: 0..<times) == 0 }
      func did() { shared.deeds.add(1, ordering: .relaxed) }
      func flip() {
        bytes[.random(in: bytes.indices)] ^= 1 << UInt8.random(in: 0...7)
        did()
      }
      switch shared.attack.withLock({ $0 }) {
      case .altered: if isChosen(20) { flip() }
      case .alteredGreetings: if isGreeting, isChosen(2) { flip() }
      case .dropped:
        if isChosen(100) {
          did()
          return true
        }
      case .repeated:
        if isChosen(100) {
          did()
          bytes += way.earlier
        }
      case .reordered:
        if way.held.isEmpty, isChosen(100) {
          did()
          way.held = bytes
          return true
        }
        bytes += way.held
        way.held = []
      case .injected:
        if isChosen(100) {
          did()
          bytes.insert(
            contentsOf: (0..<Int.random(in: 1...64)).map { _ in .random(in: 0...255) }, at: .random(in: bytes.indices))
        }
      case .cut:
        if isChosen(200) {
          did()
          _ = send(way.to, bytes, bytes.count / 2, Int32(MSG_NOSIGNAL))
          return false
        }
      case nil: break
      }
      way.earlier = bytes
      var sent = 0
      while sent < bytes.count {
        let count = bytes[sent...].withUnsafeBytes { send(way.to, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
        guard count > 0 else { return false }
        sent += count
      }
      return true
    }
  }

  /// Nothing false is accepted, and once he has stopped a session can be had, and works.
  @Test(arguments: Attack.allCases) func nothingFalseIsAccepted(_ attack: Attack) throws {
    let me = Identity.generate()
    let line = SealedSessionTests.line(me, .all)
    let host = try WatchedHost(count: 1 << 20, keys: [line])
    for word in 0..<host.bytes.count / 8 { host.store(UInt64(word) &* 0x9e37_79b9_7f4a_7c15, at: word * 8) }
    let truth = Array(UnsafeRawBufferPointer(start: host.bytes.base, count: host.bytes.count))
    let proxy = try Proxy(to: host.address(.tcp))
    defer { proxy.stop() }
    let key = try PublicKey(bytes: #require(host.publicKey))
    // Both kinds of handshake take their turns.
    var isKnown = false
    func connect(within timeout: Duration = .seconds(2)) throws(SessionError) -> Session {
      isKnown.toggle()
      let keys = SessionKeys(identity: me, known: isKnown ? key : nil) { proved, _ throws(KeyRefusal) in
        guard proved == key else { throw KeyRefusal("its key is another") }
      }
      return try Session(to: proxy.address, timeout: timeout, keys: keys)
    }
    func ask(_ session: Session) throws {
      try session.heartbeat()
      #expect(try session.line().state == .running)
      let memory = try RemoteMemory(session: session)
      var batch = ReadBatch<PhysicalAddress>()
      let start = Int.random(in: 0..<truth.count - 65_536)
      batch.add(PhysicalAddress(UInt64(start)), count: 65_536)
      memory.read(&batch)
      if batch.faults.isEmpty { #expect(try batch.reader(0).copy() == Array(truth[start..<start + 65_536])) }
    }
    var session: Session? = try connect(within: .seconds(60))
    proxy.set(attack)
    let end = ContinuousClock.now + .seconds(2)
    var asked = 0
    while ContinuousClock.now < end {
      do {
        let current = try session ?? connect()
        session = current
        try ask(current)
        asked += 1
        // So that connections are made while he is at them.
        if asked % 8 == 0 { session = nil }
      } catch {
        session = nil
      }
    }
    proxy.set(nil)
    // What is in flight, and what he holds, ends with its connection.
    try ask(connect(within: .seconds(60)))
    #expect(proxy.deeds > 0)
  }
}
