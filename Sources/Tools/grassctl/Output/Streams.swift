import Glibc

/// Writes all of `bytes` to standard output.
///
/// A reader that went away (`grassctl ps | head`) is no error.
func writeOutput(_ bytes: [UInt8]) {
  bytes.withUnsafeBytes { buffer in
    var rest = buffer[...]
    while !rest.isEmpty {
      let written = write(STDOUT_FILENO, UnsafeRawBufferPointer(rebasing: rest).baseAddress, rest.count)
      if written < 0 {
        if errno == EINTR { continue }
        return
      }
      rest = rest.dropFirst(written)
    }
  }
}

func writeOutput(_ text: String) { writeOutput(Array(text.utf8)) }

/// Says on standard error what the reader of the result ought to know.
func writeNote(_ text: String) {
  let line = Array("grassctl: \(text)\n".utf8)
  _ = line.withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress, $0.count) }
}

/// Writes all of `bytes` to the file at `path`, or to standard output for `-`; says why not and exits where it cannot.
func write(_ bytes: [UInt8], to path: String) throws {
  guard path != "-" else { return writeOutput(bytes) }
  let file = fopen(path, "w")
  let isWritten = file.map { file in fwrite(bytes, 1, bytes.count, file) == bytes.count } ?? false
  let isClosed = file.map { fclose($0) == 0 } ?? false
  guard isWritten, isClosed else {
    writeNote("cannot write \(path): \(String(cString: strerror(errno)))")
    throw ExitStatus.partial
  }
}
