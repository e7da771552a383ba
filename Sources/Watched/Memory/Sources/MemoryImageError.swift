import Glibc

/// Why a file cannot be used as physical memory.
public struct MemoryImageError: Error, Sendable {
  public enum Reason: Sendable, Equatable {
    /// A system call failed with this `errno`.
    case system(String, Int32)
    case empty
    case notAFile
    /// The file is of a kind that is known and not read; the second string says what to do.
    case unsupported(String, remedy: String)
    /// The file is of the named format, and broken.
    case malformed(String, String)
  }

  public let path: String
  public let reason: Reason

  init(_ path: String, _ reason: Reason) {
    self.path = path
    self.reason = reason
  }
}

extension MemoryImageError: CustomStringConvertible {
  public var description: String {
    switch reason {
    case .system(let call, let code): "cannot use \(path) as memory: \(call): \(String(cString: strerror(code)))"
    case .empty: "cannot use \(path) as memory: the file is empty"
    case .notAFile: "cannot use \(path) as memory: it is not a file"
    case .unsupported(let what, let remedy): "cannot use \(path) as memory: it is \(what); \(remedy)"
    case .malformed(let format, let what): "cannot use \(path) as memory: it is \(format), but \(what)"
    }
  }
}
