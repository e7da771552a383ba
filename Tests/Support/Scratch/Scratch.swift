package import Foundation

/// A folder of a test's own, removed with what is in it.
package struct Scratch: ~Copyable {
  package let path: String

  package struct Failure: Error {
    let what: String
    let code = errno
  }

  package init() throws {
    var name = Array((FileManager.default.temporaryDirectory.path + "/grass-test-XXXXXX").utf8CString)
    guard mkdtemp(&name) != nil else { throw Failure(what: "mkdtemp") }
    path = String(decoding: name.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  /// The path of a file in it.
  package func file(_ name: String) -> String { "\(path)/\(name)" }

  /// Writes a file of that mode, and gives its path.
  @discardableResult
  package func write(_ text: String, to name: String, mode: mode_t = 0o600) throws -> String {
    try write(Array(text.utf8), to: name, mode: mode)
  }

  @discardableResult
  package func write(_ bytes: [UInt8], to name: String, mode: mode_t = 0o600) throws -> String {
    try Data(bytes).write(to: URL(filePath: file(name)))
    guard chmod(file(name), mode) == 0 else { throw Failure(what: "chmod") }
    return file(name)
  }

  package func read(_ name: String) throws -> [UInt8] { [UInt8](try Data(contentsOf: URL(filePath: file(name)))) }
  package func text(_ name: String) throws -> String { String(decoding: try read(name), as: UTF8.self) }

  /// The names of what is in it, hidden files too.
  package func names() throws -> [String] { try FileManager.default.contentsOfDirectory(atPath: path).sorted() }
}

/// The mode of a file, without its kind; links are not followed.
package func mode(of path: String) -> mode_t? {
  var status = stat()
  return lstat(path, &status) == 0 ? status.st_mode & 0o7777 : nil
}

/// Why `body` failed.
package func reason<Success>(_ body: () throws -> Success) -> String {
  do {
    return "none: gave \(try body())"
  } catch {
    return "\(error)"
  }
}
