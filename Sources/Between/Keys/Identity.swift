import CSeal
import Crypto
import Glibc

/// An X25519 private key: what proves who an end of a session is.
///
/// The private bytes lie in a page of their own (``SecretBytes``), and so do those that a file was read into.
public struct Identity: Sendable {
  let secretKey: SecretBytes

  /// The public half, which others may have.
  public let publicKey: PublicKey

  /// A new one, of the system's random numbers.
  public static func generate() -> Identity { Identity(.random(count: 32)) }

  /// The identity whose private key these are.
  ///
  /// - Throws: ``KeyError`` for another number of bytes than 32.
  package init(privateKey bytes: [UInt8]) throws(KeyError) {
    guard bytes.count == 32 else { throw KeyError("private key", .malformed("has \(bytes.count) bytes, not 32")) }
    self.init(SecretBytes(count: 32) { $0.copyBytes(from: bytes) })
  }

  /// Any 32 bytes are a private key.
  ///
  /// Its public half is made by the device's own code, which wipes what it had on the stack; swift-crypto leaves the private number
  /// there, where whoever reads this process's memory finds it.
  private init(_ secret: SecretBytes) {
    secretKey = secret
    var made = [UInt8](repeating: 0, count: 32)
    secret.withUnsafeBytes { secret in
      // There are 32 of them.
      if let first = secret.baseAddress { grass_x25519_public(&made, first.assumingMemoryBound(to: UInt8.self)) }
    }
    publicKey = PublicKey(trusted: made)
  }

  /// Reads a file that ``write(to:replacing:)`` made.
  ///
  /// Cost: one X25519.
  ///
  /// - Throws: ``KeyError`` where it cannot be read or holds no such key; where others than its owner may read it, it
  ///   belongs to somebody else than this user or root, or it is a symbolic link. The text says how to mend it.
  public init(contentsOf path: String) throws(KeyError) {
    self.init(try PrivateKeyFile.read(path, as: PublicKey.word, .secret))
  }

  /// The identity that systemd laid down for this service as the credential NAME, in `$CREDENTIALS_DIRECTORY`; nil where
  /// there is no such folder, or nothing of that name in it.
  ///
  /// - Throws: ``KeyError`` where there is one that cannot be used, or `name` is none.
  public static func credential(named name: String) throws(KeyError) -> Identity? {
    try credential(named: name, in: getenv("CREDENTIALS_DIRECTORY").map { String(cString: $0) })
  }

  /// The same, of that folder.
  package static func credential(named name: String, in folder: String?) throws(KeyError) -> Identity? {
    guard !name.isEmpty, !name.hasPrefix("."), !name.contains("/") else {
      throw KeyError(
        "credential \(quoted(name))", .malformed("is no name of a credential; give its ID without a folder"))
    }
    guard let folder, !folder.isEmpty else { return nil }
    let path = "\(folder)/\(name)"
    guard KeyFile.exists(path) else { return nil }
    return Identity(try PrivateKeyFile.read(path, as: PublicKey.word, .credential))
  }

  /// Writes it to a file that only its owner may read (mode 0600), whole or not at all.
  ///
  /// - Parameters:
  ///   - path: the file's.
  ///   - replacing: whether a file that is there may be overwritten.
  /// - Throws: ``KeyError``: ``KeyError/Reason/exists``, or what failed.
  public func write(to path: String, replacing: Bool = false) throws(KeyError) {
    try PrivateKeyFile.write(
      secretKey, as: PublicKey.word,
      heading: "A private key of GRASS: whoever has it is its owner. Give nobody this file, but the public key.",
      to: path, replacing: replacing)
  }

  /// Lends the 32 private bytes, for the device; whoever copies them wipes the copy.
  public func withPrivateKey<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
    try secretKey.withUnsafeBytes(body)
  }

  /// What X25519 makes of this key and a public one; nil where that is all zeros, which anybody could know.
  func secret(with remote: [UInt8]) -> SharedSecret? {
    guard let key = try? Curve25519.KeyAgreement.PublicKey(rawRepresentation: remote),
      let secret = try? Self.agreement(secretKey).sharedSecretFromKeyAgreement(with: key)
    else { return nil }
    return secret.withUnsafeBytes { $0.reduce(0, |) } == 0 ? nil : secret
  }

  /// The key as swift-crypto has it, which wipes its copy.
  private static func agreement(_ secret: SecretBytes) -> Curve25519.KeyAgreement.PrivateKey {
    do {
      return try Curve25519.KeyAgreement.PrivateKey(rawRepresentation: secret)
    } catch {
      // It refuses nothing but another number of bytes.
      preconditionFailure("X25519 refused a private key of \(secret.count) bytes: \(error)")
    }
  }
}
