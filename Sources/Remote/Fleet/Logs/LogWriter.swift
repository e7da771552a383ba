/// Where lines of events go: a file, or who takes syslog's messages.
///
/// One thread writes; what fails is tried again with the same line.
protocol LogWriter: AnyObject, Sendable {
  /// What it is called in messages: its path or address.
  var name: String { get }

  /// Writes a line, all of it or, after an error, the rest of the same line when it is called with it again.
  ///
  /// - Throws: ``LogError``.
  func write(_ line: LogLine) throws(LogError)

  /// Begins anew: what lies at its path now is another file, or who takes messages is another.
  func reopen()
}

/// A line of a log, and what syslog says beside it.
struct LogLine: Sendable {
  var bytes: [UInt8]
  /// Seconds since 1970.
  var utc: Double
  /// As RFC 5424 counts it: 2 critical, 4 warning, 5 notice, 6 informational.
  var severity: Int
  var kind: String
}

/// Why a line was not written.
struct LogError: Error, CustomStringConvertible {
  let description: String
}
