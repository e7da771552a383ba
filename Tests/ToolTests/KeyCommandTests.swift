import Foundation
import Scratch
import Testing

/// `grassctl key`, run as a person runs it.
struct KeyCommandTests {
  /// What a run of grassctl gave.
  struct Run {
    let status: Int32
    let output: String
    let errors: String

    /// The rows of its JSON.
    var rows: [[String: Any]] {
      (try? JSONSerialization.jsonObject(with: Data(output.utf8))) as? [[String: Any]] ?? []
    }
  }

  private static func grassctl(_ folder: String, _ arguments: [String]) throws -> Run {
    let process = Process()
    process.executableURL = try #require(BuiltTools.directory).appending(path: "grassctl")
    process.arguments = arguments
    process.environment = ["GRASS_CONFIG": folder, "PATH": "/usr/bin:/bin", "HOME": folder]
    process.standardInput = FileHandle.nullDevice
    let (output, errors) = (Pipe(), Pipe())
    process.standardOutput = output
    process.standardError = errors
    try process.run()
    let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    let complaints = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    return Run(status: process.terminationStatus, output: text, errors: complaints)
  }

  @Test("a person makes a key, shows it, and cannot lose it by making another")
  func identity() throws {
    let scratch = try Scratch()
    let folder = scratch.file("grass")
    let made = try Self.grassctl(folder, ["key", "new", "--comment", "me@desk"])
    #expect(made.status == 0 && made.errors.isEmpty)
    let line = try #require(made.output.firstMatch(of: /\nwatch,run,read (grass-x25519 [^ ]{44}) me@desk\n/))
    let fingerprint = try #require(made.output.firstMatch(of: /Fingerprint: (SHA256:[^ \n]{43})\n/)?.1)
    #expect(mode(of: folder) == 0o700 && mode(of: "\(folder)/id") == 0o600)
    #expect(try scratch.text("grass/id.pub") == "\(line.1) me@desk\n")
    let secret = try scratch.text("grass/id")
    #expect(!made.output.contains(try #require(secret.split(separator: " ").last)))

    let again = try Self.grassctl(folder, ["key", "new"])
    #expect(again.status == 3 && again.errors.contains("\(folder)/id: is there already, and is not overwritten"))
    #expect(try scratch.text("grass/id") == secret)

    for what in [
      [], ["\(folder)/id"], ["\(folder)/id.pub"], [String(line.1)], line.1.split(separator: " ").map(String.init),
    ] {
      let shown = try Self.grassctl(folder, ["key", "show", "--json"] + what)
      #expect(shown.status == 0, "\(what): \(shown.errors)")
      #expect(shown.rows.first?["fingerprint"] as? String == String(fingerprint))
      #expect(shown.rows.first?["key"] as? String == String(line.1))
    }
    #expect(try Self.grassctl(folder, ["key", "show"]).output.contains(fingerprint))

    try #require(chmod("\(folder)/id", 0o644) == 0)
    let open = try Self.grassctl(folder, ["key", "show"])
    #expect(open.status == 3 && open.errors.contains("run `chmod 600 \(folder)/id`"))
    let missing = try Self.grassctl(scratch.file("none"), ["key", "show"])
    #expect(missing.status == 3 && missing.errors.contains("no such file; `grassctl key new` makes one"))
  }

  @Test("a host's key is trusted whole or by its fingerprint, another one only after the first was forgotten")
  func trust() throws {
    let scratch = try Scratch()
    let folder = scratch.file("grass")
    func key(_ name: String) throws -> (text: String, fingerprint: String) {
      let row = try #require(
        try Self.grassctl(folder, ["key", "new", "--json", "--file", scratch.file(name)]).rows.first)
      return (try #require(row["key"] as? String), try #require(row["fingerprint"] as? String))
    }
    let (first, second) = (try key("first"), try key("second"))
    func trust(_ arguments: String...) throws -> Run { try Self.grassctl(folder, ["key", "trust"] + arguments) }

    #expect(try trust("tcp://DB1:7117", first.text).output == "db1:7117: trusted \(first.fingerprint)\n")
    #expect(mode(of: "\(folder)/known_hosts") == 0o600)
    #expect(
      try trust("tcp://db1:7117", scratch.file("first.pub")).output
        == "db1:7117: trusted already \(first.fingerprint)\n")
    let other = try trust("tcp://db1:7117", "--fingerprint", second.fingerprint)
    #expect(
      other.status == 3 && other.errors.contains("line 1") && other.errors.contains("key trust --remove db1:7117"))
    #expect(try trust("--remove", "tcp://db1:7117").output == "db1:7117: forgotten, 1 line\n")
    #expect(try trust("--remove", "tcp://db1:7117").status == 3)
    #expect(try trust("db1:7117", "--fingerprint", second.fingerprint).status == 0)
    #expect(try scratch.text("grass/known_hosts") == "db1:7117 \(second.fingerprint)\n")

    // By its name in the configuration.
    try scratch.write("host db2\naddress tcp://10.0.0.2:7117\nnonsense\n", to: "grass/config")
    let named = try trust("grass://db2", first.text)
    #expect(named.output == "10.0.0.2:7117: trusted \(first.fingerprint)\n")
    #expect(named.errors.contains("\(folder)/config:3: does not count"))
    let unknown = try trust("grass://db3", first.text)
    #expect(unknown.status == 3 && unknown.errors.contains("it names db2"))

    #expect(try trust("--revoke", "*", first.text).status == 0)
    #expect(try trust("db3:7117", first.text).errors.contains("REVOKED (\(folder)/known_hosts:3)"))
    let shown = try Self.grassctl(folder, ["key", "show", "--known-hosts", "--json"])
    #expect(shown.rows.map { $0["kind"] as? String } == ["host", "host", "revoked"])
    #expect(shown.rows.map { $0["hosts"] as? String } == ["db1:7117", "10.0.0.2:7117", "*"])
    #expect(shown.rows.map { $0["line"] as? Int } == [1, 2, 3])

    for bad in [
      ["db1:7117"], ["db1:7117", "nonsense"], ["db1:7117", "--fingerprint", "SHA256:x"], ["db1", first.text],
      ["--remove", "db1:7117", first.text], ["--certifier", "*", first.text], ["--remove", "--revoke", "db1:7117"],
    ] {
      let run = try Self.grassctl(folder, ["key", "trust"] + bad)
      #expect([3, 64].contains(run.status) && !run.errors.isEmpty, "\(bad)")
    }
    #expect(try scratch.text("grass/known_hosts").split(separator: "\n").count == 3)
  }

  @Test("a certifier vouches for a device, and the certificate says so")
  func certify() throws {
    let scratch = try Scratch()
    let folder = scratch.file("grass")
    #expect(try Self.grassctl(folder, ["key", "new", "--file", scratch.file("device")]).status == 0)
    let none = try Self.grassctl(folder, ["key", "certify", "--name", "db1", scratch.file("device.pub")])
    #expect(none.status == 3 && none.errors.contains("\(folder)/certifier: there is no such file"))
    let certifier = try #require(try Self.grassctl(folder, ["key", "new", "--certifier", "--json"]).rows.first)
    let key = try #require(certifier["key"] as? String)
    #expect(key.hasPrefix("grass-ed25519 "))
    #expect(mode(of: "\(folder)/certifier") == 0o600)

    let arguments = ["key", "certify", "--name", "db1", "--from", "2026-01-01", "--until", "2027-01-31T12:00Z"]
    let printed = try Self.grassctl(folder, arguments + [scratch.file("device.pub")])
    #expect(printed.status == 0 && printed.errors.contains("vouched for as db1 until 2027-01-31T12:00:00Z"))
    let written = try Self.grassctl(
      folder, arguments + ["-o", scratch.file("certificate"), scratch.file("device.pub")])
    #expect(written.status == 0 && written.output.isEmpty)
    // Ed25519 signs the same alike.
    #expect(try scratch.text("certificate") == printed.output)
    let bytes = try #require(Data(base64Encoded: printed.output.trimmingCharacters(in: .newlines)))
    #expect(bytes.count == 216)
    let shown = try #require(
      try Self.grassctl(folder, ["key", "show", "--json", scratch.file("certificate")]).rows.first)
    #expect(shown["kind"] as? String == "certificate" && shown["name"] as? String == "db1")
    #expect(shown["not_before"] as? Int == 1_767_225_600 && shown["not_after"] as? Int == 1_801_396_800)
    #expect(shown["certifier"] as? String == certifier["fingerprint"] as? String)
    #expect(
      try Self.grassctl(folder, arguments + ["--json", scratch.file("device.pub")]).rows.first?["certificate"]
        as? String == bytes.base64EncodedString())

    #expect(try Self.grassctl(folder, ["key", "trust", "--certifier", "*:7117", key]).status == 0)
    #expect(try scratch.text("grass/known_hosts") == "@cert-authority *:7117 \(key)\n")
    #expect(try Self.grassctl(folder, ["key", "trust", "--certifier", "--remove", "*:7117"]).status == 0)
    #expect(try scratch.text("grass/known_hosts").isEmpty)

    for bad in [
      ["--name", "a b", scratch.file("device.pub")], ["--name", "db1", "--days", "0", scratch.file("device.pub")],
      ["--name", "db1", "--until", "tomorrow", scratch.file("device.pub")], ["--name", "db1", key],
      ["--name", "db1", "--from", "2027-01-01", "--until", "2026-01-01", scratch.file("device.pub")],
      [scratch.file("device.pub")],
    ] {
      let run = try Self.grassctl(folder, ["key", "certify"] + bad)
      #expect([3, 64].contains(run.status) && run.output.isEmpty && !run.errors.isEmpty, "\(bad)")
    }
  }

  @Test("a name that leads nowhere is said where it is asked for, with what to add to which file")
  func names() throws {
    let scratch = try Scratch()
    let missing = try Self.grassctl(scratch.path, ["beacon", "--host", "grass://db1"])
    #expect(
      missing.status == 2 && missing.errors.contains("there is no host of this name in \(scratch.file("config"))"))
    try scratch.write("host db1\naddress shm:///nonexistent/grass\n", to: "config")
    let named = try Self.grassctl(scratch.path, ["beacon", "--host", "grass://db1"])
    #expect(named.status == 2 && named.errors.contains("shm:///nonexistent/grass"))
  }
}
