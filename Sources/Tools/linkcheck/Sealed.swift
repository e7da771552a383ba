import ArgumentParser
import Glibc
import Keys
import Links
import Memory
import Remote

/// Memory whose every word says where it lies: whoever reads it knows what is true.
enum Pattern {
  /// What the word at `address` holds.
  static func word(at address: Int) -> UInt64 { UInt64(address / 8) &* 0x9e37_79b9_7f4a_7c15 }

  /// Whether `bytes` are those from `start` on, a multiple of eight.
  static func holds(_ bytes: [UInt8], from start: Int) -> Bool {
    bytes.withUnsafeBytes { bytes in
      for offset in stride(from: 0, to: bytes.count, by: 8)
      where bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self) != word(at: start + offset) { return false }
      return true
    }
  }

  struct Make: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "pattern", abstract: "Writes a file for grassd to watch, each word of which says where it lies.")

    @Argument(completion: .file()) var file: String

    @Option(help: "How large.")
    var mebibytes = 2

    func run() throws {
      guard let stream = fopen(file, "w") else { throw ValidationError("\(file): \(String(cString: strerror(errno)))") }
      for address in stride(from: 0, to: mebibytes << 20, by: 8) {
        var word = Pattern.word(at: address)
        fwrite(&word, 8, 1, stream)
      }
      guard fclose(stream) == 0 else { throw ValidationError("\(file): \(String(cString: strerror(errno)))") }
    }
  }
}

/// Sessions with keys, while somebody on the way does what he can.
struct Sealed: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Asks a device with keys for memory that `linkcheck pattern` made, whatever happens on the way.",
    discussion: """
      Makes a new session where one ended. Prints a line each second: how many answers were right, how many questions had none, \
      and how many sessions were made. Fails at once if an answer is false that was taken for true.
      """)

  @Argument var url: String

  @Option(help: "This side's private key.", completion: .file())
  var identity: String

  @Option(help: "The device's public key.")
  var device: String

  @Option(help: "How long, in seconds.")
  var seconds = 5

  @Option(help: "How many MiB the memory has.")
  var mebibytes = 2

  @Option(help: "End each session after so many questions, and make another; 0 for never.")
  var renewal = 0

  @Option(help: "How long a question may take, in seconds.")
  var deadline: Double = 2

  private struct Count {
    var right = 0
    var failed = 0
    var sessions = 0
    var errors: [String: Int] = [:]
  }

  func run() throws {
    let (address, own, key) = (
      try LinkAddress(url), try Identity(contentsOf: identity), try PublicKey(parsing: device)
    )
    let keys = SessionKeys(identity: own, known: key) { proved, _ throws(KeyRefusal) in
      guard proved == key else { throw KeyRefusal("its key is another") }
    }
    let clock = ContinuousClock()
    let end = clock.now + .seconds(seconds)
    var next = clock.now + .seconds(1)
    var count = Count()
    var session: Session?
    var asked = 0
    while clock.now < end {
      do throws(SessionError) {
        let current =
          if let session { session } else { try Session(to: address, timeout: .seconds(deadline), keys: keys) }
        if session == nil {
          count.sessions += 1
          asked = 0
        }
        session = current
        try ask(current, &count)
        asked += 1
        if renewal > 0, asked >= renewal { session = nil }
      } catch {
        count.failed += 1
        count.errors[error.description, default: 0] += 1
        // A question that was not answered ends no session; a link that is gone does.
        if session == nil || Self.endsSession(error) {
          session = nil
          usleep(20_000)
        }
      }
      if clock.now >= next {
        print("right \(count.right) failed \(count.failed) sessions \(count.sessions)")
        for (error, times) in count.errors.sorted(by: { $0.value > $1.value }).prefix(3) {
          print("  \(times) \(error)")
        }
        fflush(nil)
        count = Count()
        next += .seconds(1)
      }
    }
  }

  private static func endsSession(_ error: SessionError) -> Bool {
    if case .link = error.reason { return true }
    return false
  }

  private func ask(_ session: Session, _ count: inout Count) throws(SessionError) {
    try session.heartbeat()
    guard try session.line().state == .running else { return fail("the line says that the device does not run") }
    let memory = try RemoteMemory(session: session)
    var batch = ReadBatch<PhysicalAddress>()
    // One piece of a packet, several, and more than one slot answers at once.
    let size = [64, 4096, 32768].randomElement() ?? 64
    let start = Int.random(in: 0...((mebibytes << 20) - size) / 8) * 8
    batch.add(PhysicalAddress(UInt64(start)), count: size)
    memory.read(&batch)
    guard batch.faults.isEmpty, let bytes = try? batch.reader(0).copy() else {
      count.failed += 1
      return
    }
    if !Pattern.holds(bytes, from: start) { fail("\(size) bytes at \(start) are others than the device's") }
    count.right += 1
  }

  private func fail(_ what: String) {
    print("false: \(what)")
    fflush(nil)
    Glibc.exit(1)
  }
}
