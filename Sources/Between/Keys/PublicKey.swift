import Crypto

/// An X25519 public key: who an end of a session is.
///
/// Its text is `grass-x25519 BASE64`. There is one text and one value for each key: what is no canonical coordinate, and
/// what is of small order, is none.
public struct PublicKey: Hashable, Sendable, CustomStringConvertible {
  /// The 32 bytes, least first (RFC 7748, 5).
  public let bytes: [UInt8]

  /// What stands before the base64.
  package static let word = "grass-x25519"

  /// The key that these 32 bytes are.
  ///
  /// - Throws: ``KeyError``: ``KeyError/Reason/malformed(_:)`` for another number of bytes or a coordinate that is not
  ///   below 2^255 - 19, ``KeyError/Reason/weakKey`` for a point of small order.
  public init(bytes: some Collection<UInt8>) throws(KeyError) {
    self.bytes = Array(bytes)
    guard self.bytes.count == 32 else {
      throw KeyError("public key", .malformed("has \(self.bytes.count) bytes; an X25519 key has 32"))
    }
    guard Self.isCanonical(self.bytes) else {
      throw KeyError("public key", .malformed("is not in the one form that a key has; it was altered or made up"))
    }
    guard !Self.smallOrder.contains(self.bytes) else { throw KeyError("public key", .weakKey) }
  }

  /// The key of its text, `grass-x25519 BASE64`.
  ///
  /// - Throws: ``KeyError`` as for bytes, and where the text is another one; says what to give.
  public init(parsing text: some StringProtocol) throws(KeyError) {
    try self.init(bytes: KeyText.parse(text, as: Self.word))
  }

  /// Without any check: of a pair that was made here.
  init(trusted bytes: [UInt8]) { self.bytes = bytes }

  /// `grass-x25519 BASE64`.
  public var description: String { "\(Self.word) \(Base64.encode(bytes))" }

  /// `SHA256:` and the digest of the 32 bytes, in base64 without padding.
  public var fingerprint: String { KeyText.fingerprint(bytes) }

  /// The canonical coordinates of small order, of the curve and of its twist: 0, 1, p - 1, and two of order 8.
  ///
  /// Private keys of X25519 are multiples of 8, so with any of them these lead to zero, which anybody knows (RFC 7748, 6.1).
  private static let smallOrder: Set<[UInt8]> = [
    [UInt8](repeating: 0, count: 32), [1] + [UInt8](repeating: 0, count: 31),
    [0xec] + [UInt8](repeating: 0xff, count: 30) + [0x7f],
    [
      0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a,
      0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
    ],
    [
      0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b,
      0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
    ],
  ]

  /// Whether a little-endian number is below 2^255 - 19.
  static func isCanonical(_ bytes: [UInt8]) -> Bool {
    guard let last = bytes.last, last < 0x80 else { return false }
    return last < 0x7f || bytes[1..<31].contains { $0 != 0xff } || bytes[0] < 0xed
  }
}

/// Fingerprints as people give them.
package enum Fingerprint {
  /// Whether a text is `SHA256:` and the base64 of 32 bytes without padding.
  package static func isWhole(_ text: some StringProtocol) -> Bool {
    text.hasPrefix("SHA256:") && Base64.decode("\(text.dropFirst(7))=", limit: 32)?.count == 32
  }
}

/// What texts of keys have in common.
enum KeyText {
  /// The 32 bytes of `WORD BASE64`.
  static func parse(_ text: some StringProtocol, as word: String) throws(KeyError) -> [UInt8] {
    let words = text.split(whereSeparator: \.isWhitespace)
    func malformed(_ why: String) -> KeyError {
      KeyError("key \(quoted(text))", .malformed("\(why); a key is written `\(word) BASE64`"))
    }
    guard let kind = words.first else { throw malformed("is missing") }
    guard kind == word else {
      if kind == PublicKey.word { throw malformed("is a device's or a person's key, not a certifier's") }
      if kind == CertifierKey.word { throw malformed("is a certifier's key, not a device's or a person's") }
      if kind.hasSuffix("-private") { throw malformed("is a private key, which belongs to nobody else") }
      throw malformed(kind.hasPrefix("ssh-") ? "is a key of ssh" : "does not begin with \(word)")
    }
    guard words.count == 2 else { throw malformed(words.count < 2 ? "has no base64" : "has words behind it") }
    guard let bytes = Base64.decode(words[1], limit: 32), bytes.count == 32 else {
      throw malformed("is not the base64 of 32 bytes: characters are missing or were changed")
    }
    return bytes
  }

  static func fingerprint(_ bytes: [UInt8]) -> String {
    "SHA256:" + Base64.encode(Array(SHA256.hash(data: bytes))).prefix { $0 != "=" }
  }
}
