/// Columns of text under headings, for people.
package struct Table {
  package enum Alignment { case left, right }

  private struct Row {
    var cells: [String]
    var isBad: [Bool]
    var below: [String]
  }

  private let columns: [(heading: String, alignment: Alignment)]
  private var rows: [Row] = []
  package var hasHeader = true
  /// The characters of a line, nil where nothing is cut.
  package var width: Int?

  package init(_ columns: [(String, Alignment)]) {
    self.columns = columns.map { (heading: $0.0, alignment: $0.1) }
  }

  /// Adds a row; what could steer a terminal is escaped, as names come from the watched memory.
  ///
  /// - Parameters:
  ///   - row: a cell for each column.
  ///   - isBad: of each cell, whether it is shown in colour.
  ///   - below: lines that follow the row, indented.
  package mutating func add(_ row: [String], isBad: [Bool] = [], below: [String] = []) {
    rows.append(
      Row(
        cells: row.map { Array($0.utf8).printable }, isBad: isBad, below: below.map { Array($0.utf8).printable }))
  }

  /// The table's lines; the last column is not padded.
  package func text() -> String {
    var widths = columns.map { hasHeader ? $0.heading.count : 0 }
    for row in rows { for (index, cell) in row.cells.enumerated() { widths[index] = max(widths[index], cell.count) } }
    var output = hasHeader ? line(Row(cells: columns.map(\.heading), isBad: [], below: []), widths) : ""
    for row in rows {
      output += line(row, widths)
      for below in row.below { output += Self.cut("      " + below, to: width) + "\n" }
    }
    return output
  }

  private func line(_ row: Row, _ widths: [Int]) -> String {
    var line = ""
    for (index, cell) in row.cells.enumerated() {
      let isLast = index == row.cells.count - 1
      // Not for a last column that needs none: a single command line may be a megabyte long.
      let isPadded = columns[index].alignment == .right || !isLast
      let padding = isPadded ? String(repeating: " ", count: widths[index] - cell.count) : ""
      line += columns[index].alignment == .right ? padding + cell : cell + padding
      if !isLast { line += " " }
    }
    line = Self.cut(line, to: width)
    guard row.isBad.contains(true) else { return line + "\n" }
    return coloured(line, row, widths) + "\n"
  }

  /// The line with its bad cells in red.
  ///
  /// A cell that the width cut off loses no more than that.
  private func coloured(_ line: String, _ row: Row, _ widths: [Int]) -> String {
    var output = ""
    var rest = Substring(line)
    for (index, cell) in row.cells.enumerated() {
      let isLast = index == row.cells.count - 1
      let place = rest.prefix(isLast ? rest.count : max(widths[index], cell.count) + 1)
      rest = rest.dropFirst(place.count)
      let isBad = row.isBad.indices.contains(index) && row.isBad[index] && !place.isEmpty
      output += isBad ? "\u{1b}[31m\(place)\u{1b}[0m" : String(place)
    }
    return output
  }

  /// `line`, with a `…` where what follows does not fit.
  package static func cut(_ line: String, to width: Int?) -> String {
    guard let width, line.utf8.count > width, line.count > width else { return line }
    return String(line.prefix(max(width - 1, 0))) + "…"
  }
}
