import Foundation
public import LinkBench

/// What heartbeats over TCP are compared with: the least that a round trip can cost.
public enum TCPPingPong {
  /// 64 bytes there and back over a TCP connection on loopback, between two threads.
  ///
  /// Where it `polls`, both sides ask again and again instead of sleeping until bytes come: the least that TCP can cost,
  /// for the price of two cores.
  public static func run(count: Int, polls: Bool) throws -> Samples {
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
      while receiveAll(connection, &buffer, polls: polls), send(connection, buffer, 64, 0) == 64 {}
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
    return Samples.measure(count, warmUp: 100) {
      _ = send(connection, buffer, 64, 0)
      _ = receiveAll(connection, &buffer, polls: polls)
    }
  }
}

private func setNoDelay(_ descriptor: Int32) {
  var on: Int32 = 1
  setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<Int32>.size))
}

private func receiveAll(_ descriptor: Int32, _ buffer: inout [UInt8], polls: Bool) -> Bool {
  let flags = polls ? Int32(MSG_DONTWAIT) : 0
  var done = 0
  while done < buffer.count {
    let count = buffer.withUnsafeMutableBytes {
      recv(descriptor, $0.baseAddress.map { $0 + done }, $0.count - done, flags)
    }
    if count < 0, polls, errno == EAGAIN { continue }
    guard count > 0 else { return false }
    done += count
  }
  return true
}
