public import Memory

/// What stands in one cell of a view: a number, text, or something made of these.
public enum ViewValue: Hashable, Sendable {
  /// The row has no such thing: JSON leaves the key out, and a table the cell empty.
  case absent
  /// Not known, or none: `null` in JSON.
  case none
  case bool(Bool)
  case signed(Int64)
  case unsigned(UInt64)
  case number(Double)
  /// Text as the watched memory has it, which need not be UTF-8.
  case bytes([UInt8])
  case list([ViewValue])
  case object([Member])

  /// A value with a name of its own, inside another.
  public struct Member: Hashable, Sendable {
    public let key: String
    public let value: ViewValue

    public init(_ key: String, _ value: some ViewRepresentable) {
      self.key = key
      self.value = value.viewValue
    }
  }

  /// Text that this program made.
  public static func text(_ text: String) -> ViewValue { .bytes(Array(text.utf8)) }
}

/// What a column may give: whatever can be written as a ``ViewValue``.
public protocol ViewRepresentable: SendableMetatype {
  var viewValue: ViewValue { get }
  /// Whether a table puts it to the right, as numbers are.
  static var isRightAligned: Bool { get }
}

extension ViewRepresentable {
  public static var isRightAligned: Bool { false }
}

extension ViewRepresentable where Self: BinaryInteger {
  public static var isRightAligned: Bool { true }
  public var viewValue: ViewValue { Self.isSigned ? .signed(Int64(clamping: self)) : .unsigned(UInt64(clamping: self)) }
}

extension Int: ViewRepresentable {}
extension Int32: ViewRepresentable {}
extension Int64: ViewRepresentable {}
extension UInt8: ViewRepresentable {}
extension UInt16: ViewRepresentable {}
extension UInt32: ViewRepresentable {}
extension UInt64: ViewRepresentable {}

extension Double: ViewRepresentable {
  public static var isRightAligned: Bool { true }
  public var viewValue: ViewValue { .number(self) }
}

extension Bool: ViewRepresentable {
  public var viewValue: ViewValue { .bool(self) }
}

extension String: ViewRepresentable {
  public var viewValue: ViewValue { .text(self) }
}

extension Character: ViewRepresentable {
  public var viewValue: ViewValue { .text(String(self)) }
}

extension VirtualAddress: ViewRepresentable {
  public var viewValue: ViewValue { .text("\(self)") }
}

extension PhysicalAddress: ViewRepresentable {
  public var viewValue: ViewValue { .text("\(self)") }
}

extension ViewValue: ViewRepresentable {
  public var viewValue: ViewValue { self }
}

extension Optional: ViewRepresentable where Wrapped: ViewRepresentable {
  public static var isRightAligned: Bool { Wrapped.isRightAligned }
  public var viewValue: ViewValue { map { $0.viewValue } ?? .none }
}

extension Optional where Wrapped: ViewRepresentable {
  /// The value, or nothing at all where there is none: JSON then leaves the key out.
  public var orAbsent: ViewValue { map { $0.viewValue } ?? .absent }
}

/// An array of bytes is text; of anything else, a list.
extension Array: ViewRepresentable where Element: ViewRepresentable {
  public var viewValue: ViewValue {
    // Asked of the type: an empty array of anything is one of bytes, too.
    if Element.self == UInt8.self, let bytes = self as? [UInt8] { return .bytes(bytes) }
    return .list(map { $0.viewValue })
  }
}
