import CLinux
import Glibc

/// Runs a program to its end, as ``spawn(_:input:output:errors:extra:)`` starts it.
///
/// - Parameters:
///   - program: its path or its name, and what it is told.
///   - input: bytes of its standard input.
///   - extra: bytes that it reads from `/dev/fd/3`; nil for none.
///   - most: how many bytes of what it says are kept.
/// - Returns: what it wrote to its standard output and error, and its status as waitpid(2) gives it.
/// - Throws: ``SystemCallError`` where it cannot be started.
package func outcome(
  of program: [String], input: [UInt8] = [], extra: [UInt8]? = nil, most: Int
) throws(SystemCallError) -> (said: [UInt8], status: Int32) {
  let name = program.first ?? ""
  // In memory: what it is told may be a secret, and waits for nobody to read it.
  func file(_ bytes: [UInt8]) throws(SystemCallError) -> Int32 {
    let file = grass_memfd_create("input", GRASS_MEMFD_PLAIN)
    guard file >= 0 else { throw SystemCallError(name, call: "memfd_create", code: errno) }
    var done = 0
    while done < bytes.count {
      let count = bytes.withUnsafeBytes { all in
        SystemCall.retrying { write(file, all.baseAddress.map { $0 + done }, all.count - done) }
      }
      guard count > 0 else {
        let code = errno
        close(file)
        throw SystemCallError(name, call: "write", code: code)
      }
      done += count
    }
    lseek(file, 0, SEEK_SET)
    return file
  }
  let first = try file(input)
  defer { close(first) }
  var second: Int32?
  if let extra { second = try file(extra) }
  defer { if let second { close(second) } }
  let ends = try SystemCall.pipe(for: name)
  defer { close(ends.reading) }
  let started = Result { () throws(SystemCallError) in
    try spawn(program, input: first, output: ends.writing, errors: ends.writing, extra: second)
  }
  // The program's are the only ones by now: when it ends, what it says does.
  close(ends.writing)
  let process = try started.get()
  var said: [UInt8] = []
  var piece = [UInt8](repeating: 0, count: 65536)
  while true {
    let count = SystemCall.retrying { read(ends.reading, &piece, piece.count) }
    guard count > 0 else { break }
    said += piece[..<min(count, max(0, most - said.count))]
  }
  var status: Int32 = 0
  while waitpid(process, &status, 0) < 0, errno == EINTR {}
  return (said, status)
}

/// Runs curl to its end.
///
/// What it is told goes to its standard input, as a file of settings: whoever lists processes sees neither addresses nor passwords.
///
/// - Parameters:
///   - settings: names of its long options with their values, nil for what has none. Line breaks and zero bytes, which would end
///     a value, are left out.
///   - body: what is posted; nil for nothing.
///   - most: how many bytes of what it says are kept.
/// - Returns: what it wrote to its standard output and error, and its status as waitpid(2) gives it.
/// - Throws: ``SystemCallError`` where it cannot be started.
package func curl(
  _ settings: [(name: String, value: String?)], body: [UInt8]? = nil, most: Int
) throws(SystemCallError) -> (said: [UInt8], status: Int32) {
  var text = "silent\nshow-error\ngloboff\nproto = \"=http,https\"\nuser-agent = \"grass/\(Version.current)\"\n"
  for (name, value) in settings + (body == nil ? [] : [("data-binary", "@/dev/fd/3")]) {
    guard let value else {
      text += "\(name)\n"
      continue
    }
    // curl(1), --config: within quotes a backslash and a quote have a backslash before them.
    var quoted = ""
    for scalar in value.unicodeScalars where scalar.value != 0 && scalar.value != 10 && scalar.value != 13 {
      if scalar == "\\" || scalar == "\"" { quoted.unicodeScalars.append("\\") }
      quoted.unicodeScalars.append(scalar)
    }
    text += "\(name) = \"\(quoted)\"\n"
  }
  return try outcome(of: ["curl", "--config", "-"], input: Array(text.utf8), extra: body, most: most)
}
