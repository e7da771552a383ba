import Hosts
import Keys

/// Keys of two devices, one of a certifier, and what it vouches for of the first, anew in each process.
private struct KeyFilesGround: Sendable {
  let device = Identity.generate().publicKey
  let other = Identity.generate().publicKey
  let certifier = CertifierIdentity.generate()
  let certificate: Certificate?
  static let shared = KeyFilesGround()

  private init() {
    certificate = try? Certificate(of: device, name: "db1:7117", notBefore: 1000, notAfter: 2000, by: certifier)
  }
}

extension FuzzTarget {
  /// Files of keys, and the texts in them: what is taken says the same when it is written and read again.
  ///
  /// The first byte says which: authorized_keys, known_hosts, a configuration, a certificate, a true certificate with changes, a
  /// single text.
  static let keyFiles = FuzzTarget(
    name: "keyfiles",
    seeds: {
      // The key of RFC 7748's first vector, and Ed25519's base point.
      let key = "grass-x25519 hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066So9cexTCg="
      let point = [0x58] + [UInt8](repeating: 0x66, count: 31)
      let certifier = "grass-ed25519 WGZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmY="
      let raw: [UInt8] = [
        0x85, 0x20, 0xf0, 0x09, 0x89, 0x30, 0xa7, 0x54, 0x74, 0x8b, 0x7d, 0xdc, 0xb4, 0x3e, 0xf7, 0x5a,
      ]
      let rest: [UInt8] = [
        0x0d, 0xbf, 0x3a, 0x0d, 0x26, 0x38, 0x1a, 0xf4, 0xeb, 0xa4, 0xa8, 0xf5, 0xc7, 0xb1, 0x4c, 0x28,
      ]
      let name = Array("db1".utf8)
      var certificate: [UInt8] = [0x47, 0x52, 0x43, 1, 3, 0, 0, 0]
      certificate += [0xe8, 3, 0, 0, 0, 0, 0, 0] + [0xd0, 7, 0, 0, 0, 0, 0, 0] + raw + rest + point + name
      certificate += [UInt8](repeating: 0, count: 61 + 64)
      let fingerprint = "SHA256:" + String(repeating: "A", count: 43)
      let lines = "# mine\n\(key) me\nwatch,run,expires=2027-01-31T12:00Z \(key) a b\nall \(key)\nssh-rsa x\n"
      let hosts = """
        db1:7117,*.example.org:7117 \(key) mine
        tcp://?b2:7117 \(fingerprint)
        @cert-authority * \(certifier)
        @revoked shm:///run/* \(key)
        """
      let revoked = "db1:7117 \(key)\n@revoked * \(key)\n"
      let configuration =
        "identity ~/id\nhost db1\n  address tcp://db1:7117\n  key \(key)\nhost b\n address shm:///run/g\n"
      return [
        [0] + Array(lines.utf8), [1] + Array(hosts.utf8), [1] + Array(revoked.utf8), [2] + Array(configuration.utf8),
        [3] + certificate,
        [4, 0, 0, 0, 8, 0, 1], [5] + Array(key.utf8), [5] + Array(certifier.utf8),
        [5] + Array("2027-01-31T12:00:15Z".utf8),
      ]
    },
    prepare: { _ = KeyFilesGround.shared },
    run: { bytes in
      var input = FuzzInput(bytes)
      switch input.next(UInt8.self) % 6 {
      case 0: authorizedKeys(input.remaining())
      case 1: knownHosts(input.remaining())
      case 2: configuration(input.remaining())
      case 3:
        let rest = input.remaining()
        if let certificate = try? Certificate(bytes: rest) {
          require(certificate.bytes == rest, "a certificate of other bytes")
        }
        if let certificate = try? Certificate(parsing: String(decoding: rest, as: UTF8.self)) {
          require((try? Certificate(parsing: certificate.base64)) == certificate, "a certificate of another text")
        }
      case 4: certificate(&input)
      default: text(String(decoding: input.remaining(), as: UTF8.self))
      }
    })

  private static func authorizedKeys(_ bytes: [UInt8]) {
    let file = AuthorizedKeys(parsing: bytes, file: "authorized_keys")
    let lines = bytes.count { $0 == UInt8(ascii: "\n") } + 1
    require(Set(file.keys.map(\.key)).count == file.keys.count, "a key twice")
    require(file.keys.count + file.problems.count <= lines, "more lines than there are")
    require(file.problems.allSatisfy { (1...lines).contains($0.line) }, "a problem of no line")
    for key in file.keys {
      require(!key.rights.isEmpty && Rights.all.isSuperset(of: key.rights), "rights \(key.rights.rawValue)")
      require((try? AuthorizedKey(parsing: key.description)) == key, "a key of another line: \(key)")
    }
  }

  private static func knownHosts(_ bytes: [UInt8]) {
    let file = KnownHosts(parsing: bytes, path: "known_hosts")
    let lines = bytes.count { $0 == UInt8(ascii: "\n") } + 1
    require(file.entries.count + file.problems.count <= lines, "more lines than there are")
    let ground = KeyFilesGround.shared
    let certified = KnownHosts(
      parsing: bytes + Array("\n@cert-authority * \(ground.certifier.publicKey)\n".utf8), path: "known_hosts")
    for address in ["tcp://db1:7117", "db1.example.org:7117", "shm:///run/grass", "[::1]:1"] {
      guard let host = try? HostName(address: address, alias: "db1") else { continue }
      let keys = file.keys(of: host)
      for key in keys {
        // Whatever else the file says, also that somebody else's is the host's.
        guard case .known(let line) = file.judge(key, of: host, at: 1500) else { fatalError("a key that is not known") }
        require(file.entries.contains { $0.line == line }, "line \(line)")
      }
      require(keys.isEmpty || file.knowsKey(of: host), "a host with keys that has none")
      // Whose keys nobody could have written there: one is trusted by its certificate, where its certifier is, and the other never.
      require(
        !file.judge(ground.device, of: host, certificate: ground.certificate, at: 1500).isTrusted,
        "a key of nobody is trusted")
      require(
        !certified.judge(ground.other, of: host, certificate: ground.certificate, at: 1500).isTrusted,
        "a key is trusted for another's certificate")
      require(
        !certified.judge(ground.device, of: host, certificate: ground.certificate, at: 2000).isTrusted,
        "a key is trusted for a certificate that is over")
      for entry in file.entries {
        guard case .revoked(let key) = entry.subject, [host.text, "*"].contains(entry.pattern) else { continue }
        require(!file.judge(key, of: host, at: 1500).isTrusted, "a key is trusted that was revoked")
      }
    }
  }

  private static func configuration(_ bytes: [UInt8]) {
    let file = Configuration(parsing: bytes, path: "/home/config", home: "/home")
    require(Set(file.hosts.map(\.name)).count == file.hosts.count, "a name twice")
    for host in file.hosts {
      let destination = try? file.destination("grass://\(host.name)")
      require((destination == nil) == (host.address == nil), "a host without its address")
      require(destination.map { $0.address == host.address } ?? true, "a host of another address")
    }
  }

  /// Changes of a true certificate, three bytes each: where, and what.
  private static func certificate(_ input: inout FuzzInput) {
    let ground = KeyFilesGround.shared
    guard let truth = ground.certificate else { fatalError("no certificate") }
    var bytes = truth.bytes
    for _ in 0..<8 where !input.isEmpty {
      let place = Int(input.next(UInt16.self)) % bytes.count
      bytes[place] ^= input.next(UInt8.self)
    }
    guard let certificate = try? Certificate(bytes: bytes) else { return }
    let isProof = (try? certificate.verify(by: ground.certifier.publicKey, at: 1500)) != nil
    require(isProof == (bytes == truth.bytes), "a certificate that was changed")
  }

  private static func text(_ text: String) {
    // There is one text for each key, but for blanks.
    let words = text.split(whereSeparator: \.isWhitespace).joined(separator: " ")
    if let key = try? PublicKey(parsing: text) { require(key.description == words, "another key") }
    if let key = try? CertifierKey(parsing: text) { require(key.description == words, "another certifier") }
    if let time = UTCTime.parse(text) { require(UTCTime.parse(UTCTime.text(time)) == time, "another time") }
    if let rights = try? Rights(parsing: text) {
      require((try? Rights(parsing: rights.description)) == rights, "other rights")
    }
    if let name = try? HostName(address: text) {
      require((try? HostName(address: name.text)) == name, "another name: \(name)")
    }
  }
}
