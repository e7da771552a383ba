import Glibc

/// Says on standard error what an operator ought to know.
func writeNote(_ text: String) {
  let line = Array("grass-fleet: \(text)\n".utf8)
  _ = line.withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress, $0.count) }
}

/// Writes a line to standard output.
func writeLine(_ text: String) {
  let line = Array("\(text)\n".utf8)
  _ = line.withUnsafeBytes { write(STDOUT_FILENO, $0.baseAddress, $0.count) }
}
