public import LinuxKernel
public import Memory

/// A view's answer, whatever its rows are: what metrics, a page and detectors look into by the names of columns.
public struct ViewTable: Sendable {
  public struct Section: Sendable {
    public let columns: [ViewColumnInfo]
    /// One value for each column.
    public internal(set) var rows: [[ViewValue]]
    /// What people see in a table where that reads otherwise than the value, as many as there are rows and columns.
    public internal(set) var cells: [[String?]]

    /// The values of the column that `name` names; nil where there is none.
    public func values(_ name: String) -> [ViewValue]? {
      guard let index = columns.indices.named(name, { columns[$0] }) else { return nil }
      return rows.map { $0[index] }
    }
  }

  public let view: String
  public let sections: [Section]
  public let faults: [MemoryFault]
  public let notes: [String]
  public let shortcomings: [String]
}

extension KernelView {
  /// What the view shows of `kernel`, by its columns' names.
  ///
  /// - Throws: ``ViewOptionError`` where `options` do not fit, ``KernelError`` where the view cannot be had.
  public static func table(of kernel: Kernel, options: [(name: String, text: String)] = []) throws -> ViewTable {
    let options = try Options(options)
    let rows = try rows(of: kernel, options)
    let sections = sections(options)
    var tables = sections.map { ViewTable.Section(columns: $0.columns.map(\.info), rows: [], cells: []) }
    for row in rows.rows {
      guard let index = sections.firstIndex(where: { $0.takes(row) }) else { continue }
      tables[index].rows.append(sections[index].columns.map { $0.value(row) })
      tables[index].cells.append(sections[index].columns.map { $0.cell?(row) })
    }
    return ViewTable(
      view: name, sections: tables, faults: rows.faults, notes: rows.notes, shortcomings: rows.shortcomings)
  }

  /// Every column that there may be: those of each choice that options offer, and of all flags at once, each column once.
  public static var allColumns: [ViewColumnInfo] {
    var columns: [ViewColumnInfo] = []
    var tried = [Options()]
    let everything = Options()
    for option in everything.all where option.isFlag { try? option.set("yes") }
    tried.append(everything)
    for (index, option) in everything.all.enumerated() {
      for choice in option.choices {
        let options = Options()
        try? options.all[index].set(choice)
        tried.append(options)
      }
    }
    for options in tried {
      for column in sections(options).flatMap(\.columns).map(\.info)
      where !columns.contains(where: { $0.key == column.key && $0.heading == column.heading }) {
        columns.append(column)
      }
    }
    return columns
  }
}
