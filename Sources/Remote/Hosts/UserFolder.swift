import Glibc
public import Keys

/// Where a user's keys and what they know of hosts lie: `~/.config/grass`.
///
/// ```
/// id           the user's identity: a private key
/// id.pub       its public key, to be given away
/// certifier    a certifier's private key, where the user is one; and certifier.pub
/// known_hosts  which keys are whose
/// config       names of hosts
/// ```
public struct UserFolder: Hashable, Sendable {
  /// Its path.
  public let path: String

  public init(path: String) { self.path = path }

  /// The folder `$GRASS_CONFIG`, else `grass` in `$XDG_CONFIG_HOME` or in `~/.config`.
  ///
  /// - Throws: ``HostsError/Reason/noFolder`` without a home.
  public static func standard() throws(HostsError) -> UserFolder {
    try standard { name in getenv(name).map { String(cString: $0) } }
  }

  /// The same, of these variables.
  package static func standard(_ variable: (String) -> String?) throws(HostsError) -> UserFolder {
    func value(_ name: String) -> String? { variable(name).flatMap { $0.isEmpty ? nil : $0 } }
    if let path = value("GRASS_CONFIG") { return UserFolder(path: path) }
    // Relative ones do not count, as the specification of these folders has it.
    if let path = value("XDG_CONFIG_HOME"), path.hasPrefix("/") { return UserFolder(path: path + "/grass") }
    if let path = value("HOME") { return UserFolder(path: path + "/.config/grass") }
    throw HostsError("your keys", .noFolder)
  }

  /// The user's identity.
  public var identity: String { path + "/id" }
  /// A certifier's identity.
  public var certifier: String { path + "/certifier" }
  /// Which keys are whose.
  public var knownHosts: String { path + "/known_hosts" }
  /// Names of hosts.
  public var configuration: String { path + "/config" }

  /// Who makes a key, and where, as a comment behind it: `user@host`.
  public static var maker: String {
    let user = getpwuid(geteuid()).flatMap { $0.pointee.pw_name }.map { String(cString: $0) } ?? "\(geteuid())"
    var name = [CChar](repeating: 0, count: 65)
    let host =
      gethostname(&name, 64) == 0
      ? String(decoding: name.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self) : ""
    let plain = "\(user)@\(host)".unicodeScalars.filter { $0.value > 0x20 && $0.value < 0x7f }.prefix(
      AuthorizedKey.longestComment)
    return String(String.UnicodeScalarView(plain))
  }

  /// Makes a new identity and writes it, with its public key beside it in a file of the same name and `.pub`.
  ///
  /// - Parameters:
  ///   - path: where; its folder is made where it is not there.
  ///   - comment: what stands behind the public key.
  /// - Returns: the public key.
  /// - Throws: ``HostsError/Reason/file(_:)`` where either file is there already, or cannot be written.
  public static func makeIdentity(at path: String, comment: String) throws(HostsError) -> PublicKey {
    let identity = Identity.generate()
    try write(at: path, public: "\(identity.publicKey) \(comment)") { () throws(KeyError) in
      try identity.write(to: path)
    }
    return identity.publicKey
  }

  /// The same for a certifier.
  public static func makeCertifier(at path: String, comment: String) throws(HostsError) -> CertifierKey {
    let identity = CertifierIdentity.generate()
    try write(at: path, public: "\(identity.publicKey) \(comment)") { () throws(KeyError) in
      try identity.write(to: path)
    }
    return identity.publicKey
  }

  private static func write(
    at path: String, public line: String, _ writePrivate: () throws(KeyError) -> Void
  ) throws(HostsError) {
    try reading(path) { () throws(KeyError) in
      // Neither half of another pair is lost, nor a private key left without its public one.
      for one in [path, path + ".pub"] where KeyFile.exists(one) { throw KeyError(one, .exists) }
      try KeyFile.makeFolder(KeyFile.folder(of: path))
      try writePrivate()
      try KeyFile.write("\(line)\n".utf8, to: path + ".pub", mode: 0o644, replacing: false)
    }
  }
}
