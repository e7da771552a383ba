import Host

/// Why the shadow could not be mounted or served.
public struct MountError: Error, Sendable {
  /// The mount point.
  public let path: String
  /// What could not be done, and what to do about it.
  public let what: String
  /// The errno, 0 where there is none.
  public let code: Int32
}

extension MountError: CustomStringConvertible {
  public var description: String {
    "cannot serve the shadow at \(path): \(what)\(code == 0 ? "" : ": \(SystemCall.describe(code))")"
  }
}
