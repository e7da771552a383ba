import Glibc
import Host
import Hosts
import Keys
import Links
import Remote

/// How a user's commands prove themselves to a host, and judge the key that its device proves.
struct HostTrust {
  private let destination: HostDestination
  private let folder: UserFolder
  private let known: KnownHosts
  private let address: LinkAddress
  /// The key that the host has proven and nobody knows.
  private let unknown = Locked<PublicKey?>(nil)

  /// Reads what the user knows of hosts.
  ///
  /// - Throws: `HostsError`.
  init(_ destination: HostDestination, _ address: LinkAddress) throws {
    self.destination = destination
    self.address = address
    folder = try UserFolder.standard()
    known = try KeyCommand.knownHosts(folder)
  }

  /// What a session with the host needs.
  ///
  /// - Throws: `KeyError` where the user's own key cannot be used.
  func keys() throws -> SessionKeys {
    let path = destination.identity ?? folder.identity
    let isThere = destination.identity != nil || access(path, F_OK) == 0
    let identity = isThere ? try Identity(contentsOf: path) : nil
    let trust = self
    return SessionKeys(
      identity: identity, known: destination.keys(known).first, refusesKeyless: reasonAgainstKeyless
    ) { key, certificate throws(KeyRefusal) in try trust.judge(key, certificate) }
  }

  /// Why a region without keys is not to be used, nil where it may.
  private var reasonAgainstKeyless: String? {
    if destination.mustProveKey(known) {
      return
        "though a key of it, or who vouches for it, is known (\(known.path), or your config): somebody between may answer in its place"
    }
    guard let host = address.kind.host, address.kind is TCPAddress, !TCPAddress.isOfThisMachine(host) else {
      return nil
    }
    return "and the way there can be listened to; have grassd started with --keys"
  }

  private func judge(_ key: PublicKey, _ bytes: [UInt8]) throws(KeyRefusal) {
    // One that is none is as good as no certificate.
    let certificate = bytes.isEmpty ? nil : try? Certificate(bytes: bytes)
    do throws(HostsError) {
      if try destination.trusts(key, known, certificate: certificate) { return }
    } catch {
      throw KeyRefusal(error.description)
    }
    unknown.withLock { $0 = key }
    throw KeyRefusal(
      "its key is not known yet: \(key.fingerprint); where that is what grassd printed there, say so by "
        + "`grassctl key trust \(destination.address) --fingerprint \(key.fingerprint)`")
  }

  /// Asks the user, as ssh does, whether the host is to be known by the key that it has just proven, where it has one that nobody knows and there is a terminal.
  ///
  /// Whoever waits for an answer keeps no connection: the host would end it.
  ///
  /// - Returns: whether it is known now.
  /// - Throws: `HostsError` where that cannot be written down.
  func asks() throws -> Bool {
    guard let key = unknown.withLock({ $0 }), isatty(STDIN_FILENO) == 1, isatty(STDERR_FILENO) == 1 else {
      return false
    }
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
