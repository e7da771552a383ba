import ArgumentParser
import Hosts
import Keys
import Output
import Remote
import Views

extension KeyCommand {
  struct List: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Lists whom a host lets in, and to what.",
      discussion: "Needs a key with the right admin there. Exits with 1 where the list is empty.")

    @Option(help: HostOptions.urlHelp) var host: String
    @Option(help: "Seconds to wait for an answer of the host before giving up.") var timeout: Double = 5
    @OptionGroup var output: OutputOptions

    func run() throws {
      let session = try HostOptions.connect(host, timeout: timeout)
      let keys = try reporting { try session.keys() }
      if output.json {
        writeOutput(
          JSON.lines(
            keys.map { key in
              .object([
                ("key", .string("\(key.key)")), ("fingerprint", .string(key.key.fingerprint)),
                ("rights", .string("\(key.rights)")),
                ("expires", key.expiry.map { .string(UTCTime.text($0)) } ?? .null),
                ("comment", .string(key.comment)),
              ])
            }))
      } else {
        var table = Table([("FINGERPRINT", .left), ("RIGHTS", .left), ("EXPIRES", .left), ("COMMENT", .left)])
        for key in keys {
          table.add([key.key.fingerprint, "\(key.rights)", key.expiry.map { UTCTime.text($0) } ?? "never", key.comment])
        }
        writeOutput(table.text())
      }
      if keys.isEmpty { throw ExitStatus.partial }
    }
  }

  struct Add: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Has a running host let a key in, or gives it other rights.",
      discussion: """
        Needs a key with the right admin there. The line is as in authorized_keys: rights, and until when, before the key. It \
        holds until grassd ends; have it put into the file, too, where it is to hold longer. The change is a finding.

        grassctl key add --host grass://db1 watch,run grass-x25519 BASE64 bob@desk
        grassctl key add --host grass://db1 read,expires=2027-01-31 grass-x25519 BASE64
        """)

    @Option(help: HostOptions.urlHelp) var host: String
    @Option(help: "Seconds to wait for an answer of the host before giving up.") var timeout: Double = 5
    @Argument(help: "The line: [RIGHTS] grass-x25519 BASE64 [COMMENT].") var line: [String]

    func run() throws {
      let key = try reporting {
        // As a file's line has it, with or without its end.
        try AuthorizedKey(parsing: line.flatMap { $0.split(whereSeparator: \.isNewline) }.joined(separator: " "))
      }
      let session = try HostOptions.connect(host, timeout: timeout)
      try reporting { try session.add(key) }
    }
  }

  struct Remove: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Has a running host let a key in no more, and end its sessions.",
      discussion: """
        Needs another key, with the right admin there. Take the line out of authorized_keys, too, or the key is let in again \
        when grassd is started anew. The change is a finding.
        """)

    @Option(help: HostOptions.urlHelp) var host: String
    @Option(help: "Seconds to wait for an answer of the host before giving up.") var timeout: Double = 5
    @Argument(help: ArgumentHelp(stringLiteral: KeyCommand.keyHelp)) var key: [String]

    func run() throws {
      let removed = try reporting { try KeyDocument(words: key).deviceKey() }
      let session = try HostOptions.connect(host, timeout: timeout)
      try reporting { try session.remove(removed) }
    }
  }
}
