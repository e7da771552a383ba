/// A line of a file that does not count, or not as its author may think.
public struct LineProblem: Hashable, Sendable, CustomStringConvertible {
  /// The file's path.
  public var file: String
  /// From 1.
  public var line: Int
  /// What is wrong, and what to do.
  public var why: String

  public init(file: String, line: Int, why: String) {
    self.file = file
    self.line = line
    self.why = why
  }

  public var description: String { "\(file):\(line): \(why)" }
}

/// A file of lines, of which each counts or not by itself.
package enum LineFile {
  /// No such file is longer.
  package static let limit = 4 << 20
  /// No line is longer; one that is does not count.
  package static let longestLine = 4096

  /// The lines that are neither empty nor comments, without blanks around them, each with its number from 1.
  ///
  /// A line that is no UTF-8, or too long, goes to `problems`.
  package static func lines(
    of text: UnsafeRawBufferPointer, file: String, problems: inout [LineProblem]
  ) -> [(number: Int, text: Substring)] {
    var lines: [(number: Int, text: Substring)] = []
    for (index, line) in text.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).enumerated() {
      guard line.count <= longestLine else {
        problems.append(
          LineProblem(
            file: file, line: index + 1, why: "is longer than \(longestLine) bytes, and does not count; remove it"))
        continue
      }
      guard let decoded = String(validating: line, as: UTF8.self) else {
        problems.append(
          LineProblem(
            file: file, line: index + 1, why: "is no UTF-8, and does not count; write it anew, or remove it"))
        continue
      }
      let trimmed = trim(decoded[...])
      if !trimmed.isEmpty, !trimmed.hasPrefix("#") { lines.append((index + 1, trimmed)) }
    }
    return lines
  }

  /// The words of a line, `most` at most: the last one is the rest of the line.
  package static func words(_ line: Substring, most: Int) -> [Substring] {
    line.split(maxSplits: most - 1, omittingEmptySubsequences: true, whereSeparator: isBlank).map(trim)
  }

  package static func isBlank(_ character: Character) -> Bool {
    character == " " || character == "\t" || character == "\r" || character == "\r\n"
  }

  private static func trim(_ text: Substring) -> Substring {
    var text = text
    while let first = text.first, isBlank(first) { text.removeFirst() }
    while let last = text.last, isBlank(last) { text.removeLast() }
    return text
  }
}
