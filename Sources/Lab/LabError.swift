/// Why the laboratory could not do what it was asked.
public struct LabError: Error, Sendable, CustomStringConvertible {
  /// What failed, on what, why, and what to do.
  public let description: String
  /// Why a guest did not do what it was to, where that is known.
  public let reason: Reason?

  public enum Reason: Sendable {
    /// Nothing came in the time that was given.
    case silence
    /// Its kernel has panicked.
    case panic
  }

  public init(_ description: String, _ reason: Reason? = nil) {
    (self.description, self.reason) = (description, reason)
  }
}
