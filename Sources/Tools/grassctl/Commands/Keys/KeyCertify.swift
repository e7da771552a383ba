import ArgumentParser
import Hosts
import Keys
import Output
import Remote

extension KeyCommand {
  struct Certify: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Vouches for a device's key with a certifier's: makes a certificate.",
      discussion: """
        Whoever trusts the certifier for this host (`grassctl key trust --certifier`) then trusts the device, also after it has \
        begun anew with another key that was certified. Prints the certificate in base64, or writes it to a file. Compare the \
        device's fingerprint with what grassd printed before you vouch for it.

        grassctl key certify --name db1.example.org grass-x25519 BASE64
        grassctl key certify --name db1 --host grass://db1 grass-x25519 BASE64
        """)

    @Argument(help: ArgumentHelp(stringLiteral: "The device's key: " + KeyCommand.keyHelp))
    var key: [String]

    @Option(
      help:
        "The host's name: as it is addressed, with or without the port, or as config has it; * stands for any characters."
    )
    var name: String

    @Option(help: "For how many days it is valid.")
    var days: Int = 365

    @Option(help: ArgumentHelp("Until when, in place of --days: 2027-01-31, or 2027-01-31T12:00Z.", valueName: "time"))
    var until: String?

    @Option(help: ArgumentHelp("From when on. (default: now)", valueName: "time"))
    var from: String?

    @Option(
      help: ArgumentHelp("The certifier's private key. (default: certifier in your folder of keys)", valueName: "file"))
    var certifier: String?

    @Option(name: .shortAndLong, help: ArgumentHelp("The file to write, - for standard output.", valueName: "file"))
    var output: String = "-"

    @Option(
      help: ArgumentHelp(
        "Hand the certificate to the device of this host, too, which shows it from then on. Needs the right admin there.",
        valueName: "url"))
    var host: String?

    @Option(help: "Seconds to wait for an answer of the host before giving up.") var timeout: Double = 5

    @Flag(help: "Print a JSON array for programs.") var json = false

    func validate() throws {
      if !(1...36500).contains(days) { throw ValidationError("--days takes a number from 1 to 36500.") }
      for (option, text) in [("--until", until), ("--from", from)] {
        if let text, UTCTime.parse(text) == nil {
          throw ValidationError("\(option) takes a time in UTC: 2027-01-31, or 2027-01-31T12:00Z.")
        }
      }
      if json, output != "-" { throw ValidationError("Give --output or --json, not both.") }
    }

    func run() throws {
      // A clock that is a little behind this one takes it, too.
      let begin = from.flatMap { UTCTime.parse($0) } ?? max(UTCTime.now, 300) - 300
      let end = until.flatMap { UTCTime.parse($0) } ?? begin + UInt64(days) * 86400
      let certificate = try reporting {
        let certifier = try CertifierIdentity(contentsOf: certifier ?? UserFolder.standard().certifier)
        return try Certificate(
          of: KeyDocument(words: key).deviceKey(), name: name, notBefore: begin, notAfter: end, by: certifier)
      }
      if let host {
        let session = try HostOptions.connect(host, timeout: timeout, slots: 1)
        try reporting { try session.certify(certificate) }
      }
      if json {
        return writeOutput(
          JSON.lines([
            .object(
              [("key", .string("\(certificate.key)")), ("fingerprint", .string(certificate.key.fingerprint))]
                + KeyCommand.certificateMembers(certificate))
          ]))
      }
      try write(Array("\(certificate.base64)\n".utf8), to: output)
      writeNote(
        "\(certificate.key.fingerprint) is vouched for as \(certificate.name) until \(UTCTime.text(end)), by "
          + certificate.certifier.fingerprint)
    }
  }
}
