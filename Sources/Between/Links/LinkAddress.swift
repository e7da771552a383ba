/// Where a monitor is reached: `shm:///PATH`, `verbs://HOST:PORT` or `tcp://HOST:PORT`.
public enum LinkAddress: Hashable, Sendable, CustomStringConvertible {
  /// A region's file on this machine.
  case sharedMemory(path: String)
  /// A host, as an IPv4 or IPv6 address or `localhost`, and a port; 0 lets a listener choose.
  case tcp(host: String, port: UInt16)
  /// A host that an RDMA device reaches, as a name or an address, and a port; 0 lets a listener choose.
  case verbs(host: String, port: UInt16)

  /// Parses a URL.
  ///
  /// - Throws: ``LinkError/Reason/badAddress(_:)``, which says what is wrong with it.
  public init(_ text: String) throws(LinkError) {
    guard let separator = text.firstRange(of: "://") else {
      throw LinkError(text, .badAddress("it has no scheme"))
    }
    let scheme = text[..<separator.lowerBound].lowercased()
    let rest = text[separator.upperBound...]
    switch scheme {
    case "shm":
      guard rest.hasPrefix("/"), rest.count > 1, !rest.hasSuffix("/") else {
        throw LinkError(text, .badAddress("after shm:// comes the absolute path of a file"))
      }
      self = .sharedMemory(path: String(rest))
    case "tcp", "verbs":
      guard let colon = rest.lastIndex(of: ":"), let port = UInt16(rest[rest.index(after: colon)...]) else {
        throw LinkError(text, .badAddress("after \(scheme):// come a host, a colon and a port from 0 to 65535"))
      }
      var host = rest[..<colon]
      if host.hasPrefix("["), host.hasSuffix("]") {
        host = host.dropFirst().dropLast()
      } else if host.contains(":") {
        throw LinkError(text, .badAddress("an IPv6 address stands in brackets"))
      }
      guard !host.isEmpty else { throw LinkError(text, .badAddress("the host is missing")) }
      self = scheme == "tcp" ? .tcp(host: String(host), port: port) : .verbs(host: String(host), port: port)
    default:
      throw LinkError(text, .badAddress("no link is called \"\(scheme)\""))
    }
  }

  public var description: String {
    switch self {
    case .sharedMemory(let path): "shm://\(path)"
    case .tcp(let host, let port): "tcp://\(Self.text(host, port))"
    case .verbs(let host, let port): "verbs://\(Self.text(host, port))"
    }
  }

  private static func text(_ host: String, _ port: UInt16) -> String {
    host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
  }

  /// Connects to the region there.
  ///
  /// - Parameters:
  ///   - slots: how many slots to ask for; the owner may grant fewer, but at least one.
  ///   - timeout: how long connecting may take.
  /// - Returns: the link, which is the caller's.
  /// - Throws: ``LinkError`` with what failed: nobody answers, no slot is free, the region is another version's.
  public func connect(slots: Int = 4, within timeout: Duration = .seconds(5)) throws(LinkError) -> any Link {
    switch self {
    case .sharedMemory(let path): try SharedMemoryLink(path: path, slots: slots)
    case .tcp(let host, let port): try TCPLink(host: host, port: port, slots: slots, within: timeout)
    case .verbs(let host, let port): try VerbsLink(host: host, port: port, slots: slots, within: timeout)
    }
  }
}
