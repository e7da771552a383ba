import ArgumentParser
import Hosts
import Keys
import Output

extension KeyCommand {
  struct Trust: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Says which key is a host's, or who may vouch for hosts; or forgets it.",
      discussion: """
        Writes known_hosts. A host has the key that you give, whole or by its fingerprint, as grassd printed it there; any other is \
        then refused. With --certifier, devices of the hosts are trusted that show a certificate of that key's owner \
        (`grassctl key certify`). --remove forgets the keys of a host, or with --certifier its certifiers; --revoke has a key \
        refused whatever else is known.

        grassctl key trust tcp://10.0.0.7:7117 grass-x25519 BASE64
        grassctl key trust tcp://10.0.0.7:7117 --fingerprint SHA256:…
        grassctl key trust --certifier '10.0.0.*:*' grass-ed25519 BASE64
        grassctl key trust --remove tcp://10.0.0.7:7117
        """)

    @Argument(
      help: ArgumentHelp(
        """
        The host's address, or its name in config (grass://NAME). With --certifier and --revoke a pattern: HOST:PORT, where * \
        stands for any characters and ? for one.
        """, valueName: "address"))
    var address: String

    @Argument(help: ArgumentHelp(stringLiteral: KeyCommand.keyHelp))
    var key: [String] = []

    @Option(help: ArgumentHelp("The key's fingerprint, in place of the key.", valueName: "SHA256:…"))
    var fingerprint: String?

    @Flag(help: "The key is a certifier's.")
    var certifier = false

    @Flag(help: "Refuse this key of the hosts from now on.")
    var revoke = false

    @Flag(help: "Forget the keys of the host.")
    var remove = false

    @OptionGroup var output: OutputOptions

    func validate() throws {
      if remove, revoke { throw ValidationError("Give --remove or --revoke, not both.") }
      if remove, !key.isEmpty || fingerprint != nil {
        throw ValidationError("--remove takes no key: it forgets all of the host's.")
      }
      if fingerprint != nil, certifier || revoke {
        throw ValidationError("--fingerprint is for a host's key; with --certifier and --revoke give the key itself.")
      }
      if !remove, key.isEmpty == (fingerprint == nil) {
        throw ValidationError("Give the key, or --fingerprint SHA256:…: which is it that is trusted?")
      }
    }

    func run() throws {
      let (done, hosts, print) = try reporting { try change() }
      if output.json {
        return writeOutput(
          JSON.lines([
            .object([
              ("hosts", .string(hosts)), ("action", .string(done)), ("fingerprint", print.map { .string($0) } ?? .null),
            ])
          ]))
      }
      writeOutput("\(hosts): \(done)\(print.map { " \($0)" } ?? "")\n")
    }

    /// What was done, of which hosts, with the key of which fingerprint.
    private func change() throws -> (done: String, hosts: String, fingerprint: String?) {
      let folder = try UserFolder.standard()
      let path = folder.knownHosts
      _ = try KeyCommand.knownHosts(folder)
      if remove {
        // A pattern is forgotten as it stands there.
        let hosts = address.contains("://") ? try HostOptions.destination(address).name.text : address
        let count = try KnownHosts.remove(hosts, certifiers: certifier, from: path)
        return (count == 1 ? "forgotten, 1 line" : "forgotten, \(count) lines", hosts, nil)
      }
      if certifier || revoke {
        let document = try KeyDocument(words: key)
        let subject: KnownHosts.Entry.Subject
        let fingerprint: String
        if certifier {
          let key = try document.certifierKey()
          (subject, fingerprint) = (revoke ? .revokedCertifier(key) : .certifier(key), key.fingerprint)
        } else {
          let key = try document.deviceKey()
          (subject, fingerprint) = (.revoked(key), key.fingerprint)
        }
        let isNew = try KnownHosts.add(subject, of: address, to: path)
        let what = revoke ? "refused from now on" : "trusted to certify"
        return (isNew ? what : what + " already", address, fingerprint)
      }
      let host = try HostOptions.destination(address).name
      let trusted = try fingerprint.map { try HostKey(parsing: $0) } ?? .key(KeyDocument(words: key).deviceKey())
      let isNew = try KnownHosts.trust(trusted, of: host, in: path)
      return (isNew ? "trusted" : "trusted already", host.text, trusted.fingerprint)
    }
  }
}
