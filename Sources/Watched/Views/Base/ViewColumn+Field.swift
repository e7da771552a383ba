package import Binding

/// Columns of what the fields of a struct hold: declared with the field's name, and no reader between.
///
/// ```swift
/// ViewColumn("PRIO", "priority", \Area.priority)                             // rows are structs
/// ViewColumn("SIZE", "size", in: .kibibytes, \Area.pages) { $0 &* 4 }
/// ViewColumn("PRIO", "priority", of: \.area, \.priority)                     // a struct is a part of a row
/// ```
/// Of rows that ``Structs/whole(_:)`` gave, whose fields could be read; a field of any other that could not is `null`.
extension ViewColumn {
  package init<Shape: KernelShape, Value: FieldValue & ViewRepresentable>(
    _ heading: String, _ key: String, in unit: ViewUnit = .none, of part: any KeyPath<Row, Reading<Shape>> & Sendable,
    _ field: any KeyPath<Shape, Field<Value>> & Sendable
  ) {
    self.init(heading, key, in: unit, of: part, field) { $0 }
  }

  package init<Shape: KernelShape, Value: FieldValue, Shown: ViewRepresentable>(
    _ heading: String, _ key: String, in unit: ViewUnit = .none, of part: any KeyPath<Row, Reading<Shape>> & Sendable,
    _ field: any KeyPath<Shape, Field<Value>> & Sendable, as shown: @escaping @Sendable (Value) -> Shown
  ) {
    self.init(heading, key, in: unit) { (row: Row) -> Shown? in
      let reading = row[keyPath: part]
      return (try? reading.load(reading.shape[keyPath: field])).map(shown)
    }
  }

  package init<Shape: KernelShape, Value: FieldValue & ViewRepresentable>(
    _ heading: String, _ key: String, in unit: ViewUnit = .none, _ field: any KeyPath<Shape, Field<Value>> & Sendable
  ) where Row == Reading<Shape> {
    self.init(heading, key, in: unit, of: \.self, field)
  }
}
