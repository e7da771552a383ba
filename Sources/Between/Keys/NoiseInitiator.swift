import Crypto
import FoundationEssentials

/// The end of a handshake that begins it: Noise, revision 34, of the suite 25519_ChaChaPoly_SHA256, in its patterns XX and IK.
///
/// ```
///   XX                                     IK: the other side's key is known
///     -> e                                   -> e, es, s, ss
///     <- e, ee, s, es                        <- e, ee, se
///     -> s, se
/// ```
/// Messages are written and read in turn until ``hasEnded``; then ``split()`` gives the session's keys. The other end is the
/// device's, in C (`grass_noise.h`).
///
/// A message that is refused leaves everything as it was: who can put messages between cannot end a handshake, and the true one
/// is still taken. Each handshake has an ephemeral key of its own, so there is no copy of one.
///
/// Cost: up to two X25519 a message.
public struct NoiseInitiator: ~Copyable, Sendable {
  public enum Pattern: Hashable, Sendable {
    /// At first contact: each tells the other its key, which the handshake proves and somebody has to judge.
    case xx
    /// The other side's key is known; who is not its owner cannot answer.
    case ik(PublicKey)
  }

  /// Of a message, in bytes.
  public static let longestMessage = 65535
  private static let tag = 16

  private let pattern: Pattern
  private var own: (identity: Identity, ephemeral: Identity)?
  private var state: State

  /// Begins a handshake.
  ///
  /// - Parameters:
  ///   - pattern: which.
  ///   - prologue: what both ends must believe alike about their connection so far; may be empty.
  ///   - identity: this end's key.
  public init(pattern: Pattern, prologue: [UInt8], identity: Identity) {
    self.init(pattern: pattern, prologue: prologue, identity: identity, ephemeral: .generate())
  }

  /// The same, with an ephemeral key that no other handshake has: tests know it beforehand.
  package init(pattern: Pattern, prologue: [UInt8], identity: Identity, ephemeral: Identity) {
    self.pattern = pattern
    own = (identity, ephemeral)
    switch pattern {
    case .xx: state = State(name: "Noise_XX_25519_ChaChaPoly_SHA256", prologue: prologue)
    case .ik(let remote):
      state = State(name: "Noise_IK_25519_ChaChaPoly_SHA256", prologue: prologue)
      state.mixHash(remote.bytes)
      state.remoteStatic = remote
    }
  }

  private var messages: Int { pattern == .xx ? 3 : 2 }

  /// Whether all messages were written and read.
  public var hasEnded: Bool { state.message == messages }

  /// Whether it is this end's turn to write.
  public var writes: Bool { !hasEnded && state.message % 2 == 0 }

  /// How many bytes the next message has beside its payload; 0 after the last.
  public var overhead: Int {
    switch (pattern, state.message) {
    case (.xx, 0): 32
    case (.xx, 1): 32 + 32 + Self.tag + Self.tag
    case (.xx, 2): 32 + Self.tag + Self.tag
    case (.ik, 0): 32 + 32 + Self.tag + Self.tag
    case (.ik, 1): 32 + Self.tag
    default: 0
    }
  }

  /// The other side's key: known beforehand in IK, and from its message on in XX.
  ///
  /// Proven once that message was read.
  public var remoteStatic: PublicKey? { state.remoteStatic }

  /// What both ends of this handshake have alike once it has ended, and no other handshake: 32 bytes, no secret.
  public var handshakeHash: [UInt8] { state.hash }

  /// Writes the next message, with a payload, which in XX's first one anybody can read.
  ///
  /// - Throws: ``KeyError`` with ``KeyError/Reason/handshake(_:)`` where it is not this end's turn, the message would be too
  ///   long, or the other side's key keeps no secret.
  public mutating func writeMessage(payload: [UInt8] = []) throws(KeyError) -> [UInt8] {
    guard let own, writes else { throw Self.refusal(.badTurn) }
    guard payload.count <= Self.longestMessage - overhead else {
      throw Self.refusal(.tooLong(payload.count + overhead))
    }
    var next = state
    var message: [UInt8] = []
    if state.message == 0 {
      message += own.ephemeral.publicKey.bytes
      next.mixHash(own.ephemeral.publicKey.bytes)
    }
    switch pattern {
    case .xx:
      if state.message == 2 {
        message += try next.seal(own.identity.publicKey.bytes)
        try next.mixSecret(own.identity, next.remoteEphemeral)
      }
    case .ik(let remote):
      try next.mixSecret(own.ephemeral, remote.bytes)
      message += try next.seal(own.identity.publicKey.bytes)
      try next.mixSecret(own.identity, remote.bytes)
    }
    message += try next.seal(payload)
    next.message += 1
    state = next
    return message
  }

  /// Reads the next message, which may be anybody's and of any length.
  ///
  /// - Returns: its payload.
  /// - Throws: ``KeyError`` with ``KeyError/Reason/handshake(_:)`` where it is not the other side's turn or the message is
  ///   not the other side's; then all is as before.
  public mutating func readMessage(_ message: [UInt8]) throws(KeyError) -> [UInt8] {
    guard let own, !hasEnded, !writes else { throw Self.refusal(.badTurn) }
    guard message.count <= Self.longestMessage else { throw Self.refusal(.tooLong(message.count)) }
    guard message.count >= overhead else { throw Self.refusal(.tooShort(message.count, atLeast: overhead)) }
    var next = state
    next.remoteEphemeral = Array(message[..<32])
    next.mixHash(next.remoteEphemeral)
    try next.mixSecret(own.ephemeral, next.remoteEphemeral)
    var at = 32
    switch pattern {
    case .xx:
      let end = at + 32 + Self.tag
      let bytes = try next.open(Array(message[at..<end]))
      guard let remote = try? PublicKey(bytes: bytes) else { throw Self.refusal(.badKey) }
      next.remoteStatic = remote
      at = end
      try next.mixSecret(own.ephemeral, remote.bytes)
    case .ik:
      try next.mixSecret(own.identity, next.remoteEphemeral)
    }
    let payload = try next.open(Array(message[at...]))
    next.message += 1
    state = next
    return payload
  }

  /// Gives the keys of a handshake that has ended, 32 bytes each, and forgets its own; once only.
  ///
  /// - Returns: `send` for what this end sends, `receive` for what the other does.
  /// - Throws: ``KeyError`` with ``KeyError/Reason/handshake(_:)`` before the end, and a second time.
  public mutating func split() throws(KeyError) -> (send: SecretBytes, receive: SecretBytes) {
    guard hasEnded, own != nil else { throw Self.refusal(.badTurn) }
    let keys = State.keys(state.chainingKey, material: SymmetricKey(data: []))
    // The first is the initiator's to send with.
    let pair = (SecretBytes(keys.first), SecretBytes(keys.second))
    own = nil
    state.chainingKey = SymmetricKey(size: .bits256)
    state.cipher = nil
    return pair
  }

  fileprivate static func refusal(_ fault: HandshakeFault) -> KeyError { KeyError("handshake", .handshake(fault)) }

  /// Noise's SymmetricState and CipherState, and what was learned of the other side.
  private struct State: Sendable {
    var chainingKey: SymmetricKey
    var hash: [UInt8]
    var cipher: SymmetricKey?
    /// Of the next message under `cipher`.
    var nonce: UInt64 = 0
    var remoteStatic: PublicKey?
    var remoteEphemeral: [UInt8] = []
    /// How many messages were written and read.
    var message = 0

    init(name: String, prologue: [UInt8]) {
      // The names of both patterns are 32 bytes, and so are the hash themselves.
      hash = Array(name.utf8)
      chainingKey = SymmetricKey(data: hash)
      mixHash(prologue)
    }

    mutating func mixHash(_ bytes: [UInt8]) {
      var digest = SHA256()
      digest.update(data: hash)
      digest.update(data: bytes)
      hash = Array(digest.finalize())
    }

    /// Mixes in what X25519 makes of an own key and one of the other side.
    mutating func mixSecret(_ own: Identity, _ remote: [UInt8]) throws(KeyError) {
      guard let secret = own.secret(with: remote) else { throw NoiseInitiator.refusal(.badKey) }
      let keys = Self.keys(chainingKey, material: secret.withUnsafeBytes { SymmetricKey(data: $0) })
      chainingKey = keys.first
      cipher = keys.second
      nonce = 0
    }

    /// Noise's HKDF of two outputs, which is RFC 5869's with the chaining key as salt and no info.
    static func keys(_ chainingKey: SymmetricKey, material: SymmetricKey) -> (first: SymmetricKey, second: SymmetricKey)
    {
      let both = chainingKey.withUnsafeBytes { salt in
        HKDF<SHA256>.deriveKey(inputKeyMaterial: material, salt: salt, outputByteCount: 64)
      }
      return both.withUnsafeBytes { bytes in
        (
          SymmetricKey(data: UnsafeRawBufferPointer(rebasing: bytes[..<32])),
          SymmetricKey(data: UnsafeRawBufferPointer(rebasing: bytes[32...]))
        )
      }
    }

    /// Four zeros, and the number, least byte first.
    private var nonceBytes: [UInt8] { [0, 0, 0, 0] + withUnsafeBytes(of: nonce.littleEndian, Array.init) }

    /// EncryptAndHash: 16 bytes more where there is a key already.
    mutating func seal(_ text: [UInt8]) throws(KeyError) -> [UInt8] {
      guard let cipher else {
        mixHash(text)
        return text
      }
      let sealed: [UInt8]
      do {
        let box = try ChaChaPoly.seal(
          text, using: cipher, nonce: ChaChaPoly.Nonce(data: nonceBytes), authenticating: hash)
        sealed = Array(box.ciphertext + box.tag)
      } catch {
        throw KeyError("handshake", .malformed("a message cannot be sealed: \(error)"))
      }
      nonce += 1
      mixHash(sealed)
      return sealed
    }

    /// DecryptAndHash: the last 16 bytes are the tag where there is a key already.
    mutating func open(_ sealed: [UInt8]) throws(KeyError) -> [UInt8] {
      guard let cipher else {
        mixHash(sealed)
        return sealed
      }
      guard sealed.count >= NoiseInitiator.tag,
        let box = try? ChaChaPoly.SealedBox(
          nonce: ChaChaPoly.Nonce(data: nonceBytes), ciphertext: sealed.dropLast(NoiseInitiator.tag),
          tag: sealed.suffix(NoiseInitiator.tag)),
        let text = try? ChaChaPoly.open(box, using: cipher, authenticating: hash)
      else { throw NoiseInitiator.refusal(.badTag) }
      nonce += 1
      mixHash(sealed)
      return Array(text)
    }
  }
}

extension SecretBytes {
  /// A copy of a key of swift-crypto's.
  fileprivate init(_ key: SymmetricKey) {
    self = key.withUnsafeBytes { SecretBytes(copying: $0) }
  }
}
