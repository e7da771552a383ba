public import Keys

/// A key or certificate as a person names it: by its text, or by a file that has it.
public enum KeyDocument: Hashable, Sendable {
  /// A private key that a file has, by its public half.
  case identity(PublicKey)
  /// The same of a certifier's.
  case certifierIdentity(CertifierKey)
  /// A public key, and the comment behind it.
  case publicKey(PublicKey, comment: String)
  case certifier(CertifierKey, comment: String)
  case certificate(Certificate)

  /// The longest file that is looked at.
  private static let limit = 4096

  /// What one or more words of a command line name: the text of a key, or the path of a file.
  ///
  /// - Throws: ``HostsError/Reason/file(_:)`` where they are neither, or the file cannot be used.
  public init(words: [String]) throws(HostsError) {
    let text = words.joined(separator: " ")
    if text.hasPrefix("grass-") {
      self = try reading("key") { () throws(KeyError) in try Self.parse(text) }
    } else {
      try self.init(contentsOf: text)
    }
  }

  /// What a file has: a private key, a public one, or a certificate.
  ///
  /// - Throws: ``HostsError/Reason/file(_:)`` where it is none of these, or is a private key that others may read.
  public init(contentsOf path: String) throws(HostsError) {
    self = try reading(path) { () throws(KeyError) in
      // A private key is read once more, by its rules; here only its kind is seen.
      let first = try KeyFile.withContents(of: path, .given, limit: Self.limit) { bytes throws(KeyError) in
        let lines = bytes.split(separator: UInt8(ascii: "\n")).filter { $0.first != UInt8(ascii: "#") }
        let line = lines.first ?? bytes[bytes.startIndex..<bytes.startIndex]
        return (
          isPrivate: Self.begins(line, PublicKey.word + "-private"),
          isCertifier: Self.begins(line, CertifierKey.word + "-private"),
          text: Self.begins(line, PublicKey.word + " ") || Self.begins(line, CertifierKey.word + " ")
            ? String(decoding: line, as: UTF8.self) : nil,
          certificate: try? Certificate(parsing: String(decoding: bytes, as: UTF8.self))
        )
      }
      if first.isPrivate { return .identity(try Identity(contentsOf: path).publicKey) }
      if first.isCertifier { return .certifierIdentity(try CertifierIdentity(contentsOf: path).publicKey) }
      if let certificate = first.certificate { return .certificate(certificate) }
      guard let text = first.text else {
        throw KeyError(path, .malformed("has neither a key of GRASS nor a certificate; `grassctl key new` makes a key"))
      }
      return try Self.parse(text)
    }
  }

  private static func begins(_ line: Slice<UnsafeRawBufferPointer>, _ word: String) -> Bool {
    line.starts(with: word.utf8)
  }

  private static func parse(_ text: String) throws(KeyError) -> KeyDocument {
    let words = LineFile.words(text[...], most: 3)
    let (key, comment) = (words.prefix(2).joined(separator: " "), words.count == 3 ? String(words[2]) : "")
    return words.first.map { $0 == CertifierKey.word } ?? false
      ? .certifier(try CertifierKey(parsing: key), comment: comment)
      : .publicKey(try PublicKey(parsing: key), comment: comment)
  }

  /// The public key of a device or a person.
  ///
  /// - Throws: ``HostsError/Reason/badKey(_:)`` where it is something else.
  public func deviceKey() throws(HostsError) -> PublicKey {
    switch self {
    case .publicKey(let key, _), .identity(let key): key
    case .certifier, .certifierIdentity:
      throw HostsError("key", .badKey("is a certifier's; a device's or a person's begins with \(PublicKey.word)"))
    case .certificate:
      throw HostsError("key", .badKey("is a certificate; give the device's key, \(PublicKey.word) BASE64"))
    }
  }

  /// The public key of a certifier.
  ///
  /// - Throws: ``HostsError/Reason/badKey(_:)`` where it is something else.
  public func certifierKey() throws(HostsError) -> CertifierKey {
    switch self {
    case .certifier(let key, _), .certifierIdentity(let key): key
    case .publicKey, .identity:
      throw HostsError(
        "key",
        .badKey("is a device's or a person's; a certifier's begins with \(CertifierKey.word): leave out --certifier"))
    case .certificate: throw HostsError("key", .badKey("is a certificate; give its certifier's key"))
    }
  }
}
