import Glibc

/// A connection to an abstract Unix socket: one that has no file and so leaves none behind.
final class AbstractSocket: @unchecked Sendable {
  // Sendable because its user serialises; the descriptor never changes.
  private let descriptor: Int32
  private var buffer: [UInt8] = []

  /// Connects, waiting for the server to appear until `deadline`.
  init(name: String, deadline: ContinuousClock.Instant) throws(LabError) {
    let bytes = Array(name.utf8)
    while true {
      let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
      guard descriptor >= 0 else { throw LabError("cannot make a socket: \(String(cString: strerror(errno)))") }
      var address = sockaddr_un()
      address.sun_family = sa_family_t(AF_UNIX)
      withUnsafeMutableBytes(of: &address.sun_path) { path in
        // An abstract name starts with a zero byte.
        for (index, byte) in bytes.prefix(path.count - 1).enumerated() { path[index + 1] = byte }
      }
      let length = socklen_t(MemoryLayout<sa_family_t>.size + 1 + bytes.count)
      let result = withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, length) }
      }
      if result == 0 {
        self.descriptor = descriptor
        return
      }
      let code = errno
      close(descriptor)
      guard ContinuousClock.now < deadline else {
        throw LabError("cannot connect to QEMU's socket \(name): \(String(cString: strerror(code)))")
      }
      usleep(20_000)
    }
  }

  deinit { close(descriptor) }

  func write(_ bytes: [UInt8]) throws(LabError) {
    var offset = 0
    while offset < bytes.count {
      let count = bytes[offset...].withUnsafeBytes { send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { throw LabError("the connection to QEMU broke: \(String(cString: strerror(errno)))") }
      offset += count
    }
  }

  /// The bytes up to a newline, without it.
  func readLine(deadline: ContinuousClock.Instant) throws(LabError) -> [UInt8] {
    while true {
      if let end = buffer.firstIndex(of: UInt8(ascii: "\n")) {
        let line = Array(buffer[..<end])
        buffer.removeFirst(end + 1)
        return line
      }
      try fill(deadline: deadline)
    }
  }

  func read(count: Int, deadline: ContinuousClock.Instant) throws(LabError) -> [UInt8] {
    while buffer.count < count { try fill(deadline: deadline) }
    let bytes = Array(buffer[..<count])
    buffer.removeFirst(count)
    return bytes
  }

  private func fill(deadline: ContinuousClock.Instant) throws(LabError) {
    let left = ContinuousClock.now.duration(to: deadline)
    guard left > .zero else { throw LabError("no answer within the time that was given", .silence) }
    var poller = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    let milliseconds = Int32(
      clamping: left.components.seconds * 1000 + left.components.attoseconds / 1_000_000_000_000_000)
    guard poll(&poller, 1, milliseconds + 1) > 0 else { return }
    var chunk = [UInt8](repeating: 0, count: 65536)
    let count = recv(descriptor, &chunk, chunk.count, 0)
    if count < 0, errno == EINTR { return }
    guard count > 0 else { throw LabError("QEMU closed the connection") }
    buffer += chunk[..<count]
  }
}
