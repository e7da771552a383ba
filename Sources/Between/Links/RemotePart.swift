/// What names a registered part of a region, as an RDMA key does: 128 random bits.
public struct RegionToken: Hashable, Sendable {
  public var high: UInt64
  public var low: UInt64

  public init(high: UInt64, low: UInt64) {
    self.high = high
    self.low = low
  }

  /// A new random token.
  public static func random() -> RegionToken {
    var generator = SystemRandomNumberGenerator()
    return RegionToken(high: generator.next(), low: generator.next())
  }
}

/// A registered part of a region: which bytes, how they may be accessed, and the token that says so.
public struct RemotePart: Hashable, Sendable {
  public struct Access: OptionSet, Hashable, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }
    public static let read = Access(rawValue: 1)
    public static let write = Access(rawValue: 2)
  }

  public var token: RegionToken
  /// Offsets from the region's start in bytes.
  public var range: Range<Int>
  public var access: Access

  public init(token: RegionToken, range: Range<Int>, access: Access) {
    self.token = token
    self.range = range
    self.access = access
  }

  /// Why an access of `count` bytes at `offset` with `token` is not allowed, or nil where it is.
  ///
  /// The numbers come from the other side: nothing here may overflow.
  func fault(_ wanted: Access, token other: RegionToken, offset: UInt64, count: UInt64) -> AccessFault? {
    guard token == other else { return .wrongToken }
    guard access.contains(wanted) else { return wanted == .read ? .notReadable : .notWritable }
    guard offset >= UInt64(range.lowerBound), offset <= UInt64(range.upperBound),
      count <= UInt64(range.upperBound) - offset
    else { return .outOfRange }
    return nil
  }
}

/// What the owner of a region grants to one connection.
public struct LinkGrant: Hashable, Sendable {
  /// The slots that are this connection's own.
  public var slots: Range<Int>
  /// The request records of those slots, write only.
  public var requests: RemotePart
  /// Header, beacon, findings and all responses, read only.
  public var responses: RemotePart
  /// The part for tests, read and write; empty unless the owner made one.
  public var scratch: RemotePart

  public init(slots: Range<Int>, requests: RemotePart, responses: RemotePart, scratch: RemotePart) {
    self.slots = slots
    self.requests = requests
    self.responses = responses
    self.scratch = scratch
  }

  var parts: [RemotePart] { [requests, responses, scratch] }
}
