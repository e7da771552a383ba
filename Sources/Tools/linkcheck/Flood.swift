import ArgumentParser
import Glibc
import Links

/// Connections that mean no good, to see what they do to others.
struct Flood: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Keeps many connections to a TCP port that mean no good, until it is killed.",
    discussion: """
      A quarter says nothing, a quarter says hello a byte at a time and never ends, a quarter sends garbage, and a quarter \
      asks for slots and for long answers, and reads none. What is closed is made anew some time later. Prints `ready` once as many \
      were made as it is to keep.
      """)

  @Argument(help: "A TCP address on this machine, as tcp://127.0.0.1:PORT.")
  var url: String

  @Option(help: "How many connections to keep.")
  var connections = 1000

  @Option(help: "How long to wait until one that was closed is made anew, in milliseconds.")
  var pause = 250

  private enum Kind: CaseIterable { case silent, dribbling, garbage, slow }

  private struct Place {
    let kind: Kind
    var descriptor: Int32 = -1
    /// When it may be made, or says its next byte.
    var due = ContinuousClock.now
    var said = 0
  }

  func run() throws {
    guard let address = try LinkAddress(url).kind as? TCPAddress else { throw ValidationError("Give a TCP address.") }
    var to = sockaddr_in()
    to.sin_family = sa_family_t(AF_INET)
    to.sin_port = address.port.bigEndian
    guard let host = address.host, inet_pton(AF_INET, host, &to.sin_addr) == 1 else {
      throw ValidationError("Give an IPv4 address.")
    }
    signal(SIGPIPE, SIG_IGN)
    var places = (0..<connections).map { Place(kind: Kind.allCases[$0 % Kind.allCases.count]) }
    var made = 0
    var isReady = false
    while true {
      for index in places.indices {
        if places[index].descriptor < 0, places[index].due <= .now {
          connect(&places[index], to)
          if places[index].descriptor >= 0 { made += 1 }
        }
        if places[index].descriptor >= 0 { step(&places[index]) }
      }
      if !isReady, made >= connections {
        isReady = true
        print("ready")
        fflush(nil)
      }
      usleep(20_000)
    }
  }

  private func connect(_ place: inout Place, _ to: sockaddr_in) {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    if place.kind == .slow {
      // Room for little: what it does not read waits on the other side.
      var size: Int32 = 4096
      setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &size, socklen_t(MemoryLayout<Int32>.size))
    }
    let result = withUnsafePointer(to: to) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    guard result == 0 else {
      close(descriptor)
      place.due = .now + .milliseconds(pause)
      return
    }
    place.descriptor = descriptor
    place.said = 0
    place.due = .now
    switch place.kind {
    case .silent, .dribbling: break
    case .garbage: say((0..<4096).map { _ in UInt8.random(in: 0...255) }, descriptor)
    case .slow: say(Self.hello, descriptor)
    }
  }

  /// A hello for one slot, as TCPWire has it.
  private static let hello = [0x314b_4e4c_5352_4721, 1, 1].flatMap { (word: UInt64) in
    withUnsafeBytes(of: word.littleEndian) { [UInt8]($0) }
  }

  private func say(_ bytes: [UInt8], _ descriptor: Int32) {
    _ = send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT))
  }

  private func step(_ place: inout Place) {
    var bytes = [UInt8](repeating: 0, count: place.kind == .slow && place.said == 0 ? 160 : 1)
    // Of answers that a slow one asks for it takes nothing, so its end shows only by an error.
    let flags = Int32(MSG_DONTWAIT) | (place.said > 0 && place.kind == .slow ? Int32(MSG_PEEK) : 0)
    let count = recv(place.descriptor, &bytes, bytes.count, flags)
    if count == 0 || (count < 0 && errno != EAGAIN) || (place.kind == .slow && Self.isClosed(place.descriptor)) {
      close(place.descriptor)
      place.descriptor = -1
      place.due = .now + .milliseconds(pause)
    } else if place.kind == .slow, place.said == 0, count == 160 {
      place.said = 1
      ask(place.descriptor, grant: bytes)
    } else if place.kind == .dribbling, place.due <= .now {
      // All but the last byte, again and again.
      say([Self.hello[place.said % 23]], place.descriptor)
      place.said = min(place.said + 1, 22)
      place.due = .now + .milliseconds(100)
    }
  }

  /// Whether the other side has closed, though answers wait that nobody reads.
  private static func isClosed(_ descriptor: Int32) -> Bool {
    var entry = pollfd(fd: descriptor, events: 0x2000 /* POLLRDHUP */, revents: 0)
    return poll(&entry, 1, 0) > 0 && entry.revents != 0
  }

  /// Asks for all answers of the region, a hundred times.
  private func ask(_ descriptor: Int32, grant: [UInt8]) {
    let words = grant.withUnsafeBytes { bytes in
      (0..<20).map { UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: $0 * 8, as: UInt64.self)) }
    }
    guard words[3] > 0 else { return }
    for number in 1...100 as ClosedRange<UInt64> {
      let operation = [2, number, words[9], words[10], words[11], min(words[12], 8 << 20), 0, 0]
      say(operation.flatMap { word in withUnsafeBytes(of: word.littleEndian) { [UInt8]($0) } }, descriptor)
    }
  }
}
