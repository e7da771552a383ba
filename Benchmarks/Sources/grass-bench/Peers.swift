import Foundation
import Measuring

/// What heartbeats are compared with: ping, and the least that a TCP round trip can cost.
enum Peers {
  /// The round trips of ping to the loopback address, or nil where ping is missing or not allowed.
  static func ping(count: Int) -> (mean: Double, deviation: Double)? {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/ping")
    process.arguments = ["-q", "-c", "\(count)", "-i", "0.002", "127.0.0.1"]
    let output = Pipe()
    process.standardOutput = output
    process.standardError = FileHandle.nullDevice
    guard (try? process.run()) != nil else { return nil }
    let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    // rtt min/avg/max/mdev = 0.010/0.015/0.100/0.005 ms
    guard let line = text.split(separator: "\n").last(where: { $0.hasPrefix("rtt") }),
      let values = line.split(separator: " ").dropFirst(3).first?.split(separator: "/").compactMap({ Double($0) }),
      values.count == 4
    else { return nil }
    return (values[1] * 1000, values[3] * 1000)
  }

  /// 64 bytes there and back over a TCP connection on loopback, between two threads.
  ///
  /// - Parameter polls: whether both sides ask again and again instead of sleeping until bytes come: the least that
  ///   TCP can cost, for the price of two cores.
  static func tcpPingPong(count: Int, polls: Bool) throws -> Samples {
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
