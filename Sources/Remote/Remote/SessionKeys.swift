public import Keys

/// How a remote host proves itself to a device, and knows it.
public struct SessionKeys: Sendable {
  /// This side's own key; nil where it has none, which serves regions without keys.
  public var identity: Identity?
  /// Why a region without keys is refused, in words that end a sentence; nil where it is not.
  public var refusesKeyless: String?
  /// The device's key, where it is known: then one message each way makes a session, else two and one.
  public var known: PublicKey?
  /// Judges the key that a device has proved that it holds, and what certifies it; empty for nothing.
  ///
  /// Called before anything is sent under the session's keys.
  public var judge: @Sendable (PublicKey, [UInt8]) throws(KeyRefusal) -> Void

  public init(
    identity: Identity?, known: PublicKey? = nil, refusesKeyless: String? = nil,
    judge: @escaping @Sendable (PublicKey, [UInt8]) throws(KeyRefusal) -> Void
  ) {
    self.identity = identity
    self.known = known
    self.refusesKeyless = refusesKeyless
    self.judge = judge
  }
}

/// Why a device's key is not trusted, and what to do.
public struct KeyRefusal: Error, Hashable, Sendable, CustomStringConvertible {
  public let description: String
  public init(_ description: String) { self.description = description }
}
