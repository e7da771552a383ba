package import Views

/// How a view's rows are written: which of them, which columns, in which order, how wide.
package struct ViewFormat: Sendable {
  /// The names of the columns to show, in this order; nil for those that the view shows by itself.
  package var columns: [String]?
  /// The name of the column to sort by, with `-` before it to begin with the largest.
  package var sort: String?
  package var filters: [ViewFilter] = []
  package var hasHeader = true
  /// The characters of a line, nil where nothing is cut.
  package var width: Int?
  /// Whether bad states are shown in colour.
  package var hasColour = false

  package init() {}

  /// The rows that are wanted, in the order that is wanted.
  ///
  /// - Throws: ``ViewOptionError`` for a column that the view does not have.
  package func arranged<View: KernelView>(
    _ rows: [View.Row], of view: View.Type, _ options: View.Options
  ) throws(ViewOptionError) -> [View.Row] {
    guard sort != nil || !filters.isEmpty else { return rows }
    let sections = View.sections(options)
    for name in filters.map(\.column) + (sort.map { [Self.withoutSign($0)] } ?? []) {
      _ = try Self.column(name, sections, of: view)
    }
    /// The value of a named column; absent where the row's section lacks it.
    func value(_ name: String, _ row: View.Row) -> ViewValue {
      let section = sections.first { $0.takes(row) }
      return section?.column(named: name)?.value(row) ?? .absent
    }
    let wanted = rows.filter { row in filters.allSatisfy { $0.holds(value($0.column, row)) } }
    guard let sort else { return wanted }
    let name = Self.withoutSign(sort)
    let isDescending = sort.hasPrefix("-")
    // Stable: rows that are equal stay in the view's own order.
    return wanted.map { (row: $0, key: value(name, $0)) }.enumerated().sorted { first, second in
      let (a, b) = (first.element.key, second.element.key)
      if isDescending ? b.precedes(a) : a.precedes(b) { return true }
      if isDescending ? a.precedes(b) : b.precedes(a) { return false }
      return first.offset < second.offset
    }.map(\.element.row)
  }

  private static func withoutSign(_ name: String) -> String {
    name.hasPrefix("-") ? String(name.dropFirst()) : name
  }

  private static func column<View: KernelView>(
    _ name: String, _ sections: [ViewSection<View.Row>], of view: View.Type
  ) throws(ViewOptionError) -> ViewColumn<View.Row> {
    if let column = sections.flatMap(\.columns).named(name, \.info) { return column }
    let known = sections.flatMap(\.columns).map { $0.info.key.isEmpty ? $0.info.heading : $0.info.key }
    throw ViewOptionError("\(View.name) has no column '\(name)'; it has \(known.joined(separator: ", "))")
  }

  // MARK: JSON

  /// The rows as a JSON array, an object a line.
  package func json<View: KernelView>(
    _ rows: [View.Row], of view: View.Type, _ options: View.Options
  ) throws(ViewOptionError) -> [UInt8] {
    var sections = View.sections(options)
    if let columns {
      for name in columns { _ = try Self.column(name, sections, of: view) }
      sections = sections.map { section in
        ViewSection(
          columns.compactMap { name in section.columns.filter(\.info.isInJSON).named(name, \.info) },
          takes: section.takes)
      }
    }
    return JSON.lines(
      rows.compactMap { row in
        sections.first { $0.takes(row) }.map { section in
          JSON(row, section.columns)
        }
      })
  }

  // MARK: Text

  /// The rows as tables for people.
  package func text<View: KernelView>(
    _ rows: [View.Row], of view: View.Type, _ options: View.Options
  ) throws(ViewOptionError) -> String {
    if columns == nil, let text = View.text(rows, options) { return fitted(text) }
    var text = ""
    let sections = View.sections(options)
    for (index, section) in sections.enumerated() where section.isInTable {
      var shown = section.columns.filter(\.info.isInTable)
      if let columns {
        shown = []
        for name in columns {
          _ = try Self.column(name, sections, of: view)
          if let own = section.column(named: name) { shown.append(own) }
        }
        guard !shown.isEmpty else { continue }
      }
      let own = rows.filter { row in sections.firstIndex { $0.takes(row) } == index }
      text += table(own, shown, View.self, options)
    }
    return text
  }

  private func table<View: KernelView>(
    _ rows: [View.Row], _ columns: [ViewColumn<View.Row>], _ view: View.Type, _ options: View.Options
  ) -> String {
    var table = Table(columns.map { ($0.info.title, $0.info.isRightAligned ? .right : .left) })
    table.hasHeader = hasHeader
    table.width = width
    for row in rows {
      table.add(
        columns.map { $0.cell?(row) ?? $0.value(row).cell },
        isBad: hasColour ? columns.map { $0.isBad?(row) ?? false } : [], below: View.details(below: row, options))
    }
    return table.text()
  }

  private func fitted(_ text: String) -> String {
    guard let width else { return text }
    return text.split(separator: "\n", omittingEmptySubsequences: false).map { Table.cut(String($0), to: width) }
      .joined(separator: "\n")
  }
}

extension ViewColumnInfo {
  /// What stands above the column: where JSON alone has it and a user asks for it, its key.
  fileprivate var title: String { heading.isEmpty ? key.uppercased() : heading }
}

extension ViewValue {
  /// The value as a cell of a table.
  package var cell: String {
    switch self {
    case .absent, .none: ""
    case .bool(let value): value ? "yes" : "no"
    case .signed(let value): "\(value)"
    case .unsigned(let value): "\(value)"
    case .number(let value): value.hundredths
    case .bytes(let bytes): bytes.printable
    case .list(let values): values.map(\.cell).joined(separator: ",")
    case .object(let members): members.map { "\($0.key)=\($0.value.cell)" }.joined(separator: ",")
    }
  }
}
