import Foundation
import Hosts
import Keys
import Scratch
import Testing

struct ConfigurationTests {
  private let key = Identity.generate().publicKey

  private func configuration(_ text: String) -> Configuration {
    Configuration(parsing: Array(text.utf8), path: "/home/me/.config/grass/config", home: "/home/me")
  }

  @Test("a name leads to its address, identity and key")
  func names() throws {
    let file = configuration(
      """
      # for all
      identity ~/.config/grass/other

      host DB1
        address tcp://10.0.0.7:7117
        identity keys/db1
        key \(key)
      host db2
      \taddress\tverbs://[fe80::1]:1
        key \(key.fingerprint)
      host bare
      """)
    #expect(file.problems.isEmpty)
    let first = try file.destination("grass://Db1")
    #expect(first.address == "tcp://10.0.0.7:7117")
    #expect(first.name.text == "10.0.0.7:7117" && first.name.alias == "db1")
    #expect(first.identity == "/home/me/.config/grass/keys/db1")
    #expect(first.key == .key(key))
    let second = try file.destination("grass://db2/")
    #expect(second.address == "verbs://[fe80::1]:1" && second.identity == "/home/me/.config/grass/other")
    #expect(second.key == .fingerprint(key.fingerprint))
    // An address that is a host's here has what that host has; any other has nothing.
    #expect(try file.destination("tcp://10.0.0.7:7117").key == .key(key))
    let other = try file.destination("tcp://10.0.0.8:7117")
    #expect(other.key == nil && other.name.alias == nil && other.identity == "/home/me/.config/grass/other")

    #expect(reason { try file.destination("grass://db3") }.contains("it names db1, db2, bare"))
    #expect(reason { try configuration("").destination("grass://db3") }.contains("it names no host yet"))
    #expect(
      reason { try file.destination("grass://bare") }.contains(
        "/home/me/.config/grass/config:11 gives this host no address"))
    #expect(throws: HostsError.self) { try file.destination("grass://") }
    #expect(throws: HostsError.self) { try file.destination("10.0.0.7") }
  }

  @Test("the configuration's key is the only one that is taken, and known keys tell what a handshake needs")
  func pinned() throws {
    let other = Identity.generate().publicKey
    let known = KnownHosts(
      parsing: Array("10.0.0.7:7117 \(other)\n10.0.0.7:7117 \(key)\n".utf8), path: "/k/known_hosts")
    let pinned = try configuration("host a\naddress tcp://10.0.0.7:7117\nkey \(key)\n").destination("grass://a")
    #expect(try pinned.trusts(key, known))
    #expect(try pinned.trusts(key, KnownHosts(parsing: [], path: "/k/known_hosts")))
    let text = reason { try pinned.trusts(other, known) }
    #expect(text.contains(other.fingerprint) && text.contains(key.fingerprint) && text.contains("(line 1)"))
    #expect(pinned.keys(known) == [key])
    let printed = try configuration("host a\naddress tcp://10.0.0.7:7117\nkey \(key.fingerprint)\n").destination(
      "grass://a")
    #expect(printed.keys(known) == [key])
    #expect(try printed.trusts(key, known))
    #expect(throws: HostsError.self) { try printed.trusts(other, known) }
    #expect(try configuration("").destination("tcp://10.0.0.7:7117").keys(known) == [other, key])
  }

  @Test(
    "a host of which anything is known has to prove a key, also where no whole key is known that could be asked for")
  func proof() throws {
    let certifier = CertifierIdentity.generate().publicKey
    let plain = try configuration("").destination("tcp://10.0.0.7:7117")
    for line in [
      "10.0.0.7:7117 \(key)", "10.0.0.7:7117 \(key.fingerprint)", "@cert-authority 10.0.0.*:* \(certifier)",
      "10.0.0.7:7117 \(key)\n@revoked * \(key)",
    ] {
      #expect(plain.mustProveKey(KnownHosts(parsing: Array(line.utf8), path: "k")), "\(line)")
    }
    let none = KnownHosts(
      parsing: Array("10.0.0.8:7117 \(key)\n# 10.0.0.7:7117 \(key)\n@revoked * \(key)\n".utf8), path: "k")
    #expect(!plain.mustProveKey(none))
    // Who is trusted for all in the network does not make a region's file on this machine one that must have keys.
    let all = KnownHosts(parsing: Array("@cert-authority * \(certifier)\n".utf8), path: "k")
    #expect(plain.mustProveKey(all))
    #expect(try !configuration("").destination("shm:///run/grass").mustProveKey(all))
    for word in ["\(key)", key.fingerprint] {
      let pinned = try configuration("host a\naddress tcp://10.0.0.7:7117\nkey \(word)\n").destination("grass://a")
      #expect(pinned.mustProveKey(none))
    }
  }

  @Test("a bad line is told by its number and why, and costs no other line")
  func problems() throws {
    let file = configuration(
      """
      address tcp://10.0.0.1:1
      hots db0
      host
      address tcp://10.0.0.2:1
      host db1
        address 10.0.0.7:7117
        address grass://db2
        address tcp://10.0.0.7
        address tcp://10.0.0.7:7117
        address tcp://10.0.0.9:7117
        key grass-x25519 AAAA
        key \(key)
        identity
      host db 2
        address tcp://10.0.0.5:1
      host db1
        address tcp://10.0.0.6:1
      host db3
        address tcp://10.0.0.8:7117
      """)
    #expect(file.problems.map(\.line) == [1, 2, 3, 6, 7, 8, 10, 11, 13, 14, 16])
    let told = file.problems.map(\.description)
    #expect(told.allSatisfy { $0.hasPrefix("/home/me/.config/grass/config:") && $0.contains("does not count") })
    for (index, why) in [
      "must follow a line `host NAME`", "there is no word \"hots\"", "says nothing", "is no address", "is no address",
      "needs a port", "was said above", "base64", "says nothing", "is no name", "line 5 has this host already",
    ].enumerated() {
      #expect(told[index].contains(why), "\(told[index])")
    }
    #expect(file.hosts.map(\.name) == ["db1", "db3"])
    let first = try file.destination("grass://db1")
    #expect(first.address == "tcp://10.0.0.7:7117" && first.key == .key(key))
    #expect(try file.destination("grass://db3").address == "tcp://10.0.0.8:7117")
  }

  @Test("whatever the bytes are, nothing ends, and the lines after them count")
  func garbage() throws {
    var random = SystemRandomNumberGenerator()
    for _ in 0..<200 {
      let noise = (0..<300).map { _ in UInt8.random(in: 0...255, using: &random) }
      let file = Configuration(
        parsing: noise + Array("\nhost a\naddress tcp://h:1\n".utf8) + noise, path: "config", home: nil)
      #expect(try file.destination("grass://a").address == "tcp://h:1")
      #expect(!file.problems.isEmpty)
    }
  }

  @Test("files: none says nothing, one that others can change is refused")
  func files() throws {
    let scratch = try Scratch()
    #expect(try Configuration(contentsOf: scratch.file("config"), home: nil).hosts.isEmpty)
    let path = try scratch.write("identity id\nhost a\naddress tcp://h:1\n", to: "config", mode: 0o644)
    let file = try Configuration(contentsOf: path, home: nil)
    #expect(file.hosts.count == 1 && file.identity == scratch.file("id"))
    try #require(chmod(path, 0o664) == 0)
    #expect(reason { try Configuration(contentsOf: path, home: nil) }.contains("chmod 644 \(path)"))
    #expect(throws: HostsError.self) { try Configuration(contentsOf: scratch.path, home: nil) }
  }

  @Test(
    "where a user's files lie",
    arguments: [
      (["HOME": "/h"], "/h/.config/grass"), (["HOME": "/h", "XDG_CONFIG_HOME": "/x"], "/x/grass"),
      (["HOME": "/h", "XDG_CONFIG_HOME": "relative"], "/h/.config/grass"),
      (["HOME": "/h", "XDG_CONFIG_HOME": ""], "/h/.config/grass"),
      (["HOME": "/h", "XDG_CONFIG_HOME": "/x", "GRASS_CONFIG": "/g"], "/g"), (["HOME": ""], nil), ([:], nil),
    ] as [([String: String], String?)])
  func folder(variables: [String: String], path: String?) {
    #expect((try? UserFolder.standard { variables[$0] })?.path == path)
  }

  @Test("a new pair of keys overwrites neither half of another, and its folder is its owner's")
  func pairs() throws {
    let scratch = try Scratch()
    let folder = UserFolder(path: scratch.file("config/grass"))
    let key = try UserFolder.makeIdentity(at: folder.identity, comment: "me@here")
    #expect(mode(of: folder.path) == 0o700 && mode(of: folder.identity) == 0o600)
    #expect(mode(of: folder.identity + ".pub") == 0o644)
    #expect(try Identity(contentsOf: folder.identity).publicKey == key)
    #expect(try scratch.text("config/grass/id.pub") == "\(key) me@here\n")
    #expect(throws: HostsError(folder.identity, .file(KeyError(folder.identity, .exists)))) {
      try UserFolder.makeIdentity(at: folder.identity, comment: "")
    }
    let certifier = try UserFolder.makeCertifier(at: folder.certifier, comment: "me@here")
    #expect(try CertifierIdentity(contentsOf: folder.certifier).publicKey == certifier)
    try #require(unlink(folder.certifier) == 0)
    #expect(throws: HostsError.self) { try UserFolder.makeCertifier(at: folder.certifier, comment: "") }
    #expect(try scratch.text("config/grass/certifier.pub") == "\(certifier) me@here\n")
  }
}
