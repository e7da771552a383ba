import ArgumentParser
import Hosts
import Keys
import Output
import Views

extension KeyCommand {
  struct Show: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Shows keys with their fingerprints: yours, a file's, or those of known hosts.",
      discussion: "Private keys are shown by their public half.")

    @Argument(
      help: ArgumentHelp(
        "A key's text, or a file with a key or a certificate. (default: your identity)", valueName: "key"))
    var key: [String] = []

    @Flag(help: "Show what known_hosts has.")
    var knownHosts = false

    @OptionGroup var output: OutputOptions

    func validate() throws {
      if knownHosts, !key.isEmpty { throw ValidationError("Give a key or --known-hosts, not both.") }
    }

    private struct Row {
      var kind: String
      var fingerprint: String
      var key: String?
      var subject: String
      var line: Int?
      var more: [(String, JSON)] = []
    }

    func run() throws {
      let rows = try reporting {
        if knownHosts { return try KeyCommand.knownHosts(UserFolder.standard()).entries.map(row) }
        if !key.isEmpty { return [row(try KeyDocument(words: key), key.joined(separator: " "))] }
        let path = try UserFolder.standard().identity
        return [row(.identity(try Identity(contentsOf: path).publicKey), path)]
      }
      if output.json {
        return writeOutput(
          JSON.lines(
            rows.map { row in
              .object(
                [("kind", .string(row.kind)), (knownHosts ? "hosts" : "subject", .string(row.subject))]
                  + (row.line.map { [("line", .integer($0))] } ?? [])
                  + [("key", row.key.map { .string($0) } ?? .null), ("fingerprint", .string(row.fingerprint))]
                  + row.more)
            }))
      }
      var table = Table([("KIND", .left), ("FINGERPRINT", .left), (knownHosts ? "HOSTS" : "OF", .left)])
      for row in rows { table.add([row.kind, row.fingerprint, row.subject], below: row.key.map { [$0] } ?? []) }
      writeOutput(table.text())
    }

    private func row(_ entry: KnownHosts.Entry) -> Row {
      let (kind, fingerprint, key): (String, String, String?) =
        switch entry.subject {
        case .key(let key): ("host", key.fingerprint, "\(key)")
        case .fingerprint(let fingerprint): ("host", fingerprint, nil)
        case .certifier(let key): ("certifier", key.fingerprint, "\(key)")
        case .revoked(let key): ("revoked", key.fingerprint, "\(key)")
        case .revokedCertifier(let key): ("revoked", key.fingerprint, "\(key)")
        }
      return Row(kind: kind, fingerprint: fingerprint, key: key, subject: entry.pattern, line: entry.line)
    }

    private func row(_ document: KeyDocument, _ subject: String) -> Row {
      switch document {
      case .identity(let key): Row(kind: "identity", fingerprint: key.fingerprint, key: "\(key)", subject: subject)
      case .publicKey(let key, let comment):
        Row(
          kind: "public key", fingerprint: key.fingerprint, key: "\(key)", subject: comment.isEmpty ? subject : comment)
      case .certifierIdentity(let key):
        Row(kind: "certifier identity", fingerprint: key.fingerprint, key: "\(key)", subject: subject)
      case .certifier(let key, let comment):
        Row(
          kind: "certifier", fingerprint: key.fingerprint, key: "\(key)", subject: comment.isEmpty ? subject : comment)
      case .certificate(let certificate):
        Row(
          kind: "certificate", fingerprint: certificate.key.fingerprint, key: "\(certificate.key)",
          subject: "\(certificate.name), from \(UTCTime.text(certificate.notBefore)) to "
            + "\(UTCTime.text(certificate.notAfter)), by \(certificate.certifier.fingerprint)",
          more: KeyCommand.certificateMembers(certificate))
      }
    }
  }

  /// What a certificate says beside the key, in JSON.
  static func certificateMembers(_ certificate: Certificate) -> [(String, JSON)] {
    [
      ("name", .string(certificate.name)), ("not_before", .unsigned(certificate.notBefore)),
      ("not_after", .unsigned(certificate.notAfter)), ("certifier", .string(certificate.certifier.fingerprint)),
      ("certificate", .string(certificate.base64)),
    ]
  }
}
