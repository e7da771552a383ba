/// What a key may do, as the device enforces it.
public struct Rights: OptionSet, Hashable, Sendable, CustomStringConvertible {
  /// The bits as they lie in the device's list.
  public let rawValue: UInt32
  public init(rawValue: UInt32) { self.rawValue = rawValue }

  /// The session's line, the heartbeat, and findings.
  public static let watch = Rights(rawValue: 1)
  /// Monitors that are loaded: what they print of the host.
  public static let run = Rights(rawValue: 2)
  /// The host's memory, and so every secret of the host.
  public static let read = Rights(rawValue: 4)
  /// Copies of memory that the device takes and keeps.
  public static let acquire = Rights(rawValue: 8)
  /// The device's list of keys, and so everything.
  public static let admin = Rights(rawValue: 16)

  /// All that there are.
  public static let all: Rights = [.watch, .run, .read, .acquire, .admin]

  /// Each with its name, in the order of their bits.
  public static let names: [(right: Rights, name: String)] = [
    (.watch, "watch"), (.run, "run"), (.read, "read"), (.acquire, "acquire"), (.admin, "admin"),
  ]

  /// The right of that name, or all for `all`; nil where there is none.
  public init?(named name: some StringProtocol) {
    if name == "all" {
      self = .all
    } else if let found = Self.names.first(where: { $0.name == name }) {
      self = found.right
    } else {
      return nil
    }
  }

  /// The rights of a list of names with commas between them: `watch,run`.
  ///
  /// - Throws: ``KeyError``, which names what is none.
  public init(parsing text: some StringProtocol) throws(KeyError) {
    self = []
    for name in text.split(separator: ",", omittingEmptySubsequences: false) {
      guard let right = Rights(named: name) else {
        throw KeyError("rights \(quoted(text))", .malformed("there is no right \(quoted(name)); \(Self.advice)"))
      }
      formUnion(right)
    }
  }

  static let advice = "write \(names.map(\.name).joined(separator: ", ")) or all"

  /// The names with commas between them; `none` where there is no right, and a number for bits that have no name.
  public var description: String {
    var words = Self.names.filter { contains($0.right) }.map(\.name)
    let rest = subtracting(.all)
    if !rest.isEmpty { words.append("0x" + String(rest.rawValue, radix: 16)) }
    return words.isEmpty ? "none" : words.joined(separator: ",")
  }
}
