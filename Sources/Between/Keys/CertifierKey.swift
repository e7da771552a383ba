import Crypto

/// An Ed25519 public key of who vouches for devices.
///
/// Its text is `grass-ed25519 BASE64`.
public struct CertifierKey: Hashable, Sendable, CustomStringConvertible {
  /// The 32 bytes (RFC 8032, 5.1.5).
  public let bytes: [UInt8]

  /// What stands before the base64.
  package static let word = "grass-ed25519"

  /// The key that these 32 bytes are.
  ///
  /// - Throws: ``KeyError`` for another number of bytes, or a coordinate that is not below 2^255 - 19.
  public init(bytes: some Collection<UInt8>) throws(KeyError) {
    self.bytes = Array(bytes)
    guard self.bytes.count == 32 else {
      throw KeyError("certifier's key", .malformed("has \(self.bytes.count) bytes; an Ed25519 key has 32"))
    }
    // The highest bit is the sign of the other coordinate.
    guard PublicKey.isCanonical(self.bytes.dropLast() + [self.bytes[31] & 0x7f]) else {
      throw KeyError("certifier's key", .malformed("is not in the one form that a key has; it was altered or made up"))
    }
  }

  /// The key of its text, `grass-ed25519 BASE64`.
  ///
  /// - Throws: ``KeyError`` as for bytes, and where the text is another one; says what to give.
  public init(parsing text: some StringProtocol) throws(KeyError) {
    try self.init(bytes: KeyText.parse(text, as: Self.word))
  }

  /// Without any check: of a pair that was made here.
  init(trusted bytes: [UInt8]) { self.bytes = bytes }

  /// `grass-ed25519 BASE64`.
  public var description: String { "\(Self.word) \(Base64.encode(bytes))" }

  /// `SHA256:` and the digest of the 32 bytes, in base64 without padding.
  public var fingerprint: String { KeyText.fingerprint(bytes) }

  /// Whether the owner of this key signed a message.
  package func hasSigned(_ message: [UInt8], _ signature: [UInt8]) -> Bool {
    guard let key = try? Curve25519.Signing.PublicKey(rawRepresentation: bytes) else { return false }
    return key.isValidSignature(signature, for: message)
  }
}
