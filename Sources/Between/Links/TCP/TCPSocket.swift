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
    setOption(Int32(IPPROTO_TCP), TCP_NODELAY, 1)
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

  /// Has the kernel end the connection where the other side's machine is gone, or acknowledges nothing for long.
  func watchForDeath() {
    // Asked after 15 s of silence, each 5 s; given up after 20 s. Numbers of <linux/tcp.h>, in seconds and milliseconds.
    setOption(SOL_SOCKET, SO_KEEPALIVE, 1)
    setOption(Int32(IPPROTO_TCP), TCP_KEEPIDLE, 15)
    setOption(Int32(IPPROTO_TCP), TCP_KEEPINTVL, 5)
    setOption(Int32(IPPROTO_TCP), TCP_KEEPCNT, 3)
    setOption(Int32(IPPROTO_TCP), TCP_USER_TIMEOUT, 20_000)
  }

  private func setOption(_ level: Int32, _ name: Int32, _ value: Int32) {
    var value = value
    setsockopt(descriptor, level, name, &value, socklen_t(MemoryLayout<Int32>.size))
  }

  /// An address as sockets take it.
  private struct Place {
    var storage = sockaddr_storage()
    var size: socklen_t = 0

    /// Calls `body` with it.
    func with<Result>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result {
      withUnsafePointer(to: storage) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, size) }
      }
    }
  }

  /// The addresses of a host, by its name or as they are.
  ///
  /// Names are asked for by the system's own means, which take their own time.
  private static func places(
    _ host: String, _ port: UInt16, isListener: Bool, _ address: String
  ) throws(LinkError) -> [Place] {
    var hints = addrinfo()
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    hints.ai_flags = AI_NUMERICSERV | (isListener ? AI_PASSIVE : 0)
    var list: UnsafeMutablePointer<addrinfo>?
    let code = getaddrinfo(host, String(port), &hints, &list)
    defer { if let list { freeaddrinfo(list) } }
    guard code == 0 else { throw LinkError(address, .badHost(String(cString: gai_strerror(code)))) }
    var places: [Place] = []
    var next = list
    while let entry = next?.pointee {
      next = entry.ai_next
      guard let from = entry.ai_addr, Int(entry.ai_addrlen) <= MemoryLayout<sockaddr_storage>.size else { continue }
      var place = Place(size: entry.ai_addrlen)
      withUnsafeMutableBytes(of: &place.storage) {
        $0.copyMemory(from: UnsafeRawBufferPointer(start: from, count: Int(entry.ai_addrlen)))
      }
      places.append(place)
    }
    return places
  }

  /// Neither connecting nor accepting waits.
  private static func make(_ place: Place, _ address: String) throws(LinkError) -> TCPSocket {
    let descriptor = socket(
      Int32(place.storage.ss_family),
      Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
    guard descriptor >= 0 else { throw LinkError(address, .system(call: "socket", code: errno)) }
    return TCPSocket(descriptor: descriptor, address: address)
  }

  /// Connects to a host, at each of its addresses in turn until one answers.
  ///
  /// - Throws: ``LinkError`` where the host is not known, or none of its addresses answers in time: what the last one did.
  static func connect(
    host: String, port: UInt16, until deadline: ContinuousClock.Instant
  ) throws(LinkError) -> TCPSocket {
    let address = LinkAddress.tcp(host: host, port: port).description
    let places = try places(host, port, isListener: false, address)
    var failure = LinkError(address, .badHost("it has no address"))
    for (index, place) in places.enumerated() {
      // Who does not answer leaves time for the others.
      let time = (deadline - .now) / (places.count - index)
      do throws(LinkError) {
        return try connect(place, address, until: .now + max(time, .zero))
      } catch {
        failure = error
      }
    }
    throw failure
  }

  private static func connect(
    _ place: Place, _ address: String, until deadline: ContinuousClock.Instant
  ) throws(LinkError) -> TCPSocket {
    let socket = try make(place, address)
    let result = place.with { Glibc.connect(socket.descriptor, $0, $1) }
    if result != 0 {
      guard errno == EINPROGRESS || errno == EINTR else { throw socket.failure("connect") }
      guard try socket.waitUntilReady(reading: false, writing: true, milliseconds: milliseconds(until: deadline)) else {
        throw LinkError(address, .system(call: "connect", code: ETIMEDOUT))
      }
      var code: Int32 = 0
      var size = socklen_t(MemoryLayout<Int32>.size)
      guard getsockopt(socket.descriptor, SOL_SOCKET, SO_ERROR, &code, &size) == 0 else {
        throw socket.failure("getsockopt")
      }
      guard code == 0 else { throw LinkError(address, .system(call: "connect", code: code)) }
    }
    socket.setNoDelay()
    return socket
  }

  /// Milliseconds from now, rounded up, at least 0.
  static func milliseconds(until deadline: ContinuousClock.Instant) -> Int32 {
    let left = deadline - .now
    guard left > .zero else { return 0 }
    return Int32(clamping: Int(min(left / .milliseconds(1), 1e9)) + 1)
  }

  /// Listens at an address of this machine, and only at a loopback one without keys; port 0 lets the kernel choose.
  ///
  /// - Returns: the socket and its port.
  static func listen(host: String, port: UInt16, isKeyed: Bool) throws(LinkError) -> (TCPSocket, UInt16) {
    let address = LinkAddress.tcp(host: host, port: port).description
    guard isKeyed || isLoopback(host) else { throw LinkError(address, .notLoopback) }
    // Whatever else the machine may mean by it.
    let name = host.lowercased() == "localhost" ? "127.0.0.1" : host
    guard let place = try places(name, port, isListener: true, address).first else {
      throw LinkError(address, .badHost("it has no address"))
    }
    let socket = try make(place, address)
    socket.setOption(SOL_SOCKET, SO_REUSEADDR, 1)
    guard place.with({ bind(socket.descriptor, $0, $1) }) == 0 else { throw socket.failure("bind") }
    // As many as the kernel lets wait: what is silent must not fill this up before it is looked at.
    guard Glibc.listen(socket.descriptor, 4096) == 0 else { throw socket.failure("listen") }
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

  /// Accepts a connection that waits, or returns nil, with errno, where none can be had.
  func accept() -> TCPSocket? {
    let descriptor = SystemCall.retrying { Glibc.accept(self.descriptor, nil, nil) }
    guard descriptor >= 0 else { return nil }
    _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
    _ = fcntl(descriptor, F_SETFL, O_RDWR | O_NONBLOCK)
    let socket = TCPSocket(descriptor: descriptor, address: address)
    socket.setNoDelay()
    return socket
  }
}
