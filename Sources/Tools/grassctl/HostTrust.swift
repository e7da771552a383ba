import Glibc
import Hosts
import Keys
import Links
import Remote

extension HostTrust {
  /// Reads what the user knows of hosts.
  ///
  /// - Throws: `HostsError`.
  init(_ destination: HostDestination, _ address: LinkAddress) throws {
    let folder = try UserFolder.standard()
    self.init(destination, address, in: folder, known: try KeyCommand.knownHosts(folder))
  }

  /// Asks the user, as ssh does, whether the host is to be known by the key that it has just proven, where it has one that nobody knows and there is a terminal.
  ///
  /// Whoever waits for an answer keeps no connection: the host would end it.
  ///
  /// - Returns: whether it is known now.
  /// - Throws: `HostsError` where that cannot be written down.
  func asks() throws -> Bool {
    guard let key = unknownKey, isatty(STDIN_FILENO) == 1, isatty(STDERR_FILENO) == 1 else { return false }
    writeNote("The host at \(destination.address) is not known yet. Its key is \(key.fingerprint).")
    write("Is that what grassd printed there, and is the host to be known by it (yes/no)? ")
    while let answer = readLine() {
      if answer == key.fingerprint || answer.lowercased() == "yes" {
        try KnownHosts.trust(.key(key), of: destination.name, in: folder.knownHosts)
        return true
      }
      if answer.lowercased() == "no" { return false }
      write("Please type yes, no or the fingerprint. ")
    }
    return false
  }

  private func write(_ text: String) {
    let bytes = Array(text.utf8)
    _ = Glibc.write(STDERR_FILENO, bytes, bytes.count)
  }
}
