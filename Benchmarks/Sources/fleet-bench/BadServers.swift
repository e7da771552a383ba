import Foundation

/// Servers over TCP that are no good hosts.
enum BadServers {
  /// What a server does with each connection.
  enum Kind: CaseIterable {
    /// Takes it, and says nothing.
    case hanging
    /// Says what nobody understands, without end.
    case babbling
    /// Hands on what a true device says, and loses a byte of it now and then.
    case losing
  }

  /// Starts one on threads that end with this process.
  ///
  /// - Parameters:
  ///   - kind: what it does.
  ///   - device: the port of a true device, of which one that loses bytes hands on the words.
  /// - Returns: its port on this machine.
  static func start(_ kind: Kind, device: UInt16) -> UInt16 {
    let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = inet_addr("127.0.0.1")
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let isBound = withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { name in
        bind(listener, name, size) == 0 && listen(listener, 128) == 0 && getsockname(listener, name, &size) == 0
      }
    }
    guard isBound else { fatalError("no server: \(String(cString: strerror(errno)))") }
    Thread.detachNewThread {
      while true {
        let connection = accept(listener, nil, nil)
        guard connection >= 0 else { continue }
        // A connection that is handed over is ended by the thread that has it.
        Thread.detachNewThread {
          serve(kind, connection, device)
          close(connection)
        }
      }
    }
    return UInt16(bigEndian: address.sin_port)
  }

  private static func serve(_ kind: Kind, _ connection: Int32, _ device: UInt16) {
    var bytes = [UInt8](repeating: 0, count: 4096)
    switch kind {
    case .hanging:
      while recv(connection, &bytes, bytes.count, 0) > 0 {}
    case .babbling:
      repeat {
        for index in bytes.indices { bytes[index] = UInt8.random(in: 0...255) }
        usleep(1000)
      } while send(connection, &bytes, bytes.count, Int32(MSG_NOSIGNAL)) > 0
    case .losing:
      let other = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
      defer { close(other) }
      var address = sockaddr_in()
      address.sin_family = sa_family_t(AF_INET)
      address.sin_port = device.bigEndian
      address.sin_addr.s_addr = inet_addr("127.0.0.1")
      let isThere = withUnsafePointer(to: address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          connect(other, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
        }
      }
      guard isThere else { return }
      var ends = [
        pollfd(fd: connection, events: Int16(POLLIN), revents: 0), pollfd(fd: other, events: Int16(POLLIN), revents: 0),
      ]
      while poll(&ends, 2, -1) > 0 {
        for (from, to) in [(0, other), (1, connection)] where ends[from].revents != 0 {
          var count = recv(ends[from].fd, &bytes, bytes.count, 0)
          guard count > 0 else { return }
          // One answer in eight loses its last byte.
          if from == 1, Int.random(in: 0..<8) == 0 { count -= 1 }
          guard count == 0 || send(to, &bytes, count, Int32(MSG_NOSIGNAL)) == count else { return }
        }
      }
    }
  }
}
