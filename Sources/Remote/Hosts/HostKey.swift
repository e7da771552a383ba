public import Keys

/// A host's key as a person gives it: whole, or by its fingerprint.
public enum HostKey: Hashable, Sendable, CustomStringConvertible {
  case key(PublicKey)
  case fingerprint(String)

  static let fingerprintPrefix = "SHA256:"

  /// Parses `grass-x25519 BASE64` or `SHA256:…`.
  ///
  /// - Throws: ``HostsError`` where it is neither.
  public init(parsing text: some StringProtocol) throws(HostsError) {
    if text.hasPrefix(Self.fingerprintPrefix) {
      self = .fingerprint(try Self.checkedFingerprint(text))
    } else {
      self = .key(try reading("key") { () throws(KeyError) in try PublicKey(parsing: text) })
    }
  }

  /// Of what `known_hosts` says of a host.
  public var entry: KnownHosts.Entry.Subject {
    switch self {
    case .key(let key): .key(key)
    case .fingerprint(let fingerprint): .fingerprint(fingerprint)
    }
  }

  /// `SHA256:…`.
  public var fingerprint: String {
    switch self {
    case .key(let key): key.fingerprint
    case .fingerprint(let fingerprint): fingerprint
    }
  }

  /// Whether this is the key.
  public func isKey(_ key: PublicKey) -> Bool { fingerprint == key.fingerprint }

  public var description: String {
    switch self {
    case .key(let key): "\(key)"
    case .fingerprint(let fingerprint): fingerprint
    }
  }

  /// A fingerprint in its one form.
  static func checkedFingerprint(_ text: some StringProtocol) throws(HostsError) -> String {
    guard Fingerprint.isWhole(text) else {
      throw HostsError(
        quoted(text), .badKey("is no fingerprint: SHA256: and 43 characters; copy all of it"))
    }
    return String(text)
  }
}
