package import Views

extension JSON {
  /// A value of a view.
  ///
  /// What is absent is `null` here; an object leaves it out.
  package init(_ value: ViewValue) {
    self =
      switch value {
      case .absent, .none: .null
      case .bool(let value): .bool(value)
      case .signed(let value): .signed(value)
      case .unsigned(let value): .unsigned(value)
      case .number(let value): .number(value)
      case .bytes(let bytes): .bytes(bytes)
      case .list(let values): .array(values.map { JSON($0) })
      case .object(let members): .object(members.filter { $0.value != .absent }.map { ($0.key, JSON($0.value)) })
      }
  }
}
