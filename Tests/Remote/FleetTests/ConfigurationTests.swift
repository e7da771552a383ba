import Testing

@testable import Fleet

/// Configurations, right and wrong in every way.
struct ConfigurationTests {
  @Test func aWholeConfigurationIsRead() throws {
    let (read, problems) = ConfigurationReader.read(
      """
      listen: "[::1]:9000"
      database: data/fleet.db
      period: 0.5
      retention: 30
      detectors_every: 60
      logs:
        - {file: fleet.json}
        - {syslog: "tcp://[::1]:601", form: ocsf, facility: local0}
      witness: {prometheus: "http://127.0.0.1:9090/", query: 'up{job="agents"}', label: host, every: 5}
      images:
        store: images
        keep: 3
        level: 1
        rules:
          - {states: [panic, lying], per_day: 2}
          - {findings: [hung-task], kinds: [fault], severities: [critical], profile: crash}
      keys: /etc/grass
      alertmanager: [http://127.0.0.1:9093/]
      webhooks:
        - https://hooks.example.org/grass
      users:
        - name: ann
          role: admin
          password: "scrypt$16$1$1$AAAAAAAAAAAAAAAAAAAAAA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
      hosts:
        - name: db1
          url: tcp://10.0.0.7:7117
          labels: {rack: a1}
        - name: web1
          url: shm:///run/grass
          period: 0.1
      """, file: "/etc/fleet/fleet.yaml")
    #expect(problems.isEmpty, "\(problems)")
    let configuration = try #require(read)
    #expect(configuration.listen == .init(host: "::1", port: 9000) && configuration.listen.isLoopback)
    #expect(
      configuration.database == "/etc/fleet/data/fleet.db" && configuration.retention == 30
        && configuration.detectorsEvery == 60)
    #expect(configuration.hosts.map(\.name) == ["db1", "web1"] && configuration.hosts.map(\.period) == [0.5, 0.1])
    #expect(
      configuration.logs == [
        .init(target: .file("/etc/fleet/fleet.json"), form: .json, facility: 3),
        .init(target: .syslog(.tcp(host: "::1", port: 601)), form: .ocsf, facility: 16),
      ])
    #expect(
      configuration.witness
        == .init(prometheus: "http://127.0.0.1:9090", query: "up{job=\"agents\"}", label: "host", period: 5))
    #expect(
      configuration.images
        == .init(
          destination: .store("/etc/fleet/images", signer: nil), level: 1, keep: 3,
          rules: [
            .init(states: ["panic", "lying"], findings: [], kinds: [], severities: [], level: 1, perDay: 2),
            .init(
              states: [], findings: ["hung-task"], kinds: ["fault"], severities: ["critical"], level: 31, perDay: 1),
          ]))
    #expect(configuration.hosts[0].labels == ["rack": "a1"])
    #expect(configuration.alertmanagers == ["http://127.0.0.1:9093"] && configuration.keys == "/etc/grass")
    #expect(configuration.users.count == 1 && configuration.users[0].isAdmin && !configuration.isOpen)
  }

  private static let hosts = "hosts: [{name: a, url: shm:///a}]"

  /// The text, the line and key that a message has to name, and words of what it advises.
  @Test(arguments: [
    ("", 0, "hosts", "add `hosts:`"),
    ("period: 1\n", 1, "hosts", "add `hosts:`"),
    ("hosts:\n\t- name: a", 2, "", "tabs"),
    ("hosts: [", 2, "", "correct that line"),
    ("witness: {query: up}\n\(hosts)", 1, "witness.prometheus", "add `prometheus:"),
    ("witness: {prometheus: x}\n\(hosts)", 1, "witness.prometheus", "http://HOST:PORT"),
    ("witness: {prometheus: \"http://a\", label: a-b}\n\(hosts)", 1, "witness.label", "label: instance"),
    ("witness: {prometheus: \"http://a\", every: 0}\n\(hosts)", 1, "witness.every", "seconds"),
    ("witness: {prometheus: \"https://ann:x@a\"}\n\(hosts)", 1, "witness.prometheus", "password_file"),
    ("webhooks: [\"https://ann:x@a\"]\n\(hosts)", 1, "webhooks[1]", "without them"),
    ("witness: {prometheus: \"https://a\", username: b}\n\(hosts)", 1, "witness.password_file", "PATH"),
    ("witness: {prometheus: \"https://a\", password_file: b}\n\(hosts)", 1, "witness.username", "NAME"),
    (
      "witness: {prometheus: \"https://a\", credentials_file: /none, username: b}\n\(hosts)", 1,
      "witness.credentials_file", "leave either"
    ),
    ("witness: {prometheus: \"https://a\", credentials_file: /none}\n\(hosts)", 1, "witness.credentials_file", "there"),
    (
      "witness: {prometheus: \"https://a\", credentials_file: /dev/null}\n\(hosts)", 1, "witness.credentials_file",
      "nothing else"
    ),
    (
      "witness: {prometheus: \"https://a\", username: \"b:c\", password_file: /none}\n\(hosts)", 1, "witness.username",
      "without a colon"
    ),
    ("witness: {prometheus: \"https://a\", ca_file: /none}\n\(hosts)", 1, "witness.ca_file", "is there"),
    (
      "witness: {prometheus: \"http://a\", credentials_file: /proc/sys/kernel/ostype}\n\(hosts)", 1,
      "witness.prometheus",
      "https://"
    ),
    ("images: {folder: x}\n\(hosts)", 1, "images.encrypt_to", "age-keygen"),
    ("images: {folder: x, encrypt_to: []}\n\(hosts)", 1, "images.encrypt_to", "at least one"),
    ("images: {folder: x, encrypt_to: [age1nobody]}\n\(hosts)", 1, "images.encrypt_to[1]", "public key of age"),
    ("images: {folder: x, encrypt_to: [none]}\n\(hosts)", 1, "images.encrypt_to[1]", "public key of age"),
    ("images: {folder: x, store: y}\n\(hosts)", 1, "images.folder", "leave one"),
    ("images: {store: x, encrypt_to: [age1nobody]}\n\(hosts)", 1, "images.encrypt_to", "`folder: PATH`"),
    ("images: {store: x, sign_with: /none}\n\(hosts)", 1, "images.sign_with", "is there"),
    ("images: {store: x, sign_with: /proc/sys/kernel/ostype}\n\(hosts)", 1, "images.sign_with", "key new --certifier"),
    ("images: {keep: 1}\n\(hosts)", 1, "images.store", "add `store: PATH`"),
    ("images: {store: x, keep: -1}\n\(hosts)", 1, "images.keep", "whole number"),
    ("images: {store: x, profile: all}\n\(hosts)", 1, "images.profile", "`evidence`"),
    ("images: {store: x, profile: crash, level: 1}\n\(hosts)", 1, "images.profile", "leave one"),
    ("images: {store: x, rules: [{per_day: 1}]}\n\(hosts)", 1, "images.rules[1]", "give `states:`"),
    ("images: {store: x, rules: [{states: [panik]}]}\n\(hosts)", 1, "images.rules[1].states[1]", "`panic`"),
    ("images: {store: x, rules: [{states: [unreachable]}]}\n\(hosts)", 1, "images.rules[1].states[1]", "they are"),
    ("images: {store: x, rules: [{findings: [zzzzzzzz]}]}\n\(hosts)", 1, "images.rules[1].findings[1]", "detectors"),
    ("perod: 1\n\(hosts)", 1, "perod", "did you mean `period`?"),
    ("wholly: 1\n\(hosts)", 1, "wholly", "the keys are listen, database"),
    ("period: 1\nperiod: 2\n\(hosts)", 1, "", "correct that line"),
    ("period: fast\n\(hosts)", 1, "period", "give seconds, from 0.01"),
    ("period: 0\n\(hosts)", 1, "period", "give seconds"),
    ("logs: [{form: json}]\n\(hosts)", 1, "logs[1]", "give either `file: PATH`"),
    ("logs: [{file: a, syslog: \"udp://a:1\"}]\n\(hosts)", 1, "logs[1]", "give either `file: PATH`"),
    ("logs: [{file: a, form: xml}]\n\(hosts)", 1, "logs[1].form", "write json or ocsf"),
    ("logs: [{syslog: \"udp://a\"}]\n\(hosts)", 1, "logs[1].syslog", "write unix:///PATH, udp://HOST:PORT"),
    ("logs: [{syslog: \"unix:///a\", facility: x}]\n\(hosts)", 1, "logs[1].facility", "local0 to local7"),
    ("detectors_every: -1\n\(hosts)", 1, "detectors_every", "give seconds, from 0"),
    ("period: [1]\n\(hosts)", 1, "period", "give one value"),
    ("retention: -1\n\(hosts)", 1, "retention", "give days"),
    ("listen: 9187\n\(hosts)", 1, "listen", "write HOST:PORT"),
    ("listen: \"1.2.3.4:99999\"\n\(hosts)", 1, "listen", "write HOST:PORT"),
    ("listen: 0.0.0.0:9187\n\(hosts)", 1, "listen", "add `users:`"),
    ("alertmanager: http://a\n\(hosts)", 1, "alertmanager", "write a list"),
    ("alertmanager: [a]\n\(hosts)", 1, "alertmanager[1]", "write http://HOST:PORT"),
    ("shard: 4/3\n\(hosts)", 1, "shard", "NUMBER/COUNT"),
    ("users: [{name: a, password: secret}]\n\(hosts)", 1, "users[1].password", "grass-fleet password"),
    ("users: [{name: a}]\n\(hosts)", 1, "users[1].password", "grass-fleet password"),
    ("users: [{name: a, role: root}]\n\(hosts)", 1, "users[1].role", "`reader`"),
    ("proxy: {header: X-User}\n\(hosts)", 1, "proxy.from", "list the proxy's own"),
    ("proxy: {from: [everywhere]}\n\(hosts)", 1, "proxy.from[1]", "10.0.0.2"),
    ("hosts: 7", 1, "hosts", "write a list"),
    ("hosts:\n  - a", 2, "hosts[1]", "name, url, labels, period"),
    ("hosts:\n  - url: shm:///a", 2, "hosts[1].name", "add `name: NAME`"),
    ("hosts:\n  - name: a", 2, "hosts[1].url", "add `url: URL`"),
    ("hosts:\n  - name: a b\n    url: shm:///a", 2, "hosts[1].name", "use letters"),
    ("hosts:\n  - name: a\n    url: http://a", 3, "hosts[1].url", "tcp://"),
    ("hosts:\n  - name: a\n    url: tcp://a", 3, "hosts[1].url", "as grassd printed it"),
    ("hosts:\n  - name: a\n    url: shm:///a\n  - name: a\n    url: shm:///b", 4, "hosts[2].name", "a name of its own"),
    ("hosts:\n  - name: a\n    url: shm:///a\n    labels: {host: b}", 4, "hosts[1].labels.host", "GRASS's own"),
    ("hosts:\n  - name: a\n    url: shm:///a\n    labels: [b]", 4, "hosts[1].labels", "NAME: VALUE"),
  ]) func eachMistakeIsToldByLineAndKeyAndRemedy(_ text: String, _ line: Int, _ key: String, _ remedy: String) {
    let (read, problems) = ConfigurationReader.read(text, file: "fleet.yaml")
    #expect(read == nil)
    let found = problems.contains { $0.line == line && $0.key == key && $0.remedy.contains(remedy) }
    #expect(found, "\(problems)")
    #expect(problems.allSatisfy { !$0.description.contains("\n") && $0.description.hasPrefix("fleet.yaml") })
  }

  @Test func severalMistakesAreToldAtOnceInTheOrderOfLines() {
    let (_, problems) = ConfigurationReader.read(
      "period: x\nretention: y\nhosts:\n  - name: a\n  - url: shm:///b\n", file: "f")
    #expect(problems.map(\.line) == [1, 2, 4, 5])
  }

  @Test func theDatabaseLiesBesideTheConfiguration() {
    let (read, _) = ConfigurationReader.read("hosts: []", file: "/etc/fleet/fleet.yaml")
    #expect(read?.database == "/etc/fleet/fleet.db")
  }

  @Test func aFileThatIsNotThereIsTold() {
    let (read, problems) = ConfigurationReader.read(contentsOf: "/nowhere/fleet.yaml")
    #expect(
      read == nil && problems.count == 1 && problems[0].description.hasPrefix("/nowhere/fleet.yaml: cannot be read"))
  }

  @Test func eachHostFallsToOneShard() throws {
    let names = (0..<300).map { "host\($0)" }
    let text = "hosts:\n" + names.map { "  - {name: \($0), url: \"shm:///\($0)\"}" }.joined(separator: "\n")
    var all: [String] = []
    for shard in 1...3 {
      let part = try #require(ConfigurationReader.read("shard: \(shard)/3\n\(text)", file: "f").configuration)
      #expect((60...140).contains(part.hosts.count), "\(part.hosts.count)")
      all += part.hosts.map(\.name)
    }
    #expect(all.sorted() == names.sorted())
  }

  @Test func aPasswordIsKnownByItsHashOnly() throws {
    let hash = try #require(PasswordHash(hashing: "correct horse"))
    let read = try #require(PasswordHash("\(hash)"))
    #expect(read == hash && read.matches("correct horse") && !read.matches("correct horsf") && !read.matches(""))
    #expect(!"\(hash)".contains("correct"))
    for wrong in [
      "", "scrypt$", "secret", "scrypt$15$8$1$AAAAAAAAAAA=$AAAA",
      "scrypt$1073741824$8$1$AAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    ] {
      #expect(PasswordHash(wrong) == nil, "\(wrong)")
    }
  }
}
