import CSeal
import Foundation
import Keys
import Testing

/// The initiator against published vectors, and against the device's responder.
struct NoiseTests {
  // MARK: Published vectors

  struct Vector: Decodable {
    struct Message: Decodable {
      let payload: String
      let ciphertext: String
    }
    let protocolName: String
    let initPrologue: String
    let initStatic: String
    let initEphemeral: String
    let initRemoteStatic: String?
    let respStatic: String
    let handshakeHash: String
    let messages: [Message]
  }

  private struct VectorFile: Decodable {
    let vectors: [Vector]
  }

  /// The vectors that the core of sessions is held against, too: those of the patterns that an initiator has.
  private static func vectors(of name: String) throws -> [Vector] {
    let url = URL(filePath: #filePath).deletingLastPathComponent().appending(
      path: "../SealTests/Resources/noise-vectors.json")
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return try decoder.decode(VectorFile.self, from: Data(contentsOf: url)).vectors.filter { $0.protocolName == name }
  }

  private static func bytes(_ text: String) throws -> [UInt8] {
    try stride(from: 0, to: text.count, by: 2).map { start in
      let from = text.index(text.startIndex, offsetBy: start)
      return try #require(UInt8(text[from..<text.index(from, offsetBy: 2)], radix: 16))
    }
  }

  @Test(
    "the published vectors, to the last message after the handshake",
    arguments: ["Noise_XX_25519_ChaChaPoly_SHA256", "Noise_IK_25519_ChaChaPoly_SHA256"])
  func vectors(name: String) throws {
    let vectors = try Self.vectors(of: name)
    #expect(!vectors.isEmpty)
    for vector in vectors {
      let pattern: NoiseInitiator.Pattern =
        if let remote = vector.initRemoteStatic { .ik(try PublicKey(bytes: Self.bytes(remote))) } else { .xx }
      #expect((pattern == .xx) == name.contains("XX"))
      var noise = NoiseInitiator(
        pattern: pattern, prologue: try Self.bytes(vector.initPrologue),
        identity: try Identity(privateKey: Self.bytes(vector.initStatic)),
        ephemeral: try Identity(privateKey: Self.bytes(vector.initEphemeral)))
      var rest = vector.messages[...]
      while !noise.hasEnded, let message = rest.popFirst() {
        let (payload, sealed) = (try Self.bytes(message.payload), try Self.bytes(message.ciphertext))
        #expect(noise.overhead == sealed.count - payload.count)
        if noise.writes {
          #expect(try noise.writeMessage(payload: payload) == sealed)
        } else {
          #expect(try noise.readMessage(sealed) == payload)
        }
      }
      #expect(noise.hasEnded && noise.overhead == 0)
      #expect(noise.handshakeHash == (try Self.bytes(vector.handshakeHash)))
      #expect(noise.remoteStatic == (try Identity(privateKey: Self.bytes(vector.respStatic)).publicKey))
      // What follows is sealed under the keys that the handshake gave, in turn as before.
      let keys = try noise.split()
      var ciphers = (send: Self.cipher(keys.send), receive: Self.cipher(keys.receive))
      var sends = vector.messages.count - rest.count
      #expect(!rest.isEmpty)
      for message in rest {
        let (payload, sealed) = (try Self.bytes(message.payload), try Self.bytes(message.ciphertext))
        if sends % 2 == 0 {
          #expect(Self.seal(&ciphers.send, payload) == sealed)
        } else {
          #expect(Self.seal(&ciphers.receive, payload) == sealed)
        }
        sends += 1
      }
    }
  }

  private static func cipher(_ key: SecretBytes) -> grass_cipher {
    var cipher = grass_cipher()
    key.withUnsafeBytes { bytes in withUnsafeMutableBytes(of: &cipher.key) { $0.copyMemory(from: bytes) } }
    return cipher
  }

  private static func seal(_ cipher: inout grass_cipher, _ text: [UInt8]) -> [UInt8] {
    var sealed = [UInt8](repeating: 0, count: text.count + 16)
    var length: UInt64 = 0
    let capacity = UInt64(sealed.count)
    #expect(
      grass_cipher_seal(&cipher, nil, 0, text, UInt64(text.count), &sealed, capacity, &length) == GRASS_NOISE_OK)
    return Array(sealed.prefix(Int(length)))
  }

  // MARK: The device's responder

  /// The other end, as a device has it.
  private struct Responder {
    var noise = grass_noise()
    let publicKey: [UInt8]

    init(isIK: Bool, prologue: [UInt8], seed: UInt8 = 7) {
      var (own, ephemeral) = (grass_key_pair(), grass_key_pair())
      grass_make_key_pair(&own, [UInt8](repeating: seed, count: 32))
      grass_make_key_pair(&ephemeral, [UInt8](repeating: seed &+ 1, count: 32))
      publicKey = withUnsafeBytes(of: own.public_key, Array.init)
      let pattern = isIK ? GRASS_NOISE_IK : GRASS_NOISE_XX
      let error = grass_noise_start(
        &noise, pattern.rawValue, GRASS_NOISE_RESPONDER.rawValue, prologue, UInt64(prologue.count), &own, &ephemeral,
        nil, nil)
      #expect(error == GRASS_NOISE_OK)
    }

    var hash: [UInt8] { withUnsafeBytes(of: noise.hash, Array.init) }
    var remoteStatic: [UInt8] { withUnsafeBytes(of: noise.remote_static, Array.init) }

    /// The payload, nil where the message is refused.
    mutating func read(_ message: [UInt8]) -> [UInt8]? {
      var payload = [UInt8](repeating: 0, count: 65535)
      var length: UInt64 = 0
      let error = grass_noise_read(
        &noise, message, UInt64(message.count), &payload, UInt64(payload.count), &length)
      return error == GRASS_NOISE_OK ? Array(payload.prefix(Int(length))) : nil
    }

    mutating func write(_ payload: [UInt8]) throws -> [UInt8] {
      var message = [UInt8](repeating: 0, count: 65535)
      var length: UInt64 = 0
      let error = grass_noise_write(
        &noise, payload, UInt64(payload.count), &message, UInt64(message.count), &length)
      try #require(error == GRASS_NOISE_OK)
      return Array(message.prefix(Int(length)))
    }
  }

  private static let prologue = Array("the region's header".utf8)

  private func ends(isIK: Bool) throws -> (identity: Identity, responder: Responder, pattern: NoiseInitiator.Pattern) {
    let responder = Responder(isIK: isIK, prologue: Self.prologue)
    return (.generate(), responder, isIK ? .ik(try PublicKey(bytes: responder.publicKey)) : .xx)
  }

  @Test(
    "a handshake with the device's responder: payloads arrive, both learn the same, and the keys are each other's",
    arguments: [false, true], [0, 1, 500])
  func handshake(isIK: Bool, size: Int) throws {
    var (identity, responder, pattern) = try ends(isIK: isIK)
    var noise = NoiseInitiator(pattern: pattern, prologue: Self.prologue, identity: identity)
    #expect(noise.remoteStatic == nil || isIK)
    var round: UInt8 = 0
    while !noise.hasEnded {
      let payload = [UInt8](repeating: round, count: size)
      if noise.writes {
        let overhead = noise.overhead
        let message = try noise.writeMessage(payload: payload)
        #expect(message.count == overhead + size)
        #expect(responder.read(message) == payload)
      } else {
        #expect(try noise.readMessage(try responder.write(payload)) == payload)
      }
      round += 1
    }
    #expect(round == (isIK ? 2 : 3))
    #expect(grass_noise_has_ended(&responder.noise))
    #expect(noise.remoteStatic?.bytes == responder.publicKey)
    #expect(responder.remoteStatic == identity.publicKey.bytes)
    #expect(noise.handshakeHash == responder.hash)
    let keys = try noise.split()
    var (send, receive) = (grass_cipher(), grass_cipher())
    #expect(grass_noise_split(&responder.noise, &send, &receive) == GRASS_NOISE_OK)
    #expect(keys.send.withUnsafeBytes(Array.init) == withUnsafeBytes(of: receive.key, Array.init))
    #expect(keys.receive.withUnsafeBytes(Array.init) == withUnsafeBytes(of: send.key, Array.init))
    #expect(keys.send.withUnsafeBytes(Array.init) != keys.receive.withUnsafeBytes(Array.init))
    #expect(throws: KeyError("handshake", .handshake(.badTurn))) { try noise.split() }
    #expect(throws: KeyError("handshake", .handshake(.badTurn))) { try noise.writeMessage() }
  }

  @Test(
    "a message is refused that was altered at any byte, cut or lengthened, and the true one is still taken",
    arguments: [false, true])
  func altered(isIK: Bool) throws {
    var (identity, responder, pattern) = try ends(isIK: isIK)
    var noise = NoiseInitiator(pattern: pattern, prologue: Self.prologue, identity: identity)
    let payload = Array("a payload".utf8)
    while !noise.hasEnded {
      guard !noise.writes else {
        let message = try noise.writeMessage(payload: payload)
        // The first message of XX is in clear: an altered one is found out by the next.
        if isIK || noise.hasEnded {
          for index in message.indices {
            var forged = message
            forged[index] ^= 1 << (index % 8)
            #expect(responder.read(forged) == nil, "byte \(index)")
          }
        }
        #expect(responder.read(message) == payload)
        continue
      }
      let message = try responder.write(payload)
      let (hash, remote) = (noise.handshakeHash, noise.remoteStatic)
      for index in message.indices {
        for bit in 0..<8 {
          var forged = message
          forged[index] ^= 1 << bit
          // The highest bit of the ephemeral key means nothing to X25519, but all bytes are hashed.
          #expect(throws: KeyError.self, "byte \(index)") { try noise.readMessage(forged) }
        }
      }
      for count in 0..<message.count {
        #expect(throws: KeyError.self, "\(count) bytes") { try noise.readMessage(Array(message.prefix(count))) }
      }
      #expect(throws: KeyError.self) { try noise.readMessage(message + [0]) }
      #expect(throws: KeyError("handshake", .handshake(.tooLong(65536)))) {
        try noise.readMessage([UInt8](repeating: 0, count: 65536))
      }
      #expect(noise.handshakeHash == hash && noise.remoteStatic == remote)
      #expect(try noise.readMessage(message) == payload)
    }
    #expect(noise.handshakeHash == responder.hash)
  }

  @Test("an altered first message of XX, which is in clear, ends in no session")
  func alteredFirst() throws {
    var (identity, responder, pattern) = try ends(isIK: false)
    var noise = NoiseInitiator(pattern: pattern, prologue: Self.prologue, identity: identity)
    var message = try noise.writeMessage(payload: [1, 2, 3])
    message[34] ^= 1
    #expect(responder.read(message) == [1, 2, 2])
    let answer = try responder.write([])
    #expect(throws: KeyError("handshake", .handshake(.badTag))) { try noise.readMessage(answer) }
  }

  @Test(
    "another prologue, another device behind a known key, and messages out of turn are refused",
    arguments: [false, true])
  func others(isIK: Bool) throws {
    var (identity, responder, pattern) = try ends(isIK: isIK)
    var elsewhere = NoiseInitiator(pattern: pattern, prologue: [], identity: identity)
    let first = try elsewhere.writeMessage()
    if isIK {
      #expect(responder.read(first) == nil)
    } else {
      #expect(responder.read(first) == [])
      let answer = try responder.write([])
      #expect(throws: KeyError("handshake", .handshake(.badTag))) { try elsewhere.readMessage(answer) }
    }

    var noise = NoiseInitiator(pattern: pattern, prologue: Self.prologue, identity: identity)
    #expect(throws: KeyError("handshake", .handshake(.badTurn))) {
      try noise.readMessage([UInt8](repeating: 0, count: 200))
    }
    #expect(throws: KeyError("handshake", .handshake(.badTurn))) { try noise.split() }
    let message = try noise.writeMessage()
    #expect(throws: KeyError("handshake", .handshake(.badTurn))) { try noise.writeMessage() }
    // Who has another key cannot even read the first message of IK; in XX he shows his own.
    var impostor = Responder(isIK: isIK, prologue: Self.prologue, seed: 99)
    if isIK {
      #expect(impostor.read(message) == nil)
    } else {
      #expect(impostor.read(message) == [])
      _ = try noise.readMessage(try impostor.write([]))
      #expect(noise.remoteStatic?.bytes == impostor.publicKey)
    }
  }

  /// Coordinates of small order (RFC 7748, 6.1, and its twist), each as it is and with the bit set that means nothing.
  private static let smallOrder: [[UInt8]] = {
    let order8: [[UInt8]] = [
      [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a,
        0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
      ],
      [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b,
        0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
      ],
    ]
    // p - 1, p and p + 1.
    let nearPrime: [[UInt8]] = [0xec, 0xed, 0xee].map { [$0] + [UInt8](repeating: 0xff, count: 30) + [0x7f] }
    let small: [[UInt8]] = [0, 1].map { [$0] + [UInt8](repeating: 0, count: 31) }
    let plain = order8 + nearPrime + small
    return plain + plain.map { $0.dropLast() + [$0[31] | 0x80] }
  }()

  @Test("a key of small order is no public key, and a message with one is refused, whose owner could be anybody")
  func smallOrderKeys() throws {
    for bytes in Self.smallOrder {
      #expect(throws: KeyError.self, "\(bytes)") { try PublicKey(bytes: bytes) }
      for isIK in [false, true] {
        var (identity, responder, pattern) = try ends(isIK: isIK)
        var noise = NoiseInitiator(pattern: pattern, prologue: Self.prologue, identity: identity)
        #expect(responder.read(try noise.writeMessage()) == [])
        let answer = try responder.write([])
        #expect(throws: KeyError("handshake", .handshake(.badKey))) { try noise.readMessage(bytes + answer[32...]) }
        #expect(try noise.readMessage(answer) == [])
      }
    }
  }

  @Test("a payload that would make a message too long is refused, and the longest is not", arguments: [false, true])
  func longest(isIK: Bool) throws {
    var (identity, responder, pattern) = try ends(isIK: isIK)
    var noise = NoiseInitiator(pattern: pattern, prologue: Self.prologue, identity: identity)
    let most = NoiseInitiator.longestMessage - noise.overhead
    #expect(throws: KeyError("handshake", .handshake(.tooLong(65536)))) {
      try noise.writeMessage(payload: [UInt8](repeating: 1, count: most + 1))
    }
    let payload = [UInt8](repeating: 1, count: most)
    #expect(responder.read(try noise.writeMessage(payload: payload)) == payload)
  }

  @Test("two handshakes of the same ends have nothing in common")
  func fresh() throws {
    var hashes: Set<[UInt8]> = []
    for _ in 0..<3 {
      var (identity, responder, pattern) = try ends(isIK: true)
      var noise = NoiseInitiator(pattern: pattern, prologue: Self.prologue, identity: identity)
      #expect(responder.read(try noise.writeMessage()) == [])
      _ = try noise.readMessage(try responder.write([]))
      hashes.insert(noise.handshakeHash)
    }
    #expect(hashes.count == 3)
  }
}
