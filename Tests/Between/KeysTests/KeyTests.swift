import Foundation
import Keys
import Scratch
import Testing

struct KeyTests {
  /// Alice's pair of RFC 7748, 6.1.
  private static let alice = (
    privateKey: [
      0x77, 0x07, 0x6d, 0x0a, 0x73, 0x18, 0xa5, 0x7d, 0x3c, 0x16, 0xc1, 0x72, 0x51, 0xb2, 0x66, 0x45,
      0xdf, 0x4c, 0x2f, 0x87, 0xeb, 0xc0, 0x99, 0x2a, 0xb1, 0x77, 0xfb, 0xa5, 0x1d, 0xb9, 0x2c, 0x2a,
    ] as [UInt8],
    publicKey: [
      0x85, 0x20, 0xf0, 0x09, 0x89, 0x30, 0xa7, 0x54, 0x74, 0x8b, 0x7d, 0xdc, 0xb4, 0x3e, 0xf7, 0x5a,
      0x0d, 0xbf, 0x3a, 0x0d, 0x26, 0x38, 0x1a, 0xf4, 0xeb, 0xa4, 0xa9, 0x8e, 0xaa, 0x9b, 0x4e, 0x6a,
    ] as [UInt8],
    // By another program: base64, and `sha256sum` of the 32 bytes.
    text: "grass-x25519 hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=",
    fingerprint: "SHA256:MAyclgO5Kks57TlYv5JAEUgE20/TcwEsDKR0MtY0Ja4"
  )

  @Test("a public key's text and fingerprint, of a pair whose halves are known")
  func known() throws {
    let identity = try Identity(privateKey: Self.alice.privateKey)
    #expect(identity.publicKey.bytes == Self.alice.publicKey)
    #expect("\(identity.publicKey)" == Self.alice.text)
    #expect(identity.publicKey.fingerprint == Self.alice.fingerprint)
    #expect(try PublicKey(parsing: Self.alice.text) == identity.publicKey)
    #expect(try PublicKey(parsing: "  grass-x25519\t\(Self.alice.text.dropFirst(13)) ") == identity.publicKey)
    #expect(identity.withPrivateKey(Array.init) == Self.alice.privateKey)
  }

  @Test(
    "what is no key says why, and how one is written",
    arguments: [
      ("", "is missing"), ("grass-x25519", "has no base64"), ("hSDwCYkwp1R0i33ctD73", "does not begin with"),
      ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI", "is a key of ssh"),
      ("grass-ed25519 hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=", "is a certifier's key"),
      ("grass-x25519-private hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=", "is a private key"),
      ("grass-x25519 hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo= me", "has words behind it"),
      // Cut, without its padding, with another alphabet's character, with a bit set that stands for nothing.
      ("grass-x25519 hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTm==", "is not the base64 of 32 bytes"),
      ("grass-x25519 hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo", "is not the base64 of 32 bytes"),
      ("grass-x25519 hSDwCYkwp1R0i33ctD73Wg2_Og0mOBr066SpjqqbTmo=", "is not the base64 of 32 bytes"),
      ("grass-x25519 hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmp=", "is not the base64 of 32 bytes"),
      ("grass-x25519 AAAA", "is not the base64 of 32 bytes"),
      ("grass-x25519 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "keeps no secret"),
      // 2^255 - 1, and Alice's with the highest bit set.
      ("grass-x25519 ////////////////////////////////////////////", "is not the base64 of 32 bytes"),
      ("grass-x25519 //////////////////////////////////////////8=", "one form"),
      ("grass-x25519 hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTuo=", "one form"),
      // 2^255 - 19 + 2.
      ("grass-x25519 7////////////////////////////////////////38=", "one form"),
    ])
  func malformed(text: String, why: String) {
    let reason = reason { try PublicKey(parsing: text) }
    #expect(reason.contains(why))
  }

  @Test("what a text has that would steer a terminal is not shown")
  func quoted() {
    let reason = reason {
      try PublicKey(parsing: "\u{1b}]0;title\u{7}\u{202e}x \(String(repeating: "y", count: 5000))")
    }
    #expect(reason.unicodeScalars.allSatisfy { $0.value >= 0x20 && $0.value != 0x202e && $0.value != 0x7f })
    #expect(reason.utf8.count < 400)
  }

  @Test("the keys that the page about keys shows are keys")
  func page() throws {
    let page = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../../docs/keys.md")
    let text = try String(contentsOf: page, encoding: .utf8)
    let keys = text.matches(of: /grass-(x25519|ed25519) [A-Za-z0-9+\/]{43}=/).map(\.output)
    #expect(Set(keys.map(\.1)) == ["x25519", "ed25519"])
    for key in keys {
      if key.1 == "x25519" { _ = try PublicKey(parsing: key.0) } else { _ = try CertifierKey(parsing: key.0) }
    }
    // RFC 8032, 7.1, test 1.
    #expect(keys.contains { $0.0 == "grass-ed25519 11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=" })
  }

  @Test("every key's text parses to it again, and no two are alike")
  func round() throws {
    var texts: Set<String> = []
    for _ in 0..<50 {
      let (identity, certifier) = (Identity.generate(), CertifierIdentity.generate())
      #expect(try PublicKey(parsing: "\(identity.publicKey)") == identity.publicKey)
      #expect(try CertifierKey(parsing: "\(certifier.publicKey)") == certifier.publicKey)
      texts.formUnion(["\(identity.publicKey)", "\(certifier.publicKey)"])
      #expect(identity.publicKey.fingerprint.wholeMatch(of: /SHA256:[A-Za-z0-9+\/]{43}/) != nil)
    }
    #expect(texts.count == 100)
  }

  @Test("a private key is not printed by whatever prints its owner")
  func printed() throws {
    let identity = try Identity(privateKey: Self.alice.privateKey)
    var dumped = ""
    dump(identity, to: &dumped)
    for text in [dumped, "\(identity)", String(reflecting: identity)] {
      #expect(!text.contains("119") && !text.contains("dwdtCnMYpX0"))
    }
  }

  // MARK: Files

  @Test("an identity's file is its owner's only, and holds the same identity")
  func file() throws {
    let scratch = try Scratch()
    let identity = Identity.generate()
    let path = scratch.file("id")
    let old = umask(0)
    defer { umask(old) }
    try identity.write(to: path)
    #expect(mode(of: path) == 0o600)
    #expect(try scratch.names() == ["id"])
    let again = try Identity(contentsOf: path)
    #expect(again.publicKey == identity.publicKey)
    #expect(again.withPrivateKey(Array.init) == identity.withPrivateKey(Array.init))
    let text = try String(contentsOfFile: path, encoding: .utf8)
    #expect(text.wholeMatch(of: /# .*\ngrass-x25519-private [A-Za-z0-9+\/]{43}=\n/) != nil)

    let certifier = CertifierIdentity.generate()
    try certifier.write(to: scratch.file("certifier"))
    #expect(mode(of: scratch.file("certifier")) == 0o600)
    #expect(try CertifierIdentity(contentsOf: scratch.file("certifier")).publicKey == certifier.publicKey)
    #expect(reason { try Identity(contentsOf: scratch.file("certifier")) }.contains("has a certifier's key"))
    #expect(reason { try CertifierIdentity(contentsOf: path) }.contains("key new --certifier"))
  }

  @Test("nothing is overwritten unless told, not even through a link, and then whole")
  func overwriting() throws {
    let scratch = try Scratch()
    let (first, second) = (Identity.generate(), Identity.generate())
    let path = scratch.file("id")
    try first.write(to: path)
    #expect(throws: KeyError(path, .exists)) { try second.write(to: path) }
    #expect(try Identity(contentsOf: path).publicKey == first.publicKey)
    try second.write(to: path, replacing: true)
    #expect(try Identity(contentsOf: path).publicKey == second.publicKey)

    // A link that somebody laid there leads to nothing yet, or to another file.
    let (dangling, leading) = (scratch.file("dangling"), scratch.file("leading"))
    try FileManager.default.createSymbolicLink(atPath: dangling, withDestinationPath: scratch.file("elsewhere"))
    try FileManager.default.createSymbolicLink(atPath: leading, withDestinationPath: path)
    #expect(throws: KeyError(dangling, .exists)) { try first.write(to: dangling) }
    try first.write(to: leading, replacing: true)
    #expect(try Identity(contentsOf: leading).publicKey == first.publicKey)
    #expect(try Identity(contentsOf: path).publicKey == second.publicKey)
    #expect(try scratch.names() == ["dangling", "id", "leading"])
  }

  @Test("of many who make the same file at the same time, one does, and it is his that is there")
  func together() async throws {
    let scratch = try Scratch()
    for round in 0..<20 {
      let path = scratch.file("id\(round)")
      let winners = await withTaskGroup(of: PublicKey?.self) { group in
        for _ in 0..<8 {
          group.addTask {
            let identity = Identity.generate()
            do throws(KeyError) {
              try identity.write(to: path)
              return identity.publicKey
            } catch {
              #expect(error == KeyError(path, .exists))
              return nil
            }
          }
        }
        return await group.reduce(into: []) { winners, winner in winner.map { winners.append($0) } }
      }
      #expect(winners == [try Identity(contentsOf: path).publicKey])
    }
    #expect(try scratch.names().count == 20)
  }

  @Test("where it cannot be written, the text says which call failed, and nothing is left behind")
  func unwritable() throws {
    let scratch = try Scratch()
    let reason = reason { try Identity.generate().write(to: scratch.file("missing/id")) }
    #expect(reason.contains("open failed: No such file or directory"))
    #expect(throws: KeyError.self) { try Identity.generate().write(to: scratch.path, replacing: true) }
    #expect(try scratch.names() == [])
  }

  @Test(
    "a file that others may read or write is refused, with the command that mends it",
    arguments: [0o640, 0o604, 0o620, 0o602, 0o610, 0o777] as [mode_t])
  func openToOthers(open: mode_t) throws {
    let scratch = try Scratch()
    let path = scratch.file("id of me")
    try Identity.generate().write(to: path)
    try #require(chmod(path, open) == 0)
    #expect(throws: KeyError(path, .openToOthers(mode: UInt32(open), wanted: 0o600))) { try Identity(contentsOf: path) }
    #expect(reason { try Identity(contentsOf: path) }.contains("run `chmod 600 '\(path)'`"))
    try #require(chmod(path, 0o400) == 0)
    _ = try Identity(contentsOf: path)
  }

  @Test("links, folders, pipes, and files that are missing or too long are refused at once")
  func otherFiles() throws {
    let scratch = try Scratch()
    let path = scratch.file("id")
    try Identity.generate().write(to: path)
    let link = scratch.file("link")
    try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: path)
    #expect(throws: KeyError(link, .symbolicLink)) { try Identity(contentsOf: link) }
    #expect(throws: KeyError(scratch.path, .notAFile)) { try Identity(contentsOf: scratch.path) }
    let pipe = scratch.file("pipe")
    try #require(mkfifo(pipe, 0o600) == 0)
    #expect(throws: KeyError(pipe, .notAFile)) { try Identity(contentsOf: pipe) }
    let missing = scratch.file("missing")
    #expect(reason { try Identity(contentsOf: missing) }.contains("no such file; `grassctl key new` makes one"))
    #expect(reason { try CertifierIdentity(contentsOf: missing) }.contains("`grassctl key new --certifier` makes one"))
    let long = try scratch.write(String(repeating: "#", count: 5000), to: "long")
    #expect(throws: KeyError(long, .tooLong(limit: 4096))) { try Identity(contentsOf: long) }
  }

  @Test("a file of somebody else's is refused", .enabled(if: geteuid() == 0, "only root can make one"))
  func foreign() throws {
    let scratch = try Scratch()
    let path = scratch.file("id")
    try Identity.generate().write(to: path)
    try #require(chown(path, 12345, 12345) == 0)
    #expect(throws: KeyError(path, .foreign(owner: 12345))) { try Identity(contentsOf: path) }
  }

  @Test(
    "a file that holds no private key says what it holds",
    arguments: [
      ("", "has no key"), ("# nothing\n\n", "has no key"), ("grass-x25519 hSDw\n", "has a public key"),
      ("grass-x25519-private\n", "damaged"), ("grass-x25519-private hSDw\n", "damaged"),
      ("-----BEGIN OPENSSH PRIVATE KEY-----\n", "has no key of GRASS"),
      // Whole, but for its last character.
      ("grass-x25519-private hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo", "damaged"),
      ("grass-x25519-private hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo= x", "damaged"),
      (
        String(repeating: "grass-x25519-private hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=\n", count: 2),
        "more than one"
      ),
    ])
  func garbage(text: String, why: String) throws {
    let scratch = try Scratch()
    let path = try scratch.write(text, to: "id")
    let reason = reason { try Identity(contentsOf: path) }
    #expect(reason.hasPrefix(path) && reason.contains(why))
  }

  @Test("bytes that are no text, and each beginning of a file, are refused and give no key")
  func torn() throws {
    let scratch = try Scratch()
    let path = scratch.file("id")
    try Identity.generate().write(to: path)
    let whole = [UInt8](try Data(contentsOf: URL(filePath: path)))
    // All but the new line at its end.
    for count in 0..<whole.count - 1 {
      let torn = try scratch.write(Array(whole.prefix(count)), to: "torn")
      #expect(throws: KeyError.self, "\(count) bytes") { try Identity(contentsOf: torn) }
    }
    var random = SystemRandomNumberGenerator()
    for _ in 0..<50 {
      let bytes = (0..<Int.random(in: 0...4096)).map { _ in UInt8.random(in: 0...255, using: &random) }
      let garbage = try scratch.write(bytes, to: "garbage")
      #expect(throws: KeyError.self) { try Identity(contentsOf: garbage) }
    }
  }

  @Test("comments, blanks and Windows' line ends around a key do no harm")
  func blanks() throws {
    let scratch = try Scratch()
    let path = try scratch.write(
      "# mine\r\n\r\n\t grass-x25519-private  dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo= \r\n# end", to: "id")
    #expect(try Identity(contentsOf: path).publicKey.bytes == Self.alice.publicKey)
  }

  @Test("secret bytes are alike or not, whole")
  func equal() throws {
    let bytes = [UInt8](0..<40)
    let secret = bytes.withUnsafeBytes { SecretBytes(copying: $0) }
    #expect(secret.isEqual(to: bytes.withUnsafeBytes { SecretBytes(copying: $0) }))
    for index in bytes.indices {
      var other = bytes
      other[index] ^= 0x80
      #expect(!secret.isEqual(to: other.withUnsafeBytes { SecretBytes(copying: $0) }))
    }
    #expect(!secret.isEqual(to: bytes.prefix(39).withUnsafeBytes { SecretBytes(copying: $0) }))
    #expect("\(secret)" == "40 secret bytes")
    for count in [0, 1, 7, 8, 33, 5000] {
      let random = SecretBytes.random(count: count)
      #expect(random.count == count)
      #expect(count < 33 || random.withUnsafeBytes { Set($0).count > 10 })
    }
  }

  @Test("a credential of systemd's is found by its name, also where an access list makes it look open to the group")
  func credential() throws {
    let scratch = try Scratch()
    #expect(try Identity.credential(named: "grass", in: nil) == nil)
    #expect(try Identity.credential(named: "grass", in: scratch.path) == nil)
    let identity = Identity.generate()
    let path = scratch.file("grass")
    try identity.write(to: path)
    for allowed in [0o400, 0o440, 0o600] as [mode_t] {
      try #require(chmod(path, allowed) == 0)
      #expect(try Identity.credential(named: "grass", in: scratch.path)?.publicKey == identity.publicKey)
    }
    try #require(chmod(path, 0o444) == 0)
    #expect(throws: KeyError.self) { try Identity.credential(named: "grass", in: scratch.path) }
    let garbage = try scratch.write("no key", to: "garbage")
    #expect(throws: KeyError.self, "\(garbage)") { try Identity.credential(named: "garbage", in: scratch.path) }
    for name in ["", ".", "..", "../grass", "/etc/passwd", "a/b"] {
      #expect(throws: KeyError.self, "\(name)") { try Identity.credential(named: name, in: scratch.path) }
    }
  }
}
