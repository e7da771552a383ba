import Glibc
public import Keys

/// The file `known_hosts`: which keys are whose, and who may vouch for which hosts.
///
/// ```
/// PATTERN grass-x25519 BASE64                   the key of a host's device
/// PATTERN SHA256:…                              the same, by its fingerprint
/// @cert-authority PATTERN grass-ed25519 BASE64  who may vouch for devices of these hosts
/// @revoked PATTERN grass-x25519 BASE64          a key that is not trusted any more; also a certifier's
/// ```
/// A pattern is names with commas between them, as ``HostName`` has them, in which `*` stands for any characters and `?` for
/// one; only a pattern with `://` in it covers addresses without a host and port, but for what was revoked. What follows the key is a comment, and so is a line that begins with `#`. A line that cannot be used is told and does
/// not count; the others do.
public struct KnownHosts: Sendable {
  /// A line.
  public struct Entry: Hashable, Sendable {
    public enum Subject: Hashable, Sendable {
      case key(PublicKey)
      case fingerprint(String)
      case certifier(CertifierKey)
      case revoked(PublicKey)
      case revokedCertifier(CertifierKey)
    }

    /// From 1.
    public let line: Int
    public let subject: Subject
    let hosts: HostPattern

    /// Which hosts it is about, as the line has it.
    public var pattern: String { "\(hosts)" }
  }

  /// The file's path.
  public let path: String
  /// In the order of their lines.
  public private(set) var entries: [Entry] = []
  /// Lines that do not count.
  public private(set) var problems: [LineProblem] = []

  /// Reads a file; one that is not there knows nobody.
  ///
  /// - Throws: ``HostsError/Reason/file(_:)`` where it cannot be read, or others could have changed it.
  public init(contentsOf path: String) throws(HostsError) {
    self.path = path
    guard KeyFile.exists(path) else { return }
    let bytes = try reading(path) { () throws(KeyError) in try Self.bytes(of: KeyFile.target(of: path)) }
    parse(bytes)
  }

  /// Parses the text of such a file; `path` is its name in what is told.
  public init(parsing text: some Collection<UInt8>, path: String) {
    self.path = path
    parse(Array(text))
  }

  private static func bytes(of path: String) throws(KeyError) -> [UInt8] {
    try KeyFile.withContents(of: path, .unchanged, limit: LineFile.limit) { bytes throws(KeyError) in Array(bytes) }
  }

  private mutating func parse(_ bytes: [UInt8]) {
    let lines = bytes.withUnsafeBytes { LineFile.lines(of: $0, file: path, problems: &problems) }
    for (number, text) in lines {
      do {
        entries.append(try Self.entry(text, line: number))
      } catch {
        problems.append(LineProblem(file: path, line: number, why: "does not count: \(error)"))
      }
    }
    problems.sort { $0.line < $1.line }
  }

  private static func entry(_ text: Substring, line: Int) throws -> Entry {
    var words = LineFile.words(text, most: 5)
    let marker = words.first.flatMap { $0.hasPrefix("@") ? $0 : nil }
    if marker != nil { words.removeFirst() }
    guard words.count >= 2 else {
      throw HostsError(quoted(text), .badKey("has no key; write PATTERN grass-x25519 BASE64"))
    }
    let hosts = try HostPattern(parsing: words[0])
    let key = words[1...].prefix(2).joined(separator: " ")
    let subject: Entry.Subject
    switch marker {
    case nil where words[1].hasPrefix(HostKey.fingerprintPrefix):
      subject = .fingerprint(try HostKey.checkedFingerprint(words[1]))
    case nil: subject = .key(try PublicKey(parsing: key))
    case "@cert-authority": subject = .certifier(try CertifierKey(parsing: key))
    case "@revoked":
      subject =
        words[1] == CertifierKey.word
        ? .revokedCertifier(try CertifierKey(parsing: key)) : .revoked(try PublicKey(parsing: key))
    default:
      throw HostsError(
        quoted(marker ?? ""), .badKey("is no marker; there are @cert-authority and @revoked"))
    }
    return Entry(line: line, subject: subject, hosts: hosts)
  }

  // MARK: Asking

  /// The keys that are known to be a host's, without those that were revoked: who has one can be asked by it at once.
  public func keys(of host: HostName) -> [PublicKey] {
    entries(of: host).compactMap { entry in
      guard case .key(let key) = entry.subject, revocation(of: .revoked(key), host) == nil else { return nil }
      return key
    }
  }

  /// Whether a certifier is trusted for this host, so that a device there has to show a certificate.
  public func hasCertifier(of host: HostName) -> Bool {
    entries(of: host).contains { if case .certifier = $0.subject { true } else { false } }
  }

  /// Whether a line says that this host has a key: one, also by its fingerprint or revoked since, or that of a certifier.
  public func knowsKey(of host: HostName) -> Bool {
    entries(of: host).contains { entry in
      switch entry.subject {
      case .key, .fingerprint, .certifier: true
      case .revoked, .revokedCertifier: false
      }
    }
  }

  /// Judges the key that a host's device has proven to have.
  ///
  /// What was revoked is not trusted, whatever else is known; a key that is known needs no certificate; a certificate makes a
  /// key good that differs from the known ones, since a device that starts anew has another one.
  ///
  /// - Parameters:
  ///   - key: the device's.
  ///   - host: as it was addressed.
  ///   - certificate: what the device showed, if it did; it may be anybody's.
  ///   - time: now, in seconds since 1970.
  /// - Returns: what the file says of it.
  public func judge(
    _ key: PublicKey, of host: HostName, certificate: Certificate? = nil, at time: UInt64 = UTCTime.now
  ) -> HostVerdict {
    if let line = revocation(of: .revoked(key), host) { return .revoked(line: line) }
    let entries = entries(of: host)
    var known: [HostVerdict.KnownKey] = []
    for entry in entries {
      switch entry.subject {
      case .key(let other):
        if other == key { return .known(line: entry.line) }
        known.append(.init(fingerprint: other.fingerprint, line: entry.line))
      case .fingerprint(let other):
        if other == key.fingerprint { return .known(line: entry.line) }
        known.append(.init(fingerprint: other, line: entry.line))
      default: break
      }
    }
    var uncertified: HostVerdict?
    for entry in entries {
      guard case .certifier(let certifier) = entry.subject else { continue }
      guard let certificate else {
        uncertified = uncertified ?? .uncertified(line: entry.line, why: "it shows no certificate")
        continue
      }
      do throws(KeyError) {
        try Self.check(certificate, by: certifier, key, host, at: time)
      } catch {
        // What the right certifier made says more than that another one did not make it.
        if uncertified == nil || certifier == certificate.certifier {
          uncertified = .uncertified(line: entry.line, why: "\(error)")
        }
        continue
      }
      if let line = revocation(of: .revokedCertifier(certifier), host) { return .revoked(line: line) }
      return .certified(by: certifier, line: entry.line, until: certificate.notAfter)
    }
    return known.isEmpty ? uncertified ?? .unknown : .changed(known: known)
  }

  private static func check(
    _ certificate: Certificate, by certifier: CertifierKey, _ key: PublicKey, _ host: HostName, at time: UInt64
  ) throws(KeyError) {
    try certificate.verify(by: certifier, at: time)
    let subject = "certificate of \(quoted(certificate.name))"
    guard certificate.key == key else {
      throw KeyError(subject, .certificate(.otherKey(certificate.key.fingerprint)))
    }
    guard host.isNamed(certificate.name) else {
      throw KeyError(subject, .certificate(.otherName(certificate.name)))
    }
  }

  private func entries(of host: HostName) -> [Entry] { entries.filter { $0.hosts.covers(host) } }

  private func revocation(of subject: Entry.Subject, _ host: HostName) -> Int? {
    // Here `*` is for all there are.
    entries.first { $0.subject == subject && ($0.hosts.covers(host) || $0.hosts.covers(host.text)) }?.line
  }

  // MARK: Changing

  /// Adds a line to the file at `path`, which is made where it is not there; the other lines stay as they are.
  ///
  /// Others who add at the same time wait; who reads sees the file before or after.
  ///
  /// - Parameters:
  ///   - subject: what the line says of the hosts.
  ///   - pattern: which hosts; the text of a ``HostName``, or a pattern.
  ///   - path: the file's.
  ///   - comment: what follows the key.
  /// - Returns: whether it was added; false where the file says so already.
  /// - Throws: ``HostsError``, where the file cannot be read or written.
  @discardableResult
  public static func add(
    _ subject: Entry.Subject, of pattern: String, to path: String, comment: String = ""
  ) throws(HostsError) -> Bool {
    let hosts = try HostPattern(parsing: pattern)
    // What is written here is read again: by the same rules.
    let line = "\(text(subject, hosts))\(comment.isEmpty ? "" : " \(comment)")"
    guard let entry = try? entry(line[...], line: 0), entry.subject == subject, entry.hosts == hosts,
      !line.contains(where: \.isNewline)
    else { throw HostsError(quoted(pattern), .badName("is no pattern of hosts, or its comment is more than a line")) }
    return try changing(path) { bytes in
      let known = KnownHosts(parsing: bytes, path: path)
      if known.entries.contains(where: { $0.subject == subject && $0.hosts == hosts }) { return nil }
      let needsEnd = bytes.last.map { $0 != UInt8(ascii: "\n") } ?? false
      return bytes + (needsEnd ? [UInt8(ascii: "\n")] : []) + Array("\(line)\n".utf8)
    }
  }

  /// Has a host be known by a key, in the file at `path`.
  ///
  /// - Parameters:
  ///   - key: the key or its fingerprint.
  ///   - host: whose.
  ///   - path: the file's.
  ///   - comment: what follows the key.
  /// - Returns: whether a line was added; false where the file says so already.
  /// - Throws: ``HostsError/Reason/alreadyKnown(file:lines:)`` where another key is known for the host, or what failed.
  @discardableResult
  public static func trust(
    _ key: HostKey, of host: HostName, in path: String, comment: String = ""
  ) throws(HostsError) -> Bool {
    let known = try KnownHosts(contentsOf: path)
    if case .key(let key) = key, let line = known.revocation(of: .revoked(key), host) {
      throw HostsError("\(host)", .refused(shown: key, .revoked(line: line), file: path))
    }
    let others = known.entries(of: host).filter { entry in
      switch entry.subject {
      case .key(let other): !key.isKey(other)
      case .fingerprint(let other): other != key.fingerprint
      case .certifier, .revoked, .revokedCertifier: false
      }
    }
    guard others.isEmpty else { throw HostsError("\(host)", .alreadyKnown(file: path, lines: others.map(\.line))) }
    return try add(key.entry, of: host.text, to: path, comment: comment)
  }

  /// Forgets the keys of a host in the file at `path`; lines for several hosts stay for the others, and so does all else.
  ///
  /// What was revoked stays revoked.
  ///
  /// - Parameters:
  ///   - host: whose.
  ///   - certifiers: whether the certifiers of this name are forgotten, and not its keys.
  ///   - path: the file's.
  /// - Returns: how many lines were changed or went.
  /// - Throws: ``HostsError/Reason/nothingKnown(file:patterns:)`` where no line is for this very name, or what failed.
  @discardableResult
  public static func remove(
    _ host: String, certifiers: Bool = false, from path: String
  ) throws(HostsError) -> Int {
    let name = HostPattern.normalized(host)
    var count = 0
    var covering: [Int] = []
    _ = try changing(path) { bytes in
      let known = KnownHosts(parsing: bytes, path: path)
      let affected = known.entries.filter { entry in
        switch entry.subject {
        case .key, .fingerprint: !certifiers
        case .certifier: certifiers
        case .revoked, .revokedCertifier: false
        }
      }
      let exact = affected.filter { $0.hosts.parts.contains(name) }
      covering = affected.filter { !$0.hosts.parts.contains(name) && $0.hosts.covers(name) }.map(\.line)
      count = exact.count
      guard !exact.isEmpty else { return nil }
      var lines = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
      // From the end: the numbers of those before stay.
      for entry in exact.reversed() {
        let rest = entry.hosts.parts.filter { $0 != name }
        if rest.isEmpty {
          lines.remove(at: entry.line - 1)
        } else {
          lines[entry.line - 1] = Self.replacing(lines[entry.line - 1], pattern: rest.joined(separator: ","))
        }
      }
      return Array(lines.joined(separator: [UInt8(ascii: "\n")]))
    }
    guard count > 0 else { throw HostsError(host, .nothingKnown(file: path, patterns: covering)) }
    return count
  }

  /// The line with another pattern; what stands around it is as before.
  private static func replacing(_ line: ArraySlice<UInt8>, pattern: String) -> ArraySlice<UInt8> {
    let isBlank = { (byte: UInt8) in byte == 0x20 || byte == 0x09 || byte == 0x0d }
    var start = line.firstIndex { !isBlank($0) } ?? line.startIndex
    if line[start...].first == UInt8(ascii: "@") {
      let end = line[start...].firstIndex(where: isBlank) ?? line.endIndex
      start = line[end...].firstIndex { !isBlank($0) } ?? line.endIndex
    }
    let end = line[start...].firstIndex(where: isBlank) ?? line.endIndex
    return line[..<start] + Array(pattern.utf8) + line[end...]
  }

  private static func text(_ subject: Entry.Subject, _ hosts: HostPattern) -> String {
    switch subject {
    case .key(let key): "\(hosts) \(key)"
    case .fingerprint(let fingerprint): "\(hosts) \(fingerprint)"
    case .certifier(let key): "@cert-authority \(hosts) \(key)"
    case .revoked(let key): "@revoked \(hosts) \(key)"
    case .revokedCertifier(let key): "@revoked \(hosts) \(key)"
    }
  }

  /// Gives the file's bytes to `change`, and writes what that gives; nil is no change.
  private static func changing(
    _ path: String, _ change: ([UInt8]) -> [UInt8]?
  ) throws(HostsError) -> Bool {
    try reading(path) { () throws(KeyError) in
      let target = try KeyFile.target(of: path)
      let folder = KeyFile.folder(of: target)
      try KeyFile.makeFolder(folder)
      return try KeyFile.locking(folder) { () throws(KeyError) in
        let isThere = KeyFile.exists(target)
        let bytes = isThere ? try Self.bytes(of: target) : []
        guard let changed = change(bytes) else { return false }
        guard changed.count <= LineFile.limit else { throw KeyError(path, .tooLong(limit: LineFile.limit)) }
        try KeyFile.write(changed, to: target, mode: isThere ? KeyFile.mode(of: target) : 0o600, replacing: true)
        return true
      }
    }
  }
}
