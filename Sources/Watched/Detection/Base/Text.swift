import KernelViews

/// How sentences write numbers and times.
enum Text {
  /// Seconds with one decimal.
  static func seconds(_ nanoseconds: UInt64) -> String {
    "\(nanoseconds / 1_000_000_000).\(nanoseconds / 100_000_000 % 10)"
  }

  /// What the log says to be at the bottom of a panic: the oops before it, or who asked for it.
  static func cause(of panic: LogRecord?, in log: KernelLog) -> String? {
    guard let panic else { return nil }
    let starts = ["BUG: ", "Oops: ", "general protection fault", "kernel BUG at", "sysrq: ", "Out of memory"].map {
      Array($0.utf8)
    }
    return log.records.last { record in
      record.sequence < panic.sequence && starts.contains { record.text.starts(with: $0) }
    }.map(\.text.printable)
  }

  /// Bytes as hexadecimal digits.
  static func hexadecimal(_ bytes: some Sequence<UInt8>, separator: String = "") -> String {
    bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: separator)
  }

  /// The id of a boot as the kernel writes it; nil where nobody has asked the kernel for it yet, and it is all zeros.
  static func bootID(_ bytes: [UInt8]) -> String? {
    guard bytes.count == 16, bytes.contains(where: { $0 != 0 }) else { return nil }
    return [0..<4, 4..<6, 6..<8, 8..<10, 10..<16].map { hexadecimal(bytes[$0]) }.joined(separator: "-")
  }

  /// Names in one line: the first of them, and how many more.
  static func list(_ names: [String], most: Int = 4) -> String {
    names.count <= most
      ? names.joined(separator: ", ") : names.prefix(most).joined(separator: ", ") + " and \(names.count - most) more"
  }
}
