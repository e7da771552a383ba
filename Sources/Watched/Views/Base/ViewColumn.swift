/// What the number in a column counts. JSON has the number in this unit; the reference of its keys names it.
public enum ViewUnit: String, Sendable {
  case none = ""
  case bytes
  case kibibytes = "KiB"
  /// Of 4 KiB.
  case pages
  case nanoseconds = "ns"
  case microseconds = "µs"
  case seconds = "s"
  /// Of /proc: 100 a second on every x86-64 kernel.
  case clockTicks = "clock ticks"
  case percent = "%"
  /// An address of the kernel, written in hexadecimal.
  case address
}

/// What a column is, whatever the rows are.
public struct ViewColumnInfo: Sendable {
  /// The heading in a table; empty where only JSON has the column.
  public var heading: String
  /// The key in JSON; empty where only the table has the column, `*` where each row brings keys of its own.
  public var key: String
  public var unit: ViewUnit
  public var isRightAligned: Bool
  /// Whether it stays what it is as long as the row is the same thing: an id or a name, and no counter.
  public var isIdentity = false
  /// What the objects in it have, for the reference of keys; empty for a column of no objects.
  public var members: [Member] = []

  /// A key of an object in a column.
  public struct Member: Hashable, Sendable {
    /// `*` where each object brings keys of its own.
    public let key: String
    public let unit: ViewUnit
  }

  public var isInTable: Bool { !heading.isEmpty }
  public var isInJSON: Bool { !key.isEmpty }

  /// Whether a user who writes `name` means this column: its key or its heading, in any case.
  public func isNamed(_ name: String) -> Bool {
    [key, heading].contains { !$0.isEmpty && $0.lowercased() == name.lowercased() }
  }
}

extension Sequence {
  /// The column that a user who writes `name` means: the one that has it as its key, else the first that is named so.
  package func named(_ name: String, _ info: (Element) -> ViewColumnInfo) -> Element? {
    first { !name.isEmpty && info($0).key == name } ?? first { info($0).isNamed(name) }
  }
}

/// A column of a view: named once, for the table, for JSON and for the documentation.
///
/// ```swift
/// ViewColumn("SIZE", "size", in: .bytes, \.size)              // in the table and in JSON
/// ViewColumn(json: "taints", \.taints)                    // in JSON only
/// ViewColumn("USE", text: { "\($0.percent)%" })           // in the table only
/// ViewColumn("BY", "used_by", \.users).shown { $0.users.joined(separator: ",") }
/// ```
public struct ViewColumn<Row: Sendable>: Sendable {
  public var info: ViewColumnInfo
  public let value: @Sendable (Row) -> ViewValue
  /// What the table shows instead of the value as it is.
  public internal(set) var cell: (@Sendable (Row) -> String)?
  /// Whether the row is in a bad state, as far as this column says: a terminal shows it in colour.
  public internal(set) var isBad: (@Sendable (Row) -> Bool)?

  /// A column of table and JSON.
  public init<Value: ViewRepresentable>(
    _ heading: String, _ key: String, in unit: ViewUnit = .none, _ value: @escaping @Sendable (Row) -> Value
  ) {
    info = ViewColumnInfo(heading: heading, key: key, unit: unit, isRightAligned: Value.isRightAligned)
    self.value = { value($0).viewValue }
  }

  /// A column that only JSON has.
  public init<Value: ViewRepresentable>(
    json key: String, in unit: ViewUnit = .none, _ value: @escaping @Sendable (Row) -> Value
  ) {
    self.init("", key, in: unit, value)
  }

  /// Keys of JSON that a row brings itself, beside those that are declared: counters by their names.
  public init(jsonMembers members: @escaping @Sendable (Row) -> [ViewValue.Member], in unit: ViewUnit = .none) {
    info = ViewColumnInfo(heading: "", key: "*", unit: unit, isRightAligned: false)
    value = { .object(members($0)) }
  }

  /// A column that only the table has.
  public init(_ heading: String, isRightAligned: Bool = false, text: @escaping @Sendable (Row) -> String) {
    info = ViewColumnInfo(heading: heading, key: "", unit: .none, isRightAligned: isRightAligned)
    value = { .text(text($0)) }
  }

  /// A column that only the table has, of a value that rows are sorted and chosen by.
  public init<Value: ViewRepresentable>(
    table heading: String, in unit: ViewUnit = .none, _ value: @escaping @Sendable (Row) -> Value
  ) {
    self.init(heading, "", in: unit, value)
  }

  /// The same column of rows of which `part` is one of these; absent where a row has none.
  public func of<Whole: Sendable>(_ part: @escaping @Sendable (Whole) -> Row?) -> ViewColumn<Whole> {
    let own = self
    var column = ViewColumn<Whole>(info: info) { whole in part(whole).map { own.value($0) } ?? .absent }
    if let cell { column.cell = { whole in part(whole).map { cell($0) } ?? "" } }
    if let isBad { column.isBad = { whole in part(whole).map { isBad($0) } ?? false } }
    return column
  }

  private init(info: ViewColumnInfo, value: @escaping @Sendable (Row) -> ViewValue) {
    self.info = info
    self.value = value
  }

  /// The same column, of which a table shows `text`.
  public func shown(_ text: @escaping @Sendable (Row) -> String) -> ViewColumn {
    var column = self
    column.cell = text
    return column
  }

  /// The same column, aligned to the right.
  public var rightAligned: ViewColumn {
    var column = self
    column.info.isRightAligned = true
    return column
  }

  /// The same column, as one of those that say which thing a row is.
  public var identity: ViewColumn {
    var column = self
    column.info.isIdentity = true
    return column
  }

  /// The same column, of objects with these keys, of numbers in `unit`; `*` stands for keys that an object brings itself.
  public func with(_ keys: String..., in unit: ViewUnit = .none) -> ViewColumn {
    var column = self
    column.info.members += keys.map { ViewColumnInfo.Member(key: $0, unit: unit) }
    return column
  }

  /// The same column, in colour where `isBad` holds.
  public func bad(_ isBad: @escaping @Sendable (Row) -> Bool) -> ViewColumn {
    var column = self
    column.isBad = isBad
    return column
  }
}
