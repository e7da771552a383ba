import Crypto

/// An Ed25519 private key of who vouches for devices and signs images; best kept where neither the device nor its host is.
public struct CertifierIdentity: Sendable {
  private let secretKey: SecretBytes

  /// The public half, which goes into `known_hosts` of whoever trusts this certifier.
  public let publicKey: CertifierKey

  /// A new one, of the system's random numbers.
  public static func generate() -> CertifierIdentity { CertifierIdentity(.random(count: 32)) }

  /// Reads a file that ``write(to:replacing:)`` made.
  ///
  /// - Throws: ``KeyError`` as for an ``Identity``.
  public init(contentsOf path: String) throws(KeyError) {
    self.init(try PrivateKeyFile.read(path, as: CertifierKey.word, .secret))
  }

  /// Any 32 bytes are a private key.
  private init(_ secret: SecretBytes) {
    secretKey = secret
    publicKey = CertifierKey(trusted: Array(Self.signing(secret).publicKey.rawRepresentation))
  }

  /// Writes it to a file that only its owner may read (mode 0600), whole or not at all.
  ///
  /// - Parameters:
  ///   - path: the file's.
  ///   - replacing: whether a file that is there may be overwritten.
  /// - Throws: ``KeyError``: ``KeyError/Reason/exists``, or what failed.
  public func write(to path: String, replacing: Bool = false) throws(KeyError) {
    try PrivateKeyFile.write(
      secretKey, as: CertifierKey.word,
      heading: "A certifier's private key of GRASS: whoever has it can vouch for any device. Keep it off the hosts.",
      to: path, replacing: replacing)
  }

  /// The signature over a message, 64 bytes.
  package func sign(_ message: [UInt8]) throws(KeyError) -> [UInt8] {
    do {
      return Array(try Self.signing(secretKey).signature(for: message))
    } catch {
      throw KeyError("certificate", .malformed("cannot be signed: \(error)"))
    }
  }

  /// The key as swift-crypto has it, which wipes its copy.
  private static func signing(_ secret: SecretBytes) -> Curve25519.Signing.PrivateKey {
    do {
      return try Curve25519.Signing.PrivateKey(rawRepresentation: secret)
    } catch {
      // It refuses nothing but another number of bytes.
      preconditionFailure("Ed25519 refused a private key of \(secret.count) bytes: \(error)")
    }
  }
}
