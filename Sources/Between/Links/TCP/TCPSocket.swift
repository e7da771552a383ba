import Glibc
import Host
import Region

/// A connected or listening TCP socket; closed with its last reference.
///
/// The errors it throws carry its address.
final class TCPSocket: @unchecked Sendable {
  let descriptor: Int32
  let address: String

  init(descriptor: Int32, address: String) {
    self.descriptor = descriptor
    self.address = address
  }

  deinit { Glibc.close(descriptor) }

  func failure(_ call: String) -> LinkError {
    let code = errno
    if code == ECONNRESET || code == EPIPE { return LinkError(address, .peerGone) }
    return LinkError(address, .system(call: call, code: code))
  }

  /// Ends the connection, which wakes whoever waits for it.
  func shutdown() { Glibc.shutdown(descriptor, Int32(SHUT_RDWR)) }

  /// Sends what the socket takes at once.
  ///
  /// - Returns: the number of bytes, 0 where it takes none now.
  func send(_ bytes: UnsafeRawBufferPointer) -> Result<Int, LinkError> {
    let count = SystemCall.retrying {
      Glibc.send(descriptor, bytes.baseAddress, bytes.count, Int32(MSG_DONTWAIT) | Int32(MSG_NOSIGNAL))
    }
    if count >= 0 { return .success(count) }
    return errno == EAGAIN ? .success(0) : .failure(failure("send"))
  }

  /// Receives what is there.
  ///
  /// Fails with ``LinkError/Reason/peerGone`` at the connection's end.
  ///
  /// - Returns: the number of bytes, nil where there is nothing yet.
  func receive(_ bytes: UnsafeMutableRawBufferPointer) -> Result<Int?, LinkError> {
    let count = SystemCall.retrying {
      recv(descriptor, bytes.baseAddress, bytes.count, Int32(MSG_DONTWAIT))
    }
    if count > 0 { return .success(count) }
    if count == 0 { return .failure(LinkError(address, .peerGone)) }
    return errno == EAGAIN ? .success(nil) : .failure(failure("recv"))
  }

  /// Waits for readiness.
  ///
  /// Negative milliseconds wait for ever.
  ///
  /// - Returns: false where the time is over.
  func waitUntilReady(reading: Bool, writing: Bool, milliseconds: Int32) throws(LinkError) -> Bool {
    var entry = pollfd(
      fd: descriptor, events: Int16((reading ? POLLIN : 0) | (writing ? POLLOUT : 0)), revents: 0)
    let count = SystemCall.retrying { poll(&entry, 1, milliseconds) }
    if count < 0 { throw failure("poll") }
    return count > 0
  }

  /// Small messages leave at once.
  func setNoDelay() {
    var one: Int32 = 1
    setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<Int32>.size))
  }

  /// Whether a host is this machine by any route that leaves it.
  static func isLoopback(_ host: String) -> Bool {
    if host.lowercased() == "localhost" { return true }
    var four = in_addr()
    if inet_pton(AF_INET, host, &four) == 1 { return UInt32(bigEndian: four.s_addr) >> 24 == 127 }
    var six = in6_addr()
    if inet_pton(AF_INET6, host, &six) == 1 {
      return withUnsafeBytes(of: &six) { bytes in bytes.dropLast().allSatisfy { $0 == 0 } && bytes[15] == 1 }
    }
    return false
  }

  /// Calls `body` with the socket address of a loopback host.
  private static func withAddress<Result>(
    _ host: String, _ port: UInt16, _ body: (Int32, UnsafePointer<sockaddr>, socklen_t) -> Result
  ) -> Result {
    var six = sockaddr_in6()
    if inet_pton(AF_INET6, host, &six.sin6_addr) == 1 {
      six.sin6_family = sa_family_t(AF_INET6)
      six.sin6_port = port.bigEndian
      return withUnsafePointer(to: &six) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          body(AF_INET6, $0, socklen_t(MemoryLayout<sockaddr_in6>.size))
        }
      }
    }
    var four = sockaddr_in()
    four.sin_family = sa_family_t(AF_INET)
    four.sin_port = port.bigEndian
    if inet_pton(AF_INET, host, &four.sin_addr) != 1 { inet_pton(AF_INET, "127.0.0.1", &four.sin_addr) }
    return withUnsafePointer(to: &four) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        body(AF_INET, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
  }

  private static func make(_ host: String, _ address: String) throws(LinkError) -> TCPSocket {
    guard isLoopback(host) else { throw LinkError(address, .notLoopback) }
    let family = withAddress(host, 0) { family, _, _ in family }
    let descriptor = socket(family, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { throw LinkError(address, .system(call: "socket", code: errno)) }
    return TCPSocket(descriptor: descriptor, address: address)
  }

  /// Connects to a loopback host.
  static func connect(host: String, port: UInt16) throws(LinkError) -> TCPSocket {
    let address = LinkAddress.tcp(host: host, port: port).description
    let socket = try make(host, address)
    // To a loopback address the kernel connects or refuses at once.
    let result = withAddress(host, port) { _, address, size in
      SystemCall.retrying { Glibc.connect(socket.descriptor, address, size) }
    }
    guard result == 0 else { throw socket.failure("connect") }
    socket.setNoDelay()
    return socket
  }

  /// Listens at a loopback host; port 0 lets the kernel choose.
  ///
  /// - Returns: the socket and its port.
  static func listen(host: String, port: UInt16) throws(LinkError) -> (TCPSocket, UInt16) {
    let address = LinkAddress.tcp(host: host, port: port).description
    let socket = try make(host, address)
    var one: Int32 = 1
    setsockopt(socket.descriptor, SOL_SOCKET, SO_REUSEADDR, &one, socklen_t(MemoryLayout<Int32>.size))
    guard withAddress(host, port, { _, address, size in bind(socket.descriptor, address, size) }) == 0 else {
      throw socket.failure("bind")
    }
    guard Glibc.listen(socket.descriptor, 64) == 0 else { throw socket.failure("listen") }
    var storage = sockaddr_storage()
    var size = socklen_t(MemoryLayout<sockaddr_storage>.size)
    let actual = withUnsafeMutablePointer(to: &storage) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
        getsockname(socket.descriptor, pointer, &size) == 0
      }
    }
    guard actual else { throw socket.failure("getsockname") }
    // The port stands at the same place in both families.
    let chosen = withUnsafeBytes(of: &storage) { $0.loadUnaligned(fromByteOffset: 2, as: UInt16.self) }
    return (socket, UInt16(bigEndian: chosen))
  }

  /// Accepts a connection that waits, or nil where none does any more.
  func accept() -> TCPSocket? {
    let descriptor = SystemCall.retrying { Glibc.accept(self.descriptor, nil, nil) }
    guard descriptor >= 0 else { return nil }
    _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
    let socket = TCPSocket(descriptor: descriptor, address: address)
    socket.setNoDelay()
    return socket
  }
}
