/// A condition on rows, as a user writes it: `rss > 1000`, `state=D`, `name ~ kworker`.
public struct ViewFilter: Sendable {
  private enum Comparison: String, CaseIterable {
    // The longer ones first, so that `<=` is not read as `<`.
    case lessOrEqual = "<="
    case greaterOrEqual = ">="
    case notEqual = "!="
    case less = "<"
    case greater = ">"
    case equal = "="
    case contains = "~"
  }

  /// The column's name, as the user wrote it.
  public let column: String
  private let comparison: Comparison
  private let text: String

  /// - Throws: ``ViewOptionError`` where `condition` is none.
  public init(_ condition: String) throws(ViewOptionError) {
    let signs: Set<Character> = ["<", ">", "!", "=", "~"]
    let name = condition.prefix { !signs.contains($0) }
    let rest = condition.dropFirst(name.count)
    guard let comparison = Comparison.allCases.first(where: { rest.hasPrefix($0.rawValue) }),
      name.contains(where: { !$0.isWhitespace })
    else {
      throw ViewOptionError(
        "'\(condition)' is no condition: write COLUMN, one of = != < <= > >= ~ (contains), and a value")
    }
    column = Self.trimmed(name)
    text = Self.trimmed(rest.dropFirst(comparison.rawValue.count))
    self.comparison = comparison
  }

  private static func trimmed(_ text: Substring) -> String {
    String(text.drop(while: \.isWhitespace).reversed().drop(while: \.isWhitespace).reversed())
  }

  /// Whether a value holds. Numbers are compared with numbers, all else as text.
  public func holds(_ value: ViewValue) -> Bool {
    switch comparison {
    case .contains: return value.searchText.contains(text)
    case .equal: return isEqual(value)
    case .notEqual: return !isEqual(value)
    case .less, .lessOrEqual, .greater, .greaterOrEqual:
      guard value.isKnown else { return false }
      let isLess: Bool
      let isEqual: Bool
      if let number = value.numeric, let wanted = Self.number(text) {
        (isLess, isEqual) = (number < wanted, number == wanted)
      } else {
        (isLess, isEqual) = (value.searchText < text, value.searchText == text)
      }
      switch comparison {
      case .less: return isLess
      case .lessOrEqual: return isLess || isEqual
      case .greater: return !isLess && !isEqual
      default: return !isLess
      }
    }
  }

  private func isEqual(_ value: ViewValue) -> Bool {
    if let number = value.numeric, let wanted = Self.number(text) { return number == wanted }
    return value.searchText == text
  }

  private static func number(_ text: String) -> Double? {
    text.hasPrefix("0x") ? UInt64(text.dropFirst(2), radix: 16).map { Double($0) } : Double(text)
  }
}

extension ViewValue {
  var isKnown: Bool { self != .absent && self != .none }

  var numeric: Double? {
    switch self {
    case .signed(let value): Double(value)
    case .unsigned(let value): Double(value)
    case .number(let value): value
    case .bool(let value): value ? 1 : 0
    default: nil
    }
  }

  /// What conditions on text look at.
  package var searchText: String {
    switch self {
    case .absent, .none: ""
    case .bool(let value): value ? "yes" : "no"
    case .signed(let value): "\(value)"
    case .unsigned(let value): "\(value)"
    case .number(let value): "\(value)"
    case .bytes(let bytes): String(decoding: bytes, as: UTF8.self)
    case .list(let values): values.map(\.searchText).joined(separator: ",")
    case .object(let members): members.map { "\($0.key)=\($0.value.searchText)" }.joined(separator: ",")
    }
  }

  /// Whether it comes before `other`: numbers by size, text by its bytes, what is not known last.
  public func precedes(_ other: ViewValue) -> Bool {
    guard isKnown, other.isKnown else { return isKnown && !other.isKnown }
    switch (self, other) {
    case (.unsigned(let first), .unsigned(let second)): return first < second
    case (.signed(let first), .signed(let second)): return first < second
    case (.bytes(let first), .bytes(let second)): return first.lexicographicallyPrecedes(second)
    default:
      if let first = numeric, let second = other.numeric { return first < second }
      return searchText < other.searchText
    }
  }
}
