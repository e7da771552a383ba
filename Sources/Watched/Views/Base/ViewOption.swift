import Synchronization

/// What a view can be asked for, declared as properties:
///
/// ```swift
/// struct Options: ViewOptions {
///   @ViewOption(short: "T", help: "List every thread.") var threads = false
///   @ViewOption(short: "p", selects: true, help: "Only this process.") var pid: Int32?
///   @ViewOption(isArgument: true, help: "The file.") var path: String      // no default: must be given
/// }
/// ```
public protocol ViewOptions: Sendable {
  init()
  /// What is wrong with these together, nil where nothing is.
  func problem() -> String?
}

extension ViewOptions {
  public func problem() -> String? { nil }

  /// The options in the order of their declaration.
  public var all: [any AnyViewOption] {
    Mirror(reflecting: self).children.compactMap { child in
      guard let option = child.value as? any AnyViewOption, let label = child.label else { return nil }
      option.take(name: Self.name(of: label))
      return option
    }
  }

  /// `_maxCount` is the option `max-count`.
  private static func name(of label: String) -> String {
    var name = ""
    for character in label.drop(while: { $0 == "_" }) {
      if character.isUppercase { name += "-" }
      name += character.lowercased()
    }
    return name
  }

  /// Options with the given texts: what a command line, a query or a configuration says.
  ///
  /// - Throws: ``ViewOptionError`` for a name that no option has, for a text that its option does not take, for one that
  ///   is missing, and for options that do not go together.
  public init(_ texts: [(name: String, text: String)]) throws(ViewOptionError) {
    self.init()
    let all = all
    for (name, text) in texts {
      guard let option = all.first(where: { $0.name == name }) else {
        throw ViewOptionError(
          "there is no option '\(name)'"
            + (all.isEmpty ? "; there are none" : "; there are \(all.map(\.name).joined(separator: ", "))"))
      }
      try option.set(text)
    }
    if let missing = all.first(where: { $0.isRequired && !$0.isSet }) {
      throw ViewOptionError(
        "\(missing.isArgument ? "<\(missing.name)>" : "--\(missing.name)") is missing: \(missing.help)")
    }
    if let problem = problem() { throw ViewOptionError(problem) }
  }

  /// Whether one of those is set that leave rows out.
  public var selects: Bool { all.contains { $0.selects && $0.isSet } }
}

/// The options of a view that has none.
public struct NoOptions: ViewOptions {
  public init() {}
}

/// Why options were not taken.
public struct ViewOptionError: Error, Hashable, Sendable, CustomStringConvertible {
  public let description: String
  public init(_ description: String) { self.description = description }
}

/// An option, whatever its value is.
public protocol AnyViewOption: Sendable {
  /// As on a command line, without dashes.
  var name: String { get }
  var short: Character? { get }
  var help: String { get }
  /// Whether it has no value: it is set or not.
  var isFlag: Bool { get }
  /// Whether it stands on a command line without its name, and whether several may.
  var isArgument: Bool { get }
  var takesMany: Bool { get }
  var selects: Bool { get }
  /// Whether there is nothing to go on with without it.
  var isRequired: Bool { get }
  var isSet: Bool { get }
  /// The texts that it takes, where these are few.
  var choices: [String] { get }
  /// What stands for the value in help: `number`, `text`.
  var valueName: String { get }

  func take(name: String)
  func set(_ text: String) throws(ViewOptionError)
}

/// One option of a view. Its name is the property's.
@propertyWrapper
public struct ViewOption<Value: ViewOptionValue>: AnyViewOption {
  private struct State {
    var value: Value
    var isSet = false
    var name = ""
  }

  /// Options are filled in once, by name, before a view sees them.
  private final class Box: Sendable {
    let state: Mutex<State>
    init(_ value: Value) { state = Mutex(State(value: value)) }
  }

  private let box: Box
  public let short: Character?
  public let help: String
  public let isArgument: Bool
  public let selects: Bool
  public let isRequired: Bool

  /// - Parameters:
  ///   - isArgument: whether it stands on a command line without a name.
  ///   - selects: whether it leaves rows out, so that nothing left means that nothing was found.
  public init(
    wrappedValue: Value, short: Character? = nil, isArgument: Bool = false, selects: Bool = false, help: String
  ) {
    self.init(wrappedValue, short, isArgument: isArgument, selects: selects, isRequired: false, help)
  }

  private init(
    _ wrappedValue: Value, _ short: Character?, isArgument: Bool, selects: Bool, isRequired: Bool, _ help: String
  ) {
    box = Box(wrappedValue)
    self.short = short
    self.isArgument = isArgument
    self.selects = selects
    self.isRequired = isRequired
    self.help = help
  }

  /// An option that need not be given.
  public init(short: Character? = nil, isArgument: Bool = false, selects: Bool = false, help: String)
  where Value: ExpressibleByNilLiteral {
    self.init(wrappedValue: nil, short: short, isArgument: isArgument, selects: selects, help: help)
  }

  /// An option that must be given.
  public init(short: Character? = nil, isArgument: Bool = false, selects: Bool = false, help: String)
  where Value: ViewOptionDefault {
    self.init(Value.optionDefault, short, isArgument: isArgument, selects: selects, isRequired: true, help)
  }

  public var wrappedValue: Value { box.state.withLock { $0.value } }
  public var name: String { box.state.withLock { $0.name } }
  public var isSet: Bool { box.state.withLock { $0.isSet } }
  public var isFlag: Bool { Value.isFlag }
  public var takesMany: Bool { Value.takesMany }
  public var valueName: String { Value.valueName }
  public var choices: [String] { Value.choices }

  public func take(name: String) { box.state.withLock { $0.name = name } }

  public func set(_ text: String) throws(ViewOptionError) {
    let isTaken = box.state.withLock { state in
      guard state.value.take(text) else { return false }
      state.isSet = true
      return true
    }
    if !isTaken {
      throw ViewOptionError("\(isArgument ? "<\(name)>" : "--\(name)") takes \(Value.expects), and '\(text)' is none")
    }
  }
}

/// What an option can be.
public protocol ViewOptionValue: Sendable {
  static var isFlag: Bool { get }
  static var takesMany: Bool { get }
  static var valueName: String { get }
  /// The texts that it can be, where these are few.
  static var choices: [String] { get }
  /// What a text has to be, for a message.
  static var expects: String { get }
  /// Takes what `text` says; false where it says nothing of this kind.
  mutating func take(_ text: String) -> Bool
}

extension ViewOptionValue {
  public static var isFlag: Bool { false }
  public static var takesMany: Bool { false }
  public static var choices: [String] { [] }
}

extension Bool: ViewOptionValue {
  public static var isFlag: Bool { true }
  public static var valueName: String { "yes|no" }
  public static var expects: String { "yes or no" }

  public mutating func take(_ text: String) -> Bool {
    switch text.lowercased() {
    case "yes", "true", "1", "": self = true
    case "no", "false", "0": self = false
    default: return false
    }
    return true
  }
}

extension ViewOptionValue where Self: FixedWidthInteger {
  public static var valueName: String { "number" }
  public static var expects: String { "a number of \(Self.min) to \(Self.max)" }

  public mutating func take(_ text: String) -> Bool {
    let digits = text.hasPrefix("0x") ? Self(text.dropFirst(2), radix: 16) : Self(text)
    guard let digits else { return false }
    self = digits
    return true
  }
}

extension Int: ViewOptionValue {}
extension Int32: ViewOptionValue {}
extension UInt64: ViewOptionValue {}

extension Double: ViewOptionValue {
  public static var valueName: String { "number" }
  public static var expects: String { "a number" }

  public mutating func take(_ text: String) -> Bool {
    guard let value = Double(text), value.isFinite else { return false }
    self = value
    return true
  }
}

extension String: ViewOptionValue {
  public static var valueName: String { "text" }
  public static var expects: String { "text" }

  public mutating func take(_ text: String) -> Bool {
    self = text
    return true
  }
}

/// A choice of words: an enumeration whose raw values they are.
extension ViewOptionValue where Self: RawRepresentable & CaseIterable, RawValue == String {
  public static var choices: [String] { allCases.map(\.rawValue) }
  public static var valueName: String { choices.joined(separator: "|") }
  public static var expects: String { choices.joined(separator: ", ") }

  public mutating func take(_ text: String) -> Bool {
    guard let value = Self(rawValue: text) else { return false }
    self = value
    return true
  }
}

/// An option that need not be given.
extension Optional: ViewOptionValue where Wrapped: ViewOptionValue & ViewOptionDefault {
  public static var choices: [String] { Wrapped.choices }
  public static var valueName: String { Wrapped.valueName }
  public static var expects: String { Wrapped.expects }

  public mutating func take(_ text: String) -> Bool {
    var value = Wrapped.optionDefault
    guard value.take(text) else { return false }
    self = value
    return true
  }
}

/// An option that may be given several times.
extension Array: ViewOptionValue where Element: ViewOptionValue & ViewOptionDefault {
  public static var takesMany: Bool { true }
  public static var choices: [String] { Element.choices }
  public static var valueName: String { Element.valueName }
  public static var expects: String { Element.expects }

  public mutating func take(_ text: String) -> Bool {
    var value = Element.optionDefault
    guard value.take(text) else { return false }
    append(value)
    return true
  }
}

/// A value to start from where an option is optional or a list.
public protocol ViewOptionDefault {
  static var optionDefault: Self { get }
}

extension ViewOptionDefault where Self: ExpressibleByIntegerLiteral {
  public static var optionDefault: Self { 0 }
}

extension Int: ViewOptionDefault {}
extension Int32: ViewOptionDefault {}
extension UInt64: ViewOptionDefault {}
extension Double: ViewOptionDefault {}

extension String: ViewOptionDefault {
  public static var optionDefault: String { "" }
}

extension ViewOptionDefault where Self: CaseIterable {
  // An enumeration without cases cannot be an option.
  public static var optionDefault: Self { allCases[allCases.startIndex] }
}
