/// What a certifier vouches for: that a key is the device's on a host of this name, for a time.
///
/// As bytes, least first, always ``size`` of them:
/// ```
///   0    'G' 'R' 'C', version 1
///   4    length of the name, in bytes, as a number of 32 bits
///   8    valid from, in seconds since 1970, 64 bits
///  16    valid until (that second not included), 64 bits
///  24    the device's X25519 public key
///  56    the certifier's Ed25519 public key
///  88    the name, UTF-8, filled up with zeros to 64 bytes
/// 152    Ed25519's signature over "grass certificate 1", a zero, and the 152 bytes before
/// ```
public struct Certificate: Hashable, Sendable {
  /// The device's key.
  public let key: PublicKey
  /// Who vouches.
  public let certifier: CertifierKey
  /// From when on, in seconds since 1970.
  public let notBefore: UInt64
  /// Until when, that second not included, in seconds since 1970.
  public let notAfter: UInt64
  /// The host's name: as it is addressed, or as the configuration has it; `*` stands for any characters, `?` for one.
  public let name: String
  /// The 64 bytes of the signature, which ``verify(by:at:)`` checks.
  public let signature: [UInt8]

  /// How long each is, in bytes.
  public static let size = 216
  /// Of a name, in bytes.
  public static let longestName = 64
  private static let signedSize = 152
  private static let head: [UInt8] = [0x47, 0x52, 0x43, 1]
  private static let domain = Array("grass certificate 1\0".utf8)

  /// Vouches for a device's key.
  ///
  /// - Parameters:
  ///   - key: the device's.
  ///   - name: of the host; 1 to ``longestName`` bytes.
  ///   - notBefore: from when on, in seconds since 1970.
  ///   - notAfter: until when, in seconds since 1970; after `notBefore`.
  ///   - certifier: who vouches.
  /// - Throws: ``KeyError`` where the name or the times cannot be.
  public init(
    of key: PublicKey, name: String, notBefore: UInt64, notAfter: UInt64, by certifier: CertifierIdentity
  ) throws(KeyError) {
    try Self.check(name, notBefore, notAfter)
    self.key = key
    self.certifier = certifier.publicKey
    (self.notBefore, self.notAfter, self.name) = (notBefore, notAfter, name)
    signature = try certifier.sign(
      Self.domain
        + Self.signed(key: key, certifier: certifier.publicKey, notBefore: notBefore, notAfter: notAfter, name: name))
  }

  /// Parses bytes that may be anybody's.
  ///
  /// Whether the certifier signed them, and whether their time is now, is not checked: ``verify(by:at:)``.
  ///
  /// - Throws: ``KeyError`` where they are no certificate of this version.
  public init(bytes: some Collection<UInt8>) throws(KeyError) {
    let bytes = Array(bytes.prefix(Self.size + 1))
    func malformed(_ why: String) -> KeyError { KeyError("certificate", .malformed(why)) }
    guard bytes.count == Self.size else {
      throw malformed("has \(bytes.count > Self.size ? "more" : "fewer") than \(Self.size) bytes; copy all of it")
    }
    guard Array(bytes[..<3]) == Array(Self.head[..<3]) else { throw malformed("these bytes are none of GRASS") }
    guard bytes[3] == Self.head[3] else {
      throw malformed("is of version \(bytes[3]), and this program knows version \(Self.head[3])")
    }
    func number(_ start: Int, _ count: Int) -> UInt64 {
      bytes[start..<start + count].reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }
    let length = number(4, 4)
    guard length <= UInt64(Self.longestName) else { throw malformed("has a name of \(length) bytes") }
    let end = 88 + Int(length)
    guard bytes[end..<Self.signedSize].allSatisfy({ $0 == 0 }),
      let name = String(validating: bytes[88..<end], as: UTF8.self)
    else { throw malformed("has a name that is none") }
    key = try PublicKey(bytes: bytes[24..<56])
    certifier = try CertifierKey(bytes: bytes[56..<88])
    (notBefore, notAfter, self.name) = (number(8, 8), number(16, 8), name)
    signature = Array(bytes[Self.signedSize...])
    try Self.check(name, notBefore, notAfter)
  }

  /// Parses its base64, with or without blanks and new lines in it.
  ///
  /// - Throws: ``KeyError`` where that is none.
  public init(parsing text: some StringProtocol) throws(KeyError) {
    let packed = String(text.prefix(4 * Self.size).filter { !$0.isWhitespace })
    guard let bytes = Base64.decode(packed, limit: Self.size) else {
      throw KeyError("certificate", .malformed("is not base64 of \(Self.size) bytes; copy all of it"))
    }
    try self.init(bytes: bytes)
  }

  /// The ``size`` bytes.
  public var bytes: [UInt8] {
    Self.signed(key: key, certifier: certifier, notBefore: notBefore, notAfter: notAfter, name: name) + signature
  }

  /// Its bytes in base64.
  public var base64: String { Base64.encode(bytes) }

  /// Checks that a certifier vouches, at a time.
  ///
  /// Whose key it is and which host's, the caller compares with who is there: ``key`` and ``name``. Cost: one check of
  /// an Ed25519 signature.
  ///
  /// - Parameters:
  ///   - certifier: who is trusted.
  ///   - time: in seconds since 1970.
  /// - Throws: ``KeyError`` with ``KeyError/Reason/certificate(_:)``, which says why it is no proof.
  public func verify(by certifier: CertifierKey, at time: UInt64) throws(KeyError) {
    func fault(_ fault: CertificateFault) -> KeyError {
      KeyError("certificate of \(quoted(name))", .certificate(fault))
    }
    guard certifier == self.certifier else { throw fault(.otherCertifier(self.certifier.fingerprint)) }
    let signed = Self.signed(key: key, certifier: certifier, notBefore: notBefore, notAfter: notAfter, name: name)
    guard certifier.hasSigned(Self.domain + signed, signature) else { throw fault(.badSignature) }
    guard time >= notBefore else { throw fault(.notYet(notBefore)) }
    guard time < notAfter else { throw fault(.expired(notAfter)) }
  }

  private static func signed(
    key: PublicKey, certifier: CertifierKey, notBefore: UInt64, notAfter: UInt64, name: String
  ) -> [UInt8] {
    func number(_ value: some FixedWidthInteger) -> [UInt8] { withUnsafeBytes(of: value.littleEndian, Array.init) }
    let name = Array(name.utf8)
    return head + number(UInt32(name.count)) + number(notBefore) + number(notAfter) + key.bytes + certifier.bytes + name
      + [UInt8](repeating: 0, count: longestName - name.count)
  }

  private static func check(_ name: String, _ notBefore: UInt64, _ notAfter: UInt64) throws(KeyError) {
    guard (1...longestName).contains(name.utf8.count), name.unicodeScalars.allSatisfy(isPrintable),
      !name.contains(where: \.isWhitespace)
    else {
      throw KeyError(
        "certificate's name \(quoted(name))",
        .malformed("cannot be; give 1 to \(longestName) bytes without blanks, as the host is addressed"))
    }
    guard notBefore < notAfter else {
      throw KeyError(
        "certificate of \(quoted(name))",
        .malformed("ends (\(UTCTime.text(notAfter))) before it begins (\(UTCTime.text(notBefore)))"))
    }
  }
}
