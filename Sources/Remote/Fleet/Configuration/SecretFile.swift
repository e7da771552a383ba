import Glibc
import Host

/// A file that holds one secret, a password or a token, on its only line.
enum SecretFile {
  /// Why there is no secret.
  struct Failure: Error, CustomStringConvertible {
    let path: String
    /// What is wrong, behind the file's name.
    let what: String
    var description: String { "\(path) \(what)" }
  }

  /// The longest secret, in bytes.
  private static let longest = 16384

  /// Reads it.
  ///
  /// - Throws: ``Failure`` where there is no such file, or anything else is in it; what is in it is never said.
  static func read(_ path: String) throws(Failure) -> String {
    // Whoever put a pipe there is not waited for.
    let file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard file >= 0 else { throw Failure(path: path, what: "cannot be read: \(SystemCall.describe(errno))") }
    defer { close(file) }
    var bytes = [UInt8](repeating: 0, count: longest + 1)
    let count = SystemCall.retrying { Glibc.read(file, &bytes, bytes.count) }
    guard count >= 0 else { throw Failure(path: path, what: "cannot be read: \(SystemCall.describe(errno))") }
    guard count <= longest else { throw Failure(path: path, what: "has more than \(longest) bytes") }
    var secret = bytes[..<count]
    while let last = secret.last, [0x20, 0x09, 0x0a, 0x0d].contains(last) { secret.removeLast() }
    guard !secret.isEmpty else { throw Failure(path: path, what: "is empty") }
    guard secret.allSatisfy({ $0 >= 0x20 && $0 != 0x7f }), let text = String(validating: secret, as: UTF8.self) else {
      throw Failure(path: path, what: "is not one line of text")
    }
    return text
  }
}
