/// What travels over a verbs link beside the reads and writes themselves.
///
/// A request for a connection carries a hello: magic, version, slots wanted, and the session's name: zero for a new
/// session, else that of one to add a connection to. Once a new session's first connection is established, the owner
/// sends its description: a grant as over TCP, whose tokens hold the region's address and each part's key, and the
/// session's name. A refusal carries its text.
enum VerbsWire {
  static let helloSize = 40
  static let descriptionSize = TCPWire.grantSize + 16

  struct Hello {
    var slots: Int
    /// Zero for a new session.
    var session: RegionToken
  }

  static let newSession = RegionToken(high: 0, low: 0)

  static func hello(_ hello: Hello) -> [UInt8] {
    bytes([TCPWire.magic, UInt64(TCPWire.version), UInt64(hello.slots), hello.session.high, hello.session.low])
  }

  /// The hello in a request's private data, which a transport may have padded.
  static func parseHello(_ bytes: [UInt8]) -> Hello? {
    let words = words(bytes)
    guard bytes.count >= helloSize, words[0] == TCPWire.magic, words[1] == UInt64(TCPWire.version) else { return nil }
    return Hello(slots: Int(clamping: words[2]), session: RegionToken(high: words[3], low: words[4]))
  }

  static func description(_ grant: LinkGrant, session: RegionToken) -> [UInt8] {
    bytes(TCPWire.grant(grant) + [session.high, session.low])
  }

  /// The grant and the session's name in a description, or nil where it is none.
  static func parseDescription(_ bytes: [UInt8]) -> (grant: LinkGrant, session: RegionToken)? {
    let words = words(bytes)
    let count = TCPWire.grantSize / 8
    guard words.count == count + 2, case .granted(let grant) = TCPWire.parseGrant(Array(words[..<count])) else {
      return nil
    }
    return (grant, RegionToken(high: words[count], low: words[count + 1]))
  }

  private static func bytes(_ words: [UInt64]) -> [UInt8] {
    words.flatMap { word in (0..<8).map { UInt8(truncatingIfNeeded: word >> ($0 * 8)) } }
  }

  private static func words(_ bytes: [UInt8]) -> [UInt64] {
    (0..<bytes.count / 8).map { index in
      bytes[index * 8..<index * 8 + 8].reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }
  }
}
