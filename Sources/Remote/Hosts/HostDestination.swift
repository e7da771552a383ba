public import Keys

/// What an address or a name in the configuration leads to, and how one asks there.
public struct HostDestination: Hashable, Sendable {
  /// The address of a link.
  public let address: String
  /// What the host is known by.
  public let name: HostName
  /// The path of the identity to ask it with, where the configuration says so.
  public let identity: String?
  /// The one key that its device has, where the configuration says so.
  public let key: HostKey?
  /// The configuration, and the line of its host there; 0 where it has none.
  let file: String
  let line: Int

  /// The keys that its device may have, as far as they are known whole: with one of them a handshake need not ask for it.
  public func keys(_ known: KnownHosts) -> [PublicKey] {
    switch key {
    case .key(let key): [key]
    case .fingerprint(let fingerprint): known.keys(of: name).filter { $0.fingerprint == fingerprint }
    case nil: known.keys(of: name)
    }
  }

  /// Whether its device has to prove a key: one is known in whatever way, or who vouches for it is.
  ///
  /// What proves none there may be somebody else. Also where all that is known is a fingerprint, or has been revoked since, which
  /// ``keys(_:)`` leaves out.
  public func mustProveKey(_ known: KnownHosts) -> Bool { key != nil || known.knowsKey(of: name) }

  /// Whether the key that its device has proven to have may be trusted.
  ///
  /// What was revoked is not; else the configuration's key decides where there is one, and `known_hosts` where not.
  ///
  /// - Parameters:
  ///   - shown: the device's key.
  ///   - known: what is known of hosts.
  ///   - certificate: what the device showed, if it did; it may be anybody's.
  ///   - time: now, in seconds since 1970.
  /// - Returns: false where nothing is known, so that somebody can be asked.
  /// - Throws: ``HostsError`` for a key that is not to be trusted, which says why and what to do.
  public func trusts(
    _ shown: PublicKey, _ known: KnownHosts, certificate: Certificate? = nil, at time: UInt64 = UTCTime.now
  ) throws(HostsError) -> Bool {
    let verdict = known.judge(shown, of: name, certificate: certificate, at: time)
    if let key {
      if case .revoked = verdict {
      } else if key.isKey(shown) {
        return true
      } else {
        throw HostsError(
          "\(name)", .notTheOne(shown: shown, fingerprint: key.fingerprint, file: file, line: line))
      }
    }
    if verdict.isTrusted { return true }
    if verdict == .unknown { return false }
    throw HostsError("\(name)", .refused(shown: shown, verdict, file: known.path))
  }
}
