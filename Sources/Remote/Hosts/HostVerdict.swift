public import Keys

/// What `known_hosts` says of a key that a host's device shows.
public enum HostVerdict: Hashable, Sendable {
  /// It is the host's: the line that says so.
  case known(line: Int)
  /// A certifier that is trusted for this host vouches for it, until a time in seconds since 1970.
  case certified(by: CertifierKey, line: Int, until: UInt64)
  /// Nothing is known of this host: somebody has to look at the fingerprint.
  case unknown
  /// A certifier is trusted for this host, in that line, and the device shows no proof of its; why not.
  case uncertified(line: Int, why: String)
  /// Other keys are the host's: their fingerprints, and the lines that say so.
  case changed(known: [KnownKey])
  /// The key, or who vouches for it, is not trusted any more: the line that says so.
  case revoked(line: Int)

  /// A key that is known for a host.
  public struct KnownKey: Hashable, Sendable {
    public var fingerprint: String
    public var line: Int

    public init(fingerprint: String, line: Int) { (self.fingerprint, self.line) = (fingerprint, line) }
  }

  /// Whether a session with the device may be used.
  public var isTrusted: Bool {
    switch self {
    case .known, .certified: true
    case .unknown, .uncertified, .changed, .revoked: false
    }
  }

  /// Why the key is not trusted, for a person, with what to do.
  func refusal(of key: PublicKey, host: String, file: String) -> String {
    switch self {
    case .known(let line): return "\(host): its key is known (\(file):\(line))"
    case .certified(let certifier, let line, _):
      return "\(host): its key is certified by \(certifier.fingerprint) (\(file):\(line))"
    case .unknown:
      return """
        \(host): its key is not known. The device shows
          \(key.fingerprint)
        Compare that with what `grassd` printed there, or ask who runs it. If it is right:
          grassctl key trust \(host) --fingerprint \(key.fingerprint)
        """
    case .uncertified(let line, let why):
      return """
        \(host): its device's key has to be certified (\(file):\(line)), and is not: \(why). The device shows
          \(key.fingerprint)
        Whoever has the certifier's key can vouch for it:
          grassctl key certify --name \(host) \(key)
        To trust this one key without that:
          grassctl key trust \(host) --fingerprint \(key.fingerprint)
        """
    case .changed(let known):
      let lines = known.map { "  known:  \($0.fingerprint) (\(file):\($0.line))" }.joined(separator: "\n")
      return """
        \(host): its key is refused.
        @@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
        @      WARNING: THE KEY OF THIS HOST HAS CHANGED          @
        @@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
        Either somebody stands between you and the device, or another device answers there, or its key was made anew.
        Nothing was asked of it.
          shown:  \(key.fingerprint)
        \(lines)
        Ask who runs it, by another way than this network. If the new key is right:
          grassctl key trust --remove \(host)
          grassctl key trust \(host) --fingerprint \(key.fingerprint)
        """
    case .revoked(let line):
      return """
        \(host): its key is REVOKED (\(file):\(line)): whoever answers there may be anybody. The device shows
          \(key.fingerprint)
        Nothing was asked of it. Have a new key made there; if the line is wrong, remove it by hand.
        """
    }
  }
}
