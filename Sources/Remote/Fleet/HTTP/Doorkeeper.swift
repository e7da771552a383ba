import Crypto
import FoundationEssentials
import Host

/// Knows who is who: users and their passwords, sessions, and what a trusted proxy says.
final class Doorkeeper: Sendable {
  private struct Session {
    let user: String
    let isAdmin: Bool
    let token: String
    let until: Double
  }

  private struct State {
    /// By the digest of what the cookie has.
    var sessions: [String: Session] = [:]
    /// By address: how often somebody failed, and since when, in seconds since 1970.
    var failures: [String: (count: Int, since: Double)] = [:]
    /// Digests of name and password that were right, and until when that holds: hashing takes long on purpose.
    var proven: [String: Double] = [:]
    /// How many passwords were hashed.
    var hashes = 0
  }

  private let configuration: Locked<FleetConfiguration>
  private let state = Locked(State())
  /// Made anew each time that the service begins.
  private let secret = SymmetricKey(size: .bits256)
  private let hashing: WorkPool
  private let provenTime: Double

  static let cookie = "grass_fleet"
  /// How long a session lasts, in seconds.
  static let sessionTime = 12 * 3600.0
  private static let mostSessions = 10_000
  private static let mostFailures = 10
  private static let failureTime = 300.0

  /// Begins with nobody logged in; a password that was right is not hashed again for `provenTime` seconds.
  ///
  /// - Throws: `SystemCallError` where there can be no threads.
  init(_ configuration: FleetConfiguration, provenTime: Double = 60) throws(SystemCallError) {
    self.configuration = Locked(configuration)
    self.provenTime = provenTime
    hashing = try WorkPool(name: "hash", threads: 2)
  }

  /// Goes by another configuration; sessions of users that are no more are over.
  func reload(_ new: FleetConfiguration) {
    configuration.withLock { $0 = new }
    let roles = Dictionary(new.users.map { ($0.name, $0.isAdmin) }) { first, _ in first }
    state.withLock { state in
      state.proven = [:]
      state.sessions = state.sessions.filter { roles[$0.value.user] == $0.value.isAdmin }
    }
  }

  func finish() { hashing.finish() }

  /// How many passwords were hashed so far.
  var hashes: Int { state.withLock { $0.hashes } }

  /// Whether everybody who gets here may do everything.
  var isOpen: Bool { configuration.withLock { $0.isOpen } }
  /// Whether there are passwords to log in with.
  var hasUsers: Bool { configuration.withLock { !$0.users.isEmpty } }

  // MARK: Who asks

  /// Who asks, by what comes with a request; nil where nobody knows.
  ///
  /// - Parameters:
  ///   - address: where it comes from.
  ///   - cookie: what the cookie of a session has.
  ///   - authorization: the header of this name.
  ///   - header: gives the header of a name.
  /// - Returns: them, and what they may do.
  func viewer(
    from address: String, cookie: String?, authorization: String?, header: (String) -> String?
  ) async -> Viewer? {
    let configuration = configuration.withLock { $0 }
    if configuration.isOpen {
      return Viewer(name: "local", isAdmin: true, token: token(of: "local"), hasSession: false)
    }
    if let proxy = configuration.proxy, proxy.from.contains(address), let name = header(proxy.header), !name.isEmpty,
      name.utf8.count <= 200
    {
      return Viewer(name: name, isAdmin: proxy.admins.contains(name), token: token(of: name), hasSession: false)
    }
    if let cookie, let session = state.withLock({ $0.sessions[Self.digest(cookie)] }), session.until > Moments.utc {
      return Viewer(name: session.user, isAdmin: session.isAdmin, token: session.token, hasSession: true)
    }
    if let authorization, let (name, password) = Self.basic(authorization),
      let user = await check(name, password, from: address)
    {
      return Viewer(name: user.name, isAdmin: user.isAdmin, token: token(of: user.name), hasSession: false)
    }
    return nil
  }

  private func token(of name: String) -> String {
    FleetJSON.hexadecimal(Array(HMAC<SHA256>.authenticationCode(for: Array(name.utf8), using: secret)))
  }

  private static func digest(_ text: String) -> String {
    FleetJSON.hexadecimal(Array(SHA256.hash(data: Array(text.utf8))))
  }

  private static func basic(_ authorization: String) -> (name: String, password: String)? {
    guard authorization.lowercased().hasPrefix("basic "),
      let data = Data(base64Encoded: String(authorization.dropFirst(6))),
      let text = String(validating: data, as: UTF8.self), let colon = text.firstIndex(of: ":")
    else { return nil }
    return (String(text[..<colon]), String(text[text.index(after: colon)...]))
  }

  // MARK: Passwords

  /// Whether an address has failed too often of late.
  func isShutOut(_ address: String) -> Bool {
    let now = Moments.utc
    return state.withLock { state in
      guard let failures = state.failures[address] else { return false }
      return failures.count >= Self.mostFailures && now - failures.since < Self.failureTime
    }
  }

  /// The user whose password this is.
  ///
  /// Takes as long for a name that there is not. Cost: a tenth of a second of a thread of its own, where it is not known yet.
  private func check(_ name: String, _ password: String, from address: String) async -> FleetConfiguration.User? {
    guard !isShutOut(address), password.utf8.count <= 1024 else { return nil }
    let users = configuration.withLock { $0.users }
    let user = users.first { $0.name == name }
    let now = Moments.utc
    let key = FleetJSON.hexadecimal(
      Array(HMAC<SHA256>.authenticationCode(for: Array("\(name.utf8.count):\(name)\(password)".utf8), using: secret)))
    if let user, state.withLock({ ($0.proven[key] ?? 0) > now }) { return user }
    guard let hash = (user ?? users.first)?.password else { return nil }
    state.withLock { $0.hashes += 1 }
    let matches = await withCheckedContinuation { continuation in
      hashing.add { continuation.resume(returning: hash.matches(password)) }
    }
    return state.withLock { state in
      if let user, matches {
        if state.proven.count > 1000 { state.proven = [:] }
        state.proven[key] = now + provenTime
        state.failures[address] = nil
        return user
      }
      if state.failures.count > 10_000 { state.failures = [:] }
      let old = state.failures[address]
      state.failures[address] =
        old.map { now - $0.since < Self.failureTime ? ($0.count + 1, $0.since) : (1, now) } ?? (1, now)
      return nil
    }
  }

  /// Begins a session of a user.
  ///
  /// - Returns: what the cookie is to have; nil where name and password do not go together.
  func logIn(_ name: String, _ password: String, from address: String) async -> String? {
    guard let user = await check(name, password, from: address) else { return nil }
    let cookie = SecretWords.make()
    let now = Moments.utc
    state.withLock { state in
      if state.sessions.count >= Self.mostSessions {
        state.sessions = state.sessions.filter { $0.value.until > now }
        if state.sessions.count >= Self.mostSessions { state.sessions = [:] }
      }
      state.sessions[Self.digest(cookie)] = Session(
        user: user.name, isAdmin: user.isAdmin, token: SecretWords.make(), until: now + Self.sessionTime)
    }
    return cookie
  }

  /// Ends the session of a cookie.
  func logOut(_ cookie: String) { state.withLock { $0.sessions[Self.digest(cookie)] = nil } }
}
