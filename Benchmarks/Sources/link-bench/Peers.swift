import Bench
import Foundation

/// What links are compared with: the least that this machine can do.
enum Peers {
  /// 64 bytes there and back over a TCP connection on loopback, between two threads that ask again and again instead of
  /// sleeping until bytes come: the least that TCP can cost, for the price of two cores.
  static func tcpPingPong(count: Int) throws -> Samples {
    let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let isReady = withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
        bind(listener, pointer, length) == 0 && listen(listener, 1) == 0 && getsockname(listener, pointer, &length) == 0
      }
    }
    guard isReady else { throw BenchmarkError("cannot listen on loopback") }
    let echo = Thread {
      let connection = accept(listener, nil, nil)
      setNoDelay(connection)
      var buffer = [UInt8](repeating: 0, count: 64)
      while receiveAll(connection, &buffer), send(connection, buffer, 64, 0) == 64 {}
      close(connection)
    }
    echo.start()
    let connection = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    defer {
      close(connection)
      close(listener)
    }
    let isConnected = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(connection, $0, length) == 0 }
    }
    guard isConnected else { throw BenchmarkError("cannot connect on loopback") }
    setNoDelay(connection)
    var buffer = [UInt8](repeating: 1, count: 64)
    return time(count) {
      _ = send(connection, buffer, 64, 0)
      _ = receiveAll(connection, &buffer)
    }
  }

  /// The C library's copy of so many bytes, from other places of 64 MiB each time, as results come: no cache holds them.
  static func copy(byteCount: Int, count: Int) -> Samples {
    let size = 64 << 20
    let from = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 4096)
    let to = UnsafeMutableRawPointer.allocate(byteCount: byteCount, alignment: 4096)
    defer {
      from.deallocate()
      to.deallocate()
    }
    memset(from, 1, size)
    var shift = 0
    return time(count) {
      memcpy(to, from + shift, byteCount)
      shift = shift + 2 * byteCount <= size ? shift + byteCount : 0
    }
  }

  private static func time(_ count: Int, _ body: () -> Void) -> Samples {
    let clock = ContinuousClock()
    for _ in 0..<100 { body() }
    return Samples(
      microseconds: (0..<count).map { _ in
        let elapsed = clock.measure(body).components
        return Double(elapsed.seconds) * 1e6 + Double(elapsed.attoseconds) / 1e12
      })
  }
}

private func setNoDelay(_ descriptor: Int32) {
  var on: Int32 = 1
  setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<Int32>.size))
}

private func receiveAll(_ descriptor: Int32, _ buffer: inout [UInt8]) -> Bool {
  var done = 0
  while done < buffer.count {
    let count = buffer.withUnsafeMutableBytes {
      recv(descriptor, $0.baseAddress.map { $0 + done }, $0.count - done, Int32(MSG_DONTWAIT))
    }
    if count < 0, errno == EAGAIN { continue }
    guard count > 0 else { return false }
    done += count
  }
  return true
}

struct BenchmarkError: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}
