import ArgumentParser
import Hosts
import Keys
import Output

extension KeyCommand {
  struct New: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Makes a new key for you, or for a certifier.",
      discussion: """
        The private key goes into a file that only you may read, the public one beside it, into the file of the same name and .pub. \
        Nothing is overwritten.
        """)

    @Flag(
      help: "Make a certifier's key, which vouches for devices: best on a machine that is neither watched nor watches.")
    var certifier = false

    @Option(
      help: ArgumentHelp(
        "Where the private key goes. (default: id in your folder of keys, or certifier)", valueName: "file"))
    var file: String?

    @Option(help: "What stands behind the public key, for who reads it. (default: user@host)")
    var comment: String?

    @OptionGroup var output: OutputOptions

    func validate() throws {
      if let comment, comment.utf8.count > AuthorizedKey.longestComment || comment.contains(where: \.isNewline) {
        throw ValidationError("--comment takes a line of \(AuthorizedKey.longestComment) bytes at most.")
      }
    }

    func run() throws {
      let comment = comment ?? UserFolder.maker
      let made = try reporting { () -> (path: String, key: String, fingerprint: String) in
        let path = try file ?? (certifier ? UserFolder.standard().certifier : UserFolder.standard().identity)
        if certifier {
          let key = try UserFolder.makeCertifier(at: path, comment: comment)
          return (path, "\(key)", key.fingerprint)
        }
        let key = try UserFolder.makeIdentity(at: path, comment: comment)
        return (path, "\(key)", key.fingerprint)
      }
      if output.json {
        return writeOutput(
          JSON.lines([
            .object([
              ("kind", .string(certifier ? "certifier" : "identity")), ("file", .string(made.path)),
              ("public_file", .string(made.path + ".pub")), ("key", .string(made.key)),
              ("fingerprint", .string(made.fingerprint)), ("comment", .string(comment)),
            ])
          ]))
      }
      writeOutput(
        """
        Private key: \(made.path) (give it to nobody)
        Public key:  \(made.path).pub
        Fingerprint: \(made.fingerprint)

        \(certifier ? forCertifier(made.key) : forIdentity(made.key, comment))

        """)
    }

    private func forIdentity(_ key: String, _ comment: String) -> String {
      """
      To be let in by a host, have this line put into its authorized_keys, with the rights that you need (\
      \(Rights.names.map(\.name).joined(separator: ", "))):
      watch,run,read \(key) \(comment)
      """
    }

    private func forCertifier(_ key: String) -> String {
      """
      Whoever is to trust the devices that it vouches for runs, with the hosts that these are on:
      grassctl key trust --certifier '*' \(key)
      """
    }
  }
}
