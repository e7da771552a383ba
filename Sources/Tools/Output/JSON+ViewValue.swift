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

  /// A row of a view, as an object with a key for each column.
  package init<Row>(_ row: Row, _ columns: [ViewColumn<Row>]) {
    self = .object(
      columns.flatMap { column -> [(String, JSON)] in
        guard column.info.isInJSON else { return [] }
        let value = column.value(row)
        if column.info.key == "*", case .object(let members) = value {
          return members.map { ($0.key, JSON($0.value)) }
        }
        return value == .absent ? [] : [(column.info.key, JSON(value))]
      })
  }
}
