import Keys

/// What a host is known by: the host and port of its address, or a whole address that has none.
///
/// `tcp://DB1.example.org:7117` and `verbs://db1.example.org:7117` are the host `db1.example.org:7117`, an IPv6 address
/// stands in brackets, `shm:///run/grass` is itself.
public struct HostName: Hashable, Sendable, CustomStringConvertible {
  /// As `known_hosts` has it, host and port in lower case.
  public let text: String
  /// The name in the configuration, where it was addressed by that.
  public let alias: String?

  /// The name of an address, with or without its scheme.
  ///
  /// - Parameters:
  ///   - address: `tcp://HOST:PORT`, `HOST:PORT`, or another link's address.
  ///   - alias: the name in the configuration that led to it.
  /// - Throws: ``HostsError/Reason/badName(_:)`` where it is neither.
  public init(address: String, alias: String? = nil) throws(HostsError) {
    func bad(_ why: String) -> HostsError { HostsError(quoted(address), .badName(why)) }
    guard !address.isEmpty, address.utf8.allSatisfy({ $0 > 0x20 && $0 != 0x7f }),
      !address.utf8.contains(where: { $0 == UInt8(ascii: ",") })
    else { throw bad("is no address of a host: it is empty, or has blanks or commas in it; write HOST:PORT") }
    let separator = address.firstRange(of: "://")
    let rest = separator.map { address[$0.upperBound...] } ?? address[...]
    if separator != nil, rest.hasPrefix("/") {
      text = address
    } else {
      guard let colon = rest.lastIndex(of: ":"), UInt16(rest[rest.index(after: colon)...]) != nil,
        colon > rest.startIndex
      else { throw bad("is no address of a host: it needs a port, as in tcp://HOST:PORT; grassd printed it") }
      let host = rest[..<colon]
      guard !host.contains(":") || host.hasPrefix("[") && host.hasSuffix("]") else {
        throw bad("is no address of a host: an IPv6 address stands in brackets, as in tcp://[::1]:PORT")
      }
      text = rest.lowercased()
    }
    self.alias = alias?.lowercased()
  }

  /// The host without its port, where it has one.
  var hostOnly: String? {
    guard !text.contains("/"), let colon = text.lastIndex(of: ":") else { return nil }
    return text[..<colon].trimmingBrackets
  }

  public var description: String { text }

  /// Whether a certificate's name is one of this host: as addressed, without the port, or as the configuration has it.
  ///
  /// `*` stands for any characters, `?` for one.
  func isNamed(_ name: String) -> Bool {
    let pattern = HostPattern(one: name)
    return ([text, hostOnly, alias] as [String?]).contains { $0.map(pattern.covers) ?? false }
  }
}

extension Substring {
  fileprivate var trimmingBrackets: String {
    hasPrefix("[") && hasSuffix("]") && count > 1 ? String(dropFirst().dropLast()) : String(self)
  }
}

/// Names with commas between them, in which `*` stands for any characters and `?` for one.
struct HostPattern: Hashable, Sendable, CustomStringConvertible {
  let parts: [String]

  /// - Throws: ``HostsError/Reason/badName(_:)`` where one of the names is empty.
  init(parsing text: some StringProtocol) throws(HostsError) {
    parts = text.split(separator: ",", omittingEmptySubsequences: false).map { Self.normalized($0) }
    // What would be read as a comment or a marker, or steers a terminal, is none.
    guard
      parts.allSatisfy({ part in
        !part.isEmpty && !"!#@".utf8.contains(part.utf8.first ?? 0) && part.utf8.allSatisfy { $0 > 0x20 && $0 != 0x7f }
      })
    else {
      throw HostsError(
        quoted(text), .badName("is no pattern of hosts; write HOST:PORT, with * and ? where characters may differ"))
    }
  }

  init(one text: String) { parts = [Self.normalized(text)] }

  /// Hosts are the same in capitals; paths are not.
  static func normalized(_ name: some StringProtocol) -> String {
    name.contains("://") ? String(name) : name.lowercased()
  }

  var description: String { parts.joined(separator: ",") }

  /// Whether a name, normalized, is one of these.
  func covers(_ name: String) -> Bool {
    let name = Array(name.utf8)
    return parts.contains { Self.matches(name, Array($0.utf8)) }
  }

  /// Whether a host is one of these, by its address or by its name in the configuration.
  ///
  /// What has no host and port is on this machine: it must be named, so that `*` for all that lies in a network is not for it.
  func covers(_ host: HostName) -> Bool {
    guard host.text.contains("://") else { return covers(host.text) || (host.alias.map(covers) ?? false) }
    let address = Array(host.text.utf8)
    return parts.contains { part in
      part == host.alias || part.contains("://") && Self.matches(address, Array(part.utf8))
    }
  }

  /// Cost: at most one step for each pair of characters.
  private static func matches(_ name: [UInt8], _ pattern: [UInt8]) -> Bool {
    var (at, next) = (0, 0)
    // The last star, and where in the name what follows it was tried.
    var star: (pattern: Int, name: Int)?
    while at < name.count {
      if next < pattern.count, pattern[next] == UInt8(ascii: "*") {
        star = (next, at)
        next += 1
      } else if next < pattern.count, pattern[next] == name[at] || pattern[next] == UInt8(ascii: "?") {
        at += 1
        next += 1
      } else if let last = star {
        star = (last.pattern, last.name + 1)
        (at, next) = (last.name + 1, last.pattern + 1)
      } else {
        return false
      }
    }
    return pattern[next...].allSatisfy { $0 == UInt8(ascii: "*") }
  }
}
