/// A key that a device lets in: a line of `authorized_keys`.
///
/// `[OPTIONS] grass-x25519 BASE64 [COMMENT]`, where the options are rights by name, `all`, `expires=TIME`, and what the key may ask
/// for in a second, `requests=N` and `bytes=NM`, with commas between them. Without any right the key may `watch`, and nothing else: who writes a line without thinking of rights has
/// given away of the host's memory what findings and last words hold, and no more.
public struct AuthorizedKey: Hashable, Sendable, CustomStringConvertible {
  public var key: PublicKey
  public var rights: Rights
  /// From when on the device refuses it, in seconds since 1970; nil for never.
  public var expiry: UInt64?
  /// What it may ask for.
  public var limits: Limits
  /// Whose it is, in words: ``longestComment`` bytes of UTF-8 at most.
  public var comment: String

  /// What a key may ask for in a second, over all its sessions.
  ///
  /// Of what it may have in a second it may have all at once; what it asks for beyond that waits. Heartbeats do not count.
  public struct Limits: Hashable, Sendable {
    /// Requests; nil for as many as others leave.
    public var requests: UInt32?
    /// KiB of what it is told, and of what is read for it; nil for as much as others leave.
    public var kibibytes: UInt32?

    public init(requests: UInt32? = nil, kibibytes: UInt32? = nil) {
      self.requests = requests
      self.kibibytes = kibibytes
    }

    public static let none = Limits()
    /// The least that ``kibibytes`` can be: one long answer a second, so that nobody waits for long.
    public static let fewestKibibytes: UInt32 = 1024

    /// The count in `64M`, `2G` or `4096K`, in KiB; nil where it is none, or too small or large.
    static func kibibytes(_ text: Substring) -> UInt32? {
      let units: [Character: UInt32] = ["K": 1, "M": 1 << 10, "G": 1 << 20]
      guard let unit = text.last.flatMap({ units[$0] }), let count = UInt32(text.dropLast()) else { return nil }
      let (result, overflow) = count.multipliedReportingOverflow(by: unit)
      return overflow || result < fewestKibibytes ? nil : result
    }

    static func text(kibibytes: UInt32) -> String {
      if kibibytes % (1 << 20) == 0 { return "\(kibibytes >> 20)G" }
      return kibibytes % 1024 == 0 ? "\(kibibytes >> 10)M" : "\(kibibytes)K"
    }
  }

  /// Of a comment, in bytes.
  public static let longestComment = 64

  /// What a line without rights gives.
  public static let defaultRights: Rights = .watch

  /// - Throws: ``KeyError`` for a comment that is too long or would steer a terminal, and an expiry of zero.
  public init(
    key: PublicKey, rights: Rights = defaultRights, expiry: UInt64? = nil, limits: Limits = .none, comment: String = ""
  ) throws(KeyError) {
    guard comment.utf8.count <= Self.longestComment else {
      throw KeyError(
        "comment \(quoted(comment))",
        .malformed("has \(comment.utf8.count) bytes; there is room for \(Self.longestComment): shorten it"))
    }
    guard comment.unicodeScalars.allSatisfy(isPrintable) else {
      throw KeyError("comment \(quoted(comment))", .malformed("has characters that cannot be seen; remove them"))
    }
    guard expiry != 0 else {
      throw KeyError("expiry", .malformed("is 1970; leave it out for a key that never expires"))
    }
    self.key = key
    self.rights = rights
    self.expiry = expiry
    self.limits = limits
    self.comment = comment
  }

  /// Parses a line.
  ///
  /// - Throws: ``KeyError``, which says what is wrong with it, and what to write.
  public init(parsing line: some StringProtocol) throws(KeyError) {
    let line = Substring(line)
    var words = LineFile.words(line, most: 2)
    var (rights, expiry, limits): (Rights, UInt64?, Limits) = ([], nil, .none)
    if let first = words.first, words.count == 2, !first.hasPrefix("grass-"), !first.hasPrefix("ssh-") {
      for option in first.split(separator: ",", omittingEmptySubsequences: false) {
        if let right = Rights(named: option) {
          rights.formUnion(right)
        } else if option.hasPrefix("expires=") {
          let value = option.dropFirst("expires=".count)
          guard expiry == nil else {
            throw KeyError("option \(quoted(option))", .malformed("is given twice; leave one"))
          }
          guard let time = UTCTime.parse(value) else {
            throw KeyError(
              "option \(quoted(option))",
              .malformed("is no time; write a day that exists, expires=2027-01-31, or expires=2027-01-31T12:00Z (UTC)"))
          }
          expiry = time
        } else if option.hasPrefix("requests=") {
          guard limits.requests == nil, let count = UInt32(option.dropFirst("requests=".count)), count > 0 else {
            throw KeyError(
              "option \(quoted(option))",
              .malformed("is no number, or given twice; write requests=500, for 500 a second"))
          }
          limits.requests = count
        } else if option.hasPrefix("bytes=") {
          guard limits.kibibytes == nil, let count = Limits.kibibytes(option.dropFirst("bytes=".count)) else {
            throw KeyError(
              "option \(quoted(option))",
              .malformed("is no size of 1M or more, or given twice; write bytes=64M, for 64 MiB a second"))
          }
          limits.kibibytes = count
        } else {
          // What it would have limited is not known.
          throw KeyError(
            "option \(quoted(option))", .malformed("is none; \(Rights.advice), or expires=TIME, requests=N or bytes=NM")
          )
        }
      }
      words = LineFile.words(words[1], most: 2)
    }
    let rest = words.count == 2 ? LineFile.words(words[1], most: 2) : []
    let key = try PublicKey(parsing: (words.prefix(1) + rest.prefix(1)).joined(separator: " "))
    try self.init(
      key: key, rights: rights.isEmpty ? Self.defaultRights : rights, expiry: expiry,
      limits: limits, comment: rest.count == 2 ? String(rest[1]) : "")
  }

  /// Whether it is refused at a time, in seconds since 1970.
  public func isExpired(at time: UInt64) -> Bool { expiry.map { time >= $0 } ?? false }

  /// The line, which parses to the same again.
  public var description: String {
    let options =
      (rights == .all ? "all" : rights.description) + (expiry.map { ",expires=\(UTCTime.text($0))" } ?? "")
      + (limits.requests.map { ",requests=\($0)" } ?? "")
      + (limits.kibibytes.map { ",bytes=\(Limits.text(kibibytes: $0))" } ?? "")
    return "\(options) \(key)" + (comment.isEmpty ? "" : " \(comment)")
  }
}
