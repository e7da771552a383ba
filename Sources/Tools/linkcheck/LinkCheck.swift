import ArgumentParser
import Glibc
import Host
import LinkConformance
import Links
import Region
import Verbs

/// Holds a link to its promises where the tests' own process cannot be: inside a guest.
@main
struct LinkCheck: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "linkcheck",
    abstract: "Runs the conformance suite against a link.",
    version: "linkcheck \(Version.current)",
    subcommands: [
      Serve.self, Promises.self, Peer.self, Soak.self, Memory.self, Vanish.self, Flood.self, Pattern.Make.self,
      Sealed.self,
    ])
}

/// A region with a scratch part, and no monitor.
struct Serve: ParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Serves a region until it is killed; prints `ready URL`.")

  @Argument var url: String

  @Option(help: "How many slots the region has.")
  var slots = 4

  @Flag(help: "Have the region lie in a dma-buf, as if it were a GPU's: only cards that take such memory reach it.")
  var dmaBuf = false

  func run() throws {
    let layout = try RegionLayout(slots: slots, scratchSize: 64 * 1024)
    let region =
      if dmaBuf {
        try SharedRegion(layout: layout, in: DMABufferMemory(count: layout.regionSize))
      } else {
        try SharedRegion(layout: layout)
      }
    let responder = try LinkAddress(url).serve(region)
    print("ready \(responder?.address.description ?? url)")
    fflush(nil)
    // Nobody asks both for anything any more, and yet they serve: optimized code would let go of them here, and does where it
    // knows that a loop has no end.
    withExtendedLifetime((region, responder)) {
      repeat { pause() } while errno == EINTR
    }
  }
}

/// Runs checks, prints a line for each, and fails if one did.
func report<Check>(_ checks: [Check], name: (Check) -> String, _ run: (Check) throws -> Void) throws {
  var broken = 0
  for check in checks {
    let start = ContinuousClock.now
    do {
      try run(check)
      print("kept \(name(check)) in \((ContinuousClock.now - start) / .milliseconds(1)) ms")
    } catch {
      broken += 1
      print("broken \(name(check)): \(error)")
    }
    fflush(nil)
  }
  if broken > 0 { throw ExitCode(1) }
}

struct Promises: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract:
      "Checks what a link promises, against a served region; by itself, every kind of link that needs no device.")

  @Argument(help: "Where a region is served; without it, this process serves one at an address of each kind.")
  var url: String?

  func run() throws {
    if let url { return try check(try LinkAddress(url)) }
    for url in LinkKinds.all.compactMap({ $0.local }) {
      let asked = try LinkAddress(url)
      let region = try SharedRegion(path: asked.kind.regionPath, layout: RegionLayout(slots: 4, scratchSize: 64 * 1024))
      let responder = try asked.serve(region)
      defer { responder?.stop() }
      let address = responder?.address ?? asked
      print("link \(address)")
      try check(address)
      withExtendedLifetime(region) {}
    }
  }

  private func check(_ address: LinkAddress) throws {
    let suite = LinkConformance { () throws(LinkError) in try address.connect(slots: 1) }
    try report(LinkConformance.Check.allCases, name: \.rawValue) { try suite.run($0) }
  }
}

struct Peer: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Checks what a link promises when the other side's process is stopped or dies.",
    discussion: "Serves by itself, in a process of its own for each check.")

  @Argument(help: "Where to serve.")
  var url: String

  @Flag(help: "Demand that reads and writes complete while the other side is stopped.")
  var oneSided = false

  func run() throws {
    try report(PeerConformance.Check.allCases, name: \.rawValue) { check in
      let server = try Server(url)
      defer { server.end() }
      try suite(server).run(check)
    }
    if oneSided {
      try report(["stoppedPeerIsReadAndWritten"], name: { $0 }) { _ in
        let server = try Server(url)
        defer { server.end() }
        try readAndWriteWhileStopped(server)
      }
    }
  }

  private func suite(_ server: Server) -> PeerConformance {
    PeerConformance(
      peer: .init(
        kill: { server.signal(SIGKILL) }, stop: { try server.stop() }, resume: { server.signal(SIGCONT) })
    ) { () throws(LinkError) in try LinkAddress(server.url).connect(slots: 1, within: .seconds(1)) }
  }

  private func readAndWriteWhileStopped(_ server: Server) throws {
    let link = try LinkAddress(server.url).connect(slots: 1)
    try server.stop()
    for round in 0..<100 as Range<UInt8> {
      let bytes = (0..<4096).map { UInt8(truncatingIfNeeded: $0) ^ round }
      try link.write(bytes, to: link.grant.scratch, offset: link.grant.scratch.range.lowerBound)
      let read = try link.read(4096, from: link.grant.scratch, offset: link.grant.scratch.range.lowerBound)
      guard read == bytes else { throw LinkConformance.Broken("round \(round) read other bytes than it wrote") }
    }
  }
}

struct Soak: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Writes and reads a served region for a time, whatever happens on the way.",
    discussion: """
      Fails if bytes read are not those written, or if an operation ends neither in a result nor in an error within \
      its deadline. Prints how many rounds ended in a result, and each error.
      """)

  @Argument var url: String

  @Option(help: "How long, in seconds.")
  var seconds: Double = 10

  @Option(help: "How long an operation may take, in seconds.")
  var deadline: Double = 5

  func run() throws {
    let address = try LinkAddress(url)
    let clock = ContinuousClock()
    var end = clock.now + .seconds(seconds)
    let limit = Duration.seconds(deadline)
    var link: (any Link)?
    var rounds = 0
    var longest = Duration.zero
    while clock.now < end {
      let start = clock.now
      do {
        let current = try link ?? address.connect(slots: 1, within: limit)
        link = current
        let part = current.grant.scratch
        let size = [8, 64, 1000, 16384][rounds % 4]
        let seed = UInt8.random(in: 0...255)
        let bytes = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 7) ^ seed }
        try current.write(bytes, to: part, offset: part.range.lowerBound + rounds % 64, within: limit)
        guard
          try current.read(size, from: part, offset: part.range.lowerBound + rounds % 64, within: limit) == bytes
        else {
          throw LinkError(url, .protocolViolation("wrong bytes in round \(rounds)"))
        }
        rounds += 1
        if rounds == 1 {
          // Whoever is to disturb it waits for that, and the seconds count from here.
          print("begun")
          fflush(nil)
          end = clock.now + .seconds(seconds)
        }
      } catch let error as LinkError {
        print("error \(error)")
        if case .protocolViolation = error.reason { throw ExitCode(1) }
        link?.close()
        link = nil
        usleep(100_000)
      }
      longest = max(longest, clock.now - start)
    }
    // A write and a read, or a connection and both, each with the deadline to itself.
    guard longest < limit * 3 + .seconds(1) else { throw LinkConformance.Broken("a round took \(longest)") }
    print("rounds \(rounds) longest \(Int(longest / .milliseconds(1))) ms")
    if rounds == 0 { throw ExitCode(1) }
  }
}

struct Memory: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Registers memory that comes with a DMA buffer which the device cannot take.")

  @Argument(help: "A host that the device reaches.")
  var url: String

  func run() throws {
    guard let address = try LinkAddress(url).kind as? VerbsAddress, let host = address.host else {
      throw LinkConformance.Broken("no verbs URL")
    }
    let connection = try Connection(manager: ConnectionManager())
    try connection.resolve(host: host, port: address.port, until: .now + .seconds(5))
    let domain = try ProtectionDomain(connection: connection)
    let memory = UnsafeMutableRawPointer.allocate(byteCount: 8192, alignment: 4096)
    defer { memory.deallocate() }
    // An open file, but no buffer of any device.
    let region = try MemoryRegion(
      domain: domain, address: memory, count: 8192, access: [.localWrite, .remoteRead],
      dmaBuffer: .init(descriptor: open("/dev/zero", O_RDWR), offset: 0))
    print("registered by address, key \(region.remoteKey)")
  }
}

struct Vanish: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Takes slots, writes the first half of a request into each, and is killed.")

  @Argument var url: String

  @Option(help: "How many slots to ask for.")
  var slots = 4

  func run() throws {
    let link = try LinkAddress(url).connect(slots: slots)
    let part = link.grant.requests
    let size = part.range.count / link.grant.slots.count
    // A sequence number and a length, and of the rest nothing.
    let head = [7, 1000].flatMap { (value: UInt64) in withUnsafeBytes(of: value.littleEndian) { [UInt8]($0) } }
    for slot in 0..<link.grant.slots.count {
      try link.write(head, to: part, offset: part.range.lowerBound + slot * size)
    }
    print("took \(link.grant.slots.count) slots")
    fflush(nil)
    kill(getpid(), SIGKILL)
  }
}

/// `linkcheck serve` in a process of its own.
final class Server {
  private let process: pid_t
  let url: String

  init(_ url: String) throws {
    var ends: [Int32] = [0, 0]
    guard pipe(&ends) == 0 else { throw LinkConformance.Broken("pipe: \(errno)") }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1)
    posix_spawn_file_actions_addclose(&actions, ends[0])
    defer { posix_spawn_file_actions_destroy(&actions) }
    let words: [String] = ["linkcheck", "serve", url]
    var arguments: [UnsafeMutablePointer<CChar>?] = words.map { word in strdup(word) } + [nil]
    defer { for argument in arguments { free(argument) } }
    var process: pid_t = 0
    let code = posix_spawn(&process, "/proc/self/exe", &actions, nil, &arguments, environ)
    close(ends[1])
    defer { close(ends[0]) }
    guard code == 0 else { throw LinkConformance.Broken("posix_spawn: \(code)") }
    self.process = process
    var text = ""
    var byte: UInt8 = 0
    while read(ends[0], &byte, 1) == 1, byte != UInt8(ascii: "\n") { text.unicodeScalars.append(Unicode.Scalar(byte)) }
    guard text.hasPrefix("ready ") else {
      waitpid(process, nil, 0)
      throw LinkConformance.Broken("nobody serves \(url)")
    }
    self.url = String(text.dropFirst("ready ".count))
  }

  func signal(_ number: Int32) { kill(process, number) }

  /// Stops it, and waits until it has.
  func stop() throws {
    signal(SIGSTOP)
    var status: Int32 = 0
    guard waitpid(process, &status, WUNTRACED) == process else { throw LinkConformance.Broken("it does not stop") }
  }

  func end() {
    signal(SIGKILL)
    waitpid(process, nil, 0)
  }
}
