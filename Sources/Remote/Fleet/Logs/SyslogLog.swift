import Glibc
import Host

/// Who takes messages as RFC 5424 has them: a socket of this machine's, or a server by UDP or TCP.
///
/// Over TCP each message comes with its length before it (RFC 6587). What a server that is gone had not read yet is lost, as syslog has no
/// answers; over UDP whatever the network drops.
final class SyslogLog: LogWriter {
  private struct State {
    var socket: Int32 = -1
    /// Whether messages follow each other on it without borders.
    var isStream = false
    /// How much of the message that is written was taken.
    var written = 0
  }

  let name: String
  private let address: FleetConfiguration.SyslogAddress
  private let facility: Int
  private let state = Locked(State())
  private let host: String
  /// The most that a datagram has.
  private static let longestDatagram = 60_000

  init(_ address: FleetConfiguration.SyslogAddress, facility: Int) {
    self.address = address
    self.facility = facility
    name = address.description
    var names = utsname()
    let own = uname(&names) == 0 ? withUnsafeBytes(of: &names.nodename) { Array($0.prefix { $0 != 0 }) } : []
    let isPlain = !own.isEmpty && own.allSatisfy { (33...126).contains($0) }
    host = isPlain ? String(decoding: own, as: UTF8.self) : "-"
  }

  deinit { reopen() }

  func reopen() {
    state.withLock { state in
      if state.socket >= 0 { close(state.socket) }
      state = State()
    }
  }

  /// The message of a line: `<PRI>1 TIME HOST grass-fleet PID KIND - LINE`.
  func message(_ line: LogLine) -> [UInt8] {
    let head =
      "<\(facility * 8 + line.severity)>1 \(Moments.exact(line.utc)) \(host) grass-fleet \(getpid()) \(line.kind) - "
    return Array(head.utf8) + line.bytes
  }

  func write(_ line: LogLine) throws(LogError) {
    var message = message(line)
    let failure = state.withLock { state -> String? in
      if state.socket < 0, let problem = connect(&state) { return problem }
      if state.isStream {
        message = Array("\(message.count) ".utf8) + message
      } else if message.count > Self.longestDatagram {
        message.removeLast(message.count - Self.longestDatagram)
      }
      while state.written < message.count {
        let count = message[state.written...].withUnsafeBytes { rest in
          SystemCall.retrying { send(state.socket, rest.baseAddress, rest.count, Int32(MSG_NOSIGNAL)) }
        }
        guard count >= 0 else {
          let problem = String(cString: strerror(errno))
          // The next try is a new connection's, and of the whole message.
          close(state.socket)
          state = State()
          return problem
        }
        state.written += count
        if !state.isStream { break }
      }
      state.written = 0
      return nil
    }
    if let failure { throw LogError(description: "\(name): \(failure)") }
  }

  /// - Returns: why there is no connection; nil where there is.
  private func connect(_ state: inout State) -> String? {
    switch address {
    case .unix(let path):
      // Most take datagrams, some a stream.
      var problem = "it is no socket"
      for kind in [SOCK_DGRAM, SOCK_STREAM] {
        let one = socket(AF_UNIX, Int32(kind.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard one >= 0 else { return String(cString: strerror(errno)) }
        var name = sockaddr_un()
        name.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.utf8)
        guard bytes.count < MemoryLayout.size(ofValue: name.sun_path) else {
          close(one)
          return "the path is too long for a socket"
        }
        withUnsafeMutableBytes(of: &name.sun_path) { $0.copyBytes(from: bytes) }
        let isConnected = withUnsafePointer(to: &name) { pointer in
          pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            Glibc.connect(one, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) == 0
          }
        }
        if isConnected {
          limit(one)
          state = State(socket: one, isStream: kind == SOCK_STREAM)
          return nil
        }
        problem = String(cString: strerror(errno))
        close(one)
      }
      return problem
    case .udp(let host, let port): return connect(&state, host, port, SOCK_DGRAM)
    case .tcp(let host, let port): return connect(&state, host, port, SOCK_STREAM)
    }
  }

  private func connect(_ state: inout State, _ host: String, _ port: Int, _ kind: __socket_type) -> String? {
    var hints = addrinfo()
    hints.ai_socktype = Int32(kind.rawValue)
    var found: UnsafeMutablePointer<addrinfo>?
    let status = getaddrinfo(host, "\(port)", &hints, &found)
    guard status == 0 else { return String(cString: gai_strerror(status)) }
    defer { freeaddrinfo(found) }
    var problem = "it has no address"
    var next = found
    while let one = next {
      next = one.pointee.ai_next
      let made = socket(
        one.pointee.ai_family, one.pointee.ai_socktype | Int32(SOCK_CLOEXEC.rawValue), one.pointee.ai_protocol)
      guard made >= 0 else { continue }
      limit(made)
      if Glibc.connect(made, one.pointee.ai_addr, one.pointee.ai_addrlen) == 0 {
        state = State(socket: made, isStream: kind == SOCK_STREAM)
        return nil
      }
      problem = String(cString: strerror(errno))
      close(made)
    }
    return problem
  }

  /// Lets nobody hold its thread for longer than five seconds, also while it connects.
  private func limit(_ socket: Int32) {
    var time = timeval(tv_sec: 5, tv_usec: 0)
    setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
  }
}
