/// Why the shadow has no answer.
public enum ShadowError: Error, Sendable, Equatable {
  /// There is nothing of this name, or no longer.
  case missing
  /// A directory was asked for what only a file has, or the reverse.
  case isDirectory
  case notDirectory
  /// A link leads to a place of the watched host, which is not here.
  case notFollowed
  /// Nobody may read it.
  case denied
  /// The host's kernel has nothing to say here, and says so by this error.
  case invalid
  /// The thread has no memory of its own, or no longer.
  case noProcess
  /// What the file shows cannot be read, or not all of it.
  ///
  /// Never an empty file in its place: whoever reads one takes it for health.
  case unreadable(String)
}

extension ShadowError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .missing: "there is no such file"
    case .isDirectory: "it is a directory"
    case .notDirectory: "it is no directory"
    case .notFollowed: "it leads to a place of the watched host"
    case .denied: "nobody may read it"
    case .noProcess: "the thread has no memory"
    case .invalid: "the host's kernel has nothing to say here"
    case .unreadable(let why): why
    }
  }
}

extension ShadowError {
  /// Runs `body`, and makes any other error of it one of these.
  static func answering<Result>(_ body: () throws -> Result) throws(ShadowError) -> Result {
    do {
      return try body()
    } catch let error as ShadowError {
      throw error
    } catch {
      throw .unreadable("\(error)")
    }
  }
}
