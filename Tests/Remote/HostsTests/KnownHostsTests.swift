import Foundation
import Hosts
import Keys
import Scratch
import Testing

struct KnownHostsTests {
  private let first = Identity.generate().publicKey
  private let second = Identity.generate().publicKey
  private let certifier = CertifierIdentity.generate()

  private func known(_ text: String) -> KnownHosts { KnownHosts(parsing: Array(text.utf8), path: "/k/known_hosts") }

  private func host(_ address: String, alias: String? = nil) throws -> HostName {
    try HostName(address: address, alias: alias)
  }

  @Test("a host is known by its key, by its fingerprint, and under any of its names")
  func known() throws {
    let file = known(
      """
      # mine
      db1:7117,10.0.0.7:7117 \(first) the database
      DB2:7117 \(second.fingerprint)
      *.example.org:* \(first)
      [::1]:7117 \(second)
      shm:///run/grass \(first)
      """)
    #expect(file.problems.isEmpty)
    #expect(file.judge(first, of: try host("tcp://db1:7117")) == .known(line: 2))
    #expect(file.judge(first, of: try host("verbs://10.0.0.7:7117")) == .known(line: 2))
    #expect(file.judge(second, of: try host("tcp://Db2:7117")) == .known(line: 3))
    #expect(file.judge(first, of: try host("tcp://A.b.Example.org:1")) == .known(line: 4))
    #expect(file.judge(second, of: try host("tcp://[::1]:7117")) == .known(line: 5))
    #expect(file.judge(first, of: try host("shm:///run/grass")) == .known(line: 6))
    #expect(file.judge(first, of: try host("tcp://db1:7118")) == .unknown)
    #expect(file.judge(first, of: try host("tcp://example.org:1")) == .unknown)
    #expect(file.judge(first, of: try host("tcp://10.0.0.8:7117", alias: "db2")) == .unknown)
    #expect(file.keys(of: try host("tcp://db1:7117")) == [first])
    #expect(file.keys(of: try host("tcp://db2:7117")) == [])
  }

  @Test("a region's file is a host where it is named, capitals and all; what was revoked is revoked there, too")
  func local() throws {
    let file = known(
      """
      * \(first)
      shm:///Run/*.region \(second)
      cellar \(first)
      @revoked * \(second)
      """)
    let key = Identity.generate().publicKey
    #expect(
      file.judge(key, of: try host("shm:///Run/a.region"))
        == .changed(known: [.init(fingerprint: second.fingerprint, line: 2)]))
    #expect(file.judge(key, of: try host("shm:///run/a.region")) == .unknown)
    #expect(file.judge(first, of: try host("shm:///run/a.region", alias: "Cellar")) == .known(line: 3))
    #expect(file.judge(first, of: try host("shm:///run/a.region", alias: "attic")) == .unknown)
    #expect(file.judge(second, of: try host("shm:///Run/a.region")) == .revoked(line: 4))
    #expect(file.judge(first, of: try host("db1:7117")) == .known(line: 1))

    let scratch = try Scratch()
    let path = scratch.file("known_hosts")
    try KnownHosts.trust(.key(first), of: try host("shm:///Run/Grass"), in: path)
    #expect(try scratch.text("known_hosts") == "shm:///Run/Grass \(first)\n")
    #expect(try KnownHosts(contentsOf: path).judge(first, of: host("shm:///Run/Grass")) == .known(line: 1))
    #expect(throws: HostsError.self) { try KnownHosts.remove("shm:///run/grass", from: path) }
    #expect(try KnownHosts.remove("shm:///Run/Grass", from: path) == 1)
  }

  @Test("a changed key is refused, loudly: with both fingerprints, the lines, and the commands that mend it")
  func changed() throws {
    let file = known("db1:7117 \(first)\n\ndb1:7117 \(first.fingerprint)\n")
    let host = try host("tcp://db1:7117")
    let verdict = file.judge(second, of: host)
    #expect(
      verdict
        == .changed(known: [
          .init(fingerprint: first.fingerprint, line: 1), .init(fingerprint: first.fingerprint, line: 3),
        ]))
    #expect(!verdict.isTrusted)
    let destination = try Configuration(parsing: [], path: "/k/config", home: nil).destination("tcp://db1:7117")
    let text = reason { try destination.trusts(second, file) }
    #expect(text.contains("@      WARNING: THE KEY OF THIS HOST HAS CHANGED"))
    #expect(text.contains("shown:  \(second.fingerprint)"))
    #expect(text.contains("known:  \(first.fingerprint) (/k/known_hosts:1)"))
    #expect(text.contains("known:  \(first.fingerprint) (/k/known_hosts:3)"))
    #expect(text.contains("grassctl key trust --remove db1:7117\n"))
    #expect(text.contains("grassctl key trust db1:7117 --fingerprint \(second.fingerprint)"))
    #expect(text.split(separator: "\n").allSatisfy { $0.count < 140 })
    #expect(try destination.trusts(first, file))
    #expect(try !destination.trusts(first, known("")))
  }

  @Test("a certifier's word makes a key good, in its time, for its host, whatever was known before")
  func certified() throws {
    let file = known("@cert-authority *:7117 \(certifier.publicKey)\ndb1:7117 \(first)\n")
    let host = try host("tcp://db1:7117", alias: "main")
    for name in ["db1:7117", "db1", "DB1", "main", "*", "db?", "d*:7117"] {
      let certificate = try Certificate(of: second, name: name, notBefore: 100, notAfter: 200, by: certifier)
      #expect(
        file.judge(second, of: host, certificate: certificate, at: 150)
          == .certified(by: certifier.publicKey, line: 1, until: 200), "\(name)")
    }
    #expect(file.hasCertifier(of: host))
    #expect(!file.hasCertifier(of: try self.host("tcp://db1:7118")))
    // The plain line still holds for its own key, with or without a certificate.
    #expect(file.judge(first, of: host, at: 150) == .known(line: 2))
  }

  @Test("without proof of the certifier that is trusted for it, a host's key is refused, and the text says why")
  func uncertified() throws {
    let file = known("@cert-authority *:7117 \(certifier.publicKey)\n")
    let host = try host("tcp://db1:7117")
    func why(_ certificate: Certificate?, at time: UInt64 = 150) -> String {
      if case .uncertified(1, let why) = file.judge(second, of: host, certificate: certificate, at: time) {
        why
      } else {
        ""
      }
    }
    func made(of key: PublicKey? = nil, name: String = "db1", by other: CertifierIdentity? = nil) throws -> Certificate
    {
      try Certificate(of: key ?? second, name: name, notBefore: 100, notAfter: 200, by: other ?? certifier)
    }
    #expect(why(nil) == "it shows no certificate")
    #expect(why(try made(of: first)).contains("of another key, \(first.fingerprint)"))
    #expect(why(try made(name: "db2")).contains("for \"db2\", which is another host"))
    #expect(why(try made(name: "db")).contains("another host"))
    #expect(why(try made(by: .generate())).contains("another certifier"))
    #expect(why(try made(), at: 99).contains("not valid before 1970-01-01T00:01:40Z"))
    #expect(why(try made(), at: 200).contains("valid until 1970-01-01T00:03:20Z"))
    var forged = try made().bytes
    forged[160] ^= 1
    #expect(why(try Certificate(bytes: forged)).contains("signature is not its certifier's"))

    let destination = try Configuration(parsing: [], path: "/k/config", home: nil).destination("tcp://db1:7117")
    let text = reason { try destination.trusts(second, file, at: 150) }
    #expect(text.contains("(/k/known_hosts:1)") && text.contains("grassctl key certify --name db1:7117 \(second)"))
    // With plain keys known, too, it is a changed key, which is louder.
    let both = known("@cert-authority *:7117 \(certifier.publicKey)\ndb1:7117 \(first)\n")
    #expect(both.judge(second, of: host, at: 150) == .changed(known: [.init(fingerprint: first.fingerprint, line: 2)]))
  }

  @Test("what was revoked is refused, whatever else is known")
  func revoked() throws {
    let file = known(
      """
      db1:7117 \(first)
      @cert-authority * \(certifier.publicKey)
      @revoked * \(first)
      """)
    let host = try host("tcp://db1:7117")
    let certificate = try Certificate(of: first, name: "*", notBefore: 100, notAfter: 200, by: certifier)
    #expect(file.judge(first, of: host) == .revoked(line: 3))
    #expect(file.judge(first, of: host, certificate: certificate, at: 150) == .revoked(line: 3))
    #expect(file.keys(of: host) == [])
    let configured = try Configuration(
      parsing: Array("host db1\naddress tcp://db1:7117\nkey \(first)\n".utf8), path: "/k/config", home: nil
    ).destination("grass://db1")
    #expect(reason { try configured.trusts(first, file) }.contains("REVOKED (/k/known_hosts:3)"))

    let certifierRevoked = known(
      "@revoked * \(certifier.publicKey)\n@cert-authority * \(certifier.publicKey)\ndb1:7117 \(second)\n")
    #expect(certifierRevoked.judge(first, of: host, certificate: certificate, at: 150) == .revoked(line: 1))
    #expect(certifierRevoked.judge(second, of: host) == .known(line: 3))
  }

  @Test("a bad line is told by its number and why, and costs no other line")
  func problems() throws {
    var bytes = Array(
      """
      db1:7117
      db1:7117 grass-x25519 AAAA
      @trusted db1:7117 \(first)
      @cert-authority * \(first)
      ,db1:7117 \(first)
      db1:7117 SHA256:tooshort
      @revoked
      db1:7117 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI
      db1:7117 \(first)

      """.utf8)
    bytes += [0xff, 0x00, 0x0a] + Array("db2:7117 \(second)".utf8)
    let file = KnownHosts(parsing: bytes, path: "/k/known_hosts")
    #expect(file.problems.map(\.line) == [1, 2, 3, 4, 5, 6, 7, 8, 10])
    let told = file.problems.map(\.description)
    #expect(told.allSatisfy { $0.hasPrefix("/k/known_hosts:") && $0.contains("does not count") })
    for (index, why) in [
      "has no key", "base64", "is no marker", "not a certifier's", "no pattern", "no fingerprint", "no key", "ssh",
    ]
    .enumerated() {
      #expect(told[index].contains(why), "\(told[index])")
    }
    #expect(file.judge(first, of: try host("db1:7117")) == .known(line: 9))
    #expect(file.judge(second, of: try host("db2:7117")) == .known(line: 11))
  }

  @Test(
    "names of hosts",
    arguments: [
      ("tcp://Host:1", "host:1"), ("host:65535", "host:65535"), ("verbs://[FE80::1]:7", "[fe80::1]:7"),
      ("shm:///Run/grass", "shm:///Run/grass"), ("", nil), ("host", nil), ("tcp://host", nil),
      ("tcp://host:65536", nil),
      ("tcp://::1:7", nil), (":7", nil), ("a b:7", nil), ("a,b:7", nil), ("a\u{1b}:7", nil), ("tcp://:7", nil),
    ] as [(String, String?)])
  func names(address: String, name: String?) {
    #expect((try? HostName(address: address))?.text == name)
  }

  @Test("a pattern of many stars takes no time to tell that a name is none of its hosts")
  func stars() throws {
    let file = known("\(String(repeating: "*a", count: 500))b \(first)\n")
    #expect(file.problems.isEmpty)
    #expect(file.judge(first, of: try host("\(String(repeating: "a", count: 3000)):7")) == .unknown)
  }

  // MARK: Changing the file

  @Test("a line is added once, for its owner only, and what was there stays byte by byte")
  func adding() throws {
    let scratch = try Scratch()
    let path = scratch.file("new/known_hosts")
    #expect(try KnownHosts(contentsOf: path).entries.isEmpty)
    #expect(try KnownHosts.add(.key(first), of: "db1:7117", to: path))
    #expect(mode(of: scratch.file("new")) == 0o700 && mode(of: path) == 0o600)
    #expect(try !KnownHosts.add(.key(first), of: "DB1:7117", to: path))
    #expect(try KnownHosts(contentsOf: path).judge(first, of: host("db1:7117")) == .known(line: 1))

    // Comments, a line that is no text, no end of line, a mode of its own.
    let old = Array("# a comment\n\n  db2:7117   \(second)  note\n".utf8) + [0xff, 0xfe]
    let other = try scratch.write(old, to: "other", mode: 0o644)
    try KnownHosts.add(.certifier(certifier.publicKey), of: "*.example.org:*", to: other, comment: "of the desk")
    try KnownHosts.add(.revoked(first), of: "*", to: other)
    try KnownHosts.add(.fingerprint(first.fingerprint), of: "db3:7117", to: other)
    let expected =
      old
      + Array(
        "\n@cert-authority *.example.org:* \(certifier.publicKey) of the desk\n@revoked * \(first)\ndb3:7117 \(first.fingerprint)\n"
          .utf8)
    #expect(try scratch.read("other") == expected)
    #expect(mode(of: other) == 0o644)
    #expect(try scratch.names() == ["new", "other"])

    for (pattern, comment) in [("a b", ""), ("", ""), ("#a:1", ""), ("@a:1", ""), ("a:1", "x\ny"), ("a,,b", "")] {
      #expect(throws: HostsError.self, "\(pattern)") {
        try KnownHosts.add(.key(first), of: pattern, to: other, comment: comment)
      }
    }
    #expect(try scratch.read("other") == expected)
  }

  @Test("a host is forgotten without the others of its line, and what was revoked stays so")
  func removing() throws {
    let scratch = try Scratch()
    let path = try scratch.write(
      """
      # keep
      db1:7117 \(first)
      \tdb1:7117,db2:7117  \(second) two
      @cert-authority db1:7117 \(certifier.publicKey)
      @revoked db1:7117 \(second)
      db1:* \(first)
      db1:7117 nonsense
      db9:7117 \(first)
      """, to: "known_hosts")
    #expect(try KnownHosts.remove("DB1:7117", from: path) == 2)
    #expect(
      try scratch.text("known_hosts") == """
        # keep
        \tdb2:7117  \(second) two
        @cert-authority db1:7117 \(certifier.publicKey)
        @revoked db1:7117 \(second)
        db1:* \(first)
        db1:7117 nonsense
        db9:7117 \(first)
        """)
    #expect(throws: HostsError("db1:7117", .nothingKnown(file: path, patterns: [5]))) {
      try KnownHosts.remove("db1:7117", from: path)
    }
    #expect(try KnownHosts.remove("db1:7117", certifiers: true, from: path) == 1)
    #expect(throws: HostsError("db0:1", .nothingKnown(file: path, patterns: []))) {
      try KnownHosts.remove("db0:1", from: path)
    }
    #expect(try KnownHosts(contentsOf: path).entries.map(\.line) == [2, 3, 4, 6])
  }

  @Test("of many who add at the same time, all are in the file, and who reads meanwhile reads it whole")
  func together() async throws {
    let scratch = try Scratch()
    let path = scratch.file("known_hosts")
    let keys = (0..<24).map { _ in Identity.generate().publicKey }
    try KnownHosts.add(.key(first), of: "first:1", to: path)
    await withTaskGroup(of: Void.self) { group in
      for (index, key) in keys.enumerated() {
        group.addTask {
          #expect(throws: Never.self) {
            try KnownHosts.add(.key(key), of: "h\(index):1", to: path)
            let file = try KnownHosts(contentsOf: path)
            #expect(file.problems.isEmpty)
            #expect(file.judge(key, of: try HostName(address: "h\(index):1")).isTrusted)
          }
        }
      }
    }
    let file = try KnownHosts(contentsOf: path)
    #expect(file.entries.count == keys.count + 1 && file.problems.isEmpty)
    #expect(try scratch.names() == ["known_hosts"])
  }

  @Test(
    "a file that others could have changed is not read, nor added to; a link that is one's own is followed and stays")
  func modes() throws {
    let scratch = try Scratch()
    let path = try scratch.write("db1:7117 \(first)\n", to: "known_hosts", mode: 0o666)
    #expect(throws: HostsError(path, .file(KeyError(path, .openToOthers(mode: 0o666, wanted: 0o644))))) {
      try KnownHosts(contentsOf: path)
    }
    #expect(throws: HostsError.self) { try KnownHosts.add(.key(second), of: "db2:7117", to: path) }
    try #require(chmod(path, 0o644) == 0)
    let link = scratch.file("link")
    try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: "known_hosts")
    #expect(try KnownHosts.add(.key(second), of: "db2:7117", to: link))
    #expect(try FileManager.default.destinationOfSymbolicLink(atPath: link) == "known_hosts")
    #expect(try KnownHosts(contentsOf: path).entries.count == 2)
    #expect(try KnownHosts(contentsOf: link).entries.count == 2)
  }
}
