/// Columns of text under headings, for people.
struct Table {
  enum Alignment { case left, right }

  private let columns: [(heading: String, alignment: Alignment)]
  private var rows: [[String]] = []

  init(_ columns: [(String, Alignment)]) {
    self.columns = columns.map { (heading: $0.0, alignment: $0.1) }
  }

  /// Adds a row; what could steer a terminal is escaped, as names come from the watched memory.
  mutating func add(_ row: [String]) { rows.append(row.map { Array($0.utf8).printable }) }

  /// The table's lines; the last column is not padded.
  func text() -> String {
    var widths = columns.map(\.heading.count)
    for row in rows { for (index, cell) in row.enumerated() { widths[index] = max(widths[index], cell.count) } }
    var output = ""
    for row in [columns.map(\.heading)] + rows {
      for (index, cell) in row.enumerated() {
        let isLast = index == row.count - 1
        // Not for a last column that needs none: a single command line may be a megabyte long.
        let isPadded = columns[index].alignment == .right || !isLast
        let padding = isPadded ? String(repeating: " ", count: widths[index] - cell.count) : ""
        output += columns[index].alignment == .right ? padding + cell : cell + padding
        output += isLast ? "\n" : " "
      }
    }
    return output
  }
}
