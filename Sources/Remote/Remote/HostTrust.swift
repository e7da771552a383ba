import Glibc
import Host
public import Hosts
public import Keys
public import Links

/// How a user's sessions prove themselves to a host, and judge the key that its device proves.
public struct HostTrust: Sendable {
  /// What leads to the host.
  public let destination: HostDestination
  /// Where the user's keys lie.
  public let folder: UserFolder
  private let known: KnownHosts
  private let address: LinkAddress
  private let unknown = Locked<PublicKey?>(nil)

  /// - Parameters:
  ///   - destination: what leads to the host.
  ///   - address: the same as an address of a link.
  ///   - folder: where the user's keys lie.
  ///   - known: what the user knows of hosts.
  public init(_ destination: HostDestination, _ address: LinkAddress, in folder: UserFolder, known: KnownHosts) {
    self.destination = destination
    self.address = address
    self.folder = folder
    self.known = known
  }

  /// The key that the host has proven to ``keys()`` and nobody knows.
  public var unknownKey: PublicKey? { unknown.withLock { $0 } }

  /// What a session with the host needs.
  ///
  /// - Throws: `KeyError` where the user's own key cannot be used.
  public func keys() throws(KeyError) -> SessionKeys {
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
}
