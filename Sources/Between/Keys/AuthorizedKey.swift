/// A key that a device lets in: a line of `authorized_keys`.
///
/// `[OPTIONS] grass-x25519 BASE64 [COMMENT]`, where the options are rights by name, `all`, and `expires=TIME`, with commas
/// between them. Without any right the key may `watch`, and nothing else: who writes a line without thinking of rights has
/// given away of the host's memory what findings and last words hold, and no more.
public struct AuthorizedKey: Hashable, Sendable, CustomStringConvertible {
  public var key: PublicKey
  public var rights: Rights
  /// From when on the device refuses it, in seconds since 1970; nil for never.
  public var expiry: UInt64?
  /// Whose it is, in words: ``longestComment`` bytes of UTF-8 at most.
  public var comment: String

  /// Of a comment, in bytes.
  public static let longestComment = 64

  /// What a line without rights gives.
  public static let defaultRights: Rights = .watch

  /// - Throws: ``KeyError`` for a comment that is too long or would steer a terminal, and an expiry of zero.
  public init(
    key: PublicKey, rights: Rights = defaultRights, expiry: UInt64? = nil, comment: String = ""
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
    self.comment = comment
  }

  /// Parses a line.
  ///
  /// - Throws: ``KeyError``, which says what is wrong with it, and what to write.
  public init(parsing line: some StringProtocol) throws(KeyError) {
    let line = Substring(line)
    var words = LineFile.words(line, most: 2)
    var (rights, expiry): (Rights, UInt64?) = ([], nil)
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
        } else {
          // What it would have limited is not known.
          throw KeyError("option \(quoted(option))", .malformed("is none; \(Rights.advice), or expires=TIME"))
        }
      }
      words = LineFile.words(words[1], most: 2)
    }
    let rest = words.count == 2 ? LineFile.words(words[1], most: 2) : []
    let key = try PublicKey(parsing: (words.prefix(1) + rest.prefix(1)).joined(separator: " "))
    try self.init(
      key: key, rights: rights.isEmpty ? Self.defaultRights : rights, expiry: expiry,
      comment: rest.count == 2 ? String(rest[1]) : "")
  }

  /// Whether it is refused at a time, in seconds since 1970.
  public func isExpired(at time: UInt64) -> Bool { expiry.map { time >= $0 } ?? false }

  /// The line, which parses to the same again.
  public var description: String {
    let options = (rights == .all ? "all" : rights.description) + (expiry.map { ",expires=\(UTCTime.text($0))" } ?? "")
    return "\(options) \(key)" + (comment.isEmpty ? "" : " \(comment)")
  }
}
