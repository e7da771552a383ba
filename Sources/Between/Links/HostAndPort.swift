/// A host and a port, as addresses of many links have them: `127.0.0.1:80`, `[::1]:80`.
struct HostAndPort: Hashable, Sendable, CustomStringConvertible {
  /// A name, or an IPv4 or IPv6 address without brackets.
  var host: String
  /// 0 lets a listener choose.
  var port: UInt16

  init(host: String, port: UInt16) {
    self.host = host
    self.port = port
  }

  /// Parses what stands behind `scheme://`.
  ///
  /// - Throws: ``LinkSyntaxError``, which says what is wrong with it.
  init(parsing rest: Substring, scheme: String) throws(LinkSyntaxError) {
    guard let colon = rest.lastIndex(of: ":"), let port = UInt16(rest[rest.index(after: colon)...]) else {
      throw LinkSyntaxError("after \(scheme):// come a host, a colon and a port from 0 to 65535")
    }
    var host = rest[..<colon]
    if host.hasPrefix("["), host.hasSuffix("]") {
      host = host.dropFirst().dropLast()
    } else if host.contains(":") {
      throw LinkSyntaxError("an IPv6 address stands in brackets")
    }
    guard !host.isEmpty else { throw LinkSyntaxError("the host is missing") }
    self.init(host: String(host), port: port)
  }

  var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}
