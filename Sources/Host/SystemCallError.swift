/// A call to Linux that failed.
package struct SystemCallError: Error, Hashable, Sendable, CustomStringConvertible {
  /// What it was for: a path, or a name for what has none.
  package var subject: String
  /// The C function, for example `pthread_create`.
  package var call: String
  package var code: Int32

  package init(_ subject: String, call: String, code: Int32) {
    self.subject = subject
    self.call = call
    self.code = code
  }

  package var description: String { "\(subject): \(call) failed: \(SystemCall.describe(code))" }
}
